//! Bringing a followed module up to date: compare, take, publish. In the end the tree on disk is the signed one, or the
//! operation has failed.
//!
//! `target` is the directory, `goal` the tree that it shall be, `differences` what lies between, `compare` whether it may be
//! done, `apply` the switch to the new tree.

mod apply;
mod compare;
mod differences;
mod goal;
mod push;
mod target;

use std::path::PathBuf;
use std::time::Instant;

use differences::Differences;

use super::desk::Desk;
use super::dial::{chain, not_in_part};
use super::failure::{Exit, Failure};
use super::filter::Filter;
use super::line::Line;
use super::monitor::{Monitor, Phase};
use super::placing::{Placing, Unplaced};
use super::report::{Sources, Stats, Synced};
use super::seeds::{Seed, Sown};
use super::served::Newest;
use super::survey::{Survey, no_classes, nothing_held, skipped_line};
use super::take_content::{Task, stage_failure, take_content};
use super::take_tree::{KnownBase, index_failure};
use super::trust::{Belief, BeliefError, Known, believe};
use crate::disk::dir::Dir;
use crate::disk::exclude::Exclude;
use crate::disk::index::heads::HeadState;
use crate::disk::index::partial::Part;
use crate::disk::index::{Index, ModuleNumber};
use crate::disk::publish::Removed;
use crate::disk::scan::{Scan, Touched};
use crate::disk::stage::Stage;
use crate::protocol::message::{Message, Poll, Refused, State, refusal, tag};
use crate::protocol::pack::Pack;
use crate::tree::address::Address;
use crate::tree::chunker::Class;
use crate::tree::codec::decode;
use crate::tree::dir::{Built, empty, look_up};
use crate::tree::entry::{Body, Meta};
use crate::tree::hash::{DirId, HeadId};
use crate::tree::name::TreePath;

/// Times that a tree is compared and published again because something moved under us.
const ROUNDS_MAX: u32 = 4;

/// A module to be brought up to date.
pub(super) struct Node<'a> {
    pub(super) index: &'a Index,
    /// `.mirra`, where the stage lies if it can.
    pub(super) home: &'a Dir,
    /// Host, module and, if it is known, key.
    pub(super) from: &'a Address,
    /// The target's path.
    pub(super) into: PathBuf,
    /// What is taken of the module.
    pub(super) filter: &'a Filter,
    pub(super) adopt: bool,
    /// Where else content may be copied from.
    pub(super) seeds: &'a [Seed],
}

/// The tree that stands in a directory, as it was last looked at.
#[derive(Debug, Clone)]
pub(super) struct Local {
    pub(super) top: Built,
    pub(super) meta: Meta,
    /// What is not in that tree, in words.
    pub(super) skipped: Vec<String>,
    /// The patterns of what was not looked at: with others it would be another tree.
    pub(super) unseen: Vec<String>,
}

impl Local {
    pub(super) fn new(scan: &Scan, unseen: Vec<String>) -> Self {
        let skipped = scan.skipped.iter().map(skipped_line).collect();
        Self { top: scan.top, meta: scan.meta, skipped, unseen }
    }
}

/// What was found and done.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) added: u64,
    pub(super) updated: u64,
    pub(super) removed: u64,
    pub(super) put_aside: u64,
    pub(super) skipped: Vec<String>,
    pub(super) content: Sources,
    /// Entries and bytes of the tree that stands there then: the signed one, or the part of it that is taken.
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// Why a module was not brought up to date.
#[derive(Debug)]
pub(super) enum Setback {
    /// Content of the head is gone at the source: a newer head is to be expected.
    Superseded(Failure),
    /// Anything else.
    Failed(Failure),
}

impl Setback {
    /// What to tell.
    pub(super) fn failure(self) -> Failure {
        let (Self::Superseded(failure) | Self::Failed(failure)) = self;
        failure
    }
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What is settled before anything is written.
struct Session<'a> {
    node: &'a Node<'a>,
    name: &'a str,
    module: ModuleNumber,
    target: Dir,
    stage: Stage,
    line: &'a Line,
    belief: &'a Belief,
    /// What is left out of the directory's look.
    unseen: Exclude,
    /// The newest head that was published here, and as which tree.
    published: Option<(HeadId, Built)>,
    /// Which part of its tree that was, if not all.
    part: Option<Part>,
    /// Whether this directory was in sync before, or held nothing when this mirra began to fill it.
    settled: bool,
    differences: Differences,
    monitor: &'a dyn Monitor,
}

