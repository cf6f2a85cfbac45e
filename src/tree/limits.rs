//! Bounds of the tree format: PROTOCOL.md, "Limits".
//!
//! Whoever decodes enforces them; what breaks one is [malformed](super::codec::Malformed) and is never stored.

/// Nesting levels of a MessagePack value.
pub const CODEC_DEPTH_MAX: usize = 8;
/// Bytes of one name (a component of a path).
pub const NAME_MAX: usize = 255;
/// Components of one path, and so directories below each other.
pub const PATH_DEPTH_MAX: usize = 1_024;
/// Bytes of a symbolic link's target.
pub const TARGET_MAX: usize = 4_095;
/// Bytes of one encoded entry.
pub const ENTRY_MAX: usize = 8 * 1024;
/// Optional attributes of one entry.
pub const ATTRIBUTES_MAX: usize = 64;
/// Items of one page.
pub const PAGE_ITEMS_MAX: usize = 256;
/// Items below which a page ends only because it is the last or the next item does not fit.
pub const PAGE_ITEMS_MIN: usize = 16;
/// Bytes of one encoded page.
pub const PAGE_BYTES_MAX: usize = 64 * 1024;
/// Bytes that the cut rule reserves for the head of a page.
pub const PAGE_HEAD_BYTES: usize = 5;
/// Levels of pages above each other; level 0 holds entries or chunks.
pub const PAGE_LEVELS_MAX: u8 = 8;
/// Bits of an item's key hash that are zero where a page ends: one item in 2^5.
pub const PAGE_CUT_BITS: u32 = 5;
/// Entries of one tree; nobody believes a head that says more.
pub const ENTRIES_MAX: u64 = 100_000_000;
/// Bytes of the payload of any signed object.
pub const SIGNED_PAYLOAD_MAX: usize = 4 * 1024;
/// Signatures on one signed object.
pub const SIGNATURES_MAX: usize = 16;
/// Bytes of an encoded signed envelope.
pub const ENVELOPE_MAX: usize = SIGNED_PAYLOAD_MAX + SIGNATURES_MAX * 128;
/// Keys of one role in a root file.
pub const KEYS_MAX: usize = 16;
/// Bytes of a module's name.
pub const MODULE_NAME_MAX: usize = 64;
/// Chunk ids by which a file is found that shares content with another; whoever is given more refuses them.
pub const SAMPLES_MAX: usize = 4;
