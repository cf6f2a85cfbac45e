//! Commands that a daemon carries out for others, each on a thread of its own; asked for by number until they are old.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::mirror::command::{Command, Execute};
use crate::mirror::failure::{Exit, Failure};
use crate::mirror::monitor::{Monitor, Phase};
use crate::mirror::report::Report;
use crate::mirror::status::Status;

/// Jobs at one time.
pub const RUNNING_MAX: usize = 16;
/// Finished jobs that can be asked for.
pub const FINISHED_MAX: usize = 64;
/// How long a finished job can be asked for.
pub const FINISHED_TIME: Duration = Duration::from_secs(3_600);
/// Notes kept of one job; further ones are counted.
const NOTES_MAX: usize = 64;

/// What a job tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its number.
    pub job: u64,
    /// The word of its command.
    pub command: String,
    /// Whether it has ended; `exit` and `report` or `failure` are there then.
    pub finished: bool,
    /// What it is busy with.
    pub progress: Progress,
    /// What a person should know.
    pub notes: Vec<String>,
    /// How it ended, as an exit code.
    pub exit: Option<Exit>,
    /// What came of it.
    pub report: Option<Report>,
    /// Or why it did not work.
    pub failure: Option<Failure>,
}

/// How far a job is in its phase; a total of 0 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it is busy with.
    pub phase: Phase,
    /// Counts phases, so that the same one again is seen as another.
    pub step: u64,
    /// Files done.
    pub files: u64,
    /// Files in all.
    pub files_total: u64,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all.
    pub bytes_total: u64,
}

/// The jobs of a daemon.
pub struct Jobs {
    execute: Arc<dyn Execute>,
    table: Mutex<Table>,
    ended: Condvar,
}

#[derive(Default)]
struct Table {
    last: u64,
    closed: bool,
    jobs: BTreeMap<u64, Job>,
}

struct Job {
    word: &'static str,
    watch: Arc<Watch>,
    outcome: Option<(Instant, Result<Report, Failure>)>,
}

impl Jobs {
    /// Will have its commands carried out by `execute`.
    #[must_use]
    pub fn new(execute: Arc<dyn Execute>) -> Arc<Self> {
        Arc::new(Self { execute, table: Mutex::default(), ended: Condvar::new() })
    }

    /// Starts a job and gives its number.
    ///
    /// # Errors
    /// [`Failure`] when too many run already, or the daemon ends.
    pub fn start(self: &Arc<Self>, command: Command) -> Result<u64, Failure> {
        let mut table = self.table();
        table.forget_old();
        let running = table.jobs.values().filter(|job| job.outcome.is_none()).count();
        if running >= RUNNING_MAX || table.closed {
            let why =
                if table.closed { "the daemon is about to end".into() } else { format!("{running} commands run") };
            return Err(Failure::new(Exit::Busy, "the daemon takes no further command", why, "try again later"));
        }
        table.last += 1;
        let id = table.last;
        let watch = Arc::new(Watch::default());
        table.jobs.insert(id, Job { word: command.word(), watch: watch.clone(), outcome: None });
        drop(table);
        let jobs = self.clone();
        let spawned = std::thread::Builder::new().name(format!("job-{id}")).spawn(move || {
            // A job that panics must still end for whoever waits for it.
            let result = catch_unwind(AssertUnwindSafe(|| jobs.execute.execute(&command, &*watch)));
            jobs.finish(id, result.unwrap_or_else(|_| Err(broken())));
        });
        if let Err(e) = spawned {
            self.finish(id, Err(Failure::local("cannot start a thread", &e)));
        }
        Ok(id)
    }

    fn finish(&self, id: u64, result: Result<Report, Failure>) {
        if let Some(job) = self.table().jobs.get_mut(&id) {
            job.outcome = Some((Instant::now(), result));
        }
        self.ended.notify_all();
    }

