mod blocks;

use proptest::prelude::*;

use super::files::{FILES_IN, FileRow, PLACES_WITHIN};
use super::heads::{HeadState, Pin, StoredHead};
use super::*;
use crate::disk::dir::StatKey;
use crate::tree::chunker::Class;
use crate::tree::dir::{DirBuilder, Entries};
use crate::tree::entry::{Body, Entry, Meta};
use crate::tree::hash::{Authority, ChunkId, FileId, HeadId};
use crate::tree::list::{Chunk, ListBuilder, Samples};
use crate::tree::name::{Name, TreePath};
use crate::tree::page::{PageSink, PageSource};

fn new_index() -> (tempfile::TempDir, Index) {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.db")).unwrap();
    (dir, index)
}

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

fn row(inode: u64, content: &[u8]) -> FileRow {
    let stat = StatKey { device: u64::MAX, inode, size: content.len() as u64, mtime: -5, ctime: 7 };
    FileRow { stat, settled: true, class: Class::Coarse, id: FileId::of(content) }
}

fn module(index: &Index, name: &str) -> ModuleNumber {
    index.module_number(name).unwrap()
}

#[test]
fn a_batch_that_is_dropped_leaves_no_trace_and_a_committed_one_stays() {
    let (dir, index) = new_index();
    let (id, bytes) = (*DirId::of(b"page").as_bytes(), b"page");
    let mut batch = index.batch().unwrap();
    let gone = batch.module("gone").unwrap();
    batch.put(&id, bytes).unwrap();
    batch.put_file(gone, &path("a"), &row(1, b"a")).unwrap();
    assert_eq!(PageSource::page(&batch, &id).unwrap().as_deref(), Some(&bytes[..]));
    drop(batch);
    let reader = index.reader().unwrap();
    assert_eq!(reader.page(&id).unwrap(), None);
    assert_eq!(reader.find_module("gone").unwrap(), None);

    let mut batch = index.batch().unwrap();
    let module = batch.module("m").unwrap();
    assert_eq!(batch.module("m").unwrap(), module);
    batch.put(&id, bytes).unwrap();
    batch.put(&id, bytes).unwrap();
    batch.set_local(module, Some(DirId::of(b"top"))).unwrap();
    batch.commit().unwrap();
    drop((reader, index));
    let index = Index::open(&dir.path().join("index.db")).unwrap();
    let reader = index.reader().unwrap();
    assert_eq!(reader.page(&id).unwrap().as_deref(), Some(&bytes[..]));
    assert_eq!(reader.local(module).unwrap(), Some(DirId::of(b"top")));
    assert_eq!(reader.modules().unwrap(), [(module, "m".to_owned())]);
    index.check().unwrap();
}

#[test]
fn foreign_newer_and_damaged_databases_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("index.db");
    drop(Index::open(&at).unwrap());
    let connection = Connection::open(&at).unwrap();
    connection.pragma_update(None, "user_version", 9).unwrap();
    assert!(matches!(Index::open(&at).err().unwrap(), IndexError::Version { found: 9, .. }));
    connection.pragma_update(None, "application_id", 1).unwrap();
    assert!(matches!(Index::open(&at).err().unwrap(), IndexError::Foreign { .. }));
    let torn = dir.path().join("torn.db");
    std::fs::write(&torn, [7; 9_000]).unwrap();
    assert!(matches!(Index::open(&torn).err().unwrap(), IndexError::Damaged { .. }));
}

#[test]
fn a_flipped_bit_in_a_page_or_a_file_is_never_believed() {
    let (dir, index) = new_index();
    let module = module(&index, "m");
    let mut batch = index.batch().unwrap();
    batch.put(DirId::of(b"page").as_bytes(), b"page").unwrap();
    batch.put_file(module, &path("a"), &row(1, b"a")).unwrap();
    batch.commit().unwrap();
    let other = Connection::open(dir.path().join("index.db")).unwrap();
    other.execute("UPDATE page SET bytes = x'70616760'", []).unwrap();
    other.execute("UPDATE file SET rest = zeroblob(24)", []).unwrap();
    let reader = index.reader().unwrap();
    assert!(reader.page(DirId::of(b"page").as_bytes()).is_err());
    assert_eq!(reader.file(module, &path("a")).unwrap(), None);
}

