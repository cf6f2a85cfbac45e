//! Everything that a switch needs is brought into the stage, verified, dressed in its metadata and flushed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::thread::{ScopedJoinHandle, available_parallelism};

use rustix::fs::RenameFlags;

use super::gather::{Prepared, Wholes, gather};
use super::order::{Moved, Places, turns};
use super::{Plan, PublishError};
use crate::disk::dir::{Found, StatKey, look_fd, set_meta_fd};
use crate::disk::fault::is_full;
use crate::disk::grace::Batch;
use crate::disk::stage::{Stage, StageError, copy_name, given_name, whole_name};
use crate::disk::verify::{copy, read_all};
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
    if !plan.goes_on {
        plan.step("clear the stage for", &TreePath::top())?;
        plan.stage.set_aside(&mut Batch::new(&plan.stage.grace, plan.sequence))?;
    }
    let mut prepared = gather(plan)?;
    let mut staging = Staging {
        plan,
        prepared: &prepared,
        places: Places::new(plan.target),
        empty: list::file_id(&[]).map_err(|e| PublishError::Changes(io::Error::other(e)))?,
        uses: HashMap::new(),
        wholes: Wholes::default(),
        copies: Vec::new(),
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
        staging.make_copies()
    };
    match supply() {
        Ok(()) => prepared.wholes = staging.flush()?,
        Err(stopped @ PublishError::Stopped(_)) => return Err(stopped),
        Err(e) => {
            // Whatever carries a number here was verified: it is good for the next attempt.
            plan.stage.take_back()?;
            return Err(e);
        }
    }
    Ok(prepared)
}

/// Copies that are made together, and threads that make them.
const COPIES_MAX: usize = 64;
const COPY_THREADS_MAX: usize = 4;
/// Bytes of a file that is copied through the memory, where sharing its bytes on the disk would gain nothing.
const SMALL: usize = 16 * 1024;
/// Bytes of a file id by which its uses are counted.
const USE_LEN: usize = 16;

/// What has become of one content.
#[derive(Default)]
struct Use {
    /// Whether a change takes what waits under the id alone.
    whole: bool,
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
    wholes: Wholes,
    /// Copies to be made, each of an open file.
    copies: Vec<(File, Wanted, TreePath)>,
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
        if self.use_whole(&wanted, change)? {
            return Ok(());
        }
        if *id == self.empty {
            return self.copy_of(None, &wanted, &change.path).map(drop);
        }
        let gone = if self.prepared.removes() { self.holders(change, id) } else { Vec::new() };
        if self.promise(&wanted.id, &gone) {
            return Ok(());
        }
        let source = match self.uses.get(&use_key(id)) {
            Some(Use { whole: true, .. }) => self.plan.stage.open_whole(id)?,
            Some(Use { given: Some(number), .. }) => self.plan.stage.open_any(&given_name(id, *number))?,
            _ => None,
        };
        let local = || {
            let holders = if gone.is_empty() { self.holders(change, id) } else { gone };
            holders.iter().find_map(|(from, key)| self.open_local(from, key))
        };
        let missing = || PublishError::Missing { path: change.path.clone(), id: *id };
        let source = source.or_else(local).ok_or_else(missing)?;
        self.copies.push((source, wanted, change.path.clone()));
        if self.copies.len() < COPIES_MAX { Ok(()) } else { self.make_copies() }
    }

    /// Local files that should have the content of a change.
    fn holders(&self, change: &Change, id: &FileId) -> Vec<(TreePath, StatKey)> {
        let mut holders = (self.plan.holders)(id);
        if is_same_file(change) {
            holders.extend((self.plan.known)(&change.path).map(|key| (change.path.clone(), key)));
        }
        holders
    }

    /// Copies the first local file that has the content of its id: what was to be copied had not.
    fn copy_any(&mut self, wanted: &Wanted, path: &TreePath) -> Result<(), PublishError> {
        let own = (self.plan.known)(path).map(|key| (path.clone(), key));
        for (from, key) in (self.plan.holders)(&wanted.id).into_iter().chain(own) {
            if let Some(source) = self.open_local(&from, &key)
                && self.copy_of(Some(&source), wanted, path)?
            {
                return Ok(());
            }
        }
        Err(PublishError::Missing { path: path.clone(), id: wanted.id })
    }

    /// Makes the copies that are wanted: they are many where a tree holds the same file in many places, so each thread makes
    /// a part.
    fn make_copies(&mut self) -> Result<(), PublishError> {
        let (stage, empty, copies) = (self.plan.stage, self.empty, std::mem::take(&mut self.copies));
        for (.., path) in &copies {
            self.plan.step("copy for", path)?;
        }
        let threads = available_parallelism().map_or(1, NonZero::get).min(COPY_THREADS_MAX);
        let make = |(source, wanted, _): &(File, Wanted, TreePath)| copy_whole(stage, empty, source, wanted);
        let made = std::thread::scope(|scope| {
            let parts = copies.chunks(copies.len().div_ceil(threads).max(1));
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || part.iter().map(make).collect())).collect();
            let join = |thread: ScopedJoinHandle<'_, Vec<_>>| thread.join().map_err(|_| broken_off());
            threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()
        })?;
        for ((_, wanted, path), made) in copies.iter().zip(made.into_iter().flatten()) {
            match made? {
                Some(file) => {
                    self.uses.entry(use_key(&wanted.id)).or_default().given = Some(wanted.number);
                    keep_few(&mut self.files, &mut self.many, file);
                }
                None => self.copy_any(wanted, path)?,
            }
        }
        Ok(())
    }

    /// Gives the change what waits in the stage under the id alone. What will be exchanged gets a number: under the id alone
    /// stands nothing that was displaced.
    fn use_whole(&mut self, wanted: &Wanted, change: &Change) -> Result<bool, PublishError> {
        if self.uses.get(&use_key(&wanted.id)).is_some_and(|uses| uses.whole) {
            return Ok(false);
        }
        let stage = self.plan.stage;
        let whole = whole_name(&wanted.id);
        let failed = |e| stage.failed("stage", &whole, 0, e);
        let Some(look) = stage.dir.look(&whole).map_err(failed)? else { return Ok(false) };
        self.plan.step("stage", &change.path)?;
        let mut key = look.key;
        if !self.many || look.meta != wanted.meta {
            let Some(file) = stage.open_whole(&wanted.id)? else { return Ok(false) };
            set_meta_fd(std::os::fd::AsFd::as_fd(&file), &wanted.meta).map_err(failed)?;
            key = look_fd(&file).map_err(failed)?.key;
            keep_few(&mut self.files, &mut self.many, file);
        }
        let uses = self.uses.entry(use_key(&wanted.id)).or_default();
        if change.old.is_none() {
            uses.whole = true;
            self.wholes.push(wanted.number, key);
        } else {
            let given = given_name(&wanted.id, wanted.number);
            stage.dir.rename(&whole, &stage.dir, &given, RenameFlags::empty()).map_err(failed)?;
            uses.given = Some(wanted.number);
        }
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

    /// A local file, if it is still as it was scanned. One that cannot be opened or was changed is no source; there may be
    /// others.
    fn open_local(&self, from: &TreePath, key: &StatKey) -> Option<File> {
        let unchanged = |file: &File| look_fd(file).is_ok_and(|look| look.key == *key);
        self.plan.target.open_file_at(from).ok().filter(unchanged)
    }

    /// Copies `source`, or nothing at all, into the stage for the change; false if it is not the content of its id.
    fn copy_of(&mut self, source: Option<&File>, wanted: &Wanted, path: &TreePath) -> Result<bool, PublishError> {
        self.plan.step("copy for", path)?;
        let Some(target) = make_copy(self.plan.stage, self.empty, source, wanted)? else { return Ok(false) };
        self.plan.step("stage", path)?;
        give(self.plan.stage, wanted)?;
        self.uses.entry(use_key(&wanted.id)).or_default().given = Some(wanted.number);
        keep_few(&mut self.files, &mut self.many, target);
        Ok(true)
    }

    /// Makes the stage durable, or empties it: after a failed flush nobody knows what reached the disk. Gives the changes that
    /// take what waits under their id alone.
    fn flush(self) -> Result<Wholes, PublishError> {
        let stage = self.plan.stage;
        if self.files.is_empty() && !self.many {
            return Ok(self.wholes);
        }
        self.plan.step("flush the stage of", &TreePath::top())?;
        let flushed = match self.many {
            true => stage.dir.flush_filesystem(),
            false => self.files.iter().try_for_each(File::sync_all).and_then(|()| stage.dir.flush()),
        };
        flushed.map_err(|e| match stage.clear() {
            Ok(()) => PublishError::Flush(e),
            Err(cleared) => cleared.into(),
        })?;
        Ok(self.wholes)
    }
}

