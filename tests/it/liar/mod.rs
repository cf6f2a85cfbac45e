//! Senders that lie, each in one way: the program ends in bounded time with an error, and nothing that the root did not
//! sign is ever seen in the target or outside of it.

mod content;
mod entries;
mod followers;
mod looks;
mod news;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use ed25519_dalek::SigningKey;
use mirra::net::{Listener, Params, Stream};
use mirra::protocol::batch::BatchWriter;
use mirra::protocol::change::columns::{Columns, write};
use mirra::protocol::hello::Hello;
use mirra::protocol::message::{
    Chunks, LeafRefs, Message, Module, Poll, State, WireChange, WireContent, operation, refusal, tag,
};
use mirra::protocol::noise::SecretKey;
use mirra::protocol::packed::{pack, pack_with, unpack};
use mirra::protocol::sender::{Answer, Output, ReadAt, Source};
use mirra::protocol::step::{Step, encode_steps};
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
    /// The hash of the handshake with who is answered.
    binding: Vec<u8>,
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
    fn similar(&self, _: &str, _: &[u64]) -> Vec<TreePath> {
        Vec::new()
    }
    fn binding(&self) -> Vec<u8> {
        self.binding.clone()
    }
}

impl Shop {
    /// An honest shop whose newest head is of the last of `versions`.
    pub(crate) fn new(owner: &Owner, versions: &[&Content]) -> Self {
        let state = State { roots: Vec::new(), head: None, beat: None };
        let mut shop =
            Self { pages: Pages::new(), files: HashMap::new(), trees: HashMap::new(), state, binding: Vec::new() };
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

/// What is told to one who follows.
type News = Arc<dyn Fn(&Shop, &Stream, &Message) + Send + Sync>;

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
        Self::with_news(shop, lie, Arc::new(|_, _, _| {}))
    }

    fn with_news(shop: Shop, lie: Lie, news: News) -> Self {
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
                let binding = channel.handshake_hash().to_vec();
                let shop = Arc::new(Shop { binding, ..Shop::clone(&shop) });
                let (lie, news, over) = (lie.clone(), news.clone(), told.clone());
                async move {
                    while let Some(stream) = channel.accept_stream().await {
                        let (shop, lie, news, over) = (shop.clone(), lie.clone(), news.clone(), over.clone());
                        tokio::task::spawn_blocking(move || answer(&shop, &lie, &news, &stream, &over));
                    }
                }
            };
            listener.run(params, serve).await;
        });
        Self { address, over, _runtime: runtime }
    }
}

/// Answers one request; ends when the other side hangs up.
fn answer(shop: &Shop, lie: &Lie, news: &News, stream: &Stream, over: &Over) -> Option<()> {
    let hear = || stream.blocking_recv().ok().map(|m| m.map(|m| Message { tag: m.tag, body: m.body }));
    let say = |message: Message| stream.blocking_send(message.tag, message.body).ok();
    let request = hear()??;
    if request.tag == tag::FOLLOW {
        news(shop, stream, &request);
        return stream.finish().ok();
    }
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
    let (mode, mtime, content, attributes) = (None, None, None, None);
    WireChange { keep: 0, rest: rest.to_vec(), operation, mode, mtime, content, attributes }
}

/// A file of a few bytes, which a sender would have to deliver.
fn file_change(path: &[u8]) -> WireChange {
    file_of_class(path, 0)
}

fn file_of_class(path: &[u8], class: u64) -> WireChange {
    let mut pages = Pages::new();
    let mut list = ListBuilder::default();
    list.push(Chunk { id: ChunkId::of(b"evil"), len: 4 }, &mut pages).unwrap();
    let (id, size) = list.finish(&mut pages).unwrap();
    let content = WireContent::File { growth: i64::try_from(size).unwrap(), class, id };
    WireChange { content: Some(content), ..change(path, operation::FILE) }
}

/// A BATCH of these steps, and of literals as they stand.
fn batch(steps: &[Step], literals: &[u8]) -> Message {
    let len = steps.iter().map(Step::literal_bytes).sum::<u64>();
    raw_batch(&encode_steps(steps), u32::try_from(len).unwrap(), 0, 0, literals)
}

/// A BATCH by its parts.
fn raw_batch(steps: &[u8], literals: u32, prefix: u32, packing: u8, rest: &[u8]) -> Message {
    let mut body = u32::try_from(steps.len()).unwrap().to_be_bytes().to_vec();
    body.extend(literals.to_be_bytes());
    body.extend(prefix.to_be_bytes());
    body.push(packing);
    body.extend(steps);
    body.extend(rest);
    Message { tag: tag::BATCH, body }
}

fn changes(records: &[WireChange]) -> Message {
    Message { tag: tag::CHANGES, body: pack(&write(records)) }
}

/// The records of an honest CHANGES.
fn records(message: &Message) -> Vec<WireChange> {
    let mut columns = Columns::new(&unpack(&message.body).unwrap()).unwrap();
    std::iter::from_fn(|| columns.next_record().unwrap()).collect()
}
