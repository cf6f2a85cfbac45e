//! What differs between the target and the signed tree, whether it may be done, and what an earlier run has left for it.

use std::collections::{HashMap, HashSet};

use super::{Local, Session, Totals};
use crate::disk::index::Reader;
use crate::disk::stage::Left;
use crate::disk::verify::file_id;
use crate::mirror::failure::{Exit, Failure};
use crate::mirror::take_content::stage_failure;
use crate::mirror::take_tree::{index_failure, page_failure};
use crate::tree::dir::Built;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::FileId;
use crate::tree::name::TreePath;

/// Removals that need no second thought.
const DELETE_ENTRIES: u64 = 1_000;
/// Share of the entries that may be removed, in percent.
const DELETE_PERCENT: u64 = 25;

impl Session<'_> {
    /// Forgets the rows of files that are cut in another way than the snapshot has them, as they can only be compared
    /// when cut alike; says whether there were any.
    pub(super) fn reclass(&self, local: &Local, aim: Built) -> Result<bool, Failure> {
        let reader = self.node.index.reader().map_err(index_failure)?;
        let mut stale = Vec::new();
        for change in self.differences.between(&*reader, local.top.id, aim.id) {
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

    /// Counts what will happen, and stops where too much would be removed. Gives how many files have to come, and their bytes.
    pub(super) fn count(&self, local: &Local, aim: Built, totals: &mut Totals) -> Result<(u64, u64), Failure> {
        let reader = self.node.index.reader().map_err(index_failure)?;
        let (mut bytes, mut files) = (0u64, 0u64);
        let left_out = self.node.filter.exclude()?;
        let mut unwanted = 0u64;
        for change in self.differences.between(&*reader, local.top.id, aim.id) {
            let change = change.map_err(page_failure)?;
            self.check_known(&change.path, change.new.as_ref())?;
            match (&change.old, &change.new) {
                (None, Some(new)) => {
                    totals.added += 1;
                    if let Body::File { size, id, .. } = new.body
                        && !self.is_here(&reader, local, &id)?
                    {
                        (bytes, files) = (bytes.saturating_add(size), files + 1);
                    }
                }
                (Some(old), None) => {
                    let (entries, _) = old.totals();
                    totals.removed = totals.removed.saturating_add(entries);
                    if change
                        .path
                        .split_last()
                        .is_some_and(|(at, name)| left_out.leaves_out(&at, &name, old.is_directory()))
                    {
                        unwanted = unwanted.saturating_add(entries);
                    }
                }
                (Some(old), Some(new)) => {
                    totals.updated += u64::from(!(old.is_directory() && new.is_directory()));
                    if let Body::File { size, id, .. } = new.body
                        && old.body != new.body
                        && !self.is_here(&reader, local, &id)?
                    {
                        (bytes, files) = (bytes.saturating_add(size), files + 1);
                    }
                }
                (None, None) => {}
            }
        }
        self.guard(local, aim, totals.removed, unwanted)?;
        // What is here may be moved and need no room, so this refuses only what cannot fit.
        self.stage.room(self.missing_bytes(bytes)?).map_err(|e| stage_failure(&e))?;
        Ok((files, bytes))
    }

    /// Whether the last scan saw a local file of this content.
    fn is_here(&self, reader: &Reader, local: &Local, id: &FileId) -> Result<bool, Failure> {
        Ok(local.top.entries > 0 && !reader.paths_of(self.module, id, 1).map_err(index_failure)?.is_empty())
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

    /// Refuses to remove what the root has lost, if that is much. Of what is removed, `unwanted` entries are left out by the
    /// node's own rules, and stay no matter of the root's.
    fn guard(&self, local: &Local, aim: Built, removed: u64, unwanted: u64) -> Result<(), Failure> {
        let head = &self.belief.head;
        // What was never whole cannot be lost; what a first sync removes is put aside, or was begun by it.
        if head.allow_delete || !self.settled || self.published.is_none() {
            return Ok(());
        }
        let had = local.top.entries.saturating_sub(unwanted);
        let lost = removed.saturating_sub(unwanted).min(had.saturating_sub(aim.entries));
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
    pub(super) fn check_stage(&self, local: &Local, aim: Built) -> Result<(), Failure> {
        let left = self.stage.leftovers().map_err(|e| stage_failure(&e))?;
        if left.is_empty() {
            return Ok(());
        }
        let ids: HashSet<FileId> = left.iter().map(|left| left.id).collect();
        let reader = self.node.index.reader().map_err(index_failure)?;
        let mut wanted = HashMap::new();
        for change in self.differences.between(&*reader, local.top.id, aim.id) {
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
}
