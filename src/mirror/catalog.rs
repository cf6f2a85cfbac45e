//! What this mirra serves: its modules, the newest signed objects of each in memory, and their content on disk.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock};

use ed25519_dalek::SigningKey;
use serde_bytes::ByteBuf;

use super::clock::now_ms;
use crate::disk::dir::{Dir, look_fd};
use crate::disk::index::heads::{HeadState, StoredHead};
use crate::disk::index::{Index, IndexError, ModuleNumber, Reader};
use crate::protocol::limits::{MODULES_MAX, STATE_ROOTS_MAX};
use crate::protocol::message::{Module, Poll, State, refusal};
use crate::protocol::sender::{ReadAt, Source};
use crate::tree::dir::Built;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{ChunkId, DirId, FileId, HeadId};
use crate::tree::name::TreePath;
use crate::tree::page::PageSource;
use crate::tree::signed::{Beat, Envelope, Head};

/// How often a root says that its newest head is still the newest, in milliseconds.
const BEAT_EVERY_MS: u64 = 60_000;
/// How long a beat is good, in milliseconds.
const BEAT_GOOD_MS: u64 = 24 * 3_600_000;
/// Files that are looked at for one that shares chunks.
const SIMILAR_FILES: usize = 4;
/// Places of a file that are looked at in a tree to tell whether it is there.
const SAME_FILES: u32 = 8;

/// All modules that are served, shared by every connection.
pub struct Catalog {
    index: Index,
    modules: RwLock<BTreeMap<String, Arc<Served>>>,
}

/// One module as it is served.
pub struct Served {
    /// Its name.
    pub name: String,
    /// A line for people; may be empty.
    pub title: String,
    /// Its number in the index.
    pub number: ModuleNumber,
    /// Its directory.
    pub top: Dir,
    /// Its root files by ascending version.
    pub roots: Vec<(u64, Vec<u8>)>,
    /// Signs beats, on a root.
    pub signer: Option<Arc<SigningKey>>,
    newest: RwLock<Option<Newest>>,
}

/// The newest published head, and what vouches for its age.
#[derive(Debug, Clone)]
pub struct Newest {
    /// What it says.
    pub head: Head,
    /// Its id.
    pub id: HeadId,
    /// Its signed envelope.
    pub envelope: Vec<u8>,
    /// The newest beat: when it was issued, and its envelope.
    pub beat: Option<(u64, Vec<u8>)>,
}

impl Newest {
    /// Reads back what the index holds of a head that was believed.
    #[must_use]
    pub fn of(stored: &StoredHead, beat: Option<Vec<u8>>) -> Option<Self> {
        let head: Head = Envelope::decode(&stored.envelope).ok()?.unverified().ok()?;
        let beat = beat.and_then(|bytes| {
            let beat: Beat = Envelope::decode(&bytes).ok()?.unverified().ok()?;
            (beat.head == stored.id).then_some((beat.issued, bytes))
        });
        Some(Self { head, id: stored.id, envelope: stored.envelope.clone(), beat })
    }

    /// The tree it names.
    #[must_use]
    pub fn built(&self) -> Built {
        built_of(&self.head)
    }
}

/// The tree that a head names.
#[must_use]
pub fn built_of(head: &Head) -> Built {
    Built { id: head.snapshot, entries: head.entries, bytes: head.bytes }
}

impl Served {
    /// A module that is served from `top`; what the index knows of it is taken up.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn load(
        index: &Index,
        name: &str,
        title: &str,
        number: ModuleNumber,
        top: Dir,
        roots: Vec<(u64, Vec<u8>)>,
        signer: Option<Arc<SigningKey>>,
    ) -> Result<Self, IndexError> {
        let reader = index.reader()?;
        let stored = reader.newest_head(number, HeadState::Published)?;
        let newest = match stored {
            Some(stored) => Newest::of(&stored, reader.beat(number)?),
            None => None,
        };
        let (name, title) = (name.to_owned(), title.to_owned());
        Ok(Self { name, title, number, top, roots, signer, newest: RwLock::new(newest) })
    }

    /// The newest head, with a beat that is not older than a minute if this is the root.
    #[must_use]
    pub fn newest(&self) -> Option<Newest> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let Some(signer) = &self.signer else { return Some(newest) };
        let now = now_ms();
        if newest.beat.as_ref().is_some_and(|(issued, _)| now.saturating_sub(*issued) < BEAT_EVERY_MS) {
            return Some(newest);
        }
        let beat = beat(&newest, now, signer);
        let mut kept = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.as_mut().filter(|kept| kept.id == newest.id) {
            kept.beat = Some((now, beat.clone()));
        }
        Some(Newest { beat: Some((now, beat)), ..newest })
    }

    /// Serves a newer head from here on.
    pub fn set_newest(&self, newest: Newest) {
        *self.newest.write().unwrap_or_else(PoisonError::into_inner) = Some(newest);
    }
}

