//! Chunks, entries, pages and ids.

use mirra::tree::chunker::Class;
use mirra::tree::codec::encode;
use mirra::tree::dir::{Built, DirKind, build};
use mirra::tree::entry::{Attribute, Body, Entry, Meta, Mtime};
use mirra::tree::hash::{Authority, ChunkId, DirId, FileId, HeadId, ModuleId, authority_text};
use mirra::tree::list::{Chunk, ListBuilder, ListKind};
use mirra::tree::name::Name;
use mirra::tree::page::{Kind, Page, Pages, Trust};
use serde_json::{Value, json};

use super::{check, hex, noise};

fn gear() -> Vec<u64> {
    fastcdc::v2020::get_gear_with_seed(0).0.into_owned()
}

#[test]
fn gear_table() {
    let table: Vec<String> = gear().iter().map(|value| format!("{value:016x}")).collect();
    check("gear.json", &json!({ "about": "The 256 values of GEAR by byte, hexadecimal.", "gear": table }));
}

/// The chunker as PROTOCOL.md words it, byte by byte.
fn cut_as_written(data: &[u8], class: Class, gear: &[u64]) -> usize {
    let (min, normal, max, strict, loose) = match class {
        Class::Fine => (2_048, 8_192, 32_768, 0x0000_d903_1353_0000, 0x0000_d901_0353_0000),
        Class::Coarse => (16_384, 65_536, 262_144, 0x0000_d907_0353_7000, 0x0000_d90f_0353_0000_u64),
    };
    let n = data.len().min(max);
    if n <= min {
        return n;
    }
    let even = |i: usize| i - i % 2;
    let mut hash = 0u64;
    for i in min..even(n) {
        hash = (hash << 1).wrapping_add(gear[usize::from(data[i])]);
        let mask = if i < even(normal.min(n)) { strict } else { loose };
        if hash & mask == 0 {
            return i;
        }
    }
    n
}

fn cut(data: &[u8], class: Class) -> Vec<Chunk> {
    let (mut at, mut list, gear) = (0, Vec::new(), gear());
    while at < data.len() {
        let len = class.cut(&data[at..]);
        assert_eq!(len, cut_as_written(&data[at..], class, &gear), "{class:?} at {at}");
        list.push(Chunk { id: ChunkId::of(&data[at..at + len]), len: u32::try_from(len).unwrap() });
        at += len;
    }
    list
}

fn list(chunks: &[Chunk]) -> (FileId, Pages) {
    let (mut pages, mut builder) = (Pages::new(), ListBuilder::default());
    chunks.iter().for_each(|chunk| builder.push(*chunk, &mut pages).unwrap());
    (builder.finish(&mut pages).unwrap().0, pages)
}

#[test]
fn chunk_boundaries() {
    let data = |label: &str, data: Vec<u8>, class: Class| {
        let chunks = cut(&data, class);
        let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.len).collect();
        let ids: Vec<String> = chunks.iter().take(3).map(|chunk| chunk.id.to_string()).collect();
        json!({ "data": label, "length": data.len(), "class": class.number(), "chunks": lengths,
            "first_ids": ids, "file_id": list(&chunks).0.to_string() })
    };
    let mut made = Vec::new();
    for class in [Class::Fine, Class::Coarse] {
        for len in [0, 1, 2_048, 2_049, 5_001, 16_385, 40_001, 300_001, 1_500_000] {
            made.push(data("noise", noise("noise", len), class));
        }
        made.push(data("zeros", vec![0; 600_001], class));
    }
    let about =
        "Where content is cut. Data: \"noise\" is the first bytes of the extended output of BLAKE3 of that word.";
    check("chunks.json", &json!({ "about": about, "files": made }));
}

#[test]
fn the_text_and_the_code_cut_alike() {
    for seed in 0..60 {
        let data = noise(&format!("seed {seed}"), 1_000 * seed + seed);
        // Few different bytes make other hashes than noise does.
        let poor: Vec<u8> = data.iter().map(|byte| byte & 3).collect();
        for class in [Class::Fine, Class::Coarse] {
            cut(&data, class);
            cut(&poor, class);
        }
    }
}

fn entry(name: &[u8], mode: u16, mtime: (i64, u32), body: Body, attributes: Vec<Attribute>) -> Entry {
    let meta = Meta { mode, mtime: Mtime { seconds: mtime.0, nanos: mtime.1 } };
    Entry { name: Name::new(name).unwrap(), meta, body, attributes }
}

