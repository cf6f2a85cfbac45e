//! `mirra ls` of a served tree: every entry as it is on disk, and nothing asked for that was not named.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::fixture::{Ended, Gardener, MODULE, Tree, What, World, chmod, free_port, mirra, set_mtime, walk};

/// Runs `mirra ls` from nowhere: it needs no home.
fn ls(world: &World, place: &str, more: &[&str]) -> Ended {
    let source = format!("{}{place}", world.address());
    mirra(&world.node("nowhere"), &[&["ls", &source], more].concat())
}

/// The bytes that were printed as `text`.
fn read_back(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((before, behind)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        match behind.strip_prefix('x') {
            Some(hex) => {
                bytes.push(u8::from_str_radix(&hex[..2], 16).unwrap());
                rest = &hex[2..];
            }
            None => {
                bytes.push(b'\\');
                rest = behind.strip_prefix('\\').unwrap();
            }
        }
    }
    bytes.extend(rest.as_bytes());
    bytes
}

/// What `--json` says of each path.
fn entries(ended: &Ended) -> BTreeMap<Vec<u8>, Value> {
    let read = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        (read_back(value["path"].as_str().unwrap()), value)
    };
    ended.stdout.lines().map(read).collect()
}

/// Each line of `said` is what `tree` holds, and the other way round.
fn check(said: &BTreeMap<Vec<u8>, Value>, tree: &Tree) {
    assert_eq!(said.keys().collect::<Vec<_>>(), tree.keys().collect::<Vec<_>>());
    for ((path, value), node) in said.iter().zip(tree.values()) {
        let shown = String::from_utf8_lossy(path);
        match &node.what {
            What::File(size, _) => assert_eq!((&value["kind"], &value["size"]), (&"file".into(), &(*size).into())),
            What::Link(target) => {
                assert_eq!(read_back(value["target"].as_str().unwrap()), target.as_bytes(), "{shown}");
                continue;
            }
            _ => assert_eq!(value["kind"], "directory", "{shown}"),
        }
        assert_eq!(value["mode"].as_str().unwrap(), format!("{:04o}", node.mode & 0o777), "{shown}");
        let nanos = format!(".{:09}Z", node.mtime.1);
        assert!(value["mtime"].as_str().unwrap().ends_with(&nanos), "{shown}: {value}");
    }
}

#[test]
fn all_of_a_tree_is_listed_as_it_is() {
    let mut gardener = Gardener::new(80);
    let world = World::new(|tree| {
        gardener.plant(tree, 120);
        (0..600).for_each(|i| fs::write(tree.join(format!("many{i}")), "").unwrap());
    });
    let mut tree = walk(&world.tree());
    tree.remove(&Vec::new());
    let all = ls(&world, &format!("/{MODULE}"), &["-R", "--json"]).expect(0);
    check(&entries(&all), &tree);
    let plain = ls(&world, &format!("/{MODULE}"), &["-R"]).expect(0);
    let names: std::collections::BTreeSet<_> =
        plain.stdout.lines().map(|line| read_back(line.trim_end_matches('/'))).collect();
    assert_eq!(names, tree.keys().cloned().collect());
    assert!(!plain.stdout.contains('\x1b') && !plain.stdout.contains('\u{202e}'));

    let top = ls(&world, &format!("/{MODULE}/"), &["--json"]).expect(0);
    tree.retain(|path, _| !path.contains(&b'/'));
    check(&entries(&top), &tree);
    assert!(top.stderr.contains("Signed by the key"), "{top:?}");
}

#[test]
fn a_place_is_named_by_its_path() {
    let world = World::new(|tree| {
        fs::create_dir_all(tree.join("a/empty")).unwrap();
        fs::write(tree.join("a/file"), "four").unwrap();
        symlink("file", tree.join("a/link")).unwrap();
        chmod(&tree.join("a/file"), 0o640);
        set_mtime(&tree.join("a/file"), 951_782_400, 0);
        (0..20_000).for_each(|i| drop(fs::File::create(tree.join(format!("more{i}"))).unwrap()));
    });
    let list = |place: &str, more: &[&str]| ls(&world, &format!("/{MODULE}{place}"), more).expect(0).stdout;
    assert_eq!(list("/a", &[]), "empty/\nfile\nlink\n");
    assert_eq!(list("/a/empty", &[]), "");
    assert_eq!(list("/a/file", &[]), "a/file\n");
    assert_eq!(list("/a/file", &["-l"]), "-rw-r-----              4 2000-02-29T00:00:00Z a/file\n");
    assert!(list("/a", &["-lR"]).lines().nth(2).unwrap().ends_with(" link -> file"));
    assert_eq!(list("", &[]).lines().count(), 20_001);

    let key = mirra(&world.root(), &["key", "show"]).expect(0).stdout;
    let key = key.split_whitespace().nth(1).unwrap();
    let known = ls(&world, &format!("/{MODULE}/a"), &["--key", key]).expect(0);
    assert_eq!((known.stdout.as_str(), known.stderr.as_str()), ("empty/\nfile\nlink\n", ""));
    let named = ls(&world, &format!("/{MODULE}/a#{key}"), &[]).expect(0);
    assert_eq!(named.stderr, "");
}

#[test]
fn what_cannot_be_listed_says_why() {
    let world = World::new(|tree| fs::write(tree.join("file"), "").unwrap());
    let other = World::empty();
    let key = mirra(&other.root(), &["key", "show"]).expect(0).stdout;
    let key = key.split_whitespace().nth(1).unwrap();
    let fails = |place: &str, more: &[&str], code: i32, words: &str| {
        let ended = ls(&world, place, more).expect_failure(code);
        assert!(ended.stderr.contains(words) && ended.stdout.is_empty(), "{ended:?}");
    };
    fails("/none", &[], 6, "lists the modules it has");
    fails("/m/none/at/all", &[], 6, "there is no none in m");
    fails("/m/file/x", &[], 6, "no directory");
    fails("/m/../x", &[], 2, "mirra ls HOST");
    fails("/m", &["--key", key], 7, "not believed");
    fails("/m", &["--key", "short"], 2, "base32");
    fails("", &["-R"], 2, "names no module");
    let failed = ls(&world, "/m/none", &["--json"]).expect(6);
    assert_eq!(failed.json()["failure"]["exit"], 6);
    mirra(&world.node("n"), &["ls", &format!("127.0.0.1:{}/m", free_port())]).expect_failure(5);
    assert!(!world.node("nowhere").exists());
}

#[test]
fn a_sync_without_a_module_says_which_there_are() {
    let world = World::new(|tree| fs::write(tree.join("file"), "").unwrap());
    let ended = mirra(&world.node("node"), &["sync", &world.address()]).expect_failure(2);
    assert!(ended.stderr.starts_with("m  ") && ended.stderr.contains(&format!("mirra sync {} m", world.address())));
    assert!(ended.stdout.is_empty() && !world.node("node").exists());
}
