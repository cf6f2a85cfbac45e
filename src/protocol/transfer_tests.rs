//! Whole exchanges between a sender and a receiver in memory: trees, lists and content, honest and lying.

mod changes;
mod descents;
mod lies;
mod looks;
mod push;
mod requests;
mod stream;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use proptest::prelude::*;

use super::batch::Batch;
use super::brief;
use super::change::ChangeReader;
use super::descent::{Descent, ListReader, ShortList};
use super::fetch::{Fetch, FetchError, Have, Landing, Outcome, Shelf, Wanted};
use super::limits::{LOOK_BLOCKS_MAX, LOOKS_MAX};
use super::message::{
    AtHead, Blocks, Content, Descend, FileItem, Files, Look, Message, Module, OldBlocks, Paths, Poll, State, Tree,
    refusal, tag, way,
};
use super::pack::{Literal, Pack};
use super::sender::{Answer, Output, ReadAt, Source};
use super::short::{ShortIds, block_hashing, first_look, pack_gaps, pack_hashes, unpack_gaps};
use crate::delta::blocks::kept_block;
use crate::delta::rabin::Rabin;
use crate::tree::chunker::Class;
use crate::tree::codec::decode;
use crate::tree::diff::changes;
use crate::tree::dir::{Built, build, look_up};
use crate::tree::entry::{Body, Entry, Meta};
use crate::tree::hash::{ChunkId, FileId, HeadId};
use crate::tree::list::{Chunk, ListBuilder, chunks, file_id};
use crate::tree::name::TreePath;
use crate::tree::page::{PageSink, PageSource, Pages};

/// The handshake of the connection on which all of this happens.
const BINDING: &[u8] = b"a handshake";

