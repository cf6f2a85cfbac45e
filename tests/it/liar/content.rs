//! Lies about chunk lists and content, answers without end, and silence.

use mirra::protocol::limits::SHORT_LEN;

use super::*;

#[test]
fn chunk_lists_and_content_that_are_not_of_the_file_are_never_seen() {
    let bench = Bench::new();
    let shop = bench.honest();
    let written = |bend: fn(&mut BatchWriter)| {
        let mut writer = BatchWriter::default();
        bend(&mut writer);
        writer.take()
    };
    let whole = |len: u32| encode_steps(&[Step::Chunks { lengths: vec![len], last: true }]);
    let bomb = raw_batch(&whole(65_536), 65_536, 0, 1, &pack_with(&vec![0; 200_000_000], 3, &[]).unwrap());
    let huge = raw_batch(&whole(u32::MAX), u32::MAX, 0, 0, b"x");
    // Unpacked they are as many as a message may hold, and more than a batch may.
    let many_steps = raw_batch(&pack(&vec![6; 2_000_000]), 0, 0, 2, &[]);
    let many_chunks = raw_batch(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f], 0, 0, 0, &[]);
    let empty_steps = raw_batch(&[], 0, 0, 0, &[]);
    let lies: Vec<(&str, Lie)> = vec![
        (
            "wrong bytes",
            always(tag::BATCH, move |_| {
                vec![written(|w| {
                    w.chunk(&[b'!'; 5_000]);
                    w.end();
                })]
            }),
        ),
        (
            "too many bytes",
            always(tag::BATCH, move |_| {
                vec![written(|w| {
                    (0..200).for_each(|_| w.chunk(&[b'!'; 9_000]));
                    w.end();
                })]
            }),
        ),
        ("too few bytes", always(tag::BATCH, move |_| vec![written(|w| w.end())])),
        ("a bomb", always(tag::BATCH, move |_| vec![bomb.clone()])),
        ("2^32 bytes", always(tag::BATCH, move |_| vec![huge.clone()])),
        ("too many steps", always(tag::BATCH, move |_| vec![many_steps.clone()])),
        ("2^32 chunks", always(tag::BATCH, move |_| vec![many_chunks.clone()])),
        (
            "a cut batch",
            always(tag::BATCH, |mut m| {
                m.body.truncate(m.body.len() / 2);
                vec![m]
            }),
        ),
        (
            "a batch without a head",
            always(tag::BATCH, |mut m| {
                m.body.truncate(5);
                vec![m]
            }),
        ),
        (
            "an unknown packing",
            always(tag::BATCH, |mut m| {
                m.body[12] |= 0x80;
                vec![m]
            }),
        ),
        ("batches without steps", from_first(tag::BATCH, move |_| Say::Forever(empty_steps.clone()))),
        (
            "leaves without end",
            from_first(tag::BATCH, |_| {
                Say::Forever(Message::new(tag::LEAVES, &LeafRefs { last: false, refs: Vec::new() }))
            }),
        ),
        ("a message of another kind", always(tag::BATCH, |_| vec![changes(&[])])),
    ];
    for (name, lie) in &lies {
        bench.check_all(name, &shop, lie, &[7]);
    }
    let leaves = always(tag::LEAVES, |_| {
        vec![Message { tag: tag::LEAVES, body: vec![0x92, 0xc3, 0xdd, 0xff, 0xff, 0xff, 0xff] }]
    });
    bench.check("2^32 leaves", Has::Nothing, &shop, leaves, &[7]);
    let twice = always(tag::LEAVES, |m| vec![m.clone(), m]);
    bench.check("leaves twice", Has::Nothing, &shop, twice, &[7]);
    // What comes behind the last file may be left unread.
    let unasked = always(tag::BATCH, move |m| {
        let mut more = vec![m];
        more.extend((0..20).map(|_| {
            written(|w| {
                w.chunk(b"not asked for");
                w.end();
            })
        }));
        more
    });
    bench.check_all("files that nobody asked for", &shop, &unasked, &[0, 7]);
    let endless = |steps: &[Step]| {
        let part = batch(steps, &[]);
        from_first(tag::BATCH, move |_| Say::Forever(part.clone()))
    };
    let basis = Step::Basis(TreePath::new(b"large").unwrap());
    bench.check("a basis without end", Has::Before, &shop, endless(&[basis]), &[7]);
    bench.check("copies without end", Has::Before, &shop, endless(&[Step::Copy { from: 0, len: 1 << 40 }]), &[7]);
    bench.check("context without end", Has::Before, &shop, endless(&[Step::Old { from: 0, len: 1 }]), &[7]);
    let gone = always(tag::BATCH, |m| {
        let files =
            mirra::protocol::batch::Batch::decode(&m.body).unwrap().steps.iter().filter(|s| s.ends_file()).count();
        let mut writer = BatchWriter::default();
        (0..files).for_each(|_| writer.gone());
        vec![writer.take()]
    });
    bench.check_all("everything is gone", &shop, &gone, &[7, 23]);

    let list = |last: bool, short: usize| {
        Message::new(tag::CHUNKS, &Chunks { last, short: vec![1; short], samples: Vec::new() })
    };
    let lists: Vec<(&str, Lie)> = vec![
        ("a list that is too long", always(tag::CHUNKS, move |_| vec![list(true, 100_000 * SHORT_LEN)])),
        ("a list without end", from_first(tag::CHUNKS, move |_| Say::Forever(list(false, SHORT_LEN)))),
        ("an empty list without end", from_first(tag::CHUNKS, move |_| Say::Forever(list(false, 0)))),
        ("an id that is cut", always(tag::CHUNKS, move |_| vec![list(true, SHORT_LEN + 1)])),
        (
            "2^32 samples",
            always(tag::CHUNKS, |_| {
                vec![Message { tag: tag::CHUNKS, body: vec![0x93, 0xc3, 0xc4, 0, 0xdd, 0xff, 0xff, 0xff, 0xff] }]
            }),
        ),
    ];
    for (name, lie) in lists {
        bench.check(name, Has::Other, &shop, lie, &[7]);
    }
}

