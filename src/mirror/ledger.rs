//! What a switch needs of whoever starts it: a way to stop, and a place to write down what was done.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::failure::Failure;
use super::monitor::Monitor;
use super::take_content::broken;
use super::take_tree::index_failure;
use crate::disk::dir::StatKey;
use crate::disk::index::files::FileRow;
use crate::disk::index::{Batch, Index, IndexError, ModuleNumber};
use crate::disk::publish::{Removed, Step, Witness};
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::FileId;
use crate::tree::list::{Samples, chunks};
use crate::tree::name::TreePath;

/// Stops a switch when the operator wants it to.
pub(super) struct Watch<'a>(pub(super) &'a dyn Monitor);

impl Step for Watch<'_> {
    fn before(&self, _: &'static str, _: &TreePath) -> io::Result<()> {
        if self.0.cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

/// Writes down what a switch has done, a thousand files at a time, in a thread of its own: a switch may take long, and
/// others write to the index too. A row is true as soon as its file stands there, whatever becomes of the rest.
pub(super) struct Ledger<'scope> {
    /// Nanoseconds since 1970.
    now: i64,
    /// Paths that were put aside.
    pub(super) aside: u64,
    rows: Rows,
    give: SyncSender<Rows>,
    writer: ScopedJoinHandle<'scope, Result<(), IndexError>>,
}

type Rows = Vec<(TreePath, FileRow)>;

/// Rows that are written in one batch.
const ROWS: usize = 1_024;
/// Batches that wait to be written.
const BATCHES: usize = 4;

impl<'scope> Ledger<'scope> {
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        index: &'env Index,
        module: ModuleNumber,
        now_ms: u64,
    ) -> Self {
        let (give, take) = sync_channel(BATCHES);
        let writer = scope.spawn(move || take.iter().try_for_each(|rows| write(index, module, &rows)));
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Self { now, aside: 0, rows: Rows::new(), give, writer }
    }

    /// Writes the rest, and says how many paths were put aside.
    ///
    /// # Errors
    /// The first [`Failure`] of all.
    pub(super) fn finish(mut self) -> Result<u64, Failure> {
        self.pass_on();
        drop(self.give);
        let written = self.writer.join().map_err(|_| broken())?;
        written.map(|()| self.aside).map_err(index_failure)
    }

    fn pass_on(&mut self) {
        // A writer that has ended has failed, which is said in the end.
        let _ = self.give.send(std::mem::take(&mut self.rows));
    }
}

fn write(index: &Index, module: ModuleNumber, rows: &Rows) -> Result<(), IndexError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut batch = index.batch()?;
    for (path, row) in rows {
        batch.put_file(module, path, row)?;
        put_samples(&mut batch, module, &row.id)?;
    }
    batch.commit()
}

impl Witness for Ledger<'_> {
    fn published(&mut self, path: &TreePath, entry: &Entry, key: StatKey) {
        let Body::File { class, id, .. } = entry.body else { return };
        // A file whose mtime is of these very seconds may be written again without its mtime showing it.
        let settled = key.mtime < self.now - SETTLED_AFTER;
        self.rows.push((path.clone(), FileRow { stat: key, settled, class, id }));
        if self.rows.len() >= ROWS {
            self.pass_on();
        }
    }

    fn displaced(&mut self, path: &TreePath, kept: &TreePath, removed: Removed) {
        if removed == Removed::Adopted {
            self.aside += 1;
            tracing::info!(%path, %kept, "put aside");
        }
    }
}

/// Nanoseconds after which an mtime is old enough to be trusted.
const SETTLED_AFTER: i64 = 2_000_000_000;

/// Samples the chunks of a file that has a list.
fn put_samples(batch: &mut Batch<'_>, module: ModuleNumber, id: &FileId) -> Result<(), IndexError> {
    let mut samples = Samples::default();
    match chunks(&*batch, *id)? {
        None => return Ok(()),
        Some(list) => {
            for chunk in list {
                samples.add(&chunk?.id);
            }
        }
    }
    batch.put_samples(module, id, &samples)
}
