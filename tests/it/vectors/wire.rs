//! Records, messages, batches and the handshake.

use mirra::protocol::batch::{Batch, BatchWriter, Side, context};
use mirra::protocol::change::columns::{Columns, write};
use mirra::protocol::hello::Hello;
use mirra::protocol::message::{
    At, AtHead, Blocks, Chunks, Content, Descend, FileItem, Files, Follow, LeafRefs, List, Look, Message, Module,
    Offer, OldBlocks, Partial, Paths, Poll, Refused, Route, State, Tree, WireChange, WireContent, operation, refusal,
    tag, way,
};
use mirra::protocol::noise::{Initiator, Responder, Sealer, SecretKey};
use mirra::protocol::packed::{pack, unpack, unpack_exactly};
use mirra::protocol::preface::{PREFACE, REJECT, framed};
use mirra::protocol::record::Record;
use mirra::protocol::step::{Step, encode_steps};
use mirra::tree::codec::encode;
use mirra::tree::entry::{Attribute, Mtime};
use mirra::tree::hash::{ChunkId, DirId, FileId, HeadId};
use mirra::tree::list::ListRef;
use mirra::tree::name::TreePath;
use serde_json::{Value, json};

use super::{check, hex, kept, noise, unhex};

pub(super) fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

pub(super) fn change(keep: u32, rest: &str, operation: u8) -> WireChange {
    let (mode, mtime, content, attributes) = (None, None, None, None);
    WireChange { keep, rest: rest.as_bytes().to_vec(), operation, mode, mtime, content, attributes }
}

/// A body whose end is a zstd frame, which other encoders and versions make otherwise: the one that is kept stands as long
/// as it unpacks to what it should.
fn frame_of(kept: &Value, is_right: impl Fn(&[u8]) -> bool, fresh: impl FnOnce() -> Vec<u8>) -> String {
    let kept = kept.as_str().filter(|text| unhex(text).is_some_and(|bytes| is_right(&bytes)));
    kept.map_or_else(|| hex(&fresh()), str::to_owned)
}

fn packed(name: &str, tag: u8, records: &[u8], kept: &Value) -> Value {
    let is_right = |body: &[u8]| unpack(body).is_ok_and(|unpacked| unpacked == records);
    let body = frame_of(&kept["body_example"], is_right, || pack(records));
    json!({ "message": name, "tag": tag, "unpacked": hex(records), "body_example": body })
}

fn changes() -> Vec<WireChange> {
    let attributes = Some(vec![Attribute { tag: 7, critical: false, value: b"value".to_vec() }]);
    let timed = |seconds, nanos, change| WireChange { mtime: Some(Mtime { seconds, nanos }), ..change };
    let file = |growth, id: &[u8]| Some(WireContent::File { growth, class: 1, id: FileId::of(id) });
    let moved = Some(WireContent::Directory(DirId::of(b"")));
    vec![
        WireChange { mode: Some(0o700), attributes, ..change(0, "docs", operation::DIRECTORY) },
        timed(1_700_000_000, 5, WireChange { content: file(300, b""), ..change(4, "/a.txt", operation::FILE) }),
        timed(1_699_999_999, 5, WireChange { content: file(-300, b"b"), ..change(5, "b.txt", operation::FILE) }),
        timed(-5, 0, change(5, "c.txt", operation::FILE)),
        change(5, "old.txt", operation::REMOVE),
        WireChange { content: Some(WireContent::Link(b"docs".to_vec())), ..change(0, "latest", operation::LINK) },
        timed(1, 999_999_999, WireChange { content: moved, ..change(0, "moved", operation::HELD_DIRECTORY) }),
    ]
}

fn files() -> Files {
    let item = |name: &str, way| FileItem::plain(path(name), way);
    let old = |gaps: &[u64], blocks: usize| OldBlocks {
        block: 1_024,
        gaps: gaps.to_vec(),
        hashes: noise("blocks", 3 * blocks),
    };
    Files(vec![
        item("a", way::ALL),
        item("b", way::BASE),
        // Three stretches are wanted; what stood in place of the second is not known.
        FileItem {
            wanted: vec![0b1010_1000],
            old: old(&[9_000, 2_500, 0, 0, 20_000, 1_000], 4),
            ..item("c", way::WANTED)
        },
        FileItem { wanted: vec![0b1100_0000, 0b1000_0000], ..item("d", way::WANTED) },
        FileItem { old: old(&[0, 3_000], 3), ..item("e", way::GAP) },
    ])
}

