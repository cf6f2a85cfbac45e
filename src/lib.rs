//! mirra
pub mod disk;
pub mod mirror;
pub mod tree;
