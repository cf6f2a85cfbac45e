//! Lies about steps, lists by short ids, and looks at old bytes.

use std::sync::atomic::{AtomicBool, Ordering};

use mirra::protocol::batch::Batch;
use mirra::protocol::limits::{GAP_BYTES_MAX, GAPS_MAX, LOOK_BLOCKS_MAX};
use mirra::protocol::message::Look;
use mirra::tree::codec::decode;

use super::*;

/// Changes what is said in one way.
type Bend<T> = fn(&mut T);

/// Says `more` before the first message with `tag`, and nothing else that is not honest.
fn once_before(wanted: u8, more: impl Fn(&Message) -> Vec<Message> + Send + Sync + 'static) -> Lie {
    let said = AtomicBool::new(false);
    Arc::new(move |_, message| {
        let now = message.tag == wanted && !said.swap(true, Ordering::Relaxed);
        let mut messages = if now { more(&message) } else { Vec::new() };
        messages.push(message);
        Say::These(messages)
    })
}

fn look(file: u64, basis: &[u8], block: u32, gaps: Vec<u64>) -> Message {
    Message::new(tag::LOOK, &Look { file, basis: basis.to_vec(), block, gaps })
}

/// Bends the steps of each batch, and leaves the rest as it is.
fn bent(bend: impl Fn(&mut Step) + Send + Sync + 'static) -> Lie {
    always(tag::BATCH, move |m| {
        let mut steps = Batch::decode(&m.body).unwrap().steps;
        steps.iter_mut().for_each(&bend);
        let number = |at: usize| u32::from_be_bytes(*m.body[at..].first_chunk().unwrap());
        let rest = &m.body[13 + number(0) as usize..];
        vec![raw_batch(&encode_steps(&steps), number(4), number(8), m.body[12] & 1, rest)]
    })
}

#[test]
fn looks_that_nobody_may_take_end_the_session() {
    let bench = Bench::new();
    let shop = bench.honest();
    let beyond = [
        ("at a file that was not asked for", look(9_999, b"large", 1_024, vec![0, 1_000])),
        ("at the last file of all", look(u64::MAX, b"", 1_024, vec![0, 1_000])),
        ("at more bytes than may be", look(0, b"large", 4_096, vec![0, GAP_BYTES_MAX + 1])),
        ("at more blocks than may be", look(0, b"large", 128, vec![0, 128 * LOOK_BLOCKS_MAX as u64 + 1])),
        ("at more gaps than may be", look(0, b"large", 128, vec![0; 2 * GAPS_MAX + 2])),
        ("at half a gap", look(0, b"large", 128, vec![1])),
        ("at a place that no file has", look(0, b"large", 128, vec![u64::MAX, 1])),
        ("by blocks of one byte", look(0, b"large", 1, vec![0, 1])),
        ("by blocks of no bytes", look(0, b"large", 0, vec![0, 1])),
        ("by blocks of an odd length", look(0, b"large", 1_000, vec![0, 1])),
        ("that is none", Message { tag: tag::LOOK, body: vec![0xc0] }),
    ];
    for (name, wrong) in beyond {
        for has in [Has::Nothing, Has::Before, Has::Other] {
            let wrong = wrong.clone();
            let lie = once_before(tag::BATCH, move |_| vec![wrong.clone()]);
            bench.check(&format!("a look {name}"), has, &shop, lie, &[7]);
        }
    }
    let again = always(tag::LOOK, |m| vec![m.clone(), m.clone(), m]);
    bench.check("one look too many", Has::Before, &shop, again, &[7]);
    let endless = from_first(tag::BATCH, |_| Say::Forever(look(0, b"large", 128, vec![0, 128])));
    bench.check("looks without end", Has::Before, &shop, endless, &[7]);
}

#[test]
fn looks_at_what_is_not_there_are_answered_with_nothing() {
    let bench = Bench::new();
    let shop = bench.honest();
    let bent = |bend: Bend<Look>| {
        always(tag::LOOK, move |m| {
            let mut look: Look = decode("look", &m.body).unwrap();
            bend(&mut look);
            vec![Message::new(tag::LOOK, &look)]
        })
    };
    // The sender sends all that it has not found, so the files still come.
    let beside: [(&str, Bend<Look>); 4] = [
        ("behind the end of the file", |look| look.gaps = vec![1 << 40, 1_000]),
        ("at a file that is not there", |look| look.basis = b"no/such/file".to_vec()),
        ("at a file that is none", |look| look.basis = b"d".to_vec()),
        ("out of the target", |look| look.basis = b"../canary/in/file".to_vec()),
    ];
    for (name, bend) in beside {
        bench.check(&format!("a look {name}"), Has::Before, &shop, bent(bend), &[0]);
    }
    // Another number of blocks than the sender wanted: it is the one that gives up.
    let fewer = bent(|look| look.gaps = vec![0, 1]);
    bench.check("a look at something else", Has::Before, &shop, fewer, &[7, 10]);
}

