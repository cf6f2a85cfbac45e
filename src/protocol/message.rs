//! The whole vocabulary: every message, its tag, its fields and its largest size.
//!
//! The first message of a stream is a request; the answer comes on the same stream. All are MessagePack arrays that
//! never grow, but for the packed ones and [`BATCH`](tag::BATCH), whose fixed heads are described in
//! [`packed`](super::packed) and [`batch`](super::batch). PROTOCOL.md, "Messages", is normative.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use super::limits::{
    BATCH_MAX, CHUNKS_BYTES_MAX, LOOK_BYTES_MAX, MESSAGE_HEADER_LEN, PACKED_MAX, PATHS_BYTES_MAX, PATHS_MAX,
    REQUEST_MAX, REST_MAX, ROUTE_MAX, STATE_MAX, WANT_MAX,
};
use super::packed::{pack, unpack};
use crate::tree::codec::{Malformed, bounded, decode, encode};
use crate::tree::entry::{Attribute, Mtime};
use crate::tree::hash::{BaseId, DirId, FileId, HeadId};
use crate::tree::list::ListRef;
use crate::tree::name::TreePath;

/// Message tags: `[message.tag]`.
pub mod tag {
    /// Request: which modules are there?
    pub const LIST: u8 = 1;
    /// Answer to LIST: one module.
    pub const MODULE: u8 = 2;
    /// Request: what is the newest head of a module?
    pub const POLL: u8 = 3;
    /// Answer to POLL.
    pub const STATE: u8 = 4;
    /// Request: the entries that lead from a base to a head.
    pub const TREE: u8 = 5;
    /// Answer to TREE: packed columns of changes.
    pub const CHANGES: u8 = 6;
    /// Answer to TREE: the base is not known here.
    pub const BASE_UNKNOWN: u8 = 7;
    /// Request: descend into the pages of a head.
    pub const DESCEND: u8 = 8;
    /// Answer to DESCEND and WANT: packed pages, `[pages.list]`.
    pub const PAGES: u8 = 9;
    /// Which of the pages that the last round referred to are wanted, and of which ids the rest: `[want.bits]`, `[want.ids]`.
    pub const WANT: u8 = 10;
    /// Request: chunk lists of files of a head.
    pub const LISTS: u8 = 11;
    /// Which files: paths for LISTS.
    pub const PATHS: u8 = 12;
    /// Answer to PATHS: a part of one file's chunk list.
    pub const CHUNKS: u8 = 13;
    /// Request: content of files of a head.
    pub const CONTENT: u8 = 14;
    /// Which files, and how, for CONTENT.
    pub const FILES: u8 = 15;
    /// Answer to FILES: the leaf pages of the file that comes next.
    pub const LEAVES: u8 = 16;
    /// Answer to FILES: steps and literals.
    pub const BATCH: u8 = 17;
    /// Answer to any request: refused, with a code of [`refusal`](super::refusal). Ends the stream's direction.
    pub const REFUSED: u8 = 18;
    /// Request: tell what is new of a module, as long as this stream is open.
    pub const FOLLOW: u8 = 19;
    /// Answer to FOLLOW: through which mirras the news comes.
    pub const ROUTE: u8 = 20;
    /// Answer to FOLLOW: a head is held here; what leads to it may follow.
    pub const OFFER: u8 = 21;
    /// On the stream of FOLLOW: what the receiver has published; it can take the next OFFER.
    pub const AT: u8 = 22;
    /// On the stream of CONTENT: the sender wants to know old bytes of a file by their blocks.
    pub const LOOK: u8 = 23;
    /// Answer to LOOK: the hashes of those blocks.
    pub const BLOCKS: u8 = 24;
    /// Answer to WANT: the rests of ids that were cut short, `[rest.ids]`.
    pub const REST: u8 = 25;
    /// Behind MODULE and ROUTE, and before the STATE that answers POLL: the sender mirrors the module in part. Behind
    /// FOLLOW: the receiver does, so it asks for content itself. Skipped by who does not know it.
    pub const PARTIAL: u8 = 128;
}

