//! What the tests from outside share: homes, a root that runs, and a comparison of trees that knows nothing of the library.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

pub(crate) use crate::channel::Dice;
pub(crate) use crate::gardener::Gardener;

/// Longer than anything that is not broken takes here, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(150);
/// Looks at something that is awaited, and the pause between two of them.
const LOOKS_MAX: u32 = 6_000;
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `done` gives something; panics when that takes longer than a minute.
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS_MAX {
        if let Some(value) = done() {
            return value;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("{what} did not happen");
}

/// Whether this process may do what file modes forbid.
pub(crate) fn privileged() -> bool {
    rustix::process::geteuid().is_root()
}

/// How one run of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// What `--json` printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.check_calm();
        self
    }

    /// The three lines of a failure, the last of what was said.
    #[track_caller]
    pub(crate) fn expect_failure(self, code: i32) -> Self {
        let ended = self.expect(code);
        let lines: Vec<_> = ended.stderr.lines().rev().take(3).collect();
        for (line, start) in lines.iter().rev().zip(["error: ", "  why: ", "  fix: "]) {
            assert!(line.starts_with(start) && line.len() > start.len(), "{ended:?}");
        }
        assert_eq!(lines.len(), 3, "{ended:?}");
        ended
    }

    /// Whatever went wrong, nothing panicked.
    #[track_caller]
    pub(crate) fn check_calm(&self) {
        assert!(!self.stderr.contains("panicked") && self.code != Some(101), "{self:?}");
    }
}

/// The program for the home `home`, not yet started.
pub(crate) fn command(home: &Path, args: &[&OsStr]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirra"));
    command.arg("-C").arg(home).args(args).env_remove("MIRRA_LOG").stdin(Stdio::null());
    command
}

/// Runs `command` to its end, which comes in bounded time.
pub(crate) fn ended(command: Command) -> Ended {
    let output = assert_cmd::Command::from(command).timeout(PATIENCE).output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs the program for the home `home`.
pub(crate) fn mirra(home: &Path, args: &[&str]) -> Ended {
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    ended(command(home, &args))
}

/// The name of the module in all worlds.
pub(crate) const MODULE: &str = "m";

/// A place with a root that runs, and room for nodes.
pub(crate) struct World {
    pub(crate) place: TempDir,
    pub(crate) port: u16,
    daemon: Option<Child>,
}

impl World {
    /// A root without modules, that does not run.
    pub(crate) fn empty() -> Self {
        let place = tempdir().unwrap();
        fs::create_dir(place.path().join("tree")).unwrap();
        let world = Self { place, port: free_port(), daemon: None };
        mirra(&world.root(), &["init", "--name", "root", "--port", &world.port.to_string(), "--no-web"]).expect(0);
        world
    }

    /// A root that shares and serves what `fill` puts into its tree.
    pub(crate) fn new(fill: impl FnOnce(&Path)) -> Self {
        let mut world = Self::empty();
        fill(&world.tree());
        world.share().expect(0);
        world.start();
        world
    }

    /// The root's home.
    pub(crate) fn root(&self) -> PathBuf {
        self.place.path().join("root")
    }

    /// The tree that the root shares.
    pub(crate) fn tree(&self) -> PathBuf {
        self.place.path().join("tree")
    }

    /// A node's home.
    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Where a node puts the module.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.node(name).join(MODULE)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn share(&self) -> Ended {
        let tree = self.tree();
        mirra(&self.root(), &["share", tree.to_str().unwrap(), "--name", MODULE, "--publish", "manual", "--json"])
    }

    pub(crate) fn publish(&self) -> Ended {
        mirra(&self.root(), &["publish", MODULE, "--json"])
    }

    pub(crate) fn publish_allowed(&self) -> Ended {
        mirra(&self.root(), &["publish", MODULE, "--json", "--allow-delete"])
    }

    pub(crate) fn sync(&self, name: &str) -> Ended {
        self.sync_with(name, &self.address(), &[])
    }

    pub(crate) fn sync_with(&self, name: &str, address: &str, more: &[&str]) -> Ended {
        mirra(&self.node(name), &[&["sync", address, MODULE, "--once", "--json"], more].concat())
    }

    /// Starts the root, and waits until it takes connections.
    pub(crate) fn start(&mut self) {
        let log = File::create(self.place.path().join("root.log")).unwrap();
        let listen = self.address();
        let args = ["run", "--listen", &listen].map(OsStr::new);
        let child = command(&self.root(), &args).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let child = self.daemon.insert(child);
        wait_for("the root's start", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the root ended at once: {status}");
            }
            TcpStream::connect(&listen).ok()
        });
    }

    /// Ends the root as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What the root has said since it was started.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("root.log")).unwrap()
    }

    /// The node holds what the root's tree holds, to the last nanosecond.
    #[track_caller]
    pub(crate) fn check_equal(&self, name: &str, what: &str) {
        same(&walk(&self.tree()), &walk(&self.target(name)), what);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
        // What modes forbid to remove would stay behind.
        open_up(self.place.path());
    }
}

