//! Lies about what was signed, and about the entries of a tree.

use super::*;

#[test]
fn words_that_the_owner_did_not_sign_change_nothing() {
    let bench = Bench::new();
    let owner = &bench.owner;
    let honest_shop = bench.honest();
    let built = *honest_shop
        .trees
        .values()
        .find(|b| b.id == Shop::new(owner, &[&bench.new]).trees.values().next().unwrap().id)
        .unwrap();
    let says = |change: &dyn Fn(&mut State)| {
        let mut shop = honest_shop.clone();
        change(&mut shop.state);
        shop
    };
    let signed = |head: &Head, key: &SigningKey| Some(ByteBuf::from(Envelope::sign(head, &[key]).encode()));
    let head = owner.head(2_000, built);
    let stranger = Owner::new(40);

    let unsigned = Envelope::sign(&head, &[]);
    let cases: Vec<(&str, Shop)> = vec![
        ("no head key", says(&|s| s.head = signed(&head, &stranger.head))),
        ("the root key for a head", says(&|s| s.head = signed(&head, &owner.root))),
        ("no signature", says(&|s| s.head = Some(ByteBuf::from(unsigned.encode())))),
        (
            "another module",
            says(&|s| {
                let other =
                    Head { module: ModuleId::of(&owner.authority(), "other"), name: "other".into(), ..head.clone() };
                s.head = signed(&other, &owner.head);
            }),
        ),
        (
            "another module under this name",
            says(&|s| {
                s.head =
                    signed(&Head { module: ModuleId::of(&stranger.authority(), MODULE), ..head.clone() }, &owner.head);
            }),
        ),
        ("another epoch", says(&|s| s.head = signed(&Head { epoch: 7, ..head.clone() }, &owner.head))),
        ("another format", says(&|s| s.head = signed(&Head { format: 9, ..head.clone() }, &owner.head))),
        ("a mode that is none", says(&|s| s.head = signed(&Head { mode: 0o6777, ..head.clone() }, &owner.head))),
        ("a byte after the head", says(&|s| s.head.as_mut().unwrap().push(0))),
        (
            "a flipped bit in the head",
            says(&|s| {
                let at = s.head.as_ref().unwrap().len() / 2;
                s.head.as_mut().unwrap()[at] ^= 1;
            }),
        ),
        (
            "a beat of a stranger",
            says(&|s| {
                let beat = Beat {
                    module: head.module,
                    epoch: 0,
                    sequence: 1_001,
                    head: HeadId::of(b""),
                    issued: now_ms(),
                    expires: now_ms() + 1_000,
                };
                s.beat = Some(ByteBuf::from(Envelope::sign(&beat, &[&stranger.head]).encode()));
            }),
        ),
        ("a beat for a head", says(&|s| s.head = s.beat.clone())),
        ("a root file for a head", says(&|s| s.head = s.roots.first().cloned())),
    ];
    for (name, shop) in cases {
        bench.check_all(name, &shop, &honest(), &[7]);
    }
    // What is only a lie to who has known the module before.
    let replay = Shop::new(owner, &[&bench.new, &bench.old]);
    let mut old = replay.clone();
    old.say(owner, &owner.head(999, built));
    bench.check("an older head", Has::Before, &old, honest(), &[7]);
    let mut equal = replay.clone();
    equal.say(owner, &owner.head(1_000, built));
    bench.check("an equal sequence with another head", Has::Before, &equal, honest(), &[7]);
    let usurped = Shop::new(&stranger, &[&bench.old, &bench.new]);
    bench.check("another owner", Has::Before, &usurped, honest(), &[7]);
    bench.check("no root file", Has::Nothing, &says(&|s| s.roots.clear()), honest(), &[7]);
    bench.check("no head", Has::Nothing, &says(&|s| s.head = None), honest(), &[7]);
    bench.check(
        "a second root file out of nowhere",
        Has::Nothing,
        &says(&|s| {
            let second = ByteBuf::from(stranger.root_file().encode());
            s.roots.push(second);
        }),
        honest(),
        &[7],
    );
}

#[test]
fn a_beat_that_is_over_is_no_proof_of_freshness() {
    let bench = Bench::new();
    let mut shop = bench.honest();
    let envelope = Envelope::decode(shop.state.head.as_ref().unwrap()).unwrap();
    let head: Head = envelope.unverified().unwrap();
    let beat = Beat {
        module: head.module,
        epoch: 0,
        sequence: head.sequence,
        head: HeadId::of(envelope.payload()),
        issued: now_ms() - 2 * DAY_MS,
        expires: now_ms() - DAY_MS,
    };
    shop.state.beat = Some(ByteBuf::from(Envelope::sign(&beat, &[&bench.owner.head]).encode()));
    let (place, _) = bench.node(Has::Before);
    let sender = Sender::start(shop, honest());
    let ended = sync(&place.path().join("node"), &sender, &[]).expect(0);
    assert!(ended.stderr.contains("stale"), "{ended:?}");
}

