//! One regular file, read once: cut, hashed, and known not to have changed meanwhile.
//!
//! A file is believed when identity, size and both times are the same before and after the read; else it is read again,
//! a few times. Content is never mapped into memory: a file that shrinks would end the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::chunks::{cut, read_full};
use super::dir::{Dir, StatKey, look_fd};
use super::index::files::FileRow;
use crate::delta::blocks::{count, kept_block};
use crate::delta::rabin::Rabin;
use crate::tree::chunker::{Class, SAMPLE_LEN, sample_offsets};
use crate::tree::entry::Meta;
use crate::tree::hash::{ChunkId, FileId};
use crate::tree::list::{Chunk, ListBuilder, Samples};
use crate::tree::name::Name;
use crate::tree::page::{Discard, PageError, PageSink};

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("cannot {what} \"{name}\"")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        name: Name,
        /// The system's answer; `NotFound` when nothing has the name.
        #[source]
        source: io::Error,
    },
    /// It was another one after each read than before it.
    #[error("\"{name}\" changes while it is read")]
    Changing {
        /// The file.
        name: Name,
    },
    /// The caller's flag was raised.
    #[error("cancelled")]
    Cancelled,
    /// Its list could not be kept.
    #[error(transparent)]
    Page(#[from] PageError),
}

/// What one read of a file has found.
#[derive(Debug, Clone)]
pub struct Hashed {
    /// Its content.
    pub id: FileId,
    /// How its content was cut.
    pub class: Class,
    /// The file that was read; its size is in here.
    pub stat: StatKey,
    /// Mode and mtime.
    pub meta: Meta,
    /// Whether a later change must show in [`stat`](Self::stat).
    pub settled: bool,
    /// What similar files are found by.
    pub samples: Samples,
    /// The block hashes of its chunks, if they are kept of such a file.
    pub blocks: Vec<u32>,
}

impl Hashed {
    /// The row for the index.
    #[must_use]
    pub fn row(&self) -> FileRow {
        FileRow { stat: self.stat, settled: self.settled, class: self.class, id: self.id }
    }
}

/// How files are read.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// How often and how soon a changing file is read again.
    pub patience: Patience,
    /// Raised by who wants the read to end early.
    pub cancel: &'a AtomicBool,
    /// The time.
    pub clock: &'a (dyn Fn() -> SystemTime + Sync),
    /// Told of bytes as they are read.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// What lists of blocks are made with, if they are wanted.
    pub rabin: Option<&'a Rabin>,
}

/// How often and how soon a changing file is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Reads after the first.
    pub retries: u32,
    /// Time before the first of them; each further one waits [`BACK_OFF`] times as long.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { retries: 3, pause: Duration::from_millis(20) }
    }
}

/// Growth of the pause between two reads of a changing file.
pub const BACK_OFF: u32 = 4;
/// Bytes read at a time; several times the longest chunk.
const SEGMENT: usize = 1024 * 1024;
/// Bytes from which a file is cut on one thread and hashed on another.
const TWO_THREADS_FROM: u64 = 16 * 1024 * 1024;
/// Segments on their way between those two threads.
const SEGMENTS: usize = 3;
/// Filesystems with the coarsest times keep 2 s; a change within that may leave the mtime as it was.
const MTIME_GRAIN: Duration = Duration::from_secs(2);
/// The kernel takes ctimes from a clock that ticks every 10 ms at most.
const CTIME_GRAIN: Duration = Duration::from_millis(20);

/// Reads files one after the other with the same buffer.
pub struct FileReader {
    buffer: Vec<u8>,
    bytes: u64,
}

impl Default for FileReader {
    fn default() -> Self {
        Self { buffer: vec![0; SEGMENT], bytes: 0 }
    }
}

impl FileReader {
    /// Reads the file `name`, cut as `class`, or as its content suggests. Its list goes to `sink`.
    ///
    /// # Errors
    /// [`ReadError`]; pages of lists that were given up may be in `sink`.
    pub fn hash(
        &mut self,
        dir: &Dir,
        name: &Name,
        class: Option<Class>,
        how: &Reading<'_>,
        sink: &mut dyn PageSink,
    ) -> Result<Hashed, ReadError> {
        let mut pause = how.patience.pause;
        for attempt in 0..=how.patience.retries {
            if attempt > 0 {
                std::thread::sleep(pause);
                pause = pause.saturating_mul(BACK_OFF);
            }
            if let Some(hashed) = self.attempt(dir, name, class, how, sink)? {
                return Ok(hashed);
            }
        }
        Err(ReadError::Changing { name: name.clone() })
    }

