//! Packs in a home of their own: kept, found, bounded, and missed without harm.

use super::*;
use crate::protocol::batch::BatchWriter;
use crate::protocol::message::{FileItem, Files, Message, Offer, tag, way};
use crate::protocol::pack::PushReader;
use crate::tree::list::{Chunk, file_id};
use crate::tree::name::TreePath;

fn id(number: u64) -> HeadId {
    HeadId::of(&number.to_be_bytes())
}

/// Bytes that do not shrink.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A pack from `number - 1` to `number` with one file of these chunks.
fn pack(number: u64, chunks: &[Vec<u8>]) -> Arc<Pack> {
    let mut batch = BatchWriter::default();
    chunks.iter().for_each(|chunk| batch.chunk(chunk));
    batch.end();
    let items = Files(vec![FileItem::plain(TreePath::new(b"f").unwrap(), way::ALL)]);
    let offer = Offer { head: id(number), base: Some(id(number - 1)), changes: 1, files: 1, content: 1 };
    let mut reader = PushReader::new(offer).unwrap();
    assert!(reader.take(Message { tag: tag::CHANGES, body: vec![0] }).unwrap().is_none());
    assert!(reader.take(items.message()).unwrap().is_none());
    Arc::new(reader.take(batch.take()).unwrap().unwrap())
}

fn home() -> (tempfile::TempDir, Home) {
    let place = tempfile::tempdir().unwrap();
    let home = Home::create(place.path()).unwrap();
    (place, home)
}

fn names(place: &tempfile::TempDir) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(place.path().join(".mirra/packs/m"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_kept_is_found_after_a_restart() {
    let (place, home) = home();
    let (first, second) = (pack(1, &[noise(1, 3_000), noise(2, 4_000)]), pack(2, &[noise(3, 500)]));
    let check = |store: &PackStore| {
        assert_eq!(store.get(&id(0), &id(1)), Some(first.clone()));
        assert_eq!(store.get(&id(1), &id(2)), Some(second.clone()));
        assert_eq!((store.get(&id(0), &id(2)), store.get(&id(1), &id(0))), (None, None));
        assert_eq!(store.bytes(), (first.encode().len() + second.encode().len()) as u64);
        for (seed, len) in [(2, 4_000), (1, 3_000), (3, 500), (1, 3_000)] {
            let bytes = noise(seed, len);
            assert_eq!(store.chunk(&ChunkId::of(&bytes)), Some(bytes));
        }
        assert_eq!(store.chunk(&ChunkId::of(b"another")), None);
        let alone = noise(3, 500);
        let file = file_id(&[Chunk { id: ChunkId::of(&alone), len: 500 }]).unwrap();
        assert_eq!(store.file(&file), Some(alone));
        let part = noise(2, 4_000);
        assert_eq!(store.file(&file_id(&[Chunk { id: ChunkId::of(&part), len: 4_000 }]).unwrap()), None);
    };
    let store = PackStore::open(&home, "m", 0).unwrap();
    store.put(1_001, first.clone());
    store.put(1_002, second.clone());
    check(&store);
    drop(store);
    check(&PackStore::open(&home, "m", 0).unwrap());
    assert_eq!(names(&place), ["1001", "1002"]);
    assert!(PackStore::open(&home, "other", 0).unwrap().get(&id(0), &id(1)).is_none());
}

#[test]
fn the_oldest_go_first_and_one_that_is_too_large_is_not_kept() {
    let (place, home) = home();
    let one = pack(1, &[noise(1, 10_000)]).encode().len() as u64;
    let store = PackStore::open_bounded(&home, "m", 3 * one + one / 2).unwrap();
    let old = noise(2, 10_000);
    for number in 1..=5 {
        store.put(number, pack(number, &[noise(number, 10_000)]));
        assert!(store.bytes() <= 3 * one + one / 2);
        assert_eq!(store.chunk(&ChunkId::of(&old)).is_some(), (2..=4).contains(&number), "after {number}");
    }
    assert_eq!(names(&place), ["3", "4", "5"]);
    assert!(store.get(&id(1), &id(2)).is_none() && store.get(&id(2), &id(3)).is_some());
    store.put(6, pack(6, &[noise(6, 20_000), noise(7, 20_000)]));
    assert_eq!(names(&place), ["3", "4", "5"]);
    drop(store);
    // A smaller bound is kept to at once.
    assert_eq!(PackStore::open_bounded(&home, "m", one).unwrap().bytes(), one);
    assert_eq!(names(&place), ["5"]);
}

#[test]
fn a_large_module_may_have_more_packs() {
    assert_eq!([0, 1 << 20, 1 << 40].map(bytes_max), [PACKS_BYTES, PACKS_BYTES, (1 << 40) / PACKS_SHARE]);
    let (_place, home) = home();
    let store = PackStore::open_bounded(&home, "m", 1).unwrap();
    store.put(1, pack(1, &[noise(1, 900)]));
    assert_eq!(store.bytes(), 0);
    store.fit(0);
    store.put(1, pack(1, &[noise(1, 900)]));
    assert!(store.bytes() > 900);
}

#[test]
fn a_pack_for_the_same_head_takes_the_place_of_the_one_before() {
    let (_place, home) = home();
    let store = PackStore::open(&home, "m", 0).unwrap();
    let old = noise(1, 900);
    store.put(7, pack(1, std::slice::from_ref(&old)));
    assert!(store.chunk(&ChunkId::of(&old)).is_some());
    store.put(7, pack(2, &[noise(2, 900)]));
    assert!(store.get(&id(0), &id(1)).is_none() && store.get(&id(1), &id(2)).is_some());
    assert!(store.chunk(&ChunkId::of(&old)).is_none() && store.chunk(&ChunkId::of(&noise(2, 900))).is_some());
}

#[test]
fn what_is_damaged_or_foreign_is_removed() {
    let (place, home) = home();
    let store = PackStore::open(&home, "m", 0).unwrap();
    for number in 1..=3 {
        store.put(number, pack(number, &[noise(number, 900)]));
    }
    drop(store);
    let path = |name: &str| place.path().join(".mirra/packs/m").join(name);
    let mut bytes = std::fs::read(path("2")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path("2"), bytes).unwrap();
    std::fs::write(path("3"), b"mirra pack").unwrap();
    std::fs::write(path("tmp"), b"of a run that was killed").unwrap();
    std::fs::write(path("04"), std::fs::read(path("1")).unwrap()).unwrap();
    let store = PackStore::open(&home, "m", 0).unwrap();
    assert_eq!(names(&place), ["1", "2"]);
    assert!(store.get(&id(1), &id(2)).is_none());
    assert_eq!(names(&place), ["1"]);
    assert!(store.chunk(&ChunkId::of(&noise(1, 900))).is_some());
    // Removed by somebody while it was kept, before it was read.
    let store = PackStore::open(&home, "m", 0).unwrap();
    std::fs::remove_file(path("1")).unwrap();
    assert!(store.get(&id(0), &id(1)).is_none() && store.bytes() == 0);
}
