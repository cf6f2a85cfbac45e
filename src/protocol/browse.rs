//! The receiver's side of DESCEND for who only looks: the pages on the way to one place of a tree, and those of the
//! directory there, or of all below it. Nothing is kept.
//!
//! Every page is checked as it comes: its id, its form, its level, and that its names lie where the page above said.
//! So what is listed is what the signed head says, entry by entry, before the rest has come. Directories are listed
//! level by level, each of them whole and in order.

use std::collections::VecDeque;
use std::sync::Arc;

use super::bits;
use super::limits::{BROWSE_BYTES_MAX, DESCENT_REFERENCES_MAX};
use super::message::{Message, tag};
use super::packed::unpack;
use crate::tree::codec::{Malformed, bounded, decode};
use crate::tree::dir::{DirKind, DirRef};
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::DirId;
use crate::tree::limits::PATH_DEPTH_MAX;
use crate::tree::name::{Name, TreePath};
use crate::tree::page::{Page, decode_sent};

/// Why a place cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrowseError {
    /// A page is not the one that was asked for.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The tree has nothing there.
    #[error("there is nothing at this path")]
    Nothing(TreePath),
    /// A file or a link is there, and the path goes on behind it.
    #[error("this is no directory")]
    NoDirectory(TreePath),
    /// More is still to be asked for than this side remembers.
    #[error("more than {BROWSE_BYTES_MAX} bytes would have to be remembered")]
    TooLarge,
}

/// What lies in one directory: a run of its entries, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The directory.
    pub dir: Arc<TreePath>,
    /// The next of its entries; none where the directory is empty.
    pub entries: Vec<Entry>,
}

/// Asks for the pages that a listing needs, level by level, all pages of a round in one stream.
pub struct Browse {
    /// Names between the directory that is read now and the place that is wanted.
    way: VecDeque<Name>,
    recursive: bool,
    /// Pages of this round that have not come yet, in the order in which they come.
    asked: VecDeque<Asked>,
    /// Those of the next round.
    next: VecDeque<Asked>,
    /// What the pages of this round refer to, counted; the bits of those that are in `next` are set.
    references: usize,
    bits: Vec<u8>,
    /// Bytes that `next` takes.
    bytes: usize,
}

/// A page that was asked for, and what is known of it already.
struct Asked {
    id: DirId,
    dir: Arc<TreePath>,
    /// Its level; a directory's own page may have any.
    level: Option<u8>,
    /// Its first name.
    first: Option<Name>,
    /// A name that lies behind all of it.
    end: Option<Name>,
}

impl Browse {
    /// Starts at the page `top`, which the request itself asks for, on the way to `path`; with `recursive`, all that
    /// lies below it is listed as well.
    ///
    /// # Errors
    /// [`BrowseError::Malformed`] when `path` is none.
    pub fn new(top: DirId, path: &TreePath, recursive: bool) -> Result<Self, BrowseError> {
        let name = |bytes| Name::new(bytes).map_err(|_| Malformed::Rule { what: "path", rule: "it has no such names" });
        let way = path.names().map(name).collect::<Result<_, _>>()?;
        let asked = Asked { id: top, dir: Arc::default(), level: None, first: None, end: None };
        let (asked, next) = ([asked].into(), VecDeque::new());
        Ok(Self { way, recursive, asked, next, references: 0, bits: Vec::new(), bytes: 0 })
    }

    /// Takes one PAGES body and gives what it lists.
    ///
    /// # Errors
    /// [`BrowseError`].
    pub fn pages(&mut self, body: &[u8]) -> Result<Vec<Listed>, BrowseError> {
        let list: Vec<serde_bytes::ByteBuf> = decode("pages", &unpack(body)?)?;
        if list.is_empty() {
            return Err(Malformed::Rule { what: "pages", rule: "none are in the message" }.into());
        }
        let mut listed = Vec::new();
        for bytes in list {
            let rule = Malformed::Rule { what: "pages", rule: "more came than were asked for" };
            let asked = self.asked.pop_front().ok_or(rule)?;
            let page = decode_sent::<DirKind>(asked.id.as_bytes(), &bytes)?;
            check_place(&asked, &page)?;
            match page {
                Page::Upper(level, ups) => self.descend(&asked, level, &ups)?,
                Page::Leaf(entries) => listed.extend(self.leaf(&asked, entries)?),
            }
        }
        Ok(listed)
    }

