//! One file that is being sent: whole, or by its parts.

use super::emit::{Emitter, Out};
use super::kept::Kept;
use super::layout::{Part, Run};
use super::stored::{Chunks, Stored};
use crate::delta::diff::{Search, Step};
use crate::protocol::limits::OLD_LEAST;
use crate::protocol::sender::{ReadAt, internal};

/// New bytes from which old ones are given as their context.
const OLD_FROM: u64 = 64;
/// Old bytes that are given for one literal.
const OLD_MAX: u64 = 64 * 1024;
/// Old bytes before those in whose place a literal stands that are given too.
const OLD_BEFORE: u64 = 512;

/// A file that is being sent.
pub(super) enum Sending<'s> {
    Whole(Box<Whole<'s>>),
    Parts(Box<Parts<'s>>),
}

pub(super) struct Whole<'s> {
    pub(super) stored: Stored<'s>,
    pub(super) chunks: Chunks<'s>,
    pub(super) offset: u64,
}

pub(super) struct Parts<'s> {
    pub(super) stored: Stored<'s>,
    pub(super) parts: std::vec::IntoIter<Part>,
    pub(super) kept: Option<Kept>,
    pub(super) second: Option<Search>,
    /// The old bytes themselves, if they still exist here.
    pub(super) old: Option<OldBytes>,
    pub(super) emitter: Emitter,
}

/// The content of an old version.
pub(super) struct OldBytes {
    pub(super) content: Box<dyn ReadAt>,
    pub(super) size: u64,
    /// What may still be given of it as context: as many bytes as the new version has.
    pub(super) left: u64,
}

/// The file's content is not what the head says.
pub(super) struct Gone;

impl Sending<'_> {
    /// Adds what comes next of the file; false behind its end.
    pub(super) fn advance(&mut self, out: &mut Out) -> Result<bool, Gone> {
        match self {
            Self::Whole(file) => file.advance(out),
            Self::Parts(file) => file.advance(out),
        }
    }
}

impl Whole<'_> {
    fn advance(&mut self, out: &mut Out) -> Result<bool, Gone> {
        let Self { stored, chunks, offset } = self;
        let Some(chunk) = chunks.next() else {
            out.batch.end();
            return Ok(false);
        };
        let chunk = chunk.map_err(|e| {
            internal(&e);
            Gone
        })?;
        let bytes = stored.read(&chunk, *offset).ok_or(Gone)?;
        if out.batch.is_full(bytes.len()) {
            out.flush();
        }
        out.batch.chunk(&bytes);
        *offset += u64::from(chunk.len);
        Ok(true)
    }
}

impl<'s> Parts<'s> {
    /// With nothing to search by: runs are sent as their steps say.
    pub(super) fn new(stored: Stored<'s>, parts: Vec<Part>) -> Self {
        let parts = parts.into_iter();
        Self { stored, parts, kept: None, second: None, old: None, emitter: Emitter::default() }
    }

    fn advance(&mut self, out: &mut Out) -> Result<bool, Gone> {
        let Self { stored, parts, emitter, .. } = self;
        match parts.next() {
            None => {
                emitter.end(out, stored);
                return Ok(false);
            }
            Some(Part::Copy { from, at, len }) => emitter.copy(out, stored, from, at, len),
            Some(Part::Have(have)) => emitter.have(out, stored, have),
            Some(Part::Run(run)) => self.run(out, &run)?,
        }
        Ok(true)
    }

    fn run(&mut self, out: &mut Out, run: &Run) -> Result<(), Gone> {
        let Self { stored, kept, second, old, emitter, .. } = self;
        let bytes = run.read(stored).ok_or(Gone)?;
        let steps = match kept {
            Some(kept) => kept.steps(&bytes, run),
            None => run.refined(&bytes, second.as_ref()),
        };
        // A run in which nothing was sought is all new.
        let steps = if steps.is_empty() { vec![Step::Literal { len: run.len }] } else { steps };
        let (mut at, mut before) = (0usize, run.around.before);
        for (number, step) in steps.iter().enumerate() {
            let (Step::Copy { len, .. } | Step::Literal { len }) = *step;
            let new = usize::try_from(len).ok().and_then(|len| bytes.get(at..at + len)).unwrap_or_default();
            match *step {
                Step::Copy { from, len } => {
                    emitter.copy(out, stored, from, run.at + at as u64, len);
                    before = Some(from + len);
                }
                Step::Literal { len } => {
                    let after = match steps.get(number + 1) {
                        Some(Step::Copy { from, .. }) => Some(*from),
                        _ => run.around.after,
                    };
                    let context = old.as_mut().and_then(|old| old.around(before, after, len));
                    emitter.literal(out, stored, new, context);
                }
            }
            at += new.len();
        }
        Ok(())
    }
}

impl OldBytes {
    /// The old bytes in whose place `len` new ones stand, between `before` and `after`: where they begin, and what they
    /// are.
    fn around(&mut self, before: Option<u64>, after: Option<u64>, len: u64) -> Option<(u64, Vec<u8>)> {
        let near = len.saturating_mul(2).saturating_add(OLD_BEFORE).min(OLD_MAX);
        let begin = before.or_else(|| after.map(|after| after.saturating_sub(near)))?;
        let end =
            after.filter(|after| *after >= begin).unwrap_or(u64::MAX).min(begin.saturating_add(near)).min(self.size);
        let start = begin.saturating_sub(OLD_BEFORE);
        let range = end.checked_sub(start).filter(|range| *range > 0 && len >= OLD_FROM)?;
        self.left = self.left.checked_sub(range.max(OLD_LEAST))?;
        let mut bytes = vec![0; usize::try_from(range).ok()?];
        self.content.read_exact_at(&mut bytes, start).ok().map(|()| (start, bytes))
    }
}
