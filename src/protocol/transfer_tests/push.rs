//! Pushes: a pack is built, travels, and is applied; and what packs keep of the past.

use proptest::prelude::*;

use super::*;
use crate::protocol::limits::{PACK_CONTENT_MAX, PUSH_CHANGES_MAX, PUSH_CONTENT_MAX};
use crate::protocol::message::Offer;
use crate::protocol::pack::PushReader;
use crate::tree::codec::{Malformed, decode};

fn build(sender: &Sender) -> Option<Pack> {
    let (base, head) = ((head_id(&sender.old), sender.old), (head_id(&sender.new), sender.new));
    Pack::build(sender, "m", base, head).unwrap()
}

fn offer_of(message: &Message) -> Offer {
    assert_eq!(message.tag, tag::OFFER);
    decode("offer", &message.body).unwrap()
}

/// Reads what a push sends, to the last message.
fn read(messages: Vec<Message>) -> Result<Option<Pack>, Malformed> {
    let mut messages = messages.into_iter();
    let mut reader = PushReader::new(offer_of(&messages.next().unwrap()))?;
    let mut whole = reader.whole()?;
    for message in messages {
        assert!(whole.is_none(), "more comes behind the whole");
        whole = reader.take(message)?;
    }
    assert!(reader.whole()?.is_none());
    Ok(whole)
}

/// Applies a push as a receiver with the old tree would; gives the paths that came with content.
fn apply(sender: &Sender, receiver: &mut Receiver, pack: &Pack) -> Vec<TreePath> {
    let mut reader = ChangeReader::new(Some(sender.old), sender.new.entries);
    pack.changes().iter().for_each(|body| reader.apply(body, &mut receiver.pages).unwrap());
    assert_eq!(reader.finish(&mut receiver.pages).unwrap(), sender.new);
    let mut fetch = Fetch::default();
    for item in pack.files() {
        let entry = look_up(&receiver.pages, sender.new.id, &item.path).unwrap().unwrap();
        fetch.expect(wanted(&item.path, &entry, item.way));
    }
    for message in pack.content() {
        match message.tag {
            tag::LEAVES => fetch.leaves(&message.body).unwrap(),
            _ => {
                let outcomes = fetch.batch(&message.body, receiver).unwrap();
                assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done(_))), "{outcomes:?}");
            }
        }
    }
    assert_eq!(fetch.outstanding(), 0);
    pack.files().iter().map(|item| item.path.clone()).collect()
}

