//! The system's side of a watch: one watch for each directory, asked for one by one.
//!
//! Never by `notify`'s own recursion: that sets the watches of a new directory at a time that it does not tell, so nobody
//! could know from when on nothing is missed, and it gives up at the first directory that vanishes meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use notify::ErrorKind;
use rustix::io::Errno;

use super::errand::{Ask, Errand};
use super::signs::Inbox;

/// Why a directory is not watched.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not there.
    Gone,
    /// The system gives no more watches to this user.
    Full,
    /// Everything is to be watched anew, and a letter says so.
    GivenUp,
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
    /// The directory went, and its watch most often with it: what is left of that ends before the next
    /// [`watch`](Self::watch).
    fn forget(&mut self, path: &Path);
}

/// Watches by inotify.
pub(super) struct Inotify {
    top: PathBuf,
    inbox: Arc<Inbox>,
    errand: Option<Errand>,
    forgotten: Vec<PathBuf>,
    /// The end of one that was given up: until then it may hold watches that the system counts.
    given_up: Option<JoinHandle<()>>,
}

impl Inotify {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// `EMFILE` when the user may have no more of them.
    pub(super) fn new(top: PathBuf, inbox: Arc<Inbox>) -> io::Result<Self> {
        let errand = Some(Errand::start(&top, &inbox)?);
        Ok(Self { top, inbox, errand, forgotten: Vec::new(), given_up: None })
    }

    fn ask(&mut self, watch: Option<&Path>) -> Result<(), Refusal> {
        let ask = Ask { forgotten: std::mem::take(&mut self.forgotten), watch: watch.map(Path::to_path_buf) };
        // It would wait for the answer all the same, and then the clerk could not leave.
        self.inbox.wait_while_busy();
        let answer = self.errand.as_ref().and_then(|errand| errand.ask(ask));
        if answer.is_none() {
            self.give_up();
        }
        answer.map_or(Err(Refusal::GivenUp), |answer| answer.map_err(refusal))
    }

    /// Leaves it to end by itself, but waits for one that was left before: no more than two of them hold watches.
    fn give_up(&mut self) {
        if let Some(errand) = self.errand.take() {
            self.wait_for_given_up();
            self.given_up = Some(errand.close());
        }
    }

    /// Whether there was one.
    fn wait_for_given_up(&mut self) -> bool {
        self.given_up.take().map(JoinHandle::join).is_some()
    }

    /// Ends, and waits until everything is given back, but not for one that has much to do yet.
    fn end(&mut self) {
        if self.errand.as_ref().is_some_and(Errand::is_given_up) {
            return self.give_up();
        }
        let _ = self.errand.take().map(|errand| errand.close().join());
    }
}

impl Notices for Inotify {
    fn renew(&mut self) -> io::Result<()> {
        self.end();
        self.forgotten.clear();
        self.inbox.clear();
        self.errand = Some(Errand::start(&self.top, &self.inbox)?);
        Ok(())
    }

    fn watch(&mut self, path: &Path) -> Result<(), Refusal> {
        match self.ask(Some(path)) {
            Err(Refusal::Full) if self.wait_for_given_up() => self.ask(Some(path)),
            other => other,
        }
    }

    fn unwatch(&mut self, path: &Path) {
        self.forget(path);
        // It fails for what the system has forgotten by itself.
        let _ = self.ask(None);
    }

    fn forget(&mut self, path: &Path) {
        self.forgotten.push(path.to_path_buf());
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        self.end();
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

/// What the system said, or else what `notify` says.
pub(super) fn into_io(error: notify::Error) -> io::Error {
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
