//! Where new content waits, verified, until it is published.
//!
//! A name says what a file is: `<id>.part` is being written; `<id>` was verified by whoever finished it; `<id>.<n>` has
//! been given to change `n` of a switch, and after a crash may be what that change displaced. So nothing that carries a
//! number is ever unlinked or trusted by its name: it is verified anew, or goes to the grace. What an earlier run left is
//! trusted under no name: a crash may have cut it.

mod slot;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::RenameFlags;

pub use self::slot::{Slot, Staged};
use super::dir::{Dir, Found, look_fd, set_meta_fd};
use super::fault::{Fault, is_full};
use super::grace::Batch;
use super::verify::copy;
use crate::tree::chunker::Class;
use crate::tree::entry::Meta;
use crate::tree::hash::FileId;
use crate::tree::name::Name;

/// Share of the filesystem, in percent, that is left free.
const RESERVE_PERCENT: u64 = 3;
/// Bytes that are left free at most.
const RESERVE_MAX: u64 = 1 << 30;
const PART: &str = ".part";

/// Why the stage refuses.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The filesystem or a quota is full, or would be.
    #[error("{needed} bytes are needed and {free} are free")]
    Full {
        /// Bytes that were to be written.
        needed: u64,
        /// Bytes that may still be written; behind a quota it can be more than is allowed.
        free: u64,
    },
    /// The filesystem or a quota allows no more files, whatever room there is for bytes.
    #[error("the filesystem allows no more files: it has no free inodes, although {free} bytes are free")]
    NoFiles {
        /// Bytes that may still be written.
        free: u64,
    },
    /// A call failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The module's name cannot name a directory.
    #[error("\"{0}\" cannot name a directory of the stage")]
    Module(String),
}

/// The stage of one module, and the grace beside it, on the filesystem of its target.
#[derive(Debug)]
pub struct Stage {
    pub(super) dir: Arc<Dir>,
    pub(super) grace: Dir,
    pub(super) adopted: Dir,
    /// Whether the filesystem can exchange two names.
    pub(super) exchanges: bool,
    in_target: bool,
    shown: Arc<str>,
}

/// What an earlier run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The content that its name speaks of.
    pub id: FileId,
    /// What it is.
    pub state: Left,
    /// Its length in bytes.
    pub bytes: u64,
    name: Name,
}

/// How far a leftover had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// Verified and finished; not yet given to a change.
    Whole,
    /// Given to a change: the content, or what it displaced.
    Given,
    /// Begun.
    Partial,
}

/// What a filesystem that is full lacks.
fn full(dir: &Dir, needed: u64) -> StageError {
    let free = dir.free_bytes().unwrap_or(0);
    match dir.free_files() {
        Ok(Some(0)) if free > needed => StageError::NoFiles { free },
        _ => StageError::Full { needed, free },
    }
}

impl Stage {
    /// Opens the stage of `module`: in `home`, the `.mirra` directory, if names can be moved from there to `target`,
    /// else in `TARGET/.mirra/`. `shown` is the target's path for messages.
    ///
    /// # Errors
    /// [`StageError`].
    pub fn open(target: &Dir, shown: &Path, home: &Dir, module: &str) -> Result<Self, StageError> {
        let name = Name::new(module.as_bytes()).map_err(|_| StageError::Module(module.to_owned()))?;
        let shown: Arc<str> = shown.display().to_string().into();
        let open = || {
            let in_target = !home.shares_names_with(target)?;
            let base = if in_target { target.open_home()? } else { home.try_clone()? };
            let below = |kind: &str| base.open_or_make(&own_name(kind))?.open_or_make(&name);
            let dir = below("stage")?;
            let exchanges = exchanges_names(&dir)?;
            let (grace, adopted) = (below("grace")?, below("adopted")?);
            Ok(Self { dir: Arc::new(dir), grace, adopted, exchanges, in_target, shown: Arc::clone(&shown) })
        };
        open().map_err(Fault::at("open the stage of", &shown)).map_err(StageError::from)
    }

