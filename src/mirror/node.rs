//! Bringing a followed module up to date: believe, compare, take, publish. In the end the tree on disk is the signed one,
//! or the command has failed.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::catalog::built_of;
use super::clock::now_ms;
use super::dial::chain;
use super::failure::{Exit, Failure};
use super::ledger::{Ledger, Watch};
use super::line::Line;
use super::monitor::{Monitor, Phase};
use super::report::Synced;
use super::root::forget_old;
use super::survey::{Survey, no_classes, skipped_line};
use super::take_content::{Task, stage_failure, take_content};
use super::take_tree::{Base, index_failure, page_failure, take_tree};
use super::trust::{Belief, BeliefError, Known, believe};
use crate::disk::dir::Dir;
use crate::disk::exclude::Exclude;
use crate::disk::grace::expire;
use crate::disk::index::heads::HeadState;
use crate::disk::index::{Index, ModuleNumber, Reader, Target};
use crate::disk::publish::{Changes, Plan, PublishError, Removed, Switched, prepare, switch};
use crate::disk::scan::Scan;
use crate::disk::stage::{Left, Stage};
use crate::disk::verify::file_id;
use crate::protocol::message::{Message, Poll, State, tag};
use crate::tree::address::Address;
use crate::tree::codec::decode;
use crate::tree::diff::changes;
use crate::tree::dir::{Built, look_up};
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{DirId, FileId, HeadId};
use crate::tree::name::TreePath;

/// How long replaced and removed files are kept for readers of the snapshot before.
const GRACE: Duration = Duration::from_secs(3_600);
/// Bytes of them that are kept at most.
const GRACE_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// Removals that need no second thought.
const DELETE_ENTRIES: u64 = 1_000;
/// Share of the entries that may be removed, in percent.
const DELETE_PERCENT: u64 = 25;
/// Times that a tree is compared and published again because something moved under us.
const ROUNDS_MAX: u32 = 4;
/// Local files that are looked at for one content.
const HOLDERS_MAX: u32 = 8;

/// A module to be brought up to date.
pub(super) struct Node<'a> {
    pub(super) index: &'a Index,
    /// `.mirra`, where the stage lies if it can.
    pub(super) home: &'a Dir,
    pub(super) runtime: &'a tokio::runtime::Handle,
    /// Host, module and, if it is known, key.
    pub(super) from: &'a Address,
    /// The target's path.
    pub(super) into: PathBuf,
    pub(super) adopt: bool,
    pub(super) timeout: Duration,
}

/// What is settled before anything is written.
struct Session<'a> {
    node: &'a Node<'a>,
    name: &'a str,
    module: ModuleNumber,
    target: Dir,
    stage: Stage,
    line: Line,
    belief: Belief,
    /// The newest head that was published here.
    published: Option<(HeadId, Built)>,
    /// Whether this directory was in sync before.
    settled: bool,
    monitor: &'a dyn Monitor,
}

/// What was found and done.
#[derive(Default)]
struct Totals {
    added: u64,
    updated: u64,
    removed: u64,
    put_aside: u64,
    skipped: Vec<String>,
}

