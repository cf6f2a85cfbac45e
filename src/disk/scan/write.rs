//! What the threads of a scan find goes to the index, in their order, in transactions of a few MiB.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::{ScanError, ScanOptions};
use crate::disk::index::files::{FileRow, PlaceNumber};
use crate::disk::index::similar::Samples;
use crate::disk::index::{Batch, Index, IndexError, ModuleNumber};
use crate::tree::hash::{DirId, ID_LEN};
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
pub(super) struct Outbox {
    bundle: Bundle,
    to_writer: SyncSender<Bundle>,
}

impl Outbox {
    pub(super) fn new(to_writer: SyncSender<Bundle>) -> Self {
        Self { bundle: Bundle::default(), to_writer }
    }

    pub(super) fn push(&mut self, record: Record) -> Result<(), PageError> {
        let page = if let Record::Page(_, bytes) = &record { bytes.len() } else { 0 };
        self.bundle.bytes += page + RECORD_BYTES;
        self.bundle.records.push(record);
        if self.bundle.bytes < BUNDLE_BYTES { Ok(()) } else { self.flush() }
    }

    /// Hands over everything. An error says that the writer has failed, and is not the one to report.
    pub(super) fn flush(&mut self) -> Result<(), PageError> {
        let gone = |_| PageError::Store("the writer has ended".into());
        self.to_writer.send(std::mem::take(&mut self.bundle)).map_err(gone)
    }
}

impl PageSink for Outbox {
    fn put(&mut self, id: &[u8; ID_LEN], bytes: &[u8]) -> Result<(), PageError> {
        self.push(Record::Page(*id, bytes.into()))
    }
}

/// What was written.
#[derive(Default)]
pub(super) struct Written {
    /// Directories that were met, a bit for each number.
    seen: Vec<u64>,
}

impl Written {
    /// Writes until all senders are gone. After an error, so is the receiver: no sender waits.
    pub(super) fn take_all(
        &mut self,
        index: &Index,
        module: ModuleNumber,
        bundles: Receiver<Bundle>,
    ) -> Result<(), IndexError> {
        // Bundles are gathered without the lock on the writer, which others want too.
        let (mut held, mut bytes, mut since) = (Vec::new(), 0, Instant::now());
        loop {
            let got = bundles.recv_timeout(COMMIT_AFTER.saturating_sub(since.elapsed()));
            let over = matches!(got, Err(RecvTimeoutError::Disconnected));
            if let Ok(bundle) = got {
                bytes += bundle.bytes;
                held.push(bundle);
            }
            if over || bytes >= COMMIT_BYTES || since.elapsed() >= COMMIT_AFTER {
                self.commit(index, module, &mut held)?;
                (bytes, since) = (0, Instant::now());
            }
            if over {
                return Ok(());
            }
        }
    }

    /// Forgets files whose directories were not met, and notes the tree if it is all of the module.
    pub(super) fn finish(&self, index: &Index, options: &ScanOptions<'_>, top: DirId) -> Result<(), ScanError> {
        let reader = index.reader()?;
        let places = reader.places_within(options.module, options.start)?;
        let gone: Vec<PlaceNumber> = places.into_iter().filter(|place| !self.has_seen(*place)).collect();
        let local = options.start.is_top().then_some(top);
        if gone.is_empty() && (local.is_none() || reader.local(options.module)? == local) {
            return Ok(());
        }
        let mut batch = index.batch()?;
        for place in gone {
            batch.remove_place(place)?;
        }
        if local.is_some() {
            batch.set_local(options.module, local)?;
        }
        Ok(batch.commit()?)
    }

    fn commit(&mut self, index: &Index, module: ModuleNumber, held: &mut Vec<Bundle>) -> Result<(), IndexError> {
        if held.is_empty() {
            return Ok(());
        }
        let mut batch = index.batch()?;
        for bundle in held.drain(..) {
            for record in bundle.records {
                self.write(&mut batch, module, record)?;
            }
        }
        batch.commit()
    }

    fn write(&mut self, batch: &mut Batch<'_>, module: ModuleNumber, record: Record) -> Result<(), IndexError> {
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
