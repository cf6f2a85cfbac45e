//! A tree after changes: only touched directories are opened, and of those only touched pages are cut again.

use super::dir::{Built, DirBuilder, DirKind, DirRef, Finder};
use super::entry::{Attribute, Entry, Meta};
use super::hash::DirId;
use super::name::{Name, TreePath};
use super::page::{Builder, Page, PageError, PageSink, PageSource, load};

/// A store that is read and written.
pub trait PageStore: PageSource + PageSink {}

impl<T: PageSource + PageSink> PageStore for T {}

/// What happens at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Nothing is there any more.
    Remove,
    /// This file or link is there; or this directory, whose pages are held already.
    Put(Entry),
    /// A directory is there whose pages are held already; edits below it change what it holds.
    Over(Meta, Vec<Attribute>, Built),
    /// This directory is there: as before but for its metadata, or, if there was none, empty until edits below it.
    Directory(Meta, Vec<Attribute>),
}

/// Why edits do not fit a tree.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The index failed.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The paths of the edits do not ascend.
    #[error("the changes are not in path order at {0}")]
    Order(TreePath),
    /// An edit lies below something that is no directory in the tree.
    #[error("a change lies below {0}, which is no directory")]
    NoDirectory(TreePath),
}

/// Applies edits, given in path order, to a tree.
pub struct Editor {
    /// Open directories from the top down to that of the last edit.
    open: Vec<Frame>,
    last: Option<TreePath>,
}

struct Frame {
    path: TreePath,
    meta: Meta,
    attributes: Vec<Attribute>,
    content: Content,
}

enum Content {
    /// A directory of the base, and what changes in it.
    Old(Old),
    /// A directory that is new: its entries come in order and are never held.
    New(DirBuilder),
}

/// A directory of the base.
struct Old {
    built: Built,
    finder: Finder,
    edits: Vec<(Name, Option<Entry>)>,
}

impl Old {
    fn new(built: Built) -> Self {
        Self { built, finder: Finder::new(built.id), edits: Vec::new() }
    }
}

impl Editor {
    /// Starts from the tree `base`, or from nothing.
    #[must_use]
    pub fn new(base: Option<Built>) -> Self {
        let content = Content::over(base);
        let top = Frame { path: TreePath::top(), meta: Meta::default(), attributes: Vec::new(), content };
        Self { open: vec![top], last: None }
    }

    /// Applies one edit; its path is above those before.
    ///
    /// # Errors
    /// [`EditError`]; the editor is of no further use then.
    pub fn apply(&mut self, path: &TreePath, edit: Edit, store: &mut dyn PageStore) -> Result<(), EditError> {
        let name = self.reach(path, store)?;
        self.place(path, name, edit, store)
    }

    /// As [`apply`](Self::apply), with an edit that hangs on what the base has at the path.
    ///
    /// # Errors
    /// [`EditError`], or what `edit` fails with; the editor is of no further use then.
    pub fn apply_over<E: From<EditError>>(
        &mut self,
        path: &TreePath,
        store: &mut dyn PageStore,
        edit: impl FnOnce(Option<&Entry>, &dyn PageStore) -> Result<Edit, E>,
    ) -> Result<(), E> {
        let name = self.reach(path, store)?;
        let edit = edit(self.old_entry(&name, store)?, store)?;
        Ok(self.place(path, name, edit, store)?)
    }

    /// Closes and opens directories up to the one that holds `path`, and gives its last name.
    fn reach(&mut self, path: &TreePath, store: &mut dyn PageStore) -> Result<Name, EditError> {
        let Some((parent, name)) = path.split_last() else { return Err(EditError::Order(path.clone())) };
        if self.last.as_ref().is_some_and(|last| path <= last) {
            return Err(EditError::Order(path.clone()));
        }
        self.last = Some(path.clone());
        while self.open.len() > 1 && self.open.last().is_some_and(|frame| !parent.is_within(&frame.path)) {
            self.close(store)?;
        }
        self.open_down_to(&parent, store)?;
        Ok(name)
    }

    fn place(&mut self, path: &TreePath, name: Name, edit: Edit, store: &mut dyn PageStore) -> Result<(), EditError> {
        match edit {
            Edit::Remove => self.set(name, None, store),
            Edit::Put(entry) => self.set(name, Some(entry), store),
            Edit::Over(meta, attributes, built) => {
                let content = Content::over(Some(built));
                self.open.push(Frame { path: path.clone(), meta, attributes, content });
                Ok(())
            }
            Edit::Directory(meta, attributes) => {
                let content = Content::over(self.old_entry(&name, store)?.and_then(built_of));
                self.open.push(Frame { path: path.clone(), meta, attributes, content });
                Ok(())
            }
        }
    }