/// Content by path; a path ending in a slash is an empty directory.
type Files0 = BTreeMap<String, Vec<u8>>;

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(self.0.get(from..from + buffer.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn cut(bytes: &[u8], class: Class) -> Vec<Chunk> {
    let (mut at, mut list) = (0, Vec::new());
    while at < bytes.len() {
        let len = class.cut(&bytes[at..]);
        list.push(Chunk { id: ChunkId::of(&bytes[at..at + len]), len: u32::try_from(len).unwrap() });
        at += len;
    }
    list
}

fn tree(files: &Files0, at: &str, pages: &mut Pages) -> Built {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for (path, bytes) in files {
        let Some(rest) = path.strip_prefix(at) else { continue };
        let name = rest.split('/').next().unwrap();
        if name.is_empty() || entries.contains_key(name) {
            continue;
        }
        let body = if rest.contains('/') {
            tree(files, &format!("{at}{name}/"), pages).body()
        } else {
            let mut list = ListBuilder::default();
            cut(bytes, Class::Fine).into_iter().for_each(|c| list.push(c, pages).unwrap());
            let (id, size) = list.finish(pages).unwrap();
            Body::File { size, class: Class::Fine, id }
        };
        let name_checked = crate::tree::name::Name::new(name.as_bytes()).unwrap();
        entries.insert(name.into(), Entry { name: name_checked, meta: Meta::default(), body, attributes: vec![] });
    }
    let mut sorted: Vec<_> = entries.into_values().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    build(&sorted, pages).unwrap()
}

fn head_id(built: &Built) -> HeadId {
    HeadId::from_bytes(*built.id.as_bytes())
}

/// A sender with two states, of which the second is on its disk.
struct Sender {
    pages: Pages,
    old: Built,
    new: Built,
    files: Files0,
    knows_old: bool,
    /// What is kept of the past.
    pack: Option<Pack>,
    /// Lists of blocks by content, if they are kept.
    lists: Option<HashMap<FileId, Vec<u32>>>,
}

const SECRET: [u8; 32] = [5; 32];

/// The list that is kept of a content.
fn kept(bytes: &[u8]) -> Option<(FileId, Vec<u32>)> {
    let (rabin, block) = (Rabin::new(&SECRET), kept_block(bytes.len() as u64)?);
    let mut hashes = Vec::new();
    pieces(bytes).iter().for_each(|chunk| rabin.list(chunk, block, &mut hashes));
    Some((file_id(&cut(bytes, Class::Fine)).unwrap(), hashes))
}

impl Sender {
    fn new(old: &Files0, new: &Files0) -> Self {
        let mut pages = Pages::new();
        let (old, built) = (tree(old, "", &mut pages), tree(new, "", &mut pages));
        Self { pages, old, new: built, files: new.clone(), knows_old: true, pack: None, lists: None }
    }

    /// One that keeps lists of the old state.
    fn with_lists(old: &Files0, new: &Files0) -> Self {
        Self { lists: Some(old.values().filter_map(|bytes| kept(bytes)).collect()), ..Self::new(old, new) }
    }
}

impl Source for Sender {
    fn modules(&self) -> Vec<Module> {
        vec![Module { name: "m".into(), title: String::new(), root: vec![].into(), head: None }]
    }
    fn state(&self, _: &Poll) -> Result<State, u16> {
        Err(refusal::NO_SNAPSHOT)
    }
    fn tree(&self, module: &str, head: &HeadId) -> Result<Option<Built>, u16> {
        if module != "m" {
            return Err(refusal::NO_MODULE);
        }
        Ok([self.new, self.old].into_iter().find(|b| head_id(b) == *head && (self.knows_old || *b == self.new)))
    }
    fn pages(&self) -> &dyn PageSource {
        &self.pages
    }
    fn open(&self, _: &str, path: &TreePath, _: &Entry) -> Option<Box<dyn ReadAt>> {
        Some(Box::new(Bytes(self.files.get(&path.to_string())?.clone())))
    }
    fn block_list(&self, _: &str, id: &FileId) -> Option<Vec<u32>> {
        self.lists.as_ref()?.get(id).cloned()
    }
    fn block_hashing(&self) -> Option<std::sync::Arc<Rabin>> {
        self.lists.as_ref().map(|_| Rabin::new(&SECRET).into())
    }
    fn keeps_blocks(&self, _: &str) -> bool {
        self.lists.is_some()
    }
    fn binding(&self) -> Vec<u8> {
        BINDING.to_vec()
    }
    fn similar(&self, _: &str, wanted: &[u64]) -> Vec<TreePath> {
        let mut found = Vec::new();
        for change in changes(&self.pages, None, Some(self.new.id)) {
            let change = change.unwrap();
            let Some(Body::File { id, .. }) = change.new.map(|e| e.body) else { continue };
            let Some(list) = chunks(&self.pages, id).unwrap() else { continue };
            let shared = list.filter(|c| wanted.contains(&c.as_ref().unwrap().id.prefix())).count();
            found.extend((shared > 0).then_some((std::cmp::Reverse(shared), change.path)));
        }
        found.sort();
        found.into_iter().map(|(_, path)| path).collect()
    }
    fn paths_of(&self, _: &str, id: &FileId) -> Vec<TreePath> {
        let all = changes(&self.pages, None, Some(self.old.id)).map(Result::unwrap);
        all.filter(|c| c.new.as_ref().is_some_and(|e| file_id_of(e) == Some(*id))).map(|c| c.path).take(4).collect()
    }
    fn past(&self, _: &str, chunk: &ChunkId) -> Option<Vec<u8>> {
        self.literal(|literal| literal.chunk == *chunk)
    }
    fn past_file(&self, _: &str, id: &FileId) -> Option<Vec<u8>> {
        self.literal(|literal| literal.file == Some(*id))
    }
}

impl Sender {
    fn literal(&self, which: impl Fn(&Literal) -> bool) -> Option<Vec<u8>> {
        let pack = self.pack.as_ref()?;
        let found = pack.literals().into_iter().find(which)?;
        Some(pack.literals_of(found.message)?[found.at..found.at + found.len].to_vec())
    }
}

fn file_id_of(entry: &Entry) -> Option<FileId> {
    match entry.body {
        Body::File { id, .. } => Some(id),
        _ => None,
    }
}

/// Runs an answer to its end: sends `messages`, then ends the direction, and gives what came.
fn ask(sender: &Sender, request: Message, messages: Vec<Message>) -> Vec<Message> {
    let mut answer = Answer::start(sender, &request);
    let mut queue: std::collections::VecDeque<_> = messages.into();
    let mut got = Vec::new();
    loop {
        match answer.next_output() {
            Output::Message(m) => got.push(m),
            Output::Wait => answer.handle(queue.pop_front().as_ref()),
            Output::Done => return got,
        }
    }
}

struct Receiver {
    old: Files0,
    /// Chunks of wanted files that were said to be here.
    here: HashMap<TreePath, Vec<ChunkId>>,
    pages: Pages,
    landed: Rc<RefCell<HashMap<TreePath, Vec<u8>>>>,
}

struct MemoryLanding(TreePath, Vec<u8>, Rc<RefCell<HashMap<TreePath, Vec<u8>>>>);

impl Landing for MemoryLanding {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.1.extend_from_slice(bytes);
        Ok(())
    }
    fn finish(self: Box<Self>) -> std::io::Result<()> {
        self.2.borrow_mut().insert(self.0, self.1);
        Ok(())
    }
    fn discard(self: Box<Self>) {}
}

/// Chunks that are here, and a basis.
struct Here(Vec<Vec<u8>>, Vec<u8>);

impl Have for Here {
    fn chunk(&self, index: u64) -> Option<Vec<u8>> {
        self.0.get(usize::try_from(index).ok()?).cloned()
    }
    fn read(&self, from: u64, buffer: &mut [u8]) -> bool {
        Bytes(self.1.clone()).read_exact_at(buffer, from).is_ok()
    }
}

fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut at = 0;
    cut(bytes, Class::Fine)
        .iter()
        .map(|c| {
            at += c.len as usize;
            bytes[at - c.len as usize..at].to_vec()
        })
        .collect()
}

