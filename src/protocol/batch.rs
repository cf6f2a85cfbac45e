//! BATCH: steps that rebuild files, and the new bytes that they need.
//!
//! Body: `[batch.steps-length]`, `[batch.literals-length]`, `[batch.prefix-length]`, each u32 big-endian (of the literals the
//! unpacked bytes), `[batch.packing]` u8, then the steps, then the literals to the end. Bit 0 of the packing says that
//! the literals are one zstd frame whose history is the prefix, bit 1 that the steps are packed (their length then
//! counts the packed form), bit 2 that the literals are the next part of the answer's stream ([`history`](super::history)).

use super::compress::{self, Level};
use super::effort::{Effort, SMALL};
use super::history::{Packer, Unpacker};
use super::limits::{
    BATCH_HEAD_LEN, BATCH_LITERALS_MAX, BATCH_PREFIX_MAX, BATCH_STEPS_BYTES_MAX, BATCH_STEPS_MAX, BATCH_TARGET,
    CONTEXT_LEN,
};
use super::message::{Message, tag};
use super::packed::{pack, unpack, unpack_exactly};
use super::step::{Step, decode_steps, encode_steps};
use crate::tree::codec::{Malformed, bounded};
use crate::tree::name::TreePath;

/// A part of the context of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The step that it belongs to.
    pub step: usize,
    /// What of it.
    pub side: Side,
}

/// What of a step gives context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Its first bytes, [`CONTEXT_LEN`] at most; of HAVE those of its first chunk.
    Start,
    /// Its last bytes, [`CONTEXT_LEN`] at most; of HAVE those of its last chunk. If its start is context too, no byte of that.
    End {
        /// The start of the step is context too.
        with_start: bool,
    },
    /// All of it, which is what OLD says.
    All,
}

/// Which bytes give context to a batch: those of OLD steps, and for each literal the end of the matched bytes right before
/// it and the start of those right behind it, as far as they stand in the same batch and file. They stand in the prefix in
/// the order of the steps.
#[must_use]
pub fn context(steps: &[Step]) -> Vec<Part> {
    let literal =
        |at: Option<usize>| at.and_then(|at| steps.get(at)).is_some_and(|s| matches!(s, Step::Literal { .. }));
    let mut parts = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Old { .. } => parts.push(Part { step: at, side: Side::All }),
            step if step.is_matched() => {
                let (before, behind) = (literal(at.checked_sub(1)), literal(Some(at + 1)));
                parts.extend(before.then_some(Part { step: at, side: Side::Start }));
                parts.extend(behind.then_some(Part { step: at, side: Side::End { with_start: before } }));
            }
            _ => {}
        }
    }
    parts
}

impl Side {
    /// Which of `len` bytes: offset and length. With `alone`, start and end are of the same bytes, else each of its own.
    #[must_use]
    pub fn of(self, len: u64, alone: bool) -> (u64, u64) {
        let most = CONTEXT_LEN as u64;
        let start = len.min(most);
        match self {
            Self::Start => (0, start),
            Self::End { with_start } => {
                let end = if with_start && alone { (len - start).min(most) } else { start };
                (len - end, end)
            }
            Self::All => (0, len),
        }
    }
}

/// A batch whose literals are still packed.
#[derive(Debug)]
pub struct Batch<'a> {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// Bytes of context.
    pub prefix_len: usize,
    literals_len: usize,
    packing: u8,
    literals: &'a [u8],
}

const PACKED_LITERALS: u8 = 1;
const PACKED_STEPS: u8 = 2;
const IN_STREAM: u8 = 4;

