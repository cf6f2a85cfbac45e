//! The switch: what was taken becomes the tree that everybody sees, and is looked at again.

use std::collections::BTreeMap;
use std::io;

use super::{Local, Session};
use crate::disk::publish::{Changes, Removed};
use crate::disk::scan::{Depth, Touched};
use crate::mirror::failure::Failure;
use crate::mirror::monitor::Phase;
use crate::mirror::placing::{Placing, Unplaced};
use crate::mirror::take_tree::{index_failure, page_failure};
use crate::tree::dir::Built;
use crate::tree::entry::{Body, Entry};
use crate::tree::name::TreePath;

/// Changes up to which only their paths are looked at again after the switch; with more, the whole tree is.
const LOOK_AGAIN_MAX: usize = 20_000;

impl Session<'_> {
    /// How changes are made here.
    pub(super) fn placing(&self, removed: Removed) -> Placing<'_> {
        Placing {
            index: self.node.index,
            module: self.module,
            target: &self.target,
            shown: &self.node.into,
            stage: &self.stage,
            sequence: self.belief.head.sequence,
            top: self.belief.head.meta(),
            removed,
            monitor: self.monitor,
        }
    }

    /// Makes the wanted tree the visible one. Gives how many paths were put aside.
    pub(super) fn publish(&self, local: &Local, aim: Built) -> Result<u64, Unplaced> {
        self.monitor.phase(Phase::Publishing);
        let index = self.node.index;
        let (old, new) = (local.top.id, aim.id);
        let reader = index.reader().map_err(index_failure)?;
        let walk = || -> Changes<'_> {
            Box::new(self.differences.between(&*reader, old, new).map(|c| c.map_err(io::Error::other)))
        };
        let removed = if self.settled { Removed::Grace } else { Removed::Adopted };
        let (switched, aside) = self.placing(removed).put(&walk, false)?;
        let mut batch = index.batch().map_err(index_failure)?;
        // Rows of paths that hold no file any more.
        for change in self.differences.between(&*reader, old, new) {
            let change = change.map_err(page_failure)?;
            let file = |entry: &Option<Entry>| entry.as_ref().is_some_and(|e| matches!(e.body, Body::File { .. }));
            if change.old.is_some() && (change.new.is_none() || file(&change.old) && !file(&change.new)) {
                batch.remove_within(self.module, &change.path).map_err(index_failure)?;
            }
        }
        batch.commit().map_err(index_failure)?;
        tracing::info!(?switched, "published");
        Ok(aside)
    }

    /// Looks at what the switch has touched. What it has not touched is as it was, unless someone else writes there,
    /// which the next look at everything finds.
    pub(super) fn look_again(&self, local: &Local, aim: Built) -> Result<Local, Failure> {
        let reader = self.node.index.reader().map_err(index_failure)?;
        let wanted = aim.id;
        let mut paths: BTreeMap<TreePath, Depth> = BTreeMap::new();
        let mut whole: Option<TreePath> = None;
        for change in self.differences.between(&*reader, local.top.id, wanted) {
            let change = change.map_err(page_failure)?;
            if paths.len() >= LOOK_AGAIN_MAX {
                return self.survey(Some(wanted));
            }
            if whole.as_ref().is_some_and(|whole| change.path.is_within(whole)) {
                continue;
            }
            let was = change.old.as_ref().is_some_and(Entry::is_directory);
            let depth = match change.new.as_ref().is_some_and(Entry::is_directory) {
                true if !was => {
                    whole = Some(change.path.clone());
                    Depth::Below
                }
                _ => Depth::Alone,
            };
            paths.insert(change.path, depth);
        }
        drop(reader);
        let touched = Touched { base: local.top, base_meta: local.meta, paths: &paths };
        self.read_target(Some(wanted), Some(&touched))
    }
}
