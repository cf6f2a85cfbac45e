//! Senders that lie, each in one way: the program ends in bounded time with an error, and nothing that the root did not
//! sign is ever seen in the target or outside of it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use ed25519_dalek::SigningKey;
use mirra::net::{Listener, Params, Stream};
use mirra::protocol::batch::{BatchWriter, Step};
use mirra::protocol::hello::Hello;
use mirra::protocol::message::{
    Chunks, LeafRefs, Message, Module, Poll, Refused, State, WireChange, operation, refusal, tag,
};
use mirra::protocol::noise::SecretKey;
use mirra::protocol::packed::{pack, pack_with};
use mirra::protocol::sender::{Answer, Output, ReadAt, Source};
use mirra::tree::chunker::Class;
use mirra::tree::codec::encode;
use mirra::tree::dir::{Built, DirKind, build};
use mirra::tree::entry::{Body, Entry, Meta, Mtime};
use mirra::tree::hash::{Authority, ChunkId, DirId, HeadId, ModuleId};
use mirra::tree::list::{Chunk, ListBuilder};
use mirra::tree::name::{Name, TreePath};
use mirra::tree::page::{Page, PageSource, Pages};
use mirra::tree::signed::{Beat, Envelope, FORMAT, Head, PublicKey, RootFile};
use serde_bytes::ByteBuf;
use tempfile::{TempDir, tempdir};

use crate::fixture::{Dice, Ended, MODULE, Tree, each_whole, mirra, same, text, walk};

/// Content by path; a path that ends in a slash is an empty directory.
pub(crate) type Content = BTreeMap<String, Vec<u8>>;

const META: Meta = Meta { mode: 0o644, mtime: Mtime { seconds: 1_700_000_000, nanos: 5 } };
const DIR_META: Meta = Meta { mode: 0o755, mtime: Mtime { seconds: 1_700_000_001, nanos: 6 } };
const DAY_MS: u64 = 86_400_000;

fn now_ms() -> u64 {
    u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

/// The keys of a root, and what it signs with them.
#[derive(Clone)]
pub(crate) struct Owner {
    root: SigningKey,
    head: SigningKey,
}

impl Owner {
    pub(crate) fn new(byte: u8) -> Self {
        let key = |byte| SigningKey::from_bytes(&[byte; 32]);
        Self { root: key(byte), head: key(byte + 1) }
    }

    fn root_file(&self) -> Envelope {
        let public = |key: &SigningKey| PublicKey(key.verifying_key().to_bytes());
        let file = RootFile {
            version: 1,
            epoch: 0,
            threshold: 1,
            root_keys: vec![public(&self.root)],
            head_keys: vec![public(&self.head)],
            expires: None,
        };
        Envelope::sign(&file, &[&self.root])
    }

    fn authority(&self) -> Authority {
        Authority::of(self.root_file().payload())
    }

    fn head(&self, sequence: u64, built: Built) -> Head {
        Head {
            module: ModuleId::of(&self.authority(), MODULE),
            name: MODULE.into(),
            epoch: 0,
            sequence,
            snapshot: built.id,
            entries: built.entries,
            bytes: built.bytes,
            mode: DIR_META.mode,
            mtime_seconds: DIR_META.mtime.seconds,
            mtime_nanos: DIR_META.mtime.nanos,
            format: FORMAT,
            created: 1_700_000_000_000,
            previous: None,
            allow_delete: true,
        }
    }
}

/// What a sender gives out: trees, content and signed words, all of which a test may bend.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) pages: Pages,
    files: HashMap<TreePath, Vec<u8>>,
    pub(crate) trees: HashMap<HeadId, Built>,
    state: State,
}

