//! What differs between what stands in a directory and what shall: a sync looks at it again and again, so it is walked once
//! and kept, as long as it is little.

use std::cell::RefCell;
use std::sync::Arc;

use crate::tree::diff::{Change, changes};
use crate::tree::hash::DirId;
use crate::tree::page::{PageError, PageSource};

/// Bytes that are kept, about; more is walked anew each time.
const KEPT_MAX: usize = 64 * 1024 * 1024;

/// Changes in path order, each once.
pub(super) type Walk<'a> = Box<dyn Iterator<Item = Result<Change, PageError>> + 'a>;

/// The differences that were walked last.
#[derive(Default)]
pub(super) struct Differences(RefCell<Option<Kept>>);

struct Kept {
    trees: (DirId, DirId),
    /// `None` if they are too many.
    list: Option<Arc<Vec<Change>>>,
}

impl Differences {
    /// All changes from one tree to another.
    pub(super) fn between<'a>(&self, pages: &'a dyn PageSource, old: DirId, new: DirId) -> Walk<'a> {
        let walk = || Box::new(changes(pages, Some(old), Some(new)));
        let known = self.0.borrow().as_ref().filter(|kept| kept.trees == (old, new)).map(|kept| kept.list.clone());
        let list = match known {
            Some(list) => list,
            None => match gather(walk()) {
                Ok(list) => {
                    *self.0.borrow_mut() = Some(Kept { trees: (old, new), list: list.clone() });
                    list
                }
                Err(error) => return Box::new(std::iter::once(Err(error))),
            },
        };
        match list {
            Some(list) => Box::new((0..list.len()).map_while(move |at| list.get(at).cloned().map(Ok))),
            None => walk(),
        }
    }
}

fn gather(walk: Walk<'_>) -> Result<Option<Arc<Vec<Change>>>, PageError> {
    let (mut list, mut bytes) = (Vec::new(), 0);
    for change in walk {
        let change = change?;
        // The names of its entries are parts of its path.
        bytes += size_of::<Change>() + 2 * change.path.as_bytes().len();
        if bytes > KEPT_MAX {
            return Ok(None);
        }
        list.push(change);
    }
    Ok(Some(Arc::new(list)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::dir::build;
    use crate::tree::entry::{Body, Entry, Meta};
    use crate::tree::name::Name;
    use crate::tree::page::Pages;

    fn link(number: usize, len: usize) -> Entry {
        let name = Name::new(format!("{number:0len$}").as_bytes()).unwrap();
        let meta = Meta { mode: 0o777, ..Meta::default() };
        Entry { name, meta, body: Body::Link { target: b"x".to_vec().into() }, attributes: vec![] }
    }

    #[test]
    fn it_is_the_same_each_time_whether_kept_or_not() {
        for (count, len, is_kept) in [(0, 1, true), (700, 8, true), (200_000, 60, false)] {
            let mut pages = Pages::new();
            let old = build(&[], &mut pages).unwrap().id;
            let entries: Vec<_> = (0..count).map(|number| link(number, len)).collect();
            let new = build(&entries, &mut pages).unwrap().id;
            let differences = Differences::default();
            for _ in 0..2 {
                let names = differences.between(&pages, old, new).map(|change| change.unwrap().new.unwrap().name);
                assert!(names.eq(entries.iter().map(|entry| entry.name.clone())));
                assert_eq!(differences.0.borrow().as_ref().unwrap().list.is_some(), is_kept);
            }
            assert_eq!(differences.between(&pages, new, old).count(), count);
            assert_eq!(differences.between(&pages, old, new).count(), count);
        }
    }

    #[test]
    fn a_page_that_is_missing_is_said_each_time() {
        let mut pages = Pages::new();
        let old = build(&[], &mut pages).unwrap().id;
        let new = build(&[link(1, 1)], &mut Pages::new()).unwrap().id;
        let differences = Differences::default();
        for _ in 0..2 {
            assert!(differences.between(&pages, old, new).next().unwrap().is_err());
        }
    }
}
