//! mirra
pub mod disk;
pub mod net;
pub mod protocol;
pub mod tree;