#[test]
fn changes_are_read_as_they_were_written() {
    let mut columns = Columns::new(&write(&changes())).unwrap();
    let read: Vec<_> = std::iter::from_fn(|| columns.next_record().unwrap()).collect();
    assert_eq!(read, changes());
}

#[test]
fn messages() {
    let (module, head) = (String::from("demo"), HeadId::of(b""));
    let kept = &kept("messages.json")["packed"];
    let plain = |name: &str, message: Message| {
        let mut wire = vec![message.tag];
        wire.extend(u32::try_from(message.body.len()).unwrap().to_be_bytes());
        wire.extend(&message.body);
        json!({ "message": name, "tag": message.tag, "body": hex(&message.body), "wire": hex(&wire) })
    };
    let leaf = ListRef(ChunkId::of(b"hello\n"), FileId::of(b""), 17, 140_000);
    let root = vec![1u8, 2].into();
    let listed = Module { name: module.clone(), title: "A title".into(), root, head: Some(vec![3u8].into()) };
    let unpublished = Module { head: None, title: String::new(), ..listed.clone() };
    let made = vec![
        plain("LIST", Message::new(tag::LIST, &List(()))),
        plain("MODULE", Message::new(tag::MODULE, &listed)),
        plain("MODULE without a snapshot", Message::new(tag::MODULE, &unpublished)),
        plain("POLL, first contact", Message::new(tag::POLL, &Poll { module: module.clone(), have: None, root: 0 })),
        plain("POLL", Message::new(tag::POLL, &Poll { module: module.clone(), have: Some(head), root: 1 })),
        plain("STATE, nothing new", Message::new(tag::STATE, &State { roots: vec![], head: None, beat: None })),
        plain("STATE", {
            let [a, b, c] = [1u8, 2, 3].map(|byte| vec![byte].into());
            Message::new(tag::STATE, &State { roots: vec![a], head: Some(b), beat: Some(c) })
        }),
        plain("TREE", Message::new(tag::TREE, &Tree { module: module.clone(), head, base: Some(head.into()) })),
        plain("TREE, from nothing", Message::new(tag::TREE, &Tree { module: module.clone(), head, base: None })),
        plain("BASE_UNKNOWN", Message::new(tag::BASE_UNKNOWN, &[(); 0])),
        plain("DESCEND", Message::new(tag::DESCEND, &Descend { module: module.clone(), head, brief: true })),
        plain("WANT: the first and the tenth of ten", Message { tag: tag::WANT, body: vec![0x80, 0x40] }),
        plain(
            "WANT: the second of three, and the last of nine cut ids",
            Message { tag: tag::WANT, body: vec![0x40, 0, 0x80] },
        ),
        plain("REST of an id", Message { tag: tag::REST, body: (5..32).collect() }),
        plain("LISTS", Message::new(tag::LISTS, &AtHead { module: module.clone(), head })),
        plain("PATHS", Message::new(tag::PATHS, &Paths(vec![path("a"), path("docs/a.txt")]))),
        plain("CHUNKS, the first of several", {
            Message::new(tag::CHUNKS, &Chunks { last: false, short: (1..=12).collect(), samples: vec![] })
        }),
        plain("CHUNKS, the last", {
            Message::new(tag::CHUNKS, &Chunks { last: true, short: vec![9; 6], samples: vec![5, 1 << 40] })
        }),
        plain("CHUNKS, no list", Message::new(tag::CHUNKS, &Chunks { last: true, short: vec![], samples: vec![] })),
        plain("CONTENT", Message::new(tag::CONTENT, &Content { module: module.clone(), head, base: None })),
        plain("LEAVES", Message::new(tag::LEAVES, &LeafRefs { last: true, refs: vec![leaf] })),
        plain("LOOK, at a file of the base", {
            let look =
                Look { file: 7, basis: b"docs/a.txt".to_vec(), block: 1_024, gaps: vec![10_000, 3_000, 500, 100] };
            Message::new(tag::LOOK, &look)
        }),
        plain("LOOK, at what the receiver chose", {
            Message::new(tag::LOOK, &Look { file: 8, basis: vec![], block: 128, gaps: vec![0, 300] })
        }),
        plain("BLOCKS", Message::new(tag::BLOCKS, &Blocks { file: 8, hashes: (1..=9).collect() })),
        plain("BLOCKS, nothing there", Message::new(tag::BLOCKS, &Blocks { file: 8, hashes: vec![] })),
        plain("REFUSED", Message::new(tag::REFUSED, &Refused(refusal::NO_HEAD))),
        plain("FOLLOW, first contact", {
            Message::new(
                tag::FOLLOW,
                &Follow { module: module.clone(), have: None, at: None, root: 0, name: String::new() },
            )
        }),
        plain("PARTIAL", Message::new(tag::PARTIAL, &Partial(module.clone()))),
        plain(
            "FOLLOW",
            Message::new(
                tag::FOLLOW,
                &Follow { module, have: Some(head), at: Some(head), root: 1, name: "node.example".into() },
            ),
        ),
        plain("ROUTE: through one node", {
            let root = Route::extend(None, [1; 16]);
            Message::new(tag::ROUTE, &Route::extend(root.as_ref(), [2; 16]).unwrap())
        }),
        plain("OFFER, nothing follows", {
            Message::new(tag::OFFER, &Offer { head, base: None, changes: 0, files: 0, content: 0 })
        }),
        plain("OFFER, with a push", {
            let base = Some(HeadId::of(b"base"));
            Message::new(tag::OFFER, &Offer { head, base, changes: 1, files: 2, content: 1 })
        }),
        plain("AT", Message::new(tag::AT, &At(Some(head)))),
        plain("AT, nothing published", Message::new(tag::AT, &At(None))),
    ];
    let pages = [0x91, 0xc4, 3, 0x92, 0, 0x90];
    let packed = vec![
        packed("CHANGES", tag::CHANGES, &write(&changes()), &kept[0]),
        packed("PAGES: that of an empty directory", tag::PAGES, &pages, &kept[1]),
        packed("FILES: one of each way", tag::FILES, &encode(&files()), &kept[2]),
    ];
    let about = "Every message. Placeholders stand for signed objects. A body_example ends in a zstd frame; other encoders \
                 make other frames of the same records.";
    check("messages.json", &json!({ "about": about, "messages": made, "packed": packed }));
}

