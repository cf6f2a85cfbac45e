//! Lists of blocks stay as long as something needs them and there is room, and no longer.

use super::*;
use crate::disk::index::blocks::{LISTS_BYTES_MIN, LISTS_SHARE, lists_bytes_max};

/// A list of so many hashes.
fn list(seed: u32, len: u32) -> Vec<u32> {
    (0..len).map(|i| i.wrapping_mul(0x9e37_79b9) ^ seed).collect()
}

fn put(index: &Index, module: ModuleNumber, content: &[u8], hashes: &[u32]) -> bool {
    let mut batch = index.batch().unwrap();
    let kept = batch.put_block_list(module, &FileId::of(content), hashes, u64::MAX).unwrap();
    batch.commit().unwrap();
    kept
}

fn put_row(index: &Index, module: ModuleNumber, at: &str, content: &[u8]) {
    let mut batch = index.batch().unwrap();
    batch.put_file(module, &path(at), &row(1, content)).unwrap();
    batch.commit().unwrap();
}

fn find(index: &Index, module: ModuleNumber, content: &[u8]) -> Option<Vec<u32>> {
    index.reader().unwrap().block_list(module, &FileId::of(content)).unwrap()
}

fn bytes(index: &Index, module: ModuleNumber) -> u64 {
    index.reader().unwrap().block_bytes(module).unwrap()
}

#[test]
fn lists_of_any_length_survive_a_restart_and_are_kept_once() {
    let (dir, index) = new_index();
    let (m, other) = (module(&index, "m"), module(&index, "other"));
    let lists = [1, 16 * 1024, 16 * 1024 + 1, 100_000].map(|len| list(len, len));
    for list in &lists {
        assert!(put(&index, m, &list.len().to_le_bytes(), list));
        assert!(put(&index, m, &list.len().to_le_bytes(), &[1, 2, 3]));
    }
    assert!(!put(&index, m, b"empty", &[]));
    drop(index);
    let index = Index::open(&dir.path().join("index.db")).unwrap();
    for list in &lists {
        assert!(find(&index, m, &list.len().to_le_bytes()).as_ref() == Some(list), "{}", list.len());
        assert_eq!(find(&index, other, &list.len().to_le_bytes()), None);
    }
    assert_eq!(bytes(&index, m), lists.iter().map(|list| 4 * list.len() as u64).sum::<u64>());
    assert_eq!(bytes(&index, other), 0);
}

#[test]
fn the_room_is_a_share_of_the_module_and_some_in_any_case() {
    assert_eq!(lists_bytes_max(0), LISTS_BYTES_MIN);
    assert_eq!(lists_bytes_max(LISTS_BYTES_MIN * LISTS_SHARE), LISTS_BYTES_MIN);
    assert_eq!(lists_bytes_max(1 << 40), (1 << 40) / LISTS_SHARE);
}

#[test]
fn when_there_is_no_room_the_oldest_of_the_past_go() {
    let (_dir, index) = new_index();
    let (m, other) = (module(&index, "m"), module(&index, "other"));
    // Each of two rows.
    let (len, each) = (20_000, 80_000);
    for n in 0..40u32 {
        put(&index, m, &n.to_le_bytes(), &list(n, len));
    }
    put(&index, other, b"other", &list(0, len));
    put_row(&index, m, "current", &0u32.to_le_bytes());
    index.trim_block_lists(m, 40 * each).unwrap();
    assert_eq!(bytes(&index, m), 40 * each, "there is room");
    index.trim_block_lists(m, 32 * each).unwrap();
    let kept: Vec<u32> = (0..40u32).filter(|n| find(&index, m, &n.to_le_bytes()) == Some(list(*n, len))).collect();
    assert_eq!(kept, [0].into_iter().chain(13..40).collect::<Vec<_>>());
    assert!((0..40u32).filter(|n| find(&index, m, &n.to_le_bytes()).is_some()).eq(kept), "none is left in part");
    assert_eq!((bytes(&index, m), bytes(&index, other)), (28 * each, each));
    index.trim_block_lists(m, 0).unwrap();
    assert_eq!(bytes(&index, m), each, "the list of a known file stays");
    index.check().unwrap();
}

#[test]
fn many_small_lists_are_trimmed_too() {
    let (_dir, index) = new_index();
    let m = module(&index, "m");
    let mut batch = index.batch().unwrap();
    for n in 0..3_000u32 {
        batch.put_block_list(m, &FileId::of(&n.to_le_bytes()), &list(n, 8), u64::MAX).unwrap();
    }
    batch.commit().unwrap();
    index.trim_block_lists(m, 32 * 1_600).unwrap();
    assert_eq!(bytes(&index, m), 32 * 1_400);
    assert!((0..3_000u32).all(|n| find(&index, m, &n.to_le_bytes()).is_some() == (n >= 1_600)));
}

