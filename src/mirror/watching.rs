//! Keeping an own module published: hints of the watch become snapshots, as the module's gate says.
//!
//! One thread for each module. What the watch says is a hint; what may have been missed is found by a look at everything,
//! at the start, when hints were lost, and from time to time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::config::Own;
use super::desk::Desk;
use super::failure::{Exit, Failure};
use super::gate::Gate;
use super::gathering::{Gathering, Ready};
use super::ignore::patterns;
use super::monitor::Stop;
use super::root::Root;
use super::site::Site;
use super::status::{Activity, Degraded, WatchStatus};
use super::survey::exclude;
use crate::disk::dir::Dir;
use crate::disk::exclude::Exclude;
use crate::disk::watch::{Health, Hint, Watch};

/// Hints that wait for the thread; when there are more, it looks at everything instead.
const HINTS: usize = 16 * 1024;
/// How often everything is looked at, in case something was missed.
const SWEEP: Duration = Duration::from_secs(3_600);
/// How often, while not everything can be watched.
const SWEEP_DEGRADED: Duration = Duration::from_secs(60);
/// How often the thread looks up although nothing is due, for the health of the watch.
const LOOK_UP: Duration = Duration::from_secs(5);
/// Pauses before a publication that failed is tried again.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MOST: Duration = Duration::from_secs(60);

/// Wakes the thread.
pub(super) struct Bell {
    give: SyncSender<Option<Hint>>,
    /// Hints were lost.
    lost: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> (Arc<Self>, Receiver<Option<Hint>>) {
        let (give, take) = sync_channel(HINTS);
        (Arc::new(Self { give, lost: AtomicBool::new(false) }), take)
    }

    /// Lets the thread look up.
    pub(super) fn ring(&self) {
        // If it is full, the thread is awake.
        let _ = self.give.try_send(None);
    }

    fn hint(&self, hint: Hint) {
        if let Err(TrySendError::Full(_)) = self.give.try_send(Some(hint)) {
            self.lost.store(true, Ordering::Relaxed);
        }
    }
}

/// An own module that is kept published.
pub(super) struct Watching {
    pub(super) site: Arc<Site>,
    pub(super) desk: Arc<Desk>,
    pub(super) name: String,
    pub(super) own: Own,
    pub(super) stop: Stop,
}

impl Watching {
    /// Works until it is told to stop.
    pub(super) fn run(&self, bell: &Arc<Bell>, hints: &Receiver<Option<Hint>>) {
        if self.own.publish == Gate::Manual {
            return self.idle(hints);
        }
        let began = Instant::now();
        let gathering = Arc::new(Mutex::new(Gathering::new(self.own.publish)));
        self.desk.set_gathering(Some(gathering.clone()));
        self.desk.rest(Activity::Watching);
        // It begins with a hint to look at everything: for what changed while nobody watched.
        let mut watched = self.patterns();
        let mut watch = self.watch(bell);
        if watch.is_none() {
            locked(&gathering).hint(Hint::All, began.elapsed());
        }
        let mut swept = began;
        let mut again = AGAIN_FIRST;
        while !self.stop.requested() {
            self.wait(&gathering, hints, began);
            if bell.lost.swap(false, Ordering::Relaxed) {
                locked(&gathering).hint(Hint::All, began.elapsed());
            }
            if self.has_other_patterns(watched.as_deref()) {
                watch = None;
                watched = self.patterns();
            }
            let healthy = self.look_after(&mut watch, bell);
            if swept.elapsed() >= if healthy { SWEEP } else { SWEEP_DEGRADED } {
                swept = Instant::now();
                locked(&gathering).hint(Hint::All, began.elapsed());
            }
            let ready = locked(&gathering).take(began.elapsed());
            if let Some(ready) = ready {
                match self.publish(&ready) {
                    Ok(()) => again = AGAIN_FIRST,
                    Err(failure) => {
                        let after = began.elapsed() + again;
                        self.desk.trouble(&failure, Some(again));
                        again = (again * 2).min(AGAIN_MOST);
                        locked(&gathering).put_back(ready, after);
                    }
                }
            }
        }
        self.desk.set_gathering(None);
        self.desk.set_watch(None);
    }

    /// Nothing is watched of a module that its owner publishes: he says when, and then everything is looked at.
    fn idle(&self, hints: &Receiver<Option<Hint>>) {
        self.desk.rest(Activity::Idle);
        while !self.stop.requested() {
            let _ = hints.recv_timeout(LOOK_UP);
        }
    }

