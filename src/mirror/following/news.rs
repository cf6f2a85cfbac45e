//! The stream of news: what is said of the newest head is believed and passed on at once, and offers are gathered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use crate::disk::index::ModuleNumber;
use crate::disk::index::heads::{HeadState, StoredHead};
use crate::mirror::dial::{lost, nonsense, unexpected};
use crate::mirror::failure::{Exit, Failure};
use crate::mirror::node::distrust;
use crate::mirror::served::{Newest, Served};
use crate::mirror::site::Site;
use crate::mirror::take_tree::index_failure;
use crate::mirror::trust::{Known, believe};
use crate::net::{Message, Stream};
use crate::protocol::message::{self, Offer, Route, State, tag};
use crate::protocol::pack::{Pack, PushReader};
use crate::tree::address::Address;
use crate::tree::codec::{Malformed, decode};
use crate::tree::signed::{Envelope, Head};

/// What the thread that works hears of.
pub(in crate::mirror) enum Event {
    /// Something newer is known; said once until it was heard.
    News,
    /// The source holds a head, and this came with it.
    Offer(Offer, Option<Pack>),
    /// Nothing more will come.
    Ended(Failure),
    /// Someone wants to be heard.
    Look,
}

/// What reader and worker share.
#[derive(Default)]
pub(super) struct Shared {
    /// News was given and not heard yet.
    pub(super) told: AtomicBool,
    /// The source may make an offer.
    pub(super) may_offer: AtomicBool,
    /// The source has answered, and does not follow this mirra.
    pub(super) met: AtomicBool,
    /// The source mirrors the module in part.
    pub(super) partial: AtomicBool,
}

/// Reads one stream to its end.
pub(super) struct Reader {
    pub(super) site: Arc<Site>,
    pub(super) served: Arc<Served>,
    pub(super) from: Address,
    pub(super) module: ModuleNumber,
    pub(super) stream: Arc<Stream>,
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn run(self, give: &Sender<Event>) {
        let ended = match self.read(give) {
            Ok(()) => Failure::new(
                Exit::Network,
                format!("{} tells no more of {}", self.from.host, self.name()),
                "it ended the stream of news",
                "nothing: it is called again",
            ),
            Err(failure) => failure,
        };
        // Nobody listens once the worker has gone.
        let _ = give.send(Event::Ended(ended));
    }

    fn name(&self) -> &str {
        &self.served.name
    }

    fn read(&self, give: &Sender<Event>) -> Result<(), Failure> {
        let host = &self.from.host;
        let wrong = |error: &Malformed| nonsense(host, error);
        let mut push: Option<(Offer, PushReader)> = None;
        while let Some(Message { tag, body }) = self.stream.blocking_recv().map_err(|e| lost(host, &e))? {
            let message = message::Message { tag, body };
            if message.tag == tag::PARTIAL {
                self.shared.partial.store(true, Ordering::Relaxed);
                continue;
            }
            match (message.tag, push.take()) {
                (tag::ROUTE, None) => {
                    self.route(&decode("route", &message.body).map_err(|e| wrong(&e))?)?;
                    self.shared.met.store(true, Ordering::Relaxed);
                }
                (tag::STATE, None) => {
                    if self.believe(&decode("state", &message.body).map_err(|e| wrong(&e))?)?
                        && !self.shared.told.swap(true, Ordering::Relaxed)
                    {
                        let _ = give.send(Event::News);
                    }
                }
                (tag::OFFER, None) => {
                    let offer: Offer = decode("offer", &message.body).map_err(|e| wrong(&e))?;
                    if !self.shared.may_offer.swap(false, Ordering::Relaxed) {
                        return Err(wrong(&Malformed::Rule { what: "offer", rule: "was not its turn" }));
                    }
                    if offer.base.is_none() {
                        let _ = give.send(Event::Offer(offer, None));
                        continue;
                    }
                    let mut reader = PushReader::new(offer.clone()).map_err(|e| wrong(&e))?;
                    match reader.whole().map_err(|e| wrong(&e))? {
                        Some(pack) => drop(give.send(Event::Offer(offer, Some(pack)))),
                        None => push = Some((offer, reader)),
                    }
                }
                (_, Some((offer, mut reader))) => match reader.take(message).map_err(|e| wrong(&e))? {
                    Some(pack) => drop(give.send(Event::Offer(offer, Some(pack)))),
                    None => push = Some((offer, reader)),
                },
                (_, None) => return Err(unexpected(host, self.name(), &message)),
            }
        }
        Ok(())
    }

    /// A mirra that hears its own news follows itself.
    fn route(&self, route: &Route) -> Result<(), Failure> {
        if route.passes(&self.site.tag) {
            return Err(in_a_loop(&self.from));
        }
        self.served.set_route(Some(route));
        Ok(())
    }

    /// Believes what is said, records it, and passes it on; says whether it is anything newer.
    fn believe(&self, state: &State) -> Result<bool, Failure> {
        let index = &self.site.index;
        let known = Known::load(index, self.module).map_err(index_failure)?;
        if self.is_older(state, known.head.as_ref()).map_err(|e| nonsense(&self.from.host, &e))? {
            tracing::info!(module = self.name(), host = %self.from.host, "the source is behind what is known here");
            return Ok(false);
        }
        let believed = believe(index, self.module, self.name(), self.from.key, &known, state);
        if believed.map_err(|error| distrust(&self.from, error))?.first_contact {
            tracing::warn!(module = self.name(), host = %self.from.host, "first contact: the key was taken on trust");
        }
        let reader = index.reader().map_err(index_failure)?;
        let newest = reader.newest_head(self.module, HeadState::Accepted).map_err(index_failure)?;
        let beat = reader.beat(self.module).map_err(index_failure)?;
        let roots = reader.root_files(self.module, 1).map_err(index_failure)?;
        if let Some(newest) = newest.and_then(|stored| Newest::of(&stored, beat)) {
            self.served.announce(newest, roots);
        }
        Ok(true)
    }

    /// Whether the source has not heard yet of what is known here: it may follow another way to the root.
    fn is_older(&self, state: &State, known: Option<&StoredHead>) -> Result<bool, Malformed> {
        let (Some(bytes), Some(known)) = (&state.head, known) else { return Ok(false) };
        let head: Head = Envelope::decode(bytes)?.unverified()?;
        Ok((head.epoch, head.sequence) < (known.epoch, known.sequence))
    }
}

fn in_a_loop(from: &Address) -> Failure {
    let name = from.module.as_deref().unwrap_or_default();
    Failure::new(
        Exit::Config,
        format!("{name} is followed in a loop"),
        format!("what {} knows of it comes from here", from.host),
        format!("follow a mirra that is nearer to its root: change from in [module.{name}] of .mirra/Mirra.toml"),
    )
}
