//! Lies to a daemon that follows: it goes on with the truth as soon as that is said, and until then it shows what the
//! root has signed.

use std::sync::atomic::{AtomicU64, Ordering};

use mirra::protocol::message::{At, Offer, Route};
use mirra::protocol::pack::Pack;
use mirra::tree::codec::decode;

use super::*;
use crate::fixture::try_walk;
use crate::live::{Place, soon};

/// Memory that no news may take.
const MEMORY_MAX: u64 = 300 * 1024 * 1024;

type Lying = fn(&Teller<'_>);

/// The end of a stream at which news is told.
struct Teller<'a> {
    shop: &'a Shop,
    stream: &'a Stream,
    old: HeadId,
    new: HeadId,
}

impl Teller<'_> {
    /// Says it; nothing when the other end has hung up.
    fn say(&self, message: Message) {
        drop(self.stream.blocking_send(message.tag, message.body));
    }

    fn route(&self, tags: &[[u8; 16]]) {
        self.say(Message::new(tag::ROUTE, &tags.iter().map(|tag| ByteBuf::from(*tag)).collect::<Vec<_>>()));
    }

    /// What `shop` says of its newest head; the daemon has its root file.
    fn state_of(&self, shop: &Shop) {
        self.say(Message::new(tag::STATE, &State { roots: Vec::new(), ..shop.state.clone() }));
    }

    fn state(&self) {
        self.state_of(self.shop);
    }

    fn opening(&self) {
        self.route(&[[7; 16]]);
        self.state();
    }

    fn offer(&self, head: HeadId) {
        self.say(Message::new(tag::OFFER, &Offer { head, base: None, changes: 0, files: 0, content: 0 }));
    }

    /// The next AT, if there is one.
    fn at(&self) -> Option<At> {
        let message = self.stream.blocking_recv().ok()??;
        assert_eq!(message.tag, tag::AT);
        decode("at", &message.body).ok()
    }

    fn truth(&self) {
        self.opening();
        self.offer(self.new);
        while self.at().is_some() {}
    }

    fn pack(&self) -> Pack {
        let built = |id| (id, self.shop.trees[&id]);
        Pack::build(self.shop, MODULE, built(self.old), built(self.new)).unwrap().unwrap()
    }
}

/// The head that a state names.
fn head_of(state: &State) -> HeadId {
    HeadId::of(Envelope::decode(state.head.as_ref().unwrap()).unwrap().payload())
}

/// Lets a daemon that has the version before follow a liar, who says the truth from the second time on. `said` is what
/// the daemon's log has of it; nothing if the lie is not worth a word.
fn check(bench: &Bench, name: &str, lie: Lying, said: &str) {
    let before = Shop::new(&bench.owner, &[&bench.old]);
    let (shop, old) = (bench.honest(), head_of(&before.state));
    let new = head_of(&shop.state);
    let times = AtomicU64::new(0);
    let news: News = Arc::new(move |shop, stream, _| {
        let teller = Teller { shop, stream, old, new };
        if times.fetch_add(1, Ordering::Relaxed) == 0 { lie(&teller) } else { teller.truth() }
    });
    // Senders wait for whoever listens, so the daemon has to go first.
    let (first, sender) = (Sender::start(before, honest()), Sender::with_news(shop, honest(), news));
    let place = Place::new();
    let node = place.daemon("node");
    node.does(&["sync", &first.address.to_string(), MODULE, "--once"]).expect(0);
    node.does(&["sync", &sender.address.to_string(), MODULE]).expect(0);
    soon(name, || {
        let now = try_walk(&node.target(MODULE)).ok()?;
        each_whole(&now, &[&bench.old_tree, &bench.new_tree], name);
        (now == bench.new_tree).then_some(())
    });
    soon(&format!("{name}: {said}"), || node.log().contains(said).then_some(()));
    assert!(node.memory() < MEMORY_MAX, "{name}: {} bytes", node.memory());
    soon(&format!("{name}: the cure"), || node.status(MODULE)["error"].is_null().then_some(()));
}

fn check_all(lies: &[(&str, Lying, &str)]) {
    let bench = Bench::new();
    std::thread::scope(|scope| {
        let all: Vec<_> =
            lies.iter().map(|(name, lie, said)| scope.spawn(|| check(&bench, name, *lie, said))).collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    });
}

