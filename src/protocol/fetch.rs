//! The receiver's side of CONTENT: steps and literals become verified files.
//!
//! A file counts when the list of its chunks hashes to the id in its entry, which was verified up to the signed head.
//! Copied chunks are hashed like received ones: what is on the own disk may have changed. A wrong step is no lie, as its
//! short way may simply not fit; a wrong literal of a file sent whole is one.

use std::collections::VecDeque;

use super::batch::{Batch, Step, context};
use super::message::{LeafRefs, way};
use crate::tree::chunker::Class;
use crate::tree::codec::{Malformed, bounded, decode};
use crate::tree::hash::{ChunkId, FileId};
use crate::tree::list::{Chunk, ListBuilder, ListKind, ListRef, file_id};
use crate::tree::name::TreePath;
use crate::tree::page::{Builder, Discard, PageSink};

/// Where the content of one file goes. Dropping it keeps what was written for another try.
pub trait Landing {
    /// Appends bytes.
    ///
    /// # Errors
    /// As the disk says.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    /// All is written, and it is the file that was wanted.
    ///
    /// # Errors
    /// As the disk says.
    fn finish(self: Box<Self>) -> std::io::Result<()>;
    /// What was written is wrong: forget it.
    fn discard(self: Box<Self>);
}

/// Chunks that the receiver has: those of a basis by index, or those of the wanted file itself.
pub trait Have {
    /// The chunk at `index`, if what is on disk still hashes to its id.
    fn chunk(&mut self, index: u64) -> Option<Vec<u8>>;
}

/// What a fetch needs from the disk.
pub trait Shelf {
    /// Starts to write a file.
    ///
    /// # Errors
    /// As the disk says.
    fn begin(&mut self, wanted: &Wanted) -> std::io::Result<Box<dyn Landing>>;
    /// The chunks of the file at `path` of the base.
    fn basis(&mut self, path: &TreePath) -> Option<Box<dyn Have>>;
    /// The chunks of the wanted file that the bitmap left out.
    fn own(&mut self, wanted: &Wanted) -> Option<Box<dyn Have>>;
    /// Pages of chunk lists, built on the way.
    fn pages(&mut self) -> &mut dyn PageSink;
}

/// A file whose content was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it stands in the snapshot.
    pub path: TreePath,
    /// Its id.
    pub id: FileId,
    /// Its bytes.
    pub size: u64,
    /// How it is cut.
    pub class: Class,
    /// One of [`way`].
    pub way: u8,
}

/// How the fetch of one file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is landed and verified.
    Done(Wanted),
    /// The sender has it no more.
    Gone(Wanted),
    /// Copies did not give the file: it has to be fetched whole.
    Retry(Wanted),
}

/// Why a fetch cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The sender broke the format, or sent content that is not what the head says.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The own disk failed.
    #[error("cannot write {path}")]
    Disk {
        /// The file that was being written.
        path: TreePath,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Rebuilds files in the order in which they were asked for.
#[derive(Default)]
pub struct Fetch {
    wanted: VecDeque<Wanted>,
    current: Option<Current>,
    /// What the sender may still say of the current file.
    allowance: Option<Allowance>,
    /// LEAVES that came for the file that is next.
    leaves: Vec<ListRef>,
    /// Literal and copied bytes so far.
    pub received: u64,
    /// Bytes that were copied from what was there.
    pub copied: u64,
}

struct Current {
    wanted: Wanted,
    /// `None` once the file is known to fail: what follows of it is skipped.
    landing: Option<Box<dyn Landing>>,
    have: Option<Box<dyn Have>>,
    list: ListBuilder,
    leaves: Option<LeafCheck>,
    index: u64,
    written: u64,
}

/// What the steps of one file may still amount to. A file that fails is skipped to its end, so without a bound that
/// does not look at content a sender could keep the receiver busy for ever.
#[derive(Clone, Copy)]
struct Allowance {
    /// Bytes: a chunk that is copied counts as one, the least that it can be.
    bytes: u64,
    based: bool,
}

impl Allowance {
    fn spend(&mut self, step: &Step) -> Result<(), FetchError> {
        let bytes = match step {
            Step::Literal { lengths, .. } => lengths.iter().map(|length| u64::from(*length)).sum(),
            Step::Copy { count, .. } | Step::Have { count } => *count,
            Step::Basis(_) if std::mem::replace(&mut self.based, true) => {
                return Err(rule("step", "names a second basis"));
            }
            Step::Basis(_) | Step::End | Step::Gone => 0,
        };
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| rule("content", "is longer than the signed head says"))?;
        Ok(())
    }
}

