//! Content of files, as steps and literals: the sender's side of CONTENT.
//!
//! Every chunk that leaves is hashed first and compared with the tree, so a file that changed on disk, or rotted there,
//! is never sent as what it was. What the disk has no more may stand in a pack.
//!
//! A file is sent whole, or [laid out](layout) as what the receiver has and runs between, in which pieces of its old
//! version are sought: by the list that is [kept] of that here, or by what the receiver says of it when [asked](look).

mod emit;
mod kept;
mod layout;
mod look;
mod sending;
mod stored;
mod vanished;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use self::emit::Out;
use self::kept::Kept;
use self::layout::{Old, Part, by_bits, copied, over};
use self::sending::{Gone, OldBytes, Parts, Sending, Whole};
use self::stored::Stored;
use self::vanished::Vanished;
use super::effort::Effort;
use super::limits::{BLOCKS_MAX, FILES_WAITING_MAX, LEAVES_MAX, LOOKS_AHEAD_MAX, PIECES_AHEAD_MAX};
use super::message::{Blocks, FileItem, Files, LeafRefs, Look, Message, refusal, tag, way};
use super::sender::{Output, Source, file_at, internal, room_for};
use super::short::{block_hashing, is_worth_a_look, pack_gaps, unpack_gaps};
use crate::delta::blocks::{BLOCK, count, kept_block};
use crate::delta::diff::Search;
use crate::delta::rabin::Rabin;
use crate::tree::alike::{self, alike};
use crate::tree::chunker::Class;
use crate::tree::codec::decode;
use crate::tree::dir::PathFinder;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{ChunkId, DirId};
use crate::tree::list::{Chunk, ListRef, Samples, chunks};
use crate::tree::name::TreePath;

/// Chunks of a basis that are looked up by id; one with a longer list is not used.
const BASIS_CHUNKS_MAX: usize = 4_000_000;

/// The answer to CONTENT.
pub(super) struct ContentAnswer<'s> {
    module: String,
    top: DirId,
    new_tree: PathFinder,
    /// What the receiver holds.
    base: Option<DirId>,
    old_tree: Option<PathFinder>,
    ended: bool,
    todo: VecDeque<FileItem>,
    /// What the files weigh of which nothing is done.
    waiting: usize,
    /// Files that were taken from there so far.
    taken: u64,
    /// Files that were taken and not sent, in order.
    turns: VecDeque<Turn<'s>>,
    out: Out,
    current: Option<Sending<'s>>,
    /// The hash of blocks that the receiver names, once it is needed.
    hashing: Option<Arc<Rabin>>,
    /// Whether the receiver is asked for the blocks of its old versions.
    asks: bool,
    /// Entries that may still be looked at by name.
    names_left: usize,
    /// What the base has and the tree has not, once that was looked for.
    vanished: Option<Vanished>,
}

/// As [`Output`]; a batch comes with the context of its literals.
pub(super) enum Next {
    Message(Message, Vec<u8>),
    Wait,
    Done,
}

/// A file that has to be sent.
enum Turn<'s> {
    /// Nothing was done for it.
    Later(FileItem),
    /// Its content is gone.
    Gone,
    /// It is laid out, and the receiver was asked for its blocks, or has said what it has to say.
    Begun(Box<Begun<'s>>),
}

struct Begun<'s> {
    number: u64,
    stored: Stored<'s>,
    parts: Vec<Part>,
    basis: Option<TreePath>,
    asked: Option<Asked>,
    second: Option<Search>,
    /// Chunks and blocks that are held for it.
    pieces: usize,
}

/// What the receiver was asked.
struct Asked {
    block: u32,
    gaps: Vec<(u64, u64)>,
    /// Nothing is asked after that.
    second: bool,
}

