//! Putting what was taken in its place: all at once, or, where nothing stands yet, slice by slice while the rest is on its
//! way.

use std::cell::RefCell;
use std::convert::Infallible;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::clock::now_ms;
use super::dial::chain;
use super::failure::{Exit, Failure};
use super::ledger::{Ledger, Watch};
use super::monitor::Monitor;
use super::take_content::stage_failure;
use super::take_tree::index_failure;
use crate::disk::dir::Dir;
use crate::disk::index::{Index, ModuleNumber, Reader};
use crate::disk::publish::{Changes, Plan, PublishError, Removed, Switched, prepare, switch};
use crate::disk::stage::Stage;
use crate::tree::diff::Change;
use crate::tree::entry::{Entry, Meta};
use crate::tree::hash::FileId;
use crate::tree::name::TreePath;

/// Local files that are looked at for one content.
const HOLDERS_MAX: u32 = 8;
/// What fills a slice: changes, bytes of content, or bytes of paths. Each slice is flushed to the disk twice.
const SLICE_CHANGES: usize = 4_096;
const SLICE_BYTES: u64 = 256 * 1024 * 1024;
const SLICE_TEXT: usize = 1024 * 1024;
/// Slices that wait for content or their turn, at most; beyond them nothing more is asked for.
pub(super) const SLICES_AHEAD: usize = 16;
/// How long a stop may go unseen by one who waits for content.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// Where changes are made, and what is known there.
pub(super) struct Placing<'a> {
    pub(super) index: &'a Index,
    pub(super) module: ModuleNumber,
    pub(super) target: &'a Dir,
    /// The target's path, for messages.
    pub(super) shown: &'a Path,
    pub(super) stage: &'a Stage,
    /// That of the head whose tree it shall be.
    pub(super) sequence: u64,
    /// What the top directory shall have.
    pub(super) top: Meta,
    /// Where removed paths go.
    pub(super) removed: Removed,
    pub(super) monitor: &'a dyn Monitor,
}

/// Why something is not in its place.
pub(super) enum Unplaced {
    /// Some content has to be fetched after all.
    Missing,
    Failed(Failure),
}

impl From<Failure> for Unplaced {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Placing<'_> {
    /// Makes changes, right after others if it goes on, and writes down in the index what stands there then. Gives what was
    /// done, and how many paths were put aside.
    pub(super) fn put<'c>(
        &self,
        changes: &dyn Fn() -> Changes<'c>,
        goes_on: bool,
    ) -> Result<(Switched, u64), Unplaced> {
        let (index, module) = (self.index, self.module);
        let asked: RefCell<Reader> = RefCell::new(index.reader().map_err(index_failure)?);
        let holders = |id: &FileId| asked.borrow().paths_of(module, id, HOLDERS_MAX).unwrap_or_default();
        let known = |path: &TreePath| asked.borrow().file(module, path).ok().flatten().map(|row| row.stat);
        let changes = || -> Changes<'_> { changes() };
        let plan = Plan {
            target: self.target,
            shown: self.shown,
            stage: self.stage,
            sequence: self.sequence,
            top: self.top,
            changes: &changes,
            holders: &holders,
            known: &known,
            removed: self.removed,
            goes_on,
            step: &Watch(self.monitor),
        };
        let prepared = prepare(&plan).map_err(unplaced)?;
        let (switched, aside) = std::thread::scope(|scope| {
            let mut ledger = Ledger::start(scope, index, module, now_ms());
            (switch(&plan, &prepared, &mut ledger), ledger.finish())
        });
        Ok((switched.map_err(unplaced)?, aside?))
    }
}

fn unplaced(error: PublishError) -> Unplaced {
    let failure = match error {
        PublishError::Missing { path, .. } => {
            tracing::info!(%path, "its content is not here any more");
            return Unplaced::Missing;
        }
        PublishError::Stopped(_) => Failure::interrupted(),
        PublishError::Stage(error) => stage_failure(&error),
        PublishError::Fault(fault) => {
            Failure::local(format!("cannot {} {}", fault.operation, fault.path), &fault.source)
        }
        PublishError::Flush(source) => Failure::local("what was fetched cannot be made durable", &source),
        PublishError::Changes(source) => Failure::new(
            Exit::LocalFile,
            "the index cannot be used",
            chain(&source),
            "check the disk that .mirra lies on",
        ),
    };
    Unplaced::Failed(failure)
}

