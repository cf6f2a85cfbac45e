//! The switch: what was taken becomes the tree that everybody sees, and is looked at again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use super::{Local, Session};
use crate::disk::index::Reader;
use crate::disk::publish::{Changes, Plan, PublishError, Removed, prepare, switch};
use crate::disk::scan::{Depth, Touched};
use crate::mirror::clock::now_ms;
use crate::mirror::dial::chain;
use crate::mirror::failure::{Exit, Failure};
use crate::mirror::ledger::{Ledger, Watch};
use crate::mirror::monitor::Phase;
use crate::mirror::take_content::stage_failure;
use crate::mirror::take_tree::{index_failure, page_failure};
use crate::tree::dir::Built;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::FileId;
use crate::tree::name::TreePath;

/// Local files that are looked at for one content.
const HOLDERS_MAX: u32 = 8;
/// Changes up to which only their paths are looked at again after the switch; with more, the whole tree is.
const LOOK_AGAIN_MAX: usize = 20_000;

/// Why a tree was not published.
pub(super) enum Published {
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
    /// Makes the wanted tree the visible one. Gives how many paths were put aside.
    pub(super) fn publish(&self, local: &Local, aim: Built) -> Result<u64, Published> {
        self.monitor.phase(Phase::Publishing);
        let index = self.node.index;
        let (old, new) = (local.top.id, aim.id);
        let reader = index.reader().map_err(index_failure)?;
        let asked: RefCell<Reader> = RefCell::new(index.reader().map_err(index_failure)?);
        let walk = || -> Changes<'_> {
            Box::new(self.differences.between(&*reader, old, new).map(|c| c.map_err(io::Error::other)))
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
        let (switched, aside) = std::thread::scope(|scope| {
            let mut ledger = Ledger::start(scope, index, self.module, now_ms());
            (switch(&plan, &prepared, &mut ledger), ledger.finish())
        });
        let switched = switched.map_err(publish_failure)?;
        let aside = aside?;
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
