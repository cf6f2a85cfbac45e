//! A pack as a file: the messages of the push as they stand on a stream, and what reads its literals again.
//!
//! Ten bytes of magic, a version, messages as PROTOCOL.md frames them, and BLAKE3 of all of it. Before a BATCH that
//! needs a context stands one more frame, with a tag that no message has. The file never travels; what cannot be read
//! is thrown away.

use super::{Pack, PushReader};
use crate::protocol::limits::{MESSAGE_HEADER_LEN, PACK_BYTES_MAX};
use crate::protocol::message::{Message, Offer, tag};
use crate::tree::codec::{Malformed, bounded, decode};
use crate::tree::hash::HeadId;

const MAGIC: &[u8] = b"mirra pack\x02";
/// Tag of the frame that holds the context of the BATCH right behind it.
const CONTEXT: u8 = 0;
const SUM_LEN: usize = 32;
/// Bytes from the start of a file that [`Pack::peek`] needs.
pub const PEEK_LEN: usize = 128;

impl Pack {
    /// Base and head of the pack whose file starts with these bytes; `None` when it cannot be one. Nothing else of the
    /// file is checked.
    #[must_use]
    pub fn peek(start: &[u8]) -> Option<(HeadId, HeadId)> {
        let mut rest = start.strip_prefix(MAGIC)?;
        let first = next_frame(&mut rest).filter(|message| message.tag == tag::OFFER)?;
        let offer: Offer = decode("offer", &first.body).ok()?;
        Some((offer.base?, offer.head))
    }

    /// The bytes of the pack as a file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let before_content = 1 + self.changes.len() + usize::from(!self.files.is_empty());
        for (i, message) in self.messages(true).enumerate() {
            if let Some(context) = i.checked_sub(before_content).and_then(|at| self.contexts.get(&at)) {
                frame(&mut bytes, CONTEXT, context);
            }
            frame(&mut bytes, message.tag, &message.body);
        }
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        bytes
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// [`Malformed`] when they are not a whole pack.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let rule = |rule| Malformed::Rule { what: "pack", rule };
        bounded("pack", bytes.len() as u64, PACK_BYTES_MAX as u64)?;
        let (body, sum) = bytes.split_last_chunk::<SUM_LEN>().ok_or_else(|| rule("is cut"))?;
        if blake3::hash(body) != *sum {
            return Err(rule("is damaged"));
        }
        let mut rest = body.strip_prefix(MAGIC).ok_or_else(|| rule("is none, or of another version"))?;
        let first = next_frame(&mut rest).filter(|message| message.tag == tag::OFFER);
        let offer: Offer = decode("offer", &first.ok_or_else(|| rule("begins with no offer"))?.body)?;
        let mut reader = PushReader::bounded(offer, PACK_BYTES_MAX)?;
        let mut pack = reader.whole()?;
        let mut contexts = std::collections::BTreeMap::new();
        while !rest.is_empty() {
            let message = next_frame(&mut rest).ok_or_else(|| rule("is cut"))?;
            if message.tag == CONTEXT && pack.is_none() {
                contexts.insert(reader.content_len(), message.body);
            } else {
                pack = reader.take(message)?;
            }
        }
        let mut pack = pack.ok_or_else(|| rule("is not whole"))?;
        pack.contexts = contexts;
        Ok(pack)
    }
}

fn frame(bytes: &mut Vec<u8>, tag: u8, body: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(body);
}

/// Cuts the first message off `bytes`; `None` when it is not whole.
fn next_frame(bytes: &mut &[u8]) -> Option<Message> {
    let (head, rest) = bytes.split_first_chunk::<MESSAGE_HEADER_LEN>()?;
    let [tag, length @ ..] = *head;
    let (body, rest) = rest.split_at_checked(u32::from_be_bytes(length) as usize)?;
    *bytes = rest;
    Some(Message { tag, body: body.to_vec() })
}
