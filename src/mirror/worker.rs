//! One stream of content: what it has asked for, and what becomes of what comes.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::PoisonError;

use super::dial::nonsense;
use super::failure::Failure;
use super::line::Exchange;
use super::own::{Own, block_hashes};
use super::placing::Awaited;
use super::shelf::StageShelf;
use super::take_content::{How, Job, Taken, Work, broken, fetch_failure, stage_failure};
use super::take_tree::{index_failure, page_failure};
use crate::delta::rabin::Rabin;
use crate::disk::index::{ModuleNumber, Reader};
use crate::protocol::descent::{ListReader, ShortList};
use crate::protocol::fetch::{Fetch, Have, Outcome, Shelf, Wanted};
use crate::protocol::limits::{FILES_WAITING_MAX, LOOK_BLOCKS_MAX, LOOKS_MAX, PATHS_BYTES_MAX};
use crate::protocol::message::{AtHead, Blocks, Content, FileItem, Files, Look, Message, OldBlocks, Paths, tag, way};
use crate::protocol::short::{ShortIds, block_hashing, unpack_gaps};
use crate::tree::alike::{self, alike};
use crate::tree::chunker::Class;
use crate::tree::codec::{Malformed, decode};
use crate::tree::entry::{Body, Meta};
use crate::tree::hash::{DirId, FileId};
use crate::tree::name::TreePath;

/// Files that a stream may have asked for and not got, before it asks for more.
const AHEAD_FILES: usize = 2_048;
/// Bytes of one message that asks for content, but for its last file.
const ASKED_BYTES: usize = 256 * 1024;
/// Bytes of what goes with one file, beyond which it is asked for whole.
const ITEM_BYTES_MAX: usize = PATHS_BYTES_MAX as usize - 64 * 1024;
/// Files that have come before a slice hears of them.
const LANDED_MAX: usize = 256;
/// Times a file is asked for, counting the first.
const TRIES_MAX: u32 = 3;

/// What the files that a stream has asked for may weigh before it asks for more; one group goes beyond it at most, and
/// that no farther than again as much, which the sender bears.
const WEIGHT_MAX: usize = FILES_WAITING_MAX / 4;

/// A file that was asked for.
struct Asked {
    job: Job,
    /// Its number on the stream.
    number: u64,
    looks: u8,
    weight: usize,
}

/// One content stream.
pub(super) struct Worker<'w> {
    work: &'w Work<'w>,
    content: Option<Exchange<'w>>,
    lists: Option<Exchange<'w>>,
    /// What came while something was being sent.
    early: VecDeque<Message>,
    reader: Reader,
    fetch: Fetch,
    shelf: StageShelf<'w>,
    /// Files that were asked for and have not ended.
    asked: HashMap<FileId, Asked>,
    /// The same by their numbers.
    numbers: HashMap<u64, FileId>,
    /// The number of the next one.
    next_number: u64,
    /// What they weigh.
    weight: usize,
    short: ShortIds,
    rabin: Option<Rc<Rabin>>,
    /// Entries that may still be looked at by name.
    names_left: usize,
    /// Of files that have come, but perhaps not their chunk lists.
    landed: Vec<Awaited>,
    taken: Taken,
}

impl<'w> Worker<'w> {
    pub(super) fn new(work: &'w Work<'w>) -> Result<Self, Failure> {
        let task = work.task;
        let reader = task.index.reader().map_err(index_failure)?;
        let shelf = StageShelf::new(task.index, task.stage, task.target, task.base.map(|(_, tree)| tree));
        let short = ShortIds::new(task.line.binding());
        Ok(Self {
            work,
            content: None,
            lists: None,
            early: VecDeque::new(),
            reader,
            fetch: Fetch::default(),
            shelf,
            asked: HashMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            weight: 0,
            short,
            rabin: None,
            names_left: alike::BUDGET,
            landed: Vec::new(),
            taken: Taken::default(),
        })
    }