impl Shelf for Receiver {
    fn begin(&mut self, wanted: &Wanted) -> std::io::Result<Box<dyn Landing>> {
        Ok(Box::new(MemoryLanding(wanted.path.clone(), vec![], self.landed.clone())))
    }
    fn basis(&mut self, path: &TreePath) -> Option<Rc<dyn Have>> {
        Some(Rc::new(Here(Vec::new(), self.old.get(&path.to_string())?.clone())))
    }
    fn own(&mut self, wanted: &Wanted) -> Option<Rc<dyn Have>> {
        let old = self.old.get(&wanted.path.to_string())?;
        let here = self.here.get(&wanted.path).cloned().unwrap_or_default();
        let find = |id: ChunkId| pieces(old).into_iter().find(|piece| ChunkId::of(piece) == id).unwrap_or_default();
        Some(Rc::new(Here(here.into_iter().map(find).collect(), old.clone())))
    }
    fn pages(&mut self) -> &mut dyn PageSink {
        &mut self.pages
    }
}

fn receiver(old: &Files0) -> Receiver {
    let mut pages = Pages::new();
    tree(old, "", &mut pages);
    Receiver { old: old.clone(), here: HashMap::new(), pages, landed: Rc::default() }
}

/// Gets the new tree's pages in the given way.
fn fetch_tree(sender: &Sender, receiver: &mut Receiver, how: u8) -> Built {
    let head = head_id(&sender.new);
    if how >= 2 {
        let id = |bytes: &Vec<u8>| file_id(&cut(bytes, Class::Fine)).unwrap();
        let ids: Vec<FileId> = receiver.old.values().map(id).collect();
        let guess = |brief| Ok(ids.iter().find(|id| brief::brief(id) == brief).copied());
        descents::descend(sender, &mut receiver.pages, how == 3, &guess).unwrap();
        return sender.new;
    }
    let base = (how == 1).then_some(sender.old);
    let request = Tree { module: "m".into(), head, base: base.as_ref().map(|tree| head_id(tree).into()) };
    let mut reader = ChangeReader::new(base, sender.new.entries);
    for message in ask(sender, Message::new(tag::TREE, &request), vec![]) {
        assert_eq!(message.tag, tag::CHANGES);
        reader.apply(&message.body, &mut receiver.pages).unwrap();
    }
    reader.finish(&mut receiver.pages).unwrap()
}

