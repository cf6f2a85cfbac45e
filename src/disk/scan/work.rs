//! What one thread of a scan does: list a directory, look at a run of its names, read files.

use std::io;
use std::sync::Arc;

use super::directory::{Directory, Filled, Findings, Listing, Seat, list};
use super::walk::{Reads, Run, Task, ToRead, Walk};
use super::write::{Outbox, Record};
use super::{Reason, ScanError, ScanStats, Skipped};
use crate::disk::dir::{Dir, Found as Kind, Look};
use crate::disk::index::Reader;
use crate::disk::index::files::FileRow;
use crate::disk::read::{FileReader, ReadError, Reading};
use crate::tree::dir::look_up;
use crate::tree::entry::{Body, Entry, Meta};
use crate::tree::limits::PATH_DEPTH_MAX;
use crate::tree::list::Samples;
use crate::tree::name::{Name, NameError, TreePath};

/// Names looked at in one piece of work.
const RUN_NAMES: usize = 512;
/// Bytes of files that are read in one piece of work, if it is more than one file.
const READ_BYTES: u64 = 1024 * 1024;
/// Bytes from which the class of a path's last version is that of the next. A file that was met while it was short, such
/// as at the start of an upload, does not keep the class of short files when it has become long.
const CLASS_BINDS_FROM: u64 = 256 * 1024;

/// One thread of a scan.
pub(super) struct Worker<'a> {
    pub(super) walk: &'a Walk<'a>,
    pub(super) index: Reader,
    files: FileReader,
    pub(super) out: Outbox<'a>,
    stats: ScanStats,
}

/// What is found at a name.
pub(super) enum At {
    Entry(Entry),
    /// A file that must be read.
    File(u64),
    Directory,
    Nothing,
}

impl At {
    pub(super) fn is_file(&self) -> bool {
        match self {
            Self::Entry(entry) => is_file(entry),
            Self::File(_) => true,
            Self::Directory | Self::Nothing => false,
        }
    }
}

impl<'a> Worker<'a> {
    pub(super) fn new(walk: &'a Walk<'a>, index: Reader, out: Outbox<'a>) -> Self {
        Self { walk, index, files: FileReader::default(), out, stats: ScanStats::default() }
    }

    pub(super) fn perform(&mut self, task: Task) -> Result<(), ScanError> {
        match task {
            Task::List(path, seat) => self.list(path, seat),
            Task::Part(part) => self.part(part),
            Task::Run(run) => self.run(run),
            Task::Read(reads) => self.read(reads),
        }
    }

    /// Hands over all that was found.
    pub(super) fn flush(&mut self) -> Result<(), ScanError> {
        Ok(self.out.flush()?)
    }

    pub(super) fn stats(&self) -> ScanStats {
        ScanStats { read_bytes: self.files.bytes(), ..self.stats }
    }

    fn list(&mut self, path: TreePath, seat: Option<Seat>) -> Result<(), ScanError> {
        let Some(dir) = self.open(&path, seat.as_ref())? else { return Ok(()) };
        let Listing { look, mut names, steady } = match list(&dir, self.walk.options.patience.retries) {
            Ok(listing) => listing,
            Err(source) => return Err(ScanError::Directory { path, source }),
        };
        if !steady {
            self.skip(path.clone(), Reason::Changing, |_| false)?;
        }
        if path.depth() >= PATH_DEPTH_MAX && !names.is_empty() {
            let deep = NameError::TooDeep(path.depth() + 1);
            self.skip(path.clone(), Reason::Unfit(deep.into()), |_| false)?;
            names.clear();
        }
        self.walk.progress.found(names.len() as u64);
        let place = self.index.place(self.walk.options.module, &path)?;
        if let Some(place) = place {
            self.out.push(Record::Seen(place))?;
        }
        let runs = names.len().div_ceil(RUN_NAMES).max(1);
        let directory = Directory::new(path, look.meta, place, seat, runs);
        let mut pieces = Vec::with_capacity(runs);
        let mut end = None;
        for number in (0..runs).rev() {
            let names = names.split_off(number * RUN_NAMES);
            let first = names.first().cloned();
            pieces.push(Run { directory: Arc::clone(&directory), number, names, end, dir: None });
            end = first;
        }
        let Some(first) = pieces.pop() else { return Ok(()) };
        self.walk.add(pieces.into_iter().map(Task::Run));
        self.run(Run { dir: Some(dir), ..first })
    }