#[test]
fn entries_that_are_not_those_of_the_head_change_nothing() {
    let bench = Bench::new();
    let shop = bench.honest();
    let mut lies: Vec<(String, Lie)> = Vec::new();
    let mut add = |name: String, lie: Lie| lies.push((name, lie));
    let names: [&[u8]; 14] = [
        b"..",
        b".",
        b"/etc/evil",
        b"../canary/in/file",
        b"d/../../canary/x",
        b".mirra",
        b".mirra/keys/head",
        b"d/.mirra/x",
        b"a\0b",
        b"d//x",
        b"d/",
        b"",
        b"d/..",
        &[b'x'; 256],
    ];
    for name in names {
        for record in [file_change(name), change(name, operation::DIRECTORY), change(name, operation::REMOVE)] {
            let shown = format!("{:?} by operation {}", String::from_utf8_lossy(name), record.operation);
            add(shown, always(tag::CHANGES, move |_| vec![changes(std::slice::from_ref(&record))]));
        }
    }
    let link = |target: &[u8]| {
        let content = Some(WireContent::Link(target.to_vec()));
        WireChange { content, ..change(b"l", operation::LINK) }
    };
    let timed = |nanos| WireChange { mtime: Some(Mtime { seconds: 0, nanos }), ..file_change(b"x") };
    let bad = [
        ("a link target with NUL", vec![link(b"a\0b")]),
        ("an empty link target", vec![link(b"")]),
        ("a long link target", vec![link(&[b'x'; 5_000])]),
        ("mode 06777", vec![WireChange { mode: Some(0o6777), ..file_change(b"x") }]),
        ("an unknown operation", vec![change(b"x", 7)]),
        ("an unknown class", vec![file_of_class(b"x", 77)]),
        ("nanoseconds beyond a second", vec![timed(1_000_000_000)]),
        ("a file without content", vec![change(b"x", operation::FILE)]),
        ("paths out of order", vec![file_change(b"x"), file_change(b"b")]),
        ("one path twice", vec![file_change(b"x"), file_change(b"x")]),
        ("more kept than there is", vec![WireChange { keep: 5, ..file_change(b"x") }]),
        ("a huge keep", vec![WireChange { keep: u32::MAX, ..file_change(b"x") }]),
        ("a file below a file", vec![file_change(b"x"), file_change(b"x/y")]),
        (
            "a held directory that is not held",
            vec![WireChange {
                content: Some(WireContent::Directory(DirId::from_bytes([7; 32]))),
                ..change(b"x", operation::HELD_DIRECTORY)
            }],
        ),
        ("entries that nobody signed", vec![file_change(b"x")]),
    ];
    for (name, records) in bad {
        add(name.into(), always(tag::CHANGES, move |_| vec![changes(&records)]));
    }
    add("no entries".into(), always(tag::CHANGES, |_| Vec::new()));
    add(
        "a part of the entries".into(),
        always(tag::CHANGES, |m| {
            let records = records(&m);
            vec![changes(&records[..records.len() - 1])]
        }),
    );
    add("the entries twice".into(), always(tag::CHANGES, |m| vec![m.clone(), m]));
    let bent = |body: Vec<u8>| always(tag::CHANGES, move |_| vec![Message { tag: tag::CHANGES, body: pack(&body) }]);
    let honest = write(&[file_change(b"x")]);
    add("a column that is cut".into(), bent(honest[..honest.len() - 1].to_vec()));
    // The last column is that of the ids.
    add("a short file id".into(), {
        let (columns, id) = honest.split_at(honest.len() - 34);
        bent([columns, &[0xc4, 31], &id[3..]].concat())
    });
    add("2^32 operations".into(), bent([&[0x9b, 0xc6, 0xff, 0xff, 0xff, 0xff], &honest[..]].concat()));
    add(
        "2^32 records".into(),
        always(tag::CHANGES, |_| vec![Message { tag: tag::CHANGES, body: pack(&[0xdd, 0xff, 0xff, 0xff, 0xff]) }]),
    );
    add(
        "a packed bomb".into(),
        always(tag::CHANGES, |_| {
            let mut body = 1_000u32.to_be_bytes().to_vec();
            body.extend(pack_with(&vec![0; 100_000_000], 3, &[]).unwrap());
            vec![Message { tag: tag::CHANGES, body }]
        }),
    );
    add(
        "a packed length of 2^32 - 1".into(),
        always(tag::CHANGES, |mut m| {
            m.body[..4].fill(0xff);
            vec![m]
        }),
    );
    add(
        "nested arrays".into(),
        always(tag::CHANGES, |_| vec![Message { tag: tag::CHANGES, body: pack(&[0x91; 100_000]) }]),
    );
    for (name, lie) in lies {
        let ended = bench.check(&name, Has::Nothing, &shop, lie.clone(), &[7]);
        assert!(ended.stderr.contains("sent what cannot be right"), "{name}: {ended:?}");
    }
}

