//! Each thing that can be wrong from outside: its exit code, its three lines, and that nothing is lost by it.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::fixture::{
    Dice, Ended, MODULE, World, chmod, command, copy, each_whole, ended, free_port, mirra, privileged, remove, same,
    walk,
};

/// A user without rights, where the tests have more than that.
const NOBODY: u32 = 65_534;

/// A place where the program runs as a user whom file modes bind.
struct Humble {
    world: World,
    program: PathBuf,
}

impl Humble {
    fn new() -> Self {
        let world = World::empty();
        let place = world.place.path().to_owned();
        chmod(&place, 0o755);
        let program = place.join("program");
        fs::copy(env!("CARGO_BIN_EXE_mirra"), &program).unwrap();
        chmod(&program, 0o755);
        let humble = Self { world, program };
        if privileged() {
            chown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        humble
    }

    /// Gives everything below `path` to the user that the program runs as.
    fn hand_over(&self, path: &Path) {
        if !privileged() {
            return;
        }
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        if fs::symlink_metadata(path).unwrap().is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| self.hand_over(&entry.unwrap().path()));
        }
    }

    fn command(&self, home: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-C").arg(home).args(args).current_dir(self.world.place.path()).stdin(Stdio::null());
        if privileged() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn run(&self, home: &Path, args: &[&str]) -> Ended {
        ended(self.command(home, args))
    }
}

fn files(dir: &Path, count: usize) {
    fs::create_dir_all(dir).unwrap();
    (0..count).for_each(|i| fs::write(dir.join(format!("f{i}")), format!("{i}")).unwrap());
}

#[test]
fn what_is_not_there_or_not_trusted_is_told_apart() {
    let world = World::new(|tree| files(tree, 3));
    let node = world.node("node");
    let address = world.address();
    mirra(&node, &["sync", &address, "other", "--once"]).expect_failure(6);
    mirra(&node, &["sync", &format!("127.0.0.1:{}", free_port()), "third", "--once"]).expect_failure(5);
    let other = World::empty();
    let shown = mirra(&other.root(), &["key", "show"]).expect(0).stdout;
    let key = shown.split_whitespace().nth(1).unwrap();
    mirra(&node, &["sync", &address, MODULE, "--once", "--key", key]).expect_failure(7);
    assert!(!world.target("node").join("f0").exists());

    // A second root with the same name of module, at the address of the first.
    world.sync("true").expect(0);
    let before = walk(&world.target("true"));
    let mut usurper = World::new(|tree| files(tree, 5));
    usurper.sync("own").expect(0);
    let ended = world.sync_with("true", &usurper.address(), &[]).expect_failure(7);
    assert!(ended.stderr.contains("key"), "{ended:?}");
    same(&before, &walk(&world.target("true")), "after another root's offer");
    usurper.kill();
    mirra(&world.node("true"), &["sync", &usurper.address(), MODULE, "--once"]).expect_failure(5);
    world.sync("true").expect(0);
}

#[test]
fn a_port_that_speaks_otherwise_or_not_at_all_is_no_mirra() {
    let world = World::empty();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        let (mut io, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut io, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        drop(io);
        // The next one is kept waiting.
        let (io, _) = listener.accept().unwrap();
        let (last, _) = listener.accept().unwrap();
        (io, last)
    });
    let ended = world.sync_with("node", &address, &[]);
    assert!(matches!(ended.code, Some(5 | 10)), "{ended:?}");
    world.sync_with("node", &address, &["--timeout", "300ms"]).expect_failure(30);
    std::net::TcpStream::connect(&address).unwrap();
    other.join().unwrap();
}

