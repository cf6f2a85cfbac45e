//! mirra
fn main() {}
