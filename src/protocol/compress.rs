//! Literals as zstd frames: whether they are packed at all, and with which parameters.
//!
//! What a frame was made with does not matter to who reads it: any frame of the right length with the right history is
//! right, so all of this may change without a word to anybody.

use zstd::zstd_safe::CParameter;

use super::packed::{pack_tuned, pack_with};

/// How hard literals are packed: zstd's level; 0 leaves them as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

/// Literals as one zstd frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    /// The frame.
    pub frame: Vec<u8>,
    /// Whether the prefix is its history: without, the frame is read with none.
    pub uses_prefix: bool,
}

/// Bytes of literals up to which they are packed with the prefix and without it, and the smaller is taken: a prefix of
/// another kind than what follows costs more than it gives.
const BOTH_WAYS_MAX: usize = 1024 * 1024;
/// Bytes of literals up to which they are packed without looking at a sample first.
const SAMPLED_FROM: usize = 64 * 1024;
/// Places from which a sample is taken, and bytes of each.
const SAMPLE_PLACES: usize = 8;
const SAMPLE_PLACE_LEN: usize = 4 * 1024;

impl Level {
    /// No packing.
    pub const NONE: Self = Self(0);
    /// For lines that are faster than packing.
    pub const FAST: Self = Self(3);
    /// For what is small, and for slow lines.
    pub const THOROUGH: Self = Self(9);
    /// The highest.
    pub const MAX: Self = Self(19);

    /// The level of that number; `None` above [`MAX`](Self::MAX).
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (number <= Self::MAX.0).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// The library's level, and tables smaller than its own where those would take tens of megabytes a frame: on batches
    /// of a few megabytes they give 1 % at most, and cost time.
    fn tuned(self) -> (i32, Vec<CParameter>) {
        use CParameter::{ChainLog, HashLog, SearchLog};
        match self.0 {
            0..=6 => (i32::from(self.0), Vec::new()),
            7..=12 => (i32::from(self.0), vec![HashLog(18), ChainLog(18)]),
            // Here the library has a slow search that gains next to nothing; optimal parsing with a short one is better.
            13..=16 => (16, vec![HashLog(18), ChainLog(19), SearchLog(u32::from(self.0 - 11))]),
            _ => (i32::from(self.0), vec![HashLog(19), ChainLog(20)]),
        }
    }

    /// As [`tuned`](Self::tuned), for a stream: its tables are made once, and have to reach over its window. In a long history
    /// short matches crowd out the long ones that are farther away.
    pub(super) fn for_streams(self) -> (i32, Vec<CParameter>) {
        use CParameter::{ChainLog, HashLog, MinMatch, SearchLog};
        let level = i32::from(self.0);
        match self.0 {
            0..=5 => (level, Vec::new()),
            6 => (level, vec![HashLog(20), ChainLog(20), MinMatch(6)]),
            7..=12 => (level, vec![HashLog(21), MinMatch(6)]),
            13..=16 => (16, vec![HashLog(20), ChainLog(21), SearchLog(u32::from(self.0 - 12)), MinMatch(6)]),
            _ => (level, vec![HashLog(20), ChainLog(21), MinMatch(6)]),
        }
    }
}

/// The literals as a zstd frame with `prefix` as its history, or `None` where they do not shrink.
#[must_use]
pub fn literals(literals: &[u8], prefix: &[u8], level: Level) -> Option<Packed> {
    if level == Level::NONE {
        return None;
    }
    let pack = |prefix: &[u8]| {
        let (zstd, tables) = level.tuned();
        let frame = pack_tuned(literals, zstd, &tables, prefix)?;
        Some(Packed { frame, uses_prefix: !prefix.is_empty() })
    };
    let with = pack(prefix);
    let without = if prefix.is_empty() || literals.len() > BOTH_WAYS_MAX { None } else { pack(&[]) };
    let smallest = [with, without].into_iter().flatten().min_by_key(|packed| packed.frame.len());
    smallest.filter(|packed| packed.frame.len() < literals.len())
}

/// Whether it is worth the time to try to pack literals at that level: a sample of many is looked at.
#[must_use]
pub fn is_worth_it(literals: &[u8], level: Level) -> bool {
    level != Level::NONE && (literals.len() <= SAMPLED_FROM || shrinks(literals))
}

/// Whether a sample of the data shrinks by 3 % at least.
#[must_use]
pub fn shrinks(data: &[u8]) -> bool {
    let apart = data.len() / SAMPLE_PLACES;
    let sample: Vec<u8> =
        data.chunks(apart.max(1)).flat_map(|part| part.iter().take(SAMPLE_PLACE_LEN)).copied().collect();
    pack_with(&sample, 1, &[]).is_some_and(|packed| packed.len() * 100 < sample.len() * 97)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::packed::unpack_exactly;

    pub(in crate::protocol) fn noise(seed: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn text(len: usize) -> Vec<u8> {
        (0..)
            .flat_map(|i: u32| format!("line {} of some text\n", i.wrapping_mul(2_654_435_761)).into_bytes())
            .take(len)
            .collect()
    }

    fn read(packed: &Packed, prefix: &[u8], len: usize) -> Option<Vec<u8>> {
        unpack_exactly(&packed.frame, len, if packed.uses_prefix { prefix } else { &[] })
    }

    #[test]
    fn every_level_gives_what_was_packed() {
        let (data, prefix) = (text(200_000), text(9_000));
        for number in 1..=Level::MAX.number() {
            let packed = literals(&data, &prefix, Level::new(number).unwrap()).unwrap();
            assert_eq!(read(&packed, &prefix, data.len()).as_deref(), Some(&data[..]), "{number}");
        }
        assert_eq!(literals(&data, &prefix, Level::NONE), None);
        assert_eq!(Level::new(20), None);
    }

    #[test]
    fn noise_stays_as_it_is() {
        for len in [0, 1, 100, 70_000, 3_000_000] {
            assert_eq!(literals(&noise(1, len), &[], Level::FAST), None, "{len}");
        }
    }

    #[test]
    fn a_little_that_shrinks_among_much_that_does_not_is_still_packed() {
        let mut data = noise(1, 900_000);
        data.extend(text(400_000));
        data.extend(noise(2, 700_000));
        let packed = literals(&data, &[], Level::FAST).unwrap();
        assert!(packed.frame.len() < 1_750_000, "{}", packed.frame.len());
        assert_eq!(read(&packed, &[], data.len()), Some(data));
    }

    #[test]
    fn a_prefix_is_used_where_it_helps_and_only_there() {
        // In memory of its own: the compressor takes what overlaps its input for overwritten.
        let (data, prefix) = (noise(1, 40_000), noise(1, 39_000));
        let near = literals(&data, &prefix, Level::THOROUGH).unwrap();
        assert!(near.uses_prefix && near.frame.len() < 2_000);
        assert_eq!(read(&near, &prefix, data.len()), Some(data));
        let zeros = vec![0; 20_000];
        let far = literals(&zeros, &noise(2, 8_000), Level::THOROUGH).unwrap();
        assert_eq!(read(&far, &noise(2, 8_000), zeros.len()), Some(zeros));
    }
}