    /// Whether the stage lies in `TARGET/.mirra/` because the home is on another filesystem.
    #[must_use]
    pub fn is_in_target(&self) -> bool {
        self.in_target
    }

    /// Starts the content `id` of `size` bytes; what was written of it before is dropped.
    ///
    /// # Errors
    /// [`StageError::Full`] or [`StageError::Fault`].
    pub fn create(&self, id: &FileId, size: u64) -> Result<Staged, StageError> {
        self.slot(id, size).create()
    }

    /// Where the content `id` of `size` bytes can be staged.
    #[must_use]
    pub fn slot(&self, id: &FileId, size: u64) -> Slot {
        Slot { dir: Arc::clone(&self.dir), shown: Arc::clone(&self.shown), id: *id, size }
    }

    /// Whether nothing is here, whole or begun.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn is_empty(&self) -> Result<bool, StageError> {
        let names = self.dir.read_names().map_err(Fault::at("list the stage of", &self.shown))?;
        Ok(names.is_empty())
    }

    /// Copies `source`, and keeps the copy if it is the content `id`; says whether it is. What cannot be read is not.
    ///
    /// # Errors
    /// [`StageError::Full`] or [`StageError::Fault`].
    pub fn take_copy(&self, source: &File, id: &FileId, size: u64, class: Class) -> Result<bool, StageError> {
        if !look_fd(source).is_ok_and(|look| look.key.size == size) {
            return Ok(false);
        }
        let staged = self.create(id, size)?;
        let copied = copy(source, &staged.file, class);
        if matches!(&copied, Ok(found) if *found == (*id, size)) {
            return staged.finish(None).map(|()| true);
        }
        let full = copied.err().filter(is_full).map(|e| staged.failed("write", e));
        staged.abandon()?;
        full.map_or(Ok(false), Err)
    }

    /// A file without a name, for what must not fill the memory; it is gone when it is closed.
    ///
    /// # Errors
    /// [`StageError::Full`] or [`StageError::Fault`].
    pub fn scratch(&self) -> Result<File, StageError> {
        let name = own_name("scratch");
        let make = || {
            match self.dir.remove_file(&name) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let file = self.dir.create_file(&name)?;
            self.dir.remove_file(&name)?;
            Ok(file)
        };
        make().map_err(|e| self.failed("create", &name, 0, e))
    }

    /// Opens what was written of `id` before, to go on behind it; the caller verifies what it finds there.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn partial(&self, id: &FileId, size: u64) -> Result<Option<Staged>, StageError> {
        let part = part_name(id);
        match self.dir.open_file_rw(&part) {
            Ok(file) => Ok(Some(Staged { slot: self.slot(id, size), file })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed("open", &part, 0, e)),
        }
    }

    /// Whether the content of `id` waits here, verified.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn has(&self, id: &FileId) -> Result<bool, StageError> {
        let whole = whole_name(id);
        Ok(self.dir.look(&whole).map_err(|e| self.failed("look at", &whole, 0, e))?.is_some())
    }

    /// Opens the content of `id` for reading, if it waits here.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn open_whole(&self, id: &FileId) -> Result<Option<File>, StageError> {
        self.open_any(&whole_name(id))
    }

    /// What an earlier run left, in no order. To use any of it, verify it with [`open_leftover`](Self::open_leftover)
    /// and [`keep`](Self::keep) it; a partial one is opened with [`partial`](Self::partial).
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn leftovers(&self) -> Result<Vec<Leftover>, StageError> {
        let read = self.dir.read_names().map_err(Fault::at("list the stage of", &self.shown))?;
        let mut left = Vec::new();
        for bytes in read {
            let Some((name, id, state)) = parse_name(&bytes) else { continue };
            let look = self.dir.look(&name).map_err(|e| self.failed("look at", &name, 0, e))?;
            // What a crashed change displaced need not be a file.
            if let Some(look) = look.filter(|look| look.found == Found::File) {
                left.push(Leftover { id, state, bytes: look.key.size, name });
            }
        }
        Ok(left)
    }

    /// Opens a leftover for reading, even one whose mode was set already.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn open_leftover(&self, left: &Leftover) -> Result<Option<File>, StageError> {
        self.open_any(&left.name)
    }

    /// Trusts a leftover that the caller has verified to be the content of its id.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn keep(&self, left: &Leftover) -> Result<(), StageError> {
        let whole = whole_name(&left.id);
        let kept = match self.dir.rename(&left.name, &self.dir, &whole, RenameFlags::NOREPLACE) {
            // Equal content twice: one is enough, copies are made as they are needed.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && left.name != whole => {
                self.dir.remove_file(&left.name)
            }
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => Ok(()),
        };
        kept.map_err(|e| self.failed("keep", &left.name, 0, e))
    }

    /// Drops a leftover that is not the content of its id.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn discard(&self, left: &Leftover) -> Result<(), StageError> {
        let dropped = match left.state {
            Left::Given => Batch::new(&self.grace, 0).take(&self.dir, &left.name).map(drop),
            Left::Whole | Left::Partial => self.dir.remove_file(&left.name),
        };
        dropped.map_err(|e| self.failed("discard", &left.name, 0, e))
    }

    /// Empties the stage: what is begun or whole is removed, anything else goes to the grace.
    ///
    /// # Errors
    /// [`StageError::Fault`].
    pub fn clear(&self) -> Result<(), StageError> {
        let read = self.dir.read_names().map_err(Fault::at("list the stage of", &self.shown))?;
        for bytes in read {
            if let Some((name, _, Left::Whole | Left::Partial)) = parse_name(&bytes) {
                self.dir.remove_file(&name).map_err(|e| self.failed("remove", &name, 0, e))?;
            }
        }
        self.set_aside(&mut Batch::new(&self.grace, 0))
    }

    /// Checks that `needed` bytes can be staged and a reserve stays free.
    ///
    /// # Errors
    /// [`StageError::Full`] when they cannot.
    pub fn room(&self, needed: u64) -> Result<(), StageError> {
        let ask = || Ok((self.dir.free_bytes()?, self.dir.capacity_bytes()?));
        let (free, whole) = ask().map_err(Fault::at("ask for the free space of", &self.shown))?;
        let reserve = RESERVE_MAX.min(whole / 100 * RESERVE_PERCENT);
        let free = free.saturating_sub(reserve);
        if needed > free { Err(StageError::Full { needed, free }) } else { Ok(()) }
    }

    /// Moves whatever carries a number, or no name of the stage, to the grace: nobody has vouched for it.
    pub(super) fn set_aside(&self, grace: &mut Batch<'_>) -> Result<(), StageError> {
        let read = self.dir.read_names().map_err(Fault::at("list the stage of", &self.shown))?;
        for bytes in read {
            let Ok(name) = Name::new(&bytes) else { continue };
            let aside = match parse_name(&bytes) {
                Some((_, _, Left::Whole | Left::Partial)) => Ok(()),
                // A copy that was being made has never stood anywhere else.
                _ if bytes.starts_with(COPY.as_bytes()) => self.dir.remove_file(&name),
                _ => grace.take(&self.dir, &name).map(drop),
            };
            aside.map_err(|e| self.failed("set aside", &name, 0, e))?;
        }
        Ok(())
    }

    /// Opens the file `name` for reading, if it is there, whatever its mode: metadata is set before a file leaves.
    pub(super) fn open_any(&self, name: &Name) -> Result<Option<File>, StageError> {
        let opened = match self.dir.open_file(name) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => self.open_closed(name),
            opened => opened,
        };
        match opened {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed("open", name, 0, e)),
        }
    }

    fn open_closed(&self, name: &Name) -> io::Result<File> {
        let meta = self.dir.look(name)?.ok_or(io::ErrorKind::NotFound)?.meta;
        self.dir.set_meta(name, &Meta { mode: 0o600, ..meta }, Found::File)?;
        let file = self.dir.open_file(name)?;
        set_meta_fd(file.as_fd(), &meta)?;
        Ok(file)
    }

    /// Stages `bytes`, which the caller has verified to be the content `id`, for change `number` of a switch.
    pub(super) fn give(&self, id: &FileId, number: u64, bytes: &[u8], meta: &Meta) -> Result<File, StageError> {
        let given = given_name(id, number);
        let put = slot::put_file(&self.dir, &given, bytes, Some(meta));
        put.map_err(|e| self.failed("copy", &given, bytes.len() as u64, e))
    }

    /// Takes content back that was given to changes which will not be carried out. Only for who gave it: nothing may
    /// have been exchanged with it.
    pub(super) fn take_back(&self) -> Result<(), StageError> {
        for left in self.leftovers()?.iter().filter(|left| left.state == Left::Given) {
            self.keep(left)?;
        }
        Ok(())
    }

    /// What a failed call on a name of the stage means.
    pub(super) fn failed(&self, operation: &'static str, name: &Name, needed: u64, source: io::Error) -> StageError {
        if is_full(&source) {
            return full(&self.dir, needed);
        }
        let path = format!("{name} in the stage of {}", self.shown);
        StageError::Fault(Fault { operation, path, source })
    }
}

