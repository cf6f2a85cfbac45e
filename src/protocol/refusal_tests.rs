//! What no honest peer sends, one message at a time.

use std::rc::Rc;

use super::batch::{Batch, BatchWriter};
use super::change::columns::write;
use super::change::{ChangeError, ChangeReader};
use super::descent::{Descent, ListReader, ShortList};
use super::fetch::{Fetch, Have, Landing, Outcome, Shelf, Wanted};
use super::limits::{CHUNKS_MAX, LEAVES_MAX, SHORT_LEN};
use super::message::{Chunks, LeafRefs, List, Message, Refused, WireChange, WireContent, operation, tag, way};
use super::packed::pack;
use super::step::{Step, encode_steps};
use crate::tree::chunker::Class;
use crate::tree::codec::{decode, encode};
use crate::tree::dir::{Built, DirKind, DirRef, build, empty};
use crate::tree::edit::EditError;
use crate::tree::entry::{Body, Entry, Meta, Mtime};
use crate::tree::hash::{ChunkId, DirId, FileId};
use crate::tree::limits::{PATH_DEPTH_MAX, SAMPLES_MAX};
use crate::tree::list::ListRef;
use crate::tree::name::{Name, TreePath};
use crate::tree::page::{Discard, Page, PageSink, Pages};

fn record(operation: u8) -> WireChange {
    let (mode, mtime, content, attributes) = (None, None, None, None);
    WireChange { keep: 0, rest: b"d".to_vec(), operation, mode, mtime, content, attributes }
}

fn apply(base: Option<Built>, pages: &mut Pages, record: WireChange) -> Result<(), ChangeError> {
    ChangeReader::new(base, 9).apply(&pack(&write(&[record])), pages)
}

#[test]
fn a_held_directory_that_is_not_held_is_refused() {
    let mut pages = Pages::new();
    let name = Name::new(b"f").unwrap();
    let link = Body::Link { target: (*b"x").into() };
    let meta = Meta { mode: 0o777, ..Meta::default() };
    let base = build(&[Entry { name, meta, body: link, attributes: vec![] }], &mut pages).unwrap();
    let held = |id| WireChange { content: Some(WireContent::Directory(id)), ..record(operation::HELD_DIRECTORY) };
    for base in [None, Some(base)] {
        let got = apply(base, &mut pages, held(DirId::of(b"not here")));
        assert!(matches!(got, Err(ChangeError::Edit(EditError::NoDirectory(_)))), "{got:?}");
    }
    apply(Some(base), &mut pages, held(base.id)).unwrap();
    // A page that is held, and is no directory of its own: names do not begin where they should.
    let upper = Page::<DirKind>::Upper(1, vec![DirRef(Name::new(b"a").unwrap(), base.id, 1)]).encode();
    let id = DirId::of(&upper);
    pages.put(id.as_bytes(), &upper).unwrap();
    let got = apply(Some(base), &mut pages, held(id));
    assert!(matches!(got, Err(ChangeError::Malformed(_))), "{got:?}");
}

#[test]
fn changes_that_say_what_their_operation_does_not_mean_are_refused() {
    let mut pages = Pages::new();
    let base = build(&[], &mut pages).unwrap();
    let mut refused = |record| assert!(matches!(apply(Some(base), &mut pages, record), Err(ChangeError::Malformed(_))));
    let mtime = Some(Mtime::default());
    refused(WireChange { mode: Some(1), ..record(operation::REMOVE) });
    refused(WireChange { mtime, ..record(operation::REMOVE) });
    refused(WireChange { attributes: Some(Vec::new()), ..record(operation::REMOVE) });
    for operation in [operation::REMOVE, operation::DIRECTORY] {
        refused(WireChange { content: Some(WireContent::Link(b"x".to_vec())), ..record(operation) });
    }
    // Nothing is there whose content could be meant.
    for operation in [operation::FILE, operation::LINK, operation::HELD_DIRECTORY] {
        refused(WireChange { mtime, ..record(operation) });
    }
    let nanos = Some(Mtime { seconds: 0, nanos: 1_000_000_000 });
    refused(WireChange { mtime: nanos, ..record(operation::DIRECTORY) });
    refused(WireChange { mode: Some(0o1000), ..record(operation::DIRECTORY) });
    refused(WireChange { keep: 1, ..record(operation::DIRECTORY) });
    refused(WireChange { rest: Vec::new(), ..record(operation::DIRECTORY) });
    refused(record(5));
    refused(record(7));
    apply(Some(base), &mut pages, record(operation::DIRECTORY)).unwrap();
}

#[test]
fn paths_that_are_long_only_when_written_out_are_bounded() {
    let mut pages = Pages::new();
    let deep = "x/".repeat(PATH_DEPTH_MAX - 1);
    let mut records: Vec<_> = (1..PATH_DEPTH_MAX).map(|depth| deep[..2 * depth - 1].to_owned()).collect();
    records.extend((0..20_000).map(|i| format!("{deep}{i:05}")));
    let mut last = String::new();
    let records: Vec<_> = records
        .into_iter()
        .map(|path| {
            let keep = last.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
            let change = WireChange {
                keep: u32::try_from(keep).unwrap(),
                rest: path.as_bytes()[keep..].to_vec(),
                ..record(operation::DIRECTORY)
            };
            last = path;
            change
        })
        .collect();
    let mut apply = |count| {
        let body = pack(&write(&records[..count]));
        ChangeReader::new(None, 1 << 20).apply(&body, &mut pages).map_err(|error| error.to_string())
    };
    apply(PATH_DEPTH_MAX + 9_000).unwrap();
    assert!(apply(records.len()).unwrap_err().contains("paths of changes"));
}