    /// Whether the file `name`, cut as `class`, has the content `id`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn verify(
        &mut self,
        dir: &Dir,
        name: &Name,
        class: Class,
        id: &FileId,
        how: &Reading<'_>,
    ) -> Result<bool, ReadError> {
        Ok(self.hash(dir, name, Some(class), how, &mut Discard)?.id == *id)
    }

    /// Bytes read so far, of all files and attempts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `None` when the file changed.
    fn attempt(
        &mut self,
        dir: &Dir,
        name: &Name,
        class: Option<Class>,
        how: &Reading<'_>,
        sink: &mut dyn PageSink,
    ) -> Result<Option<Hashed>, ReadError> {
        let failed = |what| move |source| ReadError::Io { what, name: name.clone(), source };
        let now = (how.clock)();
        let file = dir.open_file(name).map_err(failed("open"))?;
        let look = look_fd(&file).map_err(failed("look at"))?;
        let size = look.key.size;
        let mut source = Source { file: &file, name, left: size, how, read: 0 };
        let mut list =
            List { builder: ListBuilder::default(), samples: Samples::default(), rabin: how.rabin, blocks: None };
        let (class, whole) = if size < TWO_THREADS_FROM {
            source.read_alone(&mut self.buffer, class, &mut list, sink)?
        } else {
            let class = class.map_or_else(|| source.sample(), Ok)?;
            (class, source.read_paired(class, &mut list, sink)?)
        };
        self.bytes += source.read;
        if !whole || look_fd(&file).map_err(failed("look at"))?.key != look.key {
            return Ok(None);
        }
        let (id, _) = list.builder.finish(sink)?;
        let settled = is_settled(now, &look.key);
        let blocks = list.blocks.map(|(_, hashes)| hashes).unwrap_or_default();
        Ok(Some(Hashed { id, class, stat: look.key, meta: look.meta, settled, samples: list.samples, blocks }))
    }
}

/// Whether any change after `now` must give a file of these times another stat key. Times ahead of the clock are as
/// good as past ones: a change sets them back to the clock's.
fn is_settled(now: SystemTime, stat: &StatKey) -> bool {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    let apart = |time: i64, grain: Duration| u128::from(now.abs_diff(time)) >= grain.as_nanos();
    apart(stat.mtime, MTIME_GRAIN) && apart(stat.ctime, CTIME_GRAIN)
}

/// The chunks of a file as they come.
struct List<'a> {
    builder: ListBuilder,
    samples: Samples,
    rabin: Option<&'a Rabin>,
    /// Bytes of a block, and the hashes of all so far, if they are kept.
    blocks: Option<(usize, Vec<u32>)>,
}

impl List<'_> {
    /// The file turns out to be of that class: packed data does not change in place, and has no list of blocks.
    fn begin(&mut self, size: u64, class: Class) {
        let block = kept_block(size).filter(|_| self.rabin.is_some() && class == Class::Fine);
        self.blocks = block.map(|block| {
            let blocks = usize::try_from(count(size, block)).unwrap_or(0);
            // Most chunks end with a shorter block.
            (block, Vec::with_capacity(blocks + blocks / 32))
        });
    }

    fn push(&mut self, bytes: &[u8], sink: &mut dyn PageSink) -> Result<(), PageError> {
        let id = ChunkId::of(bytes);
        self.samples.add(&id);
        if let (Some(rabin), Some((block, hashes))) = (self.rabin, &mut self.blocks) {
            rabin.list(bytes, *block, hashes);
        }
        // A chunk is far below 4 GiB long.
        self.builder.push(Chunk { id, len: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }, sink)
    }
}

/// An open file and how much of it is still to be read.
struct Source<'a> {
    file: &'a File,
    name: &'a Name,
    /// Of the size that the file had when it was opened.
    left: u64,
    how: &'a Reading<'a>,
    read: u64,
}

