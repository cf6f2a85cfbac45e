//! A peer's line, as the operations of a node use it: requests on streams, answers as messages, failures in three
//! lines.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::dial::{dial, lost, nonsense, unexpected};
use super::failure::Failure;
use super::monitor::Monitor;
use super::tally::Tally;
use crate::net::{Channel, Stream};
use crate::protocol::connection::Priority;
use crate::protocol::message::Message;
use crate::tree::address::Host;
use crate::tree::codec::Malformed;

/// A connection to a host, used about one module.
pub(super) struct Line {
    channel: Channel,
    runtime: tokio::runtime::Handle,
    /// The other end.
    pub(super) host: Host,
    /// The module that is spoken of.
    pub(super) module: String,
    timeout: Duration,
    tally: Tally,
    /// The other end mirrors the module in part.
    partial: AtomicBool,
}

/// One request and its answer.
pub(super) struct Exchange<'l> {
    line: &'l Line,
    stream: Stream,
}

/// Bytes that are taken in while there is no room to send.
const EARLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often a wait looks whether the operator wants to stop.
const LOOK_UP: Duration = Duration::from_millis(100);

impl Line {
    /// Speaks of `module` on an open connection; an answer may be silent for `timeout`.
    pub(super) fn on(
        channel: Channel,
        runtime: &tokio::runtime::Handle,
        host: &Host,
        module: &str,
        timeout: Duration,
    ) -> Self {
        let (runtime, host, module) = (runtime.clone(), host.clone(), module.to_owned());
        Self { channel, runtime, host, module, timeout, tally: Tally::default(), partial: AtomicBool::new(false) }
    }

    /// Calls `host` for this one purpose.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) fn open(
        runtime: &tokio::runtime::Handle,
        host: &Host,
        module: &str,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let channel = runtime.block_on(dial(host, timeout))?;
        Ok(Self::on(channel, runtime, host, module, timeout))
    }

    /// Sends a request on a stream of its own.
    ///
    /// # Errors
    /// [`Failure`] when the connection is lost.
    pub(super) fn ask(&self, request: Message) -> Result<Exchange<'_>, Failure> {
        let exchange = Exchange { line: self, stream: self.channel.open(Priority::Bulk) };
        exchange.send(request)?;
        Ok(exchange)
    }

    /// A stream that goes before bulk, for who receives on his own.
    #[must_use]
    pub(super) fn live(&self) -> Stream {
        self.channel.open(Priority::Live)
    }

    /// Sends on a stream of its own making.
    ///
    /// # Errors
    /// [`Failure`] when the connection is lost.
    pub(super) fn send_on(&self, stream: &Stream, message: Message) -> Result<(), Failure> {
        self.tally.sent(&message);
        self.runtime.block_on(stream.send(message.tag, message.body)).map_err(|e| lost(&self.host, &e))
    }

    /// The hash of the handshake, by which short hashes are keyed.
    #[must_use]
    pub(super) fn binding(&self) -> &[u8] {
        self.channel.handshake_hash()
    }

    /// Notes that the other end mirrors the module in part.
    pub(super) fn set_partial(&self) {
        self.partial.store(true, Ordering::Relaxed);
    }

    /// Whether the other end has said that it mirrors the module in part.
    #[must_use]
    pub(super) fn is_partial(&self) -> bool {
        self.partial.load(Ordering::Relaxed)
    }

    /// Bytes that went out and came in so far, everything counted.
    #[must_use]
    pub(super) fn wire(&self) -> (u64, u64) {
        self.channel.wire()
    }

    /// Those of them that are older than this line: none of a connection that was made for it.
    #[must_use]
    pub(super) fn wire_before(&self) -> (u64, u64) {
        let now = self.channel.wire();
        if now == self.channel.handshake_bytes() { (0, 0) } else { now }
    }

    /// What its messages were for.
    #[must_use]
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Ends the connection in order, for all who use it.
    pub(super) fn close(self) {
        self.channel.close(crate::protocol::error::close::DONE);
        // The close is worth a moment, but nothing hangs on it.
        let ended = self.channel.closed();
        let _ = self.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(250), ended).await });
    }

    /// What to say when `message` does not belong where it came.
    #[must_use]
    pub(super) fn unexpected(&self, message: &Message) -> Failure {
        unexpected(&self.host, &self.module, message)
    }
}

impl Exchange<'_> {
    /// Sends a further message.
    ///
    /// # Errors
    /// [`Failure`] when the connection is lost.
    pub(super) fn send(&self, message: Message) -> Result<(), Failure> {
        self.line.send_on(&self.stream, message)
    }

    /// As [`send`](Self::send); what comes until there is room goes to `early`.
    ///
    /// # Errors
    /// [`Failure`] when the connection is lost, or the other end only talks.
    pub(super) fn send_among(&self, message: Message, early: &mut VecDeque<Message>) -> Result<(), Failure> {
        self.line.tally.sent(&message);
        let sent = self.line.runtime.block_on(async {
            let send = self.stream.send(message.tag, message.body);
            tokio::pin!(send);
            loop {
                tokio::select! {
                    biased;
                    sent = &mut send => return sent.map(|()| true),
                    came = self.stream.recv() => match came? {
                        Some(came) => {
                            let came = Message { tag: came.tag, body: came.body };
                            self.line.tally.received(&came);
                            early.push_back(came);
                        }
                        None => return Ok(false),
                    },
                }
                if early.iter().map(Message::wire_len).sum::<usize>() > EARLY_BYTES_MAX {
                    return Ok(false);
                }
            }
        });
        let deaf = || Malformed::Rule { what: "session", rule: "does not listen to what it asked for" };
        match sent.map_err(|e| lost(&self.line.host, &e))? {
            true => Ok(()),
            false => Err(nonsense(&self.line.host, &deaf())),
        }
    }

    /// Says that no further message follows.
    ///
    /// # Errors
    /// [`Failure`] when the connection is lost.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        self.stream.finish().map_err(|e| lost(&self.line.host, &e))
    }

    /// Waits for the next message; `None` behind the last.
    ///
    /// # Errors
    /// [`Failure`] when the connection is lost, the other end is silent too long, or the operator wants to stop.
    pub(super) fn receive(&self, monitor: &dyn Monitor) -> Result<Option<Message>, Failure> {
        let mut silent = Duration::ZERO;
        loop {
            if monitor.cancelled() {
                return Err(Failure::interrupted());
            }
            let next = async { tokio::time::timeout(LOOK_UP, self.stream.recv()).await };
            match self.line.runtime.block_on(next) {
                Ok(Ok(message)) => {
                    let message = message.map(|m| Message { tag: m.tag, body: m.body });
                    message.iter().for_each(|message| self.line.tally.received(message));
                    return Ok(message);
                }
                Ok(Err(error)) => return Err(lost(&self.line.host, &error)),
                Err(_) => silent += LOOK_UP,
            }
            // The channel itself notices a dead peer; this bounds one that lives and does not answer.
            if silent >= self.line.timeout.max(SILENT_MIN) {
                let error =
                    crate::protocol::error::ProtocolError::TimedOut { timer: crate::protocol::error::Timer::Silence };
                return Err(lost(&self.line.host, &error.into()));
            }
        }
    }
}

/// An answer may take this long, whatever the operator says: the other end may have to read a large file first.
const SILENT_MIN: Duration = Duration::from_secs(60);
