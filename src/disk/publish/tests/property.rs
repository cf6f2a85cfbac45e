//! Any tree becomes any other.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// An edit of a tree, by the place of a path among all.
#[derive(Debug, Clone)]
enum Edit {
    Remove(Index),
    Replace(Index, Node),
    Move(Index, Index, Vec<u8>),
    Copy(Index, Index, Vec<u8>),
    Touch(Index, i64),
}

fn some_edit() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    prop_oneof![
        index().prop_map(Edit::Remove),
        (index(), some_node()).prop_map(|(at, node)| Edit::Replace(at, node)),
        (index(), index(), some_name()).prop_map(|(from, to, name)| Edit::Move(from, to, name)),
        (index(), index(), some_name()).prop_map(|(from, to, name)| Edit::Copy(from, to, name)),
        (index(), 0..9i64).prop_map(|(at, seconds)| Edit::Touch(at, seconds)),
    ]
}

fn node_at<'a>(tree: &'a mut Node, path: &TreePath) -> Option<&'a mut Node> {
    path.names().try_fold(tree, |node, name| node.children()?.get_mut(name))
}

fn remove(tree: &mut Node, path: &TreePath) -> Option<Node> {
    let (parent, name) = path.split_last()?;
    node_at(tree, &parent)?.children()?.remove(name.as_bytes())
}

fn insert(tree: &mut Node, dir: &TreePath, name: &[u8], node: Node) {
    if let Some(children) = node_at(tree, dir).and_then(Node::children) {
        children.insert(name.to_vec(), node);
    }
}

fn edit(tree: &mut Node, edit: Edit) {
    let mut paths: Vec<TreePath> = tree.paths().into_keys().collect();
    paths.insert(0, TreePath::top());
    let at = |index: Index| paths[index.index(paths.len())].clone();
    match edit {
        Edit::Remove(index) => drop(remove(tree, &at(index))),
        Edit::Replace(index, node) => {
            if let Some((parent, name)) = at(index).split_last() {
                insert(tree, &parent, name.as_bytes(), node);
            }
        }
        Edit::Move(from, to, name) => {
            if let Some(node) = remove(tree, &at(from)) {
                insert(tree, &at(to), &name, node);
            }
        }
        Edit::Copy(from, to, name) => {
            if let Some(node) = node_at(tree, &at(from)).cloned() {
                insert(tree, &at(to), &name, node);
            }
        }
        Edit::Touch(index, seconds) => match node_at(tree, &at(index)) {
            Some(Node::File(_, meta) | Node::Dir(_, meta)) => meta.mtime.seconds = seconds,
            Some(Node::Link(_, mtime)) => mtime.seconds = seconds,
            None => {}
        },
    }
}