impl Fetch {
    /// Says that `wanted` was asked for, behind those before.
    pub fn expect(&mut self, wanted: Wanted) {
        self.wanted.push_back(wanted);
    }

    /// Files that were asked for and have not ended.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.wanted.len() + usize::from(self.current.is_some())
    }

    /// Takes a LEAVES body.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn leaves(&mut self, body: &[u8]) -> Result<(), FetchError> {
        let part: LeafRefs = decode("leaves", body)?;
        if part.refs.is_empty() {
            return Err(rule("leaves", "are none"));
        }
        let next = self.next_wanted("leaves")?;
        let most = next.size / next.class.sizes().0 as u64 + 1;
        bounded("leaf pages", (self.leaves.len() + part.refs.len()) as u64, most)?;
        self.leaves.extend(part.refs);
        Ok(())
    }

    fn next_wanted(&self, what: &'static str) -> Result<&Wanted, FetchError> {
        if self.current.is_some() {
            return Err(rule(what, "came in the middle of a file"));
        }
        self.wanted.front().ok_or_else(|| rule(what, "came for no file"))
    }

    /// Takes a BATCH body, and says which files ended with it.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn batch(&mut self, body: &[u8], shelf: &mut dyn Shelf) -> Result<Vec<Outcome>, FetchError> {
        let batch = Batch::decode(body)?;
        self.allow(&batch.steps)?;
        let prefix = prefix_of(&batch, self.matched_for_context(&batch, shelf));
        let literals = match batch.literals(&prefix) {
            Ok(literals) => literals,
            // Context that is not what the sender has makes nonsense of the frame: the files are fetched whole.
            Err(_) if batch.prefix_len > 0 => return self.give_up(&batch.steps, shelf),
            Err(e) => return Err(e.into()),
        };
        let mut rest = literals.as_slice();
        let mut outcomes = Vec::new();
        for step in &batch.steps {
            outcomes.extend(self.step(step, &mut rest, shelf)?);
        }
        Ok(outcomes)
    }

    /// Checks that the steps are of files that were asked for, and say no more of each than its size allows.
    fn allow(&mut self, steps: &[Step]) -> Result<(), FetchError> {
        if steps.is_empty() {
            return Err(rule("batch", "says nothing"));
        }
        let mut next = self.wanted.iter();
        for step in steps {
            let begun = self.allowance.take();
            let fresh = || next.next().map(|wanted| Allowance { bytes: wanted.size, based: false });
            let mut allowance = begun.or_else(fresh).ok_or_else(|| rule("step", "came for no file"))?;
            allowance.spend(step)?;
            self.allowance = (!step.ends_file()).then_some(allowance);
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, rest: &mut &[u8], shelf: &mut dyn Shelf) -> Result<Option<Outcome>, FetchError> {
        self.open(shelf)?;
        let Some(current) = self.current.as_mut() else { return Err(rule("step", "came for no file")) };
        match step {
            Step::Literal { lengths, last } => {
                for length in lengths {
                    let (chunk, more) =
                        rest.split_at_checked(*length as usize).ok_or_else(|| rule("batch", "is cut"))?;
                    *rest = more;
                    self.received += u64::from(*length);
                    current.append(chunk, shelf.pages())?;
                }
                if *last { self.end(shelf) } else { Ok(None) }
            }
            Step::Basis(path) if current.wanted.way == way::BASE && current.index == 0 => {
                current.have = shelf.basis(path);
                Ok(None)
            }
            Step::Copy { first, count } if current.wanted.way == way::BASE => {
                let range = *first..first.saturating_add(*count);
                self.copied += current.copy(range, shelf.pages())?;
                Ok(None)
            }
            Step::Have { count } if current.wanted.way == way::WANTED => {
                let range = current.index..current.index.saturating_add(*count);
                self.copied += current.copy(range, shelf.pages())?;
                Ok(None)
            }
            Step::Basis(_) | Step::Copy { .. } | Step::Have { .. } => {
                Err(rule("step", "copies where nothing was offered"))
            }
            Step::End => self.end(shelf),
            Step::Gone => {
                let Some(current) = self.current.take() else { return Ok(None) };
                Ok(Some(Outcome::Gone(current.wanted)))
            }
        }
    }

    /// Begins the next file if none is open.
    fn open(&mut self, shelf: &mut dyn Shelf) -> Result<(), FetchError> {
        if self.current.is_some() {
            return Ok(());
        }
        let Some(wanted) = self.wanted.pop_front() else { return Err(rule("step", "came for no file")) };
        let refs = std::mem::take(&mut self.leaves);
        let leaves = if refs.is_empty() { None } else { Some(LeafCheck::new(refs, wanted.id)?) };
        let have = if wanted.way == way::WANTED { shelf.own(&wanted) } else { None };
        let landing = shelf.begin(&wanted).map_err(|source| FetchError::Disk { path: wanted.path.clone(), source })?;
        let list = ListBuilder::default();
        self.current = Some(Current { wanted, landing: Some(landing), have, list, leaves, index: 0, written: 0 });
        Ok(())
    }

    fn end(&mut self, shelf: &mut dyn Shelf) -> Result<Option<Outcome>, FetchError> {
        let Some(current) = self.current.take() else { return Ok(None) };
        let Current { wanted, landing, list, written, .. } = current;
        let (id, _) = list.finish(shelf.pages()).map_err(|e| disk(&wanted, std::io::Error::other(e)))?;
        match landing {
            Some(landing) if id == wanted.id && written == wanted.size => {
                landing.finish().map_err(|e| disk(&wanted, e))?;
                Ok(Some(Outcome::Done(wanted)))
            }
            landing => {
                if let Some(landing) = landing {
                    landing.discard();
                }
                if wanted.way == way::ALL {
                    return Err(rule("content", "is not what the signed head says"));
                }
                Ok(Some(Outcome::Retry(wanted)))
            }
        }
    }

    /// Ends every file of a batch whose literals cannot be read.
    fn give_up(&mut self, steps: &[Step], shelf: &mut dyn Shelf) -> Result<Vec<Outcome>, FetchError> {
        let mut outcomes = Vec::new();
        for step in steps {
            self.open(shelf)?;
            if let Some(current) = &mut self.current {
                current.fail();
            }
            if step.ends_file()
                && let Some(current) = self.current.take()
            {
                outcomes.push(Outcome::Retry(current.wanted));
            }
        }
        Ok(outcomes)
    }

    /// The ends of chunks next to literal runs, in the order of the prefix, as far as this side has them.
    fn matched_for_context(&mut self, batch: &Batch<'_>, shelf: &mut dyn Shelf) -> Vec<Option<Vec<u8>>> {
        let wanted = if batch.prefix_len == 0 { Vec::new() } else { context(&batch.steps) };
        if wanted.is_empty() {
            return Vec::new();
        }
        let mut places = Places::start(self);
        let mut next = wanted.iter().peekable();
        let mut found = Vec::with_capacity(wanted.len());
        for (i, step) in batch.steps.iter().enumerate() {
            places.begin(step, &self.wanted, shelf);
            while let Some((_, side)) = next.next_if(|(at, _)| *at == i) {
                found.push(places.chunk(step, *side).map(|chunk| side.of(&chunk).to_vec()));
            }
            places.pass(step);
        }
        places.give_back(self);
        found
    }
}