pub(crate) struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(self.0.get(from..from + buffer.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Source for Shop {
    fn modules(&self) -> Vec<Module> {
        Vec::new()
    }
    fn state(&self, poll: &Poll) -> Result<State, u16> {
        let roots = self.state.roots.iter().skip(usize::try_from(poll.root).unwrap()).cloned().collect();
        Ok(State { roots, ..self.state.clone() })
    }
    fn tree(&self, module: &str, head: &HeadId) -> Result<Option<Built>, u16> {
        if module == MODULE { Ok(self.trees.get(head).copied()) } else { Err(refusal::NO_MODULE) }
    }
    fn pages(&self) -> &dyn PageSource {
        &self.pages
    }
    fn open(&self, _: &str, path: &TreePath, _: &Entry) -> Option<Box<dyn ReadAt>> {
        Some(Box::new(Bytes(self.files.get(path)?.clone())))
    }
    fn similar(&self, _: &str, _: DirId, _: &[ChunkId]) -> Option<TreePath> {
        None
    }
}

impl Shop {
    /// An honest shop whose newest head is of the last of `versions`.
    pub(crate) fn new(owner: &Owner, versions: &[&Content]) -> Self {
        let state = State { roots: Vec::new(), head: None, beat: None };
        let mut shop = Self { pages: Pages::new(), files: HashMap::new(), trees: HashMap::new(), state };
        for (i, content) in versions.iter().enumerate() {
            let built = shop.build(content, "");
            shop.files = content
                .iter()
                .map(|(path, bytes)| (TreePath::new(path.trim_end_matches('/').as_bytes()).unwrap(), bytes.clone()))
                .collect();
            shop.say(owner, &owner.head(1_000 + i as u64, built));
        }
        shop
    }

    /// Makes `head` the newest, with all that belongs to it.
    fn say(&mut self, owner: &Owner, head: &Head) {
        let envelope = Envelope::sign(head, &[&owner.head]);
        let id = HeadId::of(envelope.payload());
        let beat = Beat {
            module: head.module,
            epoch: head.epoch,
            sequence: head.sequence,
            head: id,
            issued: now_ms(),
            expires: now_ms() + DAY_MS,
        };
        self.trees.insert(id, Built { id: head.snapshot, entries: head.entries, bytes: head.bytes });
        self.state = State {
            roots: vec![ByteBuf::from(owner.root_file().encode())],
            head: Some(ByteBuf::from(envelope.encode())),
            beat: Some(ByteBuf::from(Envelope::sign(&beat, &[&owner.head]).encode())),
        };
    }

    fn build(&mut self, content: &Content, at: &str) -> Built {
        let mut entries: BTreeMap<&str, Entry> = BTreeMap::new();
        for (path, bytes) in content {
            let Some(rest) = path.strip_prefix(at) else { continue };
            let name = rest.split('/').next().unwrap();
            if name.is_empty() || entries.contains_key(name) {
                continue;
            }
            let (meta, body) = if rest.contains('/') {
                (DIR_META, self.build(content, &format!("{at}{name}/")).body())
            } else {
                (META, self.file(bytes))
            };
            let checked = Name::new(name.as_bytes()).unwrap();
            entries.insert(name, Entry { name: checked, meta, body, attributes: Vec::new() });
        }
        build(entries.values(), &mut self.pages).unwrap()
    }

    fn file(&mut self, bytes: &[u8]) -> Body {
        let mut list = ListBuilder::default();
        for chunk in cut(bytes) {
            list.push(Chunk { id: ChunkId::of(chunk), len: u32::try_from(chunk.len()).unwrap() }, &mut self.pages)
                .unwrap();
        }
        let (id, size) = list.finish(&mut self.pages).unwrap();
        Body::File { size, class: Class::Fine, id }
    }
}

pub(crate) fn cut(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut at, mut pieces) = (0, Vec::new());
    while at < bytes.len() {
        let len = Class::Fine.cut(&bytes[at..]);
        pieces.push(&bytes[at..at + len]);
        at += len;
    }
    pieces
}

/// What is said instead of one honest message.
enum Say {
    These(Vec<Message>),
    /// The same until the other side has had enough.
    Forever(Message),
    /// Each time another, until the other side has had enough.
    Growing(fn(u64) -> Message),
    /// Nothing, with the connection kept.
    Silence,
}

/// Bends what is said: by the tag of the request, and the message.
type Lie = Arc<dyn Fn(u8, Message) -> Say + Send + Sync>;

fn honest() -> Lie {
    Arc::new(|_, message| Say::These(vec![message]))
}

/// Says `instead`, which has no end, where an honest sender says a message with `tag`.
fn from_first(wanted: u8, instead: impl Fn(Message) -> Say + Send + Sync + 'static) -> Lie {
    Arc::new(move |_, message| if message.tag == wanted { instead(message) } else { Say::These(vec![message]) })
}

/// Says `instead` for every message with `tag`.
fn always(wanted: u8, instead: impl Fn(Message) -> Vec<Message> + Send + Sync + 'static) -> Lie {
    Arc::new(move |_, message| Say::These(if message.tag == wanted { instead(message) } else { vec![message] }))
}

/// Messages of one endless answer: more than any bound of the receiver lets through in the time a test has.
const ENDLESS: u64 = 2_000_000;

/// A sender on a socket, until it is dropped.
struct Sender {
    address: SocketAddr,
    over: Arc<Over>,
    _runtime: tokio::runtime::Runtime,
}

/// Whether a sender is at its end.
#[derive(Default)]
struct Over(Mutex<bool>, Condvar);

impl Drop for Sender {
    fn drop(&mut self) {
        // The runtime waits for its threads, and the silent ones wait for this.
        *self.over.0.lock().unwrap() = true;
        self.over.1.notify_all();
    }
}

impl Sender {
    fn start(shop: Shop, lie: Lie) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(Listener::bind("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = listener.address().unwrap();
        let params = Params {
            key: SecretKey::from_bytes([9; 32]),
            hello: Hello::default(),
            max_body: |_| Some(u32::MAX),
            check: Arc::new(|_| true),
        };
        let shop = Arc::new(shop);
        let over = Arc::new(Over::default());
        let told = over.clone();
        runtime.spawn(async move {
            let serve = move |channel: mirra::net::Channel, _| {
                let (shop, lie, over) = (shop.clone(), lie.clone(), told.clone());
                async move {
                    while let Some(stream) = channel.accept_stream().await {
                        let (shop, lie, over) = (shop.clone(), lie.clone(), over.clone());
                        tokio::task::spawn_blocking(move || answer(&shop, &lie, &stream, &over));
                    }
                }
            };
            listener.run(params, serve).await;
        });
        Self { address, over, _runtime: runtime }
    }
}

/// Answers one request; ends when the other side hangs up.
fn answer(shop: &Shop, lie: &Lie, stream: &Stream, over: &Over) -> Option<()> {
    let hear = || stream.blocking_recv().ok().map(|m| m.map(|m| Message { tag: m.tag, body: m.body }));
    let say = |message: Message| stream.blocking_send(message.tag, message.body).ok();
    let request = hear()??;
    let mut answer = Answer::start(shop, &request);
    loop {
        match answer.next_output() {
            Output::Message(message) => match lie(request.tag, message) {
                Say::These(messages) => messages.into_iter().try_for_each(say)?,
                Say::Forever(message) => (0..ENDLESS).try_for_each(|_| say(message.clone()))?,
                Say::Growing(make) => (0..ENDLESS).try_for_each(|i| say(make(i)))?,
                Say::Silence => drop(over.1.wait_while(over.0.lock().unwrap(), |over| !*over).unwrap()),
            },
            Output::Wait => answer.handle(hear()?.as_ref()),
            Output::Done => break,
        }
    }
    stream.finish().ok()
}

/// What the node has when the lie comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    /// Nothing.
    Nothing,
    /// The version before, from the same owner.
    Before,
    /// A tree that the sender does not know.
    Other,
}

struct Bench {
    owner: Owner,
    old: Content,
    new: Content,
    /// How the two versions look on disk.
    old_tree: Tree,
    new_tree: Tree,
}

impl Bench {
    fn new() -> Self {
        let mut dice = Dice(77);
        let owner = Owner::new(20);
        let large = text(&mut dice, 900_000);
        let mut edited = large.clone();
        edited.splice(400_000..400_000, *b"some more");
        let small = |dice: &mut Dice, len| text(dice, len);
        let old = Content::from([
            ("a".into(), small(&mut dice, 10)),
            ("d/b".into(), small(&mut dice, 30_000)),
            ("d/e/c".into(), small(&mut dice, 3_000)),
            ("empty/".into(), Vec::new()),
            ("large".into(), large),
            ("z".into(), small(&mut dice, 500)),
        ]);
        let mut new = old.clone();
        new.insert("large".into(), edited);
        new.insert("d/b".into(), small(&mut dice, 31_000));
        new.insert("d/f/new".into(), small(&mut dice, 50_000));
        new.insert("packed".into(), dice.bytes(200_000));
        new.remove("z");
        let looks = |content: &Content| {
            let place = tempdir().unwrap();
            let sender = Sender::start(Shop::new(&owner, &[content]), honest());
            sync(place.path(), &sender, &[]).expect(0);
            let tree = walk(&place.path().join(MODULE));
            for (path, bytes) in content.iter().filter(|(path, _)| !path.ends_with('/')) {
                assert_eq!(fs::read(place.path().join(MODULE).join(path)).unwrap(), *bytes);
            }
            tree
        };
        let (old_tree, new_tree) = (looks(&old), looks(&new));
        Self { owner, old, new, old_tree, new_tree }
    }

    fn honest(&self) -> Shop {
        Shop::new(&self.owner, &[&self.old, &self.new])
    }

    /// Lets the program sync from a liar, and looks at what is left: old or new files, whole, and nothing elsewhere. An
    /// honest sender then finishes the work.
    #[track_caller]
    fn check(&self, name: &str, has: Has, shop: &Shop, lie: Lie, codes: &[i32]) -> Ended {
        let (place, before) = self.node(has);
        let home = place.path().join("node");
        let sender = Sender::start(shop.clone(), lie);
        let began = std::time::Instant::now();
        let more: &[&str] = if has == Has::Other { &["--adopt"] } else { &[] };
        let ended = sync(&home, &sender, more);
        drop(sender);
        ended.check_calm();
        assert!(ended.code.is_some_and(|code| codes.contains(&code)), "{name}, {has:?}: {ended:?}");
        // A lie is seen when it is said, not when a timer ends what it was part of.
        assert!(codes == [30] || began.elapsed().as_secs() < 40, "{name}, {has:?}: {:?}", began.elapsed());
        check_canary(place.path(), name);
        let target = home.join(MODULE);
        let now = if target.exists() { walk(&target) } else { Tree::new() };
        each_whole(&now, &[&before, &self.old_tree, &self.new_tree], &format!("{name}, {has:?}"));

        let sender = Sender::start(self.honest(), honest());
        sync(&home, &sender, &["--adopt"]).expect(0);
        same(&self.new_tree, &walk(&target), &format!("{name}, {has:?}, then the truth"));
        check_canary(place.path(), name);
        ended
    }

    /// A home with a canary beside it.
    fn node(&self, has: Has) -> (TempDir, Tree) {
        let place = tempdir().unwrap();
        fs::create_dir_all(place.path().join("canary/in")).unwrap();
        fs::write(place.path().join("canary/in/file"), "sings").unwrap();
        let home = place.path().join("node");
        match has {
            Has::Nothing => {}
            Has::Before => {
                let sender = Sender::start(Shop::new(&self.owner, &[&self.old]), honest());
                sync(&home, &sender, &[]).expect(0);
            }
            Has::Other => {
                fs::create_dir_all(home.join(MODULE).join("d")).unwrap();
                fs::write(home.join(MODULE).join("d/b"), &self.old["d/b"]).unwrap();
                fs::write(home.join(MODULE).join("large"), &self.old["large"]).unwrap();
                fs::write(home.join(MODULE).join("own"), "precious").unwrap();
            }
        }
        let target = home.join(MODULE);
        let before = if target.exists() { walk(&target) } else { Tree::new() };
        (place, before)
    }

    /// Checks a lie against nodes in every state.
    #[track_caller]
    fn check_all(&self, name: &str, shop: &Shop, lie: &Lie, codes: &[i32]) {
        for has in [Has::Nothing, Has::Before, Has::Other] {
            self.check(name, has, shop, lie.clone(), codes);
        }
    }
}

fn check_canary(place: &Path, name: &str) {
    let names: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == "canary" || name == "node"), "{name}: {names:?}");
    assert_eq!(fs::read(place.join("canary/in/file")).unwrap(), b"sings", "{name}");
    assert_eq!(walk(&place.join("canary")).len(), 3, "{name}");
}

