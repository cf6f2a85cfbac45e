//! The side that has the snapshot: one [`Answer`] for each stream that a receiver opens.
//!
//! An answer is a machine without sockets: [`Answer::start`] takes the request, [`Answer::handle`] what follows on the
//! stream, and [`Answer::next_output`] gives the next message to send, so nothing is built before there is room for it.
//! A request names a module, a head and a place in it; nothing is served by hash alone.

use std::collections::VecDeque;
use std::sync::Arc;

use super::change::{ChangeWriter, held};
use super::effort::Effort;
use super::limits::{CHUNKS_MAX, PATHS_MAX, PATHS_WAITING_MAX, SHORT_LEN};
use super::message::{
    AtHead, Chunks, Descend, List, Message, Module, Partial, Paths, Poll, Refused, State, Tree, refusal, tag,
};
use super::sender_content::ContentAnswer;
use super::sender_descent::DescentAnswer;
use super::short::ShortIds;
use crate::delta::rabin::Rabin;
use crate::tree::codec::decode;
use crate::tree::dir::{Built, PathFinder};
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{BaseId, ChunkId, DirId, FileId, HeadId};
use crate::tree::list::{Chunk, Samples, chunks, file_id};
use crate::tree::name::TreePath;
use crate::tree::page::{PageError, PageSource};

/// Content that is read at any offset.
pub trait ReadAt: Send {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// As `pread(2)`; `UnexpectedEof` when the file is shorter.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()>;
}

/// What a sender knows and has. Failures of the index and the disk are logged by it and come back as a code of
/// [`refusal`].
pub trait Source {
    /// The modules that this peer may see.
    fn modules(&self) -> Vec<Module>;
    /// The newest signed objects of a module.
    ///
    /// # Errors
    /// A refusal code.
    fn state(&self, poll: &Poll) -> Result<State, u16>;
    /// The tree of a head of the module, if its pages are held.
    ///
    /// # Errors
    /// A refusal code.
    fn tree(&self, module: &str, head: &HeadId) -> Result<Option<Built>, u16>;
    /// As [`tree`](Self::tree), of what a receiver begins from; for a source that knows trees by their heads alone.
    ///
    /// # Errors
    /// A refusal code.
    fn base(&self, module: &str, base: &BaseId) -> Result<Option<Built>, u16> {
        self.tree(module, &HeadId::from_bytes(*base.as_bytes()))
    }
    /// Whether only a part of the module's trees is held.
    fn is_partial(&self, _module: &str) -> bool {
        false
    }
    /// All pages.
    fn pages(&self) -> &dyn PageSource;
    /// The content of the file at `path`, if what is on disk is still what `entry` says.
    fn open(&self, module: &str, path: &TreePath, entry: &Entry) -> Option<Box<dyn ReadAt>>;
    /// A few paths at which files are or were that share some of these [samples](Samples), most first: in the tree of the
    /// module as it is now, and so also where the file is from which the samples are.
    fn similar(&self, module: &str, samples: &[u64]) -> Vec<TreePath>;
    /// A few paths at which a file of this id may be; none for a source that does not look.
    fn paths_of(&self, _module: &str, _id: &FileId) -> Vec<TreePath> {
        Vec::new()
    }
    /// A chunk that no file may hold any more: none for a source that keeps no packs.
    fn past(&self, _module: &str, _chunk: &ChunkId) -> Option<Vec<u8>> {
        None
    }
    /// As [`past`](Self::past): all of a file of one chunk, whose list is not stored.
    fn past_file(&self, _module: &str, _id: &FileId) -> Option<Vec<u8>> {
        None
    }
    /// The list of blocks that is kept of a content, as [`kept_block`](crate::delta::blocks::kept_block) says.
    fn block_list(&self, _module: &str, _id: &FileId) -> Option<Vec<u32>> {
        None
    }
    /// The hash that such lists are made with.
    fn block_hashing(&self) -> Option<Arc<Rabin>> {
        None
    }
    /// Whether such lists are kept of the module's files. If not, the receiver is asked for the blocks of what it has.
    fn keeps_blocks(&self, _module: &str) -> bool {
        false
    }
    /// The hash of the handshake with this peer, by which short hashes are keyed.
    fn binding(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// What an answer wants next.
#[derive(Debug)]
pub enum Output {
    /// Send this.
    Message(Message),
    /// Wait for the receiver's next message.
    Wait,
    /// Everything is said.
    Done,
}

/// The answer to one request.
pub struct Answer<'s> {
    source: &'s dyn Source,
    ready: VecDeque<Message>,
    work: Work<'s>,
}

enum Work<'s> {
    /// Everything is in `ready`.
    Ready,
    Tree(Box<ChangeWriter<'s>>),
    Descent(DescentAnswer),
    Lists {
        module: String,
        top: DirId,
        todo: VecDeque<TreePath>,
        ended: bool,
    },
    Content(Box<ContentAnswer<'s>>),
}

impl<'s> Answer<'s> {
    /// Takes the first message of a stream.
    #[must_use]
    pub fn start(source: &'s dyn Source, request: &Message) -> Self {
        let mut answer = Self { source, ready: VecDeque::new(), work: Work::Ready };
        match answer.begin(request) {
            Ok(work) => answer.work = work,
            Err(code) => answer.refuse(code),
        }
        answer
    }

    /// Takes a later message of the receiver, or `None` for the end of its direction.
    pub fn handle(&mut self, message: Option<&Message>) {
        if let Err(code) = self.go_on(message) {
            self.refuse(code);
        }
    }

    /// What to do next. After [`Output::Wait`] comes a [`handle`](Self::handle), after [`Output::Done`] nothing.
    pub fn next_output(&mut self) -> Output {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Output::Message(message);
            }
            match self.work() {
                Ok(Some(output)) => return output,
                Ok(None) => {}
                Err(code) => self.refuse(code),
            }
        }
    }

