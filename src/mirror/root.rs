//! Publishing on the root: the tree on disk becomes a signed head.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::block_lists;
use super::clock::now_ms;
use super::config::{Kind, Own};
use super::desk::Desk;
use super::failure::{Exit, Failure};
use super::gathering::Ready;
use super::ignore::{IGNORE, patterns};
use super::monitor::{Monitor, Phase};
use super::node::Local;
use super::past::forget_old;
use super::report::{Published, Sources};
use super::served::{Newest, Served};
use super::site::Site;
use super::survey::{Survey, exclude, no_classes};
use super::take_tree::{index_failure, page_failure};
use crate::disk::dir::Dir;
use crate::disk::index::ModuleNumber;
use crate::disk::index::heads::{HeadState, StoredHead};
use crate::disk::scan::{Blocks, Depth, Touched};
use crate::protocol::sender::Source;
use crate::tree::diff::changes;
use crate::tree::hash::{HeadId, ModuleId, authority_text};
use crate::tree::name::TreePath;
use crate::tree::signed::{Envelope, FORMAT, Head};

/// Entries that may vanish between two snapshots without a second thought.
const SHRINK_ENTRIES: u64 = 1_000;
/// Share of the entries that may vanish, in percent.
const SHRINK_PERCENT: u64 = 25;
/// Names of one file that are looked at when one of them was touched.
const LINKS_MAX: u32 = 4_096;

/// An own module that is to be published.
pub(super) struct Root<'a> {
    pub(super) site: &'a Site,
    pub(super) desk: &'a Desk,
    pub(super) name: &'a str,
    pub(super) own: &'a Own,
    /// The owner means it when much is gone.
    pub(super) allow_delete: bool,
}

