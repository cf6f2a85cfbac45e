//! Commands and edits of the config that act on daemons while they run.

use std::fs;
use std::path::PathBuf;

use super::{Mirra, Place, soon};
use crate::fixture::{MODULE, same, walk};

/// A root with one module and a node that has it.
fn pair(place: &Place) -> (Mirra, PathBuf, Mirra) {
    let (root, tree) = place.root("live", |tree| fs::write(tree.join("file"), "first").unwrap());
    let near = place.node("near", &root.address);
    near.converges(&tree, MODULE, "first");
    (root, tree, near)
}

fn config(daemon: &Mirra) -> PathBuf {
    daemon.home.join(".mirra/Mirra.toml")
}

#[test]
fn modules_come_rest_and_go_by_command() {
    let place = Place::new();
    let (root, tree, near) = pair(&place);
    // Paused on the root: nothing is published.
    root.does(&["pause", MODULE]).expect(0);
    let before = root.sequence(MODULE);
    fs::write(tree.join("file"), "second").unwrap();
    near.does(&["pause", MODULE]).expect(0);
    assert_eq!([&root, &near].map(|daemon| daemon.status(MODULE)["state"].clone()), ["paused", "paused"]);
    assert_eq!(root.sequence(MODULE), before);
    root.does(&["resume", MODULE]).expect(0);
    soon("a snapshot of what changed meanwhile", || (root.sequence(MODULE) > before).then_some(()));
    // Paused on the node: nothing is taken, though it is there.
    assert_eq!(fs::read(near.target(MODULE).join("file")).unwrap(), b"first");
    assert_eq!(near.sequence(MODULE), before);
    near.does(&["resume", MODULE]).expect(0);
    near.converges(&tree, MODULE, "resumed");
    // Gone on the node: its files stay.
    near.does(&["unsync", MODULE]).expect(0);
    assert!(near.status(MODULE).is_null());
    same(&walk(&tree), &walk(&near.target(MODULE)), "left alone");
    fs::write(tree.join("file"), "third").unwrap();
    near.does(&["sync", &root.address, MODULE, "--adopt"]).expect(0);
    near.converges(&tree, MODULE, "followed again");
    // Gone on the root: the node keeps what it has, and says why it gets no more.
    root.does(&["unshare", MODULE]).expect(0);
    soon("the node's notice", || near.status(MODULE)["error"]["failure"]["fix"].is_string().then_some(()));
    same(&walk(&tree), &walk(&near.target(MODULE)), "kept");
    fs::write(tree.join("file"), "fourth").unwrap();
    root.share(&tree, MODULE, "live");
    near.converges(&tree, MODULE, "shared again");
    assert!(near.status(MODULE)["error"].is_null());
}

#[test]
fn edits_of_the_config_are_taken_up() {
    let place = Place::new();
    let (root, tree, near) = pair(&place);
    let text = fs::read_to_string(config(&root)).unwrap();
    let extra = place.dir("extra");
    fs::write(extra.join("file"), "extra").unwrap();
    // A new module.
    let more = format!("{text}\n[module.extra]\npath = \"{}\"\n", extra.display());
    fs::write(config(&root), &more).unwrap();
    soon("the new module is published", || root.sequence("extra"));
    near.follow(&root.address, "extra");
    near.converges(&extra, "extra", "a module by hand");
    // Another gate.
    fs::write(config(&root), more.replace("publish = \"live\"", "publish = \"manual\"")).unwrap();
    soon("the gate", || (root.status(MODULE)["activity"] == "idle").then_some(()));
    fs::write(tree.join("file"), "kept back").unwrap();
    fs::write(extra.join("file"), "goes on").unwrap();
    near.converges(&extra, "extra", "the other module");
    assert_eq!(fs::read(near.target(MODULE).join("file")).unwrap(), b"first");
    fs::write(config(&root), &more).unwrap();
    near.converges(&tree, MODULE, "live again");
    // An edit that is broken changes nothing, and is said.
    fs::write(config(&root), more.replace("[module.extra]", "[module.extra")).unwrap();
    soon("it is said", || root.log().contains("Mirra.toml").then_some(()));
    for (dir, name) in [(&tree, MODULE), (&extra, "extra")] {
        fs::write(dir.join("file"), "in spite of it").unwrap();
        let target = near.target(name).join("file");
        soon("both go on", || (fs::read(&target).unwrap() == b"in spite of it").then_some(()));
    }
    // A module that is gone is served no more.
    fs::write(config(&root), &text).unwrap();
    soon("the node's notice", || near.status("extra")["error"].is_object().then_some(()));
    fs::write(tree.join("file"), "last").unwrap();
    near.converges(&tree, MODULE, "the one that is left");
    assert_eq!(fs::read(near.target("extra").join("file")).unwrap(), b"in spite of it");
}

#[test]
fn a_sync_beside_the_daemon_is_done_by_it() {
    let place = Place::new();
    let (root, tree, near) = pair(&place);
    for round in 0..3 {
        for file in 0..20 {
            fs::write(tree.join(format!("file{file}")), format!("{round} {file}")).unwrap();
        }
        fs::write(near.target(MODULE).join("file"), "vandalism").unwrap();
        root.does(&["publish", MODULE]).expect(0);
        near.does(&["sync", &root.address, MODULE, "--once"]).expect(0);
        same(&walk(&tree), &walk(&near.target(MODULE)), "done by the daemon");
    }
    near.does(&["pause", MODULE]).expect(0);
    fs::write(tree.join("file"), "by hand").unwrap();
    root.does(&["publish", MODULE]).expect(0);
    near.does(&["sync", &root.address, MODULE, "--once"]).expect(0);
    same(&walk(&tree), &walk(&near.target(MODULE)), "paused");
}

#[test]
fn what_one_sync_brings_goes_on_to_those_behind() {
    let place = Place::new();
    let (root, tree, near) = pair(&place);
    let far = place.node("far", &near.address);
    far.converges(&tree, MODULE, "behind");
    near.does(&["pause", MODULE]).expect(0);
    let before = root.sequence(MODULE);
    fs::write(tree.join("file"), "second").unwrap();
    soon("the root's snapshot", || (root.sequence(MODULE) > before).then_some(()));
    near.does(&["sync", &root.address, MODULE, "--once"]).expect(0);
    assert_eq!(near.status(MODULE)["paused"], true);
    far.converges(&tree, MODULE, "passed on");
}
