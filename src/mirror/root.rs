//! Publishing on the root: the tree on disk becomes a signed head.

use std::path::Path;
use std::sync::Arc;

use super::catalog::{Catalog, Newest, Served};
use super::clock::now_ms;
use super::config::Own;
use super::dial::chain;
use super::failure::{Exit, Failure};
use super::keys::Keys;
use super::monitor::{Monitor, Phase};
use super::report::Published;
use super::survey::{Survey, exclude, no_classes, skipped_line};
use super::take_tree::{index_failure, page_failure};
use crate::disk::dir::Dir;
use crate::disk::index::Index;
use crate::disk::index::heads::{HeadState, StoredHead};
use crate::disk::scan::Scan;
use crate::tree::diff::changes;
use crate::tree::hash::{HeadId, ModuleId, authority_text};
use crate::tree::signed::{Envelope, FORMAT, Head};

/// Heads whose pages are kept, so that a node that was at one of them is brought up to date by the difference.
const HEADS_KEPT: u32 = 16;
/// Entries that may vanish between two snapshots without a second thought.
const SHRINK_ENTRIES: u64 = 1_000;
/// Share of the entries that may vanish, in percent.
const SHRINK_PERCENT: u64 = 25;

/// What publishing needs of the home.
pub(super) struct Root<'a> {
    pub(super) base: &'a Path,
    pub(super) keys: &'a Keys,
    pub(super) index: &'a Index,
    pub(super) catalog: &'a Catalog,
    pub(super) port: u16,
}

