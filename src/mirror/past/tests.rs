//! How much of the past is kept, by number and by age.

use super::*;
use crate::disk::index::heads::StoredHead;
use crate::tree::chunker::Class;
use crate::tree::dir::build;
use crate::tree::entry::{Body, Entry, Meta};
use crate::tree::hash::{FileId, HeadId};
use crate::tree::name::Name;

const NOW: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;

/// Heads of this many milliseconds ago, oldest first, after old ones were forgotten.
fn kept(ages: impl Iterator<Item = u64>) -> Vec<u64> {
    let place = tempfile::tempdir().unwrap();
    let index = Index::open(&place.path().join("index.db")).unwrap();
    let mut batch = index.batch().unwrap();
    let module = batch.module("m").unwrap();
    let snapshot = build(&[], &mut batch).unwrap().id;
    for age in ages {
        let sequence = NOW - age;
        let id = HeadId::of(&sequence.to_be_bytes());
        let state = HeadState::Published;
        batch.put_head(module, &StoredHead { epoch: 0, sequence, id, snapshot, envelope: vec![], state }).unwrap();
    }
    batch.commit().unwrap();
    forget_old(&index, module, NOW).unwrap();
    let reader = index.reader().unwrap();
    let heads = reader.last_heads(module, HeadState::Published, u32::MAX).unwrap();
    heads.iter().rev().map(|head| NOW - head.sequence).collect()
}

fn every(hours: u64, count: u32) -> impl Iterator<Item = u64> {
    (0..u64::from(count)).rev().map(move |n| n * hours * HOUR)
}

#[test]
fn a_week_is_kept_and_sixteen_heads_at_least() {
    // One a day: the last sixteen, once enough have gathered.
    assert_eq!(kept(every(24, HEADS_MIN + HEADS_SPARE)).len(), (HEADS_MIN + HEADS_SPARE) as usize);
    assert!(kept(every(24, HEADS_MIN + HEADS_SPARE + 1)).into_iter().eq(every(24, HEADS_MIN)));
    // One an hour: a week of them, both ends counted.
    let week = 7 * 24 + 1;
    assert!(kept(every(1, week + HEADS_SPARE + 1)).into_iter().eq(every(1, week)));
    assert_eq!(kept(every(1, week + HEADS_SPARE)).len(), (week + HEADS_SPARE) as usize);
}

#[test]
fn a_module_that_changes_all_the_time_keeps_the_last_heads_alone() {
    let seconds = |count: u32| (0..u64::from(count)).rev().map(|n| n * 1_000);
    assert!(kept(seconds(HEADS_MAX + HEADS_SPARE + 1)).into_iter().eq(seconds(HEADS_MAX)));
}

#[test]
fn block_lists_of_what_only_forgotten_heads_had_go_with_them() {
    let place = tempfile::tempdir().unwrap();
    let index = Index::open(&place.path().join("index.db")).unwrap();
    let module = index.module_number("m").unwrap();
    let content = |n: u32| FileId::of(&n.to_be_bytes());
    let heads = HEADS_MIN + HEADS_SPARE + 1;
    let mut batch = index.batch().unwrap();
    for n in 0..heads {
        let body = Body::File { size: 2_000, class: Class::Fine, id: content(n) };
        let name = Name::new(b"f").unwrap();
        let entry = Entry { name, meta: Meta::default(), body, attributes: vec![] };
        let snapshot = build(&[entry], &mut batch).unwrap().id;
        let (sequence, id) = (u64::from(n), HeadId::of(&n.to_be_bytes()));
        let state = HeadState::Published;
        batch.put_head(module, &StoredHead { epoch: 0, sequence, id, snapshot, envelope: vec![], state }).unwrap();
        batch.put_block_list(module, &content(n), &[n, n], u64::MAX).unwrap();
    }
    batch.commit().unwrap();
    forget_old(&index, module, NOW).unwrap();
    let reader = index.reader().unwrap();
    let kept = (0..heads).filter(|n| reader.block_list(module, &content(*n)).unwrap() == Some(vec![*n, *n]));
    assert!(kept.eq(heads - HEADS_MIN..heads));
    assert_eq!(reader.block_bytes(module).unwrap(), u64::from(HEADS_MIN) * 8);
}
