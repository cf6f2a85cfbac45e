//! Whether two trees are equal, as naively as possible: nothing of mirra is used to judge mirra.
#![allow(clippy::disallowed_methods, reason = "the trees lie in a private directory of the demonstration")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use mirra::{Failure, Stop};

/// Bytes that are compared at once.
const PIECE: usize = 256 * 1024;
/// The state of a mirra beside a tree; never part of a module.
const STATE: &str = ".mirra";

/// The first difference between two trees, in words; `None` when they are equal.
pub(super) fn difference(ours: &Path, theirs: &Path, stop: &Stop) -> Result<Option<String>, Failure> {
    let mut todo = vec![(ours.to_path_buf(), theirs.to_path_buf())];
    while let Some((a, b)) = todo.pop() {
        if stop.requested() {
            return Err(Failure::interrupted());
        }
        let failed = |e: io::Error| Failure::local(format!("cannot compare {}", a.display()), &e);
        let (left, right) = (fs::symlink_metadata(&a).map_err(failed)?, fs::symlink_metadata(&b).map_err(failed)?);
        let found = match meta(&left, &right) {
            Some(word) => Some(word),
            None if left.is_symlink() => {
                let equal = fs::read_link(&a).map_err(failed)? == fs::read_link(&b).map_err(failed)?;
                (!equal).then_some("target")
            }
            None if left.is_file() => (!same_content(&a, &b).map_err(failed)?).then_some("content"),
            None => {
                let (names, others) = (names(&a).map_err(failed)?, names(&b).map_err(failed)?);
                if names.keys().ne(others.keys()) {
                    Some("names in it")
                } else {
                    todo.extend(names.into_values().zip(others.into_values()));
                    None
                }
            }
        };
        if let Some(word) = found {
            return Ok(Some(format!("{} and {} differ: {word}", a.display(), b.display())));
        }
    }
    Ok(None)
}

fn meta(left: &Metadata, right: &Metadata) -> Option<&'static str> {
    if left.file_type() != right.file_type() {
        return Some("kind");
    }
    // A link has no mode of its own on Linux.
    if !left.is_symlink() && (left.permissions().mode() ^ right.permissions().mode()) & 0o777 != 0 {
        return Some("mode");
    }
    let time = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec());
    (time(left) != time(right)).then_some("time")
}

fn names(dir: &Path) -> io::Result<BTreeMap<OsString, std::path::PathBuf>> {
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() != STATE {
            names.insert(entry.file_name(), entry.path());
        }
    }
    Ok(names)
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    loop {
        left.clear();
        right.clear();
        a.by_ref().take(PIECE as u64).read_to_end(&mut left)?;
        b.by_ref().take(PIECE as u64).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}
