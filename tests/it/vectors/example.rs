//! The example exchange of PROTOCOL.md: its blocks are made here, and compared with the text.

use mirra::protocol::change::columns::write;
use mirra::protocol::message::{
    Content, FileItem, Files, Message, Module, Poll, State, Tree, WireChange, WireContent, operation, refusal, tag, way,
};
use mirra::protocol::packed::unpack;
use mirra::protocol::preface::{PREFACE, framed};
use mirra::protocol::record::Record;
use mirra::protocol::sender::{Answer, Output, ReadAt, Source};
use mirra::protocol::step::{Step, encode_steps};
use mirra::tree::chunker::Class;
use mirra::tree::codec::{decode, encode};
use mirra::tree::dir::{Built, build};
use mirra::tree::entry::{Body, Entry, Meta, Mtime};
use mirra::tree::hash::{ChunkId, HeadId};
use mirra::tree::list::{Chunk, file_id};
use mirra::tree::name::{Name, TreePath};
use mirra::tree::page::{PageSource, Pages};
use mirra::tree::signed::{Envelope, Head};
use serde::Serialize;
use serde_bytes::ByteBuf;

use super::signed::{beat, head, root_file};
use super::wire::{Handshake, change, handshake, path, sealed};
use super::{at_home, hex, key, writes};

const TEXT: &[u8] = b"hello, mirra\n";

/// One block: its name, and its bytes in annotated parts.
type Block = (&'static str, Vec<(String, Vec<u8>)>);

/// A zstd frame of one uncompressed block.
pub(super) fn raw_frame(data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    match u8::try_from(len) {
        Ok(len) => frame.extend([0x20, len]),
        Err(_) => {
            frame.push(0x60);
            frame.extend(u16::try_from(len - 256).unwrap().to_le_bytes());
        }
    }
    frame.extend(&((len << 3) | 1).to_le_bytes()[..3]);
    frame.extend(data);
    frame
}

/// A module of one directory, one file in it and one link.
struct Demo {
    pages: Pages,
    tree: Built,
    head: Head,
    id: HeadId,
    file: Entry,
}

fn meta(mode: u16) -> Meta {
    Meta { mode, mtime: Mtime { seconds: 1_700_000_000, nanos: 0 } }
}

impl Demo {
    fn new() -> Self {
        let mut pages = Pages::new();
        let entry = |name: &[u8], mode, body| {
            let name = Name::new(name).unwrap();
            Entry { name, meta: meta(mode), body, attributes: vec![] }
        };
        let chunk = Chunk { id: ChunkId::of(TEXT), len: u32::try_from(TEXT.len()).unwrap() };
        let id = file_id(&[chunk]).unwrap();
        let file = entry(b"a.txt", 0o644, Body::File { size: TEXT.len() as u64, class: Class::Fine, id });
        let docs = build([&file], &mut pages).unwrap();
        let link = entry(b"latest", 0o777, Body::Link { target: (*b"docs/a.txt").into() });
        let tree = build([&entry(b"docs", 0o755, docs.body()), &link], &mut pages).unwrap();
        let head = head(tree, None);
        Self { pages, tree, id: HeadId::of(&encode(&head)), head, file }
    }
}

struct Text;

impl ReadAt for Text {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&TEXT[from..from + buffer.len()]);
        Ok(())
    }
}

impl Source for Demo {
    fn modules(&self) -> Vec<Module> {
        vec![]
    }
    fn state(&self, _: &Poll) -> Result<State, u16> {
        Ok(self.say())
    }
    fn tree(&self, _: &str, head: &HeadId) -> Result<Option<Built>, u16> {
        if *head == self.id { Ok(Some(self.tree)) } else { Err(refusal::NO_HEAD) }
    }
    fn pages(&self) -> &dyn PageSource {
        &self.pages
    }
    fn open(&self, _: &str, at: &TreePath, entry: &Entry) -> Option<Box<dyn ReadAt>> {
        (*at == path("docs/a.txt") && *entry == self.file).then(|| Box::new(Text) as Box<dyn ReadAt>)
    }
    fn similar(&self, _: &str, _: &[u64]) -> Vec<TreePath> {
        Vec::new()
    }
}

impl Demo {
    fn say(&self) -> State {
        let by = |byte, envelope: &dyn Fn(&ed25519_dalek::SigningKey) -> Envelope| envelope(&key(byte)).encode().into();
        State {
            roots: vec![by(0x11, &|key| Envelope::sign(&root_file(), &[key]))],
            head: Some(by(0x22, &|key| Envelope::sign(&self.head, &[key]))),
            beat: Some(by(0x22, &|key| Envelope::sign(&beat(&self.head), &[key]))),
        }
    }

    /// What our sender answers.
    fn answer(&self, request: &Message, more: Option<&Message>) -> Vec<Message> {
        let (mut answer, mut more, mut said) = (Answer::start(self, request), more, Vec::new());
        loop {
            match answer.next_output() {
                Output::Message(message) => said.push(message),
                Output::Wait => answer.handle(more.take()),
                Output::Done => return said,
            }
        }
    }
}