    /// Opens a directory; if it is gone by now, or replaced, its seat is taken.
    pub(super) fn open(&mut self, path: &TreePath, seat: Option<&Seat>) -> Result<Option<Dir>, ScanError> {
        let source = match self.walk.top.open_dir(path) {
            Ok(dir) => return Ok(Some(dir)),
            Err(source) => source,
        };
        let Some(seat) = seat else { return Err(ScanError::Directory { path: path.clone(), source }) };
        let entry = if source.kind() == io::ErrorKind::NotFound {
            self.stats.vanished += 1;
            None
        } else if is_replaced(&source) {
            self.skip(path.clone(), Reason::Changing, Entry::is_directory)?
        } else {
            return Err(ScanError::Directory { path: path.clone(), source });
        };
        self.settle(Arc::clone(&seat.directory), seat.run, vec![(seat.slot, entry)])?;
        Ok(None)
    }

    fn run(&mut self, run: Run) -> Result<(), ScanError> {
        let Run { directory, number, names, end, dir } = run;
        let path = &directory.path;
        let blocked = |source| ScanError::Directory { path: path.clone(), source };
        let dir = match dir.map_or_else(|| self.walk.top.open_dir(path), Ok) {
            Ok(dir) => dir,
            Err(e) if e.kind() == io::ErrorKind::NotFound || is_replaced(&e) => {
                self.stats.vanished += names.len() as u64;
                directory.open_run(number, Vec::new(), 0);
                return self.settle(Arc::clone(&directory), number, Findings::new());
            }
            Err(e) => return Err(blocked(e)),
        };
        let mut rows = self.rows(&directory, number, &names, end)?.into_iter().peekable();
        let (mut slots, mut reads, mut lists) = (Vec::with_capacity(names.len()), Vec::new(), Vec::new());
        for bytes in names {
            let Some(name) = self.name(path, &bytes)? else { continue };
            while let Some((gone, _)) = rows.next_if(|(row, _)| *row < name) {
                self.out.push(Record::Gone(path.join(&gone)))?;
            }
            let row = rows.next_if(|(row, _)| *row == name);
            let (had_row, known) = (row.is_some(), row.and_then(|(_, known)| known));
            let look = dir.look(&name).map_err(blocked)?;
            let at = self.look_at(&dir, path, &name, look, known.as_ref())?;
            if had_row && !at.is_file() {
                self.out.push(Record::Gone(path.join(&name)))?;
            }
            match at {
                At::Nothing => {}
                At::Entry(entry) => slots.push(Some(entry)),
                At::File(size) => {
                    reads.push(ToRead { slot: slots.len(), name, size, known });
                    slots.push(None);
                }
                At::Directory => {
                    lists.push((slots.len(), name));
                    slots.push(None);
                }
            }
        }
        for (gone, _) in rows {
            self.out.push(Record::Gone(path.join(&gone)))?;
        }
        let pending = reads.len() + lists.len();
        directory.open_run(number, slots, pending);
        if pending == 0 {
            return self.settle(Arc::clone(&directory), number, Findings::new());
        }
        self.add_work(&directory, number, dir, reads, lists);
        Ok(())
    }

    /// What the index knows of the files of a run, and of those between its names that are gone.
    fn rows(
        &self,
        directory: &Directory,
        number: usize,
        names: &[Vec<u8>],
        end: Option<Vec<u8>>,
    ) -> Result<Vec<(Name, Option<FileRow>)>, ScanError> {
        let Some(place) = directory.place else { return Ok(Vec::new()) };
        let first = if number == 0 { None } else { names.first() };
        Ok(self.index.files_in(place, first.map(Vec::as_slice), end.as_deref())?)
    }

    fn name(&mut self, path: &TreePath, bytes: &[u8]) -> Result<Option<Name>, ScanError> {
        match Name::new(bytes) {
            Ok(name) => Ok(Some(name)),
            Err(NameError::Reserved) => {
                self.stats.homes += 1;
                Ok(None)
            }
            Err(e) => {
                self.skip(path.clone(), Reason::Unfit(e.into()), |_| false)?;
                Ok(None)
            }
        }
    }

