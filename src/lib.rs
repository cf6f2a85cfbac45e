//! mirra
pub mod disk;
pub mod mirror;
pub mod net;
pub mod protocol;
pub mod tree;
