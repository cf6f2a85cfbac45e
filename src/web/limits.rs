//! Every bound on what visitors may ask for and take. None of them can be switched off.

use std::time::Duration;

/// Bytes of a request's head.
pub const HEAD_MAX: usize = 8 * 1024;
/// Header lines of a request.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a request's target.
pub const TARGET_MAX: usize = 4 * 1024;
/// How long a connection may take from where a head may begin until it is there, whatever comes meanwhile: it bounds
/// slow heads and idle connections alike.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// Connections in all, where the system allows that many descriptors.
pub const CONNECTIONS_MAX: usize = 2_048;
/// Connections from one address, or from one /64 of IPv6; trusted proxies have no bound of their own.
pub const CONNECTIONS_EACH_MAX: usize = 64;
/// Descriptors that one connection can need: its socket, and the file that it reads.
pub const DESCRIPTORS_EACH: usize = 3;
/// For how long a reader is waited for in all, until it is asked whether it took enough in that time.
pub const RATE_TIME: Duration = Duration::from_secs(60);
/// Bytes a second that a reader takes at least, while it is waited for.
pub const RATE_MIN: u64 = 1024;
/// Bytes that are read at once for a fast reader.
pub const CHUNK_MAX: usize = 256 * 1024;
/// Bytes that are read at once for a slow one, which is all that waits for it in memory.
pub const CHUNK_MIN: usize = 64 * 1024;
/// A reader that comes back for more within this time is fast, once it has taken more than what the systems on the way keep
/// for one that takes nothing.
pub const FAST: Duration = Duration::from_millis(100);
/// Bytes that it has taken then.
pub const PROVEN: u64 = 1024 * 1024;
/// Bytes that wait in the system for a reader, beside those that are on their way.
pub const UNSENT: u32 = 128 * 1024;
/// Readers that are fast at the same time; others are read for as for slow ones. A reader that stalls after a fast beginning
/// holds two large chunks until it is given up.
pub const FAST_MAX: usize = 128;
/// Reads from the disk at the same time.
pub const READS_MAX: usize = 32;
/// Questions to the index at the same time.
pub const LOOKUPS_MAX: usize = 8;
/// Directories that are streamed as an archive or as a plain list at the same time.
pub const STREAMS_MAX: usize = 16;
/// Files that are hashed for visitors at the same time.
pub const HASHES_MAX: usize = 2;
/// Files that wait to be hashed.
pub const HASHES_WAITING_MAX: usize = 16;
/// How long a visitor waits for a hash; it is computed on when he has gone.
pub const HASH_TIME: Duration = Duration::from_secs(20);
/// Contents whose hashes are remembered.
pub const HASHES_KEPT: usize = 32 * 1024;
/// Links that are followed for one path.
pub const HOPS_MAX: usize = 32;
/// Names that are looked up for one path, those of links counted.
pub const STEPS_MAX: usize = 4 * 1024;
/// Entries of a directory that are put into another order than that of the tree.
pub const SORTED_MAX: u64 = 16 * 1024;
/// Entries of a page of a directory that is too large for that.
pub const ROWS: u64 = 500;
/// Links of a page that are followed to see whether they lead anywhere.
pub const LINKS_MAX: usize = 256;
/// Bytes of a file that says what a directory holds, as far as it is shown.
pub const README_MAX: usize = 32 * 1024;
/// How long nothing is accepted after the system could not.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Seconds after which a visitor may ask again for what changes at the moment.
pub const RETRY_SOON: &str = "1";
/// And for what is on its way.
pub const RETRY_LATER: &str = "30";
