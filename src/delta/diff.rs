//! The search: which pieces of new bytes are blocks of old ones.

use std::collections::{HashMap, VecDeque};
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
    /// Of all blocks of all ranges, in order.
    hashes: Vec<u32>,
    ranges: Vec<Place>,
    /// The last one of a hash that can be found; [`same`](Self::same) leads to those before it.
    last: HashMap<u32, u32, Plain>,
    /// Of a block that can be found, the one before it of the same hash.
    same: HashMap<u32, u32, Plain>,
    filter: Filter,
    /// How many can be found.
    found: usize,
    mask: u32,
}

/// Old bytes that stand together, and the number of their first block.
#[derive(Clone, Copy)]
struct Place {
    start: u64,
    len: u64,
    first: usize,
}

/// One block.
#[derive(Clone, Copy)]
struct Block {
    number: usize,
    from: u64,
    len: u64,
    hash: u32,
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
        let (mut hashes, mut places) = (Vec::new(), Vec::with_capacity(ranges.len()));
        for range in ranges {
            let most = usize::try_from(count(range.len, hashing.block)).unwrap_or(usize::MAX);
            let len = range.len.min(range.hashes.len() as u64 * hashing.block as u64);
            places.push((range.start, len));
            hashes.extend_from_slice(range.hashes.get(..most).unwrap_or(range.hashes));
        }
        Self::of_some(hashing, &places, hashes, |_| 1)
    }

    /// As [`new`](Self::new), with the hashes of all of `ranges` (where each begins, and its length). Of the blocks of a
    /// range every so-manieth as `every` says of its number can be found by itself; the others are known when one beside
    /// them was found.
    #[must_use]
    pub fn of_some(hashing: Hashing, ranges: &[(u64, u64)], hashes: Vec<u32>, every: impl Fn(usize) -> usize) -> Self {
        let mask = if hashing.bits >= 32 { u32::MAX } else { (1 << hashing.bits) - 1 };
        let (window, block) = (hashing.rabin.window(hashing.block), hashing.block);
        let (mut places, mut first, mut chosen) = (Vec::with_capacity(ranges.len()), 0, Vec::new());
        for (number, (start, len)) in ranges.iter().enumerate() {
            places.push(Place { start: *start, len: *len, first });
            // A shorter block at the end of a range is found by its place alone.
            let whole = usize::try_from(*len / block as u64).unwrap_or(0);
            chosen.extend((first..first + whole).step_by(every(number).max(1)));
            first += usize::try_from(count(*len, block)).unwrap_or(0);
        }
        let mut search = Self {
            hashing,
            window,
            hashes,
            ranges: places,
            last: HashMap::with_capacity_and_hasher(chosen.len(), Plain),
            same: HashMap::with_hasher(Plain),
            filter: Filter::new(chosen.len()),
            found: chosen.len(),
            mask,
        };
        for number in chosen {
            let Some(hash) = search.hashes.get(number).map(|hash| hash & mask) else { break };
            search.filter.add(hash);
            if let Some(before) = search.last.insert(hash, number as u32) {
                search.same.insert(number as u32, before);
            }
        }
        search
    }

    /// The block of that number.
    fn block(&self, number: usize) -> Option<Block> {
        let range = self.ranges.get(self.ranges.partition_point(|range| range.first <= number).checked_sub(1)?)?;
        self.block_in(range, number - range.first)
    }

    /// The block that begins at `from` of the old bytes.
    fn block_at(&self, from: u64) -> Option<Block> {
        let range = self.ranges.get(self.ranges.partition_point(|range| range.start <= from).checked_sub(1)?)?;
        let (behind, size) = (from - range.start, self.hashing.block as u64);
        let number = usize::try_from(behind / size).ok()?;
        if behind % size == 0 { self.block_in(range, number) } else { None }
    }

    /// The block that ends at `to` of the old bytes.
    fn block_before(&self, to: u64) -> Option<Block> {
        let range = self.ranges.get(self.ranges.partition_point(|range| range.start < to).checked_sub(1)?)?;
        let (behind, size) = ((to - range.start).min(range.len), self.hashing.block as u64);
        let block = self.block_in(range, usize::try_from(behind.checked_sub(1)? / size).ok()?)?;
        (block.from + block.len == to).then_some(block)
    }

    fn block_in(&self, range: &Place, behind: usize) -> Option<Block> {
        let (size, number) = (self.hashing.block as u64, range.first + behind);
        let at = behind as u64 * size;
        let len = range.len.checked_sub(at).filter(|len| *len > 0)?.min(size);
        let hash = *self.hashes.get(number)? & self.mask;
        Some(Block { number, from: range.start + at, len, hash })
    }

    /// Whether there is anything to be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
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
        let sure = (self.found as u64).saturating_mul(new.len() as u64) >> (self.hashing.bits - 10) == 0;
        while made.at < new.len() {
            self.run_on(new, made);
            let rest = new.get(made.at..).unwrap_or_default();
            let (mut found, mut doubtful) = (None, Doubtful::default());
            self.hashing.rabin.roll(&self.window, rest, |offset, hash| {
                let hash = hash & self.mask;
                found = doubtful.confirmed(offset, hash).map(|block| (offset - self.hashing.block, block));
                if found.is_none() && self.filter.may_have(hash) {
                    found = self.candidate(new, made, offset, hash, around, sure, &mut doubtful).map(|b| (offset, b));
                }
                found.is_none()
            });
            let Some((offset, block)) = found else { break };
            self.begin(new, made, made.at + offset, block);
        }
        self.tail(new, around, made);
    }

    /// Goes on with the blocks behind the last copy, as long as they agree.
    fn run_on(&self, new: &[u8], made: &mut Made) {
        while let Some(block) = made.place.and_then(|place| self.block_at(place))
            && self.agrees(new, made.at, &block)
        {
            made.copy(block.from, block.len);
        }
    }

    /// Begins a copy with `block`, which was found at `at`: with those before it that agree too.
    fn begin(&self, new: &[u8], made: &mut Made, mut at: usize, block: Block) {
        let (mut from, to) = (block.from, block.from + block.len);
        while let Some(before) = self.block_before(from)
            && let Some(place) = at.checked_sub(before.len as usize).filter(|place| *place >= made.at)
            && self.agrees(new, place, &before)
        {
            (at, from) = (place, before.from);
        }
        made.literal(at);
        made.copy(from, to - from);
    }

    fn agrees(&self, new: &[u8], at: usize, block: &Block) -> bool {
        let bytes = new.get(at..).and_then(|rest| rest.get(..block.len as usize));
        bytes.is_some_and(|bytes| self.hashing.rabin.of(bytes) & self.mask == block.hash)
    }

    /// The block that stands `offset` behind what is made: one that is where it would be after a change in place, or one
    /// whose neighbour agrees too. Where hashes are short there are so many chance matches that the neighbour is not hashed
    /// for each: its turn comes when the window is there.
    #[allow(clippy::too_many_arguments, reason = "what is made, where it goes on, and what is left to be seen")]
    fn candidate(
        &self,
        new: &[u8],
        made: &Made,
        offset: usize,
        hash: u32,
        around: Around,
        sure: bool,
        doubtful: &mut Doubtful,
    ) -> Option<Block> {
        let at = made.at + offset;
        let behind_last = made.place.map(|place| place + offset as u64);
        let before_next = around.after.and_then(|after| after.checked_sub((new.len() - at) as u64));
        let in_place = [behind_last, before_next].into_iter().flatten().filter_map(|place| self.block_at(place));
        let mut agreeing = in_place.filter(|block| block.hash == hash && block.len == self.hashing.block as u64);
        if let Some(block) = agreeing.next() {
            return Some(block);
        }
        let mut next = self.last.get(&hash).copied();
        let mut best = None;
        for _ in 0..CANDIDATES_MAX {
            if best.is_some() {
                break;
            }
            let Some(block) = next.and_then(|number| self.block(number as usize)) else { break };
            next = self.same.get(&(block.number as u32)).copied();
            let behind = self.block_at(block.from + block.len).filter(|behind| self.is_rare(behind));
            let whole = behind.filter(|behind| behind.len == block.len && self.mask != u32::MAX);
            if sure {
                best = Some(block);
            } else if let Some(behind) = whole {
                doubtful.add(offset + block.len as usize, behind.hash, block);
            } else if behind.is_some_and(|behind| self.agrees(new, at + block.len as usize, &behind))
                || self.mask == u32::MAX && self.agrees_before(new, made, at, &block)
            {
                best = Some(block);
            }
        }
        best
    }

    /// Whether no other block is known to have this hash. One of zeros stands beside many others, and says of none that it
    /// is the right one.
    fn is_rare(&self, block: &Block) -> bool {
        self.last.get(&block.hash).is_none_or(|number| !self.same.contains_key(number))
    }

    /// Whether the block before `block`, which was found at `at`, agrees too.
    fn agrees_before(&self, new: &[u8], made: &Made, at: usize, block: &Block) -> bool {
        let before = self.block_before(block.from).filter(|before| self.is_rare(before));
        let place = before.and_then(|before| at.checked_sub(before.len as usize).map(|place| (place, before)));
        place.is_some_and(|(place, before)| place >= made.at && self.agrees(new, place, &before))
    }

    /// What is left at the end may be the short last block of the old bytes before the match behind.
    fn tail(&self, new: &[u8], around: Around, made: &mut Made) {
        let Some(block) = around.after.and_then(|after| self.block_before(after)) else { return };
        let Some(at) = new.len().checked_sub(block.len as usize).filter(|at| *at >= made.at) else { return };
        if self.agrees(new, at, &block) {
            made.literal(at);
            made.copy(block.from, block.len);
        }
    }
}