    /// The next WANT once all pages of the round have come; `Some(None)` when nothing is left to ask for.
    #[allow(clippy::option_option, reason = "a round that is not over, a round, and the end are three answers")]
    pub fn next_round(&mut self) -> Option<Option<Message>> {
        if !self.asked.is_empty() {
            return None;
        }
        self.asked = std::mem::take(&mut self.next);
        (self.references, self.bytes) = (0, 0);
        let body = std::mem::take(&mut self.bits);
        Some((!self.asked.is_empty()).then_some(Message { tag: tag::WANT, body }))
    }

    /// Takes a page above others: all below it on the level of the listing, the one with the name on the way.
    fn descend(&mut self, asked: &Asked, level: u8, ups: &[DirRef]) -> Result<(), BrowseError> {
        let chosen = match self.way.front() {
            Some(name) => {
                let behind = ups.partition_point(|up| up.0 <= *name);
                Some(behind.checked_sub(1).ok_or_else(|| BrowseError::Nothing(asked.dir.join(name)))?)
            }
            None => None,
        };
        for (i, up) in ups.iter().enumerate() {
            let end = ups.get(i + 1).map(|next| next.0.clone()).or_else(|| asked.end.clone());
            let wanted = chosen.is_none_or(|chosen| chosen == i).then(|| Asked {
                id: up.1,
                dir: asked.dir.clone(),
                level: level.checked_sub(1),
                first: Some(up.0.clone()),
                end,
            });
            self.refer(wanted)?;
        }
        Ok(())
    }

    /// Takes a page of entries, and gives it where it is to be listed.
    fn leaf(&mut self, asked: &Asked, mut entries: Vec<Entry>) -> Result<Option<Listed>, BrowseError> {
        let Some(name) = self.way.pop_front() else {
            for entry in &entries {
                if let Some(id) = entry.directory_id() {
                    let wanted = self.recursive.then(|| directory(&asked.dir, &entry.name, id)).transpose()?;
                    self.refer(wanted)?;
                }
            }
            return Ok(Some(Listed { dir: asked.dir.clone(), entries }));
        };
        let at = entries.binary_search_by(|entry| entry.name.cmp(&name));
        let at = at.map_err(|_| BrowseError::Nothing(asked.dir.join(&name)))?;
        for (i, entry) in entries.iter().enumerate() {
            if let Some(id) = entry.directory_id() {
                let wanted = (i == at).then(|| directory(&asked.dir, &entry.name, id)).transpose()?;
                self.refer(wanted)?;
            }
        }
        let entry = entries.swap_remove(at);
        match (&entry.body, self.way.is_empty()) {
            (Body::Directory { .. }, _) => Ok(None),
            (_, true) => Ok(Some(Listed { dir: asked.dir.clone(), entries: vec![entry] })),
            (_, false) => Err(BrowseError::NoDirectory(asked.dir.join(&name))),
        }
    }

    /// Counts a reference; it is asked for in the next round if it is `wanted`.
    fn refer(&mut self, wanted: Option<Asked>) -> Result<(), BrowseError> {
        let at = self.references;
        self.references += 1;
        bounded("references of a round", self.references as u64, DESCENT_REFERENCES_MAX as u64)?;
        self.bits.resize(self.references.div_ceil(8), 0);
        let Some(asked) = wanted else { return Ok(()) };
        bits::set(&mut self.bits, at);
        let name = |name: &Option<Name>| name.as_ref().map_or(0, |name| name.as_bytes().len());
        let path = if asked.level.is_none() { asked.dir.as_bytes().len() } else { 0 };
        self.bytes += size_of::<Asked>() + name(&asked.first) + name(&asked.end) + path;
        if self.bytes > BROWSE_BYTES_MAX {
            return Err(BrowseError::TooLarge);
        }
        self.next.push_back(asked);
        Ok(())
    }
}

/// The first page of the directory `name` in `dir`.
fn directory(dir: &TreePath, name: &Name, id: DirId) -> Result<Asked, Malformed> {
    let path = dir.join(name);
    bounded("names of a path", path.depth() as u64, PATH_DEPTH_MAX as u64)?;
    Ok(Asked { id, dir: Arc::new(path), level: None, first: None, end: None })
}