/// Changes that follow each other in path order, to be made as soon as no content of theirs is awaited.
pub(super) struct Slice {
    changes: Vec<Change>,
    content: Receiver<Infallible>,
}

/// Held until some content of a slice is in the stage, or will not come.
pub(super) type Awaited = Sender<Infallible>;

/// Cuts all that a tree holds into slices.
pub(super) struct Slicer {
    changes: Vec<Change>,
    bytes: u64,
    text: usize,
    awaited: Awaited,
    content: Receiver<Infallible>,
}

impl Slicer {
    pub(super) fn new() -> Self {
        let (awaited, content) = channel();
        Self { changes: Vec::new(), bytes: 0, text: 0, awaited, content }
    }

    /// To be held for content of the next change.
    pub(super) fn awaited(&self) -> Awaited {
        self.awaited.clone()
    }

    /// Takes the next change, and gives the slice that it fills.
    pub(super) fn push(&mut self, change: Change) -> Option<Slice> {
        let bytes = change.new.as_ref().filter(|new| !new.is_directory()).map_or(0, |new| new.totals().1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.text += change.path.as_bytes().len();
        self.changes.push(change);
        let is_full = self.changes.len() >= SLICE_CHANGES || self.bytes >= SLICE_BYTES || self.text >= SLICE_TEXT;
        is_full.then(|| std::mem::replace(self, Self::new()).end())
    }

    /// What is left.
    pub(super) fn end(self) -> Slice {
        Slice { changes: self.changes, content: self.content }
    }
}

/// Puts the slices of a tree in their places, in path order: what an earlier one brought may be copied for a later one.
///
/// # Errors
/// [`Unplaced`]; with the first slice whose content did not come it ends.
pub(super) fn place(
    placing: &Placing<'_>,
    slices: &Receiver<Slice>,
    stopped: &dyn Fn() -> bool,
) -> Result<(), Unplaced> {
    // The directories that the last path lies in, each as one in which something changes.
    let mut above: Vec<Change> = Vec::new();
    let mut goes_on = false;
    for Slice { changes, content } in slices {
        if !has_come(&content, stopped) {
            break;
        }
        enter(&mut above, changes.first());
        placing.put(&|| Box::new(above.iter().chain(&changes).cloned().map(Ok)), goes_on)?;
        goes_on = true;
        for change in &changes {
            enter(&mut above, Some(change));
            if let Some(entry) = change.new.as_ref().filter(|new| new.is_directory()) {
                above.push(stays(&change.path, entry));
            }
        }
    }
    Ok(())
}

/// Waits until nothing of a slice is awaited; false if everything stops. What nobody asks for any more may be held until
/// this ends, so it looks around.
fn has_come(content: &Receiver<Infallible>, stopped: &dyn Fn() -> bool) -> bool {
    loop {
        let Err(error) = content.recv_timeout(LOOK_AROUND);
        match error {
            _ if stopped() => return false,
            RecvTimeoutError::Timeout => {}
            RecvTimeoutError::Disconnected => return true,
        }
    }
}

/// Leaves the directories that the path of `next` does not lie in.
fn enter(above: &mut Vec<Change>, next: Option<&Change>) {
    let is_left = |above: &mut Change| next.is_none_or(|next| !next.path.is_within(&above.path));
    while above.pop_if(is_left).is_some() {}
}

fn stays(path: &TreePath, entry: &Entry) -> Change {
    Change { path: path.clone(), old: Some(entry.clone()), new: Some(entry.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_content_ends_when_it_has_come_or_everything_stops() {
        let slicer = Slicer::new();
        let (held, other) = (slicer.awaited(), slicer.awaited());
        let slice = slicer.end();
        assert!(!has_come(&slice.content, &|| true));
        std::thread::scope(|scope| {
            scope.spawn(move || drop((held, other)));
            assert!(has_come(&slice.content, &|| false));
        });
        assert!(!has_come(&slice.content, &|| true));
    }
}
