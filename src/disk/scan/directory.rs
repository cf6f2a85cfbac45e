//! A directory that fills up: its names are worked on in runs, by many threads, and its pages are built in order; or,
//! where a known tree is looked at in part, what was found at some of its names becomes edits of that tree.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::dir::{Dir, Look};
use crate::disk::index::files::PlaceNumber;
use crate::tree::dir::{Built, DirBuilder};
use crate::tree::edit::Edit;
use crate::tree::entry::{Entry, Meta};
use crate::tree::name::{Name, TreePath};
use crate::tree::page::{PageError, PageSink};

/// A directory whose entries are being found.
pub(super) struct Directory {
    pub(super) path: TreePath,
    pub(super) meta: Meta,
    /// Its number in the index, if files in it are known.
    pub(super) place: Option<PlaceNumber>,
    /// Where its own entry goes; nowhere for the directory where the scan started.
    pub(super) seat: Option<Seat>,
    filling: Mutex<Filling>,
}

/// A free place for an entry in a directory above.
pub(super) struct Seat {
    pub(super) directory: Arc<Directory>,
    pub(super) name: Name,
    pub(super) run: usize,
    pub(super) slot: usize,
}

/// Entries that were found, by the slot of their run; `None` where there is nothing after all.
pub(super) type Findings = Vec<(usize, Option<Entry>)>;

/// What the findings of a directory make.
pub(super) enum Filled {
    /// There are more to come.
    NotYet,
    /// All of the directory.
    Whole(Built),
    /// What changes in a directory of the base.
    Edits(Vec<(TreePath, Edit)>),
}

enum Filling {
    Whole(Whole),
    /// The names that are looked at, by slot: one run, whose findings may come in any order and not at all.
    Part(Vec<Name>),
}

struct Whole {
    /// Gone once the directory was given: whoever fills a run that another thread has built already gives it no second time.
    builder: Option<DirBuilder>,
    /// The run whose entries come next.
    next: usize,
    runs: usize,
    waiting: BTreeMap<usize, RunEntries>,
}

struct RunEntries {
    slots: Vec<Option<Entry>>,
    /// Slots whose finding is still to come.
    pending: usize,
}

impl Directory {
    pub(super) fn new(
        path: TreePath,
        meta: Meta,
        place: Option<PlaceNumber>,
        seat: Option<Seat>,
        runs: usize,
    ) -> Arc<Self> {
        let whole = Whole { builder: Some(DirBuilder::default()), next: 0, runs, waiting: BTreeMap::new() };
        Arc::new(Self { path, meta, place, seat, filling: Mutex::new(Filling::Whole(whole)) })
    }

    /// A directory of the base, of which `names` alone are looked at.
    pub(super) fn part(path: TreePath, meta: Meta, seat: Option<Seat>, names: Vec<Name>) -> Arc<Self> {
        Arc::new(Self { path, meta, place: None, seat, filling: Mutex::new(Filling::Part(names)) })
    }

    /// Sets out a run: the entries that are known, in order, with free slots for `pending` findings. If there are any,
    /// the last of them gives the directory; else an empty [`fill`](Self::fill) does.
    pub(super) fn open_run(&self, run: usize, slots: Vec<Option<Entry>>, pending: usize) {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Filling::Whole(whole) = &mut *filling {
            whole.waiting.insert(run, RunEntries { slots, pending });
        }
    }

    /// Takes findings of a run.
    pub(super) fn fill(&self, run: usize, findings: Findings, sink: &mut dyn PageSink) -> Result<Filled, PageError> {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *filling {
            Filling::Whole(whole) => whole.fill(run, findings, sink),
            Filling::Part(names) => {
                let edit = |(slot, entry): (usize, Option<Entry>)| {
                    Some((self.path.join(names.get(slot)?), entry.map_or(Edit::Remove, Edit::Put)))
                };
                Ok(Filled::Edits(findings.into_iter().filter_map(edit).collect()))
            }
        }
    }
}

