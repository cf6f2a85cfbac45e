//! What the threads of a scan find goes to the index, in their order, in transactions of a few MiB.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::ScanError;
use crate::disk::index::files::{FileRow, PlaceNumber};
use crate::disk::index::{Batch, Index, IndexError, ModuleNumber};
use crate::tree::dir::Built;
use crate::tree::hash::ID_LEN;
use crate::tree::list::Samples;
use crate::tree::name::TreePath;
use crate::tree::page::{PageError, PageSink};

/// One thing to be written.
pub(super) enum Record {
    Page([u8; ID_LEN], Box<[u8]>),
    /// A file, behind the pages of its list: a row never says more than the pages hold.
    File(TreePath, FileRow, Samples),
    /// No file has this path any more.
    Gone(TreePath),
    /// The directory still exists.
    Seen(PlaceNumber),
}

/// Records and about how many bytes they have.
#[derive(Default)]
pub(super) struct Bundle {
    records: Vec<Record>,
    bytes: usize,
}

/// Bytes of records that travel together.
const BUNDLE_BYTES: usize = 256 * 1024;
/// Bytes of records that are committed together.
const COMMIT_BYTES: usize = 8 * 1024 * 1024;
/// How long a record waits to be committed.
const COMMIT_AFTER: Duration = Duration::from_secs(2);
/// What a record counts besides its page.
const RECORD_BYTES: usize = 150;

/// What one thread has found and not yet handed over.
pub(super) struct Outbox<'a> {
    bundle: Bundle,
    hand_over: Box<dyn FnMut(Bundle) -> Result<(), PageError> + 'a>,
}

impl<'a> Outbox<'a> {
    /// Records go to the thread that writes. An error says that it has failed, and is not the one to report.
    pub(super) fn to_writer(writer: SyncSender<Bundle>) -> Self {
        let gone = |_| PageError::Store("the writer has ended".into());
        let hand_over = move |bundle| writer.send(bundle).map_err(gone);
        Self { bundle: Bundle::default(), hand_over: Box::new(hand_over) }
    }

    /// Records are written by the thread that finds them.
    pub(super) fn straight(writer: &'a mut Writer<'_>) -> Self {
        let hand_over = |bundle| writer.take(bundle).map_err(PageError::from);
        Self { bundle: Bundle::default(), hand_over: Box::new(hand_over) }
    }

    pub(super) fn push(&mut self, record: Record) -> Result<(), PageError> {
        let page = if let Record::Page(_, bytes) = &record { bytes.len() } else { 0 };
        self.bundle.bytes += page + RECORD_BYTES;
        self.bundle.records.push(record);
        if self.bundle.bytes < BUNDLE_BYTES { Ok(()) } else { self.flush() }
    }

    /// Hands over everything.
    pub(super) fn flush(&mut self) -> Result<(), PageError> {
        (self.hand_over)(std::mem::take(&mut self.bundle))
    }
}

impl PageSink for Outbox<'_> {
    fn put(&mut self, id: &[u8; ID_LEN], bytes: &[u8]) -> Result<(), PageError> {
        self.push(Record::Page(*id, bytes.into()))
    }
}

/// Who writes.
pub(super) struct Writer<'a> {
    index: &'a Index,
    module: ModuleNumber,
    /// Bundles are gathered without the lock on the index's writer, which others want too.
    held: Vec<Bundle>,
    bytes: usize,
    /// Directories that were met, a bit for each number.
    seen: Vec<u64>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(index: &'a Index, module: ModuleNumber) -> Self {
        Self { index, module, held: Vec::new(), bytes: 0, seen: Vec::new() }
    }

    /// Writes until all senders are gone; the last bundles are still held then. After an error, so is the receiver: no
    /// sender waits.
    pub(super) fn take_all(&mut self, bundles: Receiver<Bundle>) -> Result<(), IndexError> {
        let mut since = Instant::now();
        loop {
            match bundles.recv_timeout(COMMIT_AFTER.saturating_sub(since.elapsed())) {
                Ok(bundle) => self.take(bundle)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if self.held.is_empty() {
                since = Instant::now();
            } else if since.elapsed() >= COMMIT_AFTER {
                self.commit()?;
                since = Instant::now();
            }
        }
    }

    fn take(&mut self, bundle: Bundle) -> Result<(), IndexError> {
        self.bytes += bundle.bytes;
        self.held.push(bundle);
        if self.bytes < COMMIT_BYTES { Ok(()) } else { self.commit() }
    }

    /// Keeps what was found before an error, and gives that back: it is the one to tell.
    pub(super) fn give_up(mut self, error: ScanError) -> ScanError {
        let _ = self.commit();
        error
    }

    fn commit(&mut self) -> Result<(), IndexError> {
        if self.held.is_empty() { Ok(()) } else { self.write_held()?.commit() }
    }

    /// Writes what is held; forgets files at the paths `renewed` and below whose directories were not met, as all that
    /// is there was looked at; then `tree` names the tree, which is noted as the module's.
    pub(super) fn finish<'p>(
        mut self,
        renewed: impl IntoIterator<Item = &'p TreePath>,
        tree: impl FnOnce(&mut Batch<'_>) -> Result<Built, ScanError>,
    ) -> Result<Built, ScanError> {
        let mut batch = self.write_held()?;
        for path in renewed {
            for place in batch.places_within(self.module, path)? {
                if !self.has_seen(place) {
                    batch.remove_place(place)?;
                }
            }
        }
        let built = tree(&mut batch)?;
        if batch.local(self.module)? != Some(built.id) {
            batch.set_local(self.module, Some(built.id))?;
        }
        batch.commit()?;
        Ok(built)
    }

    fn write_held(&mut self) -> Result<Batch<'a>, IndexError> {
        let mut batch = self.index.batch()?;
        self.bytes = 0;
        for bundle in std::mem::take(&mut self.held) {
            for record in bundle.records {
                self.write(&mut batch, record)?;
            }
        }
        Ok(batch)
    }

    fn write(&mut self, batch: &mut Batch<'_>, record: Record) -> Result<(), IndexError> {
        let module = self.module;
        match record {
            Record::Page(id, bytes) => batch.put(&id, &bytes)?,
            Record::File(path, row, samples) => {
                batch.put_samples(module, &row.id, &samples)?;
                if let Some(place) = batch.put_file(module, &path, &row)? {
                    self.see(place);
                }
            }
            Record::Gone(path) => drop(batch.remove_file(module, &path)?),
            Record::Seen(place) => self.see(place),
        }
        Ok(())
    }

    fn see(&mut self, place: PlaceNumber) {
        let (word, bit) = bit_of(place);
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if let Some(word) = self.seen.get_mut(word) {
            *word |= bit;
        }
    }

    fn has_seen(&self, place: PlaceNumber) -> bool {
        let (word, bit) = bit_of(place);
        self.seen.get(word).is_some_and(|word| word & bit != 0)
    }
}

fn bit_of(place: PlaceNumber) -> (usize, u64) {
    let number = place.number();
    (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
}