impl<'s> ContentAnswer<'s> {
    /// An answer from the tree `top` to one who holds `base`. If it `asks`, the receiver is asked for the blocks of its old
    /// versions; else it gets what any other who has the base would get.
    pub(super) fn new(module: String, top: DirId, base: Option<DirId>, asks: bool) -> Self {
        let (todo, turns, out) = (VecDeque::new(), VecDeque::new(), Out::default());
        Self {
            module,
            top,
            new_tree: PathFinder::new(top),
            base,
            old_tree: base.map(PathFinder::new),
            ended: false,
            todo,
            waiting: 0,
            taken: 0,
            turns,
            out,
            current: None,
            hashing: None,
            asks,
            names_left: alike::BUDGET,
            vanished: None,
        }
    }

    fn hashing(&mut self, source: &dyn Source) -> Arc<Rabin> {
        self.hashing.get_or_insert_with(|| Arc::new(block_hashing(&source.binding()))).clone()
    }

    pub(super) fn set_effort(&mut self, effort: Effort) {
        self.out.batch.set_effort(effort);
    }

    /// Bytes of literals in all batches so far.
    pub(super) fn literals(&self) -> u64 {
        self.out.batch.packed()
    }

    pub(super) fn handle(&mut self, source: &'s dyn Source, message: Option<&Message>) -> Result<(), u16> {
        let Some(message) = message else {
            self.ended = true;
            return Ok(());
        };
        match message.tag {
            tag::FILES => {
                let files = Files::of(&message.body).map_err(|_| refusal::BAD_REQUEST)?;
                room_for(files.0.len(), self.todo.len() + self.turns.len())?;
                self.waiting += files.0.iter().map(FileItem::weight).sum::<usize>();
                if self.waiting > FILES_WAITING_MAX {
                    return Err(refusal::TOO_LARGE);
                }
                self.todo.extend(files.0);
                Ok(())
            }
            tag::BLOCKS => {
                let blocks: Blocks = decode("blocks", &message.body).map_err(|_| refusal::BAD_REQUEST)?;
                self.take_blocks(source, &blocks)
            }
            _ => Err(refusal::BAD_REQUEST),
        }
    }

    pub(super) fn next_output(&mut self, source: &'s dyn Source) -> Result<Output, u16> {
        match self.next_with_context(source)? {
            Next::Message(message, _) => Ok(Output::Message(message)),
            Next::Wait => Ok(Output::Wait),
            Next::Done => Ok(Output::Done),
        }
    }

    /// As [`next_output`](Self::next_output), with the context of each batch.
    pub(super) fn next_with_context(&mut self, source: &'s dyn Source) -> Result<Next, u16> {
        loop {
            if let Some((message, context)) = self.out.ready.pop_front() {
                return Ok(Next::Message(message, context));
            }
            if let Some(mut current) = self.current.take() {
                match current.advance(&mut self.out) {
                    Ok(true) => self.current = Some(current),
                    Ok(false) => {}
                    Err(Gone) => self.out.batch.gone(),
                }
            } else if !self.todo.is_empty() && self.may_look_ahead() {
                self.take_turn(source)?;
            } else if self.turns.front().is_some_and(|turn| self.ended || !turn.waits()) {
                self.begin_front(source)?;
            } else if !self.out.batch.is_empty() {
                self.out.flush();
            } else if self.ended && self.turns.is_empty() {
                return Ok(Next::Done);
            } else {
                return Ok(Next::Wait);
            }
            if self.out.batch.is_full(0) {
                self.out.flush();
            }
        }
    }

    fn may_look_ahead(&self) -> bool {
        let pieces = |turn: &Turn<'s>| if let Turn::Begun(begun) = turn { begun.pieces } else { 0 };
        self.turns.len() < LOOKS_AHEAD_MAX && self.turns.iter().map(pieces).sum::<usize>() < PIECES_AHEAD_MAX
    }

    /// Takes the next file: one for which the receiver has to be asked is laid out at once, so that it is asked for many
    /// before the first is sent.
    fn take_turn(&mut self, source: &'s dyn Source) -> Result<(), u16> {
        let Some(item) = self.todo.pop_front() else { return Ok(()) };
        let (number, weight) = (self.taken, item.weight());
        self.taken += 1;
        let turn = match item.way {
            way::WANTED | way::GAP if item.old.block != 0 => self.by_blocks(source, number, &item)?,
            way::GAP => return Err(refusal::BAD_REQUEST),
            way::BASE if self.asks => self.by_asking(source, number, item)?,
            way::ALL | way::BASE | way::WANTED => Turn::Later(item),
            _ => return Err(refusal::BAD_REQUEST),
        };
        if !matches!(turn, Turn::Later(_)) {
            self.waiting = self.waiting.saturating_sub(weight);
        }
        self.turns.push_back(turn);
        Ok(())
    }

