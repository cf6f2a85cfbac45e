//! The home: a directory's `.mirra`, where keys, config, lock and socket live, for its owner's eyes alone.
//!
//! What is secret is refused rather than mended when others could have read or replaced it: the operator has to know.
//! [`Name`] refuses `.mirra` so that no module ever holds it; here alone it is spelled out.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType, Mode, OFlags, RenameFlags};
use zeroize::Zeroizing;

use super::dir::Dir;
use crate::tree::name::{HOME_NAME, Name};

/// Bytes of a secret file, at most.
const SECRET_MAX: usize = 4 * 1024;
/// The file whose lock says who owns the home.
const LOCK: &str = "lock";

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is no `.mirra` in the directory.
    #[error("{} holds no .mirra", .0.display())]
    Missing(PathBuf),
    /// Others than the owner could read or replace it, or it is not what it should be.
    #[error("{} {why}", path.display())]
    Unsafe {
        /// What is unsafe.
        path: PathBuf,
        /// Why.
        why: &'static str,
        /// What mends it.
        fix: String,
    },
    /// Another process owns the home.
    #[error("{} is in use{}", path.display(), holder.map_or(String::new(), |pid| format!(" by process {pid}")))]
    Busy {
        /// The home.
        path: PathBuf,
        /// The process, as the lock file records it.
        holder: Option<u32>,
    },
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A directory that only its owner may enter, and the small files in it.
#[derive(Debug)]
pub struct PrivateDir {
    dir: Dir,
    path: PathBuf,
}

/// A directory's `.mirra`, held open.
#[derive(Debug)]
pub struct Home {
    outer: Dir,
    base: PathBuf,
    inner: PrivateDir,
}

/// The right to a home, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    file: std::fs::File,
}

impl Drop for Lock {
    /// Given back by name: a child that another thread is just starting holds a copy of the descriptor until its `exec`,
    /// and closing ours alone would leave the home locked until then.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// How a home and a directory lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Neither holds the other.
    Apart,
    /// The directory holds the home's `.mirra`.
    HoldsHome,
    /// The directory is `.mirra` or lies within it.
    WithinHome,
}

impl Home {
    /// Opens the home of `base`, the directory that holds `.mirra`.
    ///
    /// # Errors
    /// [`HomeError::Missing`], or [`HomeError::Unsafe`] when others than its owner can get at it.
    pub fn open(base: &Path) -> Result<Self, HomeError> {
        let missing = || HomeError::Missing(base.to_path_buf());
        let outer = match Dir::open_operator(base) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(missing());
            }
            other => other.map_err(|e| failed("open", base, e))?,
        };
        let base = std::path::absolute(base).map_err(|e| failed("find", base, e))?;
        let path = base.join(OsStr::from_bytes(HOME_NAME));
        match PrivateDir::open_at(&outer, HOME_NAME, path)? {
            Some(inner) => Ok(Self { outer, base, inner }),
            None => Err(missing()),
        }
    }

    /// Makes `base` and its `.mirra` where they are missing, and opens the home.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[expect(clippy::disallowed_methods, reason = "the operator names this path, and its links are his own")]
    pub fn create(base: &Path) -> Result<Self, HomeError> {
        std::fs::create_dir_all(base).map_err(|e| failed("make", base, e))?;
        let outer = Dir::open_operator(base).map_err(|e| failed("open", base, e))?;
        match fs::mkdirat(&outer, HOME_NAME, Mode::RWXU) {
            Ok(()) => outer.flush().map_err(|e| failed("flush", base, e))?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(failed("make .mirra in", base, e.into())),
        }
        Self::open(base)
    }

    /// The absolute path of the directory that holds `.mirra`; for messages and for paths in the config.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The directory that holds `.mirra`.
    #[must_use]
    pub fn outer(&self) -> &Dir {
        &self.outer
    }

    /// `.mirra` itself.
    #[must_use]
    pub fn inner(&self) -> &PrivateDir {
        &self.inner
    }

    /// Takes the home for this process; the lock file records which one that is.
    ///
    /// # Errors
    /// [`HomeError::Busy`] when another process has it.
    pub fn lock(&self) -> Result<Lock, HomeError> {
        let path = self.inner.path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.inner.dir, LOCK, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| failed("open", &path, e.into()))?;
        let mut file = std::fs::File::from(fd);
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let holder = (&mut file).take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(HomeError::Busy { path: self.inner.path.clone(), holder });
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(failed("lock", &path, e)),
        }
        let record = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        record.map_err(|e| failed("write", &path, e))?;
        Ok(Lock { file })
    }
}

