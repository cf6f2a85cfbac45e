//! Changes of the root's tree, and when they are seen on the nodes.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Place, soon};
use crate::fixture::{Dice, Gardener, MODULE, chmod, copy, set_mtime, text};

/// A root, a node, and a node behind that.
macro_rules! tiers {
    ($place:ident, $fill:expr => $root:ident, $tree:ident, $near:ident, $far:ident) => {
        let $place = Place::new();
        let ($root, $tree) = $place.root("live", $fill);
        let $near = $place.node("near", &$root.address);
        let $far = $place.node("far", &$near.address);
    };
}

#[test]
fn each_change_is_seen_on_two_tiers() {
    tiers!(place, |tree| fs::write(tree.join("first"), "1").unwrap() => root, tree, near, far);
    let arrives = |what: &str| {
        near.converges(&tree, MODULE, what);
        far.converges(&tree, MODULE, what);
    };
    arrives("the first snapshot");
    let at = |name: &str| tree.join(name);
    let steps: [(&str, &dyn Fn()); 16] = [
        ("create", &|| fs::write(at("new"), "content").unwrap()),
        ("overwrite", &|| fs::write(at("new"), "other content").unwrap()),
        ("append", &|| OpenOptions::new().append(true).open(at("new")).unwrap().write_all(b" more").unwrap()),
        ("a large file", &|| fs::write(at("large"), Dice(1).bytes(3_000_000)).unwrap()),
        ("chmod", &|| chmod(&at("new"), 0o600)),
        ("time", &|| set_mtime(&at("new"), 1_234_567_890, 987_654_321)),
        ("link", &|| symlink("no/where", at("link")).unwrap()),
        ("directory", &|| fs::create_dir_all(at("d/e/f")).unwrap()),
        ("a file deep", &|| fs::write(at("d/e/f/deep"), text(&mut Dice(2), 70_000)).unwrap()),
        ("rename of a file", &|| fs::rename(at("new"), at("d/renamed")).unwrap()),
        ("rename of a directory", &|| fs::rename(at("d"), at("dd")).unwrap()),
        ("names that are not UTF-8", &|| {
            let name = OsStr::from_bytes(b"\xff\xfe\n\x1b[2J");
            fs::create_dir(tree.join(name)).unwrap();
            fs::write(tree.join(name).join(name), "odd").unwrap();
        }),
        ("a directory moved in", &|| {
            fs::create_dir_all(place.path("out/x/y")).unwrap();
            fs::write(place.path("out/x/y/z"), "from outside").unwrap();
            fs::rename(place.path("out"), at("in")).unwrap();
        }),
        ("a change in what was moved in", &|| fs::write(at("in/x/y/z"), "changed inside").unwrap()),
        ("a directory moved out", &|| {
            fs::rename(at("in"), place.path("out")).unwrap();
            fs::write(place.path("out/x/y/z"), "nobody's business").unwrap();
        }),
        ("delete", &|| {
            fs::remove_file(at("large")).unwrap();
            fs::remove_dir_all(at("dd")).unwrap();
        }),
    ];
    for (what, step) in steps {
        step();
        arrives(what);
    }
    assert_eq!(root.status(MODULE)["error"], serde_json::Value::Null);
    for daemon in [&root, &near, &far] {
        assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
    }
}

#[test]
fn random_edits_without_pause_arrive_on_two_tiers() {
    let mut gardener = Gardener::new(7);
    tiers!(place, |tree| gardener.plant(tree, 60) => root, tree, near, far);
    for round in 0..8 {
        gardener.tend(&tree, 12);
        if round % 4 == 3 {
            near.converges(&tree, MODULE, &format!("round {round}"));
            far.converges(&tree, MODULE, &format!("round {round}"));
        }
    }
    assert_eq!(root.status(MODULE)["error"], serde_json::Value::Null);
}

#[test]
fn a_file_that_is_written_through_one_of_its_names_is_seen_under_all() {
    let plant = |tree: &Path| {
        fs::create_dir(tree.join("d")).unwrap();
        fs::write(tree.join("a"), "one").unwrap();
        fs::hard_link(tree.join("a"), tree.join("d/b")).unwrap();
        fs::hard_link(tree.join("a"), tree.join("c")).unwrap();
    };
    tiers!(place, plant => _root, tree, near, far);
    fs::write(tree.join("d/b"), "another").unwrap();
    near.converges(&tree, MODULE, "written through one name");
    chmod(&tree.join("c"), 0o600);
    near.converges(&tree, MODULE, "its mode changed by another");
    far.converges(&tree, MODULE, "on the next tier");
}

