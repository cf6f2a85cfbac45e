//! A live tree that becomes another version as package tools do it: what changed is renamed in, the rest is untouched.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use mirra::Stop;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::Result;
use super::compare::difference;

/// The part of a mode that every tool is asked to keep.
const MODE: u32 = 0o777;

/// Makes `live` equal to `want`. New files are written as `aside`, on the same filesystem, and renamed to their places;
/// files and links that are right stay what they are.
///
/// # Errors
/// Those of the filesystem, and for what is neither a file nor a directory nor a link.
pub(crate) fn place(want: &Path, live: &Path, aside: &Path, stop: &Stop) -> Result<()> {
    let (wanted, there) = (entries(want)?, entries(live)?);
    for (name, meta) in &there {
        if wanted.get(name).is_none_or(|other| other.file_type() != meta.file_type()) {
            let path = live.join(name);
            if meta.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    for (name, meta) in &wanted {
        let (from, to) = (want.join(name), live.join(name));
        let is_there = there.get(name).is_some_and(|other| other.file_type() == meta.file_type());
        if meta.is_dir() {
            if !is_there {
                fs::create_dir(&to)?;
            }
            place(&from, &to, aside, stop)?;
        } else if !is_there || difference(&from, &to, stop)?.is_some() {
            write(&from, meta, aside)?;
            fs::rename(aside, &to)?;
        }
    }
    let (right, now) = (fs::symlink_metadata(want)?, fs::symlink_metadata(live)?);
    if (right.mode() ^ now.mode()) & MODE != 0 {
        fs::set_permissions(live, Permissions::from_mode(right.mode() & MODE))?;
    }
    if time_of(&right) != time_of(&now) {
        set_time(live, time_of(&right))?;
    }
    Ok(())
}

/// Seconds and nanoseconds of the last change.
fn time_of(meta: &Metadata) -> (i64, i64) {
    (meta.mtime(), meta.mtime_nsec())
}

/// Sets the time of the last change, of a link its own.
///
/// # Errors
/// Those of the filesystem.
pub(crate) fn set_time(path: &Path, (tv_sec, tv_nsec): (i64, i64)) -> io::Result<()> {
    let time = Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn entries(dir: &Path) -> io::Result<BTreeMap<OsString, Metadata>> {
    fs::read_dir(dir)?.map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?)))).collect()
}

/// Writes what stands at `from` as `to`, with its mode and time.
fn write(from: &Path, meta: &Metadata, to: &Path) -> Result<()> {
    if meta.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if meta.is_file() {
        fs::copy(from, to)?;
        fs::set_permissions(to, Permissions::from_mode(meta.mode() & MODE))?;
    } else {
        return Err(format!("{}: neither a file nor a directory nor a link, so not mirrored", from.display()).into());
    }
    Ok(set_time(to, time_of(meta))?)
}
