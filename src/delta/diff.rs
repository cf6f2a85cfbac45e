//! The search: which pieces of new bytes are blocks of old ones.

use std::collections::HashMap;
use std::sync::Arc;

use super::blocks::{Range, count};
use super::rabin::{Rabin, Window};

/// Blocks of one hash that are tried at one place.
const CANDIDATES_MAX: usize = 8;
/// Bits of a place in [`Filter`] for each block.
const FILTER_BITS: usize = 16;

/// How new bytes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// From old bytes.
    Copy {
        /// Where they begin in the old file.
        from: u64,
        /// How many.
        len: u64,
    },
    /// From bytes that are sent.
    Literal {
        /// How many.
        len: u64,
    },
}

/// What the short hashes are made of.
#[derive(Clone)]
pub struct Hashing {
    /// The secret that both lists were made with.
    pub rabin: Arc<Rabin>,
    /// Bytes of a block.
    pub block: usize,
    /// Bits of each hash that are known, 32 at most: the lower ones.
    pub bits: u32,
}

/// Old blocks by their hash.
pub struct Search {
    hashing: Hashing,
    window: Window,
    blocks: Vec<Block>,
    /// The first block of a hash; the others follow by [`Block::next`].
    first: HashMap<u32, u32, Plain>,
    filter: Filter,
    mask: u32,
}

#[derive(Clone, Copy)]
struct Block {
    from: u64,
    len: u32,
    hash: u32,
    /// The next one of the same hash, if there is one: its number and one.
    next: u32,
}

/// What stands around the new bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around {
    /// Where the old bytes end that are equal to those before, if they are.
    pub before: Option<u64>,
    /// Where the old bytes begin that are equal to those behind.
    pub after: Option<u64>,
}

impl Search {
    /// Takes the blocks of `ranges`, which stand in ascending order and apart. Hashes beyond what a range may have are
    /// not looked at.
    #[must_use]
    pub fn new(hashing: Hashing, ranges: &[Range<'_>]) -> Self {
        let mask = if hashing.bits >= 32 { u32::MAX } else { (1 << hashing.bits) - 1 };
        let total: usize = ranges.iter().map(|range| range.hashes.len()).sum();
        let (window, block) = (hashing.rabin.window(hashing.block), hashing.block);
        let mut search = Self {
            hashing,
            window,
            blocks: Vec::with_capacity(total),
            first: HashMap::with_capacity_and_hasher(total, Plain),
            filter: Filter::new(total),
            mask,
        };
        for range in ranges {
            let (mut from, end) = (range.start, range.start.saturating_add(range.len));
            let most = usize::try_from(count(range.len, block)).unwrap_or(usize::MAX);
            for hash in range.hashes.iter().take(most) {
                let len = (end - from).min(block as u64);
                search.add(Block { from, len: len as u32, hash: hash & mask, next: 0 });
                from += len;
            }
        }
        search
    }

    fn add(&mut self, mut block: Block) {
        let number = self.blocks.len() as u32;
        // A shorter block at the end of a range is found by its place alone.
        if block.len as usize == self.hashing.block {
            self.filter.add(block.hash);
            block.next = self.first.insert(block.hash, number).map_or(0, |before| before + 1);
        }
        self.blocks.push(block);
    }

    /// Whether there is anything to be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The steps that make `new`; of two copies that follow each other the second comes from elsewhere.
    #[must_use]
    pub fn steps(&self, new: &[u8], around: Around) -> Vec<Step> {
        let mut made = Made { steps: Vec::new(), at: 0, place: around.before };
        if !self.is_empty() {
            self.find(new, around, &mut made);
        }
        made.literal(new.len());
        made.steps
    }

    fn find(&self, new: &[u8], around: Around, made: &mut Made) {
        // So few of them that a chance match is less than one in a thousand.
        let sure = (self.blocks.len() as u64).saturating_mul(new.len() as u64) >> (self.hashing.bits - 10) == 0;
        while made.at < new.len() {
            self.run_on(new, made);
            let rest = new.get(made.at..).unwrap_or_default();
            let mut found = None;
            self.hashing.rabin.roll(&self.window, rest, |offset, hash| {
                if self.filter.may_have(hash & self.mask) {
                    found = self.candidate(new, made, offset, hash & self.mask, around, sure).map(|n| (offset, n));
                }
                found.is_none()
            });
            let Some((offset, number)) = found else { break };
            made.literal(made.at + offset);
            made.copy(&self.blocks, number);
        }
        self.tail(new, around, made);
    }

    /// Goes on with the blocks behind the last copy, as long as they agree.
    fn run_on(&self, new: &[u8], made: &mut Made) {
        let Some(mut number) = made.place.and_then(|place| self.number_at(place)) else { return };
        while let Some(block) = self.blocks.get(number)
            && Some(block.from) == made.place
            && self.agrees(new, made.at, block)
        {
            made.copy(&self.blocks, number);
            number += 1;
        }
    }

    fn number_at(&self, from: u64) -> Option<usize> {
        self.blocks.binary_search_by_key(&from, |block| block.from).ok()
    }

    fn agrees(&self, new: &[u8], at: usize, block: &Block) -> bool {
        let bytes = new.get(at..).and_then(|rest| rest.get(..block.len as usize));
        bytes.is_some_and(|bytes| self.hashing.rabin.of(bytes) & self.mask == block.hash)
    }

    /// The block that stands `offset` behind what is made: one that is where it would be after a change in place, or one
    /// behind which the next agrees too.
    fn candidate(
        &self,
        new: &[u8],
        made: &Made,
        offset: usize,
        hash: u32,
        around: Around,
        sure: bool,
    ) -> Option<usize> {
        let at = made.at + offset;
        let mut next = self.first.get(&hash).map_or(0, |number| number + 1);
        let mut best = None;
        for _ in 0..CANDIDATES_MAX {
            let Some(number) = (next as usize).checked_sub(1) else { break };
            let Some(block) = self.blocks.get(number) else { break };
            let in_place = made.place.is_some_and(|place| place + offset as u64 == block.from)
                || around.after.is_some_and(|after| after.checked_sub((new.len() - at) as u64) == Some(block.from));
            if in_place {
                return Some(number);
            }
            let end = block.from + u64::from(block.len);
            let behind = self.blocks.get(number + 1).filter(|behind| behind.from == end);
            let goes_on = behind.is_some_and(|behind| self.agrees(new, at + block.len as usize, behind));
            if goes_on || sure {
                best = best.or(Some(number));
            }
            next = block.next;
        }
        best
    }

    /// What is left at the end may be the short last block of the old bytes before the match behind.
    fn tail(&self, new: &[u8], around: Around, made: &mut Made) {
        let Some(after) = around.after else { return };
        let below = self.blocks.partition_point(|block| block.from < after);
        let Some(number) = below.checked_sub(1) else { return };
        let Some(block) = self.blocks.get(number) else { return };
        let Some(at) = new.len().checked_sub(block.len as usize).filter(|at| *at >= made.at) else { return };
        if block.from + u64::from(block.len) == after && self.agrees(new, at, block) {
            made.literal(at);
            made.copy(&self.blocks, number);
        }
    }
}

/// The steps so far.
struct Made {
    steps: Vec<Step>,
    /// New bytes that they make.
    at: usize,
    /// Where the old bytes go on.
    place: Option<u64>,
}

impl Made {
    fn literal(&mut self, to: usize) {
        let Some(len) = to.checked_sub(self.at).filter(|len| *len > 0) else { return };
        self.steps.push(Step::Literal { len: len as u64 });
        self.at = to;
    }