/// What the names of copies in the making start with.
const COPY: &str = "copy.";

/// A name of our own.
pub(super) fn own_name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("our own names are short and plain")
}

pub(super) fn whole_name(id: &FileId) -> Name {
    own_name(&id.to_string())
}

fn part_name(id: &FileId) -> Name {
    own_name(&format!("{id}{PART}"))
}

/// The name under which content waits for change `number`.
pub(super) fn given_name(id: &FileId, number: u64) -> Name {
    own_name(&format!("{id}.{number}"))
}

/// The name under which a copy for change `number` is being made.
pub(super) fn copy_name(number: u64) -> Name {
    own_name(&format!("{COPY}{number}"))
}

fn parse_name(bytes: &[u8]) -> Option<(Name, FileId, Left)> {
    let name = Name::new(bytes).ok()?;
    let text = std::str::from_utf8(bytes).ok()?;
    let (hex, tail) = text.split_at_checked(64)?;
    let id = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?;
    let id = FileId::try_from(id.as_slice()).ok()?;
    let state = match tail {
        "" => Left::Whole,
        PART => Left::Partial,
        _ if tail.strip_prefix('.').is_some_and(|n| n.parse::<u64>().is_ok()) => Left::Given,
        _ => return None,
    };
    Some((name, id, state))
}

