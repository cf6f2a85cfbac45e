//! The receiver's side of DESCEND and LISTS: a tree or a list whose base the sender does not know.

use std::collections::HashSet;

use super::limits::DESCENT_REFERENCES_MAX;
use super::message::{Chunks, Message, tag};
use super::packed::unpack;
use super::sender::references;
use crate::tree::chunker::Class;
use crate::tree::codec::{Malformed, bounded, decode};
use crate::tree::dir::DirKind;
use crate::tree::edit::PageStore;
use crate::tree::hash::{DirId, FileId};
use crate::tree::list::{Chunk, file_id};
use crate::tree::page::{PageError, decode_sent};

/// Why a descent failed.
#[derive(Debug, thiserror::Error)]
pub enum DescentError {
    /// A page is not the one that was asked for.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The index failed.
    #[error(transparent)]
    Page(#[from] PageError),
}

/// Takes the pages that the receiver lacks, level by level, all pages of a round in one stream.
///
/// The store must not show these pages to anybody before the descent is done: that a page is held has to mean that all
/// below it is held as well.
pub struct Descent {
    /// Pages of this round that have not come yet, in the order in which they come.
    asked: std::collections::VecDeque<DirId>,
    /// What the pages of this round refer to.
    found: Vec<DirId>,
    seen: HashSet<DirId>,
}

impl Descent {
    /// Starts at the top page, which the request itself asks for.
    #[must_use]
    pub fn new(top: DirId) -> Self {
        Self { asked: [top].into(), found: Vec::new(), seen: HashSet::from([top]) }
    }

    /// Takes one PAGES body.
    ///
    /// # Errors
    /// [`DescentError`].
    pub fn pages(&mut self, body: &[u8], store: &mut dyn PageStore) -> Result<(), DescentError> {
        let list: Vec<serde_bytes::ByteBuf> = decode("pages", &unpack(body)?)?;
        if list.is_empty() {
            // Without end it would keep the receiver waiting for ever.
            return Err(Malformed::Rule { what: "pages", rule: "are none" }.into());
        }
        for bytes in list {
            let rule = Malformed::Rule { what: "pages", rule: "more came than were asked for" };
            let id = self.asked.pop_front().ok_or(rule)?;
            let page = decode_sent::<DirKind>(id.as_bytes(), &bytes)?;
            self.found.extend(references(&page));
            bounded("references of a round", self.found.len() as u64, DESCENT_REFERENCES_MAX as u64)?;
            store.put(id.as_bytes(), &bytes)?;
        }
        Ok(())
    }

    /// The next WANT once all pages of the round have come; `Some(None)` when nothing is left to ask for.
    ///
    /// # Errors
    /// [`DescentError::Page`].
    #[allow(clippy::option_option, reason = "a round that is not over, a round, and the end are three answers")]
    pub fn next_round(&mut self, store: &dyn PageStore) -> Result<Option<Option<Message>>, DescentError> {
        if !self.asked.is_empty() {
            return Ok(None);
        }
        let mut bits = vec![0u8; self.found.len().div_ceil(8)];
        for (i, id) in std::mem::take(&mut self.found).into_iter().enumerate() {
            if self.seen.contains(&id) || store.page(id.as_bytes())?.is_some() {
                continue;
            }
            self.seen.insert(id);
            self.asked.push_back(id);
            if let Some(byte) = bits.get_mut(i / 8) {
                *byte |= 0x80 >> (i % 8);
            }
        }
        Ok(Some((!self.asked.is_empty()).then_some(Message { tag: tag::WANT, body: bits })))
    }
}

/// Takes the chunk list of one file.
#[derive(Default)]
pub struct ListReader {
    chunks: Vec<Chunk>,
}

impl ListReader {
    /// Takes one CHUNKS body; gives the list behind its last part, empty when the sender could not give it.
    ///
    /// # Errors
    /// [`Malformed`] when it is not the list of the file `id`.
    pub fn chunks(
        &mut self,
        body: &[u8],
        id: FileId,
        size: u64,
        class: Class,
    ) -> Result<Option<Vec<Chunk>>, Malformed> {
        let part: Chunks = decode("chunk list", body)?;
        if part.list.is_empty() && !part.last {
            return Err(Malformed::Rule { what: "chunk list", rule: "goes on without chunks" });
        }
        self.chunks.extend(part.list);
        let least = class.sizes().0 as u64;
        bounded("chunks of a file", self.chunks.len() as u64, size / least + 1)?;
        if !part.last {
            return Ok(None);
        }
        let chunks = std::mem::take(&mut self.chunks);
        let named = file_id(&chunks).is_ok_and(|named| named == id);
        if !chunks.is_empty() && !named {
            return Err(Malformed::Rule { what: "chunk list", rule: "does not hash to the file's id" });
        }
        Ok(Some(chunks))
    }
}
