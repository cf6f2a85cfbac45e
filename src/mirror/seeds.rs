//! Directories that the operator names as seeds: what a module needs and they hold is copied and not fetched.
//!
//! A seed is read and never written to, and nothing of it is believed: what is copied is hashed on the way. What was
//! learned of its files stands in the index under a name that no module can have, so that a sync that was cut short does
//! not read them again; a sync that succeeds, or a module that leaves, takes it away.

use std::path::{Path, PathBuf};

use super::failure::{Exit, Failure};
use super::monitor::Monitor;
use super::register::check_apart;
use super::survey::{Survey, nothing_held};
use super::take_tree::index_failure;
use crate::disk::dir::Dir;
use crate::disk::exclude::Exclude;
use crate::disk::home::nested;
use crate::disk::index::{Hold, Index, IndexError, ModuleNumber};
use crate::tree::chunker::Class;
use crate::tree::hash::DirId;
use crate::tree::name::TreePath;

/// A directory that was named and can be read.
pub(super) struct Seed {
    path: PathBuf,
    dir: Dir,
}

/// A seed whose files are known.
pub(super) struct Sown<'a> {
    pub(super) module: ModuleNumber,
    pub(super) dir: &'a Dir,
    pub(super) tree: DirId,
    /// Its pages stay while it is used.
    _hold: Hold,
}

/// Opens the seeds of a sync into `into`, for the home in `base`.
///
/// # Errors
/// [`Failure`] when one is not there, or has to do with the target or the home.
pub(super) fn open(base: &Path, into: &Path, paths: &[PathBuf]) -> Result<Vec<Seed>, Failure> {
    let open_one = |path: &PathBuf| {
        let what = || format!("cannot use the seed {}", path.display());
        let dir = Dir::open_operator(path).map_err(|e| {
            let fix = "name a directory that can be read: --seed DIR; or leave --seed out";
            Failure { fix: fix.into(), ..Failure::local(what(), &e) }
        })?;
        check_apart(base, path, "use the seed")?;
        if nested(path, into)? {
            let why = format!("it is the directory of the module, {}, or one lies within the other", into.display());
            let fix = "leave it out: what is in the module's own directory is used anyway (--adopt takes over a tree)";
            return Err(Failure::new(Exit::Usage, what(), why, fix));
        }
        Ok(Seed { path: path.clone(), dir })
    };
    paths.iter().map(open_one).collect()
}

impl Seed {
    /// Reads what the index does not know of it. `classes` says how the files of the wanted tree are cut.
    ///
    /// # Errors
    /// [`Failure`]; what was read is not read again.
    pub(super) fn sow(
        &self,
        index: &Index,
        module: &str,
        classes: &(dyn Fn(&TreePath) -> Option<Class> + Sync),
        monitor: &dyn Monitor,
    ) -> Result<Sown<'_>, Failure> {
        let hold = index.hold();
        let number =
            index.module_number(&format!("{}{}", prefix(module), self.path.display())).map_err(index_failure)?;
        let survey = Survey {
            index,
            module: number,
            dir: &self.dir,
            shown: &self.path,
            exclude: &Exclude::nothing(),
            previous: None,
            classes,
            touched: None,
            held: &nothing_held,
            blocks: None,
        };
        Ok(Sown { module: number, dir: &self.dir, tree: survey.run(monitor)?.top.id, _hold: hold })
    }
}

/// Forgets what was learned of the seeds of `module`.
///
/// # Errors
/// [`IndexError`].
pub(super) fn forget(index: &Index, module: &str) -> Result<(), IndexError> {
    let prefix = prefix(module);
    let modules = index.reader()?.modules()?;
    for (number, _) in modules.into_iter().filter(|(_, name)| name.starts_with(&prefix)) {
        let mut batch = index.batch()?;
        batch.forget_module(number)?;
        batch.commit()?;
    }
    Ok(())
}

/// What the names of a module's seeds start with in the index: no name of a module has a space.
fn prefix(module: &str) -> String {
    format!("{module} seed ")
}
