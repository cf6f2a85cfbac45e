//! mirra
pub mod tree;
