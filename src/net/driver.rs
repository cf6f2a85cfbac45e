//! The task behind a channel: it alone touches the socket.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

use super::channel::{ABANDONED, Inner, Shared};
use super::error::ChannelError;
use super::stream::Message;
use crate::protocol::connection::Event;
use crate::protocol::limits::{RECORD_BODY_MAX, SEND_QUEUE_MARK};

/// Read buffer of a connection on which little comes.
const READ_MIN: usize = 8 * 1024;
/// Read buffer of a connection on which much comes.
const READ_MAX: usize = 512 * 1024;
/// Bytes of records per write at first, on the slowest and on the fastest lines.
const BATCH_START: usize = 64 * 1024;
const BATCH_MIN: usize = 16 * 1024;
const BATCH_MAX: usize = 512 * 1024;
/// Records of slow lines are no longer than this part of a batch.
const RECORDS_PER_BATCH: usize = 4;
/// A batch that takes longer than this is followed by a smaller one.
const BATCH_SLOW: Duration = Duration::from_millis(50);
/// A batch that takes less than this is followed by a larger one.
const BATCH_FAST: Duration = Duration::from_millis(10);
/// How long a closed socket is kept so that the last record is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Moves bytes until the connection is over, then wakes all who wait.
pub(super) async fn drive(shared: Arc<Shared>, io: TcpStream) {
    // Runs even when this task panics: nobody may wait for ever.
    let guard = EndGuard(Arc::clone(&shared));
    let mut driver = Driver::new(shared, io);
    let reason = driver.run().await;
    driver.shared.end(reason);
    drop(guard);
    driver.linger().await;
}

struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.end(ChannelError::Lost);
    }
}

struct Driver {
    shared: Arc<Shared>,
    io: TcpStream,
    born: Instant,
    input: Vec<u8>,
    output: Output,
}

/// Sealed records on their way to the socket.
struct Output {
    bytes: Vec<u8>,
    written: usize,
    batch: usize,
    /// When the first byte of the batch was offered to the socket.
    since: Instant,
}

/// What to wait for after a turn.
struct Turn {
    wants_input: bool,
    timeout_ms: Option<u64>,
}

impl Driver {
    fn new(shared: Arc<Shared>, io: TcpStream) -> Self {
        let born = Instant::now();
        let output = Output { bytes: Vec::new(), written: 0, batch: BATCH_START, since: born };
        Self { shared, io, born, input: Vec::new(), output }
    }

    /// The loop: take what is to be said, write it, wait, read.
    async fn run(&mut self) -> ChannelError {
        loop {
            let turn = match self.turn() {
                Ok(turn) => turn,
                Err(reason) => {
                    self.farewell();
                    return reason;
                }
            };
            if let Err(error) = self.write() {
                return ChannelError::io(error);
            }
            if self.output.is_empty() && self.shared.lock().connection.has_output() {
                continue;
            }
            let readable = self.wait(&turn).await;
            if readable {
                if let Err(reason) = self.read() {
                    self.farewell();
                    return reason;
                }
                // Those who were woken may sit behind this task on its thread, and only they
                // can bring the peer new credit: a task that reads on would starve itself.
                yield_now().await;
            }
        }
    }

    /// One look at the connection under the lock.
    fn turn(&mut self) -> Result<Turn, ChannelError> {
        let now_ms = self.now_ms();
        let shared = Arc::clone(&self.shared);
        let mut inner = shared.lock();
        inner.connection.handle_timeout(now_ms)?;
        let end = deliver(&shared, &mut inner);
        if self.output.is_empty() {
            self.output.fill(now_ms, &mut inner);
            wake_senders(&shared, &mut inner);
        }
        if self.output.is_empty() {
            if let Some(code) = end {
                return Err(ChannelError::Closed { code });
            }
            if inner.connection.is_closed() {
                return Err(ChannelError::Closed { code: ABANDONED });
            }
            if inner.abandoned && inner.connection.is_flushed() {
                inner.connection.close(ABANDONED);
                self.output.fill(now_ms, &mut inner);
            }
        }
        Ok(Turn { wants_input: inner.connection.wants_input(), timeout_ms: inner.connection.next_timeout() })
    }