    pub(super) fn look_at(
        &mut self,
        dir: &Dir,
        path: &TreePath,
        name: &Name,
        look: Option<Look>,
        known: Option<&FileRow>,
    ) -> Result<At, ScanError> {
        let Some(look) = look else {
            self.stats.vanished += 1;
            return Ok(At::Nothing);
        };
        let options = self.walk.options;
        if options.exclude.leaves_out(path, name, look.found == Kind::Directory) {
            self.stats.excluded += 1;
            return Ok(At::Nothing);
        }
        match look.found {
            Kind::Directory => Ok(At::Directory),
            Kind::Special => {
                self.skip(path.join(name), Reason::Special, |_| false)?;
                Ok(At::Nothing)
            }
            Kind::Link => Ok(self.link(dir, path, name, look.meta)?.map_or(At::Nothing, At::Entry)),
            Kind::File if (options.held)(&path.join(name)) => {
                self.stats.held += 1;
                let old = self.keep(&path.join(name), |entry| !entry.is_directory())?;
                Ok(old.map_or(At::Nothing, At::Entry))
            }
            Kind::File => {
                let known = known.filter(|row| row.settled && row.stat == look.key).copied();
                let row = match known {
                    None if self.walk.knows_files => self.moved(path, name, &look)?,
                    known => known,
                };
                let Some(row) = row else { return Ok(At::File(look.key.size)) };
                self.stats.reused += 1;
                Ok(At::Entry(self.file(name.clone(), look.meta, &row)))
            }
        }
    }

    /// What the index knows of a file by another path.
    fn moved(&mut self, path: &TreePath, name: &Name, look: &Look) -> Result<Option<FileRow>, ScanError> {
        let row = self.index.same_stat(&look.key)?;
        if let Some(row) = row {
            // Its samples were noted when it was read.
            self.out.push(Record::File(path.join(name), row, Samples::default()))?;
        }
        Ok(row)
    }

