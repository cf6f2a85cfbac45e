//! A root and its nodes through the program: whatever happens to either tree, a sync ends with the signed one.

use std::fs;
use std::path::Path;

use crate::fixture::{Dice, Ended, Gardener, MODULE, World, chmod, copy, free_port, mirra, remove, text, walk};

/// Bytes both ways, from `--json`.
fn cost(ended: &Ended) -> u64 {
    let json = ended.json();
    json["received"].as_u64().unwrap() + json["sent"].as_u64().unwrap()
}

/// What one connection costs before anything is asked: handshake, certificate, heads.
const OVERHEAD: u64 = 4_096;

#[test]
fn random_trees_and_edits_arrive_whatever_they_are() {
    for seed in 1..=5 {
        eprintln!("seed {seed}");
        let mut gardener = Gardener::new(seed);
        let world = World::new(|tree| gardener.plant(tree, 60));
        world.sync("node").expect(0);
        world.check_equal("node", &format!("seed {seed}, first"));
        for round in 0..4 {
            gardener.tend(&world.tree(), 12);
            world.publish_allowed().expect(0);
            world.sync("node").expect(0);
            world.check_equal("node", &format!("seed {seed}, round {round}"));
        }
        assert!(!world.log().contains("panicked"), "{}", world.log());
    }
}

#[test]
fn a_tree_that_was_changed_locally_is_mended() {
    for seed in 11..=13 {
        eprintln!("seed {seed}");
        let mut gardener = Gardener::new(seed);
        let world = World::new(|tree| gardener.plant(tree, 50));
        world.sync("node").expect(0);
        for round in 0..3 {
            // Local edits alone, then together with edits of the root.
            let mut vandal = Gardener::new(seed * 100 + round);
            vandal.tend(&world.target("node"), 8);
            if round > 0 {
                gardener.tend(&world.tree(), 8);
                world.publish_allowed().expect(0);
            }
            world.sync("node").expect(0);
            world.check_equal("node", &format!("seed {seed}, round {round}"));
        }
    }
}

#[test]
fn a_tree_that_is_partly_right_is_adopted_and_nothing_of_it_is_lost() {
    for seed in 21..=22 {
        eprintln!("seed {seed}");
        let mut gardener = Gardener::new(seed);
        let world = World::new(|tree| gardener.plant(tree, 50));
        fs::create_dir(world.node("node")).unwrap();
        let target = world.target("node");
        copy(&world.tree(), &target);
        let mut vandal = Gardener::new(seed * 100);
        vandal.tend(&target, 10);
        chmod(&target, 0o755);
        fs::create_dir(target.join("extra dir")).unwrap();
        fs::write(target.join("extra dir/precious"), "nowhere else").unwrap();
        fs::write(target.join("extra"), "nor this").unwrap();
        let before = walk(&target);
        world.sync("node").expect_failure(25);
        assert_eq!(walk(&target), before, "refused, and yet something changed");

        let ended = world.sync_with("node", &world.address(), &["--adopt"]).expect(0);
        world.check_equal("node", &format!("seed {seed}"));
        assert!(ended.json()["put_aside"].as_u64().unwrap() >= 2);
        let aside = walk(&world.node("node").join(".mirra/adopted"));
        let kept = |end: &str| aside.keys().any(|path| path.ends_with(end.as_bytes()));
        assert!(kept("/extra") && kept("/extra dir/precious"), "{:?}", aside.keys());
        // Content of files that the vandal overwrote is of nobody else either.
        let wanted = walk(&world.tree());
        for (path, node) in before.iter().filter(|(path, _)| !wanted.contains_key(*path)) {
            let same_content = |kept: &crate::fixture::Node| kept.what == node.what;
            let kept = aside.values().chain(wanted.values()).any(same_content);
            assert!(kept, "{node:?} of {:?} is lost", String::from_utf8_lossy(path));
        }
        world.sync("node").expect(0);
        world.check_equal("node", "again");
        assert_eq!(walk(&world.node("node").join(".mirra/adopted")).len(), aside.len());
    }
}