/// A tree with one directory page of the owner's, bent by `bend` before it is named and signed.
fn signed_page(bench: &Bench, bend: impl Fn(Vec<u8>) -> Vec<u8>) -> Shop {
    let mut shop = bench.honest();
    let entry = |name: &[u8], meta: Meta, body: Body| Entry {
        name: Name::new(name).unwrap(),
        meta,
        body,
        attributes: Vec::new(),
    };
    let body = shop.file(b"evil");
    let full = Meta { mode: 0o777, ..META };
    let link = Body::Link { target: (*b"TARGET").into() };
    let entries = vec![entry(b"NAMEXX", full, body.clone()), entry(b"link", full, link), entry(b"zz", META, body)];
    let bytes = bend(Page::<DirKind>::Leaf(entries).encode());
    let id = DirId::of(&bytes);
    shop.pages.insert(*id.as_bytes(), bytes);
    for name in ["NAMEXX", "zz"] {
        shop.files.insert(TreePath::new(name.as_bytes()).unwrap(), b"evil".to_vec());
    }
    let built = Built { id, entries: 3, bytes: 8 };
    let head = bench.owner.head(3_000, built);
    shop.say(&bench.owner, &head);
    shop
}

fn replace(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("what is to be replaced");
    bytes.splice(at..at + from.len(), to.iter().copied());
    bytes
}

/// The sender's machines would refuse to read such a page; this gives it out as it is.
fn give_page(shop: &Shop) -> Lie {
    let envelope = Envelope::decode(shop.state.head.as_ref().unwrap()).unwrap();
    let head: Head = envelope.unverified().unwrap();
    let page = shop.pages[head.snapshot.as_bytes()].clone();
    Arc::new(move |request, message| {
        let pages = Message { tag: tag::PAGES, body: pack(&encode(&[ByteBuf::from(page.clone())])) };
        Say::These(vec![match request {
            tag::DESCEND => pages,
            tag::TREE => Message::new(tag::BASE_UNKNOWN, &[(); 0]),
            _ => message,
        }])
    })
}

#[test]
fn pages_that_break_a_rule_are_refused_even_when_the_owner_signed_them() {
    let bench = Bench::new();
    type Bend = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;
    let name = |to: &'static [u8]| -> Bend {
        let wire = encode(&ByteBuf::from(to));
        Box::new(move |bytes| replace(bytes, &encode(&ByteBuf::from(&b"NAMEXX"[..])), &wire))
    };
    let target = |to: &'static [u8]| -> Bend { Box::new(move |bytes| replace(bytes, b"TARGET", to)) };
    let bends: Vec<(&str, Bend)> = vec![
        ("..", name(b"..")),
        (".", name(b".")),
        (".mirra", name(b".mirra")),
        ("a slash", name(b"../../")),
        ("an absolute name", name(b"/etc/x")),
        ("a NUL", name(b"a\0b")),
        ("an empty name", name(b"")),
        ("a name of 256 bytes", name(&[b'L'; 256])),
        ("names that do not ascend", name(b"zzzzzz")),
        ("a name twice", name(b"link")),
        ("a target with NUL", target(b"TA\0GET")),
        ("mode 06777", Box::new(|bytes| replace(bytes, &[0xcd, 0x01, 0xff], &[0xcd, 0x0d, 0xff]))),
        ("a longer form", Box::new(|bytes| replace(bytes, &[0xcd, 0x01, 0xff], &[0xce, 0, 0, 0x01, 0xff]))),
        ("a byte behind", Box::new(|bytes| [bytes, vec![0]].concat())),
        ("2^32 items", Box::new(|_| vec![0x92, 0x00, 0xdd, 0xff, 0xff, 0xff, 0xff])),
        ("nothing", Box::new(|_| Vec::new())),
        (
            "a level beyond all",
            Box::new(|mut bytes| {
                bytes[1] = 99;
                bytes
            }),
        ),
        ("content as a page", Box::new(|_| b"just some text".to_vec())),
    ];
    for (name, bend) in bends {
        let shop = signed_page(&bench, bend);
        let lie = give_page(&shop);
        // The lie is signed by the owner, so the honest state after it must be newer: it is not, and a rollback to it
        // is refused. What counts here is what the target holds.
        let (place, before) = bench.node(Has::Other);
        let home = place.path().join("node");
        let sender = Sender::start(shop, lie);
        let ended = sync(&home, &sender, &["--adopt"]).expect_failure(7);
        assert!(ended.stderr.contains("sent what cannot be right"), "{name}: {ended:?}");
        check_canary(place.path(), name);
        same(&before, &walk(&home.join(MODULE)), name);
    }
}

