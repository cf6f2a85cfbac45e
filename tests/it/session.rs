//! A sender and a receiver on two connections in memory: the pieces in which bytes come do not matter, and records that
//! are lost, repeated or swapped end the session with nothing wrong landed.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use mirra::protocol::change::ChangeReader;
use mirra::protocol::connection::{Connection, Event, Priority, Role};
use mirra::protocol::error::ProtocolError;
use mirra::protocol::fetch::{Fetch, Have, Landing, Outcome, Shelf, Wanted};
use mirra::protocol::limits::LOOK_BLOCKS_MAX;
use mirra::protocol::message::{
    Blocks, Content as Request, FileItem, Files, Look, Message, Tree as TreeRequest, body_max, tag, way,
};
use mirra::protocol::sender::{Answer, Output, Source};
use mirra::protocol::short::{block_hashing, pack_hashes, unpack_gaps};
use mirra::tree::codec::decode;
use mirra::tree::diff::changes;
use mirra::tree::dir::Built;
use mirra::tree::entry::Body;
use mirra::tree::hash::HeadId;
use mirra::tree::name::TreePath;
use mirra::tree::page::{PageSink, Pages};

use crate::channel::transports;
use crate::fixture::{Dice, MODULE, text};
use crate::liar::{Content, Owner, Shop};

/// What is done to the bytes from the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// The record of this number is lost, comes twice, or comes after the next.
    Lost(usize),
    Twice(usize),
    Swapped(usize),
    /// Nothing comes behind so many bytes.
    Cut(usize),
}

type Landed = Rc<RefCell<HashMap<TreePath, Vec<u8>>>>;

struct Receiver {
    old: Content,
    pages: Pages,
    landed: Landed,
}

struct Memory(TreePath, Vec<u8>, Landed);

impl Landing for Memory {
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

/// An old version.
struct Old(Vec<u8>);

impl Have for Old {
    fn chunk(&self, _: u64) -> Option<Vec<u8>> {
        None
    }
    fn read(&self, from: u64, buffer: &mut [u8]) -> bool {
        let bytes = usize::try_from(from).ok().and_then(|from| self.0.get(from..from.checked_add(buffer.len())?));
        bytes.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
    }
}

impl Shelf for Receiver {
    fn begin(&mut self, wanted: &Wanted) -> std::io::Result<Box<dyn Landing>> {
        Ok(Box::new(Memory(wanted.path.clone(), Vec::new(), self.landed.clone())))
    }
    fn basis(&mut self, path: &TreePath) -> Option<Rc<dyn Have>> {
        Some(Rc::new(Old(self.old.get(&path.to_string())?.clone())))
    }
    fn own(&mut self, _: &Wanted) -> Option<Rc<dyn Have>> {
        None
    }
    fn pages(&mut self) -> &mut dyn PageSink {
        &mut self.pages
    }
}

/// How a session ended on the receiver's side.
#[derive(Debug)]
enum End {
    Whole,
    Broken(ProtocolError),
}

/// What both sides know: the shop with two versions, and what is in them.
struct Play {
    shop: Shop,
    before: Pages,
    old: Content,
    new: Content,
    heads: [(HeadId, Built); 2],
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut content = |files: usize| -> Content {
            (0..files)
                .map(|i| {
                    let len = if i == 0 { 700_000 } else { dice.below(40_000) };
                    (format!("d{}/f{i}", i % 3), text(&mut dice, len))
                })
                .collect()
        };
        let old = content(10);
        let mut new = content(12);
        let mut edited = old["d0/f0"].clone();
        edited.splice(300_000..300_000, *b"inserted");
        new.insert("d0/f0".into(), edited);
        let owner = Owner::new(60);
        let before = Shop::new(&owner, &[&old]);
        let shop = Shop::new(&owner, &[&old, &new]);
        let first = *before.trees.keys().next().unwrap();
        let second = *shop.trees.keys().find(|id| **id != first).unwrap();
        let heads = [first, second].map(|id| (id, shop.trees[&id]));
        Self { shop, before: before.pages, old, new, heads }
    }

