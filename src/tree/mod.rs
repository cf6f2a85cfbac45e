//! What is mirrored: values and their canonical bytes, without any I/O.
//!
//! Read in this order: [`hash`] (ids and their domains), [`name`] (checked names and paths), [`entry`] (one file,
//! directory or link), [`chunker`] (where content is cut), [`page`] (runs of entries or chunks, named by hash),
//! [`list`] (a file as its chunks), [`dir`] (a directory as its entries), [`diff`] (what differs between two trees),
//! [`alike`] (a file of another version), [`edit`] (a tree after changes), [`count`] (whether a tree holds what it says),
//! [`part`] (a tree without what is left out), [`signed`] (who vouches for it), [`address`] (how a person names it).
//!
//! PROTOCOL.md, "Tree format" and "Signed objects", is the normative text.

pub mod address;
pub mod alike;
pub mod chunker;
pub mod codec;
pub mod count;
pub mod diff;
pub mod dir;
pub mod edit;
pub mod entry;
pub mod hash;
pub mod limits;
pub mod list;
pub mod name;
pub mod page;
pub mod part;
pub mod signed;
