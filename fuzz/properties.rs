//! What must hold for any bytes: one function for each fuzz target. `cargo test` runs them on the kept corpus.

#[path = "content.rs"]
pub(crate) mod content;
#[path = "descent.rs"]
pub(crate) mod descent;
#[path = "push.rs"]
pub(crate) mod push;
#[path = "web.rs"]
pub(crate) mod web;

use std::collections::BTreeMap;
use std::fmt::Debug;

use mirra::protocol::batch::{Batch, context};
use mirra::protocol::change::{ChangeReader, ChangeWriter};
use mirra::protocol::connection::{Connection, Event, Role};
use mirra::protocol::hello::Hello;
use mirra::protocol::limits::{MESSAGE_2_MAX, MESSAGE_3_MAX};
use mirra::protocol::message::{self, Files, Message, body_max, refusal, tag};
use mirra::protocol::noise::{Initiator, NoiseError, Responder, SecretKey, Transport};
use mirra::protocol::packed::{pack, unpack};
use mirra::protocol::preface::{PREFACE, PREFACE_LEN, check_preface};
use mirra::protocol::record::Record;
use mirra::protocol::sender::{Answer, Output, ReadAt, Source};
use mirra::protocol::step::Step;
use mirra::tree::chunker::Class;
use mirra::tree::codec::{decode, encode};
use mirra::tree::dir::{Built, DirKind, build};
use mirra::tree::entry::{Body, Entry, Meta};
use mirra::tree::hash::{ChunkId, HeadId};
use mirra::tree::list::{Chunk, ListBuilder, ListKind};
use mirra::tree::name::{Name, TreePath};
use mirra::tree::page::{Kind, Page, PageSource, Pages, Trust};
use mirra::tree::signed::{Beat, Certificate, Envelope, Head, Payload, RootFile};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A property of any bytes; it panics where it does not hold.
type Property = fn(&[u8]);

/// Every target by name.
pub(crate) const TARGETS: [(&str, Property); 14] = [
    ("message", message),
    ("page", page),
    ("handshake", handshake),
    ("record", record),
    ("chunker", chunker),
    ("session", session),
    ("descent", descent::descent),
    ("push", push::push),
    ("steps", content::steps),
    ("gaps", content::gaps),
    ("search", content::search),
    ("content", content::content),
    ("blocks", content::blocks),
    ("web", web::web),
];

/// A message body is refused, or is a value that encodes and decodes to itself. The first byte is the tag.
pub(crate) fn message(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match *kind {
        tag::LIST => same::<message::List>(body),
        tag::MODULE => same::<message::Module>(body),
        tag::POLL => same::<message::Poll>(body),
        tag::STATE => same::<message::State>(body),
        tag::TREE => same::<message::Tree>(body),
        tag::CHANGES => changes(body),
        tag::DESCEND => same::<message::Descend>(body),
        tag::LISTS => same::<message::AtHead>(body),
        tag::PAGES => {
            if let Ok(records) = unpack(body) {
                assert_eq!(unpack(&pack(&records)).as_ref(), Ok(&records));
            }
        }
        tag::PATHS => same::<message::Paths>(body),
        tag::CHUNKS => same::<message::Chunks>(body),
        tag::CONTENT => same::<message::Content>(body),
        tag::FILES => {
            if let Ok(files) = Files::of(body) {
                assert_eq!(Files::of(&files.message().body).as_ref(), Ok(&files));
            }
        }
        tag::LOOK => same::<message::Look>(body),
        tag::BLOCKS => same::<message::Blocks>(body),
        tag::LEAVES => {
            if let Ok(leaves) = decode::<message::LeafRefs>("leaves", body) {
                decode::<message::LeafRefs>("leaves", &encode(&leaves)).expect("what was decoded decodes again");
            }
        }
        tag::BATCH => batch(body),
        tag::REFUSED => same::<message::Refused>(body),
        tag::FOLLOW => same::<message::Follow>(body),
        tag::ROUTE => same::<message::Route>(body),
        tag::OFFER => same::<message::Offer>(body),
        tag::AT => same::<message::At>(body),
        200 => {
            if let Ok(hello) = Hello::decode(body) {
                assert_eq!(Hello::decode(&hello.encode()).as_ref(), Ok(&hello));
                assert_eq!(hello.agree(&hello).features, hello.features);
            }
        }
        201 => {
            let Ok(envelope) = Envelope::decode(body) else { return };
            assert_eq!(envelope.encode(), body, "an envelope has one form");
            payload::<RootFile>(&envelope);
            payload::<Head>(&envelope);
            payload::<Beat>(&envelope);
            payload::<Certificate>(&envelope);
        }
        _ => {}
    }
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    if let Ok(value) = decode::<T>("body", body) {
        assert_eq!(decode::<T>("body", &encode(&value)).as_ref(), Ok(&value));
    }
}