    /// How content is packed from here on.
    pub fn set_effort(&mut self, effort: Effort) {
        if let Work::Content(content) = &mut self.work {
            content.set_effort(effort);
        }
    }

    /// Bytes of literals in all batches so far; none for an answer without content.
    #[must_use]
    pub fn literals(&self) -> u64 {
        if let Work::Content(content) = &self.work { content.literals() } else { 0 }
    }

    fn refuse(&mut self, code: u16) {
        self.ready.push_back(Message::new(tag::REFUSED, &Refused(code)));
        self.work = Work::Ready;
    }

    fn begin(&mut self, request: &Message) -> Result<Work<'s>, u16> {
        let bad = |_| refusal::BAD_REQUEST;
        match request.tag {
            tag::LIST => {
                let _: List = decode("list", &request.body).map_err(bad)?;
                let modules = self.source.modules();
                for module in &modules {
                    self.ready.push_back(Message::new(tag::MODULE, module));
                    self.ready.extend(partial(self.source, &module.name));
                }
                Ok(Work::Ready)
            }
            tag::POLL => {
                let poll: Poll = decode("poll", &request.body).map_err(bad)?;
                let state = self.source.state(&poll)?;
                self.ready.extend(partial(self.source, &poll.module));
                self.ready.push_back(Message::new(tag::STATE, &state));
                Ok(Work::Ready)
            }
            tag::TREE => self.begin_tree(&decode("tree", &request.body).map_err(bad)?),
            tag::DESCEND => {
                let descend: Descend = decode("descend", &request.body).map_err(bad)?;
                let top = self.tree(&descend.module, &descend.head)?.id;
                let absent = if self.source.is_partial(&descend.module) { refusal::PARTIAL } else { refusal::NO_HEAD };
                Ok(Work::Descent(DescentAnswer::new(top, descend.brief, absent)))
            }
            tag::LISTS => {
                let at: AtHead = decode("lists", &request.body).map_err(bad)?;
                let top = self.tree(&at.module, &at.head)?.id;
                Ok(Work::Lists { module: at.module, top, todo: VecDeque::new(), ended: false })
            }
            tag::CONTENT => {
                let content: super::message::Content = decode("content", &request.body).map_err(bad)?;
                let top = self.tree(&content.module, &content.head)?.id;
                let base = match &content.base {
                    Some(base) => self.source.base(&content.module, base)?.map(|built| built.id),
                    None => None,
                };
                let asks = !self.source.keeps_blocks(&content.module);
                Ok(Work::Content(Box::new(ContentAnswer::new(content.module, top, base, asks))))
            }
            _ => Err(refusal::BAD_REQUEST),
        }
    }

    fn tree(&self, module: &str, head: &HeadId) -> Result<Built, u16> {
        self.source.tree(module, head)?.ok_or(refusal::NO_HEAD)
    }

    fn begin_tree(&mut self, request: &Tree) -> Result<Work<'s>, u16> {
        let top = self.tree(&request.module, &request.head)?.id;
        if self.source.is_partial(&request.module) {
            return Err(refusal::PARTIAL);
        }
        let base = match &request.base {
            None => None,
            Some(base) => match self.source.base(&request.module, base)? {
                Some(built) => Some(built.id),
                None => {
                    self.ready.push_back(Message::new(tag::BASE_UNKNOWN, &[(); 0]));
                    return Ok(Work::Ready);
                }
            },
        };
        let (pages, paths_of) = (self.source.pages(), |id: &FileId| self.source.paths_of(&request.module, id));
        let held = held(pages, base, top, paths_of, |_| {}).map_err(|e| internal(&e))?;
        let writer = ChangeWriter::over(pages, base, top, Arc::new(held));
        Ok(Work::Tree(Box::new(writer)))
    }

    fn go_on(&mut self, message: Option<&Message>) -> Result<(), u16> {
        match (&mut self.work, message) {
            (Work::Descent(descent), message) => {
                if descent.handle(message)? {
                    self.work = Work::Ready;
                }
                Ok(())
            }
            (Work::Lists { todo, .. }, Some(message)) if message.tag == tag::PATHS => {
                let paths: Paths = decode("paths", &message.body).map_err(|_| refusal::BAD_REQUEST)?;
                room_for(paths.0.len(), todo.len())?;
                todo.extend(paths.0);
                Ok(())
            }
            (Work::Lists { ended, .. }, None) => {
                *ended = true;
                Ok(())
            }
            (Work::Content(content), message) => content.handle(self.source, message),
            (Work::Ready | Work::Tree(_), None) => Ok(()),
            _ => Err(refusal::BAD_REQUEST),
        }
    }

    fn work(&mut self) -> Result<Option<Output>, u16> {
        let source = self.source;
        match &mut self.work {
            Work::Ready => Ok(Some(Output::Done)),
            Work::Tree(writer) => match writer.next_message().map_err(|e| internal(&e))? {
                Some(message) => Ok(Some(Output::Message(message))),
                None => Ok(Some(Output::Done)),
            },
            Work::Descent(descent) => {
                let message = descent.next_message(source.pages())?;
                Ok(Some(message.map_or(Output::Wait, Output::Message)))
            }
            Work::Lists { module, top, todo, ended } => match todo.pop_front() {
                Some(path) => {
                    self.ready = list_messages(source, module, *top, &path)?;
                    Ok(None)
                }
                None if *ended => Ok(Some(Output::Done)),
                None => Ok(Some(Output::Wait)),
            },
            Work::Content(content) => content.next_output(source).map(Some),
        }
    }
}

