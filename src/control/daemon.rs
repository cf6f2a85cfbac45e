//! The process that owns a home until it is told to stop: peers at the port, the operator at the socket.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client;
use super::loopback::Loopback;
use super::server::Server;
use crate::disk::home::{Home, HomeError, Lock};
use crate::mirror::command::Execute;
use crate::mirror::failure::{Exit, Failure};
use crate::mirror::monitor::Stop;
use crate::net::bind;

/// How long a home is waited for that a command has.
const LOCK_TIME: Duration = Duration::from_secs(2);
/// How often it is tried again.
const AGAIN: Duration = Duration::from_millis(25);

/// A home that this process owns, and the port at which others call it.
pub struct Daemon {
    home: Arc<Home>,
    lock: Lock,
    listener: TcpListener,
}

impl Daemon {
    /// Takes `home` and the port, so that all that can fail for the operator's sake has failed or not.
    ///
    /// # Errors
    /// [`Failure`] when another process has the home or the port.
    pub fn claim(home: Arc<Home>, listen: SocketAddr) -> Result<Self, Failure> {
        let lock = take(&home)?;
        let listener = bind(listen).map_err(|e| not_bound(listen, &e))?;
        Ok(Self { home, lock, listener })
    }

    /// Where others call it.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until `stop`: `open` makes what answers peers at the listener and carries out commands; `ready` is called
    /// when both do. Programs of this machine can watch it at `watched`.
    ///
    /// # Errors
    /// [`Failure`] of `open`, or when the socket cannot be made.
    pub fn run<E: Execute + 'static>(
        self,
        stop: &Stop,
        watched: Option<Loopback>,
        open: impl FnOnce(Arc<Home>, TcpListener) -> Result<E, Failure>,
        ready: impl FnOnce(),
    ) -> Result<(), Failure> {
        let execute = Arc::new(open(self.home.clone(), self.listener)?);
        let server = Server::start(&self.home, &self.lock, execute)?;
        let watch = watched.map(|watched| watched.start(server.look())).transpose()?;
        ready();
        stop.wait_on();
        drop((watch, server));
        Ok(())
    }
}

/// Takes the home. A short command may have it at the moment, such as `mirra status`; a daemon keeps it.
fn take(home: &Arc<Home>) -> Result<Lock, Failure> {
    let began = Instant::now();
    loop {
        match home.lock() {
            Ok(lock) => return Ok(lock),
            Err(error @ HomeError::Busy { .. }) if client::answers(home) => {
                let fix = "there is nothing to do: mirra status shows how it is; to start it anew, end it first";
                return Err(Failure::new(Exit::Busy, "mirra runs here already", error.to_string(), fix));
            }
            Err(HomeError::Busy { .. }) if began.elapsed() < LOCK_TIME => std::thread::sleep(AGAIN),
            Err(error) => return Err(error.into()),
        }
    }
}

fn not_bound(address: SocketAddr, error: &io::Error) -> Failure {
    let (why, fix) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "another program has this port".to_owned(),
            "end it, or take another port: mirra run --listen '[::]:PORT', or port = PORT in .mirra/Mirra.toml",
        ),
        io::ErrorKind::PermissionDenied => (
            error.to_string(),
            "take a port above 1023: port = PORT in .mirra/Mirra.toml, or grant the right to bind it",
        ),
        _ => (
            error.to_string(),
            "name an address of this machine: --listen ADDR, or listen = \"ADDR\" in .mirra/Mirra.toml",
        ),
    };
    Failure::new(Exit::Config, format!("cannot listen on {address}"), why, fix)
}
