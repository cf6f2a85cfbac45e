//! CHANGES: what leads from one tree to another, as the sender writes it and the receiver applies it.
//!
//! Both sides have the base, so a record says only what differs from the entry that the base has at its path. A
//! directory whose metadata did not change is not named: the paths below it imply it, and its new id follows from what
//! it holds. The receiver computes every id up to the top and compares with the signed head.

pub mod columns;
mod held;
mod reader;
mod writer;

pub(super) use held::{Held, held};
pub use reader::{ChangeError, ChangeReader, records_in};
pub use writer::ChangeWriter;

use super::message::operation;
use crate::tree::entry::Meta;

/// What a record that does not say it means, where the base has no entry of that kind: the mode that most have, and
/// the beginning of time.
fn usual(operation: u8) -> Meta {
    let mode = match operation {
        operation::FILE => 0o644,
        operation::LINK => 0o777,
        _ => 0o755,
    };
    Meta { mode, ..Meta::default() }
}
