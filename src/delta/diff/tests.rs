use proptest::prelude::*;

use super::*;
use crate::delta::blocks::{BLOCK, LARGE_BLOCK};

fn rabin() -> Rabin {
    Rabin::new(&[3; 32])
}

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes
}

/// The steps from `old`, all of which is one range, to `new`, and what they make.
fn steps(old: &[u8], new: &[u8], block: usize, bits: u32, around: Around) -> (Vec<Step>, Vec<u8>) {
    let rabin = Arc::new(rabin());
    let mut hashes = Vec::new();
    rabin.list(old, block, &mut hashes);
    let range = Range { start: 0, len: old.len() as u64, hashes: &hashes };
    let found = Search::new(Hashing { rabin, block, bits }, &[range]).steps(new, around);
    let made = carry_out(&found, old, new);
    (found, made)
}

fn carry_out(steps: &[Step], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut made = Vec::new();
    for step in steps {
        let bytes = match step {
            Step::Copy { from, len } => &old[*from as usize..(*from + *len) as usize],
            Step::Literal { len } => &new[made.len()..made.len() + *len as usize],
        };
        made.extend_from_slice(bytes);
    }
    made
}

fn literal_bytes(steps: &[Step]) -> u64 {
    steps.iter().map(|step| if let Step::Literal { len } = step { *len } else { 0 }).sum()
}

#[test]
fn what_moved_by_a_few_bytes_is_found() {
    let old = noise(1, 50_000);
    let mut new = old.clone();
    new.splice(20_000..20_000, *b"some bytes more");
    new.drain(40_000..40_100);
    for (block, bits) in [(BLOCK, 32), (BLOCK, 24), (LARGE_BLOCK, 24)] {
        let around = Around { before: Some(0), after: Some(old.len() as u64) };
        let (found, made) = steps(&old, &new, block, bits, around);
        assert_eq!(made, new);
        assert!(literal_bytes(&found) <= 3 * block as u64 + 15, "{found:?}");
        assert!(found.len() <= 6, "{found:?}");
    }
}

#[test]
fn a_change_in_place_costs_its_block() {
    let old = noise(2, 64 * 1_024 + 77);
    let mut new = old.clone();
    for at in [5_000, 9_000, 30_000] {
        new[at] ^= 1;
    }
    let around = Around { before: Some(0), after: Some(old.len() as u64) };
    let (found, made) = steps(&old, &new, BLOCK, 24, around);
    assert_eq!((made, literal_bytes(&found)), (new, 3 * BLOCK as u64));
}

#[test]
fn the_short_last_block_is_found_at_the_end() {
    let old = noise(3, 1_000);
    let new = [noise(4, 300), old[896..].to_vec()].concat();
    let around = Around { before: Some(0), after: Some(1_000) };
    assert_eq!(
        steps(&old, &new, BLOCK, 24, around).0,
        [Step::Literal { len: 300 }, Step::Copy { from: 896, len: 104 }]
    );
}

#[test]
fn a_lonely_match_of_few_bits_is_not_believed_in_much_data() {
    // One block of the old bytes, in a place that says nothing, and so many places that 24 bits are not enough.
    let old = noise(5, 200 * BLOCK);
    let mut new = noise(6, 1 << 20);
    new[70_001..70_001 + BLOCK].copy_from_slice(&old[50 * BLOCK..51 * BLOCK]);
    let lonely = |bits| steps(&old, &new, BLOCK, bits, Around::default()).0.len();
    assert_eq!(lonely(24), 1);
    new[70_001..70_001 + 2 * BLOCK].copy_from_slice(&old[50 * BLOCK..52 * BLOCK]);
    assert_eq!(steps(&old, &new, BLOCK, 24, Around::default()).0.len(), 3);
}

#[test]
fn zeros_beside_a_match_of_few_bits_prove_nothing() {
    // Blocks between zeros, so that the neighbours of each are like those of all others.
    let zeros = vec![0; 2 * BLOCK];
    let pages = |seed: u8, count: usize| -> Vec<u8> {
        let noise = noise(seed, count * BLOCK);
        noise.chunks(BLOCK).flat_map(|block| [block, &zeros].concat()).collect()
    };
    let (old, new) = (pages(11, 20_000), pages(12, 20_000));
    let (found, made) = steps(&old, &new, BLOCK, 16, Around::default());
    assert_eq!(made.len(), new.len());
    let wrong = found.iter().scan(0, |at, step| {
        let (Step::Copy { len, .. } | Step::Literal { len }) = *step;
        *at += len as usize;
        Some((*at, len as usize))
    });
    let wrong = wrong.filter(|(end, len)| made[end - len..*end] != new[end - len..*end]).count();
    assert_eq!(wrong, 0);
}