#[test]
fn files_are_found_by_path_inode_and_content() {
    let (_dir, index) = new_index();
    let (m, other) = (module(&index, "m"), module(&index, "other"));
    let mut batch = index.batch().unwrap();
    batch.put_file(m, &path("a/x"), &row(1, b"one")).unwrap();
    batch.put_file(m, &path("b/y"), &row(2, b"one")).unwrap();
    batch.put_file(m, &path("z"), &FileRow { settled: false, ..row(3, b"two") }).unwrap();
    batch.put_file(other, &path("a/x"), &row(4, b"one")).unwrap();
    batch.commit().unwrap();
    let reader = index.reader().unwrap();
    assert_eq!(reader.file(m, &path("a/x")).unwrap(), Some(row(1, b"one")));
    assert_eq!(reader.file(m, &path("a")).unwrap(), None);
    assert_eq!(reader.file(m, &TreePath::top()).unwrap(), None);
    assert_eq!(reader.same_stat(&row(2, b"one").stat).unwrap(), Some(row(2, b"one")));
    assert_eq!(reader.same_stat(&row(3, b"two").stat).unwrap(), None, "it was not settled");
    assert_eq!(reader.same_stat(&row(2, b"longer").stat).unwrap(), None);
    let mut paths = reader.paths_of(m, &FileId::of(b"one"), 10).unwrap();
    paths.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(paths, [(path("a/x"), row(1, b"one").stat), (path("b/y"), row(2, b"one").stat)]);
    assert_eq!(reader.paths_of(m, &FileId::of(b"one"), 1).unwrap().len(), 1);
    let place = reader.place(m, &TreePath::top()).unwrap().unwrap();
    assert_eq!(reader.files_in(place, Some(b"z"), None).unwrap().len(), 1);
    assert_eq!(reader.files_in(place, None, Some(b"z")).unwrap().len(), 0);
}

#[test]
fn parts_of_large_directories_and_modules_are_found_without_walking_through_the_rest() {
    let (_dir, index) = new_index();
    let reader = index.reader().unwrap();
    for (sql, ranges) in [(FILES_IN, "name>? AND name<?"), (PLACES_WITHIN, "path>? AND path<?")] {
        let mut plan = reader.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = rusqlite::params_from_iter(vec![0; plan.parameter_count()]);
        let steps: Vec<String> = plan.query_map(values, |row| row.get(3)).unwrap().flatten().collect();
        assert!(steps.iter().any(|step| step.contains(ranges)), "{steps:?}");
        assert!(steps.iter().all(|step| !step.contains("SCAN")), "{steps:?}");
    }
}

#[test]
fn a_forgotten_module_takes_nothing_of_others_with_it() {
    let (_dir, index) = new_index();
    let (m, other) = (module(&index, "m"), module(&index, "other"));
    let mut batch = index.batch().unwrap();
    for of in [m, other] {
        batch.put_file(of, &path("a/x"), &row(1, b"one")).unwrap();
        batch.put_beat(of, b"beat").unwrap();
    }
    batch.forget_module(m).unwrap();
    batch.commit().unwrap();
    let reader = index.reader().unwrap();
    assert_eq!(reader.find_module("m").unwrap(), None);
    assert_eq!(reader.file(other, &path("a/x")).unwrap(), Some(row(1, b"one")));
    assert_eq!(reader.beat(other).unwrap().as_deref(), Some(&b"beat"[..]));
}

