//! Trees that change while they are watched: every change is told, whatever became of the directories around it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mirra::disk::exclude::Exclude;
use mirra::disk::watch::{Health, Hint, Watch};
use mirra::tree::name::TreePath;
use tempfile::{TempDir, tempdir};

use crate::fixture::{Gardener, chmod, wait_for};

/// Longer than any hint takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory, its watch, and what was told.
struct Seen {
    watch: Watch,
    hints: Receiver<Hint>,
    told: Vec<Hint>,
    marks: u32,
    place: TempDir,
}

impl Seen {
    /// Watches `pub` in a new directory, once `plant` has filled it.
    fn new(plant: impl FnOnce(&Path)) -> Self {
        Self::excluding(&[], plant)
    }

    fn excluding(patterns: &[&str], plant: impl FnOnce(&Path)) -> Self {
        let place = tempdir().unwrap();
        let top = place.path().join("pub");
        fs::create_dir(&top).unwrap();
        plant(&top);
        let (sender, hints) = channel();
        // The receiver goes first at the end of a test.
        let watch = Watch::start(&top, Exclude::new(patterns).unwrap(), move |hint| drop(sender.send(hint))).unwrap();
        let mut new = Self { watch, hints, told: Vec::new(), marks: 0, place };
        new.wait("the first look", |told| told.contains(&Hint::All));
        new.told.clear();
        new
    }

    fn top(&self) -> PathBuf {
        self.place.path().join("pub")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.top().join(path)
    }

    #[track_caller]
    fn wait(&mut self, what: &str, done: impl Fn(&[Hint]) -> bool) {
        while !done(&self.told) {
            match self.hints.recv_timeout(PATIENCE) {
                Ok(hint) => self.told.push(hint),
                Err(_) => panic!("{what} did not come: {:?}", self.told),
            }
        }
    }

    /// Writes a file and waits until it is told.
    #[track_caller]
    fn late(&mut self, file: &str) {
        self.told.clear();
        fs::write(self.at(file), "").unwrap();
        self.wait(file, |told| covers(told, file));
    }

    /// Waits until all that happened before has been told, and gives it.
    #[track_caller]
    fn all(&mut self) -> Vec<Hint> {
        // What lies in the inbox together is told by path; what comes later is told later.
        for _ in 0..2 {
            self.marks += 1;
            let name = format!("mark{}", self.marks);
            fs::write(self.at(&name), "").unwrap();
            self.wait("the mark", |told| told.contains(&ready(&name)) || told.contains(&Hint::All));
        }
        for n in [self.marks - 1, self.marks] {
            fs::remove_file(self.at(&format!("mark{n}"))).unwrap();
        }
        last_words(std::mem::take(&mut self.told))
    }
}

/// The hints without those about marks and without what a later one of the same path says again.
fn last_words(mut told: Vec<Hint>) -> Vec<Hint> {
    let mut kept: Vec<Hint> = Vec::new();
    while let Some(hint) = told.pop() {
        let spent = match &hint {
            Hint::Ready(path) | Hint::Writing(path) if path.depth() == 1 && path.as_bytes().starts_with(b"mark") => {
                true
            }
            Hint::Writing(path) => kept.contains(&Hint::Ready(path.clone())),
            _ => false,
        };
        if !spent && !kept.contains(&hint) {
            kept.push(hint);
        }
    }
    kept.reverse();
    kept
}

fn path(text: impl AsRef<[u8]>) -> TreePath {
    TreePath::new(text.as_ref()).unwrap()
}

fn ready(text: impl AsRef<[u8]>) -> Hint {
    Hint::Ready(path(text))
}

fn writing(text: impl AsRef<[u8]>) -> Hint {
    Hint::Writing(path(text))
}

fn deep(text: impl AsRef<[u8]>) -> Hint {
    Hint::Deep(path(text))
}

/// Whether a look at what the hints name finds `wanted`.
fn covers(told: &[Hint], wanted: &str) -> bool {
    told.iter().any(|hint| match hint {
        Hint::All => true,
        Hint::Deep(deep) => path(wanted).is_within(deep),
        Hint::Ready(path) => path.as_bytes() == wanted.as_bytes(),
        Hint::Touched(_) | Hint::Writing(_) => false,
    })
}

