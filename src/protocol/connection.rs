//! Streams, credit and timers of one connection, without sockets and without a clock.
//!
//! A [`Connection`] is driven by four kinds of methods:
//!
//! 1. **The application says** what it wants: [`Connection::open`], [`Connection::send`],
//!    [`Connection::finish`], [`Connection::reset`], [`Connection::release`],
//!    [`Connection::close`]. Nothing leaves by itself.
//! 2. **The driver hands in** what happened: [`Connection::handle_input`],
//!    [`Connection::handle_eof`], [`Connection::handle_timeout`], [`Connection::transmitted`].
//! 3. **The driver takes out** what follows, until each says that there is no more:
//!    [`Connection::poll_event`], [`Connection::poll_transmit`], [`Connection::next_timeout`].
//! 4. **Anyone asks**: [`Connection::pending`], [`Connection::can_open`],
//!    [`Connection::wants_input`], [`Connection::is_flushed`], [`Connection::is_closed`].
//!
//! The order: hand in one thing; poll events until none is left; poll transmissions and write
//! them, reporting with `transmitted` what the socket took; then wait for input (only while it
//! is wanted), for room to write, for the application, or for the next timeout. After an error
//! from any of the second kind one last transmission may be polled: the code the peer gets.
//!
//! Times are milliseconds of any clock that never runs backwards.

mod bounds;
mod credit;
mod receive;
mod stream;
#[cfg(test)]
mod tests;
mod timers;
mod transmit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::bucket::Bucket;
use super::error::ProtocolError;
use super::limits::{
    CONTROL_BODY_MAX, MESSAGE_HEADER_LEN, MESSAGES_HELD_MAX, RECORD_BODY_FLOOR, RECORD_BODY_MAX, STREAMS_MAX,
};
use super::noise::{Opener, Sealer};
use super::record::{CONTROL_STREAM, PingToken};
use bounds::Floods;
use stream::{Assembler, SendHalf, Stream};
use timers::Timers;

/// The number of a stream: odd from the initiator, even from the responder, 0 for control.
pub type StreamId = u32;

/// The bound on message bodies: for each known tag the most bytes, `None` for unknown tags.
pub type MaxBody = fn(tag: u8) -> Option<u32>;

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that dialled.
    Initiator,
    /// The end that answers.
    Responder,
}

/// How urgent a stream's bytes are; the control stream comes before both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Small and awaited: announcements, pushes, lists.
    Live,
    /// Large: content.
    Bulk,
}

/// What a connection tells the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a stream; its first message follows.
    Opened(StreamId),
    /// A whole message arrived. [`Connection::release`] must follow when it is used up.
    Message {
        /// The stream, 0 for control.
        stream: StreamId,
        /// The message tag.
        tag: u8,
        /// The message body.
        body: Vec<u8>,
    },
    /// The peer will send nothing more on this stream.
    Finished(StreamId),
    /// The peer ended both directions of this stream.
    Reset {
        /// The stream.
        stream: StreamId,
        /// The reason it gave.
        code: u16,
    },
    /// The connection is at its orderly end, with the reason given; streams that are not
    /// finished never will be.
    Closed(u16),
}

/// Why the application cannot do what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The stream is over, was reset, or never was.
    #[error("the stream is over")]
    NoStream,
    /// The body is longer than its tag allows.
    #[error("the message is longer than its tag allows")]
    TooLong,
    /// As many streams as allowed are open.
    #[error("too many open streams")]
    TooManyStreams,
    /// The connection is at its end.
    #[error("the connection is closed")]
    Closed,
}

/// Where the connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// A CLOSE with this code is to be written; then nothing more.
    Closing(u16),
    /// A CLOSE was written or read.
    Closed,
    /// An error ended it; `farewell` may still be written.
    Failed(ProtocolError),
}

/// The last record of a failed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    Error(u16),
    Close(u16),
}

/// One end of a connection after its handshake.
pub struct Connection {
    role: Role,
    max_body: MaxBody,
    sealer: Sealer,
    opener: Opener,
    state: State,
    farewell: Option<Farewell>,
    events: VecDeque<Event>,

    // Receiving.
    /// A record that has not wholly come, length field included. At most one.
    partial: Vec<u8>,
    control_in: Assembler,
    /// Messages given out and not released.
    messages_held: usize,
    /// Highest id the peer has opened, 0 before the first.
    last_remote: StreamId,
    /// Bytes that may still come for streams this side has reset.
    late_bytes: u64,
    floods: Floods,