fn some_paths() -> impl Strategy<Value = Vec<String>> {
    // Letters around the slash, so that a subtree's neighbours in byte order come up.
    let name = proptest::sample::select(vec!["a", "b", "a-", "a0", "a.", "a!", "aa"]);
    prop::collection::vec(prop::collection::vec(name, 1..4).prop_map(|names| names.join("/")), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
    #[test]
    fn removing_a_subtree_removes_just_what_lies_within(paths in some_paths(), which in any::<prop::sample::Index>()) {
        let (_dir, index) = new_index();
        let m = module(&index, "m");
        let mut batch = index.batch().unwrap();
        for (i, text) in paths.iter().enumerate() {
            batch.put_file(m, &path(text), &row(i as u64, text.as_bytes())).unwrap();
        }
        let removed = path(which.get::<String>(&paths));
        batch.remove_within(m, &removed).unwrap();
        let mut left: Vec<TreePath> = paths.iter().map(|p| path(p)).filter(|p| !p.is_within(&removed)).collect();
        left.sort();
        left.dedup();
        let mut found = Vec::new();
        batch.each_file(m, |path, _| { found.push(path); std::ops::ControlFlow::Continue(()) }).unwrap();
        found.sort();
        prop_assert_eq!(found, left);
    }
}

#[test]
fn files_that_share_chunks_are_found_most_shared_first() {
    let (_dir, index) = new_index();
    let m = module(&index, "m");
    let chunks: Vec<ChunkId> = (0u32..8).map(|i| ChunkId::of(&i.to_le_bytes())).collect();
    let sampled = |range: std::ops::Range<usize>| {
        let mut samples = Samples::default();
        chunks[range].iter().for_each(|chunk| samples.add(chunk));
        samples
    };
    assert_eq!(sampled(0..1).ids(), [0u64; 0], "one chunk is found by the file's id");
    let (all, some, gone) = (row(1, b"all"), row(2, b"some"), row(3, b"gone"));
    let mut batch = index.batch().unwrap();
    batch.put_file(m, &path("all"), &all).unwrap();
    batch.put_file(m, &path("some"), &some).unwrap();
    for (file, samples) in [(&all, sampled(0..8)), (&some, sampled(0..4)), (&gone, sampled(0..8))] {
        batch.put_samples(m, &file.id, &samples).unwrap();
    }
    batch.commit().unwrap();
    let reader = index.reader().unwrap();
    let found = reader.similar(m, sampled(0..8).ids(), 10).unwrap();
    assert_eq!(found.first(), Some(&(all.content_key(), 4)));
    assert!(found.iter().all(|(key, _)| *key != gone.content_key()), "a file that is nowhere is no basis");
    assert_eq!(reader.similar(m, sampled(0..8).ids(), 1).unwrap().len(), 1);
    assert_eq!(reader.files_of_key(m, all.content_key(), 5).unwrap(), [(path("all"), all)]);
    assert_eq!(reader.similar(m, &[ChunkId::of(b"other").prefix()], 10).unwrap(), []);
}

#[test]
fn heads_are_ordered_by_epoch_then_sequence() {
    let (_dir, index) = new_index();
    let m = module(&index, "m");
    let head = |epoch, sequence, state| StoredHead {
        epoch,
        sequence,
        id: HeadId::of(&[epoch as u8, sequence as u8]),
        snapshot: DirId::of(&[sequence as u8]),
        envelope: vec![1, 2, 3],
        state,
    };
    let mut batch = index.batch().unwrap();
    for sequence in 1..=6 {
        batch.put_head(m, &head(1, sequence, HeadState::Published)).unwrap();
    }
    batch.put_head(m, &head(2, 1, HeadState::Accepted)).unwrap();
    assert!(matches!(batch.put_head(m, &head(2, 1 << 63, HeadState::Accepted)), Err(IndexError::Range { .. })));
    assert_eq!(batch.newest_head(m, HeadState::Accepted).unwrap(), Some(head(2, 1, HeadState::Accepted)));
    assert_eq!(batch.newest_head(m, HeadState::Published).unwrap(), Some(head(1, 6, HeadState::Published)));
    assert_eq!(batch.head(m, &head(1, 3, HeadState::Published).id).unwrap(), Some(head(1, 3, HeadState::Published)));
    assert_eq!(batch.prune_heads(m, 2).unwrap(), 4);
    let sequences = |batch: &Batch<'_>| -> Vec<u64> {
        batch.last_heads(m, HeadState::Accepted, 9).unwrap().iter().map(|head| head.sequence).collect()
    };
    assert_eq!(sequences(&batch), [1, 6, 5]);
    assert!(batch.set_published(m, &head(2, 1, HeadState::Accepted).id).unwrap());
    assert!(!batch.set_published(m, &HeadId::of(b"unknown")).unwrap());
    assert_eq!(batch.newest_head(m, HeadState::Published).unwrap(), Some(head(2, 1, HeadState::Published)));
    batch.commit().unwrap();
}

