//! Literals that have those of earlier batches as their history.

use super::*;
use crate::protocol::compress::Level;
use crate::protocol::effort::Effort;
use crate::protocol::message::Offer;
use crate::tree::codec::Malformed;

/// A tree whose later files say again what earlier ones said, with noise between.
fn repeated() -> Files0 {
    let said: Vec<u8> = noise(1, 60_000).iter().flat_map(|byte| [byte & 15, 7, byte >> 4]).collect();
    let file = |i: u64| (0..12).flat_map(|part| [noise(100 + i * 12 + part, 900), said.clone()].concat()).collect();
    let mut files: Files0 = (0..4).map(|i| (format!("f{i}"), file(i))).collect();
    files.insert("f2-noise".into(), noise(2, 3_000_000));
    files.insert("g".into(), vec![]);
    files.insert("h".into(), b"little".to_vec());
    files
}

/// What a sender answers to who wants all files whole, with that level for each message, and what was wanted.
fn answers(sender: &Sender, history: bool, level: impl Fn(usize) -> u8) -> (Vec<Message>, Fetch) {
    let (mut fetch, mut items) = (Fetch::default(), Vec::new());
    for (path, entry) in changed_files(sender) {
        fetch.expect(wanted(&path, &entry, way::ALL));
        items.push(FileItem::plain(path, way::ALL));
    }
    let request = Content { module: "m".into(), head: head_id(&sender.new), base: None };
    let mut answer = Answer::start(sender, &Message::new(tag::CONTENT, &request));
    let mut queue = std::collections::VecDeque::from([Files(items).message()]);
    let mut got = Vec::new();
    loop {
        let level = Level::new(level(got.len())).unwrap();
        answer.set_effort(Effort { level, small: level, rebuilt: level, history });
        match answer.next_output() {
            Output::Message(message) => got.push(message),
            Output::Wait => answer.handle(queue.pop_front().as_ref()),
            Output::Done => return (got, fetch),
        }
    }
}

fn take(fetch: &mut Fetch, messages: &[Message]) -> Result<Files0, FetchError> {
    let mut receiver = receiver(&Files0::new());
    for message in messages {
        match message.tag {
            tag::LEAVES => fetch.leaves(&message.body)?,
            _ => drop(fetch.batch(&message.body, &mut receiver)?),
        }
    }
    Ok(receiver.landed.take().into_iter().map(|(path, bytes)| (path.to_string(), bytes)).collect())
}

fn in_stream(messages: &[Message]) -> usize {
    let batches = messages.iter().filter(|message| message.tag == tag::BATCH);
    batches.filter(|message| !Batch::decode(&message.body).unwrap().stands_alone()).count()
}

fn bytes(messages: &[Message]) -> usize {
    messages.iter().map(Message::wire_len).sum()
}

#[test]
fn what_an_earlier_batch_said_is_not_said_again() {
    let files = repeated();
    let sender = Sender::new(&Files0::new(), &files);
    let (alone, mut fetch) = answers(&sender, false, |_| 3);
    assert_eq!(in_stream(&alone), 0);
    assert!(take(&mut fetch, &alone).unwrap() == files);
    let mut levels: Vec<Box<dyn Fn(usize) -> u8>> = vec![Box::new(|_| 3), Box::new(|_| 12)];
    levels.push(Box::new(|sent| [3, 9, 1][sent % 3]));
    for level in levels {
        let (joined, mut fetch) = answers(&sender, true, level);
        assert!(in_stream(&joined) > 3, "{}", in_stream(&joined));
        assert!(bytes(&joined) < bytes(&alone), "{} {}", bytes(&joined), bytes(&alone));
        assert!(take(&mut fetch, &joined).unwrap() == files);
    }
    let (plain, mut fetch) = answers(&sender, true, |_| 0);
    assert_eq!(in_stream(&plain), 0);
    assert!(take(&mut fetch, &plain).unwrap() == files);
}

#[test]
fn a_part_of_the_stream_that_is_missing_or_twice_is_seen() {
    let files = repeated();
    let sender = Sender::new(&Files0::new(), &files);
    let (messages, _) = answers(&sender, true, |_| 3);
    let parts: Vec<usize> = (0..messages.len()).filter(|at| in_stream(&messages[*at..=*at]) == 1).collect();
    assert!(parts.len() > 3);
    let broken = |messages: &[Message]| {
        let (_, mut fetch) = answers(&sender, false, |_| 0);
        assert!(matches!(take(&mut fetch, messages), Err(FetchError::Malformed(_))));
    };
    for part in &parts[..3] {
        let mut missing = messages.clone();
        missing.remove(*part);
        broken(&missing);
        let mut twice = messages.clone();
        twice.insert(*part, messages[*part].clone());
        broken(&twice);
        // Packed by itself, says the packing, or both.
        for packing in [1, 5, 0] {
            let mut other = messages.clone();
            other[*part].body[12] = other[*part].body[12] & 2 | packing;
            broken(&other);
        }
    }
}

#[test]
fn what_is_pushed_needs_nothing_that_came_before() {
    let files = repeated();
    let sender = Sender::new(&Files0::new(), &files);
    let (messages, _) = answers(&sender, true, |_| 3);
    let part = messages.into_iter().find(|message| in_stream(std::slice::from_ref(message)) == 1).unwrap();
    let batch = Batch::decode(&part.body).unwrap();
    assert!(batch.literals(&[]).is_err());
    let base = Some(head_id(&sender.old));
    let offer = Offer { head: head_id(&sender.new), base, changes: 0, files: 1, content: 1 };
    let mut reader = crate::protocol::pack::PushReader::new(offer).unwrap();
    let item = FileItem::plain(TreePath::new(b"f").unwrap(), way::ALL);
    assert!(reader.take(Files(vec![item]).message()).unwrap().is_none());
    // Small enough to be pushed, and whole.
    let mut stream = crate::protocol::batch::BatchWriter::default();
    stream.set_effort(Effort { history: true, ..Effort::default() });
    stream.chunk(&vec![7; 1_100_000]);
    stream.end();
    let pushed = stream.take();
    assert!(!Batch::decode(&pushed.body).unwrap().stands_alone() && pushed.wire_len() < 10_000);
    assert!(matches!(reader.take(pushed), Err(Malformed::Rule { .. })));
}
