//! A directory held open, and the only calls that reach files below it: `openat2` beneath, without following links.
//!
//! Checked types alone name things here ([`TreePath`], [`Name`]); a link swapped in for a directory while we work is an
//! error (`ELOOP`), never a way out.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps};

use crate::tree::entry::{Meta, Mtime};
use crate::tree::name::{HOME_NAME, Name, TreePath};

/// A directory that is held open.
#[derive(Debug)]
pub struct Dir(OwnedFd);

/// What a look at a name finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A socket, FIFO or device: never part of a module.
    Special,
}

/// What tells whether a file is the one that was read: identity, size and both times (nanoseconds since 1970).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatKey {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Last modification of the content.
    pub mtime: i64,
    /// Last change of content or metadata, which only the kernel sets.
    pub ctime: i64,
}

/// What is known of a name after one `fstatat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Its kind.
    pub found: Found,
    /// Mode within 0777 and mtime.
    pub meta: Meta,
    /// Identity, size and times.
    pub key: StatKey,
    /// Hard links to it.
    pub links: u64,
}

/// Longest piece of a path given to one system call; Linux takes 4,095 bytes.
const PIECE_MAX: usize = 3_800;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Dir {
    /// Opens a directory that the operator named. Links on the way are the operator's own.
    ///
    /// # Errors
    /// As `open(2)`, `ENOTDIR` when it is no directory.
    pub fn open_operator(path: &std::path::Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(fs::open(path, flags, Mode::empty())?))
    }

    /// Makes a directory that the operator named, with those above it.
    ///
    /// # Errors
    /// As `mkdir(2)`.
    #[expect(clippy::disallowed_methods, reason = "the operator names this path, and its links are his own")]
    pub fn make_operator(path: &std::path::Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    /// A second handle to the same directory.
    ///
    /// # Errors
    /// `EMFILE` when descriptors run out.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Opens the directory at `path` below this one.
    ///
    /// # Errors
    /// As `openat2(2)`; `ELOOP` when a link stands on the way.
    pub fn open_dir(&self, path: &TreePath) -> io::Result<Self> {
        let mut here = None;
        let mut rest = path.as_bytes();
        while !rest.is_empty() {
            let (piece, tail) = split_piece(rest);
            let from = here.as_ref().map_or(self.0.as_fd(), |dir: &Self| dir.0.as_fd());
            here = Some(Self(open_beneath(from, piece, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?));
            rest = tail;
        }
        here.map_or_else(|| self.open_self(), Ok)
    }

    /// Opens this directory anew, with a read position of its own.
    fn open_self(&self) -> io::Result<Self> {
        Ok(Self(open_beneath(self.0.as_fd(), b".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?))
    }

    /// Opens the directory that holds `path`, and gives the name in it; `None` for the top itself.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir).
    pub fn open_parent(&self, path: &TreePath) -> io::Result<Option<(Self, Name)>> {
        match path.split_last() {
            None => Ok(None),
            Some((parent, name)) => Ok(Some((self.open_dir(&parent)?, name))),
        }
    }

    /// Opens the regular file `name` for reading. Neither a link is followed nor a FIFO waited for.
    ///
    /// # Errors
    /// `ELOOP` for a link; `InvalidInput` for anything else that is no regular file.
    pub fn open_file(&self, name: &Name) -> io::Result<std::fs::File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = open_beneath(self.0.as_fd(), name.as_bytes(), flags, Mode::empty())?;
        if FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(fd.into())
    }

    /// Opens the regular file at `path` for reading, as [`open_file`](Self::open_file).
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`open_file`](Self::open_file).
    pub fn open_file_at(&self, path: &TreePath) -> io::Result<std::fs::File> {
        let (dir, name) = self.open_parent(path)?.ok_or(io::ErrorKind::IsADirectory)?;
        dir.open_file(&name)
    }

    /// Creates the file `name`, which must not exist, for reading and writing with mode 0600.
    ///
    /// # Errors
    /// As `openat2(2)`, `EEXIST` when the name is taken.
    pub fn create_file(&self, name: &Name) -> io::Result<std::fs::File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        Ok(open_beneath(self.0.as_fd(), name.as_bytes(), flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Opens the existing regular file `name` for reading and writing.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file).
    pub fn open_file_rw(&self, name: &Name) -> io::Result<std::fs::File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(open_beneath(self.0.as_fd(), name.as_bytes(), flags, Mode::empty())?.into())
    }

    /// Looks at `name` without opening or following it; `None` when nothing has that name.
    ///
    /// # Errors
    /// As `fstatat(2)`.
    pub fn look(&self, name: &Name) -> io::Result<Option<Look>> {
        match fs::statat(&self.0, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Look::of(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Looks at the directory itself.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn look_self(&self) -> io::Result<Look> {
        Ok(Look::of(&fs::fstat(&self.0)?))
    }

    /// The names in this directory, unordered, as the kernel has them: without `.` and `..`, but possibly names that no
    /// module may hold.
    ///
    /// # Errors
    /// As `getdents64(2)`.
    pub fn read_names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    }

    /// The directories in this one that a module may hold, unordered. Links to directories are not among them.
    ///
    /// # Errors
    /// As `getdents64(2)`.
    pub fn read_dirs(&self) -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            // Also refuses `.` and `..`.
            let Ok(name) = Name::new(entry.file_name().to_bytes()) else { continue };
            let is_dir = match entry.file_type() {
                FileType::Directory => true,
                // Some filesystems do not say.
                FileType::Unknown => self.look(&name)?.is_some_and(|look| look.found == Found::Directory),
                _ => false,
            };
            if is_dir {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The target of the link `name`.
    ///
    /// # Errors
    /// As `readlinkat(2)`, `EINVAL` when it is no link.
    pub fn read_link(&self, name: &Name) -> io::Result<Vec<u8>> {
        Ok(fs::readlinkat(&self.0, name.as_bytes(), Vec::new())?.into_bytes())
    }

    /// Makes the directory `name` with `mode`.
    ///
    /// # Errors
    /// As `mkdirat(2)`.
    pub fn make_dir(&self, name: &Name, mode: u16) -> io::Result<()> {
        Ok(fs::mkdirat(&self.0, name.as_bytes(), Mode::from_raw_mode(u32::from(mode)))?)
    }

    /// Makes the link `name` to `target`.
    ///
    /// # Errors
    /// As `symlinkat(2)`.
    pub fn make_link(&self, name: &Name, target: &[u8]) -> io::Result<()> {
        Ok(fs::symlinkat(target, &self.0, name.as_bytes())?)
    }

    /// Gives the file `name` a second name in `to`.
    ///
    /// # Errors
    /// As `linkat(2)`; links are not followed.
    pub fn hard_link(&self, name: &Name, to: &Self, new: &Name) -> io::Result<()> {
        Ok(fs::linkat(&self.0, name.as_bytes(), &to.0, new.as_bytes(), AtFlags::empty())?)
    }

    /// Renames, as `flags` say: replace, [`RenameFlags::NOREPLACE`] or [`RenameFlags::EXCHANGE`].
    ///
    /// # Errors
    /// As `renameat2(2)`.
    pub fn rename(&self, name: &Name, to: &Self, new: &Name, flags: RenameFlags) -> io::Result<()> {
        Ok(fs::renameat_with(&self.0, name.as_bytes(), &to.0, new.as_bytes(), flags)?)
    }

    /// Removes the file or link `name`.
    ///
    /// # Errors
    /// As `unlinkat(2)`.
    pub fn remove_file(&self, name: &Name) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name.as_bytes(), AtFlags::empty())?)
    }

    /// Removes the empty directory `name`.
    ///
    /// # Errors
    /// As `unlinkat(2)`, `ENOTEMPTY` when it holds anything.
    pub fn remove_dir(&self, name: &Name) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name.as_bytes(), AtFlags::REMOVEDIR)?)
    }

    /// Sets mode and mtime of `name`; the mtime alone for a link, which has no mode of its own.
    ///
    /// # Errors
    /// As `openat2(2)`, `fchmod(2)` and `utimensat(2)`.
    pub fn set_meta(&self, name: &Name, meta: &Meta, found: Found) -> io::Result<()> {
        if found == Found::Link {
            return Ok(fs::utimensat(&self.0, name.as_bytes(), &timestamps(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)?);
        }
        // A path descriptor opens even what its owner may not read; its name in /proc is how such a thing is chmodded.
        let fd = open_beneath(self.0.as_fd(), name.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        let by_number = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fs::chmod(by_number, Mode::from_raw_mode(u32::from(meta.mode)))?;
        Ok(fs::utimensat(&self.0, name.as_bytes(), &timestamps(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets mode and mtime of this directory.
    ///
    /// # Errors
    /// As `fchmod(2)` and `futimens(2)`.
    pub fn set_meta_self(&self, meta: &Meta) -> io::Result<()> {
        set_meta_fd(self.0.as_fd(), meta)
    }

    /// Flushes the directory: what was created, renamed and removed in it is durable afterwards.
    ///
    /// # Errors
    /// As `fsync(2)`.
    pub fn flush(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.0)?)
    }

    /// Flushes the whole filesystem that holds this directory.
    ///
    /// # Errors
    /// As `syncfs(2)`.
    pub fn flush_filesystem(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.0)?)
    }

    /// How many more files the filesystem has room for; `None` where it sets no bound.
    ///
    /// # Errors
    /// As `fstatvfs(3)`.
    pub fn free_files(&self) -> io::Result<Option<u64>> {
        let stat = fs::fstatvfs(&self.0)?;
        Ok((stat.f_files > 0).then_some(stat.f_favail))
    }

    /// Bytes that may still be written to the filesystem.
    ///
    /// # Errors
    /// As `fstatvfs(3)`.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.0)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl From<OwnedFd> for Dir {
    /// Takes a descriptor that is known to be a directory's.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sets mode and mtime through an open descriptor.
///
/// # Errors
/// As `fchmod(2)` and `futimens(2)`.
pub fn set_meta_fd(fd: BorrowedFd<'_>, meta: &Meta) -> io::Result<()> {
    fs::fchmod(fd, Mode::from_raw_mode(u32::from(meta.mode)))?;
    Ok(fs::futimens(fd, &timestamps(meta.mtime))?)
}

/// Looks at what is open.
///
/// # Errors
/// As `fstat(2)`.
pub fn look_fd(fd: impl AsFd) -> io::Result<Look> {
    Ok(Look::of(&fs::fstat(fd)?))
}

impl Look {
    fn of(stat: &Stat) -> Self {
        let found = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Found::File,
            FileType::Directory => Found::Directory,
            FileType::Symlink => Found::Link,
            _ => Found::Special,
        };
        let mode = if found == Found::Link { 0o777 } else { u16::try_from(stat.st_mode & 0o777).unwrap_or(0) };
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let key = StatKey {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: since_epoch(stat.st_mtime, i64::from(nanos)),
            ctime: since_epoch(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        };
        #[allow(clippy::useless_conversion, reason = "its width differs between architectures")]
        let links = u64::from(stat.st_nlink);
        Self { found, meta: Meta { mode, mtime: Mtime { seconds: stat.st_mtime, nanos } }, key, links }
    }
}

fn since_epoch(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

fn timestamps(mtime: Mtime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT }, last_modification: time }
}

fn open_beneath(from: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    loop {
        match fs::openat2(from, path, flags | OFlags::CLOEXEC, mode, BENEATH) {
            // The kernel gives EAGAIN when a rename raced with the walk beneath, EINTR for a signal.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Splits off as many leading names as one system call takes.
fn split_piece(path: &[u8]) -> (&[u8], &[u8]) {
    match path.get(..PIECE_MAX).and_then(|head| head.iter().rposition(|b| *b == b'/')) {
        Some(at) => (path.get(..at).unwrap_or(path), path.get(at + 1..).unwrap_or(&[])),
        None => (path, &[]),
    }
}

/// What the stage and the grace need beside a module's own names.
impl Dir {
    /// Opens the directory `.mirra` in this one, and makes it (0700) when it is missing: the one name that no
    /// [`Name`] can hold.
    ///
    /// # Errors
    /// As `mkdirat(2)` and `openat2(2)`; `ELOOP` or `ENOTDIR` when something else has the name.
    pub fn open_home(&self) -> io::Result<Self> {
        match fs::mkdirat(&self.0, HOME_NAME, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(Self(open_beneath(self.0.as_fd(), HOME_NAME, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?))
    }

    /// Renames a `.mirra` of this directory, so that a tree that holds one can be removed.
    ///
    /// # Errors
    /// As `renameat2(2)`.
    pub fn rename_home(&self, to: &Self, new: &Name, flags: RenameFlags) -> io::Result<()> {
        Ok(fs::renameat_with(&self.0, HOME_NAME, &to.0, new.as_bytes(), flags)?)
    }

    /// Opens the directory `name`, and makes it (0700) when it is missing.
    ///
    /// # Errors
    /// As [`open_home`](Self::open_home).
    pub fn open_or_make(&self, name: &Name) -> io::Result<Self> {
        match self.make_dir(name, 0o700) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => self.open_child(name),
        }
    }

    /// Opens the directory `name`.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir).
    pub fn open_child(&self, name: &Name) -> io::Result<Self> {
        Ok(Self(open_beneath(self.0.as_fd(), name.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?))
    }

    /// Whether names can be moved between this directory and `other`: one filesystem and one mount. Nothing is moved.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn shares_names_with(&self, other: &Self) -> io::Result<bool> {
        if fs::fstat(&self.0)?.st_dev != fs::fstat(&other.0)?.st_dev {
            return Ok(false);
        }
        // The kernel compares the mounts before it looks for the name, and no directory has an entry called "..".
        let probe = fs::renameat(&self.0, b"mirra.probe.of.nothing".as_slice(), &other.0, b"..".as_slice());
        Ok(probe != Err(rustix::io::Errno::XDEV))
    }

    /// Bytes of the whole filesystem.
    ///
    /// # Errors
    /// As `fstatvfs(3)`.
    pub fn capacity_bytes(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.0)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }
}
