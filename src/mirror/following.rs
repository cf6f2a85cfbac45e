//! Following a module: a stream of news from the mirra above, and a thread that brings each newest head to the disk.
//!
//! News is believed and passed on as it comes, also while content is still on its way. A complete head is published
//! before the next one is asked for; what lies between the two is never asked for.

mod news;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

pub(super) use news::Event;
use news::{Reader, Shared};

use super::command::TIMEOUT;
use super::config::{Followed, Kind};
use super::desk::Desk;
use super::failure::{Exit, Failure};
use super::line::Line;
use super::monitor::Stop;
use super::node::{Local, Node, Setback};
use super::served::Served;
use super::site::Site;
use super::status::Activity;
use super::take_tree::index_failure;
use super::trust::{Known, recall};
use crate::disk::index::ModuleNumber;
use crate::disk::index::heads::{HeadState, StoredHead};
use crate::net::Stream;
use crate::protocol::message::{At, Follow, Message, Offer, Partial, tag};
use crate::protocol::pack::Pack;

/// Pauses before a source is called again: the first and the longest. Each is cut by chance, so that those whom the same
/// failure threw out do not all come back at once.
const AGAIN_FIRST: Duration = Duration::from_millis(500);
const AGAIN_MOST: Duration = Duration::from_secs(60);
/// A session that lasted so long was good: the next pause is a first one again.
const GOOD_AFTER: Duration = Duration::from_secs(30);
/// How long a newer head is waited for when the content of one is gone at the source.
const NEWER_IN: Duration = Duration::from_secs(2);
/// How often the whole directory is looked at, in case someone else writes there.
const SWEEP: Duration = Duration::from_secs(3_600);

/// A module that is kept up to date.
pub(super) struct Following {
    pub(super) site: Arc<Site>,
    pub(super) desk: Arc<Desk>,
    pub(super) followed: Followed,
    pub(super) stop: Stop,
}

/// Wakes a thread that follows.
pub(super) type Bell = Sender<Event>;

/// Makes a bell, and what the thread hears it with.
pub(super) fn bell() -> (Bell, Receiver<Event>) {
    channel()
}

impl Following {
    /// Works until it is told to stop.
    pub(super) fn run(&self, bell: &Bell, events: &Receiver<Event>) {
        let mut again = AGAIN_FIRST;
        while !self.stop.requested() {
            let began = Instant::now();
            self.desk.rest(Activity::Connecting);
            let Err(failure) = self.session(bell, events) else { break };
            if failure.exit == Exit::Interrupted {
                continue;
            }
            if began.elapsed() >= GOOD_AFTER {
                again = AGAIN_FIRST;
            }
            let pause = jittered(again);
            again = (again * 2).min(AGAIN_MOST);
            self.desk.trouble(&failure, Some(pause));
            // Within a session only a loop is a matter of the config.
            self.desk.rest(if failure.exit == Exit::Config { Activity::Loop } else { Activity::Waiting });
            self.stop.wait(pause);
        }
    }

