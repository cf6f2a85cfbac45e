//! Getting content: several streams at once, each a window of files ahead of what has come, into the stage.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::dial::nonsense;
use super::failure::{Exit, Failure};
use super::line::{Exchange, Line};
use super::monitor::Monitor;
use super::shelf::{Own, StageShelf};
use super::take_tree::{index_failure, page_failure};
use crate::disk::dir::Dir;
use crate::disk::index::{Index, ModuleNumber, Reader};
use crate::disk::stage::Stage;
use crate::protocol::descent::ListReader;
use crate::protocol::fetch::{Fetch, FetchError, Outcome, Wanted};
use crate::protocol::message::{AtHead, Content, FileItem, Files, Message, Paths, tag, way};
use crate::tree::address::Host;
use crate::tree::diff::changes;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{DirId, FileId, HeadId};
use crate::tree::list::Chunk;
use crate::tree::name::TreePath;

/// Streams on which content comes at the same time.
const STREAMS: usize = 4;
/// Files asked for in one message, at most.
const GROUP_FILES: usize = 512;
/// Bytes of files after which a group is full.
const GROUP_BYTES: u64 = 16 * 1024 * 1024;
/// Files that a stream may have asked for and not got, before it asks for more.
const AHEAD_FILES: usize = 512;
/// Bytes from which a file without an old version is compared with others by its chunk list.
const SIMILAR_FROM: u64 = 128 * 1024;
/// Times a file is asked for, counting the first.
const TRIES_MAX: u32 = 3;

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
struct Job {
    wanted: Wanted,
    /// Whether a chunk list is asked for first, to find what is here.
    by_list: bool,
    tries: u32,
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

fn broken() -> Failure {
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
        let comparable = match old {
            Some((old_size, _)) => several_chunks && old_size > class.sizes().0 as u64,
            None => *size >= SIMILAR_FROM,
        };
        let by_list = begun || comparable && self.base.is_none();
        let way = if self.base.is_some() && several_chunks && !by_list { way::BASE } else { way::ALL };
        Ok(Some(Job { wanted: Wanted { path, id: *id, size: *size, class: *class, way }, by_list, tries: 0 }))
    }
}

/// What the streams share.
struct Work<'a> {
    task: &'a Task<'a>,
    groups: Mutex<Receiver<Vec<Job>>>,
    /// Files that have to be asked for once more.
    again: Mutex<Vec<Job>>,
    stop: Mutex<Option<Failure>>,
}

