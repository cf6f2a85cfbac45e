//! Bytes per second of the way from disk to wire, stage by stage.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use mirra::delta::blocks::BLOCK;
use mirra::delta::diff::{Around, Hashing, Search};
use mirra::delta::rabin::Rabin;
use mirra::protocol::batch::{Batch, BatchWriter};
use mirra::protocol::change::{ChangeReader, ChangeWriter};
use mirra::protocol::noise::{Initiator, NoiseError, Responder, SecretKey, Transport};
use mirra::protocol::preface::PREFACE;
use mirra::protocol::record::Record;
use mirra::tree::chunker::Class;
use mirra::tree::dir::{Built, DirKind, build};
use mirra::tree::entry::{Body, Entry, Meta};
use mirra::tree::hash::{ChunkId, FileId};
use mirra::tree::list::{Chunk, ListBuilder, ListKind};
use mirra::tree::name::Name;
use mirra::tree::page::{Kind, Page, Pages, Trust};

/// Bytes of content that are cut and hashed.
const CONTENT: usize = 8 << 20;
/// Bytes of one record as content travels.
const RECORD: usize = 60_000;
/// Entries of the directory whose changes and pages are read.
const ENTRIES: u32 = 10_000;

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn group<'c>(c: &'c mut Criterion, name: &str, bytes: usize) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Bytes(bytes as u64));
    group
}

fn cut(class: Class, content: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut chunks) = (content, Vec::new());
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at(class.cut(rest));
        chunks.push(chunk);
        rest = tail;
    }
    chunks
}

fn hash(chunks: &[&[u8]]) -> Vec<Chunk> {
    chunks.iter().map(|chunk| Chunk { id: ChunkId::of(chunk), len: chunk.len() as u32 }).collect()
}

fn content(c: &mut Criterion) {
    let content = noise(CONTENT);
    let mut group = group(c, "content", CONTENT);
    for (name, class) in [("fine", Class::Fine), ("coarse", Class::Coarse)] {
        let chunks = cut(class, &content);
        group.bench_function(format!("cut {name}"), |b| b.iter(|| cut(class, black_box(&content))));
        group.bench_function(format!("hash {name}"), |b| b.iter(|| hash(black_box(&chunks))));
        group.bench_function(format!("cut and hash {name}"), |b| b.iter(|| hash(&cut(class, black_box(&content)))));
    }
}

/// What block lists cost beside the rest of the read that makes them.
fn lists(c: &mut Criterion) {
    let content = noise(CONTENT);
    let rabin = Rabin::new(&[7; 32]);
    let list = |chunks: &[&[u8]]| {
        let mut hashes = Vec::with_capacity(2 * CONTENT / BLOCK);
        chunks.iter().for_each(|chunk| rabin.list(chunk, BLOCK, &mut hashes));
        hashes
    };
    let mut group = group(c, "lists", CONTENT);
    group.bench_function("cut and hash", |b| b.iter(|| hash(&cut(Class::Fine, black_box(&content)))));
    group.bench_function("cut, hash and list", |b| {
        b.iter(|| {
            let chunks = cut(Class::Fine, black_box(&content));
            (hash(&chunks), list(&chunks))
        });
    });
    let chunks = cut(Class::Fine, &content);
    group.bench_function("list", |b| b.iter(|| list(black_box(&chunks))));
}

fn directory(pages: &mut Pages) -> Built {
    let entry = |number: u32| Entry {
        name: Name::new(format!("file-{number:08}").as_bytes()).expect("a good name"),
        meta: Meta::default(),
        body: Body::File { size: 5_000, class: Class::Fine, id: FileId::of(&number.to_le_bytes()) },
        attributes: Vec::new(),
    };
    build(&(0..ENTRIES).map(entry).collect::<Vec<_>>(), pages).expect("memory takes all pages")
}

fn messages(c: &mut Criterion) {
    let mut pages = Pages::new();
    let built = directory(&mut pages);
    let mut writer = ChangeWriter::new(&pages, None, built.id).expect("all pages are there");
    let changes: Vec<_> = std::iter::from_fn(|| writer.next_message().expect("all pages are there")).collect();
    let size = changes.iter().map(|message| message.body.len()).sum();
    group(c, "messages", size).bench_function("changes of 10,000 entries", |b| {
        b.iter(|| {
            let (mut reader, mut pages) = (ChangeReader::new(None, u64::MAX), Pages::new());
            changes.iter().for_each(|message| reader.apply(&message.body, &mut pages).expect("honest changes"));
            reader.finish(&mut pages).expect("honest changes")
        });
    });

    let text = b"What a batch carries when a tree of text is new to the receiver. ".repeat(1 << 14);
    let mut writer = BatchWriter::default();
    cut(Class::Fine, &text).into_iter().for_each(|chunk| writer.chunk(chunk));
    writer.end();
    let batch = writer.take();
    group(c, "messages", text.len()).bench_function("batch", |b| {
        b.iter(|| {
            Batch::decode(black_box(&batch.body)).and_then(|batch| batch.literals(&[])).expect("an honest batch")
        });
    });
}