fn sync(home: &Path, sender: &Sender, more: &[&str]) -> Ended {
    let address = sender.address.to_string();
    // The port is another each time; what is pinned is the key.
    mirra(home, &[&["sync", &address, MODULE, "--once", "--json"], more].concat())
}

fn change(rest: &[u8], operation: u8) -> WireChange {
    WireChange {
        keep: 0,
        rest: rest.to_vec(),
        operation,
        mode: 0o644,
        seconds: 0,
        nanos: 0,
        size: 0,
        class: 0,
        content: Vec::new(),
        attributes: Vec::new(),
    }
}

/// A file of a few bytes, which a sender would have to deliver.
fn file_change(path: &[u8]) -> WireChange {
    let mut pages = Pages::new();
    let mut list = ListBuilder::default();
    list.push(Chunk { id: ChunkId::of(b"evil"), len: 4 }, &mut pages).unwrap();
    let (id, size) = list.finish(&mut pages).unwrap();
    WireChange { size, content: id.as_bytes().to_vec(), ..change(path, operation::FILE) }
}

fn changes(records: &[WireChange]) -> Message {
    Message { tag: tag::CHANGES, body: pack(&encode(&records)) }
}

#[test]
fn words_that_the_owner_did_not_sign_change_nothing() {
    let bench = Bench::new();
    let owner = &bench.owner;
    let honest_shop = bench.honest();
    let built = *honest_shop
        .trees
        .values()
        .find(|b| b.id == Shop::new(owner, &[&bench.new]).trees.values().next().unwrap().id)
        .unwrap();
    let says = |change: &dyn Fn(&mut State)| {
        let mut shop = honest_shop.clone();
        change(&mut shop.state);
        shop
    };
    let signed = |head: &Head, key: &SigningKey| Some(ByteBuf::from(Envelope::sign(head, &[key]).encode()));
    let head = owner.head(2_000, built);
    let stranger = Owner::new(40);

    let unsigned = Envelope::sign(&head, &[]);
    let cases: Vec<(&str, Shop)> = vec![
        ("no head key", says(&|s| s.head = signed(&head, &stranger.head))),
        ("the root key for a head", says(&|s| s.head = signed(&head, &owner.root))),
        ("no signature", says(&|s| s.head = Some(ByteBuf::from(unsigned.encode())))),
        (
            "another module",
            says(&|s| {
                let other =
                    Head { module: ModuleId::of(&owner.authority(), "other"), name: "other".into(), ..head.clone() };
                s.head = signed(&other, &owner.head);
            }),
        ),
        (
            "another module under this name",
            says(&|s| {
                s.head =
                    signed(&Head { module: ModuleId::of(&stranger.authority(), MODULE), ..head.clone() }, &owner.head);
            }),
        ),
        ("another epoch", says(&|s| s.head = signed(&Head { epoch: 7, ..head.clone() }, &owner.head))),
        ("another format", says(&|s| s.head = signed(&Head { format: 9, ..head.clone() }, &owner.head))),
        ("a mode that is none", says(&|s| s.head = signed(&Head { mode: 0o6777, ..head.clone() }, &owner.head))),
        ("a byte after the head", says(&|s| s.head.as_mut().unwrap().push(0))),
        (
            "a flipped bit in the head",
            says(&|s| {
                let at = s.head.as_ref().unwrap().len() / 2;
                s.head.as_mut().unwrap()[at] ^= 1;
            }),
        ),
        (
            "a beat of a stranger",
            says(&|s| {
                let beat = Beat {
                    module: head.module,
                    epoch: 0,
                    sequence: 1_001,
                    head: HeadId::of(b""),
                    issued: now_ms(),
                    expires: now_ms() + 1_000,
                };
                s.beat = Some(ByteBuf::from(Envelope::sign(&beat, &[&stranger.head]).encode()));
            }),
        ),
        ("a beat for a head", says(&|s| s.head = s.beat.clone())),
        ("a root file for a head", says(&|s| s.head = s.roots.first().cloned())),
    ];
    for (name, shop) in cases {
        bench.check_all(name, &shop, &honest(), &[7]);
    }
    // What is only a lie to who has known the module before.
    let replay = Shop::new(owner, &[&bench.new, &bench.old]);
    let mut old = replay.clone();
    old.say(owner, &owner.head(999, built));
    bench.check("an older head", Has::Before, &old, honest(), &[7]);
    let mut equal = replay.clone();
    equal.say(owner, &owner.head(1_000, built));
    bench.check("an equal sequence with another head", Has::Before, &equal, honest(), &[7]);
    let usurped = Shop::new(&stranger, &[&bench.old, &bench.new]);
    bench.check("another owner", Has::Before, &usurped, honest(), &[7]);
    bench.check("no root file", Has::Nothing, &says(&|s| s.roots.clear()), honest(), &[7]);
    bench.check("no head", Has::Nothing, &says(&|s| s.head = None), honest(), &[7]);
    bench.check(
        "a second root file out of nowhere",
        Has::Nothing,
        &says(&|s| {
            let second = ByteBuf::from(stranger.root_file().encode());
            s.roots.push(second);
        }),
        honest(),
        &[7],
    );
}

