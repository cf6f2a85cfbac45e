//! Granting credit: how much the peer may send before the application has caught up.
//!
//! A direction's credit and its held messages together stay within its window; the message in
//! assembly does not count there, so one longer than the window can arrive. Over all streams
//! credit, assembly and held messages stay within the connection's window, except for one
//! favoured stream at a time, which may complete its message: else many half-arrived messages
//! could each wait for room that only the others' completion would give.

use super::{Connection, StreamId};
use crate::protocol::limits::{CONNECTION_WINDOW_MAX, CREDIT_MIN, STREAM_WINDOW_MAX};

impl Connection {
    /// Grants credit to a stream if it is worth a record and within bounds.
    pub(super) fn consider_grant(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let recv = &mut stream.recv;
        if recv.ended {
            return;
        }
        let room = recv.window.saturating_sub(recv.held + recv.credit);
        if room < (recv.window / 2).max(u64::from(CREDIT_MIN)) {
            return;
        }
        let free = CONNECTION_WINDOW_MAX.saturating_sub(self.committed);
        let amount = if room <= free {
            grown(&mut recv.window, &mut recv.since_growth, room, free)
        } else if free >= u64::from(CREDIT_MIN) {
            self.starving.insert(id);
            free
        } else if !recv.assembler.is_idle() && *self.favoured.get_or_insert(id) == id {
            // A header that is not whole has no length yet: one byte shows it.
            let missing = (recv.assembler.missing() as u64).max(1);
            match missing.saturating_sub(recv.credit) {
                0 => return,
                needed => needed.clamp(u64::from(CREDIT_MIN), room),
            }
        } else {
            self.starving.insert(id);
            return;
        };
        if recv.grant == 0 {
            self.credits_out.push_back(id);
        }
        recv.grant += amount;
        recv.credit += amount;
        self.committed += amount;
    }

    /// Looks again at streams that had to wait for the connection's bound.
    pub(super) fn consider_starving(&mut self) {
        if self.starving.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.starving) {
            self.consider_grant(id);
        }
    }

    /// Passes the favour on once nothing of the message it was given for is held any more.
    pub(super) fn end_favour(&mut self, id: StreamId) {
        let held = self.streams.get(&id).is_some_and(|stream| stream.recv.held > 0);
        if self.favoured == Some(id) && !held {
            self.favoured = None;
            self.consider_starving();
        }
    }
}

/// Doubles a window through which its own length has flowed, if the bounds allow it; gives the
/// room that is then there.
fn grown(window: &mut u64, since_growth: &mut u64, room: u64, free: u64) -> u64 {
    let wider = (*window * 2).min(u64::from(STREAM_WINDOW_MAX));
    let room_then = room + (wider - *window);
    if *since_growth < *window || room_then > free {
        return room;
    }
    *since_growth = 0;
    *window = wider;
    room_then
}
