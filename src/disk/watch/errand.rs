//! A thread that asks `notify`, so that the keeper can leave before the answer comes.
//!
//! `notify` answers between two batches of events, and after each batch goes through all that is watched once for every
//! directory that was moved or removed. The clerk sees such a batch coming, and gives the whole of it up.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use notify::{Config, INotifyWatcher, RecursiveMode, Watcher};

use super::clerk::Clerk;
use super::notices::into_io;
use super::signs::Inbox;

/// What `notify` is asked.
#[derive(Debug)]
pub(super) struct Ask {
    /// Watched no longer; first of all.
    pub(super) forgotten: Vec<PathBuf>,
    /// To be watched.
    pub(super) watch: Option<PathBuf>,
}

/// What the keeper hears while it waits.
#[derive(Debug)]
pub(super) enum Answer {
    /// The ask is done; the result is that of `watch`.
    Done(notify::Result<()>),
    /// Nobody is to wait any longer.
    GivenUp,
}

/// The means to ask, free unless an answer is being waited for; empty at the end.
pub(super) type Slot = Arc<Mutex<Option<INotifyWatcher>>>;

/// The keeper's end.
#[derive(Debug)]
pub(super) struct Errand {
    asks: Sender<Ask>,
    answers: Receiver<Answer>,
    /// Ends when everything is given back.
    thread: JoinHandle<()>,
}

/// What the thread has.
struct Runner {
    asks: Receiver<Ask>,
    answers: Sender<Answer>,
    slot: Slot,
    /// Closed when the thread of `notify` has ended.
    ended: Receiver<()>,
}

impl Errand {
    /// Watches nothing yet; signs of what it watches in the tree at `top` go to `inbox`.
    ///
    /// # Errors
    /// `EMFILE` when the user may have no more of them, or no thread.
    pub(super) fn start(top: &Path, inbox: &Arc<Inbox>) -> io::Result<Self> {
        let (asks, asked) = channel();
        let (answer, answers) = channel();
        let (alive, ended) = channel();
        let slot = Slot::default();
        let clerk = Clerk::new(top.to_path_buf(), Arc::clone(inbox), Arc::clone(&slot), answer.clone(), alive);
        let config = Config::default().with_follow_symlinks(false);
        let watcher = INotifyWatcher::new(clerk, config).map_err(into_io)?;
        // Without its thread, which the system may refuse, the watcher panics whatever it is asked.
        if ended.try_recv() == Err(TryRecvError::Disconnected) {
            std::mem::forget(watcher);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        put(&slot, Some(watcher));
        let runner = Runner { asks: asked, answers: answer, slot: Arc::clone(&slot), ended };
        let thread = Builder::new().name("errand".into()).spawn(|| runner.run());
        // The clerk has the slot too: what is in it would stay.
        let thread = thread.inspect_err(|_| put(&slot, None))?;
        Ok(Self { asks, answers, thread })
    }

    /// Waits for the answer; `None` when there will be none.
    pub(super) fn ask(&self, ask: Ask) -> Option<notify::Result<()>> {
        self.asks.send(ask).ok()?;
        match self.answers.recv() {
            Ok(Answer::Done(result)) => Some(result),
            Ok(Answer::GivenUp) | Err(_) => None,
        }
    }

    /// Whether that was said while nobody asked.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(self.answers.try_recv(), Ok(Answer::GivenUp))
    }

    /// Asks nothing more. The thread ends once everything is given back.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.thread
    }
}

impl Runner {
    fn run(self) {
        for ask in &self.asks {
            if self.answers.send(Answer::Done(self.carry_out(&ask))).is_err() {
                break;
            }
        }
        let watcher = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.has_ended() {
            std::mem::forget(watcher)
        } else {
            drop(watcher)
        }
        // Nothing is ever sent: this is the end of the sender.
        let _ = self.ended.recv();
    }

    fn carry_out(&self, ask: &Ask) -> notify::Result<()> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watcher) = slot.as_mut().filter(|_| !self.has_ended()) else {
            return Err(notify::Error::io(io::ErrorKind::BrokenPipe.into()));
        };
        for path in &ask.forgotten {
            // It fails for what the system has forgotten by itself, as it does for what is removed.
            let _ = watcher.unwatch(path);
        }
        ask.watch.as_ref().map_or(Ok(()), |path| watcher.watch(path, RecursiveMode::NonRecursive))
    }

    fn has_ended(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }
}

fn put(slot: &Slot, watcher: Option<INotifyWatcher>) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = watcher;
}
