//! From queues to sealed records, the urgent ones first.

use super::{Connection, Event, Farewell, Priority, State, StreamId};
use crate::protocol::error::close;
use crate::protocol::noise::NoiseError;
use crate::protocol::record::{CONTROL_STREAM, Record, write_data};

/// Records kept back for closing before a direction has used up its keys.
const RECORDS_RESERVED: u64 = 16;

impl Connection {
    /// Appends sealed records to `out` until about `budget` bytes are there or nothing is left
    /// to send; gives how many bytes were added. The last record may go beyond the budget.
    pub fn poll_transmit(&mut self, now_ms: u64, out: &mut Vec<u8>, budget: usize) -> usize {
        self.timers.advance(now_ms);
        let start = out.len();
        while out.len() - start < budget {
            match self.write_next(out) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.fail(error.into());
                    break;
                }
            }
        }
        let added = out.len() - start;
        self.timers.emitted(added);
        added
    }

    /// Puts a stream into the queue of its priority if it can send and stands in none.
    pub(super) fn list(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.send.listed || !stream.send.is_ready() {
            return;
        }
        stream.send.listed = true;
        match stream.priority {
            Priority::Live => self.live.push_back(id),
            Priority::Bulk => self.bulk.push_back(id),
        }
    }

    /// Whether a record would be written now, pacing apart.
    pub(super) fn has_sendable(&self) -> bool {
        match self.state {
            State::Closed => false,
            State::Failed(_) => self.farewell.is_some(),
            State::Closing(_) => true,
            State::Open => {
                self.has_urgent() || self.has_listed() || self.control_out.queued > 0 || !self.resets_out.is_empty()
            }
        }
    }

    /// Whether a record waits that neither credit nor pace holds back.
    pub(super) fn has_urgent(&self) -> bool {
        self.ping_out.is_some() || !self.pongs_out.is_empty() || !self.credits_out.is_empty()
    }

    /// Whether a control message waits and its pace lets it go.
    pub(super) fn is_control_due(&self) -> bool {
        self.control_out.queued > 0 && self.control_pace.ready_ms() <= self.timers.now()
    }

    /// Whether a RESET waits and its pace lets it go.
    pub(super) fn is_reset_due(&self) -> bool {
        !self.resets_out.is_empty() && self.reset_pace.ready_ms() <= self.timers.now()
    }

    /// Whether a stream waits for its turn.
    pub(super) fn has_listed(&self) -> bool {
        !self.opening.is_empty() || !self.live.is_empty() || !self.bulk.is_empty()
    }

    /// When pacing lets the next control message or RESET go, if one waits for that.
    pub(super) fn pace_ms(&self) -> Option<u64> {
        let control = (self.control_out.queued > 0).then(|| self.control_pace.ready_ms());
        let reset = (!self.resets_out.is_empty()).then(|| self.reset_pace.ready_ms());
        control.into_iter().chain(reset).filter(|at| *at > self.timers.now()).min()
    }

    /// Writes the most urgent record there is.
    fn write_next(&mut self, out: &mut Vec<u8>) -> Result<bool, NoiseError> {
        match self.state {
            State::Closed => return Ok(false),
            State::Failed(_) => return self.write_farewell(out),
            State::Open if self.sealer.records_left() <= RECORDS_RESERVED => {
                self.expire();
            }
            State::Open | State::Closing(_) => {}
        }
        if self.write_urgent(out)? {
            return Ok(true);
        }
        if let State::Closing(code) = self.state {
            Record::Close { code }.write(&mut self.sealer, out)?;
            self.state = State::Closed;
            return Ok(true);
        }
        while let Some(id) = self.next_listed() {
            if self.write_stream(id, out)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn write_farewell(&mut self, out: &mut Vec<u8>) -> Result<bool, NoiseError> {
        let record = match self.farewell.take() {
            None => return Ok(false),
            Some(Farewell::Error(code)) => Record::Error { code },
            Some(Farewell::Close(code)) => Record::Close { code },
        };
        record.write(&mut self.sealer, out)?;
        Ok(true)
    }

    /// Writes one record of those that need no credit.
    fn write_urgent(&mut self, out: &mut Vec<u8>) -> Result<bool, NoiseError> {
        let record = if let Some(token) = self.pongs_out.pop_front() {
            Record::Pong { token }
        } else if let Some(token) = self.ping_out.take() {
            Record::Ping { token }
        } else if let Some(record) = self.next_credit() {
            record
        } else if let Some(record) = self.next_reset() {
            record
        } else {
            return self.write_control(out);
        };
        record.write(&mut self.sealer, out)?;
        Ok(true)
    }

    fn next_credit(&mut self) -> Option<Record<'static>> {
        while let Some(id) = self.credits_out.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let grant = std::mem::take(&mut stream.recv.grant);
            if !stream.recv.ended
                && let Ok(amount) = u32::try_from(grant)
            {
                return Some(Record::Credit { stream: id, amount });
            }
        }
        None
    }

    fn next_reset(&mut self) -> Option<Record<'static>> {
        let (stream, code) = *self.resets_out.front()?;
        let own = stream % 2 == self.next_local % 2;
        if own && !self.reset_pace.take(self.timers.now()) {
            return None;
        }
        self.resets_out.pop_front();
        Some(Record::Reset { stream, code })
    }

    /// Writes the next control message as one record: it always fits.
    fn write_control(&mut self, out: &mut Vec<u8>) -> Result<bool, NoiseError> {
        if self.control_out.queued == 0 || !self.control_pace.take(self.timers.now()) {
            return Ok(false);
        }
        let half = &mut self.control_out;
        write_data(&mut self.sealer, out, CONTROL_STREAM, |body| {
            half.take_message(body);
            false
        })?;
        Ok(true)
    }

    fn next_listed(&mut self) -> Option<StreamId> {
        self.opening.pop_front().or_else(|| self.live.pop_front()).or_else(|| self.bulk.pop_front())
    }

    /// Writes one data record of a stream, and queues the stream again if it has more.
    fn write_stream(&mut self, id: StreamId, out: &mut Vec<u8>) -> Result<bool, NoiseError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(false);
        };
        let half = &mut stream.send;
        half.listed = false;
        if !half.is_ready() {
            return Ok(false);
        }
        let (limit, mut taken) = (self.record_body, 0);
        write_data(&mut self.sealer, out, id, |body| {
            taken = half.take(limit, body);
            half.finishing && half.queued == 0
        })?;
        half.opened = true;
        half.finished = half.finishing && half.queued == 0;
        self.data_sent += taken as u64;
        self.timers.progressed();
        if stream.is_over() {
            let local = stream.local;
            self.count_out(local);
            self.sweep(id);
        }
        self.list(id);
        Ok(true)
    }

    /// Closes the connection because its time or its records are used up.
    pub(super) fn expire(&mut self) {
        if self.state == State::Open {
            self.state = State::Closing(close::LIFETIME);
            self.events.push_back(Event::Closed(close::LIFETIME));
        }
    }
}