#[test]
fn what_cannot_be_read_on_the_root_keeps_its_old_state_and_is_named() {
    let humble = Humble::new();
    let (world, root) = (&humble.world, humble.world.root());
    let tree = world.tree();
    files(&tree.join("dir"), 3);
    fs::write(tree.join("secret"), "one").unwrap();
    humble.hand_over(&tree);
    humble.hand_over(&root);
    let share = ["share", tree.to_str().unwrap(), "--name", MODULE, "--publish", "manual", "--json"];
    let first = humble.run(&root, &share).expect(0).json();
    chmod(&tree.join("secret"), 0);
    fs::write(tree.join("dir/f0"), "changed").unwrap();
    let second = humble.run(&root, &["publish", MODULE, "--json"]).expect(23).json();
    let second = &second["modules"][0];
    assert_eq!((&first["entries"], &second["changed"]), (&second["entries"], &true.into()), "{second}");
    assert!(second["skipped"][0].as_str().unwrap().contains("secret"), "{second}");

    // A directory that cannot be read stops the publication: its files are not gone.
    chmod(&tree.join("dir"), 0);
    fs::write(tree.join("new"), "new").unwrap();
    let third = humble.run(&root, &["publish", MODULE]);
    third.check_calm();
    assert!(matches!(third.code, Some(11 | 23 | 25)), "{third:?}");
    let status = humble.run(&root, &["status", "--json"]).expect(0).json();
    assert_eq!(status["modules"][0]["sequence"], second["sequence"], "{status}");
    chmod(&tree.join("dir"), 0o755);
    chmod(&tree.join("secret"), 0o644);
    humble.run(&root, &["publish", MODULE]).expect(0);
}

