//! Pages: runs of items, cut by the items themselves, named by hash, and stacked into a tree where one is not enough.
//!
//! An edit changes the page it lies in, its ancestors, and no boundary but its own: the idea of prolly trees
//! (Noms, "Prolly trees: probabilistic B-trees"). [`Kind`] tells directory pages from chunk list pages.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use super::codec::{Malformed, bounded, decode_prefix, encode};
use super::hash::ID_LEN;
use super::limits::{PAGE_BYTES_MAX, PAGE_HEAD_BYTES, PAGE_ITEMS_MAX, PAGE_ITEMS_MIN, PAGE_LEVELS_MAX};

/// Why a tree could not be read or built.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The store does not hold the page.
    #[error("page {} is missing", hex(.0))]
    Missing([u8; ID_LEN]),
    /// A page is not what the format allows.
    #[error("page {} is malformed", hex(.id))]
    Malformed {
        /// The page.
        id: [u8; ID_LEN],
        /// What is wrong with it.
        #[source]
        source: Malformed,
    },
    /// The store failed.
    #[error("the index cannot be read or written")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn hex(id: &[u8; ID_LEN]) -> String {
    id.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Where pages are kept, by id.
pub trait PageSource {
    /// The encoded page, or `None` when it is not held.
    ///
    /// # Errors
    /// [`PageError::Store`] when the store fails.
    fn page(&self, id: &[u8; ID_LEN]) -> Result<Option<Vec<u8>>, PageError>;
}

/// Where pages go as they are built.
pub trait PageSink {
    /// Keeps `bytes` under `id`; keeping the same page twice is fine.
    ///
    /// # Errors
    /// [`PageError::Store`] when the store fails.
    fn put(&mut self, id: &[u8; ID_LEN], bytes: &[u8]) -> Result<(), PageError>;
}

/// A sink for who wants ids alone.
pub struct Discard;

impl PageSink for Discard {
    fn put(&mut self, _: &[u8; ID_LEN], _: &[u8]) -> Result<(), PageError> {
        Ok(())
    }
}

/// Pages in memory.
pub type Pages = std::collections::HashMap<[u8; ID_LEN], Vec<u8>>;

impl PageSource for Pages {
    fn page(&self, id: &[u8; ID_LEN]) -> Result<Option<Vec<u8>>, PageError> {
        Ok(self.get(id).cloned())
    }
}

impl PageSink for Pages {
    fn put(&mut self, id: &[u8; ID_LEN], bytes: &[u8]) -> Result<(), PageError> {
        self.insert(*id, bytes.to_vec());
        Ok(())
    }
}

/// What kind of items a page holds.
pub trait Kind {
    /// An item of level 0.
    type Item: Serialize + DeserializeOwned + Clone + Debug;
    /// What names an item and decides where pages end.
    type Key: Clone + Debug + PartialEq;
    /// An item of a higher level: a reference to the page below.
    type Up: Serialize + DeserializeOwned + Clone + Debug;

    /// The domain-separated id of an encoded page.
    fn id(page: &[u8]) -> [u8; ID_LEN];
    /// The key of an item.
    fn key(item: &Self::Item) -> Self::Key;
    /// Whether a page with enough items ends behind this one.
    fn ends_page(key: &Self::Key) -> bool;
    /// What an item adds to the sums of the pages above it.
    fn weigh(item: &Self::Item) -> [u64; 2];
    /// Refers to a page by its first key, its id and its sums.
    fn up(key: Self::Key, id: [u8; ID_LEN], sums: [u64; 2]) -> Self::Up;
    /// The parts of a reference.
    fn parts(up: &Self::Up) -> (Self::Key, [u8; ID_LEN], [u64; 2]);
    /// Checks the order of the items.
    ///
    /// # Errors
    /// [`Malformed`] when they are not in the kind's order.
    fn check(items: &[Self::Item]) -> Result<(), Malformed>;
    /// Checks the order of references.
    ///
    /// # Errors
    /// [`Malformed`] when they are not in the kind's order.
    fn check_up(ups: &[Self::Up]) -> Result<(), Malformed>;
}

/// A decoded page.
#[derive(Debug, Clone)]
pub enum Page<K: Kind> {
    /// Level 0.
    Leaf(Vec<K::Item>),
    /// A higher level and its references.
    Upper(u8, Vec<K::Up>),
}

