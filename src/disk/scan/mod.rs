//! A tree on disk becomes pages: every directory is listed, and only files that the index does not know are read.
//!
//! Or a known tree is brought up to date: only what was touched since is looked at, and only pages around it are built.
//!
//! Read in this order: this file (what goes in and comes out), `walk` (the threads and what waits for them),
//! `work` (what each of them does), `directory` (a directory that fills up), `write` (what they found goes to the index),
//! `touched` (a known tree, and what may have changed of it).
//!
//! A scan takes no lock on the tree. What changes meanwhile is found as it was or as it became, never torn: files are
//! believed only if they kept still, and the watcher, or the next scan, sees the rest.

mod directory;
mod touched;
mod walk;
mod work;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

pub use touched::rescan;

use super::dir::Dir;
use super::exclude::Exclude;
#[cfg(doc)]
use super::index::blocks::lists_bytes_max;
use super::index::{Index, IndexError, ModuleNumber};
use super::read::Patience;
use crate::delta::rabin::Rabin;
use crate::tree::chunker::Class;
use crate::tree::codec::Malformed;
use crate::tree::dir::Built;
use crate::tree::entry::Meta;
use crate::tree::hash::DirId;
use crate::tree::name::TreePath;
use crate::tree::page::PageError;

/// How much of a path is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// The path itself.
    Alone,
    /// The path and everything below it.
    Below,
}

/// How to scan.
#[derive(Clone, Copy)]
pub struct ScanOptions<'a> {
    /// The module whose rows are compared and renewed. Nobody else may scan it at the same time.
    pub module: ModuleNumber,
    /// Threads that list and read; one more writes.
    pub threads: NonZeroUsize,
    /// What is left out.
    pub exclude: &'a Exclude,
    /// A tree from which files that cannot be read, or are held, keep their entries; [`rescan`] takes its base.
    pub previous: Option<DirId>,
    /// Whether a file is being written right now: it is not read, and keeps its entry of [`previous`](Self::previous),
    /// if that is no directory, or is left out.
    pub held: &'a (dyn Fn(&TreePath) -> bool + Sync),
    /// The class of files that the index does not know, or knows as too short to matter; where it gives none, the
    /// content decides.
    pub classes: &'a (dyn Fn(&TreePath) -> Option<Class> + Sync),
    /// How lists of blocks are kept of the files that are read, if they are.
    pub blocks: Option<Blocks<'a>>,
    /// How often a file or directory that changes is read again.
    pub patience: Patience,
    /// Raised by who wants the scan to end early. What was read until then is not read again.
    pub cancel: &'a AtomicBool,
    /// The time, which decides whether the times of a file are old enough to be trusted.
    pub clock: &'a (dyn Fn() -> SystemTime + Sync),
}

/// How lists of blocks are kept.
#[derive(Clone, Copy)]
pub struct Blocks<'a> {
    /// What they are made with: the secret of the index.
    pub rabin: &'a Rabin,
    /// Bytes of the module as far as they are known before the scan, for the [room](lists_bytes_max) that lists have.
    pub known_bytes: u64,
}

/// What may have changed since a tree was known.
#[derive(Clone, Copy)]
pub struct Touched<'a> {
    /// The tree; its pages are in the index.
    pub base: Built,
    /// Mode and mtime of its top.
    pub base_meta: Meta,
    /// Where something may have happened. More than what really did does no harm.
    pub paths: &'a BTreeMap<TreePath, Depth>,
}

/// Told of what a scan does, from its threads.
pub trait ScanProgress: Sync {
    /// So many more names were found in directories.
    fn found(&self, names: u64);
    /// So many more bytes of files were read.
    fn read(&self, bytes: u64);
}

/// Nobody watches.
impl ScanProgress for () {
    fn found(&self, _: u64) {}
    fn read(&self, _: u64) {}
}

/// What a scan has found.
#[derive(Debug)]
pub struct Scan {
    /// The top directory.
    pub top: Built,
    /// Its mode and mtime.
    pub meta: Meta,
    /// What was done.
    pub stats: ScanStats,
    /// What is not in the tree as it stands on disk, by path; the first [`SKIPPED_MAX`] of them.
    pub skipped: Vec<Skipped>,
}

