//! A connection to a peer, as the application holds it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::driver;
use super::error::ChannelError;
use super::handshake::{self, Established, Params, Peer};
use super::stream::{Inbox, Message, Stream};
use crate::protocol::connection::{Connection, Priority, Role, StreamId};
use crate::protocol::error::close;
use crate::protocol::hello::Agreed;
use crate::protocol::limits::{CONTROL_QUEUE_MARK, HANDSHAKE_MS_MAX, MESSAGE_HEADER_LEN};
use crate::protocol::record::CONTROL_STREAM;

/// Bytes that may wait unsent in the kernel: few, so that control is not stuck behind bulk.
const UNSENT_IN_KERNEL: u32 = 256 * 1024;

/// A connection to a peer. Clones share it; it closes in order when the last clone and the last
/// stream are gone.
#[derive(Clone)]
pub struct Channel {
    handle: Arc<Handle>,
}

/// A [`Channel`] that may be gone.
pub struct WeakChannel {
    handle: Weak<Handle>,
}

impl WeakChannel {
    /// The channel, if anybody still holds it and it is not over.
    pub fn upgrade(&self) -> Option<Channel> {
        self.handle.upgrade().map(|handle| Channel { handle }).filter(|channel| !channel.is_over())
    }
}

/// Dials a peer and makes the handshake, all before `deadline` has passed.
pub async fn connect(address: SocketAddr, params: &Params, deadline: Duration) -> Result<Channel, ChannelError> {
    let until = Instant::now() + deadline;
    let connected = timeout_at(until, TcpStream::connect(address)).await;
    let mut io = connected
        .map_err(|_| ChannelError::handshake_timeout())?
        .map_err(|source| ChannelError::Connect { address, source: Arc::new(source) })?;
    tune(&io);
    let established = timeout_at(until, handshake::initiate(&mut io, params))
        .await
        .map_err(|_| ChannelError::handshake_timeout())??;
    Ok(start(io, Role::Initiator, established, params))
}

/// Makes the answering side of the handshake on an accepted socket, within the time that the
/// protocol allows.
pub async fn accept(mut io: TcpStream, params: &Params) -> Result<Channel, ChannelError> {
    let until = Instant::now() + Duration::from_millis(HANDSHAKE_MS_MAX);
    tune(&io);
    let established = timeout_at(until, handshake::respond(&mut io, params))
        .await
        .map_err(|_| ChannelError::handshake_timeout())??;
    Ok(start(io, Role::Responder, established, params))
}

/// Sets what makes a socket quick; a system that refuses is only slower.
fn tune(io: &TcpStream) {
    let socket = socket2::SockRef::from(io);
    let results = [socket.set_tcp_nodelay(true), socket.set_tcp_notsent_lowat(UNSENT_IN_KERNEL)];
    for error in results.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "socket option not set");
    }
}

fn start(io: TcpStream, role: Role, established: Established, params: &Params) -> Channel {
    let Established { transport, peer, sent, received } = established;
    let connection = Connection::new(role, transport.sealer, transport.opener, params.max_body, 0);
    let shared = Arc::new(Shared {
        inner: Mutex::new(Inner::new(connection)),
        driver: Notify::new(),
        accepting: Notify::new(),
        control: Notify::new(),
        slots: Notify::new(),
        ended: Notify::new(),
        sent: AtomicU64::new(sent),
        received: AtomicU64::new(received),
        facts: Facts {
            agreed: params.hello.agree(&peer.hello),
            peer,
            address: io.peer_addr().ok(),
            handshake_hash: transport.handshake_hash,
            handshake_bytes: (sent, received),
        },
    });
    tokio::spawn(driver::drive(Arc::clone(&shared), io));
    Channel { handle: Arc::new(Handle(shared)) }
}

impl Channel {
    /// A new stream; it begins on the wire with the first message sent on it.
    pub fn open(&self, priority: Priority) -> Stream {
        Stream::new(Arc::clone(&self.handle), priority)
    }

    /// Waits for the next stream the peer opens; `None` when the connection is over.
    pub async fn accept_stream(&self) -> Option<Stream> {
        let shared = &self.handle.0;
        loop {
            let notified = shared.accepting.notified();
            {
                let mut inner = shared.lock();
                if let Some(id) = inner.accepted.pop_front() {
                    let waiters = inner.inboxes.get(&id).map(Inbox::waiters).unwrap_or_default();
                    return Some(Stream::accepted(Arc::clone(&self.handle), id, waiters));
                }
                if inner.end.is_some() {
                    return None;
                }
            }
            notified.await;
        }
    }

    /// Waits for the next control message.
    pub async fn recv_control(&self) -> Result<Message, ChannelError> {
        let shared = &self.handle.0;
        loop {
            let notified = shared.control.notified();
            {
                let mut inner = shared.lock();
                if let Some(message) = inner.control.pop_front() {
                    inner.connection.release(CONTROL_STREAM, message.body.len());
                    shared.nudge(&inner);
                    return Ok(message);
                }
                if let Some(end) = &inner.end {
                    return Err(end.clone());
                }
            }
            notified.await;
        }
    }