    /// Runs a whole session: the entries, then the content of what changed.
    fn run(&self, seed: u64, trouble: Trouble) -> (End, Landed, Passed) {
        let (ours, theirs) = transports();
        let mut node = Connection::new(Role::Initiator, ours.sealer, ours.opener, body_max, 0);
        let mut root = Connection::new(Role::Responder, theirs.sealer, theirs.opener, body_max, 0);
        // More records than the data would need, so that trouble has more places.
        root.set_record_size(1_024);
        let mut dice = Dice(seed);
        let (mut up, mut down) = (VecDeque::new(), Line::new(trouble));
        let mut answers: BTreeMap<u32, Answer<'_>> = BTreeMap::new();
        let [(base, old), (head, new)] = self.heads;
        let landed = Landed::default();
        let mut receiver = Receiver { old: self.old.clone(), pages: self.before.clone(), landed: landed.clone() };
        let request = TreeRequest { module: MODULE.into(), head, base: Some(base.into()) };
        let request = Message::new(tag::TREE, &request);
        let stream = node.open(Priority::Bulk, request.tag, request.body).unwrap();
        node.finish(stream).unwrap();
        let mut tree = Some(ChangeReader::new(Some(old), new.entries));
        let (mut fetch, mut waited) = (Fetch::default(), 0);
        // Far more turns than any of these sessions needs.
        for turn in 0..400_000u64 {
            let now = turn / 100;
            let mut wire = Vec::new();
            let budget = 1 + dice.below(40_000);
            node.poll_transmit(now, &mut wire, budget);
            node.transmitted(now, wire.len());
            up.extend(wire.drain(..));
            root.poll_transmit(now, &mut wire, budget);
            root.transmitted(now, wire.len());
            down.put(wire);
            // Now and then one side hears nothing for a while.
            if dice.below(3) > 0 && root.wants_input() {
                let count = dice.below(up.len() + 1).min(1 + dice.below(9_000));
                let mut piece: Vec<u8> = up.drain(..count).collect();
                root.handle_input(now, &mut piece).unwrap();
            }
            if dice.below(3) > 0 && node.wants_input() {
                let most = if dice.below(4) == 0 { 3 } else { 20_000 };
                let count = dice.below(down.ready.len() + 1).min(most).max(down.ready.len().min(1));
                let mut piece: Vec<u8> = down.ready.drain(..count).collect();
                if let Err(error) = node.handle_input(now, &mut piece) {
                    return (End::Broken(error), landed, down.passed);
                }
            }
            serve(&self.shop, &mut root, &mut answers);
            while let Some(event) = node.poll_event() {
                match event {
                    Event::Message { stream, tag: got, body } => {
                        match (got, &mut tree) {
                            (tag::CHANGES, Some(tree)) => tree.apply(&body, &mut receiver.pages).unwrap(),
                            (tag::LEAVES, None) => fetch.leaves(&body).unwrap(),
                            (tag::LOOK, None) => {
                                let told = self.told(&body);
                                node.send(stream, told.tag, told.body).unwrap();
                            }
                            (tag::BATCH, None) => {
                                let outcomes = fetch.batch(&body, &mut receiver).unwrap();
                                assert!(
                                    outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done(_))),
                                    "{outcomes:?}"
                                );
                                if fetch.outstanding() == 0 {
                                    node.finish(stream).unwrap();
                                }
                            }
                            _ => panic!("message {got}"),
                        }
                        node.release(stream, body.len());
                    }
                    Event::Finished(_) => match tree.take() {
                        Some(tree) => {
                            assert_eq!(tree.finish(&mut receiver.pages).unwrap(), new);
                            ask(&mut node, &receiver.pages, &mut fetch, self.heads);
                        }
                        None => {
                            assert_eq!(fetch.outstanding(), 0);
                            return (End::Whole, landed, down.passed);
                        }
                    },
                    other => panic!("{other:?}"),
                }
            }
            // What is lost for good leaves both sides waiting; the end of the line then says so.
            let idle = down.ready.is_empty() && up.is_empty() && !root.has_output() && !node.has_output();
            waited = if idle { waited + 1 } else { 0 };
            if waited > 50 || down.cut && down.ready.is_empty() {
                let error = node.handle_eof().expect_err("the session is not over");
                return (End::Broken(error), landed, down.passed);
            }
        }
        panic!("seed {seed}, {trouble:?}: the session does not end");
    }

    /// What is said of old bytes that the sender looks at.
    fn told(&self, look: &[u8]) -> Message {
        let look: Look = decode("look", look).unwrap();
        let old = &self.old[std::str::from_utf8(&look.basis).unwrap()];
        let (gaps, _) = unpack_gaps(&look.gaps, look.block, LOOK_BLOCKS_MAX).unwrap();
        let (rabin, mut hashes) = (block_hashing(&self.shop.binding()), Vec::new());
        for (start, len) in gaps {
            let gap = &old[usize::try_from(start).unwrap()..usize::try_from(start + len).unwrap()];
            rabin.list(gap, look.block as usize, &mut hashes);
        }
        Message::new(tag::BLOCKS, &Blocks { file: look.file, hashes: pack_hashes(&hashes) })
    }

    /// Each landed file is one of the new version, to the byte.
    fn check(&self, landed: &Landed, what: &str) {
        for (path, bytes) in landed.borrow().iter() {
            assert!(self.new[&path.to_string()] == *bytes, "{what}: {path}");
        }
    }
}