#[test]
fn files_are_ready_when_they_are_closed_moved_or_removed() {
    let mut seen = Seen::new(|top| fs::write(top.join("old"), "old").unwrap());
    fs::write(seen.at("new"), "new").unwrap();
    assert!(seen.all().contains(&ready("new")));
    fs::rename(seen.at("new"), seen.at("old")).unwrap();
    let told = seen.all();
    assert!(told.contains(&ready("new")) && told.contains(&ready("old")), "{told:?}");
    fs::rename(seen.at("old"), seen.place.path().join("outside")).unwrap();
    assert_eq!(seen.all(), [ready("old")]);
    fs::rename(seen.place.path().join("outside"), seen.at("old")).unwrap();
    assert_eq!(seen.all(), [ready("old")]);
    fs::hard_link(seen.at("old"), seen.at("second")).unwrap();
    symlink("nowhere", seen.at("link")).unwrap();
    let told = seen.all();
    assert!(told.contains(&ready("second")) && told.contains(&ready("link")), "{told:?}");
    assert!(!told.contains(&writing("second")) && !told.contains(&writing("link")), "{told:?}");
    fs::remove_file(seen.at("second")).unwrap();
    assert!(seen.all().contains(&ready("second")));
    chmod(&seen.at("old"), 0o600);
    assert_eq!(seen.all(), [Hint::Touched(path("old"))]);
    // Nothing at all comes of reading.
    fs::read(seen.at("old")).unwrap();
    fs::read_dir(seen.top()).unwrap().for_each(drop);
    assert_eq!(seen.all(), []);
}

#[test]
fn a_file_is_being_written_until_it_is_closed() {
    let mut seen = Seen::new(|top| fs::write(top.join("old"), "old").unwrap());
    let mut new = File::create(seen.at("new")).unwrap();
    let mut old = OpenOptions::new().write(true).open(seen.at("old")).unwrap();
    assert_eq!(seen.all(), [writing("new")]);
    for _ in 0..3 {
        new.write_all(b"more").unwrap();
        old.write_all(b"more").unwrap();
        assert_eq!(seen.all(), [writing("new"), writing("old")]);
    }
    // Neither a new mode nor a second look makes it ready.
    chmod(&seen.at("new"), 0o600);
    assert_eq!(seen.all(), [Hint::Touched(path("new"))]);
    fs::read(seen.at("new")).unwrap();
    assert_eq!(seen.all(), []);
    drop((new, old));
    assert_eq!(seen.all(), [ready("new"), ready("old")]);
}

#[test]
fn a_tree_that_is_filled_at_once_is_looked_at_to_its_depth() {
    let mut seen = Seen::new(|_| {});
    for round in 0..40 {
        let name = format!("r{round}");
        fs::create_dir_all(seen.at(&format!("{name}/b/c/d/e"))).unwrap();
        let files = [format!("{name}/f"), format!("{name}/b/c/f"), format!("{name}/b/c/d/e/f")];
        files.iter().for_each(|file| fs::write(seen.at(file), "x").unwrap());
        let told = seen.all();
        assert!(files.iter().all(|file| covers(&told, file)), "{told:?}");
        // All of it is watched from here on.
        fs::write(seen.at(&files[2]), "y").unwrap();
        assert_eq!(seen.all(), [ready(&files[2])]);
    }
}

#[test]
fn moved_directories_are_watched_under_their_new_names() {
    let mut seen = Seen::new(|top| fs::create_dir_all(top.join("a/b/c")).unwrap());
    let outside = seen.place.path().join("outside");
    fs::rename(seen.at("a"), seen.at("z")).unwrap();
    let told = seen.all();
    assert!(told.contains(&ready("a")) && told.contains(&deep("z")), "{told:?}");
    fs::write(seen.at("z/b/c/f"), "").unwrap();
    assert_eq!(seen.all(), [ready("z/b/c/f")]);
    // Again and again, with something else under the old name.
    for round in 0..20 {
        fs::rename(seen.at("z"), seen.at("y")).unwrap();
        fs::create_dir_all(seen.at("z/b/c")).unwrap();
        fs::rename(seen.at("y/b"), seen.at("z/old")).unwrap();
        fs::remove_dir_all(seen.at("y")).unwrap();
        let told = seen.all();
        assert!(covers(&told, "z/old/c/f") && covers(&told, "y"), "{told:?}");
        for dir in ["z", "z/b", "z/b/c", "z/old", "z/old/c"] {
            let file = format!("{dir}/f{round}");
            fs::write(seen.at(&file), "").unwrap();
            assert_eq!(seen.all(), [ready(&file)], "round {round}");
        }
        fs::remove_dir_all(seen.at("z/old")).unwrap();
    }
    seen.all();
    fs::rename(seen.at("z"), &outside).unwrap();
    assert!(seen.all().contains(&ready("z")));
    fs::write(outside.join("b/c/f"), "outside").unwrap();
    assert_eq!(seen.all(), []);
    fs::rename(&outside, seen.at("in")).unwrap();
    assert_eq!(seen.all(), [deep("in")]);
    fs::remove_file(seen.at("in/b/c/f")).unwrap();
    assert_eq!(seen.all(), [ready("in/b/c/f")]);
}

