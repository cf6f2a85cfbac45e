//! The search by the list that is kept of an old version.

use std::collections::HashSet;
use std::sync::Arc;

use super::layout::{Old, Run};
use crate::delta::blocks::count;
use crate::delta::diff::{Hashing, Search, Step};
use crate::delta::rabin::Rabin;
use crate::tree::hash::ChunkId;

/// Blocks of chunks that the new version does not have that can be found by themselves.
const GONE_FOUND_MAX: usize = 700_000;
/// Blocks of other chunks that can: what is new may be like what stands elsewhere.
const SHARED_FOUND_MAX: usize = 300_000;

/// An old version by its blocks.
pub(super) struct Kept {
    search: Search,
}

impl Kept {
    /// Takes the list of `old`; `None` when it is not of that.
    pub(super) fn new(
        rabin: Arc<Rabin>,
        block: usize,
        hashes: Vec<u32>,
        old: &Old,
        shared: &HashSet<ChunkId>,
    ) -> Option<Self> {
        let (mut ranges, mut gone, mut other, mut total) = (Vec::with_capacity(old.chunks().len()), 0, 0, 0);
        for (chunk, start) in old.chunks() {
            let len = u64::from(chunk.len);
            let blocks = usize::try_from(count(len, block)).ok()?;
            *(if shared.contains(&chunk.id) { &mut other } else { &mut gone }) += blocks;
            total += blocks;
            ranges.push((*start, len));
        }
        if total != hashes.len() {
            return None;
        }
        let (of_gone, of_other) = (gone.div_ceil(GONE_FOUND_MAX), other.div_ceil(SHARED_FOUND_MAX));
        let every = |number: usize| {
            let shared = old.chunks().get(number).is_some_and(|(chunk, _)| shared.contains(&chunk.id));
            if shared { of_other } else { of_gone }
        };
        let hashing = Hashing { rabin, block, bits: u32::BITS };
        Some(Self { search: Search::of_some(hashing, &ranges, hashes, every) })
    }

    /// The steps that make `bytes`, which are those of `run`.
    pub(super) fn steps(&self, bytes: &[u8], run: &Run) -> Vec<Step> {
        self.search.steps(bytes, run.around)
    }
}
