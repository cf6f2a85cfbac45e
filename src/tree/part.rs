//! A part of a tree as a tree of its own: what is left out is not in it, everything else is as it was.

use std::collections::HashSet;

use super::dir::{Built, DirBuilder, DirKind};
use super::entry::Entry;
use super::hash::{DirId, ID_LEN};
use super::limits::PATH_DEPTH_MAX;
use super::name::{Name, TreePath};
use super::page::{Page, PageError, PageSink, PageSource, load};

/// Whether a name in a directory is left out; the last argument says whether a directory has it. What lies in a
/// directory that is left out is not asked for.
pub type LeavesOut<'a> = &'a dyn Fn(&TreePath, &Name, bool) -> bool;

/// A part of a tree.
#[derive(Debug)]
pub struct Part {
    /// The tree of the part. Its totals count what is in it alone.
    pub tree: Built,
    /// Pages of the whole tree that lead to the part and are not pages of it: those of each directory that lacks
    /// something, here or below.
    pub way: HashSet<[u8; ID_LEN]>,
}

/// Builds the part of the tree `whole` that is not left out; its pages go to `sink`. Pages of directories that are left
/// out are not read. `None` when a directory's pages are of wrong levels, empty or not in order, lie too deep, or hold
/// more than `whole` says.
///
/// # Errors
/// [`PageError`] when a page of the part is missing, or `sink` fails.
pub fn part_of(
    pages: &dyn PageSource,
    whole: Built,
    leaves_out: LeavesOut<'_>,
    sink: &mut dyn PageSink,
) -> Result<Option<Part>, PageError> {
    let (mut left, mut way) = (whole.entries, HashSet::new());
    let mut open = vec![Frame::new(TreePath::top(), None, whole.id)];
    while let Some(frame) = open.last_mut() {
        match frame.next(pages)? {
            Step::Wrong => return Ok(None),
            Step::Entry(entry) => {
                let Some(rest) = left.checked_sub(1) else { return Ok(None) };
                left = rest;
                if leaves_out(&frame.path, &entry.name, entry.is_directory()) {
                    continue;
                }
                match entry.directory_id() {
                    None => frame.builder.push(&entry, sink)?,
                    Some(id) => {
                        let path = frame.path.join(&entry.name);
                        if path.depth() > PATH_DEPTH_MAX {
                            return Ok(None);
                        }
                        open.push(Frame::new(path, Some(entry), id));
                    }
                }
            }
            Step::End => {
                let Some(Frame { entry, id, builder, read, .. }) = open.pop() else { return Ok(None) };
                let tree = builder.finish(sink)?;
                if tree.id != id {
                    way.extend(read.iter().map(|page| *page.as_bytes()));
                }
                match (entry, open.last_mut()) {
                    (Some(entry), Some(above)) => above.builder.push(&Entry { body: tree.body(), ..entry }, sink)?,
                    _ => return Ok(Some(Part { tree, way })),
                }
            }
        }
    }
    Ok(None)
}

/// A directory of which some entries have been taken.
struct Frame {
    path: TreePath,
    /// `None` for the top.
    entry: Option<Entry>,
    id: DirId,
    /// Pages to be read, the next one last, and the level that each must have.
    todo: Vec<(DirId, Option<u8>)>,
    leaf: std::vec::IntoIter<Entry>,
    last: Option<Name>,
    /// Pages that were read.
    read: Vec<DirId>,
    builder: DirBuilder,
}

enum Step {
    Entry(Entry),
    End,
    Wrong,
}

impl Frame {
    fn new(path: TreePath, entry: Option<Entry>, id: DirId) -> Self {
        let (todo, leaf) = (vec![(id, None)], Vec::new().into_iter());
        Self { path, entry, id, todo, leaf, last: None, read: Vec::new(), builder: DirBuilder::default() }
    }