impl Root<'_> {
    /// Reads the module's directory and, if it differs from the newest snapshot, signs a new head. `allow_delete` says
    /// that the owner means it when much is gone.
    ///
    /// # Errors
    /// [`Failure`]; the newest snapshot stays what it was.
    pub(super) fn publish(
        &self,
        name: &str,
        own: &Own,
        allow_delete: bool,
        monitor: &dyn Monitor,
    ) -> Result<Published, Failure> {
        let path = self.base.join(&own.path);
        let dir = Dir::open_operator(&path).map_err(|e| {
            let fix = "mount or restore it; nothing was published, and nodes keep what they have";
            Failure { fix: fix.into(), ..Failure::local(format!("cannot read {}", path.display()), &e) }
        })?;
        let module = self.index.module_number(name).map_err(index_failure)?;
        let reader = self.index.reader().map_err(index_failure)?;
        let last = reader.newest_head(module, HeadState::Published).map_err(index_failure)?;
        let last = last.and_then(|stored| Newest::of(&stored, None));
        let survey = Survey {
            index: self.index,
            module,
            dir: &dir,
            shown: &path,
            exclude: &exclude(&own.exclude)?,
            previous: last.as_ref().map(|last| last.head.snapshot),
            classes: &no_classes,
        };
        let _hold = self.index.hold();
        let scan = survey.run(monitor)?;
        monitor.phase(Phase::Publishing);
        // A node that waits for the owner's word gets it by a new head, even if the tree is as published.
        let said = |head: &Head| head.allow_delete || !allow_delete;
        let same = |head: &Head| head.snapshot == scan.top.id && head.meta() == scan.meta;
        let unchanged = last.as_ref().filter(|last| same(&last.head) && said(&last.head));
        let (newest, changed) = match unchanged {
            Some(last) => (last.clone(), false),
            None => {
                if let Some(last) = last.as_ref().filter(|_| !allow_delete) {
                    self.guard(name, last, &scan)?;
                }
                (self.sign(name, &scan, last.as_ref(), allow_delete)?, true)
            }
        };
        drop(_hold);
        if changed {
            self.forget_old(module)?;
        }
        self.serve(name, own, dir, newest.clone())?;
        Ok(self.report(name, &path, &newest.head, changed, &scan))
    }

    /// Refuses a tree that lost more than anybody deletes on purpose.
    fn guard(&self, name: &str, last: &Newest, scan: &Scan) -> Result<(), Failure> {
        let reader = self.index.reader().map_err(index_failure)?;
        let mut gone = 0u64;
        for change in changes(&*reader, Some(last.head.snapshot), Some(scan.top.id)) {
            let change = change.map_err(page_failure)?;
            if let (Some(old), None) = (&change.old, &change.new) {
                gone = gone.saturating_add(old.totals().0);
            }
        }
        let had = last.head.entries;
        // What was moved is gone from one place and new at another.
        let lost = gone.min(had.saturating_sub(scan.top.entries));
        let emptied = had > 0 && scan.top.entries == 0;
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
    fn sign(&self, name: &str, scan: &Scan, last: Option<&Newest>, allow_delete: bool) -> Result<Newest, Failure> {
        let now = now_ms();
        let head = Head {
            module: ModuleId::of(self.keys.authority(), name),
            name: name.to_owned(),
            epoch: 0,
            sequence: last.map_or(now, |last| now.max(last.head.sequence + 1)),
            snapshot: scan.top.id,
            entries: scan.top.entries,
            bytes: scan.top.bytes,
            mode: scan.meta.mode,
            mtime_seconds: scan.meta.mtime.seconds,
            mtime_nanos: scan.meta.mtime.nanos,
            format: FORMAT,
            created: now,
            previous: last.map(|last| last.id),
            allow_delete,
        };
        let envelope = Envelope::sign(&head, &[self.keys.head()]);
        let id = HeadId::of(envelope.payload());
        let envelope = envelope.encode();
        let Head { epoch, sequence, snapshot, .. } = head;
        let stored =
            StoredHead { epoch, sequence, id, snapshot, envelope: envelope.clone(), state: HeadState::Published };
        let mut batch = self.index.batch().map_err(index_failure)?;
        let module = batch.module(name).map_err(index_failure)?;
        batch.put_head(module, &stored).map_err(index_failure)?;
        batch.put_root_file(module, 1, &self.keys.root_file().encode()).map_err(index_failure)?;
        batch.commit().map_err(index_failure)?;
        Ok(Newest { head, id, envelope, beat: None })
    }

    fn forget_old(&self, module: crate::disk::index::ModuleNumber) -> Result<(), Failure> {
        forget_old(self.index, module).map_err(index_failure)
    }

    fn serve(&self, name: &str, own: &Own, dir: Dir, newest: Newest) -> Result<(), Failure> {
        if let Some(served) = self.catalog.get(name) {
            served.set_newest(newest);
            return Ok(());
        }
        let module = self.index.module_number(name).map_err(index_failure)?;
        let roots = vec![(1, self.keys.root_file().encode())];
        let signer = Some(Arc::new(self.keys.head().clone()));
        let title = own.title.as_deref().unwrap_or_default();
        let served = Served::load(self.index, name, title, module, dir, roots, signer).map_err(index_failure)?;
        self.catalog.put(Arc::new(served));
        Ok(())
    }

    fn report(&self, name: &str, path: &Path, head: &Head, changed: bool, scan: &Scan) -> Published {
        Published {
            module: name.to_owned(),
            path: path.display().to_string(),
            sequence: head.sequence,
            snapshot: head.snapshot.to_string(),
            entries: head.entries,
            bytes: head.bytes,
            changed,
            key: authority_text(self.keys.authority()),
            port: self.port,
            skipped: scan.skipped.iter().map(skipped_line).collect(),
        }
    }
}

/// Drops heads beyond those that are kept, and the pages that only they needed. Collection waits for a quiet moment: if
/// something is being built, the next publication does it.
pub(super) fn forget_old(
    index: &Index,
    module: crate::disk::index::ModuleNumber,
) -> Result<(), crate::disk::index::IndexError> {
    let mut batch = index.batch()?;
    let dropped = batch.prune_heads(module, HEADS_KEPT)?;
    batch.commit()?;
    if dropped == 0 {
        return Ok(());
    }
    let reader = index.reader()?;
    let mut kept = Vec::new();
    for (number, _) in reader.modules()? {
        kept.extend(reader.last_heads(number, HeadState::Published, u32::MAX)?.iter().map(|head| head.snapshot));
    }
    drop(reader);
    match index.collect(&kept) {
        Ok(_) => Ok(()),
        // Nothing was removed: what is there is kept until the next time.
        Err(error) => {
            tracing::debug!(error = %chain(&error), "old pages are not collected");
            Ok(())
        }
    }
}