impl Whole {
    /// Builds as far as entries have come without a gap. The last findings give the directory, once.
    fn fill(&mut self, run: usize, findings: Findings, sink: &mut dyn PageSink) -> Result<Filled, PageError> {
        let Some(builder) = &mut self.builder else { return Ok(Filled::NotYet) };
        if let Some(run) = self.waiting.get_mut(&run) {
            run.pending -= findings.len();
            for (slot, entry) in findings {
                if let Some(slot) = run.slots.get_mut(slot) {
                    *slot = entry;
                }
            }
        }
        while let Some(run) = self.waiting.remove(&self.next) {
            if run.pending > 0 {
                self.waiting.insert(self.next, run);
                return Ok(Filled::NotYet);
            }
            for entry in run.slots.iter().flatten() {
                builder.push(entry, sink)?;
            }
            self.next += 1;
        }
        if self.next < self.runs {
            return Ok(Filled::NotYet);
        }
        let built = std::mem::take(builder).finish(sink)?;
        self.builder = None;
        Ok(Filled::Whole(built))
    }
}

/// What a directory holds.
pub(super) struct Listing {
    pub(super) look: Look,
    /// In ascending order.
    pub(super) names: Vec<Vec<u8>>,
    /// Whether the directory kept still while it was listed.
    pub(super) steady: bool,
}

/// Lists a directory, again and again up to `retries` times if it changes meanwhile.
pub(super) fn list(dir: &Dir, retries: u32) -> io::Result<Listing> {
    list_steadily(retries, || dir.look_self(), || dir.read_names())
}

fn list_steadily(
    retries: u32,
    mut look: impl FnMut() -> io::Result<Look>,
    mut names: impl FnMut() -> io::Result<Vec<Vec<u8>>>,
) -> io::Result<Listing> {
    let mut before = look()?;
    let mut tries = 0;
    loop {
        let mut listing = Listing { look: before, names: names()?, steady: true };
        let after = look()?;
        listing.steady = after.key == before.key;
        if listing.steady || tries == retries {
            listing.names.sort_unstable();
            // A directory that changes while the kernel walks it may show a name twice.
            listing.names.dedup();
            return Ok(listing);
        }
        before = after;
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let meta = Dir::open_operator(dir.path()).unwrap().look_self().unwrap().meta;
        let directory = Directory::new(TreePath::top(), meta, None, None, 2);
        let link = |name: &[u8]| {
            let body = crate::tree::entry::Body::Link { target: b"x".to_vec().into() };
            Some(Entry { name: Name::new(name).unwrap(), meta, body, attributes: vec![] })
        };
        let mut pages = crate::tree::page::Pages::new();
        // Two threads set out a run each, in which all is known; the first builds both before the second says that it is done.
        directory.open_run(1, vec![link(b"b")], 0);
        directory.open_run(0, vec![link(b"a")], 0);
        let filled = directory.fill(0, Findings::new(), &mut pages).unwrap();
        assert!(matches!(filled, Filled::Whole(built) if built.entries == 2));
        let filled = directory.fill(1, Findings::new(), &mut pages).unwrap();
        assert!(matches!(filled, Filled::NotYet));
    }

    #[test]
    fn a_directory_that_changes_is_listed_again_and_one_that_never_rests_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let still = Dir::open_operator(dir.path()).unwrap().look_self().unwrap();
        let check = |changes: i64, retries, steady, reads| {
            let (mut looks, mut listed) = (0, 0);
            let look = || {
                looks += 1;
                let mut look = still;
                look.key.mtime += changes.min(looks);
                Ok(look)
            };
            let names = || {
                listed += 1;
                Ok(vec![b"b".to_vec(), b"a".to_vec(), b"b".to_vec()])
            };
            let listing = list_steadily(retries, look, names).unwrap();
            assert_eq!((listing.steady, listed), (steady, reads));
            assert_eq!(listing.names, [b"a", b"b"]);
        };
        check(1, 3, true, 1);
        check(3, 3, true, 3);
        check(100, 3, false, 4);
        check(100, 0, false, 1);
    }
}
