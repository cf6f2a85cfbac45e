//! What is pushed and what is kept: nothing of it is believed before it is whole, and within its bounds.

use std::rc::Rc;

use mirra::protocol::change::ChangeReader;
use mirra::protocol::fetch::{Fetch, Have, Landing, Shelf, Wanted};
use mirra::protocol::limits::{PUSH_CHANGES_MAX, PUSH_CONTENT_MAX};
use mirra::protocol::message::{Message, Offer, tag};
use mirra::protocol::pack::{Pack, PushReader};
use mirra::tree::chunker::Class;
use mirra::tree::codec::decode;
use mirra::tree::hash::{ChunkId, FileId};
use mirra::tree::page::{Discard, PageSink};

/// A push is refused, or a pack that can be kept, sent and applied. The first byte chooses between the messages of a
/// push, a file, and a file that was damaged before its checksum was made.
pub(crate) fn push(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let pack = match mode % 3 {
        0 => {
            let mut messages = super::messages(bytes).into_iter();
            let Some(first) = messages.next().filter(|first| first.tag == tag::OFFER) else { return };
            let Ok(offer) = decode::<Offer>("offer", &first.body) else { return };
            let pack = read(offer, messages);
            if let Some(pack) = &pack {
                assert!(pack.content_bytes() <= PUSH_CONTENT_MAX, "more was taken than may be pushed");
            }
            pack
        }
        1 => Pack::decode(bytes).ok(),
        _ => Pack::decode(&[bytes, blake3::hash(bytes).as_bytes()].concat()).ok(),
    };
    if let Some(pack) = pack {
        holds(&pack);
    }
}

fn read(offer: Offer, messages: impl Iterator<Item = Message>) -> Option<Pack> {
    let mut reader = PushReader::new(offer).ok()?;
    let mut whole = reader.whole().ok()?;
    for message in messages {
        if whole.is_some() {
            assert!(reader.take(message).is_err(), "more is taken behind the whole");
            return whole;
        }
        whole = reader.take(message).ok()?;
    }
    whole
}

fn holds(pack: &Pack) {
    let changes: usize = pack.changes().iter().map(|body| body.len() + 5).sum();
    assert!(changes <= PUSH_CHANGES_MAX);
    let file = pack.encode();
    assert_eq!(Pack::decode(&file).as_ref(), Ok(pack), "what is kept is what was taken");
    assert_eq!(Pack::peek(&file), Some((pack.base, pack.head)));
    for with_content in [false, true] {
        let mut messages = pack.messages(with_content);
        let Some(first) = messages.next() else { panic!("a push begins with an OFFER") };
        let offer = decode("offer", &first.body).expect("our own OFFER is good");
        let again = read(offer, messages);
        let sent = !with_content || pack.content_bytes() <= PUSH_CONTENT_MAX;
        assert_eq!(again.is_some(), sent, "what is sent is taken");
        assert!(again.is_none_or(|again| again.changes() == pack.changes()));
    }
    for literal in pack.literals() {
        let literals = pack.literals_of(literal.message).expect("a literal is in a batch that can be read");
        assert_eq!(ChunkId::of(&literals[literal.at..literal.at + literal.len]), literal.chunk);
    }
    apply(pack);
}

/// Applies it to a tree that it is not of, with files that it does not have: refused, without harm.
fn apply(pack: &Pack) {
    let library = super::Library::new();
    let mut pages = library.pages.clone();
    let mut reader = ChangeReader::new(Some(library.old), 1_000);
    if pack.changes().iter().all(|body| reader.apply(body, &mut pages).is_ok()) {
        let _ = reader.finish(&mut pages);
    }
    let mut fetch = Fetch::default();
    for item in pack.files() {
        let (path, way) = (item.path.clone(), item.way);
        fetch.expect(Wanted { path, id: FileId::of(b"none"), size: 10_000, class: Class::Fine, way });
    }
    for message in pack.content() {
        let taken = match message.tag {
            tag::LEAVES => fetch.leaves(&message.body).is_ok(),
            _ => fetch.batch(&message.body, &mut Nowhere(Discard)).is_ok(),
        };
        if !taken {
            return;
        }
    }
    assert_eq!(fetch.outstanding(), 0, "the content of a pack ends with its last file");
}

/// A place that keeps nothing and has nothing.
pub(crate) struct Nowhere(pub(crate) Discard);

impl Landing for Nowhere {
    fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn finish(self: Box<Self>) -> std::io::Result<()> {
        Ok(())
    }
    fn discard(self: Box<Self>) {}
}

impl Shelf for Nowhere {
    fn begin(&mut self, _: &Wanted) -> std::io::Result<Box<dyn Landing>> {
        Ok(Box::new(Self(Discard)))
    }
    fn basis(&mut self, _: &mirra::tree::name::TreePath) -> Option<Rc<dyn Have>> {
        None
    }
    fn own(&mut self, _: &Wanted) -> Option<Rc<dyn Have>> {
        None
    }
    fn pages(&mut self) -> &mut dyn PageSink {
        &mut self.0
    }
}
