//! Getting content: several streams at once, each a window of files ahead of what has come, into the stage.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::dial::nonsense;
use super::failure::{Exit, Failure};
use super::line::Line;
use super::monitor::Monitor;
use super::placing::{Awaited, Placing, SLICES_AHEAD, Slice, Slicer, Unplaced, place};
use super::seeds::Sown;
use super::take_tree::{index_failure, page_failure};
use super::worker::Worker;
use crate::disk::dir::Dir;
use crate::disk::index::{Index, ModuleNumber, Reader};
use crate::disk::stage::Stage;
use crate::protocol::fetch::{Counts, FetchError, Wanted};
use crate::protocol::message::way;
use crate::tree::address::Host;
use crate::tree::chunker::Class;
use crate::tree::diff::{Change, changes};
use crate::tree::dir::empty;
use crate::tree::entry::{Body, Entry, Meta};
use crate::tree::hash::{BaseId, DirId, FileId, HeadId};
use crate::tree::name::TreePath;

/// Streams on which content comes at the same time.
const STREAMS: usize = 4;
/// Files asked for in one message, at most.
const GROUP_FILES: usize = 512;
/// Files of a seed that are tried for one content, in case some have changed.
const SEED_PATHS: u32 = 4;
/// Bytes of files after which a group is full.
const GROUP_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes from which a file is rebuilt from an old version.
const REBUILT_FROM: u64 = 512;
/// Bytes up to which the blocks of all of an old version cost less than a chunk list and what it shows.
const UNLISTED_TO: u64 = 32 * 1024;

/// What has to be got, and what there is to get it from.
pub(super) struct Task<'a> {
    pub(super) index: &'a Index,
    pub(super) module: ModuleNumber,
    pub(super) target: &'a Dir,
    pub(super) stage: &'a Stage,
    pub(super) line: &'a Line,
    /// The head whose content is wanted, and its tree.
    pub(super) head: HeadId,
    pub(super) tree: DirId,
    /// The tree on disk.
    pub(super) local: DirId,
    /// The tree that both sides know, after what the source knows it by.
    pub(super) base: Option<(BaseId, DirId)>,
    /// Where else something may be copied from.
    pub(super) seeds: &'a [Sown<'a>],
    /// How what has come is put in its place at once; where something stands already, all has to be here before.
    pub(super) placing: Option<&'a Placing<'a>>,
    pub(super) monitor: &'a dyn Monitor,
}

/// What came.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    pub(super) files: u64,
    pub(super) counts: Counts,
    /// Bytes of files that stand here at another path, and of those that an earlier run has staged.
    pub(super) from_files: u64,
    pub(super) from_stage: u64,
    /// Bytes of files that were copied from a seed.
    pub(super) from_seed: u64,
    /// Files that the sender has no more.
    pub(super) gone: Vec<TreePath>,
}

/// A file to be got.
pub(super) struct Job {
    pub(super) wanted: Wanted,
    /// What its entry says beside that.
    pub(super) meta: Meta,
    pub(super) how: How,
    pub(super) tries: u32,
    /// The slice that waits for it.
    pub(super) awaited: Option<Awaited>,
}

/// What becomes of a change.
enum Found {
    /// No content belongs to it.
    Nothing,
    /// So many bytes stand here at another path.
    Here(u64),
    /// So many bytes were found or are on their way for another path.
    Again(u64),
    /// So many bytes are staged.
    Staged(u64),
    /// So many bytes were copied from a seed, and are staged now.
    Sown(u64),
    /// It has to be got.
    Job(Job),
}

/// What is done before a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Nothing: it is asked for in this way.
    Plain(u8),
    /// Its old version is named by its blocks.
    ByGap,
    /// Its chunk list is asked for, to find what is here.
    ByList,
}

/// Gets everything into the stage that is neither there nor in a local file; in its place, if the task says how.
///
/// # Errors
/// [`Failure`]; what has come stays.
pub(super) fn take_content(task: &Task<'_>) -> Result<Taken, Failure> {
    let (give, take) = sync_channel(2 * STREAMS);
    let (pass, slices) = sync_channel(SLICES_AHEAD);
    let work = Work { task, groups: Mutex::new(take), again: Mutex::default(), stop: Mutex::new(None) };
    let mut taken = Taken::default();
    std::thread::scope(|scope| {
        let pass = task.placing.map(|placing| {
            let work = &work;
            (pass, scope.spawn(move || work.place(placing, &slices)))
        });
        let (pass, placer) = pass.unzip();
        let feeder = scope.spawn(|| feed(&work, give, pass));
        let streams: Vec<_> = (0..STREAMS).map(|_| scope.spawn(|| work.run())).collect();
        for stream in streams {
            match stream.join() {
                Ok(Ok(part)) => taken.add(part),
                Ok(Err(failure)) => work.stop_with(failure),
                Err(_) => work.stop_with(broken()),
            }
        }
        match feeder.join() {
            Ok(Ok(here)) => taken.add(here),
            Ok(Err(failure)) => work.stop_with(failure),
            Err(_) => work.stop_with(broken()),
        }
        if placer.is_some_and(|placer| placer.join().is_err()) {
            work.stop_with(broken());
        }
    });
    match work.stop.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(failure) => Err(failure),
        None => Ok(taken),
    }
}

