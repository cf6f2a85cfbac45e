//! What the system's events say, one sign for each, and the inbox where they wait.
//!
//! The inbox takes without waiting and holds a bounded number of paths: signs of one path melt into one, and what does
//! not fit is lost and known to be lost.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind};

use crate::tree::limits::PATH_DEPTH_MAX;
use crate::tree::name::{HOME_NAME, TreePath};

/// Paths that wait at most, and the bytes of them.
const PATHS_MAX: usize = 65_536;
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// What one event says of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A file, link or other thing that is no directory has a new name here.
    Made,
    /// A directory was made, or anything was moved here.
    Arrived,
    /// The content changed.
    Written,
    /// It was closed by one who could write.
    Closed,
    /// Mode, times or links changed.
    Touched,
    /// It was removed or moved away.
    Gone,
}

/// What an event comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Nothing that matters.
    Nothing,
    /// A sign, of every path of the event.
    Sign(Sign),
    /// Events were lost, or this one cannot be understood.
    Lost,
}

/// What is left of an event. The kinds that the system is asked for and that say nothing of changes, such as opening,
/// end here.
pub(super) fn notice(event: &Event) -> Notice {
    if event.need_rescan() {
        return Notice::Lost;
    }
    Notice::Sign(match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Sign::Closed,
        EventKind::Create(CreateKind::Folder) => Sign::Arrived,
        EventKind::Create(_) => Sign::Made,
        EventKind::Modify(ModifyKind::Data(_)) => Sign::Written,
        EventKind::Modify(ModifyKind::Metadata(_)) => Sign::Touched,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => Sign::Gone,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Sign::Arrived,
        // A summary of the two before it.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) | EventKind::Access(_) => return Notice::Nothing,
        _ => return Notice::Lost,
    })
}

/// The path in the tree at `top` that `path` means. None for mirra's own state and for what lies elsewhere. A path that
/// is deeper than a module may be means the last directory on the way that is not.
pub(super) fn path_in_tree(top: &Path, path: &Path) -> Option<TreePath> {
    let inner = path.strip_prefix(top).ok()?.as_os_str().as_bytes();
    let mut names = inner.split(|byte| *byte == b'/');
    if names.clone().any(|name| name == HOME_NAME) {
        return None;
    }
    let end = names.by_ref().take(PATH_DEPTH_MAX).map(|name| name.len() + 1).sum::<usize>().saturating_sub(1);
    TreePath::new(inner.get(..end)?).ok()
}

/// The path that the system knows for a path in the tree at `top`.
pub(super) fn path_on_disk(top: &Path, path: &TreePath) -> std::path::PathBuf {
    if path.is_top() { top.to_path_buf() } else { top.join(OsStr::from_bytes(path.as_bytes())) }
}

/// The signs of one path, melted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signs {
    /// Something came here that may be a directory: what is below must be watched anew.
    pub(super) arrived: bool,
    /// Something was here that may have been a directory.
    pub(super) gone: bool,
    /// The last word: one of [`Sign::Made`], [`Sign::Written`], [`Sign::Closed`], [`Sign::Touched`].
    pub(super) last: Sign,
}

impl Signs {
    fn first(sign: Sign) -> Self {
        let mut signs = Self { arrived: false, gone: false, last: Sign::Touched };
        signs.add(sign);
        signs
    }

    fn add(&mut self, sign: Sign) {
        match sign {
            // Says nothing of whether the file is still being written.
            Sign::Touched => return,
            Sign::Arrived => self.arrived = true,
            Sign::Gone => self.gone = true,
            Sign::Made | Sign::Written | Sign::Closed => {}
        }
        self.last = if matches!(sign, Sign::Arrived | Sign::Gone) { Sign::Closed } else { sign };
    }
}

/// What the keeper is woken for.
#[derive(Debug)]
pub(super) enum Letter {
    /// Signs, by path, a directory before what it holds.
    Signs(BTreeMap<TreePath, Signs>),
    /// Signs were lost.
    Lost,
    /// So many directories went at once that everything is to be watched anew.
    GivenUp,
    /// Mount points at or below the top came or went.
    Mounts,
    /// The watch is to end.
    Stop,
}