/// A push from `sender` travels and is applied: everything is there then, and nothing came that was there before.
fn pushed(sender: &Sender, old: &Files0, new: &Files0) -> Result<(), TestCaseError> {
    let built = build(sender).unwrap();
    prop_assert!(Pack::decode(&built.encode()).as_ref() == Ok(&built));
    prop_assert_eq!(
        built.messages(true).skip(1).filter(|m| m.tag != tag::CHANGES).map(|m| m.wire_len()).sum::<usize>(),
        built.content_bytes()
    );
    let small = built.content_bytes() <= PUSH_CONTENT_MAX;
    let pack = read(built.messages(small).collect()).unwrap().unwrap();
    prop_assert_eq!(pack.content().len(), if small { built.content().len() } else { 0 });

    let mut receiver = receiver(old);
    let came = apply(sender, &mut receiver, &built);
    let landed = receiver.landed.borrow();
    prop_assert_eq!(came.len(), landed.len());
    for path in &came {
        prop_assert_eq!(&landed[path], &new[&path.to_string()]);
    }
    // Everything is here now: what was landed, and what stood in the old tree.
    let held: Vec<&Vec<u8>> = old.values().chain(landed.values()).collect();
    for (path, _) in changed_files(sender) {
        prop_assert!(held.contains(&&new[&path.to_string()]), "{}", path);
    }
    // And nothing came that stood there before, nor twice.
    for (at, path) in came.iter().enumerate() {
        prop_assert!(old.values().all(|bytes| *bytes != landed[path]));
        prop_assert!(came[..at].iter().all(|other| landed[other] != landed[path]));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_push_gives_the_tree_and_all_content_that_is_not_here(old in file_tree(), new in file_tree(), edit in any::<u16>()) {
        let mut new = new;
        if let Some((path, bytes)) = old.iter().next() {
            let mut bytes = bytes.clone();
            let at = usize::from(edit) % (bytes.len() + 1);
            bytes.splice(at..at, *b"an insertion");
            new.insert(path.clone(), bytes);
        }
        for sender in [Sender::new(&old, &new), Sender::with_lists(&old, &new)] {
            pushed(&sender, &old, &new)?;
        }
    }

    #[test]
    fn a_damaged_pack_is_no_pack(at in any::<prop::sample::Index>(), change in 1u8..) {
        let mut bytes = build(&Sender::new(&one(noise(1, 5_000)), &one(noise(2, 5_000)))).unwrap().encode();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(Pack::decode(&bytes).is_err());
        prop_assert!(Pack::decode(&bytes[..at]).is_err());
    }
}

#[test]
fn copies_and_moves_push_no_content() {
    let old = Files0::from([
        ("a".into(), noise(1, 50_000)),
        ("d/x".into(), noise(2, 9_000)),
        ("d/sub/y".into(), noise(3, 9_000)),
    ]);
    let mut new = old.clone();
    new.insert("copy-of-a".into(), old["a"].clone());
    new.insert("e/x".into(), new["d/x"].clone());
    let moved = new.remove("d/sub/y").unwrap();
    new.insert("f/sub/y".into(), moved);
    let pack = build(&Sender::new(&old, &new)).unwrap();
    assert_eq!((pack.files(), pack.content_bytes()), (&[][..], 0));
    let messages: Vec<Message> = pack.messages(true).collect();
    assert_eq!(offer_of(&messages[0]).files, 0);
    assert_eq!(messages.len(), 2);
}

#[test]
fn a_small_edit_of_a_large_file_is_pushed() {
    let old = one(noise(9, PACK_CONTENT_MAX + 1_000_000));
    let mut new = old.clone();
    new.get_mut("f").unwrap()[5_000_000] ^= 1;
    let sender = Sender::new(&old, &new);
    let pack = build(&sender).unwrap();
    assert!((1..PUSH_CONTENT_MAX).contains(&pack.content_bytes()), "{}", pack.content_bytes());
    let pack = read(pack.messages(true).collect()).unwrap().unwrap();
    let mut receiver = receiver(&old);
    apply(&sender, &mut receiver, &pack);
    assert!(receiver.landed.borrow().values().next() == Some(&new["f"]));
}

#[test]
fn what_does_not_fit_is_left_out_and_smaller_files_still_come() {
    let new = Files0::from([
        ("a".into(), noise(1, 5_000_000)),
        ("b".into(), noise(2, 5_000_000)),
        ("c".into(), noise(3, 1_000)),
    ]);
    let pack = build(&Sender::new(&Files0::new(), &new)).unwrap();
    let paths: Vec<String> = pack.files().iter().map(|item| item.path.to_string()).collect();
    assert_eq!(paths, ["a", "c"]);
    assert!(pack.content_bytes() > PUSH_CONTENT_MAX);
    assert_eq!(Pack::decode(&pack.encode()).as_ref(), Ok(&pack));
    // Its entries alone go out.
    let alone = read(pack.messages(false).collect()).unwrap().unwrap();
    assert_eq!((alone.changes(), alone.files(), alone.content()), (pack.changes(), &[][..], &[][..]));
    assert!(read(pack.messages(true).collect()).is_err());
}

#[test]
fn entries_that_are_too_many_make_no_pack() {
    let new: Files0 = (0..20_000u64).map(|i| (format!("{i:05}"), i.to_le_bytes().to_vec())).collect();
    assert!(build(&Sender::new(&Files0::new(), &new)).is_none());
}

#[test]
fn nothing_but_the_top_makes_an_offer_that_is_whole() {
    let files = one(noise(1, 100));
    let mut messages: Vec<Message> = build(&Sender::new(&files, &files)).unwrap().messages(true).collect();
    assert_eq!(messages.len(), 1);
    let offer = offer_of(&messages.pop().unwrap());
    let mut reader = PushReader::new(offer).unwrap();
    assert!(reader.whole().unwrap().is_some() && reader.whole().unwrap().is_none());
    assert!(reader.take(Message { tag: tag::CHANGES, body: vec![] }).is_err());
}

#[test]
fn files_that_are_gone_are_not_in_the_pack() {
    let new =
        Files0::from([("a".into(), noise(1, 1_000)), ("b".into(), noise(2, 100_000)), ("c".into(), noise(3, 70_000))]);
    let mut sender = Sender::new(&Files0::new(), &new);
    sender.files.get_mut("a").unwrap()[7] ^= 1;
    sender.files.get_mut("b").unwrap()[90_000] ^= 1;
    let pack = build(&sender).unwrap();
    assert_eq!(pack.files().len(), 1);
    assert_eq!(apply(&sender, &mut receiver(&Files0::new()), &pack)[0].to_string(), "c");
}

#[test]
fn what_was_not_announced_is_refused() {
    let sender = Sender::new(&one(noise(1, 40_000)), &one(noise(2, 40_000)));
    let messages: Vec<Message> = build(&sender).unwrap().messages(true).collect();
    let tags: Vec<u8> = messages.iter().map(|message| message.tag).collect();
    assert_eq!(tags, [tag::OFFER, tag::CHANGES, tag::FILES, tag::BATCH]);
    let offer = offer_of(&messages[0]);
    let refused = |offer: Offer, list: &[Message]| {
        let Ok(mut reader) = PushReader::new(offer) else { return };
        let result = list.iter().cloned().try_fold(None, |_, message| reader.take(message));
        assert!(!matches!(result, Ok(Some(_))), "{result:?}");
    };
    // In another order, one missing, one too many.
    let [_, changes, files, batch] = &messages[..] else { panic!() };
    refused(offer.clone(), &[files.clone(), changes.clone(), batch.clone()]);
    refused(offer.clone(), &[changes.clone(), batch.clone(), files.clone()]);
    refused(offer.clone(), &[changes.clone(), files.clone()]);
    refused(Offer { content: 2, ..offer.clone() }, &[changes.clone(), files.clone(), batch.clone(), batch.clone()]);
    refused(Offer { files: 2, ..offer.clone() }, &messages[1..]);
    refused(Offer { base: None, ..offer.clone() }, &messages[1..]);
    refused(Offer { changes: u32::MAX, ..offer.clone() }, &messages[1..]);
    refused(Offer { content: u32::MAX, ..offer.clone() }, &messages[1..]);
    // A way that nobody asked for, files out of order, a file that is gone.
    let item = |path: &str, way| FileItem::plain(TreePath::new(path.as_bytes()).unwrap(), way);
    let with = |items: Vec<FileItem>| [changes.clone(), Files(items).message(), batch.clone()];
    refused(offer.clone(), &with(vec![item("f", way::WANTED)]));
    refused(offer.clone(), &with(vec![FileItem { wanted: vec![1], ..item("f", way::ALL) }]));
    refused(Offer { files: 2, ..offer.clone() }, &with(vec![item("g", way::ALL), item("f", way::ALL)]));
    let mut gone = crate::protocol::batch::BatchWriter::default();
    gone.gone();
    refused(offer.clone(), &[changes.clone(), files.clone(), gone.take()]);
    let mut open = crate::protocol::batch::BatchWriter::default();
    open.literal(b"no end", &[]);
    refused(offer.clone(), &[changes.clone(), files.clone(), open.take()]);
    // Far more steps than bytes: files that end, and chunks of one byte.
    for literal in [false, true] {
        let mut bomb = crate::protocol::batch::BatchWriter::default();
        for _ in 0..30_000 {
            if literal { bomb.chunk(b"x") } else { bomb.end() }
        }
        bomb.end();
        let bomb = bomb.take();
        assert!(bomb.wire_len() < 1_000);
        let mut reader = PushReader::new(Offer { content: 3, ..offer.clone() }).unwrap();
        for message in [changes, files, &bomb, &bomb] {
            assert!(reader.take(message.clone()).unwrap().is_none());
        }
        assert!(matches!(reader.take(bomb), Err(Malformed::TooLarge { .. })));
    }
    // Too much.
    let large = |tag, len| Message { tag, body: vec![0; len] };
    refused(offer.clone(), &[large(tag::CHANGES, PUSH_CHANGES_MAX), files.clone(), batch.clone()]);
    refused(offer, &[changes.clone(), files.clone(), large(tag::BATCH, PUSH_CONTENT_MAX)]);
}

#[test]
fn a_file_that_was_overwritten_still_arrives_from_a_pack() {
    for len in [900, 60_000, 3_000_000] {
        let new = one(noise(5, len));
        let mut sender = Sender::new(&Files0::new(), &new);
        sender.pack = build(&sender);
        // Over in place, shorter, and gone.
        for now in [Some(noise(6, len)), Some(noise(6, 100)), None] {
            sender.files = now.map_or_else(Files0::new, one);
            for way in [way::ALL, way::WANTED] {
                let mut receiver = receiver(&Files0::new());
                let (_, outcomes) = fetch_content(&sender, &mut receiver, way);
                assert!(matches!(outcomes.unwrap()[..], [Outcome::Done(_)]), "{len} bytes by way {way}");
                assert!(receiver.landed.borrow().values().next() == Some(&new["f"]));
            }
        }
    }
}

#[test]
fn an_edit_that_was_edited_again_still_arrives_from_a_pack() {
    let (old, new) = edited_pair();
    let mut sender = Sender::new(&old, &new);
    sender.pack = Some(Pack::decode(&build(&sender).unwrap().encode()).unwrap());
    // The chunks of the edit, and those beside it, which are its context, are gone from the disk.
    sender.files.get_mut("f").unwrap()[1_400_000..1_600_000].fill(7);
    for way in [way::BASE, way::WANTED] {
        let mut receiver = receiver(&old);
        let (size, outcomes) = fetch_content(&sender, &mut receiver, way);
        assert!(matches!(outcomes.unwrap()[..], [Outcome::Done(_)]), "way {way}");
        assert!(size < 60_000 && receiver.landed.borrow().values().next() == Some(&new["f"]));
    }
    sender.pack = None;
    let (_, outcomes) = fetch_content(&sender, &mut receiver(&old), way::BASE);
    assert!(matches!(outcomes.unwrap()[..], [Outcome::Gone(_)]));
}
