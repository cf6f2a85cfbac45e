//! `--seed`: what a directory of the operator's holds of a module is copied, and nothing of it is believed or changed.

use std::fs;
use std::os::unix::fs::symlink;

use crate::fixture::{Dice, Ended, World, copy, text, walk};

/// Bytes both ways, from `--json`.
fn cost(ended: &Ended) -> u64 {
    let json = ended.json();
    json["received"].as_u64().unwrap() + json["sent"].as_u64().unwrap()
}

fn from_seed(ended: &Ended) -> u64 {
    ended.json()["stats"]["content"]["from_seed"].as_u64().unwrap()
}

/// Bytes of each file of [`world`].
const EACH: usize = 400_000;

/// A root with four files and a directory.
fn world(dice: &mut Dice) -> World {
    World::new(|tree| {
        fs::create_dir(tree.join("sub")).unwrap();
        for name in ["same", "edited", "sub/moved", "tool-1.3.txt"] {
            fs::write(tree.join(name), text(dice, EACH)).unwrap();
        }
        fs::write(tree.join("small"), "a few bytes").unwrap();
    })
}

#[test]
fn an_older_version_as_a_seed_saves_a_first_sync_most_bytes() {
    let mut dice = Dice(7);
    let world = world(&mut dice);
    let seed = world.place.path().join("old");
    copy(&world.tree(), &seed);
    fs::rename(seed.join("sub/moved"), seed.join("elsewhere")).unwrap();
    for (from, to) in [("edited", "edited"), ("tool-1.3.txt", "tool-1.2.txt")] {
        let mut bytes = fs::read(seed.join(from)).unwrap();
        fs::remove_file(seed.join(from)).unwrap();
        bytes.splice(EACH / 2..EACH / 2 + 5, *b"something that was here");
        fs::write(seed.join(to), bytes).unwrap();
    }
    fs::write(seed.join("more"), text(&mut dice, EACH)).unwrap();
    let before = walk(&seed);

    let plain = cost(&world.sync("plain").expect(0));
    let ended = world.sync_with("node", &world.address(), &["--seed", seed.to_str().unwrap()]).expect(0);
    world.check_equal("node", "with a seed");
    assert_eq!(walk(&seed), before, "a seed was written to");
    assert!(cost(&ended) < 40_000 && plain > 1_000_000, "{} instead of {plain} bytes", cost(&ended));
    assert_eq!(from_seed(&ended), 2 * EACH as u64 + 11);

    // What it was good for then, it is not needed for now.
    fs::write(world.tree().join("small"), "other few bytes").unwrap();
    fs::copy(seed.join("more"), world.tree().join("more")).unwrap();
    world.publish().expect(0);
    fs::remove_dir_all(&seed).unwrap();
    world.sync("node").expect(0);
    world.check_equal("node", "without the seed");
}

#[test]
fn a_node_that_has_something_takes_whole_files_from_a_seed() {
    let mut dice = Dice(8);
    let world = world(&mut dice);
    world.sync("node").expect(0);
    let new = text(&mut dice, EACH);
    let (seed, other) = (world.place.path().join("seed"), world.place.path().join("empty"));
    fs::create_dir(&seed).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(seed.join("anything"), &new).unwrap();
    fs::write(world.tree().join("new"), &new).unwrap();
    world.publish().expect(0);
    let seeds = ["--seed", other.to_str().unwrap(), "--seed", seed.to_str().unwrap()];
    let ended = world.sync_with("node", &world.address(), &seeds).expect(0);
    world.check_equal("node", "with a seed");
    assert_eq!(from_seed(&ended), EACH as u64);
    assert!(cost(&ended) < 10_000, "{}", cost(&ended));
}

#[test]
fn links_and_devices_of_a_seed_are_left_alone() {
    let world = world(&mut Dice(9));
    let (seed, outside) = (world.place.path().join("seed"), world.place.path().join("outside"));
    copy(&world.tree(), &outside);
    fs::create_dir(&seed).unwrap();
    symlink(outside.join("same"), seed.join("same")).unwrap();
    symlink(outside.join("sub"), seed.join("sub")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(seed.join("edited")).status().unwrap();
    assert!(fifo.success());
    // As long as the right one, and something else.
    fs::write(seed.join("tool-1.3.txt"), text(&mut Dice(10), EACH)).unwrap();
    let ended = world.sync_with("node", &world.address(), &["--seed", seed.to_str().unwrap()]).expect(0);
    world.check_equal("node", "with a seed of links");
    assert_eq!(from_seed(&ended), 0);
}

#[test]
fn a_seed_that_will_not_do_is_refused_before_anything_is_fetched() {
    let world = world(&mut Dice(11));
    let with = |seed: &std::path::Path| world.sync_with("node", &world.address(), &["--seed", seed.to_str().unwrap()]);
    with(&world.place.path().join("nowhere")).expect_failure(11);
    assert!(!world.target("node").exists());
    with(&world.node("node").join(".mirra")).expect_failure(2);
    with(&world.node("node")).expect_failure(2);
    world.sync("node").expect(0);
    with(&world.target("node")).expect_failure(2);
    with(&world.target("node").join("sub")).expect_failure(2);
    let seed = world.tree();
    let daily = ["sync", &world.address(), "pub", "--seed", seed.to_str().unwrap()];
    crate::fixture::mirra(&world.node("node"), &daily).expect(2);
}
