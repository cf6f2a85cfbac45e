//! Trees as values, written to a real directory and read back by a walk that knows nothing of the code under test.

mod crash;
mod hostile;
mod property;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};

use proptest::prelude::Strategy;

use super::*;
use crate::disk::dir::Found;
use crate::disk::verify::file_id;
use crate::tree::chunker::Class;
use crate::tree::dir::{Built, build};
use crate::tree::entry::{Body, Mtime};
use crate::tree::hash::ChunkId;
use crate::tree::list::{self, Chunk};
use crate::tree::name::Name;
use crate::tree::page::Discard;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    File(Vec<u8>, Meta),
    Link(Vec<u8>, Mtime),
    Dir(BTreeMap<Vec<u8>, Self>, Meta),
}

impl Node {
    pub(super) fn children(&mut self) -> Option<&mut BTreeMap<Vec<u8>, Self>> {
        match self {
            Self::Dir(children, _) => Some(children),
            _ => None,
        }
    }

    fn meta(&self) -> Meta {
        match self {
            Self::File(_, meta) | Self::Dir(_, meta) => *meta,
            Self::Link(_, mtime) => Meta { mode: 0o777, mtime: *mtime },
        }
    }

    /// Every path with what stands there; the top is not among them.
    pub(super) fn paths(&self) -> BTreeMap<TreePath, Self> {
        let mut all = BTreeMap::new();
        let mut todo = vec![(TreePath::top(), self)];
        while let Some((path, node)) = todo.pop() {
            let Self::Dir(children, _) = node else { continue };
            for (name, child) in children {
                let path = path.join(&Name::new(name).unwrap());
                all.insert(path.clone(), child.clone());
                todo.push((path, child));
            }
        }
        all
    }

    fn write(&self, to: &Dir, name: &Name) {
        match self {
            Self::File(content, _) => to.create_file(name).unwrap().write_all(content).unwrap(),
            Self::Link(target, _) => to.make_link(name, target).unwrap(),
            Self::Dir(children, _) => {
                to.make_dir(name, 0o700).unwrap();
                write_children(children, &to.open_child(name).unwrap());
            }
        }
        let found = match self {
            Self::File(..) => Found::File,
            Self::Link(..) => Found::Link,
            Self::Dir(..) => Found::Directory,
        };
        to.set_meta(name, &self.meta(), found).unwrap();
    }

    fn read(from: &Dir, name: &Name) -> Self {
        let look = from.look(name).unwrap().unwrap();
        match look.found {
            Found::File => {
                let mut content = Vec::new();
                from.open_file(name).unwrap().read_to_end(&mut content).unwrap();
                Self::File(content, look.meta)
            }
            Found::Link => Self::Link(from.read_link(name).unwrap(), look.meta.mtime),
            Found::Directory => Self::Dir(read_children(&from.open_child(name).unwrap()), look.meta),
            Found::Special => panic!("nobody makes special files here"),
        }
    }

    /// Its entry, and those of all below it.
    fn entries(&self, path: &TreePath, all: &mut BTreeMap<TreePath, Entry>) -> Body {
        let body = match self {
            Self::File(content, _) => {
                Body::File { size: content.len() as u64, class: Class::Fine, id: content_id(content) }
            }
            Self::Link(target, _) => Body::Link { target: target.clone().into() },
            Self::Dir(children, _) => {
                let below: Vec<Entry> = children
                    .iter()
                    .map(|(name, child)| {
                        let name = Name::new(name).unwrap();
                        let body = child.entries(&path.join(&name), all);
                        Entry { name, meta: child.meta(), body, attributes: vec![] }
                    })
                    .collect();
                Built::body(&build(&below, &mut Discard).unwrap())
            }
        };
        if let Some((_, name)) = path.split_last() {
            all.insert(path.clone(), Entry { name, meta: self.meta(), body: body.clone(), attributes: vec![] });
        }
        body
    }
}

fn write_children(children: &BTreeMap<Vec<u8>, Node>, to: &Dir) {
    children.iter().for_each(|(name, child)| child.write(to, &Name::new(name).unwrap()));
}

fn read_children(from: &Dir) -> BTreeMap<Vec<u8>, Node> {
    let names = from.read_names().unwrap().into_iter().filter(|name| name != b".mirra");
    names.map(|name| (name.clone(), Node::read(from, &Name::new(&name).unwrap()))).collect()
}

pub(super) fn content_id(mut content: &[u8]) -> FileId {
    let mut chunks = Vec::new();
    while !content.is_empty() {
        let (chunk, rest) = content.split_at(Class::Fine.cut(content));
        chunks.push(Chunk { id: ChunkId::of(chunk), len: u32::try_from(chunk.len()).unwrap() });
        content = rest;
    }
    list::file_id(&chunks).unwrap()
}

fn entries(node: &Node) -> BTreeMap<TreePath, Entry> {
    let mut all = BTreeMap::new();
    node.entries(&TreePath::top(), &mut all);
    all
}

