//! Nodes that take a part of a module: what they fetch, leave alone, remove, and serve on; and what a root leaves out.

use std::fs;
use std::path::Path;

use crate::fixture::{
    Dice, Ended, Gardener, MODULE, Tree, World, command, free_port, mirra, remove, same, wait_for, walk,
};
use crate::live::{Place, soon};

/// Bytes both ways, from `--json`.
fn cost(ended: &Ended) -> u64 {
    let json = ended.json();
    json["received"].as_u64().unwrap() + json["sent"].as_u64().unwrap()
}

fn put(tree: &Path, path: &str, content: &[u8]) {
    let path = tree.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A tree with a directory of many names, packed files in several places, and a little text.
fn fill(tree: &Path) {
    for i in 0..3_000 {
        put(tree, &format!("big/sub{}/file with a long name {i}", i % 7), format!("{i}").as_bytes());
    }
    for dir in ["docs", "docs/deep", "src"] {
        put(tree, &format!("{dir}/one.txt"), b"text");
        put(tree, &format!("{dir}/two.iso"), &Dice(7).bytes(50_000));
        put(tree, &format!("{dir}/mod{}.rs", dir.len()), dir.as_bytes());
    }
}

/// What of `tree` the node shall have.
fn without(tree: &Tree, left_out: impl Fn(&str) -> bool) -> Tree {
    let is_out = |path: &[u8]| left_out(&String::from_utf8_lossy(path));
    tree.iter().filter(|(path, _)| !is_out(path)).map(|(path, node)| (path.clone(), node.clone())).collect()
}

fn in_big(path: &str) -> bool {
    path == "big" || path.starts_with("big/")
}

fn is_iso(path: &str) -> bool {
    path.ends_with(".iso")
}

#[track_caller]
fn has(world: &World, node: &str, left_out: impl Fn(&str) -> bool, what: &str) {
    same(&without(&walk(&world.tree()), left_out), &walk(&world.target(node)), what);
}

#[test]
fn what_is_excluded_is_neither_fetched_nor_its_pages() {
    let world = World::new(fill);
    let whole = cost(&world.sync("whole").expect(0));
    let ended = world.sync_with("node", &world.address(), &["--exclude", "/big/", "--exclude", "*.iso"]).expect(0);
    has(&world, "node", |path| in_big(path) || is_iso(path), "a first sync");
    assert_eq!(ended.json()["partial"], true);
    let entries = walk(&world.target("node")).len() as u64 - 1;
    assert_eq!(ended.json()["entries"], entries);
    let part = cost(&ended);
    assert!(part < 6_000 && whole > 100_000, "{part} bytes of {whole}");

    // Nothing new, the same rules: one question.
    let idle = world.sync("node").expect(0);
    has(&world, "node", |path| in_big(path) || is_iso(path), "again");
    assert!(cost(&idle) < 1_536 && idle.json()["partial"] == true, "{idle:?}");

    // A change in what is left out costs the pages above it, and no more.
    put(&world.tree(), "big/sub0/new", b"new");
    put(&world.tree(), "docs/deep/two.iso", b"other");
    put(&world.tree(), "docs/deep/new.txt", b"new");
    world.publish().expect(0);
    let update = cost(&world.sync("node").expect(0));
    has(&world, "node", |path| in_big(path) || is_iso(path), "a change");
    assert!(update < 6_000, "{update} bytes");
}

#[test]
fn rules_are_kept_and_others_take_their_place() {
    let world = World::new(fill);
    let sync = |more: &[&str]| world.sync_with("node", &world.address(), more);
    sync(&["--include", "/docs/***", "--exclude", "*"]).expect(0);
    has(&world, "node", |path| !path.is_empty() && !path.starts_with("docs"), "docs alone");
    let config = fs::read_to_string(world.node("node").join(".mirra/Mirra.toml")).unwrap();
    assert!(config.contains("include = [\"/docs/***\"]\nexclude = [\"*\"]"), "{config}");

    // More is taken; what is left out from now on stays.
    let rules = world.place.path().join("rules");
    fs::write(&rules, "# of the node\n+ one.txt\n- /docs/deep/\n/big/\n").unwrap();
    sync(&["--exclude-from", rules.to_str().unwrap()]).expect(0);
    has(&world, "node", in_big, "what was excluded stays");
    // The stale directory is left alone, whatever happens to it above.
    put(&world.tree(), "docs/deep/one.txt", b"newer text");
    put(&world.tree(), "src/one.txt", b"newer text");
    world.publish().expect(0);
    sync(&[]).expect(0);
    assert_eq!(fs::read(world.target("node").join("docs/deep/one.txt")).unwrap(), b"text");
    assert_eq!(fs::read(world.target("node").join("src/one.txt")).unwrap(), b"newer text");

    sync(&["--no-filter"]).expect(0);
    world.check_equal("node", "all of it again");
    sync(&["--exclude", "docs/", "--delete-excluded"]).expect(0);
    has(&world, "node", |path| path.starts_with("docs"), "what is excluded is removed");
    sync(&["--no-filter"]).expect(0);
    world.check_equal("node", "and comes again");
    put(&world.tree(), "src/after", b"after");
    world.publish().expect(0);
    let whole = sync(&[]).expect(0);
    world.check_equal("node", "whole as if it had never been partial");
    assert_eq!(whole.json()["partial"], false);
}

#[test]
fn what_the_node_leaves_out_is_no_loss_of_the_root() {
    let world = World::new(|tree| {
        (0..1_500).for_each(|i| put(tree, &format!("much/{i}"), b"x"));
        (0..1_600).for_each(|i| put(tree, &format!("docs/{i}"), b"x"));
    });
    let sync = |more: &[&str]| world.sync_with("node", &world.address(), more);
    sync(&[]).expect(0);
    sync(&["--include", "/docs/***", "--delete-excluded"]).expect(0);
    has(&world, "node", |path| path.starts_with("much"), "the rest is removed");
    // What the root loses of the part is guarded as before.
    for i in 0..1_200 {
        fs::remove_file(world.tree().join(format!("docs/{i}"))).unwrap();
    }
    world.publish_allowed().expect(0);
    put(&world.tree(), "docs/new", b"x");
    world.publish().expect(0);
    sync(&[]).expect_failure(25);
}

#[test]
fn only_includes_leave_the_rest_out() {
    let world = World::new(fill);
    world.sync_with("node", &world.address(), &["--include", "/docs/deep"]).expect(0);
    has(&world, "node", |path| !["", "docs"].contains(&path) && !path.starts_with("docs/deep"), "one directory");
}

#[test]
fn wrong_rules_are_said_before_anything_happens() {
    let world = World::empty();
    for wrong in ["!x", "a[b", "", "/"] {
        let ended = world.sync_with("node", &world.address(), &["--exclude", wrong]).expect_failure(2);
        assert!(ended.stderr.contains("--include or --exclude"), "{ended:?}");
    }
    world.sync_with("node", &world.address(), &["--exclude-from", "/nowhere"]).expect_failure(2);
}

#[test]
fn local_files_that_are_excluded_stay_whatever_happens_around_them() {
    let world = World::new(fill);
    let sync = |more: &[&str]| world.sync_with("node", &world.address(), more);
    sync(&["--exclude", "*.iso", "--exclude", "/big/"]).expect(0);
    let target = world.target("node");
    for mine in ["mine.iso", "docs/deep/mine.iso", "big/mine", "src/own/further/mine.iso"] {
        put(&target, mine, b"mine");
    }
    put(&target, "src/own/other", b"not in the module");
    let ended = sync(&[]).expect(0);
    assert!(!target.join("src/own/other").exists(), "what no rule leaves out is mended");
    assert!(ended.json()["removed"].as_u64().unwrap() >= 1);

    // The directory goes on the root, and what is excluded in it stays here.
    remove(&world.tree().join("docs/deep"));
    world.publish().expect(0);
    for _ in 0..2 {
        sync(&[]).expect(0);
        for mine in ["mine.iso", "docs/deep/mine.iso", "big/mine", "src/own/further/mine.iso"] {
            assert_eq!(fs::read(target.join(mine)).unwrap(), b"mine", "{mine}");
        }
        assert!(!target.join("docs/deep/one.txt").exists());
    }

    // A file in the place of such a directory cannot come.
    put(&world.tree(), "docs/deep", b"a file now");
    world.publish().expect(0);
    let ended = sync(&[]).expect_failure(25);
    assert!(ended.stderr.contains("docs/deep"), "{ended:?}");
    assert!(target.join("docs/deep/mine.iso").exists());
    sync(&["--exclude", "*.iso", "--exclude", "/big/", "--delete-excluded"]).expect(0);
    has(&world, "node", |path| in_big(path) || is_iso(path), "all that is excluded is gone");
}

#[test]
fn adopting_puts_aside_what_no_rule_leaves_out() {
    let world = World::new(fill);
    let target = world.target("node");
    fs::create_dir(world.node("node")).unwrap();
    put(&target, "mine.iso", b"mine");
    put(&target, "other", b"other");
    world.sync_with("node", &world.address(), &["--adopt", "--exclude", "*.iso", "--exclude", "/big/"]).expect(0);
    assert_eq!(fs::read(target.join("mine.iso")).unwrap(), b"mine");
    assert!(!target.join("other").exists());
    let aside = walk(&world.node("node").join(".mirra/adopted"));
    assert!(aside.keys().any(|path| path.ends_with(b"/other")));
    assert!(!aside.keys().any(|path| path.ends_with(b".iso")));
}

#[test]
fn random_trees_arrive_in_part_and_in_whole_again() {
    for seed in 1..=3 {
        eprintln!("seed {seed}");
        let mut gardener = Gardener::new(seed);
        let world = World::new(|tree| gardener.plant(tree, 60));
        // Names of which a part has a one, whatever they are: files and whole directories.
        let left_out = |path: &str| path.split('/').any(|name| name.contains('1'));
        let rules = ["--exclude", "*1*"];
        for round in 0..4 {
            world.sync_with("node", &world.address(), &rules).expect(0);
            has(&world, "node", left_out, &format!("seed {seed}, round {round}"));
            gardener.tend(&world.tree(), 10);
            world.publish_allowed().expect(0);
        }
        world.sync_with("node", &world.address(), &["--no-filter"]).expect(0);
        world.check_equal("node", &format!("seed {seed}, whole"));
        assert!(!world.log().contains("panicked"), "{}", world.log());
    }
}

#[test]
fn a_node_behind_a_partial_one_takes_its_part_or_says_what_it_cannot_have() {
    let mut world = World::new(fill);
    let rules = ["--exclude", "/big/", "--exclude", "*.iso"];
    world.sync_with("middle", &world.address(), &rules).expect(0);
    world.sync("was whole").expect(0);
    put(&world.tree(), "docs/new.txt", b"new");
    put(&world.tree(), "big/sub0/new", b"new");
    world.publish().expect(0);
    world.sync("middle").expect(0);
    world.kill();
    let listen = format!("127.0.0.1:{}", free_port());
    let args = ["run", "--listen", &listen].map(std::ffi::OsStr::new);
    let mut daemon = command(&world.node("middle"), &args).spawn().unwrap();
    wait_for("the node's start", || std::net::TcpStream::connect(&listen).ok());

    let listing = mirra(&world.root(), &["ls", &listen, "--json"]).expect(0);
    assert_eq!(listing.json()["modules"][0]["partial"], true);
    mirra(&world.root(), &["ls", &format!("{listen}/{MODULE}/docs")]).expect(0);
    let looked = mirra(&world.root(), &["ls", &format!("{listen}/{MODULE}/big")]).expect_failure(23);
    assert!(looked.stderr.contains("in part"), "{looked:?}");

    let before = walk(&world.target("was whole"));
    for node in ["all", "was whole"] {
        let ended = world.sync_with(node, &listen, &[]).expect_failure(23);
        assert!(ended.stderr.contains("mirrors m in part"), "{ended:?}");
    }
    // Only what is left out as files.
    let ended = world.sync_with("files", &listen, &["--exclude", "/big/"]).expect_failure(23);
    assert!(ended.stderr.contains("mirrors m in part"), "{ended:?}");
    same(&before, &walk(&world.target("was whole")), "nothing is lost");

    world.sync_with("leaf", &listen, &rules).expect(0);
    has(&world, "leaf", |path| in_big(path) || is_iso(path), "the same part");
    world.sync_with("less", &listen, &["--include", "/docs/*.txt", "--exclude", "*"]).expect(0);
    has(&world, "less", |path| !["", "docs", "docs/one.txt", "docs/new.txt"].contains(&path), "less than that");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn mirraignore_decides_what_is_published() {
    let world = World::empty();
    fill(&world.tree());
    put(&world.tree(), ".mirraignore", b"# not for others\n*.iso\n!docs/two.iso\n/big/\n");
    world.share().expect(0);
    let mut world = world;
    world.start();
    world.sync("node").expect(0);
    let left_out = |path: &str| in_big(path) || is_iso(path) && path != "docs/two.iso";
    has(&world, "node", left_out, "some is left out");

    // The watch may not have heard yet that a file is closed, and holds it back: it is published the next time.
    let becomes = |left_out: &dyn Fn(&str) -> bool| {
        wait_for("what is left out now", || {
            world.publish().expect(0);
            world.sync("node").expect(0);
            (without(&walk(&world.tree()), left_out) == walk(&world.target("node"))).then_some(())
        });
    };
    // As some editors write it.
    put(&world.tree(), ".mirraignore", b"\xef\xbb\xbf/docs/\r\n");
    becomes(&|path| path.starts_with("docs"));
    fs::remove_file(world.tree().join(".mirraignore")).unwrap();
    becomes(&|_| false);

    put(&world.tree(), ".mirraignore", b"ok\na[b\n");
    let ended = wait_for("a refusal", || Some(world.publish()).filter(|ended| ended.code != Some(0)));
    let ended = ended.expect_failure(3);
    assert!(ended.stderr.contains("line 2") && ended.stderr.contains("a[b"), "{ended:?}");
}

#[test]
fn a_daemon_follows_a_part_live_and_takes_new_rules() {
    let place = Place::new();
    let (root, tree) = place.root("live", fill);
    let node = place.daemon("node");
    node.does(&["sync", &root.address, MODULE, "--exclude", "/big/", "--exclude", "*.iso"]).expect(0);
    let target = node.target(MODULE);
    let becomes = |left_out: &dyn Fn(&str) -> bool, state: &str| {
        soon("the part", || {
            let wanted = without(&walk(&tree), left_out);
            (crate::fixture::try_walk(&target).ok()? == wanted).then_some(())
        });
        soon("its state", || (node.status(MODULE)["state"] == state).then_some(()));
    };
    becomes(&|path| in_big(path) || is_iso(path), "in sync (partial)");
    let received = || node.status(MODULE)["received"].as_u64().unwrap();
    let before = received();
    put(&tree, "docs/live.txt", b"live");
    soon("a change", || target.join("docs/live.txt").exists().then_some(()));
    put(&tree, "big/sub0/live", &Dice(3).bytes(100_000));
    put(&tree, "src/live.txt", b"live");
    becomes(&|path| in_big(path) || is_iso(path), "in sync (partial)");
    let got = received() - before;
    assert!(got < 20_000, "{got} bytes: what is excluded is not pushed");
    assert_eq!(node.status(MODULE)["partial"], true);

    let leaf = place.daemon("leaf");
    leaf.does(&["sync", &node.address, MODULE]).expect(0);
    let trouble = soon("a failure", || leaf.status(MODULE)["error"]["failure"]["why"].as_str().map(ToOwned::to_owned));
    assert!(trouble.contains("in part"), "{trouble}");
    leaf.does(&["sync", &node.address, MODULE, "--exclude", "/big/", "--exclude", "*.iso"]).expect(0);
    put(&tree, "docs/further.txt", b"further");
    soon("two tiers", || leaf.target(MODULE).join("docs/further.txt").exists().then_some(()));

    node.does(&["sync", &root.address, MODULE, "--no-filter"]).expect(0);
    becomes(&|_| false, "in sync");
    put(&tree, "big/sub0/again", b"again");
    becomes(&|_| false, "in sync");
}

#[test]
fn a_daemon_takes_up_another_mirraignore_as_it_is_written() {
    let place = Place::new();
    let (root, tree) = place.root("live", fill);
    let node = place.node("node", &root.address);
    let becomes = |left_out: &dyn Fn(&str) -> bool| {
        soon("what is left", || {
            let wanted = without(&walk(&tree), left_out);
            (crate::fixture::try_walk(&node.target(MODULE)).ok()? == wanted).then_some(())
        });
    };
    put(&tree, ".mirraignore", b"*.iso\n/docs/deep/\n");
    becomes(&|path| is_iso(path) || path.starts_with("docs/deep"));
    put(&tree, ".mirraignore", b"*.rs\n");
    becomes(&|path| path.ends_with(".rs"));
    // It is watched as well from here on.
    put(&tree, "docs/deep/later.iso", b"later");
    becomes(&|path| path.ends_with(".rs"));
}
