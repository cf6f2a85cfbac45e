//! What the receiver is asked for of its old bytes, and the search by what it says.

use std::sync::Arc;

use super::layout::{Part, Run};
use super::stored::Stored;
use crate::delta::blocks::{BLOCK, Range, count};
use crate::delta::diff::{Around, Hashing, Search, Step};
use crate::delta::rabin::Rabin;
use crate::protocol::compress::shrinks;
use crate::protocol::limits::{BLOCK_HASH_LEN, GAPS_MAX, LOOK_BLOCKS_MAX};
use crate::protocol::short::{BLOCK_BITS, Gap, first_look, unpack_hashes};

/// New bytes from which a second look is worth its question.
const SECOND_FROM: u64 = 256;
/// Blocks of the first look up to which the old bytes are looked at again although little around them was found.
const SECOND_BLOCKS: u64 = 16;
/// Of the new bytes of a run, the share that must have been found for a second look at more than that.
const FOUND_SHARE: u64 = 8;

/// The search for the blocks of `gaps`, whose hashes came as `hashes`; `None` when they are not as many as they should be.
pub(super) fn search(rabin: Arc<Rabin>, block: u32, gaps: &[Gap], hashes: &[u8]) -> Option<Search> {
    let whole = hashes.len().is_multiple_of(BLOCK_HASH_LEN);
    let (block, hashes) = (block as usize, unpack_hashes(hashes));
    let (mut ranges, mut rest) = (Vec::with_capacity(gaps.len()), hashes.as_slice());
    for (start, len) in gaps {
        let (own, behind) = rest.split_at_checked(usize::try_from(count(*len, block)).ok()?)?;
        rest = behind;
        if *len > 0 {
            ranges.push(Range { start: *start, len: *len, hashes: own });
        }
    }
    (rest.is_empty() && whole).then(|| Search::new(Hashing { rabin, block, bits: BLOCK_BITS }, &ranges))
}

/// The gaps of a file whose old version nobody here has, and the length of their blocks: what a first look asks for.
pub(super) fn first(parts: &[Part]) -> (u32, Vec<Gap>) {
    let mut last = None;
    let gaps = parts.iter().filter_map(|part| if let Part::Run(run) = part { Some(run.gap) } else { None });
    // The parts of a long run have one gap.
    let (block, gaps) = first_look(gaps.filter(|gap| std::mem::replace(&mut last, *gap) != *gap));
    (block, gaps.into_iter().filter(|gap| gap.1 > 0).collect())
}

/// Searches all runs; `None` when their content is gone.
pub(super) fn find(search: &Search, stored: &Stored<'_>, parts: &mut [Part]) -> Option<()> {
    for part in parts {
        if let Part::Run(run) = part {
            run.steps = search.steps(&run.read(stored)?, run.around);
        }
    }
    Some(())
}

/// What is looked at a second time: the old bytes in whose place new ones stand between two copies, as far as there is
/// something to be won. Marks the runs, and gives the gaps.
pub(super) fn second(stored: &Stored<'_>, parts: &mut [Part], block: u32) -> Vec<Gap> {
    let (mut gaps, mut end, mut blocks) = (Vec::new(), 0, 0);
    for part in parts {
        let Part::Run(run) = part else { continue };
        let residues = run.residues(u64::from(block));
        if residues.is_empty() {
            continue;
        }
        let Some(bytes) = run.read(stored) else { continue };
        for (step, at, len, gap) in residues {
            let own = count(gap.1, BLOCK);
            let fits = blocks + own <= LOOK_BLOCKS_MAX as u64 && gaps.len() < GAPS_MAX;
            let new = usize::try_from(at).ok().zip(usize::try_from(len).ok());
            let new = new.and_then(|(at, len)| bytes.get(at..at + len)).unwrap_or_default();
            if gap.0 >= end && fits && shrinks(new) {
                (end, blocks) = (gap.0 + gap.1, blocks + own);
                gaps.push(gap);
                run.second.push((step, gap));
            }
        }
    }
    gaps
}

impl Run {
    /// The bytes of the run; `None` when some are gone.
    pub(super) fn read(&self, stored: &Stored<'_>) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.len).ok()?);
        for chunk in &self.chunks {
            bytes.extend_from_slice(&stored.read(chunk, self.at + bytes.len() as u64)?);
        }
        Some(bytes)
    }

    /// The literals between two copies: number of the step, place in the run, length, and the old bytes they replace.
    fn residues(&self, block: u64) -> Vec<(usize, u64, u64, Gap)> {
        let found: u64 = self.steps.iter().map(|step| if let Step::Copy { len, .. } = step { *len } else { 0 }).sum();
        let much = found * FOUND_SHARE >= self.len;
        let (mut all, mut at, mut before) = (Vec::new(), 0, self.around.before);
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Copy { from, len } => {
                    before = Some(*from + *len);
                    at += len;
                }
                Step::Literal { len } => {
                    let after = match self.steps.get(number + 1) {
                        Some(Step::Copy { from, .. }) => Some(*from),
                        _ => self.around.after,
                    };
                    let gap = before.zip(after).and_then(|(before, after)| Some((before, after.checked_sub(before)?)));
                    if let Some(gap) = gap
                        && gap.1 > 0
                        && *len >= SECOND_FROM
                        && (much || gap.1 <= SECOND_BLOCKS * block)
                    {
                        all.push((number, at, *len, gap));
                    }
                    at += len;
                }
            }
        }
        all
    }

    /// The steps with what the second look has found.
    pub(super) fn refined(&self, bytes: &[u8], second: Option<&Search>) -> Vec<Step> {
        let Some(second) = second.filter(|_| !self.second.is_empty()) else { return self.steps.clone() };
        let (mut all, mut at, mut marks) = (Vec::new(), 0usize, self.second.iter().peekable());
        for (number, step) in self.steps.iter().enumerate() {
            let (Step::Copy { len, .. } | Step::Literal { len }) = step;
            let len = usize::try_from(*len).unwrap_or(0);
            match marks.next_if(|(marked, _)| *marked == number) {
                Some((_, (start, gap))) => {
                    let around = Around { before: Some(*start), after: Some(*start + *gap) };
                    all.extend(second.steps(bytes.get(at..at + len).unwrap_or_default(), around));
                }
                None => all.push(*step),
            }
            at += len;
        }
        all
    }
}
