//! Reading a tree on disk for an operation: with its progress, its wish to stop, and failures in three lines.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::failure::{Exit, Failure};
use super::monitor::{Monitor, Phase};
use super::take_tree::index_failure;
use crate::disk::dir::Dir;
use crate::disk::exclude::Exclude;
use crate::disk::index::{Index, ModuleNumber};
use crate::disk::read::Patience;
use crate::disk::scan::{Blocks, Reason, Scan, ScanError, ScanOptions, ScanProgress, Skipped, Touched, rescan, scan};
use crate::tree::chunker::Class;
use crate::tree::hash::DirId;
use crate::tree::name::TreePath;

/// A tree to be read.
pub(super) struct Survey<'a> {
    pub(super) index: &'a Index,
    pub(super) module: ModuleNumber,
    pub(super) dir: &'a Dir,
    /// Its path, for messages.
    pub(super) shown: &'a Path,
    pub(super) exclude: &'a Exclude,
    /// Files that cannot be read keep their entries of this tree.
    pub(super) previous: Option<DirId>,
    /// The class of files that the index has no row for.
    pub(super) classes: &'a (dyn Fn(&TreePath) -> Option<Class> + Sync),
    /// What is looked at alone; everything when it is left out.
    pub(super) touched: Option<&'a Touched<'a>>,
    /// Files that are being written.
    pub(super) held: &'a (dyn Fn(&TreePath) -> bool + Sync),
    /// How lists of blocks are kept, on a root.
    pub(super) blocks: Option<Blocks<'a>>,
}

impl Survey<'_> {
    /// Reads what the index does not know of the tree.
    ///
    /// # Errors
    /// [`Failure`]; what was read is not read again.
    pub(super) fn run(&self, monitor: &dyn Monitor) -> Result<Scan, Failure> {
        monitor.phase(Phase::Indexing);
        let cancel = AtomicBool::new(false);
        let progress = Watched { monitor, cancel: &cancel };
        let options = ScanOptions {
            module: self.module,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            exclude: self.exclude,
            previous: self.previous,
            classes: self.classes,
            held: self.held,
            blocks: self.blocks,
            patience: Patience::default(),
            cancel: &cancel,
            clock: &SystemTime::now,
        };
        let scanned = match self.touched {
            Some(touched) => rescan(self.dir, self.index, &options, touched, &progress),
            None => scan(self.dir, self.index, &options, &progress),
        };
        scanned.map_err(|error| self.failure(error))
    }

    fn failure(&self, error: ScanError) -> Failure {
        match error {
            ScanError::Cancelled => Failure::interrupted(),
            ScanError::Index(error) => index_failure(error),
            ScanError::Thread(source) => Failure::local("cannot start a thread", &source),
            ScanError::Directory { path, source } => {
                let what = format!("cannot read the directory {}/{path}", self.shown.display());
                let fix = "give mirra the right to read it, or leave it out (--exclude of share, another --seed of sync); nothing was changed";
                Failure { fix: fix.into(), ..Failure::local(what, &source) }
            }
        }
    }
}

/// Leaves no file's class to another's choice.
pub(super) fn no_classes(_: &TreePath) -> Option<Class> {
    None
}

/// Nobody writes.
pub(super) fn nothing_held(_: &TreePath) -> bool {
    false
}

struct Watched<'a> {
    monitor: &'a dyn Monitor,
    cancel: &'a AtomicBool,
}

impl Watched<'_> {
    fn look(&self) {
        if self.monitor.cancelled() {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }
}

impl ScanProgress for Watched<'_> {
    fn found(&self, names: u64) {
        self.monitor.advance(names, 0);
        self.look();
    }

    fn read(&self, bytes: u64) {
        self.monitor.advance(0, bytes);
        self.look();
    }
}

/// A skipped path as one line for people.
pub(super) fn skipped_line(skipped: &Skipped) -> String {
    let kept = if skipped.kept { "; its last published version stays" } else { "" };
    let cause = match &skipped.reason {
        Reason::Unreadable(source) => format!(" ({source})"),
        Reason::Unfit(source) => format!(" ({source})"),
        Reason::Special | Reason::Changing => String::new(),
    };
    format!("{}: {}{cause}{kept}", skipped.path, skipped.reason)
}

/// The patterns of a config, which were checked when it was read.
///
/// # Errors
/// [`Failure`] when a pattern is wrong after all.
pub(super) fn exclude(patterns: &[String]) -> Result<Exclude, Failure> {
    Exclude::new(patterns).map_err(|e| {
        let fix = "correct exclude in .mirra/Mirra.toml";
        Failure::new(Exit::Config, "a pattern is not right", super::dial::chain(&e), fix)
    })
}