fn numbered(i: u32) -> Entry {
    let body = Body::File { size: u64::from(i), class: Class::Fine, id: FileId::of(&i.to_le_bytes()) };
    entry(format!("{i:06}").as_bytes(), 0o644, (0, 0), body, vec![])
}

fn entries() -> Vec<(&'static str, Entry)> {
    let file = |size, class| Body::File { size, class, id: FileId::of(b"") };
    let attributes = vec![
        Attribute { tag: 7, critical: false, value: b"value".to_vec() },
        Attribute { tag: 300, critical: true, value: vec![] },
    ];
    let directory = Body::Directory { entries: 300, bytes: 1 << 33, id: DirId::of(b"") };
    let link = Body::Link { target: (*b"../there").into() };
    vec![
        ("fine file", entry(b"a", 0o644, (1_700_000_000, 123_456_789), file(300, Class::Fine), vec![])),
        ("coarse file of 2^40 bytes", entry(b"b", 0o755, (0, 0), file(1 << 40, Class::Coarse), vec![])),
        ("name that is not UTF-8, time before 1970", entry(b"\xff\xfe", 0, (-5, 1), file(0, Class::Fine), vec![])),
        ("directory", entry(b"d", 0o700, (1, 0), directory, vec![])),
        ("link", entry(b"l", 0o777, (1, 0), link, vec![])),
        ("file with attributes", entry(b"x", 0o600, (1, 0), file(1, Class::Fine), attributes)),
    ]
}

fn list_of(n: u32) -> Value {
    let chunks: Vec<Chunk> = (0..n).map(|i| Chunk { id: ChunkId::of(&i.to_le_bytes()), len: i + 1 }).collect();
    let (id, pages) = list(&chunks);
    let mut made = json!({ "chunks": n, "id": id.to_string(), "stored_pages": pages.len() });
    if let Some(top) = pages.get(id.as_bytes()) {
        describe::<ListKind>(&mut made, top);
    }
    made
}

fn directory_of(n: u32) -> Value {
    let (mut pages, entries) = (Pages::new(), (0..n).map(numbered).collect::<Vec<_>>());
    let Built { id, entries, bytes } = build(&entries, &mut pages).unwrap();
    let mut made = json!({ "id": id.to_string(), "entries": entries, "bytes": bytes, "stored_pages": pages.len() });
    describe::<DirKind>(&mut made, &pages[id.as_bytes()]);
    made
}

/// Adds the top page, whole if it is short, and what it holds.
fn describe<K: Kind>(made: &mut Value, top: &[u8]) {
    let page = Page::<K>::decode(top, Trust::Peer).unwrap();
    made["top_level"] = page.level().into();
    if top.len() < 2_000 {
        made["top_page"] = hex(top).into();
    }
    if let Page::Upper(_, ups) = &page {
        let below: Vec<u64> = ups.iter().map(|up| K::parts(up).2[0]).collect();
        made["items_below_each_reference"] = below.into();
    }
}

#[test]
fn entries_pages_and_ids() {
    let named: Vec<Value> =
        entries().iter().map(|(what, entry)| json!({ "what": what, "bytes": hex(&encode(entry)) })).collect();
    let mut pages = Pages::new();
    let sorted: Vec<Entry> = {
        let mut all: Vec<Entry> = entries().into_iter().map(|(_, entry)| entry).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    };
    let all = build(&sorted, &mut pages).unwrap();
    let one = list(&[Chunk { id: ChunkId::of(b"hello\n"), len: 6 }]).0;
    let long = [Chunk { id: ChunkId::of(b"hello\n"), len: 6 }; 300];
    let authority = Authority::of(b"payload");
    let lists = [0, 1, 2, 15, 16, 17, 100, 300, 20_000].map(list_of);
    let directories = [0, 1, 16, 17, 100, 300, 20_000].map(directory_of);
    let one_page = Page::<ListKind>::Leaf(vec![long[0]]).encode();
    let made = json!({
        "about": "Entries, pages and ids. Numbered chunks: id is BLAKE3 of the number as four little-endian bytes, length is \
                  number + 1. Numbered entries: name is the number with six digits, mode 0644, mtime 0, size is the number, \
                  class 0, id is the file page id of its four little-endian bytes, no attributes.",
        "ids": {
            "chunk of hello\\n": ChunkId::of(b"hello\n").to_string(),
            "file page of no bytes": FileId::of(b"").to_string(),
            "directory page of no bytes": DirId::of(b"").to_string(),
            "head of no bytes": HeadId::of(b"").to_string(),
            "authority of payload": authority.to_string(),
            "authority of payload, as text": authority_text(&authority),
            "module demo of that authority": ModuleId::of(&authority, "demo").to_string(),
            "empty file": list(&[]).0.to_string(),
            "file of hello\\n": one.to_string(),
            "file of 300 times hello\\n as chunks of their own": list(&long).0.to_string(),
            "empty directory": build(&[], &mut Pages::new()).unwrap().id.to_string(),
            "directory of all entries here": all.id.to_string(),
        },
        "entries": named,
        "pages": {
            "empty directory or list": hex(&Page::<DirKind>::Leaf(vec![]).encode()),
            "list of one chunk hello\\n": hex(&one_page),
            "directory of all entries here": hex(&pages[all.id.as_bytes()]),
        },
        "lists": lists,
        "directories": directories,
    });
    check("tree.json", &made);
}

