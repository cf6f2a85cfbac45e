//! The thread of a watch: it keeps every directory watched, and tells what the signs mean.
//!
//! A directory is watched before it is listed: what comes into it while it is listed is found, or gives a sign.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::fstatfs;
use rustix::io::Errno;

use super::Hint;
use super::health::{Health, Troubles, remote_name, slower};
use super::notices::{Notices, Refusal};
use super::signs::{Inbox, Letter, Sign, Signs, path_on_disk};
use crate::disk::dir::{Dir, Found, Look};
use crate::disk::exclude::Exclude;
use crate::disk::fault::is;
use crate::tree::name::TreePath;

/// Keeps a tree watched.
pub(super) struct Keeper<N, T> {
    top: PathBuf,
    exclude: Exclude,
    inbox: Arc<Inbox>,
    health: Arc<Mutex<Health>>,
    notices: N,
    tell: T,
    watched: BTreeSet<TreePath>,
    troubles: Troubles,
    /// Device and inode of the top when the watch began.
    identity: Option<(u64, u64)>,
}

impl<N: Notices, T: FnMut(Hint)> Keeper<N, T> {
    pub(super) fn new(
        top: PathBuf,
        exclude: Exclude,
        inbox: Arc<Inbox>,
        health: Arc<Mutex<Health>>,
        notices: N,
        tell: T,
    ) -> Self {
        let (watched, troubles) = (BTreeSet::new(), Troubles::default());
        Self { top, exclude, inbox, health, notices, tell, watched, troubles, identity: None }
    }

    /// Works until the inbox is stopped, or the top is gone.
    pub(super) fn run(mut self) {
        // Should `tell` panic, nobody is left to see anything.
        let on_panic = DegradeOnPanic(Arc::clone(&self.health));
        self.identity = self.look_top();
        self.survey();
        while self.troubles.ended.is_none() {
            match self.inbox.next() {
                Letter::Signs(signs) => self.take(&signs),
                Letter::Lost => {
                    tracing::warn!(top = %self.top.display(), fix = slower(), "events of changes were lost");
                    self.renew(Troubles::behind());
                }
                Letter::GivenUp => self.renew(Troubles::default()),
                Letter::Mounts if self.identity.is_some() && self.look_top() == self.identity => {
                    self.renew(Troubles::default());
                }
                Letter::Mounts => self.end("the directory was unmounted or replaced"),
                Letter::Stop => break,
            }
            self.show_health();
        }
        drop(on_panic);
    }

    /// Watches everything, then asks for a look at everything.
    fn survey(&mut self) {
        self.plant(&TreePath::top());
        if !self.watched.contains(&TreePath::top()) && !self.inbox.is_stopped() && !self.troubles.full {
            return self.end("the directory is not there, or cannot be watched");
        }
        self.troubles.behind = false;
        self.show_health();
        self.say(Hint::All);
    }

    /// Begins anew: who does not know what was lost does not know which directory a watch is of.
    fn renew(&mut self, troubles: Troubles) {
        self.watched.clear();
        self.troubles = troubles;
        self.show_health();
        match self.notices.renew() {
            Ok(()) => self.survey(),
            Err(error) => self.end(&format!("the system lets nothing be watched any more: {error}")),
        }
    }

    fn end(&mut self, why: &str) {
        let fix = "put the directory back in its place; it is watched again after the next look at all of it";
        self.troubles.ended = Some((why.to_owned(), fix.to_owned()));
        self.show_health();
        self.say(Hint::All);
    }

    fn take(&mut self, signs: &BTreeMap<TreePath, Signs>) {
        if signs.get(&TreePath::top()).is_some_and(|signs| signs.gone) {
            return self.end("the directory was moved or removed");
        }
        // First all that went: what came may be the same directory under its new name.
        signs.iter().filter(|(_, signs)| signs.gone).for_each(|(path, _)| self.forget(path));
        let mut planted: Option<TreePath> = None;
        for (path, signs) in signs {
            if self.inbox.is_stopped() {
                return;
            }
            let covered = planted.as_ref().is_some_and(|planted| path.is_within(planted));
            let came = signs.arrived || signs.last == Sign::Made;
            let look = if came { self.look(path) } else { None };
            let is_new = signs.arrived && !covered && look.is_some_and(|look| look.found == Found::Directory);
            // A directory that could not be watched, and was perhaps made readable.
            if is_new || (!covered && self.troubles.has(path)) {
                self.plant(path);
                planted = Some(path.clone());
                self.say(Hint::Deep(path.clone()));
                continue;
            }
            self.say(match signs.last {
                Sign::Written => Hint::Writing(path.clone()),
                Sign::Touched => Hint::Touched(path.clone()),
                // A second name of a file, a link or a device comes whole; a file is opened first and filled then.
                Sign::Made if look.is_some_and(|look| look.found == Found::File && look.links < 2) => {
                    Hint::Writing(path.clone())
                }
                _ => Hint::Ready(path.clone()),
            });
        }
    }

