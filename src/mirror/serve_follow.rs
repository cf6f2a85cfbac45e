//! Answering one who follows: news as soon as there is any, and what leads to the newest head as soon as it can take it.
//!
//! Nothing queues up behind a slow follower: what it has not been told yet is replaced by what is newer.

use std::sync::Arc;
use std::time::Duration;

use super::catalog::{Catalog, state};
use super::followers::Follower;
use super::served::{Newest, News, Served};
use crate::net::{ChannelError, Stream};
use crate::protocol::connection::Priority;
use crate::protocol::limits::{FOLLOW_NAME_MAX, PUSH_CONTENT_MAX};
use crate::protocol::message::{At, Follow, Message, Offer, Partial, Refused, Route, refusal, tag};
use crate::protocol::pack::Pack;
use crate::protocol::sender::Source;
use crate::tree::codec::decode;
use crate::tree::hash::HeadId;

/// How often a follower that has not taken the last news yet is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Answers FOLLOW until the follower, the module or the connection goes.
pub(super) async fn follow(mut stream: Stream, catalog: &Arc<Catalog>, request: &Message) -> Result<(), ChannelError> {
    let Ok(follow) = decode::<Follow>("follow", &request.body) else {
        return refuse(&stream, refusal::BAD_REQUEST).await;
    };
    let Some(served) = catalog.get(&follow.module) else {
        return refuse(&stream, refusal::NO_MODULE).await;
    };
    stream.set_priority(Priority::Live);
    if follow.name.len() > FOLLOW_NAME_MAX {
        return refuse(&stream, refusal::BAD_REQUEST).await;
    }
    let place = served.followers.enter(Follower { name: follow.name, at: follow.at });
    let mut changed = served.subscribe();
    let told = Told { head: follow.have, root: follow.root, beat: None, route: None, partial: false };
    let mut answer = Following { stream, catalog, served, told, at: Some(follow.at), asks: false };
    loop {
        changed.mark_unchanged();
        let waits = match answer.tell().await? {
            Next::Wait => None,
            Next::LookAgain => Some(LOOK_AGAIN),
            Next::End => return Ok(()),
        };
        tokio::select! {
            message = answer.stream.recv() => match message? {
                None => return answer.stream.finish(),
                Some(message) if message.tag == tag::PARTIAL => answer.asks = true,
                Some(message) => {
                    let at = decode::<At>("at", &message.body);
                    match (message.tag, at, answer.at) {
                        (tag::AT, Ok(At(at)), None) => {
                            place.is_at(at);
                            answer.at = Some(at);
                        }
                        _ => return refuse(&answer.stream, refusal::BAD_REQUEST).await,
                    }
                }
            },
            _ = changed.changed() => {}
            () = pause(waits) => {}
        }
    }
}

async fn pause(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

async fn refuse(stream: &Stream, code: u16) -> Result<(), ChannelError> {
    let Message { tag, body } = Message::new(tag::REFUSED, &Refused(code));
    stream.send(tag, body).await?;
    stream.finish()
}

/// What a follower has been told.
struct Told {
    head: Option<HeadId>,
    root: u64,
    /// When the last beat was issued.
    beat: Option<u64>,
    route: Option<Route>,
    partial: bool,
}

struct Following<'a> {
    stream: Stream,
    catalog: &'a Arc<Catalog>,
    served: Arc<Served>,
    told: Told,
    /// What it has published, if it can take an offer.
    at: Option<Option<HeadId>>,
    /// It takes a part, and asks for that itself.
    asks: bool,
}

enum Next {
    Wait,
    /// There is more to say, once the follower has taken the last of it.
    LookAgain,
    End,
}

