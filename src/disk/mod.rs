//! The filesystem and the index, blocking. A disk does not know that it is mirrored.
//!
//! Every path goes through a directory's descriptor: [`dir`]. No path of a peer is ever resolved by the kernel from
//! the process's own root or working directory.
//!
//! The receiving side reads in this order: [`stage`] (where new content waits), [`verify`] (what is really on disk),
//! [`publish`] (a target becomes another tree, path by path), [`grace`] (what stood there before), [`fault`] (a call
//! that failed, and where).

pub mod dir;
pub mod fault;
pub mod grace;
pub mod publish;
pub mod stage;
pub mod verify;