    /// Watches the directory at `start` and everything below it that is not left out.
    fn plant(&mut self, start: &TreePath) {
        self.troubles.forget(start);
        let Ok(top) = Dir::open_operator(&self.top) else { return };
        let mut found = vec![start.clone()];
        while let Some(path) = found.pop() {
            if self.inbox.is_stopped() || self.troubles.full {
                return;
            }
            if let Err(error) = self.plant_one(&top, &path, &mut found) {
                self.troubles.note(&path, &error);
            }
        }
    }

    /// Watches one directory, and finds those in it.
    fn plant_one(&mut self, top: &Dir, path: &TreePath, found: &mut Vec<TreePath>) -> io::Result<()> {
        let on_disk = path_on_disk(&self.top, path);
        match self.notices.watch(&on_disk) {
            Ok(()) => {}
            Err(Refusal::Gone) => return Ok(()),
            Err(Refusal::GivenUp) => {
                found.clear();
                return Ok(());
            }
            Err(Refusal::Failed(error)) => return Err(error),
            Err(Refusal::Full) => {
                self.troubles.full = true;
                return Ok(());
            }
        }
        let dir = match top.open_dir(path) {
            Ok(dir) => dir,
            Err(error) => {
                // Gone again, or a link in its place, which is not to be followed.
                self.notices.unwatch(&on_disk);
                let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].into_iter().any(|errno| is(&error, errno));
                return if gone { Ok(()) } else { Err(error) };
            }
        };
        self.watched.insert(path.clone());
        self.inbox.set_watched(self.watched.len());
        if self.troubles.remote.is_none() {
            self.troubles.remote = remote_name(filesystem(&dir)?).map(|name| (name, path.clone()));
        }
        let mut names = dir.read_dirs()?;
        names.retain(|name| !self.exclude.leaves_out(path, name, true));
        found.extend(names.iter().map(|name| path.join(name)));
        Ok(())
    }

    /// Watches nothing at `path` and below it any longer.
    fn forget(&mut self, path: &TreePath) {
        self.troubles.forget(path);
        let below = self.watched.range(path..).take_while(|watched| watched.is_within(path));
        for gone in below.cloned().collect::<Vec<_>>() {
            self.notices.forget(&path_on_disk(&self.top, &gone));
            self.watched.remove(&gone);
        }
        self.inbox.set_watched(self.watched.len());
    }

    fn look(&self, path: &TreePath) -> Option<Look> {
        let (dir, name) = Dir::open_operator(&self.top).ok()?.open_parent(path).ok()??;
        let look = dir.look(&name).ok()??;
        let place = path.split_last()?.0;
        let is_directory = look.found == Found::Directory;
        (!is_directory || !self.exclude.leaves_out(&place, &name, true)).then_some(look)
    }

    fn look_top(&self) -> Option<(u64, u64)> {
        let key = Dir::open_operator(&self.top).ok()?.look_self().ok()?.key;
        Some((key.device, key.inode))
    }

    fn say(&mut self, hint: Hint) {
        if !self.inbox.is_stopped() {
            (self.tell)(hint);
        }
    }

    fn show_health(&self) {
        let health = self.troubles.health(self.watched.len() as u64);
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}

/// The number of the filesystem that a directory is on.
fn filesystem(dir: &Dir) -> io::Result<u64> {
    Ok(fstatfs(dir)?.f_type as u64)
}

struct DegradeOnPanic(Arc<Mutex<Health>>);

impl Drop for DegradeOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (why, fix) = ("the watch ended by a mistake of its own".to_owned(), "restart mirra".to_owned());
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Health::Degraded { why, fix };
        }
    }
}