#[test]
fn equal_blocks_are_tried_so_often_and_no_more() {
    let old = vec![0; 4_000 * BLOCK];
    let mut new = vec![0; 1_000 * BLOCK];
    new[60_000] = 1;
    let (found, made) = steps(&old, &new, BLOCK, 24, Around { before: Some(0), after: None });
    assert_eq!(made, new);
    assert!(literal_bytes(&found) <= 2 * BLOCK as u64, "{found:?}");
}

#[test]
fn blocks_beside_one_that_is_found_are_known_too() {
    let old = noise(7, 40_000);
    let new = [&noise(8, 500), &old[10_000..14_000], &noise(9, 300), &old[30_000..30_700], &noise(10, 90)].concat();
    let (rabin, mut hashes) = (Arc::new(rabin()), Vec::new());
    rabin.list(&old, BLOCK, &mut hashes);
    let hashing = Hashing { rabin, block: BLOCK, bits: 32 };
    let search = Search::of_some(hashing, &[(0, old.len() as u64)], hashes, |_| 4);
    let found = search.steps(&new, Around::default());
    assert_eq!(carry_out(&found, &old, &new), new);
    assert!(literal_bytes(&found) <= 890 + 4 * BLOCK as u64, "{found:?}");
}

#[test]
fn what_stands_behind_zeros_is_found_with_some_of_them() {
    for pattern in [&[0][..], &[1, 0], &[7, 0, 0, 0], b"a word! ", b"more than eight bytes "] {
        behind_a_pattern(pattern);
    }
}

fn behind_a_pattern(pattern: &[u8]) {
    // That ends at the same place of the pattern, however much it is.
    let repeated = |count: usize| -> Vec<u8> {
        let skipped = pattern.len() - count % pattern.len();
        pattern.iter().copied().cycle().skip(skipped).take(count).collect()
    };
    let (zeros, behind) = (repeated(40 * BLOCK), noise(14, 10 * BLOCK + 50));
    let old = [&noise(13, 3 * BLOCK), &zeros[..], &noise(15, 60), &behind].concat();
    for (count, bits) in [(37 * BLOCK + 5, 32), (50 * BLOCK + 1, 32), (300, 32), (37 * BLOCK + 5, 24)] {
        let new = [&noise(16, 777), &repeated(count)[..], &noise(15, 60), &behind].concat();
        let (found, made) = steps(&old, &new, BLOCK, bits, Around::default());
        assert_eq!(made, new);
        // Where they are more than before, those in front of a match are new.
        let more = count.saturating_sub(zeros.len());
        assert!(literal_bytes(&found) <= (777 + more + 3 * BLOCK) as u64, "{count}, {bits}: {found:?}");
    }
}

proptest! {
    #[test]
    fn random_edits_are_rebuilt(
        seed in any::<u8>(), len in 0usize..20_000, block in prop_oneof![Just(32usize), Just(BLOCK), Just(LARGE_BLOCK)],
        edits in proptest::collection::vec((any::<u16>(), 0usize..300, 0usize..300), 0..12),
    ) {
        let old = noise(seed, len);
        let mut new = old.clone();
        for (at, cut, put) in &edits {
            let at = usize::from(*at) % (new.len() + 1);
            let end = (at + cut).min(new.len());
            new.splice(at..end, noise(*put as u8, *put));
        }
        let around = Around { before: Some(0), after: Some(old.len() as u64) };
        let (found, made) = steps(&old, &new, block, 32, around);
        prop_assert_eq!(made, new.clone());
        let most: usize = edits.iter().map(|(_, _, put)| put + 3 * block).sum();
        prop_assert!(literal_bytes(&found) <= (most + block) as u64);
    }

    #[test]
    fn hashes_that_lie_give_steps_that_add_up(
        hashes in proptest::collection::vec(any::<u32>(), 0..200), len in 0u64..40_000,
        new in proptest::collection::vec(any::<u8>(), 0..3_000),
    ) {
        let rabin = Arc::new(rabin());
        let range = Range { start: 17, len, hashes: &hashes };
        let found = Search::new(Hashing { rabin, block: BLOCK, bits: 24 }, &[range])
            .steps(&new, Around { before: Some(17), after: Some(17 + len) });
        let total: u64 = found.iter().map(|step| match step { Step::Copy { len, .. } | Step::Literal { len } => *len }).sum();
        prop_assert_eq!(total, new.len() as u64);
    }
}