impl<K: Kind> Page<K> {
    /// Decodes a page and checks its shape, order and bounds, and, for pages of peers, that it is canonical.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8], trust: Trust) -> Result<Self, Malformed> {
        bounded("page", bytes.len() as u64, PAGE_BYTES_MAX as u64)?;
        let level = match bytes {
            [0x92, level, ..] if *level <= PAGE_LEVELS_MAX => *level,
            _ => return Err(Malformed::Rule { what: "page", rule: "it is no array of a level and items" }),
        };
        let page = if level == 0 {
            let (_, items): (u8, Vec<K::Item>) = decode_prefix("page", bytes)?;
            bounded("items of a page", items.len() as u64, PAGE_ITEMS_MAX as u64)?;
            K::check(&items)?;
            Self::Leaf(items)
        } else {
            let (_, ups): (u8, Vec<K::Up>) = decode_prefix("page", bytes)?;
            bounded("items of a page", ups.len() as u64, PAGE_ITEMS_MAX as u64)?;
            if ups.is_empty() {
                return Err(Malformed::Rule { what: "page", rule: "a page above others is empty" });
            }
            K::check_up(&ups)?;
            Self::Upper(level, ups)
        };
        if trust == Trust::Peer && page.encode() != bytes {
            return Err(Malformed::NotCanonical { what: "page" });
        }
        Ok(page)
    }

    /// The page's canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Leaf(items) => encode(&(0u8, items)), // `[page.level]`, `[page.items]`
            Self::Upper(level, ups) => encode(&(level, ups)),
        }
    }

    /// The page's level.
    #[must_use]
    pub fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Upper(level, _) => *level,
        }
    }
}

/// Where a page comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// From a peer: its form is checked to the last byte.
    Peer,
    /// From our own index, where it was written after such a check.
    Index,
}

/// Reads and decodes one page of the index.
///
/// # Errors
/// [`PageError`] when the page is missing, malformed or unreadable.
pub fn load<K: Kind>(pages: &dyn PageSource, id: &[u8; ID_LEN]) -> Result<Page<K>, PageError> {
    let bytes = pages.page(id)?.ok_or(PageError::Missing(*id))?;
    Page::decode(&bytes, Trust::Index).map_err(|source| PageError::Malformed { id: *id, source })
}

/// Decodes a page that a peer sent as `id`.
///
/// # Errors
/// [`Malformed`] when the bytes hash to another id or are no canonical page.
pub fn decode_sent<K: Kind>(id: &[u8; ID_LEN], bytes: &[u8]) -> Result<Page<K>, Malformed> {
    if K::id(bytes) != *id {
        return Err(Malformed::Rule { what: "page", rule: "its bytes do not hash to the id that was asked for" });
    }
    Page::decode(bytes, Trust::Peer)
}

/// A page that is being filled, one for each level.
struct Level<K: Kind> {
    items: Vec<u8>,
    count: usize,
    first: Option<K::Key>,
    sums: [u64; 2],
    /// Pages that left this level.
    closed: u64,
    /// The page that the last reference names; unused on level 0.
    last: [u8; ID_LEN],
}

impl<K: Kind> Level<K> {
    const fn new() -> Self {
        Self { items: Vec::new(), count: 0, first: None, sums: [0; 2], closed: 0, last: [0; ID_LEN] }
    }
}

/// What [`Builder::finish`] has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// The id of the top page.
    pub id: [u8; ID_LEN],
    /// The sums over all items, as [`Kind::weigh`] counts them.
    pub sums: [u64; 2],
    /// Pages of level 0; one page is its own top.
    pub leaves: u64,
}

/// Cuts a sequence of items into pages and the pages' references into pages above, up to one top page.
pub struct Builder<K: Kind> {
    levels: Vec<Level<K>>,
    leaves: u64,
}

impl<K: Kind> Default for Builder<K> {
    fn default() -> Self {
        Self { levels: vec![Level::new()], leaves: 0 }
    }
}

impl<K: Kind> Builder<K> {
    /// Appends the next item of level 0.
    ///
    /// # Errors
    /// Whatever `sink` answers.
    pub fn push(&mut self, item: &K::Item, sink: &mut dyn PageSink) -> Result<(), PageError> {
        self.append(0, K::key(item), K::weigh(item), &encode(item), [0; ID_LEN], sink)
    }