    pub(super) fn run(mut self) -> Result<Taken, Failure> {
        while !self.work.stopped() {
            while self.fetch.outstanding() < AHEAD_FILES && self.weight < WEIGHT_MAX {
                let is_idle = self.fetch.outstanding() == 0;
                if is_idle {
                    self.flush()?;
                }
                let Some(group) = self.work.next_group(is_idle) else { break };
                self.ask(group)?;
            }
            if self.fetch.outstanding() == 0 {
                break;
            }
            self.receive()?;
        }
        for exchange in [&self.content, &self.lists].into_iter().flatten() {
            exchange.finish()?;
        }
        self.flush()?;
        self.taken.counts = self.fetch.counts;
        Ok(self.taken)
    }

    /// Writes what was gathered of chunk lists. With them a file has come that a slice waits for.
    fn flush(&mut self) -> Result<(), Failure> {
        self.shelf.flush().map_err(index_failure)?;
        self.landed.clear();
        Ok(())
    }

    fn rabin(&mut self) -> Rc<Rabin> {
        let binding = self.work.task.line.binding();
        self.rabin.get_or_insert_with(|| Rc::new(block_hashing(binding))).clone()
    }

    fn ask(&mut self, mut group: Vec<Job>) -> Result<(), Failure> {
        self.compare(&mut group)?;
        let (mut items, mut bytes) = (Vec::new(), 0);
        for mut job in group {
            let item = self.item(&mut job)?;
            let weight = item.weight();
            bytes += weight;
            items.push(item);
            self.fetch.expect(job.wanted.clone());
            self.weight += weight;
            self.shelf.dress(job.wanted.id, job.meta);
            let (id, number) = (job.wanted.id, self.next_number);
            self.numbers.insert(number, id);
            self.asked.insert(id, Asked { job, number, looks: 0, weight });
            self.next_number += 1;
            if bytes >= ASKED_BYTES {
                self.send_content(Files(std::mem::take(&mut items)).message())?;
                bytes = 0;
            }
        }
        if items.is_empty() { Ok(()) } else { self.send_content(Files(items).message()) }
    }

    /// How a file is asked for, by what is here of it.
    fn item(&mut self, job: &mut Job) -> Result<FileItem, Failure> {
        if job.how == How::ByGap
            && let Some(own) = self.old_version(&job.wanted)?
        {
            job.wanted.way = way::GAP;
            self.shelf.remember(job.wanted.id, Rc::new(own));
        }
        let mut item = FileItem::plain(job.wanted.path.clone(), job.wanted.way);
        let Some(own) = self.shelf.known(&job.wanted.id) else { return Ok(item) };
        if own.is_worth_a_look(job.wanted.class, job.wanted.size) {
            let rabin = self.rabin();
            item.old = own.old_blocks(&rabin);
        }
        if job.wanted.way == way::WANTED {
            item.wanted = own.wanted_bits();
        }
        if item.old.hashes.len() + 9 * item.old.gaps.len() + item.wanted.len() > ITEM_BYTES_MAX {
            item.old = OldBlocks::default();
        }
        let useless = job.wanted.way == way::GAP && item.old.block == 0;
        let whole = useless || item.wanted.len() > ITEM_BYTES_MAX || self.weight + item.weight() > 2 * WEIGHT_MAX;
        if whole {
            self.shelf.forget(&job.wanted.id);
            job.wanted.way = way::ALL;
            item = FileItem::plain(job.wanted.path.clone(), way::ALL);
        }
        Ok(item)
    }

    /// Sends on the stream of content. What comes meanwhile is taken in, so that neither side waits for the other.
    fn send_content(&mut self, message: Message) -> Result<(), Failure> {
        let task = self.work.task;
        let content = match self.content.take() {
            Some(content) => content,
            None => {
                let base = task.base.map(|(base, _)| base);
                let request = Content { module: task.line.module.clone(), head: task.head, base };
                task.line.ask(Message::new(tag::CONTENT, &request))?
            }
        };
        content.send_among(message, &mut self.early)?;
        self.content = Some(content);
        Ok(())
    }