impl Node<'_> {
    /// Does it.
    ///
    /// # Errors
    /// [`Failure`]; the target holds whole files then, old or new, and the next run goes on.
    pub(super) fn sync(&self, monitor: &dyn Monitor) -> Result<Synced, Failure> {
        let began = Instant::now();
        let name = self.from.module.as_deref().unwrap_or_default();
        let module = self.module_number(name)?;
        let known = Known::load(self.index, module).map_err(index_failure)?;
        let (target, fresh) = self.open_target()?;
        let settled = self.check_target(&target, module, fresh)?;
        monitor.phase(Phase::Connecting);
        let line = Line::open(self.runtime, &self.from.host, name, self.timeout)?;
        let state = poll(&line, &known, monitor)?;
        let belief =
            believe(self.index, module, name, self.from.key, &known, &state).map_err(|e| self.distrust(name, e))?;
        if belief.fresh.is_none() {
            monitor.note("no proof came that this is the newest snapshot: the source may be stale");
        }
        let stage = Stage::open(&target, &self.into, self.home, name).map_err(|e| stage_failure(&e))?;
        let published = self.published(module)?;
        let session = Session { node: self, name, module, target, stage, line, belief, published, settled, monitor };
        let totals = session.run()?;
        session.line.close();
        Ok(session.report(totals, began.elapsed()))
    }

    fn module_number(&self, name: &str) -> Result<ModuleNumber, Failure> {
        let mut batch = self.index.batch().map_err(index_failure)?;
        let module = batch.module(name).map_err(index_failure)?;
        batch.commit().map_err(index_failure)?;
        Ok(module)
    }

    /// Opens the target, made if it is missing; says whether it was.
    fn open_target(&self) -> Result<(Dir, bool), Failure> {
        let failed = |e: &io::Error| Failure::local(format!("cannot sync into {}", self.into.display()), e);
        match Dir::open_operator(&self.into) {
            Ok(dir) => Ok((dir, false)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Dir::make_operator(&self.into).map_err(|e| failed(&e))?;
                Ok((Dir::open_operator(&self.into).map_err(|e| failed(&e))?, true))
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                let fix = "name a directory: --into DIR";
                Err(Failure { fix: fix.into(), ..failed(&e) })
            }
            Err(e) => Err(failed(&e)),
        }
    }

    /// Refuses to take over what the operator did not say may be taken over, and notes which directory it is. Says
    /// whether that directory was in sync before.
    fn check_target(&self, dir: &Dir, module: ModuleNumber, fresh: bool) -> Result<bool, Failure> {
        let failed = |e: io::Error| Failure::local(format!("cannot read {}", self.into.display()), &e);
        let key = dir.look_self().map_err(failed)?.key;
        let path = self.into.as_os_str().as_bytes().to_vec();
        let mut target = Target { device: key.device, inode: key.inode, path, settled: false };
        let noted = self.index.reader().and_then(|reader| reader.target(module)).map_err(index_failure)?;
        let noted = noted.filter(|noted| noted.is(&target));
        target.settled = noted.as_ref().is_some_and(|noted| noted.settled);
        let empty = |names: Vec<Vec<u8>>| names.iter().all(|name| name == crate::tree::name::HOME_NAME);
        if !(fresh || self.adopt || noted.is_some() || dir.read_names().map(empty).map_err(failed)?) {
            return Err(Failure::new(
                Exit::Guard,
                format!("{} is not empty and was never followed", self.into.display()),
                "what it holds beyond the snapshot would be put aside",
                "take it over with --adopt: what fits is kept and only the rest is fetched; or name another directory with --into",
            ));
        }
        self.note_target(module, &target)?;
        Ok(target.settled)
    }

    fn note_target(&self, module: ModuleNumber, target: &Target) -> Result<(), Failure> {
        let mut batch = self.index.batch().map_err(index_failure)?;
        batch.set_target(module, target).map_err(index_failure)?;
        batch.commit().map_err(index_failure)
    }

    fn published(&self, module: ModuleNumber) -> Result<Option<(HeadId, Built)>, Failure> {
        let reader = self.index.reader().map_err(index_failure)?;
        let stored = reader.newest_head(module, HeadState::Published).map_err(index_failure)?;
        Ok(stored
            .and_then(|stored| super::catalog::Newest::of(&stored, None))
            .map(|newest| (newest.id, newest.built())))
    }

    fn distrust(&self, name: &str, error: BeliefError) -> Failure {
        let host = &self.from.host;
        match error {
            BeliefError::Index(error) => index_failure(error),
            BeliefError::Pinned { .. } => Failure::new(
                Exit::Trust,
                format!("{host} does not serve the {name} that is trusted"),
                chain(&error),
                "ask the owner for the right key; nothing was changed here",
            ),
            error => Failure::new(
                Exit::Trust,
                format!("what {host} says of {name} is not believed"),
                chain(&error),
                "use another source of the module; nothing was changed here",
            ),
        }
    }
}