impl<'a> Batch<'a> {
    /// Decodes head and steps, and checks that the lengths of the literals add up.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let rule = |rule| Malformed::Rule { what: "batch", rule };
        let (head, rest) = body.split_first_chunk::<BATCH_HEAD_LEN>().ok_or_else(|| rule("the head is cut"))?;
        let [s0, s1, s2, s3, l0, l1, l2, l3, p0, p1, p2, p3, packing] = *head;
        let steps_len = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        let literals_len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let prefix_len = u32::from_be_bytes([p0, p1, p2, p3]) as usize;
        bounded("steps of a batch", steps_len as u64, BATCH_STEPS_BYTES_MAX as u64)?;
        bounded("literals of a batch", literals_len as u64, BATCH_LITERALS_MAX as u64)?;
        bounded("prefix of a batch", prefix_len as u64, BATCH_PREFIX_MAX as u64)?;
        if packing & !(PACKED_LITERALS | PACKED_STEPS | IN_STREAM) != 0 {
            return Err(rule("its packing is unknown"));
        }
        if packing & (PACKED_LITERALS | IN_STREAM) == PACKED_LITERALS | IN_STREAM {
            return Err(rule("its literals are packed in two ways"));
        }
        let (steps, literals) = rest.split_at_checked(steps_len).ok_or_else(|| rule("the steps are cut"))?;
        let steps = if packing & PACKED_STEPS == 0 { decode_steps(steps)? } else { decode_steps(&unpack(steps)?)? };
        if steps.is_empty() {
            return Err(rule("it has no steps"));
        }
        let starts_file = |i: usize| i.checked_sub(1).and_then(|i| steps.get(i)).is_none_or(Step::ends_file);
        if steps.iter().enumerate().any(|(i, step)| matches!(step, Step::Basis(_)) && !starts_file(i)) {
            return Err(rule("it names a basis in the middle of a file"));
        }
        if packing & PACKED_LITERALS == 0 && prefix_len > 0 {
            return Err(rule("it has a prefix and nothing that needs one"));
        }
        let sum = |bytes: fn(&Step) -> u64| steps.iter().try_fold(0u64, |sum, step| sum.checked_add(bytes(step)));
        if sum(Step::literal_bytes) != Some(literals_len as u64) {
            return Err(rule("the lengths of its literals do not add up"));
        }
        let old = sum(|step| if let Step::Old { len, .. } = step { *len } else { 0 });
        if old.is_none_or(|old| old > prefix_len as u64) && prefix_len > 0 {
            return Err(rule("its context is longer than its prefix"));
        }
        Ok(Self { steps, prefix_len, literals_len, packing, literals })
    }

    /// What the literals take as they stand here.
    #[must_use]
    pub fn packed_len(&self) -> usize {
        self.literals.len()
    }

    /// Whether it can be read without the batches before it.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        self.packing & IN_STREAM == 0
    }

    /// The literal bytes of one that stands alone, unpacked with `prefix` as their context.
    ///
    /// # Errors
    /// [`Malformed`] when they are not exactly what the head says.
    pub fn literals(&self, prefix: &[u8]) -> Result<Vec<u8>, Malformed> {
        let literals = match self.packing & (PACKED_LITERALS | IN_STREAM) {
            0 if self.literals.len() == self.literals_len => Some(self.literals.to_vec()),
            PACKED_LITERALS => unpack_exactly(self.literals, self.literals_len, prefix),
            _ => None,
        };
        literals.ok_or(Malformed::Rule { what: "batch", rule: "its literals are not of the named length" })
    }

    /// As [`literals`](Self::literals), for a batch of an answer that has `stream`; `None` before its first part.
    ///
    /// # Errors
    /// [`Malformed`] when they are not exactly what the head says. The stream is of no further use then.
    pub fn literals_in(&self, stream: &mut Option<Unpacker>, prefix: &[u8]) -> Result<Vec<u8>, Malformed> {
        if self.stands_alone() {
            return self.literals(prefix);
        }
        if stream.is_none() {
            *stream = Unpacker::new();
        }
        let literals = stream.as_mut().and_then(|stream| stream.unpack(self.literals, self.literals_len));
        literals.ok_or(Malformed::Rule { what: "batch", rule: "its part of the stream is not of the named length" })
    }
}

/// A batch that is being filled.
#[derive(Debug, Default)]
pub struct BatchWriter {
    steps: Vec<Step>,
    lengths: usize,
    literals: Vec<u8>,
    prefix: Vec<u8>,
    effort: Effort,
    /// Bytes of literals in all batches so far.
    packed: u64,
    stream: Stream,
}

/// The stream of an answer, of which literals can be parts.
#[derive(Debug, Default)]
enum Stream {
    /// It has no part yet.
    #[default]
    Fresh,
    Open(Packer),
    /// It failed: what was to come of it can never be read.
    Broken,
}

/// How many times longer than its context a batch is packed without it, in the stream: what came before is worth more.
const LONGER_THAN_CONTEXT: usize = 4;

impl BatchWriter {
    /// How batches are made from here on.
    pub fn set_effort(&mut self, effort: Effort) {
        self.effort = effort;
    }