fn payload<T: Payload + PartialEq + Debug>(envelope: &Envelope) {
    if let Ok(value) = envelope.unverified::<T>() {
        assert_eq!(encode(&value), envelope.payload(), "a payload has one form");
        assert!(envelope.verify::<T>(&[], 1).is_err(), "nothing is believed without a key");
    }
}

/// The literals of a batch are exactly as long as its steps say.
fn batch(body: &[u8]) {
    let Ok(batch) = Batch::decode(body) else { return };
    let wanted = context(&batch.steps).len();
    assert!(wanted <= 2 * batch.steps.len());
    let prefix = vec![0; batch.prefix_len];
    let Ok(literals) = batch.literals(&prefix) else { return };
    let named: u64 = batch.steps.iter().map(Step::literal_bytes).sum();
    assert_eq!(literals.len() as u64, named);
}

/// Changes that can be applied lead to a tree whose own changes from nothing lead to it again.
fn changes(body: &[u8]) {
    let library = Library::new();
    for base in [None, Some(library.old)] {
        let mut pages = library.pages.clone();
        let mut reader = ChangeReader::new(base, 1_000);
        if reader.apply(body, &mut pages).is_err() {
            continue;
        }
        let Ok(built) = reader.finish(&mut pages) else { continue };
        // Changes may name a directory that is not held; such a tree cannot be walked.
        let Ok(mut writer) = ChangeWriter::new(&pages, base.map(|base| base.id), built.id) else { continue };
        for _ in 0..64 {
            match writer.next_message() {
                Ok(Some(message)) => assert!(message.body.len() <= body_max(message.tag).unwrap_or(0) as usize),
                Ok(None) | Err(_) => break,
            }
        }
    }
}

/// A page is refused, or is in its one form. The first byte chooses the kind.
pub(crate) fn page(data: &[u8]) {
    match data.split_first() {
        Some((kind, bytes)) if kind.is_multiple_of(2) => page_of::<DirKind>(bytes),
        Some((_, bytes)) => page_of::<ListKind>(bytes),
        None => {}
    }
}

fn page_of<K: Kind>(bytes: &[u8]) {
    if let Ok(page) = Page::<K>::decode(bytes, Trust::Peer) {
        assert_eq!(page.encode(), bytes);
        mirra::tree::page::decode_sent::<K>(&K::id(bytes), bytes).expect("its id is its hash");
    }
    if let Ok(page) = Page::<K>::decode(bytes, Trust::Index) {
        Page::<K>::decode(&page.encode(), Trust::Peer).expect("what we encode is canonical");
    }
}

const NAME: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2b";
const OURS: [u8; 32] = [1; 32];
const THEIRS: [u8; 32] = [3; 32];
const EPHEMERALS: [[u8; 32]; 2] = [[2; 32], [4; 32]];

/// Another implementation accepts the same handshake messages, but for points of low order, which we refuse. The first
/// byte chooses the role, and whether the bytes are the message or a change to an honest one.
pub(crate) fn handshake(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    if let Some(preface) = bytes.first_chunk::<PREFACE_LEN>() {
        assert_eq!(check_preface(preface).is_ok(), *preface == PREFACE);
    }
    match mode % 4 {
        0 => respond(bytes, &[]),
        1 => {
            let (first, third) = bytes.split_at(bytes.len().min(32));
            respond(first, third);
        }
        2 => initiate(bytes, false),
        _ => initiate(bytes, true),
    }
}

fn foreign(secret: &[u8; 32], ephemeral: &'static [u8; 32], dials: bool) -> snow::HandshakeState {
    let builder = snow::Builder::new(NAME.parse().expect("a pattern that snow knows"));
    let builder = builder.prologue(&PREFACE).and_then(|builder| builder.local_private_key(secret));
    let builder = builder.expect("a whole key").fixed_ephemeral_key_for_testing_only(ephemeral);
    if dials { builder.build_initiator() } else { builder.build_responder() }.expect("all parts are there")
}

fn read_foreign(state: &mut snow::HandshakeState, message: &[u8]) -> Option<Vec<u8>> {
    let mut payload = vec![0; 65_535];
    let count = state.read_message(message, &mut payload).ok()?;
    payload.truncate(count);
    Some(payload)
}