/// Asks for the newest head.
pub(super) fn poll(line: &Line, known: &Known, monitor: &dyn Monitor) -> Result<State, Failure> {
    let root = known.roots.last().map_or(0, |(version, _)| *version);
    let request = Poll { module: line.module.clone(), have: known.head.as_ref().map(|head| head.id), root };
    let exchange = line.ask(Message::new(tag::POLL, &request))?;
    exchange.finish()?;
    let nothing = Message { tag: 0, body: Vec::new() };
    let message = exchange.receive(monitor)?.unwrap_or(nothing);
    if message.tag != tag::STATE {
        return Err(line.unexpected(&message));
    }
    decode("state", &message.body).map_err(|e| super::dial::nonsense(&line.host, &e))
}

impl Session<'_> {
    fn run(&self) -> Result<Totals, Failure> {
        let mut totals = Totals::default();
        let mut scan = self.survey(None)?;
        self.take_tree(&scan)?;
        let wanted = built_of(&self.belief.head);
        for round in 0..ROUNDS_MAX {
            if self.reclass(&scan)? {
                scan = self.survey(Some(wanted.id))?;
            }
            if scan.top == wanted && scan.meta == self.belief.head.meta() {
                self.settle()?;
                // What no module may hold stands beside the snapshot, and is said.
                totals.skipped.extend(scan.skipped.iter().map(skipped_line));
                return Ok(totals);
            }
            if round == 0 {
                self.count(&scan, &mut totals)?;
            }
            self.check_stage(&scan)?;
            self.take_content(&scan)?;
            match self.publish(&scan) {
                Ok((_, aside)) => totals.put_aside += aside,
                Err(Published::Missing) => {}
                Err(Published::Failed(failure)) => return Err(failure),
            }
            scan = self.survey(Some(wanted.id))?;
        }
        if scan.top == wanted && scan.meta == self.belief.head.meta() {
            self.settle()?;
            return Ok(totals);
        }
        Err(self.not_equal(&scan))
    }

    /// Reads the target. With a tree, files that have no row are cut as that tree has them.
    fn survey(&self, tree: Option<DirId>) -> Result<Scan, Failure> {
        let reader = std::sync::Mutex::new(self.node.index.reader().map_err(index_failure)?);
        let class_of = |path: &TreePath| {
            let reader = reader.lock().ok()?;
            match look_up(&**reader, tree?, path).ok()??.body {
                Body::File { class, .. } => Some(class),
                _ => None,
            }
        };
        let classes: &(dyn Fn(&TreePath) -> _ + Sync) = if tree.is_some() { &class_of } else { &no_classes };
        let survey = Survey {
            index: self.node.index,
            module: self.module,
            dir: &self.target,
            shown: &self.node.into,
            exclude: &Exclude::nothing(),
            previous: None,
            classes,
        };
        survey.run(self.monitor)
    }

    fn take_tree(&self, scan: &Scan) -> Result<(), Failure> {
        self.monitor.phase(Phase::Comparing);
        let base = match self.published {
            Some((head, built)) => Base::Head(head, built),
            None if scan.top.entries == 0 => Base::Nothing,
            None => Base::Unknown,
        };
        let wanted = built_of(&self.belief.head);
        take_tree(self.node.index, &self.line, self.belief.id, wanted, base, self.monitor)
    }

    /// Forgets the rows of files that are cut in another way than the snapshot has them, as they can only be compared
    /// when cut alike; says whether there were any.
    fn reclass(&self, scan: &Scan) -> Result<bool, Failure> {
        let reader = self.node.index.reader().map_err(index_failure)?;
        let mut stale = Vec::new();
        for change in changes(&*reader, Some(scan.top.id), Some(self.belief.head.snapshot)) {
            let change = change.map_err(page_failure)?;
            let bodies = (change.old.map(|entry| entry.body), change.new.map(|entry| entry.body));
            if let (Some(Body::File { size, class, .. }), Some(Body::File { size: new_size, class: new_class, .. })) =
                bodies
                && size == new_size
                && class != new_class
            {
                stale.push(change.path);
            }
        }
        if stale.is_empty() {
            return Ok(false);
        }
        let mut batch = self.node.index.batch().map_err(index_failure)?;
        for path in &stale {
            batch.remove_file(self.module, path).map_err(index_failure)?;
        }
        batch.commit().map_err(index_failure)?;
        Ok(true)
    }

    /// Counts what will happen, and stops where too much would be removed.
    fn count(&self, scan: &Scan, totals: &mut Totals) -> Result<(), Failure> {
        let reader = self.node.index.reader().map_err(index_failure)?;
        let (mut bytes, mut files) = (0u64, 0u64);
        for change in changes(&*reader, Some(scan.top.id), Some(self.belief.head.snapshot)) {
            let change = change.map_err(page_failure)?;
            self.check_known(&change.path, change.new.as_ref())?;
            match (&change.old, &change.new) {
                (None, Some(new)) => {
                    totals.added += 1;
                    if let Body::File { size, id, .. } = new.body
                        && !self.is_here(&reader, &id)?
                    {
                        (bytes, files) = (bytes.saturating_add(size), files + 1);
                    }
                }
                (Some(old), None) => totals.removed = totals.removed.saturating_add(old.totals().0),
                (Some(old), Some(new)) => {
                    totals.updated += u64::from(!(old.is_directory() && new.is_directory()));
                    if let Body::File { size, id, .. } = new.body
                        && old.body != new.body
                        && !self.is_here(&reader, &id)?
                    {
                        (bytes, files) = (bytes.saturating_add(size), files + 1);
                    }
                }
                (None, None) => {}
            }
        }
        self.monitor.phase(Phase::Fetching);
        self.monitor.total(files, bytes);
        self.guard(scan, totals.removed)?;
        // What is here may be moved and need no room, so this refuses only what cannot fit.
        self.stage.room(self.missing_bytes(bytes)?).map_err(|e| stage_failure(&e))
    }

    /// Whether the last scan saw a local file of this content.
    fn is_here(&self, reader: &Reader, id: &FileId) -> Result<bool, Failure> {
        Ok(!reader.paths_of(self.module, id, 1).map_err(index_failure)?.is_empty())
    }

    /// Of `bytes` that will be new, those that no earlier run has staged.
    fn missing_bytes(&self, bytes: u64) -> Result<u64, Failure> {
        let left = self.stage.leftovers().map_err(|e| stage_failure(&e))?;
        Ok(bytes.saturating_sub(left.iter().map(|left| left.bytes).sum()))
    }

    /// Refuses entries that this version cannot write as they are meant.
    fn check_known(&self, path: &TreePath, entry: Option<&Entry>) -> Result<(), Failure> {
        let Some(attribute) = entry.and_then(|entry| entry.attributes.iter().find(|a| a.critical)) else {
            return Ok(());
        };
        let why = format!("{path} has the attribute {}, which this mirra does not know", attribute.tag);
        Err(Failure::new(Exit::Partial, format!("cannot sync {}", self.name), why, "update mirra"))
    }

    fn guard(&self, scan: &Scan, removed: u64) -> Result<(), Failure> {
        let head = &self.belief.head;
        // What a first sync removes was never followed: it is put aside, not lost.
        if head.allow_delete || !self.settled {
            return Ok(());
        }
        let had = scan.top.entries;
        let lost = removed.min(had.saturating_sub(head.entries));
        if lost <= DELETE_ENTRIES || lost.saturating_mul(100) <= had.saturating_mul(DELETE_PERCENT) {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Guard,
            format!("{} was not changed: {lost} of its {had} entries would be removed", self.node.into.display()),
            "the root lost that much, perhaps by accident",
            format!("ask the owner; if it is meant, the owner says so with mirra publish {} --allow-delete", self.name),
        ))
    }

    /// Looks through what an earlier run left in the stage: what is wanted and right is kept, the rest removed.
    fn check_stage(&self, scan: &Scan) -> Result<(), Failure> {
        let left = self.stage.leftovers().map_err(|e| stage_failure(&e))?;
        if left.is_empty() {
            return Ok(());
        }
        let ids: HashSet<FileId> = left.iter().map(|left| left.id).collect();
        let reader = self.node.index.reader().map_err(index_failure)?;
        let mut wanted = HashMap::new();
        for change in changes(&*reader, Some(scan.top.id), Some(self.belief.head.snapshot)) {
            if let Some(Body::File { id, class, .. }) = change.map_err(page_failure)?.new.map(|entry| entry.body)
                && ids.contains(&id)
            {
                wanted.insert(id, class);
            }
        }
        let mut whole = HashSet::new();
        for leftover in left {
            let right = match (leftover.state, wanted.get(&leftover.id)) {
                (_, None) => false,
                (Left::Partial, Some(_)) => continue,
                (_, Some(_)) if whole.contains(&leftover.id) => false,
                (_, Some(class)) => match self.stage.open_leftover(&leftover).map_err(|e| stage_failure(&e))? {
                    Some(file) => file_id(&file, *class).is_ok_and(|(id, _)| id == leftover.id),
                    None => continue,
                },
            };
            let done = if right {
                whole.insert(leftover.id);
                self.stage.keep(&leftover)
            } else {
                self.stage.discard(&leftover)
            };
            done.map_err(|e| stage_failure(&e))?;
        }
        Ok(())
    }

    fn take_content(&self, scan: &Scan) -> Result<(), Failure> {
        self.monitor.phase(Phase::Fetching);
        let task = Task {
            index: self.node.index,
            module: self.module,
            target: &self.target,
            stage: &self.stage,
            line: &self.line,
            head: self.belief.id,
            tree: self.belief.head.snapshot,
            local: Some(scan.top.id),
            base: self.published.map(|(id, built)| (id, built.id)),
            monitor: self.monitor,
        };
        let taken = take_content(&task)?;
        tracing::info!(
            files = taken.files,
            literal = taken.literal_bytes,
            copied = taken.copied_bytes,
            "content has come"
        );
        let Some(first) = taken.gone.first() else { return Ok(()) };
        let what = format!("{} files of {} cannot be had from {}", taken.gone.len(), self.name, self.line.host);
        let why = format!("{first} changed there after it was published; nothing was changed here");
        let fix = format!("mirra publish {} on the root, then run the same command again", self.name);
        Err(Failure::new(Exit::Partial, what, why, fix))
    }
}

