//! Descents: pages whole and brief, what is guessed right and wrong, and what a sender may not say.

use super::*;
use crate::protocol::brief::{BriefId, REST_LEN, brief, whole};
use crate::protocol::descent::{DescentError, Guess};
use crate::protocol::limits::{BRIEF_IDS_MAX, REST_MAX};
use crate::protocol::packed::{pack, unpack};
use crate::tree::codec::encode;
use crate::tree::dir::DirBuilder;
use crate::tree::entry::Mtime;
use crate::tree::hash::DirId;
use crate::tree::name::Name;
use crate::tree::page::PageError;

/// Nothing is here.
fn nothing(_: BriefId) -> Result<Option<FileId>, PageError> {
    Ok(None)
}

/// Takes the pages of the sender's new tree; gives the bytes of PAGES and of REST.
pub(super) fn descend(
    sender: &Sender,
    pages: &mut Pages,
    brief: bool,
    guess: Guess<'_>,
) -> Result<(usize, usize), DescentError> {
    let mut descent = Descent::new(sender.new.id, guess);
    let request = Descend { module: "m".into(), head: head_id(&sender.new), brief };
    let mut answer = Answer::start(sender, &Message::new(tag::DESCEND, &request));
    let mut bytes = (0, 0);
    loop {
        match answer.next_output() {
            Output::Message(message) if message.tag == tag::PAGES => {
                bytes.0 += message.body.len();
                descent.pages(&message.body, pages)?;
            }
            Output::Message(message) => {
                assert_eq!((message.tag, brief), (tag::REST, true));
                assert!(message.body.len() <= REST_MAX as usize);
                bytes.1 += message.body.len();
                descent.rest(&message.body, pages)?;
            }
            Output::Wait => match descent.next_round(pages)? {
                Some(want) => answer.handle(want.as_ref()),
                None => panic!("the sender waits before the round is over"),
            },
            Output::Done => return Ok(bytes),
        }
    }
}

/// Entries of files with ids of nothing real, whose times are `seconds`.
fn entries(count: u64, seconds: i64) -> impl Iterator<Item = Entry> {
    (0..count).map(move |number| Entry {
        name: Name::new(format!("{number:07}").as_bytes()).unwrap(),
        meta: Meta { mode: 0o644, mtime: Mtime { seconds, nanos: 0 } },
        body: Body::File { size: number, class: Class::Fine, id: FileId::of(&number.to_le_bytes()) },
        attributes: vec![],
    })
}

/// A sender of one directory, and who has its files with other times.
fn flat(count: u64) -> (Sender, Pages) {
    let mut sender = Sender::new(&Files0::new(), &Files0::new());
    let build = |seconds, pages: &mut Pages| {
        let mut dir = DirBuilder::default();
        entries(count, seconds).for_each(|entry| dir.push(&entry, pages).unwrap());
        dir.finish(pages).unwrap()
    };
    let mut held = Pages::new();
    build(1, &mut held);
    sender.new = build(2, &mut sender.pages);
    (sender, held)
}

fn is_complete(sender: &Sender, pages: &Pages) -> bool {
    let paths = changes(pages, None, Some(sender.new.id)).map(Result::unwrap).count() as u64;
    paths == sender.new.entries
}

#[test]
fn ids_of_files_that_are_here_hardly_travel() {
    let (sender, held) = flat(5_000);
    let ids: HashMap<BriefId, FileId> = entries(5_000, 0)
        .filter_map(|e| if let Body::File { id, .. } = e.body { Some((brief(&id), id)) } else { None })
        .collect();
    let known = |brief| Ok(ids.get(&brief).copied());
    let some = |brief: BriefId| Ok(ids.get(&brief).copied().filter(|_| brief[0] > 2));
    let lacking = ids.keys().filter(|brief| brief[0] <= 2).count();
    let of = |is_brief, guess: Guess<'_>| {
        let mut pages = held.clone();
        let bytes = descend(&sender, &mut pages, is_brief, guess).unwrap();
        assert!(is_complete(&sender, &pages));
        bytes
    };
    let (whole, _) = of(false, &nothing);
    let (most, rests) = of(true, &known);
    assert!(rests == 0 && most < whole - 26 * 5_000, "{most} of {whole} bytes");
    assert_eq!(of(true, &some), (most, lacking * REST_LEN));
    assert_eq!(of(true, &nothing), (most, 5_000 * REST_LEN));
}

