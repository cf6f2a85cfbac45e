//! The system's side of a watch: one watch for each directory, and a thread of `notify` that puts signs into the inbox.
//!
//! Directories are watched one by one, never by `notify`'s own recursion: that sets the watches of a new directory at a
//! time that it does not tell, so nobody could know from when on nothing is missed, and it gives up at the first
//! directory that vanishes meanwhile.
//!
//! Two things `notify` does not let be chosen. It asks the system to tell of every opening as well; that ends in
//! `signs`. And for each directory that is removed it goes through all that are watched: where very many are removed at
//! once hints come late, or the system's queue overflows and everything is looked at.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use notify::{Config, ErrorKind, Event, EventHandler, INotifyWatcher, RecursiveMode, Watcher};
use rustix::io::Errno;

use super::signs::{Inbox, Notice, notice, path_in_tree};

/// Why a directory is not watched.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not there.
    Gone,
    /// The system gives no more watches to this user.
    Full,
    /// The system's answer.
    Failed(io::Error),
}

/// Who watches directories. Tests have one that can run out of watches.
pub(super) trait Notices {
    /// Gives up every watch and begins anew; what waits in the inbox is dropped in between.
    fn renew(&mut self) -> io::Result<()>;
    /// Watches a directory, not what its directories hold. One that was watched already may be named again, also by a
    /// new name, which counts from then on.
    fn watch(&mut self, path: &Path) -> Result<(), Refusal>;
    /// Watches it no longer.
    fn unwatch(&mut self, path: &Path);
}

/// Watches by inotify.
pub(super) struct Inotify {
    top: PathBuf,
    inbox: Arc<Inbox>,
    running: Option<Running>,
}

struct Running {
    watcher: INotifyWatcher,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
}

/// What the thread of `notify` calls.
struct Clerk {
    top: PathBuf,
    inbox: Arc<Inbox>,
    /// Held for its end.
    _ended: Sender<()>,
}

impl Inotify {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// `EMFILE` when the user may have no more of them.
    pub(super) fn new(top: PathBuf, inbox: Arc<Inbox>) -> io::Result<Self> {
        let mut new = Self { top, inbox, running: None };
        new.start()?;
        Ok(new)
    }

    fn start(&mut self) -> io::Result<()> {
        let (sender, ended) = channel();
        let clerk = Clerk { top: self.top.clone(), inbox: Arc::clone(&self.inbox), _ended: sender };
        let config = Config::default().with_follow_symlinks(false);
        let watcher = INotifyWatcher::new(clerk, config).map_err(into_io)?;
        // Without its thread, which the system may refuse, the watcher panics whatever it is asked.
        if ended.try_recv() == Err(TryRecvError::Disconnected) {
            std::mem::forget(watcher);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.running = Some(Running { watcher, ended });
        Ok(())
    }

    /// Ends the thread, and waits until it has given everything back.
    fn end(&mut self) {
        let Some(Running { watcher, ended }) = self.running.take() else { return };
        if ended.try_recv() == Err(TryRecvError::Disconnected) {
            return std::mem::forget(watcher);
        }
        drop(watcher);
        // Nothing is ever sent: this is the end of the sender.
        let _ = ended.recv();
    }

    fn watcher(&mut self) -> Option<&mut INotifyWatcher> {
        let running = self.running.as_mut()?;
        (running.ended.try_recv() == Err(TryRecvError::Empty)).then_some(&mut running.watcher)
    }
}

impl Notices for Inotify {
    fn renew(&mut self) -> io::Result<()> {
        self.end();
        self.inbox.clear();
        self.start()
    }

    fn watch(&mut self, path: &Path) -> Result<(), Refusal> {
        let Some(watcher) = self.watcher() else { return Err(Refusal::Failed(io::ErrorKind::BrokenPipe.into())) };
        watcher.watch(path, RecursiveMode::NonRecursive).map_err(refusal)
    }

    fn unwatch(&mut self, path: &Path) {
        if let Some(watcher) = self.watcher() {
            // It fails for what the system has forgotten by itself, as it does for what is removed.
            let _ = watcher.unwatch(path);
        }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        self.end();
    }
}

impl EventHandler for Clerk {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        match event.as_ref().map(notice) {
            Ok(Notice::Nothing) => {}
            Ok(Notice::Sign(sign)) => {
                let paths = event.iter().flat_map(|event| &event.paths);
                paths.filter_map(|path| path_in_tree(&self.top, path)).for_each(|path| self.inbox.put(path, sign));
            }
            Ok(Notice::Lost) | Err(_) => self.inbox.lose(),
        }
    }
}

impl Drop for Clerk {
    /// Should the thread end by itself, the keeper learns of it.
    fn drop(&mut self) {
        self.inbox.lose();
    }
}

fn refusal(error: notify::Error) -> Refusal {
    match error.kind {
        ErrorKind::MaxFilesWatch => Refusal::Full,
        ErrorKind::PathNotFound => Refusal::Gone,
        _ => match into_io(error) {
            e if matches!(Errno::from_io_error(&e), Some(Errno::NOENT | Errno::NOTDIR)) => Refusal::Gone,
            e => Refusal::Failed(e),
        },
    }
}

fn into_io(error: notify::Error) -> io::Error {
    match error.kind {
        ErrorKind::Io(error) => error,
        _ => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_whether_it_is_gone_or_full() {
        let io = |errno: Errno| notify::Error::io(errno.into());
        assert!(matches!(refusal(notify::Error::new(ErrorKind::MaxFilesWatch)), Refusal::Full));
        assert!(matches!(refusal(notify::Error::path_not_found()), Refusal::Gone));
        assert!(matches!(refusal(io(Errno::NOENT)), Refusal::Gone));
        assert!(matches!(refusal(io(Errno::NOTDIR)), Refusal::Gone));
        assert!(
            matches!(refusal(io(Errno::ACCESS)), Refusal::Failed(e) if e.kind() == io::ErrorKind::PermissionDenied)
        );
    }
}
