//! Hashes of whole contents, for those who compare: computed when somebody asks, once, and remembered by what they are of.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::{BASE64, HEXLOWER};
use hyper::StatusCode;
use hyper::header;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::asked::Asked;
use super::limits::{CHUNK_MAX, HASH_TIME, HASHES_MAX, HASHES_WAITING_MAX};
use super::problem::CHANGING;
use super::reply::{Answer, TEXT, full, set};
use super::serve::{Web, busy};
use crate::mirror::checked::Checked;
use crate::tree::hash::FileId;

/// What a content can be hashed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// BLAKE3 of all bytes.
    Blake3,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Blake3];

    /// The word in a query.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "b3",
        }
    }
}

/// A hash that is asked for.
#[derive(Debug)]
pub struct Wanted {
    /// Which.
    pub algorithm: Algorithm,
    /// Of what.
    pub checked: Checked,
    /// What the visitor calls it.
    pub name: Vec<u8>,
}

/// The hashes of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes {
    sha256: [u8; 32],
    blake3: [u8; 32],
}

impl Hashes {
    /// As a header has them, after RFC 9530.
    #[must_use]
    pub fn repr_digest(&self) -> String {
        format!("sha-256=:{}:", BASE64.encode(&self.sha256))
    }

    /// As `sha256sum` and `b3sum` write them.
    #[must_use]
    pub fn line(&self, algorithm: Algorithm, name: &[u8]) -> Vec<u8> {
        let hash = match algorithm {
            Algorithm::Sha256 => &self.sha256,
            Algorithm::Blake3 => &self.blake3,
        };
        let mut line = Vec::new();
        if name.iter().any(|b| matches!(b, b'\n' | b'\r' | b'\\')) {
            line.push(b'\\');
        }
        line.extend_from_slice(HEXLOWER.encode(hash).as_bytes());
        line.extend_from_slice(b"  ");
        for byte in name {
            match byte {
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                b'\\' => line.extend_from_slice(b"\\\\"),
                other => line.push(*other),
            }
        }
        line.push(b'\n');
        line
    }

    fn of(checked: &Checked) -> io::Result<Self> {
        let (mut sha256, mut blake3, mut at) = (Sha256::new(), blake3::Hasher::new(), 0);
        while at < checked.size() {
            let len = usize::try_from(checked.size() - at).unwrap_or(CHUNK_MAX).min(CHUNK_MAX);
            let bytes = checked.read(at, len)?;
            sha256.update(&bytes);
            blake3.update(&bytes);
            at += len as u64;
        }
        Ok(Self { sha256: sha256.finalize().into(), blake3: *blake3.finalize().as_bytes() })
    }
}

/// What was computed, and what is being computed.
#[derive(Debug)]
pub struct Digests {
    state: Mutex<State>,
    kept: usize,
    hands: Arc<Semaphore>,
}

/// Of what is remembered, the older half goes when the younger is full.
#[derive(Debug, Default)]
struct State {
    young: HashMap<FileId, Hashes>,
    old: HashMap<FileId, Hashes>,
    busy: HashMap<FileId, watch::Receiver<Done>>,
}

/// `None` while it is computed; then the hashes, or `None` where the content was written to meanwhile.
type Done = Option<Option<Hashes>>;

/// Why there is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Not {
    /// It takes longer.
    Yet,
    /// The content changes.
    Now,
}

impl Digests {
    /// Remembers `kept` contents at most.
    #[must_use]
    pub fn new(kept: usize) -> Self {
        Self { state: Mutex::default(), kept, hands: Arc::new(Semaphore::new(HASHES_MAX)) }
    }

    /// The hashes of a content, if they were computed.
    #[must_use]
    pub fn known(&self, id: &FileId) -> Option<Hashes> {
        let state = self.state();
        state.young.get(id).or_else(|| state.old.get(id)).copied()
    }

    async fn get(self: &Arc<Self>, checked: Checked) -> Result<Hashes, Not> {
        if let Some(known) = self.known(&checked.id()) {
            return Ok(known);
        }
        let mut done = self.begin(checked).ok_or(Not::Yet)?;
        match timeout(HASH_TIME, done.wait_for(Option::is_some)).await {
            Ok(Ok(done)) => (*done).flatten().ok_or(Not::Now),
            Ok(Err(_)) => Err(Not::Now),
            Err(_) => Err(Not::Yet),
        }
    }

    /// Has a content hashed, unless that is going on; `None` when too many wait for it.
    fn begin(self: &Arc<Self>, checked: Checked) -> Option<watch::Receiver<Done>> {
        let (id, (said, done)) = (checked.id(), watch::channel(None));
        let mut state = self.state();
        if let Some(going) = state.busy.get(&id) {
            return Some(going.clone());
        }
        if state.busy.len() >= HASHES_WAITING_MAX {
            return None;
        }
        state.busy.insert(id, done.clone());
        drop(state);
        let digests = self.clone();
        tokio::spawn(async move {
            let hands = digests.hands.clone().acquire_owned().await;
            let hashed = spawn_blocking(move || Hashes::of(&checked)).await;
            drop(hands);
            let hashes = hashed.ok().and_then(Result::ok);
            digests.end(id, hashes);
            said.send_replace(Some(hashes));
        });
        Some(done)
    }

    fn end(&self, id: FileId, hashes: Option<Hashes>) {
        let mut state = self.state();
        state.busy.remove(&id);
        if let Some(hashes) = hashes {
            if state.young.len() >= self.kept / 2 {
                state.old = std::mem::take(&mut state.young);
            }
            state.young.insert(id, hashes);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers with a hash.
pub async fn answer(web: &Web, asked: &Asked, wanted: Wanted) -> Answer {
    let Wanted { algorithm, checked, name } = wanted;
    match web.digests.get(checked).await {
        Ok(hashes) => {
            let mut answer = full(StatusCode::OK, TEXT, hashes.line(algorithm, &name));
            set(&mut answer, header::CACHE_CONTROL, "no-cache");
            answer
        }
        Err(Not::Yet) => busy(web, asked),
        Err(Not::Now) => CHANGING.answer(&web.front, asked, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_usual_programs() {
        let hashes = Hashes { sha256: [1; 32], blake3: [2; 32] };
        let text = |algorithm, name: &[u8]| String::from_utf8(hashes.line(algorithm, name)).unwrap();
        assert_eq!(text(Algorithm::Sha256, b"a b"), format!("{}  a b\n", "01".repeat(32)));
        assert_eq!(text(Algorithm::Blake3, b"a\n\\"), format!("\\{}  a\\n\\\\\n", "02".repeat(32)));
        assert_eq!(hashes.repr_digest(), "sha-256=:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=:");
    }

    #[test]
    fn few_are_remembered() {
        let digests = Digests::new(8);
        for i in 0..100u8 {
            digests.end(FileId::of(&[i]), Some(Hashes { sha256: [i; 32], blake3: [i; 32] }));
            assert_eq!(digests.known(&FileId::of(&[i])).map(|hashes| hashes.sha256), Some([i; 32]));
        }
        let state = digests.state();
        assert!(state.young.len() + state.old.len() <= 8);
    }
}