fn changed_files(sender: &Sender) -> Vec<(TreePath, Entry)> {
    changes(&sender.pages, Some(sender.old.id), Some(sender.new.id))
        .map(Result::unwrap)
        .filter_map(|c| c.new.filter(|e| matches!(e.body, Body::File { .. })).map(|e| (c.path, e)))
        .collect()
}

fn wanted(path: &TreePath, entry: &Entry, way: u8) -> Wanted {
    let Body::File { size, class, id } = entry.body else { unreachable!() };
    Wanted { path: path.clone(), id, size, class, way }
}

/// How a file is asked for, by what the receiver has at its path.
fn item(sender: &Sender, receiver: &mut Receiver, path: &TreePath, entry: &Entry, way: u8) -> FileItem {
    let mut item = FileItem::plain(path.clone(), way);
    let old = receiver.old.get(&path.to_string()).cloned().unwrap_or_default();
    let gaps = if way == way::WANTED {
        let (ids, list) = (ShortIds::new(BINDING), list_of(sender, path, entry).chunks);
        let (mut at, mut places) = (0, HashMap::new());
        for chunk in cut(&old, Class::Fine) {
            places.entry(ids.of(&chunk.id)).or_insert((chunk, at));
            at += u64::from(chunk.len);
        }
        item.wanted = vec![0; list.len().div_ceil(8)];
        let (mut here, mut gaps, mut before, mut open) = (Vec::new(), Vec::new(), 0, false);
        for (i, short) in list.iter().enumerate() {
            let Some((chunk, at)) = places.get(short) else {
                item.wanted[i / 8] |= 0x80 >> (i % 8);
                open = true;
                continue;
            };
            here.push(chunk.id);
            if std::mem::take(&mut open) {
                gaps.push(at.checked_sub(before).map(|len| (before, len)));
            }
            before = at + u64::from(chunk.len);
        }
        if open {
            gaps.push((old.len() as u64).checked_sub(before).map(|len| (before, len)));
        }
        receiver.here.insert(path.clone(), here);
        gaps
    } else {
        vec![Some((0, old.len() as u64))]
    };
    if way == way::WANTED || way == way::GAP {
        let (block, gaps) = first_look(gaps.into_iter());
        item.old = OldBlocks { block, gaps: pack_gaps(&gaps), hashes: hashes(&old, &gaps, block) };
    }
    item
}

fn hashes(old: &[u8], gaps: &[(u64, u64)], block: u32) -> Vec<u8> {
    let (rabin, mut hashes) = (block_hashing(BINDING), Vec::new());
    for (start, len) in gaps {
        let (start, len) = (*start as usize, *len as usize);
        rabin.list(&old[start..start + len], block as usize, &mut hashes);
    }
    pack_hashes(&hashes)
}

