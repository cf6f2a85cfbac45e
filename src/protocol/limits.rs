//! Every bound of the protocol, one constant each.

// Messages

/// Bytes of a request or a small answer.
pub const REQUEST_MAX: u32 = 64 * 1024;
/// Bytes of a state answer: root files, head and beat.
pub const STATE_MAX: u32 = 1024 * 1024;
/// Root files in one state answer; a longer chain is asked for again from where it ended.
pub const STATE_ROOTS_MAX: usize = 64;
/// Modules that one list answer names.
pub const MODULES_MAX: usize = 10_000;
/// Bytes of the title of a module.
pub const TITLE_MAX: usize = 256;
/// Bytes of one message of packed records on the wire and unpacked: changes and pages.
pub const PACKED_MAX: u32 = 2 * 1024 * 1024;
/// Bytes of changes or pages that the sender gathers before it packs them.
pub const PACKED_TARGET: usize = 512 * 1024;
/// References that a sender remembers between two rounds of a descent; beyond, the stream is reset and the receiver
/// asks for all entries instead.
pub const DESCENT_REFERENCES_MAX: usize = 2_000_000;
/// Bytes of a bitmap of wanted references: one bit each.
pub const WANT_MAX: u32 = (DESCENT_REFERENCES_MAX / 8 + 1) as u32;
/// Paths in one message that asks for lists or content.
pub const PATHS_MAX: usize = 4_096;
/// Bytes of one message that asks for lists or content.
pub const PATHS_BYTES_MAX: u32 = 1024 * 1024;
/// Chunks in one message of a chunk list.
pub const CHUNKS_MAX: usize = 16_384;
/// Bytes of one message of a chunk list.
pub const CHUNKS_BYTES_MAX: u32 = 1024 * 1024;
/// References to leaf pages in one message.
pub const LEAVES_MAX: usize = 4_096;

// Batches of content

/// Bytes of literals that a sender gathers in one batch.
pub const BATCH_TARGET: usize = 2 * 1024 * 1024;
/// Bytes of literals in one batch, at most.
pub const BATCH_LITERALS_MAX: usize = 8 * 1024 * 1024;
/// Steps in one batch.
pub const BATCH_STEPS_MAX: usize = 65_536;
/// Bytes of the encoded steps of one batch.
pub const BATCH_STEPS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of matched data that stand on one side of a literal run in the prefix of a batch.
pub const CONTEXT_LEN: usize = 4 * 1024;
/// Bytes of the prefix of one batch.
pub const BATCH_PREFIX_MAX: usize = 8 * 1024 * 1024;
/// Bytes of the head of a batch.
pub const BATCH_HEAD_LEN: usize = 13;
/// Bytes of one batch on the wire.
pub const BATCH_MAX: u32 = (BATCH_HEAD_LEN + BATCH_STEPS_BYTES_MAX + BATCH_LITERALS_MAX + 64 * 1024) as u32;