pub(super) fn broken() -> Failure {
    let fix = "run the same command again; if it happens again, it is a bug worth a report";
    Failure::new(Exit::Other, "the transfer stopped", "a part of mirra failed", fix)
}

impl Taken {
    fn add(&mut self, part: Self) {
        self.files += part.files;
        self.counts += part.counts;
        self.from_files += part.from_files;
        self.from_stage += part.from_stage;
        self.from_seed += part.from_seed;
        self.gone.extend(part.gone);
    }
}

/// Finds what has to be got, in path order, and hands it out in groups, and the changes themselves in slices. Gives what
/// need not be got, because it stands here at another path, in the stage, or in a seed.
fn feed(work: &Work<'_>, give: SyncSender<Vec<Job>>, mut pass: Option<SyncSender<Slice>>) -> Result<Taken, Failure> {
    let task = work.task;
    let reader = task.index.reader().map_err(index_failure)?;
    let mut seen = HashSet::new();
    let is_fresh = task.stage.is_empty().map_err(|e| stage_failure(&e))?;
    let (mut group, mut bytes) = (Vec::new(), 0);
    let mut slicer = Slicer::new();
    let mut here = Taken::default();
    for change in changes(&*reader, Some(task.local), Some(task.tree)) {
        let change = change.map_err(page_failure)?;
        if work.stopped() {
            break;
        }
        match task.job(&reader, &change, &mut seen, is_fresh)? {
            Found::Nothing => {}
            Found::Here(size) => here.from_files += size,
            Found::Again(size) => {
                here.from_files += size;
                task.monitor.advance(1, size);
            }
            Found::Staged(size) => {
                here.from_stage += size;
                task.monitor.advance(1, size);
            }
            Found::Sown(size) => {
                here.from_seed += size;
                task.monitor.advance(1, size);
            }
            Found::Job(mut job) => {
                bytes += job.wanted.size;
                job.awaited = pass.is_some().then(|| slicer.awaited());
                group.push(job);
            }
        }
        let slice = pass.is_some().then(|| slicer.push(change)).flatten();
        if group.len() >= GROUP_FILES || bytes >= GROUP_BYTES || slice.is_some() {
            bytes = 0;
            if !work.hand_out(&give, std::mem::take(&mut group)) {
                break;
            }
        }
        if let Some(slice) = slice {
            // Who takes slices no more leaves the rest for later.
            pass.take_if(|pass| !work.hand_out(pass, slice));
        }
    }
    if !group.is_empty() {
        work.hand_out(&give, group);
    }
    if let Some(pass) = pass {
        work.hand_out(&pass, slicer.end());
    }
    Ok(here)
}

