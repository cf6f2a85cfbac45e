//! The gate of a module as a machine: hints go in, what is to be published comes out, and time is an argument.
//!
//! Times are counted from any one start. Every hint goes in by [`Gathering::hint`]; then [`Gathering::due`] says when
//! [`Gathering::take`] is worth a call. What cannot be published goes back in by [`Gathering::put_back`].
//!
//! A file that is being written keeps its published version: it is no part of what is taken, and
//! [`Gathering::writing`] names it for the scan of a directory that holds it. It is ready when it is closed, or has not
//! been modified for two seconds.

mod ready;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;
use crate::disk::scan::Depth;
use crate::disk::watch::Hint;
use crate::tree::name::TreePath;

pub use self::ready::{Ready, WAITING_MAX};

/// A live gate waits so long after the last change for another.
const LULL: Duration = Duration::from_millis(50);
/// A live gate keeps a change so long at most.
const HOLD_MAX: Duration = Duration::from_secs(1);
/// A file that nobody closes is ready when it has not been modified for so long.
const QUIET: Duration = Duration::from_secs(2);
/// Files that can be known as being written at one time. Others are ready at once: the scan, which believes only a file
/// that keeps still, is what guards them.
pub const WRITING_MAX: usize = 4_096;

/// Changes on their way to be published.
#[derive(Debug)]
pub struct Gathering {
    gate: Gate,
    waiting: Ready,
    /// When the first and the last of what waits became ready.
    since: Option<Span>,
    /// The last sign of any change, whether ready or not.
    last_sign: Duration,
    /// What was put back is not to be tried again earlier.
    not_before: Duration,
    writing: Writing,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    first: Duration,
    last: Duration,
}

impl Gathering {
    /// Nothing waits.
    #[must_use]
    pub fn new(gate: Gate) -> Self {
        let (last_sign, not_before) = (Duration::ZERO, Duration::ZERO);
        Self { gate, waiting: Ready::default(), since: None, last_sign, not_before, writing: Writing::default() }
    }

    /// Takes in a hint that came at `now`.
    pub fn hint(&mut self, hint: Hint, now: Duration) {
        self.settle(now);
        self.last_sign = self.last_sign.max(now);
        match hint {
            Hint::Ready(path) => {
                self.writing.remove(&path);
                self.arrive(path, Depth::Alone, now);
            }
            Hint::Touched(path) => {
                // What is being written comes with its new mode when it is closed.
                if !self.writing.paths.contains(&path) {
                    self.arrive(path, Depth::Alone, now);
                }
            }
            Hint::Writing(path) => match self.writing.insert(path, now) {
                Ok(path) => self.waiting.remove_alone(path),
                Err(path) => self.arrive(path, Depth::Alone, now),
            },
            Hint::Deep(path) => self.arrive(path, Depth::Below, now),
            Hint::All => self.arrive(TreePath::top(), Depth::Below, now),
        }
        if self.waiting.is_empty() {
            self.since = None;
        }
    }

