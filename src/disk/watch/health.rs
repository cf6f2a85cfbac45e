//! Whether a watch sees everything, and what mends it if not.

use std::io;
use std::path::Path;

use crate::tree::name::TreePath;

/// Whether changes are seen at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// They are.
    Watching {
        /// Directories that are watched.
        directories: u64,
    },
    /// Not all of them: the tree must be looked at from time to time.
    Degraded {
        /// Why not.
        why: String,
        /// What mends it.
        fix: String,
    },
}

/// Why a watch did not start.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The directory cannot be opened.
    #[error("cannot open the directory that is to be watched")]
    Top(#[source] io::Error),
    /// The system gives no means to watch anything, or no thread.
    #[error("the system lets nothing be watched")]
    Refused(#[source] io::Error),
}

impl WatchError {
    /// What mends it.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::Top(_) => "check the path, and that it can be read".to_owned(),
            Self::Refused(_) => format!(
                "{}; or raise the number of open files that mirra may have (ulimit -n)",
                raise("max_user_instances", 1_024)
            ),
        }
    }
}

/// Names of directories that are not watched, at most.
const UNWATCHED_MAX: usize = 1_024;

/// What is wrong with a watch.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// The watch has ended by itself: why, and what mends it.
    pub(super) ended: Option<(String, String)>,
    /// Signs were lost, and not everything is watched again yet.
    pub(super) behind: bool,
    /// The system gives no more watches.
    pub(super) full: bool,
    /// A filesystem that other machines change: its name, and where it begins.
    pub(super) remote: Option<(&'static str, TreePath)>,
    /// Directories that cannot be watched, by their own fault; the first of them.
    unwatched: Vec<TreePath>,
    why_unwatched: Option<String>,
}

impl Troubles {
    /// Signs were lost.
    pub(super) fn behind() -> Self {
        Self { behind: true, ..Self::default() }
    }

    /// Notes that `path` cannot be watched.
    pub(super) fn note(&mut self, path: &TreePath, error: &io::Error) {
        if self.unwatched.len() < UNWATCHED_MAX && !self.unwatched.contains(path) {
            self.unwatched.push(path.clone());
        }
        self.why_unwatched.get_or_insert_with(|| format!("\"{path}\" cannot be watched: {error}"));
    }

    /// Whether `path` was noted.
    pub(super) fn has(&self, path: &TreePath) -> bool {
        self.unwatched.contains(path)
    }

    /// What was noted of `path` and everything below it no longer counts.
    pub(super) fn forget(&mut self, path: &TreePath) {
        self.unwatched.retain(|unwatched| !unwatched.is_within(path));
        if self.unwatched.is_empty() {
            self.why_unwatched = None;
        }
    }

    /// All of it as one: what weighs most.
    pub(super) fn health(&self, directories: u64) -> Health {
        let (why, fix) = if let Some((why, fix)) = &self.ended {
            (why.clone(), fix.clone())
        } else if self.full {
            let why = format!("no more than {directories} directories can be watched");
            (why, raise("max_user_watches", directories.saturating_mul(2).max(524_288)))
        } else if self.behind {
            ("changes came faster than they could be taken; all is looked at again".to_owned(), slower())
        } else if let Some(why) = &self.why_unwatched {
            (why.clone(), "let mirra read it, or leave it out with exclude".to_owned())
        } else if let Some((name, place)) = &self.remote {
            let place = if place.is_top() { "the module".to_owned() } else { format!("\"{place}\"") };
            let why = format!("{place} is on {name}: what other machines change there is not seen at once");
            (why, "run mirra on the machine that holds the files, or run mirra publish after changes".to_owned())
        } else {
            return Health::Watching { directories };
        };
        Health::Degraded { why, fix }
    }
}

/// What helps when the system's queue of events overflows.
pub(super) fn slower() -> String {
    raise("max_queued_events", 65_536)
}

/// The line that raises a limit of inotify to `least`, or to twice what it is.
fn raise(limit: &str, least: u64) -> String {
    let value = current(limit).map_or(least, |value| value.saturating_mul(2).max(least));
    format!("sudo sysctl -w fs.inotify.{limit}={value} (in a file below /etc/sysctl.d it stays so)")
}

#[expect(clippy::disallowed_methods, reason = "a constant path of the system")]
fn current(limit: &str) -> Option<u64> {
    std::fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(limit)).ok()?.trim().parse().ok()
}

/// Names of filesystems that other machines change, by the numbers that `statfs(2)` gives.
const REMOTE: [(u64, &str); 13] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x786f_4256, "a folder of the machine's host"),
];

/// The name of a filesystem that other machines change; `None` for all others.
pub(super) fn remote_name(kind: u64) -> Option<&'static str> {
    // The type of the field has a sign on some machines, and extends numbers with it.
    REMOTE.iter().find(|(number, _)| *number == kind & 0xffff_ffff).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    fn shown(troubles: &Troubles) -> String {
        match troubles.health(7) {
            Health::Watching { directories } => directories.to_string(),
            Health::Degraded { why, fix } => format!("{why} / {fix}"),
        }
    }

    #[test]
    fn each_trouble_comes_with_what_mends_it() {
        let mut troubles = Troubles::default();
        assert_eq!(shown(&troubles), "7");
        troubles.remote = remote_name(0x6969).map(|name| (name, path("a")));
        assert!(shown(&troubles).starts_with("\"a\" is on NFS: "));
        troubles.note(&path("b/c"), &io::ErrorKind::PermissionDenied.into());
        assert!(troubles.has(&path("b/c")) && shown(&troubles).contains("\"b/c\" cannot be watched"));
        troubles.behind = true;
        assert!(shown(&troubles).contains("sysctl -w fs.inotify.max_queued_events="));
        troubles.full = true;
        assert!(shown(&troubles).contains("sysctl -w fs.inotify.max_user_watches="));
        troubles.ended = Some(("gone".into(), "back".into()));
        assert_eq!(shown(&troubles), "gone / back");
        troubles.forget(&path("b"));
        assert!(!troubles.has(&path("b/c")) && troubles.why_unwatched.is_none());
        assert!(WatchError::Refused(io::ErrorKind::Other.into()).fix().contains("max_user_instances="));
    }

    #[test]
    fn unwatched_directories_are_bounded() {
        let mut troubles = Troubles::default();
        for n in 0..UNWATCHED_MAX + 9 {
            troubles.note(&path(&n.to_string()), &io::ErrorKind::Other.into());
        }
        assert_eq!(troubles.unwatched.len(), UNWATCHED_MAX);
    }

    #[test]
    fn numbers_of_filesystems_survive_a_sign() {
        assert_eq!(remote_name(0xff53_4d42), Some("CIFS"));
        assert_eq!(remote_name(0xffff_ffff_ff53_4d42), Some("CIFS"));
        assert_eq!(remote_name(0xef53), None);
    }
}
