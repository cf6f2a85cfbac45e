//! What a peer may cost that carries no stream data: the rates and counts of its small records.

use crate::protocol::bucket::Bucket;
use crate::protocol::error::Rule;
use crate::protocol::limits::{
    CONTROL_BURST, CONTROL_PER_SECOND, CREDIT_MIN, CREDIT_RECORDS_SPARE, PING_BURST, PING_REFILL_MS, RESET_BURST,
    RESET_PER_SECOND,
};

/// Counts of what the peer has sent.
pub(super) struct Floods {
    control: Bucket,
    ping: Bucket,
    reset: Bucket,
    credits: u64,
    answers: u64,
}

impl Floods {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            control: Bucket::per_second(CONTROL_BURST, CONTROL_PER_SECOND, now_ms),
            ping: Bucket::new(PING_BURST, u64::from(PING_REFILL_MS) * 1000, now_ms),
            reset: Bucket::per_second(RESET_BURST, RESET_PER_SECOND, now_ms),
            credits: 0,
            answers: 0,
        }
    }

    pub(super) fn control(&mut self, now_ms: u64) -> Result<(), Rule> {
        if self.control.take(now_ms) { Ok(()) } else { Err(Rule::FloodControl) }
    }

    pub(super) fn ping(&mut self, now_ms: u64) -> Result<(), Rule> {
        if self.ping.take(now_ms) { Ok(()) } else { Err(Rule::FloodPing) }
    }

    /// A RESET of a stream that the peer opened itself.
    pub(super) fn reset_own(&mut self, now_ms: u64) -> Result<(), Rule> {
        if self.reset.take(now_ms) { Ok(()) } else { Err(Rule::FloodReset) }
    }

    /// A RESET of one of the `opened` streams that this side has opened: one each at most.
    pub(super) fn reset_answer(&mut self, opened: u64) -> Result<(), Rule> {
        self.answers += 1;
        if self.answers <= opened { Ok(()) } else { Err(Rule::FloodReset) }
    }

    /// A CREDIT record, after `data_sent` bytes of stream data have been sent to the peer.
    pub(super) fn credit(&mut self, data_sent: u64) -> Result<(), Rule> {
        self.credits += 1;
        let explained = data_sent / u64::from(CREDIT_MIN) + CREDIT_RECORDS_SPARE;
        if self.credits <= explained { Ok(()) } else { Err(Rule::FloodCredit) }
    }
}

/// The pace of control messages that this side keeps: half of what the peer would bear, so that
/// what a stalled line delivers at once is still borne.
pub(super) fn control_pace(now_ms: u64) -> Bucket {
    Bucket::per_second(CONTROL_BURST / 2, CONTROL_PER_SECOND / 2, now_ms)
}

/// As [`control_pace`], for RESETs of this side's own streams.
pub(super) fn reset_pace(now_ms: u64) -> Bucket {
    Bucket::per_second(RESET_BURST / 2, RESET_PER_SECOND / 2, now_ms)
}
