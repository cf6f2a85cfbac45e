//! The order in which a switch walks: changes with their numbers, and directories when all below them is done.

use std::collections::HashMap;

use super::{Plan, PublishError};
use crate::disk::dir::Dir;
use crate::tree::diff::Change;
use crate::tree::entry::Meta;
use crate::tree::name::{Name, TreePath};

/// Directories that are moved as a whole: where to, where from.
pub(super) type Moves = HashMap<TreePath, TreePath>;

/// A change at its turn.
pub(super) struct Turn {
    /// Its place among all changes: the same in every phase.
    pub(super) number: u64,
    pub(super) change: Change,
    pub(super) moved: Moved,
}

/// Whether a whole directory's move does what the change asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// No.
    Apart,
    /// It is the directory that is moved, from there.
    Whole(TreePath),
    /// It lies in one, and comes from there.
    Within(TreePath),
}

/// The changes in path order, with their numbers.
pub(super) fn turns<'a, 'm>(
    plan: &Plan<'a>,
    moves: &'m Moves,
) -> impl Iterator<Item = Result<Turn, PublishError>> + use<'a, 'm> {
    let mut inside: Option<(TreePath, &'m TreePath)> = None;
    (plan.changes)().zip(0..).map(move |(change, number)| {
        let change = change.map_err(PublishError::Changes)?;
        if inside.as_ref().is_some_and(|(to, _)| !change.path.is_within(to)) {
            inside = None;
        }
        let moved = match (&inside, moves.get(&change.path)) {
            (Some((to, from)), _) => Moved::Within(rebase(&change.path, to, from)),
            (None, Some(from)) => {
                inside = Some((change.path.clone(), from));
                Moved::Whole(from.clone())
            }
            (None, None) => Moved::Apart,
        };
        Ok(Turn { number, change, moved })
    })
}

/// The path below `from` that `path` is below `to`.
pub(super) fn rebase(path: &TreePath, to: &TreePath, from: &TreePath) -> TreePath {
    path.names()
        .skip(to.depth())
        .fold(from.clone(), |at, part| at.join(&Name::new(part).expect("components of a checked path are names")))
}

/// Directories whose metadata waits until everything below them is done. Each is a beginning of `last`, so that a deep
/// path costs its own length and no more.
#[derive(Default)]
pub(super) struct Pending {
    last: TreePath,
    open: Vec<(usize, Meta)>,
}

impl Pending {
    /// Lets `path` be the next in path order.
    pub(super) fn enter(&mut self, path: &TreePath) {
        self.last = path.clone();
    }

    /// Lets the directory that was entered last wait.
    pub(super) fn wait(&mut self, meta: Meta) {
        self.open.push((self.last.as_bytes().len(), meta));
    }

    /// The deepest waiting directory that `next` does not lie in; any one when there is no next path.
    pub(super) fn leave(&mut self, next: Option<&TreePath>) -> Option<(TreePath, Meta)> {
        let (len, meta) = *self.open.last()?;
        let path = TreePath::new(self.last.as_bytes().get(..len)?).ok()?;
        if next.is_some_and(|next| next.is_within(&path)) {
            return None;
        }
        self.open.pop();
        Some((path, meta))
    }
}

/// The directory of the last path, kept open: neighbours in path order share it.
pub(super) struct Places<'a> {
    target: &'a Dir,
    last: Option<(TreePath, Dir)>,
}

impl<'a> Places<'a> {
    pub(super) fn new(target: &'a Dir) -> Self {
        Self { target, last: None }
    }

    /// The directory that holds `path`, and the name in it.
    pub(super) fn at(&mut self, path: &TreePath) -> std::io::Result<(&Dir, Name)> {
        let (parent, name) = path.split_last().ok_or(std::io::ErrorKind::IsADirectory)?;
        let last = match self.last.take() {
            Some(last) if last.0 == parent => last,
            _ => {
                let dir = self.target.open_dir(&parent)?;
                (parent, dir)
            }
        };
        Ok((&self.last.insert(last).1, name))
    }

    /// Forgets what is open: a directory has been moved, and paths may mean others.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Mtime;

    #[test]
    fn directories_are_left_deepest_first() {
        let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
        let mut pending = Pending::default();
        let mut left = Vec::new();
        for text in ["a", "a/b", "a/b/c", "a/d", "ab"] {
            while let Some((path, meta)) = pending.leave(Some(&path(text))) {
                left.push((path.to_string(), meta.mode));
            }
            pending.enter(&path(text));
            pending.wait(Meta { mode: text.len() as u16, mtime: Mtime::default() });
        }
        while let Some((path, meta)) = pending.leave(None) {
            left.push((path.to_string(), meta.mode));
        }
        let expected = [("a/b/c", 5), ("a/b", 3), ("a/d", 3), ("a", 1), ("ab", 2)];
        assert_eq!(left, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn rebased_paths_keep_what_lies_below() {
        let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
        assert_eq!(rebase(&path("x/y/a/b"), &path("x/y"), &path("z")), path("z/a/b"));
        assert_eq!(rebase(&path("x"), &path("x"), &path("z/q")), path("z/q"));
    }
}