/// Signs that wait for the keeper.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<Waiting>,
    changed: Condvar,
    /// Directories that the keeper has watched.
    watched: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    signs: BTreeMap<TreePath, Signs>,
    bytes: usize,
    lost: bool,
    given_up: bool,
    mounts: bool,
    stop: bool,
    /// Until when the thread of `notify` will hardly answer.
    busy: Option<Instant>,
}

impl Inbox {
    /// Puts a sign in; never waits for the keeper.
    pub(super) fn put(&self, path: TreePath, sign: Sign) {
        let mut state = self.state();
        if state.lost || state.given_up {
            return;
        }
        if let Some(signs) = state.signs.get_mut(&path) {
            signs.add(sign);
            return;
        }
        state.bytes += path.as_bytes().len();
        if state.signs.len() == PATHS_MAX || state.bytes > BYTES_MAX {
            drop(state);
            return self.lose();
        }
        state.signs.insert(path, Signs::first(sign));
        drop(state);
        self.changed.notify_all();
    }

    /// Notes that signs were lost; those that wait say nothing any more.
    pub(super) fn lose(&self) {
        let mut state = self.state();
        (state.signs, state.bytes, state.lost) = (BTreeMap::new(), 0, true);
        drop(state);
        self.changed.notify_all();
    }

    /// Notes that everything is to be watched anew; the signs that wait will all be in that.
    pub(super) fn give_up(&self) {
        let mut state = self.state();
        (state.signs, state.bytes, state.given_up) = (BTreeMap::new(), 0, true);
        drop(state);
        self.changed.notify_all();
    }

    /// Notes that the thread of `notify` has so much more to do before it answers.
    pub(super) fn note_work(&self, work: Duration) {
        let (mut state, now) = (self.state(), Instant::now());
        state.busy = state.busy.unwrap_or(now).max(now).checked_add(work);
    }