/// Checks that a page lies where the one above it said: pages in another order would hide names, or show them twice.
fn check_place(asked: &Asked, page: &Page<DirKind>) -> Result<(), Malformed> {
    let (first, last) = match page {
        Page::Leaf(entries) => (entries.first().map(|e| &e.name), entries.last().map(|e| &e.name)),
        Page::Upper(_, ups) => (ups.first().map(|up| &up.0), ups.last().map(|up| &up.0)),
    };
    let placed = asked.level.is_none_or(|level| level == page.level() && first == asked.first.as_ref())
        && asked.end.as_ref().is_none_or(|end| last.is_some_and(|last| last < end));
    if placed { Ok(()) } else { Err(Malformed::Rule { what: "page", rule: "it is not what the page above it says" }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::Descend;
    use crate::protocol::sender::Source;
    use crate::protocol::sender::{Answer, Output};
    use crate::tree::chunker::Class;
    use crate::tree::dir::{Built, build};
    use crate::tree::entry::Meta;
    use crate::tree::hash::{FileId, HeadId};
    use crate::tree::page::{PageSink, PageSource, Pages};

    /// A tree of which only the pages matter.
    struct Shop {
        pages: Pages,
        top: Built,
    }

    fn entry(name: &str, body: Body) -> Entry {
        let mode = if matches!(body, Body::Link { .. }) { 0o777 } else { 0o644 };
        let meta = Meta { mode, ..Meta::default() };
        Entry { name: Name::new(name.as_bytes()).unwrap(), meta, body, attributes: vec![] }
    }

    fn file(name: &str) -> Entry {
        entry(name, Body::File { size: 1, class: Class::Fine, id: FileId::of(name.as_bytes()) })
    }

    /// `few/`, `many/` with 5,000 files and the directory `many/sub`, `empty/`, a file and a link.
    fn shop() -> Shop {
        let mut pages = Pages::new();
        let inner = build(&[file("deep")], &mut pages).unwrap();
        let mut many: Vec<_> = (0..5_000).map(|i| file(&format!("f{i:05}"))).collect();
        many.push(entry("sub", inner.body()));
        let many = build(&many, &mut pages).unwrap();
        let few = build(&[file("a"), file("b")], &mut pages).unwrap();
        let empty = build(&[], &mut pages).unwrap();
        let top = [
            entry("empty", empty.body()),
            entry("few", few.body()),
            file("file"),
            entry("link", Body::Link { target: (*b"few").into() }),
            entry("many", many.body()),
        ];
        let top = build(&top, &mut pages).unwrap();
        Shop { pages, top }
    }

    impl Source for Shop {
        fn modules(&self) -> Vec<crate::protocol::message::Module> {
            Vec::new()
        }
        fn state(&self, _: &crate::protocol::message::Poll) -> Result<crate::protocol::message::State, u16> {
            Err(1)
        }
        fn tree(&self, _: &str, _: &HeadId) -> Result<Option<Built>, u16> {
            Ok(Some(self.top))
        }
        fn pages(&self) -> &dyn PageSource {
            &self.pages
        }
        fn open(&self, _: &str, _: &TreePath, _: &Entry) -> Option<Box<dyn crate::protocol::sender::ReadAt>> {
            None
        }
        fn similar(&self, _: &str, _: &[u64]) -> Vec<TreePath> {
            Vec::new()
        }
    }

    /// What is listed at `path`, as paths, and how many pages that took.
    fn list(shop: &Shop, path: &str, recursive: bool) -> Result<(Vec<String>, usize), BrowseError> {
        let request = Message::new(
            tag::DESCEND,
            &Descend { module: "m".into(), head: HeadId::from_bytes([0; 32]), brief: false },
        );
        let mut answer = Answer::start(shop, &request);
        let mut browse = Browse::new(shop.top.id, &TreePath::new(path.as_bytes()).unwrap(), recursive)?;
        let (mut paths, mut pages) = (Vec::new(), 0);
        loop {
            match answer.next_output() {
                Output::Message(message) => {
                    assert_eq!(message.tag, tag::PAGES);
                    let before = browse.asked.len();
                    for listed in browse.pages(&message.body)? {
                        paths.extend(listed.entries.iter().map(|entry| listed.dir.join(&entry.name).to_string()));
                    }
                    pages += before - browse.asked.len();
                    match browse.next_round() {
                        None => {}
                        Some(Some(want)) => answer.handle(Some(&want)),
                        Some(None) => answer.handle(None),
                    }
                }
                Output::Wait => panic!("nothing was wanted"),
                Output::Done => return Ok((paths, pages)),
            }
        }
    }

    #[test]
    fn a_place_is_listed_with_the_pages_on_its_way_alone() {
        let shop = shop();
        let check = |path: &str, expected: &[&str]| {
            let (paths, pages) = list(&shop, path, false).unwrap();
            assert_eq!(paths, expected, "{path}");
            assert!(pages <= 5, "{path} took {pages} pages");
        };
        check("", &["empty", "few", "file", "link", "many"]);
        check("few", &["few/a", "few/b"]);
        check("empty", &[]);
        check("file", &["file"]);
        check("link", &["link"]);
        check("many/f01234", &["many/f01234"]);
        check("many/sub", &["many/sub/deep"]);
        let (paths, pages) = list(&shop, "many", false).unwrap();
        assert_eq!((paths.len(), paths.is_sorted()), (5_001, true));
        assert!(pages > 20);
    }

    #[test]
    fn all_below_a_place_comes_directory_by_directory() {
        let shop = shop();
        let (paths, _) = list(&shop, "", true).unwrap();
        assert_eq!(paths.len(), 5 + 2 + 5_001 + 1);
        assert_eq!((paths[5].as_str(), paths[6].as_str()), ("few/a", "few/b"));
        let last = paths.last().unwrap();
        assert_eq!(last, "many/sub/deep");
        assert_eq!(list(&shop, "few", true).unwrap().0, ["few/a", "few/b"]);
        assert_eq!(list(&shop, "file", true).unwrap().0, ["file"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let shop = shop();
        let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
        for missing in ["none", "0", "few/c", "many/f99999", "many/a", "empty/x"] {
            assert_eq!(list(&shop, missing, false), Err(BrowseError::Nothing(path(missing))), "{missing}");
        }
        assert_eq!(list(&shop, "none/at/all", true), Err(BrowseError::Nothing(path("none"))));
        for (behind, file) in [("file/x", "file"), ("link/a", "link")] {
            assert_eq!(list(&shop, behind, false), Err(BrowseError::NoDirectory(path(file))));
        }
    }

    /// A directory whose upper page refers to `pages` as it is told.
    fn forged(refs: &[(&str, &[&str])]) -> Shop {
        let mut pages = Pages::new();
        let mut put = |page: &Page<DirKind>| {
            let bytes = page.encode();
            let id = DirId::of(&bytes);
            pages.put(id.as_bytes(), &bytes).unwrap();
            id
        };
        let ups = refs.iter().map(|(first, names)| {
            let leaf = Page::Leaf(names.iter().map(|name| file(name)).collect());
            DirRef(Name::new(first.as_bytes()).unwrap(), put(&leaf), names.len() as u64)
        });
        let ups = ups.collect();
        let id = put(&Page::Upper(1, ups));
        Shop { pages, top: Built { id, entries: 0, bytes: 0 } }
    }

    #[test]
    fn pages_that_are_not_where_they_belong_are_refused() {
        let good = forged(&[("a", &["a", "b"]), ("c", &["c"])]);
        assert_eq!(list(&good, "", false).unwrap().0, ["a", "b", "c"]);
        for refs in [
            &[("a", &["a", "c"][..]), ("c", &["c"])][..],
            &[("a", &["a", "x"]), ("c", &["c"])],
            &[("a", &["b"]), ("c", &["c"])],
            &[("a", &[]), ("c", &["c"])],
        ] {
            let lie = forged(refs);
            assert!(matches!(list(&lie, "", false), Err(BrowseError::Malformed(_))), "{refs:?}");
        }
    }

    #[test]
    fn answers_that_nobody_asked_for_are_refused() {
        let shop = shop();
        let packed = |list: &[&[u8]]| {
            let list: Vec<_> = list.iter().map(|bytes| serde_bytes::ByteBuf::from(bytes.to_vec())).collect();
            crate::protocol::packed::pack(&crate::tree::codec::encode(&list))
        };
        let start = || Browse::new(shop.top.id, &TreePath::top(), true).unwrap();
        let top = shop.pages.page(shop.top.id.as_bytes()).unwrap().unwrap();
        for body in [packed(&[]), packed(&[b"x"]), packed(&[&top, &top]), vec![1, 2]] {
            assert!(matches!(start().pages(&body), Err(BrowseError::Malformed(_))));
        }
        assert!(start().pages(&packed(&[&top])).is_ok());
    }

    #[test]
    fn what_grows_without_end_is_given_up() {
        let mut pages = Pages::new();
        let mut below = build(&[file("x")], &mut pages).unwrap();
        for _ in 0..40 {
            let names: Vec<_> = (0..16).map(|i| format!("{i:0>200}")).collect();
            let entries: Vec<_> = names.iter().map(|name| entry(name, below.body())).collect();
            below = build(&entries, &mut pages).unwrap();
        }
        let shop = Shop { pages, top: below };
        assert!(matches!(list(&shop, "", true), Err(BrowseError::TooLarge)));
    }
}