#[test]
fn a_storm_of_renames_ends_with_the_right_tree() {
    tiers!(place, plant_wood => _root, tree, near, far);
    for round in 0..60 {
        let (from, to) = (tree.join(format!("d{}", round % 5)), tree.join(format!("d{}", (round + 1) % 5)));
        // The directories go round, each with all it holds.
        let aside = place.path("aside");
        fs::rename(&to, &aside).unwrap();
        fs::rename(&from, &to).unwrap();
        fs::rename(&aside, &from).unwrap();
        let (one, other) = (to.join("f0"), to.join("f1"));
        fs::rename(&one, to.join("f")).unwrap();
        fs::rename(&other, &one).unwrap();
        fs::rename(to.join("f"), &other).unwrap();
        if round % 10 == 0 {
            copy(&to, &from.join(format!("copy{round}")));
            fs::write(from.join(format!("copy{round}/f0")), format!("{round}")).unwrap();
        }
    }
    near.converges(&tree, MODULE, "renames");
    far.converges(&tree, MODULE, "renames");
}

fn plant_wood(tree: &Path) {
    for dir in 0..5 {
        let dir_path = tree.join(format!("d{dir}"));
        fs::create_dir(&dir_path).unwrap();
        for file in 0..6 {
            fs::write(dir_path.join(format!("f{file}")), text(&mut Dice(dir * 10 + file), 4_000)).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_being_written_is_not_seen() {
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| fs::write(tree.join("old"), "the version before").unwrap());
    let near = place.node("near", &root.address);
    near.converges(&tree, MODULE, "first");
    let mut new = File::create(tree.join("new")).unwrap();
    let mut old = OpenOptions::new().write(true).open(tree.join("old")).unwrap();
    let (began, mut written) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(4) {
        new.write_all(b"a piece\n").unwrap();
        old.write_all(b"a piece\n").unwrap();
        // What else changes is seen meanwhile.
        let other = tree.join("other");
        fs::write(&other, format!("{written}")).unwrap();
        written += 1;
        soon("another file", || {
            fs::read(near.target(MODULE).join("other")).ok().filter(|got| *got == fs::read(&other).unwrap())
        });
        assert!(!near.target(MODULE).join("new").exists(), "half of a file is seen");
        assert_eq!(fs::read(near.target(MODULE).join("old")).unwrap(), b"the version before");
        std::thread::sleep(Duration::from_millis(300));
    }
    drop((new, old));
    near.converges(&tree, MODULE, "closed");
    assert_eq!(fs::read(near.target(MODULE).join("new")).unwrap(), b"a piece\n".repeat(written));
}

#[test]
fn what_nobody_closes_is_seen_when_it_is_quiet() {
    let place = Place::new();
    let (root, tree) = place.root("live", |_| {});
    let near = place.node("near", &root.address);
    let mut open = File::create(tree.join("open")).unwrap();
    open.write_all(b"so far").unwrap();
    near.converges(&tree, MODULE, "quiet, but open");
    open.write_all(b" and further").unwrap();
    near.converges(&tree, MODULE, "quiet again");
}

#[test]
fn a_quiet_gate_waits_for_quiet_and_a_manual_one_for_its_owner() {
    let place = Place::new();
    let (root, tree) = place.root("quiet=2s", |tree| fs::write(tree.join("a"), "a").unwrap());
    let (mute, near) = (place.dir("mute"), place.node("near", &root.address));
    root.share(&mute, "mute", "manual");
    near.follow(&root.address, "mute");
    near.converges(&tree, MODULE, "first");
    near.converges(&mute, "mute", "first");
    let first = root.sequence(MODULE);
    fs::write(mute.join("file"), "for later").unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        fs::write(tree.join("b"), format!("{:?}", began.elapsed())).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(root.sequence(MODULE), first, "published in the middle of changes");
    }
    near.converges(&tree, MODULE, "quiet");
    assert!(root.sequence(MODULE) > first);
    assert!(!near.target("mute").join("file").exists());
    root.does(&["publish", "mute"]).expect(0);
    near.converges(&mute, "mute", "published");
}

#[test]
fn a_burst_of_files_becomes_few_snapshots() {
    let place = Place::new();
    let (root, tree) = place.root("live", |_| {});
    let near = place.node("near", &root.address);
    near.converges(&tree, MODULE, "first");
    for dir in 0..30 {
        let path = tree.join(format!("dir{dir}"));
        fs::create_dir(&path).unwrap();
        for file in 0..100 {
            fs::write(path.join(format!("file{file}")), format!("{dir} {file}")).unwrap();
        }
    }
    near.converges(&tree, MODULE, "burst");
    let published = root.log().lines().filter(|line| line.contains(": published ")).count();
    assert!((1..=12).contains(&published), "{published} snapshots:\n{}", root.log());
}