/// How `dir` lies to the home in `base`, whether or not they exist yet: by what the directories are, not by how they are
/// spelled.
///
/// # Errors
/// [`HomeError::Io`] when a directory on the way up cannot be opened.
pub fn overlap(base: &Path, dir: &Path) -> Result<Overlap, HomeError> {
    let (dir_there, dir_here) = nearest(dir)?;
    let (_, base_here) = nearest(base)?;
    let compare = || {
        if dir_there && holds(&dir_here, &base_here)? {
            return Ok(Overlap::HoldsHome);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = match fs::openat(&base_here, HOME_NAME, flags, Mode::empty()) {
            Ok(inner) => holds(&inner.into(), &dir_here)?,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => false,
            Err(e) => return Err(e.into()),
        };
        Ok(if within { Overlap::WithinHome } else { Overlap::Apart })
    };
    compare().map_err(|e| failed("look above", dir, e))
}

/// Whether two directories are one, or one of them lies within the other, or would if it existed.
///
/// # Errors
/// As [`overlap`].
pub fn nested(one: &Path, other: &Path) -> Result<bool, HomeError> {
    let ((one_there, one_here), (other_there, other_here)) = (nearest(one)?, nearest(other)?);
    let compare =
        || Ok((one_there && holds(&one_here, &other_here)?) || (other_there && holds(&other_here, &one_here)?));
    compare().map_err(|e| failed("look above", one, e))
}

/// The directory at `path`, or else the nearest one above that exists; and whether it is the one that was asked for.
fn nearest(path: &Path) -> Result<(bool, Dir), HomeError> {
    let absolute = std::path::absolute(path).map_err(|e| failed("find", path, e))?;
    for here in absolute.ancestors() {
        match Dir::open_operator(here) {
            Ok(dir) => return Ok((here == absolute, dir)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(failed("open", here, e)),
        }
    }
    Err(failed("find", path, io::ErrorKind::NotFound.into()))
}

/// Whether `above` is `below` or one of the directories above it.
fn holds(above: &Dir, below: &Dir) -> io::Result<bool> {
    let id = |dir: &Dir| dir.look_self().map(|look| (look.key.device, look.key.inode));
    let top = id(above)?;
    let mut here = below.try_clone()?;
    loop {
        let found = id(&here)?;
        if found == top {
            return Ok(true);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let up = Dir::from(fs::openat(&here, "..", flags, Mode::empty())?);
        if id(&up)? == found {
            return Ok(false);
        }
        here = up;
    }
}

impl PrivateDir {
    /// Opens `name` in `parent`; `None` when nothing has that name.
    fn open_at(parent: &Dir, name: &[u8], path: PathBuf) -> Result<Option<Self>, HomeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd: OwnedFd = match fs::openat(parent, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                let fix = format!("put the real directory in the place of {}", path.display());
                return Err(HomeError::Unsafe { path, why: "is not a directory but a link or a file", fix });
            }
            Err(e) => return Err(failed("open", &path, e.into())),
        };
        check_private(&fd, &path, 0o700)?;
        Ok(Some(Self { dir: fd.into(), path }))
    }

    /// The directory `name` in this one, made when it is missing.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn sub(&self, name: &str) -> Result<Self, HomeError> {
        let path = self.path.join(name);
        match fs::mkdirat(&self.dir, name, Mode::RWXU) {
            Ok(()) => self.dir.flush().map_err(|e| failed("flush", &self.path, e))?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(failed("make", &path, e.into())),
        }
        Self::open_at(&self.dir, name.as_bytes(), path.clone())?
            .ok_or_else(|| failed("open", &path, io::ErrorKind::NotFound.into()))
    }

    /// The directory held open.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The path as the operator knows it; for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A short path to `name` for calls that take nothing but a path (sockets, SQLite); good while `self` lives.
    #[must_use]
    pub fn reach(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_fd().as_raw_fd()))
    }

    /// Reads the small file `name`; `None` when it is missing.
    ///
    /// # Errors
    /// [`HomeError::Unsafe`] for a link or anything else that is no file, [`HomeError::Io`] also when it holds more than
    /// `max` bytes.
    pub fn read(&self, name: &str, max: usize) -> Result<Option<Vec<u8>>, HomeError> {
        let path = self.path.join(name);
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|e| failed("read", &path, e))?;
        if bytes.len() > max {
            return Err(failed(
                "read",
                &path,
                io::Error::new(io::ErrorKind::FileTooLarge, format!("over {max} bytes")),
            ));
        }
        Ok(Some(bytes))
    }

    /// Reads the secret file `name`; `None` when it is missing.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`HomeError::Unsafe`] when others than the owner could read it or put it there.
    pub fn read_secret(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, HomeError> {
        let path = self.path.join(name);
        let Some(mut file) = self.open_file(name)? else { return Ok(None) };
        check_private(&file, &path, 0o600)?;
        // Room for all of it at once, so that growth leaves no copy behind.
        let mut bytes = Zeroizing::new(vec![0; SECRET_MAX]);
        let mut len = 0;
        while let Some(room) = bytes.get_mut(len..).filter(|room| !room.is_empty()) {
            match file.read(room).map_err(|e| failed("read", &path, e))? {
                0 => break,
                n => len += n,
            }
        }
        bytes.truncate(len);
        Ok(Some(bytes))
    }

    fn open_file(&self, name: &str) -> Result<Option<std::fs::File>, HomeError> {
        let path = self.path.join(name);
        match self.dir.open_file(&own_name(name)) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                Some(rustix::io::Errno::LOOP) => {
                    let fix = format!("put the real file in the place of {}", path.display());
                    Err(HomeError::Unsafe { path, why: "is a link", fix })
                }
                _ => Err(failed("open", &path, e)),
            },
        }
    }

    /// Puts `bytes` in the place of the file `name`, mode 0600: after a crash it is whole, the old or the new.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        let path = self.path.join(name);
        let (name, temporary) = (own_name(name), own_name(&format!("{name}.tmp")));
        let put = || {
            match self.dir.remove_file(&temporary) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = self.dir.create_file(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            self.dir.rename(&temporary, &self.dir, &name, RenameFlags::empty())?;
            self.dir.flush()
        };
        put().map_err(|e| failed("write", &path, e))
    }
}