    fn link(&mut self, dir: &Dir, path: &TreePath, name: &Name, meta: Meta) -> Result<Option<Entry>, ScanError> {
        let target = match dir.read_link(name) {
            Ok(target) => target.into(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.stats.vanished += 1;
                return Ok(None);
            }
            // EINVAL: something else took its place.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                return self.skip(path.join(name), Reason::Changing, is_link);
            }
            Err(e) => return self.skip(path.join(name), Reason::Unreadable(e), is_link),
        };
        let entry = Entry { name: name.clone(), meta, body: Body::Link { target }, attributes: Vec::new() };
        if let Err(e) = entry.check() {
            return self.skip(path.join(name), Reason::Unfit(e), |_| false);
        }
        self.stats.links += 1;
        Ok(Some(entry))
    }

    fn file(&mut self, name: Name, meta: Meta, row: &FileRow) -> Entry {
        let FileRow { stat, class, id, .. } = *row;
        self.stats.files += 1;
        self.stats.bytes += stat.size;
        Entry { name, meta, body: Body::File { size: stat.size, class, id }, attributes: Vec::new() }
    }

    /// Files are read before directories are listed, and small ones together.
    pub(super) fn add_work(
        &self,
        directory: &Arc<Directory>,
        run: usize,
        dir: Dir,
        reads: Vec<ToRead>,
        lists: Vec<(usize, Name)>,
    ) {
        let mut tasks = Vec::new();
        for (slot, name) in lists.into_iter().rev() {
            let path = directory.path.join(&name);
            let seat = Seat { directory: Arc::clone(directory), name, run, slot };
            tasks.push(Task::List(path, Some(seat)));
        }
        let (dir, mut bytes) = (Arc::new(dir), u64::MAX);
        let mut pieces: Vec<Reads> = Vec::new();
        for file in reads {
            bytes = bytes.saturating_add(file.size);
            match pieces.last_mut() {
                Some(piece) if bytes <= READ_BYTES => piece.files.push(file),
                _ => {
                    bytes = file.size;
                    let (directory, dir) = (Arc::clone(directory), Arc::clone(&dir));
                    pieces.push(Reads { directory, run, dir, files: vec![file] });
                }
            }
        }
        tasks.extend(pieces.into_iter().rev().map(Task::Read));
        self.walk.add(tasks);
    }

    fn read(&mut self, reads: Reads) -> Result<(), ScanError> {
        let Reads { directory, run, dir, files } = reads;
        let mut findings = Findings::with_capacity(files.len());
        for ToRead { slot, name, known, .. } in files {
            let path = directory.path.join(&name);
            findings.push((slot, self.read_file(&dir, name, path, known)?));
        }
        drop(dir);
        self.settle(directory, run, findings)
    }

    fn read_file(
        &mut self,
        dir: &Dir,
        name: Name,
        path: TreePath,
        known: Option<FileRow>,
    ) -> Result<Option<Entry>, ScanError> {
        let options = self.walk.options;
        let class = known.filter(|row| row.stat.size >= CLASS_BINDS_FROM).map(|row| row.class);
        let class = class.or_else(|| (options.classes)(&path));
        let progress = |bytes| self.walk.progress.read(bytes);
        let how =
            Reading { patience: options.patience, cancel: options.cancel, clock: options.clock, progress: &progress };
        match self.files.hash(dir, &name, class, &how, &mut self.out) {
            Ok(hashed) => {
                self.stats.read_files += 1;
                let row = hashed.row();
                self.out.push(Record::File(path, row, hashed.samples))?;
                Ok(Some(self.file(name, hashed.meta, &row)))
            }
            Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.stats.vanished += 1;
                self.out.push(Record::Gone(path))?;
                Ok(None)
            }
            Err(ReadError::Io { source, .. }) => self.skip(path, Reason::Unreadable(source), is_file),
            Err(ReadError::Changing { .. }) => self.skip(path, Reason::Changing, is_file),
            Err(ReadError::Cancelled) => Err(ScanError::Cancelled),
            Err(ReadError::Page(e)) => Err(e.into()),
        }
    }

    /// Reports a path, and finds the entry that it keeps, if `fits` takes it.
    fn skip(
        &mut self,
        path: TreePath,
        reason: Reason,
        fits: impl FnOnce(&Entry) -> bool,
    ) -> Result<Option<Entry>, ScanError> {
        let old = self.keep(&path, fits)?;
        self.stats.skipped += 1;
        self.walk.report(Skipped { path, kept: old.is_some(), reason });
        Ok(old)
    }

    /// The entry of the previous tree, if `fits` takes it, as one of the new tree.
    fn keep(&mut self, path: &TreePath, fits: impl FnOnce(&Entry) -> bool) -> Result<Option<Entry>, ScanError> {
        let old = match self.walk.options.previous {
            Some(previous) => look_up(&*self.index, previous, path)?.filter(fits),
            None => None,
        };
        match old.as_ref().map(|entry| &entry.body) {
            Some(Body::File { size, .. }) => {
                self.stats.files += 1;
                self.stats.bytes += size;
            }
            Some(Body::Link { .. }) => self.stats.links += 1,
            Some(Body::Directory { .. }) => self.stats.directories += 1,
            None => {}
        }
        Ok(old)
    }

    /// Hands in findings. A directory that is whole then is built and is itself a finding for the one above.
    pub(super) fn settle(
        &mut self,
        directory: Arc<Directory>,
        run: usize,
        findings: Findings,
    ) -> Result<(), ScanError> {
        let (mut directory, mut run, mut findings) = (directory, run, findings);
        loop {
            let built = match directory.fill(run, findings, &mut self.out)? {
                Filled::NotYet => return Ok(()),
                Filled::Edits(edits) => {
                    self.walk.take_edits(edits);
                    return Ok(());
                }
                Filled::Whole(built) => built,
            };
            let meta = directory.meta;
            let Some(seat) = &directory.seat else {
                self.walk.take_top(Some(built), meta);
                return Ok(());
            };
            self.stats.directories += 1;
            let entry = Entry { name: seat.name.clone(), meta, body: built.body(), attributes: Vec::new() };
            (run, findings) = (seat.run, vec![(seat.slot, Some(entry))]);
            directory = Arc::clone(&seat.directory);
        }
    }
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.body, Body::File { .. })
}

fn is_link(entry: &Entry) -> bool {
    matches!(entry.body, Body::Link { .. })
}

/// Whether something that is no directory stands where one was listed.
fn is_replaced(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::NOTDIR, Errno::LOOP].into_iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
