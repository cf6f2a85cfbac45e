//! BATCH: steps and literals of one or more files, with matched bytes on both sides of each literal run as context.
//!
//! Body: `[batch.steps-length]` u32, `[batch.literals-length]` u32, `[batch.prefix-length]` u32 (all big-endian, all of
//! unpacked bytes), `[batch.packing]` u8, then the steps, then the literals to the end. Bit 0 of the packing says that
//! the literals are one zstd frame whose history is the prefix, bit 1 that the steps are packed (their length then
//! counts the packed form).

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::compress;
use super::effort::Effort;
use super::limits::{
    BATCH_HEAD_LEN, BATCH_LITERALS_MAX, BATCH_PREFIX_MAX, BATCH_STEPS_BYTES_MAX, BATCH_STEPS_MAX, CONTEXT_LEN,
};
use super::message::{Message, tag};
use super::packed::{pack, unpack, unpack_exactly};
use crate::tree::codec::{Malformed, bounded, decode, encode};
use crate::tree::name::TreePath;

/// One step of rebuilding a file. On the wire: `[step.operation]`, `[step.first]`, `[step.count]`, `[step.lengths]`,
/// `[step.path]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// New chunks of these lengths, whose bytes are the next literals; the file may end here.
    Literal {
        /// Bytes of each chunk.
        lengths: Vec<u32>,
        /// Nothing of the file follows.
        last: bool,
    },
    /// The copies of this file come from the file at this path of the base. Stands before them, once a file.
    Basis(TreePath),
    /// Chunks of the basis.
    Copy {
        /// Index of the first in the basis' chunk list.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Chunks of the new file that the receiver said it has.
    Have {
        /// How many.
        count: u64,
    },
    /// The file is complete.
    End,
    /// The file's content is no longer what the head says, so it cannot be sent; it ends here.
    Gone,
}

#[derive(Serialize, Deserialize)]
struct WireStep(u8, u64, u64, Vec<u32>, ByteBuf);

const LITERAL: u8 = 0;
const COPY: u8 = 1;
const HAVE: u8 = 2;
const END: u8 = 3;
const GONE: u8 = 4;
const BASIS: u8 = 5;

impl From<&Step> for WireStep {
    fn from(step: &Step) -> Self {
        let plain = |operation, first, count| Self(operation, first, count, Vec::new(), ByteBuf::new());
        match step {
            Step::Literal { lengths, last } => Self(LITERAL, u64::from(*last), 0, lengths.clone(), ByteBuf::new()),
            Step::Copy { first, count } => plain(COPY, *first, *count),
            Step::Have { count } => plain(HAVE, 0, *count),
            Step::End => plain(END, 0, 0),
            Step::Gone => plain(GONE, 0, 0),
            Step::Basis(path) => Self(BASIS, 0, 0, Vec::new(), ByteBuf::from(path.as_bytes())),
        }
    }
}

impl TryFrom<WireStep> for Step {
    type Error = Malformed;

    fn try_from(wire: WireStep) -> Result<Self, Malformed> {
        let WireStep(operation, first, count, lengths, path) = wire;
        let rule = |rule| Err(Malformed::Rule { what: "step", rule });
        if operation != LITERAL && !lengths.is_empty() || lengths.contains(&0) {
            return rule("has lengths that it may not have");
        }
        if operation != BASIS && !path.is_empty() {
            return rule("has a path that it may not have");
        }
        match operation {
            LITERAL if first <= 1 && count == 0 && !lengths.is_empty() => {
                Ok(Self::Literal { lengths, last: first == 1 })
            }
            COPY if count > 0 && first.checked_add(count).is_some() => Ok(Self::Copy { first, count }),
            HAVE if first == 0 && count > 0 => Ok(Self::Have { count }),
            END if first == 0 && count == 0 => Ok(Self::End),
            GONE if first == 0 && count == 0 => Ok(Self::Gone),
            BASIS if first == 0 && count == 0 => Ok(Self::Basis(TreePath::new(&path)?)),
            _ => rule("is unknown or has fields that it may not have"),
        }
    }
}