/// Why a tree was not published.
enum Published {
    /// Some content has to be fetched after all.
    Missing,
    Failed(Failure),
}

impl From<Failure> for Published {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Session<'_> {
    /// Makes the wanted tree the visible one. Gives also how many paths were put aside.
    fn publish(&self, scan: &Scan) -> Result<(Switched, u64), Published> {
        self.monitor.phase(Phase::Publishing);
        let index = self.node.index;
        let (old, new) = (scan.top.id, self.belief.head.snapshot);
        let reader = index.reader().map_err(index_failure)?;
        let asked: RefCell<Reader> = RefCell::new(index.reader().map_err(index_failure)?);
        let walk = || -> Changes<'_> {
            Box::new(changes(&*reader, Some(old), Some(new)).map(|c| c.map_err(io::Error::other)))
        };
        let holders = |id: &FileId| asked.borrow().paths_of(self.module, id, HOLDERS_MAX).unwrap_or_default();
        let known = |path: &TreePath| asked.borrow().file(self.module, path).ok().flatten().map(|row| row.stat);
        let removed = if self.settled { Removed::Grace } else { Removed::Adopted };
        let plan = Plan {
            target: &self.target,
            shown: &self.node.into,
            stage: &self.stage,
            sequence: self.belief.head.sequence,
            top: self.belief.head.meta(),
            changes: &walk,
            holders: &holders,
            known: &known,
            removed,
            step: &Watch(self.monitor),
        };
        let prepared = prepare(&plan).map_err(publish_failure)?;
        let mut batch = index.batch().map_err(index_failure)?;
        let now = i64::try_from(now_ms()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let mut ledger = Ledger { batch: &mut batch, module: self.module, now, aside: 0, failed: None };
        let switched = switch(&plan, &prepared, &mut ledger);
        let (aside, failed) = (ledger.aside, ledger.failed);
        let switched = switched.map_err(publish_failure)?;
        if let Some(failure) = failed {
            return Err(failure.into());
        }
        // Rows of paths that hold no file any more.
        for change in changes(&*reader, Some(old), Some(new)) {
            let change = change.map_err(page_failure)?;
            let file = |entry: &Option<Entry>| entry.as_ref().is_some_and(|e| matches!(e.body, Body::File { .. }));
            if change.old.is_some() && (change.new.is_none() || file(&change.old) && !file(&change.new)) {
                batch.remove_within(self.module, &change.path).map_err(index_failure)?;
            }
        }
        batch.commit().map_err(index_failure)?;
        tracing::info!(?switched, "published");
        Ok((switched, aside))
    }

