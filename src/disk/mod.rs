//! The filesystem and the index, blocking. A disk does not know that it is mirrored.
//!
//! Every path goes through a directory's descriptor: [`dir`]; mirra's own state is in a [`home`]. No path of a peer is
//! ever resolved by the kernel from the process's own root or working directory.
//!
//! Read in this order: [`dir`] (the calls), [`index`] (what is remembered), [`chunks`] (bytes as their chunks), [`read`]
//! (a file as its chunks, once it keeps still), [`exclude`] (what is left out), [`scan`] (a tree as its pages), [`watch`]
//! (hints of what changed in it).
//!
//! The receiving side: [`stage`] (where new content waits), [`verify`] (what is really on disk), [`publish`] (a target
//! becomes another tree, path by path), [`grace`] (what stood there before), [`fault`] (a call that failed, and where).

pub mod chunks;
pub mod dir;
pub mod exclude;
pub mod fault;
pub mod grace;
pub mod home;
pub mod index;
pub mod publish;
pub mod read;
pub mod scan;
pub mod stage;
pub mod verify;
pub mod watch;
