//! The literals of a pack, found again by what they are: content that no file holds any more.

use super::Pack;
use crate::protocol::batch::Batch;
use crate::protocol::limits::PACK_CONTENT_MAX;
use crate::protocol::message::tag;
use crate::protocol::step::Step;
use crate::tree::chunker::Class;
use crate::tree::hash::{ChunkId, FileId};
use crate::tree::list::{Chunk, file_id};

/// A chunk that the content of a pack holds whole, or bytes that may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Literal {
    /// What it is.
    pub chunk: ChunkId,
    /// The file that it is all of, if it is.
    pub file: Option<FileId>,
    /// The message of the content that holds it.
    pub message: usize,
    /// Where its bytes begin in the literals of that message.
    pub at: usize,
    /// How many they are.
    pub len: usize,
}

impl Pack {
    /// The unpacked literals of a message of the content; `None` for one that has none, or whose context is not known.
    #[must_use]
    pub fn literals_of(&self, message: usize) -> Option<Vec<u8>> {
        let message_body = self.content.get(message).filter(|message| message.tag == tag::BATCH)?;
        let batch = Batch::decode(&message_body.body).ok()?;
        let context = self.contexts.get(&message).map_or(&[][..], Vec::as_slice);
        if context.len() != batch.prefix_len {
            return None;
        }
        batch.literals(context).ok()
    }

    /// All chunks that can be read from the pack. One that came from a peer may name far more bytes than it has: no more
    /// are looked at than a pack of our own would hold.
    #[must_use]
    pub fn literals(&self) -> Vec<Literal> {
        let (mut found, mut fresh, mut left) = (Vec::new(), true, PACK_CONTENT_MAX as u64);
        for (number, message) in self.content.iter().enumerate().filter(|(_, message)| message.tag == tag::BATCH) {
            let Ok(batch) = Batch::decode(&message.body) else { continue };
            let named: u64 = batch.steps.iter().map(Step::literal_bytes).sum();
            let Some(rest) = left.checked_sub(named) else { return found };
            left = rest;
            let literals = self.literals_of(number);
            let mut at = 0;
            for (place, step) in batch.steps.iter().enumerate() {
                let ends = batch.steps.get(place + 1) == Some(&Step::End);
                let lengths = match step {
                    Step::Chunks { lengths, .. } => lengths.clone(),
                    Step::Literal { len } => cut(literals.as_deref(), at, *len),
                    _ => Vec::new(),
                };
                let alone = fresh && lengths.len() == 1 && (ends || matches!(step, Step::Chunks { last: true, .. }));
                for length in lengths {
                    let len = length as usize;
                    let bytes = literals.as_ref().and_then(|literals| literals.get(at..at + len));
                    found.extend(bytes.map(|bytes| {
                        let chunk = Chunk::of(bytes);
                        let file = if alone { file_id(&[chunk]).ok() } else { None };
                        Literal { chunk: chunk.id, file, message: number, at, len }
                    }));
                    at += len;
                }
                fresh = step.ends_file() || fresh && matches!(step, Step::Basis(_));
            }
        }
        found
    }
}

/// New bytes of a file that was rebuilt, cut as its chunks are if they begin with one: where nothing was found in the old
/// version, whole chunks were sent.
fn cut(literals: Option<&[u8]>, at: usize, len: u64) -> Vec<u32> {
    let bytes =
        literals.zip(usize::try_from(len).ok()).and_then(|(literals, len)| literals.get(at..at.checked_add(len)?));
    let (mut rest, mut lengths) = (bytes.unwrap_or_default(), Vec::new());
    while !rest.is_empty() {
        let length = Class::Fine.cut(rest).clamp(1, rest.len());
        lengths.push(length as u32);
        rest = rest.get(length..).unwrap_or_default();
    }
    lengths
}
