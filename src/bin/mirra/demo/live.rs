//! Live edits of the root's tree, and when each one can be seen behind it: byte by byte, with its time, read from the
//! trees themselves.
#![allow(clippy::disallowed_methods, reason = "all trees lie in the private directory of the demonstration")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mirra::{Exit, Failure, Stop};

use super::compare;

/// How often the trees are looked at.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// How long an edit may take to be seen everywhere.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files of the edit that makes many.
const MANY: u32 = 100;

/// What happens to the tree while everything runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edit {
    New,
    Append,
    Replace,
    Large,
    Many,
    Rename,
    Delete,
}

impl Edit {
    pub(super) const ALL: [Self; 7] =
        [Self::New, Self::Append, Self::Replace, Self::Large, Self::Many, Self::Rename, Self::Delete];

    /// What it is, in words.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::New => "a new file of 1 KiB",
            Self::Append => "a line appended to it",
            Self::Replace => "it is replaced, by rename",
            Self::Large => "a new file of 1 MiB",
            Self::Many => "a directory of 100 files",
            Self::Rename => "that directory is renamed",
            Self::Delete => "and deleted",
        }
    }

    /// Does it in `dir`.
    pub(super) fn apply(self, dir: &Path) -> io::Result<()> {
        let (note, many, moved) = (dir.join("note"), dir.join("many"), dir.join("moved"));
        match self {
            Self::New => fs::write(note, "a line of text\n".repeat(68)),
            Self::Append => OpenOptions::new().append(true).open(note)?.write_all(b"one more line\n"),
            Self::Replace => {
                let new = dir.join("note.new");
                fs::write(&new, "another text\n".repeat(80))?;
                fs::rename(new, note)
            }
            Self::Large => {
                let mut noise = vec![0; 1024 * 1024];
                blake3::Hasher::new().update(b"live").finalize_xof().fill(&mut noise);
                fs::write(dir.join("large"), noise)
            }
            Self::Many => {
                fs::create_dir(&many)?;
                (0..MANY).try_for_each(|i| File::create(many.join(format!("{i}")))?.write_all(i.to_string().as_bytes()))
            }
            Self::Rename => fs::rename(many, moved),
            Self::Delete => fs::remove_dir_all(moved),
        }
    }
}

/// Waits until `theirs` are all as `ours`, and gives the time that each took from `begun` on.
///
/// # Errors
/// [`Failure`] when that takes too long, or the operator wants to stop.
pub(super) fn visible(ours: &Path, theirs: &[PathBuf], begun: Instant, stop: &Stop) -> Result<Vec<Duration>, Failure> {
    let mut times = vec![None; theirs.len()];
    loop {
        for (time, theirs) in times.iter_mut().zip(theirs) {
            if time.is_none() && same(ours, theirs, stop) {
                *time = Some(begun.elapsed());
            }
        }
        if let Some(times) = times.iter().copied().collect() {
            return Ok(times);
        }
        if begun.elapsed() > PATIENCE {
            let last = times.iter().position(Option::is_none).and_then(|at| theirs.get(at));
            let place = last.map(|path| path.display().to_string()).unwrap_or_default();
            let why = format!("{place} is not as the root's after {} s", PATIENCE.as_secs());
            return Err(Failure::new(Exit::Other, "an edit was not seen in time", why, "mirra demo again, with -vv"));
        }
        if stop.wait(TICK) {
            return Err(Failure::interrupted());
        }
    }
}

/// Whether both trees are equal now; what is changed while it is read is not.
fn same(ours: &Path, theirs: &Path, stop: &Stop) -> bool {
    let there = |path: &Path| fs::symlink_metadata(path).is_ok();
    match (there(ours), there(theirs)) {
        (true, true) => matches!(compare::difference(ours, theirs, stop), Ok(None)),
        (ours, theirs) => ours == theirs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_changes_what_is_seen() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, theirs, stop) = (ours.path().join("live"), theirs.path().join("live"), Stop::new());
        assert!(same(&ours, &theirs, &stop));
        fs::create_dir(&ours).unwrap();
        assert!(!same(&ours, &theirs, &stop));
        for edit in Edit::ALL {
            drop(fs::remove_dir_all(&theirs));
            let status = std::process::Command::new("cp").arg("-a").arg(&ours).arg(&theirs).status().unwrap();
            assert!(status.success());
            let times = visible(&ours, std::slice::from_ref(&theirs), Instant::now(), &stop).unwrap();
            assert_eq!(times.len(), 1);
            edit.apply(&ours).unwrap();
            assert!(!same(&ours, &theirs, &stop), "{}", edit.what());
        }
        stop.request();
        let stopped = visible(&ours, &[theirs], Instant::now(), &stop).unwrap_err();
        assert_eq!(stopped.exit, Exit::Interrupted);
    }
}
