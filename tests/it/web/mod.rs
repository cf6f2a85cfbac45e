//! The web, from a socket: what is asked is written byte by byte, what comes is read as it is.

mod browser;
mod changes;
mod clients;
mod devtools;
mod directories;
mod downloads;
mod heads;
mod nodes;
mod packages;
mod paths;
mod programs;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::fixture::{World, command, free_port, wait_for};

/// Longer than any answer takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A home that runs with its web on loopback; ended when dropped.
pub(super) struct Web {
    port: u16,
    daemon: Child,
}

impl Web {
    /// Runs the home in `home`, for peers at `listen`.
    pub(super) fn start(home: &Path, listen: &str) -> Self {
        let port = free_port();
        let log = File::create(home.join("web.log")).unwrap();
        let web = format!("127.0.0.1:{port}");
        let args = ["run", "--listen", listen, "--web-listen", &web].map(OsStr::new);
        let daemon = command(home, &args).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let mut started = Self { port, daemon };
        wait_for("the web's start", || {
            assert_eq!(started.daemon.try_wait().unwrap(), None, "it ended at once");
            TcpStream::connect(&web).ok()
        });
        started
    }

    /// Where others find `target`.
    pub(super) fn url(&self, target: &str) -> String {
        format!("http://127.0.0.1:{}{target}", self.port)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends `bytes` and gives all that comes until the other end ends the connection.
    pub(super) fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // A head that is refused need not be taken to its end, and the answer may be lost with it.
        let _ = stream.write_all(bytes);
        let mut all = Vec::new();
        if let Err(error) = stream.read_to_end(&mut all) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it does not end");
        }
        all
    }

    /// What comes for `target` with these header lines.
    pub(super) fn get(&self, target: &str, headers: &[&str]) -> Reply {
        self.ask("GET", target, headers)
    }

    pub(super) fn ask(&self, method: &str, target: &str, headers: &[&str]) -> Reply {
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: h.example\r\nConnection: close\r\n{lines}\r\n");
        Reply::read(&self.raw(head.as_bytes())).unwrap_or_else(|| panic!("no answer for {target}"))
    }

    /// A connection on which `target` was asked for, with nothing read of the answer.
    pub(super) fn begin(&self, target: &str) -> TcpStream {
        let mut stream = self.connect();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A root whose module is published by hand, with its web.
pub(super) struct Site {
    pub(super) world: World,
    pub(super) web: Web,
}

impl Site {
    /// Shares what `fill` makes.
    pub(super) fn new(fill: impl FnOnce(&Path)) -> Self {
        let world = World::empty();
        fill(&world.tree());
        world.share().expect(0);
        let web = Web::start(&world.root(), &world.address());
        Self { world, web }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// Reads an answer; `None` if there is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            assert!(value.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line:?}");
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let headers: Vec<(String, String)> = lines.map(header).collect();
        let chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
        let body = &bytes[end + 4..];
        let body = if chunked { unchunked(body)? } else { body.to_vec() };
        Some(Self { status, headers, body })
    }

    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// The content of a chunked body; `None` when it is broken off.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|part| part == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if len == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..len)?);
        rest = rest.get(len + 2..)?;
    }
}