impl Step {
    /// Whether the file ends with it.
    #[must_use]
    pub fn ends_file(&self) -> bool {
        matches!(self, Self::End | Self::Gone | Self::Literal { last: true, .. })
    }

    /// The lengths of the new chunks that it brings.
    #[must_use]
    pub fn lengths(&self) -> &[u32] {
        match self {
            Self::Literal { lengths, .. } => lengths,
            _ => &[],
        }
    }

    fn is_matched(&self) -> bool {
        matches!(self, Self::Copy { .. } | Self::Have { .. })
    }
}

/// Which matched chunks give context to a batch: for each literal run, the end of the chunk before it and the start of
/// the chunk behind it, as far as both stand in the same batch and file.
///
/// Gives pairs of a step's index and which of its chunks is meant, in the order in which the bytes stand in the prefix.
#[must_use]
pub fn context(steps: &[Step]) -> Vec<(usize, Side)> {
    let mut wanted = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let Step::Literal { last, .. } = step else { continue };
        if let Some(before) = i.checked_sub(1)
            && steps.get(before).is_some_and(Step::is_matched)
        {
            wanted.push((before, Side::End));
        }
        if !last && steps.get(i + 1).is_some_and(Step::is_matched) {
            wanted.push((i + 1, Side::Start));
        }
    }
    wanted
}

/// Which end of a matched step lies next to the literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first bytes of its first chunk.
    Start,
    /// The last bytes of its last chunk.
    End,
}

impl Side {
    /// The bytes of `chunk` that become context.
    #[must_use]
    pub fn of(self, chunk: &[u8]) -> &[u8] {
        let len = chunk.len().min(CONTEXT_LEN);
        match self {
            Self::Start => chunk.get(..len).unwrap_or_default(),
            Self::End => chunk.get(chunk.len() - len..).unwrap_or_default(),
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
    packed: bool,
    literals: &'a [u8],
}

const PACKED_LITERALS: u8 = 1;
const PACKED_STEPS: u8 = 2;

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
        if packing & !(PACKED_LITERALS | PACKED_STEPS) != 0 {
            return Err(rule("its packing is unknown"));
        }
        let (steps, literals) = rest.split_at_checked(steps_len).ok_or_else(|| rule("the steps are cut"))?;
        let wire: Vec<WireStep> =
            if packing & PACKED_STEPS == 0 { decode("steps", steps)? } else { decode("steps", &unpack(steps)?)? };
        bounded("steps of a batch", wire.len() as u64, BATCH_STEPS_MAX as u64)?;
        let steps: Vec<Step> = wire.into_iter().map(Step::try_from).collect::<Result<_, _>>()?;
        let named: u64 = steps.iter().map(Step::literal_bytes).sum();
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
        if named != literals_len as u64 {
            return Err(rule("the lengths of its chunks do not add up"));
        }
        Ok(Self { steps, prefix_len, literals_len, packed: packing & PACKED_LITERALS != 0, literals })
    }

    /// The literal bytes, unpacked with `prefix` as their context.
    ///
    /// # Errors
    /// [`Malformed`] when they are not exactly what the head says.
    pub fn literals(&self, prefix: &[u8]) -> Result<Vec<u8>, Malformed> {
        let wrong = || Malformed::Rule { what: "batch", rule: "its literals are not of the named length" };
        if !self.packed {
            return if self.literals.len() == self.literals_len { Ok(self.literals.to_vec()) } else { Err(wrong()) };
        }
        unpack_exactly(self.literals, self.literals_len, prefix).ok_or_else(wrong)
    }
}

impl Step {
    /// How many literal bytes it takes.
    pub(super) fn literal_bytes(&self) -> u64 {
        self.lengths().iter().map(|length| u64::from(*length)).sum()
    }
}

