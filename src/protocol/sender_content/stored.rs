//! Where the content of a file is read from: its place on disk, if it may still be there, else the packs.

use crate::protocol::sender::{ReadAt, Source, file_at, internal, only_chunk};
use crate::protocol::{message::refusal, sender};
use crate::tree::chunker::Class;
use crate::tree::dir::PathFinder;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{ChunkId, FileId};
use crate::tree::list::{Chunk, ListKind, ListRef, chunks};
use crate::tree::name::TreePath;
use crate::tree::page::{Page, PageError, PageSource, load};

/// The chunks of a file, in order.
pub(super) type Chunks<'s> = Box<dyn Iterator<Item = Result<Chunk, PageError>> + 's>;

/// A file of the tree that is served.
pub(super) struct Stored<'s> {
    source: &'s dyn Source,
    module: String,
    disk: Option<Box<dyn ReadAt>>,
    pub(super) entry: Entry,
    pub(super) id: FileId,
    pub(super) size: u64,
    pub(super) class: Class,
    /// Whether its list is stored, which is so from two chunks on.
    pub(super) listed: bool,
}

impl<'s> Stored<'s> {
    /// Opens the file at `path`; `None` for one whose content is gone. With `whole`, all of it is needed.
    pub(super) fn open(
        source: &'s dyn Source,
        module: &str,
        tree: &mut PathFinder,
        path: &TreePath,
        whole: bool,
    ) -> Result<Option<(Self, Chunks<'s>)>, u16> {
        let Some(entry) = file_at(source, tree, path)? else { return Err(refusal::BAD_REQUEST) };
        let Body::File { id, size, class } = entry.body else { return Err(refusal::BAD_REQUEST) };
        // What is shorter than a chunk may be is one, whose list is stored nowhere.
        let several = size > class.sizes().0 as u64;
        let list = if several { chunks(source.pages(), id).map_err(|e| internal(&e))? } else { None };
        let listed = list.is_some();
        let mut stored = Self { source, module: module.to_owned(), disk: None, entry, id, size, class, listed };
        let chunks: Chunks<'s> = if let Some(list) = list {
            stored.disk = source.open(module, path, &stored.entry);
            let mut list = list.peekable();
            let first = list.peek().and_then(|first| first.as_ref().ok());
            // Seen before anything of the file is sent: nothing of it is here.
            if stored.disk.is_none() && whole && first.is_none_or(|first| stored.read(first, 0).is_none()) {
                return Ok(None);
            }
            Box::new(list)
        } else if size == 0 {
            Box::new(std::iter::empty())
        } else {
            let Some((chunk, bytes)) = only_chunk(source, module, path, &stored.entry) else { return Ok(None) };
            stored.disk = Some(Box::new(InMemory(bytes)));
            Box::new(std::iter::once(Ok(chunk)))
        };
        Ok(Some((stored, chunks)))
    }

    /// The bytes of `chunk`, which stands at `offset` of the file.
    pub(super) fn read(&self, chunk: &Chunk, offset: u64) -> Option<Vec<u8>> {
        let right = |bytes: &Vec<u8>| bytes.len() == chunk.len as usize && ChunkId::of(bytes) == chunk.id;
        let from_disk = self.disk.as_ref().and_then(|disk| {
            let mut bytes = vec![0; chunk.len as usize];
            disk.read_exact_at(&mut bytes, offset).ok().map(|()| bytes).filter(right)
        });
        from_disk.or_else(|| self.source.past(&self.module, &chunk.id).filter(right))
    }

    /// Bytes that are only wanted as context: what they are is not checked, as nothing is built of them.
    pub(super) fn context(&self, offset: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        self.disk.as_ref()?.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    }

    /// References to all leaf pages of its list, in order; none for a list of one page.
    pub(super) fn leaf_refs(&self) -> Result<Vec<ListRef>, u16> {
        if !self.listed {
            return Ok(Vec::new());
        }
        leaf_refs(self.source.pages(), self.id).map_err(|e| sender::internal(&e))
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