fn serve<'s>(shop: &'s Shop, root: &mut Connection, answers: &mut BTreeMap<u32, Answer<'s>>) {
    while let Some(event) = root.poll_event() {
        match event {
            Event::Opened(_) => {}
            Event::Message { stream, tag, body } => {
                let len = body.len();
                let message = Message { tag, body };
                match answers.get_mut(&stream) {
                    Some(answer) => answer.handle(Some(&message)),
                    None => drop(answers.insert(stream, Answer::start(shop, &message))),
                }
                root.release(stream, len);
            }
            Event::Finished(stream) => {
                if let Some(answer) = answers.get_mut(&stream) {
                    answer.handle(None);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let streams: Vec<u32> = answers.keys().copied().collect();
    for stream in streams {
        while root.pending(stream) < 100_000 {
            match answers.get_mut(&stream).unwrap().next_output() {
                Output::Message(message) => root.send(stream, message.tag, message.body).unwrap(),
                Output::Wait => break,
                Output::Done => {
                    root.finish(stream).unwrap();
                    answers.remove(&stream);
                    break;
                }
            }
        }
    }
}

fn ask(node: &mut Connection, pages: &Pages, fetch: &mut Fetch, heads: [(HeadId, Built); 2]) {
    let [(base, old), (head, new)] = heads;
    let mut items = Vec::new();
    for change in changes(pages, Some(old.id), Some(new.id)) {
        let change = change.unwrap();
        let Some(Body::File { size, class, id }) = change.new.map(|entry| entry.body) else { continue };
        let way = if items.len() % 2 == 0 { way::BASE } else { way::ALL };
        fetch.expect(Wanted { path: change.path.clone(), id, size, class, way });
        items.push(FileItem::plain(change.path, way));
    }
    let request = Message::new(tag::CONTENT, &Request { module: MODULE.into(), head, base: Some(base.into()) });
    let stream = node.open(Priority::Bulk, request.tag, request.body).unwrap();
    let files = Files(items).message();
    node.send(stream, files.tag, files.body).unwrap();
}

/// How much has come so far.
#[derive(Debug, Clone, Copy, Default)]
struct Passed {
    records: usize,
    bytes: usize,
}

/// The bytes from the sender on their way, record by record.
struct Line {
    trouble: Trouble,
    /// Bytes of a record that is not whole yet.
    part: Vec<u8>,
    kept: Option<Vec<u8>>,
    passed: Passed,
    cut: bool,
    ready: VecDeque<u8>,
}

impl Line {
    fn new(trouble: Trouble) -> Self {
        Self { trouble, part: Vec::new(), kept: None, passed: Passed::default(), cut: false, ready: VecDeque::new() }
    }

    fn put(&mut self, bytes: Vec<u8>) {
        self.part.extend(bytes);
        while let Some(field) = self.part.first_chunk::<2>() {
            let len = 2 + usize::from(u16::from_be_bytes(*field));
            if self.part.len() < len {
                break;
            }
            let record: Vec<u8> = self.part.drain(..len).collect();
            self.pass(record);
        }
    }

    fn pass(&mut self, record: Vec<u8>) {
        let number = self.passed.records;
        self.passed.records += 1;
        match self.trouble {
            Trouble::Lost(at) if at == number => {}
            Trouble::Twice(at) if at == number => self.deliver(&[&record[..], &record].concat()),
            Trouble::Swapped(at) if at == number => self.kept = Some(record),
            _ => {
                self.deliver(&record);
                if let Some(kept) = self.kept.take() {
                    self.deliver(&kept);
                }
            }
        }
    }

    fn deliver(&mut self, bytes: &[u8]) {
        let room = match self.trouble {
            Trouble::Cut(at) => at.saturating_sub(self.passed.bytes).min(bytes.len()),
            _ => bytes.len(),
        };
        self.passed.bytes += room;
        self.cut |= room < bytes.len();
        self.ready.extend(&bytes[..room]);
    }
}

#[test]
fn a_session_is_whole_in_whatever_pieces_its_bytes_come() {
    for seed in 0..6 {
        let play = Play::new(seed);
        for run in 0..4 {
            let (end, landed, _) = play.run(seed * 10 + run, Trouble::None);
            assert!(matches!(end, End::Whole), "seed {seed}: {end:?}");
            play.check(&landed, &format!("seed {seed}"));
            assert!(landed.borrow().len() >= 10);
        }
    }
}

#[test]
fn trouble_on_the_way_ends_a_session_and_lands_nothing_wrong() {
    let play = Play::new(7);
    let (_, _, Passed { records, bytes }) = play.run(7, Trouble::None);
    assert!(records > 20, "{records}");
    let mut dice = Dice(8);
    for seed in 0..60 {
        let at = dice.below(records - 1);
        let trouble = match seed % 4 {
            0 => Trouble::Lost(at),
            1 => Trouble::Twice(at),
            2 => Trouble::Swapped(at),
            _ => Trouble::Cut(dice.below(bytes)),
        };
        let (end, landed, seen) = play.run(7, trouble);
        let what = format!("seed {seed}, {trouble:?}");
        play.check(&landed, &what);
        match end {
            End::Broken(ProtocolError::Tampered | ProtocolError::Truncated | ProtocolError::PeerMisbehaved { .. }) => {}
            // The very last record may be the one that comes twice: nobody reads on then.
            End::Whole => assert!(matches!(trouble, Trouble::Twice(at) if at + 1 >= seen.records), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}
