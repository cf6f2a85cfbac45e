//! The receiver's side of CONTENT: steps and literals become verified files.
//!
//! A file counts when the list of its chunks hashes to the id in its entry, which was verified up to the signed head.
//! Copied chunks are hashed like received ones: what is on the own disk may have changed. A wrong step is no lie, as its
//! short way may simply not fit; a wrong literal of a file sent whole is one.

mod context;
mod rebuild;

use std::collections::VecDeque;
use std::rc::Rc;

use self::context::{Context, prefix};
use self::rebuild::Current;
use super::batch::Batch;
use super::history::Unpacker;
use super::limits::{BATCH_PREFIX_MAX, LEAVES_MAX, OLD_LEAST};
use super::message::{LeafRefs, way};
use super::step::Step;
use crate::tree::chunker::Class;
use crate::tree::codec::{Malformed, bounded, decode};
use crate::tree::hash::FileId;
use crate::tree::list::ListRef;
use crate::tree::name::TreePath;
use crate::tree::page::PageSink;

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

/// What the receiver has of a file that it wants.
pub trait Have {
    /// The chunk of the wanted file at `index`, if it is here and still hashes to its id.
    fn chunk(&self, index: u64) -> Option<Vec<u8>>;
    /// The bytes of the basis from `from` on that fill `buffer`; false if there are none.
    fn read(&self, from: u64, buffer: &mut [u8]) -> bool;
}

/// What a fetch needs from the disk.
pub trait Shelf {
    /// Starts to write a file.
    ///
    /// # Errors
    /// As the disk says.
    fn begin(&mut self, wanted: &Wanted) -> std::io::Result<Box<dyn Landing>>;
    /// The file at `path` of the base, as a basis.
    fn basis(&mut self, path: &TreePath) -> Option<Rc<dyn Have>>;
    /// The chunks of the wanted file that the bitmap left out, and the basis whose blocks were named.
    fn own(&mut self, wanted: &Wanted) -> Option<Rc<dyn Have>>;
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
    /// Whether the last of them has come; `None` before the first.
    leaves_last: Option<bool>,
    /// What literals have as their history, once there is any.
    stream: Option<Unpacker>,
    /// Whether the batch at hand has context.
    doubtful: bool,
    /// What has come so far.
    pub counts: Counts,
}

/// Bytes of content by where they came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// New ones, which came as literals.
    pub literal: u64,
    /// What the literals took, packed.
    pub literal_packed: u64,
    /// What the steps took, packed.
    pub steps_packed: u64,
    /// Copied from a basis.
    pub from_basis: u64,
    /// Chunks that were here.
    pub from_chunks: u64,
    /// How many of those.
    pub chunks: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.literal += more.literal;
        self.literal_packed += more.literal_packed;
        self.steps_packed += more.steps_packed;
        self.from_basis += more.from_basis;
        self.from_chunks += more.from_chunks;
        self.chunks += more.chunks;
    }
}

impl Counts {
    /// Bytes of files.
    #[must_use]
    pub fn content(&self) -> u64 {
        self.literal + self.from_basis + self.from_chunks
    }
}

/// What the steps of one file may still amount to. A file that fails is skipped to its end, so without a bound that
/// does not look at content a sender could keep the receiver busy for ever.
#[derive(Clone, Copy)]
struct Allowance {
    /// Bytes: a chunk that is here counts as one, the least that it can be.
    bytes: u64,
    /// Bytes of the basis that stand for context and make nothing.
    old: u64,
    based: bool,
}

impl Allowance {
    fn of(wanted: &Wanted) -> Self {
        Self { bytes: wanted.size, old: wanted.size.saturating_add(BATCH_PREFIX_MAX as u64), based: false }
    }