/// New bytes searched for blocks of old ones by a list as a root keeps it: where nothing is shared, where little things have
/// changed all over, and where half of all
/// are zeros or equal numbers.
fn search(c: &mut Criterion) {
    let rabin = std::sync::Arc::new(Rabin::new(&[9; 32]));
    let mut old = noise(4 * CONTENT);
    let with_zeros = |bytes: &mut [u8]| {
        bytes.chunks_mut(4_096).for_each(|page| page.iter_mut().skip(2_000).for_each(|byte| *byte = 0))
    };
    let with_numbers = |bytes: &mut [u8]| {
        let pages = bytes.chunks_mut(4_096);
        pages.for_each(|page| {
            page.iter_mut().skip(2_000).enumerate().for_each(|(at, byte)| *byte = u8::from(at % 4 == 0))
        });
    };
    with_zeros(old.get_mut(..CONTENT).unwrap_or_default());
    with_numbers(old.get_mut(3 * CONTENT..).unwrap_or_default());
    let (mut hashes, mut ranges, mut at) = (Vec::new(), Vec::new(), 0);
    for chunk in cut(Class::Fine, &old) {
        rabin.list(chunk, BLOCK, &mut hashes);
        ranges.push((at, chunk.len() as u64));
        at += chunk.len() as u64;
    }
    let hashing = Hashing { rabin, block: BLOCK, bits: 32 };
    let search = Search::of_some(hashing, &ranges, hashes, |_| 1);
    let mut edited = old.get(CONTENT..2 * CONTENT).unwrap_or_default().to_vec();
    edited.iter_mut().step_by(400).for_each(|byte| *byte ^= 1);
    let other: Vec<u8> = noise(CONTENT + 1).into_iter().rev().collect();
    let mut zeros = other.clone();
    with_zeros(&mut zeros);
    let mut numbers = other.clone();
    with_numbers(&mut numbers);
    let mut group = group(c, "search", CONTENT);
    for (name, new) in
        [("nothing shared", &other), ("edited all over", &edited), ("zeros", &zeros), ("numbers", &numbers)]
    {
        group.bench_function(name, |b| b.iter(|| search.steps(black_box(new), Around::default())));
    }
}

fn pages(c: &mut Criterion) {
    fn decode<K: Kind>(c: &mut Criterion, name: &str, pages: &Pages) {
        let size = pages.values().map(Vec::len).sum();
        group(c, "pages", size).bench_function(name, |b| {
            b.iter(|| {
                pages.values().for_each(|page| drop(Page::<K>::decode(page, Trust::Peer).expect("honest pages")))
            });
        });
    }
    let mut directories = Pages::new();
    directory(&mut directories);
    decode::<DirKind>(c, "directory", &directories);
    let (mut lists, mut builder) = (Pages::new(), ListBuilder::default());
    for number in 0..ENTRIES {
        let chunk = Chunk { id: ChunkId::of(&number.to_le_bytes()), len: 8_000 };
        builder.push(chunk, &mut lists).expect("memory takes all pages");
    }
    builder.finish(&mut lists).expect("memory takes all pages");
    decode::<ListKind>(c, "chunk list", &lists);
}

fn shake() -> Result<(Transport, Transport), NoiseError> {
    let key = |byte| SecretKey::from_bytes([byte; 32]);
    let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
    let initiator = <Initiator<_>>::new(&PREFACE, key(1), [2; 32]).write_first(&[], &mut first)?;
    let (responder, _) = <Responder<_>>::new(&PREFACE, key(3), [4; 32]).read_first(&first)?;
    let responder = responder.write_second(&[], &mut second)?;
    let ours = initiator.read_second(&second)?.0.write_third(&[], &mut third)?;
    Ok((ours, responder.read_third(&third)?.0))
}

fn channel(c: &mut Criterion) {
    let (mut ours, mut theirs) = shake().expect("two honest ends agree");
    let body = noise(RECORD);
    let mut group = group(c, "records", RECORD);
    let mut sealed = Vec::with_capacity(2 * RECORD);
    let record = Record::Data { stream: 1, last: false, bytes: &body };
    group.bench_function("seal", |b| {
        b.iter(|| {
            sealed.clear();
            record.write(&mut ours.sealer, &mut sealed).expect("records are left");
        });
    });
    // The opener takes each record once and in order, so they are sealed before the time runs.
    let (mut ours, _) = shake().expect("two honest ends agree");
    group.bench_function("open", |b| {
        b.iter_batched(
            || {
                let mut body = body.clone();
                let tag = ours.sealer.seal(&mut body).expect("records are left");
                (body, tag)
            },
            |(mut body, tag)| {
                theirs.opener.open(&mut body, &tag).expect("an honest record");
                body
            },
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
    let mut group = c.benchmark_group("handshake");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group.bench_function("both ends", |b| b.iter(|| shake().expect("two honest ends agree")));
}

criterion_group!(benches, content, lists, search, messages, pages, channel);
criterion_main!(benches);