    // Streams.
    streams: BTreeMap<StreamId, Stream>,
    next_local: StreamId,
    local_open: usize,
    remote_open: usize,
    /// Bytes granted, in assembly, or held, over all streams.
    committed: u64,
    /// Streams that would get credit if the connection's bound allowed it.
    starving: BTreeSet<StreamId>,
    /// The one stream whose message in assembly may exceed the connection's bound.
    favoured: Option<StreamId>,

    // Sending.
    record_body: usize,
    control_out: SendHalf,
    control_pace: Bucket,
    reset_pace: Bucket,
    /// New streams, whose first records go out in the order of their ids.
    opening: VecDeque<StreamId>,
    live: VecDeque<StreamId>,
    bulk: VecDeque<StreamId>,
    credits_out: VecDeque<StreamId>,
    resets_out: VecDeque<(StreamId, u16)>,
    ping_out: Option<PingToken>,
    pongs_out: VecDeque<PingToken>,
    data_sent: u64,
    timers: Timers,
}

impl Connection {
    /// Begins with the two directions of a finished handshake.
    pub fn new(role: Role, sealer: Sealer, opener: Opener, max_body: MaxBody, now_ms: u64) -> Self {
        let next_local = match role {
            Role::Initiator => 1,
            Role::Responder => 2,
        };
        Self {
            role,
            max_body,
            sealer,
            opener,
            state: State::Open,
            farewell: None,
            events: VecDeque::new(),
            partial: Vec::new(),
            control_in: Assembler::default(),
            messages_held: 0,
            last_remote: 0,
            late_bytes: 0,
            floods: Floods::new(now_ms),
            streams: BTreeMap::new(),
            next_local,
            local_open: 0,
            remote_open: 0,
            committed: 0,
            starving: BTreeSet::new(),
            favoured: None,
            record_body: RECORD_BODY_MAX,
            control_out: SendHalf::new(0),
            control_pace: bounds::control_pace(now_ms),
            reset_pace: bounds::reset_pace(now_ms),
            opening: VecDeque::new(),
            live: VecDeque::new(),
            bulk: VecDeque::new(),
            credits_out: VecDeque::new(),
            resets_out: VecDeque::new(),
            ping_out: None,
            pongs_out: VecDeque::new(),
            data_sent: 0,
            timers: Timers::new(now_ms),
        }
    }

    /// Opens a stream with its first message, which carries the request or push.
    ///
    /// First records leave in the order of these calls, before other stream data.
    pub fn open(&mut self, priority: Priority, tag: u8, body: Vec<u8>) -> Result<StreamId, SendError> {
        self.check_open()?;
        if !self.can_open() {
            return Err(SendError::TooManyStreams);
        }
        let length = self.check_body(tag, &body, u32::MAX)?;
        let id = self.next_local;
        self.next_local = id.checked_add(2).ok_or(SendError::TooManyStreams)?;
        let mut stream = Stream::new(true, priority);
        stream.send.push(tag, length, body);
        stream.send.listed = true;
        self.committed += stream.recv.committed();
        self.streams.insert(id, stream);
        self.local_open += 1;
        self.opening.push_back(id);
        Ok(id)
    }

    /// Queues a message on a stream that is open, or on the control stream (0).
    pub fn send(&mut self, stream: StreamId, tag: u8, body: Vec<u8>) -> Result<(), SendError> {
        self.check_open()?;
        if stream == CONTROL_STREAM {
            let length = self.check_body(tag, &body, CONTROL_BODY_MAX)?;
            self.control_out.push(tag, length, body);
            return Ok(());
        }
        let length = self.check_body(tag, &body, u32::MAX)?;
        let half = &mut self.streams.get_mut(&stream).ok_or(SendError::NoStream)?.send;
        if half.finishing {
            return Err(SendError::NoStream);
        }
        half.push(tag, length, body);
        self.list(stream);
        Ok(())
    }

    /// Ends this side's direction of a stream after what is queued.
    pub fn finish(&mut self, stream: StreamId) -> Result<(), SendError> {
        self.check_open()?;
        self.streams.get_mut(&stream).ok_or(SendError::NoStream)?.send.finishing = true;
        self.list(stream);
        Ok(())
    }

    /// Ends both directions of a stream at once and drops what is queued. What the peer has
    /// under way is dropped on arrival. A stream that is over is left alone.
    pub fn reset(&mut self, stream: StreamId, code: u16) {
        let Some(state) = self.streams.get(&stream) else {
            return;
        };
        let (over, opened) = (state.is_over(), state.send.opened);
        if !state.recv.ended {
            // One more than the credit: an empty last record costs one.
            self.late_bytes = self.late_bytes.saturating_add(state.recv.credit + 1);
        }
        self.remove(stream);
        if !over && opened && self.state == State::Open {
            self.resets_out.push_back((stream, code));
        }
    }