/// Bytes of a file and where its chunks end in them.
struct Segment {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Source<'_> {
    /// Reads, cuts and hashes on this thread; `false` when the file ended early.
    fn read_alone(
        &mut self,
        buffer: &mut [u8],
        class: Option<Class>,
        list: &mut List<'_>,
        sink: &mut dyn PageSink,
    ) -> Result<(Class, bool), ReadError> {
        let size = self.left;
        let held = self.fill(buffer, 0)?;
        let class = match class {
            Some(class) => class,
            // All of the file is at hand, so its samples are.
            None if self.left == 0 => {
                Class::of_samples(size, sample_offsets(size).map(|at| sample_of(buffer, held, at)))
            }
            None => self.sample()?,
        };
        list.begin(size, class);
        let fill = |buffer: &mut [u8], held| if self.left == 0 { Ok(held) } else { self.fill(buffer, held) };
        cut(buffer, held, class, fill, |_, bytes| Ok::<_, ReadError>(list.push(bytes, sink)?))?;
        Ok((class, self.left == 0))
    }

    /// Reads and cuts on a second thread, and hashes on this one; `false` when the file ended early.
    fn read_paired(&mut self, class: Class, list: &mut List<'_>, sink: &mut dyn PageSink) -> Result<bool, ReadError> {
        list.begin(self.left, class);
        let (full, to_hash) = sync_channel::<Segment>(SEGMENTS);
        let (free, to_fill) = sync_channel::<Segment>(SEGMENTS);
        for _ in 0..SEGMENTS {
            // Cannot fail: the queue is as long and its other end is here.
            let _ = free.send(Segment { bytes: vec![0; SEGMENT], ends: Vec::new() });
        }
        let name = self.name;
        std::thread::scope(|scope| {
            let cutter = std::thread::Builder::new()
                .spawn_scoped(scope, move || self.cut_segments(class, &to_fill, &full))
                .map_err(|source| ReadError::Io { what: "start a thread to read", name: name.clone(), source })?;
            let hashed = hash_segments(&to_hash, &free, list, sink);
            // Without both ends the cutter stops, if it was not at the end.
            drop((to_hash, free));
            let cut = cutter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            hashed?;
            cut
        })
    }

