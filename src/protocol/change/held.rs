//! Which directories of a snapshot the base has somewhere else, so that one record is enough for all that they hold.

use std::collections::HashSet;

use crate::tree::diff::changes;
use crate::tree::dir::{Entries, look_up};
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{DirId, FileId};
use crate::tree::limits::PAGE_ITEMS_MAX;
use crate::tree::name::TreePath;
use crate::tree::page::{PageError, PageSource};

/// Directories that may be named by id where they stand now; beyond, they are sent in full.
const HELD_MAX: usize = 100_000;
/// Entries of a new directory from which it is asked where it was copied from.
const COPIED_ENTRIES_MIN: u64 = 4;
/// Directories that were copied from nowhere, after which no more of them are asked about.
const COPIED_MISSES_MAX: usize = 1_000;
/// Files of a directory by which it is looked for.
const PROBES: usize = 3;

/// Ids of directories that stand where the base has no directory, and that the base has elsewhere: they were moved or
/// copied. Copies are found by `paths_of`: a few paths at which a file of this id may be. `file` hears of each file that
/// is removed or changed at its path.
pub(in crate::protocol) fn held(
    pages: &dyn PageSource,
    base: Option<DirId>,
    snapshot: DirId,
    paths_of: impl Fn(&FileId) -> Vec<TreePath>,
    mut file: impl FnMut(FileId),
) -> Result<HashSet<DirId>, PageError> {
    let mut found = HashSet::new();
    let Some(base) = base else { return Ok(found) };
    let mut appeared = Vec::new();
    for change in changes(pages, Some(base), Some(snapshot)) {
        let change = change?;
        let was = change.old.as_ref().and_then(Entry::directory_id);
        if let Some(Entry { body: Body::File { id, .. }, .. }) = change.old {
            file(id);
        }
        match (was, change.new.map(|new| new.body)) {
            (Some(_), Some(Body::Directory { .. })) => {}
            (Some(old), _) => vanished(pages, old, &mut found, &mut file)?,
            (None, Some(Body::Directory { entries, id, .. }))
                if entries >= COPIED_ENTRIES_MIN && appeared.len() < HELD_MAX =>
            {
                appeared.push((change.path, id));
            }
            _ => {}
        }
    }
    let (mut misses, mut last) = (0, None);
    for (path, id) in appeared {
        if last.as_ref().is_some_and(|last| path.is_within(last)) {
            continue;
        }
        if found.contains(&id) {
            last = Some(path);
        } else if misses < COPIED_MISSES_MAX && found.len() < HELD_MAX {
            if is_copy(pages, base, id, &paths_of)? {
                found.insert(id);
                last = Some(path);
            } else {
                misses += 1;
            }
        }
    }
    Ok(found)
}

/// Adds a directory that vanished, and those below it.
fn vanished(
    pages: &dyn PageSource,
    old: DirId,
    found: &mut HashSet<DirId>,
    file: &mut impl FnMut(FileId),
) -> Result<(), PageError> {
    let mut below = vec![old];
    while let Some(id) = below.pop() {
        if found.len() >= HELD_MAX {
            return Ok(());
        }
        if found.insert(id) {
            for entry in Entries::new(pages, id) {
                let entry = entry?;
                below.extend(entry.directory_id());
                if let Body::File { id, .. } = entry.body {
                    file(id);
                }
            }
        }
    }
    Ok(())
}

/// Whether the base has the directory where its largest files are.
fn is_copy(
    pages: &dyn PageSource,
    base: DirId,
    id: DirId,
    paths_of: &impl Fn(&FileId) -> Vec<TreePath>,
) -> Result<bool, PageError> {
    let (files, depth) = largest_files(pages, id)?;
    for path in files.iter().flat_map(paths_of) {
        let mut place = path;
        for _ in 0..depth {
            place = place.split_last().map_or_else(TreePath::top, |(above, _)| above);
        }
        let there =
            if place.is_top() { Some(base) } else { look_up(pages, base, &place)?.and_then(|e| e.directory_id()) };
        if there == Some(id) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The largest files among the first entries of a directory, or of the largest one in it if it has none, and how many
/// names below it they are: most likely they are nowhere but in its copies.
fn largest_files(pages: &dyn PageSource, top: DirId) -> Result<(Vec<FileId>, usize), PageError> {
    let (mut next, mut depth) = (Some(top), 0);
    while let Some(dir) = next.take() {
        depth += 1;
        let (mut files, mut largest) = (Vec::new(), 0);
        for entry in Entries::new(pages, dir).take(PAGE_ITEMS_MAX) {
            match entry?.body {
                Body::File { size, id, .. } if size > 0 => files.push((size, id)),
                Body::Directory { bytes, id, .. } if bytes > largest => (largest, next) = (bytes, Some(id)),
                _ => {}
            }
        }
        if !files.is_empty() {
            files.sort_unstable_by_key(|(size, _)| std::cmp::Reverse(*size));
            return Ok((files.into_iter().take(PROBES).map(|(_, id)| id).collect(), depth));
        }
    }
    Ok((Vec::new(), depth))
}
