//! Daemons that watch and follow, from outside: several of them on loopback, and what stands in their directories.

mod changes;
mod commands;
mod guards;
mod line;
mod restart;
mod shapes;

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::fixture::{Ended, MODULE, command, mirra, same, try_walk, walk};

/// Longer than anything that works takes here, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks at what is awaited.
const PAUSE: Duration = Duration::from_millis(10);
const PORT: u16 = 6_107;

/// Looks until `done` gives something.
#[track_caller]
pub(crate) fn soon<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(PAUSE);
    }
}

/// An address of this machine that no other test has, nor any connection as its own end.
fn own_address() -> String {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let last = LAST.fetch_add(1, Ordering::Relaxed);
    assert!(last < 250, "more daemons than addresses");
    format!("127.{}.{low}.{}:{PORT}", 1 + high % 254, 1 + last)
}

/// A place for daemons.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An empty directory.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        fs::create_dir(self.path(name)).unwrap();
        self.path(name)
    }

    /// A daemon with no modules.
    pub(crate) fn daemon(&self, name: &str) -> Mirra {
        let home = self.path(name);
        mirra(&home, &["init", "--name", name, "--no-web"]).expect(0);
        let mut new = Mirra { home, address: own_address(), child: None };
        new.start();
        new
    }

    /// A daemon that follows the module `m` of `upstream`, and has a first snapshot of it.
    pub(crate) fn node(&self, name: &str, upstream: &str) -> Mirra {
        let node = self.daemon(name);
        node.follow(upstream, MODULE);
        soon("a first snapshot", || node.sequence(MODULE));
        node
    }

    /// A root that shares the directory `tree` as `m`, filled by `fill`.
    pub(crate) fn root(&self, gate: &str, fill: impl FnOnce(&Path)) -> (Mirra, PathBuf) {
        let tree = self.dir("tree");
        fill(&tree);
        let root = self.daemon("root");
        root.share(&tree, MODULE, gate);
        (root, tree)
    }
}

/// A home and its daemon.
pub(crate) struct Mirra {
    home: PathBuf,
    pub(crate) address: String,
    child: Option<Child>,
}

impl Mirra {
    fn start(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let args = ["-v", "run", "--listen", &self.address].map(OsStr::new);
        let child = command(&self.home, &args).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let child = self.child.insert(child);
        soon("a daemon's start", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("a daemon ended at once: {status}");
            }
            TcpStream::connect(&self.address).ok()
        });
    }

    fn log_path(&self) -> PathBuf {
        self.home.with_extension("log")
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap()
    }

    /// Carries out a command in its home.
    pub(crate) fn does(&self, args: &[&str]) -> Ended {
        mirra(&self.home, args)
    }

    #[track_caller]
    fn share(&self, tree: &Path, name: &str, gate: &str) {
        self.does(&["share", tree.to_str().unwrap(), "--name", name, "--publish", gate]).expect(0);
    }

    #[track_caller]
    fn follow(&self, upstream: &str, name: &str) {
        self.does(&["sync", upstream, name]).expect(0);
    }

    /// Where a followed module goes.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// The status of a module; `Null` if there is none of that name.
    pub(crate) fn status(&self, name: &str) -> Value {
        let ended = self.does(&["status", "--json"]);
        assert!(ended.code == Some(0) || ended.code == Some(12), "{ended:?}");
        ended.check_calm();
        let json = ended.json();
        let modules = json["modules"].as_array().unwrap();
        modules.iter().find(|module| module["module"] == name).cloned().unwrap_or(Value::Null)
    }

    pub(crate) fn sequence(&self, name: &str) -> Option<u64> {
        self.status(name)["sequence"].as_u64()
    }

    /// The target becomes what the root's tree is, and status says so.
    #[track_caller]
    pub(crate) fn converges(&self, tree: &Path, name: &str, what: &str) {
        let target = self.target(name);
        let until = Instant::now() + PATIENCE;
        let equal = || try_walk(tree).ok().is_some_and(|wanted| try_walk(&target).is_ok_and(|got| got == wanted));
        while !equal() {
            if Instant::now() > until {
                same(&walk(tree), &walk(&target), what);
            }
            std::thread::sleep(PAUSE);
        }
        soon(&format!("{what}: in sync"), || (self.status(name)["state"] == "in sync").then_some(()));
        self.does(&["status"]).expect(0);
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Ends it in order, and gives its exit code.
    fn end(&mut self) -> Option<i32> {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let mut child = self.child.take().unwrap();
        let ended = soon("the end of a daemon", || child.try_wait().unwrap());
        ended.code()
    }

    /// Ends it as a power cut would.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Mirra {
    fn drop(&mut self) {
        self.kill();
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        if std::thread::panicking() {
            let shown: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("the log of {}, newest first:\n{}", self.home.display(), shown.join("\n"));
        } else {
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}