/// The parts of a message: header, then fields.
fn parts(name: &str, tag: u8, fields: Vec<(&str, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let body: usize = fields.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut header = vec![tag];
    header.extend(u32::try_from(body).unwrap().to_be_bytes());
    let mut parts = vec![(format!("{name}, {body} bytes"), header)];
    parts.extend(fields.into_iter().map(|(note, bytes)| (note.to_owned(), bytes)));
    parts
}

/// Messages as one DATA_LAST record, in the clear.
fn record(stream: u8, messages: Vec<Vec<(String, Vec<u8>)>>) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![(format!("DATA_LAST, stream {stream}"), vec![1, 0, 0, 0, stream])];
    all.extend(messages.into_iter().flatten());
    all
}

fn joined(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
}

fn field<T: Serialize>(value: &T) -> Vec<u8> {
    encode(value)
}

fn poll_and_state(demo: &Demo) -> [Block; 2] {
    let poll = Poll { module: "demo".into(), have: None, root: 0 };
    let poll_parts = parts(
        "POLL",
        tag::POLL,
        vec![
            ("array of 3", vec![0x93]),
            ("poll.module", field(&poll.module)),
            ("poll.have: nil", field(&poll.have)),
            ("poll.root: none", field(&poll.root)),
        ],
    );
    let request = Message::new(tag::POLL, &poll);
    assert!(joined(&poll_parts).ends_with(&request.body));
    let state = demo.say();
    let state_parts = parts(
        "STATE",
        tag::STATE,
        vec![
            ("array of 3", vec![0x93]),
            ("state.roots: one envelope, version 1", field(&state.roots)),
            ("state.head: an envelope", field(&state.head)),
            ("state.beat: an envelope", field(&state.beat)),
        ],
    );
    assert!(joined(&state_parts).ends_with(&demo.answer(&request, None)[0].body));
    [("poll", record(1, vec![poll_parts])), ("state", record(1, vec![state_parts]))]
}

fn tree_and_changes(demo: &Demo) -> [Block; 2] {
    let tree = Tree { module: "demo".into(), head: demo.id, base: None };
    let tree_parts = parts(
        "TREE",
        tag::TREE,
        vec![
            ("array of 3", vec![0x93]),
            ("tree.module", field(&tree.module)),
            ("tree.head", field(&tree.head)),
            ("tree.base: nil", field(&tree.base)),
        ],
    );
    let mtime = Some(Mtime { seconds: 1_700_000_000, nanos: 0 });
    let timed = |change: WireChange| WireChange { mtime, ..change };
    let Body::File { size, id, .. } = demo.file.body else { unreachable!() };
    let file = WireContent::File { growth: i64::try_from(size).unwrap(), class: 0, id };
    let target = WireContent::Link(b"docs/a.txt".to_vec());
    let records = [
        timed(change(0, "docs", operation::DIRECTORY)),
        timed(WireChange { content: Some(file), ..change(4, "/a.txt", operation::FILE) }),
        timed(WireChange { content: Some(target), ..change(0, "latest", operation::LINK) }),
    ];
    let plain = write(&records);
    let request = Message::new(tag::TREE, &tree);
    assert!(joined(&tree_parts).ends_with(&request.body));
    assert_eq!(unpack(&demo.answer(&request, None)[0].body).unwrap(), plain);
    let frame = raw_frame(&plain);
    let frame_head = frame[..frame.len() - plain.len()].to_vec();
    let mut fields = vec![
        ("packed.length", u32::try_from(plain.len()).unwrap().to_be_bytes().to_vec()),
        ("head of a zstd frame, and of its one uncompressed block", frame_head),
        ("array of 11", vec![0x9b]),
    ];
    let names = [
        "changes.operations: a directory, a file, a link",
        "changes.keeps: 0, 4, 0",
        "changes.rests: docs, /a.txt, latest",
        "changes.modes: all as usual",
        "changes.seconds: 1,700,000,000 and twice no more",
        "changes.nanos: as at first, 0",
        "changes.growths: 13 bytes",
        "changes.classes: fine",
        "changes.targets: docs/a.txt",
        "changes.attributes: none",
        "changes.ids: of docs/a.txt",
    ];
    let columns: Vec<ByteBuf> = decode("columns", &plain).unwrap();
    fields.extend(names.into_iter().zip(columns.iter().map(field)));
    let change_parts = parts("CHANGES", tag::CHANGES, fields);
    assert_eq!(unpack(&joined(&change_parts)[5..]).unwrap(), plain);
    [("tree", record(3, vec![tree_parts])), ("changes", record(3, vec![change_parts]))]
}