/// The changes between two trees, by comparing everything with everything.
pub(super) fn changes(old: &Node, new: &Node) -> Vec<Change> {
    let (old, new) = (entries(old), entries(new));
    let paths: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut gone: Option<&TreePath> = None;
    let mut changes = Vec::new();
    for path in paths {
        if gone.is_some_and(|gone| path.is_within(gone)) {
            continue;
        }
        let (old, new) = (old.get(path).cloned(), new.get(path).cloned());
        if old.as_ref().is_some_and(Entry::is_directory) && !new.as_ref().is_some_and(Entry::is_directory) {
            gone = Some(path);
        }
        if old != new {
            changes.push(Change { path: path.clone(), old, new });
        }
    }
    changes
}

/// A target and a home in a directory of their own.
pub(super) struct Place {
    _top: tempfile::TempDir,
    pub(super) home: Dir,
    pub(super) target: Dir,
    pub(super) exchanges: bool,
    pub(super) removed: Removed,
}

/// What the last scan saw.
pub(super) struct Seen {
    pub(super) tree: Node,
    known: HashMap<TreePath, StatKey>,
    holders: HashMap<FileId, Vec<(TreePath, StatKey)>>,
}

/// What a witness heard.
#[derive(Default)]
pub(super) struct Heard {
    published: HashMap<TreePath, (Entry, StatKey)>,
    pub(super) displaced: Vec<(TreePath, TreePath, Removed)>,
}

impl Witness for Heard {
    fn published(&mut self, path: &TreePath, entry: &Entry, key: StatKey) {
        assert!(self.published.insert(path.clone(), (entry.clone(), key)).is_none(), "{path} was published twice");
    }
    fn displaced(&mut self, path: &TreePath, kept: &TreePath, removed: Removed) {
        self.displaced.push((path.clone(), kept.clone(), removed));
    }
}

impl Place {
    pub(super) fn holding(tree: &Node) -> Self {
        let top = tempfile::tempdir().unwrap();
        let dir = Dir::open_operator(top.path()).unwrap();
        let home = dir.open_home().unwrap();
        let target = dir.open_or_make(&Name::new(b"target").unwrap()).unwrap();
        let Node::Dir(children, meta) = tree else { panic!("a target is a directory") };
        write_children(children, &target);
        target.set_meta_self(meta).unwrap();
        Self { _top: top, home, target, exchanges: true, removed: Removed::Grace }
    }

    pub(super) fn read(&self) -> Node {
        Node::Dir(read_children(&self.target), self.target.look_self().unwrap().meta)
    }

    pub(super) fn stage(&self) -> Stage {
        let mut stage = Stage::open(&self.target, Path::new("target"), &self.home, "module").unwrap();
        stage.exchanges &= self.exchanges;
        stage
    }

    pub(super) fn key(&self, path: &TreePath) -> Option<StatKey> {
        let (dir, name) = self.target.open_parent(path).unwrap()?;
        Some(dir.look(&name).unwrap()?.key)
    }

    pub(super) fn scan(&self) -> Seen {
        let tree = self.read();
        let (mut known, mut holders) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for (path, node) in tree.paths() {
            if let Node::File(content, _) = node {
                let key = self.key(&path).unwrap();
                known.insert(path.clone(), key);
                holders.entry(content_id(&content)).or_default().push((path, key));
            }
        }
        Seen { tree, known, holders }
    }

    /// What a node does: trust what is left, fetch what is nowhere, prepare, switch.
    pub(super) fn become_tree(
        &self,
        seen: &Seen,
        new: &Node,
        step: &dyn Step,
        heard: &mut Heard,
    ) -> Result<Switched, PublishError> {
        let stage = self.stage();
        for left in stage.leftovers().unwrap() {
            let file = stage.open_leftover(&left).unwrap().unwrap();
            match file_id(&file, Class::Fine).unwrap().0 == left.id && left.state != crate::disk::stage::Left::Partial {
                true => stage.keep(&left).unwrap(),
                false => stage.discard(&left).unwrap(),
            }
        }
        for node in new.paths().into_values() {
            let Node::File(content, _) = node else { continue };
            let id = content_id(&content);
            if !seen.holders.contains_key(&id) && !stage.has(&id).unwrap() && !content.is_empty() {
                let staged = stage.create(&id, content.len() as u64).unwrap();
                staged.write_at(&content, 0).unwrap();
                staged.finish(None).unwrap();
            }
        }
        let changes = changes(&seen.tree, new);
        let plan = Plan {
            target: &self.target,
            shown: Path::new("target"),
            stage: &stage,
            sequence: 7,
            top: new.meta(),
            changes: &|| Box::new(changes.iter().cloned().map(Ok)),
            holders: &|id| seen.holders.get(id).cloned().unwrap_or_default(),
            known: &|path| seen.known.get(path).copied(),
            removed: self.removed,
            goes_on: false,
            step,
        };
        let prepared = prepare(&plan)?;
        switch(&plan, &prepared, heard)
    }

