//! Every bound of the protocol, one constant each.
//!
//! Each says its unit, who enforces it, and what happens beyond it. "Ends" means that the
//! connection ends with an error.

use super::brief::REST_LEN;
use crate::tree::limits::PAGE_ITEMS_MAX;

// Handshake

/// Bytes of handshake message 1, exactly; the responder closes on any other size.
pub const MESSAGE_1_LEN: usize = 32;
/// Bytes of handshake message 2; the initiator closes on a longer one.
pub const MESSAGE_2_MAX: usize = 2 * 1024;
/// Bytes of handshake message 3; the responder closes on a longer one.
pub const MESSAGE_3_MAX: usize = 1024;
/// Bytes that messages 2 and 3 have beside their payload: one key in the clear, one sealed key,
/// and the tag of the payload.
pub const MESSAGE_2_OVERHEAD: usize = 32 + 48 + 16;
/// As [`MESSAGE_2_OVERHEAD`], for message 3, which has no key in the clear.
pub const MESSAGE_3_OVERHEAD: usize = 48 + 16;
/// Milliseconds from accept to message 3, absolute; the responder closes when they are over.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;

// Hello payloads; the decoder refuses more of each, and the handshake fails.

/// Features in one hello.
pub const HELLO_FEATURES_MAX: usize = 64;
/// Limits in one hello.
pub const HELLO_LIMITS_MAX: usize = 32;
/// Extensions in one hello.
pub const HELLO_EXTENSIONS_MAX: usize = 16;
/// Bytes of the certificate in a hello.
pub const HELLO_CERTIFICATE_MAX: usize = 512;

// Keys

/// Records between two REKEYs of one direction; counted by both ends, never signalled.
pub const REKEY_RECORDS: u64 = 1 << 16;
/// Records of one direction; the sending end closes before it, the opening end refuses more.
pub const RECORDS_MAX: u64 = 1 << 32;

// Records

/// Bytes of the authentication tag at the end of each record.
pub const TAG_LEN: usize = 16;
/// Bytes of the header (type and stream) in each record.
pub const RECORD_HEADER_LEN: usize = 5;
/// Smallest length field of a record: header and tag. Less ends.
pub const RECORD_LEN_MIN: usize = RECORD_HEADER_LEN + TAG_LEN;
/// Largest length field of a record: what its two bytes can say.
pub const RECORD_LEN_MAX: usize = 65_535;
/// Largest body of a record, in bytes.
pub const RECORD_BODY_MAX: usize = RECORD_LEN_MAX - RECORD_LEN_MIN;
/// Smallest bound that an application may set for the bodies it sends, in bytes.
pub const RECORD_BODY_FLOOR: usize = 1024;

// Streams and messages

/// Bytes before the body of each message: tag and length.
pub const MESSAGE_HEADER_LEN: usize = 5;
/// First message tag that a receiver skips when it does not know it; lower ones end.
pub const TAG_SKIPPABLE: u8 = 128;
/// Streams opened by one side and not ended; the other side ends on one more.
pub const STREAMS_MAX: usize = 64;
/// Messages given out and not yet released, per connection; above it no input is taken, so
/// that tiny messages cannot cost more memory than their bytes were worth.
pub const MESSAGES_HELD_MAX: usize = 16_384;

// Credit

/// Bytes each direction of a stream may carry before the first grant.
pub const CREDIT_INITIAL: u32 = 256 * 1024;
/// Smallest grant in bytes; a smaller one ends, unless the granted direction is ending.
pub const CREDIT_MIN: u32 = 16 * 1024;
/// Bytes of window that a stream direction may grow to; kept by the granting side.
pub const STREAM_WINDOW_MAX: u32 = 4 * 1024 * 1024;
/// Bytes granted or held for all streams of a connection; kept by the granting side. One
/// message in assembly may go beyond it, so that a connection cannot come to a standstill.
pub const CONNECTION_WINDOW_MAX: u64 = 32 * 1024 * 1024;
/// CREDIT records that may come beyond one per [`CREDIT_MIN`] bytes of data sent; more end.
pub const CREDIT_RECORDS_SPARE: u64 = 256;

// Control stream and floods

