//! Followers that break the rules: they are thrown out, and all others are served.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use mirra::net::{Channel, Params, Stream, connect};
use mirra::protocol::connection::Priority;
use mirra::protocol::hello::Hello;
use mirra::protocol::limits::{FOLLOW_NAME_MAX, STREAMS_MAX};
use mirra::protocol::message::{At, Follow, Message, Offer, Refused, Route, State, body_max, refusal, tag};
use mirra::protocol::noise::SecretKey;
use mirra::tree::codec::decode;
use mirra::tree::hash::HeadId;
use tokio::runtime::Runtime;

use crate::fixture::{MODULE, mirra, same, walk};
use crate::live::{Place, soon};

/// One who calls a daemon and says what he likes.
pub(super) struct Client {
    /// Moves its bytes.
    _runtime: Runtime,
    channel: Channel,
}

impl Client {
    pub(super) fn new(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let key = SecretKey::from_bytes([5; 32]);
        let params = Params { key, hello: Hello::default(), max_body: body_max, check: Arc::new(|_| true) };
        let channel = connect(address.parse().unwrap(), &params, Duration::from_secs(20));
        let channel = runtime.block_on(channel).unwrap();
        Self { _runtime: runtime, channel }
    }

    /// Begins to follow a module.
    fn follow(&self, module: &str, at: Option<HeadId>) -> Stream {
        let stream = self.channel.open(Priority::Live);
        say(
            &stream,
            Message::new(tag::FOLLOW, &Follow { module: module.into(), have: at, at, root: 0, name: String::new() }),
        );
        stream
    }

    /// By which way news of a module comes.
    pub(super) fn route(&self, module: &str) -> Route {
        let stream = self.follow(module, None);
        decode("route", &next(&stream, tag::ROUTE).unwrap()).unwrap()
    }
}

fn say(stream: &Stream, message: Message) {
    stream.blocking_send(message.tag, message.body).unwrap();
}

/// The next message with this tag; `None` when the stream or the connection has ended before it.
fn next(stream: &Stream, wanted: u8) -> Option<Vec<u8>> {
    loop {
        let message = stream.blocking_recv().ok()??;
        if message.tag == wanted {
            return Some(message.body);
        }
    }
}

#[test]
fn followers_without_manners_are_thrown_out_alone() {
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| fs::write(tree.join("file"), "content").unwrap());
    let calm = Client::new(&root.address);
    let kept = calm.follow(MODULE, None);
    let offer: Offer = decode("offer", &next(&kept, tag::OFFER).unwrap()).unwrap();
    let refused = |stream: &Stream| {
        let body = next(stream, tag::REFUSED).expect("a refusal");
        decode::<Refused>("refusal", &body).unwrap().0
    };

    let rude = Client::new(&root.address);
    // It was told that the newest head is here already: nothing was offered since.
    let stream = rude.follow(MODULE, Some(offer.head));
    say(&stream, Message::new(tag::AT, &At(None)));
    assert_eq!(refused(&stream), refusal::BAD_REQUEST);
    let stream = rude.follow("no-such-module", None);
    assert_eq!(refused(&stream), refusal::NO_MODULE);
    let stream = rude.follow(MODULE, None);
    say(&stream, Message { tag: tag::AT, body: vec![0xc1; 100] });
    assert_eq!(refused(&stream), refusal::BAD_REQUEST);
    let stream = rude.channel.open(Priority::Live);
    say(&stream, Message { tag: tag::FOLLOW, body: vec![0xdd, 0xff, 0xff, 0xff, 0xff] });
    assert_eq!(refused(&stream), refusal::BAD_REQUEST);
    // Names go up to their limit.
    for (len, allowed) in [(FOLLOW_NAME_MAX, true), (FOLLOW_NAME_MAX + 1, false)] {
        let stream = rude.channel.open(Priority::Live);
        let name = "\u{1b}".repeat(len);
        say(&stream, Message::new(tag::FOLLOW, &Follow { module: MODULE.into(), have: None, at: None, root: 0, name }));
        if allowed {
            assert!(next(&stream, tag::ROUTE).is_some());
        } else {
            assert_eq!(refused(&stream), refusal::BAD_REQUEST);
        }
    }
    // A tag that does not exist may cost the connection, and no more than that.
    let stream = rude.follow(MODULE, None);
    say(&stream, Message { tag: 77, body: vec![1; 100] });
    soon("the end of the stream", || next(&stream, tag::REFUSED).or_else(|| Some(Vec::new())));
    // Heads that nobody has are no base, as often as they are named.
    let unknown = Client::new(&root.address);
    let stream = unknown.follow(MODULE, Some(HeadId::of(b"unknown")));
    for _ in 0..50 {
        let offer: Offer = decode("offer", &next(&stream, tag::OFFER).unwrap()).unwrap();
        assert_eq!(offer.base, None);
        say(&stream, Message::new(tag::AT, &At(Some(HeadId::of(b"unknown")))));
    }

    // The calm one is served as before.
    say(&kept, Message::new(tag::AT, &At(Some(offer.head))));
    fs::write(tree.join("file"), "changed").unwrap();
    let next_offer: Offer = decode("offer", &next(&kept, tag::OFFER).unwrap()).unwrap();
    assert_eq!(next_offer.base, Some(offer.head));
    drop((rude, unknown));
    soon("who has gone is not counted", || (root.status(MODULE)["followers"] == 1).then_some(()));
}

#[test]
fn one_who_follows_with_all_streams_he_has_keeps_nobody_else_waiting() {
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| fs::write(tree.join("file"), "content").unwrap());
    let many = Client::new(&root.address);
    let streams: Vec<Stream> = (0..STREAMS_MAX).map(|_| many.follow(MODULE, None)).collect();
    soon("all are counted", || (root.status(MODULE)["followers"] == STREAMS_MAX).then_some(()));
    // None of them reads, and the root changes.
    for round in 0..20 {
        fs::write(tree.join(format!("file{round}")), vec![round; 20_000]).unwrap();
        root.does(&["publish", MODULE]).expect(0);
    }
    let home = place.path("other");
    mirra(&home, &["sync", &root.address, MODULE, "--once"]).expect(0);
    same(&walk(&tree), &walk(&home.join(MODULE)), "another connection");
    // Each is told of the newest head when it looks, and of few between.
    let sequence = root.sequence(MODULE).unwrap();
    for stream in &streams {
        let mut heads = 0;
        loop {
            let state: State = decode("state", &next(stream, tag::STATE).unwrap()).unwrap();
            let Some(head) = state.head else { continue };
            heads += 1;
            let head: mirra::tree::signed::Head =
                mirra::tree::signed::Envelope::decode(&head).unwrap().unverified().unwrap();
            if head.sequence == sequence {
                break;
            }
        }
        assert!(heads <= 21, "{heads} heads");
    }
    drop(streams);
    drop(many);
    soon("who has gone is not counted", || (root.status(MODULE)["followers"] == 0).then_some(()));
}