    /// Records that the wanted tree is the one on disk.
    fn settle(&self) -> Result<(), Failure> {
        if self.settled && self.published.is_some_and(|(id, _)| id == self.belief.id) {
            return Ok(());
        }
        let mut batch = self.node.index.batch().map_err(index_failure)?;
        batch.set_local(self.module, Some(self.belief.head.snapshot)).map_err(index_failure)?;
        batch.set_published(self.module, &self.belief.id).map_err(index_failure)?;
        if let Some(target) = batch.target(self.module).map_err(index_failure)? {
            batch.set_target(self.module, &Target { settled: true, ..target }).map_err(index_failure)?;
        }
        batch.commit().map_err(index_failure)?;
        forget_old(self.node.index, self.module).map_err(index_failure)?;
        let now = Duration::from_millis(now_ms());
        self.stage.clear().map_err(|e| stage_failure(&e))?;
        if let Err(fault) = expire(&self.stage, now, GRACE, GRACE_BYTES) {
            tracing::warn!(%fault, "old files are not cleared away");
        }
        Ok(())
    }

    fn not_equal(&self, scan: &Scan) -> Failure {
        let into = self.node.into.display();
        if let Some(skipped) = scan.skipped.first() {
            let why = skipped_line(skipped);
            let fix = "remove it or make it readable, then run the same command again";
            return Failure::new(Exit::Partial, format!("{into} is not the signed snapshot"), why, fix);
        }
        Failure::new(
            Exit::Partial,
            format!("{into} is not the signed snapshot"),
            "something else writes there, or its filesystem cannot hold names, modes or times as they are",
            "end what writes there, or choose a directory on another filesystem with --into",
        )
    }

