//! Change packs that are kept: `.mirra/packs/MODULE/SEQUENCE`, one file each, and what can be found in them.
//!
//! A cache: files are not flushed, a damaged one is removed when it is read, and any of them may be missing. Bounded in
//! bytes and in number; the oldest go first.

mod past;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::RenameFlags;

use self::past::Past;
use crate::disk::home::{Home, HomeError, PrivateDir};
use crate::protocol::limits::PACK_BYTES_MAX;
use crate::protocol::pack::{PEEK_LEN, Pack};
use crate::tree::hash::{ChunkId, FileId, HeadId};
use crate::tree::name::Name;

/// Bytes of all packs of a module, however small it is.
const PACKS_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of all packs of a large module, as a share of its own: one in so many.
const PACKS_SHARE: u64 = 20;
/// Packs of a module.
pub const PACKS_MAX: usize = 1_024;
/// Bytes of the newest packs of a module in which content of the past is looked for.
const PAST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of packs of a module that are kept in memory.
const RECENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The packs of one module.
pub struct PackStore {
    dir: PrivateDir,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes of all packs, at most.
    bytes_max: u64,
    /// By the sequence of the head that they lead to.
    kept: BTreeMap<u64, Kept>,
    /// Newest last, [`RECENT_BYTES_MAX`] of them.
    recent: Vec<(u64, Arc<Pack>)>,
    past: Past,
}

/// A pack on disk.
struct Kept {
    base: HeadId,
    head: HeadId,
    /// Bytes of its file.
    len: u64,
}

impl State {
    fn bytes(&self) -> u64 {
        self.kept.values().map(|kept| kept.len).sum()
    }
}

impl PackStore {
    /// Opens the packs of `module`, which has so many bytes. Files that are no packs are removed.
    ///
    /// # Errors
    /// [`HomeError`] when the directory cannot be made or read.
    pub fn open(home: &Home, module: &str, module_bytes: u64) -> Result<Self, HomeError> {
        Self::open_bounded(home, module, bytes_max(module_bytes))
    }

    fn open_bounded(home: &Home, module: &str, bytes_max: u64) -> Result<Self, HomeError> {
        let dir = home.inner().sub("packs")?.sub(module)?;
        let failed = |source| HomeError::Io { action: "read", path: dir.path().to_path_buf(), source };
        let mut kept = BTreeMap::new();
        for name in dir.dir().read_names().map_err(failed)? {
            let Ok(name) = Name::new(&name) else { continue };
            match look(&dir, &name) {
                Some((sequence, pack)) => {
                    kept.insert(sequence, pack);
                }
                None => drop_file(&dir, &name),
            }
        }
        let store = Self { dir, state: Mutex::new(State { bytes_max, kept, ..State::default() }) };
        store.make_room(&mut store.state());
        Ok(store)
    }

    /// Keeps to the share of a module that has so many bytes now.
    pub fn fit(&self, module_bytes: u64) {
        let mut state = self.state();
        state.bytes_max = bytes_max(module_bytes);
        self.make_room(&mut state);
    }

    /// Keeps the pack that leads to the head with `sequence`, in the place of another one that does. One that is too
    /// large is not kept. What the disk says is logged: a pack can always be missed.
    pub fn put(&self, sequence: u64, pack: Arc<Pack>) {
        let bytes = pack.encode();
        let len = bytes.len() as u64;
        let mut state = self.state();
        if len > state.bytes_max || bytes.len() > PACK_BYTES_MAX {
            return;
        }
        self.forget(&mut state, sequence);
        if let Err(error) = self.write(sequence, &bytes) {
            tracing::warn!(%error, path = %self.dir.path().display(), "cannot keep a change pack");
            return;
        }
        state.kept.insert(sequence, Kept { base: pack.base, head: pack.head, len });
        state.remember(sequence, pack);
        self.make_room(&mut state);
    }

    /// The pack that leads from `base` to `head`.
    #[must_use]
    pub fn get(&self, base: &HeadId, head: &HeadId) -> Option<Arc<Pack>> {
        let mut state = self.state();
        let found = state.kept.iter().rev().find(|(_, kept)| kept.base == *base && kept.head == *head);
        let sequence = *found?.0;
        self.load(&mut state, sequence)
    }

    /// A chunk that a pack holds. It is not hashed again.
    #[must_use]
    pub fn chunk(&self, id: &ChunkId) -> Option<Vec<u8>> {
        self.past(|past| past.chunk(id))
    }

    /// All of a file of one chunk that a pack holds. It is not hashed again.
    #[must_use]
    pub fn file(&self, id: &FileId) -> Option<Vec<u8>> {
        self.past(|past| past.file(id))
    }

