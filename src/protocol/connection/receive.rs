//! From bytes to events: opening records and judging what they say.

use super::stream::{Bounds, Piece, Stream};
use super::{Connection, Event, Priority, Role, State, StreamId};
use crate::protocol::error::{ProtocolError, Rule};
use crate::protocol::limits::{CONTROL_BODY_MAX, CREDIT_MIN, MESSAGE_HEADER_LEN, STREAMS_MAX, TAG_LEN};
use crate::protocol::record::{CONTROL_STREAM, PingToken, Record, check_length};

/// A partial record's buffer is given back when it has grown beyond this many bytes, so that an
/// idle connection holds little.
const PARTIAL_KEPT: usize = 4 * 1024;

impl Connection {
    /// Takes bytes as they came from the socket, cut anywhere. They are decrypted where they
    /// lie, so the buffer holds nothing of use afterwards.
    pub fn handle_input(&mut self, now_ms: u64, input: &mut [u8]) -> Result<(), ProtocolError> {
        self.timers.advance(now_ms);
        match self.state {
            State::Failed(error) => return Err(error),
            // After a CLOSE in either direction nothing counts any more.
            State::Closed => return Ok(()),
            State::Open | State::Closing(_) => {}
        }
        self.read_records(input).map_err(|error| self.fail(error))
    }

    /// Takes the end of the byte stream; an error unless a CLOSE came or went before.
    pub fn handle_eof(&mut self) -> Result<(), ProtocolError> {
        match self.state {
            State::Closed => Ok(()),
            State::Failed(error) => Err(error),
            State::Open | State::Closing(_) => {
                let error = self.fail(ProtocolError::Truncated);
                self.farewell = None;
                Err(error)
            }
        }
    }

    fn read_records(&mut self, mut input: &mut [u8]) -> Result<(), ProtocolError> {
        while !input.is_empty() && self.state != State::Closed {
            input = match self.whole_record(input)? {
                Some(length) => {
                    let (record, rest) = input.split_at_mut(length);
                    self.open_record(record)?;
                    rest
                }
                None => self.keep_partial(input)?,
            };
        }
        Ok(())
    }

    /// The length of the record that `input` begins with, if it is all there.
    fn whole_record(&self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        match input.first_chunk::<2>() {
            Some(field) if self.partial.is_empty() => {
                let length = 2 + check_length(*field)?;
                Ok((length <= input.len()).then_some(length))
            }
            _ => Ok(None),
        }
    }

