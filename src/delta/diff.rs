//! The search: which pieces of new bytes are blocks of old ones.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::blocks::{Range, count};
use super::rabin::{Rabin, Window};

/// Blocks of one hash that are tried at one place.
const CANDIDATES_MAX: usize = 8;
/// Bytes after which something may repeat that is known to: zeros, characters and numbers of the usual sizes.
const PERIOD_MAX: usize = 8;
/// Bits of [`Filter`] for each block.
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
        self.block_near(from, &mut 0)
    }

    /// As [`block_at`](Self::block_at), where the range is most often the one that was the last.
    fn block_near(&self, from: u64, last: &mut usize) -> Option<Block> {
        let is_in = |at: usize| {
            self.ranges.get(at).is_some_and(|range| range.start <= from)
                && self.ranges.get(at + 1).is_none_or(|next| from < next.start)
        };
        if !is_in(*last) {
            *last = self.ranges.partition_point(|range| range.start <= from).checked_sub(1)?;
        }
        let range = self.ranges.get(*last)?;
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
                while found.is_none()
                    && offset > doubtful.tried_to
                    && let Some((offset, hash)) = doubtful.over(offset)
                {
                    found = self.candidate(new, made, offset, hash, sure, &mut doubtful).map(|b| (offset, b));
                }
                if found.is_none() && self.filter.may_have(hash) && self.last.contains_key(&hash) {
                    found = self.in_place(new, made, offset, hash, around, &mut doubtful).map(|b| (offset, b));
                    if found.is_none() && !doubtful.repeats(offset, hash) {
                        found = self.candidate(new, made, offset, hash, sure, &mut doubtful).map(|b| (offset, b));
                    }
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

    /// The block that stands `offset` behind what is made, if it is where it would be after a change in place.
    fn in_place(
        &self,
        new: &[u8],
        made: &Made,
        offset: usize,
        hash: u32,
        around: Around,
        doubtful: &mut Doubtful,
    ) -> Option<Block> {
        let behind_last = made.place.map(|place| place + offset as u64);
        let before_next = around.after.and_then(|after| after.checked_sub((new.len() - made.at - offset) as u64));
        let places = [behind_last, before_next].into_iter().zip(&mut doubtful.near);
        let mut blocks = places.filter_map(|(place, near)| self.block_near(place?, near));
        blocks.find(|block| block.hash == hash && block.len == self.hashing.block as u64)
    }

    /// The block that stands `offset` behind what is made: one whose neighbour agrees too. Where hashes are short there are so
    /// many chance matches that the neighbour is not hashed for each: its turn comes when the window is there.
    fn candidate(
        &self,
        new: &[u8],
        made: &Made,
        offset: usize,
        hash: u32,
        sure: bool,
        doubtful: &mut Doubtful,
    ) -> Option<Block> {
        let at = made.at + offset;
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
    /// The last places where a block may stand by its hash, ascending.
    tried: VecDeque<Tried>,
    /// Up to where the first of them may be repeated.
    tried_to: usize,
    /// The ranges that were looked at last, behind the last copy and before what follows.
    near: [usize; 2],
}

impl Doubtful {
    fn add(&mut self, due: usize, hash: u32, block: Block) {
        // What was put off is due before what was tried meanwhile.
        let at = self.waiting.partition_point(|(other, ..)| *other <= due);
        self.waiting.insert(at, (due, hash, block));
    }

    /// Whether a place shortly before had the same hash, as in zeros and in all that repeats after a few bytes. It is put off
    /// then: of such places only the first and the last are tried.
    fn repeats(&mut self, offset: usize, hash: u32) -> bool {
        let before = self.tried.iter().position(|tried| tried.hash == hash).and_then(|at| self.tried.remove(at));
        let put_off = before.is_some();
        self.tried.push_back(Tried { offset, hash, put_off });
        self.look_ahead();
        put_off
    }

    /// A place that was put off and is the last with its hash, as seen from `offset`.
    fn over(&mut self, offset: usize) -> Option<(usize, u32)> {
        let mut over = None;
        while over.is_none()
            && let Some(tried) = self.tried.pop_front_if(|tried| tried.offset + PERIOD_MAX < offset)
        {
            over = tried.put_off.then_some((tried.offset, tried.hash));
        }
        self.look_ahead();
        over
    }

    fn look_ahead(&mut self) {
        self.tried_to = self.tried.front().map_or(usize::MAX, |tried| tried.offset + PERIOD_MAX);
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

/// A place where a block may stand by its hash.
struct Tried {
    offset: usize,
    hash: u32,
    /// Whether it is still to be tried.
    put_off: bool,
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
        let (word, bits) = self.place(hash);
        if let Some(word) = self.bits.get_mut(word) {
            *word |= bits;
        }
    }

    #[inline]
    fn may_have(&self, hash: u32) -> bool {
        let (word, bits) = self.place(hash);
        self.bits.get(word).is_some_and(|word| word & bits == bits)
    }

    /// The word of a hash, and its two bits there: one word is one look at the memory.
    #[inline]
    fn place(&self, hash: u32) -> (usize, u64) {
        let place = hash as usize & self.mask;
        (place / 64, 1 << (place % 64) | 1 << (hash.wrapping_mul(0x9e37_79b9) >> 26))
    }
}

#[cfg(test)]
mod tests;