#[test]
fn root_files_beats_and_pins_are_kept_verbatim() {
    let (_dir, index) = new_index();
    let m = module(&index, "m");
    let mut batch = index.batch().unwrap();
    batch.put_root_file(m, 1, b"first").unwrap();
    batch.put_root_file(m, 2, b"second").unwrap();
    batch.put_beat(m, b"old").unwrap();
    batch.put_beat(m, b"beat").unwrap();
    let pin = Pin { authority: Authority::of(b"root"), first_seen: 5 };
    assert_eq!(batch.pin(m).unwrap(), None);
    batch.put_pin(m, &pin).unwrap();
    batch.commit().unwrap();
    let reader = index.reader().unwrap();
    assert_eq!(reader.root_files(m, 2).unwrap(), [(2, b"second".to_vec())]);
    assert_eq!(reader.root_files(m, 1).unwrap().len(), 2);
    assert_eq!(reader.beat(m).unwrap().as_deref(), Some(&b"beat"[..]));
    assert_eq!(reader.pin(m).unwrap(), Some(pin));
}

/// A tree of `files` files in directories of 100, and rows for the files. Each file has a list of its own, but for the
/// one-chunk files of an empty salt.
fn put_tree(batch: &mut Batch<'_>, module: ModuleNumber, files: u32, salt: &[u8], with_rows: bool) -> DirId {
    let mut top = DirBuilder::default();
    for dir in 0..files.div_ceil(100) {
        let mut inner = DirBuilder::default();
        let dir_name = Name::new(format!("directory-{dir:05}").as_bytes()).unwrap();
        for file in 0..100u32.min(files - dir * 100) {
            let mut list = ListBuilder::default();
            for chunk in 0..if salt.is_empty() { 1 } else { 2u32 } {
                let id = ChunkId::of(&[salt, &dir.to_le_bytes(), &file.to_le_bytes(), &chunk.to_le_bytes()].concat());
                list.push(Chunk { id, len: 9_000 }, batch).unwrap();
            }
            let (id, size) = list.finish(batch).unwrap();
            let name = Name::new(format!("file-{file:03}.txt").as_bytes()).unwrap();
            if with_rows {
                // Numbers as long as those of a real filesystem.
                let (inode, time) = (u64::from(dir * 100 + file) + (1 << 24), 1_700_000_000_123_456_789);
                let stat = StatKey { device: 66_306, inode, size, mtime: time, ctime: time };
                let row = FileRow { stat, settled: true, class: Class::Fine, id };
                batch.put_file(module, &TreePath::top().join(&dir_name).join(&name), &row).unwrap();
            }
            let body = Body::File { size, class: Class::Fine, id };
            inner.push(&Entry { name, meta: Meta::default(), body, attributes: vec![] }, batch).unwrap();
        }
        let body = inner.finish(batch).unwrap().body();
        top.push(&Entry { name: dir_name, meta: Meta::default(), body, attributes: vec![] }, batch).unwrap();
    }
    top.finish(batch).unwrap().id
}