/// Bytes of content both ways, and the outcomes.
fn fetch_content(sender: &Sender, receiver: &mut Receiver, way: u8) -> (usize, Result<Vec<Outcome>, FetchError>) {
    let changed = changed_files(sender);
    let request = Content { module: "m".into(), head: head_id(&sender.new), base: Some(head_id(&sender.old).into()) };
    let (mut items, mut fetch) = (Vec::new(), Fetch::default());
    for (path, entry) in &changed {
        fetch.expect(wanted(path, entry, way));
        items.push(item(sender, receiver, path, entry, way));
    }
    let files = Files(items.clone()).message();
    let (mut outcomes, mut size, mut looks) = (Vec::new(), files.body.len(), HashMap::new());
    let mut answer = Answer::start(sender, &Message::new(tag::CONTENT, &request));
    let mut queue = VecDeque::from([files]);
    loop {
        let message = match answer.next_output() {
            Output::Message(message) => message,
            Output::Wait => {
                answer.handle(queue.pop_front().as_ref());
                continue;
            }
            Output::Done => break,
        };
        size += message.body.len();
        let got = match message.tag {
            tag::LEAVES => fetch.leaves(&message.body).map(|()| vec![]),
            tag::BATCH => fetch.batch(&message.body, receiver),
            tag::LOOK => {
                let look: Look = decode("look", &message.body).unwrap();
                let at = &items[look.file as usize].path;
                let basis = if look.basis.is_empty() { at.clone() } else { TreePath::new(&look.basis).unwrap() };
                let (gaps, _) = unpack_gaps(&look.gaps, look.block, LOOK_BLOCKS_MAX).unwrap();
                let hashes = hashes(&receiver.old[&basis.to_string()], &gaps, look.block);
                *looks.entry(look.file).or_insert(0u8) += 1;
                assert!(looks[&look.file] <= LOOKS_MAX);
                let blocks = Message::new(tag::BLOCKS, &Blocks { file: look.file, hashes });
                size += blocks.body.len();
                queue.push_back(blocks);
                continue;
            }
            other => panic!("message {other}"),
        };
        match got {
            Ok(more) => outcomes.extend(more),
            Err(e) => return (size, Err(e)),
        }
    }
    assert_eq!(fetch.outstanding(), 0);
    (size, Ok(outcomes))
}

fn list_of(sender: &Sender, path: &TreePath, entry: &Entry) -> ShortList {
    let at = AtHead { module: "m".into(), head: head_id(&sender.new) };
    let paths = Message::new(tag::PATHS, &Paths(vec![path.clone()]));
    let mut reader = ListReader::default();
    let w = wanted(path, entry, way::WANTED);
    let messages = ask(sender, Message::new(tag::LISTS, &at), vec![paths]);
    messages.iter().find_map(|m| reader.chunks(&m.body, w.size, w.class).unwrap()).unwrap()
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    // Half of the range, so that it shrinks a little.
    bytes.iter_mut().for_each(|b| *b &= 0x3f);
    bytes
}

