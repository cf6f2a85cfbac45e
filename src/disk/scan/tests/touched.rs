//! A tree brought up to date by hints is the tree that a look at everything finds.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry as Slot;
use std::ops::ControlFlow;
use std::thread::{self, ThreadId};

use super::*;
use crate::disk::index::files::FileRow;

type Hints = BTreeMap<TreePath, Depth>;

fn path(bytes: impl AsRef<[u8]>) -> TreePath {
    TreePath::new(bytes.as_ref()).unwrap()
}

fn alone<const N: usize>(paths: [&str; N]) -> Hints {
    paths.into_iter().map(|at| (path(at), Depth::Alone)).collect()
}

/// A tree that two indexes know: one is told what was touched, one looks at everything.
struct Twins {
    lab: Lab,
    whole: Index,
    known: Scan,
}

impl Twins {
    fn new(lab: Lab) -> Self {
        let (whole, module) = open_index(&lab.home.path().join("whole.db"));
        assert_eq!(module, lab.module);
        let known = lab.scan();
        let twins = Self { lab, whole, known };
        assert_eq!(twins.scan_whole(&twins.lab.options()).top, twins.known.top);
        twins
    }

    fn scan_whole(&self, options: &ScanOptions<'_>) -> Scan {
        scan(&Dir::open_operator(&self.lab.tree()).unwrap(), &self.whole, options, &()).unwrap()
    }

    fn rescan(&self, hints: &Hints, options: &ScanOptions<'_>, progress: &dyn ScanProgress) -> Result<Scan, ScanError> {
        let top = Dir::open_operator(&self.lab.tree()).unwrap();
        let touched = Touched { base: self.known.top, base_meta: self.known.meta, paths: hints };
        rescan(&top, &self.lab.index, options, &touched, progress)
    }

    /// Brings both up to date, compares all that they know, and tells what the hinted one did.
    fn check(&mut self, hints: &Hints, held: &(dyn Fn(&TreePath) -> bool + Sync)) -> ScanStats {
        let options = ScanOptions { previous: Some(self.known.top.id), held, ..self.lab.options() };
        let wanted = self.scan_whole(&options);
        let found = self.rescan(hints, &options, &()).unwrap();
        assert_eq!((found.top, found.meta), (wanted.top, wanted.meta), "{hints:?}");
        assert_eq!(rows(&self.lab.index), rows(&self.whole), "{hints:?}");
        let reader = self.lab.index.reader().unwrap();
        assert_eq!(reader.local(self.lab.module).unwrap(), Some(found.top.id));
        assert_eq!(read_all(&*reader, found.top.id), (wanted.stats.files, found.top.bytes));
        self.known = found;
        self.known.stats
    }
}

fn rows(index: &Index) -> BTreeMap<TreePath, FileRow> {
    let reader = index.reader().unwrap();
    let (module, mut rows) = (reader.find_module("m").unwrap().unwrap(), BTreeMap::new());
    let take = |path, row| {
        rows.insert(path, row);
        ControlFlow::Continue(())
    };
    reader.each_file(module, take).unwrap();
    rows
}

fn nobody(_: &TreePath) -> bool {
    false
}

/// Remembers the threads and the names of a scan.
#[derive(Default)]
struct Witness {
    threads: Mutex<Vec<ThreadId>>,
    names: AtomicU64,
}

impl ScanProgress for Witness {
    fn found(&self, names: u64) {
        self.names.fetch_add(names, Ordering::Relaxed);
        self.threads.lock().unwrap().push(thread::current().id());
    }
    fn read(&self, _: u64) {
        self.threads.lock().unwrap().push(thread::current().id());
    }
}