    /// Bytes of literals in all batches that were taken.
    #[must_use]
    pub fn packed(&self) -> u64 {
        self.packed
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the batch should go before `more` further literal bytes.
    #[must_use]
    pub fn is_full(&self, more: usize) -> bool {
        let size = self.literals.len() + more;
        !self.steps.is_empty() && size > BATCH_TARGET || self.steps.len() + self.lengths / 4 >= BATCH_STEPS_MAX / 2
    }

    /// Whether so many bytes of context have no place in it.
    #[must_use]
    pub fn is_full_of_context(&self, more: usize) -> bool {
        self.prefix.len() + more > BATCH_PREFIX_MAX
    }

    /// Appends a chunk of a file that is sent whole.
    pub fn chunk(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.lengths += 1;
        match self.steps.last_mut() {
            Some(Step::Chunks { lengths, last: false }) => lengths.push(length),
            _ => self.steps.push(Step::Chunks { lengths: vec![length], last: false }),
        }
        self.literals.extend_from_slice(bytes);
    }

    /// Appends new bytes of a file. `before` is what the step before it gives as context, empty if it gives none.
    pub fn literal(&mut self, bytes: &[u8], before: &[u8]) {
        self.literals.extend_from_slice(bytes);
        self.prefix.extend_from_slice(before);
        let more = bytes.len() as u64;
        match self.steps.last_mut() {
            Some(Step::Literal { len }) => *len += more,
            _ => self.steps.push(Step::Literal { len: more }),
        }
    }

    /// Whether the next matched step gives its start as context: a literal stands right before it.
    #[must_use]
    pub fn wants_start(&self) -> bool {
        matches!(self.steps.last(), Some(Step::Literal { .. }))
    }

    /// Whether the last step is matched, so that its end is context of a literal that follows, and if so whether its start
    /// was context too.
    #[must_use]
    pub fn wants_end(&self) -> Option<Side> {
        let (last, rest) = self.steps.split_last()?;
        let with_start = matches!(rest.last(), Some(Step::Literal { .. }));
        last.is_matched().then_some(Side::End { with_start })
    }

    /// Appends a COPY, a HAVE or an OLD, which is not to be one with the step before it. `context` is its start, when
    /// [`wants_start`](Self::wants_start) says so, or all of an OLD.
    pub fn step(&mut self, step: Step, context: &[u8]) {
        self.prefix.extend_from_slice(context);
        self.steps.push(step);
    }

    /// Says where the copies of the file that begins come from.
    pub fn basis(&mut self, path: TreePath) {
        self.steps.push(Step::Basis(path));
    }

    /// Ends the file.
    pub fn end(&mut self) {
        match self.steps.last_mut() {
            Some(Step::Chunks { last, .. }) if !*last => *last = true,
            _ => self.steps.push(Step::End),
        }
    }

    /// Ends the file because its content is gone.
    pub fn gone(&mut self) {
        self.steps.push(Step::Gone);
    }

    /// Packs what was added.
    #[must_use]
    pub fn take(&mut self) -> Message {
        self.take_with_context().0
    }

    /// Packs what was added, and gives the context with which the literals can be read again; empty for none.
    #[must_use]
    pub fn take_with_context(&mut self) -> (Message, Vec<u8>) {
        let mut done = std::mem::take(self);
        (self.effort, self.packed) = (done.effort, done.packed + done.literals.len() as u64);
        self.stream = std::mem::take(&mut done.stream);
        let (mut steps, mut packing) = (encode_steps(&done.steps), 0);
        if steps.len() > STEPS_PACKED_FROM {
            let packed = pack(&steps);
            if packed.len() < steps.len() {
                steps = packed;
                packing |= PACKED_STEPS;
            }
        }
        // What is left of a change is small beside what it would be, and the receiver waits for little else.
        let rebuilt = done.steps.iter().any(Step::is_matched);
        let level = done.effort.level_for(done.literals.len(), rebuilt);
        let (mut packed, mut uses_prefix) = (None, false);
        if compress::is_worth_it(&done.literals, level) {
            if let Some(part) = self.in_stream(&done, rebuilt, level) {
                packing |= IN_STREAM;
                packed = Some(part);
            } else if let Some(alone) = compress::literals(&done.literals, &done.prefix, level) {
                packing |= PACKED_LITERALS;
                (packed, uses_prefix) = (Some(alone.frame), alone.uses_prefix);
            }
        }
        if !uses_prefix {
            done.prefix.clear();
        }
        let literals = packed.as_ref().unwrap_or(&done.literals);
        let mut body = Vec::with_capacity(BATCH_HEAD_LEN + steps.len() + literals.len());
        for length in [steps.len(), done.literals.len(), done.prefix.len()] {
            body.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
        body.push(packing);
        body.extend_from_slice(&steps);
        body.extend_from_slice(literals);
        (Message { tag: tag::BATCH, body }, done.prefix)
    }

    /// The literals of `done` as the next part of the stream, if they are packed so.
    fn in_stream(&mut self, done: &Self, rebuilt: bool, level: Level) -> Option<Vec<u8>> {
        let (literals, prefix) = (done.literals.len(), done.prefix.len());
        let begins = matches!(self.stream, Stream::Fresh);
        let fits = prefix.saturating_mul(LONGER_THAN_CONTEXT) <= literals && literals > if begins { SMALL } else { 0 };
        if !self.effort.history || !fits {
            return None;
        }
        let mut packer = match std::mem::replace(&mut self.stream, Stream::Broken) {
            Stream::Fresh => Packer::new()?,
            Stream::Open(packer) => packer,
            Stream::Broken => return None,
        };
        // Another level ends the history: what is rebuilt or small is not worth that.
        let large = literals > SMALL && !rebuilt;
        let level = packer.level().filter(|_| !large).unwrap_or(level);
        let part = packer.pack(&done.literals, level)?;
        self.stream = Stream::Open(packer);
        Some(part)
    }
}

/// Bytes of steps from which they are packed.
const STEPS_PACKED_FROM: usize = 64;