    /// Lays out a file of whose old bytes the receiver has named the blocks.
    fn by_blocks(&mut self, source: &'s dyn Source, number: u64, item: &FileItem) -> Result<Turn<'s>, u16> {
        let bad = refusal::BAD_REQUEST;
        let (gaps, _) = unpack_gaps(&item.old.gaps, item.old.block, BLOCKS_MAX).ok_or(bad)?;
        let search = look::search(self.hashing(source), item.old.block, &gaps, &item.old.hashes).ok_or(bad)?;
        let opened = Stored::open(source, &self.module, &mut self.new_tree, &item.path, false)?;
        let Some((stored, chunks)) = opened else { return Ok(Turn::Gone) };
        let bits = (item.way == way::WANTED).then_some(item.wanted.as_slice());
        let parts = by_bits(bits, &gaps, chunks)?;
        let pieces = chunks_of(&parts);
        let mut begun = Begun { number, stored, parts, basis: None, asked: None, second: None, pieces };
        Ok(match look::find(&search, &begun.stored, &mut begun.parts) {
            Some(()) => {
                begun.ask_again(item.old.block, &mut self.out);
                Turn::Begun(Box::new(begun))
            }
            None => Turn::Gone,
        })
    }

    /// Lays out a file over its old version, and asks for the blocks of that.
    fn by_asking(&mut self, source: &'s dyn Source, number: u64, item: FileItem) -> Result<Turn<'s>, u16> {
        let opened = Stored::open(source, &self.module, &mut self.new_tree, &item.path, false)?;
        let Some((stored, chunks)) = opened else { return Ok(Turn::Gone) };
        let Some((basis, old, _)) = self.basis(source, &item.path, &stored)? else { return Ok(Turn::Later(item)) };
        let (parts, _) = over(&old, chunks)?;
        let (block, gaps) = look::first(&parts);
        if gaps.is_empty() || !is_worth_a_look(stored.class, stored.size, old.size(), copied(&parts)) {
            return Ok(Turn::Later(item));
        }
        let pieces = chunks_of(&parts);
        let mut begun = Begun { number, stored, parts, basis: Some(basis), asked: None, second: None, pieces };
        begun.ask(Asked { block, gaps, second: false }, &mut self.out);
        Ok(Turn::Begun(Box::new(begun)))
    }

    /// Takes what the receiver says of the blocks that it was asked for.
    fn take_blocks(&mut self, source: &'s dyn Source, blocks: &Blocks) -> Result<(), u16> {
        let rabin = self.hashing(source);
        let number = |turn: &Turn<'s>| if let Turn::Begun(begun) = turn { Some(begun.number) } else { None };
        let place = self.turns.iter().position(|turn| number(turn) == Some(blocks.file));
        let Some(turn) = place.and_then(|place| self.turns.get_mut(place)) else { return Err(refusal::BAD_REQUEST) };
        let Turn::Begun(begun) = turn else { return Err(refusal::BAD_REQUEST) };
        let asked = begun.asked.take().ok_or(refusal::BAD_REQUEST)?;
        if blocks.hashes.is_empty() {
            return Ok(());
        }
        let search = look::search(rabin, asked.block, &asked.gaps, &blocks.hashes).ok_or(refusal::BAD_REQUEST)?;
        if asked.second {
            begun.second = Some(search);
        } else if look::find(&search, &begun.stored, &mut begun.parts).is_some() {
            begun.ask_again(asked.block, &mut self.out);
        } else {
            *turn = Turn::Gone;
        }
        Ok(())
    }

    /// Begins to send the file whose turn it is.
    fn begin_front(&mut self, source: &'s dyn Source) -> Result<(), u16> {
        match self.turns.pop_front() {
            None => {}
            Some(Turn::Gone) => self.out.batch.gone(),
            Some(Turn::Later(item)) => {
                self.waiting = self.waiting.saturating_sub(item.weight());
                match self.open(source, &item)? {
                    Some(sending) => self.current = Some(sending),
                    None => self.out.batch.gone(),
                }
            }
            Some(Turn::Begun(begun)) => {
                let Begun { stored, parts, basis, second, .. } = *begun;
                self.current = Some(self.by_parts(basis, Parts { second, ..Parts::new(stored, parts) }));
            }
        }
        Ok(())
    }

    /// Sends a file by its parts, of which copies come from the file `basis` of the base, or from one of the receiver's
    /// choice.
    fn by_parts(&mut self, basis: Option<TreePath>, parts: Parts<'s>) -> Sending<'s> {
        if let Some(path) = basis {
            self.out.batch.basis(path);
        }
        Sending::Parts(Box::new(parts))
    }

    /// Starts a file for which nobody has to be asked; `None` when its content is gone.
    fn open(&mut self, source: &'s dyn Source, item: &FileItem) -> Result<Option<Sending<'s>>, u16> {
        let whole = item.way == way::ALL;
        let opened = Stored::open(source, &self.module, &mut self.new_tree, &item.path, whole)?;
        let Some((stored, chunks)) = opened else { return Ok(None) };
        if item.way == way::WANTED {
            let parts = by_bits(Some(&item.wanted), &[], chunks)?;
            return Ok(Some(self.by_parts(None, Parts::new(stored, parts))));
        }
        if item.way == way::BASE
            && let Some((basis, old, entry)) = self.basis(source, &item.path, &stored)?
        {
            let (parts, shared) = over(&old, chunks)?;
            let kept = self.kept(source, &entry, &old, &shared);
            let old = self.old_bytes(source, &basis, &entry, stored.size);
            return Ok(Some(self.by_parts(Some(basis), Parts { kept, old, ..Parts::new(stored, parts) })));
        }
        if whole {
            self.announce_leaves(stored.leaf_refs()?);
        }
        Ok(Some(Sending::Whole(Box::new(Whole { stored, chunks, offset: 0 }))))
    }

    /// Says which leaf pages follow, where there is more than one.
    fn announce_leaves(&mut self, mut refs: Vec<ListRef>) {
        if refs.len() < 2 {
            return;
        }
        self.out.flush();
        while !refs.is_empty() {
            let rest = refs.split_off(refs.len().min(LEAVES_MAX));
            let message = Message::new(tag::LEAVES, &LeafRefs { last: rest.is_empty(), refs });
            self.out.ready.push_back((message, Vec::new()));
            refs = rest;
        }
    }

    /// The path's version in the base, else the file there that shares most sampled chunks, else one with other digits in
    /// its path.
    fn basis(
        &mut self,
        source: &'s dyn Source,
        path: &TreePath,
        stored: &Stored<'_>,
    ) -> Result<Option<(TreePath, Old, Entry)>, u16> {
        let (Some(base), Some(old_tree)) = (self.base, &mut self.old_tree) else { return Ok(None) };
        let pages = source.pages();
        let mut from = file_at(source, old_tree, path)?.map(|old| (path.clone(), old));
        if from.is_none() && stored.listed {
            let mut samples = Samples::default();
            for chunk in chunks(pages, stored.id).map_err(|e| internal(&e))?.into_iter().flatten() {
                samples.add(&chunk.map_err(|e| internal(&e))?.id);
            }
            for similar in source.similar(&self.module, samples.ids()) {
                from = file_at(source, &mut PathFinder::new(base), &similar)?.map(|old| (similar, old));
                if from.is_some() {
                    break;
                }
            }
            if from.is_none() {
                let vanished = match self.vanished.take() {
                    Some(vanished) => vanished,
                    None => Vanished::between(pages, base, self.top)?,
                };
                from = vanished.similar(&samples);
                self.vanished = Some(vanished);
            }
        }
        if from.is_none() && stored.class == Class::Fine {
            from = alike(pages, base, path, stored.size, &mut self.names_left).map_err(|e| internal(&e))?;
        }
        let Some((path, entry)) = from else { return Ok(None) };
        Ok(old_version(source, &entry)?.map(|old| (path, old, entry)))
    }

    /// The old version itself, where it still stands in the tree: another version beside it, or one that was copied.
    fn old_bytes(&self, source: &dyn Source, basis: &TreePath, entry: &Entry, size: u64) -> Option<OldBytes> {
        let Body::File { id, size: old_size, class: Class::Fine } = entry.body else { return None };
        let is_it = |found: &Entry| matches!(found.body, Body::File { id: found, .. } if found == id);
        let mut paths = source.paths_of(&self.module, &id);
        paths.insert(0, basis.clone());
        let content = paths.iter().find_map(|path| {
            let found = file_at(source, &mut PathFinder::new(self.top), path).ok()?.filter(is_it)?;
            source.open(&self.module, path, &found)
        })?;
        Some(OldBytes { content, size: old_size, left: size })
    }

    /// What is kept of an old version.
    fn kept(&self, source: &dyn Source, entry: &Entry, old: &Old, shared: &HashSet<ChunkId>) -> Option<Kept> {
        let Body::File { id, size, .. } = entry.body else { return None };
        let block = kept_block(size)?;
        Kept::new(source.block_hashing()?, block, source.block_list(&self.module, &id)?, old, shared)
    }
}

/// Chunks that stand in runs.
fn chunks_of(parts: &[Part]) -> usize {
    parts.iter().map(|part| if let Part::Run(run) = part { run.chunks.len() } else { 1 }).sum()
}

/// The chunks of a file; `None` for one that has too many, or none.
fn old_version(source: &dyn Source, entry: &Entry) -> Result<Option<Old>, u16> {
    let Body::File { id, size, class } = entry.body else { return Ok(None) };
    let Some(list) = chunks(source.pages(), id).map_err(|e| internal(&e))? else {
        // One chunk, whose id nobody needs: if it were in the new version, that would be of one chunk too, and equal.
        let only = u32::try_from(size).ok().filter(|len| *len > 0 && *len as usize <= class.longest());
        let chunk = |len| Chunk { id: ChunkId::from_bytes(*id.as_bytes()), len };
        return Ok(only.map(|len| Old::new(std::iter::once(chunk(len)))));
    };
    let all: Vec<Chunk> = list.take(BASIS_CHUNKS_MAX + 1).collect::<Result<_, _>>().map_err(|e| internal(&e))?;
    Ok((all.len() <= BASIS_CHUNKS_MAX).then(|| Old::new(all.into_iter())))
}

impl Turn<'_> {
    /// Whether the receiver's word is needed first.
    fn waits(&self) -> bool {
        matches!(self, Self::Begun(begun) if begun.asked.is_some())
    }
}

impl Begun<'_> {
    fn ask(&mut self, asked: Asked, out: &mut Out) {
        let basis = self.basis.as_ref().map_or_else(Vec::new, |path| path.as_bytes().to_vec());
        let blocks: u64 = asked.gaps.iter().map(|gap| count(gap.1, asked.block as usize)).sum();
        self.pieces = chunks_of(&self.parts) + usize::try_from(blocks).unwrap_or(usize::MAX / 2);
        let look = Look { file: self.number, basis, block: asked.block, gaps: pack_gaps(&asked.gaps) };
        out.ready.push_back((Message::new(tag::LOOK, &look), Vec::new()));
        self.asked = Some(asked);
    }

    /// Asks for the second look, if there is anything to be won by it.
    fn ask_again(&mut self, block: u32, out: &mut Out) {
        let gaps = if block as usize > BLOCK { look::second(&self.stored, &mut self.parts, block) } else { Vec::new() };
        if !gaps.is_empty() {
            self.ask(Asked { block: BLOCK as u32, gaps, second: true }, out);
        }
    }
}
