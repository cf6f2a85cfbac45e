//! Why a connection ended, by culprit.
//!
//! The local log gets the whole value; a stranger gets the bare code of [`Rule::code`] at most,
//! and nothing at all before the handshake is done or after a record that does not open.

/// A connection's end other than an orderly close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The peer broke a rule of the protocol.
    #[error("the peer broke a rule of the protocol: {rule}")]
    PeerMisbehaved {
        /// The rule.
        rule: Rule,
    },
    /// The peer speaks another wire version. Never a reason to try a lower one.
    #[error("the peer speaks wire version {theirs}")]
    PeerIncompatible {
        /// The version the peer named.
        theirs: u8,
    },
    /// The peer ended the connection and said why by code.
    #[error("the peer ended the connection with code {code}")]
    PeerClosed {
        /// The code it gave, see [`Rule::code`] and [`close`].
        code: u16,
    },
    /// The bytes ended without an authenticated close.
    #[error("the connection was cut")]
    Truncated,
    /// A record or handshake message did not open: changed on the way, or not for these keys.
    #[error("a message failed authentication")]
    Tampered,
    /// The peer was too slow or silent for too long, or the connection too old.
    #[error("timed out: {timer}")]
    TimedOut {
        /// Which clock ran out.
        timer: Timer,
    },
}

/// The clocks that end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Nothing arrived, not even an answer to a PING.
    Silence,
    /// The peer takes bytes more slowly than the minimum drain rate.
    Drain,
    /// The peer granted no credit although bytes wait for it.
    Credit,
    /// The connection reached its lifetime, in time or in records.
    Lifetime,
    /// The handshake was not done by its deadline.
    Handshake,
}

/// The rules whose breach ends a connection; each has one code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Rule {
    /// The first eight bytes are not a preface. Never sent.
    Preface = 0x0100,
    /// A handshake message is of a forbidden size. Never sent.
    HandshakeLength = 0x0101,
    /// A handshake message carries a point of low order. Never sent.
    LowOrderPoint = 0x0102,
    /// A hello payload does not decode. Never sent.
    Hello = 0x0103,
    /// The identity shown in the handshake is not the one that is wanted. Never sent.
    Identity = 0x0104,
    /// A record length below or above what a record can have.
    RecordLength = 0x0201,
    /// A record type outside the table.
    RecordType = 0x0202,
    /// A record body that its type does not allow.
    RecordBody = 0x0203,
    /// A record names a stream that this type or this side may not name.
    StreamId = 0x0301,
    /// More streams at once than allowed.
    StreamCount = 0x0302,
    /// Data on a direction that has ended.
    StreamEnded = 0x0303,
    /// More data than credit was granted for.
    CreditExceeded = 0x0304,
    /// A grant below the smallest allowed.
    CreditTiny = 0x0305,
    /// A message of a tag that must be known and is not.
    MessageTag = 0x0401,
    /// A message longer than its tag allows.
    MessageLength = 0x0402,
    /// A direction ended in the middle of a message.
    MessageCut = 0x0403,
    /// More control messages than the rate allows.
    FloodControl = 0x0501,
    /// More PINGs than the rate allows, or an answer to none.
    FloodPing = 0x0502,
    /// More RESETs than the rate allows.
    FloodReset = 0x0503,
    /// More CREDIT records than the data sent can explain.
    FloodCredit = 0x0504,
}

impl Rule {
    /// The bare code that an ERROR record carries: `[error.code]`.
    pub fn code(self) -> u16 {
        self as u16
    }
}

/// Codes of an orderly CLOSE: `[close.code]`.
pub mod close {
    /// Nothing more to say.
    pub const DONE: u16 = 0x0001;
    /// The process is going away.
    pub const SHUTDOWN: u16 = 0x0002;
    /// The connection reached its lifetime; connect again.
    pub const LIFETIME: u16 = 0x0003;
    /// Too busy; connect again later.
    pub const BUSY: u16 = 0x0004;
    /// A clock of the closing side ran out.
    pub const TIMED_OUT: u16 = 0x0005;
    /// First code that belongs to the application.
    pub const APPLICATION: u16 = 0x1000;
}

/// Codes of RESET that the channel itself gives: `[reset.code]`.
pub mod reset {
    /// The application dropped the stream.
    pub const CANCELLED: u16 = 0x0001;
    /// First code that belongs to the application.
    pub const APPLICATION: u16 = 0x1000;
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Rule::Preface => "preface",
            Rule::HandshakeLength => "size of a handshake message",
            Rule::LowOrderPoint => "point of low order",
            Rule::Hello => "hello payload",
            Rule::Identity => "identity",
            Rule::RecordLength => "record length",
            Rule::RecordType => "record type",
            Rule::RecordBody => "record body",
            Rule::StreamId => "stream id",
            Rule::StreamCount => "streams at once",
            Rule::StreamEnded => "data after the end of a stream",
            Rule::CreditExceeded => "data beyond credit",
            Rule::CreditTiny => "grant below the smallest",
            Rule::MessageTag => "unknown message tag",
            Rule::MessageLength => "message length",
            Rule::MessageCut => "stream ended inside a message",
            Rule::FloodControl => "rate of control messages",
            Rule::FloodPing => "rate of pings",
            Rule::FloodReset => "rate of resets",
            Rule::FloodCredit => "number of grants",
        })
    }
}

impl std::fmt::Display for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Timer::Silence => "the peer is silent",
            Timer::Drain => "the peer reads too slowly",
            Timer::Credit => "the peer grants no credit",
            Timer::Lifetime => "the connection is too old",
            Timer::Handshake => "the handshake took too long",
        })
    }
}

impl From<Rule> for ProtocolError {
    fn from(rule: Rule) -> Self {
        ProtocolError::PeerMisbehaved { rule }
    }
}
