//! The search by the list that is kept of an old version.

use std::collections::HashSet;
use std::sync::Arc;

use super::layout::{Old, Run};
use crate::delta::blocks::{Range, count};
use crate::delta::diff::{Hashing, Search, Step};
use crate::delta::rabin::Rabin;
use crate::tree::hash::ChunkId;

/// Blocks that are searched for at once; of a file in which more has changed, those near by.
const SEARCHED_MAX: usize = 1_000_000;
/// Of those, the share that lies before the place that is looked at.
const BEFORE_PERCENT: usize = 25;

/// The chunks of an old version that the new one does not have, by their blocks.
pub(super) struct Kept {
    hashing: Hashing,
    hashes: Vec<u32>,
    gone: Vec<Gone>,
    search: Option<Search>,
    /// Which of `gone` it knows.
    from: usize,
    to: usize,
}

/// A chunk of the old version.
struct Gone {
    start: u64,
    len: u64,
    /// The first of its hashes.
    first: usize,
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
        let (mut gone, mut first) = (Vec::new(), 0);
        for (chunk, start) in old.chunks() {
            let len = u64::from(chunk.len);
            if !shared.contains(&chunk.id) {
                gone.push(Gone { start: *start, len, first });
            }
            first += usize::try_from(count(len, block)).ok()?;
        }
        let hashing = Hashing { rabin, block, bits: u32::BITS };
        (first == hashes.len()).then_some(Self { hashing, hashes, gone, search: None, from: 0, to: 0 })
    }

    /// The steps that make `bytes`, which are those of `run`.
    pub(super) fn steps(&mut self, bytes: &[u8], run: &Run) -> Vec<Step> {
        self.look_near(run.gap.map(|gap| gap.0));
        self.search.as_ref().map_or_else(Vec::new, |search| search.steps(bytes, run.around))
    }

    /// Makes a search for what is around `place`, unless the last one will do.
    fn look_near(&mut self, place: Option<u64>) {
        let at = place.map_or(self.from, |place| self.gone.partition_point(|gone| gone.start + gone.len <= place));
        let in_middle = self.to == self.gone.len() || at < self.from + (self.to - self.from) / 2;
        if self.search.is_some() && in_middle {
            return;
        }
        let blocks = |gone: &Gone| usize::try_from(count(gone.len, self.hashing.block)).unwrap_or(usize::MAX);
        let mut room = SEARCHED_MAX * BEFORE_PERCENT / 100;
        let before = self.gone.get(..at).unwrap_or_default().iter().rev().take_while(|gone| {
            room = room.saturating_sub(blocks(gone));
            room > 0
        });
        self.from = at - before.count();
        let mut room = SEARCHED_MAX;
        let taken = self.gone.get(self.from..).unwrap_or_default().iter().take_while(|gone| {
            room = room.saturating_sub(blocks(gone));
            room > 0
        });
        self.to = self.from + taken.count();
        let ranges: Vec<Range<'_>> = self
            .gone
            .get(self.from..self.to)
            .unwrap_or_default()
            .iter()
            .map(|gone| Range {
                start: gone.start,
                len: gone.len,
                hashes: self.hashes.get(gone.first..gone.first + blocks(gone)).unwrap_or_default(),
            })
            .collect();
        self.search = Some(Search::new(self.hashing.clone(), &ranges));
    }
}