    /// Queues a control message; waits while too many are queued.
    pub async fn send_control(&self, tag: u8, body: Vec<u8>) -> Result<(), ChannelError> {
        let shared = &self.handle.0;
        loop {
            let notified = shared.slots.notified();
            {
                let mut inner = shared.lock();
                if let Some(end) = &inner.end {
                    return Err(end.clone());
                }
                let queued = inner.connection.pending(CONTROL_STREAM);
                if queued + MESSAGE_HEADER_LEN + body.len() <= CONTROL_QUEUE_MARK {
                    inner.connection.send(CONTROL_STREAM, tag, body)?;
                    shared.nudge(&inner);
                    return Ok(());
                }
            }
            notified.await;
        }
    }

    /// Closes the connection, with a reason from [`close`]. Stream data that waits is dropped.
    pub fn close(&self, code: u16) {
        let mut inner = self.handle.0.lock();
        inner.connection.close(code);
        self.handle.0.nudge(&inner);
    }

    /// Whether the connection is over.
    pub fn is_over(&self) -> bool {
        self.handle.0.lock().end.is_some()
    }

    /// A way to this connection that does not keep it open.
    pub fn downgrade(&self) -> WeakChannel {
        WeakChannel { handle: Arc::downgrade(&self.handle) }
    }

    /// Waits for the end of the connection and says what it was.
    pub async fn closed(&self) -> ChannelError {
        let shared = &self.handle.0;
        loop {
            let notified = shared.ended.notified();
            if let Some(end) = &shared.lock().end {
                return end.clone();
            }
            notified.await;
        }
    }

    /// Bytes written to and read from the socket so far, handshake included.
    pub fn wire(&self) -> (u64, u64) {
        let shared = &self.handle.0;
        (shared.sent.load(Ordering::Relaxed), shared.received.load(Ordering::Relaxed))
    }

    /// Bytes the handshake wrote to and read from the socket.
    pub fn handshake_bytes(&self) -> (u64, u64) {
        self.handle.0.facts.handshake_bytes
    }

    /// Whom the handshake was made with.
    pub fn peer(&self) -> &Peer {
        &self.handle.0.facts.peer
    }

    /// The address of the other end, if the system knew it.
    pub fn address(&self) -> Option<SocketAddr> {
        self.handle.0.facts.address
    }

    /// What both sides have in common.
    pub fn agreed(&self) -> &Agreed {
        &self.handle.0.facts.agreed
    }

    /// The hash of the handshake, the same at both ends and unique to this connection.
    pub fn handshake_hash(&self) -> &[u8] {
        &self.handle.0.facts.handshake_hash
    }
}

/// What the handshake settled for good.
pub(super) struct Facts {
    agreed: Agreed,
    peer: Peer,
    address: Option<SocketAddr>,
    pub(super) handshake_hash: Vec<u8>,
    handshake_bytes: (u64, u64),
}

/// What the application's handles and the driver share.
pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Something for the driver to do.
    pub(super) driver: Notify,
    pub(super) accepting: Notify,
    pub(super) control: Notify,
    /// A stream may be opened, or a control message queued.
    pub(super) slots: Notify,
    pub(super) ended: Notify,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) facts: Facts,
}

/// The state behind the lock.
pub(super) struct Inner {
    pub(super) connection: Connection,
    pub(super) inboxes: HashMap<StreamId, Inbox>,
    pub(super) accepted: VecDeque<StreamId>,
    pub(super) control: VecDeque<Message>,
    /// Streams whose senders wait for their queue to drain.
    pub(super) waiting: Vec<StreamId>,
    /// No handle is left.
    pub(super) abandoned: bool,
    /// Why nothing more will come.
    pub(super) end: Option<ChannelError>,
}

impl Inner {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            inboxes: HashMap::new(),
            accepted: VecDeque::new(),
            control: VecDeque::new(),
            waiting: Vec::new(),
            abandoned: false,
            end: None,
        }
    }
}

impl Shared {
    /// The lock; after a panic elsewhere the state is still whole enough to end on.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the driver if there is something to send.
    pub(super) fn nudge(&self, inner: &Inner) {
        if inner.connection.has_output() {
            self.driver.notify_one();
        }
    }

    /// Ends everything that waits.
    pub(super) fn end(&self, reason: ChannelError) {
        let mut inner = self.lock();
        inner.end.get_or_insert(reason);
        for inbox in inner.inboxes.values() {
            inbox.wake();
        }
        drop(inner);
        for notify in [&self.accepting, &self.control, &self.slots, &self.ended] {
            notify.notify_waiters();
        }
    }
}

/// The application's share; when the last one goes, the driver closes the connection.
pub(super) struct Handle(pub(super) Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().abandoned = true;
        self.0.driver.notify_one();
    }
}

/// The reason of a close that nobody asked for by code.
pub(super) const ABANDONED: u16 = close::DONE;