    /// Whether a whole page of `level` may be taken over as it is: nothing on its level or below is half filled.
    #[must_use]
    pub fn takes_page(&self, level: u8) -> bool {
        self.levels.iter().take(usize::from(level) + 1).all(|l| l.count == 0)
    }

    /// Appends a page of `level` that an earlier build made. The caller has seen to it that the same items would be
    /// cut the same way here: [`takes_page`](Self::takes_page), and the page ended by its own rule.
    ///
    /// # Errors
    /// Whatever `sink` answers.
    pub fn push_page(&mut self, level: u8, up: &K::Up, sink: &mut dyn PageSink) -> Result<(), PageError> {
        debug_assert!(self.takes_page(level));
        if let Some(levels) = self.levels.get_mut(usize::from(level)) {
            levels.closed += 1;
        }
        let (key, id, sums) = K::parts(up);
        self.append(usize::from(level) + 1, key, sums, &encode(up), id, sink)
    }

    /// Ends the last pages and names the top one.
    ///
    /// # Errors
    /// Whatever `sink` answers.
    pub fn finish(mut self, sink: &mut dyn PageSink) -> Result<Top, PageError> {
        let mut at = 0;
        while at + 1 < self.levels.len() {
            self.close(at, sink)?;
            at += 1;
        }
        // Only the highest level is left. One reference makes no level: the page it names is the top.
        let (count, sums, last) = self.levels.get(at).map_or((0, [0; 2], [0; ID_LEN]), |l| (l.count, l.sums, l.last));
        if at > 0 && count == 1 {
            return Ok(Top { id: last, sums, leaves: self.leaves });
        }
        let (id, bytes) = self.page_of(at);
        sink.put(&id, &bytes)?;
        Ok(Top { id, sums, leaves: self.leaves + u64::from(at == 0) })
    }

    fn append(
        &mut self,
        at: usize,
        key: K::Key,
        weight: [u64; 2],
        item: &[u8],
        id: [u8; ID_LEN],
        sink: &mut dyn PageSink,
    ) -> Result<(), PageError> {
        while self.levels.len() <= at {
            self.levels.push(Level::new());
        }
        if self.levels.get(at).is_some_and(|l| PAGE_HEAD_BYTES + l.items.len() + item.len() > PAGE_BYTES_MAX) {
            self.close(at, sink)?;
        }
        let Some(level) = self.levels.get_mut(at) else { return Ok(()) };
        level.items.extend_from_slice(item);
        level.count += 1;
        let ([a, b], [x, y]) = (level.sums, weight);
        level.sums = [a.saturating_add(x), b.saturating_add(y)];
        level.last = id;
        let full = level.count == PAGE_ITEMS_MAX || level.count >= PAGE_ITEMS_MIN && K::ends_page(&key);
        level.first.get_or_insert(key);
        if full { self.close(at, sink) } else { Ok(()) }
    }

    /// Ends the page that is being filled at `at`, if it holds anything, and refers to it one level up.
    fn close(&mut self, at: usize, sink: &mut dyn PageSink) -> Result<(), PageError> {
        if self.levels.get(at).is_none_or(|l| l.count == 0) {
            return Ok(());
        }
        let (id, bytes) = self.page_of(at);
        sink.put(&id, &bytes)?;
        self.leaves += u64::from(at == 0);
        let Some(level) = self.levels.get_mut(at) else { return Ok(()) };
        let closed = level.closed + 1;
        let done = std::mem::replace(level, Level { closed, ..Level::new() });
        let Some(first) = done.first else { return Ok(()) };
        let up = K::up(first.clone(), id, done.sums);
        self.append(at + 1, first, done.sums, &encode(&up), id, sink)
    }

    fn page_of(&self, at: usize) -> ([u8; ID_LEN], Vec<u8>) {
        let (items, count) = self.levels.get(at).map_or((&[][..], 0), |l| (l.items.as_slice(), l.count));
        let mut bytes = Vec::with_capacity(items.len() + PAGE_HEAD_BYTES);
        bytes.push(0x92);
        bytes.push(u8::try_from(at).unwrap_or(u8::MAX));
        match u8::try_from(count) {
            Ok(count) if count < 16 => bytes.push(0x90 | count),
            _ => {
                bytes.push(0xdc);
                bytes.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
            }
        }
        bytes.extend_from_slice(items);
        (K::id(&bytes), bytes)
    }
}
