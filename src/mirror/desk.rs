//! What is going on with one module: who works on it, what stands in its directory, how far it is, what went wrong.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::now_ms;
use super::failure::{Exit, Failure};
use super::gathering::Gathering;
use super::monitor::{Monitor, Phase, Stop};
use super::node::Local;
use super::pace::Pace;
use super::report::Sources;
use super::status::{Activity, Transfer, Trouble, WatchStatus, Work};

/// The state of one module, shared by who works on it and who asks.
#[derive(Default)]
pub(super) struct Desk {
    /// Held by the one operation that reads or writes the module's tree: what stands there, if it is known for sure.
    work: Mutex<Option<Local>>,
    facts: Mutex<Facts>,
    /// The changes that are gathered, while the directory is watched.
    gathering: Mutex<Option<Arc<Mutex<Gathering>>>>,
}

#[derive(Default)]
struct Facts {
    phase: Option<Phase>,
    resting: Activity,
    progress: Progress,
    trouble: Option<Trouble>,
    watch: Option<WatchStatus>,
    sent: u64,
    received: u64,
    work: Work,
    troubles: u64,
    success_ms: Option<u64>,
}

/// How far a phase is.
struct Progress {
    pace: Pace,
    files: u64,
    files_total: u64,
    bytes: u64,
    bytes_total: u64,
}

impl Default for Progress {
    fn default() -> Self {
        let pace = Pace::new(Instant::now());
        Self { pace, files: 0, files_total: 0, bytes: 0, bytes_total: 0 }
    }
}

/// How a module is, at one moment.
pub(super) struct Look {
    pub(super) activity: Activity,
    pub(super) transfer: Option<Transfer>,
    pub(super) trouble: Option<Trouble>,
    pub(super) watch: Option<WatchStatus>,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) work: Work,
    pub(super) troubles: u64,
    pub(super) success_ms: Option<u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<Phase> for Activity {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Waiting => Self::Waiting,
            Phase::Connecting => Self::Connecting,
            Phase::Indexing => Self::Indexing,
            Phase::Comparing => Self::Comparing,
            Phase::Fetching => Self::Fetching,
            Phase::Publishing => Self::Publishing,
        }
    }
}

impl Desk {
    /// Waits for the module's turn. What is known of its tree is the holder's to use and to renew.
    pub(super) fn work(&self) -> MutexGuard<'_, Option<Local>> {
        locked(&self.work)
    }

    /// Says what the module does when nothing is being done.
    pub(super) fn rest(&self, activity: Activity) {
        let mut facts = locked(&self.facts);
        facts.resting = activity;
        facts.phase = None;
    }

    /// Keeps what went wrong until it is cured; it is tried again in `retry`.
    pub(super) fn trouble(&self, failure: &Failure, retry: Option<Duration>) {
        let mut facts = locked(&self.facts);
        let since =
            facts.trouble.as_ref().filter(|trouble| trouble.failure == *failure).map(|trouble| trouble.since_ms);
        if since.is_none() {
            tracing::error!(what = failure.what, why = failure.why, fix = failure.fix, "it did not work");
        }
        facts.phase = None;
        let counted = u64::from(since.is_none());
        facts.troubles += counted;
        match failure.exit {
            Exit::Guard => facts.work.deletes_blocked += counted,
            Exit::Trust => facts.work.verify_errors += counted,
            _ => {}
        }
        let retry_ms = retry.map(|retry| now_ms() + u64::try_from(retry.as_millis()).unwrap_or(0));
        facts.trouble = Some(Trouble { since_ms: since.unwrap_or_else(now_ms), failure: failure.clone(), retry_ms });
    }

    /// All is well now, whatever went wrong before.
    pub(super) fn cured(&self) {
        let mut facts = locked(&self.facts);
        facts.trouble = None;
        facts.success_ms = Some(now_ms());
    }

    /// Counts bytes that went and that have come.
    pub(super) fn moved(&self, sent: u64, received: u64) {
        let mut facts = locked(&self.facts);
        facts.sent += sent;
        facts.received += received;
    }

    /// Counts a snapshot that was made or brought here since `begun`, with content from these sources.
    pub(super) fn done(&self, begun: Instant, content: &Sources) {
        let mut facts = locked(&self.facts);
        facts.work.done += 1;
        facts.work.took_ms = Some(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        facts.work.content += content;
    }

    pub(super) fn set_watch(&self, watch: Option<WatchStatus>) {
        locked(&self.facts).watch = watch;
    }

    pub(super) fn set_gathering(&self, gathering: Option<Arc<Mutex<Gathering>>>) {
        *locked(&self.gathering) = gathering;
    }

    pub(super) fn gathering(&self) -> Option<Arc<Mutex<Gathering>>> {
        locked(&self.gathering).clone()
    }

    pub(super) fn look(&self) -> Look {
        let mut facts = locked(&self.facts);
        let activity = facts.phase.map_or(facts.resting, Activity::from);
        let transfer = facts.phase.map(|_| facts.progress.transfer());
        let (trouble, watch) = (facts.trouble.clone(), facts.watch.clone());
        Look {
            activity,
            transfer,
            trouble,
            watch,
            sent: facts.sent,
            received: facts.received,
            work: facts.work.clone(),
            troubles: facts.troubles,
            success_ms: facts.success_ms,
        }
    }

    /// Hears of the progress of an operation that `stop` ends.
    pub(super) fn monitor<'a>(&'a self, stop: &'a Stop) -> Busy<'a> {
        Busy { desk: self, stop }
    }
}

impl Progress {
    fn transfer(&mut self) -> Transfer {
        let now = Instant::now();
        let left = self.bytes_total.saturating_sub(self.bytes);
        Transfer {
            files: self.files,
            files_total: self.files_total,
            bytes: self.bytes,
            bytes_total: self.bytes_total,
            rate: self.pace.rate(now),
            eta_s: self.pace.left(now, left).filter(|_| self.bytes_total > 0).map(|left| left.as_secs()),
        }
    }
}

/// The desk as an operation's monitor; when it is dropped the operation is over.
pub(super) struct Busy<'a> {
    desk: &'a Desk,
    stop: &'a Stop,
}

impl Monitor for Busy<'_> {
    fn phase(&self, phase: Phase) {
        let mut facts = locked(&self.desk.facts);
        facts.phase = Some(phase);
        facts.progress = Progress::default();
    }

    fn total(&self, files: u64, bytes: u64) {
        let mut facts = locked(&self.desk.facts);
        (facts.progress.files_total, facts.progress.bytes_total) = (files, bytes);
    }

    fn advance(&self, files: u64, bytes: u64) {
        let mut facts = locked(&self.desk.facts);
        facts.progress.files += files;
        facts.progress.bytes += bytes;
        facts.progress.pace.advance(Instant::now(), bytes);
    }

    fn note(&self, text: &str) {
        tracing::warn!("{text}");
    }

    fn cancelled(&self) -> bool {
        self.stop.requested()
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        locked(&self.desk.facts).phase = None;
    }
}