#[test]
fn a_beat_that_is_over_is_no_proof_of_freshness() {
    let bench = Bench::new();
    let mut shop = bench.honest();
    let envelope = Envelope::decode(shop.state.head.as_ref().unwrap()).unwrap();
    let head: Head = envelope.unverified().unwrap();
    let beat = Beat {
        module: head.module,
        epoch: 0,
        sequence: head.sequence,
        head: HeadId::of(envelope.payload()),
        issued: now_ms() - 2 * DAY_MS,
        expires: now_ms() - DAY_MS,
    };
    shop.state.beat = Some(ByteBuf::from(Envelope::sign(&beat, &[&bench.owner.head]).encode()));
    let (place, _) = bench.node(Has::Before);
    let sender = Sender::start(shop, honest());
    let ended = sync(&place.path().join("node"), &sender, &[]).expect(0);
    assert!(ended.stderr.contains("stale"), "{ended:?}");
}

#[test]
fn entries_that_are_not_those_of_the_head_change_nothing() {
    let bench = Bench::new();
    let shop = bench.honest();
    let mut lies: Vec<(String, Lie)> = Vec::new();
    let mut add = |name: String, lie: Lie| lies.push((name, lie));
    let names: [&[u8]; 14] = [
        b"..",
        b".",
        b"/etc/evil",
        b"../canary/in/file",
        b"d/../../canary/x",
        b".mirra",
        b".mirra/keys/head",
        b"d/.mirra/x",
        b"a\0b",
        b"d//x",
        b"d/",
        b"",
        b"d/..",
        &[b'x'; 256],
    ];
    for name in names {
        for record in [file_change(name), change(name, operation::DIRECTORY), change(name, operation::REMOVE)] {
            let shown = format!("{:?} by operation {}", String::from_utf8_lossy(name), record.operation);
            add(shown, always(tag::CHANGES, move |_| vec![changes(std::slice::from_ref(&record))]));
        }
    }
    let link = |target: &[u8]| WireChange { content: target.to_vec(), mode: 0o777, ..change(b"l", operation::LINK) };
    let bad = [
        ("a link target with NUL", vec![link(b"a\0b")]),
        ("an empty link target", vec![link(b"")]),
        ("a long link target", vec![link(&[b'x'; 5_000])]),
        ("mode 06777", vec![WireChange { mode: 0o6777, ..file_change(b"x") }]),
        ("an unknown operation", vec![change(b"x", 9)]),
        ("an unknown class", vec![WireChange { class: 77, ..file_change(b"x") }]),
        ("nanoseconds beyond a second", vec![WireChange { nanos: 1_000_000_000, ..file_change(b"x") }]),
        ("a short file id", vec![WireChange { content: vec![1; 31], ..file_change(b"x") }]),
        ("paths out of order", vec![file_change(b"x"), file_change(b"b")]),
        ("one path twice", vec![file_change(b"x"), file_change(b"x")]),
        ("more kept than there is", vec![WireChange { keep: 5, ..file_change(b"x") }]),
        ("a huge keep", vec![WireChange { keep: u32::MAX, ..file_change(b"x") }]),
        ("a file below a file", vec![file_change(b"x"), file_change(b"x/y")]),
        (
            "a held directory that is not held",
            vec![WireChange {
                content: vec![7; 32],
                size: 1 << 60,
                class: u64::MAX,
                ..change(b"x", operation::HELD_DIRECTORY)
            }],
        ),
        ("entries that nobody signed", vec![file_change(b"x")]),
    ];
    for (name, records) in bad {
        add(name.into(), always(tag::CHANGES, move |_| vec![changes(&records)]));
    }
    add("no entries".into(), always(tag::CHANGES, |_| Vec::new()));
    add(
        "a part of the entries".into(),
        always(tag::CHANGES, |m| {
            let records: Vec<WireChange> =
                mirra::tree::codec::decode("changes", &mirra::protocol::packed::unpack(&m.body).unwrap()).unwrap();
            vec![changes(&records[..records.len() - 1])]
        }),
    );
    add("the entries twice".into(), always(tag::CHANGES, |m| vec![m.clone(), m]));
    add(
        "2^32 records".into(),
        always(tag::CHANGES, |_| vec![Message { tag: tag::CHANGES, body: pack(&[0xdd, 0xff, 0xff, 0xff, 0xff]) }]),
    );
    add(
        "a packed bomb".into(),
        always(tag::CHANGES, |_| {
            let mut body = 1_000u32.to_be_bytes().to_vec();
            body.extend(pack_with(&vec![0; 100_000_000], 3, &[]).unwrap());
            vec![Message { tag: tag::CHANGES, body }]
        }),
    );
    add(
        "a packed length of 2^32 - 1".into(),
        always(tag::CHANGES, |mut m| {
            m.body[..4].fill(0xff);
            vec![m]
        }),
    );
    add(
        "nested arrays".into(),
        always(tag::CHANGES, |_| vec![Message { tag: tag::CHANGES, body: pack(&[0x91; 100_000]) }]),
    );
    for (name, lie) in lies {
        let ended = bench.check(&name, Has::Nothing, &shop, lie.clone(), &[7]);
        assert!(ended.stderr.contains("sent what cannot be right"), "{name}: {ended:?}");
    }
}