fn content_and_batch(demo: &Demo) -> [Block; 2] {
    let content = Content { module: "demo".into(), head: demo.id, base: None };
    let content_parts = parts(
        "CONTENT",
        tag::CONTENT,
        vec![
            ("array of 3", vec![0x93]),
            ("content.module", field(&content.module)),
            ("content.head", field(&content.head)),
            ("content.base: nil", field(&content.base)),
        ],
    );
    let item = FileItem::plain(path("docs/a.txt"), way::ALL);
    let plain = encode(&Files(vec![item.clone()]));
    let frame = raw_frame(&plain);
    let files_parts = parts(
        "FILES",
        tag::FILES,
        vec![
            ("packed.length", u32::try_from(plain.len()).unwrap().to_be_bytes().to_vec()),
            ("head of a zstd frame, and of its one uncompressed block", frame[..frame.len() - plain.len()].to_vec()),
            ("files.list: one", vec![0x91]),
            ("array of 4", vec![0x94]),
            ("file.path", field(&item.path)),
            ("file.way: ALL", field(&item.way)),
            ("file.wanted: empty", vec![0xc4, 0]),
            ("file.old: array of 3", vec![0x93]),
            ("old.block: none", vec![0]),
            ("old.gaps: none", vec![0x90]),
            ("old.hashes: empty", vec![0xc4, 0]),
        ],
    );
    let files = Message { tag: tag::FILES, body: joined(&files_parts)[5..].to_vec() };
    assert_eq!(Files::of(&files.body), Ok(Files(vec![item])));
    let request = Message::new(tag::CONTENT, &content);
    assert!(joined(&content_parts).ends_with(&request.body) && joined(&files_parts).ends_with(&plain));
    let len = u32::try_from(TEXT.len()).unwrap();
    let steps = encode_steps(&[Step::Chunks { lengths: vec![len], last: true }]);
    let batch_parts = parts(
        "BATCH",
        tag::BATCH,
        vec![
            ("batch.steps-length", u32::try_from(steps.len()).unwrap().to_be_bytes().to_vec()),
            ("batch.literals-length", len.to_be_bytes().to_vec()),
            ("batch.prefix-length", vec![0; 4]),
            ("batch.packing: neither", vec![0]),
            ("one step: LAST_CHUNKS, one, of 13 bytes", steps),
            ("the literals", TEXT.to_vec()),
        ],
    );
    assert!(joined(&batch_parts).ends_with(&demo.answer(&request, Some(&files))[0].body));
    [("content", record(5, vec![content_parts, files_parts])), ("batch", record(5, vec![batch_parts]))]
}

fn blocks() -> Vec<Block> {
    let Handshake { first, second, third, mut ours, .. } = handshake();
    let note = |text: &str, bytes: &[u8]| (text.to_owned(), bytes.to_vec());
    let length = |message: &[u8]| framed(message)[..2].to_vec();
    let mut blocks = vec![
        (
            "hello-1",
            vec![note("preface", &PREFACE), note("length of message 1", &length(&first)), note("message 1: e", &first)],
        ),
        (
            "hello-2",
            vec![
                note("length of message 2", &length(&second)),
                note("e", &second[..32]),
                note("s, sealed", &second[32..80]),
                note("hello, sealed", &second[80..]),
            ],
        ),
        (
            "hello-3",
            vec![
                note("length of message 3", &length(&third)),
                note("s, sealed", &third[..48]),
                note("hello, sealed", &third[48..]),
            ],
        ),
    ];
    let demo = Demo::new();
    let polling = poll_and_state(&demo);
    let plain = joined(&polling[0].1);
    let wire = sealed(&mut ours, Record::parse(&plain).unwrap());
    let (sealed, tag) = wire[2..].split_at(wire.len() - 18);
    let poll_sealed = vec![
        note("record.length", &wire[..2]),
        note("the 18 bytes above, sealed with nonce 0", sealed),
        note("record.tag", tag),
    ];
    assert_eq!(plain.len(), 18);
    let [poll, state] = polling;
    blocks.extend([poll, ("poll-sealed", poll_sealed), state]);
    blocks.extend(tree_and_changes(&demo));
    blocks.extend(content_and_batch(&demo));
    blocks.push(("close", vec![note("CLOSE, stream 0", &[5, 0, 0, 0, 0]), note("close.code: DONE", &[0, 1])]));
    blocks
}

/// Bytes in lines of 24, the note behind the first of each part.
fn shown(parts: &[(String, Vec<u8>)]) -> String {
    let mut text = String::new();
    for (note, bytes) in parts {
        for (i, line) in bytes.chunks(24).enumerate() {
            let spaced: Vec<String> = line.chunks(4).map(hex).collect();
            let line = spaced.join(" ");
            text += &if i == 0 { format!("{line:<54}# {note}\n") } else { format!("{line}\n") };
        }
    }
    text
}

#[test]
fn the_example_in_the_text_is_what_is_sent() {
    let file = at_home("PROTOCOL.md");
    let mut text = std::fs::read_to_string(&file).unwrap();
    let made = blocks();
    assert_eq!(text.matches("```hex ").count(), made.len());
    for (name, parts) in &made {
        let fence = format!("```hex {name}\n");
        let from = text.find(&fence).unwrap_or_else(|| panic!("no block {name}")) + fence.len();
        let to = from + text[from..].find("```").unwrap();
        let shown = shown(parts);
        if writes() {
            text.replace_range(from..to, &shown);
        } else {
            assert_eq!(&text[from..to], shown, "block {name}");
        }
    }
    if writes() {
        std::fs::write(&file, text).unwrap();
    }
}
