//! mirra
pub mod disk;
pub mod tree;
