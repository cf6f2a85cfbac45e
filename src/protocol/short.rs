//! Short hashes, which only propose: chunks by six bytes, blocks of old bytes by three.
//!
//! Both are keyed by the hash of the channel's handshake, to which both ends have given random keys: whoever writes files
//! cannot prepare any that are taken for each other, and another connection has other hashes.

use super::limits::{
    BLOCK_HASH_LEN, BLOCK_LEN_MAX, BLOCK_MIN, BLOCKS_MAX, GAP_BYTES_MAX, GAPS_MAX, LOOK_BLOCKS_MAX, SHORT_LEN,
};
use crate::delta::blocks::{BLOCK, LARGE_BLOCK, MIDDLE_BLOCK, count};
use crate::delta::rabin::Rabin;
use crate::tree::chunker::Class;
use crate::tree::hash::ChunkId;

/// Bits of the hash of a block.
pub const BLOCK_BITS: u32 = 8 * BLOCK_HASH_LEN as u32;
const CHUNK_CONTEXT: &str = "mirra v1 short chunk ids";
const BLOCK_CONTEXT: &str = "mirra v1 short block hashes";

/// A chunk, named for one connection.
pub type Short = [u8; SHORT_LEN];

/// Names chunks for the connection whose handshake has the hash `binding`.
pub struct ShortIds {
    key: [u8; 32],
}

impl ShortIds {
    /// For one connection.
    #[must_use]
    pub fn new(binding: &[u8]) -> Self {
        Self { key: blake3::derive_key(CHUNK_CONTEXT, binding) }
    }

    /// The short id of a chunk.
    #[must_use]
    pub fn of(&self, chunk: &ChunkId) -> Short {
        let hash = blake3::keyed_hash(&self.key, chunk.as_bytes());
        let mut short = [0; SHORT_LEN];
        short.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        short
    }
}

/// The hash of blocks for the connection whose handshake has the hash `binding`.
#[must_use]
pub fn block_hashing(binding: &[u8]) -> Rabin {
    Rabin::new(&blake3::derive_key(BLOCK_CONTEXT, binding))
}

/// Hashes of blocks as they travel: the lower [`BLOCK_BITS`] of each, big-endian.
#[must_use]
pub fn pack_hashes(hashes: &[u32]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.to_be_bytes().into_iter().skip(4 - BLOCK_HASH_LEN)).collect()
}

/// As they came; what is left over is not looked at.
#[must_use]
pub fn unpack_hashes(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<BLOCK_HASH_LEN>().0.iter().map(|[a, b, c]| u32::from_be_bytes([0, *a, *b, *c])).collect()
}

/// Old bytes: where they begin, and how many they are.
pub type Gap = (u64, u64);

/// Whether blocks of the old bytes of a file are worth their bytes. Data that does not shrink mostly shares whole chunks with
/// its old version or nothing, unless it was changed in place: then it shares half of its bytes, or has as many as before.
#[must_use]
pub fn is_worth_a_look(class: Class, size: u64, old_size: u64, shared: u64) -> bool {
    class == Class::Fine || size == old_size || shared.saturating_mul(2) >= size
}

/// What a first look is made at: the length of its blocks, and of `gaps` those that ascend and that have room, the others
/// empty. Blocks are as long as they must be for [`BLOCKS_MAX`] of them to do.
#[must_use]
pub fn first_look(gaps: impl Iterator<Item = Option<Gap>>) -> (u32, Vec<Gap>) {
    let (mut end, mut bytes) = (0, 0u64);
    let mut chosen: Vec<Gap> = gaps
        .take(GAPS_MAX)
        .map(|gap| {
            let fits = |(start, len): &Gap| *start >= end && bytes.saturating_add(*len) <= GAP_BYTES_MAX;
            let Some((start, len)) = gap.filter(fits) else { return (end, 0) };
            (end, bytes) = (start + len, bytes + len);
            (start, len)
        })
        .collect();
    let mut block = if bytes <= (LOOK_BLOCKS_MAX * BLOCK) as u64 { LARGE_BLOCK } else { MIDDLE_BLOCK };
    // Each gap may have a short block at its end.
    let ends = chosen.len() as u64;
    while block < BLOCK_LEN_MAX && bytes / block as u64 + ends > BLOCKS_MAX as u64 {
        block *= 2;
    }
    let mut blocks = 0;
    for gap in &mut chosen {
        let own = count(gap.1, block);
        if blocks + own > BLOCKS_MAX as u64 {
            gap.1 = 0;
        } else {
            blocks += own;
        }
    }
    (block as u32, chosen)
}

/// Gaps as they travel: how far each begins behind the end of the one before it, and its length.
#[must_use]
pub fn pack_gaps(gaps: &[Gap]) -> Vec<u64> {
    let mut end = 0;
    let mut packed = Vec::with_capacity(2 * gaps.len());
    for (start, len) in gaps {
        packed.extend([start.saturating_sub(end), *len]);
        end = start.saturating_add(*len);
    }
    packed
}

