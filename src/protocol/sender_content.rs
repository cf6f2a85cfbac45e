//! Content of files, as steps and literals: the sender's side of CONTENT.
//!
//! Every chunk that leaves is hashed first and compared with the tree, so a file that changed on disk, or rotted there,
//! is never sent as what it was. What the disk has no more may stand in a pack.

use std::collections::{HashMap, VecDeque};

use super::batch::BatchWriter;
use super::effort::Effort;
use super::limits::LEAVES_MAX;
use super::message::{FileItem, Files, LeafRefs, Message, refusal, tag, way};
use super::sender::{Output, ReadAt, Source, bit, file_at, internal, only_chunk, room_for};
use crate::tree::codec::decode;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{ChunkId, DirId, FileId};
use crate::tree::list::{Chunk, Leaves, ListKind, ListRef, chunks};
use crate::tree::name::TreePath;
use crate::tree::page::{Page, PageError, PageSource, load};

/// Chunks of a basis that are looked up by id; a longer list is used as far as this.
const BASIS_CHUNKS_MAX: usize = 4_000_000;
/// Chunk ids by which a similar file is sought.
const SIMILAR_SAMPLE: usize = 64;

/// The answer to CONTENT.
pub(super) struct ContentAnswer<'s> {
    module: String,
    top: DirId,
    base: Option<DirId>,
    todo: VecDeque<FileItem>,
    ended: bool,
    ready: VecDeque<(Message, Vec<u8>)>,
    batch: BatchWriter,
    current: Option<Current<'s>>,
}

/// As [`Output`]; a batch comes with the context of its literals.
pub(super) enum Next {
    Message(Message, Vec<u8>),
    Wait,
    Done,
}

/// A file that is being sent.
struct Current<'s> {
    stored: Stored<'s>,
    chunks: Box<dyn Iterator<Item = Result<Chunk, PageError>> + 's>,
    way: Way,
    /// Index of the next chunk, and its offset in the file.
    index: usize,
    offset: u64,
    /// The chunk before the next one: what a literal run may want as context.
    previous: Option<(Chunk, u64)>,
}

enum Way {
    All,
    /// Chunks of the basis by id, and the index behind the last one copied.
    Base(HashMap<ChunkId, u64>, Vec<ChunkId>, u64),
    Wanted(Vec<u8>),
}

/// The file's content is not what the head says.
struct Gone;

/// Where the content of a file is read from: its place on disk, if it may still be there, else the packs.
struct Stored<'s> {
    source: &'s dyn Source,
    module: String,
    disk: Option<Box<dyn ReadAt>>,
}

impl Stored<'_> {
    /// The bytes of `chunk`, which stood at `offset` of the file.
    fn read(&self, chunk: &Chunk, offset: u64) -> Option<Vec<u8>> {
        let right = |bytes: &Vec<u8>| bytes.len() == chunk.len as usize && ChunkId::of(bytes) == chunk.id;
        let from_disk = self.disk.as_ref().and_then(|disk| {
            let mut bytes = vec![0; chunk.len as usize];
            disk.read_exact_at(&mut bytes, offset).ok().map(|()| bytes).filter(right)
        });
        from_disk.or_else(|| self.source.past(&self.module, &chunk.id).filter(right))
    }
}

impl<'s> ContentAnswer<'s> {
    pub(super) fn new(module: String, top: DirId, base: Option<DirId>) -> Self {
        let (todo, ready, batch) = (VecDeque::new(), VecDeque::new(), BatchWriter::default());
        Self { module, top, base, todo, ended: false, ready, batch, current: None }
    }

    pub(super) fn set_effort(&mut self, effort: Effort) {
        self.batch.set_effort(effort);
    }

    /// Bytes of literals in all batches so far.
    pub(super) fn literals(&self) -> u64 {
        self.batch.packed()
    }

    pub(super) fn handle(&mut self, message: Option<&Message>) -> Result<(), u16> {
        let Some(message) = message else {
            self.ended = true;
            return Ok(());
        };
        if message.tag != tag::FILES {
            return Err(refusal::BAD_REQUEST);
        }
        let files: Files = decode("files", &message.body).map_err(|_| refusal::BAD_REQUEST)?;
        room_for(files.0.len(), self.todo.len())?;
        self.todo.extend(files.0);
        Ok(())
    }

