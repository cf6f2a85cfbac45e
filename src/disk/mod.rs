//! The filesystem and the index, blocking. A disk does not know that it is mirrored.
//!
//! Every path goes through a directory's descriptor: [`dir`]; mirra's own state is in a [`home`]. No path of a peer is ever resolved by the kernel from
//! the process's own root or working directory.
//!
//! Read in this order: [`dir`] (the calls), [`index`] (what is remembered).

pub mod dir;
pub mod home;
pub mod index;