/// Gaps as they came, and how many blocks they have; `None` if they break a bound.
#[must_use]
pub fn unpack_gaps(packed: &[u64], block: u32, blocks_max: usize) -> Option<(Vec<Gap>, usize)> {
    let block = block as usize;
    let (pairs, rest) = packed.as_chunks::<2>();
    if !block.is_power_of_two() || !(BLOCK_MIN..=BLOCK_LEN_MAX).contains(&block) || !rest.is_empty() {
        return None;
    }
    if pairs.len() > GAPS_MAX {
        return None;
    }
    let (mut end, mut bytes, mut blocks) = (0u64, 0u64, 0u64);
    let mut gaps = Vec::with_capacity(pairs.len());
    for [behind, len] in pairs {
        let start = end.checked_add(*behind)?;
        end = start.checked_add(*len).filter(|end| i64::try_from(*end).is_ok())?;
        bytes = bytes.checked_add(*len).filter(|bytes| *bytes <= GAP_BYTES_MAX)?;
        blocks += count(*len, block);
        gaps.push((start, *len));
    }
    usize::try_from(blocks).ok().filter(|blocks| *blocks <= blocks_max).map(|blocks| (gaps, blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_their_own_names() {
        let chunk = ChunkId::of(b"chunk");
        assert_eq!(ShortIds::new(b"one").of(&chunk), ShortIds::new(b"one").of(&chunk));
        assert_ne!(ShortIds::new(b"one").of(&chunk), ShortIds::new(b"two").of(&chunk));
        assert_ne!(block_hashing(b"one").of(b"block"), block_hashing(b"two").of(b"block"));
    }

    #[test]
    fn hashes_and_gaps_round_trip() {
        assert_eq!(unpack_hashes(&pack_hashes(&[0x0102_0304, 5, 0xffff_ffff])), [0x02_0304, 5, 0x00ff_ffff]);
        let gaps = [(0, 0), (5, 1_000), (1_005, 1), (70_000, 128)];
        let (back, blocks) = unpack_gaps(&pack_gaps(&gaps), 128, BLOCKS_MAX).unwrap();
        assert_eq!((back.as_slice(), blocks), (&gaps[..], 8 + 1 + 1));
    }

    #[test]
    fn a_first_look_is_one_that_is_allowed() {
        let allowed = |gaps: &[Gap]| {
            let (block, chosen) = first_look(gaps.iter().copied().map(Some));
            assert_eq!(chosen.len(), gaps.len().min(GAPS_MAX));
            let (back, _) = unpack_gaps(&pack_gaps(&chosen), block, BLOCKS_MAX).unwrap();
            assert!(back.iter().zip(&chosen).all(|(back, chosen)| back == chosen || chosen.1 == 0));
            (block, chosen.iter().map(|gap| gap.1).sum::<u64>())
        };
        assert_eq!(allowed(&[(0, 10_000), (20_000, 1)]), (1_024, 10_001));
        assert_eq!(allowed(&[(0, 32 << 20)]), (1_024, 32 << 20));
        assert_eq!(allowed(&[(0, (32 << 20) + 1)]), (256, (32 << 20) + 1));
        assert_eq!(allowed(&[(0, 100 << 20)]), (512, 100 << 20));
        assert_eq!(allowed(&[(0, 200 << 20)]), (1_024, 200 << 20));
        assert_eq!(allowed(&[(0, GAP_BYTES_MAX), (GAP_BYTES_MAX, 1)]).1, GAP_BYTES_MAX);
        // Out of order, and with so many short ones that not all have room.
        assert_eq!(allowed(&[(5_000, 100), (0, 100)]).1, 100);
        let many: Vec<Gap> = (0..70_000).map(|n| (n * 8_192, 4_097)).collect();
        assert!(allowed(&many).1 < GAP_BYTES_MAX);
    }

    #[test]
    fn gaps_beyond_a_bound_are_none() {
        let most = GAP_BYTES_MAX;
        assert!(unpack_gaps(&[0, most], 4_096, BLOCKS_MAX).is_some());
        assert!(unpack_gaps(&[0, most, 0, 1], 4_096, BLOCKS_MAX + 1).is_none());
        assert!(unpack_gaps(&[0, most], 512, BLOCKS_MAX).is_none());
        assert!(unpack_gaps(&[0, 128 * BLOCKS_MAX as u64 + 1], 128, BLOCKS_MAX).is_none());
        assert!(unpack_gaps(&vec![0; 2 * GAPS_MAX], 128, BLOCKS_MAX).is_some());
        assert!(unpack_gaps(&vec![0; 2 * GAPS_MAX + 2], 128, BLOCKS_MAX).is_none());
        for wrong in [&[u64::MAX, 1][..], &[0, 1, 2], &[i64::MAX as u64, 1]] {
            assert!(unpack_gaps(wrong, 128, BLOCKS_MAX).is_none(), "{wrong:?}");
        }
        for block in [0, 64, 100, 8_192] {
            assert!(unpack_gaps(&[0, 1], block, BLOCKS_MAX).is_none(), "{block}");
        }
    }
}
