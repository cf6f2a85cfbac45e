//! A path that is another one but for its digits: the version before, most often.

use super::dir::{Entries, find};
use super::entry::{Body, Entry};
use super::hash::DirId;
use super::name::TreePath;
use super::page::{PageError, PageSource};

/// Entries of a directory that are looked at for a name.
const LOOKED_AT_MAX: usize = 10_000;
/// Entries that one stream may look at by name, at both ends.
pub const BUDGET: usize = 5_000_000;
/// How many times as large as the other one of two files may be that are taken for versions of each other.
const SIZES_APART_MAX: u64 = 4;

/// The file of the tree `top` whose path is `path` but for digits in its names; `None` for one that is there itself. Of
/// several, the one whose name has most in common from the start, then the one nearest in size. `budget` is how many
/// entries may still be looked at by name; it is used up.
///
/// # Errors
/// [`PageError`] when the pages cannot be read.
pub fn alike(
    pages: &dyn PageSource,
    top: DirId,
    path: &TreePath,
    size: u64,
    budget: &mut usize,
) -> Result<Option<(TreePath, Entry)>, PageError> {
    let (mut dir, mut found) = (top, TreePath::default());
    let mut names = path.names().peekable();
    while let Some(name) = names.next() {
        let last = names.peek().is_none();
        let fits = |entry: &Entry| match entry.body {
            Body::File { size: other, .. } => {
                last && size <= other.saturating_mul(SIZES_APART_MAX) && other <= size.saturating_mul(SIZES_APART_MAX)
            }
            Body::Directory { .. } => !last,
            Body::Link { .. } => false,
        };
        let same = if last { None } else { find(pages, dir, name)?.filter(fits) };
        let Some(entry) = (match same {
            Some(entry) => Some(entry),
            None => nearest(pages, dir, name, size, budget, fits)?,
        }) else {
            return Ok(None);
        };
        found = found.join(&entry.name);
        match entry.directory_id() {
            Some(below) => dir = below,
            None => return Ok(Some((found, entry))),
        }
    }
    Ok(None)
}

fn nearest(
    pages: &dyn PageSource,
    dir: DirId,
    name: &[u8],
    size: u64,
    budget: &mut usize,
    fits: impl Fn(&Entry) -> bool,
) -> Result<Option<Entry>, PageError> {
    let mut best: Option<((usize, std::cmp::Reverse<u64>), Entry)> = None;
    for entry in Entries::new(pages, dir).take(LOOKED_AT_MAX.min(*budget)) {
        let entry = entry?;
        *budget -= 1;
        if entry.name.as_bytes() == name || !same_but_for_digits(entry.name.as_bytes(), name) || !fits(&entry) {
            continue;
        }
        let common = entry.name.as_bytes().iter().zip(name).take_while(|(a, b)| a == b).count();
        let apart = if let Body::File { size: other, .. } = entry.body { other.abs_diff(size) } else { 0 };
        let rank = (common, std::cmp::Reverse(apart));
        if best.as_ref().is_none_or(|(other, _)| rank > *other) {
            best = Some((rank, entry));
        }
    }
    Ok(best.map(|(_, entry)| entry))
}

fn same_but_for_digits(a: &[u8], b: &[u8]) -> bool {
    let without = |name: &[u8]| name.iter().copied().filter(|byte| !byte.is_ascii_digit()).collect::<Vec<u8>>();
    let has = |name: &[u8]| name.iter().any(u8::is_ascii_digit);
    has(a) && has(b) && without(a) == without(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::chunker::Class;
    use crate::tree::dir::{Built, build};
    use crate::tree::entry::Meta;
    use crate::tree::hash::FileId;
    use crate::tree::name::Name;
    use crate::tree::page::Pages;

    fn entry(name: &str, body: Body) -> Entry {
        Entry { name: Name::new(name.as_bytes()).unwrap(), meta: Meta::default(), body, attributes: vec![] }
    }

    fn file(name: &str, size: u64) -> Entry {
        entry(name, Body::File { size, class: Class::Fine, id: FileId::of(name.as_bytes()) })
    }

    #[test]
    fn versions_are_found_in_the_same_place() {
        let mut pages = Pages::new();
        let below = build(&[file("zlib_1.2.11.deb", 900), file("zlib_1.2.13.deb", 1_000)], &mut pages).unwrap();
        let tree: Built = build(
            &[file("linux-6.1.tar", 50), file("notes", 9), entry("pool-7", below.body()), file("r2", 1), file("r3", 8)],
            &mut pages,
        )
        .unwrap();
        let of = |path: &str, size| {
            alike(&pages, tree.id, &TreePath::new(path.as_bytes()).unwrap(), size, &mut 100)
                .unwrap()
                .map(|found| found.0.to_string())
        };
        assert_eq!(of("linux-6.2.tar", 50).as_deref(), Some("linux-6.1.tar"));
        assert_eq!(of("linux-6.2.tar", 500), None, "too far apart in size");
        assert_eq!(of("pool-7/zlib_1.2.14.deb", 1_000).as_deref(), Some("pool-7/zlib_1.2.13.deb"));
        assert_eq!(of("pool-8/zlib_1.3.1.deb", 950).as_deref(), Some("pool-7/zlib_1.2.11.deb"));
        assert_eq!(of("pool-8/other.deb", 950), None);
        assert_eq!(of("notes2", 9), None, "digits in both");
        assert_eq!(of("r4", 7).as_deref(), Some("r3"));
        assert_eq!(of("notes/x1", 7), None);
    }
}
