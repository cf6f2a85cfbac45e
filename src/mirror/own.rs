//! What is here of a file that is wanted, when the sender does not know it: whole chunks, and old bytes by their blocks.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::delta::order::ascending;
use crate::delta::rabin::Rabin;
use crate::disk::chunks::each_chunk;
use crate::protocol::bits;
use crate::protocol::fetch::Have;
use crate::protocol::message::OldBlocks;
use crate::protocol::short::{Gap, Short, ShortIds, first_look, is_worth_a_look, pack_gaps, pack_hashes};
use crate::tree::chunker::Class;
use crate::tree::hash::{ChunkId, FileId};
use crate::tree::list::{Chunk, chunks};
use crate::tree::page::{PageError, PageSource};

/// Bytes that are read at once for their blocks: a multiple of every block.
const READ_LEN: usize = 1024 * 1024;

/// What is here of one file.
pub(super) struct Own {
    /// For each chunk of the file where it is, if it is here.
    places: Vec<Option<Place>>,
    /// Those that are here.
    here: Vec<Place>,
    files: Vec<File>,
    /// Which of the files is the basis, and its bytes.
    basis: Option<(usize, u64)>,
}

#[derive(Clone, Copy)]
struct Place {
    chunk: Chunk,
    file: usize,
    offset: u64,
}

impl Own {
    /// Nothing of a file of so many chunks; none when its chunks are not known.
    pub(super) fn new(chunks: usize) -> Self {
        Self { places: vec![None; chunks], here: Vec::new(), files: Vec::new(), basis: None }
    }

    /// Finds chunks in what an earlier run has begun to write: its bytes are cut and hashed, and trusted no further.
    pub(super) fn take_begun(&mut self, list: &[Short], ids: &ShortIds, file: &File, class: Class) -> io::Result<()> {
        let mut found = HashMap::new();
        each_chunk(file, class, |offset, bytes| {
            let chunk = Chunk::of(bytes);
            found.insert(ids.of(&chunk.id), (chunk, offset));
            Ok(())
        })?;
        self.take(list, &found, file.try_clone()?);
        Ok(())
    }

    /// Finds chunks in a file of the target whose list is in the index, and makes it the basis.
    pub(super) fn take_basis(
        &mut self,
        list: &[Short],
        ids: &ShortIds,
        pages: &dyn PageSource,
        (file, id, size): (File, FileId, u64),
    ) -> Result<(), PageError> {
        let (mut old, mut offset) = (Vec::new(), 0);
        for chunk in chunks(pages, id)?.into_iter().flatten() {
            let chunk = chunk?;
            old.push((chunk, offset));
            offset += u64::from(chunk.len);
        }
        // Where each chunk stands first, and of each place the next of the same chunk.
        let (mut at, mut next) = (HashMap::new(), vec![usize::MAX; old.len()]);
        for (number, ((chunk, _), next)) in old.iter().zip(&mut next).enumerate().rev() {
            *next = at.insert(ids.of(&chunk.id), number).unwrap_or(usize::MAX);
        }
        let (number, mut end) = (self.files.len(), 0);
        for (short, place) in list.iter().zip(&mut self.places).filter(|(_, place)| place.is_none()) {
            let Some(at) = at.get_mut(short) else { continue };
            // A chunk that stands at several places is taken where the file goes on, so that what is between is little.
            while old.get(*at).is_some_and(|(_, offset)| *offset < end)
                && let Some(behind) = next.get(*at).copied().filter(|next| *next < old.len())
            {
                *at = behind;
            }
            *place = old.get(*at).map(|(chunk, offset)| Place { chunk: *chunk, file: number, offset: *offset });
            end = place.map_or(end, |place| place.offset + u64::from(place.chunk.len));
        }
        self.basis = Some((number, size));
        self.files.push(file);
        self.here = self.places.iter().flatten().copied().collect();
        Ok(())
    }

    fn take(&mut self, list: &[Short], found: &HashMap<Short, (Chunk, u64)>, file: File) {
        let number = self.files.len();
        for (short, place) in list.iter().zip(&mut self.places) {
            if place.is_none() {
                *place = found.get(short).map(|(chunk, offset)| Place { chunk: *chunk, file: number, offset: *offset });
            }
        }
        self.files.push(file);
        self.here = self.places.iter().flatten().copied().collect();
    }