fn open_up(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// A port of this machine that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What is at one path.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) mode: u32,
    pub(crate) mtime: (i64, i64),
    pub(crate) what: What,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum What {
    File(u64, blake3::Hash),
    Link(OsString),
    Dir,
    Other,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match &self.what {
            What::File(size, hash) => format!("file of {size} bytes, {}", &hash.to_hex()[..8]),
            What::Link(target) => format!("link to {target:?}"),
            What::Dir => "directory".into(),
            What::Other => "something else".into(),
        };
        write!(f, "{what}, mode {:o}, mtime {:?}", self.mode, self.mtime)
    }
}

pub(crate) type Tree = BTreeMap<Vec<u8>, Node>;

/// Everything in `top` and below, the top itself under the empty path; `.mirra` of the top apart.
pub(crate) fn walk(top: &Path) -> Tree {
    try_walk(top).unwrap_or_else(|e| panic!("{}: {e}", top.display()))
}

/// As [`walk`], for a tree that may change meanwhile: what is gone when it is looked at is an error.
pub(crate) fn try_walk(top: &Path) -> std::io::Result<Tree> {
    let mut tree = Tree::new();
    let mut todo = vec![(top.to_owned(), Vec::new())];
    while let Some((path, shown)) = todo.pop() {
        let meta = fs::symlink_metadata(&path)?;
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            for entry in fs::read_dir(&path)? {
                let name = entry?.file_name();
                if !(shown.is_empty() && name == ".mirra") {
                    let slash = if shown.is_empty() { &b""[..] } else { b"/" };
                    todo.push((path.join(&name), [&shown, slash, name.as_bytes()].concat()));
                }
            }
            What::Dir
        } else if kind.is_symlink() {
            What::Link(fs::read_link(&path)?.into())
        } else if kind.is_file() {
            let bytes = fs::read(&path)?;
            What::File(bytes.len() as u64, blake3::hash(&bytes))
        } else {
            What::Other
        };
        let mode = if kind.is_symlink() { 0 } else { meta.mode() & 0o7777 };
        tree.insert(shown, Node { mode, mtime: (meta.mtime(), meta.mtime_nsec()), what });
    }
    Ok(tree)
}

/// The two trees are one; the first differences are named.
#[track_caller]
pub(crate) fn same(wanted: &Tree, got: &Tree, what: &str) {
    let paths = wanted.keys().chain(got.keys()).collect::<std::collections::BTreeSet<_>>();
    let differ: Vec<_> = paths
        .into_iter()
        .filter(|path| wanted.get(*path) != got.get(*path))
        .take(5)
        .map(|path| format!("{:?}: {:?}, not {:?}", OsStr::from_bytes(path), got.get(path), wanted.get(path)))
        .collect();
    assert!(differ.is_empty(), "{what}: {differ:#?}");
}

/// Each path of `now` is as in one of `states`; directories, whose times change with what is in them, by kind alone.
#[track_caller]
pub(crate) fn each_whole(now: &Tree, states: &[&Tree], what: &str) {
    for (path, node) in now {
        let fits = |state: &&Tree| match (state.get(path), &node.what) {
            (Some(Node { what: What::Dir, .. }), What::Dir) => true,
            (Some(wanted), _) => wanted == node,
            (None, _) => false,
        };
        assert!(states.iter().any(fits), "{what}: {:?} is {node:?}", OsStr::from_bytes(path));
    }
}

/// Content that shrinks a little, like most that is not packed.
pub(crate) fn text(dice: &mut Dice, len: usize) -> Vec<u8> {
    let mut bytes = dice.bytes(len);
    bytes.iter_mut().for_each(|b| *b = b' ' + (*b & 0x1f));
    bytes
}

pub(crate) fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Removes what is at `path`, whatever it is.
pub(crate) fn remove(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        open_up(path);
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// Copies a file, a link or a whole directory, with modes and times; what is none of them is left out.
pub(crate) fn copy(from: &Path, to: &Path) {
    let meta = fs::symlink_metadata(from).unwrap();
    if meta.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else if meta.is_symlink() {
        symlink(fs::read_link(from).unwrap(), to).unwrap();
    } else if meta.is_file() {
        fs::write(to, fs::read(from).unwrap()).unwrap();
    } else {
        return;
    }
    if !meta.is_symlink() {
        chmod(to, meta.mode() & 0o777);
    }
    set_mtime(to, meta.mtime(), meta.mtime_nsec());
}