/// Blocks that were found and count if the one behind them is found where it should be.
#[derive(Default)]
struct Doubtful {
    /// Where the one behind should be, its hash, and the block.
    waiting: VecDeque<(usize, u32, Block)>,
}

impl Doubtful {
    fn add(&mut self, due: usize, hash: u32, block: Block) {
        self.waiting.push_back((due, hash, block));
    }

    /// A block whose turn it is at `offset`, where a block has this hash.
    #[inline]
    fn confirmed(&mut self, offset: usize, hash: u32) -> Option<Block> {
        while let Some((due, wanted, block)) = self.waiting.front().copied() {
            if due > offset {
                return None;
            }
            self.waiting.pop_front();
            if (due, wanted) == (offset, hash) {
                return Some(block);
            }
        }
        None
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

    fn copy(&mut self, from: u64, more: u64) {
        match self.steps.last_mut() {
            Some(Step::Copy { from: before, len }) if *before + *len == from => *len += more,
            _ => self.steps.push(Step::Copy { from, len: more }),
        }
        self.at += usize::try_from(more).unwrap_or(usize::MAX);
        self.place = Some(from + more);
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
    fn zeros_beside_a_match_of_few_bits_prove_nothing() {
        // Blocks between zeros, so that the neighbours of each are like those of all others.
        let zeros = vec![0; 2 * BLOCK];
        let pages = |seed: u8, count: usize| -> Vec<u8> {
            let noise = noise(seed, count * BLOCK);
            noise.chunks(BLOCK).flat_map(|block| [block, &zeros].concat()).collect()
        };
        let (old, new) = (pages(11, 20_000), pages(12, 20_000));
        let (found, made) = steps(&old, &new, BLOCK, 16, Around::default());
        assert_eq!(made.len(), new.len());
        let wrong = found.iter().scan(0, |at, step| {
            let (Step::Copy { len, .. } | Step::Literal { len }) = *step;
            *at += len as usize;
            Some((*at, len as usize))
        });
        let wrong = wrong.filter(|(end, len)| made[end - len..*end] != new[end - len..*end]).count();
        assert_eq!(wrong, 0);
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

    #[test]
    fn blocks_beside_one_that_is_found_are_known_too() {
        let old = noise(7, 40_000);
        let new = [&noise(8, 500), &old[10_000..14_000], &noise(9, 300), &old[30_000..30_700], &noise(10, 90)].concat();
        let (rabin, mut hashes) = (Arc::new(rabin()), Vec::new());
        rabin.list(&old, BLOCK, &mut hashes);
        let hashing = Hashing { rabin, block: BLOCK, bits: 32 };
        let search = Search::of_some(hashing, &[(0, old.len() as u64)], hashes, |_| 4);
        let found = search.steps(&new, Around::default());
        assert_eq!(carry_out(&found, &old, &new), new);
        assert!(literal_bytes(&found) <= 890 + 4 * BLOCK as u64, "{found:?}");
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