fn broken_off() -> PublishError {
    PublishError::Changes(io::Error::other("a part of mirra failed"))
}

/// Makes a copy of `source` and gives it to its change; nothing if it is not the content of its id.
fn copy_whole(stage: &Stage, empty: FileId, source: &File, wanted: &Wanted) -> Result<Option<File>, StageError> {
    if let Some(size) = usize::try_from(wanted.size).ok().filter(|size| *size <= SMALL) {
        let read = read_all(source, &wanted.id, size, wanted.class);
        let give = |bytes: Vec<u8>| stage.give(&wanted.id, wanted.number, &bytes, &wanted.meta);
        // What cannot be read is no source.
        return read.ok().flatten().map(give).transpose();
    }
    let Some(target) = make_copy(stage, empty, Some(source), wanted)? else { return Ok(None) };
    give(stage, wanted)?;
    Ok(Some(target))
}

/// Copies `source`, or nothing at all, into a file of the stage that has no number yet; nothing is there if it is not the
/// content of its id.
fn make_copy(stage: &Stage, empty: FileId, source: Option<&File>, wanted: &Wanted) -> Result<Option<File>, StageError> {
    let name = copy_name(wanted.number);
    let failed = |e| stage.failed("copy", &name, wanted.size, e);
    let target = stage.dir.create_file(&name).map_err(failed)?;
    let copied = match source {
        Some(source) => copy(source, &target, wanted.class),
        None => Ok((empty, 0)),
    };
    if copied.as_ref().is_ok_and(|(id, bytes)| *id == wanted.id && *bytes == wanted.size) {
        set_meta_fd(std::os::fd::AsFd::as_fd(&target), &wanted.meta).map_err(failed)?;
        return Ok(Some(target));
    }
    stage.dir.remove_file(&name).map_err(failed)?;
    match copied {
        Err(e) if is_full(&e) => Err(failed(e)),
        _ => Ok(None),
    }
}

/// Says that the copy for a change is what it should be.
fn give(stage: &Stage, wanted: &Wanted) -> Result<(), StageError> {
    let (name, given) = (copy_name(wanted.number), given_name(&wanted.id, wanted.number));
    let renamed = stage.dir.rename(&name, &stage.dir, &given, RenameFlags::empty());
    renamed.map_err(|e| stage.failed("copy", &name, wanted.size, e))
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