#[test]
fn all_lists_of_a_module_go_when_it_wants_none_or_is_forgotten() {
    let (_dir, index) = new_index();
    let modules = ["a", "b", "c"].map(|name| module(&index, name));
    for m in modules {
        put(&index, m, b"one", &list(1, 10));
        put(&index, m, b"long", &list(2, 5_000_000));
        put_row(&index, m, "one", b"one");
    }
    index.drop_block_lists(modules[0]).unwrap();
    let mut batch = index.batch().unwrap();
    batch.forget_module(modules[1]).unwrap();
    batch.commit().unwrap();
    assert_eq!(modules.map(|m| find(&index, m, b"one").is_some()), [false, false, true]);
    assert_eq!(modules.map(|m| bytes(&index, m)), [0, 0, 20_000_040]);
    assert!(find(&index, modules[1], b"long").is_none());
}

#[test]
fn a_collection_keeps_the_lists_of_kept_trees_and_of_known_files() {
    let (_dir, index) = new_index();
    let m = module(&index, "m");
    let mut batch = index.batch().unwrap();
    let gone = put_tree(&mut batch, m, 150, b"gone", false);
    let past = put_tree(&mut batch, m, 150, b"past", false);
    let now = put_tree(&mut batch, m, 150, b"now", true);
    batch.set_local(m, Some(now)).unwrap();
    for top in [gone, past, now] {
        for id in files_of(&*batch, top) {
            batch.put_block_list(m, &id, &list(1, 70), u64::MAX).unwrap();
        }
    }
    let trees = [gone, past, now].map(|top| files_of(&*batch, top));
    batch.commit().unwrap();
    let kept = || {
        let reader = index.reader().unwrap();
        let has = |id| reader.block_list(m, id).unwrap().is_some();
        trees.each_ref().map(|files| files.iter().filter(|id| has(id)).count())
    };
    assert_eq!(index.collect(&[gone, past, now]).unwrap().unwrap().block_lists, 0);
    assert_eq!(kept(), [150, 150, 150]);
    assert_eq!(index.collect(&[past, now]).unwrap().unwrap().block_lists, 150);
    assert_eq!(kept(), [0, 150, 150]);
    assert_eq!(bytes(&index, m), 300 * 280);
    assert_eq!(index.collect(&[]).unwrap().unwrap().block_lists, 150);
    assert_eq!(kept(), [0, 0, 150]);
}

fn files_of(pages: &dyn PageSource, top: DirId) -> Vec<FileId> {
    let mut files = Vec::new();
    for entry in Entries::new(pages, top) {
        match entry.unwrap().body {
            Body::Directory { id, .. } => files.extend(files_of(pages, id)),
            Body::File { id, .. } => files.push(id),
            Body::Link { .. } => {}
        }
    }
    files
}

#[test]
fn the_secret_is_made_once_and_stays() {
    let (dir, index) = new_index();
    assert_eq!(index.reader().unwrap().block_secret().unwrap(), None);
    assert_eq!(index.set_block_secret(&[1; 32]).unwrap(), [1; 32]);
    assert_eq!(index.set_block_secret(&[2; 32]).unwrap(), [1; 32]);
    drop(index);
    let index = Index::open(&dir.path().join("index.db")).unwrap();
    assert_eq!(index.reader().unwrap().block_secret().unwrap(), Some([1; 32]));
}

#[test]
fn an_index_without_lists_gets_room_for_them() {
    let (dir, index) = new_index();
    let m = module(&index, "m");
    put_row(&index, m, "a", b"a");
    drop(index);
    let at = dir.path().join("index.db");
    let first = Connection::open(&at).unwrap();
    first
        .execute_batch(
            "DROP TABLE block; DROP TABLE secret; ALTER TABLE module DROP COLUMN block_bytes; PRAGMA user_version = 1",
        )
        .unwrap();
    drop(first);
    for _ in 0..2 {
        let index = Index::open(&at).unwrap();
        assert!(put(&index, m, b"a", &[1, 2]));
        assert_eq!((find(&index, m, b"a"), bytes(&index, m)), (Some(vec![1, 2]), 8));
        assert_eq!(index.reader().unwrap().file(m, &path("a")).unwrap(), Some(row(1, b"a")));
        index.check().unwrap();
    }
}
