//! Paths that are ready to be looked at and published, in few words.

use std::collections::BTreeMap;

use crate::disk::scan::Depth;
use crate::tree::name::TreePath;

/// Paths that wait at most. More than that become the directories that hold them, at last the whole tree.
pub const WAITING_MAX: usize = 65_536;
/// Bytes of one path that waits; of a longer one a directory above it waits.
const PATH_BYTES_MAX: usize = 512;

/// What is to be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ready {
    /// By path. Nothing below a path with [`Depth::Below`] is named apart; nothing at all if `all` is set.
    pub paths: BTreeMap<TreePath, Depth>,
    /// Everything.
    pub all: bool,
}

impl Ready {
    /// Whether there is nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.paths.is_empty()
    }

    /// Whether `path`, to this depth, is among what is to be looked at.
    #[must_use]
    pub fn covers(&self, path: &TreePath, depth: Depth) -> bool {
        // What lies below a directory follows it at once in the order of paths, so only one can be above.
        let near = self.paths.range(..=path).next_back();
        self.all
            || near.is_some_and(|(at, found)| match found {
                Depth::Below => path.is_within(at),
                Depth::Alone => depth == Depth::Alone && at == path,
            })
    }

    /// Adds a path. Below the top is everything.
    pub fn insert(&mut self, mut path: TreePath, mut depth: Depth) {
        while path.as_bytes().len() > PATH_BYTES_MAX {
            let Some((parent, _)) = path.split_last() else { break };
            (path, depth) = (parent, Depth::Below);
        }
        if self.covers(&path, depth) {
            return;
        }
        if depth == Depth::Below && path.is_top() {
            return self.become_all();
        }
        if depth == Depth::Below {
            self.remove_below(&path);
        }
        self.paths.insert(path, depth);
        if self.paths.len() > WAITING_MAX {
            self.collapse();
        }
    }

    /// Takes a path out that was to be looked at alone.
    pub(super) fn remove_alone(&mut self, path: &TreePath) {
        if self.paths.get(path) == Some(&Depth::Alone) {
            self.paths.remove(path);
        }
    }

    fn remove_below(&mut self, path: &TreePath) {
        let below = self.paths.range(path..).take_while(|(at, _)| at.is_within(path));
        for gone in below.map(|(at, _)| at.clone()).collect::<Vec<_>>() {
            self.paths.remove(&gone);
        }
    }

    /// Names directories in the place of what they hold until half of the room is free.
    fn collapse(&mut self) {
        while self.paths.len() > WAITING_MAX / 2 {
            let mut parents = Self::default();
            for path in self.paths.keys() {
                let parent = path.split_last().map_or_else(TreePath::top, |(parent, _)| parent);
                parents.insert(parent, Depth::Below);
            }
            *self = parents;
        }
    }

    fn become_all(&mut self) {
        *self = Self { paths: BTreeMap::new(), all: true };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    fn shown(ready: &Ready) -> String {
        let one =
            |(path, depth): (&TreePath, &Depth)| format!("{path}{}", if *depth == Depth::Below { "/" } else { "" });
        if ready.all { "all".into() } else { ready.paths.iter().map(one).collect::<Vec<_>>().join(" ") }
    }

    #[test]
    fn nothing_is_named_twice() {
        let of = |given: &[&str]| {
            let mut ready = Ready::default();
            for text in given {
                let depth = if text.ends_with('/') { Depth::Below } else { Depth::Alone };
                ready.insert(path(text.trim_end_matches('/')), depth);
            }
            shown(&ready)
        };
        assert_eq!(of(&["a", "a", "b"]), "a b");
        assert_eq!(of(&["a/x", "a-x", "a", "a/"]), "a/ a-x");
        assert_eq!(of(&["a/", "a/b/c", "a/b/", "a.x"]), "a/ a.x");
        assert_eq!(of(&["a/b/", "a"]), "a a/b/");
        assert_eq!(of(&["", "a"]), " a");
        assert_eq!(of(&["a", "/"]), "all");
        assert_eq!(of(&["/", "a"]), "all");
    }

    #[test]
    fn too_many_become_their_directories_and_at_last_all() {
        let mut ready = Ready::default();
        for n in 0..=WAITING_MAX {
            ready.insert(path(&format!("{}/x/{n}", n % 3)), Depth::Alone);
        }
        assert_eq!(shown(&ready), "0/x/ 1/x/ 2/x/");
        let mut ready = Ready::default();
        for n in 0..=WAITING_MAX {
            ready.insert(path(&format!("d/{n}/x")), Depth::Alone);
        }
        assert_eq!(shown(&ready), "d/");
        let mut ready = Ready::default();
        for n in 0..=WAITING_MAX {
            ready.insert(path(&n.to_string()), Depth::Alone);
        }
        assert!(ready.all && ready.paths.is_empty() && ready.covers(&path("x"), Depth::Below));
    }

    #[test]
    fn a_long_path_is_named_by_what_holds_it() {
        let mut ready = Ready::default();
        let long = path(&vec!["x".repeat(200); 5].join("/"));
        ready.insert(long.clone(), Depth::Alone);
        assert!(ready.covers(&long, Depth::Below) && ready.paths.keys().all(|p| p.depth() == 2));
    }
}
