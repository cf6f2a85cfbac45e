//! What a daemon refuses to do by itself, and how it goes on afterwards.

use std::fs;
use std::path::Path;

use super::{Mirra, Place, soon};
use crate::fixture::{Gardener, MODULE, same, walk};

/// What went wrong, once it is said; it has three parts.
fn trouble(daemon: &Mirra) -> Option<String> {
    let failure = daemon.status(MODULE)["error"]["failure"].clone();
    let part = |name: &str| failure[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some([part("what")?, part("why")?, part("fix")?].join("; "))
}

fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        crate::fixture::remove(&entry.unwrap().path());
    }
}

#[test]
fn a_root_that_is_emptied_publishes_nothing_until_it_is_meant_or_mended() {
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| Gardener::new(5).plant(tree, 30));
    let near = place.node("near", &root.address);
    near.converges(&tree, MODULE, "first");
    let (before, sequence) = (walk(&tree), root.sequence(MODULE));
    let kept = place.path("kept");
    crate::fixture::copy(&tree, &kept);
    empty(&tree);
    let said = soon("the refusal", || trouble(&root));
    assert!(said.contains("--allow-delete"), "{said}");
    fs::write(tree.join("one"), "not empty, and yet").unwrap();
    fs::remove_file(tree.join("one")).unwrap();
    assert_eq!(root.sequence(MODULE), sequence);
    same(&before, &walk(&near.target(MODULE)), "the node keeps all");
    // Mended.
    for entry in fs::read_dir(&kept).unwrap() {
        let name = entry.unwrap().file_name();
        fs::rename(kept.join(&name), tree.join(&name)).unwrap();
    }
    soon("the cure", || trouble(&root).is_none().then_some(()));
    near.converges(&tree, MODULE, "mended");
    // Meant.
    empty(&tree);
    soon("the refusal again", || trouble(&root));
    root.does(&["publish", MODULE, "--allow-delete"]).expect(0);
    near.converges(&tree, MODULE, "meant");
    assert_eq!((trouble(&root), trouble(&near)), (None, None));
}

#[test]
fn a_root_that_is_moved_away_is_missed_and_comes_back() {
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| Gardener::new(6).plant(tree, 30));
    let near = place.node("near", &root.address);
    near.converges(&tree, MODULE, "first");
    let (before, sequence) = (walk(&tree), root.sequence(MODULE));
    let away = place.path("away");
    fs::rename(&tree, &away).unwrap();
    soon("the state", || (root.status(MODULE)["state"] == "directory missing").then_some(()));
    soon("what is wrong", || trouble(&root));
    fs::write(away.join("while away"), "changed").unwrap();
    assert_eq!(root.sequence(MODULE), sequence);
    same(&before, &walk(&near.target(MODULE)), "the node keeps all");
    // Another takes its name for a while: as a mount point does.
    fs::create_dir(&tree).unwrap();
    soon("the refusal", || trouble(&root).filter(|said| said.contains("--allow-delete")));
    fs::remove_dir(&tree).unwrap();
    fs::rename(&away, &tree).unwrap();
    soon("the cure", || trouble(&root).is_none().then_some(()));
    near.converges(&tree, MODULE, "it is back");
    fs::write(tree.join("after"), "and watched").unwrap();
    near.converges(&tree, MODULE, "watched");
}

#[test]
fn a_target_that_is_gone_is_made_again() {
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| Gardener::new(8).plant(tree, 30));
    let near = place.node("near", &root.address);
    near.converges(&tree, MODULE, "first");
    fs::rename(near.target(MODULE), place.path("elsewhere")).unwrap();
    soon("it is said", || (near.status(MODULE)["state"] == "directory missing").then_some(()));
    fs::write(tree.join("new"), "something new").unwrap();
    near.converges(&tree, MODULE, "made again");
}