fn write_foreign(state: &mut snow::HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 65_535];
    let count = state.write_message(payload, &mut message).expect("a message of ours is written");
    message.truncate(count);
    message
}

/// Both responders read `first`, write message 2, and read `third`.
fn respond(first: &[u8], third: &[u8]) {
    let ours = <Responder<_>>::new(&PREFACE, SecretKey::from_bytes(THEIRS), EPHEMERALS[1]);
    let mut theirs = foreign(&THEIRS, &EPHEMERALS[1], false);
    let (ours, other) = (ours.read_first(first), read_foreign(&mut theirs, first));
    let Ok((ours, payload)) = ours else { return assert!(other.is_none(), "they take what we refuse") };
    assert_eq!(Some(payload), other);
    let mut second = Vec::new();
    let ours = match ours.write_second(b"second", &mut second) {
        Ok(ours) => ours,
        Err(error) => return assert_eq!(error, NoiseError::LowOrderPoint),
    };
    assert_eq!(second, write_foreign(&mut theirs, b"second"));
    if third.len() <= MESSAGE_3_MAX {
        agree(ours.read_third(third).map(|(_, payload)| payload), read_foreign(&mut theirs, third));
    }
}

/// Both initiators read a message 2: `bytes`, or an honest one that carries them, with one byte changed by the last.
fn initiate(bytes: &[u8], honest: bool) {
    let mut first = Vec::new();
    let ours = <Initiator<_>>::new(&PREFACE, SecretKey::from_bytes(OURS), EPHEMERALS[0]);
    let ours = ours.write_first(&[], &mut first).expect("message 1 is always written");
    let mut theirs = foreign(&OURS, &EPHEMERALS[0], true);
    assert_eq!(first, write_foreign(&mut theirs, &[]));
    let mut second = bytes.get(..bytes.len().min(MESSAGE_2_MAX)).unwrap_or_default().to_vec();
    let mut changed = false;
    if honest {
        let mut peer = foreign(&THEIRS, &EPHEMERALS[1], false);
        read_foreign(&mut peer, &first);
        let payload = second;
        second = write_foreign(&mut peer, &payload);
        if let [.., at, change] = *payload {
            let at = usize::from(at) % second.len();
            second[at] ^= change;
            changed = change != 0;
        }
    }
    let (ours, other) = (ours.read_second(&second), read_foreign(&mut theirs, &second));
    assert!(!honest || changed == ours.is_err(), "a changed message is refused, an honest one is not");
    if let Ok((ours, _)) = &ours {
        assert_eq!(Some(&ours.remote_key()[..]), theirs.get_remote_static());
    }
    let ours = match ours {
        Ok((ours, payload)) => {
            agree(Ok(payload), other);
            ours
        }
        Err(error) => return agree(Err(error), other),
    };
    let mut third = Vec::new();
    match ours.write_third(b"third", &mut third) {
        Ok(_) => assert_eq!(third, write_foreign(&mut theirs, b"third")),
        Err(error) => assert_eq!(error, NoiseError::LowOrderPoint),
    }
}

fn agree(ours: Result<Vec<u8>, NoiseError>, theirs: Option<Vec<u8>>) {
    match ours {
        Ok(payload) => assert_eq!(Some(payload), theirs),
        Err(NoiseError::LowOrderPoint) => {}
        Err(error) => assert!(theirs.is_none(), "they take what we refuse: {error}"),
    }
}

/// Both ends of a handshake with fixed keys.
fn transports() -> (Transport, Transport) {
    let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
    let done: Result<_, NoiseError> = (|| {
        let initiator = <Initiator<_>>::new(&PREFACE, SecretKey::from_bytes(OURS), EPHEMERALS[0]);
        let responder = <Responder<_>>::new(&PREFACE, SecretKey::from_bytes(THEIRS), EPHEMERALS[1]);
        let initiator = initiator.write_first(&[], &mut first)?;
        let (responder, _) = responder.read_first(&first)?;
        let responder = responder.write_second(&[], &mut second)?;
        let (initiator, _) = initiator.read_second(&second)?;
        let ours = initiator.write_third(&[], &mut third)?;
        Ok((ours, responder.read_third(&third)?.0))
    })();
    done.expect("two honest ends agree")
}

