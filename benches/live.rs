//! Figures of a living mirror: a root, a node, and a node behind it, as real daemons on loopback.
//!
//! `cargo bench --bench live -- FILES TRIALS EDITS` (10,000, 100 and 1,000 when left out; TMPDIR says where) measures
//! - the time from a write on the root until the same bytes with the same mtime are visible one and two hops away;
//! - the time from the last of many random edits until all three trees are equal;
//! - what a poll costs when nothing is new, and, where strace is installed, the calls that the root makes on files below
//!   the module for it.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that makes the trees it measures")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MODULE: &str = "m";
/// Files in each directory of the tree.
const FANOUT: u64 = 1_000;
/// From so many files on, nine of ten are empty: what counts is their number.
const MANY: u64 = 500_000;
/// Sizes of the files that are written.
const SIZES: [usize; 3] = [4 * 1024, 64 * 1024, 1024 * 1024];
/// Polls that are counted.
const POLLS: usize = 100;
/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() -> Result<()> {
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let number = |at: usize, or: u64| numbers.get(at).copied().unwrap_or(or);
    let (files, trials, edits) = (number(0, 10_000), number(1, 100), number(2, 1_000));
    let place = tempfile::tempdir()?;
    let tree = place.path().join("tree");
    let mut dice = Dice(7);
    make(&tree, files, &mut dice)?;
    let mut tiers = Tiers::start(place.path(), &tree)?;
    println!("{files} files on three tiers: {:.1} s to share and sync them", tiers.took.as_secs_f64());
    latency(&tree, &tiers.copies, trials, &mut dice)?;
    converge(&tree, &tiers.copies, files, edits, &mut dice)?;
    polls(place.path(), &tree, &mut tiers)?;
    Ok(())
}

/// Numbers from a seed (SplitMix64, by G. Steele, D. Lea and C. Flood, 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len).collect()
    }
}

fn path_of(tree: &Path, file: u64) -> PathBuf {
    tree.join(format!("d{}", file / FANOUT)).join(format!("f{file}"))
}

fn make(tree: &Path, files: u64, dice: &mut Dice) -> Result<()> {
    for file in 0..files {
        if file % FANOUT == 0 {
            fs::create_dir_all(tree.join(format!("d{}", file / FANOUT)))?;
        }
        let len = if files >= MANY && file % 10 != 0 { 0 } else { dice.below(2_000) as usize };
        fs::write(path_of(tree, file), dice.bytes(len))?;
    }
    Ok(())
}

/// Three daemons, which end with this.
struct Tiers {
    daemons: Vec<Child>,
    copies: [PathBuf; 2],
    /// The root's address.
    root: String,
    took: Duration,
}

impl Drop for Tiers {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill().and_then(|()| daemon.wait());
        }
    }
}