fn prefix_of(batch: &Batch<'_>, matched: Vec<Option<Vec<u8>>>) -> Vec<u8> {
    let prefix: Vec<u8> = matched.into_iter().flatten().flatten().collect();
    // Not the sender's context: decoding with it would fail or give nonsense that the ids refuse.
    if prefix.len() == batch.prefix_len { prefix } else { Vec::new() }
}

/// Walks the steps of a batch ahead of the work, to find the chunks that give context.
struct Places {
    have: Option<Box<dyn Have>>,
    /// Index of the next chunk of the file.
    index: u64,
    way: u8,
    /// The file that was open when the batch began has not ended yet.
    in_current: bool,
    /// Its source, once it has ended; the work itself still needs it.
    of_current: Option<Box<dyn Have>>,
    /// A file has begun.
    begun: bool,
    /// Files of the queue that have begun.
    taken: usize,
}

impl Places {
    fn start(fetch: &mut Fetch) -> Self {
        match &mut fetch.current {
            Some(current) => {
                let (index, way, have) = (current.index, current.wanted.way, current.have.take());
                Self { have, index, way, in_current: true, of_current: None, begun: true, taken: 0 }
            }
            None => Self {
                have: None,
                index: 0,
                way: way::ALL,
                in_current: false,
                of_current: None,
                begun: false,
                taken: 0,
            },
        }
    }

    /// Opens what the step needs, before it is looked at.
    fn begin(&mut self, step: &Step, queue: &VecDeque<Wanted>, shelf: &mut dyn Shelf) {
        if !self.begun {
            let next = queue.get(self.taken);
            self.way = next.map_or(way::ALL, |wanted| wanted.way);
            self.have = next.filter(|wanted| wanted.way == way::WANTED).and_then(|wanted| shelf.own(wanted));
            (self.index, self.begun, self.taken) = (0, true, self.taken + 1);
        }
        if let (Step::Basis(path), way::BASE) = (step, self.way) {
            self.have = shelf.basis(path);
        }
    }

