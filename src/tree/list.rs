//! A file as the list of its chunks, in pages.

use serde::{Deserialize, Serialize};

use super::codec::Malformed;
use super::hash::{ChunkId, FileId, ID_LEN};
use super::limits::{PAGE_CUT_BITS, SAMPLES_MAX};
use super::page::{Builder, Discard, Kind, Page, PageError, PageSink, PageSource, load};

/// One chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chunk {
    /// `[chunk.id]`: BLAKE3 of its bytes.
    pub id: ChunkId,
    /// `[chunk.length]`: in bytes, at least 1.
    pub len: u32,
}

impl Chunk {
    /// The chunk that holds `bytes`, which are fewer than 4 GiB as those of every chunk are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { id: ChunkId::of(bytes), len: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }
    }
}

/// A reference to a page of chunks: `[list-reference.first]` chunk, `[list-reference.page]`, `[list-reference.chunks]` and
/// `[list-reference.bytes]` below it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListRef(pub ChunkId, pub FileId, pub u64, pub u64);

/// Chunk list pages.
#[derive(Debug, Clone, Copy)]
pub struct ListKind;

impl Kind for ListKind {
    type Item = Chunk;
    type Key = ChunkId;
    type Up = ListRef;

    fn id(page: &[u8]) -> [u8; ID_LEN] {
        *FileId::of(page).as_bytes()
    }
    fn key(item: &Chunk) -> ChunkId {
        item.id
    }
    fn ends_page(key: &ChunkId) -> bool {
        // A chunk id is a hash already.
        key.as_bytes().first().is_some_and(|b| b.trailing_zeros() >= PAGE_CUT_BITS)
    }
    fn weigh(item: &Chunk) -> [u64; 2] {
        [1, u64::from(item.len)]
    }
    fn up(key: ChunkId, id: [u8; ID_LEN], [chunks, bytes]: [u64; 2]) -> ListRef {
        ListRef(key, FileId::from_bytes(id), chunks, bytes)
    }
    fn parts(up: &ListRef) -> (ChunkId, [u8; ID_LEN], [u64; 2]) {
        (up.0, *up.1.as_bytes(), [up.2, up.3])
    }
    fn check(items: &[Chunk]) -> Result<(), Malformed> {
        match items.iter().any(|chunk| chunk.len == 0) {
            true => Err(Malformed::Rule { what: "chunk list", rule: "a chunk is empty" }),
            false => Ok(()),
        }
    }
    fn check_up(_: &[ListRef]) -> Result<(), Malformed> {
        Ok(())
    }
}

/// Builds a chunk list, and stores its pages only if it has more than one chunk: a shorter list follows from the
/// content, and most files of a mirror are that small.
#[derive(Default)]
pub struct ListBuilder {
    pages: Builder<ListKind>,
    /// The first chunk, kept back until a second one shows that pages are wanted.
    first: Option<Chunk>,
    started: bool,
    bytes: u64,
}

impl ListBuilder {
    /// Appends the next chunk.
    ///
    /// # Errors
    /// Whatever `sink` answers.
    pub fn push(&mut self, chunk: Chunk, sink: &mut dyn PageSink) -> Result<(), PageError> {
        self.bytes = self.bytes.saturating_add(u64::from(chunk.len));
        if self.started {
            return self.pages.push(&chunk, sink);
        }
        match self.first.take() {
            None => self.first = Some(chunk),
            Some(first) => {
                self.started = true;
                self.pages.push(&first, sink)?;
                self.pages.push(&chunk, sink)?;
            }
        }
        Ok(())
    }

    /// The file's id and size.
    ///
    /// # Errors
    /// Whatever `sink` answers.
    pub fn finish(mut self, sink: &mut dyn PageSink) -> Result<(FileId, u64), PageError> {
        let top = if self.started {
            self.pages.finish(sink)?
        } else {
            if let Some(first) = self.first {
                self.pages.push(&first, &mut Discard)?;
            }
            self.pages.finish(&mut Discard)?
        };
        Ok((FileId::from_bytes(top.id), self.bytes))
    }
}

/// A few chunk ids of a file whose chunks come one by one: the smallest, so that two files that share much most likely
/// share one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    smallest: Vec<u64>,
    chunks: u64,
}