    fn next(&mut self, pages: &dyn PageSource) -> Result<Step, PageError> {
        loop {
            if let Some(entry) = self.leaf.next() {
                if self.last.as_ref().is_some_and(|last| *last >= entry.name) {
                    return Ok(Step::Wrong);
                }
                self.last = Some(entry.name.clone());
                return Ok(Step::Entry(entry));
            }
            let Some((id, level)) = self.todo.pop() else { return Ok(Step::End) };
            let page = load::<DirKind>(pages, id.as_bytes())?;
            if level.is_some_and(|level| level != page.level()) {
                return Ok(Step::Wrong);
            }
            self.read.push(id);
            match page {
                Page::Leaf(entries) if entries.is_empty() && level.is_some() => return Ok(Step::Wrong),
                Page::Leaf(entries) => self.leaf = entries.into_iter(),
                Page::Upper(level, ups) => {
                    let below = level.checked_sub(1);
                    if ups.is_empty() || below.is_none() {
                        return Ok(Step::Wrong);
                    }
                    self.todo.extend(ups.iter().rev().map(|up| (up.1, below)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::chunker::Class;
    use crate::tree::dir::{build, look_up};
    use crate::tree::entry::{Body, Meta};
    use crate::tree::hash::FileId;
    use crate::tree::page::Pages;

    fn entry(name: &str, body: Body) -> Entry {
        Entry { name: Name::new(name.as_bytes()).unwrap(), meta: Meta::default(), body, attributes: vec![] }
    }

    fn file(name: &str) -> Entry {
        entry(name, Body::File { size: 3, class: Class::Fine, id: FileId::of(name.as_bytes()) })
    }

    /// `big` with 2,000 files, `few` with `a.iso` and `b`, and `same` with `b`.
    fn tree(pages: &mut Pages) -> Built {
        let many: Vec<_> = (0..2_000).map(|i| file(&format!("f{i:05}"))).collect();
        let big = build(&many, pages).unwrap().body();
        let few = build(&[file("a.iso"), file("b")], pages).unwrap().body();
        let same = build(&[file("b")], pages).unwrap().body();
        build(&[entry("big", big), entry("few", few), entry("same", same)], pages).unwrap()
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_left_out_is_not_read_and_the_rest_is_whole() {
        let mut pages = Pages::new();
        let whole = tree(&mut pages);
        let big = look_up(&pages, whole.id, &path("big")).unwrap().unwrap().directory_id().unwrap();
        pages.remove(big.as_bytes());
        let leaves_out = |_: &TreePath, name: &Name, is_directory: bool| {
            is_directory && name.as_bytes() == b"big" || name.as_bytes().ends_with(b".iso")
        };
        let mut sink = Pages::new();
        let part = part_of(&pages, whole, &leaves_out, &mut sink).unwrap().unwrap();
        assert_eq!((part.tree.entries, part.tree.bytes), (4, 6));
        let at = |text: &str| look_up(&sink, part.tree.id, &path(text)).unwrap();
        assert!(at("few/b").is_some() && at("same/b").is_some());
        assert!(at("few/a.iso").is_none() && at("big").is_none());
        // The top and `few` lead to it; `same` is a page of it.
        assert_eq!(part.way.len(), 2);
        assert!(part.way.contains(whole.id.as_bytes()));
    }

    #[test]
    fn a_part_that_is_everything_is_the_tree() {
        let mut pages = Pages::new();
        let whole = tree(&mut pages);
        let part = part_of(&pages, whole, &|_, _, _| false, &mut Pages::new()).unwrap().unwrap();
        assert_eq!(part.tree, whole);
        assert!(part.way.is_empty());
    }

    #[test]
    fn more_than_was_said_ends_it() {
        let mut pages = Pages::new();
        let whole = tree(&mut pages);
        let said = Built { entries: 1_000, ..whole };
        assert!(part_of(&pages, said, &|_, _, _| false, &mut Pages::new()).unwrap().is_none());
        let lone = build(&[file("x")], &mut pages).unwrap();
        let twice = Page::<DirKind>::Upper(
            1,
            (0..2).map(|_| crate::tree::dir::DirRef(Name::new(b"x").unwrap(), lone.id, 1)).collect(),
        )
        .encode();
        let id = DirId::of(&twice);
        pages.put(id.as_bytes(), &twice).unwrap();
        let top = Built { id, entries: 9, bytes: 9 };
        assert!(!matches!(part_of(&pages, top, &|_, _, _| false, &mut Pages::new()), Ok(Some(_))));
    }
}