/// Signs that a head is the newest at `now`.
fn beat(newest: &Newest, now: u64, signer: &SigningKey) -> Vec<u8> {
    let Head { module, epoch, sequence, .. } = newest.head;
    let beat = Beat { module, epoch, sequence, head: newest.id, issued: now, expires: now + BEAT_GOOD_MS };
    Envelope::sign(&beat, &[signer]).encode()
}

impl Catalog {
    /// Serves nothing yet.
    #[must_use]
    pub fn new(index: Index) -> Self {
        Self { index, modules: RwLock::default() }
    }

    /// Serves `module`, in the place of one of its name.
    pub fn put(&self, module: Arc<Served>) {
        self.modules.write().unwrap_or_else(PoisonError::into_inner).insert(module.name.clone(), module);
    }

    /// The module called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Served>> {
        self.modules.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All modules, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.modules.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A view of it for one stream.
    ///
    /// # Errors
    /// [`IndexError`] when the index cannot be opened once more.
    pub fn library(self: &Arc<Self>) -> Result<Library, IndexError> {
        Ok(Library { reader: self.index.reader()?, catalog: self.clone() })
    }
}

/// What one stream is answered from.
pub struct Library {
    reader: Reader,
    catalog: Arc<Catalog>,
}

impl Library {
    fn served(&self, module: &str) -> Result<Arc<Served>, u16> {
        self.catalog.get(module).ok_or(refusal::NO_MODULE)
    }
}

fn internal(error: &IndexError) -> u16 {
    tracing::error!(error = error as &dyn std::error::Error, "the index fails");
    refusal::INTERNAL
}

impl Source for Library {
    fn modules(&self) -> Vec<Module> {
        let line = |served: &Arc<Served>| Module {
            name: served.name.clone(),
            title: served.title.clone(),
            root: ByteBuf::from(served.roots.first().map(|(_, bytes)| bytes.clone()).unwrap_or_default()),
            head: served.newest().map(|newest| ByteBuf::from(newest.envelope)),
        };
        self.catalog.all().iter().take(MODULES_MAX).map(line).collect()
    }

    fn state(&self, poll: &Poll) -> Result<State, u16> {
        let served = self.served(&poll.module)?;
        let newest = served.newest().ok_or(refusal::NO_SNAPSHOT)?;
        let later = served.roots.iter().filter(|(version, _)| *version > poll.root);
        Ok(State {
            roots: later.take(STATE_ROOTS_MAX).map(|(_, bytes)| ByteBuf::from(bytes.clone())).collect(),
            head: (poll.have != Some(newest.id)).then(|| ByteBuf::from(newest.envelope)),
            beat: newest.beat.map(|(_, bytes)| ByteBuf::from(bytes)),
        })
    }

    fn tree(&self, module: &str, head: &HeadId) -> Result<Option<Built>, u16> {
        let served = self.served(module)?;
        if let Some(newest) = served.newest().filter(|newest| newest.id == *head) {
            return Ok(Some(newest.built()));
        }
        let stored = self.reader.head(served.number, head).map_err(|e| internal(&e))?;
        let published = stored.filter(|stored| stored.state == HeadState::Published);
        Ok(published.and_then(|stored| Newest::of(&stored, None)).map(|newest| newest.built()))
    }

    fn pages(&self) -> &dyn PageSource {
        &self.reader
    }

    fn open(&self, module: &str, path: &TreePath, entry: &Entry) -> Option<Box<dyn ReadAt>> {
        let served = self.catalog.get(module)?;
        let file = served.top.open_file_at(path).ok()?;
        let Body::File { size, .. } = entry.body else { return None };
        // Every chunk is hashed before it is sent; this only spares the reading of what cannot be right.
        (look_fd(&file).ok()?.key.size == size).then(|| Box::new(OnDisk(file)) as Box<dyn ReadAt>)
    }

    fn similar(&self, module: &str, _base: DirId, chunks: &[ChunkId]) -> Option<TreePath> {
        let number = self.catalog.get(module)?.number;
        let keys = self.reader.similar(number, chunks, SIMILAR_FILES).ok()?;
        keys.iter().find_map(|(key, _)| {
            self.reader.files_of_key(number, *key, 1).ok()?.into_iter().next().map(|found| found.0)
        })
    }

    fn paths_of(&self, module: &str, id: &FileId) -> Vec<TreePath> {
        let Some(served) = self.catalog.get(module) else { return Vec::new() };
        let found = self.reader.paths_of(served.number, id, SAME_FILES).unwrap_or_default();
        found.into_iter().map(|(path, _)| path).collect()
    }
}

struct OnDisk(std::fs::File);

impl ReadAt for OnDisk {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        FileExt::read_exact_at(&self.0, buffer, offset)
    }
}
