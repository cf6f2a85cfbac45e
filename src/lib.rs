//! mirra
pub mod disk;
pub mod protocol;
pub mod tree;