/// A tree with one directory page of the owner's, bent by `bend` before it is named and signed.
fn signed_page(bench: &Bench, bend: impl Fn(Vec<u8>) -> Vec<u8>) -> Shop {
    let mut shop = bench.honest();
    let entry = |name: &[u8], meta: Meta, body: Body| Entry {
        name: Name::new(name).unwrap(),
        meta,
        body,
        attributes: Vec::new(),
    };
    let body = shop.file(b"evil");
    let full = Meta { mode: 0o777, ..META };
    let link = Body::Link { target: (*b"TARGET").into() };
    let entries = vec![entry(b"NAMEXX", full, body.clone()), entry(b"link", full, link), entry(b"zz", META, body)];
    let bytes = bend(Page::<DirKind>::Leaf(entries).encode());
    let id = DirId::of(&bytes);
    shop.pages.insert(*id.as_bytes(), bytes);
    for name in ["NAMEXX", "zz"] {
        shop.files.insert(TreePath::new(name.as_bytes()).unwrap(), b"evil".to_vec());
    }
    let built = Built { id, entries: 3, bytes: 8 };
    let head = bench.owner.head(3_000, built);
    shop.say(&bench.owner, &head);
    shop
}

fn replace(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("what is to be replaced");
    bytes.splice(at..at + from.len(), to.iter().copied());
    bytes
}

