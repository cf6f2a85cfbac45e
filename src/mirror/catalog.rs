//! What this mirra serves: all its modules, and a view of them from which a stream is answered.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use serde_bytes::ByteBuf;

use super::served::{Newest, Served};
use crate::delta::rabin::Rabin;
use crate::disk::dir::look_fd;
use crate::disk::index::heads::{HeadState, StoredHead};
use crate::disk::index::{Index, IndexError, Reader};
use crate::protocol::effort::Compress;
use crate::protocol::limits::{MODULES_MAX, STATE_ROOTS_MAX};
use crate::protocol::message::{Module, Poll, State, refusal};
use crate::protocol::sender::{ReadAt, Source};
use crate::tree::dir::Built;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{BaseId, ChunkId, DirId, FileId, HeadId, ID_LEN};
use crate::tree::name::TreePath;
use crate::tree::page::{PageError, PageSource};

/// Files that are looked at for one that shares chunks.
const SIMILAR_FILES: usize = 8;
/// Paths of each of them.
const SIMILAR_PATHS: u32 = 2;
/// Places of a file that are looked at in a tree to tell whether it is there.
const SAME_FILES: u32 = 8;

/// All modules that are served, shared by every connection.
pub struct Catalog {
    index: Index,
    modules: RwLock<BTreeMap<String, Arc<Served>>>,
    compress: RwLock<Compress>,
    /// What block lists are made with, once that is known.
    block_hashing: OnceLock<Arc<Rabin>>,
}

impl Catalog {
    /// Serves nothing yet.
    #[must_use]
    pub fn new(index: Index) -> Self {
        Self { index, modules: RwLock::default(), compress: RwLock::default(), block_hashing: OnceLock::new() }
    }

    /// What the block lists of this index are made with; `None` while it has no secret for them.
    ///
    /// # Errors
    /// [`IndexError`] when the index cannot be read.
    pub fn block_hashing(&self) -> Result<Option<Arc<Rabin>>, IndexError> {
        if let Some(known) = self.block_hashing.get() {
            return Ok(Some(known.clone()));
        }
        let secret = self.index.reader()?.block_secret()?;
        Ok(secret.map(|secret| self.block_hashing.get_or_init(|| Arc::new(Rabin::new(&secret))).clone()))
    }

    /// How hard content is packed for whoever asks from here on.
    pub fn set_compress(&self, compress: Compress) {
        *self.compress.write().unwrap_or_else(PoisonError::into_inner) = compress;
    }

    /// How hard content is packed.
    #[must_use]
    pub fn compress(&self) -> Compress {
        *self.compress.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves `module`, in the place of one of its name.
    pub fn put(&self, module: Arc<Served>) {
        let before = self.modules.write().unwrap_or_else(PoisonError::into_inner).insert(module.name.clone(), module);
        before.iter().for_each(|before| before.wake());
    }

    /// Serves the module called `name` no more. Who follows it is told so.
    pub fn remove(&self, name: &str) {
        let gone = self.modules.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        gone.iter().for_each(|gone| gone.wake());
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
        Ok(Library { pages: AllPages(self.index.reader()?), catalog: self.clone(), binding: Vec::new() })
    }
}

/// What one stream is answered from.
pub struct Library {
    pages: AllPages,
    catalog: Arc<Catalog>,
    binding: Vec<u8>,
}

impl Library {
    /// Answers on the connection whose handshake has this hash.
    #[must_use]
    pub fn bound(self, handshake_hash: &[u8]) -> Self {
        Self { binding: handshake_hash.to_vec(), ..self }
    }

    fn reader(&self) -> &Reader {
        &self.pages.0
    }

    fn served(&self, module: &str) -> Result<Arc<Served>, u16> {
        self.catalog.get(module).ok_or(refusal::NO_MODULE)
    }
}

fn internal(error: &IndexError) -> u16 {
    log(error);
    refusal::INTERNAL
}

fn log(error: &IndexError) {
    tracing::error!(error = error as &dyn std::error::Error, "the index fails");
}

/// The tree of a head, if that was published here.
fn published(stored: StoredHead) -> Option<Built> {
    let newest = Some(stored).filter(|stored| stored.state == HeadState::Published);
    newest.and_then(|stored| Newest::of(&stored, None)).map(|newest| newest.built())
}

impl Source for Library {
    fn modules(&self) -> Vec<Module> {
        let line = |served: &Arc<Served>| Module {
            name: served.name.clone(),
            title: served.title(),
            root: ByteBuf::from(served.roots().first().map(|(_, bytes)| bytes.clone()).unwrap_or_default()),
            head: served.held().map(|newest| ByteBuf::from(newest.envelope)),
        };
        self.catalog.all().iter().take(MODULES_MAX).map(line).collect()
    }

    fn state(&self, poll: &Poll) -> Result<State, u16> {
        let served = self.served(&poll.module)?;
        let newest = served.held().ok_or(refusal::NO_SNAPSHOT)?;
        Ok(state(&newest, &served.roots(), poll.have, poll.root))
    }