fn walk(pages: &dyn PageSource, top: DirId) -> usize {
    let mut files = 0;
    for entry in Entries::new(pages, top) {
        match entry.unwrap().body {
            Body::Directory { id, .. } => files += walk(pages, id),
            Body::File { id, .. } => {
                assert_eq!(crate::tree::list::chunks(pages, id).unwrap().unwrap().count(), 2);
                files += 1;
            }
            Body::Link { .. } => {}
        }
    }
    files
}

#[test]
fn collection_keeps_trees_and_known_files_and_shrinks_the_rest_away() {
    let (dir, index) = new_index();
    let m = module(&index, "m");
    let mut batch = index.batch().unwrap();
    let old = put_tree(&mut batch, m, 3_000, b"old", false);
    let kept = put_tree(&mut batch, m, 300, b"kept", false);
    let local = put_tree(&mut batch, m, 300, b"local", true);
    batch.set_local(m, Some(local)).unwrap();
    // Read, but in no tree: what a cancelled scan leaves behind.
    put_tree(&mut batch, m, 150, b"cancelled", true);
    let mut samples = Samples::default();
    (0u8..3).for_each(|i| samples.add(&ChunkId::of(&[i])));
    batch.put_samples(m, &FileId::of(b"gone"), &samples).unwrap();
    batch.commit().unwrap();
    let size = || std::fs::metadata(dir.path().join("index.db")).unwrap().len();

    let hold = index.hold();
    assert_eq!(index.collect(&[kept]).unwrap(), None, "a tree is being built");
    drop(hold);
    assert_eq!(index.collect(&[old, kept]).unwrap().unwrap().samples, 3);
    let before = size();
    let collected = index.collect(&[kept]).unwrap().unwrap();
    assert!(collected.removed > 3_000, "{collected:?}");
    assert!(size() < before / 2, "{} of {before}", size());
    let reader = index.reader().unwrap();
    assert_eq!(walk(&*reader, kept), 300);
    assert_eq!(walk(&*reader, local), 300);
    assert_eq!(reader.page(old.as_bytes()).unwrap(), None);
    let mut lists = 0;
    reader
        .each_file(m, |_, file| {
            lists += usize::from(reader.page(file.id.as_bytes()).unwrap().is_some());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(lists, 300);
    index.check().unwrap();
    assert!(index.collect(&[old]).is_err(), "a tree that is not whole");
    assert_eq!(index.collect(&[kept]).unwrap().unwrap().removed, 0);
}

#[test]
fn a_small_file_costs_few_bytes() {
    let (dir, index) = new_index();
    let m = module(&index, "m");
    let files = 50_000;
    let mut batch = index.batch().unwrap();
    let top = put_tree(&mut batch, m, files, b"", true);
    batch.commit().unwrap();
    // Brings all of the log into the database.
    index.collect(&[top]).unwrap();
    let each = std::fs::metadata(dir.path().join("index.db")).unwrap().len() / u64::from(files);
    assert!(each <= 400, "{each} bytes for each entry");
}

#[test]
fn a_full_disk_is_known_behind_what_failed_for_it() {
    let failed = |code: i32| IndexError::Sql {
        what: "write",
        path: "index.db".into(),
        source: rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None),
    };
    for code in [rusqlite::ffi::SQLITE_FULL, rusqlite::ffi::SQLITE_IOERR_SHMSIZE] {
        assert!(failed(code).is_full());
        assert!(IndexError::Page(PageError::from(failed(code))).is_full());
        assert!(IndexError::from(PageError::Store(Box::new(failed(code)))).is_full());
    }
    assert!(!failed(rusqlite::ffi::SQLITE_IOERR).is_full());
    assert!(!IndexError::Page(PageError::Missing([0; 32])).is_full());
}
