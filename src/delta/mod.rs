//! How one state of a file becomes another: what of the new bytes stands in the old ones, found without both in hand.
//!
//! Between two chunks that both versions have lie old bytes and new bytes that differ a little. The old ones are named by
//! a [list of blocks](blocks), short hashes of pieces of one length, by the one who has them; the [search](diff) finds
//! those pieces at any offset of the new bytes, by the [rolling hash](rabin) of them, as rsync does (Tridgell, "Efficient
//! Algorithms for Sorting and Synchronization", 1999). Short hashes only propose: a file counts when its id is right.

pub mod blocks;
pub mod diff;
pub mod order;
pub mod rabin;
