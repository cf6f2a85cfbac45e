//! The two directions of a stream: bytes waiting to go, and messages being put together.

use std::collections::VecDeque;

use super::{MaxBody, Priority};
use crate::protocol::error::Rule;
use crate::protocol::limits::{CREDIT_INITIAL, MESSAGE_HEADER_LEN, TAG_SKIPPABLE};

/// First allocation for a message body: as much as may come without any grant.
const BODY_FIRST: usize = CREDIT_INITIAL as usize;
/// A body's buffer is at most this many times what has arrived, beyond the first allocation.
const BODY_GROWTH: usize = 4;

/// Both directions of one stream.
pub(super) struct Stream {
    pub(super) priority: Priority,
    pub(super) local: bool,
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
}

impl Stream {
    pub(super) fn new(local: bool, priority: Priority) -> Self {
        let credit = u64::from(CREDIT_INITIAL);
        Self { priority, local, send: SendHalf::new(credit), recv: RecvHalf::new(credit) }
    }

    /// Both ends have seen the last byte of both directions, or will.
    pub(super) fn is_over(&self) -> bool {
        self.send.finished && self.recv.ended
    }
}

/// A message on its way out.
struct Outgoing {
    header: [u8; MESSAGE_HEADER_LEN],
    body: Vec<u8>,
    /// Bytes already sent, header included.
    sent: usize,
}

/// The sending direction.
pub(super) struct SendHalf {
    queue: VecDeque<Outgoing>,
    /// Bytes in `queue` that are not sent.
    pub(super) queued: usize,
    /// Bytes that may still be sent.
    pub(super) credit: u64,
    /// Nothing will be added to the queue.
    pub(super) finishing: bool,
    /// The record that ends the direction is written.
    pub(super) finished: bool,
    /// The stream stands in one of the queues of the transmitter.
    pub(super) listed: bool,
    /// The peer has been sent a record of this stream, or opened it itself.
    pub(super) opened: bool,
}

impl SendHalf {
    pub(super) fn new(credit: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            queued: 0,
            credit,
            finishing: false,
            finished: false,
            listed: false,
            opened: false,
        }
    }

    /// Queues a message; `body` is shorter than 4 GiB by the caller's check.
    pub(super) fn push(&mut self, tag: u8, length: u32, body: Vec<u8>) {
        // [message.tag] [message.length] [message.body]
        let [a, b, c, d] = length.to_be_bytes();
        self.queued += MESSAGE_HEADER_LEN + body.len();
        self.queue.push_back(Outgoing { header: [tag, a, b, c, d], body, sent: 0 });
    }

    /// Whether a record could be written.
    pub(super) fn is_ready(&self) -> bool {
        !self.finished && if self.queued > 0 { self.credit > 0 } else { self.finishing }
    }

    /// Whether bytes wait for credit.
    pub(super) fn is_starved(&self) -> bool {
        self.queued > 0 && self.credit == 0
    }

    /// Appends at most `limit` queued bytes to `out`, as far as credit goes.
    pub(super) fn take(&mut self, limit: usize, out: &mut Vec<u8>) -> usize {
        let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
        let mut left = limit.min(credit);
        let before = out.len();
        while left > 0
            && let Some(message) = self.queue.front_mut()
        {
            left -= message.take(left, out);
            if message.sent == MESSAGE_HEADER_LEN + message.body.len() {
                self.queue.pop_front();
            }
        }
        let taken = out.len() - before;
        self.queued -= taken;
        self.credit -= taken as u64;
        taken
    }

    /// Appends the next message, whole: how the control stream, which has no credit, is sent.
    pub(super) fn take_message(&mut self, out: &mut Vec<u8>) {
        if let Some(mut message) = self.queue.pop_front() {
            self.queued -= message.take(usize::MAX, out);
        }
    }
}

