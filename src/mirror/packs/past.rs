//! Where the literals of packs are: content that no file on disk may hold any more, by what it is.

use std::collections::{BTreeMap, HashMap};

use crate::protocol::pack::Pack;
use crate::tree::hash::{ChunkId, FileId};

/// Chunks that are known by id; those of older packs are not found beyond.
const CHUNKS_MAX: usize = 200_000;

/// The index of what packs hold, and the literals that were unpacked last.
#[derive(Default)]
pub(super) struct Past {
    /// Packs that were looked at, and how many of their chunks are known.
    packs: BTreeMap<u64, usize>,
    chunks: HashMap<ChunkId, Place>,
    files: HashMap<FileId, Place>,
    /// Pack and message, and their literals.
    last: Option<(u64, usize, Vec<u8>)>,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The pack.
    pub(super) sequence: u64,
    message: usize,
    at: usize,
    len: usize,
}

impl Past {
    /// Whether the pack was looked at.
    pub(super) fn knows(&self, sequence: u64) -> bool {
        self.packs.contains_key(&sequence)
    }

    /// Looks at a pack. What a newer one holds too is found there, as that one stays longer.
    pub(super) fn add(&mut self, sequence: u64, pack: &Pack) {
        let mut literals = pack.literals();
        // Counted as they come and not as they stay, which is never more.
        let room = |packs: &BTreeMap<u64, usize>, more| packs.values().sum::<usize>() + more <= CHUNKS_MAX;
        while !room(&self.packs, literals.len()) {
            let older = self.packs.iter().find(|(number, count)| **number < sequence && **count > 0);
            match older.map(|(number, _)| *number) {
                Some(oldest) => self.clear(oldest),
                None => break,
            }
        }
        if !room(&self.packs, literals.len()) {
            literals.clear();
        }
        self.packs.insert(sequence, literals.len());
        for literal in literals {
            let place = Place { sequence, message: literal.message, at: literal.at, len: literal.len };
            newest(&mut self.chunks, literal.chunk, place);
            if let Some(file) = literal.file {
                newest(&mut self.files, file, place);
            }
        }
    }

    /// Forgets a pack that is there no more.
    pub(super) fn forget(&mut self, sequence: u64) {
        if self.packs.contains_key(&sequence) {
            self.clear(sequence);
            self.packs.remove(&sequence);
        }
        self.last.take_if(|(number, ..)| *number == sequence);
    }

    fn clear(&mut self, sequence: u64) {
        self.chunks.retain(|_, place| place.sequence != sequence);
        self.files.retain(|_, place| place.sequence != sequence);
        self.packs.insert(sequence, 0);
    }

    pub(super) fn chunk(&self, id: &ChunkId) -> Option<Place> {
        self.chunks.get(id).copied()
    }

    pub(super) fn file(&self, id: &FileId) -> Option<Place> {
        self.files.get(id).copied()
    }

    /// The bytes at `place`, if its literals were unpacked last.
    pub(super) fn unpacked(&self, place: &Place) -> Option<Vec<u8>> {
        let (sequence, message, literals) = self.last.as_ref()?;
        let right = (*sequence, *message) == (place.sequence, place.message);
        literals.get(place.at..place.at + place.len).filter(|_| right).map(<[u8]>::to_vec)
    }

    /// The bytes at `place` of its pack.
    pub(super) fn unpack(&mut self, place: &Place, pack: &Pack) -> Option<Vec<u8>> {
        self.last = Some((place.sequence, place.message, pack.literals_of(place.message)?));
        self.unpacked(place)
    }
}

fn newest<K: std::hash::Hash + Eq>(places: &mut HashMap<K, Place>, key: K, place: Place) {
    let kept = places.entry(key).or_insert(place);
    if kept.sequence < place.sequence {
        *kept = place;
    }
}