    pub(super) fn next_output(&mut self, source: &'s dyn Source) -> Result<Output, u16> {
        match self.next_with_context(source)? {
            Next::Message(message, _) => Ok(Output::Message(message)),
            Next::Wait => Ok(Output::Wait),
            Next::Done => Ok(Output::Done),
        }
    }

    /// As [`next_output`](Self::next_output), with the context of each batch.
    pub(super) fn next_with_context(&mut self, source: &'s dyn Source) -> Result<Next, u16> {
        loop {
            if let Some((message, context)) = self.ready.pop_front() {
                return Ok(Next::Message(message, context));
            }
            if let Some(mut current) = self.current.take() {
                match self.advance(&mut current) {
                    Ok(true) => self.current = Some(current),
                    Ok(false) => self.batch.end(),
                    Err(Gone) => self.batch.gone(),
                }
            } else if let Some(item) = self.todo.pop_front() {
                match self.open(source, item)? {
                    Some(current) => self.current = Some(current),
                    None => self.batch.gone(),
                }
            } else if !self.batch.is_empty() {
                self.flush();
            } else if self.ended {
                return Ok(Next::Done);
            } else {
                return Ok(Next::Wait);
            }
            if self.batch.is_full(0) {
                self.flush();
            }
        }
    }

    /// Starts a file; `None` when its content is gone.
    fn open(&mut self, source: &'s dyn Source, item: FileItem) -> Result<Option<Current<'s>>, u16> {
        let Some(entry) = file_at(source, self.top, &item.path)? else { return Err(refusal::BAD_REQUEST) };
        let Body::File { id, size, .. } = entry.body else { return Err(refusal::BAD_REQUEST) };
        let pages = source.pages();
        let mut stored = Stored { source, module: self.module.clone(), disk: None };
        let list = chunks(pages, id).map_err(|e| internal(&e))?;
        let listed = list.is_some();
        let chunks: Box<dyn Iterator<Item = _> + 's> = if let Some(list) = list {
            stored.disk = source.open(&self.module, &item.path, &entry);
            let mut list = list.peekable();
            let first = list.peek().and_then(|first| first.as_ref().ok());
            // Seen before anything of the file is sent: nothing of it is here.
            let needed = stored.disk.is_none() && item.way == way::ALL;
            if needed && first.is_none_or(|first| stored.read(first, 0).is_none()) {
                return Ok(None);
            }
            Box::new(list)
        } else if size == 0 {
            Box::new(std::iter::empty())
        } else {
            let Some((chunk, bytes)) = only_chunk(source, &self.module, &item.path, &entry) else { return Ok(None) };
            stored.disk = Some(Box::new(InMemory(bytes)));
            Box::new(std::iter::once(Ok(chunk)))
        };
        let way = match item.way {
            way::ALL => {
                if listed {
                    self.announce_leaves(pages, id)?;
                }
                Way::All
            }
            way::BASE => self.basis(source, &item.path, &entry, listed)?,
            way::WANTED => Way::Wanted(item.wanted),
            _ => return Err(refusal::BAD_REQUEST),
        };
        Ok(Some(Current { stored, chunks, way, index: 0, offset: 0, previous: None }))
    }

