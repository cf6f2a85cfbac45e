//! Modules that leave: what is forgotten with them, and what stays.

use std::fs;

use crate::fixture::{MODULE, World, mirra, remove};

#[test]
fn what_was_followed_can_be_followed_from_another_owner() {
    let one = World::new(|tree| fs::write(tree.join("file"), "one").unwrap());
    let other = World::new(|tree| fs::write(tree.join("file"), "other").unwrap());
    one.sync("node").expect(0);
    one.sync_with("node", &other.address(), &[]).expect_failure(7);
    let left = mirra(&one.node("node"), &["unsync", MODULE]).expect(0);
    assert!(left.stderr.contains("--adopt") && one.target("node").join("file").exists(), "{left:?}");
    // The directory is no longer known as one that mirra may change.
    one.sync_with("node", &other.address(), &[]).expect_failure(25);
    one.sync_with("node", &other.address(), &["--adopt"]).expect(0);
    assert_eq!(fs::read_to_string(one.target("node").join("file")).unwrap(), "other");
}

#[test]
fn the_data_of_a_followed_module_goes_when_that_is_said() {
    let world = World::new(|tree| {
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
    });
    let node = world.node("node");
    world.sync("node").expect(0);
    let target = world.target("node");
    fs::create_dir_all(target.join(".mirra/adopted")).unwrap();
    fs::write(target.join(".mirra/adopted/old"), "").unwrap();
    mirra(&node, &["unshare", MODULE, "--delete-data", "--yes"]).expect_failure(2);
    assert!(target.join("a/b/file").exists());
    let removed = mirra(&node, &["unsync", MODULE, "--delete-data", "--yes", "--json"]).expect(0).json();
    assert_eq!((&removed["role"], &removed["data_deleted"]), (&"node".into(), &true.into()));
    assert!(!target.exists() && world.tree().join("a/b/file").exists());
    world.sync("node").expect(0);
    world.check_equal("node", "anew");
}

#[test]
fn a_directory_that_is_gone_is_no_hindrance() {
    let world = World::new(|tree| fs::write(tree.join("file"), "").unwrap());
    world.sync("node").expect(0);
    remove(&world.target("node"));
    mirra(&world.node("node"), &["unsync", MODULE, "--delete-data", "--yes"]).expect(0);
    let status = mirra(&world.node("node"), &["status", "--json"]).expect(0).json();
    assert_eq!(status["modules"], serde_json::json!([]));
}

#[test]
fn a_module_that_is_shared_again_goes_on_for_those_who_follow() {
    let mut world = World::new(|tree| fs::write(tree.join("file"), "1").unwrap());
    world.sync("node").expect(0);
    world.kill();
    mirra(&world.root(), &["unshare", MODULE]).expect(0);
    fs::write(world.tree().join("file"), "2").unwrap();
    world.share().expect(0);
    world.start();
    world.sync("node").expect(0);
    world.check_equal("node", "shared again");
}