impl Task<'_> {
    /// The job for one change, if its content is nowhere here. Of what was not seen nothing is in a stage that `is_fresh`.
    fn job(
        &self,
        reader: &Reader,
        change: &Change,
        seen: &mut HashSet<FileId>,
        is_fresh: bool,
    ) -> Result<Found, Failure> {
        let Some(Entry { body: Body::File { size, class, id }, meta, .. }) = &change.new else {
            return Ok(Found::Nothing);
        };
        let old = change.old.as_ref().and_then(|entry| match entry.body {
            Body::File { size, id, .. } => Some((size, id)),
            _ => None,
        });
        if old.is_some_and(|(_, old)| old == *id) {
            return Ok(Found::Nothing);
        }
        if seen.contains(id) {
            return Ok(Found::Again(*size));
        }
        if self.local != empty() && !reader.paths_of(self.module, id, 1).map_err(index_failure)?.is_empty() {
            return Ok(Found::Here(*size));
        }
        seen.insert(*id);
        if !is_fresh && self.stage.has(id).map_err(|e| stage_failure(&e))? {
            return Ok(Found::Staged(*size));
        }
        if self.copy_from_seed(reader, id, *size, *class)? {
            return Ok(Found::Sown(*size));
        }
        let several_chunks = *size > class.sizes().0 as u64;
        let begun =
            several_chunks && !is_fresh && self.stage.partial(id, *size).map_err(|e| stage_failure(&e))?.is_some();
        // Data that is packed shares whole chunks or nothing.
        let in_place = *class == Class::Fine && *size >= REBUILT_FROM;
        let small = (*size).min(old.map_or(*size, |old| old.0)) <= UNLISTED_TO;
        let how = match self.base {
            _ if begun => How::ByList,
            Some(_) if in_place || several_chunks => How::Plain(way::BASE),
            _ if self.local == empty() && self.seeds.is_empty() => How::Plain(way::ALL),
            None if in_place && small => How::ByGap,
            None if in_place || several_chunks => How::ByList,
            _ => How::Plain(way::ALL),
        };
        let way = if let How::Plain(way) = how { way } else { way::ALL };
        Ok(Found::Job(Job {
            wanted: Wanted { path: change.path.clone(), id: *id, size: *size, class: *class, way },
            meta: *meta,
            how,
            tries: 0,
            awaited: None,
        }))
    }

    /// Stages the content `id` if a seed holds it, as far as its bytes say so now.
    fn copy_from_seed(&self, reader: &Reader, id: &FileId, size: u64, class: Class) -> Result<bool, Failure> {
        for seed in self.seeds {
            for (path, _) in reader.paths_of(seed.module, id, SEED_PATHS).map_err(index_failure)? {
                if self.monitor.cancelled() {
                    return Err(Failure::interrupted());
                }
                let Ok(source) = seed.dir.open_file_at(&path) else { continue };
                if self.stage.take_copy(&source, id, size, class).map_err(|e| stage_failure(&e))? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// What the streams share.
pub(super) struct Work<'a> {
    pub(super) task: &'a Task<'a>,
    groups: Mutex<Receiver<Vec<Job>>>,
    /// Files that have to be asked for once more.
    pub(super) again: Mutex<Vec<Job>>,
    stop: Mutex<Option<Failure>>,
}

impl Work<'_> {
    fn stop_with(&self, failure: Failure) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Gives something to whoever is free; false when everything stops, or nobody takes it.
    fn hand_out<T>(&self, give: &SyncSender<T>, mut given: T) -> bool {
        loop {
            if self.stopped() || self.task.monitor.cancelled() {
                return false;
            }
            match give.try_send(given) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) => {
                    given = back;
                    std::thread::park_timeout(Duration::from_millis(2));
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
    }

    /// Puts slices in their places; what is not placed then is left for later.
    fn place(&self, placing: &Placing<'_>, slices: &Receiver<Slice>) {
        if let Err(Unplaced::Failed(failure)) = place(placing, slices, &|| self.stopped()) {
            self.stop_with(failure);
        }
    }

    /// Files to be asked for. Who does not wait finds none either while another waits for them.
    pub(super) fn next_group(&self, wait: bool) -> Option<Vec<Job>> {
        let again = std::mem::take(&mut *self.again.lock().unwrap_or_else(PoisonError::into_inner));
        if !again.is_empty() {
            return Some(again);
        }
        if wait {
            self.groups.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
        } else {
            self.groups.try_lock().ok()?.try_recv().ok()
        }
    }

    /// One stream, until nothing is left.
    fn run(&self) -> Result<Taken, Failure> {
        let result = Worker::new(self).and_then(Worker::run);
        if let Err(failure) = &result {
            // The others stop as well: their next look at the queue finds it.
            self.stop_with(failure.clone());
        }
        result
    }
}

/// What to say when content cannot be taken.
pub(super) fn fetch_failure(host: &Host, error: FetchError) -> Failure {
    match error {
        FetchError::Malformed(error) => nonsense(host, &error),
        FetchError::Disk { path, source } => Failure::local(format!("cannot stage {path}"), &source),
    }
}

/// What to say when the stage refuses.
pub(super) fn stage_failure(error: &crate::disk::stage::StageError) -> Failure {
    use crate::disk::stage::StageError;
    match error {
        StageError::Full { .. } => Failure::new(
            Exit::NoSpace,
            "the disk has no room",
            error.to_string(),
            "make room and run the same command again: it goes on where it stopped",
        ),
        StageError::NoFiles { .. } => Failure::new(
            Exit::NoSpace,
            "the disk has no room",
            error.to_string(),
            "remove files there, or choose a filesystem that was made for more of them; then run the same command again",
        ),
        StageError::Fault(fault) => Failure::local(format!("cannot {} {}", fault.operation, fault.path), &fault.source),
        StageError::Module(_) => {
            Failure::new(Exit::Usage, "cannot stage the module", error.to_string(), "give it another name")
        }
    }
}
