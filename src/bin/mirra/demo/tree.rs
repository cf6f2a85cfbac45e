//! The tree of a demonstration: a copy, or one made for it; and what happens to it.
#![allow(clippy::disallowed_methods, reason = "it reads what the operator named and writes into a private directory")]

use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use mirra::{Exit, Failure, Stop};

/// Bytes of the one large file.
pub(super) const LARGE: u64 = 100_000_000;
/// Directories of the made tree, directories in each, and files in each of those.
const OUTER: u64 = 16;
const INNER: u64 = 8;
const FILES: u64 = 40;
/// Every so many files one is packed data; the others are text.
const PACKED_EACH: u64 = 10;
/// Edits in the large file, and bytes of each.
const EDITS: u64 = 20;
const EDIT: &[u8] = b"[edited here]";
/// Time of the first file, so that the tree is the same each time: 2024-01-01.
const EPOCH: Duration = Duration::from_secs(1_704_067_200);

/// What is in the tree, and what the changes will happen to.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) bytes: u64,
    /// The largest file.
    large: Option<(PathBuf, u64)>,
    /// A directory that is renamed.
    moved: Option<PathBuf>,
    /// A file or a directory that is deleted.
    deleted: Option<PathBuf>,
}

impl Made {
    fn count(&mut self, path: &Path, size: u64) {
        self.files += 1;
        self.bytes += size;
        if self.large.as_ref().is_none_or(|(_, largest)| size > *largest) {
            self.large = Some((path.to_path_buf(), size));
        }
    }
}

/// Makes a tree with one file of `large` bytes at `to`, the same each time.
pub(super) fn make(to: &Path, large: u64, stop: &Stop) -> Result<Made, Failure> {
    let mut made =
        Made { moved: Some("section-03".into()), deleted: Some("section-05/part-2".into()), ..Made::default() };
    let failed = |e: io::Error| Failure::local(format!("cannot make {}", to.display()), &e);
    for outer in 0..OUTER {
        made.directories += 1;
        for inner in 0..INNER {
            made.directories += 1;
            let at = PathBuf::from(format!("section-{outer:02}/part-{inner}"));
            fs::create_dir_all(to.join(&at)).map_err(failed)?;
            if stop.requested() {
                return Err(Failure::interrupted());
            }
            for file in 0..FILES {
                let number = (outer * INNER + inner) * FILES + file;
                let packed = number.is_multiple_of(PACKED_EACH);
                // Many small files and a few of some hundred KiB, as in most trees.
                let size = 500 + number * number % 9_001 + if number % 97 == 1 { 300_000 } else { 0 };
                let path = at.join(format!(
                    "{}-{file:02}.{}",
                    WORDS[(number % 32) as usize],
                    if packed { "gz" } else { "txt" }
                ));
                write(&to.join(&path), number, size, packed, stop).map_err(failed)?;
                made.count(&path, size);
            }
            let link = format!("../part-{}", (inner + 1) % INNER);
            symlink(link, to.join(&at).join("next")).map_err(failed)?;
        }
    }
    let path = PathBuf::from("archive.txt");
    write(&to.join(&path), u64::MAX, large, false, stop).map_err(failed)?;
    made.count(&path, large);
    if stop.requested() { Err(Failure::interrupted()) } else { Ok(made) }
}

/// Writes one file; a wish to stop cuts it short.
fn write(path: &Path, number: u64, size: u64, packed: bool, stop: &Stop) -> io::Result<()> {
    let file = File::create(path)?;
    let mut to = BufWriter::with_capacity(256 * 1024, file);
    let mut noise = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    let (mut left, mut dice, mut piece) = (size, vec![0; 16 * 1024], Vec::new());
    while left > 0 && !stop.requested() {
        noise.fill(&mut dice);
        piece.clear();
        if packed {
            piece.extend_from_slice(&dice);
        } else {
            for pair in dice.chunks_exact(2) {
                piece.extend_from_slice(WORDS[usize::from(pair[0] % 32)].as_bytes());
                piece.push(if pair[1] < 20 { b'\n' } else { b' ' });
            }
        }
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        to.write_all(&piece)?;
        left -= piece.len() as u64;
    }
    let file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.set_permissions(Permissions::from_mode(if number.is_multiple_of(7) { 0o755 } else { 0o644 }))?;
    let time = EPOCH + Duration::new(number % 10_000_000, (number % 1_000_000_000) as u32);
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + time))
}

