//! The single steps of a switch: something of the stage takes a name of the target, what stood there is kept.

use std::io;

use rustix::fs::RenameFlags;

use super::gather::Prepared;
use super::order::Places;
use super::prepare::FLUSH_EACH_MAX;
use super::{Plan, PublishError, Removed, Switched, Witness};
use crate::disk::dir::{Dir, Found, Look, StatKey};
use crate::disk::grace::{Adopted, Batch, make_writable, owner_is_kept_out, rename_new};
use crate::tree::diff::Change;
use crate::tree::entry::{Body, Entry, Meta};
use crate::tree::name::{Name, TreePath};

/// How often a name is tried that a local user changes under us.
const TRIES: usize = 8;

/// A switch on its way.
pub(super) struct Hands<'p, 'a> {
    pub(super) plan: &'p Plan<'a>,
    pub(super) prepared: &'p Prepared,
    pub(super) places: Places<'p>,
    /// Where content is moved from: walked beside the places it is moved to.
    sources: Places<'p>,
    pub(super) stats: Switched,
    pub(super) witness: &'p mut dyn Witness,
    grace: Batch<'p>,
    adopted: Adopted<'p>,
    touched: Touched,
}

/// Directories to flush, while they are few.
#[derive(Default)]
struct Touched {
    paths: Vec<TreePath>,
    many: bool,
    adopted: bool,
}

impl<'p, 'a> Hands<'p, 'a> {
    pub(super) fn new(plan: &'p Plan<'a>, prepared: &'p Prepared, witness: &'p mut dyn Witness) -> Self {
        Self {
            plan,
            prepared,
            places: Places::new(plan.target),
            sources: Places::new(plan.target),
            stats: Switched::default(),
            witness,
            grace: Batch::new(&plan.stage.grace, plan.sequence),
            adopted: Adopted::new(&plan.stage.adopted, plan.sequence),
            touched: Touched::default(),
        }
    }

    /// Gives the path of a change, at which nothing should stand, to `whole`. If something does, that gets the name `given`
    /// first: what is displaced comes to stand there.
    pub(super) fn put_new(&mut self, whole: &Name, given: &Name, change: &Change) -> Result<(), PublishError> {
        let (path, stage) = (&change.path, self.plan.stage);
        self.touch_parent(path);
        self.plan.step("publish", path)?;
        let (dir, name) = self.places.at(path).map_err(|e| self.plan.failed("publish", path, e))?;
        match rename_new(&stage.dir, whole, dir, &name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let renamed = stage.dir.rename(whole, &stage.dir, given, RenameFlags::empty());
                renamed.map_err(|e| self.plan.failed("publish", path, e))?;
                self.put(given, change)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && matches!(stage.dir.look(whole), Ok(None)) => {
                let Some(Body::File { id, .. }) = change.new.as_ref().map(|new| &new.body) else {
                    return Err(self.plan.failed("publish", path, e));
                };
                Err(PublishError::Missing { path: path.clone(), id: *id })
            }
            put => put.map_err(|e| self.plan.failed("publish", path, e)),
        }
    }