#[test]
fn a_file_that_is_replaced_behind_the_publication_is_not_sent_and_named() {
    let world = World::new(|tree| {
        files(tree, 3);
        fs::write(tree.join("large"), Dice(5).bytes(300_000)).unwrap();
    });
    remove(&world.tree().join("large"));
    mknodat(CWD, world.tree().join("large"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let ended = world.sync("node").expect_failure(23);
    assert!(ended.stderr.contains("large") && ended.stderr.contains("publish"), "{ended:?}");
    assert!(!world.target("node").join("f0").exists(), "a part of a snapshot is shown");
    fs::write(world.tree().join("f1"), "other").unwrap();
    world.publish().expect(23);
    world.sync("node").expect(0);
    assert_eq!(walk(&world.target("node")).len(), 4);
}

#[test]
fn sockets_and_pipes_are_left_out_and_named() {
    let world = World::empty();
    files(&world.tree(), 2);
    mknodat(CWD, world.tree().join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let _socket = UnixListener::bind(world.tree().join("socket")).unwrap();
    let ended = world.share().expect(23);
    let skipped = ended.json()["skipped"].as_array().unwrap().len();
    assert_eq!((skipped, &ended.json()["entries"]), (2, &2.into()));
    let shown = mirra(&world.root(), &["publish", MODULE]).expect(23).stderr;
    assert!(shown.contains("left out: pipe") && shown.contains("left out: socket"), "{shown}");
}

#[test]
fn a_target_that_cannot_be_written_stays_as_it_is() {
    let mut humble = Humble::new();
    files(&humble.world.tree(), 5);
    humble.world.share().expect(0);
    humble.world.start();
    let (node, address) = (humble.world.node("node"), humble.world.address());
    let args = ["sync", &address, MODULE, "--once", "--json"];
    humble.run(&node, &args).expect(0);
    humble.world.check_equal("node", "first");
    let target = humble.world.target("node");
    chmod(&target, 0o555);
    if privileged() {
        // Its owner may change the mode; what belongs to somebody else nobody but they may.
        chown(&target, Some(0), Some(0)).unwrap();
    }
    fs::write(humble.world.tree().join("f1"), "changed").unwrap();
    humble.world.publish().expect(0);
    let before = walk(&target);
    let ended = humble.run(&node, &args);
    ended.check_calm();
    if privileged() {
        let ended = ended.expect_failure(11);
        same(&before, &walk(&target), "read only");
        assert!(ended.stderr.contains("ermission") || ended.stderr.contains("not permitted"), "{ended:?}");
        humble.hand_over(&target);
    }
    chmod(&target, 0o755);
    humble.run(&node, &args).expect(0);
    humble.world.check_equal("node", "writable again");

    let file = humble.world.place.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let args = ["sync", &address, MODULE, "--once", "--into", file.to_str().unwrap()];
    mirra(&humble.world.node("second"), &args).expect_failure(11);
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
}

#[test]
fn a_second_sync_waits_for_the_first_and_then_says_busy() {
    let world = World::empty();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let node = world.node("node");
    mirra(&node, &["init", "--name", "node", "--no-web"]).expect(0);
    let args = ["sync", &address, MODULE, "--once", "--timeout", "60s"].map(OsStr::new);
    let mut first = command(&node, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // It has the home before it dials.
    let (_io, _) = silent.accept().unwrap();
    let second = mirra(&node, &["sync", &address, MODULE, "--once", "--timeout", "300ms"]);
    first.kill().unwrap();
    first.wait().unwrap();
    second.expect_failure(8);
}

#[test]
fn a_root_that_lost_much_is_not_published_until_its_owner_means_it() {
    let world = World::new(|tree| files(&tree.join("many"), 2_200));
    world.sync("node").expect(0);
    let whole = walk(&world.target("node"));
    (0..1_100).for_each(|i| remove(&world.tree().join(format!("many/f{i}"))));
    world.publish().expect_failure(25);
    world.sync("node").expect(0);
    same(&whole, &walk(&world.target("node")), "nothing was published");
    world.publish_allowed().expect(0);
    world.sync("node").expect(0);
    world.check_equal("node", "the owner means it");

    fs::rename(world.tree().join("many"), world.place.path().join("away")).unwrap();
    world.publish().expect_failure(25);
    fs::rename(world.place.path().join("away"), world.tree().join("many")).unwrap();
    fs::rename(world.tree(), world.place.path().join("away")).unwrap();
    world.publish().expect_failure(11);
    fs::rename(world.place.path().join("away"), world.tree()).unwrap();
    world.publish().expect(0);
}

#[test]
fn a_node_that_would_lose_much_waits_for_the_owners_word() {
    let world = World::new(|tree| files(&tree.join("many"), 2_200));
    world.sync("node").expect(0);
    let whole = walk(&world.target("node"));
    // In steps that each are small enough for the root.
    for step in [0..900, 900..1_800] {
        step.for_each(|i| remove(&world.tree().join(format!("many/f{i}"))));
        world.publish().expect(0);
    }
    let said = world.sync("node").expect_failure(25);
    same(&whole, &walk(&world.target("node")), "guarded");
    assert!(said.stderr.contains(&format!("mirra publish {MODULE} --allow-delete")), "{said:?}");
    // What it advises helps.
    world.publish_allowed().expect(0);
    world.sync("node").expect(0);
    world.check_equal("node", "the owner's word");
    let again = world.publish_allowed().expect(0).json();
    assert_eq!(again["modules"][0]["changed"], false, "it was said already");
}

#[test]
fn a_root_restored_from_a_copy_is_a_rollback_until_it_publishes_anew() {
    let mut world = World::new(|tree| files(tree, 3));
    world.kill();
    let saved = world.place.path().join("saved");
    copy(&world.root().join(".mirra"), &saved);
    world.start();
    fs::write(world.tree().join("f1"), "second").unwrap();
    world.publish().expect(0);
    world.sync("node").expect(0);
    let newest = walk(&world.target("node"));

    world.kill();
    remove(&world.root().join(".mirra"));
    copy(&saved, &world.root().join(".mirra"));
    world.start();
    world.sync("node").expect_failure(7);
    same(&newest, &walk(&world.target("node")), "an older head was offered");
    world.publish().expect(0);
    world.sync("node").expect(0);
    world.check_equal("node", "published anew");
}

/// Whether the target holds whole files of either state.
fn check_whole(world: &World, before: &crate::fixture::Tree, what: &str) {
    each_whole(&walk(&world.target("node")), &[before, &walk(&world.tree())], what);
}

/// Runs `script` by the shell with the program's command line as its arguments.
fn shell(script: &str, name: &Path, world: &World) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(name).arg(env!("CARGO_BIN_EXE_mirra")).arg("-C").arg(world.node("node"));
    command.args(["sync", &world.address(), MODULE, "--once", "--json"]).stdin(Stdio::null());
    command
}

#[test]
fn a_disk_that_takes_no_more_leaves_whole_files_and_the_next_run_goes_on() {
    let mut dice = Dice(91);
    let world = World::new(|tree| {
        files(tree, 50);
        fs::write(tree.join("large"), dice.bytes(1_000_000)).unwrap();
    });
    world.sync("node").expect(0);
    let before = walk(&world.target("node"));
    fs::write(world.tree().join("large"), dice.bytes(9_000_000)).unwrap();
    files(&world.tree().join("new"), 50);
    world.publish().expect(0);

    // No file may grow beyond 4 MiB: the index fits, the large file does not.
    let limited = "trap '' XFSZ; ulimit -f 8192; exec \"$@\"";
    let ended_limited = ended(shell(limited, Path::new("sh"), &world));
    ended_limited.check_calm();
    assert!(matches!(ended_limited.code, Some(11 | 13)), "{ended_limited:?}");
    check_whole(&world, &before, "limited");
    world.sync("node").expect(0);
    world.check_equal("node", "after the limit");
}

/// How a child gets its own mounts, which end with it, where the system lets a test have them.
fn way_to_mount(target: &Path) -> Option<&'static [&'static str]> {
    let may_mount = |args: &[&str]| {
        let mut probe = Command::new("unshare");
        probe.args(args).args(["sh", "-c", "mount -t tmpfs none \"$0\""]).arg(target);
        probe.stderr(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let ways: [&[&str]; 2] = [&["-m"], &["-rm"]];
    ways.into_iter().find(|way| may_mount(way))
}

#[test]
fn old_versions_that_are_kept_make_room_for_the_new_one() {
    let world = World::new(|tree| fs::write(tree.join("large"), Dice(93).bytes(3_000_000)).unwrap());
    let target = world.target("node");
    fs::create_dir_all(&target).unwrap();
    let Some(way) = way_to_mount(&target) else { return };
    // One version, one that comes, and one of the past have room, but not two.
    let script = "set -e; mount -t tmpfs -o size=11m none \"$0\"; target=$0; \"$@\"; \
                  for round in 1 2 3 4; do head -c 3000000 /dev/urandom > \"$TREE/large\"; $PUBLISH; \"$@\"; \
                  cmp \"$TREE/large\" \"$target/large\"; done";
    let mut command = Command::new("unshare");
    let inner = shell(script, &target, &world);
    let publish = format!("{} -q -C {} publish", env!("CARGO_BIN_EXE_mirra"), world.root().display());
    command.args(way).arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    command.env("TREE", world.tree()).env("PUBLISH", publish);
    ended(command).expect(0);
}

#[test]
fn a_full_disk_is_said_and_room_lets_the_sync_go_on() {
    let mut dice = Dice(92);
    let world = World::new(|tree| {
        files(tree, 50);
        fs::write(tree.join("large"), dice.bytes(3_000_000)).unwrap();
        fs::write(tree.join("second"), dice.bytes(6_000_000)).unwrap();
    });
    let target = world.target("node");
    fs::create_dir_all(&target).unwrap();
    let Some(way) = way_to_mount(&target) else {
        // The same program, the same data, and a disk that ends as well: that of a file.
        let limited = ended(shell("trap '' XFSZ; ulimit -f 4096; exec \"$@\"", Path::new("sh"), &world));
        assert!(matches!(limited.code, Some(11 | 13)), "{limited:?}");
        check_whole(&world, &walk(&world.tree()), "limited");
        world.sync_with("node", &world.address(), &["--adopt"]).expect(0);
        return world.check_equal("node", "room");
    };
    let script = "set -e; mount -t tmpfs -o size=5m none \"$0\"; code=0; \"$@\" || code=$?; \
                  test $code = 13 || { echo \"code $code\" >&2; exit 90; }; cp -a \"$0\" \"$0.full\"; \
                  mount -o remount,size=64m \"$0\"; \"$@\"; cp -a \"$0\" \"$0.room\"";
    let mut command = Command::new("unshare");
    let inner = shell(script, &target, &world);
    command.args(way).arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    let ended = ended(command).expect(0);
    assert!(ended.stderr.contains("make room"), "{ended:?}");
    let wanted = walk(&world.tree());
    each_whole(&walk(&target.with_extension("full")), &[&wanted], "full");
    same(&wanted, &walk(&target.with_extension("room")), "room");
}

#[test]
fn a_directory_that_was_never_followed_is_not_taken_over_by_an_edited_config() {
    let world = World::new(|tree| files(tree, 3));
    world.sync("node").expect(0);
    let other = world.place.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("precious"), "nowhere else").unwrap();
    let config = world.node("node").join(".mirra/Mirra.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text: String = text.lines().filter(|line| !line.starts_with("into")).map(|line| format!("{line}\n")).collect();
    fs::write(&config, format!("{text}into = \"{}\"\n", other.display())).unwrap();
    world.sync("node").expect_failure(25);
    assert_eq!(fs::read(other.join("precious")).unwrap(), b"nowhere else");
    world.sync_with("node", &world.address(), &["--adopt"]).expect(0);
    let aside = walk(&world.node("node").join(".mirra/adopted"));
    assert!(aside.keys().any(|path| path.ends_with(b"/precious")), "{:?}", aside.keys());
}
