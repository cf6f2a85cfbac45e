//! Counting a tree again: whether pages that a peer sent hold what is said of them.
//!
//! Pages name each other by hash, so a few of them can stand for a tree that nobody can walk. Everything here ends as
//! soon as more is found than was claimed.

use super::dir::{Built, DirBuilder, DirKind, Entries};
use super::entry::Body;
use super::hash::DirId;
use super::limits::PATH_DEPTH_MAX;
use super::page::{Discard, Page, PageError, PageSource, load};

/// Cuts a directory anew from its entries, to see that its pages are the canonical ones and what its totals are. `None`
/// when its pages are of wrong levels or empty, or hold more than `most` entries themselves.
///
/// # Errors
/// [`PageError`] when a page is missing or the store fails.
pub fn recount(pages: &dyn PageSource, id: DirId, most: u64) -> Result<Option<Built>, PageError> {
    let (mut dir, mut left) = (DirBuilder::default(), most);
    let mut todo = vec![(id, None)];
    while let Some((id, level)) = todo.pop() {
        let page = load::<DirKind>(pages, id.as_bytes())?;
        if level.is_some_and(|level| level != page.level()) {
            return Ok(None);
        }
        match page {
            Page::Leaf(entries) => {
                let Some(rest) = left.checked_sub(entries.len() as u64) else { return Ok(None) };
                left = rest;
                if entries.is_empty() && level.is_some() {
                    return Ok(None);
                }
                for entry in &entries {
                    dir.push(entry, &mut Discard)?;
                }
            }
            Page::Upper(level, ups) => {
                let below = level.checked_sub(1);
                todo.extend(ups.iter().rev().map(|up| (up.1, below)));
            }
        }
    }
    dir.finish(&mut Discard).map(Some)
}