/// Nothing that comes after the handshake ends in a panic, and a connection that has failed stays failed. The first byte
/// chooses between bytes as they come and sealed records that the others describe.
pub(crate) fn record(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let (peer, own) = transports();
    let mut sealer = peer.sealer;
    let mut connection = Connection::new(Role::Responder, own.sealer, own.opener, body_max, 0);
    if mode.is_multiple_of(2) {
        for piece in bytes.chunks(1 + usize::from(*mode)) {
            hear(&mut connection, 0, &mut piece.to_vec());
        }
        return;
    }
    let (mut rest, mut now_ms) = (bytes, 0);
    while let [kind, stream, size, more @ ..] = rest {
        let (body, tail) = more.split_at(more.len().min(usize::from(*size)));
        rest = tail;
        let stream = u32::from(*stream);
        let number = body.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        let code = number as u16;
        let token = *body.first_chunk().unwrap_or(&[0; 8]);
        let record = match kind % 9 {
            0 => Record::Data { stream, last: false, bytes: body },
            1 => Record::Data { stream, last: true, bytes: body },
            2 => Record::Credit { stream, amount: number },
            3 => Record::Reset { stream, code },
            4 => Record::Ping { token },
            5 => Record::Pong { token },
            6 => Record::Close { code },
            7 => Record::Error { code },
            _ => {
                // Not from the peer: this side acts.
                act(&mut connection, stream, body);
                continue;
            }
        };
        let mut sealed = Vec::new();
        if record.write(&mut sealer, &mut sealed).is_err() {
            return;
        }
        if *kind >= 250 {
            let at = usize::from(*size) % sealed.len();
            sealed[at] ^= 1;
        }
        now_ms += u64::from(*kind) * 10;
        hear(&mut connection, now_ms, &mut sealed);
    }
    let _ = connection.handle_eof();
}

fn act(connection: &mut Connection, stream: u32, body: &[u8]) {
    use mirra::protocol::connection::Priority::Live;
    // Refusals are part of the interface; what matters is that nothing else happens.
    let _ = match body.first().map(|byte| byte % 5) {
        Some(0) => connection.open(Live, tag::LIST, body.to_vec()).map(drop),
        Some(1) => connection.finish(stream),
        Some(2) => {
            connection.reset(stream, 1);
            Ok(())
        }
        Some(3) => {
            connection.close(0);
            Ok(())
        }
        _ => connection.send(stream, tag::LIST, body.to_vec()),
    };
}

fn hear(connection: &mut Connection, now_ms: u64, input: &mut [u8]) {
    let (_, heard) = (connection.handle_timeout(now_ms), connection.handle_input(now_ms, input));
    if let Err(error) = heard {
        assert!(connection.is_closed());
        assert_eq!(connection.handle_input(now_ms, &mut [0; 40]), Err(error), "a failed connection stays failed");
    }
    while let Some(event) = connection.poll_event() {
        if let Event::Message { stream, tag, body } = event {
            assert!(body.len() <= body_max(tag).map_or(0, |max| max as usize), "a longer body was given out");
            connection.release(stream, body.len());
        }
    }
    let mut out = Vec::new();
    for _ in 0..64 {
        let added = connection.poll_transmit(now_ms, &mut out, 10_000);
        connection.transmitted(now_ms, added);
        if added == 0 {
            break;
        }
    }
}

/// Chunks cover the data, keep their bounds, and do not depend on how far ahead the reader sees. The first bytes choose
/// class and size, the others are repeated with changes, since a chunk is longer than most inputs.
pub(crate) fn chunker(data: &[u8]) {
    let [mode, size, pattern @ ..] = data else { return };
    if pattern.is_empty() {
        return;
    }
    let class = if mode.is_multiple_of(2) { Class::Fine } else { Class::Coarse };
    let (min, _, max) = class.sizes();
    let size = usize::from(*size) * max / 64;
    let step = mode / 2;
    let content: Vec<u8> = pattern
        .iter()
        .cycle()
        .take(size)
        .enumerate()
        .map(|(at, byte)| byte.wrapping_add(step.wrapping_mul((at / pattern.len()) as u8)))
        .collect();
    let mut rest = &content[..];
    while !rest.is_empty() {
        let len = class.cut(rest);
        assert!(len > 0 && len <= max && len <= rest.len());
        assert!(len >= min || len == rest.len());
        assert_eq!(class.cut(&rest[..max.min(rest.len())]), len, "more in sight moves no cut");
        rest = &rest[len..];
    }
    assert_eq!(class.cut(&[]), 0);
}

