mod blocks;
mod touched;

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::tree::dir::{Entries, build, look_up};
use crate::tree::entry::{Body, Entry, Mtime};
use crate::tree::hash::{ChunkId, FileId};
use crate::tree::list::{Chunk, chunks, file_id};
use crate::tree::name::Name;
use crate::tree::page::{Discard, PageSource};

static GO_ON: AtomicBool = AtomicBool::new(false);

/// A clock that is ahead, so that files written just now count as settled.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

/// A tree to scan, and an index beside it.
struct Lab {
    home: tempfile::TempDir,
    index: Index,
    module: ModuleNumber,
    exclude: Exclude,
}

impl Lab {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("tree")).unwrap();
        let (index, module) = open_index(&home.path().join("index.db"));
        Self { home, index, module, exclude: Exclude::nothing() }
    }

    fn tree(&self) -> PathBuf {
        self.home.path().join("tree")
    }

    fn write(&self, path: &str, content: &[u8]) {
        let at = self.tree().join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, content).unwrap();
    }

    fn options(&self) -> ScanOptions<'_> {
        ScanOptions {
            module: self.module,
            threads: NonZeroUsize::new(2).unwrap(),
            exclude: &self.exclude,
            previous: None,
            held: &|_| false,
            classes: &|_| None,
            blocks: None,
            patience: Patience { pause: Duration::ZERO, ..Patience::default() },
            cancel: &GO_ON,
            clock: &later,
        }
    }

    fn try_scan(&self, options: &ScanOptions<'_>, progress: &dyn ScanProgress) -> Result<Scan, ScanError> {
        scan(&Dir::open_operator(&self.tree()).unwrap(), &self.index, options, progress)
    }

    fn scan(&self) -> Scan {
        self.try_scan(&self.options(), &()).unwrap()
    }

    /// The same tree with an index that knows nothing.
    fn fresh_scan(&self, threads: usize) -> Scan {
        let (index, module) = open_index(&self.home.path().join(format!("fresh-{threads}.db")));
        let options = ScanOptions { module, threads: NonZeroUsize::new(threads).unwrap(), ..self.options() };
        let found = scan(&Dir::open_operator(&self.tree()).unwrap(), &index, &options, &()).unwrap();
        drop(index);
        fs::remove_file(self.home.path().join(format!("fresh-{threads}.db"))).unwrap();
        found
    }

    fn entry(&self, scan: &Scan, path: &str) -> Option<Entry> {
        look_up(&*self.index.reader().unwrap(), scan.top.id, &TreePath::new(path.as_bytes()).unwrap()).unwrap()
    }
}

fn open_index(at: &Path) -> (Index, ModuleNumber) {
    let index = Index::open(at).unwrap();
    let module = index.module_number("m").unwrap();
    (index, module)
}

/// The tree of a directory as `std::fs` sees it, with whole files in memory.
fn naive(at: &Path) -> Built {
    let mut entries = Vec::new();
    for item in fs::read_dir(at).unwrap() {
        let item = item.unwrap();
        let data = item.metadata().unwrap();
        let Ok(name) = Name::new(item.file_name().as_bytes()) else { continue };
        let nanos = data.mtime_nsec() as u32;
        let mut meta = Meta { mode: data.mode() as u16 & 0o777, mtime: Mtime { seconds: data.mtime(), nanos } };
        let body = if data.is_dir() {
            naive(&item.path()).body()
        } else if data.is_symlink() {
            meta.mode = 0o777;
            Body::Link { target: fs::read_link(item.path()).unwrap().as_os_str().as_bytes().into() }
        } else if data.is_file() {
            let (id, class) = cut_whole(&fs::read(item.path()).unwrap());
            Body::File { size: data.len(), class, id }
        } else {
            continue;
        };
        entries.push(Entry { name, meta, body, attributes: vec![] });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    build(&entries, &mut Discard).unwrap()
}

fn cut_whole(data: &[u8]) -> (FileId, Class) {
    use crate::tree::chunker::{SAMPLE_LEN, sample_offsets};
    let samples =
        sample_offsets(data.len() as u64).map(|at| &data[at as usize..data.len().min(at as usize + SAMPLE_LEN)]);
    let class = Class::of_samples(data.len() as u64, samples);
    (cut_as(class, data), class)
}

fn cut_as(class: Class, data: &[u8]) -> FileId {
    let (mut at, mut found) = (0, Vec::new());
    while at < data.len() {
        let len = class.cut(&data[at..]);
        found.push(Chunk { id: ChunkId::of(&data[at..at + len]), len: len as u32 });
        at += len;
    }
    file_id(&found).unwrap()
}

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Reads every page below a tree, lists included; returns files and bytes.
fn read_all(pages: &dyn PageSource, top: DirId) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in Entries::new(pages, top) {
        match entry.unwrap().body {
            Body::Directory { id, .. } => {
                let (f, b) = read_all(pages, id);
                (files, bytes) = (files + f, bytes + b);
            }
            Body::File { size, id, .. } => {
                let listed = chunks(pages, id).unwrap().map(|all| all.map(|c| u64::from(c.unwrap().len)).sum());
                assert_eq!(listed.unwrap_or(size), size);
                (files, bytes) = (files + 1, bytes + size);
            }
            Body::Link { .. } => {}
        }
    }
    (files, bytes)
}

