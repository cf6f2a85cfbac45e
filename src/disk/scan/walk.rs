//! The threads of a scan, and the work that waits for them.
//!
//! Work waits on a stack, so that what was found last is done first: a tree is walked in depth, and few directories
//! are open or half known at a time. No thread waits for another's result; who finds the last entry of a directory
//! builds it, and goes on with the one above.

use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::directory::{Directory, Seat};
use super::work::Worker;
use super::write::{Bundle, Outbox};
use super::{SKIPPED_MAX, ScanError, ScanOptions, ScanProgress, ScanStats, Skipped};
use crate::disk::dir::Dir;
use crate::disk::index::Index;
use crate::disk::index::files::FileRow;
use crate::tree::dir::Built;
use crate::tree::entry::Meta;
use crate::tree::name::{Name, TreePath};

/// What a walk has found.
pub(super) struct Found {
    pub(super) top: Built,
    pub(super) meta: Meta,
    pub(super) skipped: Vec<Skipped>,
}

/// What the threads of a scan share.
pub(super) struct Walk<'a> {
    pub(super) top: &'a Dir,
    index: &'a Index,
    pub(super) options: &'a ScanOptions<'a>,
    pub(super) progress: &'a dyn ScanProgress,
    /// Whether files may be known by their inodes: a first scan need not ask.
    pub(super) knows_files: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: Vec<Task>,
    /// Threads that work, and may still add tasks.
    busy: usize,
    ended: bool,
    error: Option<ScanError>,
    built: Option<(Built, Meta)>,
    skipped: Vec<Skipped>,
}

/// A piece of work.
pub(super) enum Task {
    List(TreePath, Option<Seat>),
    Run(Run),
    Read(Reads),
}

/// Neighbouring names of a directory.
pub(super) struct Run {
    pub(super) directory: Arc<Directory>,
    pub(super) number: usize,
    pub(super) names: Vec<Vec<u8>>,
    /// The first name of the next run: rows of the index from this run's first name up to there are this run's.
    pub(super) end: Option<Vec<u8>>,
    /// Open when the run follows its listing at once. Other runs open it again: descriptors are few.
    pub(super) dir: Option<Dir>,
}

/// Files of a run that must be read.
pub(super) struct Reads {
    pub(super) directory: Arc<Directory>,
    pub(super) run: usize,
    pub(super) dir: Arc<Dir>,
    pub(super) files: Vec<ToRead>,
}

pub(super) struct ToRead {
    pub(super) slot: usize,
    pub(super) name: Name,
    pub(super) size: u64,
    /// What the index knows of the path.
    pub(super) known: Option<FileRow>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        top: &'a Dir,
        index: &'a Index,
        options: &'a ScanOptions<'a>,
        progress: &'a dyn ScanProgress,
    ) -> Result<Self, ScanError> {
        let knows_files = index.reader()?.knows_files()?;
        let state = State { tasks: vec![Task::List(options.start.clone(), None)], ..State::default() };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok(Self { top, index, options, progress, knows_files, state, changed })
    }

    /// Works until nothing is left or the scan is stopped.
    pub(super) fn work(&self, to_writer: SyncSender<Bundle>) -> ScanStats {
        // Should this thread panic, the others must not wait for it.
        let _stop = StopOnDrop(self);
        let mut worker = match self.index.reader() {
            Ok(index) => Worker::new(self, index, Outbox::new(to_writer)),
            Err(e) => {
                self.stop(Some(e.into()));
                return ScanStats::default();
            }
        };
        while let Some(task) = self.next() {
            match worker.perform(task) {
                Ok(()) => self.done(),
                Err(e) => self.stop(Some(e)),
            }
        }
        // What was read before a cancel is kept. The writer tells of its own failure.
        let _ = worker.flush();
        worker.stats()
    }

    /// Ends the scan early; the first error is the one to tell.
    pub(super) fn stop(&self, error: Option<ScanError>) {
        let mut state = self.state();
        state.ended = true;
        state.error = state.error.take().or(error);
        // Directories above each other hold on to each other: let go of them outside the lock.
        let tasks = std::mem::take(&mut state.tasks);
        drop(state);
        drop(tasks);
        self.changed.notify_all();
    }

    /// What was found, once all threads have ended.
    pub(super) fn finish(self) -> Result<Found, ScanError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (state.error, state.built) {
            (None, Some((top, meta))) => {
                let mut skipped = state.skipped;
                skipped.sort_by(|a, b| a.path.cmp(&b.path));
                Ok(Found { top, meta, skipped })
            }
            (error, _) => Err(error.unwrap_or(ScanError::Cancelled)),
        }
    }

    fn next(&self) -> Option<Task> {
        let mut state = self.state();
        loop {
            if self.options.cancel.load(Ordering::Relaxed) {
                drop(state);
                self.stop(Some(ScanError::Cancelled));
                return None;
            }
            if state.ended {
                return None;
            }
            if let Some(task) = state.tasks.pop() {
                state.busy += 1;
                return Some(task);
            }
            if state.busy == 0 {
                state.ended = true;
                self.changed.notify_all();
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self) {
        let mut state = self.state();
        state.busy -= 1;
        if state.busy == 0 {
            self.changed.notify_all();
        }
    }

    /// Adds tasks; the last is done first.
    pub(super) fn add(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut state = self.state();
        let before = state.tasks.len();
        state.tasks.extend(tasks);
        match state.tasks.len() - before {
            0 => {}
            1 => self.changed.notify_one(),
            _ => self.changed.notify_all(),
        }
    }

    pub(super) fn report(&self, skipped: Skipped) {
        let mut state = self.state();
        if state.skipped.len() < SKIPPED_MAX {
            state.skipped.push(skipped);
        }
    }

    /// Takes the directory where the scan started.
    pub(super) fn take_top(&self, built: Built, meta: Meta) {
        self.state().built = Some((built, meta));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct StopOnDrop<'a>(&'a Walk<'a>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop(None);
    }
}