/// A batch that is being filled.
#[derive(Debug, Default)]
pub struct BatchWriter {
    steps: Vec<Step>,
    lengths: usize,
    literals: Vec<u8>,
    prefix: Vec<u8>,
    /// The end of the matched chunk right before, while a literal run may follow.
    before: Vec<u8>,
    effort: Effort,
    /// Bytes of literals in all batches so far.
    packed: u64,
}

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
        !self.steps.is_empty() && size > self.effort.target
            || self.steps.len() + self.lengths / 4 >= BATCH_STEPS_MAX / 2
            || self.prefix.len() + 2 * CONTEXT_LEN > BATCH_PREFIX_MAX
    }

    /// Appends a new chunk.
    pub fn literal(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.lengths += 1;
        match self.steps.last_mut() {
            Some(Step::Literal { lengths, last: false }) => lengths.push(length),
            _ => {
                self.prefix.append(&mut self.before);
                self.steps.push(Step::Literal { lengths: vec![length], last: false });
            }
        }
        self.literals.extend_from_slice(bytes);
    }

    /// Whether the next matched chunk's bytes are wanted as context: literals stand right before it.
    #[must_use]
    pub fn wants_start(&self) -> bool {
        matches!(self.steps.last(), Some(Step::Literal { last: false, .. }))
    }

    /// Appends a chunk of the basis (`Some` index) or one that the receiver has. `start` holds its bytes when
    /// [`wants_start`](Self::wants_start) said so.
    pub fn matched(&mut self, basis: Option<u64>, start: &[u8]) {
        if self.wants_start() {
            self.prefix.extend_from_slice(Side::Start.of(start));
        }
        self.before.clear();
        match (self.steps.last_mut(), basis) {
            (Some(Step::Copy { first, count }), Some(index)) if *first + *count == index => *count += 1,
            (Some(Step::Have { count }), None) => *count += 1,
            (_, Some(index)) => self.steps.push(Step::Copy { first: index, count: 1 }),
            (_, None) => self.steps.push(Step::Have { count: 1 }),
        }
    }

    /// Whether the last step is matched, so that its last chunk's end would be context of a literal.
    #[must_use]
    pub fn wants_end(&self) -> bool {
        self.steps.last().is_some_and(Step::is_matched)
    }

    /// Gives the bytes of the last matched chunk, before a literal is appended.
    pub fn end_of_match(&mut self, chunk: &[u8]) {
        self.before = Side::End.of(chunk).to_vec();
    }

    /// Says where the copies of the file that begins come from.
    pub fn basis(&mut self, path: TreePath) {
        self.steps.push(Step::Basis(path));
    }

    /// Ends the file.
    pub fn end(&mut self) {
        self.before.clear();
        match self.steps.last_mut() {
            Some(Step::Literal { last, .. }) if !*last => *last = true,
            _ => self.steps.push(Step::End),
        }
    }

    /// Ends the file because its content is gone.
    pub fn gone(&mut self) {
        self.before.clear();
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
        let wire: Vec<WireStep> = done.steps.iter().map(WireStep::from).collect();
        let (mut steps, mut packing) = (encode(&wire), 0);
        if steps.len() > STEPS_PACKED_FROM {
            steps = pack(&steps);
            packing |= PACKED_STEPS;
        }
        let level = done.effort.level_for(done.literals.len());
        let packed = compress::literals(&done.literals, &done.prefix, level);
        if packed.is_some() {
            packing |= PACKED_LITERALS;
        }
        if !packed.as_ref().is_some_and(|packed| packed.uses_prefix) {
            done.prefix.clear();
        }
        let literals = packed.as_ref().map_or(&done.literals, |packed| &packed.frame);
        let mut body = Vec::with_capacity(BATCH_HEAD_LEN + steps.len() + literals.len());
        for length in [steps.len(), done.literals.len(), done.prefix.len()] {
            body.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
        body.push(packing);
        body.extend_from_slice(&steps);
        body.extend_from_slice(literals);
        (Message { tag: tag::BATCH, body }, done.prefix)
    }
}

/// Bytes of steps from which they are packed.
const STEPS_PACKED_FROM: usize = 512;
