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

pub mod batch;
pub mod bucket;
pub mod change;
pub mod codec;
pub mod connection;
pub mod descent;
pub mod error;
pub mod fetch;
pub mod hello;
pub mod limits;
pub mod message;
pub mod noise;
pub mod packed;
pub mod preface;
pub mod record;
pub mod sender;
mod sender_content;

#[cfg(test)]
mod transfer_tests;