    fn spend(&mut self, step: &Step) -> Result<(), FetchError> {
        let bytes = match step {
            Step::Chunks { .. } | Step::Literal { .. } => step.literal_bytes(),
            Step::Copy { len, .. } => *len,
            Step::Have { count } => *count,
            Step::Basis(_) if std::mem::replace(&mut self.based, true) => {
                return Err(rule("step", "names a second basis"));
            }
            Step::Old { len, .. } => {
                let left = self.old.checked_sub((*len).max(OLD_LEAST));
                self.old = left.ok_or_else(|| rule("step", "gives more context than its file can need"))?;
                0
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
        if next.way != way::ALL || part.refs.is_empty() || self.leaves_last == Some(true) {
            return Err(rule("leaves", "are empty, came twice, or are of a file that is not sent whole"));
        }
        bounded("leaf pages of a message", part.refs.len() as u64, LEAVES_MAX as u64)?;
        let most = next.size / next.class.sizes().0 as u64 + 1;
        bounded("leaf pages", (self.leaves.len() + part.refs.len()) as u64, most)?;
        self.leaves.extend(part.refs);
        self.leaves_last = Some(part.last);
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
        let packed = batch.packed_len();
        self.counts.literal_packed += packed as u64;
        self.counts.steps_packed += (body.len() - packed) as u64;
        let prefix = self.prefix(&batch, shelf);
        let literals = match batch.literals_in(&mut self.stream, &prefix) {
            Ok(literals) => literals,
            // Context that is not what the sender has makes nonsense of the frame: the files are asked for again.
            Err(_) if batch.prefix_len > 0 => return self.give_up(&batch.steps, shelf),
            Err(e) => return Err(e.into()),
        };
        // Context of right length and other bytes makes literals of right length and other bytes.
        self.doubtful = batch.prefix_len > 0;
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
            let fresh = || next.next().map(Allowance::of);
            let mut allowance = begun.or_else(fresh).ok_or_else(|| rule("step", "came for no file"))?;
            allowance.spend(step)?;
            self.allowance = (!step.ends_file()).then_some(allowance);
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, rest: &mut &[u8], shelf: &mut dyn Shelf) -> Result<Option<Outcome>, FetchError> {
        self.open(shelf)?;
        let Some(current) = self.current.as_mut() else { return Err(rule("step", "came for no file")) };
        current.doubtful |= self.doubtful && step.literal_bytes() > 0;
        match step {
            Step::Chunks { lengths, last } => {
                for length in lengths {
                    current.chunk(literal(rest, u64::from(*length))?, shelf.pages())?;
                    self.counts.literal += u64::from(*length);
                }
                if *last { self.end(shelf) } else { Ok(None) }
            }
            Step::Literal { len } if current.wanted.way != way::ALL => {
                current.bytes(literal(rest, *len)?, shelf.pages())?;
                self.counts.literal += len;
                Ok(None)
            }
            Step::Basis(path) if current.wanted.way == way::BASE && current.is_new() => {
                current.have = shelf.basis(path);
                Ok(None)
            }
            Step::Copy { from, len } if current.wanted.way != way::ALL => {
                self.counts.from_basis += current.copy(*from, *len, shelf.pages())?;
                Ok(None)
            }
            Step::Have { count } if current.wanted.way == way::WANTED => {
                self.counts.from_chunks += current.have(*count, shelf.pages())?;
                self.counts.chunks += count;
                Ok(None)
            }
            Step::Old { .. } if current.wanted.way != way::ALL => Ok(None),
            Step::Literal { .. } | Step::Basis(_) | Step::Copy { .. } | Step::Have { .. } | Step::Old { .. } => {
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
        if self.leaves_last.take() == Some(false) {
            return Err(rule("leaves", "did not all come"));
        }
        let leaves = std::mem::take(&mut self.leaves);
        let have = if of_own(wanted.way) { shelf.own(&wanted) } else { None };
        let landing = shelf.begin(&wanted).map_err(|source| FetchError::Disk { path: wanted.path.clone(), source })?;
        self.current = Some(Current::new(wanted, landing, have, leaves)?);
        Ok(())
    }

    fn end(&mut self, shelf: &mut dyn Shelf) -> Result<Option<Outcome>, FetchError> {
        let Some(current) = self.current.take() else { return Ok(None) };
        current.end(shelf.pages()).map(Some)
    }

    /// Ends every file of a batch whose literals cannot be read.
    fn give_up(&mut self, steps: &[Step], shelf: &mut dyn Shelf) -> Result<Vec<Outcome>, FetchError> {
        let mut outcomes = Vec::new();
        for step in steps {
            self.open(shelf)?;
            if let Some(current) = &mut self.current {
                current.give_up();
            }
            if step.ends_file()
                && let Some(current) = self.current.take()
            {
                outcomes.push(Outcome::Retry(current.wanted));
            }
        }
        Ok(outcomes)
    }

    /// The context of a batch; nothing when it is not what the sender says that it is.
    fn prefix(&self, batch: &Batch<'_>, shelf: &mut dyn Shelf) -> Vec<u8> {
        if batch.prefix_len == 0 {
            return Vec::new();
        }
        let begun =
            self.current.as_ref().map(|current| Context::of(current.wanted.way, current.have.clone(), current.index()));
        prefix(batch, begun, &self.wanted, shelf).unwrap_or_default()
    }
}

/// Whether a way has blocks or chunks of the receiver's choice.
const fn of_own(asked: u8) -> bool {
    asked == way::WANTED || asked == way::GAP
}

/// The next literals.
fn literal<'r>(rest: &mut &'r [u8], len: u64) -> Result<&'r [u8], FetchError> {
    let split = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len));
    let (bytes, behind) = split.ok_or_else(|| rule("batch", "is cut"))?;
    *rest = behind;
    Ok(bytes)
}

fn rule(what: &'static str, rule: &'static str) -> FetchError {
    Malformed::Rule { what, rule }.into()
}

fn disk(wanted: &Wanted, source: std::io::Error) -> FetchError {
    FetchError::Disk { path: wanted.path.clone(), source }
}