#[test]
fn a_node_that_was_away_catches_up_from_any_head_or_none() {
    let mut gardener = Gardener::new(31);
    let world = World::new(|tree| gardener.plant(tree, 40));
    for name in ["short", "long", "forgetful"] {
        world.sync(name).expect(0);
    }
    for round in 0..22 {
        gardener.tend(&world.tree(), 2);
        fs::write(world.tree().join("round"), format!("{round}")).unwrap();
        world.publish_allowed().expect(0);
        if round == 17 {
            world.sync("short").expect(0);
        }
    }
    world.sync("short").expect(0);
    world.check_equal("short", "some heads skipped");
    world.sync("long").expect(0);
    world.check_equal("long", "the base is forgotten");

    let home = world.node("forgetful");
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = fs::remove_file(home.join(".mirra").join(name));
    }
    world.sync("forgetful").expect_failure(25);
    world.sync_with("forgetful", &world.address(), &["--adopt"]).expect(0);
    world.check_equal("forgetful", "the state is lost");
    world.sync("new").expect(0);
    world.check_equal("new", "a first sync");
}

fn fill_large(dir: &Path, dice: &mut Dice) {
    fs::create_dir_all(dir.join("sub")).unwrap();
    for i in 0..40 {
        fs::write(dir.join(format!("f{i}")), dice.bytes(100_000)).unwrap();
        fs::write(dir.join(format!("sub/g{i}")), text(dice, 9_000)).unwrap();
    }
}

#[test]
fn renames_and_copies_move_no_content_and_nothing_new_costs_nothing() {
    let mut dice = Dice(41);
    let world = World::new(|tree| fill_large(&tree.join("big"), &mut dice));
    world.sync("node").expect(0);

    let idle = cost(&world.sync("node").expect(0));
    assert!(idle < 1_024 + 512, "{idle} bytes for nothing, handshake included");

    fs::rename(world.tree().join("big"), world.tree().join("moved")).unwrap();
    world.publish().expect(0);
    let moved = cost(&world.sync("node").expect(0));
    world.check_equal("node", "moved");
    assert!(moved < OVERHEAD, "{moved} bytes for a rename");

    copy(&world.tree().join("moved"), &world.tree().join("copied"));
    world.publish().expect(0);
    let copied = cost(&world.sync("node").expect(0));
    world.check_equal("node", "copied");
    assert!(copied < OVERHEAD, "{copied} bytes for a copy");

    fs::rename(world.tree().join("moved/sub"), world.tree().join("out")).unwrap();
    fs::rename(world.tree().join("copied"), world.tree().join("out/in")).unwrap();
    world.publish().expect(0);
    let both = cost(&world.sync("node").expect(0));
    world.check_equal("node", "moved into each other");
    assert!(both < 10_000, "{both} bytes");
}

#[test]
fn a_directory_of_many_files_is_renamed_and_copied_in_a_few_bytes() {
    let world = World::new(|tree| {
        for i in 0..1_500 {
            let dir = tree.join(format!("many/d{}", i % 20));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(format!("file-{i}")), format!("the content of {i}")).unwrap();
        }
    });
    world.sync("node").expect(0);
    let copied_from = world.tree().join("moved");
    let cost_of = |what: &str, change: &dyn Fn()| {
        change();
        world.publish().expect(0);
        let bytes = cost(&world.sync("node").expect(0));
        world.check_equal("node", what);
        assert!(bytes < OVERHEAD, "{bytes} bytes, {what}");
    };
    cost_of("renamed", &|| fs::rename(world.tree().join("many"), &copied_from).unwrap());
    cost_of("copied", &|| copy(&copied_from, &world.tree().join("copied")));
}

#[test]
fn equal_files_travel_once() {
    let content = Dice(51).bytes(3_000_000);
    let world = World::new(|tree| {
        for i in 0..12 {
            let dir = tree.join(format!("d{i}"));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("same"), &content).unwrap();
            fs::write(dir.join("small"), &content[..5_000]).unwrap();
        }
    });
    let bytes = cost(&world.sync("node").expect(0));
    world.check_equal("node", "duplicates");
    assert!(bytes < 3_000_000 + 60_000, "{bytes}");
}

