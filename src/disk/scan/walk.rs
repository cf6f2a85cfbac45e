//! The threads of a scan, and the work that waits for them.
//!
//! Work waits on a stack, so that what was found last is done first: a tree is walked in depth, and few directories
//! are open or half known at a time. No thread waits for another's result; who finds the last entry of a directory
//! builds it, and goes on with the one above.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, ScopedJoinHandle};

use super::directory::{Directory, Seat};
use super::touched::Part;
use super::work::Worker;
use super::write::{Outbox, Writer};
use super::{Depth, SKIPPED_MAX, ScanError, ScanOptions, ScanProgress, ScanStats, Skipped};
use crate::disk::dir::Dir;
use crate::disk::index::Index;
use crate::disk::index::files::FileRow;
use crate::tree::dir::Built;
use crate::tree::edit::Edit;
use crate::tree::entry::Meta;
use crate::tree::name::{Name, TreePath};

/// Bundles of records on their way to the index.
const BUNDLES: usize = 16;

/// What a walk has found.
pub(super) struct Found {
    /// The top as it is; `None` when a known tree was looked at in part.
    pub(super) top: Option<Built>,
    /// The top's mode and mtime.
    pub(super) meta: Meta,
    /// What has become of a known tree that was looked at in part.
    pub(super) edits: BTreeMap<TreePath, Edit>,
    pub(super) stats: ScanStats,
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
    /// The paths to look at, in order, where a known tree is looked at in part.
    pub(super) touched: &'a [(&'a TreePath, Depth)],
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
    top: Option<Built>,
    meta: Option<Meta>,
    edits: BTreeMap<TreePath, Edit>,
    skipped: Vec<Skipped>,
}

/// A piece of work.
pub(super) enum Task {
    List(TreePath, Option<Seat>),
    Part(Part),
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
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok(Self { top, index, options, progress, knows_files, touched: &[], state, changed })
    }

    /// Starts with `task`, and works until nothing is left: with so many threads beside one that writes, or, without
    /// any, on the thread that calls. What was found of files is with `writer` afterwards, whatever the answer.
    pub(super) fn run(
        self,
        task: Task,
        threads: Option<NonZeroUsize>,
        writer: &mut Writer<'_>,
    ) -> Result<Found, ScanError> {
        self.add([task]);
        let stats = match threads {
            Some(threads) => self.work_together(threads, writer)?,
            None => self.work(Outbox::straight(writer)),
        };
        self.finish(stats)
    }

    fn work_together(&self, threads: NonZeroUsize, writer: &mut Writer<'_>) -> Result<ScanStats, ScanError> {
        let (to_writer, bundles) = sync_channel(BUNDLES);
        std::thread::scope(|scope| {
            let started: Result<Vec<ScopedJoinHandle<'_, ScanStats>>, io::Error> = (0..threads.get())
                .map(|_| {
                    let to_writer = to_writer.clone();
                    Builder::new().name("scan".into()).spawn_scoped(scope, || self.work(Outbox::to_writer(to_writer)))
                })
                .collect();
            drop(to_writer);
            let started = started.map_err(|source| {
                self.stop(None);
                ScanError::Thread(source)
            });
            writer.take_all(bundles)?;
            let mut stats = ScanStats::default();
            for worker in started? {
                stats.add(&worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            Ok(stats)
        })
    }

    /// Works until nothing is left or the scan is stopped.
    fn work(&self, out: Outbox<'_>) -> ScanStats {
        // Should this thread panic, the others must not wait for it.
        let _stop = StopOnDrop(self);
        let mut worker = match self.index.reader() {
            Ok(index) => Worker::new(self, index, out),
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
        // What was read before a cancel is kept. Where another thread writes, it tells of its failure first.
        if let Err(e) = worker.flush() {
            self.stop(Some(e));
        }
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
    fn finish(self, stats: ScanStats) -> Result<Found, ScanError> {
        let State { error, top, meta, edits, mut skipped, .. } =
            self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (error, meta) {
            (None, Some(meta)) => {
                skipped.sort_by(|a, b| a.path.cmp(&b.path));
                Ok(Found { top, meta, edits, stats, skipped })
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

    /// Takes the top: all of it, or, where a known tree is looked at in part, its metadata alone.
    pub(super) fn take_top(&self, built: Option<Built>, meta: Meta) {
        let mut state = self.state();
        (state.top, state.meta) = (built, Some(meta));
    }

    /// Takes changes of the known tree.
    pub(super) fn take_edits(&self, edits: impl IntoIterator<Item = (TreePath, Edit)>) {
        self.state().edits.extend(edits);
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
