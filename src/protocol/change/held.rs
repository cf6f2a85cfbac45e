//! Which directories of a snapshot the base has somewhere else, as they are or nearly so, so that one record is enough for
//! all that they hold, or for most of it.

use std::collections::{HashMap, HashSet};

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

/// From which directory of the base each one that is new begins, by their ids; the same id twice is one that is as it was.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Held(HashMap<DirId, DirId>);

impl Held {
    /// The directory of the base that `id` begins from.
    pub(in crate::protocol) fn origin(&self, id: &DirId) -> Option<DirId> {
        self.0.get(id).copied()
    }
}

/// Directories that stand where the base has no directory, and that the base has elsewhere: they were moved or copied,
/// and maybe changed since. Copies are found by `paths_of`: a few paths at which a file of this id may be. `file` hears of
/// each file that is removed or changed at its path.
pub(in crate::protocol) fn held(
    pages: &dyn PageSource,
    base: Option<DirId>,
    snapshot: DirId,
    paths_of: impl Fn(&FileId) -> Vec<TreePath>,
    mut file: impl FnMut(FileId),
) -> Result<Held, PageError> {
    let mut held = Held::default();
    let Some(base) = base else { return Ok(held) };
    let mut gone = Gone::default();
    let mut appeared = Vec::new();
    for change in changes(pages, Some(base), Some(snapshot)) {
        let change = change?;
        let was = change.old.as_ref().and_then(Entry::directory_id);
        if let Some(Entry { body: Body::File { id, .. }, .. }) = change.old {
            file(id);
        }
        match (was, change.new.map(|new| new.body)) {
            (Some(_), Some(Body::Directory { .. })) => {}
            (Some(old), _) => gone.add(pages, old, &mut file)?,
            (None, Some(Body::Directory { entries, id, .. }))
                if entries >= COPIED_ENTRIES_MIN && appeared.len() < HELD_MAX =>
            {
                appeared.push((change.path, id, entries));
            }
            _ => {}
        }
    }
    held.0.extend(gone.directories.iter().map(|id| (*id, *id)));
    let (mut misses, mut last) = (0, None);
    for (path, id, entries) in appeared {
        if last.as_ref().is_some_and(|last| path.is_within(last)) {
            continue;
        }
        if held.0.contains_key(&id) {
            last = Some(path);
        } else if misses < COPIED_MISSES_MAX && held.0.len() < 2 * HELD_MAX {
            match origin(pages, base, (id, entries), &gone, &paths_of)? {
                Some(origin) => {
                    held.0.insert(id, origin);
                    last = Some(path);
                }
                None => misses += 1,
            }
        }
    }
    Ok(held)
}

/// What vanished from its path.
#[derive(Default)]
struct Gone {
    directories: HashSet<DirId>,
    /// The directory of each file, by the start of its id.
    holders: HashMap<u64, DirId>,
}

impl Gone {
    /// Adds a directory that vanished, and those below it.
    fn add(&mut self, pages: &dyn PageSource, old: DirId, file: &mut impl FnMut(FileId)) -> Result<(), PageError> {
        let mut below = vec![old];
        while let Some(dir) = below.pop() {
            if self.directories.len() >= HELD_MAX {
                return Ok(());
            }
            if !self.directories.insert(dir) {
                continue;
            }
            for entry in Entries::new(pages, dir) {
                let entry = entry?;
                below.extend(entry.directory_id());
                if let Body::File { id, .. } = entry.body {
                    file(id);
                    if self.holders.len() < HELD_MAX {
                        self.holders.entry(id.prefix()).or_insert(dir);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The directory of the base where the largest files of a new one are, if it is the same or much of it is.
fn origin(
    pages: &dyn PageSource,
    base: DirId,
    (id, entries): (DirId, u64),
    gone: &Gone,
    paths_of: &impl Fn(&FileId) -> Vec<TreePath>,
) -> Result<Option<DirId>, PageError> {
    let (files, depth) = largest_files(pages, id)?;
    let mut near = None;
    if depth == 1 {
        near = files.iter().find_map(|file| gone.holders.get(&file.prefix()).copied());
    }
    for path in files.iter().flat_map(paths_of) {
        let mut place = path;
        for _ in 0..depth {
            place = place.split_last().map_or_else(TreePath::top, |(above, _)| above);
        }
        let there =
            if place.is_top() { Some(base) } else { look_up(pages, base, &place)?.and_then(|e| e.directory_id()) };
        if there == Some(id) {
            return Ok(there);
        }
        near = near.or(there);
    }
    match near {
        Some(near) if is_near(pages, near, id, entries / 2)? => Ok(Some(near)),
        _ => Ok(None),
    }
}

/// Whether two directories differ at so many paths at most.
fn is_near(pages: &dyn PageSource, old: DirId, new: DirId, most: u64) -> Result<bool, PageError> {
    let mut left = most;
    for change in changes(pages, Some(old), Some(new)) {
        change?;
        let Some(rest) = left.checked_sub(1) else { return Ok(false) };
        left = rest;
    }
    Ok(true)
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
