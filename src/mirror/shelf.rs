//! Where fetched content lands, and where chunks that are here already are read from.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use crate::disk::chunks::each_chunk;
use crate::disk::dir::Dir;
use crate::disk::index::{Index, IndexError, Reader};
use crate::disk::stage::{Stage, StageError, Staged};
use crate::protocol::fetch::{Have, Landing, Shelf, Wanted};
use crate::tree::chunker::Class;
use crate::tree::dir::look_up;
use crate::tree::entry::Body;
use crate::tree::hash::{ChunkId, DirId, FileId, ID_LEN};
use crate::tree::list::{Chunk, chunks};
use crate::tree::name::TreePath;
use crate::tree::page::{PageError, PageSink, PageSource};

/// Bytes of chunk list pages that are gathered before they are written to the index.
const PAGES_GATHERED: usize = 4 * 1024 * 1024;
/// Bytes gathered before they are written to a staged file.
const WRITE_GATHERED: usize = 256 * 1024;

/// The stage and the target, as one content stream uses them.
pub(super) struct StageShelf<'a> {
    index: &'a Index,
    reader: Reader,
    stage: &'a Stage,
    target: &'a Dir,
    /// The tree of the base that the sender copies from.
    base: Option<DirId>,
    own: HashMap<FileId, Rc<Own>>,
    pages: Gathered,
}

/// Pages that wait to be written.
#[derive(Default)]
struct Gathered {
    pages: Vec<([u8; ID_LEN], Vec<u8>)>,
    bytes: usize,
}

impl PageSink for Gathered {
    fn put(&mut self, id: &[u8; ID_LEN], bytes: &[u8]) -> Result<(), PageError> {
        self.pages.push((*id, bytes.to_vec()));
        self.bytes += bytes.len();
        Ok(())
    }
}

impl<'a> StageShelf<'a> {
    pub(super) fn new(
        index: &'a Index,
        stage: &'a Stage,
        target: &'a Dir,
        base: Option<DirId>,
    ) -> Result<Self, IndexError> {
        let reader = index.reader()?;
        Ok(Self { index, reader, stage, target, base, own: HashMap::new(), pages: Gathered::default() })
    }

    /// Keeps what is known to be here of a file until it has come.
    pub(super) fn remember(&mut self, id: FileId, own: Rc<Own>) {
        self.own.insert(id, own);
    }

    pub(super) fn forget(&mut self, id: &FileId) {
        self.own.remove(id);
    }

    /// The bitmap of chunks that are not here; empty when nothing is known.
    pub(super) fn wanted_bits(&self, id: &FileId) -> Vec<u8> {
        self.own.get(id).map_or_else(Vec::new, |own| own.wanted_bits())
    }

    pub(super) fn flush_if_full(&mut self) -> Result<(), IndexError> {
        if self.pages.bytes >= PAGES_GATHERED { self.flush() } else { Ok(()) }
    }

    /// Writes the gathered pages. The pages of a list come before those above them, so a crash leaves no gap.
    pub(super) fn flush(&mut self) -> Result<(), IndexError> {
        let gathered = std::mem::take(&mut self.pages);
        if gathered.pages.is_empty() {
            return Ok(());
        }
        let mut batch = self.index.batch()?;
        for (id, bytes) in gathered.pages {
            batch.put(&id, &bytes)?;
        }
        batch.commit()
    }
}

impl Shelf for StageShelf<'_> {
    fn begin(&mut self, wanted: &Wanted) -> io::Result<Box<dyn Landing>> {
        let staged = self.stage.create(&wanted.id, wanted.size).map_err(io_error)?;
        Ok(Box::new(InStage { staged, gathered: Vec::new(), written: 0 }))
    }

    fn basis(&mut self, path: &TreePath) -> Option<Box<dyn Have>> {
        let entry = look_up(&*self.reader, self.base?, path).ok()??;
        let Body::File { id, .. } = entry.body else { return None };
        let mut offset = 0;
        let mut places = Vec::new();
        for chunk in chunks(&*self.reader, id).ok()?? {
            let chunk = chunk.ok()?;
            places.push((chunk, offset));
            offset += u64::from(chunk.len);
        }
        Some(Box::new(InFile { file: self.target.open_file_at(path).ok()?, places }))
    }

    fn own(&mut self, wanted: &Wanted) -> Option<Box<dyn Have>> {
        Some(Box::new(OwnChunks(self.own.get(&wanted.id)?.clone())))
    }

    fn pages(&mut self) -> &mut dyn PageSink {
        &mut self.pages
    }
}