impl Work<'_> {
    fn stop_with(&self, failure: Failure) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }

    fn stopped(&self) -> bool {
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

    fn next_group(&self, wait: bool) -> Option<Vec<Job>> {
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

/// One content stream and what it has asked for.
struct Worker<'w> {
    work: &'w Work<'w>,
    content: Option<Exchange<'w>>,
    lists: Option<Exchange<'w>>,
    reader: Reader,
    fetch: Fetch,
    shelf: StageShelf<'w>,
    jobs: HashMap<FileId, Job>,
    taken: Taken,
}

impl<'w> Worker<'w> {
    fn new(work: &'w Work<'w>) -> Result<Self, Failure> {
        let task = work.task;
        let reader = task.index.reader().map_err(index_failure)?;
        let shelf = StageShelf::new(task.index, task.stage, task.target, task.base.map(|(_, tree)| tree))
            .map_err(index_failure)?;
        let (jobs, taken) = (HashMap::new(), Taken::default());
        Ok(Self { work, content: None, lists: None, reader, fetch: Fetch::default(), shelf, jobs, taken })
    }

    fn run(mut self) -> Result<Taken, Failure> {
        while !self.work.stopped() {
            while self.fetch.outstanding() < AHEAD_FILES {
                let Some(group) = self.work.next_group(self.fetch.outstanding() == 0) else { break };
                self.ask(group)?;
            }
            if self.fetch.outstanding() == 0 {
                break;
            }
            self.receive()?;
        }
        for exchange in [&self.content, &self.lists].into_iter().flatten() {
            exchange.finish()?;
        }
        self.shelf.flush().map_err(index_failure)?;
        self.taken.literal_bytes = self.fetch.received;
        self.taken.copied_bytes = self.fetch.copied;
        Ok(self.taken)
    }

    fn ask(&mut self, mut group: Vec<Job>) -> Result<(), Failure> {
        self.compare(&mut group)?;
        let mut items = Vec::with_capacity(group.len());
        for job in group {
            let wanted = self.shelf.wanted_bits(&job.wanted.id);
            items.push(FileItem { path: job.wanted.path.clone(), way: job.wanted.way, wanted });
            self.fetch.expect(job.wanted.clone());
            self.jobs.insert(job.wanted.id, job);
        }
        let task = self.work.task;
        let content = match self.content.take() {
            Some(content) => content,
            None => {
                let base = task.base.map(|(head, _)| head);
                let request = Content { module: task.line.module.clone(), head: task.head, base };
                task.line.ask(Message::new(tag::CONTENT, &request))?
            }
        };
        content.send(Message::new(tag::FILES, &Files(items)))?;
        self.content = Some(content);
        Ok(())
    }

    /// Asks for the chunk lists of the files that may share something with what is here, and finds out what.
    fn compare(&mut self, group: &mut [Job]) -> Result<(), Failure> {
        let paths: Vec<TreePath> = group.iter().filter(|job| job.by_list).map(|job| job.wanted.path.clone()).collect();
        if paths.is_empty() {
            return Ok(());
        }
        let task = self.work.task;
        let lists = match self.lists.take() {
            Some(lists) => lists,
            None => task
                .line
                .ask(Message::new(tag::LISTS, &AtHead { module: task.line.module.clone(), head: task.head }))?,
        };
        lists.send(Message::new(tag::PATHS, &Paths(paths)))?;
        for job in group.iter_mut().filter(|job| job.by_list) {
            let list = self.receive_list(&lists, &job.wanted)?;
            if let Some(own) = self.own(&job.wanted, list)? {
                job.wanted.way = way::WANTED;
                self.shelf.remember(job.wanted.id, Rc::new(own));
            }
        }
        self.lists = Some(lists);
        Ok(())
    }

    fn receive_list(&self, lists: &Exchange<'_>, wanted: &Wanted) -> Result<Vec<Chunk>, Failure> {
        let task = self.work.task;
        let mut list = ListReader::default();
        loop {
            let Some(message) = lists.receive(task.monitor)? else { return Err(broken()) };
            if message.tag != tag::CHUNKS {
                return Err(task.line.unexpected(&message));
            }
            let Wanted { id, size, class, .. } = *wanted;
            let got = list.chunks(&message.body, id, size, class).map_err(|e| nonsense(&task.line.host, &e))?;
            if let Some(chunks) = got {
                return Ok(chunks);
            }
        }
    }

    /// Which chunks of a list are here: in what was begun of the file, in its old version, or in a similar file.
    fn own(&self, wanted: &Wanted, list: Vec<Chunk>) -> Result<Option<Own>, Failure> {
        let task = self.work.task;
        if list.is_empty() {
            return Ok(None);
        }
        let mut own = Own::new(list);
        if let Some(begun) = task.stage.partial(&wanted.id, wanted.size).map_err(|e| stage_failure(&e))? {
            own.take_begun(begun.file(), wanted.class).map_err(|e| Failure::local("cannot read what was begun", &e))?;
        }
        let row = self.reader.file(task.module, &wanted.path).map_err(index_failure)?;
        if let Some(row) = row {
            own.take_listed(&self.reader, task.target, &wanted.path, row.id).map_err(page_failure)?;
        } else {
            for key in self.reader.similar(task.module, &own.ids(), 1).map_err(index_failure)? {
                for (path, row) in self.reader.files_of_key(task.module, key.0, 1).map_err(index_failure)? {
                    own.take_listed(&self.reader, task.target, &path, row.id).map_err(page_failure)?;
                }
            }
        }
        Ok(own.has_any().then_some(own))
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let task = self.work.task;
        let Some(content) = &self.content else { return Err(broken()) };
        let Some(message) = content.receive(task.monitor)? else { return Err(broken()) };
        let before = self.fetch.received + self.fetch.copied;
        let outcomes = match message.tag {
            tag::LEAVES => self.fetch.leaves(&message.body).map(|()| Vec::new()),
            tag::BATCH => self.fetch.batch(&message.body, &mut self.shelf),
            _ => return Err(task.line.unexpected(&message)),
        };
        let outcomes = outcomes.map_err(|error| fetch_failure(&task.line.host, error))?;
        task.monitor.advance(0, self.fetch.received + self.fetch.copied - before);
        for outcome in outcomes {
            self.settle(outcome)?;
        }
        self.shelf.flush_if_full().map_err(index_failure)
    }

    fn settle(&mut self, outcome: Outcome) -> Result<(), Failure> {
        let (Outcome::Done(wanted) | Outcome::Gone(wanted) | Outcome::Retry(wanted)) = &outcome;
        let job = self.jobs.remove(&wanted.id);
        self.shelf.forget(&wanted.id);
        match outcome {
            Outcome::Done(_) => {
                self.taken.files += 1;
                self.work.task.monitor.advance(1, 0);
            }
            Outcome::Gone(wanted) => self.taken.gone.push(wanted.path),
            Outcome::Retry(mut wanted) => {
                let tries = job.map_or(1, |job| job.tries + 1);
                if tries >= TRIES_MAX {
                    let rule = crate::tree::codec::Malformed::Rule {
                        what: "content",
                        rule: "does not become the file that was asked for",
                    };
                    return Err(nonsense(&self.work.task.line.host, &rule));
                }
                wanted.way = way::ALL;
                let job = Job { wanted, by_list: false, tries };
                self.work.again.lock().unwrap_or_else(PoisonError::into_inner).push(job);
            }
        }
        Ok(())
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