/// Bytes of the body of a control message, whatever its tag allows elsewhere; a longer one ends.
pub const CONTROL_BODY_MAX: u32 = 4 * 1024;
/// Control messages that may come at once; the receiver ends on more.
pub const CONTROL_BURST: u32 = 512;
/// Control messages per second in the long run; the sender keeps to half of both by itself.
pub const CONTROL_PER_SECOND: u32 = 64;
/// PING questions that may come at once; the receiver ends on more.
pub const PING_BURST: u32 = 16;
/// Milliseconds until one more PING question is allowed.
pub const PING_REFILL_MS: u32 = 625;
/// RESETs of streams that the resetting side opened itself, at once; the receiver ends on more.
pub const RESET_BURST: u32 = 512;
/// RESETs of such streams per second in the long run.
pub const RESET_PER_SECOND: u32 = 32;

// Timers, in milliseconds

/// Silence after which a side asks with a PING.
pub const PING_IDLE_MS: u64 = 30_000;
/// Silence after which a side ends the connection.
pub const SILENCE_MS_MAX: u64 = 120_000;
/// Span over which the drain rate is taken.
pub const DRAIN_SPAN_MS: u64 = 60_000;
/// Bytes that must leave in one [`DRAIN_SPAN_MS`] while bytes wait with credit; less ends.
pub const DRAIN_BYTES_MIN: u64 = 60 * 1024;
/// Time for which all waiting streams may be without credit; longer ends.
pub const CREDIT_STALL_MS_MAX: u64 = 300_000;
/// Age at which a connection is closed; a new handshake brings new keys.
pub const LIFETIME_MS_MAX: u64 = 24 * 60 * 60 * 1000;

// Accepting, kept by the listener: what is beyond is closed without an answer.

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Connections at once of one address (IPv4 /32, IPv6 /64).
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// Handshakes at once.
pub const HANDSHAKES_MAX: usize = 256;
/// Handshakes at once of one address.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 16;
/// New connections of one address at once.
pub const ACCEPT_BURST: u32 = 40;
/// New connections of one address per second in the long run.
pub const ACCEPT_PER_SECOND: u32 = 20;
/// Addresses remembered for these counts; when all are busy, new addresses are refused.
pub const ADDRESSES_MAX: usize = 65_536;

// Queues between the channel and the application

/// Bytes queued for sending on one stream above which its sender waits.
pub const SEND_QUEUE_MARK: usize = 1024 * 1024;
/// Control messages queued for sending above which their sender waits.
pub const CONTROL_QUEUE_MARK: usize = 64 * 1024;

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
/// Bytes of the name by which a mirra wants to be shown where it follows.
pub const FOLLOW_NAME_MAX: usize = 64;
/// Bytes of one message of packed records on the wire and unpacked: changes and pages.
pub const PACKED_MAX: u32 = 2 * 1024 * 1024;
/// Bytes of changes or pages that the sender gathers before it packs them.
pub const PACKED_TARGET: usize = 512 * 1024;
/// Bytes of all paths of one message of changes, written out; the receiver refuses more.
pub const CHANGES_PATHS_MAX: usize = 32 * 1024 * 1024;
/// References that a sender remembers between two rounds of a descent; beyond, the stream is reset and the receiver
/// asks for all entries instead.
pub const DESCENT_REFERENCES_MAX: usize = 2_000_000;
/// Bytes that a receiver which only lists remembers of what it will ask for next; beyond, it gives up.
pub const BROWSE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Ids of files that are cut short in one round of a descent; beyond, pages go whole.
pub const BRIEF_IDS_MAX: usize = 2_000_000;
/// Ids of which one message gives the rest before it ends behind a page.
pub const REST_IDS_TARGET: usize = 2_048;
/// Bytes of the rests of ids in one message.
pub const REST_MAX: u32 = ((REST_IDS_TARGET + PAGE_ITEMS_MAX) * REST_LEN) as u32;
/// Bytes of the two bitmaps of a round, of wanted references and of wanted ids: one bit each.
pub const WANT_MAX: u32 = (DESCENT_REFERENCES_MAX / 8 + BRIEF_IDS_MAX / 8 + 2) as u32;
/// Paths in one message that asks for lists or content; the sender refuses more.
pub const PATHS_MAX: usize = 4_096;
/// Paths of one stream that the sender has not answered yet; it refuses more.
pub const PATHS_WAITING_MAX: usize = 4 * PATHS_MAX;
/// Bytes of one message that asks for lists or content.
pub const PATHS_BYTES_MAX: u32 = 1024 * 1024;
/// Chunks in one message of a chunk list; the receiver refuses more.
pub const CHUNKS_MAX: usize = 65_536;
/// Bytes of the short id of a chunk.
pub const SHORT_LEN: usize = 6;
/// Bytes of one message of a chunk list.
pub const CHUNKS_BYTES_MAX: u32 = 1024 * 1024;
/// References to leaf pages in one message; the receiver refuses more.
pub const LEAVES_MAX: usize = 4_096;

