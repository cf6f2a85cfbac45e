//! Lists of blocks: the hashes of pieces of old bytes, made by the one who has them.

use super::rabin::Rabin;

/// Bytes of a block in the lists that a root keeps of its files, and in a second look.
pub const BLOCK: usize = 128;
/// Bytes of a block in a first look at what can all be looked at a second time.
pub const LARGE_BLOCK: usize = 1_024;
/// Bytes of a block in a first look at more than that: most of it is looked at once.
pub const MIDDLE_BLOCK: usize = 256;

/// How many blocks `len` bytes have: the last one may be shorter.
#[must_use]
pub const fn count(len: u64, block: usize) -> u64 {
    len.div_ceil(block as u64)
}

impl Rabin {
    /// Appends the hashes of the blocks of `bytes`, of `block` bytes each but for the last.
    pub fn list(&self, bytes: &[u8], block: usize, hashes: &mut Vec<u32>) {
        let mut blocks = bytes.chunks(block);
        while let Some(first) = blocks.next() {
            match (blocks.next(), blocks.next(), blocks.next()) {
                (Some(second), Some(third), Some(fourth)) => {
                    hashes.extend(self.of_several([first, second, third, fourth]));
                }
                some => {
                    hashes.push(self.of(first));
                    hashes.extend([some.0, some.1, some.2].into_iter().flatten().map(|block| self.of(block)));
                }
            }
        }
    }
}

/// Old bytes that stand together, and the hashes of their blocks.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
    /// Where they begin in the old file.
    pub start: u64,
    /// How many they are.
    pub len: u64,
    /// [`count`] hashes.
    pub hashes: &'a [u32],
}

/// Bytes of a file up to which it has a list of [`BLOCK`]s.
const SMALL_BLOCKS_TO: u64 = 1 << 30;
/// Bytes of a file up to which it has a list at all: of [`LARGE_BLOCK`]s. A list is 32 MiB at most.
const LARGE_BLOCKS_TO: u64 = 8 << 30;
/// Bytes of a file from which it has one: a smaller one is sent whole for less.
const LISTED_FROM: u64 = 1_024;

/// Bytes of a block in the list that is kept of a file of `size` bytes, if one is. The list has the blocks of each chunk
/// of the file, in order, four bytes each: a chunk begins with a block of its own.
#[must_use]
pub const fn kept_block(size: u64) -> Option<usize> {
    if size < LISTED_FROM || size > LARGE_BLOCKS_TO {
        return None;
    }
    Some(if size <= SMALL_BLOCKS_TO { BLOCK } else { LARGE_BLOCK })
}