    /// Says that a message of this body length is used up, so that its bytes count as credit
    /// again.
    pub fn release(&mut self, stream: StreamId, body_len: usize) {
        self.messages_held = self.messages_held.saturating_sub(1);
        if let Some(state) = self.streams.get_mut(&stream) {
            let size = ((MESSAGE_HEADER_LEN + body_len) as u64).min(state.recv.held);
            state.recv.held -= size;
            self.committed -= size;
            self.end_favour(stream);
            self.consider_grant(stream);
            self.consider_starving();
            self.sweep(stream);
        }
    }

    /// Ends the connection in order: control messages that wait are sent as far as their pace
    /// allows, then CLOSE; stream data that waits is dropped.
    pub fn close(&mut self, code: u16) {
        if self.state == State::Open {
            self.state = State::Closing(code);
        }
    }

    /// Sets how urgent a stream is; new streams of the peer are [`Priority::Bulk`].
    pub fn set_priority(&mut self, stream: StreamId, priority: Priority) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.priority = priority;
        }
    }

    /// Sets the most bytes of data in one record: small on slow lines, so that control is never
    /// long behind bulk.
    pub fn set_record_size(&mut self, body_bytes: usize) {
        self.record_body = body_bytes.clamp(RECORD_BODY_FLOOR, RECORD_BODY_MAX);
    }

    /// Takes the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes queued on a stream (0: control) and not yet in a record.
    pub fn pending(&self, stream: StreamId) -> usize {
        if stream == CONTROL_STREAM {
            return self.control_out.queued;
        }
        self.streams.get(&stream).map_or(0, |state| state.send.queued)
    }

    /// Says whether bytes are queued on a stream that the peer has given no credit for.
    pub fn is_held(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|state| state.send.is_starved())
    }

    /// Says whether one more stream may be opened.
    pub fn can_open(&self) -> bool {
        self.local_open < STREAMS_MAX
    }

    /// Says whether the driver should read: not while too many messages are unreleased.
    pub fn wants_input(&self) -> bool {
        self.messages_held < MESSAGES_HELD_MAX
    }

    /// Says whether this side has ended its direction of a stream, or the stream is no more.
    pub fn is_finishing(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_none_or(|state| state.send.finishing)
    }

    /// Says whether polling for a transmission would give bytes at once.
    pub fn has_output(&self) -> bool {
        match self.state {
            State::Open => self.has_urgent() || self.has_listed() || self.is_control_due() || self.is_reset_due(),
            _ => self.has_sendable(),
        }
    }

    /// Says whether all that was queued has left, up to what only the peer can allow.
    pub fn is_flushed(&self) -> bool {
        !self.has_sendable() && self.streams.values().all(|s| s.send.queued == 0)
    }

    /// Says whether the connection is over: closed by either side, or failed.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed | State::Failed(_))
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    fn check_open(&self) -> Result<(), SendError> {
        if self.state == State::Open { Ok(()) } else { Err(SendError::Closed) }
    }

    fn check_body(&self, tag: u8, body: &[u8], cap: u32) -> Result<u32, SendError> {
        let max = (self.max_body)(tag).unwrap_or(u32::MAX).min(cap);
        u32::try_from(body.len()).ok().filter(|len| *len <= max).ok_or(SendError::TooLong)
    }

    /// Counts a stream out once both directions are over, and forgets it once nothing is held.
    fn sweep(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if stream.is_over() && stream.recv.held == 0 {
            self.remove(id);
        }
    }

    /// Takes a stream that has just become over off the count of open ones.
    fn count_out(&mut self, local: bool) {
        let count = if local { &mut self.local_open } else { &mut self.remote_open };
        *count = count.saturating_sub(1);
    }

    fn remove(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        self.committed -= stream.recv.committed();
        if !stream.is_over() {
            self.count_out(stream.local);
        }
        self.starving.remove(&id);
        if self.favoured == Some(id) {
            self.favoured = None;
        }
        self.consider_starving();
    }

    /// Ends the connection with an error; what the peer may know of it goes out last.
    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        if let State::Failed(first) = self.state {
            return first;
        }
        self.farewell = match error {
            ProtocolError::PeerMisbehaved { rule } => Some(Farewell::Error(rule.code())),
            ProtocolError::TimedOut { .. } => Some(Farewell::Close(super::error::close::TIMED_OUT)),
            _ => None,
        };
        self.state = State::Failed(error);
        error
    }
}
