//! Figures of the web: downloads beside nginx, and how soon a large directory begins to come.
//!
//! `cargo bench --bench web -- MIB REPS ENTRIES` (512, 7 and 100,000 when left out; TMPDIR says where) measures
//! - a download from mirra and one of the same file from nginx, in turn, over loopback and over a loopback of its own that
//!   carries 1 Gbit/s: the median of the ratios (nginx is left out where it is not installed, the thin line where no
//!   namespace can be made);
//! - the time until the first byte of the first, a middle and the last page of a directory with ENTRIES files.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that makes the trees it measures")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(900);
/// Says that the loopback is that of a namespace, and shaped.
const SHAPED: &str = "--shaped";
/// A namespace whose loopback carries 1 Gbit/s, for the program in `$0`.
const SHAPE: &str = "ip link set lo mtu 1500 up && tc qdisc add dev lo root tbf rate 1gbit burst 256kb latency 50ms && \
                     exec \"$0\" \"$@\"";
/// Entries on a page of a directory.
const PAGE: u64 = 1_000;
/// Times that the first byte is waited for.
const TRIES: usize = 5;

fn main() -> Result<()> {
    let shaped = std::env::args().any(|arg| arg == SHAPED);
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let number = |at: usize, or: u64| numbers.get(at).copied().unwrap_or(or);
    let (mib, reps, entries) = (number(0, 512), number(1, 7), number(2, 100_000));
    let place = tempfile::tempdir()?;
    downloads(place.path(), mib, reps, if shaped { "1 Gbit/s" } else { "loopback" })?;
    if shaped {
        return Ok(());
    }
    let again = ["-n", "sh", "-c", SHAPE].map(String::from);
    let own = std::env::current_exe()?.display().to_string();
    let numbers = [(mib / 4).max(1).to_string(), reps.to_string(), entries.to_string()];
    let run = Command::new("unshare").args(again).arg(own).args(numbers).arg(SHAPED).status();
    if !run.is_ok_and(|status| status.success()) {
        println!("no namespace of its own: 1 Gbit/s was not measured");
    }
    directory(place.path(), entries)
}

/// Something that runs, and ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn mirra(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirra"));
    command.arg("-C").arg(home).args(args).stdout(Stdio::null()).stdin(Stdio::null());
    command
}

/// Shares `tree` from `home` and gives the port of its web.
fn share(home: &Path, tree: &Path) -> Result<(Running, u16)> {
    let ports = [free_port()?, free_port()?];
    let [listen, web] = ports.map(|port| format!("127.0.0.1:{port}"));
    let tree = tree.display().to_string();
    for args in [&["init", "--name", "bench", "--no-web"][..], &["share", &tree, "--name", "m", "--publish", "manual"]]
    {
        let output = mirra(home, args).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
    }
    let log = File::create(home.join("log"))?;
    let child = mirra(home, &["run", "--listen", &listen, "--web-listen", &web]).stderr(log).spawn()?;
    let running = Running(child);
    answers(&web)?;
    Ok((running, ports[1]))
}

fn answers(address: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        if Instant::now() > end {
            return Err(format!("nothing answers at {address}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// nginx with its own settings, if it is installed.
fn nginx(place: &Path, tree: &Path) -> Result<Option<(Running, u16)>> {
    let port = free_port()?;
    let place = place.join("nginx");
    fs::create_dir_all(&place)?;
    let (here, tree) = (place.display(), tree.display());
    let config = format!(
        "daemon off; worker_processes 1; pid {here}/pid; error_log {here}/error;\nevents {{}}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {here}/a; proxy_temp_path {here}/b; \
         fastcgi_temp_path {here}/c; uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;\n\
         server {{ listen 127.0.0.1:{port}; location /m/ {{ alias {tree}/; }} }} }}\n"
    );
    let file = place.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new("nginx");
    // A superuser's nginx gives its work to somebody who may not look here.
    let user = format!("user {};", if rustix::process::geteuid().is_root() { "root" } else { "nobody" });
    command.arg("-c").arg(&file).args(["-g", &user]).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(child) = command.spawn() else { return Ok(None) };
    let running = Running(child);
    answers(&format!("127.0.0.1:{port}"))?;
    Ok(Some((running, port)))
}

/// Seconds until the first byte of the content of `target` and until the last, and how many bytes came with the head.
fn get(port: u16, target: &str) -> Result<(f64, f64, u64)> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let (mut buffer, mut first, mut bytes) = (vec![0; 256 * 1024], None, 0);
    loop {
        let read = stream.read(&mut buffer)?;
        let since = begun.elapsed().as_secs_f64();
        if read == 0 {
            return Ok((first.ok_or("nothing came")?, since, bytes));
        }
        if first.replace(first.unwrap_or(since)).is_none() && !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(format!("{target}: {}", String::from_utf8_lossy(buffer.get(..60).unwrap_or_default())).into());
        }
        bytes += read as u64;
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

fn downloads(place: &Path, mib: u64, reps: u64, line: &str) -> Result<()> {
    let tree = place.join("files");
    fs::create_dir_all(&tree)?;
    let mut content = vec![0; 1 << 20];
    let (mut hash, mut file) = (blake3::Hasher::new().finalize_xof(), File::create(tree.join("large.bin"))?);
    for _ in 0..mib {
        hash.fill(&mut content);
        file.write_all(&content)?;
    }
    let (_mirra, port) = share(&place.join("files-home"), &tree)?;
    let peer = nginx(place, &tree)?;
    let size = mib << 20;
    let speed = |port| -> Result<f64> {
        let (_, seconds, bytes) = get(port, "/m/large.bin")?;
        if bytes < size { Err("it was broken off".into()) } else { Ok(size as f64 / seconds / 1e6) }
    };
    let (mut own, mut others, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..reps {
        own.push(speed(port)?);
        if let Some((_, port)) = &peer {
            others.push(speed(*port)?);
            ratios.extend(own.last().zip(others.last()).map(|(own, other)| own / other));
        }
    }
    let own = median(own);
    match peer {
        Some(_) => println!(
            "{line}, {mib} MiB, median of {reps}: mirra {own:.0} MB/s, nginx {:.0} MB/s, ratio {:.2}",
            median(others),
            median(ratios)
        ),
        None => println!("{line}, {mib} MiB, median of {reps}: mirra {own:.0} MB/s; nginx is not installed"),
    }
    Ok(())
}

fn directory(place: &Path, entries: u64) -> Result<()> {
    let tree: PathBuf = place.join("entries");
    fs::create_dir_all(tree.join("d"))?;
    for entry in 0..entries {
        fs::write(tree.join(format!("d/file-{entry:07}")), "")?;
    }
    let (_mirra, port) = share(&place.join("entries-home"), &tree)?;
    for page in [1, entries.div_ceil(PAGE).div_ceil(2), entries.div_ceil(PAGE)] {
        let target = format!("/m/d/?page={page}");
        let first: Result<Vec<f64>> = (0..TRIES).map(|_| Ok(get(port, &target)?.0 * 1e3)).collect();
        println!("{entries} entries, page {page}: first byte after {:.1} ms, median of {TRIES}", median(first?));
    }
    Ok(())
}