pub(super) fn some_pair() -> impl Strategy<Value = (Node, Node)> {
    let edited = (some_tree(), proptest::collection::vec(some_edit(), 0..8)).prop_map(|(old, edits)| {
        let mut new = old.clone();
        edits.into_iter().for_each(|e| edit(&mut new, e));
        (old, new)
    });
    prop_oneof![2 => edited, 1 => (some_tree(), some_tree())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_becomes_any_other((old, new) in some_pair(), exchanges in any::<bool>(), adopting in any::<bool>()) {
        let mut place = Place::holding(&old);
        place.exchanges = exchanges;
        place.removed = if adopting { Removed::Adopted } else { Removed::Grace };
        prop_assert_eq!(place.check_becomes(&new).unexpected, 0);
        // And back, with what is there by now.
        prop_assert_eq!(place.check_becomes(&old).unexpected, 0);
    }
}

#[test]
fn nothing_to_do_touches_nothing() {
    let tree = dir([("a", file("1")), ("d", dir([("l", link("a"))]))]);
    let place = Place::holding(&tree);
    assert_eq!(place.check_becomes(&tree), Switched::default());
}

#[test]
fn every_kind_becomes_every_other() {
    let kinds = [file("1"), file("2"), link("a"), link("b"), dir([]), dir([("x", file("1")), ("y", dir([]))])];
    for old in &kinds {
        for new in &kinds {
            for exchanges in [true, false] {
                let mut place = Place::holding(&dir([("p", old.clone())]));
                place.exchanges = exchanges;
                assert_eq!(place.check_becomes(&dir([("p", new.clone())])).unexpected, 0);
            }
        }
    }
}

/// Counts the calls that copy.
#[derive(Default)]
struct Copies(std::cell::Cell<u64>);

impl Step for Copies {
    fn before(&self, operation: &'static str, _: &TreePath) -> io::Result<()> {
        self.0.set(self.0.get() + u64::from(operation == "copy for"));
        Ok(())
    }
}

fn moved(old: &Node, new: &Node) -> (Switched, u64) {
    let place = Place::holding(old);
    let (copies, mut heard) = (Copies::default(), Heard::default());
    let switched = place.become_tree(&place.scan(), new, &copies, &mut heard).unwrap();
    assert_eq!(place.read(), *new);
    (switched, copies.0.get())
}

#[test]
fn a_renamed_directory_is_one_rename() {
    let big = dir([("x", file("1")), ("y", file("1")), ("z", dir([("l", link("x")), ("e", dir([]))]))]);
    let (switched, copies) = moved(&dir([("old", big.clone())]), &dir([("new", dir([("deep", big)]))]));
    assert_eq!((switched.moved_directories, switched.directories, switched.created, copies), (1, 1, 0, 0));
}

#[test]
fn a_renamed_and_edited_directory_moves_its_files() {
    let old = dir([("x", file("1")), ("y", file("22")), ("z", dir([("w", file("333")), ("v", file("333"))]))]);
    let mut new = old.clone();
    new.children().unwrap().insert(b"x".to_vec(), file("other"));
    let (switched, copies) = moved(&dir([("old", old)]), &dir([("new", new)]));
    assert_eq!((switched.moved_directories, switched.moved_files, copies), (0, 3, 0));
}

#[test]
fn a_directory_moved_and_copied_is_moved_once() {
    let big = dir([("x", file("1"))]);
    let (switched, copies) = moved(&dir([("old", big.clone())]), &dir([("a", big.clone()), ("b", big)]));
    assert_eq!((switched.moved_directories, switched.created, copies), (1, 1, 1));
}

#[test]
fn deep_paths_are_published_and_removed() {
    let name = "n".repeat(200);
    let deep = (0..40).fold(file("bottom"), |node, _| dir([(name.as_str(), node)]));
    let place = Place::holding(&dir([]));
    let new = dir([("top", deep)]);
    place.check_becomes(&new);
    place.check_becomes(&dir([("moved", dir([("further", new)]))]));
    place.check_becomes(&dir([]));
    let stage = place.stage();
    let expired = crate::disk::grace::expire(&stage, std::time::Duration::ZERO, std::time::Duration::ZERO, 0).unwrap();
    assert_eq!((expired.batches, expired.kept_bytes), (1, 0));
    assert!(stage.grace.read_names().unwrap().is_empty());
}

#[test]
fn more_files_than_are_flushed_one_by_one() {
    let many = |from: usize| {
        let file = |n: usize| (n.to_string().into_bytes(), file(&n.to_string()));
        let dirs =
            (0..10).map(|d| (format!("d{d}").into_bytes(), Node::Dir((d..d + 20).map(file).collect(), meta(0o755, 1))));
        Node::Dir((from..from + 100).map(file).chain(dirs).collect(), meta(0o755, 2))
    };
    let place = Place::holding(&dir([]));
    assert_eq!(place.check_becomes(&many(0)).created, 300);
    let switched = place.check_becomes(&many(50));
    assert_eq!((switched.moved_files, switched.created, switched.removed), (0, 50, 50));
}
