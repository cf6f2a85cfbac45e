//! From names to an entry of the snapshot. Links are followed within the module, through the tree alone: nothing here
//! asks the disk.

use std::collections::VecDeque;

use super::limits::{HOPS_MAX, STEPS_MAX};
use crate::tree::dir::find;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::DirId;
use crate::tree::name::{Name, TreePath};
use crate::tree::page::{PageError, PageSource};

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is, when all links are followed.
    pub path: TreePath,
    /// Its entry; `None` for the top directory.
    pub entry: Option<Entry>,
    /// Whether a link was followed.
    pub linked: bool,
}

/// Follows `names` from the directory `top` on; `None` when they lead nowhere within the module.
///
/// # Errors
/// [`PageError`] when a page is not here.
pub fn resolve(pages: &dyn PageSource, top: DirId, names: &[Vec<u8>]) -> Result<Option<Found>, PageError> {
    walk(pages, top, Vec::new(), names.iter().cloned().collect())
}

/// Follows the link that stands in the directory `parent` and points to `target`.
///
/// # Errors
/// As [`resolve`].
pub fn follow(
    pages: &dyn PageSource,
    top: DirId,
    parent: &TreePath,
    target: &[u8],
) -> Result<Option<Found>, PageError> {
    if target.starts_with(b"/") {
        return Ok(None);
    }
    let names = parent.names().chain(target.split(|b| *b == b'/')).map(<[u8]>::to_vec).collect();
    walk(pages, top, Vec::new(), names)
}

fn walk(
    pages: &dyn PageSource,
    top: DirId,
    mut here: Vec<(Entry, DirId)>,
    mut todo: VecDeque<Vec<u8>>,
) -> Result<Option<Found>, PageError> {
    let (mut hops, mut steps, mut file) = (0, 0, None);
    while let Some(name) = todo.pop_front() {
        steps += 1;
        // Below a file there is nothing.
        if steps > STEPS_MAX || file.is_some() {
            return Ok(None);
        }
        match name.as_slice() {
            b"" | b"." => continue,
            b".." if here.pop().is_none() => return Ok(None),
            b".." => continue,
            _ => {}
        }
        let dir = here.last().map_or(top, |(_, id)| *id);
        let Some(entry) = find(pages, dir, &name)? else { return Ok(None) };
        match &entry.body {
            Body::Directory { id, .. } => {
                let id = *id;
                here.push((entry, id));
            }
            Body::File { .. } => file = Some(entry),
            Body::Link { target } => {
                hops += 1;
                if hops > HOPS_MAX || target.starts_with(b"/") {
                    return Ok(None);
                }
                for part in target.split(|b| *b == b'/').rev() {
                    todo.push_front(part.to_vec());
                }
            }
        }
    }
    let path = here.iter().map(|(entry, _)| &entry.name).chain(file.as_ref().map(|entry| &entry.name));
    let path = path.fold(TreePath::top(), |path, name: &Name| path.join(name));
    let entry = file.or_else(|| here.pop().map(|(entry, _)| entry));
    Ok(Some(Found { path, entry, linked: hops > 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::chunker::Class;
    use crate::tree::dir::{Built, build};
    use crate::tree::entry::Meta;
    use crate::tree::hash::FileId;
    use crate::tree::page::Pages;

    fn entry(name: &str, body: Body) -> Entry {
        Entry { name: Name::new(name.as_bytes()).unwrap(), meta: Meta::default(), body, attributes: Vec::new() }
    }

    fn link(name: &str, target: &str) -> Entry {
        let meta = Meta { mode: 0o777, ..Meta::default() };
        Entry { meta, ..entry(name, Body::Link { target: target.as_bytes().into() }) }
    }

    fn dir(name: &str, built: Built) -> Entry {
        entry(name, built.body())
    }

    /// `d/e/f`, and links of all kinds.
    fn tree() -> (Pages, DirId) {
        let mut pages = Pages::new();
        let file = Body::File { size: 1, class: Class::Fine, id: FileId::of(b"f") };
        let e = build(&[entry("f", file), link("up", "../.."), link("x", "../../../etc")], &mut pages).unwrap();
        let d = build(&[dir("e", e), link("self", "."), link("to", "e/./f")], &mut pages).unwrap();
        let mut top = vec![
            dir("d", d),
            link("abs", "/d"),
            link("current", "d//e/"),
            link("gone", "d/nothing"),
            link("loop", "pool"),
            link("pool", "loop"),
            link("out", "../m/d"),
        ];
        top.sort_by(|a, b| a.name.cmp(&b.name));
        let top = build(&top, &mut pages).unwrap();
        (pages, top.id)
    }

    #[test]
    fn links_are_followed_within_the_module() {
        let (pages, top) = tree();
        let check = |path: &str, expected: Option<(&str, bool)>| {
            let names: Vec<Vec<u8>> =
                path.split('/').filter(|n| !n.is_empty()).map(|n| n.as_bytes().to_vec()).collect();
            let found = resolve(&pages, top, &names).unwrap();
            let found =
                found.as_ref().map(|found| (String::from_utf8(found.path.as_bytes().to_vec()).unwrap(), found.linked));
            assert_eq!(found, expected.map(|(path, linked)| (path.to_owned(), linked)), "{path}");
        };
        check("", Some(("", false)));
        check("d/e/f", Some(("d/e/f", false)));
        check("current/f", Some(("d/e/f", true)));
        check("current", Some(("d/e", true)));
        check("d/to", Some(("d/e/f", true)));
        check("d/e/up/d/self/self/e/f", Some(("d/e/f", true)));
        check("d/e/up", Some(("", true)));
        for nowhere in ["abs", "gone", "loop", "out", "d/e/x", "d/e/f/f", "D", "d/e/up/nothing"] {
            check(nowhere, None);
        }
        let round = "d/self/".repeat(HOPS_MAX + 1);
        check(&round, None);
    }
}
