//! The receiver's side: takes what an OFFER announces, bounded before anything of it is applied.

use std::collections::BTreeMap;

use super::{Pack, ends};
use crate::protocol::limits::{MESSAGE_HEADER_LEN, PUSH_CHANGES_MAX, PUSH_CONTENT_MAX};
use crate::protocol::message::{FileItem, Files, Message, Offer, tag, way};
use crate::tree::codec::{Malformed, bounded};

/// Takes the messages behind an OFFER until the push is whole.
#[derive(Debug)]
pub struct PushReader {
    pack: Pack,
    /// What of the offer is still to come.
    left: Offer,
    changes_bytes: usize,
    content_bytes: usize,
    content_max: usize,
    /// The pack was given out.
    over: bool,
}

impl PushReader {
    /// Begins with the OFFER, which names a base: without one nothing follows it.
    ///
    /// # Errors
    /// [`Malformed`] when it names none, or announces more than fits the bounds.
    pub fn new(offer: Offer) -> Result<Self, Malformed> {
        Self::bounded(offer, PUSH_CONTENT_MAX)
    }

    /// As [`new`](Self::new), for content of other sizes than what is pushed.
    pub(super) fn bounded(offer: Offer, content_max: usize) -> Result<Self, Malformed> {
        let rule = Malformed::Rule { what: "offer", rule: "names no base" };
        let base = offer.base.ok_or(rule)?;
        let messages = |bytes: usize| (bytes / MESSAGE_HEADER_LEN) as u64;
        bounded("changes of an offer", u64::from(offer.changes), messages(PUSH_CHANGES_MAX))?;
        bounded("content of an offer", u64::from(offer.content), messages(content_max))?;
        let (changes, files, content, contexts) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        let pack = Pack { base, head: offer.head, changes, files, content, contexts };
        Ok(Self { pack, left: offer, changes_bytes: 0, content_bytes: 0, content_max, over: false })
    }

    /// The pack, if nothing is to come any more: an OFFER may announce nothing. Once only.
    ///
    /// # Errors
    /// [`Malformed`] when the content is not that of the files.
    pub fn whole(&mut self) -> Result<Option<Pack>, Malformed> {
        if self.over || (self.left.changes, self.left.files, self.left.content) != (0, 0, 0) {
            return Ok(None);
        }
        let ends = ends(&self.pack.content)?;
        if ends.len() != self.pack.files.len() || ends.contains(&true) {
            let rule = "its content is not that of its files";
            return Err(Malformed::Rule { what: "push", rule });
        }
        self.over = true;
        let Pack { base, head, .. } = self.pack;
        let (changes, files, content, contexts) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        let none = Pack { base, head, changes, files, content, contexts };
        Ok(Some(std::mem::replace(&mut self.pack, none)))
    }

    /// Takes the next message; gives the pack with the last one.
    ///
    /// # Errors
    /// [`Malformed`] for one that was not announced, or that exceeds the bounds. The reader is of no further use then.
    pub fn take(&mut self, message: Message) -> Result<Option<Pack>, Malformed> {
        let rule = |rule| Err(Malformed::Rule { what: "push", rule });
        let bytes = message.wire_len();
        match message.tag {
            tag::CHANGES if self.left.changes > 0 => {
                self.changes_bytes += bytes;
                bounded("changes of a push", self.changes_bytes as u64, PUSH_CHANGES_MAX as u64)?;
                self.left.changes -= 1;
                self.pack.changes.push(message.body);
            }
            tag::FILES if self.left.changes == 0 && self.left.files > 0 => {
                self.count_content(bytes)?;
                let files = Files::of(&message.body)?;
                if files.0.len() != self.left.files as usize {
                    return rule("has not as many files as were announced");
                }
                if !files.0.is_sorted_by(|a, b| a.path < b.path) {
                    return rule("has files that are not in path order");
                }
                if files
                    .0
                    .iter()
                    .any(|file| file.way > way::BASE || *file != FileItem::plain(file.path.clone(), file.way))
                {
                    return rule("has a file that is sent in a way that nobody asked for");
                }
                self.left.files = 0;
                self.pack.files = files.0;
            }
            tag::LEAVES | tag::BATCH if self.left.changes == 0 && self.left.files == 0 && self.left.content > 0 => {
                self.count_content(bytes)?;
                self.left.content -= 1;
                self.pack.content.push(message);
            }
            _ => return rule("has a message that was not announced"),
        }
        self.whole()
    }

    /// Messages of content so far.
    pub(super) fn content_len(&self) -> usize {
        self.pack.content.len()
    }

    fn count_content(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.content_bytes += bytes;
        bounded("content of a push", self.content_bytes as u64, self.content_max as u64)
    }
}