impl Root<'_> {
    /// Reads what `ready` names of the module's directory, or all of it, and signs a new head if the tree differs from
    /// the newest snapshot.
    ///
    /// # Errors
    /// [`Failure`]; the newest snapshot stays what it was.
    pub(super) fn publish(&self, ready: Option<&Ready>, monitor: &dyn Monitor) -> Result<Published, Failure> {
        let mut local = self.desk.work();
        let begun = Instant::now();
        let path = self.site.home.base().join(&self.own.path);
        let dir = Dir::open_operator(&path).map_err(|e| {
            let fix = "mount or restore it; nothing was published, and nodes keep what they have";
            Failure { fix: fix.into(), ..Failure::local(format!("cannot read {}", path.display()), &e) }
        })?;
        let module = self.site.index.module_number(self.name).map_err(index_failure)?;
        let reader = self.site.index.reader().map_err(index_failure)?;
        let last = reader.newest_head(module, HeadState::Published).map_err(index_failure)?;
        drop(reader);
        let last = last.and_then(|stored| Newest::of(&stored, None));
        // Pages of the new tree are in no head until it is signed.
        let hold = self.site.index.hold();
        let found = self.look(&dir, &path, local.take(), last.as_ref(), ready, monitor)?;
        *local = Some(found.clone());
        monitor.phase(Phase::Publishing);
        // A node that waits for the owner's word gets it by a new head, even if the tree is as published.
        let said = |head: &Head| head.allow_delete || !self.allow_delete;
        let same = |head: &Head| head.snapshot == found.top.id && head.meta() == found.meta;
        let served = self.site.serve(self.name, &Kind::Own(self.own.clone()))?;
        let (head, changed) = match last.as_ref().filter(|last| same(&last.head) && said(&last.head)) {
            Some(last) => (last.head.clone(), false),
            None => {
                if let Some(last) = last.as_ref().filter(|_| !self.allow_delete) {
                    self.guard(last, &found)?;
                }
                let newest = self.sign(module, &found, last.as_ref())?;
                drop(hold);
                let head = newest.head.clone();
                self.show(&served, newest, last.as_ref());
                forget_old(&self.site.index, module, now_ms()).map_err(index_failure)?;
                self.desk.done(begun, &Sources::default());
                (head, true)
            }
        };
        // Not before: the pack to a new head is made from the lists of the last.
        block_lists::bound(&self.site.index, module, head.bytes, self.own.block_lists)?;
        Ok(self.report(&path, &head, changed, found.skipped))
    }

    /// The tree on disk: what is known of it with another look at what may have changed, or a look at everything.
    fn look(
        &self,
        dir: &Dir,
        path: &Path,
        known: Option<Local>,
        last: Option<&Newest>,
        ready: Option<&Ready>,
        monitor: &dyn Monitor,
    ) -> Result<Local, Failure> {
        let gathering = self.desk.gathering();
        let writing = gathering.map(|now| now.lock().unwrap_or_else(PoisonError::into_inner).writing());
        let held = |path: &TreePath| writing.as_ref().is_some_and(|writing| writing.contains(path));
        let patterns = match known.as_ref().filter(|_| is_ignore_file(&held)) {
            // Half a file would leave out half of what it is to.
            Some(known) => known.unseen.clone(),
            None => patterns(dir, path, &self.own.exclude)?,
        };
        // With other patterns it would be another tree.
        let known = known.filter(|known| known.unseen == patterns);
        let module = self.site.index.module_number(self.name).map_err(index_failure)?;
        let ready = match (&known, ready.filter(|ready| !ready.all)) {
            (Some(known), Some(ready)) => Some((known, self.with_links(module, ready)?)),
            _ => None,
        };
        let touched = ready.as_ref().filter(|(_, ready)| !ready.all).map(|(known, ready)| Touched {
            base: known.top,
            base_meta: known.meta,
            paths: &ready.paths,
        });
        let hashing = || block_lists::hashing(&self.site.catalog, &self.site.index);
        let rabin = self.own.block_lists.then(hashing).transpose()?;
        let known_bytes = match (last, &rabin) {
            (None, Some(_)) => {
                let reader = self.site.index.reader().map_err(index_failure)?;
                reader.file_bytes(module).map_err(index_failure)?
            }
            (last, _) => last.map_or(0, |last| last.head.bytes),
        };
        let survey = Survey {
            index: &self.site.index,
            module,
            dir,
            shown: path,
            exclude: &exclude(&patterns)?,
            previous: last.map(|last| last.head.snapshot),
            classes: &no_classes,
            touched: touched.as_ref(),
            held: &held,
            blocks: rabin.as_ref().map(|rabin| Blocks { rabin, known_bytes }),
        };
        Ok(Local::new(&survey.run(monitor)?, patterns))
    }

    /// What is ready, and the other names of the files in it: who writes through one name of a file is told of for that one
    /// alone.
    fn with_links(&self, module: ModuleNumber, ready: &Ready) -> Result<Ready, Failure> {
        let reader = self.site.index.reader().map_err(index_failure)?;
        let mut all = ready.clone();
        for (path, _) in ready.paths.iter().filter(|(_, depth)| **depth == Depth::Alone) {
            let Some(row) = reader.file(module, path).map_err(index_failure)? else { continue };
            let links = reader.paths_of_inode(module, &row.stat, LINKS_MAX).map_err(index_failure)?;
            links.into_iter().for_each(|link| all.insert(link, Depth::Alone));
        }
        Ok(all)
    }

    /// Serves the new head, and makes at once what followers of the last one need.
    fn show(&self, served: &Arc<Served>, newest: Newest, last: Option<&Newest>) {
        let (head, sequence) = ((newest.id, newest.built()), newest.head.sequence);
        served.hold(newest, Some(vec![(1, self.site.keys.root_file().encode())]));
        let Some(last) = last else { return };
        match self.site.catalog.library() {
            Ok(library) => {
                let library: &dyn Source = &library;
                served.offers.pack(library, self.name, (last.id, last.built()), head, Some(sequence));
            }
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the index fails"),
        }
    }

    /// Refuses a tree that lost more than anybody deletes on purpose.
    fn guard(&self, last: &Newest, found: &Local) -> Result<(), Failure> {
        let name = self.name;
        let reader = self.site.index.reader().map_err(index_failure)?;
        let mut gone = 0u64;
        for change in changes(&*reader, Some(last.head.snapshot), Some(found.top.id)) {
            let change = change.map_err(page_failure)?;
            if let (Some(old), None) = (&change.old, &change.new) {
                gone = gone.saturating_add(old.totals().0);
            }
        }
        let had = last.head.entries;
        // What was moved is gone from one place and new at another.
        let lost = gone.min(had.saturating_sub(found.top.entries));
        let emptied = had > 0 && found.top.entries == 0;
        let shrunk = lost > SHRINK_ENTRIES && lost.saturating_mul(100) > had.saturating_mul(SHRINK_PERCENT);
        if !(emptied || shrunk) {
            return Ok(());
        }
        let what = format!("{name} was not published: {lost} of its {had} entries are gone");
        let why = if emptied {
            "the directory is empty, as when a disk is not mounted"
        } else {
            "that is more than a quarter"
        };
        let fix = format!("restore the directory; or, if it is meant: mirra publish {name} --allow-delete");
        Err(Failure::new(Exit::Guard, what, why, fix))
    }

    /// Signs the head of what was found, and records it before anybody hears of it.
    fn sign(&self, module: ModuleNumber, found: &Local, last: Option<&Newest>) -> Result<Newest, Failure> {
        let (now, keys) = (now_ms(), &self.site.keys);
        let head = Head {
            module: ModuleId::of(keys.authority(), self.name),
            name: self.name.to_owned(),
            epoch: 0,
            sequence: last.map_or(now, |last| now.max(last.head.sequence + 1)),
            snapshot: found.top.id,
            entries: found.top.entries,
            bytes: found.top.bytes,
            mode: found.meta.mode,
            mtime_seconds: found.meta.mtime.seconds,
            mtime_nanos: found.meta.mtime.nanos,
            format: FORMAT,
            created: now,
            previous: last.map(|last| last.id),
            allow_delete: self.allow_delete,
        };
        let envelope = Envelope::sign(&head, &[keys.head()]);
        let id = HeadId::of(envelope.payload());
        let envelope = envelope.encode();
        let Head { epoch, sequence, snapshot, .. } = head;
        let stored =
            StoredHead { epoch, sequence, id, snapshot, envelope: envelope.clone(), state: HeadState::Published };
        let mut batch = self.site.index.batch().map_err(index_failure)?;
        batch.put_head(module, &stored).map_err(index_failure)?;
        batch.put_root_file(module, 1, &keys.root_file().encode()).map_err(index_failure)?;
        batch.commit().map_err(index_failure)?;
        Ok(Newest { head, id, envelope, beat: None })
    }

    fn report(&self, path: &Path, head: &Head, changed: bool, skipped: Vec<String>) -> Published {
        Published {
            module: self.name.to_owned(),
            path: path.display().to_string(),
            sequence: head.sequence,
            snapshot: head.snapshot.to_string(),
            entries: head.entries,
            bytes: head.bytes,
            changed,
            key: authority_text(self.site.keys.authority()),
            port: self.site.config_file().config().server.listen_address().port(),
            skipped,
        }
    }
}

/// Whether `held` holds the file that says what is left out.
fn is_ignore_file(held: &dyn Fn(&TreePath) -> bool) -> bool {
    TreePath::new(IGNORE.as_bytes()).is_ok_and(|path| held(&path))
}