    /// Says which leaf pages follow, where there is more than one.
    fn announce_leaves(&mut self, pages: &dyn PageSource, id: FileId) -> Result<(), u16> {
        let mut refs = leaf_refs(pages, id).map_err(|e| internal(&e))?;
        if refs.len() < 2 {
            return Ok(());
        }
        self.flush();
        while !refs.is_empty() {
            let rest = refs.split_off(refs.len().min(LEAVES_MAX));
            let message = Message::new(tag::LEAVES, &LeafRefs { last: rest.is_empty(), refs });
            self.ready.push_back((message, Vec::new()));
            refs = rest;
        }
        Ok(())
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.ready.push_back(self.batch.take_with_context());
        }
    }

    /// The chunks of the path's version in the base, else of the file there that shares most sampled chunks.
    fn basis(&mut self, source: &'s dyn Source, path: &TreePath, entry: &Entry, listed: bool) -> Result<Way, u16> {
        let (Some(base), Body::File { id, .. }) = (self.base, &entry.body) else { return Ok(Way::All) };
        let pages = source.pages();
        let mut from = file_at(source, base, path)?.map(|old| (path.clone(), old));
        if from.is_none() && listed {
            let sample: Vec<ChunkId> = Leaves::new(pages, *id)
                .take(SIMILAR_SAMPLE)
                .flat_map(|leaf| leaf.map_or_else(|_| Vec::new(), |(_, chunks)| chunks))
                .map(|chunk| chunk.id)
                .collect();
            if let Some(similar) = source.similar(&self.module, base, &sample) {
                from = file_at(source, base, &similar)?.map(|old| (similar, old));
            }
        }
        let Some((found, old)) = from else { return Ok(Way::All) };
        let Body::File { id: old_id, .. } = old.body else { return Ok(Way::All) };
        if pages.page(old_id.as_bytes()).map_err(|e| internal(&e))?.is_none() {
            return Ok(Way::All);
        }
        let mut ids = Vec::new();
        for leaf in Leaves::new(pages, old_id) {
            ids.extend(leaf.map_err(|e| internal(&e))?.1.iter().map(|chunk| chunk.id));
            if ids.len() > BASIS_CHUNKS_MAX {
                break;
            }
        }
        let mut places = HashMap::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            places.entry(*id).or_insert(index as u64);
        }
        self.batch.basis(found);
        Ok(Way::Base(places, ids, 0))
    }

    /// Adds the file's next chunk to the batch; false behind the last one.
    fn advance(&mut self, current: &mut Current<'s>) -> Result<bool, Gone> {
        let Some(chunk) = current.chunks.next() else { return Ok(false) };
        let chunk = chunk.map_err(|e| {
            internal(&e);
            Gone
        })?;
        let place = current.place_of(&chunk);
        if place.is_none() && self.batch.is_full(chunk.len as usize) {
            self.flush();
        }
        match place {
            Some(basis) => {
                let mut start = Vec::new();
                if self.batch.wants_start() {
                    match current.stored.read(&chunk, current.offset) {
                        Some(bytes) => start = bytes,
                        // In a batch of its own it gives no context, so its bytes are not needed.
                        None => self.flush(),
                    }
                }
                self.batch.matched(basis, &start);
            }
            None => {
                let bytes = current.stored.read(&chunk, current.offset).ok_or(Gone)?;
                if self.batch.wants_end()
                    && let Some((previous, offset)) = current.previous
                {
                    match current.stored.read(&previous, offset) {
                        Some(previous) => self.batch.end_of_match(&previous),
                        None => self.flush(),
                    }
                }
                self.batch.literal(&bytes);
            }
        }
        current.previous = Some((chunk, current.offset));
        current.index += 1;
        current.offset += u64::from(chunk.len);
        Ok(true)
    }
}

impl Current<'_> {
    /// Where the receiver has the chunk: at an index of the basis, or on its own word; `None` for a literal.
    #[allow(clippy::option_option, reason = "a match on the receiver's word has no index")]
    fn place_of(&mut self, chunk: &Chunk) -> Option<Option<u64>> {
        match &mut self.way {
            Way::All => None,
            Way::Wanted(bits) => (!bit(bits, self.index)).then_some(None),
            Way::Base(places, ids, next) => {
                // A run goes on where it is, even if the same chunk stands earlier too.
                let goes_on = usize::try_from(*next).ok().and_then(|i| ids.get(i)) == Some(&chunk.id);
                let index = if goes_on { Some(*next) } else { places.get(&chunk.id).copied() };
                if let Some(index) = index {
                    *next = index + 1;
                }
                index.map(Some)
            }
        }
    }
}

/// The content of a file of one chunk.
struct InMemory(Vec<u8>);

impl ReadAt for InMemory {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|from| self.0.get(from..));
        let bytes = from.and_then(|rest| rest.get(..buffer.len())).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// References to all leaf pages of a list, in order.
fn leaf_refs(pages: &dyn PageSource, id: FileId) -> Result<Vec<ListRef>, PageError> {
    let mut refs = match load::<ListKind>(pages, id.as_bytes())? {
        Page::Leaf(_) => return Ok(Vec::new()),
        Page::Upper(level, ups) => (level, ups),
    };
    while refs.0 > 1 {
        let mut below = Vec::new();
        for up in &refs.1 {
            if let Page::Upper(_, ups) = load::<ListKind>(pages, up.1.as_bytes())? {
                below.extend(ups);
            }
        }
        refs = (refs.0 - 1, below);
    }
    Ok(refs.1)
}