    /// When [`take`](Self::take) should be called next; `None` while nothing waits. By then there may be something to
    /// take, or another time to wait for.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        match self.gate {
            Gate::Manual => None,
            _ => [self.ready_at(), self.writing.next_quiet()].into_iter().flatten().min(),
        }
    }

    /// What is ready at `now`; `None` if nothing is. With the gate `manual` that is always so; the call then only
    /// brings [`writing`](Self::writing) up to date.
    pub fn take(&mut self, now: Duration) -> Option<Ready> {
        self.settle(now);
        if self.ready_at()? > now {
            return None;
        }
        (self.since, self.not_before) = (None, Duration::ZERO);
        Some(std::mem::take(&mut self.waiting))
    }

    /// Puts back what could not be published, to be taken again with what comes meanwhile, at `after` or later.
    pub fn put_back(&mut self, ready: Ready, after: Duration) {
        if self.gate == Gate::Manual {
            return;
        }
        self.not_before = self.not_before.max(after);
        let since = self.last_sign;
        if ready.all {
            self.arrive(TreePath::top(), Depth::Below, since);
        }
        for (path, depth) in ready.paths {
            // What is being written again is taken when that has ended.
            if depth == Depth::Below || !self.writing.paths.contains(&path) {
                self.arrive(path, depth, since);
            }
        }
    }

    /// Files that are being written: they keep their published version. As of the last hint or take.
    #[must_use]
    pub fn writing(&self) -> Arc<BTreeSet<TreePath>> {
        Arc::clone(&self.writing.paths)
    }

    /// Changes the gate. Coming from `manual` everything is to be looked at, as nothing was gathered; going there what
    /// waits is left to whoever publishes by hand.
    pub fn set_gate(&mut self, gate: Gate) {
        let old = std::mem::replace(&mut self.gate, gate);
        if gate == Gate::Manual {
            (self.waiting, self.since, self.not_before) = (Ready::default(), None, Duration::ZERO);
        } else if old == Gate::Manual {
            self.arrive(TreePath::top(), Depth::Below, self.last_sign);
        }
    }

    /// Lets what is quiet since long enough be ready, each at its own time.
    fn settle(&mut self, now: Duration) {
        while let Some((path, at)) = self.writing.pop_quiet(now) {
            self.arrive(path, Depth::Alone, at);
        }
    }

    fn arrive(&mut self, path: TreePath, depth: Depth, at: Duration) {
        if self.gate == Gate::Manual {
            return;
        }
        self.waiting.insert(path, depth);
        let span = self.since.get_or_insert(Span { first: at, last: at });
        (span.first, span.last) = (span.first.min(at), span.last.max(at));
    }

    /// When what waits is ready, unless more comes.
    fn ready_at(&self) -> Option<Duration> {
        let span = self.since?;
        let at = match self.gate {
            Gate::Live => span.last.saturating_add(LULL).min(span.first.saturating_add(HOLD_MAX)),
            Gate::Quiet(quiet) => self.last_sign.saturating_add(quiet).max(span.last),
            Gate::Manual => return None,
        };
        Some(at.max(self.not_before))
    }
}

/// Files that are being written, each with the time of its last modification.
#[derive(Debug, Default)]
struct Writing {
    /// Shared with scans; copied only if it changes while one has it.
    paths: Arc<BTreeSet<TreePath>>,
    times: BTreeMap<TreePath, Duration>,
    /// The same, by time.
    oldest: BTreeSet<(Duration, TreePath)>,
}

impl Writing {
    /// Notes a modification; gives the path back, as an error when there is no room for it.
    fn insert(&mut self, path: TreePath, now: Duration) -> Result<&TreePath, TreePath> {
        if let Some(time) = self.times.get_mut(&path) {
            let before = std::mem::replace(time, now);
            self.oldest.remove(&(before, path.clone()));
        } else if self.times.len() == WRITING_MAX {
            return Err(path);
        } else {
            self.times.insert(path.clone(), now);
            Arc::make_mut(&mut self.paths).insert(path.clone());
        }
        self.oldest.insert((now, path.clone()));
        // It was put in right here.
        self.paths.get(&path).ok_or(path)
    }

    fn remove(&mut self, path: &TreePath) {
        if let Some(time) = self.times.remove(path) {
            self.oldest.remove(&(time, path.clone()));
            Arc::make_mut(&mut self.paths).remove(path);
        }
    }

    /// When the next of them is quiet.
    fn next_quiet(&self) -> Option<Duration> {
        self.oldest.first().map(|(time, _)| time.saturating_add(QUIET))
    }

    /// The next that is quiet at `now`, and since when.
    fn pop_quiet(&mut self, now: Duration) -> Option<(TreePath, Duration)> {
        let at = self.next_quiet().filter(|at| *at <= now)?;
        let (_, path) = self.oldest.first()?.clone();
        self.remove(&path);
        Some((path, at))
    }
}

#[cfg(test)]
mod tests;
