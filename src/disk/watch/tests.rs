//! The keeper with a system that gives few watches, refuses, and loses.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::notices::{Notices, Refusal};
use super::signs::Sign;
use super::*;

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives so many watches, and none for what cannot be read.
struct Scarce {
    room: usize,
    unreadable: Arc<Mutex<Option<PathBuf>>>,
    given: BTreeSet<PathBuf>,
    /// How often it may begin anew.
    renewals: u32,
}

impl Notices for Scarce {
    fn renew(&mut self) -> io::Result<()> {
        self.given.clear();
        self.renewals = self.renewals.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        Ok(())
    }

    fn watch(&mut self, path: &Path) -> Result<(), Refusal> {
        if self.unreadable.lock().unwrap().as_deref() == Some(path) {
            return Err(Refusal::Failed(io::ErrorKind::PermissionDenied.into()));
        }
        if !path.is_dir() {
            return Err(Refusal::Gone);
        }
        if self.given.len() == self.room && !self.given.contains(path) {
            return Err(Refusal::Full);
        }
        self.given.insert(path.to_path_buf());
        Ok(())
    }

    fn unwatch(&mut self, path: &Path) {
        self.given.remove(path);
    }

    fn forget(&mut self, path: &Path) {
        self.unwatch(path);
    }
}

struct Bench {
    watch: Watch,
    hints: Receiver<Hint>,
    unreadable: Arc<Mutex<Option<PathBuf>>>,
    place: tempfile::TempDir,
}

impl Bench {
    /// A tree of the top, `a`, `a/b` and `c`.
    fn new(room: usize, unreadable: Option<&str>) -> Self {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().to_path_buf();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir(top.join("c")).unwrap();
        let (inbox, health) = (Arc::new(Inbox::default()), Arc::new(Mutex::new(Health::Watching { directories: 0 })));
        let unreadable = Arc::new(Mutex::new(unreadable.map(|path| top.join(path))));
        let notices = Scarce { room, unreadable: Arc::clone(&unreadable), given: BTreeSet::new(), renewals: 1 };
        let (sender, hints) = channel();
        let tell = move |hint| drop(sender.send(hint));
        let keeper = Keeper::new(top, Exclude::nothing(), Arc::clone(&inbox), Arc::clone(&health), notices, tell);
        let keeper = Some(std::thread::spawn(|| keeper.run()));
        let new = Self { watch: Watch { inbox, health, keeper, _mounts: None }, hints, unreadable, place };
        assert_eq!(new.next(), Hint::All);
        new
    }

    fn next(&self) -> Hint {
        self.hints.recv_timeout(PATIENCE).unwrap()
    }

    /// Gives a sign, and what is told of it.
    fn sign(&self, path: &str, sign: Sign) -> Hint {
        self.watch.inbox.put(self::path(path), sign);
        self.next()
    }

    /// The health, once the keeper has shown it.
    fn health(&self) -> Result<u64, String> {
        // All that was told before is done when this is.
        self.sign("none", Sign::Gone);
        match self.watch.health() {
            Health::Watching { directories } => Ok(directories),
            Health::Degraded { why, fix } => Err(format!("{why} / {fix}")),
        }
    }
}

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

#[test]
fn without_watches_left_new_directories_are_still_told() {
    let bench = Bench::new(2, None);
    let health = bench.health().unwrap_err();
    assert!(health.contains("no more than 2 directories") && health.contains("fs.inotify.max_user_watches="));
    fs::create_dir(bench.place.path().join("d")).unwrap();
    assert_eq!(bench.sign("d", Sign::Arrived), Hint::Deep(path("d")));
    assert_eq!(bench.sign("f", Sign::Closed), Hint::Ready(path("f")));
    assert!(bench.health().is_err());
    assert_eq!(Bench::new(4, None).health(), Ok(4));
}

#[test]
fn a_directory_that_becomes_readable_is_looked_at() {
    let bench = Bench::new(9, Some("a"));
    assert!(bench.health().unwrap_err().contains("\"a\" cannot be watched"));
    assert_eq!(bench.sign("a", Sign::Touched), Hint::Deep(path("a")));
    assert!(bench.health().is_err());
    *bench.unreadable.lock().unwrap() = None;
    assert_eq!(bench.sign("a", Sign::Touched), Hint::Deep(path("a")));
    assert_eq!(bench.health(), Ok(4));
    assert_eq!(bench.sign("a", Sign::Touched), Hint::Touched(path("a")));
    // Or it goes.
    *bench.unreadable.lock().unwrap() = Some(bench.place.path().join("d"));
    fs::create_dir(bench.place.path().join("d")).unwrap();
    assert_eq!(bench.sign("d", Sign::Arrived), Hint::Deep(path("d")));
    assert!(bench.health().is_err());
    assert_eq!(bench.sign("d", Sign::Gone), Hint::Ready(path("d")));
    assert_eq!(bench.health(), Ok(4));
}

#[test]
fn what_is_lost_is_watched_anew_and_mounts_too() {
    let bench = Bench::new(9, None);
    fs::create_dir(bench.place.path().join("d")).unwrap();
    bench.watch.inbox.lose();
    assert_eq!(bench.next(), Hint::All);
    assert_eq!(bench.health(), Ok(5));
    // The system has had enough.
    bench.watch.inbox.note_mounts();
    assert_eq!(bench.next(), Hint::All);
    assert!(
        matches!(bench.watch.health(), Health::Degraded { why, .. } if why.contains("nothing be watched any more"))
    );
    bench.hints.recv().unwrap_err();
}

#[test]
fn another_directory_in_the_place_of_the_top_ends_the_watch() {
    let bench = Bench::new(9, None);
    let moved = bench.place.path().with_extension("moved");
    fs::rename(bench.place.path(), &moved).unwrap();
    fs::create_dir(bench.place.path()).unwrap();
    bench.watch.inbox.note_mounts();
    assert_eq!(bench.next(), Hint::All);
    assert!(matches!(bench.watch.health(), Health::Degraded { why, .. } if why.contains("unmounted or replaced")));
    fs::remove_dir_all(moved).unwrap();
}
