//! A directory as its entries sorted by name, in pages. The id of the top directory is the snapshot.

use serde::{Deserialize, Serialize};

use super::codec::Malformed;
use super::entry::{Body, Entry};
use super::hash::{DirId, ID_LEN};
use super::limits::PAGE_CUT_BITS;
use super::name::{Name, TreePath};
use super::page::{Builder, Kind, Page, PageError, PageSink, PageSource, load};

/// A reference to a page of entries: `[directory-reference.first]` name, `[directory-reference.page]`, and
/// `[directory-reference.entries]` in the pages below (not in directories below them).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DirRef(pub Name, pub DirId, pub u64);

/// Directory pages.
#[derive(Debug, Clone, Copy)]
pub struct DirKind;

impl Kind for DirKind {
    type Item = Entry;
    type Key = Name;
    type Up = DirRef;

    fn id(page: &[u8]) -> [u8; ID_LEN] {
        *DirId::of(page).as_bytes()
    }
    fn key(item: &Entry) -> Name {
        item.name.clone()
    }
    fn ends_page(key: &Name) -> bool {
        blake3::hash(key.as_bytes()).as_bytes().first().is_some_and(|b| b.trailing_zeros() >= PAGE_CUT_BITS)
    }
    fn weigh(_: &Entry) -> [u64; 2] {
        [1, 0]
    }
    fn up(key: Name, id: [u8; ID_LEN], [entries, _]: [u64; 2]) -> DirRef {
        DirRef(key, DirId::from_bytes(id), entries)
    }
    fn parts(up: &DirRef) -> (Name, [u8; ID_LEN], [u64; 2]) {
        (up.0.clone(), *up.1.as_bytes(), [up.2, 0])
    }
    fn check(items: &[Entry]) -> Result<(), Malformed> {
        ascending(items.is_sorted_by(|a, b| a.name < b.name))
    }
    fn check_up(ups: &[DirRef]) -> Result<(), Malformed> {
        ascending(ups.is_sorted_by(|a, b| a.0 < b.0))
    }
}

fn ascending(sorted: bool) -> Result<(), Malformed> {
    if sorted { Ok(()) } else { Err(Malformed::Rule { what: "directory page", rule: "its names do not ascend" }) }
}

/// A built directory: what its entry in the directory above says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// Its id.
    pub id: DirId,
    /// Entries in it and below.
    pub entries: u64,
    /// Bytes in it and below.
    pub bytes: u64,
}

impl Built {
    /// The body of its entry.
    #[must_use]
    pub fn body(&self) -> Body {
        Body::Directory { entries: self.entries, bytes: self.bytes, id: self.id }
    }
}

/// Builds a directory from entries in ascending order.
#[derive(Default)]
pub struct DirBuilder {
    pages: Builder<DirKind>,
    entries: u64,
    bytes: u64,
}

impl DirBuilder {
    /// Appends the next entry; its name is above those before.
    ///
    /// # Errors
    /// Whatever `sink` answers.
    pub fn push(&mut self, entry: &Entry, sink: &mut dyn PageSink) -> Result<(), PageError> {
        let (entries, bytes) = entry.totals();
        self.entries = self.entries.saturating_add(entries);
        self.bytes = self.bytes.saturating_add(bytes);
        self.pages.push(entry, sink)
    }

    /// Ends the directory.
    ///
    /// # Errors
    /// Whatever `sink` answers.
    pub fn finish(self, sink: &mut dyn PageSink) -> Result<Built, PageError> {
        let top = self.pages.finish(sink)?;
        Ok(Built { id: DirId::from_bytes(top.id), entries: self.entries, bytes: self.bytes })
    }
}

/// Builds a directory from all its entries.
///
/// # Errors
/// Whatever `sink` answers.
pub fn build<'a>(entries: impl IntoIterator<Item = &'a Entry>, sink: &mut dyn PageSink) -> Result<Built, PageError> {
    let mut dir = DirBuilder::default();
    for entry in entries {
        dir.push(entry, sink)?;
    }
    dir.finish(sink)
}

/// The id of the empty directory.
#[must_use]
pub fn empty() -> DirId {
    DirId::of(&Page::<DirKind>::Leaf(Vec::new()).encode())
}

/// The entries of a directory in order; pages are read as they are reached.
pub struct Entries<'a> {
    pages: &'a dyn PageSource,
    todo: Vec<DirId>,
    leaf: std::vec::IntoIter<Entry>,
}

impl<'a> Entries<'a> {
    /// Starts at the first entry of `dir`.
    #[must_use]
    pub fn new(pages: &'a dyn PageSource, dir: DirId) -> Self {
        Self { pages, todo: vec![dir], leaf: Vec::new().into_iter() }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, PageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(Ok(entry));
            }
            let id = self.todo.pop()?;
            match load::<DirKind>(self.pages, id.as_bytes()) {
                Ok(Page::Leaf(entries)) => self.leaf = entries.into_iter(),
                Ok(Page::Upper(_, ups)) => self.todo.extend(ups.iter().rev().map(|up| up.1)),
                Err(e) => {
                    self.todo.clear();
                    return Some(Err(e));
                }
            }
        }
    }
}

/// The entry called `name` in `dir`; reads one page of each level.
///
/// # Errors
/// [`PageError`] when a page is missing or the store fails.
pub fn find(pages: &dyn PageSource, dir: DirId, name: &[u8]) -> Result<Option<Entry>, PageError> {
    Ok(Finder::new(dir).find(pages, name)?.cloned())
}

