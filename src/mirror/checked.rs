//! A file that is read for others for a while, and stays what was read and hashed until the last byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::dir::{Dir, Look, StatKey, look_fd};
use crate::tree::hash::FileId;
use crate::tree::name::TreePath;

/// A file that was hashed as it stands there.
#[derive(Debug)]
pub struct Checked {
    file: File,
    id: FileId,
    /// Where it was opened.
    top: Arc<Dir>,
    path: TreePath,
    /// How it was when it was looked at last.
    seen: Mutex<Look>,
}

impl Checked {
    /// Opens the file at `path` below `top`, if it is by all that the system knows of a file the one with the content `id`
    /// and the key `stat`, and has `size` bytes.
    #[must_use]
    pub fn open(top: Arc<Dir>, path: &TreePath, stat: &StatKey, size: u64, id: FileId) -> Option<Self> {
        let file = top.open_file_at(path).ok()?;
        let look = look_fd(&file).ok()?;
        let checked = Self { file, id, top, path: path.clone(), seen: Mutex::new(look) };
        (look.key == *stat && look.key.size == size).then_some(checked)
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).key.size
    }

    /// Its content.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Reads `len` bytes from `at` on.
    ///
    /// # Errors
    /// As `pread(2)`; `InvalidData` when someone may have written to the file since it was opened.
    pub fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at)?;
        // Behind the read: a write before it shows in the times.
        let now = look_fd(&self.file)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now != *seen {
            if !self.is_unwritten(&seen, &now) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the file was written to meanwhile"));
            }
            *seen = now;
        }
        Ok(bytes)
    }

    /// Whether something else than a write has made `now` of `seen`. A rename, another name or another mode change `ctime` and
    /// no byte, and can be seen; a write whose mtime was set back changes `ctime` as well, and nothing else.
    fn is_unwritten(&self, seen: &Look, now: &Look) -> bool {
        let times_are_kept = StatKey { ctime: seen.key.ctime, ..now.key } == seen.key;
        times_are_kept && (now.links != seen.links || now.meta.mode != seen.meta.mode || !self.is_in_its_place(now))
    }

    fn is_in_its_place(&self, now: &Look) -> bool {
        let there = self.top.open_file_at(&self.path).and_then(look_fd);
        there.is_ok_and(|there| (there.key.device, there.key.inode) == (now.key.device, now.key.inode))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn open(place: &Path) -> Checked {
        let top = Arc::new(Dir::open_operator(place).unwrap());
        let path = TreePath::new(b"f").unwrap();
        let key = look_fd(top.open_file_at(&path).unwrap()).unwrap().key;
        Checked::open(top, &path, &key, 3, FileId::from_bytes([7; 32])).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// What a file reads as after something was done to it.
    fn after(does: impl Fn(&Path)) -> Option<Vec<u8>> {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("f");
        fs::write(&file, "old").unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(at(1_000)).unwrap();
        let checked = open(place.path());
        assert_eq!(checked.read(0, 3).unwrap(), b"old");
        does(&file);
        let first = checked.read(0, 3).ok();
        assert_eq!(first, checked.read(0, 3).ok());
        first
    }

    #[test]
    fn what_is_renamed_linked_removed_or_replaced_is_read_on() {
        use std::os::unix::fs::PermissionsExt;
        let old = Some(b"old".to_vec());
        assert_eq!(after(|file| fs::rename(file, file.with_extension("aside")).unwrap()), old);
        assert_eq!(after(|file| fs::hard_link(file, file.with_extension("link")).unwrap()), old);
        assert_eq!(after(|file| fs::remove_file(file).unwrap()), old);
        assert_eq!(after(|file| fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap()), old);
        let replaced = |file: &Path| {
            fs::write(file.with_extension("new"), "new").unwrap();
            fs::rename(file.with_extension("new"), file).unwrap();
        };
        assert_eq!(after(replaced), old);
        assert_eq!(after(|_| {}), old);
    }

    #[test]
    fn what_was_written_to_is_read_no_further_whatever_its_times_say() {
        assert_eq!(after(|file| fs::write(file, "new").unwrap()), None);
        let set_back = |file: &Path| {
            let mut file = File::options().write(true).open(file).unwrap();
            file.write_all(b"new").unwrap();
            file.set_modified(at(1_000)).unwrap();
        };
        assert_eq!(after(set_back), None);
    }
}