#[test]
fn trees_that_are_removed_are_told_and_forgotten() {
    let mut seen = Seen::new(|top| fs::create_dir_all(top.join("a/b/c")).unwrap());
    assert_eq!(seen.watch.health(), Health::Watching { directories: 4 });
    fs::remove_dir_all(seen.at("a")).unwrap();
    assert!(seen.all().contains(&ready("a")));
    assert_eq!(seen.watch.health(), Health::Watching { directories: 1 });
    fs::create_dir(seen.at("a")).unwrap();
    fs::write(seen.at("a/f"), "").unwrap();
    assert!(covers(&seen.all(), "a/f"));
    assert_eq!(seen.watch.health(), Health::Watching { directories: 2 });
}

#[test]
fn any_name_is_told_and_homes_are_not() {
    let mut seen = Seen::new(|top| fs::create_dir_all(top.join("d/.mirra/stage")).unwrap());
    assert_eq!(seen.watch.health(), Health::Watching { directories: 2 });
    let odd = OsStr::from_bytes(b"d/\xff\xfe\n\x1b[2J");
    fs::create_dir(seen.top().join(odd)).unwrap();
    assert_eq!(seen.all(), [deep(odd.as_bytes())]);
    let inner = [odd.as_bytes(), b"/\xc3\x28"].concat();
    fs::write(seen.top().join(OsStr::from_bytes(&inner)), "x").unwrap();
    assert_eq!(seen.all(), [ready(&inner)]);
    fs::write(seen.at("d/.mirra/stage/f"), "x").unwrap();
    fs::create_dir_all(seen.at(".mirra/a/b")).unwrap();
    fs::write(seen.at(".mirra/a/b/f"), "x").unwrap();
    assert_eq!(seen.all(), []);
}

#[test]
fn links_and_what_is_left_out_are_not_entered() {
    let mut seen = Seen::excluding(&["cache/"], |top| {
        let outside = top.parent().unwrap().join("outside");
        fs::create_dir_all(outside.join("deep")).unwrap();
        fs::create_dir_all(top.join("cache/deep")).unwrap();
        symlink(outside, top.join("link")).unwrap();
    });
    let outside = seen.place.path().join("outside");
    assert_eq!(seen.watch.health(), Health::Watching { directories: 1 });
    symlink(&outside, seen.at("second")).unwrap();
    fs::create_dir_all(seen.at("d/cache/deep")).unwrap();
    let told = seen.all();
    assert!(told.contains(&ready("second")) && told.contains(&deep("d")), "{told:?}");
    assert_eq!(seen.watch.health(), Health::Watching { directories: 2 });
    fs::write(outside.join("deep/f"), "x").unwrap();
    fs::write(outside.join("f"), "x").unwrap();
    fs::write(seen.at("cache/deep/f"), "x").unwrap();
    fs::write(seen.at("d/cache/deep/f"), "x").unwrap();
    assert_eq!(seen.all(), []);
}

#[test]
fn a_top_that_goes_away_is_told_and_degrades() {
    for goes in [
        |top: &Path| fs::remove_dir_all(top).unwrap(),
        |top: &Path| fs::rename(top, top.with_extension("away")).unwrap(),
    ] {
        let mut seen = Seen::new(|top| fs::create_dir(top.join("d")).unwrap());
        goes(&seen.top());
        seen.wait("a look at everything", |told| told.contains(&Hint::All));
        match seen.watch.health() {
            Health::Degraded { why, fix } => {
                assert!(why.contains("moved or removed") && fix.contains("put the directory back"))
            }
            health => panic!("{health:?}"),
        }
    }
}

#[test]
fn nothing_to_watch_is_an_error_and_a_dropped_watch_is_silent() {
    let place = tempdir().unwrap();
    let error = Watch::start(&place.path().join("none"), Exclude::nothing(), |_| {}).unwrap_err();
    assert!(error.fix().contains("check the path"));
    fs::write(place.path().join("file"), "").unwrap();
    Watch::start(&place.path().join("file"), Exclude::nothing(), |_| {}).unwrap_err();
    let Seen { watch, hints, place, .. } = Seen::new(|_| {});
    drop(watch);
    fs::write(place.path().join("pub/f"), "").unwrap();
    assert!(hints.recv().is_err(), "the sender went with the watch");
}