fn mirra(home: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_mirra")).arg("-C").arg(home).args(args).output()?;
    if !output.status.success() {
        return Err(format!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn daemon(home: &Path, name: &str) -> Result<(Child, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    mirra(home, &["init", "--name", name, "--port", &port.to_string(), "--no-web"])?;
    let mut run = Command::new(env!("CARGO_BIN_EXE_mirra"));
    run.arg("-C").arg(home).args(["run", "--listen", &address]).stdout(Stdio::null());
    let child = run.stderr(File::create(home.join("log"))?).spawn()?;
    until("a daemon's start", || std::net::TcpStream::connect(&address).ok())?;
    Ok((child, address))
}

fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(value) = done() {
            return Ok(value);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(format!("{what} did not happen").into())
}

impl Tiers {
    fn start(place: &Path, tree: &Path) -> Result<Self> {
        let begun = Instant::now();
        let homes = ["root", "node", "leaf"].map(|name| place.join(name));
        homes.iter().try_for_each(fs::create_dir)?;
        let [root, node, leaf] = &homes;
        let (first, from) = daemon(root, "root")?;
        let mut daemons = vec![first];
        mirra(root, &["share", &tree.to_string_lossy(), "--name", MODULE])?;
        let (second, between) = daemon(node, "node")?;
        daemons.push(second);
        mirra(node, &["sync", &from, MODULE])?;
        let (third, _) = daemon(leaf, "leaf")?;
        daemons.push(third);
        mirra(leaf, &["sync", &between, MODULE])?;
        let copies = [node, leaf].map(|home| home.join(MODULE));
        let probe = tree.join("probe");
        fs::write(&probe, "probe")?;
        until("the first sync", || copies.iter().all(|copy| same(&probe, &copy.join("probe"))).then_some(()))?;
        Ok(Self { daemons, copies, root: from, took: begun.elapsed() })
    }
}

/// Whether both are files with the same bytes and the same mtime.
fn same(a: &Path, b: &Path) -> bool {
    let look = |path: &Path| {
        let meta = fs::metadata(path).ok()?;
        Some(((meta.mtime(), meta.mtime_nsec(), meta.len()), meta.is_file()))
    };
    match (look(a), look(b)) {
        (Some(a_key), Some(b_key)) if a_key == b_key => fs::read(a).ok() == fs::read(b).ok(),
        _ => false,
    }
}

fn latency(tree: &Path, copies: &[PathBuf; 2], trials: u64, dice: &mut Dice) -> Result<()> {
    fs::create_dir(tree.join("live"))?;
    let mut times = [Vec::new(), Vec::new()];
    for trial in 0..trials {
        std::thread::sleep(Duration::from_millis(100 + dice.below(200)));
        let name = format!("live/{trial}");
        let data = dice.bytes(SIZES.get(trial as usize % SIZES.len()).copied().unwrap_or_default());
        let ours = tree.join(&name);
        let mut file = File::create(&ours)?;
        file.write_all(&data)?;
        drop(file);
        let begun = Instant::now();
        for (times, copy) in times.iter_mut().zip(copies) {
            let theirs = copy.join(&name);
            until("a write", || same(&ours, &theirs).then_some(()))?;
            times.push(begun.elapsed());
        }
    }
    for (hops, times) in (1..).zip(&mut times) {
        times.sort();
        let at =
            |q: f64| times.get(((times.len() as f64 * q) as usize).min(times.len() - 1)).map_or(0, Duration::as_millis);
        println!("write to visible, {hops} hop(s): p50 {} ms, p90 {} ms, p99 {} ms", at(0.5), at(0.9), at(0.99));
    }
    Ok(())
}

fn converge(tree: &Path, copies: &[PathBuf; 2], files: u64, edits: u64, dice: &mut Dice) -> Result<()> {
    let begun = Instant::now();
    for edit in 0..edits {
        let path = path_of(tree, dice.below(files));
        match dice.below(4) {
            0 => drop(fs::remove_file(&path)),
            1 => drop(fs::rename(&path, path.with_extension(format!("r{edit}")))),
            2 => fs::write(path.with_extension(format!("n{edit}")), dice.bytes(500))?,
            _ => fs::write(&path, dice.bytes(1_500))?,
        }
    }
    let edited = begun.elapsed();
    let begun = Instant::now();
    let ours = walk(tree)?;
    until("all trees being equal", || {
        copies.iter().all(|copy| walk(copy).is_ok_and(|theirs| theirs == ours)).then_some(())
    })?;
    let seconds = (edited.as_secs_f64(), begun.elapsed().as_secs_f64());
    println!("{edits} random edits in {:.2} s, all three trees equal {:.2} s after the last", seconds.0, seconds.1);
    Ok(())
}

/// What stands at a path: kind and mode, mtime, content.
type Seen = (u32, i64, i64, Vec<u8>);

/// Every path with what it is.
fn walk(top: &Path) -> Result<BTreeMap<PathBuf, Seen>> {
    let (mut found, mut below) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(dir) = below.pop() {
        for entry in fs::read_dir(dir)? {
            let (path, meta) = {
                let entry = entry?;
                (entry.path(), entry.metadata()?)
            };
            let content = if meta.is_file() { fs::read(&path)? } else { Vec::new() };
            found.insert(path.strip_prefix(top)?.to_owned(), (meta.mode(), meta.mtime(), meta.mtime_nsec(), content));
            if meta.is_dir() {
                below.push(path);
            }
        }
    }
    Ok(found)
}

fn polls(place: &Path, tree: &Path, tiers: &mut Tiers) -> Result<()> {
    let home = place.join("poller");
    fs::create_dir(&home)?;
    mirra(&home, &["init", "--name", "poller", "--no-web"])?;
    let sync = ["sync", &tiers.root, MODULE, "--once", "--json"];
    mirra(&home, &sync)?;
    let log = place.join("strace");
    let root = tiers.daemons.first().map_or(0, Child::id).to_string();
    let mut tracer = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=%file,%desc", "-o"])
        .arg(&log)
        .args(["-p", &root])
        .stderr(Stdio::piped())
        .spawn()
        .ok();
    if let Some(said) = tracer.as_mut().and_then(|tracer| tracer.stderr.as_mut()) {
        // It says so when it is attached.
        let _ = said.read(&mut [0; 64])?;
    }
    let mut bytes = Vec::new();
    for _ in 0..POLLS {
        let report: serde_json::Value = serde_json::from_str(&mirra(&home, &sync)?)?;
        bytes.push(["received", "sent"].iter().filter_map(|key| report.get(key)?.as_u64()).sum::<u64>());
    }
    bytes.sort_unstable();
    println!("{POLLS} polls with nothing new: {} bytes each, both ways", bytes.last().unwrap_or(&0));
    if let Some(mut tracer) = tracer {
        Command::new("kill").args(["-INT", &tracer.id().to_string()]).status()?;
        tracer.wait()?;
        let text = fs::read_to_string(&log)?;
        let tree = tree.to_string_lossy();
        let below = text.lines().filter(|line| line.contains(&*tree)).count();
        println!("calls of the root on files below the module meanwhile: {below} (of {} calls)", text.lines().count());
    }
    Ok(())
}
