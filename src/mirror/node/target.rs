//! The directory that a module goes into: opened, made, and known again.

use std::io;
use std::os::unix::ffi::OsStrExt;

use super::Node;
use crate::disk::dir::Dir;
use crate::disk::index::{ModuleNumber, Target};
use crate::mirror::failure::{Exit, Failure};
use crate::mirror::take_tree::index_failure;
use crate::tree::name::HOME_NAME;

impl Node<'_> {
    /// Opens the target, made if it is missing; says whether it was.
    pub(super) fn open_target(&self) -> Result<(Dir, bool), Failure> {
        let failed = |e: &io::Error| Failure::local(format!("cannot sync into {}", self.into.display()), e);
        match Dir::open_operator(&self.into) {
            Ok(dir) => Ok((dir, false)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Dir::make_operator(&self.into).map_err(|e| failed(&e))?;
                Ok((Dir::open_operator(&self.into).map_err(|e| failed(&e))?, true))
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                let fix = "name a directory: --into DIR";
                Err(Failure { fix: fix.into(), ..failed(&e) })
            }
            Err(e) => Err(failed(&e)),
        }
    }

    /// Bytes that are free where the target lies, as far as the system says.
    pub(in crate::mirror) fn free_bytes(&self) -> Option<u64> {
        Dir::open_operator(&self.into).ok()?.free_bytes().ok()
    }

    /// Refuses to take over what the operator did not say may be taken over, and notes which directory it is. Says
    /// whether that directory was in sync before, or was filled from nothing.
    pub(super) fn check_target(&self, dir: &Dir, module: ModuleNumber, fresh: bool) -> Result<bool, Failure> {
        let failed = |e: io::Error| Failure::local(format!("cannot read {}", self.into.display()), &e);
        let key = dir.look_self().map_err(failed)?.key;
        let path = self.into.as_os_str().as_bytes().to_vec();
        let mut target = Target { device: key.device, inode: key.inode, path, settled: false };
        let noted = self.index.reader().and_then(|reader| reader.target(module)).map_err(index_failure)?;
        let known = noted.clone().filter(|noted| noted.is(&target));
        target.settled = known.as_ref().is_some_and(|noted| noted.settled);
        if !(fresh || self.adopt || known.is_some() || holds_nothing(dir).map_err(failed)?) {
            return Err(Failure::new(
                Exit::Guard,
                format!("{} is not empty and was never followed", self.into.display()),
                "what it holds beyond the snapshot would be put aside",
                "take it over with --adopt: what fits is kept and only the rest is fetched; or name another directory with --into",
            ));
        }
        if noted.as_ref() != Some(&target) {
            self.note_target(module, &target)?;
        }
        Ok(target.settled)
    }

    /// Whether the target is empty, `.mirra` apart, whatever the rules leave out.
    pub(super) fn target_holds_nothing(&self, dir: &Dir) -> Result<bool, Failure> {
        holds_nothing(dir).map_err(|e| Failure::local(format!("cannot read {}", self.into.display()), &e))
    }

    fn note_target(&self, module: ModuleNumber, target: &Target) -> Result<(), Failure> {
        let mut batch = self.index.batch().map_err(index_failure)?;
        batch.set_target(module, target).map_err(index_failure)?;
        batch.commit().map_err(index_failure)
    }
}

fn holds_nothing(dir: &Dir) -> io::Result<bool> {
    Ok(dir.read_names()?.iter().all(|name| name == HOME_NAME))
}
