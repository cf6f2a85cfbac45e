//! The tree that the target shall be: the signed one, or the part of it that the rules take; and the record that it is.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::time::Duration;

use super::{Local, Session};
use crate::disk::dir::Found;
use crate::disk::grace::expire;
use crate::disk::index::Target;
use crate::disk::index::partial::Part;
use crate::mirror::clock::now_ms;
use crate::mirror::failure::{Exit, Failure};
use crate::mirror::monitor::Phase;
use crate::mirror::past::forget_old;
use crate::mirror::served::built_of;
use crate::mirror::take_content::stage_failure;
use crate::mirror::take_part::PartTask;
use crate::mirror::take_tree::{Base, KnownBase, TreeTask, index_failure, page_failure};
use crate::protocol::pack::Pack;
use crate::tree::diff::changes;
use crate::tree::dir::{Built, look_up};
use crate::tree::edit::{Edit, EditError, Editor};
use crate::tree::entry::{Entry, Meta};
use crate::tree::hash::ID_LEN;
use crate::tree::name::{Name, TreePath};

/// How long replaced and removed files are kept for readers of the snapshot before.
const GRACE: Duration = Duration::from_secs(3_600);
/// Bytes of them that are kept at most.
const GRACE_BYTES: u64 = 16 * 1024 * 1024 * 1024;

/// What is wanted of a head.
pub(super) struct Goal {
    /// Its tree, or the part of it that the rules take.
    pub(super) tree: Built,
    /// Pages that lead to the part; `None` where those that are held are the right ones.
    way: Option<HashSet<[u8; ID_LEN]>>,
    /// The tree here that the source knows, if it is known by now that it does: files of it may be copied from.
    pub(super) base: Option<KnownBase>,
}