#[test]
fn a_flood_of_changes_is_told_or_known_to_be_lost() {
    let mut seen = Seen::new(|top| (0..50).for_each(|n| fs::create_dir(top.join(format!("d{n}"))).unwrap()));
    // More events than the system keeps: two for each, and files are removed as fast.
    for n in 0..30_000 {
        let file = seen.at(&format!("d{}/f{n}", n % 50));
        File::create(&file).unwrap();
        if n % 3 > 0 {
            fs::remove_file(&file).unwrap();
        }
    }
    let told = seen.all();
    for n in (0..30_000).step_by(3) {
        assert!(told.contains(&Hint::All) || covers(&told, &format!("d{}/f{n}", n % 50)), "f{n}");
    }
    wait_for("health", || matches!(seen.watch.health(), Health::Watching { directories: 51 }).then_some(()));
    fs::write(seen.at("d7/late"), "").unwrap();
    seen.wait("a hint after the flood", |told| covers(told, "d7/late"));
}

/// What one look at a path tells.
type Look = (u32, u64, u64, i64, i64);

fn look(path: &Path) -> Option<Look> {
    let meta = fs::symlink_metadata(path).ok()?;
    let size = if meta.is_dir() { 0 } else { meta.size() };
    Some((meta.mode(), meta.ino(), size, meta.mtime(), meta.mtime_nsec()))
}

/// A tree as hints tell of it.
#[derive(Default, Debug, PartialEq)]
struct Model(BTreeMap<TreePath, Look>);

impl Model {
    fn look(&mut self, top: &Path, at: &TreePath, below: bool) {
        let on_disk = top.join(OsStr::from_bytes(at.as_bytes()));
        let found = look(&on_disk);
        if below || found.is_none_or(|found| !fs::symlink_metadata(&on_disk).is_ok_and(|m| m.is_dir()) || found.0 == 0)
        {
            self.0.retain(|path, _| !path.is_within(at));
        }
        let Some(found) = found else { return };
        self.0.insert(at.clone(), found);
        if below && fs::symlink_metadata(&on_disk).is_ok_and(|meta| meta.is_dir()) {
            for entry in fs::read_dir(&on_disk).unwrap() {
                let name = mirra::tree::name::Name::new(entry.unwrap().file_name().as_bytes()).unwrap();
                self.look(top, &at.join(&name), true);
            }
        }
    }

    fn hear(&mut self, top: &Path, hint: &Hint) {
        match hint {
            Hint::All => self.look(top, &TreePath::top(), true),
            Hint::Ready(path) | Hint::Touched(path) | Hint::Writing(path) | Hint::Deep(path) => {
                self.look(top, path, matches!(hint, Hint::Deep(_)));
                path.split_last().into_iter().for_each(|(parent, _)| self.look(top, &parent, false));
            }
        }
    }
}

#[test]
fn whoever_follows_the_hints_knows_the_tree() {
    for seed in 0..12 {
        let mut gardener = Gardener::new(seed);
        let mut seen = Seen::new(|top| gardener.plant(top, 40));
        let mut model = Model::default();
        model.hear(&seen.top(), &Hint::All);
        for round in 0..6 {
            gardener.tend(&seen.top(), 25);
            let told = seen.all();
            told.iter().for_each(|hint| model.hear(&seen.top(), hint));
            // The marks are not told of here.
            for n in 1..=seen.marks {
                model.hear(&seen.top(), &ready(format!("mark{n}")));
            }
            let mut real = Model::default();
            real.hear(&seen.top(), &Hint::All);
            assert_eq!(model, real, "seed {seed}, round {round}: {told:#?}");
        }
    }
}

#[test]
fn directories_that_go_in_numbers_do_not_hold_the_rest_back() {
    let names = |half: &'static str| (0..80).flat_map(move |a| (0..40).map(move |b| format!("{half}{a}/e{b}")));
    let mut seen =
        Seen::new(|top| names("old").chain(names("kept")).for_each(|d| fs::create_dir_all(top.join(d)).unwrap()));
    let directories = |halves: u64| Health::Watching { directories: 1 + halves * 80 * 41 };
    assert_eq!(seen.watch.health(), directories(2));
    // All of a kind removed, moved, and the one while the other comes.
    (0..80).for_each(|a| fs::remove_dir_all(seen.at(&format!("old{a}"))).unwrap());
    seen.late("kept7/e7/f");
    wait_for("health", || (seen.watch.health() == directories(1)).then_some(()));
    names("kept").for_each(|d| fs::rename(seen.at(&d), seen.at(&d.replace("/e", "/x"))).unwrap());
    seen.late("kept7/x7/f");
    for a in 0..80 {
        (0..40).for_each(|b| fs::create_dir_all(seen.at(&format!("new{a}/e{b}"))).unwrap());
        fs::remove_dir_all(seen.at(&format!("kept{a}"))).unwrap();
    }
    seen.late("new79/e7/f");
    wait_for("health", || (seen.watch.health() == directories(1)).then_some(()));
    seen.late("new0/e0/f");
}