fn a_few_of_everything(lab: &Lab) {
    lab.write("big", &noise(1, 40 << 20));
    lab.write("a/empty", b"");
    lab.write("a/b/small", b"small");
    lab.write("a/b/packed", &noise(2, 700_000));
    lab.write("a/b/text", &b"to be or not to be ".repeat(50_000));
    fs::create_dir_all(lab.tree().join("a/none/at/all")).unwrap();
    symlink("../b\n", lab.tree().join("a/link")).unwrap();
    fs::set_permissions(lab.tree().join("a/b"), fs::Permissions::from_mode(0o2751)).unwrap();
    lab.write(".mirra/index.db", b"own");
    lab.write("a/.mirra/x", b"own");
    for i in 0..1_500 {
        lab.write(&format!("many/{i}"), format!("{}", i % 700).as_bytes());
    }
}

#[test]
fn a_tree_is_what_a_naive_walk_finds_with_any_number_of_threads_and_is_read_once() {
    let lab = Lab::new();
    a_few_of_everything(&lab);
    let wanted = naive(&lab.tree());
    let first = lab.scan();
    assert_eq!(first.top, wanted);
    let meta = fs::metadata(lab.tree()).unwrap();
    assert_eq!((first.meta.mtime.seconds, first.meta.mode), (meta.mtime(), meta.mode() as u16 & 0o777));
    for threads in [1, 5] {
        assert_eq!(lab.fresh_scan(threads).top, wanted);
    }
    assert!(first.skipped.is_empty());
    let stats = first.stats;
    assert_eq!((stats.files, stats.links, stats.directories, stats.homes), (1_505, 1, 6, 2));
    assert_eq!((stats.bytes, stats.read_bytes), (wanted.bytes, wanted.bytes));
    assert_eq!((stats.read_files, stats.reused), (stats.files, 0));
    let reader = lab.index.reader().unwrap();
    assert_eq!(read_all(&*reader, first.top.id), (stats.files, wanted.bytes));
    assert_eq!(reader.local(lab.module).unwrap(), Some(wanted.id));

    let second = lab.scan();
    assert_eq!(second.top, wanted);
    assert_eq!((second.stats.read_files, second.stats.read_bytes, second.stats.reused), (0, 0, stats.files));
}