    fn copy(&mut self, blocks: &[Block], number: usize) {
        let Some(block) = blocks.get(number) else { return };
        let more = u64::from(block.len);
        match self.steps.last_mut() {
            Some(Step::Copy { from, len }) if *from + *len == block.from => *len += more,
            _ => self.steps.push(Step::Copy { from: block.from, len: more }),
        }
        self.at += block.len as usize;
        self.place = Some(block.from + more);
    }
}

/// A hash of a hash: itself. The polynomial is secret, so nobody can choose what falls together.
#[derive(Clone, Copy, Default)]
struct Plain;

impl std::hash::BuildHasher for Plain {
    type Hasher = PlainHasher;

    fn build_hasher(&self) -> PlainHasher {
        PlainHasher(0)
    }
}

struct PlainHasher(u64);

impl std::hash::Hasher for PlainHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u32(&mut self, n: u32) {
        // The table takes upper and lower bits for different ends.
        self.0 = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Says of most hashes that no block has them.
struct Filter {
    bits: Vec<u64>,
    mask: usize,
}

impl Filter {
    fn new(blocks: usize) -> Self {
        let places = (blocks * FILTER_BITS).next_power_of_two().max(64);
        Self { bits: vec![0; places / 64], mask: places - 1 }
    }

    fn add(&mut self, hash: u32) {
        let place = hash as usize & self.mask;
        if let Some(word) = self.bits.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    #[inline]
    fn may_have(&self, hash: u32) -> bool {
        let place = hash as usize & self.mask;
        self.bits.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delta::blocks::{BLOCK, LARGE_BLOCK};

    fn rabin() -> Rabin {
        Rabin::new(&[3; 32])
    }

    fn noise(seed: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
        bytes
    }

    /// The steps from `old`, all of which is one range, to `new`, and what they make.
    fn steps(old: &[u8], new: &[u8], block: usize, bits: u32, around: Around) -> (Vec<Step>, Vec<u8>) {
        let rabin = Arc::new(rabin());
        let mut hashes = Vec::new();
        rabin.list(old, block, &mut hashes);
        let range = Range { start: 0, len: old.len() as u64, hashes: &hashes };
        let found = Search::new(Hashing { rabin, block, bits }, &[range]).steps(new, around);
        let made = carry_out(&found, old, new);
        (found, made)
    }

    fn carry_out(steps: &[Step], old: &[u8], new: &[u8]) -> Vec<u8> {
        let mut made = Vec::new();
        for step in steps {
            let bytes = match step {
                Step::Copy { from, len } => &old[*from as usize..(*from + *len) as usize],
                Step::Literal { len } => &new[made.len()..made.len() + *len as usize],
            };
            made.extend_from_slice(bytes);
        }
        made
    }

    fn literal_bytes(steps: &[Step]) -> u64 {
        steps.iter().map(|step| if let Step::Literal { len } = step { *len } else { 0 }).sum()
    }

    #[test]
    fn what_moved_by_a_few_bytes_is_found() {
        let old = noise(1, 50_000);
        let mut new = old.clone();
        new.splice(20_000..20_000, *b"some bytes more");
        new.drain(40_000..40_100);
        for (block, bits) in [(BLOCK, 32), (BLOCK, 24), (LARGE_BLOCK, 24)] {
            let around = Around { before: Some(0), after: Some(old.len() as u64) };
            let (found, made) = steps(&old, &new, block, bits, around);
            assert_eq!(made, new);
            assert!(literal_bytes(&found) <= 3 * block as u64 + 15, "{found:?}");
            assert!(found.len() <= 6, "{found:?}");
        }
    }

    #[test]
    fn a_change_in_place_costs_its_block() {
        let old = noise(2, 64 * 1_024 + 77);
        let mut new = old.clone();
        for at in [5_000, 9_000, 30_000] {
            new[at] ^= 1;
        }
        let around = Around { before: Some(0), after: Some(old.len() as u64) };
        let (found, made) = steps(&old, &new, BLOCK, 24, around);
        assert_eq!((made, literal_bytes(&found)), (new, 3 * BLOCK as u64));
    }

    #[test]
    fn the_short_last_block_is_found_at_the_end() {
        let old = noise(3, 1_000);
        let new = [noise(4, 300), old[896..].to_vec()].concat();
        let around = Around { before: Some(0), after: Some(1_000) };
        assert_eq!(
            steps(&old, &new, BLOCK, 24, around).0,
            [Step::Literal { len: 300 }, Step::Copy { from: 896, len: 104 }]
        );
    }

    #[test]
    fn a_lonely_match_of_few_bits_is_not_believed_in_much_data() {
        // One block of the old bytes, in a place that says nothing, and so many places that 24 bits are not enough.
        let old = noise(5, 200 * BLOCK);
        let mut new = noise(6, 1 << 20);
        new[70_001..70_001 + BLOCK].copy_from_slice(&old[50 * BLOCK..51 * BLOCK]);
        let lonely = |bits| steps(&old, &new, BLOCK, bits, Around::default()).0.len();
        assert_eq!(lonely(24), 1);
        new[70_001..70_001 + 2 * BLOCK].copy_from_slice(&old[50 * BLOCK..52 * BLOCK]);
        assert_eq!(steps(&old, &new, BLOCK, 24, Around::default()).0.len(), 3);
    }

    #[test]
    fn equal_blocks_are_tried_so_often_and_no_more() {
        let old = vec![0; 4_000 * BLOCK];
        let mut new = vec![0; 1_000 * BLOCK];
        new[60_000] = 1;
        let (found, made) = steps(&old, &new, BLOCK, 24, Around { before: Some(0), after: None });
        assert_eq!(made, new);
        assert!(literal_bytes(&found) <= 2 * BLOCK as u64, "{found:?}");
    }

    proptest! {
        #[test]
        fn random_edits_are_rebuilt(
            seed in any::<u8>(), len in 0usize..20_000, block in prop_oneof![Just(32usize), Just(BLOCK), Just(LARGE_BLOCK)],
            edits in proptest::collection::vec((any::<u16>(), 0usize..300, 0usize..300), 0..12),
        ) {
            let old = noise(seed, len);
            let mut new = old.clone();
            for (at, cut, put) in &edits {
                let at = usize::from(*at) % (new.len() + 1);
                let end = (at + cut).min(new.len());
                new.splice(at..end, noise(*put as u8, *put));
            }
            let around = Around { before: Some(0), after: Some(old.len() as u64) };
            let (found, made) = steps(&old, &new, block, 32, around);
            prop_assert_eq!(made, new.clone());
            let most: usize = edits.iter().map(|(_, _, put)| put + 3 * block).sum();
            prop_assert!(literal_bytes(&found) <= (most + block) as u64);
        }

        #[test]
        fn hashes_that_lie_give_steps_that_add_up(
            hashes in proptest::collection::vec(any::<u32>(), 0..200), len in 0u64..40_000,
            new in proptest::collection::vec(any::<u8>(), 0..3_000),
        ) {
            let rabin = Arc::new(rabin());
            let range = Range { start: 17, len, hashes: &hashes };
            let found = Search::new(Hashing { rabin, block: BLOCK, bits: 24 }, &[range])
                .steps(&new, Around { before: Some(17), after: Some(17 + len) });
            let total: u64 = found.iter().map(|step| match step { Step::Copy { len, .. } | Step::Literal { len } => *len }).sum();
            prop_assert_eq!(total, new.len() as u64);
        }
    }
}
