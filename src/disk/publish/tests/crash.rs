//! A switch that stops anywhere leaves each path old or new, loses nothing, and is carried on by the next one.

use std::cell::Cell;

use proptest::prelude::*;

use super::property::some_pair;
use super::*;

/// Lets so many calls happen and no more.
struct Until(Cell<u64>);

impl Step for Until {
    fn before(&self, _: &'static str, _: &TreePath) -> io::Result<()> {
        match self.0.get().checked_sub(1) {
            Some(left) => self.0.set(left),
            None => return Err(io::Error::other("killed")),
        }
        Ok(())
    }
}

/// Whether what stands at a path is one of two versions. A directory's times and modes change while names in it do.
fn is_either(now: Option<&Node>, old: Option<&Node>, new: Option<&Node>) -> bool {
    let same = |version: Option<&Node>| match (now, version) {
        (Some(Node::Dir(..)), Some(Node::Dir(..))) => true,
        _ => now == version,
    };
    same(old) || same(new)
}

fn check_each_is_old_or_new(now: &Node, old: &Node, new: &Node, at: u64) {
    let (now, old, new) = (now.paths(), old.paths(), new.paths());
    for path in now.keys().chain(old.keys()).chain(new.keys()) {
        let seen = now.get(path);
        assert!(is_either(seen, old.get(path), new.get(path)), "after {at} calls {path} is {seen:?}");
    }
}

/// Stops after every number of calls, or only after some; gives how many calls there are.
fn check_every_stop(old: &Node, new: &Node, exchanges: bool, every: u64) -> u64 {
    let mut calls = 0;
    loop {
        let mut place = Place::holding(old);
        place.exchanges = exchanges;
        let stopped = place.become_tree(&place.scan(), new, &Until(calls.into()), &mut Heard::default());
        match stopped {
            Ok(_) => return calls,
            Err(PublishError::Stopped(_)) => {}
            Err(e) => panic!("{e}"),
        }
        check_each_is_old_or_new(&place.read(), old, new, calls);
        place.check_nothing_lost(old);
        // The next run stops as well, one call later than it takes to set up, then one gets through.
        let again = place.become_tree(&place.scan(), new, &Until(3.into()), &mut Heard::default());
        assert!(matches!(again, Ok(_) | Err(PublishError::Stopped(_))));
        place.check_becomes(new);
        place.check_nothing_lost(old);
        calls += every;
    }
}

#[test]
fn every_stop_of_a_switch_with_everything_in_it() {
    let shared = dir([("x", file("moved whole")), ("l", link("x"))]);
    let old = dir([
        ("becomes-dir", file("1")),
        ("becomes-file", dir([("in", file("2")), ("sub", dir([("l", link("x"))]))])),
        ("becomes-link", file("3")),
        ("edited", file("4")),
        ("gone", dir([("x", file("5")), ("moves", file("6"))])),
        ("link", link("a")),
        ("moved", shared.clone()),
        ("old-name", file("7")),
        ("touched", file("8")),
    ]);
    let touched = Node::File(b"8".to_vec(), meta(0o600, 5));
    let new = dir([
        ("becomes-dir", dir([("in", file("1")), ("l", link("in"))])),
        ("becomes-file", file("22")),
        ("becomes-link", link("edited")),
        ("copied", file("4")),
        ("edited", file("44")),
        ("fresh", dir([("moved", file("6")), ("whole", shared)])),
        ("link", link("b")),
        ("new-name", file("7")),
        ("touched", touched),
    ]);
    let calls = check_every_stop(&old, &new, true, 1);
    assert!(calls > 30, "{calls}");
}

#[test]
fn every_stop_where_names_cannot_be_exchanged() {
    let old = dir([("d", dir([("x", file("1"))])), ("f", file("2")), ("g", file("3")), ("l", link("a"))]);
    let new = dir([("d", dir([("x", file("11"))])), ("f", file("22")), ("h", file("3")), ("m", link("a"))]);
    assert!(check_every_stop(&old, &new, false, 1) > 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_stop_of_any_switch((old, new) in some_pair(), every in 1u64..5) {
        check_every_stop(&old, &new, true, every);
    }
}