/// Codes of REFUSED. What is not there and what may not be seen look the same.
pub mod refusal {
    /// No such module for this peer.
    pub const NO_MODULE: u16 = 1;
    /// The module has no snapshot yet.
    pub const NO_SNAPSHOT: u16 = 2;
    /// That head is not (or no longer) held here: poll again.
    pub const NO_HEAD: u16 = 3;
    /// The request breaks a rule or a bound.
    pub const BAD_REQUEST: u16 = 4;
    /// A failure on this side; its log says more.
    pub const INTERNAL: u16 = 5;
    /// More than this side will remember for one stream; ask in another way.
    pub const TOO_LARGE: u16 = 6;
    /// This side mirrors the module in part, and that is not in its part: ask whom it follows.
    pub const PARTIAL: u16 = 7;
}

/// The largest body of a message by tag; `None` for tags that are not known.
#[must_use]
pub const fn body_max(tag: u8) -> Option<u32> {
    match tag {
        tag::LIST | tag::POLL | tag::TREE | tag::DESCEND | tag::LISTS | tag::CONTENT | tag::FOLLOW => Some(REQUEST_MAX),
        tag::MODULE | tag::BASE_UNKNOWN | tag::REFUSED | tag::ROUTE | tag::OFFER | tag::AT => Some(REQUEST_MAX),
        tag::PARTIAL => Some(REQUEST_MAX),
        tag::STATE => Some(STATE_MAX),
        tag::CHANGES | tag::PAGES => Some(PACKED_MAX),
        tag::WANT => Some(WANT_MAX),
        tag::REST => Some(REST_MAX),
        tag::PATHS | tag::FILES => Some(PATHS_BYTES_MAX),
        tag::LOOK | tag::BLOCKS => Some(LOOK_BYTES_MAX),
        tag::CHUNKS | tag::LEAVES => Some(CHUNKS_BYTES_MAX),
        tag::BATCH => Some(BATCH_MAX),
        _ => None,
    }
}

/// LIST: asks for nothing in particular; an empty array on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[(); 0]", into = "[(); 0]")]
pub struct List(pub ());

impl From<[(); 0]> for List {
    fn from([]: [(); 0]) -> Self {
        Self(())
    }
}

impl From<List> for [(); 0] {
    fn from(List(()): List) -> Self {
        []
    }
}

/// MODULE: one line of a remote index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// `[module.name]`
    pub name: String,
    /// `[module.title]`: what the owner says of it; may be empty.
    pub title: String,
    /// `[module.root]`: version 1 of the root file, in its envelope.
    pub root: ByteBuf,
    /// `[module.head]`: the newest head in its envelope; nil before the first snapshot.
    pub head: Option<ByteBuf>,
}

/// POLL: one round trip that tells whether anything is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// `[poll.module]`: by name.
    pub module: String,
    /// `[poll.have]`: the newest head that the asking side has accepted.
    pub have: Option<HeadId>,
    /// `[poll.root]`: the newest version of the root file it has; 0 for none.
    pub root: u64,
}

/// STATE: the newest signed objects, as the bytes that were signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// `[state.roots]`: root files after the version that was named, ascending.
    pub roots: Vec<ByteBuf>,
    /// `[state.head]`: the newest head; nil when it is the one that was named.
    pub head: Option<ByteBuf>,
    /// `[state.beat]`: the newest beat, if there is one.
    pub beat: Option<ByteBuf>,
}

/// TREE: asks for the entries of a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// `[tree.module]`
    pub module: String,
    /// `[tree.head]`: the head whose tree is wanted.
    pub head: HeadId,
    /// `[tree.base]`: what the receiver holds, by its head or by itself; nil for nothing.
    pub base: Option<BaseId>,
}

/// DESCEND: names a head whose pages are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descend {
    /// `[descend.module]`
    pub module: String,
    /// `[descend.head]`
    pub head: HeadId,
    /// `[descend.brief]`: whether the ids of files may be cut short.
    pub brief: bool,
}