impl Outgoing {
    fn take(&mut self, limit: usize, out: &mut Vec<u8>) -> usize {
        let before = out.len();
        if let Some(header) = self.header.get(self.sent..) {
            out.extend_from_slice(header.get(..limit).unwrap_or(header));
        }
        let left = limit - (out.len() - before);
        self.sent += out.len() - before;
        if left > 0
            && let Some(at) = self.sent.checked_sub(MESSAGE_HEADER_LEN)
        {
            let body = self.body.get(at..).unwrap_or_default();
            let part = body.get(..left).unwrap_or(body);
            out.extend_from_slice(part);
            self.sent += part.len();
        }
        out.len() - before
    }
}

/// The receiving direction.
///
/// Every byte the peer may send or has sent is in one of `credit`, `partial` and `held` until it
/// is released; their sum over all streams is what a connection commits itself to.
pub(super) struct RecvHalf {
    pub(super) assembler: Assembler,
    /// Bytes the peer may still send.
    pub(super) credit: u64,
    /// Bytes of the message in assembly, header included.
    pub(super) partial: u64,
    /// Bytes of messages given out and not released.
    pub(super) held: u64,
    /// What `credit` and `held` together may reach.
    pub(super) window: u64,
    /// Bytes received since the window last grew.
    pub(super) since_growth: u64,
    /// Bytes granted and not yet written in a CREDIT record.
    pub(super) grant: u64,
    /// The last record of the direction has come.
    pub(super) ended: bool,
}

impl RecvHalf {
    fn new(credit: u64) -> Self {
        Self {
            assembler: Assembler::default(),
            credit,
            partial: 0,
            held: 0,
            window: credit,
            since_growth: 0,
            grant: 0,
            ended: false,
        }
    }

    pub(super) fn committed(&self) -> u64 {
        self.credit + self.partial + self.held
    }
}

/// Cuts a direction's bytes into messages.
#[derive(Default)]
pub(super) struct Assembler {
    header: [u8; MESSAGE_HEADER_LEN],
    header_len: usize,
    body: Vec<u8>,
    /// Bytes of the body that have not come.
    missing: usize,
    skipping: bool,
}

/// What some bytes of a direction amount to.
pub(super) enum Piece {
    /// The bytes are used up inside a message.
    Incomplete,
    /// A message is whole.
    Whole { tag: u8, body: Vec<u8> },
    /// So many bytes belonged to a message that nobody here knows.
    Skipped { bytes: usize },
}

impl Assembler {
    /// Whether the direction stands between two messages.
    pub(super) fn is_idle(&self) -> bool {
        self.header_len == 0
    }

    /// Bytes that the message in assembly still needs, as far as its header is known.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Takes bytes from the front of `bytes`, up to the end of the message at most.
    pub(super) fn push(&mut self, bytes: &mut &[u8], bounds: Bounds) -> Result<Piece, Rule> {
        if self.header_len < MESSAGE_HEADER_LEN {
            for slot in self.header.iter_mut().skip(self.header_len) {
                let Some((byte, rest)) = bytes.split_first() else {
                    return Ok(Piece::Incomplete);
                };
                *slot = *byte;
                *bytes = rest;
                self.header_len += 1;
            }
            self.judge_header(bounds)?;
            if self.skipping {
                let done = self.missing == 0;
                self.reset_if(done);
                return Ok(Piece::Skipped { bytes: MESSAGE_HEADER_LEN });
            }
        }
        let (part, rest) = bytes.split_at(self.missing.min(bytes.len()));
        *bytes = rest;
        self.missing -= part.len();
        if self.skipping {
            self.reset_if(self.missing == 0);
            return Ok(Piece::Skipped { bytes: part.len() });
        }
        self.grow(part.len());
        self.body.extend_from_slice(part);
        if self.missing > 0 {
            return Ok(Piece::Incomplete);
        }
        let [tag, ..] = self.header;
        let body = std::mem::take(&mut self.body);
        self.reset_if(true);
        Ok(Piece::Whole { tag, body })
    }

