//! What was replaced or removed, kept for a while: `grace/MODULE/<sequence>/<n>`; and what an adopted target held
//! beyond its snapshot, kept until the operator says otherwise: `adopted/MODULE/<sequence>/<path>`.
//!
//! Things come here by one rename each and leave by [`expire`]. Nothing here is followed, and nothing recursive runs:
//! a tree is removed by lifting its directories up, so that depth costs neither stack nor descriptors.

use std::io;
use std::time::Duration;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::dir::{Dir, Found, Look};
use super::fault::{Fault, is};
use super::stage::{Stage, own_name};
use crate::tree::entry::Meta;
use crate::tree::name::{HOME_NAME, Name, TreePath};

/// One directory of the grace, filled by one switch, and made when the first thing comes.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    grace: &'a Dir,
    sequence: Name,
    open: Option<Dir>,
    next: u64,
}

impl<'a> Batch<'a> {
    pub(super) fn new(grace: &'a Dir, sequence: u64) -> Self {
        Self { grace, sequence: own_name(&sequence.to_string()), open: None, next: 0 }
    }

    /// Moves `name` of `from` here, and gives its path below the module's grace.
    pub(super) fn take(&mut self, from: &Dir, name: &Name) -> io::Result<TreePath> {
        self.add(&|dir, kept| rename_new(from, name, dir, kept))
    }

    /// Gives the file `name` of `from` a second name here, where two names cannot be exchanged.
    pub(super) fn link(&mut self, from: &Dir, name: &Name) -> io::Result<TreePath> {
        self.add(&|dir, kept| from.hard_link(name, dir, kept))
    }

    fn add(&mut self, add: &dyn Fn(&Dir, &Name) -> io::Result<()>) -> io::Result<TreePath> {
        let dir = match self.open.take() {
            Some(dir) => dir,
            None => {
                let dir = self.grace.open_or_make(&self.sequence)?;
                // An earlier run may have begun the batch.
                self.next = dir.read_names()?.len() as u64;
                dir
            }
        };
        let dir = self.open.insert(dir);
        loop {
            let kept = own_name(&self.next.to_string());
            self.next += 1;
            match add(dir, &kept) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
                Ok(()) => return Ok(TreePath::top().join(&self.sequence).join(&kept)),
            }
        }
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        match &self.open {
            Some(dir) => dir.flush().and_then(|()| self.grace.flush()),
            None => Ok(()),
        }
    }
}

/// The directory for what an adopted target holds beyond its snapshot.
#[derive(Debug)]
pub(super) struct Adopted<'a> {
    adopted: &'a Dir,
    sequence: u64,
}

impl<'a> Adopted<'a> {
    pub(super) fn new(adopted: &'a Dir, sequence: u64) -> Self {
        Self { adopted, sequence }
    }

    /// Moves `name` of `from`, which stood at `path`, to the same path below the first batch where it is free, and
    /// gives its path below the module's directory of adopted things.
    pub(super) fn take(&self, from: &Dir, name: &Name, path: &TreePath) -> io::Result<TreePath> {
        let mut again = 0u64;
        loop {
            let batch = match again {
                0 => own_name(&self.sequence.to_string()),
                _ => own_name(&format!("{}.{again}", self.sequence)),
            };
            again += 1;
            let kept = TreePath::top().join(&batch);
            let moved = self.place(&kept, path).and_then(|(dir, last)| rename_new(from, name, &dir, &last));
            match moved {
                // The place, or a directory on the way to it, is taken by what was moved here before.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists || is(&e, Errno::NOTDIR) || is(&e, Errno::LOOP) => {}
                Err(e) => return Err(e),
                Ok(()) => return Ok(path.names().fold(kept, |at, part| at.join(&own(part)))),
            }
        }
    }

    fn place(&self, batch: &TreePath, path: &TreePath) -> io::Result<(Dir, Name)> {
        let (parent, name) = path.split_last().ok_or(io::ErrorKind::IsADirectory)?;
        let mut dir = self.adopted.try_clone()?;
        for part in batch.names().chain(parent.names()) {
            dir = dir.open_or_make(&own(part))?;
        }
        Ok((dir, name))
    }
}

fn own(part: &[u8]) -> Name {
    Name::new(part).expect("components of a checked path are names")
}

/// Renames to a name that is free.
///
/// # Errors
/// As `renameat2(2)`, `EEXIST` when the name is taken.
pub(super) fn rename_new(from: &Dir, name: &Name, to: &Dir, new: &Name) -> io::Result<()> {
    match from.rename(name, to, new, RenameFlags::NOREPLACE) {
        // Filesystems without the flag: the look can race with a local user, the rename cannot be torn.
        Err(e) if is(&e, Errno::INVAL) || is(&e, Errno::NOSYS) => match to.look(new)? {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => from.rename(name, to, new, RenameFlags::empty()),
        },
        other => other,
    }
}

/// What [`expire`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Batches, one for each switch.
    pub batches: u64,
    /// Bytes of the files in them.
    pub bytes: u64,
    /// Bytes of the files that are still kept.
    pub kept_bytes: u64,
}