#[test]
fn messages_that_bring_nothing_are_refused() {
    let mut pages = Pages::new();
    let nothing = pack(&encode(&Vec::<u8>::new()));
    assert!(ChangeReader::new(None, 9).apply(&nothing, &mut pages).is_err());
    assert!(Descent::new(empty(), &|_| Ok(None)).pages(&nothing, &mut pages).is_err());
    let part = |last, short, samples| encode(&Chunks { last, short, samples });
    let chunks = |body: Vec<u8>| ListReader::default().chunks(&body, 1 << 40, Class::Fine);
    assert!(chunks(part(false, Vec::new(), Vec::new())).is_err());
    assert_eq!(chunks(part(true, Vec::new(), Vec::new())).unwrap(), Some(ShortList::default()));
    assert!(chunks(part(false, vec![1; CHUNKS_MAX * SHORT_LEN], Vec::new())).is_ok());
    assert!(chunks(part(false, vec![1; (CHUNKS_MAX + 1) * SHORT_LEN], Vec::new())).is_err());
    assert!(chunks(part(true, vec![1; SHORT_LEN + 1], Vec::new())).is_err());
    assert!(chunks(part(true, vec![1; SHORT_LEN], vec![1; SAMPLES_MAX])).is_ok());
    assert!(chunks(part(true, vec![1; SHORT_LEN], vec![1; SAMPLES_MAX + 1])).is_err());
    assert!(chunks(part(false, vec![1; SHORT_LEN], vec![1])).is_err());
    assert!(Batch::decode(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]).is_err());
}

#[test]
fn leaves_come_once_and_only_for_whole_files() {
    let leaf = ListRef(ChunkId::of(b"x"), FileId::of(b"x"), 1, 1);
    let leaves = |last, count| encode(&LeafRefs { last, refs: vec![leaf.clone(); count] });
    let fetch = |way| {
        let mut fetch = Fetch::default();
        let path = TreePath::new(b"f").unwrap();
        fetch.expect(Wanted { path, id: FileId::of(b""), size: 1 << 40, class: Class::Fine, way });
        fetch
    };
    assert!(fetch(way::BASE).leaves(&leaves(true, 1)).is_err());
    assert!(fetch(way::ALL).leaves(&leaves(true, 0)).is_err());
    assert!(fetch(way::ALL).leaves(&leaves(true, LEAVES_MAX + 1)).is_err());
    let mut fetch = fetch(way::ALL);
    fetch.leaves(&leaves(false, 2)).unwrap();
    fetch.leaves(&leaves(true, 2)).unwrap();
    assert!(fetch.leaves(&leaves(true, 1)).is_err());
}

#[test]
fn a_basis_stands_at_the_start_of_its_file_and_a_prefix_before_packed_literals() {
    let batch = |steps: &[Step], prefix: u8| {
        let steps = encode_steps(steps);
        let mut body = vec![0, 0, 0, u8::try_from(steps.len()).unwrap(), 0, 0, 0, 0, 0, 0, 0, prefix, 0];
        body.extend(steps);
        Batch::decode(&body).is_ok()
    };
    let basis = || Step::Basis(TreePath::new(b"f").unwrap());
    let (copy, end) = (|| Step::Copy { from: 0, len: 1 }, || Step::End);
    assert!(batch(&[basis(), copy(), end(), basis(), copy()], 0));
    assert!(!batch(&[basis(), basis(), copy()], 0));
    assert!(!batch(&[copy(), basis(), copy()], 0));
    assert!(!batch(&[basis(), copy()], 1));
}

#[test]
fn every_body_is_an_array() {
    assert_eq!(Message::new(tag::LIST, &List(())).body, [0x90]);
    assert_eq!(Message::new(tag::REFUSED, &Refused(300)).body, [0x91, 0xcd, 1, 44]);
    assert_eq!(decode::<List>("list", &[0x90]).unwrap(), List(()));
    assert_eq!(decode::<Refused>("refusal", &[0x91, 4]).unwrap(), Refused(4));
    assert!(decode::<List>("list", &[0xc0]).is_err() && decode::<Refused>("refusal", &[4]).is_err());
}

/// A place that keeps nothing and has nothing.
struct Nowhere(Discard);

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
    fn basis(&mut self, _: &TreePath) -> Option<Rc<dyn Have>> {
        None
    }
    fn own(&mut self, _: &Wanted) -> Option<Rc<dyn Have>> {
        None
    }
    fn pages(&mut self) -> &mut dyn PageSink {
        &mut self.0
    }
}

#[test]
fn missing_context_makes_no_liar_of_who_sends_a_whole_file_in_the_same_batch() {
    let mut fetch = Fetch::default();
    for (path, way) in [(b"edited", way::BASE), (b"entire", way::ALL)] {
        let path = TreePath::new(path).unwrap();
        fetch.expect(Wanted { path, id: FileId::of(b""), size: 20_000, class: Class::Fine, way });
    }
    let mut writer = BatchWriter::default();
    writer.basis(TreePath::new(b"edited").unwrap());
    writer.step(Step::Copy { from: 0, len: 4_000 }, &[]);
    // Noise that only its context makes short, so that it cannot be read without.
    let mut noise = [0; 4_000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    writer.literal(&noise, &noise);
    writer.end();
    writer.chunk(&[3; 5_000]);
    let first = writer.take();
    assert!(Batch::decode(&first.body).unwrap().prefix_len > 0);
    writer.chunk(&[4; 5_000]);
    writer.end();
    let second = writer.take();
    let mut shelf = Nowhere(Discard);
    let mut ended = |body: &[u8]| match fetch.batch(body, &mut shelf).unwrap().as_slice() {
        [Outcome::Retry(wanted)] => wanted.path.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(ended(&first.body), "edited");
    assert_eq!(ended(&second.body), "entire");
}
