//! A receiver that descends believes no page but by its id, whatever comes.

use std::collections::HashSet;

use mirra::protocol::brief::{BriefId, REST_LEN, whole};
use mirra::protocol::descent::Descent;
use mirra::protocol::limits::WANT_MAX;
use mirra::protocol::message::tag;
use mirra::protocol::packed::pack;
use mirra::tree::dir::{Built, build};
use mirra::tree::entry::{Body, Entry, Meta};
use mirra::tree::hash::{DirId, FileId};
use mirra::tree::name::Name;
use mirra::tree::page::{PageError, Pages};

/// Files of the top directory.
const FILES: u8 = 4;

/// A directory of files whose ids are easy to write down, and one below it.
pub(crate) fn library(pages: &mut Pages) -> Built {
    let below = build(&[], pages).expect("memory is enough");
    let entry = |name: u8, body| Entry {
        name: Name::new(&[name]).expect("a letter"),
        meta: Meta::default(),
        body,
        attributes: vec![],
    };
    let file =
        |number| Body::File { size: 1, class: mirra::tree::chunker::Class::Fine, id: FileId::from_bytes([number; 32]) };
    let mut entries: Vec<Entry> = (0..FILES).map(|number| entry(b'a' + number, file(number))).collect();
    entries.push(entry(b'z', below.body()));
    build(&entries, pages).expect("memory is enough")
}

/// Messages of a sender: whatever they are, what is kept hashes to its id, and what is asked stays within its bounds. An even
/// first byte means that two of the files are here.
pub(crate) fn descent(data: &[u8]) {
    let Some((some, data)) = data.split_first() else { return };
    let guess = |brief: BriefId| -> Result<Option<FileId>, PageError> {
        let is_here = some.is_multiple_of(2) && brief[0] < FILES / 2;
        Ok(is_here.then(|| whole(brief, [brief[0]; REST_LEN])))
    };
    let top = library(&mut Pages::new()).id;
    let mut pages = Pages::new();
    let mut descent = Descent::new(top, &guess);
    for message in super::messages(data) {
        let taken = match message.tag {
            tag::PAGES => descent.pages(&pack(&message.body), &mut pages),
            _ => descent.rest(&message.body, &mut pages),
        };
        if taken.is_err() {
            break;
        }
        match descent.next_round(&pages).expect("memory does not fail") {
            None => {}
            Some(Some(want)) => assert!(want.body.len() <= WANT_MAX as usize),
            Some(None) => break,
        }
    }
    let kept: HashSet<DirId> = pages
        .iter()
        .map(|(id, page)| {
            assert_eq!(DirId::of(page).as_bytes(), id);
            DirId::from_bytes(*id)
        })
        .collect();
    assert!(kept.len() <= 64 * data.len(), "{} pages of {} bytes", kept.len(), data.len());
}
