//! The receiver's side of DESCEND and LISTS: a tree or a list whose base the sender does not know.

use std::collections::HashSet;

use super::bits;
use super::limits::{CHUNKS_MAX, DESCENT_REFERENCES_MAX, SHORT_LEN};
use super::message::{Chunks, Message, tag};
use super::packed::unpack;
use super::sender::references;
use super::short::Short;
use crate::tree::chunker::Class;
use crate::tree::codec::{Malformed, bounded, decode};
use crate::tree::dir::DirKind;
use crate::tree::edit::PageStore;
use crate::tree::hash::DirId;
use crate::tree::limits::SAMPLES_MAX;
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
        let list: Vec<serde_bytes::ByteBuf> = decode("pages", &unpack(body)?)?; // `[pages.list]`
        if list.is_empty() {
            return Err(Malformed::Rule { what: "pages", rule: "none are in the message" }.into());
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
        let mut want = bits::clear(self.found.len());
        for (i, id) in std::mem::take(&mut self.found).into_iter().enumerate() {
            if self.seen.contains(&id) || store.page(id.as_bytes())?.is_some() {
                continue;
            }
            self.seen.insert(id);
            self.asked.push_back(id);
            bits::set(&mut want, i);
        }
        Ok(Some((!self.asked.is_empty()).then_some(Message { tag: tag::WANT, body: want })))
    }
}

/// A file by its chunks, as the sender names them for this connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ShortList {
    /// Its chunks in order; none when the sender could not name them.
    pub chunks: Vec<Short>,
    /// Chunk ids by which a similar file is found.
    pub samples: Vec<u64>,
}

/// Takes the chunk list of one file.
#[derive(Default)]
pub struct ListReader {
    chunks: Vec<Short>,
}

impl ListReader {
    /// Takes one CHUNKS body; gives the list behind its last part.
    ///
    /// # Errors
    /// [`Malformed`] when it cannot be that of a file of `size` bytes.
    pub fn chunks(&mut self, body: &[u8], size: u64, class: Class) -> Result<Option<ShortList>, Malformed> {
        let rule = |rule| Malformed::Rule { what: "chunk list", rule };
        let part: Chunks = decode("chunk list", body)?;
        let (short, rest) = part.short.as_chunks::<SHORT_LEN>();
        bounded("chunks of a message", short.len() as u64, CHUNKS_MAX as u64)?;
        if !rest.is_empty() {
            return Err(rule("an id is cut"));
        }
        if !part.last && (short.is_empty() || !part.samples.is_empty()) {
            return Err(rule("a part of it is empty, or has samples and is not the last"));
        }
        bounded("samples of a file", part.samples.len() as u64, SAMPLES_MAX as u64)?;
        self.chunks.extend(short);
        let least = class.sizes().0 as u64;
        bounded("chunks of a file", self.chunks.len() as u64, size / least + 1)?;
        let chunks = |own: &mut Self| ShortList { chunks: std::mem::take(&mut own.chunks), samples: part.samples };
        Ok(part.last.then(|| chunks(self)))
    }
}