/// Removes the batches of the grace that are older than `older_than` at `now` (since 1970), and of the rest the oldest
/// ones until at most `keep_bytes` of files are left.
///
/// # Errors
/// [`Fault`]; what was removed before stays removed, and the next call goes on.
pub fn expire(stage: &Stage, now: Duration, older_than: Duration, keep_bytes: u64) -> Result<Expired, Fault> {
    let limit = now.saturating_sub(older_than).as_secs();
    let mut expired = Expired::default();
    for (name, seconds) in newest_first(&stage.grace).map_err(Fault::at("list", &"the grace"))? {
        let bytes = tree_bytes(&stage.grace, &name).map_err(Fault::at("measure the grace", &name))?;
        if u64::try_from(seconds).unwrap_or(0) >= limit && expired.kept_bytes.saturating_add(bytes) <= keep_bytes {
            expired.kept_bytes += bytes;
            continue;
        }
        remove_tree(&stage.grace, &name).map_err(Fault::at("remove the grace", &name))?;
        expired.batches += 1;
        expired.bytes += bytes;
    }
    Ok(expired)
}

/// Removes all that was adopted.
///
/// # Errors
/// [`Fault`].
pub fn remove_adopted(stage: &Stage) -> Result<(), Fault> {
    let names = stage.adopted.read_names().map_err(Fault::at("list", &"what was adopted"))?;
    for name in names.iter().filter_map(|name| Name::new(name).ok()) {
        remove_tree(&stage.adopted, &name).map_err(Fault::at("remove what was adopted in", &name))?;
    }
    Ok(())
}

fn newest_first(grace: &Dir) -> io::Result<Vec<(Name, i64)>> {
    let mut batches = Vec::new();
    for name in grace.read_names()?.iter().filter_map(|name| Name::new(name).ok()) {
        if let Some(look) = grace.look(&name)? {
            batches.push((name, look.meta.mtime.seconds));
        }
    }
    batches.sort_by_key(|(_, seconds)| std::cmp::Reverse(*seconds));
    Ok(batches)
}

/// Bytes of the files in `name`; what cannot be looked into counts nothing.
fn tree_bytes(dir: &Dir, name: &Name) -> io::Result<u64> {
    let Some(look) = dir.look(name)? else { return Ok(0) };
    let mut bytes = if look.found == Found::File { look.key.size } else { 0 };
    let mut todo = if look.found == Found::Directory { vec![TreePath::top().join(name)] } else { Vec::new() };
    while let Some(path) = todo.pop() {
        let Ok(here) = dir.open_dir(&path) else { continue };
        for name in here.read_names()?.iter().filter_map(|name| Name::new(name).ok()) {
            match here.look(&name)? {
                Some(look) if look.found == Found::File => bytes += look.key.size,
                Some(look) if look.found == Found::Directory => todo.push(path.join(&name)),
                _ => {}
            }
        }
    }
    Ok(bytes)
}

/// Removes `name` in `dir` and all below it, whatever its depth, without following a link.
///
/// # Errors
/// As `unlinkat(2)` and `renameat2(2)`; a second call goes on where this one stopped.
pub fn remove_tree(dir: &Dir, name: &Name) -> io::Result<()> {
    match dir.look(name)? {
        None => return Ok(()),
        Some(look) if look.found != Found::Directory => return dir.remove_file(name),
        Some(look) => make_writable(dir, name, &look)?,
    }
    let top = dir.open_child(name)?;
    let mut lifted = 0u64;
    loop {
        let names = top.read_names()?;
        if names.is_empty() {
            break;
        }
        for bytes in names {
            let Ok(child) = Name::new(&bytes) else {
                lift(&top, &bytes, &top, &mut lifted)?;
                continue;
            };
            empty_into(&top, &child, &mut lifted)?;
        }
    }
    dir.remove_dir(name)
}

/// Removes `child` of `top`; the directories that it holds become children of `top`.
fn empty_into(top: &Dir, child: &Name, lifted: &mut u64) -> io::Result<()> {
    match top.look(child)? {
        None => return Ok(()),
        Some(look) if look.found != Found::Directory => return top.remove_file(child),
        Some(look) => make_writable(top, child, &look)?,
    }
    let here = top.open_child(child)?;
    for bytes in here.read_names()? {
        match Name::new(&bytes) {
            Ok(name) => match here.look(&name)? {
                Some(look) if look.found == Found::Directory => {
                    make_writable(&here, &name, &look)?;
                    lift(&here, &bytes, top, lifted)?;
                }
                Some(_) => here.remove_file(&name)?,
                None => {}
            },
            Err(_) => lift(&here, &bytes, top, lifted)?,
        }
    }
    top.remove_dir(child)
}