    /// Reads the header; nothing is allocated before the length has been judged.
    fn judge_header(&mut self, bounds: Bounds) -> Result<(), Rule> {
        // [message.tag] [message.length]
        let [tag, length @ ..] = self.header;
        let length = u32::from_be_bytes(length);
        match (bounds.max_body)(tag) {
            _ if length > bounds.cap => return Err(Rule::MessageLength),
            Some(max) if length > max => return Err(Rule::MessageLength),
            Some(_) => self.skipping = false,
            None if tag >= TAG_SKIPPABLE => self.skipping = true,
            None => return Err(Rule::MessageTag),
        }
        self.missing = usize::try_from(length).map_err(|_| Rule::MessageLength)?;
        Ok(())
    }

    /// Makes room for `more` bytes without going beyond the length of the message.
    fn grow(&mut self, more: usize) {
        let needed = self.body.len() + more;
        if needed > self.body.capacity() {
            let wider = (BODY_GROWTH * self.body.capacity()).max(BODY_FIRST);
            let target = wider.max(needed).min(needed + self.missing);
            self.body.reserve_exact(target - self.body.len());
        }
    }

    fn reset_if(&mut self, done: bool) {
        if done {
            self.header_len = 0;
            self.skipping = false;
            self.missing = 0;
        }
    }
}

/// What messages of a direction may be.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// The bound of each known tag.
    pub(super) max_body: MaxBody,
    /// The bound of all tags, known or not.
    pub(super) cap: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Bounds = Bounds { max_body: |tag| (tag < 4).then_some(100), cap: 1000 };

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let mut send = SendHalf::new(u64::MAX);
        send.push(1, 3, b"abc".to_vec());
        send.push(2, 0, Vec::new());
        send.push(200, 4, b"skip".to_vec());
        send.push(3, 1, b"z".to_vec());
        let mut wire = Vec::new();
        while send.take(2, &mut wire) > 0 {}
        assert_eq!((send.queued, wire.len()), (0, 28));
        for step in 1..wire.len() {
            let (mut assembler, mut got, mut skipped) = (Assembler::default(), Vec::new(), 0);
            for mut part in wire.chunks(step) {
                while !part.is_empty() {
                    match assembler.push(&mut part, TABLE).unwrap() {
                        Piece::Incomplete => {}
                        Piece::Whole { tag, body } => got.push((tag, body)),
                        Piece::Skipped { bytes } => skipped += bytes,
                    }
                }
            }
            assert!(assembler.is_idle());
            assert_eq!(skipped, 9);
            let expected: Vec<(u8, &[u8])> = vec![(1, b"abc"), (2, b""), (3, b"z")];
            assert!(got.iter().map(|(tag, body)| (*tag, &body[..])).eq(expected));
        }
    }

    #[test]
    fn header_is_judged_before_its_body_comes() {
        let push = |mut bytes: &[u8]| Assembler::default().push(&mut bytes, TABLE).err();
        assert_eq!(push(&[1, 0, 0, 0, 101]), Some(Rule::MessageLength));
        assert_eq!(push(&[1, 0xff, 0xff, 0xff, 0xff]), Some(Rule::MessageLength));
        assert_eq!(push(&[4, 0, 0, 0, 0]), Some(Rule::MessageTag));
        assert_eq!(push(&[1, 0, 0, 0, 100]), None);
        assert_eq!(push(&[200, 0, 0, 3, 0xe8]), None);
        assert_eq!(push(&[200, 0, 0, 3, 0xe9]), Some(Rule::MessageLength));
    }

    #[test]
    fn buffer_grows_with_what_arrives() {
        let mut assembler = Assembler::default();
        let mut header: &[u8] = &[1, 0x01, 0, 0, 0];
        let bounds = Bounds { max_body: |_| Some(u32::MAX), cap: u32::MAX };
        assembler.push(&mut header, bounds).unwrap();
        assert_eq!(assembler.body.capacity(), 0);
        assembler.push(&mut &[0; 10][..], bounds).unwrap();
        assert!(assembler.body.capacity() <= BODY_FIRST);
    }
}
