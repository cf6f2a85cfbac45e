//! A known tree brought up to date: only what was touched is looked at, and the directories above it.
//!
//! The walk goes down from the top through directories that both the base and the disk have, along the touched paths.
//! What else stands at a name on the way (nothing, a file, a directory that is new) is looked at there, and the paths
//! below it need no further look. All of it becomes edits of the base.

use std::ops::Range;
use std::sync::Arc;

use super::directory::{Directory, Findings, Seat};
use super::walk::{Found, Task, ToRead, Walk};
use super::work::{At, Worker};
use super::write::{Record, Writer};
use super::{Depth, Scan, ScanError, ScanOptions, ScanProgress, Touched, scan};
use crate::disk::dir::Dir;
use crate::disk::index::Index;
use crate::tree::dir::find;
use crate::tree::edit::{Edit, EditError, Editor};
use crate::tree::entry::Meta;
use crate::tree::hash::DirId;
use crate::tree::name::{Name, TreePath};
use crate::tree::page::PageError;

/// Touched paths from which threads are worth their start.
const THREADS_FROM: usize = 64;

/// A directory that the base and the disk have, and of which a part was touched.
pub(super) struct Part {
    path: TreePath,
    /// Its metadata and its entries in the base.
    meta: Meta,
    id: DirId,
    /// Which of the touched paths are this directory or lie below it.
    touched: Range<usize>,
    seat: Option<Seat>,
}

/// Looks at what was touched alone; everything else is taken from the base. If nothing else has changed, the tree is
/// the one that a [`scan`] would find, and the index knows the same of it. A directory that the base does not have is
/// listed whole, however its path was touched. The cost does not depend on the size of the tree; a few paths are looked
/// at on the calling thread and written in one commit.
///
/// # Errors
/// [`ScanError`]. What was read before the error is in the index, and is not read again.
pub fn rescan(
    top: &Dir,
    index: &Index,
    options: &ScanOptions<'_>,
    touched: &Touched<'_>,
    progress: &dyn ScanProgress,
) -> Result<Scan, ScanError> {
    let Touched { base, base_meta, paths } = *touched;
    let options = ScanOptions { previous: Some(base.id), ..*options };
    if paths.get(&TreePath::top()) == Some(&Depth::Below) {
        return scan(top, index, &options, progress);
    }
    let _hold = index.hold();
    let paths: Vec<(&TreePath, Depth)> = paths.iter().map(|(path, depth)| (path, *depth)).collect();
    let few = paths.len() < THREADS_FROM && paths.iter().all(|(_, depth)| *depth == Depth::Alone);
    let mut writer = Writer::new(index, &options);
    let mut walk = Walk::new(top, index, &options, progress)?;
    walk.touched = &paths;
    let start = Part { path: TreePath::top(), meta: base_meta, id: base.id, touched: 0..paths.len(), seat: None };
    let found = match walk.run(Task::Part(start), (!few).then_some(options.threads), &mut writer) {
        Ok(found) => found,
        Err(error) => return Err(writer.give_up(error)),
    };
    let Found { meta, edits, stats, skipped, .. } = found;
    let renewed = edits.iter().filter(|(_, edit)| !matches!(edit, Edit::Directory(..))).map(|(path, _)| path.clone());
    let renewed: Vec<TreePath> = renewed.collect();
    let top = writer.finish(&renewed, |batch| {
        let mut editor = Editor::new(Some(base));
        for (path, edit) in edits {
            editor.apply(&path, edit, batch)?;
        }
        Ok(editor.finish(batch)?)
    })?;
    Ok(Scan { top, meta, stats, skipped })
}

impl From<EditError> for ScanError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Page(error) => error.into(),
            // Edits come in order and below directories of the base, if the base is what it was a moment ago.
            other => PageError::Store(Box::new(other)).into(),
        }
    }
}

impl Worker<'_> {
    /// Looks at a directory itself, and at the names in it that lead to touched paths.
    pub(super) fn part(&mut self, part: Part) -> Result<(), ScanError> {
        let Part { path, meta: known_meta, id, touched, seat } = part;
        let Some(dir) = self.open(&path, seat.as_ref())? else { return Ok(()) };
        let blocked = |source| ScanError::Directory { path: path.clone(), source };
        let meta = dir.look_self().map_err(blocked)?.meta;
        if path.is_top() {
            self.walk.take_top(None, meta);
        } else if meta != known_meta {
            self.walk.take_edits([(path.clone(), Edit::Directory(meta, Vec::new()))]);
        }
        let (mut names, mut findings) = (Vec::new(), Findings::new());
        let (mut reads, mut lists, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (name, touched, depth) in self.walk.touched_in(&path, touched) {
            let (slot, below) = (names.len(), path.join(&name));
            names.push(name.clone());
            let look = dir.look(&name).map_err(blocked)?;
            let known = self.index.file(self.walk.options.module, &below)?;
            let at = self.look_at(&dir, &path, &name, look, known.as_ref())?;
            if !at.is_file() {
                self.out.push(Record::Gone(below.clone()))?;
            }
            match at {
                At::Nothing => findings.push((slot, None)),
                At::Entry(entry) => findings.push((slot, Some(entry))),
                At::File(size) => reads.push(ToRead { slot, name, size, known }),
                At::Directory => {
                    let old = if depth == Depth::Alone { find(&*self.index, id, name.as_bytes())? } else { None };
                    match old.and_then(|entry| Some((entry.meta, entry.directory_id()?))) {
                        Some((meta, id)) => parts.push((slot, name, below, meta, id, touched)),
                        None => lists.push((slot, name)),
                    }
                }
            }
        }
        self.walk.progress.found(names.len() as u64);
        let directory = Directory::part(path, meta, seat, names);
        let parts = parts.into_iter().rev().map(|(slot, name, path, meta, id, touched)| {
            let seat = Some(Seat { directory: Arc::clone(&directory), name, run: 0, slot });
            Task::Part(Part { path, meta, id, touched, seat })
        });
        self.walk.add(parts);
        self.settle(Arc::clone(&directory), 0, findings)?;
        self.add_work(&directory, 0, dir, reads, lists);
        Ok(())
    }
}

impl Walk<'_> {
    /// The names in the directory `path` on the way to those of its touched paths, which of them each leads to, and how
    /// far the name itself was touched.
    fn touched_in(&self, path: &TreePath, touched: Range<usize>) -> Vec<(Name, Range<usize>, Depth)> {
        let mut names: Vec<(Name, Range<usize>, Depth)> = Vec::new();
        for at in touched {
            let Some((below, depth)) = self.touched.get(at) else { break };
            let Some(name) = below.name_below(path) else { continue };
            match names.last_mut() {
                Some((last, touched, _)) if *last == name => touched.end = at + 1,
                _ => {
                    let itself = below.as_bytes().len() == path.join(&name).as_bytes().len();
                    names.push((name, at..at + 1, if itself { *depth } else { Depth::Alone }));
                }
            }
        }
        names
    }
}