    fn node(&self) -> Node<'_> {
        Node {
            index: &self.site.index,
            home: self.site.home.inner().dir(),
            from: &self.followed.from,
            into: self.site.home.base().join(&self.followed.into),
            filter: &self.followed.filter,
            adopt: false,
            seeds: &[],
        }
    }

    /// One connection's worth of following; ends well only when it is told to stop.
    fn session(&self, bell: &Bell, events: &Receiver<Event>) -> Result<(), Failure> {
        let node = self.node();
        node.claim()?;
        let served = self.site.serve(node.name(), &Kind::Followed(self.followed.clone()))?;
        let monitor = self.desk.monitor(&self.stop);
        let used = self.site.peers.channel(&self.followed.from.host, TIMEOUT, &monitor)?;
        drop(monitor);
        let (host, runtime) = (&self.followed.from.host, &self.site.runtime);
        let line = Line::on(used.channel.clone(), runtime, host, node.name(), TIMEOUT);
        let module = self.site.index.module_number(node.name()).map_err(index_failure)?;
        let known = Known::load(&self.site.index, module).map_err(index_failure)?;
        let published = self.published(module)?;
        let partial = self.followed.filter.is_partial();
        let follow = Follow {
            module: node.name().to_owned(),
            have: known.head.as_ref().map(|head| head.id),
            // Who takes a part has no use for what leads from one whole tree to the next.
            at: published.as_ref().map(|stored| stored.id).filter(|_| !partial),
            root: known.roots.last().map_or(0, |(version, _)| *version),
            name: if self.followed.show_name {
                self.site.config_file().config().server.name.clone()
            } else {
                String::new()
            },
        };
        if node.takes_other_than_is_held(module, &self.desk)? {
            // It is looked at as soon as the source has answered, and becomes what the rules say now.
            *self.desk.work() = None;
        }
        let stream = Arc::new(line.live());
        let shared = Arc::new(Shared::default());
        let reader = Reader {
            site: self.site.clone(),
            served: served.clone(),
            from: self.followed.from.clone(),
            module,
            stream: stream.clone(),
            shared: shared.clone(),
        };
        shared.may_offer.store(true, Ordering::Relaxed);
        line.send_on(&stream, Message::new(tag::FOLLOW, &follow))?;
        if partial {
            line.send_on(&stream, Message::new(tag::PARTIAL, &Partial(node.name().to_owned())))?;
        }
        // What an earlier session left behind is not of this one.
        while events.try_recv().is_ok() {}
        self.desk.rest(Activity::Following);
        let give = bell.clone();
        let reading = std::thread::Builder::new().name("news".into()).spawn(move || reader.run(&give));
        let reading = reading.map_err(|e| Failure::local("cannot start a thread", &e))?;
        let mut work = Work {
            following: self,
            node,
            line: &line,
            served: &served,
            module,
            published,
            stream: &stream,
            shared: &shared,
            owes_at: None,
            swept: Instant::now(),
            counted: line.wire(),
        };
        let ended = work.run(events);
        // This ends the reader as well.
        stream.reset(crate::protocol::error::reset::CANCELLED);
        if reading.join().is_err() {
            tracing::error!("a thread that reads news has panicked");
        }
        ended
    }

    fn published(&self, module: ModuleNumber) -> Result<Option<StoredHead>, Failure> {
        let reader = self.site.index.reader().map_err(index_failure)?;
        reader.newest_head(module, HeadState::Published).map_err(index_failure)
    }
}

/// What one session works with.
struct Work<'a> {
    following: &'a Following,
    node: Node<'a>,
    line: &'a Line,
    served: &'a Arc<Served>,
    module: ModuleNumber,
    published: Option<StoredHead>,
    stream: &'a Arc<Stream>,
    shared: &'a Shared,
    /// The source does not know yet that it may offer again; it is told at that time, or when there is news.
    owes_at: Option<Instant>,
    swept: Instant,
    /// Bytes that had gone and come when they were last counted.
    counted: (u64, u64),
}

/// How often a session looks up although nothing happens.
const LOOK_UP: Duration = Duration::from_secs(1);