#[test]
fn steps_that_do_not_fit_are_tried_again_and_never_seen() {
    let bench = Bench::new();
    let shop = bench.honest();
    let beyond = |step: &mut Step| {
        if let Step::Copy { from, .. } = step {
            *from += 1 << 40;
        }
    };
    let shifted = |step: &mut Step| {
        if let Step::Copy { from, .. } = step {
            *from += 1;
        }
    };
    let wrong = |step: &mut Step| {
        if let Step::Literal { len } = step {
            *len += 1;
        }
    };
    for has in [Has::Before, Has::Other] {
        bench.check("copies beyond the basis", has, &shop, bent(beyond), &[0]);
        bench.check("copies beside what is meant", has, &shop, bent(shifted), &[0]);
    }
    bench.check("more bytes than the file has", Has::Before, &shop, bent(wrong), &[7]);
    let elsewhere = |step: &mut Step| {
        if let Step::Basis(path) = step {
            *path = TreePath::new(b"no/such/file").unwrap();
        }
    };
    bench.check("a basis that is not there", Has::Before, &shop, bent(elsewhere), &[0]);
    let missing = |step: &mut Step| {
        if let Step::Have { count } = step {
            *count += 7;
        }
    };
    bench.check("chunks that nobody has", Has::Other, &shop, bent(missing), &[0, 7]);
}

#[test]
fn steps_that_break_a_rule_end_the_session() {
    let bench = Bench::new();
    let shop = bench.honest();
    let copies = batch(&[Step::Copy { from: 0, len: 10 }, Step::End], &[]);
    let have = batch(&[Step::Have { count: 1 }, Step::End], &[]);
    let new = batch(&[Step::Literal { len: 1 }, Step::End], b"!");
    let old = batch(&[Step::Old { from: 0, len: 1 }, Step::End], &[]);
    for (name, wrong) in [("copies", &copies), ("chunks that are here", &have), ("a part", &new), ("context", &old)] {
        let wrong = wrong.clone();
        let lie = always(tag::BATCH, move |_| vec![wrong.clone()]);
        bench.check(&format!("{name} where nothing was offered"), Has::Nothing, &shop, lie, &[7]);
    }
    let frame = pack_with(b"some", 3, &[]).unwrap();
    let long = encode_steps(&[Step::Old { from: 0, len: 100 }, Step::Literal { len: 4 }, Step::End]);
    let long = raw_batch(&long, 4, 10, 1, &frame);
    let bare = raw_batch(&encode_steps(&[Step::Literal { len: 4 }, Step::End]), 4, 10, 0, b"some");
    let far = raw_batch(&[3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 6], 0, 0, 0, &[]);
    for (name, wrong) in [("context beyond the prefix", long), ("a prefix for nothing", bare), ("no place", far)] {
        let lie = always(tag::BATCH, move |_| vec![wrong.clone()]);
        bench.check_all(name, &shop, &lie, &[7]);
    }
}

#[test]
fn wrong_short_ids_cost_bytes_and_nothing_else() {
    let bench = Bench::new();
    let shop = bench.honest();
    let short = |bend: Bend<Vec<u8>>| {
        always(tag::CHUNKS, move |m| {
            let mut part: Chunks = decode("chunks", &m.body).unwrap();
            bend(&mut part.short);
            vec![Message::new(tag::CHUNKS, &part)]
        })
    };
    let lies: [(&str, Bend<Vec<u8>>); 4] = [
        ("of nothing", |short| short.fill(7)),
        ("all of one chunk", |short| {
            let first: Vec<u8> = short[..6].to_vec();
            short.chunks_mut(6).for_each(|id| id.copy_from_slice(&first));
        }),
        ("in another order", |short| short.rotate_left(6)),
        ("none", Vec::clear),
    ];
    for (name, bend) in lies {
        bench.check(&format!("short ids {name}"), Has::Other, &shop, short(bend), &[0]);
    }
}