/// Refuses what another user owns, or may use in any of the ways that `mode` does not grant.
fn check_private(fd: &impl AsFd, path: &Path, mode: u32) -> Result<(), HomeError> {
    let stat = fs::fstat(fd).map_err(|e| failed("look at", path, e.into()))?;
    let refuse = |why, fix| Err(HomeError::Unsafe { path: path.to_path_buf(), why, fix });
    if stat.st_uid != rustix::process::geteuid().as_raw() && stat.st_uid != 0 {
        return refuse("belongs to another user", format!("run as its owner, or: chown -R $USER {}", path.display()));
    }
    if stat.st_mode & 0o077 != 0 {
        let why = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => "can be entered by other users",
            _ => "can be read by other users",
        };
        return refuse(why, format!("chmod {mode:o} {}", path.display()));
    }
    Ok(())
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> HomeError {
    HomeError::Io { action, path: path.to_path_buf(), source }
}

fn own_name(name: &str) -> Name {
    Name::new(name.as_bytes()).expect("names in a home are constants of this crate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_just_starting_keeps_no_lock() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::create(place.path()).unwrap();
        let lock = home.lock().unwrap();
        // What a fork holds until its exec.
        let copy = lock.file.try_clone().unwrap();
        drop(lock);
        home.lock().unwrap();
        drop(copy);
    }
}