impl Samples {
    /// Takes the next chunk.
    pub fn add(&mut self, chunk: &ChunkId) {
        self.chunks += 1;
        let id = chunk.prefix();
        let at = self.smallest.partition_point(|known| *known < id);
        if at < SAMPLES_MAX && self.smallest.get(at) != Some(&id) {
            self.smallest.insert(at, id);
            self.smallest.truncate(SAMPLES_MAX);
        }
    }

    /// The first eight bytes of the ids, ascending: none for a file of one chunk, which is found by its own id.
    #[must_use]
    pub fn ids(&self) -> &[u64] {
        if self.chunks < 2 { &[] } else { &self.smallest }
    }
}

/// The id of a file of these chunks.
///
/// # Errors
/// None in practice: nothing is stored.
pub fn file_id(chunks: &[Chunk]) -> Result<FileId, PageError> {
    let mut list = ListBuilder::default();
    for chunk in chunks {
        list.push(*chunk, &mut Discard)?;
    }
    Ok(list.finish(&mut Discard)?.0)
}

/// The leaf pages of a list in order, read as they are asked for.
pub struct Leaves<'a> {
    pages: &'a dyn PageSource,
    todo: Vec<FileId>,
}

impl<'a> Leaves<'a> {
    /// Starts at the first chunk of `file`.
    #[must_use]
    pub fn new(pages: &'a dyn PageSource, file: FileId) -> Self {
        Self { pages, todo: vec![file] }
    }
}

impl Iterator for Leaves<'_> {
    type Item = Result<(FileId, Vec<Chunk>), PageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let id = self.todo.pop()?;
            match load::<ListKind>(self.pages, id.as_bytes()) {
                Ok(Page::Leaf(chunks)) => return Some(Ok((id, chunks))),
                // Bounded: at most 256 references a page and 8 levels.
                Ok(Page::Upper(_, ups)) => self.todo.extend(ups.iter().rev().map(|up| up.1)),
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// All chunks of a file, or `None` if its list is not stored because it has fewer than two chunks.
///
/// # Errors
/// [`PageError`] when a page below the top is missing, or the store fails.
pub fn chunks<'a>(
    pages: &'a dyn PageSource,
    file: FileId,
) -> Result<Option<impl Iterator<Item = Result<Chunk, PageError>> + 'a>, PageError> {
    if pages.page(file.as_bytes())?.is_none() {
        return Ok(None);
    }
    Ok(Some(Leaves::new(pages, file).flat_map(|leaf| match leaf {
        Ok((_, chunks)) => chunks.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(e) => vec![Err(e)],
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::page::Pages;

    fn some_chunks(n: u32) -> Vec<Chunk> {
        (0..n).map(|i| Chunk { id: ChunkId::of(&i.to_le_bytes()), len: i + 1 }).collect()
    }

    fn build(chunks: &[Chunk]) -> (FileId, Pages) {
        let mut pages = Pages::new();
        let mut list = ListBuilder::default();
        chunks.iter().for_each(|c| list.push(*c, &mut pages).unwrap());
        (list.finish(&mut pages).unwrap().0, pages)
    }

    #[test]
    fn lists_of_every_length_round_trip() {
        for n in [0, 1, 2, 15, 16, 17, 100, 300, 5_000, 20_000] {
            let wanted = some_chunks(n);
            let (id, pages) = build(&wanted);
            assert_eq!(id, file_id(&wanted).unwrap());
            match chunks(&pages, id).unwrap() {
                None => assert!(n < 2 && pages.is_empty()),
                Some(got) => assert_eq!(got.collect::<Result<Vec<_>, _>>().unwrap(), wanted),
            }
        }
    }

    #[test]
    fn equal_chunks_make_bounded_pages() {
        let same = vec![Chunk { id: ChunkId::of(b"zeros"), len: 9 }; 10_000];
        let (id, pages) = build(&same);
        assert_eq!(chunks(&pages, id).unwrap().unwrap().count(), 10_000);
    }

    #[test]
    fn an_edit_moves_no_boundary_but_its_own() {
        let mut edited = some_chunks(20_000);
        let (_, before) = build(&edited);
        edited[7_000].id = ChunkId::of(b"edit");
        let (_, after) = build(&edited);
        let fresh = after.keys().filter(|id| !before.contains_key(*id)).count();
        assert!(fresh <= 8, "{fresh} pages changed for one chunk");
    }
}