    /// Writes as much as the socket takes.
    fn write(&mut self) -> io::Result<()> {
        while let Some(rest) = self.output.rest() {
            match self.io.try_write(rest) {
                Ok(count) => {
                    self.output.advance(count);
                    self.shared.sent.fetch_add(count as u64, Ordering::Relaxed);
                    let now_ms = self.now_ms();
                    self.shared.lock().connection.transmitted(now_ms, count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for the socket, the application or the clock; says whether there may be input.
    async fn wait(&mut self, turn: &Turn) -> bool {
        let interest = match (turn.wants_input, self.output.is_empty()) {
            (true, true) => Some(Interest::READABLE),
            (true, false) => Some(Interest::READABLE | Interest::WRITABLE),
            (false, false) => Some(Interest::WRITABLE),
            (false, true) => None,
        };
        let socket = async {
            match interest {
                Some(interest) => self.io.ready(interest).await.is_ok_and(|r| r.is_readable()),
                None => std::future::pending().await,
            }
        };
        let clock = async {
            match turn.timeout_ms {
                Some(at) => sleep_until(self.born + Duration::from_millis(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            readable = socket => readable && turn.wants_input,
            () = self.shared.driver.notified() => false,
            () = clock => {
                // Nothing moves: an idle connection gives its buffers back.
                self.input = Vec::new();
                self.output.shrink();
                false
            }
        }
    }

    fn read(&mut self) -> Result<(), ChannelError> {
        if self.input.is_empty() {
            self.input = vec![0; READ_MIN];
        }
        match self.io.try_read(&mut self.input) {
            Ok(0) => {
                self.shared.lock().connection.handle_eof()?;
                Err(ChannelError::Closed { code: ABANDONED })
            }
            Ok(count) => {
                self.shared.received.fetch_add(count as u64, Ordering::Relaxed);
                let now_ms = self.now_ms();
                let shared = Arc::clone(&self.shared);
                let mut inner = shared.lock();
                let input = self.input.get_mut(..count).unwrap_or_default();
                let judged = inner.connection.handle_input(now_ms, input);
                // What came whole before a wrong byte was right, and is given out.
                let end = deliver(&shared, &mut inner);
                judged?;
                drop(inner);
                if count == self.input.len() && count < READ_MAX {
                    self.input = vec![0; count * 2];
                }
                end.map_or(Ok(()), |code| Err(ChannelError::Closed { code }))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
                _ => Err(ChannelError::io(error)),
            },
        }
    }

    /// Offers the last record, if there is one, to the socket once.
    fn farewell(&mut self) {
        let now_ms = self.now_ms();
        self.output.fill(now_ms, &mut self.shared.lock());
        // A peer that does not take it learns of the end anyway.
        let _ = self.write();
    }

    /// Lets the peer read the last record: a socket closed with unread input would reset it away.
    async fn linger(mut self) {
        let drain = async {
            let mut scrap = [0; 4096];
            if self.io.shutdown().await.is_ok() {
                while self.io.read(&mut scrap).await.is_ok_and(|count| count > 0) {}
            }
        };
        // Running out of time is the expected end with a peer that keeps talking.
        let _ = timeout(LINGER, drain).await;
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Output {
    fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    fn rest(&self) -> Option<&[u8]> {
        self.bytes.get(self.written..).filter(|rest| !rest.is_empty())
    }

    /// Takes the next batch from the connection behind what is not written.
    fn fill(&mut self, now_ms: u64, inner: &mut Inner) {
        if self.is_empty() {
            self.bytes.clear();
            self.written = 0;
            self.since = Instant::now();
        }
        inner.connection.set_record_size(match self.batch {
            BATCH_MAX => RECORD_BODY_MAX,
            slower => slower / RECORDS_PER_BATCH,
        });
        inner.connection.poll_transmit(now_ms, &mut self.bytes, self.batch);
    }

    /// Counts written bytes; how long a full batch took decides the size of the next.
    fn advance(&mut self, count: usize) {
        self.written += count;
        if self.is_empty() && self.bytes.len() >= self.batch {
            let took = self.since.elapsed();
            if took > BATCH_SLOW {
                self.batch = (self.batch / 2).max(BATCH_MIN);
            } else if took < BATCH_FAST {
                self.batch = (self.batch * 2).min(BATCH_MAX);
            }
        }
    }

    fn shrink(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            self.written = 0;
        }
    }
}

/// Gives events to those who wait for them; gives the code of a close.
fn deliver(shared: &Shared, inner: &mut Inner) -> Option<u16> {
    let mut end = None;
    while let Some(event) = inner.connection.poll_event() {
        match event {
            Event::Opened(id) => {
                inner.inboxes.entry(id).or_default();
                inner.accepted.push_back(id);
                shared.accepting.notify_waiters();
            }
            Event::Message { stream: 0, tag, body } => {
                inner.control.push_back(Message { tag, body });
                shared.control.notify_waiters();
            }
            Event::Message { stream, tag, body } => {
                let message = Message { tag, body };
                let returned = match inner.inboxes.get_mut(&stream) {
                    Some(inbox) => inbox.put(message),
                    None => Some(message),
                };
                if let Some(message) = returned {
                    inner.connection.release(stream, message.body.len());
                }
            }
            Event::Finished(id) => {
                if inner.inboxes.get_mut(&id).is_some_and(|inbox| inbox.finish()) {
                    inner.inboxes.remove(&id);
                }
            }
            Event::Reset { stream, code } => {
                if let Some((messages, detached)) = inner.inboxes.get_mut(&stream).map(|inbox| inbox.reset(code)) {
                    for message in messages {
                        inner.connection.release(stream, message.body.len());
                    }
                    // A stream that ended before it was accepted was never the application's.
                    let accepted = inner.accepted.len();
                    inner.accepted.retain(|id| *id != stream);
                    if detached || inner.accepted.len() < accepted {
                        inner.inboxes.remove(&stream);
                    }
                }
            }
            Event::Closed(code) => end = Some(code),
        }
    }
    if inner.connection.can_open() {
        shared.slots.notify_waiters();
    }
    end
}

/// Wakes the senders whose queues have room again.
fn wake_senders(shared: &Shared, inner: &mut Inner) {
    shared.slots.notify_waiters();
    let Inner { connection, inboxes, waiting, .. } = inner;
    waiting.retain(|id| {
        let full = connection.pending(*id) >= SEND_QUEUE_MARK;
        if !full && let Some(inbox) = inboxes.get(id) {
            inbox.wake_senders();
        }
        full
    });
}