#[test]
fn only_what_was_touched_is_looked_at_and_a_few_paths_start_no_thread() {
    let lab = Lab::new();
    a_few_of_everything(&lab);
    let mut twins = Twins::new(lab);
    twins.lab.write("many/77", b"other");
    twins.lab.write("a/b/new", b"new");
    fs::remove_file(twins.lab.tree().join("many/78")).unwrap();
    // Nobody says so.
    twins.lab.write("a/empty", b"not any more");
    let witness = Witness::default();
    let hints = alone(["many/77", "many/78", "a/b/new"]);
    let found = twins.rescan(&hints, &twins.lab.options(), &witness).unwrap();
    assert_eq!(witness.names.into_inner(), 6, "the touched names, and three directories above them");
    assert!(witness.threads.into_inner().unwrap().iter().all(|id| *id == thread::current().id()));
    assert_eq!((found.stats.read_files, found.stats.reused, found.stats.directories), (2, 0, 0));
    let size = |at| match twins.lab.entry(&found, at).map(|entry| entry.body) {
        Some(Body::File { size, .. }) => Some(size),
        _ => None,
    };
    assert_eq!(["many/77", "many/78", "a/b/new", "a/empty"].map(size), [Some(5), None, Some(3), Some(0)]);

    twins.known = found;
    let mut hints = alone(["a/empty"]);
    hints.extend((0..100).map(|i| (path(format!("many/{i}")), Depth::Alone)));
    let witness = Witness::default();
    twins.rescan(&hints, &twins.lab.options(), &witness).unwrap();
    assert!(witness.threads.into_inner().unwrap().iter().all(|id| *id != thread::current().id()));
    let stats = twins.check(&hints, &nobody);
    assert_eq!((stats.read_files, stats.reused), (0, 100));
    assert_eq!(twins.known.top, naive(&twins.lab.tree()));
}

#[test]
fn nothing_touched_is_the_base_and_costs_no_commit() {
    let mut twins = Twins::new({
        let lab = Lab::new();
        lab.write("a/f", b"f");
        lab
    });
    let log = twins.lab.home.path().join("index.db-wal");
    let written = || fs::metadata(&log).unwrap().len();
    let before = (twins.known.top, written());
    for hints in [Hints::new(), alone(["a/f"]), alone(["absent/x/y", "a/f/below", "b"])] {
        twins.check(&hints, &nobody);
        assert_eq!((twins.known.top, written()), before);
    }
}

#[test]
fn what_is_new_above_a_touched_path_is_listed_whole_and_what_is_gone_above_it_goes() {
    let lab = Lab::new();
    lab.write("old/b/f", b"f");
    lab.write("old/b/g", b"g");
    lab.write("turns", b"a file");
    lab.write("stays/f", b"f");
    let mut twins = Twins::new(lab);
    let tree = twins.lab.tree();
    fs::remove_dir_all(tree.join("old/b")).unwrap();
    fs::write(tree.join("old/b"), b"a file").unwrap();
    fs::remove_file(tree.join("turns")).unwrap();
    for name in ["turns/1/x", "turns/1/y", "turns/2", "new/deep/er/f", "new/g"] {
        twins.lab.write(name, name.as_bytes());
    }
    let stats = twins.check(&alone(["old/b/f", "turns/1/x", "new/deep/er/f", "stays/f"]), &nobody);
    assert_eq!((stats.read_files, stats.directories, stats.reused), (6, 5, 1));
    assert_eq!(twins.known.top, naive(&tree));

    // A renamed directory is not read again.
    fs::rename(tree.join("turns"), tree.join("turned")).unwrap();
    let hints = Hints::from([(path("turns"), Depth::Alone), (path("turned"), Depth::Below)]);
    assert_eq!(twins.check(&hints, &nobody).read_files, 0);
    // Everything at once.
    twins.lab.write("stays/f", b"changed");
    twins.check(&Hints::from([(TreePath::top(), Depth::Below)]), &nobody);
    assert_eq!(twins.known.top, naive(&tree));
}

