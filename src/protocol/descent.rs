//! The receiver's side of DESCEND and LISTS: a tree or a list whose base the sender does not know.

use std::collections::{HashSet, VecDeque};

use super::bits;
use super::brief::{BriefId, REST_LEN, brief, files, whole};
use super::limits::{BRIEF_IDS_MAX, CHUNKS_MAX, DESCENT_REFERENCES_MAX, SHORT_LEN};
use super::message::{Chunks, Message, tag};
use super::packed::unpack;
use super::sender_descent::references;
use super::short::Short;
use crate::tree::chunker::Class;
use crate::tree::codec::{Malformed, bounded, decode};
use crate::tree::dir::DirKind;
use crate::tree::edit::PageStore;
use crate::tree::hash::{DirId, FileId};
use crate::tree::limits::SAMPLES_MAX;
use crate::tree::page::{Page, PageError, Trust};

/// Why a descent failed.
#[derive(Debug, thiserror::Error)]
pub enum DescentError {
    /// A page is not the one that was asked for.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The index failed.
    #[error(transparent)]
    Page(#[from] PageError),
    /// A file that is held was taken for another one whose id begins alike; another way has to be taken.
    #[error("a file was taken for another one")]
    Mistaken,
}

/// Knows whole ids by what brief pages keep of them; must answer `None` where there are several.
pub type Guess<'a> = &'a dyn Fn(BriefId) -> Result<Option<FileId>, PageError>;

/// Takes the pages that the receiver lacks, level by level, all pages of a round in one stream.
///
/// The store must not show these pages to anybody before the descent is done: that a page is held has to mean that all
/// below it is held as well.
pub struct Descent<'a> {
    /// Pages of this round that have not come yet, in the order in which they come.
    asked: VecDeque<DirId>,
    /// What the pages of this round refer to.
    found: Vec<DirId>,
    seen: HashSet<DirId>,
    guess: Guess<'a>,
    /// Ids that were cut in brief pages of this round.
    cut: usize,
    /// Brief pages of this round that lack ids.
    pending: Vec<Pending>,
    /// Those of the round before, for which the rests are on their way.
    awaited: VecDeque<Pending>,
}

/// A page that lacks ids of files.
struct Pending {
    id: DirId,
    /// It, as far as ids are known.
    page: Vec<u8>,
    /// How many ids were cut in this round before.
    first: usize,
    /// Which of its files lack the rest of their ids, ascending.
    lacking: Vec<usize>,
    /// The rests that have come.
    rests: Vec<u8>,
}

impl<'a> Descent<'a> {
    /// Starts at the top page, which the request itself asks for.
    #[must_use]
    pub fn new(top: DirId, guess: Guess<'a>) -> Self {
        Self {
            asked: [top].into(),
            found: Vec::new(),
            seen: HashSet::from([top]),
            guess,
            cut: 0,
            pending: Vec::new(),
            awaited: VecDeque::new(),
        }
    }

    /// Takes one PAGES body.
    ///
    /// # Errors
    /// [`DescentError`].
    pub fn pages(&mut self, body: &[u8], store: &mut dyn PageStore) -> Result<(), DescentError> {
        let rule = |rule| Malformed::Rule { what: "pages", rule };
        if !self.awaited.is_empty() {
            return Err(rule("came before what is left of ids").into());
        }
        let list: Vec<serde_bytes::ByteBuf> = decode("pages", &unpack(body)?)?; // `[pages.list]`
        if list.is_empty() {
            return Err(rule("none are in the message").into());
        }
        for bytes in list {
            let id = self.asked.pop_front().ok_or(rule("more came than were asked for"))?;
            // What has another id is brief, or a lie.
            let page = Page::<DirKind>::decode(&bytes, Trust::Peer)?;
            self.found.extend(references(&page));
            bounded("references of a round", self.found.len() as u64, DESCENT_REFERENCES_MAX as u64)?;
            if DirId::of(&bytes) == id {
                store.put(id.as_bytes(), &bytes)?;
            } else {
                self.brief(id, page, store)?;
            }
        }
        Ok(())
    }