    /// What job `id` tells, after waiting up to `time` for its end; `None` when there is no such job.
    #[must_use]
    pub fn view(&self, id: u64, time: Duration) -> Option<JobView> {
        let running = |table: &mut Table| table.jobs.get(&id).is_some_and(|job| job.outcome.is_none());
        let waited = self.ended.wait_timeout_while(self.table(), time, running);
        let (table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        table.jobs.get(&id).map(|job| job.view(id))
    }

    /// Tells job `id` to stop; says whether there is such a job.
    #[must_use]
    pub fn cancel(&self, id: u64) -> bool {
        self.table().jobs.get(&id).map(|job| job.watch.cancel()).is_some()
    }

    /// Takes no further job, tells all to stop, and waits for their end, up to `time`.
    pub fn close(&self, time: Duration) {
        let mut table = self.table();
        table.closed = true;
        table.jobs.values().for_each(|job| job.watch.cancel());
        let running = |table: &mut Table| table.jobs.values().any(|job| job.outcome.is_none());
        drop(self.ended.wait_timeout_while(table, time, running));
    }

    /// How the daemon is, found on the calling thread.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn status(&self) -> Result<Status, Failure> {
        let result = catch_unwind(AssertUnwindSafe(|| self.execute.execute(&Command::Status, &Watch::default())));
        match result.unwrap_or_else(|_| Err(broken()))? {
            Report::Status(status) => Ok(status),
            _ => Err(broken()),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken() -> Failure {
    let fix = "look at the daemon's output and report it";
    Failure::new(Exit::Other, "the command broke off", "an error in mirra itself", fix)
}

impl Table {
    fn forget_old(&mut self) {
        let ended = |job: &Job| job.outcome.as_ref().map(|(at, _)| *at);
        self.jobs.retain(|_, job| ended(job).is_none_or(|at| at.elapsed() < FINISHED_TIME));
        let mut finished: Vec<_> = self.jobs.iter().filter_map(|(id, job)| Some((ended(job)?, *id))).collect();
        finished.sort();
        let surplus = finished.len().saturating_sub(FINISHED_MAX);
        finished.into_iter().take(surplus).for_each(|(_, id)| drop(self.jobs.remove(&id)));
    }
}

impl Job {
    fn view(&self, id: u64) -> JobView {
        let seen = self.watch.seen();
        let mut notes = seen.notes.clone();
        if seen.notes_more > 0 {
            notes.push(format!("and {} more", seen.notes_more));
        }
        let outcome = self.outcome.as_ref().map(|(_, result)| result);
        JobView {
            job: id,
            command: self.word.to_owned(),
            finished: outcome.is_some(),
            progress: seen.progress,
            notes,
            exit: outcome.map(|result| result.as_ref().map_or_else(|failure| failure.exit, Report::exit)),
            report: outcome.and_then(|result| result.as_ref().ok().cloned()),
            failure: outcome.and_then(|result| result.as_ref().err().cloned()),
        }
    }
}

/// The monitor of a job: remembers what it hears.
#[derive(Default)]
struct Watch(Mutex<Seen>);

struct Seen {
    progress: Progress,
    notes: Vec<String>,
    notes_more: u64,
    cancelled: bool,
}

impl Default for Seen {
    fn default() -> Self {
        let progress = Progress { phase: Phase::Waiting, step: 0, files: 0, files_total: 0, bytes: 0, bytes_total: 0 };
        Self { progress, notes: Vec::new(), notes_more: 0, cancelled: false }
    }
}

impl Watch {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        self.seen().cancelled = true;
    }
}

impl Monitor for Watch {
    fn phase(&self, phase: Phase) {
        let mut seen = self.seen();
        let step = seen.progress.step + 1;
        seen.progress = Progress { phase, step, files: 0, files_total: 0, bytes: 0, bytes_total: 0 };
    }

    fn total(&self, files: u64, bytes: u64) {
        let progress = &mut self.seen().progress;
        (progress.files_total, progress.bytes_total) = (files, bytes);
    }

    fn advance(&self, files: u64, bytes: u64) {
        let progress = &mut self.seen().progress;
        progress.files = progress.files.saturating_add(files);
        progress.bytes = progress.bytes.saturating_add(bytes);
    }

    fn note(&self, text: &str) {
        let mut seen = self.seen();
        if seen.notes.len() < NOTES_MAX {
            seen.notes.push(text.to_owned());
        } else {
            seen.notes_more += 1;
        }
    }

    fn cancelled(&self) -> bool {
        self.seen().cancelled
    }
}