impl Node<'_> {
    /// The module's name.
    pub(super) fn name(&self) -> &str {
        self.from.module.as_deref().unwrap_or_default()
    }

    /// Asks `line` for the newest head, and believes it or not; `None` if there is none yet.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) fn contact(&self, line: &Line, monitor: &dyn Monitor) -> Result<Option<Belief>, Failure> {
        let name = self.name();
        let module = self.index.module_number(name).map_err(index_failure)?;
        let known = Known::load(self.index, module).map_err(index_failure)?;
        let message = ask_newest(line, &known, monitor)?;
        if is_refusal(&message, refusal::NO_SNAPSHOT) {
            return Ok(None);
        }
        let state = read_newest(line, &message)?;
        let belief =
            believe(self.index, module, name, self.from.key, &known, &state).map_err(|e| distrust(self.from, e))?;
        if belief.fresh.is_none() {
            monitor.note("no proof came that this is the newest snapshot: the source may be stale");
        }
        Ok(Some(belief))
    }

    /// Refuses a target that may not be taken over; makes and notes the one that is good.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) fn claim(&self) -> Result<(), Failure> {
        let module = self.index.module_number(self.name()).map_err(index_failure)?;
        let (target, fresh) = self.open_target()?;
        self.check_target(&target, module, fresh).map(drop)
    }

    /// Brings it up to date with what the other end of `line` says is the newest.
    ///
    /// # Errors
    /// [`Failure`]; the target holds whole files then, old or new, and the next run goes on.
    pub(super) fn sync(
        &self,
        line: &Line,
        local: &mut Option<Local>,
        monitor: &dyn Monitor,
    ) -> Result<Synced, Failure> {
        let (began, before) = (Instant::now(), line.wire_before());
        self.claim()?;
        let none = || line.unexpected(&Message::new(tag::REFUSED, &Refused(refusal::NO_SNAPSHOT)));
        let belief = self.contact(line, monitor)?.ok_or_else(none)?;
        let totals = self.bring_up(line, &belief, local, None, monitor).map_err(Setback::failure)?;
        let head = &belief.head;
        let (sent, received) = line.wire();
        let mut from = self.from.clone();
        from.key = Some(belief.authority);
        Ok(Synced {
            module: self.name().to_owned(),
            address: from.to_string(),
            into: self.into.display().to_string(),
            sequence: head.sequence,
            snapshot: head.snapshot.to_string(),
            entries: totals.entries,
            bytes: totals.bytes,
            partial: self.filter.is_partial(),
            added: totals.added,
            updated: totals.updated,
            removed: totals.removed,
            received: received - before.1,
            sent: sent - before.0,
            elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            first_contact: belief.first_contact,
            put_aside: totals.put_aside,
            skipped: totals.skipped,
            stats: Stats { wire: line.tally().wire(sent - before.0, received - before.1), content: totals.content },
        })
    }

    /// Makes the target the tree of a head that is believed. `local` is what stands there, as far as that is known for
    /// sure, before and after; `pack` is what came with the news of the head.
    ///
    /// # Errors
    /// [`Setback`], otherwise as [`sync`](Self::sync).
    pub(super) fn bring_up(
        &self,
        line: &Line,
        belief: &Belief,
        local: &mut Option<Local>,
        pack: Option<&Pack>,
        monitor: &dyn Monitor,
    ) -> Result<Totals, Setback> {
        let name = self.name();
        let module = self.index.module_number(name).map_err(index_failure)?;
        let (target, fresh) = self.open_target()?;
        let settled = self.check_target(&target, module, fresh)?;
        let stage = Stage::open(&target, &self.into, self.home, name).map_err(|e| stage_failure(&e))?;
        let part = self.index.reader().and_then(|reader| reader.part(module)).map_err(index_failure)?;
        let published = self.published(module, part.as_ref())?;
        let unseen = if self.sees_all() { Exclude::nothing() } else { self.filter.exclude()? };
        let session = Session {
            node: self,
            name,
            module,
            target,
            stage,
            line,
            belief,
            unseen,
            published,
            part,
            settled,
            differences: Differences::default(),
            monitor,
        };
        // Of a directory in the place of the one that was known, nothing is known.
        local.take_if(|local| !settled || local.unseen != self.unseen_patterns());
        match session.run(local, pack) {
            // Old versions are kept for convenience; they never stand in the way of the new one.
            Err(Setback::Failed(failure)) if failure.exit == Exit::NoSpace && session.give_up_grace() => {
                session.run(local, pack)
            }
            other => other,
        }
    }

    /// Whether the rules are others than those by which the directory was last brought up to date.
    ///
    /// # Errors
    /// [`Failure`] of the index.
    pub(super) fn takes_other_than_is_held(&self, module: ModuleNumber, desk: &Desk) -> Result<bool, Failure> {
        let part = self.index.reader().and_then(|reader| reader.part(module)).map_err(index_failure)?;
        let rules = self.filter.is_partial().then(|| self.rules());
        let seen = desk.work().as_ref().is_none_or(|local| local.unseen == self.unseen_patterns());
        Ok(part.map(|part| part.rules) != rules || !seen)
    }

    /// The rules in one text.
    fn rules(&self) -> String {
        self.filter.texts().join("\n")
    }

    /// Whether the directory is looked at with everything in it.
    fn sees_all(&self) -> bool {
        !self.filter.is_partial() || self.filter.delete_excluded
    }

    fn unseen_patterns(&self) -> Vec<String> {
        if self.sees_all() { Vec::new() } else { self.filter.texts() }
    }

    /// The newest head that is published here, with the tree that is held of it.
    fn published(&self, module: ModuleNumber, part: Option<&Part>) -> Result<Option<(HeadId, Built)>, Failure> {
        let reader = self.index.reader().map_err(index_failure)?;
        let stored = reader.newest_head(module, HeadState::Published).map_err(index_failure)?;
        let newest = stored.and_then(|stored| Newest::of(&stored, None)).map(|newest| (newest.id, newest.built()));
        Ok(newest.map(|(id, built)| (id, part.filter(|part| part.head == id).map_or(built, |part| part.tree))))
    }
}