/// The sender's machines would refuse to read such a page; this gives it out as it is.
fn give_page(shop: &Shop) -> Lie {
    let envelope = Envelope::decode(shop.state.head.as_ref().unwrap()).unwrap();
    let head: Head = envelope.unverified().unwrap();
    let page = shop.pages[head.snapshot.as_bytes()].clone();
    Arc::new(move |request, message| {
        let pages = Message { tag: tag::PAGES, body: pack(&encode(&[ByteBuf::from(page.clone())])) };
        Say::These(vec![match request {
            tag::DESCEND => pages,
            tag::TREE => Message::new(tag::REFUSED, &Refused(refusal::TOO_LARGE)),
            _ => message,
        }])
    })
}

#[test]
fn pages_that_break_a_rule_are_refused_even_when_the_owner_signed_them() {
    let bench = Bench::new();
    type Bend = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;
    let name = |to: &'static [u8]| -> Bend {
        let wire = encode(&ByteBuf::from(to));
        Box::new(move |bytes| replace(bytes, &encode(&ByteBuf::from(&b"NAMEXX"[..])), &wire))
    };
    let target = |to: &'static [u8]| -> Bend { Box::new(move |bytes| replace(bytes, b"TARGET", to)) };
    let bends: Vec<(&str, Bend)> = vec![
        ("..", name(b"..")),
        (".", name(b".")),
        (".mirra", name(b".mirra")),
        ("a slash", name(b"../../")),
        ("an absolute name", name(b"/etc/x")),
        ("a NUL", name(b"a\0b")),
        ("an empty name", name(b"")),
        ("a name of 256 bytes", name(&[b'L'; 256])),
        ("names that do not ascend", name(b"zzzzzz")),
        ("a name twice", name(b"link")),
        ("a target with NUL", target(b"TA\0GET")),
        ("mode 06777", Box::new(|bytes| replace(bytes, &[0xcd, 0x01, 0xff], &[0xcd, 0x0d, 0xff]))),
        ("a longer form", Box::new(|bytes| replace(bytes, &[0xcd, 0x01, 0xff], &[0xce, 0, 0, 0x01, 0xff]))),
        ("a byte behind", Box::new(|bytes| [bytes, vec![0]].concat())),
        ("2^32 items", Box::new(|_| vec![0x92, 0x00, 0xdd, 0xff, 0xff, 0xff, 0xff])),
        ("nothing", Box::new(|_| Vec::new())),
        (
            "a level beyond all",
            Box::new(|mut bytes| {
                bytes[1] = 99;
                bytes
            }),
        ),
        ("content as a page", Box::new(|_| b"just some text".to_vec())),
    ];
    for (name, bend) in bends {
        let shop = signed_page(&bench, bend);
        let lie = give_page(&shop);
        // The lie is signed by the owner, so the honest state after it must be newer: it is not, and a rollback to it
        // is refused. What counts here is what the target holds.
        let (place, before) = bench.node(Has::Other);
        let home = place.path().join("node");
        let sender = Sender::start(shop, lie);
        let ended = sync(&home, &sender, &["--adopt"]).expect_failure(7);
        assert!(ended.stderr.contains("sent what cannot be right"), "{name}: {ended:?}");
        check_canary(place.path(), name);
        same(&before, &walk(&home.join(MODULE)), name);
    }
}

#[test]
fn a_descent_gives_the_pages_that_were_asked_for_and_no_others() {
    let bench = Bench::new();
    let shop = bench.honest();
    let some_page = shop.pages.values().next().unwrap().clone();
    let pages = |list: Vec<Vec<u8>>| {
        let list: Vec<_> = list.into_iter().map(ByteBuf::from).collect();
        Message { tag: tag::PAGES, body: pack(&encode(&list)) }
    };
    let unpacked = |m: &Message| -> Vec<Vec<u8>> {
        let list: Vec<ByteBuf> =
            mirra::tree::codec::decode("pages", &mirra::protocol::packed::unpack(&m.body).unwrap()).unwrap();
        list.into_iter().map(ByteBuf::into_vec).collect()
    };
    let other = some_page.clone();
    let extra = some_page.clone();
    let lies: Vec<(&str, Lie)> = vec![
        ("another page", always(tag::PAGES, move |_| vec![pages(vec![other.clone()])])),
        ("one page more", always(tag::PAGES, move |m| vec![pages([unpacked(&m), vec![extra.clone()]].concat())])),
        ("each page twice", always(tag::PAGES, move |m| vec![m.clone(), m])),
        (
            "a flipped bit",
            always(tag::PAGES, move |m| {
                let mut list = unpacked(&m);
                let last = list[0].len() - 1;
                list[0][last] ^= 1;
                vec![pages(list)]
            }),
        ),
        (
            "2^32 pages",
            always(tag::PAGES, |_| vec![Message { tag: tag::PAGES, body: pack(&[0xdd, 0xff, 0xff, 0xff, 0xff]) }]),
        ),
        ("changes for pages", always(tag::PAGES, |_| vec![changes(&[file_change(b"x")])])),
        (
            "empty pages without end",
            from_first(tag::PAGES, move |_| Say::Forever(Message { tag: tag::PAGES, body: pack(&encode(&[(); 0])) })),
        ),
    ];
    for (name, lie) in lies {
        bench.check(name, Has::Other, &shop, lie, &[7]);
    }
}

