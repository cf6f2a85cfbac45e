//! How a file is put together: what the receiver has of it, and the runs of chunks between.

use std::collections::{HashMap, HashSet};

use super::stored::Chunks;
use crate::delta::diff::{Around, Step};
use crate::protocol::bits::is_set;
use crate::protocol::sender::internal;
use crate::protocol::short::Gap;
use crate::tree::hash::ChunkId;
use crate::tree::list::Chunk;

/// Bytes of a run, but for its last chunk: it is held in memory while it is searched and sent.
const RUN_BYTES: u64 = 4 * 1024 * 1024;

/// A stretch of a file.
#[derive(Debug)]
pub(super) enum Part {
    /// Bytes of the basis.
    Copy { from: u64, at: u64, len: u64 },
    /// Chunks that the receiver said it has.
    Have(Have),
    /// Chunks that it does not have as they are.
    Run(Run),
}

/// Chunks that the receiver has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Have {
    pub(super) count: u64,
    /// Where they begin in the file.
    pub(super) at: u64,
    pub(super) len: u64,
    /// Bytes of the first and of the last.
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Chunks that the receiver does not have, though it may have most of their bytes.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Where they begin in the file.
    pub(super) at: u64,
    pub(super) chunks: Vec<Chunk>,
    pub(super) len: u64,
    /// The old bytes in whose place they stand.
    pub(super) gap: Option<Gap>,
    pub(super) around: Around,
    /// What a search has found; nothing where none was made.
    pub(super) steps: Vec<Step>,
    /// Which of the steps are looked at again, and the old bytes that they replace.
    pub(super) second: Vec<(usize, Gap)>,
}

/// The old version of a file by its chunks.
pub(super) struct Old {
    list: Vec<(Chunk, u64)>,
    places: HashMap<ChunkId, usize>,
    size: u64,
}

impl Old {
    /// Its bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn new(chunks: impl Iterator<Item = Chunk>) -> Self {
        let (mut list, mut places, mut size) = (Vec::new(), HashMap::new(), 0);
        for chunk in chunks {
            places.entry(chunk.id).or_insert(list.len());
            list.push((chunk, size));
            size += u64::from(chunk.len);
        }
        Self { list, places, size }
    }

    /// All chunks and where they begin.
    pub(super) fn chunks(&self) -> &[(Chunk, u64)] {
        &self.list
    }

    /// The chunk `id`: the one behind `last` if it is that, as a run goes on where it is even if the same chunk stands
    /// earlier too.
    fn find(&self, id: &ChunkId, last: Option<usize>) -> Option<usize> {
        let next =
            last.map(|last| last + 1).filter(|next| self.list.get(*next).is_some_and(|(chunk, _)| chunk.id == *id));
        next.or_else(|| self.places.get(id).copied())
    }
}

/// Bytes of a file that are copied.
pub(super) fn copied(parts: &[Part]) -> u64 {
    parts.iter().map(|part| if let Part::Copy { len, .. } = part { *len } else { 0 }).sum()
}

/// Lays a file out over its old version. Gives the chunks that both have beside the parts.
pub(super) fn over(old: &Old, chunks: Chunks<'_>) -> Result<(Vec<Part>, HashSet<ChunkId>), u16> {
    let (mut parts, mut at, mut last, mut shared) = (Vec::new(), 0, None, HashSet::new());
    for chunk in chunks {
        let chunk = chunk.map_err(|e| internal(&e))?;
        let len = u64::from(chunk.len);
        let found = old.find(&chunk.id, last);
        match found.and_then(|found| old.list.get(found)) {
            Some((_, from)) => {
                shared.insert(chunk.id);
                match parts.last_mut() {
                    Some(Part::Copy { from: before, len: had, .. }) if *before + *had == *from => *had += len,
                    _ => parts.push(Part::Copy { from: *from, at, len }),
                }
            }
            None => extend(&mut parts, chunk, at),
        }
        last = found;
        at += len;
    }
    surround(&mut parts, old.size);
    Ok((parts, shared))
}