/// What is said beside an answer when only a part of the module is held.
fn partial(source: &dyn Source, module: &str) -> Option<Message> {
    source.is_partial(module).then(|| Message::new(tag::PARTIAL, &Partial(module.to_owned())))
}

/// Logs what failed here and gives the code that the peer sees.
pub(super) fn internal(error: &dyn std::error::Error) -> u16 {
    tracing::error!(%error, "cannot answer a peer");
    refusal::INTERNAL
}

/// Refuses more paths in one message, or waiting on one stream, than the limits allow.
pub(super) fn room_for(more: usize, waiting: usize) -> Result<(), u16> {
    if more > PATHS_MAX {
        return Err(refusal::BAD_REQUEST);
    }
    if more + waiting > PATHS_WAITING_MAX { Err(refusal::TOO_LARGE) } else { Ok(()) }
}

/// The file at `path`, or the code for there being none.
pub(super) fn file_at(source: &dyn Source, tree: &mut PathFinder, path: &TreePath) -> Result<Option<Entry>, u16> {
    let entry = tree.find(source.pages(), path).map_err(|error| match error {
        PageError::Missing(_) => refusal::PARTIAL,
        error => internal(&error),
    })?;
    Ok(entry.filter(|entry| matches!(entry.body, Body::File { .. })).cloned())
}

/// The one chunk of a file whose list is not stored, read from its content, or from a pack, and checked against its id.
pub(super) fn only_chunk(
    source: &dyn Source,
    module: &str,
    path: &TreePath,
    entry: &Entry,
) -> Option<(Chunk, Vec<u8>)> {
    let Body::File { size, class, id } = entry.body else { return None };
    let len = usize::try_from(size).ok().filter(|len| *len <= class.longest())?;
    let checked = |bytes: Vec<u8>| {
        let chunk = Chunk::of(&bytes);
        (bytes.len() == len && file_id(&[chunk]).ok()? == id).then_some((chunk, bytes))
    };
    let on_disk = source.open(module, path, entry).and_then(|content| {
        let mut bytes = vec![0; len];
        content.read_exact_at(&mut bytes, 0).ok().and_then(|()| checked(bytes))
    });
    on_disk.or_else(|| source.past_file(module, &id).and_then(checked))
}

/// A list that cannot be given is an empty one, which no file with content has.
fn list_messages(source: &dyn Source, module: &str, top: DirId, path: &TreePath) -> Result<VecDeque<Message>, u16> {
    let ids = ShortIds::new(&source.binding());
    let (mut messages, mut short, mut samples) = (VecDeque::new(), Vec::new(), Samples::default());
    if let Some(entry) = file_at(source, &mut PathFinder::new(top), path)?
        && let Body::File { size, id, .. } = entry.body
        && size > 0
    {
        if let Some(list) = chunks(source.pages(), id).map_err(|e| internal(&e))? {
            for chunk in list {
                let chunk = chunk.map_err(|e| internal(&e))?;
                short.extend_from_slice(&ids.of(&chunk.id));
                samples.add(&chunk.id);
                if short.len() >= CHUNKS_MAX / 2 * SHORT_LEN {
                    let part = Chunks { last: false, short: std::mem::take(&mut short), samples: Vec::new() };
                    messages.push_back(Message::new(tag::CHUNKS, &part));
                }
            }
        } else if let Some((chunk, _)) = only_chunk(source, module, path, &entry) {
            short.extend_from_slice(&ids.of(&chunk.id));
        }
    }
    let last = Chunks { last: true, short, samples: samples.ids().to_vec() };
    messages.push_back(Message::new(tag::CHUNKS, &last));
    Ok(messages)
}