impl Following<'_> {
    async fn tell(&mut self) -> Result<Next, ChannelError> {
        if !self.catalog.get(&self.served.name).is_some_and(|served| Arc::ptr_eq(&served, &self.served)) {
            refuse(&self.stream, refusal::NO_MODULE).await?;
            return Ok(Next::End);
        }
        let news = self.served.news();
        let Some(route) = &news.route else {
            // Whoever is so far from the root may still poll.
            refuse(&self.stream, refusal::TOO_LARGE).await?;
            return Ok(Next::End);
        };
        if self.stream.pending() > 0 {
            return Ok(if self.is_new(&news) { Next::LookAgain } else { Next::Wait });
        }
        if self.told.route.as_ref() != Some(route) {
            self.send(Message::new(tag::ROUTE, route)).await?;
            self.told.route = Some(route.clone());
        }
        if news.partial && !self.told.partial {
            self.send(Message::new(tag::PARTIAL, &Partial(self.served.name.clone()))).await?;
            self.told.partial = true;
        }
        self.tell_state(&news).await?;
        self.offer(&news).await?;
        Ok(if self.is_new(&self.served.news()) { Next::LookAgain } else { Next::Wait })
    }

    fn is_new(&self, news: &News) -> bool {
        let head = news.announced.as_ref().is_some_and(|newest| {
            Some(newest.id) != self.told.head || newest.beat.as_ref().map(|(issued, _)| *issued) > self.told.beat
        });
        let root = news.roots.last().is_some_and(|(version, _)| *version > self.told.root);
        head || root || self.told.route != news.route || self.offered(news).is_some()
    }

    async fn tell_state(&mut self, news: &News) -> Result<(), ChannelError> {
        let Some(newest) = &news.announced else { return Ok(()) };
        let beat = newest.beat.as_ref().map(|(issued, _)| *issued);
        let root = news.roots.last().map_or(0, |(version, _)| *version);
        if (Some(newest.id), root) == (self.told.head, self.told.root) && beat <= self.told.beat {
            return Ok(());
        }
        let state = state(newest, &news.roots, self.told.head, self.told.root);
        self.told.root += state.roots.len() as u64;
        (self.told.head, self.told.beat) = (Some(newest.id), beat);
        self.send(Message::new(tag::STATE, &state)).await
    }

    /// The base and the head of the offer that is due: it has its turn, and it is not there yet.
    fn offered<'n>(&self, news: &'n News) -> Option<(Option<HeadId>, &'n Newest)> {
        let held = news.held.as_ref()?;
        let at = self.at?;
        (at != Some(held.id)).then_some((at, held))
    }

    async fn offer(&mut self, news: &News) -> Result<(), ChannelError> {
        let Some((base, held)) = self.offered(news) else { return Ok(()) };
        let head = held.id;
        self.at = None;
        let base = base.filter(|_| !self.asks && !news.partial);
        let (catalog, served, held) = (self.catalog.clone(), self.served.clone(), held.clone());
        let pack = tokio::task::spawn_blocking(move || pack(&catalog, &served, base?, &held)).await.ok().flatten();
        let Some(pack) = pack else {
            let offer = Offer { head, base: None, changes: 0, files: 0, content: 0 };
            return self.send(Message::new(tag::OFFER, &offer)).await;
        };
        let with_content = pack.content_bytes() <= PUSH_CONTENT_MAX;
        for message in pack.messages(with_content) {
            self.send(message).await?;
        }
        Ok(())
    }

    async fn send(&self, message: Message) -> Result<(), ChannelError> {
        self.stream.send(message.tag, message.body).await
    }
}

/// The difference from `base` to the head that is held, if `base` is known here and the difference is small enough to be
/// pushed.
fn pack(catalog: &Arc<Catalog>, served: &Served, base: HeadId, held: &Newest) -> Option<Arc<Pack>> {
    let library = catalog.library().ok()?;
    let built = library.tree(&served.name, &base).ok().flatten()?;
    let sequence = (held.head.previous == Some(base)).then_some(held.head.sequence);
    served.offers.pack(&library, &served.name, (base, built), (held.id, held.built()), sequence)
}