    /// Moves bytes into the partial record, and opens it when it is whole.
    fn keep_partial<'a>(&mut self, input: &'a mut [u8]) -> Result<&'a mut [u8], ProtocolError> {
        let missing = self.partial_missing()?;
        let (part, rest) = input.split_at_mut(missing.min(input.len()));
        self.partial.extend_from_slice(part);
        if self.partial.len() >= 2 && self.partial_missing()? == 0 {
            let mut record = std::mem::take(&mut self.partial);
            let opened = self.open_record(&mut record);
            if record.capacity() <= PARTIAL_KEPT {
                record.clear();
                self.partial = record;
            }
            opened?;
        }
        Ok(rest)
    }

    /// Bytes the partial record needs, as far as is known: its length field, then the rest.
    fn partial_missing(&self) -> Result<usize, ProtocolError> {
        match self.partial.first_chunk::<2>() {
            None => Ok(2 - self.partial.len()),
            Some(field) => Ok((2 + check_length(*field)?).saturating_sub(self.partial.len())),
        }
    }

    /// Opens a whole record, length field included.
    fn open_record(&mut self, record: &mut [u8]) -> Result<(), ProtocolError> {
        let (_, sealed) = record.split_first_chunk_mut::<2>().ok_or(Rule::RecordLength)?;
        let (body, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(Rule::RecordLength)?;
        self.opener.open(body, tag)?;
        self.timers.heard();
        match Record::parse(body)? {
            Record::Data { stream: CONTROL_STREAM, bytes, .. } => self.on_control(bytes)?,
            Record::Data { stream, last, bytes } => self.on_data(stream, last, bytes)?,
            Record::Credit { stream, amount } => self.on_credit(stream, amount)?,
            Record::Reset { stream, code } => self.on_reset(stream, code)?,
            Record::Ping { token } => self.on_ping(token)?,
            Record::Pong { token } => self.timers.pong(token)?,
            Record::Close { code } => {
                self.state = State::Closed;
                self.events.push_back(Event::Closed(code));
            }
            Record::Error { code } => return Err(ProtocolError::PeerClosed { code }),
        }
        Ok(())
    }

    fn on_ping(&mut self, token: PingToken) -> Result<(), Rule> {
        self.floods.ping(self.timers.now())?;
        self.pongs_out.push_back(token);
        Ok(())
    }

    fn on_control(&mut self, mut bytes: &[u8]) -> Result<(), Rule> {
        let bounds = Bounds { max_body: self.max_body, cap: CONTROL_BODY_MAX };
        while !bytes.is_empty() {
            if self.control_in.is_idle() {
                self.floods.control(self.timers.now())?;
            }
            if let Piece::Whole { tag, body } = self.control_in.push(&mut bytes, bounds)? {
                self.messages_held += 1;
                self.events.push_back(Event::Message { stream: CONTROL_STREAM, tag, body });
            }
        }
        Ok(())
    }

    fn on_data(&mut self, id: StreamId, last: bool, mut bytes: &[u8]) -> Result<(), Rule> {
        if !self.streams.contains_key(&id) && !self.admit(id, bytes)? {
            return Ok(());
        }
        let bounds = Bounds { max_body: self.max_body, cap: u32::MAX };
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let recv = &mut stream.recv;
        if recv.ended {
            return Err(Rule::StreamEnded);
        }
        let count = bytes.len() as u64;
        recv.credit = recv.credit.checked_sub(count).ok_or(Rule::CreditExceeded)?;
        recv.partial += count;
        recv.since_growth += count;
        while !bytes.is_empty() {
            match recv.assembler.push(&mut bytes, bounds)? {
                Piece::Incomplete => {}
                Piece::Whole { tag, body } => {
                    let size = (MESSAGE_HEADER_LEN + body.len()) as u64;
                    recv.partial -= size;
                    recv.held += size;
                    self.messages_held += 1;
                    self.events.push_back(Event::Message { stream: id, tag, body });
                }
                Piece::Skipped { bytes } => {
                    recv.partial -= bytes as u64;
                    self.committed -= bytes as u64;
                }
            }
        }
        if last {
            return self.on_last(id);
        }
        if recv.assembler.is_idle() {
            self.end_favour(id);
        }
        self.consider_grant(id);
        Ok(())
    }

    fn on_last(&mut self, id: StreamId) -> Result<(), Rule> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if !stream.recv.assembler.is_idle() {
            return Err(Rule::MessageCut);
        }
        stream.recv.ended = true;
        self.committed -= std::mem::take(&mut stream.recv.credit);
        let over = stream.is_over().then_some(stream.local);
        self.events.push_back(Event::Finished(id));
        if let Some(local) = over {
            self.count_out(local);
        }
        self.end_favour(id);
        self.consider_starving();
        self.sweep(id);
        Ok(())
    }

    /// Judges data for a stream that is not known: a new one, or late data of one this side has
    /// reset. Says whether there is a stream to take it.
    fn admit(&mut self, id: StreamId, bytes: &[u8]) -> Result<bool, Rule> {
        if !self.is_remote(id) || id <= self.last_remote {
            if !self.was_opened(id) {
                return Err(Rule::StreamId);
            }
            if self.state != State::Open {
                return Ok(false);
            }
            let cost = (bytes.len() as u64).max(1);
            self.late_bytes = self.late_bytes.checked_sub(cost).ok_or(Rule::StreamEnded)?;
            return Ok(false);
        }
        if bytes.is_empty() {
            return Err(Rule::RecordBody);
        }
        self.last_remote = id;
        if self.state != State::Open {
            return Ok(false);
        }
        if self.remote_open >= STREAMS_MAX {
            return Err(Rule::StreamCount);
        }
        let mut stream = Stream::new(false, Priority::Bulk);
        stream.send.opened = true;
        self.committed += stream.recv.committed();
        self.streams.insert(id, stream);
        self.remote_open += 1;
        self.events.push_back(Event::Opened(id));
        Ok(true)
    }

    fn on_credit(&mut self, id: StreamId, amount: u32) -> Result<(), Rule> {
        self.floods.credit(self.data_sent)?;
        if !self.was_opened(id) {
            return Err(Rule::StreamId);
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if amount == 0 || (amount < CREDIT_MIN && !stream.send.finishing) {
            return Err(Rule::CreditTiny);
        }
        stream.send.credit = stream.send.credit.saturating_add(u64::from(amount));
        self.timers.credited();
        self.list(id);
        Ok(())
    }

    fn on_reset(&mut self, id: StreamId, code: u16) -> Result<(), Rule> {
        if !self.was_opened(id) {
            return Err(Rule::StreamId);
        }
        if self.is_remote(id) {
            self.floods.reset_own(self.timers.now())?;
        } else {
            self.floods.reset_answer(u64::from((self.next_local - 1) / 2))?;
        }
        if self.streams.contains_key(&id) {
            self.remove(id);
            self.events.push_back(Event::Reset { stream: id, code });
        }
        Ok(())
    }

    /// Whether a stream of this id has been seen on the wire, in either direction.
    fn was_opened(&self, id: StreamId) -> bool {
        if self.is_remote(id) {
            return id <= self.last_remote;
        }
        let sent = self.streams.get(&id).is_none_or(|stream| stream.send.opened);
        id < self.next_local && sent
    }

    fn is_remote(&self, id: StreamId) -> bool {
        let odd = !id.is_multiple_of(2);
        odd != (self.role == Role::Initiator)
    }
}