    /// Switches, and checks the target, the keys, and that nothing which stood there is lost.
    pub(super) fn check_becomes(&self, new: &Node) -> Switched {
        let seen = self.scan();
        let mut heard = Heard::default();
        let switched = self.become_tree(&seen, new, &(), &mut heard).unwrap();
        assert_eq!(self.read(), *new);
        for (path, node) in new.paths() {
            let Node::File(content, _) = node else { continue };
            let key = self.key(&path).unwrap();
            match heard.published.get(&path) {
                Some((entry, heard)) => {
                    assert_eq!(key, *heard, "{path}");
                    assert!(matches!(entry.body, Body::File { id, .. } if id == content_id(&content)));
                }
                None => assert_eq!(seen.known.get(&path), Some(&key), "{path} has a new key, untold"),
            }
        }
        assert_eq!(self.stage().dir.read_names().unwrap(), Vec::<Vec<u8>>::new());
        self.check_nothing_lost(&seen.tree);
        switched
    }

    /// Every content of `old` is somewhere: in the target, the grace, the adopted things or the stage.
    pub(super) fn check_nothing_lost(&self, old: &Node) {
        let stage = self.stage();
        let everywhere = [&self.target, &stage.grace, &stage.adopted, &stage.dir];
        let held: std::collections::HashSet<Vec<u8>> =
            everywhere.iter().flat_map(|dir| contents(&read_children(dir))).collect();
        contents(&BTreeMap::from([(vec![], old.clone())])).iter().for_each(|content| assert!(held.contains(content)));
    }
}

fn contents(children: &BTreeMap<Vec<u8>, Node>) -> Vec<Vec<u8>> {
    children
        .values()
        .flat_map(|node| match node {
            Node::File(content, _) => vec![content.clone()],
            Node::Dir(children, _) => contents(children),
            Node::Link(..) => vec![],
        })
        .collect()
}

pub(super) fn meta(mode: u16, seconds: i64) -> Meta {
    Meta { mode, mtime: Mtime { seconds, nanos: 123_456_789 } }
}

pub(super) fn file(content: &str) -> Node {
    Node::File(content.as_bytes().to_vec(), meta(0o644, 1_000_000))
}

pub(super) fn link(target: &str) -> Node {
    Node::Link(target.as_bytes().to_vec(), meta(0, 2_000_000).mtime)
}

pub(super) fn dir<const N: usize>(children: [(&str, Node); N]) -> Node {
    let children = children.map(|(name, node)| (name.as_bytes().to_vec(), node));
    Node::Dir(children.into(), meta(0o755, 3_000_000))
}

pub(super) fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

/// Only the superuser reads what nobody may.
fn readable(mode: u16, least: u16) -> u16 {
    if rustix::process::geteuid().is_root() { mode } else { mode | least }
}

fn some_mtime() -> impl Strategy<Value = Mtime> {
    (-3i64..4, 0u32..3).prop_map(|(s, n)| Mtime { seconds: s * 700_000_000, nanos: n * 333_333_333 })
}

fn some_meta(modes: &'static [u16], least: u16) -> impl Strategy<Value = Meta> {
    let mode = proptest::sample::select(modes).prop_map(move |mode| readable(mode, least));
    (mode, some_mtime()).prop_map(|(mode, mtime)| Meta { mode, mtime })
}

pub(super) fn some_name() -> impl Strategy<Value = Vec<u8>> {
    const NAMES: &[&[u8]] = &[b"a", b"b", b"c", b"d\xff\n", b"a-"];
    proptest::sample::select(NAMES).prop_map(<[u8]>::to_vec)
}

/// Few names and few contents, so that two trees have much in common.
pub(super) fn some_node() -> impl Strategy<Value = Node> {
    let content = (0usize..6).prop_map(|n| match n {
        0 => vec![],
        5 => b"long".repeat(20_000),
        n => vec![b'x'; n],
    });
    let files = (content, some_meta(&[0o644, 0o755, 0o600, 0o444, 0], 0o400)).prop_map(|(c, m)| Node::File(c, m));
    let links = (proptest::sample::select(&["a", "../b", "/nowhere"][..]), some_mtime())
        .prop_map(|(target, mtime)| Node::Link(target.into(), mtime));
    proptest::prop_oneof![3 => files, 1 => links].prop_recursive(4, 40, 5, some_dir_of)
}

fn some_dir_of(inner: impl Strategy<Value = Node>) -> impl Strategy<Value = Node> {
    let children = proptest::collection::btree_map(some_name(), inner, 0..5);
    (children, some_meta(&[0o755, 0o700, 0o555, 0o500, 0], 0o500)).prop_map(|(c, m)| Node::Dir(c, m))
}

pub(super) fn some_tree() -> impl Strategy<Value = Node> {
    let top = some_meta(&[0o755, 0o700, 0o555], 0o500);
    (proptest::collection::btree_map(some_name(), some_node(), 0..5), top).prop_map(|(c, m)| Node::Dir(c, m))
}