    fn tree(&self, module: &str, head: &HeadId) -> Result<Option<Built>, u16> {
        let served = self.served(module)?;
        if let Some(newest) = served.held().filter(|newest| newest.id == *head) {
            return Ok(Some(newest.built()));
        }
        if served.is_partial() {
            // Of other trees it is not even known what is held.
            return Ok(None);
        }
        let stored = self.reader().head(served.number, head).map_err(|e| internal(&e))?;
        Ok(stored.and_then(published))
    }

    fn base(&self, module: &str, base: &BaseId) -> Result<Option<Built>, u16> {
        if let Some(built) = self.tree(module, &HeadId::from_bytes(*base.as_bytes()))? {
            return Ok(Some(built));
        }
        let served = self.served(module)?;
        if served.is_partial() {
            return Ok(None);
        }
        let top = DirId::from_bytes(*base.as_bytes());
        let stored = self.reader().head_of(served.number, &top).map_err(|e| internal(&e))?;
        Ok(stored.and_then(published))
    }

    fn is_partial(&self, module: &str) -> bool {
        self.catalog.get(module).is_some_and(|served| served.is_partial())
    }

    fn pages(&self) -> &dyn PageSource {
        &self.pages
    }

    fn open(&self, module: &str, path: &TreePath, entry: &Entry) -> Option<Box<dyn ReadAt>> {
        let served = self.catalog.get(module)?;
        let file = served.top()?.open_file_at(path).ok()?;
        let Body::File { size, .. } = entry.body else { return None };
        // Every chunk is hashed before it is sent; this only spares the reading of what cannot be right.
        (look_fd(&file).ok()?.key.size == size).then(|| Box::new(OnDisk(file)) as Box<dyn ReadAt>)
    }

    fn binding(&self) -> Vec<u8> {
        self.binding.clone()
    }

    fn paths_of(&self, module: &str, id: &FileId) -> Vec<TreePath> {
        let Some(served) = self.catalog.get(module) else { return Vec::new() };
        let found = self.reader().paths_of(served.number, id, SAME_FILES).unwrap_or_default();
        found.into_iter().map(|(path, _)| path).collect()
    }

    fn past(&self, module: &str, chunk: &ChunkId) -> Option<Vec<u8>> {
        self.catalog.get(module)?.offers.chunk(chunk)
    }

    fn past_file(&self, module: &str, id: &FileId) -> Option<Vec<u8>> {
        self.catalog.get(module)?.offers.file(id)
    }

    fn block_list(&self, module: &str, id: &FileId) -> Option<Vec<u32>> {
        let number = self.catalog.get(module)?.number;
        self.reader().block_list(number, id).inspect_err(log).ok().flatten()
    }

    fn block_hashing(&self) -> Option<Arc<Rabin>> {
        self.catalog.block_hashing().inspect_err(log).ok().flatten()
    }

    fn keeps_blocks(&self, module: &str) -> bool {
        let Some(served) = self.catalog.get(module) else { return false };
        self.reader().block_bytes(served.number).inspect_err(log).is_ok_and(|bytes| bytes > 0)
    }

    fn similar(&self, module: &str, samples: &[u64]) -> Vec<TreePath> {
        let Some(served) = self.catalog.get(module) else { return Vec::new() };
        let keys = self.reader().similar(served.number, samples, SIMILAR_FILES).unwrap_or_default();
        let files = |key| self.reader().files_of_key(served.number, key, SIMILAR_PATHS).unwrap_or_default();
        keys.iter().flat_map(|(key, _)| files(*key)).map(|(path, _)| path).collect()
    }
}

/// The newest signed objects for one who has the head `have` and root files up to version `root`.
#[must_use]
pub fn state(newest: &Newest, roots: &[(u64, Vec<u8>)], have: Option<HeadId>, root: u64) -> State {
    let later = roots.iter().filter(|(version, _)| *version > root);
    State {
        roots: later.take(STATE_ROOTS_MAX).map(|(_, bytes)| ByteBuf::from(bytes.clone())).collect(),
        head: (have != Some(newest.id)).then(|| ByteBuf::from(newest.envelope.clone())),
        beat: newest.beat.as_ref().map(|(_, bytes)| ByteBuf::from(bytes.clone())),
    }
}

/// The pages of trees that are held, and those that lead to parts of trees.
pub(super) struct AllPages(pub(super) Reader);

impl PageSource for AllPages {
    fn page(&self, id: &[u8; ID_LEN]) -> Result<Option<Vec<u8>>, PageError> {
        match self.0.page(id)? {
            Some(bytes) => Ok(Some(bytes)),
            None => Ok(self.0.part_page(id)?),
        }
    }
}

struct OnDisk(std::fs::File);

impl ReadAt for OnDisk {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        FileExt::read_exact_at(&self.0, buffer, offset)
    }
}
