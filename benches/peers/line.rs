//! What joins a source and its follower: two network namespaces with a pair of interfaces that count, or loopback with a
//! relay that does.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Result;
use crate::args::Shape;
use crate::relay::Relay;

/// Ethernet, IPv4, and TCP with time stamps.
const HEADERS: u64 = 66;
/// The interface at either end.
const WIRE: &str = "wire";
/// The port of the source in its own network.
const PORT: u16 = 6007;

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Follower,
}

/// Bytes, to the follower and to the source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) down: u64,
    pub(crate) up: u64,
}

/// A line, and what it is made of; that is removed with it.
pub(crate) struct Line {
    /// Before the spaces, whose networks its threads are in.
    relay: Option<Relay>,
    spaces: Option<Spaces>,
    /// Where the source has to listen.
    pub(crate) listen: SocketAddr,
    /// Where the follower finds it.
    pub(crate) reach: SocketAddr,
    /// What is counted how, for the reader of the tables.
    pub(crate) words: String,
}

impl Line {
    /// A line between two networks, thin if it has a shape; on loopback where that is wished or cannot be helped.
    ///
    /// # Errors
    /// Where not even loopback can be listened on.
    pub(crate) fn new(shape: Option<Shape>, loopback: bool) -> Result<Self> {
        if loopback {
            return Self::on_loopback(shape, "as asked for");
        }
        Self::between_spaces(shape)
            .or_else(|e| Self::on_loopback(shape, &format!("as two network namespaces cannot be made ({e})")))
    }

    fn between_spaces(shape: Option<Shape>) -> Result<Self> {
        let spaces = Spaces::new(shape.is_some())?;
        let listen = SocketAddr::from(([10, 97, 0, 1], PORT));
        let mut words = "Bytes are those of the interface between two network namespaces, with all headers".to_owned();
        let mut line = Self { relay: None, spaces: Some(spaces), listen, reach: listen, words: words.clone() };
        if let Some(shape) = shape {
            let relay = line.within(End::Follower, || Relay::start(listen, Some(shape)))?;
            line.reach = relay.at();
            line.relay = Some(relay);
            words = format!("{words}; {}", thin(shape));
        }
        line.words = format!("{words}.");
        Ok(line)
    }

    fn on_loopback(shape: Option<Shape>, why: &str) -> Result<Self> {
        // The port is free, and nobody else is given it soon.
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let relay = Relay::start(listen, shape)?;
        let mut words = format!("On loopback, {why}: bytes are those of TCP's content, without headers, in a relay");
        if let Some(shape) = shape {
            words = format!("{words}; {}", thin(shape));
        }
        Ok(Self { reach: relay.at(), relay: Some(relay), spaces: None, listen, words: format!("{words}.") })
    }

    /// Does something in the network of one end; what it starts stays there.
    ///
    /// # Errors
    /// Those of `work`, and those of entering the network.
    pub(crate) fn within<T: Send>(&self, end: End, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(spaces) = &self.spaces else { return work() };
        let space = File::open(format!("/run/netns/{}", spaces.name(end)))?;
        thread::scope(|scope| {
            let enter_and_work = || {
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
                work()
            };
            scope.spawn(enter_and_work).join().unwrap_or_else(|_| Err("a thread has failed".into()))
        })
    }

    /// Whether the source listens.
    pub(crate) fn is_open(&self) -> bool {
        self.within(End::Source, || Ok(TcpStream::connect(self.listen)?)).is_ok()
    }

    /// All that has passed so far.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub(crate) fn counted(&self) -> Result<Bytes> {
        match (&self.spaces, &self.relay) {
            (None, Some(relay)) => {
                let (down, up) = relay.counted();
                Ok(Bytes { down, up })
            }
            // Where a relay stands in the follower's network, the segments between the two are counted with the others,
            // and packets are not larger than those of a line.
            (_, relay) => {
                let sent = |end| self.within(end, || sent(relay.is_none()));
                Ok(Bytes { down: sent(End::Source)?, up: sent(End::Follower)? })
            }
        }
    }
}

fn thin(shape: Shape) -> String {
    format!("a relay makes it {shape}, without loss and without the slow start of TCP")
}

/// What the interface in this thread's network has sent. A packet on it may be many `segments` on a line, each with
/// headers of its own.
fn sent(segments: bool) -> Result<u64> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let figures = table.lines().find_map(|line| line.trim().strip_prefix(WIRE)?.strip_prefix(':'));
    let mut figures = figures.unwrap_or_default().split_whitespace().skip(8).map(str::parse::<u64>);
    let (Some(Ok(bytes)), Some(Ok(packets))) = (figures.next(), figures.next()) else {
        return Err("the interface has no counters".into());
    };
    if !segments {
        return Ok(bytes);
    }
    let table = fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Tcp:")).map(str::split_whitespace);
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return Err("TCP has no counters".into()) };
    let all: u64 = names
        .zip(values)
        .filter(|(name, _)| ["OutSegs", "RetransSegs"].contains(name))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum();
    Ok(bytes + all.saturating_sub(packets) * HEADERS)
}

/// Two network namespaces, joined by a pair of interfaces.
struct Spaces {
    names: [String; 2],
}

impl Spaces {
    fn new(whole_packets: bool) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err("this needs root".into());
        }
        let id = std::process::id();
        let spaces = Self { names: [format!("peers-{id}-source"), format!("peers-{id}-follower")] };
        let [source, follower] = &spaces.names;
        for name in &spaces.names {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        ip(&["link", "add", WIRE, "netns", source, "type", "veth", "peer", "name", WIRE, "netns", follower])?;
        for (name, address) in [(source, "10.97.0.1/30"), (follower, "10.97.0.2/30")] {
            if whole_packets {
                ip(&["-n", name, "link", "set", WIRE, "gso_max_segs", "1"])?;
            }
            ip(&["-n", name, "addr", "add", address, "dev", WIRE])?;
            ip(&["-n", name, "link", "set", WIRE, "up"])?;
        }
        Ok(spaces)
    }

    fn name(&self, end: End) -> &str {
        let [source, follower] = &self.names;
        if end == End::Source { source } else { follower }
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in &self.names {
            // Only what was started here can be in a network that was made here.
            let left = ip(&["netns", "pids", name]).unwrap_or_default();
            for pid in left.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// Runs iproute2's tool.
fn ip(args: &[&str]) -> Result<String> {
    let ran = Command::new("ip").args(args).stdin(Stdio::null()).output().map_err(|e| format!("ip: {e}"))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&ran.stderr).trim()).into())
}
