//! What the changes take away, gathered before anything is staged: a removed path is a place to move from.

use std::collections::{HashMap, HashSet};
use std::io;

use super::order::{Moves, Places, rebase};
use super::{Plan, PublishError};
use crate::disk::dir::{Found, StatKey};
use crate::tree::diff::Change;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::DirId;
use crate::tree::name::{Name, TreePath};

/// Removed directories that are remembered as a whole; of more, the files are moved one by one.
const DIRECTORIES_MAX: usize = 1 << 16;
/// Removed paths that are remembered as places to move from; what is beyond is copied.
const REMOVED_MAX: usize = 1 << 20;
/// Bytes of a path's hash by which it is remembered: nobody can find two paths with the same.
const MARK_LEN: usize = 16;
/// Staged files that are not looked at again before they are moved: 40 bytes for each.
const KEYS_MAX: usize = 8_192;

/// What a switch needs to know beside the plan and the stage.
#[derive(Debug, Default)]
pub struct Prepared {
    pub(super) moves: Moves,
    /// Changes that each phase has to look at.
    pub(super) work: Work,
    moved_from: HashSet<TreePath>,
    removed: HashSet<[u8; MARK_LEN]>,
    pub(super) wholes: Wholes,
}

/// Changes that take content under its id alone: new files. Others have a file with their number.
#[derive(Debug, Default)]
pub(super) struct Wholes {
    /// Ascending.
    numbers: Vec<u64>,
    /// What was seen of the first of them.
    keys: Vec<StatKey>,
}

impl Wholes {
    pub(super) fn push(&mut self, number: u64, key: StatKey) {
        self.numbers.push(number);
        if self.keys.len() < KEYS_MAX {
            self.keys.push(key);
        }
    }

    /// What was seen of the content for change `number`, if that was kept; nothing at all if it takes none.
    #[allow(
        clippy::option_option,
        reason = "a change that takes nothing is another answer than a key that was not kept"
    )]
    pub(super) fn key(&self, number: u64) -> Option<Option<StatKey>> {
        self.numbers.binary_search(&number).ok().map(|at| self.keys.get(at).copied())
    }
}

impl Prepared {
    /// Directories that will be moved as a whole.
    #[must_use]
    pub fn moved_directories(&self) -> usize {
        self.moves.len()
    }

    /// Whether the changes take anything away.
    pub(super) fn removes(&self) -> bool {
        self.work.removals > 0
    }

    /// Whether the changes take the file at `path` away, so that it may be moved from there.
    pub(super) fn gives(&self, path: &TreePath) -> bool {
        let mut gives = false;
        let mut at = TreePath::top();
        for part in path.names() {
            at = at.join(&Name::new(part).expect("components of a checked path are names"));
            if self.moved_from.contains(&at) {
                return false;
            }
            gives |= self.removed.contains(&mark(&at));
        }
        gives
    }
}

fn mark(path: &TreePath) -> [u8; MARK_LEN] {
    let mut mark = [0; MARK_LEN];
    blake3::Hasher::new().update(path.as_bytes()).finalize_xof().fill(&mut mark);
    mark
}

/// How many changes concern a phase; one without any is not walked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) directories: u64,
    pub(super) new_files: u64,
    pub(super) replaced_files: u64,
    pub(super) links: u64,
    pub(super) removals: u64,
}

impl Work {
    fn add(&mut self, change: &Change) {
        let phase = match (change.new.as_ref().map(|new| &new.body), &change.old) {
            (Some(Body::Directory { .. }), _) => &mut self.directories,
            (Some(Body::File { .. }), None) => &mut self.new_files,
            (Some(Body::File { .. }), Some(_)) => &mut self.replaced_files,
            (Some(Body::Link { .. }), _) => &mut self.links,
            (None, _) => &mut self.removals,
        };
        *phase += 1;
    }
}