    /// Bytes of all packs on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state().bytes()
    }

    fn past(&self, find: impl FnOnce(&Past) -> Option<past::Place>) -> Option<Vec<u8>> {
        let mut state = self.state();
        let mut left = PAST_BYTES_MAX;
        let newest = state.kept.iter().rev().map_while(|(sequence, kept)| {
            left = left.checked_sub(kept.len)?;
            Some(*sequence)
        });
        let new: Vec<u64> = newest.filter(|sequence| !state.past.knows(*sequence)).collect();
        for sequence in new {
            if let Some(pack) = self.load(&mut state, sequence) {
                state.past.add(sequence, &pack);
            }
        }
        let place = find(&state.past)?;
        if let Some(bytes) = state.past.unpacked(&place) {
            return Some(bytes);
        }
        let pack = self.load(&mut state, place.sequence)?;
        state.past.unpack(&place, &pack)
    }

    /// The pack of `sequence`, from memory or from disk; one that cannot be read is removed.
    fn load(&self, state: &mut State, sequence: u64) -> Option<Arc<Pack>> {
        if let Some((_, pack)) = state.recent.iter().find(|(number, _)| *number == sequence) {
            return Some(pack.clone());
        }
        let kept = state.kept.get(&sequence)?;
        let read = self.dir.read(&sequence.to_string(), PACK_BYTES_MAX).ok().flatten();
        let pack = read.and_then(|bytes| Pack::decode(&bytes).ok());
        match pack.filter(|pack| pack.base == kept.base && pack.head == kept.head) {
            Some(pack) => {
                let pack = Arc::new(pack);
                state.remember(sequence, pack.clone());
                Some(pack)
            }
            None => {
                self.forget(state, sequence);
                None
            }
        }
    }

    fn write(&self, sequence: u64, bytes: &[u8]) -> io::Result<()> {
        let (name, temporary) = (file_name(&sequence.to_string())?, file_name("tmp")?);
        match self.dir.dir().remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.dir.dir().create_file(&temporary)?.write_all(bytes)?;
        self.dir.dir().rename(&temporary, self.dir.dir(), &name, RenameFlags::empty())
    }

    fn make_room(&self, state: &mut State) {
        while state.kept.len() > PACKS_MAX || state.bytes() > state.bytes_max {
            let Some(oldest) = state.kept.keys().next().copied() else { return };
            self.forget(state, oldest);
        }
    }

    fn forget(&self, state: &mut State, sequence: u64) {
        if state.kept.remove(&sequence).is_some()
            && let Ok(name) = file_name(&sequence.to_string())
        {
            drop_file(&self.dir, &name);
        }
        state.recent.retain(|(number, _)| *number != sequence);
        state.past.forget(sequence);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps a pack in memory as far as there is room.
    fn remember(&mut self, sequence: u64, pack: Arc<Pack>) {
        let len = |sequence| self.kept.get(&sequence).map_or(0, |kept| kept.len);
        if len(sequence) > RECENT_BYTES_MAX {
            return;
        }
        self.recent.push((sequence, pack));
        self.recent.sort_by_key(|(number, _)| *number);
        let mut bytes: u64 = self.recent.iter().map(|(number, _)| len(*number)).sum();
        self.recent.retain(|(number, _)| {
            let stays = bytes <= RECENT_BYTES_MAX;
            bytes -= if stays { 0 } else { len(*number) };
            stays
        });
    }
}

/// Bytes that the packs of a module may have.
fn bytes_max(module_bytes: u64) -> u64 {
    PACKS_BYTES.max(module_bytes / PACKS_SHARE)
}

/// What the file `name` claims to be; `None` for anything that is no pack.
fn look(dir: &PrivateDir, name: &Name) -> Option<(u64, Kept)> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    let sequence: u64 = text.parse().ok().filter(|n: &u64| n.to_string() == text)?;
    let file = dir.dir().open_file(name).ok()?;
    let len = file.metadata().ok()?.len();
    let mut start = Vec::new();
    file.take(PEEK_LEN as u64).read_to_end(&mut start).ok()?;
    let (base, head) = Pack::peek(&start)?;
    Some((sequence, Kept { base, head, len }))
}

fn drop_file(dir: &PrivateDir, name: &Name) {
    if let Err(error) = dir.dir().remove_file(name)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %dir.path().display(), %name, "cannot remove a change pack");
    }
}

fn file_name(text: &str) -> io::Result<Name> {
    Name::new(text.as_bytes()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

#[cfg(test)]
mod tests;
