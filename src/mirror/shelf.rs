//! Where fetched content lands, and where the bases of copies are read from.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use super::own::Own;
use crate::disk::dir::Dir;
use crate::disk::index::{Index, IndexError};
use crate::disk::stage::{Slot, Stage, StageError, Staged};
use crate::protocol::fetch::{Have, Landing, Shelf, Wanted};
use crate::tree::entry::Meta;
use crate::tree::hash::{DirId, FileId, ID_LEN};
use crate::tree::name::TreePath;
use crate::tree::page::{PageError, PageSink};

/// Bytes of chunk list pages that are gathered before they are written to the index.
const PAGES_GATHERED: usize = 4 * 1024 * 1024;
/// Bytes gathered before they are written to a staged file.
const WRITE_GATHERED: usize = 256 * 1024;

/// The stage and the target, as one content stream uses them.
pub(super) struct StageShelf<'a> {
    index: &'a Index,
    stage: &'a Stage,
    target: &'a Dir,
    /// The tree of the base that the sender copies from.
    base: Option<DirId>,
    own: HashMap<FileId, Rc<Own>>,
    /// Metadata of files that are asked for.
    metas: HashMap<FileId, Meta>,
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
    pub(super) fn new(index: &'a Index, stage: &'a Stage, target: &'a Dir, base: Option<DirId>) -> Self {
        Self { index, stage, target, base, own: HashMap::new(), metas: HashMap::new(), pages: Gathered::default() }
    }

    /// Says what metadata a file that is asked for has where it first stands.
    pub(super) fn dress(&mut self, id: FileId, meta: Meta) {
        self.metas.insert(id, meta);
    }

    /// Keeps what is known to be here of a file until it has come.
    pub(super) fn remember(&mut self, id: FileId, own: Rc<Own>) {
        self.own.insert(id, own);
    }

    /// What is known to be here of a file.
    pub(super) fn known(&self, id: &FileId) -> Option<Rc<Own>> {
        self.own.get(id).cloned()
    }

    pub(super) fn forget(&mut self, id: &FileId) {
        self.own.remove(id);
        self.metas.remove(id);
    }

    /// Whether enough pages are gathered to be written.
    pub(super) fn is_full(&self) -> bool {
        self.pages.bytes >= PAGES_GATHERED
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
        let meta = self.metas.get(&wanted.id).copied();
        let slot = self.stage.slot(&wanted.id, wanted.size);
        Ok(Box::new(InStage { to: To::Slot(slot), meta, gathered: Vec::new(), written: 0 }))
    }

    fn basis(&mut self, path: &TreePath) -> Option<Rc<dyn Have>> {
        // What the sender believes to stand there does, or the copies make nothing of use.
        self.base?;
        Some(Rc::new(InFile(self.target.open_file_at(path).ok()?)))
    }

    fn own(&mut self, wanted: &Wanted) -> Option<Rc<dyn Have>> {
        self.own.get(&wanted.id).map(|own| own.clone() as Rc<dyn Have>)
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

/// A file of the stage that is written from its start; one that is gathered as a whole is made when it is finished.
struct InStage {
    to: To,
    meta: Option<Meta>,
    gathered: Vec<u8>,
    written: u64,
}

enum To {
    Slot(Slot),
    File(Staged),
    /// Making it failed.
    Nowhere,
}

impl InStage {
    fn flush(&mut self) -> io::Result<()> {
        let staged = match std::mem::replace(&mut self.to, To::Nowhere) {
            To::Slot(slot) => slot.create().map_err(io_error)?,
            To::File(staged) => staged,
            To::Nowhere => return Err(io::ErrorKind::NotFound.into()),
        };
        let written = staged.write_at(&self.gathered, self.written).map_err(io_error);
        self.to = To::File(staged);
        written?;
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
        if matches!(self.to, To::File(_)) {
            self.flush()?;
        }
        let (to, meta) = (self.to, self.meta.as_ref());
        match to {
            To::Slot(slot) => slot.put(&self.gathered, meta).map_err(io_error),
            To::File(staged) => staged.finish(meta).map_err(io_error),
            To::Nowhere => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn discard(self: Box<Self>) {
        if let To::File(staged) = self.to
            && let Err(error) = staged.abandon()
        {
            tracing::warn!(%error, "cannot remove what was staged in vain");
        }
    }
}

/// A file of the target as a basis.
struct InFile(File);

impl Have for InFile {
    fn chunk(&self, _: u64) -> Option<Vec<u8>> {
        None
    }

    fn read(&self, from: u64, buffer: &mut [u8]) -> bool {
        self.0.read_exact_at(buffer, from).is_ok()
    }
}