/// Skipped paths that a scan names; the others are counted.
pub const SKIPPED_MAX: usize = 10_000;

/// What a scan has done. A [`rescan`] counts what it has looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Regular files in the tree.
    pub files: u64,
    /// Directories in the tree, but for the top; of a rescan, those that were listed.
    pub directories: u64,
    /// Symbolic links in the tree.
    pub links: u64,
    /// Bytes of the files in the tree.
    pub bytes: u64,
    /// Files that were opened and read.
    pub read_files: u64,
    /// Bytes that were read, attempts that were given up included.
    pub read_bytes: u64,
    /// Files that the index knew.
    pub reused: u64,
    /// Files that were being written, and were not looked at more closely.
    pub held: u64,
    /// Names left out by patterns.
    pub excluded: u64,
    /// Directories of mirra's own state, which are left out.
    pub homes: u64,
    /// Names that were gone when they were looked at.
    pub vanished: u64,
    /// Paths in [`Scan::skipped`], and those beyond its bound.
    pub skipped: u64,
}

/// A path that is not in the tree as it stands on disk.
#[derive(Debug)]
pub struct Skipped {
    /// The path; for a name that no module may hold, that of its directory.
    pub path: TreePath,
    /// Whether its entry of [`ScanOptions::previous`] stands in the tree.
    pub kept: bool,
    /// Why.
    pub reason: Reason,
}

/// Why a path was skipped.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It is a socket, FIFO or device.
    #[error("a socket, FIFO or device")]
    Special,
    /// No module may hold it.
    #[error("no module may hold it")]
    Unfit(#[source] Malformed),
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// A file that changed while it was read, each time; or a directory, which was taken as it was last.
    #[error("it kept changing")]
    Changing,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A directory cannot be read. A tree without it would have it deleted everywhere.
    #[error("cannot read the directory \"{path}\"")]
    Directory {
        /// The directory; empty for the top.
        path: TreePath,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The system gave no thread.
    #[error("cannot start a thread to scan with")]
    Thread(#[source] io::Error),
    /// [`ScanOptions::cancel`] was raised.
    #[error("cancelled")]
    Cancelled,
}

impl From<PageError> for ScanError {
    fn from(error: PageError) -> Self {
        Self::Index(error.into())
    }
}

/// Scans the tree below `top`: all of its pages, and what was learned of its files, are in the index afterwards, and it
/// is noted as the module's local tree.
///
/// Memory: some 250 bytes for each name of the directories that are being listed, buffers of a few MiB for each thread, and the block
/// list of the file that a thread reads.
///
/// # Errors
/// [`ScanError`]. What was read before the error is in the index, and is not read again.
pub fn scan(
    top: &Dir,
    index: &Index,
    options: &ScanOptions<'_>,
    progress: &dyn ScanProgress,
) -> Result<Scan, ScanError> {
    let _hold = index.hold();
    let mut writer = write::Writer::new(index, options);
    let walk = walk::Walk::new(top, index, options, progress)?;
    let start = walk::Task::List(TreePath::top(), None);
    let found = match walk.run(start, Some(options.threads), &mut writer) {
        Ok(found) => found,
        Err(error) => return Err(writer.give_up(error)),
    };
    let walk::Found { top, meta, stats, skipped, .. } = found;
    let top = writer.finish([&TreePath::top()], |_| top.ok_or(ScanError::Cancelled))?;
    Ok(Scan { top, meta, stats, skipped })
}

impl ScanStats {
    fn add(&mut self, more: &Self) {
        // All fields are named, so that none is forgotten.
        let Self {
            files,
            directories,
            links,
            bytes,
            read_files,
            read_bytes,
            reused,
            held,
            excluded,
            homes,
            vanished,
            skipped,
        } = more;
        self.files += files;
        self.directories += directories;
        self.links += links;
        self.bytes += bytes;
        self.read_files += read_files;
        self.read_bytes += read_bytes;
        self.reused += reused;
        self.held += held;
        self.excluded += excluded;
        self.homes += homes;
        self.vanished += vanished;
        self.skipped += skipped;
    }
}

#[cfg(test)]
mod tests;
