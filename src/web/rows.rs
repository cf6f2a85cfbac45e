//! The entries of a directory by their place in it, however many there are: pages that are not needed are not read.

use crate::tree::dir::DirKind;
use crate::tree::entry::Entry;
use crate::tree::hash::DirId;
use crate::tree::page::{Page, PageError, PageSource, load};

/// What is shown of a directory: all of it, or all but the names that begin with a dot, which stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    dir: DirId,
    /// Entries before those that are left out.
    before: u64,
    left_out: u64,
    /// Entries that are shown.
    pub count: u64,
}

impl Rows {
    /// Looks at `dir`.
    ///
    /// # Errors
    /// [`PageError`] when a page is not here.
    pub fn of(pages: &dyn PageSource, dir: DirId, hidden: bool) -> Result<Self, PageError> {
        let all = match load::<DirKind>(pages, dir.as_bytes())? {
            Page::Leaf(entries) => entries.len() as u64,
            Page::Upper(_, ups) => ups.iter().fold(0, |sum: u64, up| sum.saturating_add(up.2)),
        };
        // No name holds a slash, which follows the dot.
        let (before, behind) = if hidden { (all, all) } else { (rank(pages, dir, b".")?, rank(pages, dir, b"/")?) };
        let left_out = behind.saturating_sub(before);
        Ok(Self { dir, before, left_out, count: all.saturating_sub(left_out) })
    }

    /// Up to `wanted` entries from the one at place `from` on, in the order of the tree.
    ///
    /// # Errors
    /// [`PageError`] when a page is not here.
    pub fn read(&self, pages: &dyn PageSource, from: u64, wanted: usize) -> Result<Vec<Entry>, PageError> {
        if from >= self.before {
            return slice(pages, self.dir, from.saturating_add(self.left_out), wanted);
        }
        let first = usize::try_from(self.before - from).unwrap_or(usize::MAX).min(wanted);
        let mut entries = slice(pages, self.dir, from, first)?;
        if first < wanted {
            let behind = self.before.saturating_add(self.left_out);
            entries.extend(slice(pages, self.dir, behind, wanted - first)?);
        }
        Ok(entries)
    }
}

/// How many entries of `dir` come before `name`.
fn rank(pages: &dyn PageSource, dir: DirId, name: &[u8]) -> Result<u64, PageError> {
    let (mut id, mut before) = (dir, 0u64);
    loop {
        match load::<DirKind>(pages, id.as_bytes())? {
            Page::Leaf(entries) => {
                let here = entries.partition_point(|entry| entry.name.as_bytes() < name);
                return Ok(before.saturating_add(here as u64));
            }
            Page::Upper(_, ups) => {
                let behind = ups.partition_point(|up| up.0.as_bytes() < name);
                let Some(at) = behind.checked_sub(1) else { return Ok(before) };
                before = ups.iter().take(at).fold(before, |sum, up| sum.saturating_add(up.2));
                match ups.get(at) {
                    Some(up) => id = up.1,
                    None => return Ok(before),
                }
            }
        }
    }
}

/// Up to `wanted` entries of `dir` behind the first `skip`.
fn slice(pages: &dyn PageSource, dir: DirId, mut skip: u64, wanted: usize) -> Result<Vec<Entry>, PageError> {
    let (mut todo, mut found) = (vec![dir], Vec::new());
    while let Some(id) = todo.pop()
        && found.len() < wanted
    {
        match load::<DirKind>(pages, id.as_bytes())? {
            Page::Leaf(entries) => {
                let here = usize::try_from(skip).unwrap_or(usize::MAX).min(entries.len());
                skip -= here as u64;
                found.extend(entries.into_iter().skip(here).take(wanted - found.len()));
            }
            Page::Upper(_, ups) => {
                let passed = ups
                    .iter()
                    .take_while(|up| {
                        let pass = skip >= up.2;
                        skip -= if pass { up.2 } else { 0 };
                        pass
                    })
                    .count();
                todo.extend(ups.iter().skip(passed).rev().map(|up| up.1));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::chunker::Class;
    use crate::tree::dir::build;
    use crate::tree::entry::{Body, Meta};
    use crate::tree::hash::FileId;
    use crate::tree::name::Name;
    use crate::tree::page::Pages;

    #[test]
    fn any_stretch_of_any_directory() {
        for count in [0, 1, 20, 300, 9_000] {
            let mut names: Vec<String> = (0..count).map(|i| format!("{i:05}")).collect();
            names.extend((0..count / 3).map(|i| format!(".{i:05}")));
            names.extend((0..count / 5).map(|i| format!("!{i:05}")));
            names.sort_unstable();
            let entry = |name: &String| Entry {
                name: Name::new(name.as_bytes()).unwrap(),
                meta: Meta::default(),
                body: Body::File { size: 0, class: Class::Fine, id: FileId::of(b"") },
                attributes: Vec::new(),
            };
            let (mut pages, entries): (_, Vec<Entry>) = (Pages::new(), names.iter().map(entry).collect());
            let dir = build(&entries, &mut pages).unwrap().id;
            for hidden in [true, false] {
                let shown: Vec<&Entry> = entries.iter().filter(|e| hidden || e.name.as_bytes()[0] != b'.').collect();
                let rows = Rows::of(&pages, dir, hidden).unwrap();
                assert_eq!(rows.count, shown.len() as u64);
                for (from, wanted) in [
                    (0, 1),
                    (0, 7),
                    (5, 500),
                    (count / 5, 3),
                    (count / 5 - 2.min(count / 5), 9),
                    (count, 20_000),
                    (0, 20_000),
                ] {
                    let read = rows.read(&pages, from as u64, wanted).unwrap();
                    let expected: Vec<&Entry> = shown.iter().skip(from).take(wanted).copied().collect();
                    assert_eq!(read.iter().collect::<Vec<_>>(), expected, "{count} {hidden} {from} {wanted}");
                }
            }
        }
    }
}