/// Copies the tree at `from` to `to`, which lies in `place`.
pub(super) fn copy(from: &Path, place: &Path, to: &Path, stop: &Stop) -> Result<Made, Failure> {
    if !from.is_dir() {
        let what = format!("cannot use {}", from.display());
        return Err(Failure::new(Exit::LocalFile, what, "there is no such directory", "check how it is spelled"));
    }
    fs::create_dir_all(to).map_err(|e| Failure::local(format!("cannot make {}", to.display()), &e))?;
    let mut made = Made::default();
    let mut room = room(place)?;
    let mut todo = vec![PathBuf::new()];
    let mut directories = Vec::new();
    let mut small = None;
    while let Some(at) = todo.pop() {
        let failed = |e: io::Error| Failure::local(format!("cannot copy {}", from.join(&at).display()), &e);
        let mut names: Vec<_> =
            fs::read_dir(from.join(&at)).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            if stop.requested() {
                return Err(Failure::interrupted());
            }
            let path = at.join(entry.file_name());
            let failed = |e: io::Error| Failure::local(format!("cannot copy {}", from.join(&path).display()), &e);
            let (meta, target) = (entry.metadata().map_err(failed)?, to.join(&path));
            if entry.file_name() == ".mirra" {
                continue;
            }
            if meta.is_dir() {
                fs::create_dir(&target).map_err(failed)?;
                made.directories += 1;
                // The first at the top is renamed.
                if made.moved.is_none() {
                    made.moved = Some(path.clone());
                }
                directories.push((target, meta));
                todo.push(path);
            } else if meta.is_symlink() {
                symlink(fs::read_link(entry.path()).map_err(failed)?, &target).map_err(failed)?;
            } else if meta.is_file() {
                // Twice: the node will hold it as well.
                room = room.checked_sub(2 * meta.len()).ok_or_else(|| no_room(from, place))?;
                fs::copy(entry.path(), &target).map_err(failed)?;
                let file = File::options().read(true).open(&target).map_err(failed)?;
                // The steps edit what they find, also where its owner may not.
                file.set_permissions(Permissions::from_mode(meta.permissions().mode() & 0o777 | 0o600))
                    .map_err(failed)?;
                let time = meta.modified().map_err(failed)?;
                file.set_times(FileTimes::new().set_modified(time)).map_err(failed)?;
                made.count(&path, meta.len());
                if small.as_ref().is_none_or(|(_, smallest)| meta.len() < *smallest) {
                    small = Some((path, meta.len()));
                }
            }
        }
    }
    // Behind the files, whose making changes the times of their directories.
    for (target, meta) in directories.into_iter().rev() {
        let failed = |e: io::Error| Failure::local(format!("cannot copy to {}", target.display()), &e);
        let dir = File::open(&target).map_err(failed)?;
        dir.set_permissions(Permissions::from_mode(meta.permissions().mode() & 0o777 | 0o700)).map_err(failed)?;
        dir.set_times(FileTimes::new().set_modified(meta.modified().map_err(failed)?)).map_err(failed)?;
    }
    // A tree that loses its last file is what the guards of a root are for.
    made.deleted = small.map(|(path, _)| path).filter(|path| {
        let within = made.moved.as_ref().is_some_and(|moved| path.starts_with(moved));
        made.files > 2 && !within && made.large.as_ref().is_none_or(|(large, _)| large != path)
    });
    Ok(made)
}

