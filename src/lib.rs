//! mirra mirrors public file trees: a root publishes signed snapshots, nodes follow it and serve it on, and whoever takes
//! one has the whole verified tree or the old one, over an encrypted channel, with few bytes.
//!
//! ```text
//!  bin/mirra/   the program: arguments, output, exit codes; a user of the names below and nothing more
//!  web/         the pages that visitors see  |  control/  the daemon and its local interface
//!  mirror/      the operations: root, node, serve; config, keys, reports
//!  disk/        the filesystem and the index, blocking  |  net/   sockets and the channel, on tokio
//!  protocol/    what peers say and when: Noise, records, streams, messages, both sides of a transfer   (pure)
//!  delta/       how one state of a file becomes another: blocks, the rolling hash, the search          (pure)
//!  tree/        what is mirrored: hashes, names, chunks, entries, pages, signed heads                  (pure)
//! ```
//!
//! A room imports only rooms below it; `disk` and `net` do not know each other. Pure means: no async, no clock, no
//! randomness, no files, no sockets; time and random bytes are arguments. A test keeps the map true.
//!
//! Three types to know: an [`Entry`](tree::entry::Entry) is one file, directory or link, and the hash over all of them is a
//! snapshot; a [`Head`](tree::signed::Head) is the root's signed word for it; a
//! [`Message`](protocol::message::Message) is what peers say about it. PROTOCOL.md is normative for all three.
//!
//! The program uses what is named here: [`init()`] makes a home, [`perform()`] carries out a [`command`] and gives a
//! [`report`], [`run`] is the daemon, [`list`] and [`look`] ask another mirra, and a [`Failure`] says in three lines what did not work.
//!
//! Not here: two-way synchronisation, discovery of peers, knowledge of what the files are. The library prints nothing
//! and asks nothing.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read the trees that they judge by"))]

pub mod control;
pub mod delta;
pub mod disk;
pub mod mirror;
pub mod net;
pub mod protocol;
pub mod tree;
pub mod web;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use control::daemon::Daemon;
pub use mirror::config::{Config, METRICS_PORT, Server, WEB_PORT, parse_listen};
pub use mirror::failure::{Exit, Failure};
pub use mirror::filter::rules_of_text;
pub use mirror::gate::{Gate, Span};
pub use mirror::init::{PublicKeys, init, is_ready, show_keys};
pub use mirror::listing::list;
pub use mirror::look::{Place, look};
pub use mirror::monitor::{Monitor, Phase, Stop};
pub use mirror::pace::Pace;
pub use mirror::register::check_apart;
pub use mirror::{command, report, words};
pub use tree::address::{Address, DEFAULT_PORT, Host};
pub use tree::hash::authority_from_text;
pub use web::Opened;

/// Carries out `command` for the home in `base`: through its daemon if one runs, else in this process, once the home is
/// free, for which it waits `wait` at most.
///
/// # Errors
/// [`Failure`].
pub fn perform(
    base: &Path,
    command: &command::Command,
    wait: Duration,
    monitor: &dyn Monitor,
) -> Result<report::Report, Failure> {
    let home = Arc::new(disk::home::Home::open(base)?);
    control::perform::perform(&home, command, wait, monitor, mirror::executor::Executor::open)
}

/// Where a daemon is to listen, when that is not as its config says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listen {
    /// For peers.
    pub peers: Option<SocketAddr>,
    /// For visitors of the web.
    pub web: Option<SocketAddr>,
    /// For programs of this machine that watch it.
    pub metrics: Option<SocketAddr>,
}

/// What a daemon is when it has started.
#[derive(Debug)]
pub struct Started<'a> {
    /// Its settings.
    pub config: &'a Config,
    /// Where peers call it.
    pub address: SocketAddr,
    /// Where its web is.
    pub web: Opened,
    /// Where its metrics are, beside the control socket.
    pub metrics: Option<SocketAddr>,
}

/// Runs the home in `base` until `stop`: serves, follows, publishes and answers commands. `started` hears once where it
/// listens and what it is called.
///
/// # Errors
/// [`Failure`], most often because another process has the home or the port. That the web has none is not one.
pub fn run(base: &Path, listen: Listen, stop: &Stop, started: impl FnOnce(&Started<'_>)) -> Result<(), Failure> {
    let home = Arc::new(disk::home::Home::open(base)?);
    let file = mirror::config_file::ConfigFile::load(&home)?;
    let (config, opened) = (file.config(), Cell::new(Opened::Off));
    let address = listen.peers.unwrap_or(config.server.listen_address());
    let watched = listen.metrics.or(config.server.metrics_listen).map(control::loopback::Loopback::bind).transpose()?;
    let metrics = watched.as_ref().and_then(control::loopback::Loopback::address);
    let daemon = Daemon::claim(home, address)?;
    let address = daemon.address().unwrap_or(address);
    let open = |home, listener| {
        let executor = mirror::executor::Executor::serve(home, listener)?;
        opened.set(web::open(executor.front(address.port()), &config.server, listen.web));
        Ok(executor)
    };
    daemon.run(stop, watched, open, || {
        started(&Started { config, address, web: opened.replace(Opened::Off), metrics });
    })
}