/// Lays a file out by what the receiver says that it has, and the gaps it names: one for each stretch that is wanted.
pub(super) fn by_bits(bits: Option<&[u8]>, gaps: &[Gap], chunks: Chunks<'_>) -> Result<Vec<Part>, u16> {
    let (mut parts, mut at, mut gaps) = (Vec::new(), 0, gaps.iter());
    let mut wanted = false;
    for (index, chunk) in chunks.enumerate() {
        let chunk = chunk.map_err(|e| internal(&e))?;
        let len = u64::from(chunk.len);
        if bits.is_none_or(|bits| is_set(bits, index)) {
            let begins = !std::mem::replace(&mut wanted, true);
            extend(&mut parts, chunk, at);
            if begins && let (Some(Part::Run(run)), Some(gap)) = (parts.last_mut(), gaps.next()) {
                run.gap = Some(*gap).filter(|gap| gap.1 > 0);
            }
        } else {
            wanted = false;
            match parts.last_mut() {
                Some(Part::Have(have)) => {
                    (have.count, have.len, have.last) = (have.count + 1, have.len + len, len);
                }
                _ => parts.push(Part::Have(Have { count: 1, at, len, first: len, last: len })),
            }
        }
        at += len;
    }
    for part in &mut parts {
        if let Part::Run(Run { gap: Some((start, len)), around, .. }) = part {
            *around = Around { before: Some(*start), after: Some(*start + *len) };
        }
    }
    split(&mut parts);
    Ok(parts)
}

fn extend(parts: &mut Vec<Part>, chunk: Chunk, at: u64) {
    if !matches!(parts.last(), Some(Part::Run(_))) {
        parts.push(Part::Run(Run { at, ..Run::default() }));
    }
    if let Some(Part::Run(run)) = parts.last_mut() {
        run.chunks.push(chunk);
        run.len += u64::from(chunk.len);
    }
}

/// Says of each run what stands around it in an old version of `size` bytes.
fn surround(parts: &mut Vec<Part>, size: u64) {
    let places: Vec<Option<(u64, u64)>> = parts
        .iter()
        .map(|part| if let Part::Copy { from, len, .. } = part { Some((*from, *from + *len)) } else { None })
        .collect();
    for (at, part) in parts.iter_mut().enumerate() {
        if let Part::Run(run) = part {
            let before = at.checked_sub(1).map_or(Some(0), |at| places.get(at).copied().flatten().map(|place| place.1));
            let after = places.get(at + 1).copied().map_or(Some(size), |place| place.map(|place| place.0));
            run.around = Around { before, after };
            run.gap = before.zip(after).and_then(|(before, after)| Some((before, after.checked_sub(before)?)));
        }
    }
    split(parts);
}

/// Makes several of long runs.
fn split(parts: &mut Vec<Part>) {
    let mut all = Vec::with_capacity(parts.len());
    for part in parts.drain(..) {
        match part {
            Part::Run(run) if run.len > RUN_BYTES => {
                let (gap, around) = (run.gap, run.around);
                let mut pieces: Vec<Run> = Vec::new();
                let mut at = run.at;
                for chunk in run.chunks {
                    if pieces.last().is_none_or(|piece| piece.len >= RUN_BYTES) {
                        pieces.push(Run { at, gap, ..Run::default() });
                    }
                    if let Some(piece) = pieces.last_mut() {
                        piece.chunks.push(chunk);
                        piece.len += u64::from(chunk.len);
                    }
                    at += u64::from(chunk.len);
                }
                if let Some(first) = pieces.first_mut() {
                    first.around.before = around.before;
                }
                if let Some(last) = pieces.last_mut() {
                    last.around.after = around.after;
                }
                all.extend(pieces.into_iter().map(Part::Run));
            }
            part => all.push(part),
        }
    }
    *parts = all;
}