impl Session<'_> {
    /// Brings the entries of what is wanted into the index.
    pub(super) fn goal(&self, local: &Local, pack: Option<&Pack>) -> Result<Goal, Failure> {
        self.monitor.phase(Phase::Comparing);
        let (index, whole) = (self.node.index, built_of(&self.belief.head));
        if !self.node.filter.is_partial() {
            let base = match self.published {
                // What is held of that head is not all of it.
                Some(_) if self.part.is_some() => Base::Unknown,
                Some((head, built)) => Base::Head(head, built),
                None if local.top.entries == 0 => Base::Nothing,
                None => Base::Tree(local.top),
            };
            let task = TreeTask {
                index,
                module: self.module,
                stage: &self.stage,
                line: self.line,
                head: self.belief.id,
                wanted: whole,
                monitor: self.monitor,
            };
            let known = task.take(base, pack)?;
            return Ok(Goal { tree: whole, way: None, base: known.or(self.base()) });
        }
        if let Some(part) = self.part.as_ref().filter(|part| part.head == self.belief.id && self.has_rules_of(part)) {
            let reader = index.reader().map_err(index_failure)?;
            if reader.page_is_held(part.tree.id.as_bytes()).map_err(index_failure)? {
                return Ok(Goal { tree: part.tree, way: None, base: self.base() });
            }
        }
        let exclude = &self.node.filter.exclude()?;
        let (module, stage, line, head, monitor) = (self.module, &self.stage, self.line, self.belief.id, self.monitor);
        let part = PartTask { index, module, stage, line, head, whole, exclude, monitor }.take()?;
        Ok(Goal { tree: part.tree, way: Some(part.way), base: self.base() })
    }

    /// The head that was published here, where what is held of it is what the rules take now: files of it may be copied
    /// from.
    fn base(&self) -> Option<KnownBase> {
        let (id, built) = self.published.filter(|_| self.part.as_ref().is_none_or(|part| self.has_rules_of(part)))?;
        Some((id.into(), built))
    }

    fn has_rules_of(&self, part: &Part) -> bool {
        part.rules == self.node.rules()
    }

    /// What the target shall be, seen from what it is: a directory that the goal does not have stays as long as it holds
    /// what the rules leave out.
    pub(super) fn aim(&self, local: &Local, goal: Built) -> Result<Built, Failure> {
        if self.node.sees_all() {
            return Ok(goal);
        }
        let reader = self.node.index.reader().map_err(index_failure)?;
        let mut stays: BTreeMap<TreePath, Meta> = BTreeMap::new();
        for change in changes(&*reader, Some(local.top.id), Some(goal.id)) {
            let change = change.map_err(page_failure)?;
            let directory = |entry: &Option<Entry>| entry.as_ref().is_some_and(Entry::is_directory);
            if !directory(&change.old) || directory(&change.new) {
                continue;
            }
            let failed =
                |e: io::Error| Failure::local(format!("cannot read {}/{}", self.node.into.display(), change.path), &e);
            for path in self.holders(&change.path).map_err(failed)? {
                if change.new.is_some() {
                    return Err(self.in_the_way(&change.path));
                }
                let entry = look_up(&*reader, local.top.id, &path).map_err(page_failure)?;
                stays.extend(entry.map(|entry| (path, entry.meta)));
            }
        }
        drop(reader);
        if stays.is_empty() {
            return Ok(goal);
        }
        let edit_failure = |error| match error {
            EditError::Page(error) => page_failure(error),
            other => page_failure(crate::tree::page::PageError::Store(Box::new(other))),
        };
        let mut batch = self.node.index.batch().map_err(index_failure)?;
        let mut editor = Editor::new(Some(goal));
        for (path, meta) in stays {
            editor.apply(&path, Edit::Directory(meta, Vec::new()), &mut batch).map_err(edit_failure)?;
        }
        let aim = editor.finish(&mut batch).map_err(edit_failure)?;
        batch.commit().map_err(index_failure)?;
        Ok(aim)
    }

    /// The directory `top` and those below it that hold what the rules leave out, each with those above it.
    fn holders(&self, top: &TreePath) -> io::Result<Vec<TreePath>> {
        let (mut todo, mut holders) = (vec![top.clone()], Vec::new());
        while let Some(place) = todo.pop() {
            let dir = match self.target.open_dir(&place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let mut holds = false;
            for bytes in dir.read_names()? {
                let Ok(name) = Name::new(&bytes) else { continue };
                let Some(look) = dir.look(&name)? else { continue };
                let is_directory = look.found == Found::Directory;
                if self.unseen.leaves_out(&place, &name, is_directory) {
                    holds = true;
                } else if is_directory {
                    todo.push(place.join(&name));
                }
            }
            let mut above = Some(place).filter(|_| holds);
            while let Some(path) = above.filter(|path| path.is_within(top)) {
                above = path.split_last().map(|(parent, _)| parent).filter(|parent| !parent.is_top());
                holders.push(path);
            }
        }
        Ok(holders)
    }

    fn in_the_way(&self, path: &TreePath) -> Failure {
        let into = self.node.into.display();
        Failure::new(
            Exit::Guard,
            format!("{into} was not changed: {path} is a directory here, and none in the snapshot any more"),
            "it holds files that the rules leave out, which are not removed",
            format!("move them out of {into}/{path}, or have them removed: --delete-excluded"),
        )
    }

    /// Removes all old versions that are kept here; false if there are none.
    pub(super) fn give_up_grace(&self) -> bool {
        match expire(&self.stage, Duration::from_millis(now_ms()), Duration::ZERO, 0) {
            Ok(expired) => {
                tracing::info!(module = self.name, ?expired, "old versions have made room");
                expired.batches > 0
            }
            Err(fault) => {
                tracing::warn!(%fault, "old versions are not cleared away");
                false
            }
        }
    }

    /// Records that whatever will stand in the directory was put there, before any of it is.
    pub(super) fn take_over(&self) -> Result<(), Failure> {
        let mut batch = self.node.index.batch().map_err(index_failure)?;
        if let Some(target) = batch.target(self.module).map_err(index_failure)? {
            batch.set_target(self.module, &Target { settled: true, ..target }).map_err(index_failure)?;
        }
        batch.commit().map_err(index_failure)
    }

    /// Records that what is wanted stands on disk.
    pub(super) fn settle(&self, goal: &Goal, aim: Built) -> Result<(), Failure> {
        let filter = self.node.filter;
        let part = Part { rules: self.node.rules(), head: self.belief.id, tree: goal.tree };
        let part = filter.is_partial().then_some(part);
        let published = self.published.is_some_and(|(id, _)| id == self.belief.id);
        if self.settled && published && self.part == part {
            return Ok(());
        }
        let mut batch = self.node.index.batch().map_err(index_failure)?;
        batch.set_local(self.module, Some(aim.id)).map_err(index_failure)?;
        batch.set_published(self.module, &self.belief.id).map_err(index_failure)?;
        if let Some(target) = batch.target(self.module).map_err(index_failure)? {
            batch.set_target(self.module, &Target { settled: true, ..target }).map_err(index_failure)?;
        }
        batch.set_part(self.module, part.as_ref()).map_err(index_failure)?;
        if let Some(way) = &goal.way {
            batch.prune_part_pages(self.module, way).map_err(index_failure)?;
        }
        if part.is_some() || self.part.is_some() {
            // Of the trees of other heads not everything is held.
            batch.prune_heads(self.module, 1).map_err(index_failure)?;
        }
        batch.commit().map_err(index_failure)?;
        forget_old(self.node.index, self.module, now_ms()).map_err(index_failure)?;
        let now = Duration::from_millis(now_ms());
        self.stage.clear().map_err(|e| stage_failure(&e))?;
        if let Err(fault) = expire(&self.stage, now, GRACE, GRACE_BYTES) {
            tracing::warn!(%fault, "old files are not cleared away");
        }
        Ok(())
    }
}