fn file_tree() -> impl Strategy<Value = Files0> {
    let path = prop_oneof!["[a-c]", "d/[a-c]", "d/e/[a-b]", "f/[a-c]"];
    proptest::collection::btree_map(
        path,
        (0u64..4, prop_oneof![Just(0usize), 1usize..3_000, 20_000usize..90_000]),
        0..8,
    )
    .prop_map(|m| m.into_iter().map(|(p, (seed, len))| (p, noise(seed, len))).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_way_gives_the_same_tree_and_files(old in file_tree(), new in file_tree(), edit in any::<u16>()) {
        let mut new = new;
        if let Some((path, bytes)) = old.iter().next() {
            let mut bytes = bytes.clone();
            let at = usize::from(edit) % (bytes.len() + 1);
            bytes.splice(at..at, *b"an insertion");
            new.insert(path.clone(), bytes);
        }
        for (how, lists) in [(0, false), (1, false), (1, true), (2, false), (3, false)] {
            let sender = if lists { Sender::with_lists(&old, &new) } else { Sender::new(&old, &new) };
            let mut receiver = receiver(&old);
            prop_assert_eq!(fetch_tree(&sender, &mut receiver, how), sender.new);
            let (_, outcomes) = fetch_content(&sender, &mut receiver, how);
            prop_assert!(outcomes.unwrap().iter().all(|o| matches!(o, Outcome::Done(_))));
            let landed = receiver.landed.borrow();
            for (path, entry) in changed_files(&sender) {
                prop_assert_eq!(&landed[&path], &new[&path.to_string()], "{} by way {}", path, how);
                prop_assert!(look_up(&receiver.pages, sender.new.id, &path).unwrap() == Some(entry));
            }
        }
    }
}

fn one(bytes: Vec<u8>) -> Files0 {
    Files0::from([("f".into(), bytes)])
}

/// A file of several list pages and the same with one small insertion.
fn edited_pair() -> (Files0, Files0) {
    let old = noise(9, 3_000_000);
    let mut new = old.clone();
    new.splice(1_500_000..1_500_000, *b"x");
    (one(old), one(new))
}

#[test]
fn known_and_unknown_base_move_only_what_is_around_an_edit() {
    let (old, new) = edited_pair();
    let sender = Sender::new(&old, &new);
    let with_lists = Sender::with_lists(&old, &new);
    // A list of 300 chunks is 1,800 bytes, and all blocks of the file would be 9,000.
    for (sender, way, most) in [
        (&with_lists, way::BASE, 300),
        (&sender, way::BASE, 600),
        (&sender, way::WANTED, 600),
        (&sender, way::GAP, 10_000),
    ] {
        let mut receiver = receiver(&old);
        let (size, outcomes) = fetch_content(sender, &mut receiver, way);
        assert!(matches!(outcomes.unwrap()[..], [Outcome::Done(_)]));
        assert!(size < most, "{size} bytes by way {way}");
    }
    let (size, _) = fetch_content(&sender, &mut receiver(&old), way::ALL);
    assert!(size > 1_000_000);
}

#[test]
fn a_similar_file_elsewhere_is_a_basis() {
    let (old, new) = edited_pair();
    // Moved and edited, and copied and edited.
    for stays in [false, true] {
        let mut new = Files0::from([("other".into(), new["f"].clone())]);
        new.extend(stays.then(|| ("f".into(), old["f"].clone())));
        let sender = Sender::new(&old, &new);
        let (size, outcomes) = fetch_content(&sender, &mut receiver(&old), way::BASE);
        assert!(matches!(outcomes.unwrap()[..], [Outcome::Done(_)]));
        assert!(size < 60_000, "{size}");
    }
}

#[test]
fn old_bytes_that_still_exist_are_context() {
    let old = noise(11, 60_000);
    // A change in every block, so that none is found.
    let mut new = old.clone();
    new.iter_mut().step_by(90).for_each(|byte| *byte ^= 1);
    let tree = |a: &[u8], b: &[u8]| Files0::from([("a".into(), a.to_vec()), ("b".into(), b.to_vec())]);
    let (before, beside, alone) = (tree(&old, &old), tree(&new, &old), tree(&new, b"other"));
    let size = |after: &Files0| {
        let sender = Sender::with_lists(&before, after);
        let mut receiver = receiver(&before);
        let (size, outcomes) = fetch_content(&sender, &mut receiver, way::BASE);
        assert!(outcomes.unwrap().iter().all(|outcome| matches!(outcome, Outcome::Done(_))));
        assert_eq!(receiver.landed.borrow()[&TreePath::new(b"a").unwrap()], new);
        size
    };
    assert!(size(&beside) * 8 < size(&alone));
}

#[test]
fn a_basis_that_changed_leads_to_a_retry_and_never_to_wrong_bytes() {
    let (old, new) = edited_pair();
    let sender = Sender::new(&old, &new);
    let mut other = old.clone();
    other.get_mut("f").unwrap()[..2_000_000].fill(7);
    let mut receiver = receiver(&old);
    receiver.old = other;
    let with_lists = Sender::with_lists(&old, &new);
    let (_, outcomes) = fetch_content(&with_lists, &mut receiver, way::BASE);
    assert!(matches!(outcomes.unwrap()[..], [Outcome::Retry(_)]));
    assert!(receiver.landed.borrow().is_empty());
    for way in [way::BASE, way::WANTED, way::GAP] {
        let (_, outcomes) = fetch_content(&sender, &mut receiver, way);
        assert_eq!(matches!(outcomes.unwrap()[..], [Outcome::Done(_)]), way != way::BASE, "way {way}");
    }
}

#[test]
fn a_file_that_changed_at_the_sender_is_gone_and_not_sent() {
    let (old, new) = edited_pair();
    let mut sender = Sender::new(&Files0::new(), &new);
    sender.files = old;
    let (_, outcomes) = fetch_content(&sender, &mut receiver(&Files0::new()), way::ALL);
    assert!(matches!(outcomes.unwrap()[..], [Outcome::Gone(_)]));
}