#[test]
fn literals_of_wrong_bytes_in_honest_steps_are_never_seen() {
    let bench = Bench::new();
    let shop = bench.honest();
    for place in [0usize, 1, 1_000, 40_000, usize::MAX] {
        let lie = always(tag::BATCH, move |m| {
            let honest = mirra::protocol::batch::Batch::decode(&m.body).unwrap();
            let total: u64 = honest.steps.iter().map(Step::literal_bytes).sum();
            // Without its context a frame cannot be read here; such a batch is passed on.
            let Ok(mut literals) = honest.literals(&[]) else { return vec![m] };
            if honest.prefix_len > 0 || total == 0 {
                return vec![m];
            }
            let at = place.min(literals.len() - 1);
            literals[at] ^= 1;
            vec![batch(&honest.steps, &literals)]
        });
        bench.check(&format!("byte {place}"), Has::Nothing, &shop, lie, &[7]);
    }
}

#[test]
fn batches_with_a_flipped_bit_are_never_seen() {
    let bench = Bench::new();
    let shop = bench.honest();
    for part in 1..8 {
        let lie = always(tag::BATCH, move |mut m| {
            let at = m.body.len() * part / 8;
            m.body[at] ^= 4;
            vec![m]
        });
        bench.check_all(&format!("{part}/8 of a batch"), &shop, &lie, &[7]);
    }
}

#[test]
fn answers_without_end_are_ended() {
    let bench = Bench::new();
    let shop = bench.honest();
    fn more(i: u64) -> Message {
        let records: Vec<_> = (0..2_000).map(|k| file_change(format!("n{:012}", i * 2_000 + k).as_bytes())).collect();
        changes(&records)
    }
    for has in [Has::Nothing, Has::Before] {
        let endless = from_first(tag::CHANGES, |_| Say::Growing(more));
        bench.check("entries without end", has, &shop, endless, &[7]);
        let empty = from_first(tag::CHANGES, |_| Say::Forever(changes(&[])));
        bench.check("messages without entries, without end", has, &shop, empty, &[7]);
    }
    let unknown = always(tag::STATE, |_| vec![Message { tag: 77, body: vec![1, 2, 3] }]);
    bench.check_all("an unknown tag below 128", &shop, &unknown, &[5, 7]);
    let refused = from_first(tag::CHANGES, |_| Say::These(vec![Message { tag: tag::REFUSED, body: vec![0xff] }]));
    bench.check("a refusal that is none", Has::Before, &shop, refused, &[7, 10]);
    let state =
        always(tag::STATE, |_| vec![Message { tag: tag::STATE, body: vec![0x93, 0xdd, 0xff, 0xff, 0xff, 0xff] }]);
    bench.check_all("2^32 root files", &shop, &state, &[7]);
    let twice = always(tag::STATE, |_| Vec::new());
    bench.check_all("no state", &shop, &twice, &[7, 10]);
}

#[test]
fn messages_that_may_be_skipped_are_skipped() {
    let bench = Bench::new();
    let (place, _) = bench.node(Has::Before);
    let lie: Lie = Arc::new(|_, m| Say::These(vec![Message { tag: 200, body: vec![0; 10] }, m]));
    let sender = Sender::start(bench.honest(), lie);
    sync(&place.path().join("node"), &sender, &[]).expect(0);
    same(&bench.new_tree, &walk(&place.path().join("node").join(MODULE)), "skipped");
}

#[test]
fn silence_ends_with_a_timeout() {
    let bench = Bench::new();
    let shop = bench.honest();
    std::thread::scope(|scope| {
        for tag in [tag::STATE, tag::CHANGES, tag::BATCH] {
            let (bench, shop) = (&bench, &shop);
            scope.spawn(move || {
                bench.check("silence", Has::Before, shop, from_first(tag, |_| Say::Silence), &[30]);
            });
        }
    });
}
