//! The clocks of a connection: silence, drain rate, credit, lifetime.

use super::{Connection, State};
use crate::protocol::error::{ProtocolError, Rule, Timer};
use crate::protocol::limits::{
    CREDIT_STALL_MS_MAX, DRAIN_BYTES_MIN, DRAIN_SPAN_MS, LIFETIME_MS_MAX, PING_IDLE_MS, SILENCE_MS_MAX,
};
use crate::protocol::record::PingToken;

/// What the clocks need to remember.
pub(super) struct Timers {
    now_ms: u64,
    born_ms: u64,
    /// When the last record of the peer was opened.
    heard_ms: u64,
    /// The PING that awaits its answer.
    asked: Option<PingToken>,
    pings: u64,
    /// Bytes sealed but not yet taken by the socket.
    unsent: u64,
    /// Bytes the socket has taken.
    sent: u64,
    /// Since when bytes have been waiting for the socket, and how many it had taken then.
    drain: Option<(u64, u64)>,
    /// Since when all waiting streams have been without credit.
    stall_ms: Option<u64>,
}

impl Timers {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            now_ms,
            born_ms: now_ms,
            heard_ms: now_ms,
            asked: None,
            pings: 0,
            unsent: 0,
            sent: 0,
            drain: None,
            stall_ms: None,
        }
    }

    /// Moves the clock; it never goes back.
    pub(super) fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    pub(super) fn now(&self) -> u64 {
        self.now_ms
    }

    pub(super) fn heard(&mut self) {
        self.heard_ms = self.now_ms;
    }

    pub(super) fn pong(&mut self, token: PingToken) -> Result<(), Rule> {
        if self.asked.take() == Some(token) { Ok(()) } else { Err(Rule::FloodPing) }
    }

    pub(super) fn emitted(&mut self, bytes: usize) {
        self.unsent += bytes as u64;
    }

    pub(super) fn progressed(&mut self) {
        self.stall_ms = None;
    }

    pub(super) fn credited(&mut self) {
        self.stall_ms = None;
    }

    fn next_token(&mut self) -> PingToken {
        self.pings += 1;
        let token = self.pings.to_be_bytes();
        self.asked = Some(token);
        token
    }
}

impl Connection {
    /// Says that the socket took `bytes` of what [`Connection::poll_transmit`] gave.
    pub fn transmitted(&mut self, now_ms: u64, bytes: usize) {
        self.timers.advance(now_ms);
        self.timers.sent += bytes as u64;
        self.timers.unsent = self.timers.unsent.saturating_sub(bytes as u64);
        if !self.has_backlog() {
            self.timers.drain = None;
        }
    }

    /// Lets time pass; to be called at [`Connection::next_timeout`], and whenever it suits.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Result<(), ProtocolError> {
        self.timers.advance(now_ms);
        match self.state {
            State::Failed(error) => return Err(error),
            State::Closed => return Ok(()),
            State::Open | State::Closing(_) => {}
        }
        let expired = self.check_silence().or(self.check_drain()).or(self.check_credit());
        if let Some(timer) = expired {
            return Err(self.fail(ProtocolError::TimedOut { timer }));
        }
        if self.timers.now_ms.saturating_sub(self.timers.born_ms) >= LIFETIME_MS_MAX {
            self.expire();
        }
        Ok(())
    }

    /// When [`Connection::handle_timeout`] is due next; `None` when never.
    pub fn next_timeout(&self) -> Option<u64> {
        if self.is_closed() {
            return None;
        }
        let timers = &self.timers;
        let patience_ms = if timers.asked.is_some() { SILENCE_MS_MAX } else { PING_IDLE_MS };
        let silence = self.wants_input().then(|| timers.heard_ms.saturating_add(patience_ms));
        let drain = timers.drain.map(|(since, _)| since.saturating_add(DRAIN_SPAN_MS));
        let stall = timers.stall_ms.map(|since| since.saturating_add(CREDIT_STALL_MS_MAX));
        let lifetime = (self.state == State::Open).then(|| timers.born_ms.saturating_add(LIFETIME_MS_MAX));
        let all = [silence, drain, stall, lifetime, self.pace_ms()];
        all.into_iter().flatten().min()
    }

    /// A side that does not read cannot tell silence, so the clock stands still meanwhile.
    fn check_silence(&mut self) -> Option<Timer> {
        let wants_input = self.wants_input();
        let timers = &mut self.timers;
        if !wants_input {
            timers.heard_ms = timers.now_ms;
            return None;
        }
        let silent_ms = timers.now_ms.saturating_sub(timers.heard_ms);
        if silent_ms >= SILENCE_MS_MAX {
            return Some(Timer::Silence);
        }
        if silent_ms >= PING_IDLE_MS && timers.asked.is_none() {
            self.ping_out = Some(timers.next_token());
        }
        None
    }

    fn check_drain(&mut self) -> Option<Timer> {
        let backlog = self.has_backlog();
        let timers = &mut self.timers;
        match timers.drain {
            _ if !backlog => timers.drain = None,
            None => timers.drain = Some((timers.now_ms, timers.sent)),
            Some((since, before)) if timers.now_ms.saturating_sub(since) >= DRAIN_SPAN_MS => {
                if timers.sent - before < DRAIN_BYTES_MIN {
                    return Some(Timer::Drain);
                }
                timers.drain = Some((timers.now_ms, timers.sent));
            }
            Some(_) => {}
        }
        None
    }

    fn check_credit(&mut self) -> Option<Timer> {
        let starved = !self.has_listed() && self.streams.values().any(|s| s.send.is_starved());
        let timers = &mut self.timers;
        match timers.stall_ms {
            _ if !starved => timers.stall_ms = None,
            None => timers.stall_ms = Some(timers.now_ms),
            Some(since) if timers.now_ms.saturating_sub(since) >= CREDIT_STALL_MS_MAX => {
                return Some(Timer::Credit);
            }
            Some(_) => {}
        }
        None
    }

    /// Whether bytes wait for nothing but the socket. What pacing holds back does not count.
    fn has_backlog(&self) -> bool {
        self.timers.unsent > 0 || self.has_output()
    }
}
