//! Mount points that come and go at a watched tree, above or below it: of these no event of a directory tells.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, write};

use super::signs::Inbox;

/// Where the kernel lists what is mounted; the list is exceptional, for `poll(2)`, when it has changed.
const LIST: &str = "/proc/self/mountinfo";
/// Bytes of the list that are looked at.
const LIST_MAX: u64 = 16 * 1024 * 1024;

/// A thread that waits for mounts, until this is dropped.
#[derive(Debug)]
pub(super) struct Mounts {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Mounts {
    /// Notes in `inbox` each time that what is mounted around `top` changes.
    ///
    /// # Errors
    /// As `open(2)`, `eventfd(2)`, or when there is no thread.
    #[expect(clippy::disallowed_methods, reason = "a constant path of the system, and the operator's own path")]
    pub(super) fn start(top: &Path, inbox: Arc<Inbox>) -> io::Result<Self> {
        let top = std::fs::canonicalize(top)?;
        let list = File::open(LIST)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let known = around(&list, &top)?;
        let stopped = Arc::clone(&stop);
        let work = move || {
            if let Err(error) = wait(&stopped, &list, &top, known, &inbox) {
                tracing::warn!(%error, "mounts are no longer watched");
            }
        };
        Ok(Self { stop, thread: Some(Builder::new().name("mounts".into()).spawn(work)?) })
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        // The first write to a counter has room.
        let _ = write(&*self.stop, &1u64.to_ne_bytes());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn wait(stop: &OwnedFd, list: &File, top: &Path, mut known: Vec<Vec<u8>>, inbox: &Inbox) -> io::Result<()> {
    loop {
        let mut both = [PollFd::new(stop, PollFlags::IN), PollFd::new(list, PollFlags::PRI)];
        match poll(&mut both, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let [stop, _] = &both;
        if !stop.revents().is_empty() {
            return Ok(());
        }
        let now = around(list, top)?;
        if now != known {
            known = now;
            inbox.note_mounts();
        }
    }
}

/// The lines of the list that are about `top`, what lies above it and what lies below.
fn around(mut list: &File, top: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut text = Vec::new();
    list.rewind()?;
    list.take(LIST_MAX).read_to_end(&mut text)?;
    let is_around = |line: &&[u8]| point(line).is_some_and(|point| point.starts_with(top) || top.starts_with(&point));
    Ok(text.split(|byte| *byte == b'\n').filter(is_around).map(<[u8]>::to_vec).collect())
}

/// The mount point of a line: the fifth of its words, in which `\` and three octal digits stand for a byte.
fn point(line: &[u8]) -> Option<PathBuf> {
    let mut rest = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                ((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'), tail)
            }
            _ => (*first, tail),
        };
        path.push(byte);
        rest = tail;
    }
    Some(OsString::from_vec(path).into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_what_is_around_the_top_counts() {
        let mut list = tempfile::tempfile().unwrap();
        let line = |point: &str| format!("29 1 254:0 / {point} rw,noatime - ext4 /dev/vda rw\n");
        let points = ["/", "/srv", r"/srv/my\040pub", r"/srv/my\040pub/a\134b", "/srv/my", "/home"];
        list.write_all(points.map(line).concat().as_bytes()).unwrap();
        let found = around(&list, Path::new("/srv/my pub")).unwrap();
        let found: Vec<_> = found.iter().map(|line| point(line).unwrap()).collect();
        let wanted = ["/", "/srv", "/srv/my pub", r"/srv/my pub/a\b"];
        assert_eq!(found, wanted.map(PathBuf::from));
    }

    #[test]
    fn it_ends_when_it_is_dropped() {
        drop(Mounts::start(tempfile::tempdir().unwrap().path(), Arc::default()).unwrap());
    }
}
