//! What peers say and when: the handshake, records, streams, messages, and every bound on them.
//!
//! The room is pure: no sockets, no files, no clock, no randomness. Time and random bytes are arguments, so two ends can
//! run as a pair in memory under any schedule. PROTOCOL.md is the normative text. Read in this order:
//!
//! 1. The channel: [`preface`] (the eight clear bytes), [`noise`] (the handshake and the two cipher directions), [`hello`]
//!    (what both sides state inside it), [`record`] (one unit on the wire), [`connection`] (streams, credit, timers).
//! 2. What travels on a stream: [`message`] (the whole vocabulary), [`packed`] (records in a zstd frame), [`batch`] (steps
//!    and literals, which [`compress`] packs as hard as [`effort`] says, with those before them as their [`history`]), [`change`] (what leads from one tree to another).
//! 3. Who says it: [`sender`] (the side that has the snapshot), and on the other side [`descent`] (pages, which may be [`brief`], and lists from
//!    whoever does not know the base), [`part`] (pages of a part of a tree), [`browse`] (pages for who only looks) and
//!    [`fetch`] (steps become verified files).
//!    [`pack`] is what a sender pushes unasked to who follows it.
//!
//! Beside them stand [`limits`] (every bound), [`error`] (whose fault it was), [`bucket`] (rates), [`bits`] (bitmaps) and
//! `number` (numbers in few bytes).
//!
//! A tag such as `[record.type]` in a comment marks the place where that field of PROTOCOL.md is read or written; a test
//! compares the two sets.

pub mod batch;
pub mod bits;
pub mod brief;
pub mod browse;
pub mod bucket;
pub mod change;
pub mod compress;
pub mod connection;
pub mod descent;
pub mod effort;
pub mod error;
pub mod fetch;
pub mod hello;
pub mod history;
pub mod limits;
pub mod message;
pub mod noise;
mod number;
pub mod pack;
pub mod packed;
pub mod part;
pub mod preface;
pub mod record;
pub mod sender;
mod sender_content;
pub mod sender_descent;
pub mod short;
pub mod step;

#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod transfer_tests;