/// Reads the changes for what they remove, and finds the directories that can be moved as they are.
pub(super) fn gather(plan: &Plan<'_>) -> Result<Prepared, PublishError> {
    let mut prepared = Prepared::default();
    let mut directories = HashMap::new();
    for change in changes(plan) {
        let change = change?;
        prepared.work.add(&change);
        let Change { path, old: Some(old), new: None } = change else { continue };
        if prepared.removed.len() < REMOVED_MAX {
            prepared.removed.insert(mark(&path));
        }
        match old.body {
            // An empty directory is made as fast as it is moved.
            Body::Directory { entries, id, .. } if entries > 0 && directories.len() < DIRECTORIES_MAX => {
                directories.insert(id, path);
            }
            _ => {}
        }
    }
    if !directories.is_empty() {
        find_moves(plan, &mut directories, &mut prepared)?;
    }
    Ok(prepared)
}

fn changes<'a>(plan: &Plan<'a>) -> impl Iterator<Item = Result<Change, PublishError>> + use<'a> {
    (plan.changes)().map(|change| change.map_err(PublishError::Changes))
}

fn find_moves(
    plan: &Plan<'_>,
    directories: &mut HashMap<DirId, TreePath>,
    prepared: &mut Prepared,
) -> Result<(), PublishError> {
    let mut places = Places::new(plan.target);
    let mut candidate: Option<Candidate> = None;
    for change in changes(plan) {
        let change = change?;
        match &mut candidate {
            Some(candidate) if change.path.is_within(&candidate.to) => candidate.compare(plan, &mut places, &change),
            _ => {
                settle(candidate.take(), directories, prepared);
                candidate = Candidate::of(&change, directories);
                if let Some(candidate) = &mut candidate {
                    candidate.count_names(&mut places, &candidate.from.clone());
                }
            }
        }
    }
    settle(candidate, directories, prepared);
    Ok(())
}

fn settle(candidate: Option<Candidate>, directories: &mut HashMap<DirId, TreePath>, prepared: &mut Prepared) {
    let Some(Candidate { to, from, id, entries, names, same }) = candidate else { return };
    if same && names == entries {
        directories.remove(&id);
        prepared.moved_from.insert(from.clone());
        prepared.moves.insert(to, from);
    }
}

/// A new directory that has the id of a removed one. It is moved if the removed one is still as it was scanned: every
/// entry the same, and not one name more.
struct Candidate {
    to: TreePath,
    from: TreePath,
    id: DirId,
    /// Names that the directory and those below it should hold.
    entries: u64,
    /// Names that they do hold.
    names: u64,
    same: bool,
}

impl Candidate {
    fn of(change: &Change, directories: &HashMap<DirId, TreePath>) -> Option<Self> {
        match (&change.old, &change.new) {
            (None, Some(Entry { body: Body::Directory { entries, id, .. }, .. })) => {
                let from = directories.get(id)?.clone();
                Some(Self { to: change.path.clone(), from, id: *id, entries: *entries, names: 0, same: true })
            }
            _ => None,
        }
    }

    fn compare(&mut self, plan: &Plan<'_>, places: &mut Places<'_>, change: &Change) {
        let Some(entry) = change.new.as_ref().filter(|_| self.same) else { return };
        let from = rebase(&change.path, &self.to, &self.from);
        self.same = is_as_scanned(plan, places, &from, entry).unwrap_or(false);
        if self.same && entry.is_directory() {
            self.count_names(places, &from);
        }
    }

    fn count_names(&mut self, places: &mut Places<'_>, path: &TreePath) {
        let count = || -> io::Result<u64> {
            let (dir, name) = places.at(path)?;
            Ok(dir.open_child(&name)?.read_names()?.len() as u64)
        };
        match { count }() {
            Ok(count) => self.names += count,
            Err(_) => self.same = false,
        }
    }
}

fn is_as_scanned(plan: &Plan<'_>, places: &mut Places<'_>, path: &TreePath, entry: &Entry) -> io::Result<bool> {
    let (dir, name) = places.at(path)?;
    let Some(look) = dir.look(&name)? else { return Ok(false) };
    let found = match &entry.body {
        Body::File { .. } => look.found == Found::File && (plan.known)(path) == Some(look.key),
        Body::Directory { .. } => look.found == Found::Directory,
        Body::Link { target } => look.found == Found::Link && *dir.read_link(&name)? == **target,
    };
    Ok(found && look.meta == entry.meta)
}