    /// Takes a brief page: ids that are known make it whole.
    fn brief(&mut self, id: DirId, page: Page<DirKind>, store: &mut dyn PageStore) -> Result<(), DescentError> {
        let other = Malformed::Rule { what: "page", rule: "its bytes do not hash to the id that was asked for" };
        let Page::Leaf(mut entries) = page else { return Err(other.into()) };
        let (first, mut lacking) = (self.cut, Vec::new());
        for (file, known) in files(&mut entries).enumerate() {
            match (self.guess)(brief(known))? {
                Some(guessed) => *known = guessed,
                None => lacking.push(file),
            }
            self.cut += 1;
        }
        bounded("ids of a round", self.cut as u64, BRIEF_IDS_MAX as u64)?;
        if self.cut == first {
            return Err(other.into());
        }
        let page = Page::<DirKind>::Leaf(entries).encode();
        if lacking.is_empty() && DirId::of(&page) == id {
            store.put(id.as_bytes(), &page)?;
            return Ok(());
        }
        if lacking.is_empty() {
            lacking = (0..self.cut - first).collect();
        }
        self.pending.push(Pending { id, page, first, lacking, rests: Vec::new() });
        Ok(())
    }

    /// Takes one REST body.
    ///
    /// # Errors
    /// [`DescentError`].
    pub fn rest(&mut self, body: &[u8], store: &mut dyn PageStore) -> Result<(), DescentError> {
        let rule = |rule| Malformed::Rule { what: "rest of ids", rule };
        let (rests, cut) = body.as_chunks::<REST_LEN>();
        if rests.is_empty() || !cut.is_empty() {
            return Err(rule("it is empty or cut").into());
        }
        for rest in rests {
            let page = self.awaited.front_mut().ok_or(rule("it is more than was asked for"))?;
            page.rests.extend(rest);
            if page.rests.len() == page.lacking.len() * REST_LEN {
                let (id, page) = (page.id, page.fill()?);
                self.awaited.pop_front();
                if DirId::of(&page) != id {
                    return Err(DescentError::Mistaken);
                }
                store.put(id.as_bytes(), &page)?;
            }
        }
        Ok(())
    }

    /// The next WANT once all pages of the round have come; `Some(None)` when nothing is left to ask for.
    ///
    /// # Errors
    /// [`DescentError::Page`].
    #[allow(clippy::option_option, reason = "a round that is not over, a round, and the end are three answers")]
    pub fn next_round(&mut self, store: &dyn PageStore) -> Result<Option<Option<Message>>, DescentError> {
        if !self.asked.is_empty() || !self.awaited.is_empty() {
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
        let mut rests = bits::clear(std::mem::take(&mut self.cut));
        for page in std::mem::take(&mut self.pending) {
            page.lacking.iter().for_each(|file| bits::set(&mut rests, page.first + file));
            self.awaited.push_back(page);
        }
        want.append(&mut rests);
        let is_over = self.asked.is_empty() && self.awaited.is_empty();
        Ok(Some((!is_over).then_some(Message { tag: tag::WANT, body: want })))
    }
}

impl Pending {
    /// The page with all its ids.
    fn fill(&self) -> Result<Vec<u8>, Malformed> {
        let page = Page::<DirKind>::decode(&self.page, Trust::Index)?;
        let Page::Leaf(mut entries) = page else { return Ok(Vec::new()) };
        let (rests, _) = self.rests.as_chunks::<REST_LEN>();
        let mut lacking = self.lacking.iter().zip(rests).peekable();
        for (file, id) in files(&mut entries).enumerate() {
            if let Some((_, rest)) = lacking.next_if(|(at, _)| **at == file) {
                *id = whole(brief(id), *rest);
            }
        }
        Ok(Page::<DirKind>::Leaf(entries).encode())
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
