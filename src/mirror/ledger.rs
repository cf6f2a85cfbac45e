//! What a switch needs of whoever starts it: a way to stop, and a place to write down what was done.

use std::io;

use super::failure::Failure;
use super::monitor::Monitor;
use super::take_tree::index_failure;
use crate::disk::dir::StatKey;
use crate::disk::index::files::FileRow;
use crate::disk::index::similar::Samples;
use crate::disk::index::{Batch, IndexError, ModuleNumber};
use crate::disk::publish::{Removed, Step, Witness};
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::FileId;
use crate::tree::list::chunks;
use crate::tree::name::TreePath;

/// Stops a switch when the operator wants it to.
pub(super) struct Watch<'a>(pub(super) &'a dyn Monitor);

impl Step for Watch<'_> {
    fn before(&self, _: &'static str, _: &TreePath) -> io::Result<()> {
        if self.0.cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

/// Writes down what a switch has done. The rows are seen by others when all of it is over.
pub(super) struct Ledger<'b, 'i> {
    pub(super) batch: &'b mut Batch<'i>,
    pub(super) module: ModuleNumber,
    pub(super) now: i64,
    pub(super) aside: u64,
    pub(super) failed: Option<Failure>,
}

impl Witness for Ledger<'_, '_> {
    fn published(&mut self, path: &TreePath, entry: &Entry, key: StatKey) {
        let Body::File { class, id, .. } = entry.body else { return };
        // A file whose mtime is of these very seconds may be written again without its mtime showing it.
        let settled = key.mtime < self.now - SETTLED_AFTER;
        let row = FileRow { stat: key, settled, class, id };
        let put = self.batch.put_file(self.module, path, &row).and_then(|_| put_samples(self.batch, self.module, &id));
        if let Err(error) = put {
            self.failed.get_or_insert(index_failure(error));
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
