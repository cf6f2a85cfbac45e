//! Blocks of old bytes, asked for and told: what a receiver may say of them, and when.

use super::*;
use crate::protocol::limits::{BLOCKS_MAX, FILES_WAITING_MAX, GAP_BYTES_MAX, GAPS_MAX, LOOKS_AHEAD_MAX};
use crate::protocol::message::Refused;

/// What a sender says to these messages on a stream of CONTENT, whose direction then ends.
fn said(sender: &Sender, messages: Vec<Message>) -> Vec<Message> {
    let base = Some(head_id(&sender.old).into());
    let request = Content { module: "m".into(), head: head_id(&sender.new), base };
    ask(sender, Message::new(tag::CONTENT, &request), messages)
}

/// A file of several chunks, and the same with a small insertion.
fn pair() -> (Files0, Files0) {
    let old = noise(9, 100_000);
    let mut new = old.clone();
    new.splice(50_000..50_000, *b"x");
    (one(old), one(new))
}

fn tags(messages: &[Message]) -> Vec<u8> {
    messages.iter().map(|message| message.tag).collect()
}

fn at_f(way: u8) -> FileItem {
    FileItem::plain(TreePath::new(b"f").unwrap(), way)
}

fn asked(item: FileItem) -> Message {
    Files(vec![item]).message()
}

fn blocks(file: u64, count: usize) -> Message {
    Message::new(tag::BLOCKS, &Blocks { file, hashes: vec![9; 3 * count] })
}

#[test]
fn blocks_that_break_a_bound_are_refused() {
    let (old, new) = pair();
    let sender = Sender::new(&old, &new);
    let told = |way: u8, block: u32, gaps: Vec<u64>, hashes: usize| {
        let old = OldBlocks { block, gaps, hashes: vec![1; hashes] };
        tags(&said(&sender, vec![asked(FileItem { wanted: vec![0xff; 9], old, ..at_f(way) })]))
    };
    let taken = |got: Vec<u8>| got.contains(&tag::BATCH) && !got.contains(&tag::REFUSED);
    for way in [way::WANTED, way::GAP] {
        for (block, gap) in [(128, 128), (1_024, 5_000), (4_096, 1)] {
            let hashes = 3 * usize::try_from(u64::div_ceil(gap, u64::from(block))).unwrap();
            assert!(taken(told(way, block, vec![0, gap], hashes)), "{block}");
            for count in [0, hashes - 3, hashes + 3, hashes + 1] {
                assert_eq!(told(way, block, vec![0, gap], count), [tag::REFUSED], "{count} for {block}");
            }
        }
        // As many blocks, and as many gaps, as may be, and one more.
        let most = 128 * BLOCKS_MAX as u64;
        assert!(taken(told(way, 128, vec![0, most], 3 * BLOCKS_MAX)));
        assert_eq!(told(way, 128, vec![0, most + 1], 3 * (BLOCKS_MAX + 1)), [tag::REFUSED]);
        assert!(taken(told(way, 128, vec![0; 2 * GAPS_MAX], 0)));
        assert_eq!(told(way, 128, vec![0; 2 * GAPS_MAX + 2], 0), [tag::REFUSED]);
        let fit = usize::try_from(GAP_BYTES_MAX / 4_096).unwrap();
        assert!(taken(told(way, 4_096, vec![7, GAP_BYTES_MAX], 3 * fit)));
        assert_eq!(told(way, 4_096, vec![7, GAP_BYTES_MAX + 1], 3 * (fit + 1)), [tag::REFUSED]);
        for block in [1, 64, 1_000, 8_192, u32::MAX] {
            assert_eq!(told(way, block, vec![0, 1], 3), [tag::REFUSED], "{block}");
        }
        for gaps in [vec![1], vec![u64::MAX, 1], vec![5, i64::MAX as u64]] {
            assert_eq!(told(way, 128, gaps, 3), [tag::REFUSED]);
        }
    }
    assert_eq!(told(way::GAP, 0, Vec::new(), 0), [tag::REFUSED]);
    assert_eq!(told(way::GAP + 1, 128, vec![0, 1], 3), [tag::REFUSED]);
    assert!(taken(told(way::WANTED, 0, Vec::new(), 0)));
}

#[test]
fn blocks_that_were_not_asked_for_are_refused() {
    let (old, new) = pair();
    let sender = Sender::new(&old, &new);
    let refused = |messages: Vec<Message>| assert_eq!(tags(&said(&sender, messages)).last(), Some(&tag::REFUSED));
    refused(vec![blocks(0, 1)]);
    refused(vec![asked(at_f(way::ALL)), blocks(0, 1)]);
    refused(vec![asked(at_f(way::BASE)), blocks(1, 1)]);
    // The file is looked at; other counts than were asked for, and a second answer.
    refused(vec![asked(at_f(way::BASE)), blocks(0, 70_000)]);
    refused(vec![asked(at_f(way::BASE)), Message { tag: tag::BLOCKS, body: vec![0xc0] }]);
    refused(vec![asked(at_f(way::BASE)), blocks(0, 0), blocks(0, 0)]);
    // With lists of its own it asks for nothing, and takes nothing.
    let lists = Sender::with_lists(&old, &new);
    let got = tags(&said(&lists, vec![asked(at_f(way::BASE)), blocks(0, 1)]));
    assert!(!got.contains(&tag::LOOK) && got.last() == Some(&tag::REFUSED));
}