/// What to say when a source is not believed.
pub(super) fn distrust(from: &Address, error: BeliefError) -> Failure {
    let (host, name) = (&from.host, from.module.as_deref().unwrap_or_default());
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

/// Asks for the newest head.
///
/// # Errors
/// [`Failure`].
pub(super) fn poll(line: &Line, known: &Known, monitor: &dyn Monitor) -> Result<State, Failure> {
    read_newest(line, &ask_newest(line, known, monitor)?)
}

fn ask_newest(line: &Line, known: &Known, monitor: &dyn Monitor) -> Result<Message, Failure> {
    let root = known.roots.last().map_or(0, |(version, _)| *version);
    let request = Poll { module: line.module.clone(), have: known.head.as_ref().map(|head| head.id), root };
    let exchange = line.ask(Message::new(tag::POLL, &request))?;
    exchange.finish()?;
    let nothing = Message { tag: 0, body: Vec::new() };
    let mut message = exchange.receive(monitor)?;
    if message.as_ref().is_some_and(|message| message.tag == tag::PARTIAL) {
        line.set_partial();
        message = exchange.receive(monitor)?;
    }
    Ok(message.unwrap_or(nothing))
}

fn read_newest(line: &Line, message: &Message) -> Result<State, Failure> {
    if message.tag != tag::STATE {
        return Err(line.unexpected(message));
    }
    decode("state", &message.body).map_err(|e| super::dial::nonsense(&line.host, &e))
}

fn is_refusal(message: &Message, code: u16) -> bool {
    message.tag == tag::REFUSED && decode::<Refused>("refusal", &message.body).is_ok_and(|refused| refused.0 == code)
}

impl Session<'_> {
    fn run(&self, known: &mut Option<Local>, pack: Option<&Pack>) -> Result<Totals, Setback> {
        let mut totals = Totals::default();
        let mut local = match known.clone() {
            Some(local) => local,
            None => self.survey(None)?,
        };
        *known = Some(local.clone());
        let goal = self.goal(&local, pack)?;
        let mut aim = self.aim(&local, goal.tree)?;
        for round in 0..ROUNDS_MAX {
            if self.reclass(&local, aim)? {
                local = self.survey(Some(aim.id))?;
                aim = self.aim(&local, goal.tree)?;
            }
            if self.is_wanted(&local, aim) {
                break;
            }
            let coming = if round == 0 { Some(self.count(&local, aim, &mut totals)?) } else { None };
            self.check_stage(&local, aim)?;
            if let Some(pack) = pack.filter(|_| round == 0) {
                self.unpack(pack)?;
            }
            // Where nothing stands, nothing old can be torn: each file goes to its place when it has come.
            let at_once = round == 0
                && local.top.id == empty()
                && goal.base.is_none()
                && self.node.target_holds_nothing(&self.target)?;
            if at_once {
                *known = None;
                self.take_over()?;
            }
            let placing = at_once.then(|| self.placing(Removed::Grace));
            self.take_content(&local, aim, goal.base, placing.as_ref(), coming, &mut totals.content)?;
            *known = None;
            if at_once {
                local = self.survey(Some(aim.id))?;
            } else {
                match self.publish(&local, aim) {
                    Ok(aside) => totals.put_aside += aside,
                    Err(Unplaced::Missing) => {}
                    Err(Unplaced::Failed(failure)) => return Err(failure.into()),
                }
                local = self.look_again(&local, aim)?;
            }
            aim = self.aim(&local, goal.tree)?;
        }
        if !self.is_wanted(&local, aim) {
            return Err(self.not_equal(&local).into());
        }
        self.settle(&goal, aim)?;
        // What no module may hold stands beside the snapshot, and is said.
        totals.skipped.clone_from(&local.skipped);
        (totals.entries, totals.bytes) = (goal.tree.entries, goal.tree.bytes);
        *known = Some(local);
        Ok(totals)
    }

    fn is_wanted(&self, local: &Local, aim: Built) -> bool {
        local.top == aim && local.meta == self.belief.head.meta()
    }

    /// Reads the whole target. With a tree, files that have no row are cut as that tree has them.
    fn survey(&self, tree: Option<DirId>) -> Result<Local, Failure> {
        self.read_target(tree, None)
    }

    fn read_target(&self, tree: Option<DirId>, touched: Option<&Touched<'_>>) -> Result<Local, Failure> {
        let class_of = tree.map(|tree| self.classes_of(tree)).transpose()?;
        let classes: &(dyn Fn(&TreePath) -> _ + Sync) = class_of.as_ref().map_or(&no_classes, |of| of);
        let survey = Survey {
            index: self.node.index,
            module: self.module,
            dir: &self.target,
            shown: &self.node.into,
            exclude: &self.unseen,
            previous: None,
            classes,
            touched,
            held: &nothing_held,
            blocks: None,
        };
        Ok(Local::new(&survey.run(self.monitor)?, self.node.unseen_patterns()))
    }

    /// How files are cut in `tree`.
    fn classes_of(&self, tree: DirId) -> Result<impl Fn(&TreePath) -> Option<Class> + Sync + use<>, Failure> {
        let reader = std::sync::Mutex::new(self.node.index.reader().map_err(index_failure)?);
        Ok(move |path: &TreePath| {
            let reader = reader.lock().ok()?;
            match look_up(&**reader, tree, path).ok()??.body {
                Body::File { class, .. } => Some(class),
                _ => None,
            }
        })
    }

    /// Finds out what the seeds hold.
    fn sow(&self, aim: Built) -> Result<Vec<Sown<'_>>, Failure> {
        let classes = self.classes_of(aim.id)?;
        self.node.seeds.iter().map(|seed| seed.sow(self.node.index, self.name, &classes, self.monitor)).collect()
    }

    /// Gets what is missing; `coming` are the files and bytes that it is, where that was counted.
    fn take_content(
        &self,
        local: &Local,
        aim: Built,
        base: Option<KnownBase>,
        placing: Option<&Placing<'_>>,
        coming: Option<(u64, u64)>,
        sources: &mut Sources,
    ) -> Result<(), Setback> {
        let seeds = self.sow(aim)?;
        self.monitor.phase(Phase::Fetching);
        if let Some((files, bytes)) = coming {
            self.monitor.total(files, bytes);
        }
        let task = Task { placing, ..self.task(local, aim, base, &seeds) };
        let taken = take_content(&task)?;
        let counts = taken.counts;
        tracing::info!(files = taken.files, ?counts, "content has come");
        sources.literal += counts.literal;
        sources.literal_packed += counts.literal_packed;
        sources.steps_packed += counts.steps_packed;
        sources.from_basis += counts.from_basis;
        sources.from_chunks += counts.from_chunks;
        sources.chunks += counts.chunks;
        sources.from_files += taken.from_files;
        sources.from_stage += taken.from_stage;
        sources.from_seed += taken.from_seed;
        let Some(first) = taken.gone.first() else { return Ok(()) };
        if self.line.is_partial() {
            return Err(not_in_part(&self.line.host, self.name).into());
        }
        let what = format!("{} files of {} cannot be had from {}", taken.gone.len(), self.name, self.line.host);
        let why = format!("{first} changed there after it was published; nothing was changed here");
        let fix = format!("mirra publish {} on the root, then run the same command again", self.name);
        Err(Setback::Superseded(Failure::new(Exit::Partial, what, why, fix)))
    }

    fn task<'s>(&'s self, local: &Local, aim: Built, base: Option<KnownBase>, seeds: &'s [Sown<'s>]) -> Task<'s> {
        Task {
            index: self.node.index,
            module: self.module,
            target: &self.target,
            stage: &self.stage,
            line: self.line,
            head: self.belief.id,
            tree: aim.id,
            local: local.top.id,
            base: base.map(|(id, built)| (id, built.id)),
            seeds,
            placing: None,
            monitor: self.monitor,
        }
    }

    fn not_equal(&self, local: &Local) -> Failure {
        let into = self.node.into.display();
        let what = format!("{into} is not the signed snapshot");
        if let Some(skipped) = local.skipped.first() {
            let fix = "remove it or make it readable, then run the same command again";
            return Failure::new(Exit::Partial, what, skipped, fix);
        }
        Failure::new(
            Exit::Partial,
            what,
            "something else writes there, or its filesystem cannot hold names, modes or times as they are",
            "end what writes there, or choose a directory on another filesystem with --into",
        )
    }
}
