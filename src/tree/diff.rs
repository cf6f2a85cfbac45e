//! What differs between two trees: pages that are equal by id are never opened.

use std::collections::HashSet;

use super::dir::DirKind;
use super::entry::Entry;
use super::hash::DirId;
use super::name::TreePath;
use super::page::{Page, PageError, PageSource, load};

/// One path that is not the same in both trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: TreePath,
    /// What was there, if anything.
    pub old: Option<Entry>,
    /// What is there afterwards, if anything.
    pub new: Option<Entry>,
}

/// The changes from `old` to `new` in path order: a directory before what it holds. A directory that vanished is one
/// change; one that is new is followed by all it holds. `None` stands for a tree without entries.
#[must_use]
pub fn changes(pages: &dyn PageSource, old: Option<DirId>, new: Option<DirId>) -> Changes<'_> {
    let mut changes = Changes { pages, open: Vec::new(), last: None, failed: None };
    changes.descend(TreePath::top(), old, new);
    changes
}

/// Iterator of [`changes`]; holds one page of each tree for each open directory.
pub struct Changes<'a> {
    pages: &'a dyn PageSource,
    open: Vec<Frame>,
    /// The directory that the last change has put, while it may still be compared with another one.
    last: Option<(TreePath, DirId)>,
    failed: Option<PageError>,
}

/// A directory whose entries are being compared.
struct Frame {
    path: TreePath,
    old: Side,
    new: Side,
}

/// Leaf pages of one tree that the other tree does not have, and the entries of the first of them.
struct Side {
    leaves: std::vec::IntoIter<DirId>,
    entries: std::iter::Peekable<std::vec::IntoIter<Entry>>,
}

impl Side {
    fn new(leaves: Vec<DirId>) -> Self {
        Self { leaves: leaves.into_iter(), entries: Vec::new().into_iter().peekable() }
    }

    fn peek(&mut self, pages: &dyn PageSource) -> Result<Option<&Entry>, PageError> {
        while self.entries.peek().is_none() {
            let Some(id) = self.leaves.next() else { return Ok(None) };
            if let Page::Leaf(entries) = load::<DirKind>(pages, id.as_bytes())? {
                self.entries = entries.into_iter().peekable();
            }
        }
        Ok(self.entries.peek())
    }
}

impl Changes<'_> {
    /// Compares what the directory of the last change holds with `old` instead, if that change has put one.
    pub fn compare_below(&mut self, old: DirId) {
        if let Some((path, new)) = self.last.take() {
            if self.open.last().is_some_and(|frame| frame.path == path) {
                self.open.pop();
            }
            self.descend(path, Some(old), Some(new));
        }
    }

    fn descend(&mut self, path: TreePath, old: Option<DirId>, new: Option<DirId>) {
        if old == new {
            return;
        }
        match differing_leaves(self.pages, old, new) {
            Ok((old, new)) => self.open.push(Frame { path, old: Side::new(old), new: Side::new(new) }),
            Err(e) => self.failed = Some(e),
        }
    }

    /// The next pair of entries with one name, one of them possibly missing, that are not equal.
    fn step(&mut self) -> Result<Option<Change>, PageError> {
        loop {
            let pages = self.pages;
            let Some(frame) = self.open.last_mut() else { return Ok(None) };
            let order = match (frame.old.peek(pages)?, frame.new.peek(pages)?) {
                (None, None) => {
                    self.open.pop();
                    continue;
                }
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some(new)) => old.name.cmp(&new.name),
            };
            let old = if order.is_le() { frame.old.entries.next() } else { None };
            let new = if order.is_ge() { frame.new.entries.next() } else { None };
            if old == new {
                continue;
            }
            let Some(name) = new.as_ref().or(old.as_ref()).map(|entry| &entry.name) else { continue };
            return Ok(Some(Change { path: frame.path.join(name), old, new }));
        }
    }
}

impl Iterator for Changes<'_> {
    type Item = Result<Change, PageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(e) = self.failed.take() {
            self.open.clear();
            return Some(Err(e));
        }
        match self.step() {
            Ok(None) => None,
            Ok(Some(change)) => {
                self.last = None;
                if let Some(new) = change.new.as_ref().and_then(Entry::directory_id) {
                    let old = change.old.as_ref().and_then(Entry::directory_id);
                    self.last = Some((change.path.clone(), new));
                    self.descend(change.path.clone(), old, Some(new));
                }
                Some(Ok(change))
            }
            Err(e) => {
                self.open.clear();
                Some(Err(e))
            }
        }
    }
}

/// Leaf pages that only one of two directories has, in order. Whole equal subtrees of pages drop out unopened.
fn differing_leaves(
    pages: &dyn PageSource,
    old: Option<DirId>,
    new: Option<DirId>,
) -> Result<(Vec<DirId>, Vec<DirId>), PageError> {
    let mut old = Row::start(pages, old)?;
    let mut new = Row::start(pages, new)?;
    loop {
        if old.level == new.level {
            old.drop_common(&mut new);
            if old.level == 0 {
                return Ok((old.ids, new.ids));
            }
            old.lower(pages)?;
            new.lower(pages)?;
        } else if old.level > new.level {
            old.lower(pages)?;
        } else {
            new.lower(pages)?;
        }
    }
}

/// Pages of one level of a directory, from left to right.
struct Row {
    level: u8,
    ids: Vec<DirId>,
}

impl Row {
    fn start(pages: &dyn PageSource, top: Option<DirId>) -> Result<Self, PageError> {
        match top {
            None => Ok(Self { level: 0, ids: Vec::new() }),
            Some(id) => Ok(Self { level: load::<DirKind>(pages, id.as_bytes())?.level(), ids: vec![id] }),
        }
    }

    /// Goes one level down.
    fn lower(&mut self, pages: &dyn PageSource) -> Result<(), PageError> {
        let mut below = Vec::new();
        for id in &self.ids {
            if let Page::Upper(level, ups) = load::<DirKind>(pages, id.as_bytes())?
                && level == self.level
            {
                below.extend(ups.into_iter().map(|up| up.1));
            }
        }
        self.level = self.level.saturating_sub(1);
        self.ids = below;
        Ok(())
    }

    fn drop_common(&mut self, other: &mut Self) {
        let ours: HashSet<DirId> = self.ids.iter().copied().collect();
        let theirs: HashSet<DirId> = other.ids.iter().copied().collect();
        self.ids.retain(|id| !theirs.contains(id));
        other.ids.retain(|id| !ours.contains(id));
    }
}
