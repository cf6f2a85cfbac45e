//! Everything that a switch needs is brought into the stage, verified, dressed in its metadata and flushed.

use std::collections::HashMap;
use std::fs::File;
use std::io;

use rustix::fs::RenameFlags;

use super::gather::{Prepared, gather};
use super::order::{Moved, Places, turns};
use super::{Plan, PublishError};
use crate::disk::dir::{Found, StatKey, look_fd, set_meta_fd};
use crate::disk::fault::is_full;
use crate::disk::grace::Batch;
use crate::disk::stage::{copy_name, given_name, whole_name};
use crate::disk::verify::copy;
use crate::tree::chunker::Class;
use crate::tree::diff::Change;
use crate::tree::entry::{Body, Entry, Meta};
use crate::tree::hash::FileId;
use crate::tree::list;
use crate::tree::name::TreePath;

/// Files that are flushed one by one; more are flushed with their whole filesystem.
pub(super) const FLUSH_EACH_MAX: usize = 64;

/// Gives every change that needs content a file of the stage, or knows a removed path that will give its own.
///
/// Content comes from the stage (finished there, and so verified), from a file that the changes remove (which is moved
/// by the switch), or from any other local file, which is copied and verified by its id.
///
/// # Errors
/// [`PublishError::Missing`] for content that must be fetched first; [`PublishError::Flush`] when the stage had to be
/// emptied; any other [`PublishError`]. Nothing in the target is changed either way.
pub fn prepare(plan: &Plan<'_>) -> Result<Prepared, PublishError> {
    plan.step("clear the stage for", &TreePath::top())?;
    plan.stage.set_aside(&mut Batch::new(&plan.stage.grace, plan.sequence))?;
    let prepared = gather(plan)?;
    let mut staging = Staging {
        plan,
        prepared: &prepared,
        places: Places::new(plan.target),
        empty: list::file_id(&[]).map_err(|e| PublishError::Changes(io::Error::other(e)))?,
        uses: HashMap::new(),
        files: Vec::new(),
        many: false,
    };
    let mut supply = || {
        for turn in turns(plan, &prepared.moves) {
            let turn = turn?;
            if turn.moved == Moved::Apart && staging.needs_content(&turn.change)? {
                staging.supply(turn.number, &turn.change)?;
            }
        }
        Ok(())
    };
    match supply() {
        Ok(()) => staging.flush()?,
        Err(stopped @ PublishError::Stopped(_)) => return Err(stopped),
        Err(e) => {
            // Whatever carries a number here was verified: it is good for the next attempt.
            plan.stage.take_back()?;
            return Err(e);
        }
    }
    Ok(prepared)
}

/// Bytes of a file id by which its uses are counted.
const USE_LEN: usize = 16;

/// What has become of one content.
#[derive(Default)]
struct Use {
    /// The change whose file in the stage can be copied.
    given: Option<u64>,
    /// Removed files that are promised to changes.
    promised: usize,
}

struct Staging<'p, 'a> {
    plan: &'p Plan<'a>,
    prepared: &'p Prepared,
    places: Places<'p>,
    empty: FileId,
    /// By the beginning of the file id: some 50 bytes for a changed file.
    uses: HashMap<[u8; USE_LEN], Use>,
    /// Files to flush, while they are few.
    files: Vec<File>,
    many: bool,
}

impl Staging<'_, '_> {
    /// Whether the change is more than one of metadata. A file with several links counts as changed, since its metadata
    /// is that of names which may lie outside the target.
    fn needs_content(&mut self, change: &Change) -> Result<bool, PublishError> {
        let Some(Entry { body: Body::File { id, .. }, .. }) = &change.new else { return Ok(false) };
        if !matches!(&change.old, Some(Entry { body: Body::File { id: old, .. }, .. }) if old == id) {
            return Ok(true);
        }
        let look = self.places.at(&change.path).and_then(|(dir, name)| dir.look(&name));
        let look = look.map_err(|e| self.plan.failed("look at", &change.path, e))?;
        Ok(look.is_some_and(|look| look.found == Found::File && look.links > 1))
    }

    fn supply(&mut self, number: u64, change: &Change) -> Result<(), PublishError> {
        let Some(Entry { body: Body::File { class, id, size }, meta, .. }) = &change.new else { return Ok(()) };
        let wanted = Wanted { id: *id, class: *class, size: *size, meta: *meta, number };
        if self.use_whole(&wanted, &change.path)? {
            return Ok(());
        }
        if *id == self.empty {
            return self.copy_of(None, &wanted, &change.path).map(drop);
        }
        let mut holders = (self.plan.holders)(id);
        if let Some(key) = (self.plan.known)(&change.path).filter(|_| is_same_file(change)) {
            holders.push((change.path.clone(), key));
        }
        if self.promise(&wanted.id, &holders) {
            return Ok(());
        }
        let given = self.uses.get(&use_key(id)).and_then(|uses| uses.given);
        if let Some(given) = given.map(|number| given_name(id, number)) {
            let source = self.plan.stage.open_any(&given)?;
            if self.copy_of(source.as_ref(), &wanted, &change.path)? {
                return Ok(());
            }
        }
        for (path, key) in &holders {
            if self.copy_local(path, key, &wanted, &change.path)? {
                return Ok(());
            }
        }
        Err(PublishError::Missing { path: change.path.clone(), id: *id })
    }