#[test]
fn only_what_changed_is_read() {
    let lab = Lab::new();
    a_few_of_everything(&lab);
    lab.scan();
    lab.write("many/77", b"other");
    fs::rename(lab.tree().join("a"), lab.tree().join("moved")).unwrap();
    fs::remove_file(lab.tree().join("many/5")).unwrap();
    fs::remove_file(lab.tree().join("many/999")).unwrap();
    let second = lab.scan();
    assert_eq!((second.stats.read_files, second.stats.read_bytes), (1, 5));
    assert_eq!(second.top, lab.fresh_scan(2).top);
    let reader = lab.index.reader().unwrap();
    let known = |path: &str| reader.file(lab.module, &TreePath::new(path.as_bytes()).unwrap()).unwrap().is_some();
    assert!(known("moved/b/small") && known("many/6"));
    assert!(!known("a/b/small") && !known("many/5") && !known("many/999"));

    // All files of a directory gone, a file become a directory, a directory become a file.
    fs::remove_dir_all(lab.tree().join("many")).unwrap();
    fs::create_dir(lab.tree().join("many")).unwrap();
    fs::remove_file(lab.tree().join("big")).unwrap();
    lab.write("big/inside", b"1");
    fs::remove_dir_all(lab.tree().join("moved/b")).unwrap();
    lab.write("moved/b", b"22");
    let third = lab.scan();
    assert_eq!(third.stats.read_files, 2);
    assert_eq!(third.top, lab.fresh_scan(2).top);
    let mut left = Vec::new();
    reader
        .each_file(lab.module, |path, _| {
            left.push(path.to_string());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    left.sort();
    assert_eq!(left, ["big/inside", "moved/b", "moved/empty"]);
}

#[test]
fn a_file_that_was_read_too_soon_after_its_change_is_read_again() {
    let lab = Lab::new();
    lab.write("old", b"old");
    lab.write("new", b"new");
    let now = SystemTime::now();
    let old = fs::File::options().write(true).open(lab.tree().join("old")).unwrap();
    old.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
    let soon = move || now + Duration::from_secs(1);
    let scan = |clock: &(dyn Fn() -> SystemTime + Sync)| {
        lab.try_scan(&ScanOptions { clock, ..lab.options() }, &()).unwrap().stats.read_files
    };
    assert_eq!(scan(&soon), 2);
    assert_eq!(scan(&soon), 1, "one that was modified within the coarsest grain of times");
    assert_eq!(scan(&later), 1);
    assert_eq!(scan(&later), 0);
}

#[test]
fn classes_stay_with_paths_and_are_asked_for_when_the_index_does_not_know() {
    let lab = Lab::new();
    lab.write("f", &noise(1, 400_000));
    lab.write("g", &noise(2, 400_000));
    let class = |scan: &Scan, path: &str| match lab.entry(scan, path).unwrap().body {
        Body::File { class, .. } => class,
        _ => panic!("{path} is a file"),
    };
    let asked: ScanOptions<'_> =
        ScanOptions { classes: &|path| (path.as_bytes() == b"f").then_some(Class::Fine), ..lab.options() };
    let first = lab.try_scan(&asked, &()).unwrap();
    assert_eq!((class(&first, "f"), class(&first, "g")), (Class::Fine, Class::Coarse));
    lab.write("f", &noise(3, 400_000));
    lab.write("g", &b"plain ".repeat(100_000));
    let second = lab.scan();
    assert_eq!(second.stats.read_files, 2);
    assert_eq!((class(&second, "f"), class(&second, "g")), (Class::Fine, Class::Coarse));
}

#[test]
fn special_files_are_reported_and_never_waited_for() {
    let lab = Lab::new();
    lab.write("d/f", b"f");
    let tree = lab.tree();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.join("d/fifo"), rustix::fs::Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    let found = lab.scan();
    assert_eq!(found.top, naive(&tree));
    let skipped: Vec<_> = found.skipped.iter().map(|s| (s.path.to_string(), s.reason.to_string())).collect();
    let special = "a socket, FIFO or device".to_owned();
    assert_eq!(skipped, [("d/fifo".to_owned(), special.clone()), ("socket".to_owned(), special)]);
    assert_eq!(found.stats.skipped, 2);
}

#[test]
fn excluded_names_are_left_out_and_forgotten() {
    let mut lab = Lab::new();
    for path in ["a/x.tmp", "a/x", "top/only", "a/top/only", "build/o", "a/build/o", "log"] {
        lab.write(path, path.as_bytes());
    }
    lab.scan();
    lab.exclude = Exclude::new(["*.tmp", "/top/only", "build/"]).unwrap();
    let found = lab.scan();
    assert_eq!((found.stats.files, found.stats.excluded, found.stats.read_files), (3, 4, 0));
    for (path, stays) in [("a/x.tmp", false), ("a/x", true), ("top/only", false), ("a/build/o", false), ("log", true)] {
        assert_eq!(lab.entry(&found, path).is_some(), stays, "{path}");
        let row = lab.index.reader().unwrap().file(lab.module, &TreePath::new(path.as_bytes()).unwrap()).unwrap();
        assert_eq!(row.is_some(), stays, "{path}");
    }
}

/// Runs something whenever bytes of a file were read.
struct WhileReading<F: Fn(u64) + Sync>(F);

impl<F: Fn(u64) + Sync> ScanProgress for WhileReading<F> {
    fn found(&self, _: u64) {}
    fn read(&self, bytes: u64) {
        (self.0)(bytes);
    }
}

#[test]
fn a_file_that_keeps_changing_keeps_its_old_entry() {
    let lab = Lab::new();
    lab.write("d/restless", b"first");
    lab.write("d/calm", b"calm");
    let first = lab.scan();
    let old = lab.entry(&first, "d/restless");
    lab.write("d/restless", &noise(1, 3 << 20));
    lab.write("d/strange", &noise(1, 2 << 20));
    let turn = AtomicU64::new(0);
    let meddle = WhileReading(|_| {
        let time = UNIX_EPOCH + Duration::from_secs(turn.fetch_add(1, Ordering::Relaxed));
        for path in ["d/restless", "d/strange"] {
            let file = fs::File::options().write(true).open(lab.tree().join(path)).unwrap();
            file.set_modified(time).unwrap();
        }
    });
    let options = ScanOptions { previous: Some(first.top.id), ..lab.options() };
    let second = lab.try_scan(&options, &meddle).unwrap();
    assert_eq!(lab.entry(&second, "d/restless"), old);
    assert_eq!(lab.entry(&second, "d/strange"), None);
    let skipped: Vec<_> = second.skipped.iter().map(|s| (s.path.to_string(), s.kept)).collect();
    assert_eq!(skipped, [("d/restless".to_owned(), true), ("d/strange".to_owned(), false)]);
    assert!(second.skipped.iter().all(|s| matches!(s.reason, Reason::Changing)));
    assert_eq!((second.stats.files, second.top.bytes), (2, 9));
    assert_eq!(lab.scan().top, naive(&lab.tree()), "when it has come to rest");
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_old_entry_and_one_that_vanished_none() {
    let lab = Lab::new();
    lab.write("locked", b"old");
    lab.write("gone", b"old");
    let first = lab.scan();
    let old = lab.entry(&first, "locked");
    lab.write("locked", b"changed");
    lab.write("gone", b"changed");
    // The clock is asked between the look at a file and its opening.
    let swap = || {
        let _ = fs::remove_file(lab.tree().join("gone"));
        let _ = fs::remove_file(lab.tree().join("locked"));
        let _ = symlink("/etc/passwd", lab.tree().join("locked"));
        later()
    };
    let options =
        ScanOptions { previous: Some(first.top.id), clock: &swap, threads: NonZeroUsize::MIN, ..lab.options() };
    let second = lab.try_scan(&options, &()).unwrap();
    assert_eq!(lab.entry(&second, "locked"), old);
    assert_eq!(lab.entry(&second, "gone"), None);
    assert_eq!((second.stats.vanished, second.stats.skipped), (1, 1));
    assert!(matches!(second.skipped[..], [Skipped { kept: true, reason: Reason::Unreadable(_), .. }]));
}

#[test]
fn a_directory_that_cannot_be_opened_blocks() {
    let lab = Lab::new();
    let top = Dir::open_operator(&lab.tree()).unwrap();
    fs::remove_dir(lab.tree()).unwrap();
    fs::write(lab.tree(), b"a file").unwrap();
    // The directory that is held open is gone but can still be listed: it is empty.
    let empty = scan(&top, &lab.index, &lab.options(), &()).unwrap();
    assert_eq!(empty.top.entries, 0);
    let no_directory = Dir::from(OwnedFd::from(fs::File::open(lab.tree()).unwrap()));
    let failed = scan(&no_directory, &lab.index, &lab.options(), &());
    assert!(matches!(failed, Err(ScanError::Directory { .. })));
    let touched = Touched { base: empty.top, base_meta: empty.meta, paths: &BTreeMap::new() };
    let failed = rescan(&no_directory, &lab.index, &lab.options(), &touched, &());
    assert!(matches!(failed, Err(ScanError::Directory { .. })));
}

#[test]
fn a_cancelled_scan_goes_on_where_it_was_after_a_restart() {
    let lab = Lab::new();
    for i in 0..60 {
        lab.write(&format!("d{}/f{i}", i % 7), &noise(i, 300_000));
    }
    let wanted = lab.fresh_scan(2).top;
    let mut read = 0;
    for part in 1..=3 {
        let (cancel, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
        let stop = WhileReading(|more| {
            let sum = bytes.fetch_add(more, Ordering::Relaxed) + more;
            cancel.store(sum >= 3_000_000, Ordering::Relaxed);
        });
        let (index, module) = open_index(&lab.home.path().join("index.db"));
        let options = ScanOptions { module, cancel: &cancel, ..lab.options() };
        let top = Dir::open_operator(&lab.tree()).unwrap();
        assert!(matches!(scan(&top, &index, &options, &stop), Err(ScanError::Cancelled)), "part {part}");
        read += bytes.into_inner();
        assert_eq!(index.reader().unwrap().local(module).unwrap(), None);
    }
    // Pages of files that are in no tree yet survive a collection.
    lab.index.collect(&[]).unwrap().unwrap();
    let last = lab.scan();
    assert_eq!(last.top, wanted);
    assert!(last.stats.reused >= 20, "{:?}", last.stats);
    assert!(read + last.stats.read_bytes <= wanted.bytes + 6 * 300_000 * 3, "little was read twice");
    assert_eq!(read_all(&*lab.index.reader().unwrap(), last.top.id), (60, wanted.bytes));
}

#[test]
fn a_directory_a_thousand_deep_with_paths_beyond_the_kernels_limit_is_scanned() {
    let lab = Lab::new();
    let name = Name::new(&[b'n'; 100]).unwrap();
    let file = Name::new(b"f").unwrap();
    let mut dirs = vec![Dir::open_operator(&lab.tree()).unwrap()];
    for depth in 0..1_030 {
        let dir = dirs.last().unwrap();
        if depth % 100 == 0 {
            std::io::Write::write_all(&mut dir.create_file(&file).unwrap(), b"deep").unwrap();
        }
        dir.make_dir(&name, 0o755).unwrap();
        let next = dir.open_dir(&TreePath::top().join(&name)).unwrap();
        dirs = vec![next];
    }
    drop(dirs);
    let first = lab.scan();
    assert_eq!((first.stats.files, first.stats.directories), (11, 1_024));
    assert!(matches!(first.skipped[..], [Skipped { reason: Reason::Unfit(_), .. }]), "what lies deeper");
    assert_eq!(first.skipped[0].path.depth(), 1_024);
    assert_eq!(lab.scan().stats.read_files, 0);
    assert_eq!(lab.fresh_scan(4).top, first.top);
}

#[test]
fn a_directory_of_twenty_thousand_names_is_scanned() {
    let lab = Lab::new();
    fs::create_dir(lab.tree().join("m")).unwrap();
    for i in 0..20_000 {
        fs::write(lab.tree().join(format!("m/{}", i * 7_919 % 20_000)), (i % 50).to_string()).unwrap();
    }
    let first = lab.scan();
    assert_eq!(first.top, naive(&lab.tree()));
    fs::remove_file(lab.tree().join("m/777")).unwrap();
    lab.write("m/20000", b"more");
    let second = lab.scan();
    assert_eq!((second.stats.read_files, second.stats.reused), (1, 19_999));
    assert_eq!(second.top, naive(&lab.tree()));
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<u8>, u8, usize),
    Link(Vec<u8>),
    MakeDir(Vec<u8>),
    Remove(Vec<u8>),
    Rename(Vec<u8>, Vec<u8>),
}

fn some_path() -> impl Strategy<Value = Vec<u8>> {
    let names: Vec<&[u8]> = vec![b"a", b"a-", b"a0", b"a.b", b"\xff\xfe", b"\n ", "\u{202e}x".as_bytes(), b"z"];
    let name = proptest::sample::select(names);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join(&b'/'))
}

fn some_step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![Just(0), 1..100usize, 2_000..9_000usize, Just(40_000)];
    prop_oneof![
        4 => (some_path(), any::<u8>(), size).prop_map(|(path, seed, len)| Step::Write(path, seed, len)),
        1 => some_path().prop_map(Step::Link),
        1 => some_path().prop_map(Step::MakeDir),
        1 => some_path().prop_map(Step::Remove),
        1 => (some_path(), some_path()).prop_map(|(from, to)| Step::Rename(from, to)),
    ]
}

/// Does a step as far as the tree lets it.
fn take(tree: &Path, step: &Step) {
    let at = |path: &[u8]| tree.join(OsStr::from_bytes(path));
    let with_parent = |path: &[u8]| {
        let at = at(path);
        let _ = fs::create_dir_all(at.parent().unwrap());
        at
    };
    let _ = match step {
        Step::Write(path, seed, len) => fs::write(with_parent(path), noise(*seed, *len)),
        Step::Link(path) => symlink("z", with_parent(path)),
        Step::MakeDir(path) => fs::create_dir_all(at(path)),
        Step::Remove(path) => fs::remove_file(at(path)).or_else(|_| fs::remove_dir_all(at(path))),
        Step::Rename(from, to) => fs::rename(at(from), with_parent(to)),
    };
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn any_tree_after_any_changes_is_what_a_naive_walk_finds(
        rounds in prop::collection::vec(prop::collection::vec(some_step(), 0..25), 1..4),
        threads in 1..4usize,
    ) {
        let lab = Lab::new();
        for steps in &rounds {
            steps.iter().for_each(|step| take(&lab.tree(), step));
            let threads = NonZeroUsize::new(threads).unwrap();
            let found = lab.try_scan(&ScanOptions { threads, ..lab.options() }, &()).unwrap();
            prop_assert_eq!(found.top, naive(&lab.tree()));
            let again = lab.scan();
            prop_assert_eq!(again.top, found.top);
            prop_assert_eq!(again.stats.read_files, 0);
            let reader = lab.index.reader().unwrap();
            prop_assert_eq!(read_all(&*reader, found.top.id), (found.stats.files, found.stats.bytes));
            let mut rows = 0;
            reader.each_file(lab.module, |_, _| { rows += 1; std::ops::ControlFlow::Continue(()) }).unwrap();
            prop_assert_eq!(rows, found.stats.files, "a row for each file and no other");
        }
    }
}

#[test]
fn a_file_rewritten_all_the_time_is_always_found_as_one_of_its_versions() {
    let lab = Lab::new();
    let versions: Vec<Vec<u8>> = (0..4).map(|i| noise(i, 1_500_000 + usize::from(i) * 200_000)).collect();
    lab.write("f", &versions[0]);
    let over = AtomicBool::new(false);
    let found: Mutex<Vec<_>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in (0usize..).take_while(|_| !over.load(Ordering::Relaxed)) {
                // In place, so that a torn read would mix two versions.
                fs::write(lab.tree().join("f"), &versions[turn % 4]).unwrap();
            }
        });
        for _ in 0..30 {
            let scan = lab.scan();
            found.lock().unwrap().extend(lab.entry(&scan, "f"));
        }
        over.store(true, Ordering::Relaxed);
    });
    for entry in found.into_inner().unwrap() {
        let Body::File { id, size, class } = entry.body else { panic!("it was always a file") };
        // What was truncated and is not yet written to its end is a version too.
        let was_there = |whole: &Vec<u8>| whole.get(..size as usize).is_some_and(|part| cut_as(class, part) == id);
        assert!(versions.iter().any(was_there), "{size} bytes that were never there");
    }
}