    /// Waits until that is done, or there is no reason to wait.
    pub(super) fn wait_while_busy(&self) {
        let mut state = self.state();
        while !state.stop && !state.lost && !state.given_up {
            let left = state.busy.map_or(Duration::ZERO, |busy| busy.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes how many directories are watched.
    pub(super) fn set_watched(&self, directories: usize) {
        self.watched.store(directories, Ordering::Relaxed);
    }

    /// How many directories are watched.
    pub(super) fn watched(&self) -> usize {
        self.watched.load(Ordering::Relaxed)
    }

    /// Notes that mount points changed.
    pub(super) fn note_mounts(&self) {
        self.state().mounts = true;
        self.changed.notify_all();
    }

    /// Forgets everything but that the watch is to end.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        *state = Waiting { stop: state.stop, ..Waiting::default() };
    }

    /// Ends the watch.
    pub(super) fn stop(&self) {
        self.state().stop = true;
        self.changed.notify_all();
    }

    /// Whether the watch is to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.state().stop
    }

    /// Waits for a letter.
    pub(super) fn next(&self) -> Letter {
        let mut state = self.state();
        loop {
            if state.stop {
                return Letter::Stop;
            }
            if std::mem::take(&mut state.mounts) {
                return Letter::Mounts;
            }
            if std::mem::take(&mut state.lost) {
                return Letter::Lost;
            }
            if std::mem::take(&mut state.given_up) {
                return Letter::GivenUp;
            }
            if !state.signs.is_empty() {
                state.bytes = 0;
                return Letter::Signs(std::mem::take(&mut state.signs));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag, MetadataKind, RemoveKind};

    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    fn signs(inbox: &Inbox) -> BTreeMap<TreePath, Signs> {
        match inbox.next() {
            Letter::Signs(signs) => signs,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_become_signs() {
        let close = |mode| EventKind::Access(AccessKind::Close(mode));
        let name = |mode| EventKind::Modify(ModifyKind::Name(mode));
        let table = [
            (close(AccessMode::Write), Notice::Sign(Sign::Closed)),
            (close(AccessMode::Read), Notice::Nothing),
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), Notice::Nothing),
            (EventKind::Create(CreateKind::Folder), Notice::Sign(Sign::Arrived)),
            (EventKind::Create(CreateKind::File), Notice::Sign(Sign::Made)),
            (EventKind::Modify(ModifyKind::Data(DataChange::Any)), Notice::Sign(Sign::Written)),
            (EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), Notice::Sign(Sign::Touched)),
            (name(RenameMode::From), Notice::Sign(Sign::Gone)),
            (name(RenameMode::To), Notice::Sign(Sign::Arrived)),
            (name(RenameMode::Both), Notice::Nothing),
            (name(RenameMode::Any), Notice::Lost),
            (EventKind::Remove(RemoveKind::Folder), Notice::Sign(Sign::Gone)),
            (EventKind::Modify(ModifyKind::Any), Notice::Lost),
            (EventKind::Any, Notice::Lost),
        ];
        for (kind, wanted) in table {
            assert_eq!(notice(&Event::new(kind)), wanted, "{kind:?}");
        }
        assert_eq!(notice(&Event::new(EventKind::Other).set_flag(Flag::Rescan)), Notice::Lost);
    }

    #[test]
    fn paths_are_those_of_the_tree() {
        let of = |text: &str| path_in_tree(Path::new("/srv/pub"), Path::new(text));
        assert_eq!(of("/srv/pub"), Some(TreePath::top()));
        assert_eq!(of("/srv/pub/a/b"), Some(path("a/b")));
        for elsewhere in ["/srv/public/a", "/srv", "/srv/pub/.mirra", "/srv/pub/a/.mirra/b"] {
            assert_eq!(of(elsewhere), None, "{elsewhere}");
        }
        let deep = |depth| vec!["d"; depth].join("/");
        let found = of(&format!("/srv/pub/{}", deep(PATH_DEPTH_MAX + 3)));
        assert_eq!(found, Some(path(&deep(PATH_DEPTH_MAX))));
        let odd = path_in_tree(Path::new("/"), Path::new(OsStr::from_bytes(b"/\xff\n/x"))).unwrap();
        assert_eq!(odd.as_bytes(), b"\xff\n/x");
        assert_eq!(path_on_disk(Path::new("/"), &odd).as_os_str().as_bytes(), b"/\xff\n/x");
    }

    #[test]
    fn signs_of_a_path_melt_and_the_last_word_stands() {
        let melted = |given: &[Sign]| {
            let inbox = Inbox::default();
            given.iter().for_each(|sign| inbox.put(path("a"), *sign));
            let found = signs(&inbox)[&path("a")];
            (found.arrived, found.gone, found.last)
        };
        use Sign::*;
        assert_eq!(melted(&[Made, Written, Touched]), (false, false, Written));
        assert_eq!(melted(&[Made, Touched]), (false, false, Made));
        assert_eq!(melted(&[Touched]), (false, false, Touched));
        assert_eq!(melted(&[Written, Closed, Touched]), (false, false, Closed));
        assert_eq!(melted(&[Closed, Written]), (false, false, Written));
        assert_eq!(melted(&[Arrived, Gone]), (true, true, Closed));
        assert_eq!(melted(&[Gone, Made]), (false, true, Made));
    }

    #[test]
    fn what_does_not_fit_is_known_to_be_lost() {
        let inbox = Inbox::default();
        for n in 0..=PATHS_MAX {
            inbox.put(path(&format!("f{n}")), Sign::Closed);
        }
        inbox.put(path("late"), Sign::Closed);
        assert!(matches!(inbox.next(), Letter::Lost));
        inbox.put(path("later"), Sign::Closed);
        assert_eq!(signs(&inbox).len(), 1);
        let long = vec!["x".repeat(250); 16].join("/");
        for n in 0..=BYTES_MAX / long.len() {
            inbox.put(path(&format!("{n}/{long}")), Sign::Closed);
        }
        assert!(matches!(inbox.next(), Letter::Lost));
        inbox.stop();
        assert!(inbox.is_stopped() && matches!(inbox.next(), Letter::Stop));
    }
}