/// Moves what is called `bytes` in `from` up into `top`, under a name that is free.
fn lift(from: &Dir, bytes: &[u8], top: &Dir, lifted: &mut u64) -> io::Result<()> {
    loop {
        let up = own_name(&format!("lifted.{lifted}"));
        *lifted += 1;
        let moved = match Name::new(bytes) {
            Ok(name) => rename_new(from, &name, top, &up),
            Err(_) if bytes == HOME_NAME => match top.look(&up)? {
                Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
                None => from.rename_home(top, &up, RenameFlags::empty()),
            },
            Err(_) => Err(io::ErrorKind::InvalidInput.into()),
        };
        match moved {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
}

/// Lets the owner of the directory `name` write in it, list it and move it, if its mode does not.
pub(super) fn make_writable(dir: &Dir, name: &Name, look: &Look) -> io::Result<()> {
    match look.found == Found::Directory && owner_is_kept_out(look) {
        true => dir.set_meta(name, &Meta { mode: look.meta.mode | 0o700, ..look.meta }, look.found),
        false => Ok(()),
    }
}

/// Whether the mode of a directory keeps its owner from working in it. The superuser is never kept out.
pub(super) fn owner_is_kept_out(look: &Look) -> bool {
    look.meta.mode & 0o700 != 0o700 && !rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Dir) {
        let top = tempfile::tempdir().unwrap();
        let dir = Dir::open_operator(top.path()).unwrap();
        (top, dir)
    }

    fn stage_in(dir: &Dir) -> Stage {
        let target = dir.open_or_make(&own_name("target")).unwrap();
        Stage::open(&target, std::path::Path::new("target"), &dir.open_home().unwrap(), "m").unwrap()
    }

    fn put(dir: &Dir, name: &str, bytes: u64) {
        dir.create_file(&own_name(name)).unwrap().set_len(bytes).unwrap();
    }

    #[test]
    fn trees_deeper_than_descriptors_go() {
        let (_top, dir) = place();
        let name = own_name("tree");
        let mut here = dir.open_or_make(&name).unwrap();
        for _ in 0..3_000 {
            put(&here, "file", 0);
            here.make_link(&own_name("link"), b"/").unwrap();
            here = here.open_or_make(&own_name("d")).unwrap();
        }
        here.open_home().unwrap().make_link(&own_name("up"), b"../..").unwrap();
        put(&dir, "beside", 1);
        remove_tree(&dir, &name).unwrap();
        assert_eq!(dir.read_names().unwrap(), [b"beside"]);
        remove_tree(&dir, &own_name("beside")).unwrap();
        remove_tree(&dir, &own_name("beside")).unwrap();
    }

    #[test]
    fn a_closed_directory_is_removed() {
        let (_top, dir) = place();
        let tree = dir.open_or_make(&own_name("tree")).unwrap();
        let closed = tree.open_or_make(&own_name("closed")).unwrap().open_or_make(&own_name("more")).unwrap();
        put(&closed, "file", 1);
        for mode in [0, 0o500] {
            closed.set_meta_self(&Meta { mode, ..Meta::default() }).unwrap();
        }
        remove_tree(&dir, &own_name("tree")).unwrap();
        assert!(dir.read_names().unwrap().is_empty());
    }

    #[test]
    fn old_batches_go_and_then_the_oldest_until_few_bytes_are_kept() {
        let (_top, dir) = place();
        let stage = stage_in(&dir);
        for (sequence, seconds) in [(1, 100), (2, 200), (3, 300), (4, 400)] {
            let mut batch = Batch::new(&stage.grace, sequence);
            put(&dir, "f", 1_000);
            batch.take(&dir, &own_name("f")).unwrap();
            let mtime = crate::tree::entry::Mtime { seconds, nanos: 0 };
            let name = own_name(&sequence.to_string());
            stage.grace.set_meta(&name, &Meta { mode: 0o700, mtime }, Found::Directory).unwrap();
        }
        let at = |seconds| Duration::from_secs(seconds);
        let expired = expire(&stage, at(450), at(300), 10_000).unwrap();
        assert_eq!(expired, Expired { batches: 1, bytes: 1_000, kept_bytes: 3_000 });
        let expired = expire(&stage, at(450), at(300), 2_500).unwrap();
        assert_eq!(expired, Expired { batches: 1, bytes: 1_000, kept_bytes: 2_000 });
        let mut left = stage.grace.read_names().unwrap();
        left.sort();
        assert_eq!(left, [b"3", b"4"]);
    }

    #[test]
    fn adopted_things_keep_their_paths_and_never_cover_each_other() {
        let (_top, dir) = place();
        let stage = stage_in(&dir);
        let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
        let mut kept = Vec::new();
        for at in ["a/b", "a/b", "a/b/c", "a"] {
            put(&dir, "f", 1);
            let adopted = Adopted::new(&stage.adopted, 9);
            kept.push(adopted.take(&dir, &own_name("f"), &path(at)).unwrap());
        }
        assert_eq!(kept, ["9/a/b", "9.1/a/b", "9.2/a/b/c", "9.3/a"].map(path));
        remove_adopted(&stage).unwrap();
        assert!(stage.adopted.read_names().unwrap().is_empty());
    }
}