    /// Gives the path of a change to `staged`. What stands there is kept: exchanged, then moved to the grace.
    pub(super) fn put(&mut self, staged: &Name, change: &Change) -> Result<(), PublishError> {
        let (path, stage) = (&change.path, self.plan.stage);
        self.touch_parent(path);
        let mut free = change.old.is_none();
        for _ in 0..TRIES {
            self.plan.step("publish", path)?;
            let (dir, name) = self.places.at(path).map_err(|e| self.plan.failed("publish", path, e))?;
            let put = match (free, stage.exchanges) {
                (true, _) => rename_new(&stage.dir, staged, dir, &name),
                (false, true) => stage.dir.rename(staged, dir, &name, RenameFlags::EXCHANGE),
                (false, false) => return self.put_over(staged, change),
            };
            match put {
                Ok(()) if free => return Ok(()),
                Ok(()) => return self.keep(&stage.dir, staged, change),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && free => free = false,
                Err(e) if e.kind() == io::ErrorKind::NotFound && !free => free = true,
                // A directory that its owner may not write in cannot be moved.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !free => {
                    self.open_up(path).map_err(|_| self.plan.failed("publish", path, e))?;
                }
                Err(e) => return Err(self.plan.failed("publish", path, e)),
            }
        }
        Err(self.plan.failed("publish", path, io::ErrorKind::ResourceBusy.into()))
    }

    /// [`put`](Self::put) where two names cannot be exchanged: a file replaces a file in one rename, after a second
    /// link has saved the old one; anything else is moved away first.
    fn put_over(&mut self, staged: &Name, change: &Change) -> Result<(), PublishError> {
        let (plan, path, stage) = (self.plan, &change.path, self.plan.stage);
        let failed = |e| plan.failed("publish", path, e);
        let (dir, name) = self.places.at(path).map_err(failed)?;
        let dir = dir.try_clone().map_err(failed)?;
        let (new, old) = (stage.dir.look(staged).map_err(failed)?, dir.look(&name).map_err(failed)?);
        let over = matches!((new, old), (Some(new), Some(old)) if new.found == Found::File && old.found == Found::File);
        if let Some(look) = old.filter(|_| over) {
            self.plan.step("keep", path)?;
            if let Ok(kept) = self.grace.link(&dir, &name) {
                self.count(change, &look);
                self.witness.displaced(path, &kept, Removed::Grace);
                self.plan.step("publish", path)?;
                return stage.dir.rename(staged, &dir, &name, RenameFlags::empty()).map_err(failed);
            }
        }
        if old.is_some() {
            self.keep(&dir, &name, change)?;
        }
        self.plan.step("publish", path)?;
        rename_new(&stage.dir, staged, &dir, &name).map_err(failed)
    }

    /// Moves `name` of `from`, which stood at the change's path, where nothing is lost.
    pub(super) fn keep(&mut self, from: &Dir, name: &Name, change: &Change) -> Result<(), PublishError> {
        let (plan, path) = (self.plan, &change.path);
        let failed = |e| plan.failed("keep what stood at", path, e);
        let Some(look) = from.look(name).map_err(failed)? else { return Ok(()) };
        self.count(change, &look);
        self.plan.step("keep", path)?;
        make_writable(from, name, &look).map_err(failed)?;
        let extra = change.new.is_none() || look.found == Found::Directory;
        let removed = if extra { self.plan.removed } else { Removed::Grace };
        let kept = match removed {
            Removed::Grace => self.grace.take(from, name),
            Removed::Adopted => self.adopted.take(from, name, path),
        };
        self.touched.adopted |= removed == Removed::Adopted;
        if look.found == Found::Directory {
            self.forget();
        }
        self.witness.displaced(path, &kept.map_err(failed)?, removed);
        Ok(())
    }

    /// Moves what stands at the path of a change away, if anything does.
    pub(super) fn remove(&mut self, change: &Change) -> Result<(), PublishError> {
        let plan = self.plan;
        let failed = |e| plan.failed("remove", &change.path, e);
        let (dir, name) = match self.places.at(&change.path) {
            Ok(place) => place,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        if dir.look(&name).map_err(failed)?.is_some() {
            let dir = dir.try_clone().map_err(failed)?;
            self.touch_parent(&change.path);
            self.keep(&dir, &name, change)?;
            self.stats.removed += 1;
        }
        Ok(())
    }

    /// Takes a removed file that was promised to the change into the stage, as `staged`.
    pub(super) fn take(&mut self, staged: &Name, path: &TreePath, entry: &Entry) -> Result<bool, PublishError> {
        let Body::File { id, .. } = &entry.body else { return Ok(false) };
        for (source, key) in (self.plan.holders)(id) {
            let promised = |look: &Look| look.found == Found::File && look.key == key && look.links == 1;
            if !self.prepared.gives(&source) {
                continue;
            }
            let look = self.sources.at(&source).and_then(|(dir, name)| dir.look(&name));
            // One that cannot be looked at is no source; there may be others.
            if !look.is_ok_and(|look| look.as_ref().is_some_and(promised)) {
                continue;
            }
            self.touch_parent(&source);
            let (plan, stage) = (self.plan, &self.plan.stage.dir);
            let failed = |e| plan.failed("move the content of", path, e);
            self.plan.step("move", &source)?;
            self.move_to_stage(&source, staged).map_err(failed)?;
            let taken = stage.look(staged).map_err(failed)?.filter(|taken| is_unmoved(&taken.key, &key));
            let taken = taken.ok_or_else(|| failed(io::ErrorKind::ResourceBusy.into()))?;
            self.plan.step("stage", path)?;
            // Even when nothing differs: a local file may carry bits that no entry has.
            stage.set_meta(staged, &entry.meta, Found::File).map_err(failed)?;
            self.touched.many |= taken.meta != entry.meta;
            self.stats.moved_files += 1;
            return Ok(true);
        }
        Ok(false)
    }

    fn move_to_stage(&mut self, source: &TreePath, staged: &Name) -> io::Result<()> {
        let stage = &self.plan.stage.dir;
        let (dir, name) = self.sources.at(source)?;
        match dir.rename(&name, stage, staged, RenameFlags::empty()) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                if let Some((parent, _)) = source.split_last() {
                    let (above, parent) = self.places.at(&parent)?;
                    above.look(&parent)?.map_or(Ok(()), |look| make_writable(above, &parent, &look))?;
                }
                let (dir, name) = self.sources.at(source)?;
                dir.rename(&name, stage, staged, RenameFlags::empty())
            }
            moved => moved,
        }
    }

    /// Looks at a path; `None` when it or a directory on the way is not there.
    pub(super) fn look(&mut self, path: &TreePath) -> Result<Option<Look>, PublishError> {
        match self.places.at(path).and_then(|(dir, name)| dir.look(&name)) {
            Ok(look) => Ok(look),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.plan.failed("look at", path, e)),
        }
    }

    /// Sets mode and mtime of what is known to stand at `path`.
    pub(super) fn set_meta(&mut self, path: &TreePath, meta: &Meta, found: Found) -> Result<(), PublishError> {
        self.plan.step("set the metadata of", path)?;
        // Flushing a directory does not flush the metadata of the files in it.
        self.touched.many |= found != Found::Directory;
        let set = self.places.at(path).and_then(|(dir, name)| dir.set_meta(&name, meta, found));
        set.map_err(|e| self.plan.failed("set the metadata of", path, e))
    }

    /// Lets the owner write in the directory at `path` for the time of the switch.
    pub(super) fn open_up(&mut self, path: &TreePath) -> Result<(), PublishError> {
        let opened = self.places.at(path).and_then(|(dir, name)| match dir.look(&name)? {
            Some(look) => make_writable(dir, &name, &look),
            None => Ok(()),
        });
        opened.map_err(|e| self.plan.failed("write in", path, e))
    }

    /// [`open_up`](Self::open_up) for the top directory; the metadata phase restores it as it does any other.
    pub(super) fn open_up_top(&mut self) -> Result<(), PublishError> {
        let failed = |e| self.plan.failed("write in", &TreePath::top(), e);
        let look = self.plan.target.look_self().map_err(failed)?;
        if owner_is_kept_out(&look) {
            self.plan.step("write in", &TreePath::top())?;
            let opened = Meta { mode: look.meta.mode | 0o700, ..look.meta };
            self.plan.target.set_meta_self(&opened).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn open_up_parent(&mut self, path: &TreePath) -> Result<(), PublishError> {
        match path.split_last() {
            Some((parent, _)) if !parent.is_top() => self.open_up(&parent),
            _ => Ok(()),
        }
    }

    /// Forgets which directories are open: one has been moved.
    pub(super) fn forget(&mut self) {
        self.places.forget();
        self.sources.forget();
    }

    pub(super) fn touch_parent(&mut self, path: &TreePath) {
        if let Some((parent, _)) = path.split_last() {
            self.touch(&parent);
        }
    }

    /// Remembers that the directory at `path` must be flushed.
    pub(super) fn touch(&mut self, path: &TreePath) {
        let touched = &mut self.touched;
        if touched.many || touched.paths.last() == Some(path) || touched.paths.contains(path) {
            return;
        }
        touched.many = touched.paths.len() == FLUSH_EACH_MAX;
        touched.paths.push(path.clone());
    }

    /// Makes all that was done durable.
    pub(super) fn flush(&self) -> Result<(), PublishError> {
        let (target, touched) = (self.plan.target, &self.touched);
        let plan = self.plan;
        let failed = |e| plan.failed("flush", &TreePath::top(), e);
        if touched.paths.is_empty() && !touched.many {
            return Ok(());
        }
        self.plan.step("flush", &TreePath::top())?;
        let each = || -> io::Result<()> {
            for path in &touched.paths {
                match target.open_dir(path) {
                    // A directory that was touched and then moved away with all it held.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return target.flush_filesystem(),
                    dir => dir?.flush()?,
                }
            }
            self.plan.stage.dir.flush()?;
            self.grace.flush()
        };
        if touched.many || touched.adopted {
            return target.flush_filesystem().map_err(failed);
        }
        each().map_err(failed)
    }

    /// Counts what stood at the path of a change if it is not what the last scan saw.
    fn count(&mut self, change: &Change, look: &Look) {
        let expected = match change.old.as_ref().map(|old| &old.body) {
            None => false,
            Some(Body::Directory { .. }) => look.found == Found::Directory,
            Some(Body::Link { .. }) => look.found == Found::Link,
            Some(Body::File { .. }) => {
                let known = (self.plan.known)(&change.path);
                look.found == Found::File && known.is_none_or(|known| is_unmoved(&look.key, &known))
            }
        };
        self.stats.unexpected += u64::from(!expected);
    }
}

/// Whether two keys are of one file with one content, whatever renames have done to its change time.
pub(super) fn is_unmoved(now: &StatKey, then: &StatKey) -> bool {
    StatKey { ctime: then.ctime, ..*now } == *then
}