#[test]
fn a_file_that_is_taken_for_another_one_is_asked_for() {
    let (sender, held) = flat(300);
    let wrong = |brief| Ok(Some(whole(brief, [7; REST_LEN])));
    let mut pages = held.clone();
    assert_eq!(descend(&sender, &mut pages, true, &wrong).unwrap().1, 300 * REST_LEN);
    assert!(is_complete(&sender, &pages));
    // Where others lack as well, it is seen when they have come: too late to ask.
    let one_wrong = |brief: BriefId| if brief[0] < 128 { wrong(brief) } else { Ok(None) };
    let ended = descend(&sender, &mut held.clone(), true, &one_wrong);
    assert!(matches!(ended, Err(DescentError::Mistaken)));
}

#[test]
fn a_round_has_so_many_cut_ids_and_then_whole_pages() {
    let (sender, mut pages) = flat(BRIEF_IDS_MAX as u64 + 1_000);
    let (_, rests) = descend(&sender, &mut pages, true, &nothing).unwrap();
    assert!(is_complete(&sender, &pages));
    let cut = rests / REST_LEN;
    assert!(cut <= BRIEF_IDS_MAX && cut > BRIEF_IDS_MAX - 256, "{cut}");
}

#[test]
fn what_a_sender_may_not_say_of_brief_pages_is_refused() {
    let (sender, held) = flat(100);
    let request = Descend { module: "m".into(), head: head_id(&sender.new), brief: true };
    // What a sender says, up to the first REST, and who asks.
    let begin = || {
        let mut pages = held.clone();
        let mut descent = Descent::new(sender.new.id, &nothing);
        let mut answer = Answer::start(&sender, &Message::new(tag::DESCEND, &request));
        loop {
            match answer.next_output() {
                Output::Message(message) if message.tag == tag::REST => return (descent, pages, message.body),
                Output::Message(message) => descent.pages(&message.body, &mut pages).unwrap(),
                Output::Wait => {
                    let want = descent.next_round(&pages).unwrap().flatten();
                    answer.handle(want.as_ref());
                }
                Output::Done => panic!("no rest came"),
            }
        }
    };
    let refused = |what: &str, body: Vec<u8>| {
        let (mut descent, mut pages, _) = begin();
        assert!(descent.rest(&body, &mut pages).is_err(), "{what}");
    };
    let (mut descent, mut pages, right) = begin();
    refused("nothing", vec![]);
    refused("a cut id", right[..right.len() - 1].to_vec());
    refused("more than was asked for", [&right[..], &[0; REST_LEN]].concat());
    refused("other ids", vec![9; right.len()]);
    let page = pack(&encode(&[serde_bytes::ByteBuf::from(sender.pages[sender.new.id.as_bytes()].clone())]));
    assert!(descent.pages(&page, &mut pages).is_err(), "pages before what is left of ids");
    // In any parts it is taken, and not twice.
    for part in right.chunks(3 * REST_LEN) {
        assert!(descent.next_round(&pages).unwrap().is_none());
        descent.rest(part, &mut pages).unwrap();
    }
    assert!(is_complete(&sender, &pages));
    assert!(descent.rest(&right, &mut pages).is_err(), "again");

    // A page that is another one, with files and without.
    let mut other = |entries: Vec<Entry>| {
        let mut none = Pages::new();
        let built = build(&entries, &mut none).unwrap();
        let body = pack(&encode(&[serde_bytes::ByteBuf::from(none[built.id.as_bytes()].clone())]));
        let mut descent = Descent::new(DirId::of(b"another"), &nothing);
        let taken = descent.pages(&body, &mut pages);
        (taken.is_err(), descent.next_round(&pages).unwrap().flatten())
    };
    assert_eq!(other(vec![]), (true, None), "nothing was cut in it");
    let (refused, want) = other(entries(2, 0).collect());
    assert!(!refused && want.is_some(), "it may be brief until its ids have come");
    assert!(unpack(&page).is_ok());
}
