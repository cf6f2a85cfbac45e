//! A local user writes in the target while it is switched.

use super::*;

/// Lets a local user act before a certain kind of call.
struct Meddling<'a> {
    before: &'static str,
    act: &'a dyn Fn(),
    done: std::cell::Cell<bool>,
}

impl Step for Meddling<'_> {
    fn before(&self, operation: &'static str, _: &TreePath) -> io::Result<()> {
        if operation == self.before && !self.done.replace(true) {
            (self.act)();
        }
        Ok(())
    }
}

fn meddle(place: &Place, new: &Node, before: &'static str, act: &dyn Fn()) -> (Result<Switched, PublishError>, Heard) {
    let mut heard = Heard::default();
    let step = Meddling { before, act, done: false.into() };
    let result = place.become_tree(&place.scan(), new, &step, &mut heard);
    assert!(step.done.get(), "nobody was asked before \"{before}\"");
    (result, heard)
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn write(dir: &Dir, at: &str, text: &str) {
    let _ = dir.remove_file(&name(at));
    dir.create_file(&name(at)).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn what_a_user_puts_in_the_way_is_kept() {
    for kind in [file("mine"), link("mine"), dir([("x", file("mine"))])] {
        for exchanges in [true, false] {
            let mut place = Place::holding(&dir([]));
            place.exchanges = exchanges;
            let new = dir([("f", file("theirs")), ("l", link("there"))]);
            let put = || ["f", "l"].iter().for_each(|at| kind.write(&place.target, &name(at)));
            let (switched, heard) = meddle(&place, &new, "publish", &put);
            assert_eq!(switched.unwrap().unexpected, 2);
            assert_eq!(place.read(), new);
            let stage = place.stage();
            for (_, kept, _) in &heard.displaced {
                let (dir, name) = stage.grace.open_parent(kept).unwrap().unwrap();
                assert_eq!(Node::read(&dir, &name), kind);
            }
            assert_eq!(heard.displaced.len(), 2);
        }
    }
}

#[test]
fn a_file_changed_under_us_is_kept_when_replaced_or_removed() {
    let place = Place::holding(&dir([("gone", file("1")), ("kept", file("2"))]));
    let new = dir([("kept", file("22"))]);
    let act = || ["gone", "kept"].iter().for_each(|at| write(&place.target, at, at));
    let (switched, _) = meddle(&place, &new, "publish", &act);
    assert_eq!(switched.unwrap().unexpected, 2);
    assert_eq!(place.read(), new);
    place.check_nothing_lost(&dir([("a", file("gone")), ("b", file("kept"))]));
}

#[test]
fn a_source_that_lies_about_its_content_is_not_copied() {
    let place = Place::holding(&dir([("a", file("right"))]));
    let new = dir([("a", file("right")), ("b", file("right"))]);
    let mut seen = place.scan();
    // The same length and the key of the scan: only the hash can tell.
    write(&place.target, "a", "wrong");
    let key = place.key(&path("a")).unwrap();
    seen.known.insert(path("a"), key);
    seen.holders.values_mut().flatten().for_each(|(_, held)| *held = key);
    let result = place.become_tree(&seen, &new, &(), &mut Heard::default());
    assert!(matches!(result, Err(PublishError::Missing { path: missing, .. }) if missing == path("b")));
    assert!(place.key(&path("b")).is_none());
}

#[test]
fn content_that_vanishes_before_it_is_moved_is_fetched_again() {
    let place = Place::holding(&dir([]));
    let new = dir([("a", file("1")), ("b", file("2"))]);
    let act = || place.stage().clear().unwrap();
    let (result, heard) = meddle(&place, &new, "publish", &act);
    assert!(matches!(result, Err(PublishError::Missing { path: missing, .. }) if missing == path("a")));
    assert!(heard.published.is_empty() && place.key(&path("b")).is_none());
    place.check_becomes(&new);
}

#[test]
fn content_that_is_written_to_before_it_is_moved_gets_no_row() {
    let place = Place::holding(&dir([]));
    let new = dir([("a", file("1")), ("b", file("2"))]);
    let act = || {
        let whole = Name::new(content_id(b"2").to_string().as_bytes()).unwrap();
        place.stage().dir.open_file_rw(&whole).unwrap().write_all(b"?").unwrap();
    };
    let (result, heard) = meddle(&place, &new, "publish", &act);
    assert_eq!(result.unwrap().created, 2);
    let rows: Vec<_> = heard.published.iter().map(|(path, ..)| path.clone()).collect();
    assert_eq!(rows, [path("a")]);
}

#[test]
fn a_promised_source_that_changes_is_not_published() {
    let place = Place::holding(&dir([("a", file("right"))]));
    let new = dir([("b", file("right")), ("c", link("x"))]);
    let act = || write(&place.target, "a", "wrong");
    let (result, _) = meddle(&place, &new, "flush the stage of", &act);
    assert!(matches!(result, Err(PublishError::Missing { .. })));
    assert_eq!(
        place.read().paths().get(&path("a")).map(|node| contents(&[(vec![], node.clone())].into())),
        Some(vec![b"wrong".to_vec()])
    );
    assert!(place.key(&path("b")).is_none());
    let seen = place.scan();
    place.become_tree(&seen, &new, &(), &mut Heard::default()).unwrap();
    assert_eq!(place.read(), new);
}

#[test]
fn a_link_in_place_of_a_directory_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    let outer = Dir::open_operator(outside.path()).unwrap();
    let place = Place::holding(&dir([("d", dir([("x", file("1"))]))]));
    let new = dir([("d", dir([("y", file("2"))]))]);
    let act = || {
        place.target.rename(&name("d"), &place.target, &name("e"), rustix::fs::RenameFlags::empty()).unwrap();
        place.target.make_link(&name("d"), outside.path().as_os_str().as_encoded_bytes()).unwrap();
    };
    let (result, _) = meddle(&place, &new, "publish", &act);
    assert!(matches!(result, Err(PublishError::Fault(_))));
    assert!(outer.read_names().unwrap().is_empty());
    place.check_becomes(&new);
    assert!(outer.read_names().unwrap().is_empty());
}

#[test]
fn metadata_does_not_leak_through_a_second_link() {
    let place = Place::holding(&dir([("a", file("1"))]));
    place.target.hard_link(&name("a"), &place.home, &name("outside")).unwrap();
    let new = dir([("a", Node::File(b"1".to_vec(), meta(0o600, 9)))]);
    place.check_becomes(&new);
    let outside = place.home.look(&name("outside")).unwrap().unwrap();
    assert_eq!((outside.meta, outside.links), (meta(0o644, 1_000_000), 2));
}

#[test]
fn a_directory_with_one_more_name_than_scanned_is_not_moved() {
    let big = dir([("x", file("1"))]);
    let place = Place::holding(&dir([("old", big.clone())]));
    let seen = place.scan();
    let old = place.target.open_child(&name("old")).unwrap();
    write(&old, "mine", "mine");
    old.set_meta_self(&meta(0o755, 3_000_000)).unwrap();
    let new = dir([("new", big)]);
    let switched = place.become_tree(&seen, &new, &(), &mut Heard::default()).unwrap();
    assert_eq!((switched.moved_directories, switched.moved_files), (0, 1));
    assert_eq!(place.read(), new);
    place.check_nothing_lost(&dir([("a", file("mine"))]));
}

#[test]
fn fetched_content_survives_a_missing_one() {
    let place = Place::holding(&dir([]));
    let new = dir([("a", file("1")), ("b", file("2"))]);
    let changes = changes(&dir([]), &new);
    let stage = place.stage();
    let fetch = |content: &[u8]| {
        let staged = stage.create(&content_id(content), 1).unwrap();
        staged.write_at(content, 0).unwrap();
        staged.finish(None).unwrap();
    };
    fetch(b"1");
    let plan = Plan {
        target: &place.target,
        shown: Path::new("target"),
        stage: &stage,
        sequence: 1,
        top: meta(0o755, 1),
        changes: &|| Box::new(changes.iter().cloned().map(Ok)),
        holders: &|_| vec![],
        known: &|_| None,
        removed: Removed::Grace,
        goes_on: false,
        step: &(),
    };
    assert!(matches!(prepare(&plan), Err(PublishError::Missing { .. })));
    assert!(stage.has(&content_id(b"1")).unwrap());
    fetch(b"2");
    prepare(&plan).unwrap();
}