    /// Ends all directories and names the tree.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn finish(mut self, store: &mut dyn PageStore) -> Result<Built, EditError> {
        while self.open.len() > 1 {
            self.close(store)?;
        }
        match self.open.pop() {
            Some(top) => top.content.finish(store),
            None => unreachable!("the top frame is never closed before"),
        }
    }

    /// Opens directories that no edit names, because only what they hold changes.
    fn open_down_to(&mut self, parent: &TreePath, store: &mut dyn PageStore) -> Result<(), EditError> {
        let depth = self.open.last().map_or(0, |frame| frame.path.depth());
        let missing: Vec<Vec<u8>> = parent.names().skip(depth).map(<[u8]>::to_vec).collect();
        for bytes in missing {
            let no_directory = || EditError::NoDirectory(parent.clone());
            let name = Name::new(&bytes).map_err(|_| no_directory())?;
            let entry = self.old_entry(&name, store)?.cloned().ok_or_else(no_directory)?;
            let built = built_of(&entry).ok_or_else(no_directory)?;
            let path = self.open.last().map_or_else(TreePath::top, |frame| frame.path.join(&name));
            let content = Content::Old(Old::new(built));
            self.open.push(Frame { path, meta: entry.meta, attributes: entry.attributes, content });
        }
        Ok(())
    }

    fn old_entry(&mut self, name: &Name, store: &dyn PageStore) -> Result<Option<&Entry>, EditError> {
        match self.open.last_mut().map(|frame| &mut frame.content) {
            Some(Content::Old(old)) => Ok(old.finder.find(store, name.as_bytes())?),
            _ => Ok(None),
        }
    }

    fn set(&mut self, name: Name, entry: Option<Entry>, store: &mut dyn PageStore) -> Result<(), EditError> {
        match self.open.last_mut().map(|frame| &mut frame.content) {
            Some(Content::Old(old)) => old.edits.push((name, entry)),
            Some(Content::New(builder)) => {
                if let Some(entry) = entry {
                    builder.push(&entry, store)?;
                }
            }
            None => {}
        }
        Ok(())
    }

    fn close(&mut self, store: &mut dyn PageStore) -> Result<(), EditError> {
        let Some(frame) = self.open.pop() else { return Ok(()) };
        let body = frame.content.finish(store)?.body();
        let Some((_, name)) = frame.path.split_last() else { return Ok(()) };
        let entry = Entry { name: name.clone(), meta: frame.meta, body, attributes: frame.attributes };
        self.set(name, Some(entry), store)
    }
}

impl Content {
    fn over(base: Option<Built>) -> Self {
        base.map_or_else(|| Self::New(DirBuilder::default()), |built| Self::Old(Old::new(built)))
    }

    fn finish(self, store: &mut dyn PageStore) -> Result<Built, EditError> {
        match self {
            Self::New(builder) => Ok(builder.finish(store)?),
            Self::Old(old) if old.edits.is_empty() => Ok(old.built),
            Self::Old(old) => Ok(update(old.built, old.edits, store)?),
        }
    }
}

fn built_of(entry: &Entry) -> Option<Built> {
    match entry.body {
        super::entry::Body::Directory { entries, bytes, id } => Some(Built { id, entries, bytes }),
        _ => None,
    }
}

/// The directory `base` with `edits` (ascending by name) applied: entries put, or removed where `None`.
///
/// # Errors
/// [`PageError`] when a page is missing or the store fails.
pub fn update(base: Built, edits: Vec<(Name, Option<Entry>)>, store: &mut dyn PageStore) -> Result<Built, PageError> {
    let mut recut = Recut {
        builder: Builder::default(),
        edits: edits.into_iter().peekable(),
        entries: base.entries,
        bytes: base.bytes,
    };
    recut.page(base.id, None, store)?;
    let Recut { builder, entries, bytes, .. } = recut;
    let top = builder.finish(store)?;
    Ok(Built { id: DirId::from_bytes(top.id), entries, bytes })
}

/// Feeds the pages of a directory to a builder again: whole where nothing near them changes, else item by item.
struct Recut {
    builder: Builder<DirKind>,
    edits: std::iter::Peekable<std::vec::IntoIter<(Name, Option<Entry>)>>,
    entries: u64,
    bytes: u64,
}

impl Recut {
    /// Whether an edit is left whose name is below `end`, or any at all without an end.
    fn touched(&mut self, end: Option<&Name>) -> bool {
        self.edits.peek().is_some_and(|(name, _)| end.is_none_or(|end| name < end))
    }