/// An item or a reference: its key, its bytes, and what it adds to the sums above.
type Weighed<K> = (<K as Kind>::Key, Vec<u8>, [u64; 2]);

/// The id of the top page as PROTOCOL.md words the rule.
fn top_as_written<K: Kind>(level: u8, items: Vec<Weighed<K>>, ends: &dyn Fn(&K::Key) -> bool) -> [u8; 32] {
    let mut pages: Vec<Vec<Weighed<K>>> = vec![vec![]];
    for item in items {
        let open = pages.last().unwrap();
        let bytes: usize = open.iter().map(|(_, bytes, _)| bytes.len()).sum();
        if 5 + bytes + item.1.len() > 65_536 {
            pages.push(vec![]);
        }
        let key = item.0.clone();
        let open = pages.last_mut().unwrap();
        open.push(item);
        if open.len() == 256 || open.len() >= 16 && ends(&key) {
            pages.push(vec![]);
        }
    }
    if pages.len() > 1 {
        pages.retain(|page| !page.is_empty());
    }
    let ids: Vec<[u8; 32]> = pages
        .iter()
        .map(|page| {
            let mut bytes = vec![0x92, level];
            match u8::try_from(page.len()) {
                Ok(count) if count < 16 => bytes.push(0x90 | count),
                _ => bytes.extend([0xdc, (page.len() >> 8) as u8, page.len() as u8]),
            }
            page.iter().for_each(|(_, item, _)| bytes.extend(item));
            K::id(&bytes)
        })
        .collect();
    if let [id] = ids[..] {
        return id;
    }
    let above = pages.iter().zip(ids).map(|(page, id)| {
        let sums = page.iter().fold([0; 2], |sums: [u64; 2], (_, _, w)| [sums[0] + w[0], sums[1] + w[1]]);
        let first = page[0].0.clone();
        (first.clone(), encode(&K::up(first, id, sums)), sums)
    });
    top_as_written::<K>(level + 1, above.collect(), ends)
}

#[test]
fn the_text_and_the_code_page_alike() {
    let by_name = |name: &Name| blake3::hash(name.as_bytes()).as_bytes()[0] & 0x1f == 0;
    for n in [0u32, 1, 15, 16, 17, 200, 3_000, 30_000] {
        for bulky in [false, true].into_iter().filter(|bulky| !bulky || n < 4_000) {
            let entries: Vec<Entry> = (0..n)
                .map(|i| {
                    let size = if bulky {
                        noise(&i.to_string(), 2).iter().fold(0, |n, b| n * 30 + usize::from(*b))
                    } else {
                        0
                    };
                    let value = vec![7; size];
                    Entry { attributes: vec![Attribute { tag: 1, critical: false, value }], ..numbered(i) }
                })
                .collect();
            let items = entries.iter().map(|entry| (entry.name.clone(), encode(entry), [1, 0])).collect();
            let built = build(&entries, &mut Pages::new()).unwrap();
            assert_eq!(*built.id.as_bytes(), top_as_written::<DirKind>(0, items, &by_name), "{n} entries");
        }
        let chunks: Vec<Chunk> = (0..n).map(|i| Chunk { id: ChunkId::of(&i.to_be_bytes()), len: i + 1 }).collect();
        let items = chunks.iter().map(|chunk| (chunk.id, encode(chunk), [1, u64::from(chunk.len)])).collect();
        let top = top_as_written::<ListKind>(0, items, &|id| id.as_bytes()[0] & 0x1f == 0);
        assert_eq!(*list(&chunks).0.as_bytes(), top, "{n} chunks");
    }
}