#[test]
fn chunk_lists_and_content_that_are_not_of_the_file_are_never_seen() {
    let bench = Bench::new();
    let shop = bench.honest();
    let batch = |bend: fn(&mut BatchWriter)| {
        let mut writer = BatchWriter::default();
        bend(&mut writer);
        writer.take()
    };
    let raw = |steps: &[u8], literals: u32, packing: u8, rest: &[u8]| {
        let mut body = u32::try_from(steps.len()).unwrap().to_be_bytes().to_vec();
        body.extend(literals.to_be_bytes());
        body.extend(0u32.to_be_bytes());
        body.push(packing);
        body.extend(steps);
        body.extend(rest);
        Message { tag: tag::BATCH, body }
    };
    let literal_steps = |len: u32| encode(&[(0u8, 1u64, 0u64, vec![len], ByteBuf::new())]);
    let bomb = raw(&literal_steps(65_536), 65_536, 1, &pack_with(&vec![0; 200_000_000], 3, &[]).unwrap());
    let huge = raw(&literal_steps(u32::MAX), u32::MAX, 0, b"x");
    let many_steps = raw(&[0xdd, 0xff, 0xff, 0xff, 0xff], 0, 0, &[]);
    let empty_steps = raw(&encode(&[(); 0]), 0, 0, &[]);
    let lies: Vec<(&str, Lie)> = vec![
        (
            "wrong bytes",
            always(tag::BATCH, move |_| {
                vec![batch(|w| {
                    w.literal(&[b'!'; 5_000]);
                    w.end();
                })]
            }),
        ),
        (
            "too many bytes",
            always(tag::BATCH, move |_| {
                vec![batch(|w| {
                    (0..200).for_each(|_| w.literal(&[b'!'; 9_000]));
                    w.end();
                })]
            }),
        ),
        ("too few bytes", always(tag::BATCH, move |_| vec![batch(|w| w.end())])),
        (
            "copies where nothing was offered",
            always(tag::BATCH, move |_| {
                vec![batch(|w| {
                    w.matched(None, b"");
                    w.end();
                })]
            }),
        ),
        (
            "copies of everything there is not",
            always(tag::BATCH, move |_| {
                let steps = [(1u8, 0u64, u64::MAX, Vec::<u32>::new(), ByteBuf::new())];
                vec![raw(&encode(&steps), 0, 0, &[])]
            }),
        ),
        ("a bomb", always(tag::BATCH, move |_| vec![bomb.clone()])),
        ("2^32 bytes", always(tag::BATCH, move |_| vec![huge.clone()])),
        ("2^32 steps", always(tag::BATCH, move |_| vec![many_steps.clone()])),
        (
            "a cut batch",
            always(tag::BATCH, |mut m| {
                m.body.truncate(m.body.len() / 2);
                vec![m]
            }),
        ),
        (
            "a batch without a head",
            always(tag::BATCH, |mut m| {
                m.body.truncate(5);
                vec![m]
            }),
        ),
        (
            "an unknown packing",
            always(tag::BATCH, |mut m| {
                m.body[12] |= 0x80;
                vec![m]
            }),
        ),
        ("batches without steps", from_first(tag::BATCH, move |_| Say::Forever(empty_steps.clone()))),
        (
            "leaves without end",
            from_first(tag::BATCH, |_| {
                Say::Forever(Message::new(tag::LEAVES, &LeafRefs { last: false, refs: Vec::new() }))
            }),
        ),
        ("a message of another kind", always(tag::BATCH, |_| vec![changes(&[])])),
    ];
    for (name, lie) in &lies {
        bench.check_all(name, &shop, lie, &[7]);
    }
    let leaves = always(tag::LEAVES, |_| {
        vec![Message { tag: tag::LEAVES, body: vec![0x92, 0xc3, 0xdd, 0xff, 0xff, 0xff, 0xff] }]
    });
    bench.check("2^32 leaves", Has::Nothing, &shop, leaves, &[7]);
    let twice = always(tag::LEAVES, |m| vec![m.clone(), m]);
    bench.check("leaves twice", Has::Nothing, &shop, twice, &[7]);
    // What comes behind the last file may be left unread.
    let unasked = always(tag::BATCH, move |m| {
        let mut more = vec![m];
        more.extend((0..20).map(|_| {
            batch(|w| {
                w.literal(b"not asked for");
                w.end();
            })
        }));
        more
    });
    bench.check_all("files that nobody asked for", &shop, &unasked, &[0, 7]);
    let bases = raw(&encode(&[(5u8, 0u64, 0u64, Vec::<u32>::new(), ByteBuf::from(&b"large"[..]))]), 0, 0, &[]);
    let endless = from_first(tag::BATCH, move |_| Say::Forever(bases.clone()));
    bench.check("a basis without end", Has::Before, &shop, endless, &[7]);
    let copies = raw(&encode(&[(1u8, 0u64, 1u64 << 40, Vec::<u32>::new(), ByteBuf::new())]), 0, 0, &[]);
    let endless = from_first(tag::BATCH, move |_| Say::Forever(copies.clone()));
    bench.check("copies without end", Has::Before, &shop, endless, &[7]);
    let gone = always(tag::BATCH, |m| {
        let files =
            mirra::protocol::batch::Batch::decode(&m.body).unwrap().steps.iter().filter(|s| s.ends_file()).count();
        let mut writer = BatchWriter::default();
        (0..files).for_each(|_| writer.gone());
        vec![writer.take()]
    });
    bench.check_all("everything is gone", &shop, &gone, &[7, 23]);

    let chunk = |byte: u8| Chunk { id: ChunkId::of(&[byte]), len: 4_096 };
    let list = move |last: bool, count: usize| Message::new(tag::CHUNKS, &Chunks { last, list: vec![chunk(1); count] });
    let lists: Vec<(&str, Lie)> = vec![
        ("a list of another file", always(tag::CHUNKS, move |_| vec![list(true, 3)])),
        ("a list without end", from_first(tag::CHUNKS, move |_| Say::Forever(list(false, 1)))),
        ("an empty list without end", from_first(tag::CHUNKS, move |_| Say::Forever(list(false, 0)))),
        (
            "2^32 chunks",
            always(tag::CHUNKS, |_| {
                vec![Message { tag: tag::CHUNKS, body: vec![0x92, 0xc3, 0xdd, 0xff, 0xff, 0xff, 0xff] }]
            }),
        ),
    ];
    for (name, lie) in lists {
        bench.check(name, Has::Other, &shop, lie, &[7]);
    }
}