/// A sender answers any sequence of messages with messages within their bounds, and comes to an end.
pub(crate) fn session(data: &[u8]) {
    /// Far more messages than the small library has to send for one message of the receiver.
    const OUTPUTS_MAX: usize = 20_000;
    let library = Library::new();
    let mut messages = messages(data).into_iter();
    let Some(request) = messages.next() else { return };
    let mut answer = Answer::start(&library, &request);
    let mut ended = false;
    for _ in 0..OUTPUTS_MAX {
        match answer.next_output() {
            Output::Message(message) => {
                assert!(message.body.len() <= body_max(message.tag).unwrap_or(0) as usize, "tag {}", message.tag);
            }
            Output::Wait => {
                assert!(!ended, "it waits for more behind the end");
                let next = messages.next();
                ended = next.is_none();
                answer.handle(next.as_ref());
            }
            Output::Done => return,
        }
    }
    panic!("the answer does not end");
}

/// Messages as a corpus file holds them: tag, two bytes of length, body.
fn messages(mut data: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let [tag, high, low, rest @ ..] = data {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (body, tail) = rest.split_at(length);
        messages.push(Message { tag: *tag, body: body.to_vec() });
        data = tail;
    }
    messages
}

/// A small module `m` with two heads, whose ids are easy to guess.
struct Library {
    /// The pages of both trees.
    pages: Pages,
    /// The tree of head 1.
    old: Built,
    /// The tree of head 2.
    new: Built,
    files: BTreeMap<String, Vec<u8>>,
    /// As they were in the tree of head 1.
    old_files: BTreeMap<String, Vec<u8>>,
}

impl Library {
    /// Makes it anew: it is small.
    fn new() -> Self {
        let mut pages = Pages::new();
        let text = b"some text that shrinks. ".repeat(20);
        let large: Vec<u8> = (0..90_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let mut edited = large.clone();
        edited.splice(50_000..50_000, *b"an insertion");
        let mut files: BTreeMap<String, Vec<u8>> =
            [("a", text.clone()), ("d/b", large), ("d/e/c", text)].map(|(path, bytes)| (path.into(), bytes)).into();
        let old = tree(&files, "", &mut pages);
        let old_files = files.clone();
        files.insert("d/b".into(), edited);
        files.insert("empty".into(), Vec::new());
        files.remove("a");
        let new = tree(&files, "", &mut pages);
        Self { pages, old, new, files, old_files }
    }
}

fn tree(files: &BTreeMap<String, Vec<u8>>, at: &str, pages: &mut Pages) -> Built {
    let mut entries = BTreeMap::new();
    for (path, bytes) in files {
        let Some(name) = path.strip_prefix(at).and_then(|rest| rest.split('/').next()) else { continue };
        let below = format!("{at}{name}/");
        if entries.contains_key(name) {
            continue;
        }
        let body = if path.starts_with(&below) { tree(files, &below, pages).body() } else { file(bytes, pages) };
        let checked = Name::new(name.as_bytes()).expect("names of the library are good");
        entries.insert(name, Entry { name: checked, meta: Meta::default(), body, attributes: Vec::new() });
    }
    build(&entries.into_values().collect::<Vec<_>>(), pages).expect("memory takes all pages")
}

fn file(bytes: &[u8], pages: &mut Pages) -> Body {
    let (mut list, mut rest) = (ListBuilder::default(), bytes);
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at(Class::Fine.cut(rest));
        list.push(Chunk { id: ChunkId::of(chunk), len: chunk.len() as u32 }, pages).expect("memory takes all pages");
        rest = tail;
    }
    let (id, size) = list.finish(pages).expect("memory takes all pages");
    Body::File { size, class: Class::Fine, id }
}

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.0.get(from..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Source for Library {
    fn modules(&self) -> Vec<message::Module> {
        vec![message::Module { name: "m".into(), title: String::new(), root: vec![].into(), head: None }]
    }

    fn state(&self, poll: &message::Poll) -> Result<message::State, u16> {
        if poll.module != "m" {
            return Err(refusal::NO_MODULE);
        }
        Ok(message::State { roots: Vec::new(), head: None, beat: None })
    }

    fn tree(&self, module: &str, head: &HeadId) -> Result<Option<Built>, u16> {
        if module != "m" {
            return Err(refusal::NO_MODULE);
        }
        let heads = [(1, self.old), (2, self.new)];
        Ok(heads.into_iter().find(|(id, _)| HeadId::from_bytes([*id; 32]) == *head).map(|(_, built)| built))
    }

    fn pages(&self) -> &dyn PageSource {
        &self.pages
    }

    fn open(&self, _: &str, path: &TreePath, _: &Entry) -> Option<Box<dyn ReadAt>> {
        Some(Box::new(Bytes(self.files.get(&path.to_string())?.clone())))
    }

    fn similar(&self, _: &str, _: &[u64]) -> Vec<TreePath> {
        TreePath::new(b"a").into_iter().collect()
    }
}
