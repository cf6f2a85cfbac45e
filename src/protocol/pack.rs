//! Change packs: the difference between two snapshots as it is pushed to followers, passed on by nodes, and kept.
//!
//! A pack is the very messages of a push: an OFFER, CHANGES, and for as many files as fit one FILES and their content,
//! made as for a CONTENT request with the base. [`PushReader`] takes them from the wire. Nothing in a pack is believed:
//! its changes and its content go through the same checks as those that were asked for.

mod build;
mod file;
mod literals;
mod reader;

use std::collections::BTreeMap;

pub use file::PEEK_LEN;
pub use literals::Literal;
pub use reader::PushReader;

use super::batch::Batch;
use super::limits::PUSH_STEPS_MAX;
use super::message::{FileItem, Files, Message, Offer, tag};
use super::step::Step;
use crate::tree::codec::{Malformed, bounded};
use crate::tree::hash::HeadId;

/// The difference between two snapshots as it is pushed, passed on and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// The head it starts from.
    pub base: HeadId,
    /// The head it leads to.
    pub head: HeadId,
    /// Bodies of CHANGES.
    changes: Vec<Vec<u8>>,
    /// Files whose content is in the pack, in path order.
    files: Vec<FileItem>,
    /// LEAVES and BATCH.
    content: Vec<Message>,
    /// The context of batches by their number in the content, where it is known. It never travels: the receiver has it.
    contexts: BTreeMap<usize, Vec<u8>>,
}

impl Pack {
    /// Bodies of CHANGES from the base to the head, for a [`ChangeReader`](super::change::ChangeReader).
    #[must_use]
    pub fn changes(&self) -> &[Vec<u8>] {
        &self.changes
    }

    /// Files whose content is in the pack, in the order of the content.
    #[must_use]
    pub fn files(&self) -> &[FileItem] {
        &self.files
    }

    /// LEAVES and BATCH of all files, for a [`Fetch`](super::fetch::Fetch).
    #[must_use]
    pub fn content(&self) -> &[Message] {
        &self.content
    }

    /// The push: an OFFER and what it announces. Without content the receiver has to ask for all of it.
    pub fn messages(&self, with_content: bool) -> impl Iterator<Item = Message> {
        let content = if with_content { self.content.as_slice() } else { &[] };
        let files = if with_content { self.files.as_slice() } else { &[] };
        let offer = Message::new(tag::OFFER, &self.offer(files.len(), content.len()));
        let changes = self.changes.iter().map(|body| Message { tag: tag::CHANGES, body: body.clone() });
        std::iter::once(offer)
            .chain(changes)
            .chain((!files.is_empty()).then(|| files_message(files)))
            .chain(content.iter().cloned())
    }

    /// Bytes of FILES and content on the wire, headers included: what
    /// [`PUSH_CONTENT_MAX`](super::limits::PUSH_CONTENT_MAX) bounds.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        let files = if self.files.is_empty() { 0 } else { files_message(&self.files).wire_len() };
        files + self.content.iter().map(Message::wire_len).sum::<usize>()
    }

    fn offer(&self, files: usize, content: usize) -> Offer {
        let count = |n| u32::try_from(n).unwrap_or(u32::MAX);
        let (changes, files, content) = (count(self.changes.len()), count(files), count(content));
        Offer { head: self.head, base: Some(self.base), changes, files, content }
    }
}

fn files_message(files: &[FileItem]) -> Message {
    Files(files.to_vec()).message()
}

/// Whether each file of the content is gone, in order. Packed steps may be far more than the bytes that they came in, so
/// no more are looked at than may be in a pack.
fn ends(content: &[Message]) -> Result<Vec<bool>, Malformed> {
    let (mut ends, mut open, mut steps) = (Vec::new(), false, 0);
    for message in content.iter().filter(|message| message.tag == tag::BATCH) {
        let batch = Batch::decode(&message.body)?;
        if !batch.stands_alone() {
            return Err(Malformed::Rule { what: "push", rule: "its content needs what came before" });
        }
        for step in batch.steps {
            steps += 1 + step.lengths().len();
            bounded("steps of a push", steps as u64, PUSH_STEPS_MAX as u64)?;
            open = !step.ends_file();
            if !open {
                ends.push(step == Step::Gone);
            }
        }
    }
    if open {
        return Err(Malformed::Rule { what: "push", rule: "its content ends in the middle of a file" });
    }
    Ok(ends)
}
