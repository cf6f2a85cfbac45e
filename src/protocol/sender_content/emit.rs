//! The steps of a file that is rebuilt, as they go into batches.
//!
//! What the receiver has is kept back until something else follows: copies that go on where the last one ended become one
//! step, and only then is it known which of their bytes are context.

use std::collections::VecDeque;

use super::layout::Have;
use super::stored::Stored;
use crate::protocol::batch::{BatchWriter, Side};
use crate::protocol::limits::CONTEXT_LEN;
use crate::protocol::message::Message;
use crate::protocol::step::Step;

/// Batches that are full, each with its context, and the one that is being filled.
#[derive(Default)]
pub(super) struct Out {
    pub(super) ready: VecDeque<(Message, Vec<u8>)>,
    pub(super) batch: BatchWriter,
}

impl Out {
    pub(super) fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.ready.push_back(self.batch.take_with_context());
        }
    }
}

/// What the receiver has, next to each other.
#[derive(Debug, Clone, Copy)]
enum Matched {
    Copy { from: u64, at: u64, len: u64 },
    Have(Have),
}

impl Matched {
    fn step(self) -> Step {
        match self {
            Self::Copy { from, len, .. } => Step::Copy { from, len },
            Self::Have(have) => Step::Have { count: have.count },
        }
    }

    /// Where the context on that side stands in the file, and its length.
    fn context(self, side: Side) -> (u64, u64) {
        match self {
            Self::Copy { at, len, .. } => {
                let (offset, len) = side.of(len, true);
                (at + offset, len)
            }
            Self::Have(Have { count, at, len, first, last }) => {
                let (begin, chunk) = if side == Side::Start { (at, first) } else { (at + len - last, last) };
                let (offset, len) = side.of(chunk, count == 1);
                (begin + offset, len)
            }
        }
    }
}

/// Writes the steps of one file.
#[derive(Default)]
pub(super) struct Emitter {
    /// What is kept back.
    pending: Option<Matched>,
    /// What the last step of the batch is, if it is matched.
    written: Option<Matched>,
}

impl Emitter {
    /// Bytes of the basis, which stand at the offset `at` of the file.
    pub(super) fn copy(&mut self, out: &mut Out, stored: &Stored<'_>, from: u64, at: u64, more: u64) {
        match &mut self.pending {
            Some(Matched::Copy { from: before, len, .. }) if *before + *len == from => *len += more,
            _ => {
                self.write_pending(out, stored);
                self.pending = Some(Matched::Copy { from, at, len: more });
            }
        }
    }

    /// Chunks that the receiver has.
    pub(super) fn have(&mut self, out: &mut Out, stored: &Stored<'_>, have: Have) {
        self.write_pending(out, stored);
        self.pending = Some(Matched::Have(have));
    }

    /// New bytes. `old` are bytes of the basis that are like them, and where they begin: a better context than what stands
    /// before.
    pub(super) fn literal(&mut self, out: &mut Out, stored: &Stored<'_>, bytes: &[u8], old: Option<(u64, Vec<u8>)>) {
        self.write_pending(out, stored);
        let context = old.as_ref().map_or(0, |(_, old)| old.len()) + 2 * CONTEXT_LEN;
        if out.batch.is_full(bytes.len()) || out.batch.is_full_of_context(context) {
            self.flush(out);
        }
        let mut before = Vec::new();
        if let Some((from, old)) = old {
            self.written = None;
            out.batch.step(Step::Old { from, len: old.len() as u64 }, &old);
        }
        if let (Some(side), Some(written)) = (out.batch.wants_end(), self.written.take()) {
            let (at, len) = written.context(side);
            match stored.context(at, len) {
                Some(bytes) => before = bytes,
                // In a batch of its own it gives no context, so its bytes are not needed.
                None => self.flush(out),
            }
        }
        out.batch.literal(bytes, &before);
    }

    /// The file is complete.
    pub(super) fn end(&mut self, out: &mut Out, stored: &Stored<'_>) {
        self.write_pending(out, stored);
        out.batch.end();
    }

    fn write_pending(&mut self, out: &mut Out, stored: &Stored<'_>) {
        let Some(pending) = self.pending.take() else { return };
        if out.batch.is_full(0) {
            self.flush(out);
        }
        let mut start = Vec::new();
        if out.batch.wants_start() {
            let (at, len) = pending.context(Side::Start);
            match stored.context(at, len) {
                Some(bytes) => start = bytes,
                None => self.flush(out),
            }
        }
        out.batch.step(pending.step(), &start);
        self.written = Some(pending);
    }

    fn flush(&mut self, out: &mut Out) {
        self.written = None;
        out.flush();
    }
}
