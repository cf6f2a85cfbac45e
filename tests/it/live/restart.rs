//! Daemons that end, in order or not, and come back.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::{Mirra, Place, soon};
use crate::fixture::{Dice, Gardener, MODULE, each_whole, walk};

/// SIGTERM in whatever it does: exit 0, and soon.
#[track_caller]
fn ends_at_once(daemon: &mut Mirra) {
    let began = Instant::now();
    assert_eq!(daemon.end(), Some(0), "{}", daemon.log());
    // Two seconds, and some for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}

#[test]
fn a_root_that_comes_back_is_found_by_its_nodes_with_what_changed_meanwhile() {
    let mut gardener = Gardener::new(17);
    let place = Place::new();
    let (mut root, tree) = place.root("live", |tree| gardener.plant(tree, 40));
    let near = place.node("near", &root.address);
    near.converges(&tree, MODULE, "first");
    root.kill();
    gardener.tend(&tree, 15);
    soon("the node's notice", || near.status(MODULE)["error"].is_object().then_some(()));
    root.start();
    near.converges(&tree, MODULE, "the root is back");
    gardener.tend(&tree, 5);
    near.converges(&tree, MODULE, "and still followed");
    assert!(near.status(MODULE)["error"].is_null());
    // Also when nothing has changed is the error over.
    root.kill();
    soon("the node's notice", || near.status(MODULE)["error"].is_object().then_some(()));
    root.start();
    soon("the cure", || near.status(MODULE)["error"].is_null().then_some(()));
}

#[test]
fn a_node_that_was_killed_in_a_transfer_goes_on() {
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| fs::write(tree.join("a"), "a").unwrap());
    let mut near = place.node("near", &root.address);
    near.converges(&tree, MODULE, "first");
    let before = walk(&tree);
    let mut dice = Dice(3);
    for file in 0..30 {
        fs::write(tree.join(format!("large{file}")), dice.bytes(1_500_000)).unwrap();
    }
    for _ in 0..3 {
        soon("a transfer", || {
            let at = near.status(MODULE);
            (at["activity"] == "fetching" || at["sequence"] == root.status(MODULE)["sequence"]).then_some(())
        });
        near.kill();
        each_whole(&walk(&near.target(MODULE)), &[&before, &walk(&tree)], "killed");
        near.start();
    }
    near.converges(&tree, MODULE, "after all");
}

#[test]
fn what_somebody_else_did_in_the_target_is_mended_when_the_node_starts() {
    let mut gardener = Gardener::new(27);
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| gardener.plant(tree, 40));
    let mut near = place.node("near", &root.address);
    near.converges(&tree, MODULE, "first");
    near.kill();
    Gardener::new(28).tend(&near.target(MODULE), 10);
    near.start();
    near.converges(&tree, MODULE, "mended");
    drop(root);
}

#[test]
fn a_daemon_ends_in_order_whatever_it_does() {
    let place = Place::new();
    let (mut root, tree) = place.root("live", |tree| {
        let mut dice = Dice(4);
        for file in 0..60 {
            fs::write(tree.join(format!("large{file}")), dice.bytes(1_500_000)).unwrap();
        }
    });
    let mut near = place.daemon("near");
    near.follow(&root.address, MODULE);
    soon("a transfer", || (near.status(MODULE)["activity"] == "fetching").then_some(()));
    ends_at_once(&mut near);
    near.start();
    soon("a transfer", || (near.status(MODULE)["activity"] != "connecting").then_some(()));
    ends_at_once(&mut root);
    soon("the node's notice", || near.status(MODULE)["error"].is_object().then_some(()));
    ends_at_once(&mut near);
    // At rest it is no other.
    root.start();
    near.start();
    near.converges(&tree, MODULE, "in the end");
    ends_at_once(&mut near);
    ends_at_once(&mut root);
}

#[test]
fn a_host_that_says_nothing_keeps_nobody_waiting() {
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| fs::write(tree.join("a"), "a").unwrap());
    let other = place.dir("other");
    root.share(&other, "other", "live");
    let mut near = place.node("near", &root.address);
    near.follow(&root.address, "other");
    near.converges(&tree, MODULE, "first");
    near.kill();
    // It takes connections, and that is all.
    kill_process(root.pid(), Signal::STOP).unwrap();
    near.start();
    let soon_done = |args: &[&str]| {
        let began = Instant::now();
        near.does(args).expect(0);
        // A call that is given up only by its timer takes twice as long.
        assert!(began.elapsed() < Duration::from_secs(5), "{args:?} took {:?}", began.elapsed());
    };
    soon_done(&["status"]);
    soon_done(&["pause"]);
    soon_done(&["resume"]);
    soon_done(&["unsync", "other"]);
    ends_at_once(&mut near);
    kill_process(root.pid(), Signal::CONT).unwrap();
    near.start();
    near.converges(&tree, MODULE, "it speaks again");
}
