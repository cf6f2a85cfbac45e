//! What peers say and when: the handshake, records, streams, and every bound on them.
//!
//! The room is pure: no sockets, no files, no clock, no randomness. Time and random bytes are
//! arguments, so two ends can run as a pair in memory under any schedule. Read in this order:
//! [`preface`] (the eight clear bytes), [`noise`] (the handshake and the two cipher directions),
//! [`hello`] (what both sides state inside it), [`record`] (one unit on the wire), [`connection`]
//! (streams, credit, timers), then [`limits`] (every bound) and [`error`] (whose fault it was).
//!
//! A bracketed tag such as `[record.type]` in a comment marks the place where that field of the
//! protocol text is read or written.

pub mod bucket;
pub mod codec;
pub mod connection;
pub mod error;
pub mod hello;
pub mod limits;
pub mod noise;
pub mod preface;
pub mod record;