    fn chunk(&mut self, step: &Step, side: super::batch::Side) -> Option<Vec<u8>> {
        let (first, count) = match step {
            Step::Copy { first, count } if self.way == way::BASE => (*first, *count),
            Step::Have { count } if self.way == way::WANTED => (self.index, *count),
            _ => return None,
        };
        let at = match side {
            super::batch::Side::Start => first,
            super::batch::Side::End => first.checked_add(count)?.checked_sub(1)?,
        };
        self.have.as_mut()?.chunk(at)
    }

    fn pass(&mut self, step: &Step) {
        self.index = self.index.saturating_add(match step {
            Step::Literal { lengths, .. } => lengths.len() as u64,
            Step::Copy { count, .. } | Step::Have { count } => *count,
            Step::End | Step::Gone | Step::Basis(_) => 0,
        });
        if step.ends_file() {
            let have = self.have.take();
            if std::mem::take(&mut self.in_current) {
                self.of_current = have;
            }
        }
        self.begun &= !step.ends_file();
    }

    fn give_back(self, fetch: &mut Fetch) {
        if let Some(current) = &mut fetch.current {
            current.have = if self.in_current { self.have } else { self.of_current };
        }
    }
}

impl Current {
    /// Gives up on the file: its copies do not make what was wanted.
    fn fail(&mut self) {
        if let Some(landing) = self.landing.take() {
            landing.discard();
        }
    }

    fn append(&mut self, bytes: &[u8], pages: &mut dyn PageSink) -> Result<(), FetchError> {
        let chunk = Chunk { id: ChunkId::of(bytes), len: u32::try_from(bytes.len()).unwrap_or(u32::MAX) };
        self.index += 1;
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written > self.wanted.size || bytes.len() > self.wanted.class.longest() {
            if self.wanted.way == way::ALL {
                return Err(rule("content", "is longer than the signed head says"));
            }
            self.fail();
            return Ok(());
        }
        if let Some(leaves) = &mut self.leaves {
            leaves.check(chunk)?;
        }
        self.list.push(chunk, pages).map_err(|e| disk(&self.wanted, std::io::Error::other(e)))?;
        match &mut self.landing {
            Some(landing) => landing.write(bytes).map_err(|e| disk(&self.wanted, e)),
            None => Ok(()),
        }
    }

    /// Copies chunks that are here; gives their bytes. A chunk that is not what it was makes the file fail, quietly.
    fn copy(&mut self, range: std::ops::Range<u64>, pages: &mut dyn PageSink) -> Result<u64, FetchError> {
        let mut bytes = 0;
        for at in range {
            let Some(chunk) = self.have.as_mut().and_then(|have| have.chunk(at)) else {
                self.fail();
                return Ok(bytes);
            };
            if self.landing.is_none() {
                return Ok(bytes);
            }
            bytes += chunk.len() as u64;
            self.append(&chunk, pages)?;
        }
        Ok(bytes)
    }
}

/// Checks each leaf page of a large file as it is completed, so that a lie is seen within a megabyte or so.
struct LeafCheck {
    refs: VecDeque<ListRef>,
    chunks: Vec<Chunk>,
}

impl LeafCheck {
    /// Takes the leaf pages of a file if they make up its id.
    fn new(refs: Vec<ListRef>, id: FileId) -> Result<Self, FetchError> {
        let mut list = Builder::<ListKind>::default();
        for leaf in &refs {
            list.push_page(0, leaf, &mut Discard).map_err(|_| rule("leaves", "cannot be put together"))?;
        }
        let top = list.finish(&mut Discard).map_err(|_| rule("leaves", "cannot be put together"))?;
        if top.id != *id.as_bytes() {
            return Err(rule("leaves", "do not hash to the file's id"));
        }
        Ok(Self { refs: refs.into(), chunks: Vec::new() })
    }

    fn check(&mut self, chunk: Chunk) -> Result<(), FetchError> {
        self.chunks.push(chunk);
        let Some(leaf) = self.refs.front() else { return Err(rule("content", "goes on behind its last page")) };
        if self.chunks.len() as u64 == leaf.2 {
            let named = file_id(&self.chunks).is_ok_and(|id| id == leaf.1);
            if !named {
                return Err(rule("content", "is not what the signed head says"));
            }
            self.chunks.clear();
            self.refs.pop_front();
        }
        Ok(())
    }
}

fn rule(what: &'static str, rule: &'static str) -> FetchError {
    Malformed::Rule { what, rule }.into()
}

fn disk(wanted: &Wanted, source: std::io::Error) -> FetchError {
    FetchError::Disk { path: wanted.path.clone(), source }
}
