//! Bytes per second of the way from disk to wire.

fn main() {}
