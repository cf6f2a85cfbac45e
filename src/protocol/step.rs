//! Steps: how a file is rebuilt from what is sent and what is there.
//!
//! On the wire a step is its operation, one byte, and its numbers, each in groups of seven bits, lowest first, the top bit
//! set on all but the last (LEB128), in as few bytes as will do. PROTOCOL.md, "Batches", is normative.

use super::limits::BATCH_STEPS_MAX;
use super::number::{NoNumber, fold, put, take, unfold};
use crate::tree::codec::{Malformed, bounded};
use crate::tree::limits::{NAME_MAX, PATH_DEPTH_MAX};
use crate::tree::name::TreePath;

/// One step of rebuilding a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// New chunks of these lengths, whose bytes are the next literals; the file may end here. Of a file sent whole.
    Chunks {
        /// Bytes of each chunk.
        lengths: Vec<u32>,
        /// Nothing of the file follows.
        last: bool,
    },
    /// New bytes: the next literals. Chunks may end anywhere in them.
    Literal {
        /// How many.
        len: u64,
    },
    /// The copies of this file come from the file at this path of the base. Stands before them, once a file.
    Basis(TreePath),
    /// Bytes of the basis.
    Copy {
        /// Where they begin in it.
        from: u64,
        /// How many.
        len: u64,
    },
    /// Chunks of the new file that the receiver said it has.
    Have {
        /// How many.
        count: u64,
    },
    /// Bytes of the basis that are no part of the file, and stand before the literals as their context.
    Old {
        /// Where they begin in it.
        from: u64,
        /// How many.
        len: u64,
    },
    /// The file is complete.
    End,
    /// The file's content is no longer what the head says, so it cannot be sent; it ends here.
    Gone,
}

const CHUNKS: u8 = 0; // `[step.chunks]`
const LAST_CHUNKS: u8 = 1; // `[step.last-chunks]`
const LITERAL: u8 = 2; // `[step.literal]`
const COPY: u8 = 3; // `[step.copy]`
const HAVE: u8 = 4; // `[step.have]`
const BASIS: u8 = 5; // `[step.basis]`
const END: u8 = 6; // `[step.end]`
const GONE: u8 = 7; // `[step.gone]`
const OLD: u8 = 8; // `[step.old]`

/// Bytes of a path, at most.
const PATH_MAX: u64 = (PATH_DEPTH_MAX * (NAME_MAX + 1)) as u64;

impl Step {
    /// Whether the file ends with it.
    #[must_use]
    pub fn ends_file(&self) -> bool {
        matches!(self, Self::End | Self::Gone | Self::Chunks { last: true, .. })
    }

    /// The lengths of the new chunks that it brings.
    #[must_use]
    pub fn lengths(&self) -> &[u32] {
        match self {
            Self::Chunks { lengths, .. } => lengths,
            _ => &[],
        }
    }

    /// How many literal bytes it takes.
    #[must_use]
    pub fn literal_bytes(&self) -> u64 {
        match self {
            Self::Literal { len } => *len,
            _ => self.lengths().iter().map(|length| u64::from(*length)).sum(),
        }
    }

    /// Whether it brings bytes that are there already.
    #[must_use]
    pub fn is_matched(&self) -> bool {
        matches!(self, Self::Copy { .. } | Self::Have { .. })
    }
}

/// Where a copy begins if nothing was inserted or removed since the last one: what the place of a copy is told by.
#[derive(Default)]
struct Expected(u64);

impl Expected {
    fn pass(&mut self, step: &Step) {
        match step {
            Step::Literal { len } => self.0 = self.0.saturating_add(*len),
            Step::Copy { from, len } => self.0 = from.saturating_add(*len),
            step if step.ends_file() => self.0 = 0,
            _ => {}
        }
    }
}

/// Encodes steps.
#[must_use]
pub fn encode_steps(steps: &[Step]) -> Vec<u8> {
    let (mut out, mut expected) = (Vec::new(), Expected::default());
    for step in steps {
        let (operation, numbers) = match step {
            Step::Chunks { lengths, last } => {
                out.push(if *last { LAST_CHUNKS } else { CHUNKS });
                put(&mut out, lengths.len() as u64);
                lengths.iter().for_each(|length| put(&mut out, u64::from(*length)));
                expected.pass(step);
                continue;
            }
            Step::Basis(path) => {
                out.push(BASIS);
                put(&mut out, path.as_bytes().len() as u64);
                out.extend_from_slice(path.as_bytes());
                continue;
            }
            Step::Literal { len } => (LITERAL, [*len, 0]),
            Step::Copy { from, len } => (COPY, [fold(from.wrapping_sub(expected.0)), *len]),
            Step::Have { count } => (HAVE, [*count, 0]),
            Step::Old { from, len } => (OLD, [fold(from.wrapping_sub(expected.0)), *len]),
            Step::End => (END, [0, 0]),
            Step::Gone => (GONE, [0, 0]),
        };
        out.push(operation);
        numbers.iter().take(count_of(operation)).for_each(|number| put(&mut out, *number));
        expected.pass(step);
    }
    out
}

/// How many numbers follow an operation that has a fixed number of them.
const fn count_of(operation: u8) -> usize {
    match operation {
        LITERAL | HAVE => 1,
        COPY | OLD => 2,
        _ => 0,
    }
}

