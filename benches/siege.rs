//! The web under siege: what a visitor still gets beside many who mean no good, and what they cost.
//!
//! `cargo bench --bench siege -- EACH ATTEMPTS MIB` (1,000, 10,000 and 100 when left out; TMPDIR says where) measures, beside the
//! same with nobody else there,
//! - a download of MIB beside EACH connections that never end their heads and EACH that hardly read their answers, the time until
//!   the first byte of a small file, and the time until all of them were given up;
//! - with room for 4,096 and for 1,024 descriptors, ATTEMPTS connections at once that say nothing, and how soon after them a
//!   visitor is served.
//!
//! They come from many addresses of the loopback, as one address has few places.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that makes the trees it measures")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(120);
/// Connections from one address: fewer than a mirra takes from one.
const FROM_ONE: usize = 50;
/// How often those who are slow send or take something.
const BEAT: Duration = Duration::from_secs(1);
/// Bytes that a slow reader takes in that time.
const SIP: usize = 100;
/// When all who are slow have got as much as they take at first.
const SETTLED: Duration = Duration::from_secs(3);
/// Downloads, and small requests, that are measured.
const TRIES: usize = 3;
const REQUESTS: usize = 300;

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let number = |at: usize, or: usize| numbers.get(at).copied().unwrap_or(or);
    let (each, attempts, mib) = (number(0, 1_000), number(1, 10_000), number(2, 100));
    let all = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: all, maximum: all })?;
    let place = tempfile::tempdir()?;
    let tree = place.path().join("tree");
    fs::create_dir_all(&tree)?;
    fs::write(tree.join("small"), "small")?;
    let mut large = vec![0; mib << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut large);
    fs::write(tree.join("large"), &large)?;
    let home = place.path().join("home");
    for args in [&["init", "--name", "bench", "--no-web"][..], &["share", &tree.display().to_string(), "--name", "m"]] {
        let done = Command::new(env!("CARGO_BIN_EXE_mirra")).arg("-C").arg(&home).args(args).output()?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
        }
    }
    slow(&home, each, mib)?;
    for descriptors in [4_096, 1_024] {
        many(&home, descriptors, attempts)?;
    }
    Ok(())
}

/// A mirra that answers on the web; ended with this.
struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    /// Runs the one at `home`, with room for so many descriptors.
    fn start(home: &Path, descriptors: u64) -> Result<Self> {
        let free = || -> Result<u16> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
        let (listen, port) = (free()?, free()?);
        let run = "ulimit -n \"$1\" && exec \"$2\" -C \"$3\" run --listen \"$4\" --web-listen \"$5\"";
        let mut command = Command::new("sh");
        command.args(["-c", run, "sh", &descriptors.to_string(), env!("CARGO_BIN_EXE_mirra")]).arg(home);
        command.args([format!("127.0.0.1:{listen}"), format!("127.0.0.1:{port}")]);
        let log = File::create(home.join("log"))?;
        let daemon = Self { child: command.stdout(Stdio::null()).stderr(log).spawn()?, port };
        let end = Instant::now() + PATIENCE;
        while daemon.first_byte("/m/small").is_err() {
            if Instant::now() > end {
                return Err("it does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// MiB of memory that it has, and had at most.
    fn memory(&self) -> Result<[u64; 2]> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_end_matches("kB").trim().parse::<u64>().ok()? / 1_024)
        };
        Ok([field("VmRSS:").ok_or("no VmRSS")?, field("VmHWM:").ok_or("no VmHWM")?])
    }

    fn get(&self, target: &str) -> Result<(f64, f64, usize)> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {target} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let (mut buffer, mut bytes) = (vec![0; 256 * 1024], stream.read(&mut [0; 12])?);
        let first = begun.elapsed().as_secs_f64();
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok((first, begun.elapsed().as_secs_f64(), bytes)),
                read => bytes += read,
            }
        }
    }

    /// Milliseconds until the first byte of `target`.
    fn first_byte(&self, target: &str) -> Result<f64> {
        let (first, _, bytes) = self.get(target)?;
        if bytes < 100 { Err("it is turned away".into()) } else { Ok(first * 1e3) }
    }

    /// Seconds of a download in the median, and milliseconds until the first byte of a small file, of 100 requests the
    /// slowest.
    fn serves(&self, mib: usize) -> Result<(f64, f64)> {
        let download = || -> Result<f64> {
            let (_, seconds, bytes) = self.get("/m/large")?;
            if bytes < mib << 20 { Err("a download was broken off".into()) } else { Ok(seconds) }
        };
        let mut downloads = (0..TRIES).map(|_| download()).collect::<Result<Vec<_>>>()?;
        let mut firsts = (0..REQUESTS).map(|_| self.first_byte("/m/small")).collect::<Result<Vec<_>>>()?;
        downloads.sort_by(f64::total_cmp);
        firsts.sort_by(f64::total_cmp);
        let at = |numbers: &[f64], index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
        Ok((at(&downloads, TRIES / 2), at(&firsts, REQUESTS * 99 / 100)))
    }

    /// The `index`-th connection, from an address that it shares with few.
    fn besiege(&self, index: usize) -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let [.., high, low] = (index / FROM_ONE + 1).to_be_bytes();
        let from = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
        socket.bind(&from.into())?;
        // What it has room for is not what it takes.
        socket.set_recv_buffer_size(4_096)?;
        socket.connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).into(), PATIENCE)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Whether the other end has left it; takes as much of what came as may be.