// Blocks of old bytes

/// Bytes of the hash of a block on the wire.
pub const BLOCK_HASH_LEN: usize = 3;
/// Smallest and largest block; each power of two between them is allowed. Whoever is told of another refuses it.
pub const BLOCK_MIN: usize = 128;
/// As [`BLOCK_MIN`].
pub const BLOCK_LEN_MAX: usize = 4_096;
/// Blocks of one file that come with its FILES; the sender refuses more.
pub const BLOCKS_MAX: usize = 262_144;
/// Blocks that one LOOK asks for; the receiver gives none for more.
pub const LOOK_BLOCKS_MAX: usize = 262_144;
/// Bytes of old content that one file's gaps name; beyond, they are refused, or no blocks are given.
pub const GAP_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Gaps of one file that one message names; beyond, they are refused, or no blocks are given.
pub const GAPS_MAX: usize = 65_536;
/// Bytes of a LOOK or of BLOCKS.
pub const LOOK_BYTES_MAX: u32 = 1024 * 1024;
/// LOOKs for one file; the receiver gives no blocks for more.
pub const LOOKS_MAX: u8 = 2;
/// Files that a sender has begun and not sent because it waits for blocks; it begins no more.
pub const LOOKS_AHEAD_MAX: usize = 256;
/// Chunks and blocks of the files that a sender has so begun; beyond, it begins no more.
pub const PIECES_AHEAD_MAX: usize = 1_000_000;
/// Bytes of paths, bitmaps, gaps and hashes of the files of one stream that the sender has not begun; it refuses more.
pub const FILES_WAITING_MAX: usize = 32 * 1024 * 1024;

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
/// Bytes that an OLD counts as at least; those of a file are its size and [`BATCH_PREFIX_MAX`] at most, and the receiver
/// refuses more.
pub const OLD_LEAST: u64 = 256;
/// Bytes of the head of a batch.
pub const BATCH_HEAD_LEN: usize = 13;
/// Literals that batches have as their history, as a power of two of bytes: both ends hold so many for each answer that uses
/// it, and the receiver refuses a window that is wider.
pub const HISTORY_WINDOW_LOG: u32 = 23;
/// Bytes of one batch on the wire.
pub const BATCH_MAX: u32 = (BATCH_HEAD_LEN + BATCH_STEPS_BYTES_MAX + BATCH_LITERALS_MAX + 64 * 1024) as u32;

// Following

/// Mirras on the way of news from its root; the receiver refuses more, and a mirra at the end of such a way passes no
/// news on.
pub const ROUTE_MAX: usize = 16;
/// Bytes of all CHANGES behind one OFFER, headers included; the receiver refuses more, and the sender offers without
/// them.
pub const PUSH_CHANGES_MAX: usize = 512 * 1024;
/// Bytes of FILES and content behind one OFFER, headers included; the receiver refuses more, and the sender offers the
/// entries alone.
pub const PUSH_CONTENT_MAX: usize = 256 * 1024;
/// Steps and chunk lengths of all content behind one OFFER; the receiver refuses more, and the sender offers the entries
/// alone.
pub const PUSH_STEPS_MAX: usize = 65_536;
/// Bytes of literals, unpacked, that a sender gathers in one pack; it leaves out files beyond.
pub const PACK_CONTENT_MAX: usize = 8 * 1024 * 1024;
/// Bytes of an encoded pack; none that is larger is kept or read.
pub const PACK_BYTES_MAX: usize = 3 * PACK_CONTENT_MAX;
