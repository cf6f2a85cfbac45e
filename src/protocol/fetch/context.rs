//! The context of a batch, put together from what is here before any of its steps is carried out.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{Have, Shelf, Wanted, of_own};
use crate::protocol::batch::{Batch, Part, context};
use crate::protocol::message::way;
use crate::protocol::step::Step;

/// What is known of a file at some step.
pub(super) struct Context {
    way: u8,
    have: Option<Rc<dyn Have>>,
    /// Index of its next chunk, as far as those are counted that the receiver has by their place.
    index: u64,
}

impl Context {
    pub(super) fn of(way: u8, have: Option<Rc<dyn Have>>, index: u64) -> Self {
        Self { way, have, index }
    }

    /// What `part` of `step` is, if it is here. `most` bytes are as many as can be right.
    fn bytes(&self, step: &Step, part: Part, most: usize) -> Option<Vec<u8>> {
        let have = self.have.as_ref()?;
        let range = |len: u64, alone| {
            let (offset, len) = part.side.of(len, alone);
            usize::try_from(len).ok().filter(|len| *len <= most).map(|len| (offset, len))
        };
        match step {
            Step::Copy { from, len } | Step::Old { from, len } => {
                let (offset, len) = range(*len, true)?;
                let mut bytes = vec![0; len];
                have.read(from.checked_add(offset)?, &mut bytes).then_some(bytes)
            }
            Step::Have { count } => {
                let behind = if matches!(part.side, crate::protocol::batch::Side::Start) { 1 } else { *count };
                let chunk = have.chunk(self.index.checked_add(behind)?.checked_sub(1)?)?;
                let (offset, len) = range(chunk.len() as u64, *count == 1)?;
                let offset = usize::try_from(offset).ok()?;
                chunk.get(offset..offset.checked_add(len)?).map(<[u8]>::to_vec)
            }
            _ => None,
        }
    }
}

/// The prefix of `batch`, whose first file is `begun` or else the first of `queue`; `None` if it is not what the sender has.
pub(super) fn prefix(
    batch: &Batch<'_>,
    begun: Option<Context>,
    queue: &VecDeque<Wanted>,
    shelf: &mut dyn Shelf,
) -> Option<Vec<u8>> {
    let parts = context(&batch.steps);
    let (mut next, mut prefix) = (parts.iter().peekable(), Vec::new());
    let (mut file, mut queue) = (begun, queue.iter());
    for (at, step) in batch.steps.iter().enumerate() {
        let mut context = match file.take() {
            Some(context) => context,
            None => {
                let wanted = queue.next()?;
                let have = if of_own(wanted.way) { shelf.own(wanted) } else { None };
                Context::of(wanted.way, have, 0)
            }
        };
        if let (Step::Basis(path), way::BASE) = (step, context.way) {
            context.have = shelf.basis(path);
        }
        while let Some(part) = next.next_if(|part| part.step == at) {
            let bytes = context.bytes(step, *part, batch.prefix_len - prefix.len())?;
            prefix.extend_from_slice(&bytes);
        }
        if let Step::Have { count } = step {
            context.index = context.index.saturating_add(*count);
        }
        file = (!step.ends_file()).then_some(context);
    }
    (prefix.len() == batch.prefix_len).then_some(prefix)
}
