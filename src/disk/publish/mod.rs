//! A target becomes another tree, path by path: [`prepare`] brings all content into the stage, [`switch`] makes it
//! visible in the durable order.
//!
//! Between any two system calls each path is as it was in the old tree or as it will be in the new one, and nothing
//! that stood in the target is unlinked: it is moved to the grace. The one gap: a filesystem that cannot exchange two
//! names shows a path of changing kind as absent for the time of one rename.
//!
//! Nothing is written down for a crash. Whatever is found afterwards is a tree like any other: the caller scans it,
//! verifies what the stage holds, and prepares and switches again.
//!
//! The changes are read once for each phase, so that a million of them need not be held; the place of a change in that
//! order, its *number*, ties it to its content in the stage.

mod gather;
mod order;
mod place;
mod prepare;
mod switch;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use super::dir::{Dir, StatKey};
use super::fault::Fault;
use super::stage::{Stage, StageError};
use crate::tree::diff::Change;
use crate::tree::entry::{Entry, Meta};
use crate::tree::hash::FileId;
use crate::tree::name::TreePath;

pub use gather::Prepared;
pub use prepare::prepare;
pub use switch::switch;

/// The changes in path order.
pub type Changes<'a> = Box<dyn Iterator<Item = io::Result<Change>> + 'a>;

/// What is to be done, and what is known of the target. The closures must answer the same to the same question until
/// the switch is over.
pub struct Plan<'a> {
    /// The target's top directory.
    pub target: &'a Dir,
    /// Its path, for messages.
    pub shown: &'a Path,
    /// The target's stage.
    pub stage: &'a Stage,
    /// Names the batch of the grace: the sequence of the head that is published.
    pub sequence: u64,
    /// Mode and mtime that the top directory shall have.
    pub top: Meta,
    /// Starts the changes anew: a directory before its children; a removed directory alone; a directory whose content
    /// changes is itself a change.
    pub changes: &'a dyn Fn() -> Changes<'a>,
    /// Some of the local files with this content, as the last scan saw them: never all of very many.
    pub holders: &'a dyn Fn(&FileId) -> Vec<(TreePath, StatKey)>,
    /// The key with which the last scan saw the file at a path.
    pub known: &'a dyn Fn(&TreePath) -> Option<StatKey>,
    /// Where removed paths go.
    pub removed: Removed,
    /// Whether a switch has just ended well here, so that nothing in the stage carries a number.
    pub goes_on: bool,
    /// Is asked before each call that changes anything.
    pub step: &'a dyn Step,
}

/// Where removed paths go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// To the grace, for a while.
    Grace,
    /// To the adopted things, until the operator removes them: for a target that was never followed before.
    Adopted,
}

/// Sees each call that changes anything before it is made: for progress, and to stop.
pub trait Step {
    /// Lets the call happen.
    ///
    /// # Errors
    /// Any error stops right there, as a kill would, and comes back as [`PublishError::Stopped`].
    fn before(&self, operation: &'static str, path: &TreePath) -> io::Result<()>;
}

/// Lets everything happen.
impl Step for () {
    fn before(&self, _: &'static str, _: &TreePath) -> io::Result<()> {
        Ok(())
    }
}

/// Hears what a switch has done.
pub trait Witness {
    /// The file at `path` has the content of `entry`, and `key` until someone touches it. Called for every file whose
    /// path or key is new, after the call that made it so.
    fn published(&mut self, path: &TreePath, entry: &Entry, key: StatKey);

    /// What stood at `path` is at `kept`, below the module's grace, or below its adopted things if `removed` says so.
    fn displaced(&mut self, path: &TreePath, kept: &TreePath, removed: Removed) {
        let _ = (path, kept, removed);
    }
}

impl<F: FnMut(&TreePath, &Entry, StatKey)> Witness for F {
    fn published(&mut self, path: &TreePath, entry: &Entry, key: StatKey) {
        self(path, entry, key);
    }
}

/// What a switch has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Switched {
    /// Directories made.
    pub directories: u64,
    /// Whole directories moved.
    pub moved_directories: u64,
    /// Files that a removed path gave, without a byte copied.
    pub moved_files: u64,
    /// Files and links at paths that were free.
    pub created: u64,
    /// Files and links in the place of something else.
    pub replaced: u64,
    /// Removed paths; a directory counts once.
    pub removed: u64,
    /// Paths of which only mode or mtime changed.
    pub metadata: u64,
    /// Paths where something else stood than the last scan saw. It was kept, and the target should be scanned again.
    pub unexpected: u64,
}

/// Why a target could not become another tree. What is done stays done; the caller scans, prepares and switches again.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The stage refuses.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A call on the target failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The changes could not be read.
    #[error("the changes cannot be read")]
    Changes(#[source] io::Error),
    /// Content is neither staged nor in a local file: it must be fetched.
    #[error("the content of {path} is neither staged nor in another file")]
    Missing {
        /// A path that needs it.
        path: TreePath,
        /// The content.
        id: FileId,
    },
    /// Staged content could not be made durable. The stage was emptied: it may not hold what was written.
    #[error("staged files cannot be flushed")]
    Flush(#[source] io::Error),
    /// [`Step`] stopped it.
    #[error("stopped")]
    Stopped(#[source] io::Error),
}

impl PublishError {
    /// Whether the filesystem or a quota is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Stage(StageError::Full { .. } | StageError::NoFiles { .. }) => true,
            Self::Stage(StageError::Fault(fault)) | Self::Fault(fault) => fault.is_full(),
            _ => false,
        }
    }
}

impl Plan<'_> {
    fn step(&self, operation: &'static str, path: &TreePath) -> Result<(), PublishError> {
        self.step.before(operation, path).map_err(PublishError::Stopped)
    }

    fn failed(&self, operation: &'static str, path: &TreePath, source: io::Error) -> PublishError {
        let path = format!("{}/{path}", self.shown.display());
        PublishError::Fault(Fault { operation, path, source })
    }
}