#[test]
fn literals_of_wrong_bytes_in_honest_steps_are_never_seen() {
    let bench = Bench::new();
    let shop = bench.honest();
    for place in [0usize, 1, 1_000, 40_000, usize::MAX] {
        let lie = always(tag::BATCH, move |m| {
            let honest = mirra::protocol::batch::Batch::decode(&m.body).unwrap();
            let lengths: Vec<u32> = honest
                .steps
                .iter()
                .flat_map(|step| match step {
                    Step::Literal { lengths, .. } => lengths.clone(),
                    _ => Vec::new(),
                })
                .collect();
            let total: u32 = lengths.iter().sum();
            // Without its context a frame cannot be read here; such a batch is passed on.
            let Ok(mut literals) = honest.literals(&[]) else { return vec![m] };
            if honest.prefix_len > 0 || total == 0 {
                return vec![m];
            }
            let at = place.min(literals.len() - 1);
            literals[at] ^= 1;
            let steps: Vec<_> = honest.steps.iter().map(wire_step).collect();
            let steps = encode(&steps);
            let mut body = u32::try_from(steps.len()).unwrap().to_be_bytes().to_vec();
            body.extend(total.to_be_bytes());
            body.extend([0; 5]);
            body.extend(&steps);
            body.extend(&literals);
            vec![Message { tag: tag::BATCH, body }]
        });
        bench.check(&format!("byte {place}"), Has::Nothing, &shop, lie, &[7]);
    }
}

fn wire_step(step: &Step) -> (u8, u64, u64, Vec<u32>, ByteBuf) {
    match step {
        Step::Literal { lengths, last } => (0, u64::from(*last), 0, lengths.clone(), ByteBuf::new()),
        Step::Copy { first, count } => (1, *first, *count, Vec::new(), ByteBuf::new()),
        Step::Have { count } => (2, 0, *count, Vec::new(), ByteBuf::new()),
        Step::End => (3, 0, 0, Vec::new(), ByteBuf::new()),
        Step::Gone => (4, 0, 0, Vec::new(), ByteBuf::new()),
        Step::Basis(path) => (5, 0, 0, Vec::new(), ByteBuf::from(path.as_bytes())),
    }
}

#[test]
fn batches_with_a_flipped_bit_are_never_seen() {
    let bench = Bench::new();
    let shop = bench.honest();
    for part in 1..8 {
        let lie = always(tag::BATCH, move |mut m| {
            let at = m.body.len() * part / 8;
            m.body[at] ^= 4;
            vec![m]
        });
        bench.check_all(&format!("{part}/8 of a batch"), &shop, &lie, &[7]);
    }
}

#[test]
fn answers_without_end_are_ended() {
    let bench = Bench::new();
    let shop = bench.honest();
    fn more(i: u64) -> Message {
        let records: Vec<_> = (0..2_000).map(|k| file_change(format!("n{:012}", i * 2_000 + k).as_bytes())).collect();
        changes(&records)
    }
    for has in [Has::Nothing, Has::Before] {
        let endless = from_first(tag::CHANGES, |_| Say::Growing(more));
        bench.check("entries without end", has, &shop, endless, &[7]);
        let empty = from_first(tag::CHANGES, |_| Say::Forever(changes(&[])));
        bench.check("messages without entries, without end", has, &shop, empty, &[7]);
    }
    let unknown = always(tag::STATE, |_| vec![Message { tag: 77, body: vec![1, 2, 3] }]);
    bench.check_all("an unknown tag below 128", &shop, &unknown, &[5, 7]);
    let refused = from_first(tag::CHANGES, |_| Say::These(vec![Message { tag: tag::REFUSED, body: vec![0xff] }]));
    bench.check("a refusal that is none", Has::Before, &shop, refused, &[7, 10]);
    let state =
        always(tag::STATE, |_| vec![Message { tag: tag::STATE, body: vec![0x93, 0xdd, 0xff, 0xff, 0xff, 0xff] }]);
    bench.check_all("2^32 root files", &shop, &state, &[7]);
    let twice = always(tag::STATE, |_| Vec::new());
    bench.check_all("no state", &shop, &twice, &[7, 10]);
}

#[test]
fn messages_that_may_be_skipped_are_skipped() {
    let bench = Bench::new();
    let (place, _) = bench.node(Has::Before);
    let lie: Lie = Arc::new(|_, m| Say::These(vec![Message { tag: 200, body: vec![0; 10] }, m]));
    let sender = Sender::start(bench.honest(), lie);
    sync(&place.path().join("node"), &sender, &[]).expect(0);
    same(&bench.new_tree, &walk(&place.path().join("node").join(MODULE)), "skipped");
}

#[test]
fn silence_ends_with_a_timeout() {
    let bench = Bench::new();
    let shop = bench.honest();
    std::thread::scope(|scope| {
        for tag in [tag::STATE, tag::CHANGES, tag::BATCH] {
            let (bench, shop) = (&bench, &shop);
            scope.spawn(move || {
                bench.check("silence", Has::Before, shop, from_first(tag, |_| Say::Silence), &[30]);
            });
        }
    });
}