#[test]
fn a_descent_gives_the_pages_that_were_asked_for_and_no_others() {
    let bench = Bench::new();
    let shop = bench.honest();
    let envelope = Envelope::decode(shop.state.head.as_ref().unwrap()).unwrap();
    let head: Head = envelope.unverified().unwrap();
    let not_asked = |(id, _): &(&[u8; 32], &Vec<u8>)| *id != head.snapshot.as_bytes();
    let others: Vec<Vec<u8>> = shop.pages.iter().filter(not_asked).map(|(_, page)| page.clone()).collect();
    let pages = |list: Vec<Vec<u8>>| {
        let list: Vec<_> = list.into_iter().map(ByteBuf::from).collect();
        Message { tag: tag::PAGES, body: pack(&encode(&list)) }
    };
    let unpacked = |m: &Message| -> Vec<Vec<u8>> {
        let list: Vec<ByteBuf> =
            mirra::tree::codec::decode("pages", &mirra::protocol::packed::unpack(&m.body).unwrap()).unwrap();
        list.into_iter().map(ByteBuf::into_vec).collect()
    };
    let extra = others[0].clone();
    let lies: Vec<(&str, Lie)> = vec![
        ("one page more", always(tag::PAGES, move |m| vec![pages([unpacked(&m), vec![extra.clone()]].concat())])),
        ("each page twice", always(tag::PAGES, move |m| vec![m.clone(), m])),
        (
            "a flipped bit",
            always(tag::PAGES, move |m| {
                let mut list = unpacked(&m);
                let last = list[0].len() - 1;
                list[0][last] ^= 1;
                vec![pages(list)]
            }),
        ),
        (
            "2^32 pages",
            always(tag::PAGES, |_| vec![Message { tag: tag::PAGES, body: pack(&[0xdd, 0xff, 0xff, 0xff, 0xff]) }]),
        ),
        ("changes for pages", always(tag::PAGES, |_| vec![changes(&[file_change(b"x")])])),
        (
            "empty pages without end",
            from_first(tag::PAGES, move |_| Say::Forever(Message { tag: tag::PAGES, body: pack(&encode(&[(); 0])) })),
        ),
    ];
    for (name, lie) in lies {
        bench.check(name, Has::Other, &shop, lie, &[7]);
    }
    // What may be a brief page is found out by its rests, if it has as many files: then all is asked for. If it has others,
    // the sender does not understand what is asked of it.
    for other in others {
        let another = always(tag::PAGES, move |_| vec![pages(vec![other.clone()])]);
        bench.check("another page", Has::Other, &shop, another, &[0, 7, 10]);
    }
}

#[test]
fn a_lie_about_what_is_left_of_ids_changes_nothing() {
    let bench = Bench::new();
    let rest = |body: Vec<u8>| Message { tag: tag::REST, body };
    let lies: Vec<(&str, Lie)> = vec![
        ("cut", always(tag::REST, move |m| vec![rest(m.body[1..].to_vec())])),
        ("empty", always(tag::REST, move |_| vec![rest(Vec::new())])),
        ("one more", always(tag::REST, move |m| vec![rest([&m.body[..], &m.body[..27]].concat())])),
        ("twice", always(tag::REST, |m| vec![m.clone(), m])),
        ("without end", from_first(tag::REST, Say::Forever)),
        ("a page for it", always(tag::REST, |_| vec![Message { tag: tag::PAGES, body: pack(&encode(&[(); 0])) }])),
    ];
    for (name, lie) in lies {
        bench.check(name, Has::Other, &bench.honest(), lie, &[7]);
    }
    let too_long = always(tag::REST, move |_| vec![rest(vec![0; 10_000_000])]);
    bench.check("too long", Has::Other, &bench.honest(), too_long, &[5]);
    // Whoever gives other ids may have been right: then a file was taken for another one here. All is asked for.
    let flipped = always(tag::REST, move |m| vec![rest(m.body.iter().map(|byte| byte ^ 1).collect())]);
    bench.check("other ids", Has::Other, &bench.honest(), flipped, &[0]);
}