#[test]
fn batches() {
    let kept = &kept("batches.json")["batches"];
    let text: Vec<u8> = noise("text", 3_000).iter().flat_map(|byte| format!("{byte:03} ").into_bytes()).collect();
    let (before, new, behind) = (&text[..5_000], &text[4_000..7_000], &text[7_000..9_000]);

    let mut plain = BatchWriter::default();
    plain.chunk(b"hello\n");
    plain.end();
    plain.end();
    plain.gone();
    let plain = plain.take();

    let copy = |from, len| Step::Copy { from, len };
    let mut edited = BatchWriter::default();
    edited.basis(path("old"));
    edited.step(copy(10_000, before.len() as u64), &[]);
    edited.literal(new, &before[before.len() - 4_096..]);
    edited.step(copy(18_000, behind.len() as u64), behind);
    // All of that copy is context already, so nothing of it stands before these bytes.
    edited.literal(&text[9_000..9_500], &[]);
    edited.step(Step::Old { from: 30_000, len: 300 }, &text[9_500..9_800]);
    edited.literal(&text[9_600..9_900], &[]);
    edited.step(Step::Have { count: 2 }, &text[..100]);
    edited.end();
    edited.step(Step::Have { count: 40 }, &[]);
    edited.end();
    let edited = edited.take();

    let mut made = Vec::new();
    for (i, (what, message, prefix, literals)) in [
        ("one short file, an empty one, one that is gone; nothing packed", plain, vec![], b"hello\n".to_vec()),
        (
            "a basis and copies of it, old bytes as context, two chunks that are here, of which the first has 100 bytes; \
             then a file of which the receiver has all",
            edited,
            [&before[before.len() - 4_096..], behind, &text[9_500..9_800], &text[..100]].concat(),
            [new, &text[9_000..9_500], &text[9_600..9_900]].concat(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let is_right = |body: &[u8]| {
            Batch::decode(body).is_ok_and(|batch| {
                batch.prefix_len == prefix.len() && batch.literals(&prefix).is_ok_and(|got| got == literals)
            })
        };
        assert!(is_right(&message.body), "{what}");
        let body = frame_of(&kept[i]["body_example"], is_right, || message.body.clone());
        let bytes = unhex(&body).unwrap();
        let batch = Batch::decode(&bytes).unwrap();
        assert_eq!(batch.steps, Batch::decode(&message.body).unwrap().steps, "{what}");
        let wanted: Vec<Value> = context(&batch.steps).iter().map(|part| json!([part.step, side(part.side)])).collect();
        let steps: Vec<String> = batch.steps.iter().map(shown).collect();
        made.push(json!({ "what": what, "steps": steps, "context": wanted, "prefix": hex(&prefix),
            "literals": hex(&literals), "body_example": body }));
    }
    let about = "BATCH bodies. context: pairs of a step's number and what of it is meant. The last part of a body may be a \
                 zstd frame; other encoders make other frames of the same literals.";
    check("batches.json", &json!({ "about": about, "batches": made }));
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Start => "start",
        Side::End { with_start: false } => "end",
        Side::End { with_start: true } => "end, without what is start",
        Side::All => "all",
    }
}

fn shown(step: &Step) -> String {
    match step {
        Step::Chunks { lengths, last: false } => format!("CHUNKS {lengths:?}"),
        Step::Chunks { lengths, last: true } => format!("LAST_CHUNKS {lengths:?}"),
        Step::Literal { len } => format!("LITERAL {len}"),
        Step::Basis(path) => format!("BASIS {path}"),
        Step::Copy { from, len } => format!("COPY {len} from {from}"),
        Step::Old { from, len } => format!("OLD {len} from {from}"),
        Step::Have { count } => format!("HAVE {count}"),
        Step::End => "END".into(),
        Step::Gone => "GONE".into(),
    }
}

#[test]
fn steps() {
    let steps = |name: &str, steps: &[Step]| {
        let shown: Vec<String> = steps.iter().map(shown).collect();
        json!({ "what": name, "steps": shown, "bytes": hex(&encode_steps(steps)) })
    };
    let (copy, literal) = (|from, len| Step::Copy { from, len }, |len| Step::Literal { len });
    let made = vec![
        steps("a file sent whole", &[Step::Chunks { lengths: vec![1, 127, 128, 262_144], last: true }]),
        steps(
            "an edit in place",
            &[Step::Basis(path("a/b")), copy(0, 1_000), literal(24), copy(1_024, 9_000), Step::End],
        ),
        steps("an insertion, and a part that moved forward", &[copy(0, 500), literal(7), copy(500, 10), copy(0, 20)]),
        steps("where a copy is expected does not outlive its file", &[copy(700, 1), Step::End, copy(1, 1), Step::End]),
        steps("old bytes move nothing", &[copy(0, 64), Step::Old { from: 64, len: 300 }, literal(200), copy(364, 1)]),
        steps("chunks that are here", &[Step::Have { count: 300 }, literal(1 << 40), Step::End, Step::Gone]),
        steps("the farthest place", &[copy((1 << 63) - 2, 1)]),
    ];
    check("steps.json", &json!({ "about": "Encoded steps, as they stand in a BATCH.", "steps": made }));
}

#[test]
fn frames_need_not_be_compressed() {
    let frame = super::example::raw_frame(b"some bytes");
    assert_eq!(unpack_exactly(&frame, 10, &[]).as_deref(), Some(&b"some bytes"[..]));
    let long = noise("long", 700);
    assert_eq!(unpack_exactly(&super::example::raw_frame(&long), 700, &[]), Some(long));
}

/// The handshake of every example: static secrets 32 times 01 and 03, ephemeral ones 32 times 02 and 04.
pub(super) struct Handshake {
    pub(super) first: Vec<u8>,
    pub(super) second: Vec<u8>,
    pub(super) third: Vec<u8>,
    pub(super) hash: Vec<u8>,
    pub(super) ours: Sealer,
    pub(super) theirs: Sealer,
}

pub(super) fn hellos() -> [Hello; 2] {
    let second = Hello { features: vec![1, 300], limits: vec![(2, 1 << 20)], ..Hello::default() };
    [second, Hello::default()]
}

pub(super) fn handshake() -> Handshake {
    let [second_hello, third_hello] = hellos().map(|hello| hello.encode());
    let secret = |byte| SecretKey::from_bytes([byte; 32]);
    let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
    let initiator = <Initiator<_>>::new(&PREFACE, secret(1), [2; 32]).write_first(&[], &mut first).unwrap();
    let (responder, _) = <Responder<_>>::new(&PREFACE, secret(3), [4; 32]).read_first(&first).unwrap();
    let responder = responder.write_second(&second_hello, &mut second).unwrap();
    let (initiator, payload) = initiator.read_second(&second).unwrap();
    assert_eq!(payload, second_hello);
    let ours = initiator.write_third(&third_hello, &mut third).unwrap();
    let (theirs, payload) = responder.read_third(&third).unwrap();
    assert_eq!((payload, &ours.handshake_hash), (third_hello, &theirs.handshake_hash));
    Handshake { first, second, third, hash: ours.handshake_hash, ours: ours.sealer, theirs: theirs.sealer }
}

pub(super) fn sealed(sealer: &mut Sealer, record: Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    record.write(sealer, &mut out).unwrap();
    out
}

#[test]
fn handshake_and_records() {
    let Handshake { first, second, third, hash, mut ours, mut theirs } = handshake();
    let [hello_2, hello_3] = hellos().map(|hello| hex(&hello.encode()));
    let token = [1, 2, 3, 4, 5, 6, 7, 8];
    let records = [
        ("DATA_MORE", "0000000001 6869", Record::Data { stream: 1, last: false, bytes: b"hi" }),
        ("DATA_LAST", "0100000001 21", Record::Data { stream: 1, last: true, bytes: b"!" }),
        ("DATA_LAST, empty", "0100000002", Record::Data { stream: 2, last: true, bytes: b"" }),
        ("CREDIT", "0200000001 00020000", Record::Credit { stream: 1, amount: 131_072 }),
        ("RESET", "0300000001 0001", Record::Reset { stream: 1, code: 1 }),
        ("PING that asks", "0400000000 00 0102030405060708", Record::Ping { token }),
        ("PING that answers", "0400000000 01 0102030405060708", Record::Pong { token }),
        ("ERROR", "0600000000 0201", Record::Error { code: 0x0201 }),
        ("CLOSE", "0500000000 0001", Record::Close { code: 1 }),
    ];
    let made: Vec<Value> = records
        .into_iter()
        .map(|(what, plain, record)| {
            let plain = plain.replace(' ', "");
            assert_eq!(Record::parse(&unhex(&plain).unwrap()), Ok(record), "{what}");
            json!({ "record": what, "plain": plain, "initiator": hex(&sealed(&mut ours, record)),
                "responder": hex(&sealed(&mut theirs, record)) })
        })
        .collect();
    let secret = |byte: u8| hex(&[byte; 32]);
    let public = |byte: u8| hex(&SecretKey::from_bytes([byte; 32]).public());
    check(
        "handshake.json",
        &json!({
            "about": "A handshake with fixed keys, then the same records from both sides, one after the other, so that number \
                      n is sealed with the nonce n. Messages stand without their lengths, records with theirs.",
            "preface": hex(&PREFACE),
            "refusal_of_another_version": hex(&REJECT),
            "initiator": { "static_secret": secret(1), "static_public": public(1), "ephemeral_secret": secret(2) },
            "responder": { "static_secret": secret(3), "static_public": public(3), "ephemeral_secret": secret(4) },
            "hello_of_message_2": hello_2,
            "hello_of_message_3": hello_3,
            "message_1": hex(&first),
            "message_2": hex(&second),
            "message_3": hex(&third),
            "message_1_as_sent": hex(&framed(&first)),
            "handshake_hash": hex(&hash),
            "records": made,
        }),
    );
}
