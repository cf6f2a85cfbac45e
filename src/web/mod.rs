//! The public web: what visitors of a mirror see. It only reads, and answers from the published snapshot: what is not in
//! the signed tree cannot be asked for, and a file whose bytes on disk are not what was read and hashed is not given.
//!
//! A connection comes through [`listen`] (within [`limits`], counted by [`caps`], watched by [`meter`]), its request
//! through [`head`] and [`target`] to [`serve`]. From there it goes to what is the mirra's own ([`machine`], [`status`]) or into a
//! [`module`]: [`resolve`] follows names and links through the tree, [`mod@file`] and [`directory`] make the answer. All but
//! [`serve`] and [`digest`] runs on threads that may wait for the disk; bodies are read as they are taken ([`body`]).
//!
//! [`pages`] is how it looks: functions from values to HTML. [`open()`] takes the port.

pub mod asked;
pub mod body;
pub mod caps;
pub mod cards;
pub mod condition;
pub mod digest;
pub mod directory;
pub mod file;
pub mod head;
pub mod kinds;
pub mod limits;
pub mod listen;
pub mod machine;
pub mod meter;
pub mod module;
pub mod open;
pub mod pages;
pub mod plain;
pub mod problem;
pub mod range;
pub mod reply;
pub mod resolve;
pub mod rows;
pub mod serve;
pub mod status;
pub mod tar;
pub mod target;

pub use open::{Opened, open};