    fn report(&self, totals: Totals, elapsed: Duration) -> Synced {
        let head = &self.belief.head;
        let (sent, received) = self.line.wire();
        let mut from = self.node.from.clone();
        from.key = Some(self.belief.authority);
        Synced {
            module: self.name.to_owned(),
            address: from.to_string(),
            into: self.node.into.display().to_string(),
            sequence: head.sequence,
            snapshot: head.snapshot.to_string(),
            entries: head.entries,
            bytes: head.bytes,
            added: totals.added,
            updated: totals.updated,
            removed: totals.removed,
            received,
            sent,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            first_contact: self.belief.first_contact,
            put_aside: totals.put_aside,
            skipped: totals.skipped,
        }
    }
}

fn publish_failure(error: PublishError) -> Published {
    let failure = match error {
        PublishError::Missing { path, .. } => {
            tracing::info!(%path, "a local file changed while it was being copied");
            return Published::Missing;
        }
        PublishError::Stopped(_) => Failure::interrupted(),
        PublishError::Stage(error) => stage_failure(&error),
        PublishError::Fault(fault) => {
            Failure::local(format!("cannot {} {}", fault.operation, fault.path), &fault.source)
        }
        PublishError::Flush(source) => Failure::local("what was fetched cannot be made durable", &source),
        PublishError::Changes(source) => Failure::new(
            Exit::LocalFile,
            "the index cannot be used",
            chain(&source),
            "check the disk that .mirra lies on",
        ),
    };
    Published::Failed(failure)
}
