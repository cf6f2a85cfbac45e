//! What CHANGES cost, in bytes.

use super::push::build;
use super::*;
use crate::protocol::change::ChangeWriter;
use crate::tree::entry::{Meta, Mtime};
use crate::tree::name::Name;

const FILES: u32 = 5_000;
/// Files of a tree whose sender is asked for each of them.
const FEW: u32 = 1_000;

/// `FILES` files of their own below `at`, some of them one directory deeper.
fn many(at: &str) -> Files0 {
    numbered(at, FILES)
}

fn numbered(at: &str, count: u32) -> Files0 {
    let path = |i| if i % 5 == 0 { format!("{at}/sub-{}/file-{i}", i % 7) } else { format!("{at}/file-{i}") };
    (0..count).map(|i| (path(i), format!("the content of {i}").into_bytes())).collect()
}

/// Takes the changes from what the sender has to what it had; gives their bytes.
#[track_caller]
fn take(sender: &Sender, old: &Files0) -> usize {
    let mut receiver = receiver(old);
    let request = Tree { module: "m".into(), head: head_id(&sender.new), base: Some(head_id(&sender.old).into()) };
    let got = ask(sender, Message::new(tag::TREE, &request), vec![]);
    let mut reader = ChangeReader::new(Some(sender.old), sender.new.entries);
    got.iter().for_each(|m| reader.apply(&m.body, &mut receiver.pages).unwrap());
    assert_eq!(reader.finish(&mut receiver.pages).unwrap(), sender.new);
    got.iter().map(Message::wire_len).sum()
}

#[test]
fn a_moved_directory_costs_one_record() {
    let sender = Sender::new(&many("old"), &many("new"));
    let bytes = take(&sender, &many("old"));
    assert!(bytes < 200, "{bytes} bytes");
    assert!(build(&sender).unwrap().files().is_empty());
}

#[test]
fn a_copied_directory_costs_one_record_wherever_it_stands() {
    let old = many("a/old");
    let with = |more: Files0| old.iter().map(|(path, bytes)| (path.clone(), bytes.clone())).chain(more).collect();
    // Beside the first; with nothing but the directory in another; in one that has a file of its own; inside itself.
    for copy in ["a/new", "b/c/new", "d/new", "a/old/sub-0/new"] {
        let mut new: Files0 = with(many(copy));
        if copy.starts_with('d') {
            new.insert("d/own".into(), vec![1; 100]);
        }
        let sender = Sender::new(&old, &new);
        let bytes = take(&sender, &old);
        assert!(bytes < 300, "{bytes} bytes for {copy}");
        let files = build(&sender).unwrap().files().len();
        assert_eq!(files, usize::from(copy.starts_with('d')), "content for {copy}");
    }
}

#[test]
fn a_directory_that_was_moved_or_copied_and_edited_costs_what_differs() {
    let old = numbered("a/old-1.0", FEW);
    for keeps in [false, true] {
        let mut new = numbered("a/new-1.1", FEW);
        for i in (0..FEW).step_by(20) {
            new.insert(format!("a/new-1.1/sub-{}/file-{i}", i % 7), format!("edited {i}").into_bytes());
        }
        new.remove("a/new-1.1/file-1");
        new.insert("a/new-1.1/sub-3/more".into(), b"more".to_vec());
        if keeps {
            new.extend(old.clone());
        }
        let sender = Sender::new(&old, &new);
        let bytes = take(&sender, &old);
        assert!(bytes < 52 * (32 + 16), "{bytes} bytes for 52 changes");
        assert_eq!(build(&sender).unwrap().files().len(), 51);
    }
    // What has little of the other in it is new.
    let mut new: Files0 = numbered("a/new-1.1", FEW).into_iter().take(200).collect();
    new.extend((0..1_000u32).map(|i| (format!("a/new-1.1/other-{i}"), i.to_le_bytes().to_vec())));
    let bytes = take(&Sender::new(&old, &new), &old);
    assert!(bytes > 1_000 * 32, "{bytes}");
}

/// A tree of 100 directories of 300 files; `change` says what is there by number.
fn wide(pages: &mut Pages, change: impl Fn(u32) -> (u32, Mtime)) -> Built {
    let entry = |name: String, mode, mtime, body| Entry {
        name: Name::new(name.as_bytes()).unwrap(),
        meta: Meta { mode, mtime },
        body,
        attributes: Vec::new(),
    };
    let time = Mtime { seconds: 1_600_000_000, nanos: 0 };
    let dirs: Vec<_> = (0..100u32)
        .map(|dir| {
            let file = |number: u32| {
                let (version, mtime) = change(number);
                let [a, b] = [number, version].map(u32::to_le_bytes);
                let size = u64::from(number) * 37 + u64::from(version);
                let body = Body::File { size, class: Class::Fine, id: FileId::of(&[a, b].concat()) };
                entry(format!("some-file-{number:06}.txt"), 0o644, mtime, body)
            };
            let files: Vec<_> = (dir * 300..(dir + 1) * 300).map(file).collect();
            entry(format!("directory-{dir:03}"), 0o755, time, build_entries(&files, pages).body())
        })
        .collect();
    build_entries(&dirs, pages)
}

fn build_entries(entries: &[Entry], pages: &mut Pages) -> Built {
    crate::tree::dir::build(entries, pages).unwrap()
}

#[test]
fn metadata_stays_within_its_bytes_by_entry() {
    let dice =
        |number: u32| u32::from_le_bytes(blake3::hash(&number.to_le_bytes()).as_bytes()[..4].try_into().unwrap());
    let before = |_| Mtime { seconds: 1_600_000_000, nanos: 0 };
    let after = |number| Mtime {
        seconds: 1_700_000_000 + i64::from(dice(number) % 3_600),
        nanos: dice(number ^ 1 << 30) % 1_000_000_000,
    };
    let mut pages = Pages::new();
    let old = wide(&mut pages, |number| (0, before(number)));
    let mut cost = |change: &dyn Fn(u32) -> (u32, Mtime)| {
        let new = wide(&mut pages, change);
        let mut writer = ChangeWriter::new(&pages, Some(old.id), new.id).unwrap();
        let bodies: Vec<_> = std::iter::from_fn(|| writer.next_message().unwrap()).map(|m| m.body).collect();
        let mut reader = ChangeReader::new(Some(old), new.entries);
        bodies.iter().for_each(|body| reader.apply(body, &mut pages).unwrap());
        assert_eq!(reader.finish(&mut pages).unwrap(), new);
        bodies.iter().map(Vec::len).sum::<usize>()
    };
    let touched =
        |share: u32| move |number| (0, if dice(number) % share == 0 { after(number) } else { before(number) });
    let count = |share: u32| (0..30_000).filter(|number| dice(*number) % share == 0).count();
    for (share, most) in [(1, 10), (10, 12), (100, 16), (1_000, 22)] {
        let bytes = cost(&touched(share));
        let count = count(share);
        assert!(bytes <= most * count, "{bytes} bytes for {count} files with a new mtime");
    }
    for (share, most) in [(1, 32 + 12), (100, 32 + 18), (1_000, 32 + 24)] {
        let bytes = cost(&|number| (u32::from(dice(number) % share == 0), touched(share)(number).1));
        let count = count(share);
        assert!(bytes <= most * count, "{bytes} bytes for {count} files with new content");
    }
}
