//! Hints of what changed in a tree, from the filesystem itself.
//!
//! Hints only: what they name is looked at afterwards, and what they miss a slow sweep finds. What is told is told late
//! enough: a directory's [`Hint::Deep`] comes when everything in it is watched, so whoever looks then misses nothing.
//!
//! Read in this order: this file (what is told), `signs` (what the system says), `keeper` (how the one becomes the
//! other), `notices` (who is asked for the system's events), `errand` (who waits for the answers), `clerk` (who takes the
//! events), `health` (what can be wrong), `mounts` (the one change of which no event tells).

mod clerk;
mod errand;
mod health;
mod keeper;
mod mounts;
mod notices;
mod signs;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use self::keeper::Keeper;
use self::mounts::Mounts;
use self::notices::Inotify;
use self::signs::Inbox;
use super::dir::Dir;
use super::exclude::Exclude;
use crate::tree::name::TreePath;

pub use self::health::{Health, WatchError};

/// What seems to have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// The path was closed after writing, moved, made or removed: it and its parent can be looked at now. Of a
    /// directory: itself alone.
    Ready(TreePath),
    /// Its mode, times or links changed, and nothing is said of its content: if it is being written, it still is.
    Touched(TreePath),
    /// The file was made or modified, and nobody has closed it yet.
    Writing(TreePath),
    /// A directory that is new here, made or moved in: everything below it must be looked at.
    Deep(TreePath),
    /// Everything must be looked at: the watch has just begun, or events were lost.
    All,
}

/// A tree that is watched, until this is dropped.
///
/// Memory: some 500 bytes for each directory, and a bounded number of signs that wait.
#[derive(Debug)]
pub struct Watch {
    inbox: Arc<Inbox>,
    health: Arc<Mutex<Health>>,
    keeper: Option<JoinHandle<()>>,
    _mounts: Option<Mounts>,
}

impl Watch {
    /// Watches everything below `path`: links are not followed, `.mirra` at any depth and directories that `exclude`
    /// leaves out are not watched. The names of such directories themselves are told as all others.
    ///
    /// `tell` is called from a thread of the watch. Its first hint is [`Hint::All`], as soon as everything is watched.
    /// While it works signs wait, and so many that they do not fit become another `All`. It must not wait for whoever
    /// drops the watch.
    ///
    /// Names that no module may hold, which are those that lie too deep, are told as the last directory above them that
    /// one may.
    ///
    /// # Errors
    /// [`WatchError`]. A tree that can be watched in part is no error: see [`health`](Self::health).
    pub fn start(path: &Path, exclude: Exclude, tell: impl FnMut(Hint) + Send + 'static) -> Result<Self, WatchError> {
        let top = std::path::absolute(path).map_err(WatchError::Top)?;
        Dir::open_operator(&top).map_err(WatchError::Top)?;
        let inbox = Arc::new(Inbox::default());
        let notices = Inotify::new(top.clone(), Arc::clone(&inbox)).map_err(WatchError::Refused)?;
        let health = Arc::new(Mutex::new(Health::Watching { directories: 0 }));
        // Without it all is seen but a mount; that is no reason to see nothing.
        let mounts = Mounts::start(&top, Arc::clone(&inbox))
            .inspect_err(|error| tracing::warn!(%error, "mounts are not watched"))
            .ok();
        let keeper = Keeper::new(top, exclude, Arc::clone(&inbox), Arc::clone(&health), notices, tell);
        let keeper = Builder::new().name("watch".into()).spawn(|| keeper.run()).map_err(WatchError::Refused)?;
        Ok(Self { inbox, health, keeper: Some(keeper), _mounts: mounts })
    }

    /// Whether changes are seen at once. A watch that has ended by itself, because its top is gone, stays degraded:
    /// start another when it is back.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Watch {
    /// Nothing is told afterwards.
    fn drop(&mut self) {
        self.inbox.stop();
        if let Some(keeper) = self.keeper.take().filter(|keeper| keeper.thread().id() != std::thread::current().id()) {
            // What it told of a panic, its health told before.
            let _ = keeper.join();
        }
    }
}

#[cfg(test)]
mod tests;