/// LISTS: names a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtHead {
    /// `[at.module]`
    pub module: String,
    /// `[at.head]`
    pub head: HeadId,
}

/// CONTENT: names a head, and the base that known-base copies may refer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// `[content.module]`
    pub module: String,
    /// `[content.head]`
    pub head: HeadId,
    /// `[content.base]`: the tree whose files the receiver holds, by its head or by itself.
    pub base: Option<BaseId>,
}

/// One record of CHANGES: a path, and what is there afterwards. What is not said is as in the entry that the base has
/// there; [`columns`](super::change::columns) is how records are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireChange {
    /// Leading bytes shared with the path of the change before it, in the same message.
    pub keep: u32,
    /// The bytes of the path behind those.
    pub rest: Vec<u8>,
    /// See [`operation`].
    pub operation: u8,
    /// Permission bits.
    pub mode: Option<u16>,
    /// Time of last modification.
    pub mtime: Option<Mtime>,
    /// What is in the file, where the link points, or the id of a held directory.
    pub content: Option<WireContent>,
    /// Optional facts.
    pub attributes: Option<Vec<Attribute>>,
}

/// What a [`WireChange`] says of content; the operation says which of these it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireContent {
    /// Of a file.
    File {
        /// Its size less that of the file that the base has there (else 0), modulo 2^64.
        growth: i64,
        /// How its content is cut.
        class: u64,
        /// Its chunk list.
        id: FileId,
    },
    /// Of a link.
    Link(Vec<u8>),
    /// Of a held directory.
    Directory(DirId),
}

/// Operations of [`WireChange`].
pub mod operation {
    /// Nothing is there any more.
    pub const REMOVE: u8 = 0;
    /// A file is there.
    pub const FILE: u8 = 1;
    /// A link is there.
    pub const LINK: u8 = 2;
    /// A directory is there; what it holds is as in the base, or nothing, but for the changes that follow.
    pub const DIRECTORY: u8 = 3;
    /// A directory is there that begins from one whose pages the receiver holds, because the base has it at some path.
    pub const HELD_DIRECTORY: u8 = 4;
}

/// PATHS: files whose lists are wanted, in this order: `[paths.list]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths(pub Vec<TreePath>);

/// CHUNKS: a part of one list, in the order asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// `[chunks.last]`: the list of this file ends here.
    pub last: bool,
    /// `[chunks.short]`: the [short ids](super::short) of its chunks, without their lengths.
    #[serde(with = "serde_bytes")]
    pub short: Vec<u8>,
    /// `[chunks.samples]`: with the last part, the first eight bytes, big-endian, of the smallest chunk ids of the file,
    /// ascending, by which a similar file is found; [`SAMPLES_MAX`](crate::tree::limits::SAMPLES_MAX) at most.
    pub samples: Vec<u64>,
}

/// One file of FILES.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileItem {
    /// `[file.path]`
    pub path: TreePath,
    /// `[file.way]`: see [`way`].
    pub way: u8,
    /// `[file.wanted]`: for [`way::WANTED`], one bit for each chunk, first chunk in the highest bit of the first byte.
    #[serde(with = "serde_bytes")]
    pub wanted: Vec<u8>,
    /// `[file.old]`: the old bytes of the basis that are known by blocks.
    pub old: OldBlocks,
}

impl FileItem {
    /// A file by a way that needs nothing else.
    #[must_use]
    pub fn plain(path: TreePath, way: u8) -> Self {
        Self { path, way, wanted: Vec::new(), old: OldBlocks::default() }
    }

    /// Bytes that it takes in memory: a packed message may hold much more than it travels as.
    #[must_use]
    pub fn weight(&self) -> usize {
        let OldBlocks { gaps, hashes, .. } = &self.old;
        size_of::<Self>() + self.path.as_bytes().len() + self.wanted.len() + size_of_val(gaps.as_slice()) + hashes.len()
    }
}