#[test]
fn metadata_of_touched_directories_and_of_those_above_is_looked_at() {
    let lab = Lab::new();
    lab.write("a/b/f", b"f");
    lab.write("a/c/f", b"f");
    let mut twins = Twins::new(lab);
    let tree = twins.lab.tree();
    let chmod = |at: &str, mode| fs::set_permissions(tree.join(at), fs::Permissions::from_mode(mode)).unwrap();
    chmod("a/b", 0o700);
    twins.check(&alone(["a/b"]), &nobody);
    chmod("", 0o711);
    twins.check(&Hints::from([(TreePath::top(), Depth::Alone)]), &nobody);
    chmod("a", 0o750);
    chmod("a/c", 0o701);
    chmod("a/c/f", 0o600);
    twins.check(&alone(["a/c/f"]), &nobody);
    assert_eq!(twins.known.top, naive(&tree));
}

#[test]
fn patterns_special_files_and_mirras_own_state_stay_out() {
    let mut lab = Lab::new();
    lab.exclude = Exclude::new(["build/", "*.tmp"]).unwrap();
    lab.write("a/f", b"f");
    lab.write("build/o", b"o");
    let mut twins = Twins::new(lab);
    let tree = twins.lab.tree();
    for name in ["build/deep/o", "a/x.tmp", "a/.mirra/own", "a/build/o"] {
        twins.lab.write(name, name.as_bytes());
    }
    fs::remove_file(tree.join("a/f")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.join("a/f"), rustix::fs::Mode::RUSR).unwrap();
    let stats = twins.check(&alone(["build/deep/o", "a/x.tmp", "a/build/o", "a/f"]), &nobody);
    assert_eq!((stats.excluded, stats.skipped, stats.read_files), (3, 1, 0));
    assert!(matches!(twins.known.skipped[..], [Skipped { reason: Reason::Special, kept: false, .. }]));
    assert_eq!(twins.known.top.entries, 1);
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_entry_of_the_base() {
    let lab = Lab::new();
    lab.write("d/locked", b"old");
    let twins = Twins::new(lab);
    let old = twins.lab.entry(&twins.known, "d/locked");
    twins.lab.write("d/locked", b"changed");
    // The clock is asked between the look at a file and its opening.
    let swap = || {
        let _ = fs::remove_file(twins.lab.tree().join("d/locked"));
        let _ = symlink("/etc/passwd", twins.lab.tree().join("d/locked"));
        later()
    };
    let options = ScanOptions { clock: &swap, ..twins.lab.options() };
    let found = twins.rescan(&alone(["d/locked"]), &options, &()).unwrap();
    assert_eq!(twins.lab.entry(&found, "d/locked"), old);
    assert!(matches!(found.skipped[..], [Skipped { kept: true, reason: Reason::Unreadable(_), .. }]));
}

#[test]
fn a_held_file_keeps_its_entry_unread_and_a_new_one_has_none() {
    let lab = Lab::new();
    lab.write("d/held", b"old");
    lab.write("d/free", b"old");
    let mut twins = Twins::new(lab);
    let old = twins.lab.entry(&twins.known, "d/held");
    for at in ["d/held", "d/free", "d/new", "whole/new", "whole/free"] {
        twins.lab.write(at, b"changed");
    }
    let held = |at: &TreePath| [path("d/held"), path("d/new"), path("whole/new")].contains(at);
    let stats = twins.check(&alone(["d/held", "d/free", "d/new", "whole"]), &held);
    assert_eq!((stats.held, stats.read_files, stats.skipped), (3, 2, 0));
    assert_eq!(twins.lab.entry(&twins.known, "d/held"), old);
    assert!(["d/new", "whole/new"].iter().all(|at| twins.lab.entry(&twins.known, at).is_none()));
    twins.check(&alone(["d/held", "d/new", "whole/new"]), &nobody);
    assert_eq!(twins.known.top, naive(&twins.lab.tree()));
}

#[test]
fn a_cancelled_rescan_keeps_what_it_read() {
    let lab = Lab::new();
    lab.write("f", b"f");
    let mut twins = Twins::new(lab);
    let names: Vec<String> = (0..40).map(|i| format!("d/{i}")).collect();
    names.iter().for_each(|name| twins.lab.write(name, name.as_bytes()));
    let hints: Hints = names.iter().map(|name| (path(name), Depth::Alone)).collect();
    let (cancel, files) = (AtomicBool::new(false), AtomicU64::new(0));
    let stop = WhileReading(|_| cancel.store(files.fetch_add(1, Ordering::Relaxed) == 25, Ordering::Relaxed));
    let options = ScanOptions { cancel: &cancel, ..twins.lab.options() };
    assert!(matches!(twins.rescan(&hints, &options, &stop), Err(ScanError::Cancelled)));
    let reader = twins.lab.index.reader().unwrap();
    assert_eq!(reader.local(twins.lab.module).unwrap(), Some(twins.known.top.id));
    let stats = twins.check(&hints, &nobody);
    assert!(stats.reused >= 25 && stats.read_files <= 15, "{stats:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<u8>, u8, usize),
    Append(Vec<u8>),
    Link(Vec<u8>),
    HardLink(Vec<u8>, Vec<u8>),
    MakeDir(Vec<u8>),
    Remove(Vec<u8>),
    Rename(Vec<u8>, Vec<u8>),
    Mode(Vec<u8>, u32),
    Time(Vec<u8>, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![Just(0), 1..100usize, 2_000..9_000usize, Just(40_000)];
    let two = || (some_path(), some_path());
    let mode = prop::sample::select(vec![0o755, 0o700, 0o644, 0o4711]);
    prop_oneof![
        5 => (some_path(), any::<u8>(), size).prop_map(|(path, seed, len)| Step::Write(path, seed, len)),
        1 => some_path().prop_map(Step::Append),
        1 => some_path().prop_map(Step::Link),
        2 => two().prop_map(|(from, to)| Step::HardLink(from, to)),
        1 => some_path().prop_map(Step::MakeDir),
        2 => some_path().prop_map(Step::Remove),
        3 => two().prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (some_path(), mode).prop_map(|(path, mode)| Step::Mode(path, mode)),
        1 => (some_path(), 0..3u64).prop_map(|(path, time)| Step::Time(path, time)),
    ]
}

/// Somebody who changes a tree, never through links, and tells what he touches.
struct Hand {
    tree: PathBuf,
    hints: Hints,
}

impl Hand {
    fn at(&self, path: &[u8]) -> PathBuf {
        self.tree.join(OsStr::from_bytes(path))
    }

    fn touch(&mut self, at: &[u8], depth: Depth) {
        match self.hints.entry(path(at)) {
            Slot::Vacant(free) => drop(free.insert(depth)),
            Slot::Occupied(mut known) if depth == Depth::Below => drop(known.insert(depth)),
            Slot::Occupied(_) => {}
        }
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok_and(|data| data.is_dir())
    }

    /// Makes the directories of `path`, over what else has their names.
    fn make_way(&mut self, path: &[u8]) {
        for end in path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at) {
            let above = &path[..end];
            if !self.is_directory(above) {
                let _ = fs::remove_file(self.at(above));
                fs::create_dir(self.at(above)).unwrap();
                self.touch(above, Depth::Below);
            }
        }
    }

    /// Whether only directories lead to `path`.
    fn has_way(&self, path: &[u8]) -> bool {
        path.iter().enumerate().filter(|(_, byte)| **byte == b'/').all(|(end, _)| self.is_directory(&path[..end]))
    }

    fn take(&mut self, step: &Step) {
        let before = self.shared();
        self.perform(step);
        // A change of a file is one at all of its names, also of how many they are.
        for (path, state) in self.shared() {
            if before.get(&path) != Some(&state) {
                self.touch(&path, Depth::Alone);
            }
        }
        for path in before.into_keys() {
            self.touch(&path, Depth::Alone);
        }
    }

    fn perform(&mut self, step: &Step) {
        match step {
            Step::Write(path, seed, len) => {
                self.make_way(path);
                let at = self.at(path);
                if at.is_symlink() {
                    fs::remove_file(&at).unwrap();
                }
                let _ = fs::write(at, noise(*seed, *len));
                self.touch(path, Depth::Alone);
            }
            Step::Append(path) if self.has_way(path) && !self.at(path).is_symlink() => {
                if let Ok(mut file) = fs::File::options().append(true).open(self.at(path)) {
                    std::io::Write::write_all(&mut file, b"more").unwrap();
                }
                self.touch(path, Depth::Alone);
            }
            Step::Link(path) => {
                self.make_way(path);
                let _ = symlink("z", self.at(path));
                self.touch(path, Depth::Alone);
            }
            Step::HardLink(from, to) if self.has_way(from) => {
                self.make_way(to);
                let _ = fs::hard_link(self.at(from), self.at(to));
                self.touch(from, Depth::Alone);
                self.touch(to, Depth::Alone);
            }
            Step::MakeDir(path) => self.make_way(&[path.as_slice(), b"/"].concat()),
            Step::Remove(path) if self.has_way(path) => {
                let at = self.at(path);
                let _ = fs::remove_file(&at).or_else(|_| fs::remove_dir_all(&at));
                self.touch(path, Depth::Alone);
            }
            Step::Rename(from, to) if self.has_way(from) => {
                self.make_way(to);
                let _ = fs::rename(self.at(from), self.at(to));
                self.touch(from, Depth::Alone);
                self.touch(to, if self.is_directory(to) { Depth::Below } else { Depth::Alone });
            }
            Step::Mode(path, mode) if self.has_way(path) && !self.at(path).is_symlink() => {
                let _ = fs::set_permissions(self.at(path), fs::Permissions::from_mode(*mode));
                self.touch(path, Depth::Alone);
            }
            Step::Time(path, seconds) if self.has_way(path) && !self.at(path).is_symlink() => {
                let time = UNIX_EPOCH + Duration::from_secs(*seconds);
                let _ = fs::File::open(self.at(path)).map(|file| file.set_modified(time));
                self.touch(path, Depth::Alone);
            }
            _ => {}
        }
    }

    /// The files with more than one name, and what tells that they have changed.
    fn shared(&self) -> BTreeMap<Vec<u8>, (u64, u64, i64, i64)> {
        let (mut todo, mut found) = (vec![Vec::new()], BTreeMap::new());
        while let Some(place) = todo.pop() {
            for item in fs::read_dir(self.at(&place)).unwrap() {
                let item = item.unwrap();
                let path = match place.as_slice() {
                    [] => item.file_name().into_encoded_bytes(),
                    place => [place, b"/", item.file_name().as_bytes()].concat(),
                };
                let data = item.metadata().unwrap();
                if data.is_dir() {
                    todo.push(path);
                } else if data.nlink() > 1 {
                    found.insert(path, (data.ino(), data.nlink(), data.ctime(), data.ctime_nsec()));
                }
            }
        }
        found
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
    #[test]
    fn a_tree_by_hints_is_the_tree_by_a_look_at_everything(
        first in prop::collection::vec(any_step(), 0..40),
        rounds in prop::collection::vec(
            (
                prop::collection::vec(any_step(), 0..12),
                prop::collection::vec((some_path(), any::<bool>()), 0..4),
                prop::collection::btree_set(some_path(), 0..4),
            ),
            1..6,
        ),
    ) {
        let lab = Lab::new();
        let mut hand = Hand { tree: lab.tree(), hints: Hints::new() };
        first.iter().for_each(|step| hand.take(step));
        let mut twins = Twins::new(lab);
        let mut last_held = BTreeSet::new();
        for (steps, rumours, held) in rounds {
            hand.hints.clear();
            steps.iter().for_each(|step| hand.take(step));
            rumours.iter().for_each(|(at, deep)| hand.touch(at, if *deep { Depth::Below } else { Depth::Alone }));
            // What was held is looked at again when it is let go of, and a held file that was let go of before.
            last_held.iter().for_each(|at: &Vec<u8>| hand.touch(at, Depth::Alone));
            twins.check(&hand.hints, &|at| held.contains(at.as_bytes()));
            last_held = held;
        }
    }
}
