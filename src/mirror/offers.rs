//! What is pushed to the followers of a module: packs that are kept, and differences over several heads, computed once for
//! all who ask.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::dial::chain;
use super::packs::PackStore;
use crate::disk::home::Home;
use crate::protocol::pack::Pack;
use crate::protocol::sender::Source;
use crate::tree::dir::Built;
use crate::tree::hash::{ChunkId, FileId, HeadId};

/// Answers that are remembered: followers are most often at one of few heads.
const REMEMBERED: usize = 8;

/// The packs of one module.
pub struct Offers {
    /// `None` when the disk refuses: packs are only a faster way.
    store: Option<PackStore>,
    /// Held while the pack to the newest head is made. Apart from the others: whoever asks for much from long ago must not
    /// keep back what is new. Holds the last difference that was too large.
    next: Mutex<Option<(HeadId, HeadId)>>,
    /// Answers over several heads, newest last. Held while one is computed: who asks the same meanwhile gets it.
    computed: Mutex<VecDeque<Computed>>,
}

/// From which head to which, and what leads there; `None` when it is too large to be pushed.
type Computed = ((HeadId, HeadId), Option<Arc<Pack>>);

impl Offers {
    /// Takes up what is kept of `module`, which has so many bytes.
    #[must_use]
    pub fn open(home: &Home, module: &str, module_bytes: u64) -> Self {
        let store = PackStore::open(home, module, module_bytes)
            .inspect_err(|error| tracing::warn!(module, error = %chain(error), "packs are not kept"))
            .ok();
        Self { store, next: Mutex::default(), computed: Mutex::default() }
    }

    /// What leads from `base` to `head`, from the store or computed now; `None` when it is too large to be pushed. What
    /// leads to a head with a `sequence` from the one before it is kept.
    pub fn pack(
        &self,
        source: &dyn Source,
        module: &str,
        base: (HeadId, Built),
        head: (HeadId, Built),
        sequence: Option<u64>,
    ) -> Option<Arc<Pack>> {
        let wanted = (base.0, head.0);
        let stored = || self.store.as_ref().and_then(|store| store.get(&base.0, &head.0));
        if let Some(pack) = stored() {
            return Some(pack);
        }
        if let Some(sequence) = sequence {
            let mut too_large = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            if *too_large == Some(wanted) {
                return None;
            }
            if let Some(pack) = stored() {
                return Some(pack);
            }
            // A failure was logged where it happened.
            let Some(pack) = Pack::build(source, module, base, head).ok()?.map(Arc::new) else {
                *too_large = Some(wanted);
                return None;
            };
            self.keep(pack.clone(), sequence);
            return Some(pack);
        }
        let mut computed = self.computed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pack)) = computed.iter().find(|(known, _)| *known == wanted) {
            return pack.clone();
        }
        let pack = Pack::build(source, module, base, head).ok()?.map(Arc::new);
        computed.push_back((wanted, pack.clone()));
        while computed.len() > REMEMBERED {
            computed.pop_front();
        }
        pack
    }

    /// Keeps a pack that leads to the head with that sequence.
    pub fn keep(&self, pack: Arc<Pack>, sequence: u64) {
        if let Some(store) = &self.store {
            store.put(sequence, pack);
        }
    }

    /// Keeps to the share of a module that has so many bytes now.
    pub fn fit(&self, module_bytes: u64) {
        if let Some(store) = &self.store {
            store.fit(module_bytes);
        }
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.store.as_ref().map_or(0, PackStore::bytes)
    }

    /// A chunk that some pack holds.
    #[must_use]
    pub fn chunk(&self, id: &ChunkId) -> Option<Vec<u8>> {
        self.store.as_ref()?.chunk(id)
    }

    /// The content of a file of one chunk that some pack holds.
    #[must_use]
    pub fn file(&self, id: &FileId) -> Option<Vec<u8>> {
        self.store.as_ref()?.file(id)
    }
}