    /// Asks for the chunk lists of the files that may share something with what is here, and finds out what.
    fn compare(&mut self, group: &mut [Job]) -> Result<(), Failure> {
        let by_list = |job: &&mut Job| job.how == How::ByList;
        let paths: Vec<TreePath> = group.iter_mut().filter(by_list).map(|job| job.wanted.path.clone()).collect();
        if paths.is_empty() {
            return Ok(());
        }
        let task = self.work.task;
        let lists = match self.lists.take() {
            Some(lists) => lists,
            None => task
                .line
                .ask(Message::new(tag::LISTS, &AtHead { module: task.line.module.clone(), head: task.head }))?,
        };
        lists.send(Message::new(tag::PATHS, &Paths(paths)))?;
        for job in group.iter_mut().filter(by_list) {
            let list = self.receive_list(&lists, &job.wanted)?;
            if let Some(own) = self.own(&job.wanted, &list)? {
                job.wanted.way = way::WANTED;
                self.shelf.remember(job.wanted.id, Rc::new(own));
            }
        }
        self.lists = Some(lists);
        Ok(())
    }

    fn receive_list(&self, lists: &Exchange<'_>, wanted: &Wanted) -> Result<ShortList, Failure> {
        let task = self.work.task;
        let mut list = ListReader::default();
        loop {
            let Some(message) = lists.receive(task.monitor)? else { return Err(broken()) };
            if message.tag != tag::CHUNKS {
                return Err(task.line.unexpected(&message));
            }
            let got = list.chunks(&message.body, wanted.size, wanted.class);
            if let Some(list) = got.map_err(|e| nonsense(&task.line.host, &e))? {
                return Ok(list);
            }
        }
    }

    /// Which chunks of a list are here: in what was begun of the file, in its old version, or in a similar file.
    fn own(&mut self, wanted: &Wanted, list: &ShortList) -> Result<Option<Own>, Failure> {
        let task = self.work.task;
        if list.chunks.is_empty() {
            return Ok(None);
        }
        let mut own = Own::new(list.chunks.len());
        if let Some(begun) = task.stage.partial(&wanted.id, wanted.size).map_err(|e| stage_failure(&e))? {
            own.take_begun(&list.chunks, &self.short, begun.file(), wanted.class)
                .map_err(|e| Failure::local("cannot read what was begun", &e))?;
        }
        if let Some(basis) = self.basis_of(wanted, &list.samples)? {
            own.take_basis(&list.chunks, &self.short, &*self.reader, basis).map_err(page_failure)?;
        }
        Ok(own.is_of_use().then_some(own))
    }

    /// The file here that is most like the wanted one, in the module's directory or else in a seed.
    fn basis_of(&mut self, wanted: &Wanted, samples: &[u64]) -> Result<Option<(std::fs::File, FileId, u64)>, Failure> {
        let task = self.work.task;
        let seeds = task.seeds.iter().map(|seed| (seed.module, seed.dir, seed.tree));
        for (module, dir, tree) in std::iter::once((task.module, task.target, task.local)).chain(seeds) {
            let found = self.similar(module, tree, wanted, samples)?;
            if let Some((path, id, size)) = found
                && let Ok(file) = dir.open_file_at(&path)
            {
                return Ok(Some((file, id, size)));
            }
        }
        Ok(None)
    }

    /// The old version of the wanted file in one directory, or one that shares chunks, or one with other digits in its
    /// path.
    fn similar(
        &mut self,
        module: ModuleNumber,
        tree: DirId,
        wanted: &Wanted,
        samples: &[u64],
    ) -> Result<Option<(TreePath, FileId, u64)>, Failure> {
        let mut found = self.reader.file(module, &wanted.path).map_err(index_failure)?.map(|row| {
            let size = row.stat.size;
            (wanted.path.clone(), row.id, size)
        });
        if found.is_none() {
            for key in self.reader.similar(module, samples, 1).map_err(index_failure)? {
                let files = self.reader.files_of_key(module, key.0, 1).map_err(index_failure)?;
                found = files.into_iter().next().map(|(path, row)| (path, row.id, row.stat.size));
            }
        }
        if found.is_none() && wanted.class == Class::Fine {
            let alike = alike(&*self.reader, tree, &wanted.path, wanted.size, &mut self.names_left);
            found = alike.map_err(page_failure)?.and_then(|(path, entry)| match entry.body {
                Body::File { id, size, .. } => Some((path, id, size)),
                _ => None,
            });
        }
        Ok(found)
    }

