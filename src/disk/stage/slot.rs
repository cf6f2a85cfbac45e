//! One content on its way into the stage.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::RenameFlags;

use super::{StageError, full, part_name, whole_name};
use crate::disk::dir::{Dir, look_fd, set_meta_fd};
use crate::disk::fault::{Fault, is_full};
use crate::tree::entry::Meta;
use crate::tree::hash::FileId;
use crate::tree::name::Name;

/// A place for one content, of which nothing is written yet.
#[derive(Debug)]
pub struct Slot {
    pub(super) dir: Arc<Dir>,
    pub(super) shown: Arc<str>,
    pub(super) id: FileId,
    pub(super) size: u64,
}

impl Slot {
    /// Starts to write; what was written of the content before is dropped.
    ///
    /// # Errors
    /// [`StageError::Full`] or [`StageError::Fault`].
    pub fn create(self) -> Result<Staged, StageError> {
        let file = create_anew(&self.dir, &part_name(&self.id)).map_err(|e| self.failed("create", e))?;
        Ok(Staged { slot: self, file })
    }

    /// Stages all of the content at once: `bytes`, which the caller has verified. `meta` is as in
    /// [`finish`](Staged::finish).
    ///
    /// # Errors
    /// [`StageError::Full`] or [`StageError::Fault`]; nothing of it stays.
    pub fn put(self, bytes: &[u8], meta: Option<&Meta>) -> Result<(), StageError> {
        let put = put_file(&self.dir, &whole_name(&self.id), bytes, meta);
        put.map(drop).map_err(|e| self.failed("write", e))
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> StageError {
        if is_full(&source) {
            return full(&self.dir, self.size);
        }
        let path = format!("{} in the stage of {}", part_name(&self.id), self.shown);
        StageError::Fault(Fault { operation, path, source })
    }
}

fn create_anew(dir: &Dir, name: &Name) -> io::Result<File> {
    match dir.create_file(name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            dir.remove_file(name).and_then(|()| dir.create_file(name))
        }
        made => made,
    }
}

/// A file with all of its content and metadata, or none.
pub(super) fn put_file(dir: &Dir, name: &Name, bytes: &[u8], meta: Option<&Meta>) -> io::Result<File> {
    let file = create_anew(dir, name)?;
    match file.write_all_at(bytes, 0).and_then(|()| dress(&file, meta)) {
        Ok(()) => Ok(file),
        Err(e) => dir.remove_file(name).and(Err(e)),
    }
}

fn dress(file: &File, meta: Option<&Meta>) -> io::Result<()> {
    meta.map_or(Ok(()), |meta| set_meta_fd(file.as_fd(), meta))
}

/// Content that is being written. Dropping it keeps what was written, to be resumed.
#[derive(Debug)]
pub struct Staged {
    pub(super) slot: Slot,
    pub(super) file: File,
}

impl Staged {
    /// The open file, for reading back and for writing in any other way.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Bytes written so far, as the length of the file says.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn written(&self) -> Result<u64, StageError> {
        Ok(look_fd(&self.file).map_err(|e| self.failed("look at", e))?.key.size)
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// [`StageError::Full`] or [`StageError::Fault`]; what was written before stays.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), StageError> {
        self.file.write_all_at(bytes, offset).map_err(|e| self.failed("write", e))
    }

    /// Cuts off or adds zeros up to `size` bytes.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn set_len(&self, size: u64) -> Result<(), StageError> {
        self.file.set_len(size).map_err(|e| self.failed("resize", e))
    }

    /// Ends the writing. The caller has verified that this is the content of its id. With `meta` it gets the metadata of
    /// the place where it will stand, as far as that is known; a change to another place gives it its own.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn finish(self, meta: Option<&Meta>) -> Result<(), StageError> {
        let Slot { dir, id, .. } = &self.slot;
        let renamed = dir.rename(&part_name(id), dir, &whole_name(id), RenameFlags::empty());
        // What is begun has to stay writable, so this comes last.
        renamed.and_then(|()| dress(&self.file, meta)).map_err(|e| self.failed("finish", e))
    }

    /// Removes what was written.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn abandon(self) -> Result<(), StageError> {
        self.slot.dir.remove_file(&part_name(&self.slot.id)).map_err(|e| self.failed("remove", e))
    }

    pub(super) fn failed(&self, operation: &'static str, source: io::Error) -> StageError {
        self.slot.failed(operation, source)
    }
}
