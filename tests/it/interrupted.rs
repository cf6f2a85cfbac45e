//! Syncs that end in the middle: each path is old or new and whole, and the next run goes on where it stopped.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::fixture::{
    Dice, Gardener, MODULE, World, chmod, command, each_whole, mirra, set_mtime, text, try_walk, walk,
};

/// What a proxy does with the bytes that come from the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// Nothing but to count them.
    Count,
    /// Says so when so many have come, and lets no more through.
    Hold(u64),
    /// Says so when so many have come.
    Tell(u64),
    /// Cuts both directions after so many.
    Cut(u64),
    /// Flips a bit of the byte at this place.
    Flip(u64),
    /// Lets so many bytes through in a millisecond.
    Thin(usize),
}

/// What has happened on the way.
#[derive(Default)]
struct Way {
    /// Bytes from the root.
    count: AtomicU64,
    /// Whether the place was reached, and whether nothing more will be asked.
    reached: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Way {
    fn set(&self, change: impl FnOnce(&mut (bool, bool))) {
        change(&mut self.reached.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until the place is reached, or what runs meanwhile is over; says which.
    fn wait(&self) -> bool {
        self.changed.wait_while(self.reached.lock().unwrap(), |(reached, over)| !*reached && !*over).unwrap().0
    }
}

/// A proxy in front of a root. The places of a trick are those of all its connections in their order.
pub(crate) struct Proxy {
    pub(crate) address: String,
    way: Arc<Way>,
}

impl Proxy {
    pub(crate) fn start(root: &str, trick: Trick) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let way = Arc::new(Way::default());
        let (told, root) = (way.clone(), root.to_owned());
        std::thread::spawn(move || {
            for node in listener.incoming().flatten() {
                let (told, root) = (told.clone(), root.clone());
                std::thread::spawn(move || {
                    let root = TcpStream::connect(root).ok()?;
                    let (from_node, to_root) = (node.try_clone().ok()?, root.try_clone().ok()?);
                    std::thread::spawn(move || pass(from_node, to_root));
                    let ended = relay(&root, &node, trick, &told);
                    for end in [&root, &node] {
                        let _ = end.shutdown(Shutdown::Both);
                    }
                    ended
                });
            }
        });
        Self { address, way }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Moves bytes from the root to the node until either hangs up.
fn relay(mut root: &TcpStream, mut node: &TcpStream, trick: Trick, way: &Way) -> Option<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let got = root.read(&mut buffer).ok().filter(|got| *got > 0)?;
        let before = way.count.fetch_add(got as u64, Ordering::Relaxed);
        let place = |at: u64| at.checked_sub(before).filter(|at| *at < got as u64).map(|at| at as usize);
        match trick {
            Trick::Count => {}
            Trick::Thin(rate) => std::thread::sleep(Duration::from_millis((got / rate) as u64)),
            Trick::Hold(at) | Trick::Cut(at) => {
                if let Some(at) = place(at) {
                    node.write_all(&buffer[..at]).ok()?;
                    way.set(|(reached, _)| *reached = true);
                    if matches!(trick, Trick::Hold(_)) {
                        let over = way.reached.lock().unwrap();
                        drop(way.changed.wait_while(over, |(_, over)| !*over).unwrap());
                    }
                    return Some(());
                }
            }
            Trick::Tell(at) => {
                if place(at).is_some() {
                    way.set(|(reached, _)| *reached = true);
                }
            }
            Trick::Flip(at) => {
                if let Some(at) = place(at) {
                    buffer[at] ^= 0x10;
                    way.set(|(reached, _)| *reached = true);
                }
            }
        }
        node.write_all(&buffer[..got]).ok()?;
    }
}

/// Syncs through a proxy and kills the node where the trick says; gives whether it was killed, and the bytes from the
/// root.
fn sync_and_kill(world: &World, node: &str, trick: Trick) -> (bool, u64) {
    let proxy = Proxy::start(&world.address(), trick);
    let args = ["sync", &proxy.address, MODULE, "--once", "-q"].map(OsStr::new);
    let child = command(&world.node(node), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let child = Mutex::new(child);
    let killed = std::thread::scope(|scope| {
        // Who waits for the place must not wait for ever when the sync is done before.
        scope.spawn(|| {
            let over = || child.lock().unwrap().try_wait().unwrap().map(drop);
            crate::fixture::wait_for("the end of a sync", over);
            proxy.way.set(|(_, over)| *over = true);
        });
        let reached = proxy.way.wait();
        if reached {
            if matches!(trick, Trick::Hold(_)) {
                settle(&world.node(node));
            }
            child.lock().unwrap().kill().unwrap();
        }
        reached
    });
    let status = child.into_inner().unwrap().wait().unwrap();
    assert!(killed || status.success(), "{status}");
    (killed && !status.success(), proxy.way.count.load(Ordering::Relaxed))
}

/// Waits until a node that hears nothing more has put away what it heard.
fn settle(home: &Path) {
    let stage = home.join(".mirra/stage");
    let staged = || -> u64 {
        let files = fs::read_dir(stage.join(MODULE)).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    };
    let (mut last, mut same) = (0, 0);
    crate::fixture::wait_for("the end of what came", || {
        let now = staged();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same > 15).then_some(())
    });
}

fn fill(tree: &Path, dice: &mut Dice, small: usize) {
    for i in 0..small {
        let dir = tree.join(format!("d{}", i % 40));
        fs::create_dir_all(&dir).unwrap();
        let len = dice.below(1_500);
        fs::write(dir.join(format!("f{i}")), text(dice, len)).unwrap();
    }
    for i in 0..4 {
        fs::write(tree.join(format!("big{i}")), dice.bytes(1_500_000)).unwrap();
    }
}

/// Changes a good part of the tree.
fn edit(tree: &Path, dice: &mut Dice) {
    for i in (0..2_000).filter(|_| dice.below(3) == 0).collect::<Vec<_>>() {
        let path = tree.join(format!("d{}/f{i}", i % 40));
        match dice.below(4) {
            0 if path.exists() => fs::remove_file(path).unwrap(),
            _ => fs::write(path, dice.bytes(400)).unwrap(),
        }
    }
    let at = dice.below(4);
    fs::write(tree.join(format!("big{at}")), dice.bytes(1_600_000)).unwrap();
    let _ = fs::rename(tree.join("d1"), tree.join(format!("moved{}", dice.below(1_000))));
    fs::create_dir_all(tree.join("d1")).unwrap();
}

#[test]
fn a_node_that_is_killed_anywhere_shows_whole_files_and_goes_on() {
    let seed = 101;
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let world = World::new(|tree| fill(tree, &mut dice, 2_000));
    let empty = crate::fixture::Tree::new();
    let mut last = empty.clone();
    let mut total = sync_and_kill(&world, "measure", Trick::Count).1;
    let mut kills = 0;
    for round in 0..40 {
        let at = dice.below(total as usize) as u64;
        // Near the end nothing more is needed from the root: the kill then comes while files are put in place.
        let trick = match round % 4 {
            0 => Trick::Hold(at),
            1 => Trick::Tell(at),
            _ => Trick::Tell(total.saturating_sub(1 + dice.below(2_000) as u64)),
        };
        let (killed, bytes) = sync_and_kill(&world, "node", trick);
        let what = format!("seed {seed}, round {round}, {trick:?}, killed: {killed}");
        let target = world.target("node");
        let now = if target.exists() { walk(&target) } else { empty.clone() };
        each_whole(&now, &[&last, &walk(&world.tree())], &what);
        // A removal may come late, a live name may never be absent.
        let wanted = walk(&world.tree());
        for path in last.keys().filter(|path| wanted.contains_key(*path)) {
            assert!(now.contains_key(path), "{what}: {:?} is absent", String::from_utf8_lossy(path));
        }
        kills += u32::from(killed);
        if killed {
            total = total.min(bytes.max(20_000));
        } else {
            world.check_equal("node", &what);
            last = now;
            edit(&world.tree(), &mut dice);
            world.publish_allowed().expect(0);
            total = 2_000_000;
        }
        if kills == 25 {
            break;
        }
    }
    assert!(kills >= 10, "only {kills} kills hit");
    world.sync("node").expect(0);
    world.check_equal("node", "at last");
}

/// What may be on its way when a line breaks: a batch on each stream, which counts when it is whole.
const ON_THE_WAY: u64 = 9_000_000;

/// Enough that what is on its way is the smaller part.
fn fill_much(tree: &Path, dice: &mut Dice) {
    fill(tree, dice, 200);
    (0..90).for_each(|i| fs::write(tree.join(format!("m{i}")), dice.bytes(250_000)).unwrap());
}

#[test]
fn what_has_come_is_not_sent_again() {
    let mut dice = Dice(111);
    let world = World::new(|tree| fill_much(tree, &mut dice));
    let (_, whole) = sync_and_kill(&world, "measure", Trick::Count);
    let (killed, _) = sync_and_kill(&world, "node", Trick::Hold(whole * 8 / 10));
    assert!(killed);
    let (_, rest) = sync_and_kill(&world, "node", Trick::Count);
    world.check_equal("node", "resumed");
    assert!(rest < whole * 2 / 10 + ON_THE_WAY, "{rest} of {whole} bytes after 80 % had come");
}

#[test]
fn a_root_that_dies_in_the_middle_is_a_failure_of_the_network() {
    let mut dice = Dice(121);
    let mut world = World::new(|tree| fill_much(tree, &mut dice));
    let (_, whole) = sync_and_kill(&world, "measure", Trick::Count);
    let proxy = Proxy::start(&world.address(), Trick::Hold(whole * 7 / 10));
    let (node, way) = (world.node("node"), proxy.way);
    let run = std::thread::spawn(move || mirra(&node, &["sync", &proxy.address, MODULE, "--once"]));
    assert!(way.wait());
    world.kill();
    way.set(|(_, over)| *over = true);
    run.join().unwrap().expect_failure(10);
    world.start();
    let (_, rest) = sync_and_kill(&world, "node", Trick::Count);
    world.check_equal("node", "the root is back");
    assert!(rest < whole * 3 / 10 + ON_THE_WAY, "{rest} of {whole} bytes after 70 % had come");
}

#[test]
fn a_line_that_is_cut_or_lies_shows_nothing_wrong() {
    let seed = 131;
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let world = World::new(|tree| fill(tree, &mut dice, 200));
    let (_, whole) = sync_and_kill(&world, "measure", Trick::Count);
    let wanted = walk(&world.tree());
    for round in 0..24 {
        let at = if round < 6 { dice.below(3_000) as u64 } else { dice.below(whole as usize) as u64 };
        let trick = if round % 2 == 0 { Trick::Cut(at) } else { Trick::Flip(at) };
        let name = format!("node{round}");
        let proxy = Proxy::start(&world.address(), trick);
        let ended = world.sync_with(&name, &proxy.address, &[]);
        let what = format!("seed {seed}, round {round}, {trick:?}");
        assert!(matches!(ended.code, Some(5 | 10)), "{what}: {ended:?}");
        ended.check_calm();
        let target = world.target(&name);
        if target.exists() {
            each_whole(&walk(&target), &[&wanted], &what);
        }
        if round % 6 == 0 {
            world.sync(&name).expect(0);
            world.check_equal(&name, &what);
        }
    }
}

#[test]
fn a_first_sync_whose_line_is_cut_ends_however_much_waits() {
    let mut dice = Dice(151);
    // More than is asked for ahead, so that some waits to be asked for.
    let world = World::new(|tree| {
        for i in 0..20_000 {
            let dir = tree.join(format!("d{}", i / 400));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(format!("f{i}")), text(&mut dice, 60)).unwrap();
        }
    });
    let (_, whole) = sync_and_kill(&world, "measure", Trick::Count);
    // Most of them where the tree has come and the first content is asked for.
    for part in (110..150).step_by(4).chain([180]) {
        let proxy = Proxy::start(&world.address(), Trick::Cut(whole * part / 240));
        world.sync_with(&format!("node{part}"), &proxy.address, &[]).expect_failure(10);
    }
    world.sync("node180").expect(0);
    world.check_equal("node180", "in the end");
}

#[test]
fn what_waits_for_its_turn_holds_nothing_up_that_is_on_its_way() {
    let world = World::new(|tree| {
        fs::write(tree.join("a"), Dice(152).bytes(4_000_000)).unwrap();
        // More changes than may wait for that file, by the length of their paths.
        let deep = (0..12).fold(tree.join("b"), |dir, _| dir.join("d".repeat(250)));
        fs::create_dir_all(&deep).unwrap();
        for i in 0..8_000 {
            symlink("nowhere", deep.join(format!("l{i}"))).unwrap();
        }
    });
    let proxy = Proxy::start(&world.address(), Trick::Thin(2_000));
    world.sync_with("node", &proxy.address, &[]).expect(0);
    world.check_equal("node", "all");
}

#[test]
fn a_first_sync_puts_files_in_their_places_while_others_are_on_their_way() {
    const SMALL: usize = 9_000;
    /// So many changes are put in their places at once.
    const SLICE: usize = 4_096;
    let seed = 141;
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let mut contents: Vec<Vec<u8>> = (0..SMALL / 2).map(|_| text(&mut dice, 40)).collect();
    contents[0].clear();
    let world = World::new(|tree| {
        // Each content twice, far from each other, in directories that are closed to their owner and hold others.
        for i in 0..SMALL {
            let dir = tree.join(format!("a/d{}/e", i * 6 / SMALL));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(format!("f{i}")), &contents[i % (SMALL / 2)]).unwrap();
        }
        fs::create_dir(tree.join("a/d0/empty")).unwrap();
        symlink("e/f1", tree.join("a/d0/link")).unwrap();
        // More than will have come when it is all over.
        fs::write(tree.join("z"), dice.bytes(40_000_000)).unwrap();
        for dir in ["a/d0/e", "a/d3", "a"] {
            set_mtime(&tree.join(dir), 1_000_000_000, 7);
            chmod(&tree.join(dir), 0o555);
        }
    });
    sync_and_kill(&world, "measure", Trick::Count);
    world.check_equal("measure", "without a break");
    let proxy = Proxy::start(&world.address(), Trick::Thin(1_000));
    let args = ["sync", &proxy.address, MODULE, "--once", "-q"].map(OsStr::new);
    let mut child = command(&world.node("node"), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let early = crate::fixture::wait_for("files in their places", || {
        let now = try_walk(&world.target("node")).ok()?;
        (now.len() > SLICE).then_some(now)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    each_whole(&early, &[&walk(&world.tree())], "on the way");
    assert!(!early.contains_key(&b"z"[..]));
    // What was put there is mirra's own, and goes when the next snapshot has it no more.
    for dir in ["a/d0", "a/d1", "a/d4"] {
        chmod(&world.tree().join("a"), 0o755);
        crate::fixture::remove(&world.tree().join(dir));
    }
    world.publish_allowed().expect(0);
    let ended = world.sync("node").expect(0);
    world.check_equal("node", "resumed");
    assert_eq!(ended.json()["put_aside"], 0, "{ended:?}");
}

#[test]
fn first_syncs_that_are_killed_anywhere_leave_whole_files_and_go_on() {
    let seed = 161;
    eprintln!("seed {seed}");
    let mut gardener = Gardener::new(seed);
    let world = World::new(|tree| {
        gardener.plant(tree, 300);
        // Enough that slices of it are put in their places while others come, many of them in directories as they are.
        for (at, dir) in gardener.dirs(tree).iter().cycle().take(9_000).enumerate() {
            let len = gardener.dice.below(200);
            fs::write(dir.join(format!("s{at}")), gardener.dice.bytes(len)).unwrap();
        }
    });
    let mut states = vec![walk(&world.tree())];
    let mut hits = 0;
    for round in 0..4 {
        let node = format!("node{round}");
        for _ in 0..=gardener.dice.below(3) {
            let from = gardener.dice.below(states[0].len());
            hits += u32::from(sync_and_kill_from(&world, &node, from));
            let now = try_walk(&world.target(&node)).unwrap_or_default();
            let what = format!("seed {seed}, {node}, killed from {from} entries on, {} stood", now.len());
            each_whole(&now, &states.iter().collect::<Vec<_>>(), &what);
            if gardener.dice.below(3) == 0 {
                gardener.tend(&world.tree(), 20);
                world.publish_allowed().expect(0);
                states.push(walk(&world.tree()));
            }
        }
        let ended = world.sync(&node).expect(0);
        world.check_equal(&node, "in the end");
        assert_eq!(ended.json()["put_aside"], 0, "{node}: {ended:?}");
    }
    assert!(hits > 2, "{hits} kills came while files were put in their places");
}

/// Syncs, and kills the node when so many entries stand in their places, and not yet all; gives whether that was hit.
fn sync_and_kill_from(world: &World, node: &str, from: usize) -> bool {
    let address = world.address();
    let args = ["sync", &address, MODULE, "--once", "-q"].map(OsStr::new);
    let mut child = command(&world.node(node), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ended = crate::fixture::wait_for("entries in their places", || {
        let ended = child.try_wait().unwrap();
        (ended.is_some() || entries_below(&world.target(node)) > from).then_some(ended)
    });
    if let Some(status) = ended {
        assert!(status.success(), "{status}");
        return false;
    }
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

/// How many there are, while they change.
fn entries_below(dir: &Path) -> usize {
    let count = |entry: fs::DirEntry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        1 + if is_dir { entries_below(&entry.path()) } else { 0 }
    };
    fs::read_dir(dir).into_iter().flatten().flatten().map(count).sum()
}