/// Bytes that may be written in `place`.
fn room(place: &Path) -> Result<u64, Failure> {
    let stat = rustix::fs::statvfs(place);
    let stat = stat.map_err(|e| Failure::local(format!("cannot look at {}", place.display()), &e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn no_room(from: &Path, place: &Path) -> Failure {
    let why = format!("two copies of {} do not fit in {}", from.display(), place.display());
    Failure::new(Exit::NoSpace, "there is no room", why, "choose a smaller directory, or set TMPDIR to a larger place")
}

/// What happens to the tree, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Rename,
    Delete,
    Edit,
    New,
}

impl Change {
    pub(super) const ALL: [Self; 4] = [Self::Rename, Self::Delete, Self::Edit, Self::New];

    /// Does it in `tree` and says what was done; `None` if there is nothing that it can be done to.
    pub(super) fn apply(self, tree: &Path, made: &Made) -> Result<Option<String>, Failure> {
        self.try_apply(tree, made).map_err(|e| Failure::local(format!("cannot change {}", tree.display()), &e))
    }

    fn try_apply(self, tree: &Path, made: &Made) -> io::Result<Option<String>> {
        match self {
            Self::Rename => {
                let Some(moved) = &made.moved else { return Ok(None) };
                fs::rename(tree.join(moved), tree.join(renamed(moved)))?;
                Ok(Some("rename a directory".into()))
            }
            Self::Delete => {
                let Some(path) = made.deleted.as_ref().map(|path| tree.join(path)) else { return Ok(None) };
                if !path.is_dir() {
                    fs::remove_file(path)?;
                    return Ok(Some("delete a file".into()));
                }
                fs::remove_dir_all(path)?;
                Ok(Some("delete a directory".into()))
            }
            Self::Edit => {
                let Some((path, size)) = made.large.as_ref().filter(|(_, size)| *size > 0) else { return Ok(None) };
                let path = match &made.moved {
                    Some(moved) if path.starts_with(moved) => {
                        renamed(moved).join(path.strip_prefix(moved).unwrap_or(path))
                    }
                    _ => path.clone(),
                };
                let file = File::options().write(true).open(tree.join(path))?;
                let edits = (size / EDIT.len() as u64).clamp(1, EDITS);
                for edit in 0..edits {
                    file.write_all_at(EDIT, size / edits * edit)?;
                }
                let word = if edits == 1 { "edit" } else { "edits" };
                Ok(Some(format!("{edits} {word} in a file of {}", crate::words::bytes(*size))))
            }
            Self::New => {
                fs::write(tree.join("new.txt"), "A new small file.\n")?;
                Ok(Some("a new small file".into()))
            }
        }
    }
}

fn renamed(moved: &Path) -> PathBuf {
    let mut name = moved.as_os_str().to_owned();
    name.push("-renamed");
    name.into()
}

/// What text is made of: half a bit less than letters have.
const WORDS: [&str; 32] = [
    "mirror", "tree", "page", "chunk", "head", "root", "node", "peer", "entry", "snapshot", "signed", "state",
    "change", "whole", "again", "first", "second", "under", "between", "without", "release", "package", "archive",
    "index", "source", "build", "north", "river", "stone", "paper", "light", "a",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_made_tree_is_large_enough_and_the_same_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        let made = make(&a, 1_000_000, &Stop::new()).unwrap();
        assert_eq!((made.files, made.directories), (OUTER * INNER * FILES + 1, OUTER * (INNER + 1)));
        assert!(made.files > 5_000 && made.bytes > 30_000_000, "{made:?}");
        assert_eq!(made.large, Some(("archive.txt".into(), 1_000_000)));
        // The directories themselves are made when they are made.
        write(&b, u64::MAX, 1_000_000, false, &Stop::new()).unwrap();
        assert_eq!(super::super::compare::difference(&a.join("archive.txt"), &b, &Stop::new()).unwrap(), None);
        for change in Change::ALL {
            assert!(change.apply(&a, &made).unwrap().is_some(), "{change:?}");
        }
        assert!(a.join("section-03-renamed/part-0").is_dir() && !a.join("section-05/part-2").exists());
    }

    #[test]
    fn a_copy_is_equal_and_leaves_out_what_no_module_holds() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        fs::create_dir_all(a.join("d/.mirra")).unwrap();
        fs::write(a.join("d/f"), "text").unwrap();
        symlink("f", a.join("d/l")).unwrap();
        let made = copy(&a, dir.path(), &b, &Stop::new()).unwrap();
        assert_eq!((made.files, made.directories, made.bytes), (1, 1, 4));
        assert!(made.deleted.is_none() && !b.join("d/.mirra").exists());
        assert_eq!(fs::read(b.join("d/f")).unwrap(), b"text");
        assert_eq!(fs::read_link(b.join("d/l")).unwrap(), Path::new("f"));
        assert_eq!(
            fs::metadata(a.join("d")).unwrap().modified().unwrap(),
            fs::metadata(b.join("d")).unwrap().modified().unwrap()
        );
        for change in Change::ALL {
            assert_eq!(change.apply(&b, &made).unwrap().is_some(), !matches!(change, Change::Delete), "{change:?}");
        }
    }
}