/// Finds entries of one directory by name. It keeps the page that it read last, so that names in order cost one read of
/// each page that has one of them.
pub struct Finder {
    dir: DirId,
    leaf: Vec<Entry>,
    /// The first name behind that page; `None` on the right edge.
    until: Option<Name>,
}

impl Finder {
    /// Has read nothing of `dir` yet.
    #[must_use]
    pub fn new(dir: DirId) -> Self {
        Self { dir, leaf: Vec::new(), until: None }
    }

    /// The entry called `name`.
    ///
    /// # Errors
    /// [`PageError`] when a page is missing or the store fails.
    pub fn find(&mut self, pages: &dyn PageSource, name: &[u8]) -> Result<Option<&Entry>, PageError> {
        let starts = self.leaf.first().is_some_and(|first| first.name.as_bytes() <= name);
        if !starts || self.until.as_ref().is_some_and(|until| until.as_bytes() <= name) {
            self.read(pages, name)?;
        }
        let at = self.leaf.binary_search_by(|entry| entry.name.as_bytes().cmp(name));
        Ok(at.ok().and_then(|at| self.leaf.get(at)))
    }

    /// Reads the page that `name` belongs in.
    fn read(&mut self, pages: &dyn PageSource, name: &[u8]) -> Result<(), PageError> {
        let mut id = self.dir;
        self.leaf.clear();
        self.until = None;
        loop {
            match load::<DirKind>(pages, id.as_bytes())? {
                Page::Leaf(entries) => {
                    self.leaf = entries;
                    return Ok(());
                }
                Page::Upper(_, ups) => {
                    let behind = ups.partition_point(|up| up.0.as_bytes() <= name);
                    let Some(up) = behind.checked_sub(1).and_then(|at| ups.get(at)) else { return Ok(()) };
                    id = up.1;
                    // The end of a lower page is never behind that of the page above it.
                    self.until = ups.get(behind).map(|next| next.0.clone()).or(self.until.take());
                }
            }
        }
    }
}

/// Finds entries of one tree by path. It keeps the page that it read last, so that paths in order cost one read of each
/// page that has one of them.
pub struct PathFinder {
    top: DirId,
    place: TreePath,
    /// Of the directory at `place`; `None` while nothing was read, and if there is no directory.
    finder: Option<Finder>,
}

impl PathFinder {
    /// Has read nothing of the tree yet.
    #[must_use]
    pub fn new(top: DirId) -> Self {
        Self { top, place: TreePath::top(), finder: Some(Finder::new(top)) }
    }

    /// The entry at `path`; `None` if there is none, or for the top itself.
    ///
    /// # Errors
    /// [`PageError`] when a page is missing or the store fails.
    pub fn find(&mut self, pages: &dyn PageSource, path: &TreePath) -> Result<Option<&Entry>, PageError> {
        let Some((place, name)) = path.split_last() else { return Ok(None) };
        if place != self.place {
            let dir = match place.is_top() {
                true => Some(self.top),
                false => look_up(pages, self.top, &place)?.and_then(|entry| entry.directory_id()),
            };
            (self.place, self.finder) = (place, dir.map(Finder::new));
        }
        self.finder.as_mut().map_or(Ok(None), |finder| finder.find(pages, name.as_bytes()))
    }
}

/// The entry at `path` below `top`; `None` if there is none, or for the top itself.
///
/// # Errors
/// [`PageError`] when a page is missing or the store fails.
pub fn look_up(pages: &dyn PageSource, top: DirId, path: &TreePath) -> Result<Option<Entry>, PageError> {
    let (mut dir, mut found) = (Some(top), None);
    for name in path.names() {
        let Some(id) = dir else { return Ok(None) };
        found = find(pages, id, name)?;
        dir = found.as_ref().and_then(Entry::directory_id);
        if found.is_none() {
            return Ok(None);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Meta;
    use crate::tree::page::Pages;

    fn entry(name: &str, body: Body) -> Entry {
        let meta = Meta { mode: 0o777, ..Meta::default() };
        Entry { name: Name::new(name.as_bytes()).unwrap(), meta, body, attributes: vec![] }
    }

    #[test]
    fn a_path_is_found_from_wherever_the_last_one_was() {
        let mut pages = Pages::new();
        let links: Vec<_> =
            (0..700).map(|n| entry(&format!("l{n:03}"), Body::Link { target: b"x".to_vec().into() })).collect();
        let many = build(&links, &mut pages).unwrap();
        let deep = build(&[entry("few", build(&links[..3], &mut pages).unwrap().body())], &mut pages).unwrap();
        let top = [entry("a", deep.body()), entry("l001", links[1].body.clone()), entry("many", many.body())];
        let top = build(&top, &mut pages).unwrap().id;
        let paths = [
            "many/l000",
            "many/l699",
            "many/l300",
            "a/few/l001",
            "a/few/l009",
            "l001",
            "a",
            "",
            "gone/l000",
            "l001/x",
            "a/few",
            "a/few/l002/x",
            "many/l001",
            "many/",
            "zz",
        ];
        let paths: Vec<_> = paths.iter().filter_map(|path| TreePath::new(path.as_bytes()).ok()).collect();
        let mut finder = PathFinder::new(top);
        for path in paths.iter().flat_map(|first| paths.iter().flat_map(move |second| [first, second])) {
            let expected = look_up(&pages, top, path).unwrap();
            assert_eq!(finder.find(&pages, path).unwrap(), expected.as_ref(), "{path}");
        }
        assert!(finder.find(&pages, &paths[0]).unwrap().is_some());
    }
}