    /// `end` is the first name behind the page, `None` on the right edge. Depth is that of page levels, 8 at most.
    fn page(&mut self, id: DirId, end: Option<&Name>, store: &mut dyn PageStore) -> Result<(), PageError> {
        match load::<DirKind>(store, id.as_bytes())? {
            Page::Leaf(entries) => self.leaf(entries, end, store),
            Page::Upper(level, ups) => self.upper(level, &ups, end, store),
        }
    }

    fn upper(
        &mut self,
        level: u8,
        ups: &[DirRef],
        end: Option<&Name>,
        store: &mut dyn PageStore,
    ) -> Result<(), PageError> {
        let below = level.saturating_sub(1);
        for (i, up) in ups.iter().enumerate() {
            let next = ups.get(i + 1).map(|up| &up.0);
            // A page stands as it is when neither it nor the page behind it changes: where a page ends may hang on
            // whether the next item fits. The last page has no such end, so it is always cut again.
            let behind = ups.get(i + 2).map(|up| &up.0).or(end);
            if next.is_some() && self.builder.takes_page(below) && !self.touched(behind) {
                self.builder.push_page(below, up, store)?;
            } else {
                self.page(up.1, next.or(end), store)?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, entries: Vec<Entry>, end: Option<&Name>, store: &mut dyn PageStore) -> Result<(), PageError> {
        for old in entries {
            while let Some((_, new)) = self.edits.next_if(|(name, _)| *name < old.name) {
                self.put(new, store)?;
            }
            match self.edits.next_if(|(name, _)| *name == old.name) {
                Some((_, new)) => {
                    let (entries, bytes) = old.totals();
                    self.entries = self.entries.saturating_sub(entries);
                    self.bytes = self.bytes.saturating_sub(bytes);
                    self.put(new, store)?;
                }
                None => self.builder.push(&old, store)?,
            }
        }
        while let Some((_, new)) = self.edits.next_if(|(name, _)| end.is_none_or(|end| name < end)) {
            self.put(new, store)?;
        }
        Ok(())
    }

    fn put(&mut self, entry: Option<Entry>, store: &mut dyn PageStore) -> Result<(), PageError> {
        let Some(entry) = entry else { return Ok(()) };
        let (entries, bytes) = entry.totals();
        self.entries = self.entries.saturating_add(entries);
        self.bytes = self.bytes.saturating_add(bytes);
        self.builder.push(&entry, store)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::tree::chunker::Class;
    use crate::tree::count::recount;
    use crate::tree::diff::changes;
    use crate::tree::dir::{build, look_up};
    use crate::tree::entry::Body;
    use crate::tree::hash::FileId;
    use crate::tree::page::Pages;

    /// A tree as a naive person would hold it: every path and its entry, directories without their ids.
    type Model = BTreeMap<TreePath, Option<u64>>;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    fn file(name: &Name, size: u64) -> Entry {
        let body = Body::File { size, class: Class::Fine, id: FileId::of(&size.to_le_bytes()) };
        Entry { name: name.clone(), meta: Meta::default(), body, attributes: vec![] }
    }

    /// Builds the pages of a model from scratch, bottom up.
    fn from_scratch(model: &Model, top: &TreePath, pages: &mut Pages) -> Built {
        let mut entries = Vec::new();
        for (path, size) in model.iter().filter(|(p, _)| p.split_last().is_some_and(|(parent, _)| parent == *top)) {
            let name = path.split_last().unwrap().1;
            entries.push(match size {
                Some(size) => file(&name, *size),
                None => {
                    let body = from_scratch(model, path, pages).body();
                    Entry { name, meta: Meta::default(), body, attributes: vec![] }
                }
            });
        }
        build(&entries, pages).unwrap()
    }

    fn edits_between(pages: &Pages, old: Option<DirId>, new: DirId) -> Vec<(TreePath, Edit)> {
        changes(pages, old, Some(new))
            .map(|change| {
                let change = change.unwrap();
                let edit = match change.new {
                    None => Edit::Remove,
                    Some(entry) if entry.is_directory() => Edit::Directory(entry.meta, entry.attributes),
                    Some(entry) => Edit::Put(entry),
                };
                (change.path, edit)
            })
            .collect()
    }

    fn model() -> impl Strategy<Value = Model> {
        let name = prop_oneof!["[a-d]", "[a-f]{2}", "a[-.]b"];
        let path = proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
        proptest::collection::btree_map(path, proptest::option::weighted(0.9, 0u64..6), 0..60).prop_map(|drawn| {
            let mut model = Model::new();
            for (text, size) in drawn {
                let this = path_of(&text);
                if model.keys().any(|p| p.is_within(&this)) {
                    continue;
                }
                let mut above = this.clone();
                let mut parents = Vec::new();
                while let Some((parent, _)) = above.split_last() {
                    if !parent.is_top() {
                        parents.push(parent.clone());
                    }
                    above = parent;
                }
                if parents.iter().any(|p| matches!(model.get(p), Some(Some(_)))) {
                    continue;
                }
                parents.into_iter().for_each(|p| {
                    model.insert(p, None);
                });
                model.insert(this, size);
            }
            model
        })
    }

    fn path_of(text: &str) -> TreePath {
        path(text)
    }

    proptest! {
        #[test]
        fn the_difference_applied_to_the_old_tree_is_the_new_tree(old in model(), new in model()) {
            let mut pages = Pages::new();
            let from = from_scratch(&old, &TreePath::top(), &mut pages);
            let to = from_scratch(&new, &TreePath::top(), &mut pages);
            for base in [Some(from), None] {
                let edits = edits_between(&pages, base.map(|b| b.id), to.id);
                let mut editor = Editor::new(base);
                for (path, edit) in edits {
                    editor.apply(&path, edit, &mut pages).unwrap();
                }
                prop_assert_eq!(editor.finish(&mut pages).unwrap(), to);
            }
            for (path, size) in &new {
                let found = look_up(&pages, to.id, path).unwrap().unwrap();
                prop_assert_eq!(found.is_directory(), size.is_none());
            }
        }

        #[test]
        fn a_large_directory_recut_is_as_built_from_scratch(
            start in 0usize..3_000,
            edits in proptest::collection::btree_map(0u32..6_000, proptest::option::of(0u64..9), 0..40),
            range in proptest::option::of((0u32..6_000, 0u32..3_000)),
        ) {
            let name = |i: u32| Name::new(format!("{i:05}").as_bytes()).unwrap();
            let mut all: BTreeMap<Name, Entry> = (0..start as u32).map(|i| (name(i * 2), file(&name(i * 2), 1))).collect();
            let mut pages = Pages::new();
            let base = build(all.values(), &mut pages).unwrap();
            let mut wanted: BTreeMap<Name, Option<Entry>> = BTreeMap::new();
            if let Some((from, len)) = range {
                wanted.extend((from..from + len).map(|i| (name(i), None)));
            }
            wanted.extend(edits.iter().map(|(i, size)| (name(*i), size.map(|size| file(&name(*i), size)))));
            for (name, entry) in &wanted {
                match entry {
                    Some(entry) => all.insert(name.clone(), entry.clone()),
                    None => all.remove(name),
                };
            }
            let edited = update(base, wanted.into_iter().collect(), &mut pages).unwrap();
            prop_assert_eq!(edited, build(all.values(), &mut pages).unwrap());
            prop_assert_eq!(recount(&pages, edited.id, edited.entries).unwrap(), Some(edited));
        }
    }

    #[test]
    fn one_edit_among_many_touches_few_pages() {
        let name = |i: u32| Name::new(format!("{i:06}").as_bytes()).unwrap();
        let entries: Vec<Entry> = (0..100_000).map(|i| file(&name(i), 3)).collect();
        let mut pages = Pages::new();
        let base = build(&entries, &mut pages).unwrap();
        let before = pages.len();
        let edited = update(base, vec![(name(50_000), Some(file(&name(50_000), 4)))], &mut pages).unwrap();
        assert!(pages.len() - before <= 20, "{} pages", pages.len() - before);
        assert_eq!(edited.bytes, base.bytes + 1);
    }

    #[test]
    fn edits_out_of_order_or_below_files_are_refused() {
        let mut pages = Pages::new();
        let base = build(&[file(&Name::new(b"f").unwrap(), 1)], &mut pages).unwrap();
        let mut editor = Editor::new(Some(base));
        assert!(matches!(editor.apply(&path("f/x"), Edit::Remove, &mut pages), Err(EditError::NoDirectory(_))));
        let mut editor = Editor::new(Some(base));
        editor.apply(&path("b"), Edit::Directory(Meta::default(), vec![]), &mut pages).unwrap();
        assert!(matches!(editor.apply(&path("a"), Edit::Remove, &mut pages), Err(EditError::Order(_))));
        assert!(matches!(editor.apply(&TreePath::top(), Edit::Remove, &mut pages), Err(EditError::Order(_))));
    }
}