/// Tries an exchange of two names where nobody looks.
fn exchanges_names(dir: &Dir) -> io::Result<bool> {
    let (a, b) = (own_name("probe.a"), own_name("probe.b"));
    for name in [&a, &b] {
        match dir.make_dir(name, 0o700) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    let exchanges = dir.rename(&a, dir, &b, RenameFlags::EXCHANGE).is_ok();
    dir.remove_dir(&a)?;
    dir.remove_dir(&b)?;
    Ok(exchanges)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn open() -> (tempfile::TempDir, Dir, Stage) {
        let top = tempfile::tempdir().unwrap();
        let dir = Dir::open_operator(top.path()).unwrap();
        let target = dir.open_or_make(&own_name("target")).unwrap();
        let stage = Stage::open(&target, Path::new("target"), &dir.open_home().unwrap(), "m").unwrap();
        assert!(!stage.is_in_target() && target.read_names().unwrap().is_empty());
        (top, target, stage)
    }

    fn id(n: u8) -> FileId {
        FileId::of(&[n])
    }

    fn left(stage: &Stage) -> Vec<(FileId, Left, u64)> {
        let mut left: Vec<_> = stage.leftovers().unwrap().into_iter().map(|l| (l.id, l.state, l.bytes)).collect();
        left.sort();
        left
    }

    #[test]
    fn content_is_whole_only_when_finished() {
        let (_top, _, stage) = open();
        let staged = stage.create(&id(1), 10).unwrap();
        staged.write_at(b"half", 0).unwrap();
        drop(staged);
        assert!(!stage.has(&id(1)).unwrap() && stage.open_whole(&id(1)).unwrap().is_none());
        assert_eq!(left(&stage), [(id(1), Left::Partial, 4)]);
        let staged = stage.partial(&id(1), 10).unwrap().unwrap();
        assert_eq!(staged.written().unwrap(), 4);
        staged.write_at(b"done", 4).unwrap();
        staged.finish(None).unwrap();
        assert!(stage.has(&id(1)).unwrap() && stage.partial(&id(1), 10).unwrap().is_none());
        assert_eq!(left(&stage), [(id(1), Left::Whole, 8)]);
        stage.create(&id(1), 1).unwrap().abandon().unwrap();
        let meta = Meta { mode: 0o400, mtime: crate::tree::entry::Mtime { seconds: 7, nanos: 9 } };
        for bytes in [&b"at once"[..], b"and again"] {
            stage.slot(&id(2), bytes.len() as u64).put(bytes, Some(&meta)).unwrap();
            let look = look_fd(stage.open_whole(&id(2)).unwrap().unwrap()).unwrap();
            assert_eq!((look.meta, look.key.size), (meta, bytes.len() as u64));
        }
        assert!(!stage.is_empty().unwrap());
        stage.clear().unwrap();
        assert!(left(&stage).is_empty() && stage.is_empty().unwrap());
    }

    #[test]
    fn a_copy_is_kept_only_if_it_is_what_it_should_be() {
        let (_top, target, stage) = open();
        let source = target.create_file(&own_name("source")).unwrap();
        source.write_all_at(b"content", 0).unwrap();
        let (right, size) = crate::disk::verify::file_id(&source, Class::Fine).unwrap();
        assert!(!stage.take_copy(&source, &id(1), size, Class::Fine).unwrap(), "other content");
        assert!(!stage.take_copy(&source, &right, size - 1, Class::Fine).unwrap(), "other size");
        assert_eq!(left(&stage), []);
        assert!(stage.take_copy(&source, &right, size, Class::Fine).unwrap());
        assert_eq!(left(&stage), [(right, Left::Whole, size)]);
    }

    #[test]
    fn what_carries_a_number_is_never_unlinked() {
        let (_top, target, stage) = open();
        let numbered = |n: u64, text: &[u8]| {
            stage.dir.create_file(&given_name(&id(1), n)).unwrap().write_all_at(text, 0).unwrap();
        };
        numbered(1, b"displaced");
        numbered(2, b"content");
        target.make_link(&own_name("l"), b"x").unwrap();
        target.rename(&own_name("l"), &stage.dir, &own_name("link.3"), RenameFlags::empty()).unwrap();
        assert!(!stage.has(&id(1)).unwrap());
        for left in stage.leftovers().unwrap() {
            assert_eq!(left.state, Left::Given);
            match left.bytes {
                7 => stage.keep(&left).unwrap(),
                _ => stage.discard(&left).unwrap(),
            }
        }
        assert!(stage.has(&id(1)).unwrap());
        numbered(4, b"again");
        stage.clear().unwrap();
        assert!(stage.dir.read_names().unwrap().is_empty());
        let kept = stage.grace.open_child(&own_name("0")).unwrap().read_names().unwrap();
        assert_eq!(kept.len(), 3);
    }

    #[test]
    fn room_is_asked_before_it_is_used() {
        let (_top, _, stage) = open();
        stage.room(0).unwrap();
        assert!(matches!(stage.room(u64::MAX), Err(StageError::Full { needed: u64::MAX, .. })));
    }

    #[test]
    fn names_that_name_no_directory_are_refused() {
        let (_top, target, stage) = open();
        let home = stage.grace;
        for module in ["", ".", "..", "a/b", ".mirra"] {
            assert!(matches!(Stage::open(&target, Path::new("t"), &home, module), Err(StageError::Module(_))));
        }
    }

    #[test]
    fn names_cannot_be_shared_with_another_filesystem() {
        let (_top, target, _) = open();
        let kernel = Dir::open_operator(Path::new("/proc/self")).unwrap();
        assert!(!target.shares_names_with(&kernel).unwrap());
        let stage = Stage::open(&target, Path::new("t"), &kernel, "m").unwrap();
        assert!(stage.is_in_target());
        assert_eq!(target.read_names().unwrap(), [b".mirra"]);
    }
}