fn io_error(error: StageError) -> io::Error {
    match error {
        StageError::Full { .. } | StageError::NoFiles { .. } => io::Error::new(io::ErrorKind::StorageFull, error),
        StageError::Fault(fault) => fault.source,
        StageError::Module(_) => io::Error::new(io::ErrorKind::InvalidInput, error),
    }
}

/// A staged file that is being written from its start.
struct InStage {
    staged: Staged,
    gathered: Vec<u8>,
    written: u64,
}

impl InStage {
    fn flush(&mut self) -> io::Result<()> {
        self.staged.write_at(&self.gathered, self.written).map_err(io_error)?;
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }
}

impl Landing for InStage {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= WRITE_GATHERED { self.flush() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.flush()?;
        self.staged.finish().map_err(io_error)
    }

    fn discard(self: Box<Self>) {
        if let Err(error) = self.staged.abandon() {
            tracing::warn!(%error, "cannot remove what was staged in vain");
        }
    }
}

/// The chunks of one file of the target.
struct InFile {
    file: File,
    places: Vec<(Chunk, u64)>,
}

impl Have for InFile {
    fn chunk(&mut self, index: u64) -> Option<Vec<u8>> {
        let (chunk, offset) = self.places.get(usize::try_from(index).ok()?)?;
        read_chunk(&self.file, chunk, *offset)
    }
}

/// Reads a chunk where it should be; `None` when something else is there.
fn read_chunk(file: &File, chunk: &Chunk, offset: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; chunk.len as usize];
    file.read_exact_at(&mut bytes, offset).ok()?;
    (ChunkId::of(&bytes) == chunk.id).then_some(bytes)
}

/// What is here of a file whose chunk list is known.
pub(super) struct Own {
    list: Vec<Chunk>,
    /// For each chunk of the list, the file and the offset where it is.
    places: Vec<Option<(usize, u64)>>,
    files: Vec<File>,
}

impl Own {
    pub(super) fn new(list: Vec<Chunk>) -> Self {
        Self { places: vec![None; list.len()], list, files: Vec::new() }
    }

    pub(super) fn ids(&self) -> Vec<ChunkId> {
        self.list.iter().map(|chunk| chunk.id).collect()
    }

    pub(super) fn has_any(&self) -> bool {
        self.places.iter().any(Option::is_some)
    }

    /// Finds chunks in what an earlier run has begun to write: its bytes are cut and hashed, and trusted no further.
    pub(super) fn take_begun(&mut self, file: &File, class: Class) -> io::Result<()> {
        let mut found = HashMap::new();
        each_chunk(file, class, |offset, bytes| {
            found.insert(ChunkId::of(bytes), offset);
            Ok(())
        })?;
        self.take(&found, file.try_clone()?);
        Ok(())
    }

    /// Finds chunks in a file of the target whose list is in the index.
    pub(super) fn take_listed(
        &mut self,
        pages: &dyn PageSource,
        target: &Dir,
        path: &TreePath,
        id: FileId,
    ) -> Result<(), PageError> {
        let Some(list) = chunks(pages, id)? else { return Ok(()) };
        let Ok(file) = target.open_file_at(path) else { return Ok(()) };
        let mut found = HashMap::new();
        let mut offset = 0;
        for chunk in list {
            let chunk = chunk?;
            found.insert(chunk.id, offset);
            offset += u64::from(chunk.len);
        }
        self.take(&found, file);
        Ok(())
    }

    fn take(&mut self, found: &HashMap<ChunkId, u64>, file: File) {
        let number = self.files.len();
        for (chunk, place) in self.list.iter().zip(&mut self.places) {
            if place.is_none() {
                *place = found.get(&chunk.id).map(|offset| (number, *offset));
            }
        }
        self.files.push(file);
    }

    fn wanted_bits(&self) -> Vec<u8> {
        let mut bits = vec![0u8; self.places.len().div_ceil(8)];
        for (i, _) in self.places.iter().enumerate().filter(|(_, place)| place.is_none()) {
            if let Some(byte) = bits.get_mut(i / 8) {
                *byte |= 0x80 >> (i % 8);
            }
        }
        bits
    }
}

struct OwnChunks(Rc<Own>);

impl Have for OwnChunks {
    fn chunk(&mut self, index: u64) -> Option<Vec<u8>> {
        let at = usize::try_from(index).ok()?;
        let (chunk, place) = (self.0.list.get(at)?, self.0.places.get(at)?.as_ref()?);
        read_chunk(self.0.files.get(place.0)?, chunk, place.1)
    }
}