    /// Gives the change what waits in the stage under the id alone.
    fn use_whole(&mut self, wanted: &Wanted, path: &TreePath) -> Result<bool, PublishError> {
        let stage = self.plan.stage;
        let whole = whole_name(&wanted.id);
        let failed = |e| stage.failed("stage", &whole, 0, e);
        let Some(look) = stage.dir.look(&whole).map_err(failed)? else { return Ok(false) };
        self.plan.step("stage", path)?;
        if !self.many || look.meta != wanted.meta {
            let Some(file) = stage.open_whole(&wanted.id)? else { return Ok(false) };
            set_meta_fd(std::os::fd::AsFd::as_fd(&file), &wanted.meta).map_err(failed)?;
            keep_few(&mut self.files, &mut self.many, file);
        }
        let given = given_name(&wanted.id, wanted.number);
        stage.dir.rename(&whole, &stage.dir, &given, RenameFlags::empty()).map_err(failed)?;
        self.given(wanted);
        Ok(true)
    }

    /// Promises the change one of the removed files, if more of them are there than were promised before.
    fn promise(&mut self, id: &FileId, holders: &[(TreePath, StatKey)]) -> bool {
        let uses = self.uses.entry(use_key(id)).or_default();
        let mut left = uses.promised;
        for (path, key) in holders.iter().filter(|(path, _)| self.prepared.gives(path)) {
            let look = self.places.at(path).and_then(|(dir, name)| dir.look(&name));
            if !matches!(look, Ok(Some(look)) if look.key == *key && look.links == 1) {
                continue;
            }
            if left > 0 {
                left -= 1;
                continue;
            }
            uses.promised += 1;
            match self.plan.target.open_file_at(path) {
                Ok(file) => keep_few(&mut self.files, &mut self.many, file),
                Err(_) => self.many = true,
            }
            return true;
        }
        false
    }

    /// Copies a local file if it is still as it was scanned and has the content it should have.
    fn copy_local(
        &mut self,
        from: &TreePath,
        key: &StatKey,
        wanted: &Wanted,
        path: &TreePath,
    ) -> Result<bool, PublishError> {
        let unchanged = |file: &File| look_fd(file).is_ok_and(|look| look.key == *key);
        // A file that cannot be opened or was changed is no source; there may be others.
        let Some(source) = self.plan.target.open_file_at(from).ok().filter(unchanged) else { return Ok(false) };
        self.copy_of(Some(&source), wanted, path)
    }

    /// Copies `source`, or nothing at all, into the stage for the change; false if it is not the content of its id.
    fn copy_of(&mut self, source: Option<&File>, wanted: &Wanted, path: &TreePath) -> Result<bool, PublishError> {
        self.plan.step("copy for", path)?;
        let (stage, name) = (self.plan.stage, copy_name(wanted.number));
        let failed = |e| stage.failed("copy", &name, wanted.size, e);
        let target = stage.dir.create_file(&name).map_err(failed)?;
        let copied = match source {
            Some(source) => copy(source, &target, wanted.class),
            None => Ok((self.empty, 0)),
        };
        let same = match copied {
            Ok((id, bytes)) => id == wanted.id && bytes == wanted.size,
            Err(e) => {
                stage.dir.remove_file(&name).map_err(failed)?;
                match is_full(&e) {
                    true => return Err(failed(e).into()),
                    false => return Ok(false),
                }
            }
        };
        if !same {
            stage.dir.remove_file(&name).map_err(failed)?;
            return Ok(false);
        }
        set_meta_fd(std::os::fd::AsFd::as_fd(&target), &wanted.meta).map_err(failed)?;
        self.plan.step("stage", path)?;
        let given = given_name(&wanted.id, wanted.number);
        stage.dir.rename(&name, &stage.dir, &given, RenameFlags::empty()).map_err(failed)?;
        self.given(wanted);
        keep_few(&mut self.files, &mut self.many, target);
        Ok(true)
    }

    fn given(&mut self, wanted: &Wanted) {
        self.uses.entry(use_key(&wanted.id)).or_default().given = Some(wanted.number);
    }

    /// Makes the stage durable, or empties it: after a failed flush nobody knows what reached the disk.
    fn flush(self) -> Result<(), PublishError> {
        let stage = self.plan.stage;
        if self.files.is_empty() && !self.many {
            return Ok(());
        }
        self.plan.step("flush the stage of", &TreePath::top())?;
        let flushed = match self.many {
            true => stage.dir.flush_filesystem(),
            false => self.files.iter().try_for_each(File::sync_all).and_then(|()| stage.dir.flush()),
        };
        flushed.map_err(|e| match stage.clear() {
            Ok(()) => PublishError::Flush(e),
            Err(cleared) => cleared.into(),
        })
    }
}

/// Content for one change.
struct Wanted {
    id: FileId,
    class: Class,
    size: u64,
    meta: Meta,
    number: u64,
}

fn use_key(id: &FileId) -> [u8; USE_LEN] {
    let [key, _] = id.as_bytes().as_chunks().0 else { return [0; USE_LEN] };
    *key
}

fn is_same_file(change: &Change) -> bool {
    let id = |entry: &Option<Entry>| match entry.as_ref().map(|entry| &entry.body) {
        Some(Body::File { id, .. }) => Some(*id),
        _ => None,
    };
    id(&change.old).is_some() && id(&change.old) == id(&change.new)
}

fn keep_few(files: &mut Vec<File>, many: &mut bool, file: File) {
    *many |= files.len() == FLUSH_EACH_MAX;
    if *many { files.clear() } else { files.push(file) }
}
