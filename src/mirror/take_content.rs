//! Getting content: several streams at once, each a window of files ahead of what has come, into the stage.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::dial::nonsense;
use super::failure::{Exit, Failure};
use super::line::Line;
use super::monitor::Monitor;
use super::take_tree::{index_failure, page_failure};
use super::worker::Worker;
use crate::disk::dir::Dir;
use crate::disk::index::{Index, ModuleNumber, Reader};
use crate::disk::stage::Stage;
use crate::protocol::fetch::{FetchError, Wanted};
use crate::protocol::message::way;
use crate::tree::address::Host;
use crate::tree::chunker::Class;
use crate::tree::diff::changes;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{DirId, FileId, HeadId};
use crate::tree::name::TreePath;

/// Streams on which content comes at the same time.
const STREAMS: usize = 4;
/// Files asked for in one message, at most.
const GROUP_FILES: usize = 512;
/// Bytes of files after which a group is full.
const GROUP_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes from which a file without an old version is compared with others by its chunk list.
const SIMILAR_FROM: u64 = 128 * 1024;
/// Bytes from which a file is rebuilt from its old version, if both have so many.
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
    /// The head that both sides know, and its tree.
    pub(super) base: Option<(HeadId, DirId)>,
    pub(super) monitor: &'a dyn Monitor,
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) files: u64,
    pub(super) literal_bytes: u64,
    pub(super) copied_bytes: u64,
    /// Files that the sender has no more.
    pub(super) gone: Vec<TreePath>,
}

/// A file to be got.
pub(super) struct Job {
    pub(super) wanted: Wanted,
    pub(super) how: How,
    pub(super) tries: u32,
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

/// Gets everything into the stage that is neither there nor in a local file.
///
/// # Errors
/// [`Failure`]; what has come stays in the stage.
pub(super) fn take_content(task: &Task<'_>) -> Result<Taken, Failure> {
    let (give, take) = sync_channel(2 * STREAMS);
    let work = Work { task, groups: Mutex::new(take), again: Mutex::default(), stop: Mutex::new(None) };
    let mut taken = Taken::default();
    std::thread::scope(|scope| {
        let feeder = scope.spawn(|| feed(&work, give));
        let streams: Vec<_> = (0..STREAMS).map(|_| scope.spawn(|| work.run())).collect();
        for stream in streams {
            match stream.join() {
                Ok(Ok(part)) => taken.add(part),
                Ok(Err(failure)) => work.stop_with(failure),
                Err(_) => work.stop_with(broken()),
            }
        }
        match feeder.join() {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => work.stop_with(failure),
            Err(_) => work.stop_with(broken()),
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
        self.literal_bytes += part.literal_bytes;
        self.copied_bytes += part.copied_bytes;
        self.gone.extend(part.gone);
    }
}

/// Finds what has to be got, in path order, and hands it out in groups.
fn feed(work: &Work<'_>, give: SyncSender<Vec<Job>>) -> Result<(), Failure> {
    let task = work.task;
    let reader = task.index.reader().map_err(index_failure)?;
    let mut seen = HashSet::new();
    let (mut group, mut bytes) = (Vec::new(), 0);
    for change in changes(&*reader, Some(task.local), Some(task.tree)) {
        let change = change.map_err(page_failure)?;
        let Some(job) = task.job(&reader, change.path, change.old.as_ref(), change.new.as_ref(), &mut seen)? else {
            continue;
        };
        bytes += job.wanted.size;
        group.push(job);
        if group.len() >= GROUP_FILES || bytes >= GROUP_BYTES {
            bytes = 0;
            if !work.hand_out(&give, std::mem::take(&mut group)) {
                return Ok(());
            }
        }
    }
    if !group.is_empty() {
        work.hand_out(&give, group);
    }
    Ok(())
}

impl Task<'_> {
    /// The job for one change, if its content is nowhere here.
    fn job(
        &self,
        reader: &Reader,
        path: TreePath,
        old: Option<&Entry>,
        new: Option<&Entry>,
        seen: &mut HashSet<FileId>,
    ) -> Result<Option<Job>, Failure> {
        let Some(Body::File { size, class, id }) = new.map(|entry| &entry.body) else { return Ok(None) };
        let old =
            old.and_then(|entry| if let Body::File { size, id, .. } = entry.body { Some((size, id)) } else { None });
        if old.is_some_and(|(_, old)| old == *id) || !seen.insert(*id) {
            return Ok(None);
        }
        let staged = self.stage.has(id).map_err(|e| stage_failure(&e))?;
        if staged || !reader.paths_of(self.module, id, 1).map_err(index_failure)?.is_empty() {
            return Ok(None);
        }
        let several_chunks = *size > class.sizes().0 as u64;
        let begun = several_chunks && self.stage.partial(id, *size).map_err(|e| stage_failure(&e))?.is_some();
        let old_size = old.map_or(0, |(size, _)| size);
        // Data that is packed shares whole chunks or nothing.
        let in_place = *class == Class::Fine && *size >= REBUILT_FROM && old_size >= REBUILT_FROM;
        let how = match self.base {
            _ if begun => How::ByList,
            Some(_) if in_place || several_chunks => How::Plain(way::BASE),
            Some(_) => How::Plain(way::ALL),
            None if in_place && (*size).min(old_size) <= UNLISTED_TO => How::ByGap,
            None if in_place || several_chunks && old_size > 0 || *size >= SIMILAR_FROM => How::ByList,
            None => How::Plain(way::ALL),
        };
        let way = if let How::Plain(way) = how { way } else { way::ALL };
        Ok(Some(Job { wanted: Wanted { path, id: *id, size: *size, class: *class, way }, how, tries: 0 }))
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

    /// Gives a group to whichever stream is free; false when everything stops.
    fn hand_out(&self, give: &SyncSender<Vec<Job>>, mut group: Vec<Job>) -> bool {
        loop {
            if self.stopped() || self.task.monitor.cancelled() {
                return false;
            }
            match give.try_send(group) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) => {
                    group = back;
                    std::thread::park_timeout(Duration::from_millis(2));
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
    }

    pub(super) fn next_group(&self, wait: bool) -> Option<Vec<Job>> {
        let again = std::mem::take(&mut *self.again.lock().unwrap_or_else(PoisonError::into_inner));
        if !again.is_empty() {
            return Some(again);
        }
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if wait { groups.recv().ok() } else { groups.try_recv().ok() }
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