fn is_left(stream: &mut TcpStream, take: usize) -> bool {
    if !matches!(stream.take_error(), Ok(None)) {
        return true;
    }
    let mut buffer = vec![0; take];
    match stream.read(&mut buffer) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}

/// Whether it was turned away, which is said before it is left.
fn is_turned_away(stream: &mut TcpStream) -> bool {
    is_left(stream, 1_024) || is_left(stream, 1_024)
}

/// Goes on as slowly as before until all were given up; gives the seconds since `begun`.
fn outlast(streams: Vec<TcpStream>, begun: Instant, beat: impl Fn(&mut TcpStream) -> bool) -> Option<f64> {
    let mut streams = streams;
    while !streams.is_empty() {
        if begun.elapsed() > PATIENCE {
            return None;
        }
        let next = Instant::now() + BEAT;
        streams.retain_mut(|stream| !beat(stream));
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Some(begun.elapsed().as_secs_f64())
}

fn slow(home: &Path, each: usize, mib: usize) -> Result<()> {
    let daemon = Daemon::start(home, 16_384)?;
    let (download, first) = daemon.serves(mib)?;
    let [before, _] = daemon.memory()?;
    println!("quiet: {mib} MiB in {download:.3} s, first byte (p99) after {first:.1} ms, {before} MiB of memory");
    let begun = Instant::now();
    let mut heads = (0..each).map(|index| daemon.besiege(index)).collect::<Result<Vec<_>>>()?;
    let mut readers = (each..2 * each).map(|index| daemon.besiege(index)).collect::<Result<Vec<_>>>()?;
    for stream in &mut heads {
        stream.write_all(b"GET /m/small HTTP/1.1\r\nHost: ")?;
    }
    for stream in &mut readers {
        stream.write_all(b"GET /m/large HTTP/1.1\r\nHost: h\r\n\r\n")?;
    }
    let lost = |end: Option<f64>| end.map_or("not at all".to_owned(), |seconds| format!("after {seconds:.0} s"));
    let (served, ends) = std::thread::scope(|scope| {
        let beat = |stream: &mut TcpStream| stream.write(b"x").is_err() || is_left(stream, SIP);
        let heads = scope.spawn(move || outlast(heads, begun, beat));
        let readers = scope.spawn(move || outlast(readers, begun, |stream| is_left(stream, SIP)));
        let at_once = daemon.serves(mib).map_err(|e| e.to_string());
        std::thread::sleep(SETTLED);
        let served = at_once.and_then(|at_once| Ok((at_once, daemon.serves(mib).map_err(|e| e.to_string())?)));
        (served, [heads, readers].map(|thread| thread.join().unwrap_or(None)))
    });
    let ((at_once, _), (download, first)) = served?;
    let [heads, readers] = ends.map(lost);
    let [after, most] = daemon.memory()?;
    println!(
        "beside {each} slow heads and {each} slow readers: {mib} MiB in {download:.3} s, first byte (p99) after {first:.1} ms"
    );
    println!("while those came: {mib} MiB in {at_once:.3} s");
    println!("all heads were given up {heads}, all readers {readers}; {most} MiB of memory at most, {after} then");
    Ok(())
}

fn many(home: &Path, descriptors: u64, attempts: usize) -> Result<()> {
    let daemon = Daemon::start(home, descriptors)?;
    let (mut open, mut failed) = (Vec::new(), 0);
    for index in 0..attempts {
        match daemon.besiege(index) {
            Ok(stream) => open.push(stream),
            Err(_) => failed += 1,
        }
    }
    let kept = open.iter_mut().filter_map(|stream| (!is_turned_away(stream)).then_some(())).count();
    let begun = Instant::now();
    drop(open);
    while daemon.first_byte("/m/small").is_err() {
        if begun.elapsed() > PATIENCE {
            return Err("it does not answer any more".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let [_, most] = daemon.memory()?;
    println!(
        "{attempts} connections at once with {descriptors} descriptors: {kept} kept, {failed} not made; a visitor is served \
         {seconds:.2} s after them, {most} MiB of memory at most"
    );
    Ok(())
}
