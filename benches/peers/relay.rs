//! A relay between a follower and its source: it counts what passes, and passes it at the pace of a thin line.
//!
//! The line is modelled by bytes, not by packets: each piece takes the time of its bytes and headers at the line's rate,
//! in turn with all other connections in its direction, and arrives one delay later; a connection takes its round trips
//! to open. Nothing is lost, and TCP does not start slowly.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::args::Shape;

/// Content of a full packet, and the headers on it: Ethernet with its gap, IPv4, TCP with time stamps.
const PACKET: (usize, usize) = (1448, 90);
/// Bytes that are passed at once where the line is not thin.
const PIECE: usize = 64 * 1024;
/// How far the line may be behind until it takes no more: the buffer of a router.
const BEHIND: Duration = Duration::from_millis(100);
/// Pieces on the way in one direction of a connection.
const PIECES: usize = 1024;
/// The socket buffers of the relay where the line is thin, so that the senders feel it soon.
const BUFFER: usize = 64 * 1024;
/// How soon the end is seen.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Takes connections until it is dropped; what is open then ends with its connections.
pub(crate) struct Relay {
    at: SocketAddr,
    up: Arc<Lane>,
    down: Arc<Lane>,
    closed: Arc<AtomicBool>,
}

/// One direction of the line.
struct Lane {
    shape: Option<Shape>,
    /// When the line has sent all that it has taken.
    free: Mutex<Instant>,
    bytes: AtomicU64,
}

impl Relay {
    /// Takes connections on loopback, in the network of this thread, and passes them on to `to`.
    ///
    /// # Errors
    /// Of the listening socket.
    pub(crate) fn start(to: SocketAddr, shape: Option<Shape>) -> Result<Self> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if shape.is_some() {
            listener.set_recv_buffer_size(BUFFER)?;
        }
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        listener.listen(64)?;
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true)?;
        let at = listener.local_addr()?;
        let lane = || Arc::new(Lane { shape, free: Mutex::new(Instant::now()), bytes: AtomicU64::new(0) });
        let (up, down, closed) = (lane(), lane(), Arc::new(AtomicBool::new(false)));
        let relay = Self { at, up: Arc::clone(&up), down: Arc::clone(&down), closed: Arc::clone(&closed) };
        thread::spawn(move || {
            while !closed.load(Relaxed) {
                let _ = poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&GLANCE));
                let Ok((client, _)) = listener.accept() else { continue };
                let (up, down) = (Arc::clone(&up), Arc::clone(&down));
                // What fails ends the connection, as a line does.
                thread::spawn(move || pass(client, to, up, down));
            }
        });
        Ok(relay)
    }

    /// Where it takes connections.
    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }

    /// The bytes of content that went to the follower, and to its source.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.down.bytes.load(Relaxed), self.up.bytes.load(Relaxed))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.closed.store(true, Relaxed);
    }
}

/// Passes one connection on. A caller's connect is answered after two delays, and what it says then arrives after a
/// third, when its source sees it.
fn pass(client: TcpStream, to: SocketAddr, up: Arc<Lane>, down: Arc<Lane>) -> Result<()> {
    let delay = up.shape.map_or(Duration::ZERO, |shape| shape.delay);
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    thread::sleep(2 * delay);
    let asked = take(client.try_clone()?, Arc::clone(&up));
    thread::sleep(delay);
    let server = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if down.shape.is_some() {
        server.set_recv_buffer_size(BUFFER)?;
    }
    server.connect(&to.into())?;
    let server = TcpStream::from(server);
    server.set_nodelay(true)?;
    let answered = take(server.try_clone()?, down);
    let (client_back, server_back) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || give(&asked, &client, server));
    give(&answered, &server_back, client_back);
    Ok(())
}

/// Reads until the end; each piece comes with the time of its arrival.
fn take(mut from: TcpStream, lane: Arc<Lane>) -> Receiver<(Instant, Vec<u8>)> {
    let (tell, pieces) = sync_channel(PIECES);
    let size = if lane.shape.is_some() { PACKET.0 * 2 } else { PIECE };
    thread::spawn(move || {
        let mut buffer = vec![0; size];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let Some(piece) = buffer.get(..len) else { break };
            if tell.send((lane.carry(len), piece.to_vec())).is_err() {
                break;
            }
        }
    });
    pieces
}

/// Writes each piece when it is due. Where that fails, no more is read.
fn give(pieces: &Receiver<(Instant, Vec<u8>)>, from: &TcpStream, mut to: TcpStream) {
    for (due, piece) in pieces {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            let _ = from.shutdown(Shutdown::Read);
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

impl Lane {
    /// Takes `len` bytes, which may have to wait for the line; says when they are there.
    fn carry(&self, len: usize) -> Instant {
        self.bytes.fetch_add(len as u64, Relaxed);
        let now = Instant::now();
        let Some(shape) = self.shape else { return now };
        let bits = (len + len.div_ceil(PACKET.0) * PACKET.1) as f64 * 8.0;
        let sent = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            *free = (*free).max(now) + Duration::from_secs_f64(bits / shape.rate);
            *free
        };
        thread::sleep(sent.saturating_duration_since(now + BEHIND));
        sent + shape.delay
    }
}