    fn cut_segments(
        &mut self,
        class: Class,
        to_fill: &Receiver<Segment>,
        full: &SyncSender<Segment>,
    ) -> Result<bool, ReadError> {
        let mut tail = Vec::new();
        while self.left > 0 {
            let Ok(mut segment) = to_fill.recv() else { return Ok(false) };
            let carried = tail.len();
            if let Some(front) = segment.bytes.get_mut(..carried) {
                front.copy_from_slice(&tail);
            }
            let held = self.fill(&mut segment.bytes, carried)?;
            if held == carried {
                return Ok(false);
            }
            segment.ends.clear();
            let mut at = 0;
            while let Some(len) = self.next_chunk(segment.bytes.get(at..held).unwrap_or(&[]), class) {
                at += len;
                segment.ends.push(at);
            }
            tail.clear();
            tail.extend_from_slice(segment.bytes.get(at..held).unwrap_or(&[]));
            if full.send(segment).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The length of the chunk at the start of `bytes`; `None` when more must be read first, or nothing is left.
    fn next_chunk(&self, bytes: &[u8], class: Class) -> Option<usize> {
        let enough = !bytes.is_empty() && (self.left == 0 || bytes.len() >= class.longest());
        enough.then(|| class.cut(bytes))
    }

    /// Fills `buffer` from `held` on, up to the file's size or its earlier end; returns how much it holds then.
    fn fill(&mut self, buffer: &mut [u8], held: usize) -> Result<usize, ReadError> {
        if self.how.cancel.load(Ordering::Relaxed) {
            return Err(ReadError::Cancelled);
        }
        let wanted = buffer.len().min(held.saturating_add(usize::try_from(self.left).unwrap_or(usize::MAX)));
        let failed = |source| ReadError::Io { what: "read", name: self.name.clone(), source };
        let space = buffer.get_mut(held..wanted).unwrap_or_default();
        let fresh = read_full(self.file, space, self.read).map_err(failed)?;
        self.left -= fresh as u64;
        self.read += fresh as u64;
        (self.how.progress)(fresh as u64);
        Ok(held + fresh)
    }

    /// The class for a file that does not fit a buffer, from samples of it.
    fn sample(&self) -> Result<Class, ReadError> {
        let size = self.left + self.read;
        let mut samples = Vec::new();
        for at in sample_offsets(size) {
            let mut sample = vec![0; SAMPLE_LEN];
            match self.file.read_exact_at(&mut sample, at) {
                Ok(()) => samples.push(sample),
                // It has shrunk, which the comparison after the read will show.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(source) => return Err(ReadError::Io { what: "read", name: self.name.clone(), source }),
            }
        }
        Ok(Class::of_samples(size, samples.iter().map(Vec::as_slice)))
    }
}

fn sample_of(buffer: &[u8], held: usize, at: u64) -> &[u8] {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    buffer.get(at..at.saturating_add(SAMPLE_LEN).min(held)).unwrap_or(&[])
}

fn hash_segments(
    to_hash: &Receiver<Segment>,
    free: &SyncSender<Segment>,
    list: &mut List<'_>,
    sink: &mut dyn PageSink,
) -> Result<(), ReadError> {
    while let Ok(segment) = to_hash.recv() {
        let mut at = 0;
        for end in &segment.ends {
            list.push(segment.bytes.get(at..*end).unwrap_or(&[]), sink)?;
            at = *end;
        }
        // The cutter is at the end when nobody takes the buffer back.
        let _ = free.send(segment);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::tree::list::{chunks, file_id};
    use crate::tree::page::Pages;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    fn how(cancel: &AtomicBool) -> Reading<'_> {
        let patience = Patience { pause: Duration::ZERO, ..Patience::default() };
        Reading { patience, cancel, clock: &SystemTime::now, progress: &|_| {}, rabin: None }
    }

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn hash(dir: &Path, of: &str, class: Option<Class>, sink: &mut dyn PageSink) -> Result<Hashed, ReadError> {
        FileReader::default().hash(&Dir::open_operator(dir).unwrap(), &name(of), class, &how(&GO_ON), sink)
    }

    fn cut_whole(data: &[u8], class: Class) -> Vec<Chunk> {
        let (mut at, mut found) = (0, Vec::new());
        while at < data.len() {
            let len = class.cut(&data[at..]);
            found.push(Chunk { id: ChunkId::of(&data[at..at + len]), len: len as u32 });
            at += len;
        }
        found
    }

    #[test]
    fn files_of_every_length_are_cut_as_if_in_one_piece() {
        let dir = tempfile::tempdir().unwrap();
        let data = noise(TWO_THREADS_FROM as usize + 3 * SEGMENT + 77);
        let lengths = [0, 1, 2_047, 100_000, SEGMENT - 1, SEGMENT, SEGMENT + 1, 5 * SEGMENT + 9];
        for len in lengths.into_iter().chain([TWO_THREADS_FROM as usize, data.len()]) {
            std::fs::write(dir.path().join("f"), &data[..len]).unwrap();
            for class in [Class::Fine, Class::Coarse] {
                let mut pages = Pages::new();
                let hashed = hash(dir.path(), "f", Some(class), &mut pages).unwrap();
                let wanted = cut_whole(&data[..len], class);
                assert_eq!((hashed.id, hashed.stat.size), (file_id(&wanted).unwrap(), len as u64));
                let stored = chunks(&pages, hashed.id).unwrap().map_or(0, Iterator::count);
                assert_eq!(stored, if wanted.len() < 2 { 0 } else { wanted.len() });
            }
        }
    }

    #[test]
    fn the_class_follows_the_content_and_a_given_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        for len in [300_000, 20_000_000] {
            std::fs::write(dir.path().join("packed"), noise(len)).unwrap();
            std::fs::write(dir.path().join("text"), b"all work and no play ".repeat(len / 21)).unwrap();
            let class = |of: &str, given| hash(dir.path(), of, given, &mut Discard).unwrap().class;
            assert_eq!(class("packed", None), Class::Coarse);
            assert_eq!(class("text", None), Class::Fine);
            assert_eq!(class("packed", Some(Class::Fine)), Class::Fine);
        }
    }

    /// A sink that does something to the file while it is read.
    struct Meddler<F: FnMut()>(F);

    impl<F: FnMut()> PageSink for Meddler<F> {
        fn put(&mut self, _: &[u8; 32], _: &[u8]) -> Result<(), PageError> {
            (self.0)();
            Ok(())
        }
    }

    #[test]
    fn a_file_that_changes_once_is_read_again_and_one_that_never_rests_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("f");
        for len in [5 << 20, 24 << 20] {
            let data = noise(len);
            std::fs::write(&at, &data).unwrap();
            let mut changed = false;
            let mut once = Meddler(|| {
                if !std::mem::replace(&mut changed, true) {
                    std::fs::write(&at, &data[..len / 2]).unwrap();
                }
            });
            let hashed = hash(dir.path(), "f", Some(Class::Fine), &mut once).unwrap();
            assert_eq!(hashed.id, file_id(&cut_whole(&data[..len / 2], Class::Fine)).unwrap());

            let (mut next, mut reads) = (0, 0);
            let mut restless = Meddler(|| {
                next += 1;
                let file = File::options().write(true).open(&at).unwrap();
                file.set_modified(UNIX_EPOCH + Duration::from_secs(next)).unwrap();
                reads += 1;
            });
            let failed = hash(dir.path(), "f", Some(Class::Fine), &mut restless);
            assert!(matches!(failed, Err(ReadError::Changing { .. })));
            assert!(reads >= 4);
        }
    }