    /// Takes hints until something is due.
    fn wait(&self, gathering: &Mutex<Gathering>, hints: &Receiver<Option<Hint>>, began: Instant) {
        let due = locked(gathering).due();
        let wait = due.map_or(LOOK_UP, |due| due.saturating_sub(began.elapsed())).min(LOOK_UP);
        let mut next = hints.recv_timeout(wait).ok();
        // As many as can wait: hints that come in without end must not keep the thread from its work.
        for _ in 0..HINTS {
            let Some(hint) = next else { return };
            if let Some(hint) = hint {
                locked(gathering).hint(hint, began.elapsed());
            }
            next = hints.try_recv().ok();
        }
    }

    fn path(&self) -> PathBuf {
        self.site.home.base().join(&self.own.path)
    }

    /// What is left out of the module at the moment; `None` when that cannot be read, which publishing says.
    fn patterns(&self) -> Option<Vec<String>> {
        let path = self.path();
        patterns(&Dir::open_operator(&path).ok()?, &path, &self.own.exclude).ok()
    }

    /// Whether what is watched is not what is published: directories that are left out are not watched.
    fn has_other_patterns(&self, watched: Option<&[String]>) -> bool {
        self.patterns().is_some_and(|now| Some(&*now) != watched)
    }

    /// Starts to watch. If that fails, it is tried again later, and everything is looked at more often.
    fn watch(&self, bell: &Arc<Bell>) -> Option<Watch> {
        let hints = bell.clone();
        let exclude = self.patterns().and_then(|patterns| exclude(&patterns).ok());
        let exclude = exclude.unwrap_or_else(Exclude::nothing);
        match Watch::start(&self.path(), exclude, move |hint| hints.hint(hint)) {
            Ok(watch) => {
                self.desk.set_watch(Some(status(watch.health())));
                Some(watch)
            }
            Err(error) => {
                let why = super::dial::chain(&error);
                tracing::warn!(module = self.name, why, "the directory is not watched");
                let fix = error.fix();
                self.desk.set_watch(Some(WatchStatus { directories: 0, degraded: Some(Degraded { why, fix }) }));
                None
            }
        }
    }

    /// Renews a watch that is lost; says whether changes are seen at once.
    fn look_after(&self, watch: &mut Option<Watch>, bell: &Arc<Bell>) -> bool {
        let Some(current) = watch else {
            *watch = self.watch(bell);
            return watch.is_some();
        };
        let health = current.health();
        let healthy = matches!(health, Health::Watching { .. });
        let before = self.desk.look().watch;
        let now = status(health);
        if before.as_ref().map(|before| &before.degraded) != Some(&now.degraded)
            && let Some(Degraded { why, fix }) = &now.degraded
        {
            tracing::warn!(module = self.name, why, fix, "changes may be seen late");
        }
        self.desk.set_watch(Some(now));
        if current.is_over() {
            *watch = None;
        }
        healthy
    }

    fn publish(&self, ready: &Ready) -> Result<(), Failure> {
        let (site, desk, name, own) = (&*self.site, &*self.desk, &*self.name, &self.own);
        let root = Root { site, desk, name, own, allow_delete: false };
        let monitor = desk.monitor(&self.stop);
        match root.publish(Some(ready), &monitor) {
            Ok(published) => {
                desk.cured();
                for skipped in &published.skipped {
                    tracing::warn!(module = self.name, "{skipped}");
                }
                if published.changed {
                    tracing::info!(module = self.name, sequence = published.sequence, "published");
                }
                Ok(())
            }
            Err(failure) if failure.exit == Exit::Interrupted => Ok(()),
            // Only the operator can decide; what was found is not forgotten.
            Err(failure) if failure.exit == Exit::Guard => {
                desk.trouble(&failure, None);
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }
}

fn status(health: Health) -> WatchStatus {
    match health {
        Health::Watching { directories } => WatchStatus { directories, degraded: None },
        Health::Degraded { why, fix } => WatchStatus { directories: 0, degraded: Some(Degraded { why, fix }) },
    }
}

fn locked(gathering: &Mutex<Gathering>) -> MutexGuard<'_, Gathering> {
    gathering.lock().unwrap_or_else(PoisonError::into_inner)
}
