//! One file that is being rebuilt.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{FetchError, Have, Landing, Outcome, Wanted, disk, rule};
use crate::protocol::message::way;
use crate::tree::chunker::Cutter;
use crate::tree::hash::FileId;
use crate::tree::list::{Chunk, ListBuilder, ListKind, ListRef, file_id};
use crate::tree::page::{Builder, Discard, PageSink};

/// Bytes that are copied at once.
const COPY_AT_ONCE: u64 = 256 * 1024;

pub(super) struct Current {
    pub(super) wanted: Wanted,
    pub(super) have: Option<Rc<dyn Have>>,
    /// `None` once the file is known to fail: what follows of it is skipped.
    landing: Option<Box<dyn Landing>>,
    list: ListBuilder,
    leaves: Option<LeafCheck>,
    /// Cuts what comes in other pieces than chunks: all but a file that is sent whole.
    cutter: Option<Cutter>,
    /// A part of it was read with context, or could not be for lack of it. The context may not be what the sender thinks, so
    /// wrong bytes say nothing of the sender.
    pub(super) doubtful: bool,
    /// Index of the next chunk that is here by its place.
    index: u64,
    written: u64,
}

impl Current {
    pub(super) fn new(
        wanted: Wanted,
        landing: Box<dyn Landing>,
        have: Option<Rc<dyn Have>>,
        leaves: Vec<ListRef>,
    ) -> Result<Self, FetchError> {
        let leaves = if leaves.is_empty() { None } else { Some(LeafCheck::new(leaves, wanted.id)?) };
        let cutter = (wanted.way != way::ALL).then(|| Cutter::new(wanted.class));
        let (landing, list) = (Some(landing), ListBuilder::default());
        Ok(Self { wanted, have, landing, list, leaves, cutter, doubtful: false, index: 0, written: 0 })
    }

    /// Whether nothing of it has come.
    pub(super) fn is_new(&self) -> bool {
        self.written == 0 && self.have.is_none()
    }

    /// The next chunk that is counted by its place.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// Gives up on the file: what is here does not make what was wanted.
    fn fail(&mut self) {
        if let Some(landing) = self.landing.take() {
            landing.discard();
        }
    }

    /// Reads over what is left of the file, for which nobody is to blame.
    pub(super) fn give_up(&mut self) {
        self.fail();
        self.doubtful = true;
    }

    /// Appends a chunk that was sent.
    pub(super) fn chunk(&mut self, bytes: &[u8], pages: &mut dyn PageSink) -> Result<(), FetchError> {
        if self.cutter.is_some() {
            return self.bytes(bytes, pages);
        }
        if !self.room_for(bytes)? {
            return Ok(());
        }
        if bytes.len() > self.wanted.class.longest() {
            return Err(rule("content", "is longer than the signed head says"));
        }
        let chunk = Chunk::of(bytes);
        if let Some(leaves) = &mut self.leaves
            && let Err(wrong) = leaves.check(chunk)
        {
            if !self.doubtful {
                return Err(wrong);
            }
            self.fail();
            return Ok(());
        }
        self.list.push(chunk, pages).map_err(|e| disk(&self.wanted, std::io::Error::other(e)))?;
        self.write(bytes)
    }

    /// Appends bytes of which chunks are still to be cut.
    pub(super) fn bytes(&mut self, bytes: &[u8], pages: &mut dyn PageSink) -> Result<(), FetchError> {
        if !self.room_for(bytes)? {
            return Ok(());
        }
        let (list, wanted) = (&mut self.list, &self.wanted);
        if let Some(cutter) = &mut self.cutter {
            cutter.push(bytes, |chunk| push(list, wanted, chunk, pages))?;
        }
        self.write(bytes)
    }

    /// Counts bytes; false when nothing of the file is wanted any more.
    fn room_for(&mut self, bytes: &[u8]) -> Result<bool, FetchError> {
        if self.landing.is_none() {
            return Ok(false);
        }
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written <= self.wanted.size {
            return Ok(true);
        }
        if self.wanted.way == way::ALL {
            return Err(rule("content", "is longer than the signed head says"));
        }
        self.fail();
        Ok(false)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        match &mut self.landing {
            Some(landing) => landing.write(bytes).map_err(|e| disk(&self.wanted, e)),
            None => Ok(()),
        }
    }

    /// Copies bytes of the basis; gives how many. What is not there makes the file fail, quietly.
    pub(super) fn copy(&mut self, from: u64, len: u64, pages: &mut dyn PageSink) -> Result<u64, FetchError> {
        let (mut at, end) = (from, from.saturating_add(len));
        while at < end && self.landing.is_some() {
            let part = (end - at).min(COPY_AT_ONCE);
            let mut bytes = vec![0; usize::try_from(part).unwrap_or(0)];
            if !self.have.as_ref().is_some_and(|have| have.read(at, &mut bytes)) {
                self.fail();
                break;
            }
            self.bytes(&bytes, pages)?;
            at += part;
        }
        Ok(at - from)
    }

    /// Copies chunks that are here; gives their bytes. A chunk that is not what it was makes the file fail, quietly.
    pub(super) fn have(&mut self, count: u64, pages: &mut dyn PageSink) -> Result<u64, FetchError> {
        let mut bytes = 0;
        for index in self.index..self.index.saturating_add(count) {
            if self.landing.is_none() {
                break;
            }
            let Some(chunk) = self.have.as_ref().and_then(|have| have.chunk(index)) else {
                self.fail();
                break;
            };
            bytes += chunk.len() as u64;
            self.bytes(&chunk, pages)?;
        }
        self.index = self.index.saturating_add(count);
        Ok(bytes)
    }

    /// Judges what has come.
    pub(super) fn end(mut self, pages: &mut dyn PageSink) -> Result<Outcome, FetchError> {
        let (list, wanted) = (&mut self.list, &self.wanted);
        if let Some(cutter) = self.cutter.take() {
            cutter.finish(|chunk| push(list, wanted, chunk, pages))?;
        }
        let Self { wanted, landing, list, written, doubtful, .. } = self;
        let (id, _) = list.finish(pages).map_err(|e| disk(&wanted, std::io::Error::other(e)))?;
        match landing {
            Some(landing) if id == wanted.id && written == wanted.size => {
                landing.finish().map_err(|e| disk(&wanted, e))?;
                Ok(Outcome::Done(wanted))
            }
            _ if wanted.way == way::ALL && !doubtful => Err(rule("content", "is not what the signed head says")),
            // Most of it may be right: what was written is kept for the next try.
            Some(landing) if written == wanted.size => {
                drop(landing);
                Ok(Outcome::Retry(wanted))
            }
            landing => {
                landing.into_iter().for_each(|landing| landing.discard());
                Ok(Outcome::Retry(wanted))
            }
        }
    }
}

fn push(list: &mut ListBuilder, wanted: &Wanted, bytes: &[u8], pages: &mut dyn PageSink) -> Result<(), FetchError> {
    let chunk = Chunk::of(bytes);
    list.push(chunk, pages).map_err(|e| disk(wanted, std::io::Error::other(e)))
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
