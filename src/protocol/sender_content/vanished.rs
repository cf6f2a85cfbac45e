//! Files of the base that are no more, by what they held: one that was renamed and changed is found among them.

use std::collections::HashMap;

use crate::protocol::sender::internal;
use crate::tree::diff::changes;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::DirId;
use crate::tree::list::{Samples, chunks};
use crate::tree::name::TreePath;
use crate::tree::page::PageSource;

/// Such files that are looked at; one beyond is no basis.
const FILES_MAX: usize = 10_000;
/// Chunks of them that are looked at.
const CHUNKS_MAX: usize = 4_000_000;

/// What is gone.
#[derive(Default)]
pub(super) struct Vanished {
    files: Vec<(TreePath, Entry)>,
    by_sample: HashMap<u64, Vec<usize>>,
}

impl Vanished {
    /// Looks for what `base` has and `top` has not at its path.
    pub(super) fn between(pages: &dyn PageSource, base: DirId, top: DirId) -> Result<Self, u16> {
        let (mut vanished, mut left) = (Self::default(), CHUNKS_MAX);
        for change in changes(pages, Some(base), Some(top)) {
            let change = change.map_err(|e| internal(&e))?;
            let (Some(old), None) = (change.old, change.new) else { continue };
            let Body::File { id, .. } = old.body else { continue };
            if vanished.files.len() >= FILES_MAX || left == 0 {
                break;
            }
            let Some(list) = chunks(pages, id).map_err(|e| internal(&e))? else { continue };
            let mut samples = Samples::default();
            for chunk in list.take(left) {
                samples.add(&chunk.map_err(|e| internal(&e))?.id);
                left -= 1;
            }
            for sample in samples.ids() {
                vanished.by_sample.entry(*sample).or_default().push(vanished.files.len());
            }
            vanished.files.push((change.path, old));
        }
        Ok(vanished)
    }

    /// The one that shares most of these samples.
    pub(super) fn similar(&self, samples: &Samples) -> Option<(TreePath, Entry)> {
        let mut shared: HashMap<usize, usize> = HashMap::new();
        for sample in samples.ids() {
            for file in self.by_sample.get(sample).into_iter().flatten() {
                *shared.entry(*file).or_default() += 1;
            }
        }
        let best = shared.into_iter().max_by_key(|(file, count)| (*count, std::cmp::Reverse(*file)))?;
        self.files.get(best.0).cloned()
    }
}