#[test]
fn who_answers_no_look_gets_everything_that_is_new() {
    let (old, new) = pair();
    let sender = Sender::new(&old, &new);
    // Nothing is there, and nothing is said at all.
    for messages in [vec![asked(at_f(way::BASE)), blocks(0, 0)], vec![asked(at_f(way::BASE))]] {
        let got = said(&sender, messages);
        assert_eq!(tags(&got), [tag::LOOK, tag::BATCH]);
        let steps = Batch::decode(&got[1].body).unwrap().steps;
        let literals: u64 = steps.iter().map(crate::protocol::step::Step::literal_bytes).sum();
        assert!((1..40_000).contains(&literals), "{literals}");
    }
}

#[test]
fn a_sender_looks_ahead_at_so_many_files_and_no_more() {
    let count = LOOKS_AHEAD_MAX + 40;
    let files = |seed: u64| (0..count as u64).map(|i| (format!("{i:04}"), noise(seed + i, 3_000))).collect::<Files0>();
    let (old, mut new) = (files(0), files(0));
    new.values_mut().for_each(|bytes| bytes[1_500] ^= 1);
    let sender = Sender::new(&old, &new);
    let items = new.keys().map(|path| FileItem::plain(TreePath::new(path.as_bytes()).unwrap(), way::BASE));
    let base = Some(head_id(&sender.old).into());
    let request = Content { module: "m".into(), head: head_id(&sender.new), base };
    let mut answer = Answer::start(&sender, &Message::new(tag::CONTENT, &request));
    let (mut files, mut looks) = (Some(Files(items.collect()).message()), 0);
    let mut until_wait = |answer: &mut Answer<'_>| loop {
        match answer.next_output() {
            Output::Message(message) => looks += usize::from(message.tag == tag::LOOK),
            Output::Wait => return looks,
            Output::Done => panic!("it does not wait"),
        }
    };
    assert_eq!(until_wait(&mut answer), 0);
    answer.handle(files.take().as_ref());
    assert_eq!(until_wait(&mut answer), LOOKS_AHEAD_MAX);
    // One answer, one more file.
    answer.handle(Some(&blocks(0, 0)));
    assert_eq!(until_wait(&mut answer), LOOKS_AHEAD_MAX + 1);
}

#[test]
fn what_waits_at_a_sender_is_bounded_in_bytes() {
    let count = LOOKS_AHEAD_MAX + 1;
    let files = |seed: u64| (0..count as u64).map(|i| (format!("{i:04}"), noise(seed + i, 1_500))).collect::<Files0>();
    let (old, new) = (files(0), files(9_000));
    let sender = Sender::new(&old, &new);
    let item = |path: &String, way| FileItem::plain(TreePath::new(path.as_bytes()).unwrap(), way);
    let mut messages = vec![Files(new.keys().map(|path| item(path, way::BASE)).collect()).message()];
    // Nobody answers, so these wait; packed they are next to nothing.
    let zeros = FileItem { wanted: vec![0; 1 << 20], ..item(&"0000".into(), way::WANTED) };
    let heavy = Files(vec![zeros]).message();
    assert!(heavy.body.len() < 1_000);
    messages.extend(std::iter::repeat_n(heavy, FILES_WAITING_MAX >> 20));
    let got = said(&sender, messages);
    assert_eq!(got.iter().filter(|message| message.tag == tag::LOOK).count(), LOOKS_AHEAD_MAX);
    let refused: Refused = decode("refused", &got.last().unwrap().body).unwrap();
    assert_eq!(refused, Refused(refusal::TOO_LARGE));
}

#[test]
fn hashes_that_lie_lead_to_a_retry_and_never_to_wrong_bytes() {
    let (old, new) = pair();
    let sender = Sender::new(&old, &new);
    // The blocks are those of the new version, so all of it seems to be there.
    let mut other = receiver(&new);
    other.landed = Rc::default();
    for way in [way::WANTED, way::GAP] {
        let (path, entry) = changed_files(&sender).remove(0);
        let told = item(&sender, &mut other, &path, &entry, way);
        let got = said(&sender, vec![asked(told)]);
        let mut receiver = receiver(&old);
        receiver.here = other.here.clone();
        let mut fetch = Fetch::default();
        fetch.expect(wanted(&path, &entry, way));
        let batches = got.iter().filter(|message| message.tag == tag::BATCH);
        let ends: Vec<Outcome> =
            batches.flat_map(|message| fetch.batch(&message.body, &mut receiver).unwrap()).collect();
        assert!(matches!(ends[..], [Outcome::Retry(_)]), "way {way}");
        assert!(receiver.landed.borrow().is_empty());
    }
}