#[test]
fn offers_and_pushes_that_are_wrong_show_nothing_wrong() {
    check_all(&[
        (
            "an offer that was not its turn",
            |to| {
                to.opening();
                to.offer(to.new);
                to.offer(to.new);
                to.at();
            },
            "was not its turn",
        ),
        (
            "an offer of too much",
            |to| {
                to.opening();
                let offer = Offer { head: to.new, base: Some(to.old), changes: u32::MAX, files: 0, content: 0 };
                to.say(Message::new(tag::OFFER, &offer));
                to.at();
            },
            "changes of an offer",
        ),
        (
            "a push of too much",
            |to| {
                to.opening();
                let offer = Offer { head: to.new, base: Some(to.old), changes: 100, files: 0, content: 0 };
                to.say(Message::new(tag::OFFER, &offer));
                (0..100).for_each(|_| to.say(Message { tag: tag::CHANGES, body: vec![0x93; 60_000] }));
                to.at();
            },
            "changes of a push",
        ),
        (
            "a push of entries that nobody signed",
            |to| {
                to.opening();
                let offer = Offer { head: to.new, base: Some(to.old), changes: 1, files: 0, content: 0 };
                to.say(Message::new(tag::OFFER, &offer));
                to.say(changes(&[file_change(b"evil")]));
                to.at();
            },
            "",
        ),
        (
            "a push whose content is wrong",
            |to| {
                to.opening();
                let pack = to.pack();
                let mut writer = BatchWriter::default();
                for _ in pack.files() {
                    writer.chunk(&[b'!'; 5_000]);
                    writer.end();
                }
                for message in pack.messages(true) {
                    match message.tag {
                        tag::OFFER => {
                            let offer: Offer = decode("offer", &message.body).unwrap();
                            to.say(Message::new(tag::OFFER, &Offer { content: 1, ..offer }));
                        }
                        tag::LEAVES | tag::BATCH => {}
                        _ => to.say(message),
                    }
                }
                to.say(writer.take());
                while to.at().is_some() {}
            },
            "",
        ),
        (
            "a push whose content is another kind of message",
            |to| {
                to.opening();
                for message in to.pack().messages(true) {
                    let body = if message.tag == tag::BATCH { vec![0xff; 40] } else { message.body };
                    to.say(Message { tag: message.tag, body });
                }
                to.at();
            },
            "it did not work",
        ),
        (
            "an offer of a head that nobody signed",
            |to| {
                to.opening();
                to.offer(HeadId::of(b"nothing"));
                assert_eq!(to.at(), Some(At(Some(to.old))));
                to.offer(to.new);
                while to.at().is_some() {}
            },
            "",
        ),
    ]);
}

#[test]
fn news_that_is_wrong_is_not_passed_on() {
    check_all(&[
        (
            "an older head after a newer one",
            |to| {
                to.opening();
                let old = Owner::new(20).head(1_000, to.shop.trees[&to.old]);
                let mut shop = to.shop.clone();
                shop.say(&Owner::new(20), &old);
                to.state_of(&shop);
                to.offer(to.old);
                assert_eq!(to.at(), Some(At(Some(to.old))));
                to.offer(to.new);
                while to.at().is_some() {}
            },
            "is behind what is known here",
        ),
        (
            "a head of another owner",
            |to| {
                let mut shop = to.shop.clone();
                let thief = Owner::new(90);
                shop.say(&thief, &thief.head(5_000, to.shop.trees[&to.old]));
                to.route(&[[7; 16]]);
                to.state_of(&shop);
                to.at();
            },
            "it did not work",
        ),
        (
            "a route that is too long",
            |to| {
                to.route(&[[7; 16]; 17]);
                to.at();
            },
            "mirras of a route",
        ),
        (
            "a route of nobody",
            |to| {
                to.route(&[]);
                to.at();
            },
            "names no mirra",
        ),
        (
            "messages that are none",
            |to| {
                to.opening();
                to.say(Message { tag: tag::ROUTE, body: vec![0xdd, 0xff, 0xff, 0xff, 0xff] });
                to.at();
            },
            "it did not work",
        ),
        (
            "an answer to another question",
            |to| {
                to.opening();
                to.say(changes(&[]));
                to.at();
            },
            "a message of another kind",
        ),
        (
            "news without end",
            |to| {
                for n in 0..2_000u32 {
                    to.route(&vec![n.to_be_bytes().repeat(4).try_into().unwrap(); 15]);
                    if n % 10 == 0 {
                        to.state();
                    }
                }
            },
            "",
        ),
    ]);
}

#[test]
fn a_route_through_the_follower_is_a_loop() {
    let bench = Bench::new();
    let (shop, heard) = (bench.honest(), Arc::new(Mutex::new(None::<Route>)));
    let new = head_of(&shop.state);
    let own = heard.clone();
    let news: News = Arc::new(move |shop, stream, _| {
        let teller = Teller { shop, stream, old: new, new };
        if let Some(route) = &*own.lock().unwrap() {
            teller.route(route.tags());
            teller.state();
        }
        teller.offer(new);
        while teller.at().is_some() {}
    });
    let sender = Sender::with_news(shop, honest(), news);
    let place = Place::new();
    let node = place.daemon("node");
    node.does(&["sync", &sender.address.to_string(), MODULE, "--once"]).expect(0);
    let route = super::followers::Client::new(&node.address).route(MODULE);
    *heard.lock().unwrap() = Some(route);
    node.does(&["pause", MODULE]).expect(0);
    node.does(&["resume", MODULE]).expect(0);
    let status = soon("the loop", || Some(node.status(MODULE)).filter(|status| status["activity"] == "loop"));
    assert_eq!(status["state"], "followed in a loop");
    same(&bench.new_tree, &walk(&node.target(MODULE)), "what was there");
}