/// How content is wanted.
pub mod way {
    /// All of it, as literals.
    pub const ALL: u8 = 0;
    /// Against the base of the request: copies from the file that it has.
    pub const BASE: u8 = 1;
    /// The chunks of the bitmap; the receiver has the others.
    pub const WANTED: u8 = 2;
    /// All of it, against the old bytes of one gap.
    pub const GAP: u8 = 3;
}

/// FILES: files whose content is wanted, in this order: `[files.list]`. It travels packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files(pub Vec<FileItem>);

impl Files {
    /// The message.
    #[must_use]
    pub fn message(&self) -> Message {
        Message { tag: tag::FILES, body: pack(&encode(self)) }
    }

    /// Reads the body of the message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn of(body: &[u8]) -> Result<Self, Malformed> {
        decode("files", &unpack(body)?)
    }
}

/// Old bytes of a file by the hashes of their blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldBlocks {
    /// `[old.block]`: bytes of a block; 0 for no blocks at all.
    pub block: u32,
    /// `[old.gaps]`: of each gap, how far behind the one before it it begins, and its length.
    pub gaps: Vec<u64>,
    /// `[old.hashes]`: three bytes for each block, of all gaps in order.
    #[serde(with = "serde_bytes")]
    pub hashes: Vec<u8>,
}

/// LOOK: asks for the blocks of old bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// `[look.file]`: the number of the file among all that were asked for on this stream, from 0.
    pub file: u64,
    /// `[look.basis]`: the path in the base of the file that they are of; empty for the one that the receiver chose.
    #[serde(with = "serde_bytes")]
    pub basis: Vec<u8>,
    /// `[look.block]`: bytes of a block.
    pub block: u32,
    /// `[look.gaps]`: as in [`OldBlocks`].
    pub gaps: Vec<u64>,
}

/// BLOCKS: the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// `[blocks.file]`: as in the question.
    pub file: u64,
    /// `[blocks.hashes]`: three bytes for each block; none if the bytes are not there.
    #[serde(with = "serde_bytes")]
    pub hashes: Vec<u8>,
}

/// LEAVES: the leaf pages of the next file, so that each can be checked as it arrives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeafRefs {
    /// `[leaves.last]`: no more of them for this file.
    pub last: bool,
    /// `[leaves.refs]`: first chunk, page, chunks, bytes.
    pub refs: Vec<ListRef>,
}

/// REFUSED: an array of `[refused.code]` alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u16,)", into = "(u16,)")]
pub struct Refused(pub u16);

impl From<(u16,)> for Refused {
    fn from((code,): (u16,)) -> Self {
        Self(code)
    }
}

impl From<Refused> for (u16,) {
    fn from(Refused(code): Refused) -> Self {
        (code,)
    }
}

/// FOLLOW: asks for everything that is new of a module, as it comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// `[follow.module]`: by name.
    pub module: String,
    /// `[follow.have]`: the newest head that the asking side has accepted.
    pub have: Option<HeadId>,
    /// `[follow.at]`: the head that it has published, so that what leads on from it can be sent; the first AT.
    pub at: Option<HeadId>,
    /// `[follow.root]`: the newest version of the root file it has; 0 for none.
    pub root: u64,
    /// `[follow.name]`: what it wants to be called where it is shown; empty if it does not want that.
    pub name: String,
}

/// Names a mirra in a [`Route`]: random bytes that say nothing else of it.
pub type RouteTag = [u8; 16];

/// ROUTE: the mirras through which news of the module comes, the root first and the sender last: `[route.tags]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ByteArray<16>>", into = "Vec<ByteArray<16>>")]
pub struct Route(Vec<RouteTag>);

