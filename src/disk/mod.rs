//! The filesystem and the index, blocking. A disk does not know that it is mirrored.
//!
//! Every path goes through a directory's descriptor: [`dir`]. No path of a peer is ever resolved by the kernel from
//! the process's own root or working directory.
//!
//! Read in this order: [`dir`] (the calls), [`index`] (what is remembered), [`read`] (one file),
//! [`exclude`] (what is left out), [`scan`] (a tree becomes pages).

pub mod dir;
pub mod exclude;
pub mod index;
pub mod read;
pub mod scan;