/// Whether every directory of the tree is in its canonical pages, holds what its entry and `top` say, and lies no
/// deeper than a path may be. A directory is opened only after it was counted.
///
/// # Errors
/// [`PageError`] when a page is missing or the store fails.
pub fn is_whole(pages: &dyn PageSource, top: Built) -> Result<bool, PageError> {
    let mut left = top.entries;
    if recount(pages, top.id, left)? != Some(top) {
        return Ok(false);
    }
    let mut open = vec![Entries::new(pages, top.id)];
    while let Some(entries) = open.last_mut() {
        let Some(entry) = entries.next().transpose()? else {
            open.pop();
            continue;
        };
        let Some(rest) = left.checked_sub(1).filter(|_| open.len() <= PATH_DEPTH_MAX) else { return Ok(false) };
        left = rest;
        if let Body::Directory { entries, bytes, id } = entry.body {
            if recount(pages, id, left)? != Some(Built { id, entries, bytes }) {
                return Ok(false);
            }
            open.push(Entries::new(pages, id));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::chunker::Class;
    use crate::tree::dir::{DirRef, build, empty};
    use crate::tree::entry::{Entry, Meta};
    use crate::tree::hash::{Authority, FileId, ModuleId};
    use crate::tree::limits::{ENTRIES_MAX, PAGE_LEVELS_MAX};
    use crate::tree::name::Name;
    use crate::tree::page::{PageSink, Pages};
    use crate::tree::signed::{FORMAT, Head, Payload};

    /// Counts what is read, so that a test can tell "at once" without a clock.
    struct Counted<'p>(&'p Pages, std::cell::Cell<u64>);

    impl PageSource for Counted<'_> {
        fn page(&self, id: &[u8; 32]) -> Result<Option<Vec<u8>>, PageError> {
            self.1.set(self.1.get() + 1);
            self.0.page(id)
        }
    }

    fn is_refused_soon(pages: &Pages, top: Built) {
        let counted = Counted(pages, std::cell::Cell::default());
        assert!(!is_whole(&counted, top).unwrap());
        assert!(counted.1.get() < 10_000, "{} pages were read", counted.1.get());
    }

    fn entry(name: &str, body: Body) -> Entry {
        Entry { name: Name::new(name.as_bytes()).unwrap(), meta: Meta::default(), body, attributes: vec![] }
    }

    fn file(name: &str) -> Entry {
        entry(name, Body::File { size: 0, class: Class::Fine, id: FileId::of(b"") })
    }

    fn put(page: &Page<DirKind>, pages: &mut Pages) -> DirId {
        let bytes = page.encode();
        let id = DirId::of(&bytes);
        pages.put(id.as_bytes(), &bytes).unwrap();
        id
    }

    fn head(top: Built) -> Head {
        Head {
            module: ModuleId::of(&Authority::of(b""), "m"),
            name: "m".into(),
            epoch: 0,
            sequence: 1,
            snapshot: top.id,
            entries: top.entries,
            bytes: top.bytes,
            mode: 0o755,
            mtime_seconds: 0,
            mtime_nanos: 0,
            format: FORMAT,
            created: 1,
            previous: None,
            allow_delete: false,
        }
    }

    /// Directories below each other, each with two names of the one below, which `claim` describes.
    fn bomb(levels: usize, pages: &mut Pages, claim: impl Fn(Built) -> Built) -> Built {
        let mut below = build(&[], pages).unwrap();
        for _ in 0..levels {
            let body = claim(below).body();
            below = build(&[entry("a", body.clone()), entry("b", body)], pages).unwrap();
        }
        below
    }

    #[test]
    fn honest_trees_are_whole() {
        let mut pages = Pages::new();
        let wide = build(&(0..20_000).map(|i| file(&format!("{i:06}"))).collect::<Vec<_>>(), &mut pages).unwrap();
        let top = build(&[entry("one", wide.body()), entry("two", wide.body())], &mut pages).unwrap();
        assert_eq!(top.entries, 40_002);
        assert!(is_whole(&pages, top).unwrap());
        assert!(is_whole(&pages, bomb(10, &mut Pages::new(), |built| built)).is_err(), "its pages are not held");
        let small = bomb(10, &mut pages, |built| built);
        assert_eq!(small.entries, 2_046);
        assert!(is_whole(&pages, small).unwrap());
        for wrong in [Built { entries: 2_045, ..small }, Built { entries: 2_047, ..small }, Built { bytes: 1, ..small }]
        {
            is_refused_soon(&pages, wrong);
        }
    }

    #[test]
    fn a_tree_that_nobody_can_walk_is_refused_at_once() {
        let mut pages = Pages::new();
        let honest = bomb(40, &mut pages, |built| built);
        assert!(head(Built { entries: ENTRIES_MAX, ..honest }).check().is_ok());
        assert!(head(honest).check().is_err());
        is_refused_soon(&pages, Built { entries: ENTRIES_MAX, ..honest });
        // Each directory says that the ones below are empty.
        let empty = bomb(40, &mut pages, |built| Built { entries: 0, ..built });
        is_refused_soon(&pages, empty);
        // Totals that overflow, cut to what a head may say.
        let lie = |built: Built| Built { entries: built.entries.min(ENTRIES_MAX / 4), ..built };
        let cut = bomb(40, &mut pages, lie);
        is_refused_soon(&pages, cut);
    }

    #[test]
    fn pages_that_name_each_other_again_and_again_are_refused_at_once() {
        let mut pages = Pages::new();
        let names: Vec<Name> = (0..256).map(|i| Name::new(format!("{i:03}").as_bytes()).unwrap()).collect();
        let refs = |below: DirId| names.iter().map(|name| DirRef(name.clone(), below, 0)).collect::<Vec<_>>();
        let leaf = put(&Page::Leaf(vec![file("x")]), &mut pages);
        for mut below in [empty(), leaf] {
            pages.put(empty().as_bytes(), &Page::<DirKind>::Leaf(vec![]).encode()).unwrap();
            for level in 1..=PAGE_LEVELS_MAX {
                below = put(&Page::Upper(level, refs(below)), &mut pages);
            }
            is_refused_soon(&pages, Built { id: below, entries: 1_000, bytes: 0 });
            let inside = entry("in", Built { id: below, entries: 0, bytes: 0 }.body());
            let above = build(&[inside], &mut pages).unwrap();
            is_refused_soon(&pages, above);
        }
        // Levels that do not descend.
        let mut below = leaf;
        for _ in 0..10_000 {
            below = put(&Page::Upper(1, vec![DirRef(names[0].clone(), below, 1)]), &mut pages);
        }
        is_refused_soon(&pages, Built { id: below, entries: 1, bytes: 0 });
    }
}