/// Decodes steps.
///
/// # Errors
/// [`Malformed`].
pub fn decode_steps(bytes: &[u8]) -> Result<Vec<Step>, Malformed> {
    let (mut rest, mut steps, mut expected) = (bytes, Vec::new(), Expected::default());
    while let Some((operation, behind)) = rest.split_first() {
        rest = behind;
        let mut numbers = [0; 2];
        for value in numbers.iter_mut().take(count_of(*operation)) {
            *value = number(&mut rest)?;
        }
        let step = match (*operation, numbers) {
            (CHUNKS | LAST_CHUNKS, _) => Step::Chunks { lengths: lengths(&mut rest)?, last: *operation == LAST_CHUNKS },
            (BASIS, _) => Step::Basis(path(&mut rest)?),
            (LITERAL, [len, _]) if len > 0 => Step::Literal { len },
            (HAVE, [count, _]) if count > 0 => Step::Have { count },
            (COPY, [folded, len]) if len > 0 => Step::Copy { from: place(&expected, folded, len)?, len },
            (OLD, [folded, len]) if len > 0 => Step::Old { from: place(&expected, folded, len)?, len },
            (END, _) => Step::End,
            (GONE, _) => Step::Gone,
            _ => return Err(rule("is unknown or is of nothing")),
        };
        expected.pass(&step);
        steps.push(step);
        bounded("steps of a batch", steps.len() as u64, BATCH_STEPS_MAX as u64)?;
    }
    Ok(steps)
}

fn rule(rule: &'static str) -> Malformed {
    Malformed::Rule { what: "step", rule }
}

fn place(expected: &Expected, folded: u64, len: u64) -> Result<u64, Malformed> {
    let from = expected.0.wrapping_add(unfold(folded));
    from.checked_add(len)
        .filter(|end| i64::try_from(*end).is_ok())
        .ok_or_else(|| rule("is of a place that no file has"))?;
    Ok(from)
}

fn lengths(rest: &mut &[u8]) -> Result<Vec<u32>, Malformed> {
    let count = number(rest)?;
    // Each takes a byte at least, so no room is made for more than can be there.
    if count == 0 || count > rest.len() as u64 {
        return Err(rule("has no chunks, or is cut"));
    }
    let mut lengths = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    for _ in 0..count {
        let length = u32::try_from(number(rest)?).ok().filter(|length| *length > 0);
        lengths.push(length.ok_or_else(|| rule("has a chunk of no or of too many bytes"))?);
    }
    Ok(lengths)
}

fn path(rest: &mut &[u8]) -> Result<TreePath, Malformed> {
    let len = number(rest)?;
    bounded("path of a basis", len, PATH_MAX)?;
    let (path, behind) =
        rest.split_at_checked(usize::try_from(len).unwrap_or(usize::MAX)).ok_or_else(|| rule("is cut"))?;
    *rest = behind;
    if path.is_empty() {
        return Err(rule("names the top as its basis"));
    }
    Ok(TreePath::new(path)?)
}

fn number(rest: &mut &[u8]) -> Result<u64, Malformed> {
    take(rest).map_err(|no| {
        rule(match no {
            NoNumber::Cut => "is cut",
            NoNumber::Long => "has a number that is longer than it need be",
            NoNumber::Large => "has a number of more than 64 bits",
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_step() -> impl Strategy<Value = Step> {
        let place = (0u64..1 << 40, 1u64..1 << 40);
        prop_oneof![
            (proptest::collection::vec(1u32.., 1..5), any::<bool>())
                .prop_map(|(lengths, last)| Step::Chunks { lengths, last }),
            (1u64..1 << 40).prop_map(|len| Step::Literal { len }),
            place.clone().prop_map(|(from, len)| Step::Copy { from, len }),
            place.prop_map(|(from, len)| Step::Old { from, len }),
            (1u64..).prop_map(|count| Step::Have { count }),
            Just(Step::Basis(TreePath::new(b"a/b").unwrap())),
            Just(Step::End),
            Just(Step::Gone),
        ]
    }

    proptest! {
        #[test]
        fn steps_round_trip(steps in proptest::collection::vec(any_step(), 0..40)) {
            prop_assert_eq!(decode_steps(&encode_steps(&steps)).unwrap(), steps);
        }

        #[test]
        fn anything_decodes_to_what_encodes_to_it(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(steps) = decode_steps(&bytes) {
                prop_assert_eq!(encode_steps(&steps), bytes);
            }
        }
    }

    #[test]
    fn edits_in_place_take_a_few_bytes_each() {
        let steps: Vec<Step> = (0..100u64)
            .flat_map(|i| [Step::Literal { len: 128 }, Step::Copy { from: i * 8_128 + 128, len: 8_000 }])
            .collect();
        // An operation and two bytes of length; an operation, a place that is as expected and two bytes of length.
        assert_eq!(encode_steps(&steps).len(), 100 * (3 + 4));
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let path = [&[BASIS, 3][..], b"../"].concat();
        let wrong: [&[u8]; 11] = [
            &[9],
            &[LITERAL],
            &[LITERAL, 0],
            &[LITERAL, 0x80, 0],
            &[LITERAL, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            &[COPY, 0, 0],
            &[COPY, 1, 1],
            &[CHUNKS, 0],
            &[CHUNKS, 2, 1],
            &[BASIS, 0],
            &path,
        ];
        for bytes in wrong {
            assert!(decode_steps(bytes).is_err(), "{bytes:?}");
        }
        assert!(decode_steps(&vec![END; BATCH_STEPS_MAX]).is_ok());
        assert!(decode_steps(&vec![END; BATCH_STEPS_MAX + 1]).is_err());
    }
}
