//! Throughput of the pipeline.
fn main() {}