impl Route {
    /// The route of what comes by `before` and is passed on by `own`; `None` when it would be too long. A mirra that
    /// follows nobody has no tags before its own.
    #[must_use]
    pub fn extend(before: Option<&Self>, own: RouteTag) -> Option<Self> {
        let mut tags = before.map_or_else(Vec::new, |route| route.0.clone());
        tags.push(own);
        (tags.len() <= ROUTE_MAX).then_some(Self(tags))
    }

    /// Whether the news has been at `own` before: a loop.
    #[must_use]
    pub fn passes(&self, own: &RouteTag) -> bool {
        self.0.contains(own)
    }

    /// The mirras on the way, the root first.
    #[must_use]
    pub fn tags(&self) -> &[RouteTag] {
        &self.0
    }
}

impl TryFrom<Vec<ByteArray<16>>> for Route {
    type Error = Malformed;

    fn try_from(tags: Vec<ByteArray<16>>) -> Result<Self, Malformed> {
        bounded("mirras of a route", tags.len() as u64, ROUTE_MAX as u64)?;
        if tags.is_empty() {
            return Err(Malformed::Rule { what: "route", rule: "names no mirra" });
        }
        Ok(Self(tags.into_iter().map(ByteArray::into_array).collect()))
    }
}

impl From<Route> for Vec<ByteArray<16>> {
    fn from(route: Route) -> Self {
        route.0.into_iter().map(ByteArray::new).collect()
    }
}

/// OFFER: the sender holds a head, and what leads to it follows if it names a base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(HeadId, Option<HeadId>, u32, u32, u32)")]
pub struct Offer {
    /// `[offer.head]`: the head that is held.
    pub head: HeadId,
    /// `[offer.base]`: the receiver's last AT; nil when nothing follows and the receiver has to ask.
    pub base: Option<HeadId>,
    /// `[offer.changes]`: CHANGES that follow, from the base to the head.
    pub changes: u32,
    /// `[offer.files]`: files in the one FILES behind those; 0 for no FILES and no content.
    pub files: u32,
    /// `[offer.content]`: messages of content behind that.
    pub content: u32,
}

impl TryFrom<(HeadId, Option<HeadId>, u32, u32, u32)> for Offer {
    type Error = Malformed;

    fn try_from(
        (head, base, changes, files, content): (HeadId, Option<HeadId>, u32, u32, u32),
    ) -> Result<Self, Malformed> {
        let rule = |rule| Err(Malformed::Rule { what: "offer", rule });
        bounded("files of an offer", u64::from(files), PATHS_MAX as u64)?;
        if base.is_none() && changes > 0 {
            return rule("announces changes to no base");
        }
        if changes == 0 && files > 0 || (files == 0) != (content == 0) {
            return rule("announces files without changes or content, or content without files");
        }
        Ok(Self { head, base, changes, files, content })
    }
}

/// AT: an array of `[at.published]` alone: the head that the receiver has published, nil for none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Option<HeadId>,)", into = "(Option<HeadId>,)")]
pub struct At(pub Option<HeadId>);

impl From<(Option<HeadId>,)> for At {
    fn from((head,): (Option<HeadId>,)) -> Self {
        Self(head)
    }
}

impl From<At> for (Option<HeadId>,) {
    fn from(At(head): At) -> Self {
        (head,)
    }
}

/// PARTIAL: an array of `[partial.module]` alone: what is said is of this module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String,)", into = "(String,)")]
pub struct Partial(pub String);

impl From<(String,)> for Partial {
    fn from((module,): (String,)) -> Self {
        Self(module)
    }
}

impl From<Partial> for (String,) {
    fn from(Partial(module): Partial) -> Self {
        (module,)
    }
}

/// A message as it travels on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One of [`tag`].
    pub tag: u8,
    /// Its body.
    pub body: Vec<u8>,
}

impl Message {
    /// Encodes `value` under `tag`.
    #[must_use]
    pub fn new<T: Serialize>(tag: u8, value: &T) -> Self {
        Self { tag, body: crate::tree::codec::encode(value) }
    }
    /// Bytes that it takes on a stream, header included.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        MESSAGE_HEADER_LEN + self.body.len()
    }
}