    /// The old version of a file of which no list is asked for.
    fn old_version(&mut self, wanted: &Wanted) -> Result<Option<Own>, Failure> {
        let Some(basis) = self.basis_of(wanted, &[])? else { return Ok(None) };
        let mut own = Own::new(0);
        own.take_basis(&[], &self.short, &*self.reader, basis).map_err(page_failure)?;
        Ok(Some(own))
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let task = self.work.task;
        let message = match (self.early.pop_front(), &self.content) {
            (Some(message), _) => message,
            (None, Some(content)) => content.receive(task.monitor)?.ok_or_else(broken)?,
            (None, None) => return Err(broken()),
        };
        let before = self.fetch.counts.content();
        let outcomes = match message.tag {
            tag::LOOK => return self.look(&message),
            tag::LEAVES => self.fetch.leaves(&message.body).map(|()| Vec::new()),
            tag::BATCH => self.fetch.batch(&message.body, &mut self.shelf),
            _ => return Err(task.line.unexpected(&message)),
        };
        let outcomes = outcomes.map_err(|error| fetch_failure(&task.line.host, error))?;
        task.monitor.advance(0, self.fetch.counts.content() - before);
        for outcome in outcomes {
            self.settle(outcome)?;
        }
        if self.shelf.is_full() || self.landed.len() >= LANDED_MAX { self.flush() } else { Ok(()) }
    }

    /// Says of old bytes what the sender asks.
    fn look(&mut self, message: &Message) -> Result<(), Failure> {
        let host = &self.work.task.line.host;
        let look: Look = decode("look", &message.body).map_err(|e| nonsense(host, &e))?;
        let rule = |rule| Malformed::Rule { what: "look", rule };
        let file = self.numbers.get(&look.file).and_then(|id| self.asked.get_mut(id));
        let Asked { job, looks, .. } = file.ok_or_else(|| nonsense(host, &rule("is at no file that was asked for")))?;
        *looks += 1;
        if *looks > LOOKS_MAX {
            return Err(nonsense(host, &rule("is one too many at its file")));
        }
        let (gaps, _) = unpack_gaps(&look.gaps, look.block, LOOK_BLOCKS_MAX)
            .ok_or_else(|| nonsense(host, &rule("is at more than may be asked for")))?;
        let have: Option<Rc<dyn Have>> = if look.basis.is_empty() {
            self.shelf.known(&job.wanted.id).map(|own| own as Rc<dyn Have>)
        } else {
            TreePath::new(&look.basis).ok().and_then(|path| self.shelf.basis(&path))
        };
        let rabin = self.rabin();
        let hashes = have.and_then(|have| block_hashes(&*have, &rabin, &gaps, look.block)).unwrap_or_default();
        self.send_content(Message::new(tag::BLOCKS, &Blocks { file: look.file, hashes }))
    }

    fn settle(&mut self, outcome: Outcome) -> Result<(), Failure> {
        let (Outcome::Done(wanted) | Outcome::Gone(wanted) | Outcome::Retry(wanted)) = &outcome;
        let asked = self.asked.remove(&wanted.id);
        self.shelf.forget(&wanted.id);
        if let Some(asked) = &asked {
            self.numbers.remove(&asked.number);
            self.weight -= asked.weight;
        }
        match outcome {
            Outcome::Done(_) => {
                self.landed.extend(asked.and_then(|asked| asked.job.awaited));
                self.taken.files += 1;
                self.work.task.monitor.advance(1, 0);
            }
            Outcome::Gone(wanted) => self.taken.gone.push(wanted.path),
            Outcome::Retry(mut wanted) => {
                let (tries, meta, awaited) = match asked {
                    Some(Asked { job, .. }) => (job.tries + 1, job.meta, job.awaited),
                    None => (1, Meta::default(), None),
                };
                if tries >= TRIES_MAX {
                    let rule = Malformed::Rule { what: "content", rule: "does not become the file that was asked for" };
                    return Err(nonsense(&self.work.task.line.host, &rule));
                }
                wanted.way = way::ALL;
                // What was rebuilt may be right but for a chunk, which its list shows.
                let kept = self.work.task.stage.partial(&wanted.id, wanted.size).map_err(|e| stage_failure(&e))?;
                let how = if kept.is_some() && tries == 1 { How::ByList } else { How::Plain(way::ALL) };
                let job = Job { wanted, meta, how, tries, awaited };
                self.work.again.lock().unwrap_or_else(PoisonError::into_inner).push(job);
            }
        }
        Ok(())
    }
}