impl Work<'_> {
    fn run(&mut self, events: &Receiver<Event>) -> Result<(), Failure> {
        loop {
            let event = match events.recv_timeout(LOOK_UP) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            self.count();
            if self.following.stop.requested() {
                return Ok(());
            }
            match event {
                Some(Event::Ended(failure)) => return Err(failure),
                Some(Event::News) => {
                    self.shared.told.store(false, Ordering::Relaxed);
                    if self.owes_at.is_some() {
                        self.say_at()?;
                    }
                }
                Some(Event::Offer(offer, pack)) => self.take(&offer, pack)?,
                Some(Event::Look) => {}
                None => self.rest()?,
            }
            if self.owes_at.is_some_and(|at| at <= Instant::now()) {
                self.say_at()?;
            }
            if self.swept.elapsed() >= SWEEP {
                self.swept = Instant::now();
                *self.following.desk.work() = None;
                self.repair()?;
            }
        }
    }

    /// Counts what has come since the last time.
    fn count(&mut self) {
        let (sent, received) = self.line.wire();
        let (had_sent, had_received) = std::mem::replace(&mut self.counted, (sent, received));
        self.following.desk.moved(sent.saturating_sub(had_sent), received.saturating_sub(had_received));
    }

    /// Nothing is to be done at the moment: time for the directory that nobody has looked at since the start, and for
    /// the word that what went wrong is over.
    fn rest(&mut self) -> Result<(), Failure> {
        if !self.shared.met.load(Ordering::Relaxed) {
            return Ok(());
        }
        let unknown = self.following.desk.work().is_none();
        if unknown {
            self.repair()?;
        }
        if self.following.desk.look().trouble.is_some() && self.is_newest()? {
            self.following.desk.cured();
        }
        Ok(())
    }

    /// Whether what is published is the newest that is known.
    fn is_newest(&self) -> Result<bool, Failure> {
        let reader = self.following.site.index.reader().map_err(index_failure)?;
        let newest = reader.newest_head(self.module, HeadState::Accepted).map_err(index_failure)?;
        Ok(self.published.as_ref().map(|stored| stored.id) == newest.map(|stored| stored.id))
    }

    /// Tells the source what is published here, so that it offers what is newer.
    fn say_at(&mut self) -> Result<(), Failure> {
        self.owes_at = None;
        self.shared.may_offer.store(true, Ordering::Relaxed);
        let at = At(self.published.as_ref().map(|stored| stored.id));
        self.line.send_on(self.stream, Message::new(tag::AT, &at))
    }

    fn take(&mut self, offer: &Offer, mut pack: Option<Pack>) -> Result<(), Failure> {
        let index = &self.following.site.index;
        let belief = recall(index, self.module, &offer.head).map_err(index_failure)?;
        let newer = |head: &crate::tree::signed::Head| {
            let published = self.published.as_ref().map(|stored| (stored.epoch, stored.sequence));
            published.is_none_or(|published| published < (head.epoch, head.sequence))
        };
        let Some(belief) = belief.filter(|belief| newer(&belief.head)) else {
            // It is behind what is here, or its word for the head has not come. It may try again: what it offers then has
            // no base, and costs next to nothing.
            self.owes_at = Some(Instant::now() + NEWER_IN);
            return Ok(());
        };
        if self.shared.partial.load(Ordering::Relaxed) {
            self.line.set_partial();
        }
        pack.take_if(|_| self.node.filter.is_partial());
        let desk = &self.following.desk;
        let begun = Instant::now();
        let brought = {
            let mut local = desk.work();
            let monitor = desk.monitor(&self.following.stop);
            let mut brought = self.node.bring_up(self.line, &belief, &mut local, pack.as_ref(), &monitor);
            if let Err(Setback::Failed(Failure { exit: Exit::Trust, why, .. })) = &brought
                && pack.take().is_some()
            {
                // A mirra on the way may have kept it badly, and would push it again and again.
                tracing::warn!(module = self.node.name(), why, "it did not work as it was pushed: it is asked for");
                brought = self.node.bring_up(self.line, &belief, &mut local, None, &monitor);
            }
            // While it still counts as work: who sees that it is over sees all of its bytes.
            self.count();
            brought
        };
        match brought {
            Ok(totals) => {
                tracing::info!(module = self.node.name(), sequence = belief.head.sequence, ?totals, "in sync");
                desk.done(begun, &totals.content);
                desk.cured();
                self.show()?;
                if let Some(pack) = pack {
                    self.served.offers.keep(Arc::new(pack), belief.head.sequence);
                }
                self.say_at()
            }
            Err(Setback::Superseded(failure)) => {
                tracing::info!(module = self.node.name(), why = failure.why, "a newer head is awaited");
                self.owes_at = Some(Instant::now() + NEWER_IN);
                Ok(())
            }
            Err(Setback::Failed(failure)) => Err(failure),
        }
    }

    /// Serves on what was published.
    fn show(&mut self) -> Result<(), Failure> {
        self.published = self.following.published(self.module)?;
        self.following.site.pass_on(self.served, &self.node.into)
    }

    /// Looks at the whole directory, and mends what someone else has changed.
    fn repair(&mut self) -> Result<(), Failure> {
        let Some(published) = &self.published else { return Ok(()) };
        if self.shared.partial.load(Ordering::Relaxed) {
            self.line.set_partial();
        }
        let index = &self.following.site.index;
        let Some(belief) = recall(index, self.module, &published.id).map_err(index_failure)? else { return Ok(()) };
        let desk = &self.following.desk;
        let mut local: std::sync::MutexGuard<'_, Option<Local>> = desk.work();
        let monitor = desk.monitor(&self.following.stop);
        let brought = self.node.bring_up(self.line, &belief, &mut local, None, &monitor);
        drop(monitor);
        drop(local);
        match brought {
            Ok(_) => self.show(),
            Err(Setback::Superseded(_)) => Ok(()),
            Err(Setback::Failed(failure)) => Err(failure),
        }
    }
}

/// Between half of `pause` and all of it.
fn jittered(pause: Duration) -> Duration {
    let mut chance = [0; 1];
    // Without chance the whole pause is as good.
    let part = if getrandom::fill(&mut chance).is_ok() { 128 + u32::from(chance[0] / 2) } else { 256 };
    pause * part / 256
}