#[test]
fn an_edit_in_a_large_file_costs_little_with_base_and_without() {
    let mut dice = Dice(61);
    let mut content = text(&mut dice, 30_000_000);
    let world = World::new(|tree| fs::write(tree.join("large"), &content).unwrap());
    world.sync("node").expect(0);
    content.splice(12_345_678..12_345_678, *b"a few bytes more");
    content[25_000_000] ^= 1;
    fs::write(world.tree().join("large"), &content).unwrap();
    world.publish().expect(0);

    for node in ["heir", "stranger"] {
        fs::create_dir(world.node(node)).unwrap();
        copy(&world.target("node"), &world.target(node));
    }
    fs::write(world.target("stranger").join("its own"), "").unwrap();
    let known = cost(&world.sync("node").expect(0));
    world.check_equal("node", "known base");
    assert!(known < 200_000, "{known} bytes");
    // The root remembers this tree, although the node knows nothing of it.
    let remembered = cost(&world.sync_with("heir", &world.address(), &["--adopt"]).expect(0));
    world.check_equal("heir", "a tree of the past");
    assert!(remembered < known + 4_000, "{remembered} and {known} bytes");
    let unknown = cost(&world.sync_with("stranger", &world.address(), &["--adopt"]).expect(0));
    world.check_equal("stranger", "unknown base");
    assert!(unknown > known + 4_000, "{unknown} bytes: is the base unknown?");
    assert!(unknown < 300_000, "{unknown} bytes");
}

#[test]
fn packed_data_that_was_changed_in_place_costs_little_with_base_and_without() {
    let mut dice = Dice(62);
    // One whose chunks are nearly all hit, and one of which most stay.
    let contents = [("small", 600_000), ("large", 20_000_000)].map(|(name, len)| (name, dice.bytes(len)));
    let put = |tree: &Path, contents: &[(&str, Vec<u8>); 2]| {
        contents.iter().for_each(|(name, bytes)| fs::write(tree.join(name), bytes).unwrap());
    };
    let world = World::new(|tree| put(tree, &contents));
    world.sync("node").expect(0);
    let mut contents = contents;
    for (_, bytes) in &mut contents {
        let apart = bytes.len() / 12;
        bytes.iter_mut().skip(apart / 2).step_by(apart).for_each(|byte| *byte ^= 1);
    }
    put(&world.tree(), &contents);
    world.publish().expect(0);
    fs::create_dir(world.node("stranger")).unwrap();
    copy(&world.target("node"), &world.target("stranger"));
    fs::write(world.target("stranger").join("its own"), "").unwrap();
    let known = cost(&world.sync("node").expect(0));
    world.check_equal("node", "known base");
    let unknown = cost(&world.sync_with("stranger", &world.address(), &["--adopt"]).expect(0));
    world.check_equal("stranger", "unknown base");
    assert!(known < 60_000 && unknown < 60_000, "{known} and {unknown} bytes");
}

#[test]
fn an_empty_module_and_one_that_becomes_empty_are_modules() {
    let world = World::new(|_| {});
    world.sync("node").expect(0);
    world.check_equal("node", "empty");
    fs::write(world.tree().join("one"), "1").unwrap();
    world.publish().expect(0);
    world.sync("node").expect(0);
    world.check_equal("node", "one");
    remove(&world.tree().join("one"));
    world.publish().expect_failure(25);
    world.publish_allowed().expect(0);
    world.sync("node").expect(0);
    world.check_equal("node", "empty again");
}

#[test]
fn a_node_serves_what_it_has_followed() {
    let mut gardener = Gardener::new(71);
    let mut world = World::new(|tree| gardener.plant(tree, 40));
    world.sync("middle").expect(0);
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    world.kill();
    let args = ["run", "--listen", &listen].map(std::ffi::OsStr::new);
    let mut daemon = crate::fixture::command(&world.node("middle"), &args).spawn().unwrap();
    crate::fixture::wait_for("the node's start", || std::net::TcpStream::connect(&listen).ok());
    let ended = mirra(&world.node("leaf"), &["sync", &listen, MODULE, "--once", "--json"]);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    ended.expect(0);
    world.check_equal("leaf", "through a node");
}
