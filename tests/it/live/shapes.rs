//! Many modules, many roots, and news that goes in a circle.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Mirra, Place, soon};
use crate::fixture::{MODULE, walk};

/// Established TCP connections that a process has to `address`.
fn connections(daemon: &Mirra, address: &str) -> usize {
    let pid = daemon.pid().as_raw_nonzero();
    let inodes: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let SocketAddr::V4(address) = address.parse().unwrap() else { panic!("no IPv4 address: {address}") };
    let remote = format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port());
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2] == remote && row[3] == "01" && inodes.contains(row[9])).count()
}

/// What a process has used of processors, in ticks of a hundredth of a second.
fn ticks(daemon: &Mirra) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid().as_raw_nonzero())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn one_daemon_is_root_and_node_of_many_over_one_connection_each() {
    let place = Place::new();
    let tree = |name: &str| {
        let dir = place.dir(name);
        fs::write(dir.join("file"), name).unwrap();
        dir
    };
    let daemons = ["one", "two", "both", "leaf"].map(|name| place.daemon(name));
    let [one, two, both, leaf] = &daemons;
    let shared = [(one, "a"), (one, "b"), (two, "c"), (two, "d"), (both, "e"), (both, "f")];
    let trees = shared.map(|(daemon, name)| {
        let dir = tree(&format!("tree-{name}"));
        daemon.share(&dir, name, "live");
        (name, dir)
    });
    for (upstream, name) in &shared[..4] {
        both.follow(&upstream.address, name);
    }
    for (name, dir) in &trees[..4] {
        both.converges(dir, name, name);
    }
    for (name, _) in &trees {
        leaf.follow(&both.address, name);
    }
    for (name, dir) in &trees {
        leaf.converges(dir, name, name);
    }
    assert_eq!([one, two].map(|upstream| connections(both, &upstream.address)), [1, 1]);
    assert_eq!(connections(leaf, &both.address), 1);
    // All of them at once, and each still alone.
    for round in 0..3 {
        for (name, dir) in &trees {
            fs::write(dir.join("file"), format!("{name} {round}")).unwrap();
            fs::write(dir.join(format!("new{round}")), vec![round; 10_000]).unwrap();
        }
    }
    for (name, dir) in &trees {
        leaf.converges(dir, name, name);
    }
    assert_eq!(connections(leaf, &both.address), 1);
    for daemon in &daemons {
        assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
    }
}

#[test]
fn who_follows_in_a_loop_is_told_and_nothing_spins() {
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| fs::write(tree.join("file"), "content").unwrap());
    let one = place.node("one", &root.address);
    let other = place.node("other", &one.address);
    let below = place.node("below", &other.address);
    below.converges(&tree, MODULE, "below");
    // One turns its back on the root.
    let config = one.home.join(".mirra/Mirra.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(&root.address), "{text}");
    fs::write(&config, text.replace(&root.address, &other.address)).unwrap();
    let looped = |daemon: &Mirra| Some(daemon.status(MODULE)).filter(|status| status["activity"] == "loop");
    let status = soon("the loop is noticed", || looped(&one).or_else(|| looped(&other)));
    assert_eq!(status["state"], "followed in a loop");
    for part in ["what", "why", "fix"] {
        assert!(!status["error"]["failure"][part].as_str().unwrap().is_empty(), "{status}");
    }
    let before = [&one, &other, &below].map(ticks);
    std::thread::sleep(Duration::from_secs(2));
    let used: Vec<u64> = [&one, &other, &below].map(ticks).iter().zip(before).map(|(now, then)| now - then).collect();
    assert!(used.iter().all(|used| *used < 60), "hundredths of a second of processors: {used:?}");
    assert_eq!(walk(&tree), walk(&below.target(MODULE)));
    // It ends as it began.
    fs::write(&config, &text).unwrap();
    fs::write(tree.join("file"), "changed").unwrap();
    for daemon in [&one, &other, &below] {
        daemon.converges(&tree, MODULE, "the loop is undone");
    }
}
