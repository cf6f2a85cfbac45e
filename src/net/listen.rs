//! Accepting connections, within bounds, whatever happens to any one of them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::channel::{Channel, accept};
use super::gate::{Gate, Origin};
use super::handshake::Params;

/// Pause after a failed accept: most often the process is out of descriptors, and trying again
/// at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket that turns connections into channels.
pub struct Listener {
    socket: TcpListener,
    gate: Arc<Mutex<Gate>>,
    born: Instant,
}

impl Listener {
    /// Binds an address.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::from_socket(TcpListener::bind(address).await?))
    }

    /// Takes a socket that listens already.
    pub fn from_socket(socket: TcpListener) -> Self {
        Self { socket, gate: Arc::default(), born: Instant::now() }
    }

    /// The address that is bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts for ever; each connection whose handshake succeeds is given to `serve`, in a task
    /// of its own. A connection counts until its `serve` returns. Dropping the future stops
    /// accepting and leaves the connections that exist.
    pub async fn run<F, S>(&self, params: Params, serve: F)
    where
        F: Fn(Channel, SocketAddr) -> S + Clone + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        loop {
            let (io, address) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.admit(address) {
                Ok(place) => {
                    tokio::spawn(welcome(io, address, place, params.clone(), serve.clone()));
                }
                Err(refusal) => tracing::debug!(%address, %refusal, "connection refused"),
            }
        }
    }

    fn admit(&self, address: SocketAddr) -> Result<Place, super::gate::Refusal> {
        let now_ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let origin = Origin::of(address.ip());
        lock(&self.gate).admit(origin, now_ms)?;
        Ok(Place { gate: Arc::clone(&self.gate), origin, shaking: true })
    }
}

/// One connection from its handshake to its end. Its place is given back even by a panic, which
/// ends this task and no other.
async fn welcome<F, S>(io: TcpStream, address: SocketAddr, mut place: Place, params: Params, serve: F)
where
    F: Fn(Channel, SocketAddr) -> S,
    S: Future<Output = ()>,
{
    match accept(io, &params).await {
        Ok(channel) => {
            place.handshake_done();
            serve(channel, address).await;
        }
        Err(error) => tracing::debug!(%address, %error, "handshake failed"),
    }
}

/// A connection's place in the counts.
struct Place {
    gate: Arc<Mutex<Gate>>,
    origin: Origin,
    shaking: bool,
}

impl Place {
    fn handshake_done(&mut self) {
        if std::mem::replace(&mut self.shaking, false) {
            lock(&self.gate).handshake_done(self.origin);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshake_done();
        lock(&self.gate).closed(self.origin);
    }
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}