    #[test]
    fn a_file_that_is_replaced_is_read_as_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let (at, beside) = (dir.path().join("f"), dir.path().join("g"));
        std::fs::write(&at, noise(5 << 20)).unwrap();
        std::fs::write(&beside, b"new").unwrap();
        let mut replace = Meddler(|| drop(std::fs::rename(&beside, &at)));
        let hashed = hash(dir.path(), "f", Some(Class::Fine), &mut replace).unwrap();
        assert_eq!(hashed.id, file_id(&cut_whole(b"new", Class::Fine)).unwrap());
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("fifo"), rustix::fs::Mode::RUSR).unwrap();
        for of in ["link", "dir", "fifo", "absent"] {
            assert!(matches!(hash(dir.path(), of, None, &mut Discard), Err(ReadError::Io { .. })), "{of}");
        }
    }

    #[test]
    fn a_raised_flag_ends_the_read() {
        let dir = tempfile::tempdir().unwrap();
        for len in [10, 20 << 20] {
            std::fs::write(dir.path().join("f"), noise(len)).unwrap();
            let top = Dir::open_operator(dir.path()).unwrap();
            let cancel = AtomicBool::new(true);
            let got = FileReader::default().hash(&top, &name("f"), None, &how(&cancel), &mut Discard);
            assert!(matches!(got, Err(ReadError::Cancelled)));
        }
    }

    #[test]
    fn verifying_tells_right_from_wrong() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), noise(100_000)).unwrap();
        let top = Dir::open_operator(dir.path()).unwrap();
        let id = hash(dir.path(), "f", Some(Class::Coarse), &mut Discard).unwrap().id;
        let mut reader = FileReader::default();
        let mut check = |class| reader.verify(&top, &name("f"), class, &id, &how(&GO_ON)).unwrap();
        assert!(check(Class::Coarse));
        assert!(!check(Class::Fine));
    }

    #[test]
    fn a_file_is_settled_when_both_times_are_a_grain_away() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |mtime_ms: i64, ctime_ms: i64| {
            let nanos = |ms: i64| (1_000_000_000 + ms) * 1_000_000;
            is_settled(now, &StatKey { device: 1, inode: 1, size: 1, mtime: nanos(mtime_ms), ctime: nanos(ctime_ms) })
        };
        assert!(at(-2_000, -20) && at(5_000, -20) && at(-9_000_000, -9_000_000));
        assert!(!at(-1_999, -5_000) && !at(-5_000, -19) && !at(0, 0) && !at(1_000, -50));
    }
}