    /// Whether anything is here that may be of use.
    pub(super) fn is_of_use(&self) -> bool {
        !self.here.is_empty() || self.basis.is_some()
    }

    /// Whether the blocks of the basis are worth their bytes, for a file of `size` bytes of that class.
    pub(super) fn is_worth_a_look(&self, class: Class, size: u64) -> bool {
        let shared = self.here.iter().map(|place| u64::from(place.chunk.len)).sum();
        self.basis.is_some_and(|(_, old)| is_worth_a_look(class, size, old, shared))
    }

    /// The bitmap of chunks that are not here.
    pub(super) fn wanted_bits(&self) -> Vec<u8> {
        let mut wanted = bits::clear(self.places.len());
        let missing = self.places.iter().enumerate().filter(|(_, place)| place.is_none());
        missing.for_each(|(i, _)| bits::set(&mut wanted, i));
        wanted
    }

    /// The old bytes in whose place stands what is wanted, by their blocks; no blocks if nothing of that can be read.
    pub(super) fn old_blocks(&self, rabin: &Rabin) -> OldBlocks {
        let (block, gaps) = first_look(self.gaps().into_iter());
        let named: Vec<Gap> = gaps.iter().copied().filter(|gap| gap.1 > 0).collect();
        match block_hashes(self, rabin, &named, block) {
            Some(hashes) if !hashes.is_empty() => OldBlocks { block, gaps: pack_gaps(&gaps), hashes },
            _ => OldBlocks::default(),
        }
    }

    /// Of each stretch of chunks that are wanted, the old bytes between what stands around it in both versions. Chunks that
    /// were moved do not count for that; where they part a stretch, its first piece has all.
    fn gaps(&self) -> Vec<Option<Gap>> {
        let Some((basis, size)) = self.basis else { return Vec::new() };
        if self.places.is_empty() {
            return vec![Some((0, size))];
        }
        let of_basis = |place: &Option<Place>| place.filter(|place| place.file == basis).map(|place| place.offset);
        let unmoved = ascending(&self.places.iter().map(of_basis).collect::<Vec<_>>());
        let (mut gaps, mut open, mut before) = (Vec::new(), false, 0);
        // The first stretch since what stands in both.
        let mut first: Option<usize> = None;
        let close = |gaps: &mut Vec<Option<Gap>>, first: Option<usize>, before: u64, after: u64| {
            if let Some(gap) = first.and_then(|first| gaps.get_mut(first)) {
                *gap = after.checked_sub(before).map(|len| (before, len));
            }
        };
        for (place, unmoved) in self.places.iter().zip(unmoved) {
            match place {
                None if !open => {
                    open = true;
                    first.get_or_insert(gaps.len());
                    gaps.push(None);
                }
                None => {}
                Some(place) => {
                    open = false;
                    if unmoved {
                        close(&mut gaps, first.take(), before, place.offset);
                        before = place.offset + u64::from(place.chunk.len);
                    }
                }
            }
        }
        close(&mut gaps, first, before, size);
        gaps
    }
}

/// The hashes of the blocks of `gaps` in the basis of `have`, as they travel.
pub(super) fn block_hashes(have: &dyn Have, rabin: &Rabin, gaps: &[Gap], block: u32) -> Option<Vec<u8>> {
    let mut hashes = Vec::new();
    let mut buffer = vec![0; READ_LEN];
    for (start, len) in gaps {
        let (mut at, end) = (*start, start.checked_add(*len)?);
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(READ_LEN).min(READ_LEN);
            let bytes = buffer.get_mut(..part)?;
            if !have.read(at, bytes) {
                return None;
            }
            rabin.list(bytes, block as usize, &mut hashes);
            at += part as u64;
        }
    }
    Some(pack_hashes(&hashes))
}

impl Have for Own {
    fn chunk(&self, index: u64) -> Option<Vec<u8>> {
        let place = self.here.get(usize::try_from(index).ok()?)?;
        let mut bytes = vec![0; place.chunk.len as usize];
        self.files.get(place.file)?.read_exact_at(&mut bytes, place.offset).ok()?;
        (ChunkId::of(&bytes) == place.chunk.id).then_some(bytes)
    }

    fn read(&self, from: u64, buffer: &mut [u8]) -> bool {
        let file = self.basis.and_then(|(number, _)| self.files.get(number));
        file.is_some_and(|file| file.read_exact_at(buffer, from).is_ok())
    }
}
