//! One module as it is served: the newest signed objects in memory, where its content lies, and who waits for news.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ed25519_dalek::SigningKey;
use tokio::sync::watch;

use super::clock::now_ms;
use super::followers::Followers;
use super::offers::Offers;
use crate::disk::dir::Dir;
use crate::disk::index::heads::{HeadState, StoredHead};
use crate::disk::index::{Index, IndexError, ModuleNumber};
use crate::protocol::message::{Route, RouteTag};
use crate::tree::dir::Built;
use crate::tree::hash::HeadId;
use crate::tree::signed::{Beat, Envelope, Head};

/// How often a root says that its newest head is still the newest, in milliseconds.
pub const BEAT_EVERY_MS: u64 = 60_000;
/// How long a beat is good, in milliseconds.
const BEAT_GOOD_MS: u64 = 24 * 3_600_000;

/// A module that is served.
pub struct Served {
    /// Its name.
    pub name: String,
    /// Its number in the index.
    pub number: ModuleNumber,
    /// What is pushed to followers.
    pub offers: Offers,
    own_tag: RouteTag,
    state: RwLock<State>,
    news: watch::Sender<()>,
    /// Who waits for news of it.
    pub followers: Followers,
}

struct State {
    title: String,
    /// `None` while the directory is missing.
    top: Option<Arc<Dir>>,
    /// Root files by ascending version.
    roots: Arc<Vec<(u64, Vec<u8>)>>,
    /// Signs beats, on a root.
    signer: Option<Arc<SigningKey>>,
    /// The newest head that is held here: all of its content is.
    held: Option<Newest>,
    /// The newest head that is known here; it may be on its way.
    announced: Option<Newest>,
    /// The way of the news; `None` where it is too long to be passed on.
    route: Option<Route>,
    /// Whether only a part of the trees is held.
    partial: bool,
}

/// A believed head, and what vouches for its age.
#[derive(Debug, Clone)]
pub struct Newest {
    /// What it says.
    pub head: Head,
    /// Its id.
    pub id: HeadId,
    /// Its signed envelope.
    pub envelope: Vec<u8>,
    /// The newest beat: when it was issued, and its envelope.
    pub beat: Option<(u64, Vec<u8>)>,
}

impl Newest {
    /// Reads back what the index holds of a head that was believed.
    #[must_use]
    pub fn of(stored: &StoredHead, beat: Option<Vec<u8>>) -> Option<Self> {
        let head: Head = Envelope::decode(&stored.envelope).ok()?.unverified().ok()?;
        let beat = beat.and_then(|bytes| {
            let beat: Beat = Envelope::decode(&bytes).ok()?.unverified().ok()?;
            (beat.head == stored.id).then_some((beat.issued, bytes))
        });
        Some(Self { head, id: stored.id, envelope: stored.envelope.clone(), beat })
    }

    /// The tree it names.
    #[must_use]
    pub fn built(&self) -> Built {
        built_of(&self.head)
    }

    fn is_older_than(&self, other: &Self) -> bool {
        (self.head.epoch, self.head.sequence) < (other.head.epoch, other.head.sequence)
    }
}

/// The tree that a head names.
#[must_use]
pub fn built_of(head: &Head) -> Built {
    Built { id: head.snapshot, entries: head.entries, bytes: head.bytes }
}

/// What followers are told.
pub struct News {
    /// Root files by ascending version.
    pub roots: Arc<Vec<(u64, Vec<u8>)>>,
    /// The newest head that is known here.
    pub announced: Option<Newest>,
    /// The newest head that is held here.
    pub held: Option<Newest>,
    /// The way of the news.
    pub route: Option<Route>,
    /// Whether only a part of the trees is held.
    pub partial: bool,
}

impl Served {
    /// A module with what the index knows of it. It has no directory and no title yet.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn load(
        index: &Index,
        name: &str,
        number: ModuleNumber,
        offers: Offers,
        own_tag: RouteTag,
        signer: Option<Arc<SigningKey>>,
    ) -> Result<Self, IndexError> {
        let reader = index.reader()?;
        let newest = |state| -> Result<_, IndexError> {
            let Some(stored) = reader.newest_head(number, state)? else { return Ok(None) };
            Ok(Newest::of(&stored, reader.beat(number)?))
        };
        let (held, announced) = (newest(HeadState::Published)?, newest(HeadState::Accepted)?);
        let roots = Arc::new(reader.root_files(number, 1)?);
        let route = Route::extend(None, own_tag);
        let partial = reader.part(number)?.is_some();
        let state = State { title: String::new(), top: None, roots, signer, held, announced, route, partial };
        let (state, news) = (RwLock::new(state), watch::Sender::new(()));
        Ok(Self { name: name.to_owned(), number, offers, own_tag, state, news, followers: Followers::default() })
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something and tells everybody who waits.
    fn change(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its line for people; may be empty.
    #[must_use]
    pub fn title(&self) -> String {
        self.state().title.clone()
    }

    /// Its directory.
    #[must_use]
    pub fn top(&self) -> Option<Arc<Dir>> {
        self.state().top.clone()
    }

    /// Whether only a part of the trees is held.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.state().partial
    }

    /// Says whether only a part of the trees is held from here on.
    pub fn set_partial(&self, partial: bool) {
        self.change().partial = partial;
    }

    /// Root files by ascending version.
    #[must_use]
    pub fn roots(&self) -> Arc<Vec<(u64, Vec<u8>)>> {
        self.state().roots.clone()
    }

    /// Takes content from `top` from here on, and shows `title`.
    pub fn show(&self, title: Option<&str>, top: Option<Dir>) {
        let mut state = self.change();
        state.title = title.unwrap_or_default().to_owned();
        state.top = top.map(Arc::new);
    }

    /// The newest head that is held, with a beat that is not older than a minute if this is the root.
    #[must_use]
    pub fn held(&self) -> Option<Newest> {
        self.beat();
        self.state().held.clone()
    }

    /// Signs, on a root, that the newest head is still the newest, unless that was done within the last minute. Says
    /// whether it did.
    pub fn beat(&self) -> bool {
        let (Some(newest), Some(signer)) = ({
            let state = self.state();
            (state.held.clone(), state.signer.clone())
        }) else {
            return false;
        };
        let now = now_ms();
        if newest.beat.as_ref().is_some_and(|(issued, _)| now.saturating_sub(*issued) < BEAT_EVERY_MS) {
            return false;
        }
        let Head { module, epoch, sequence, .. } = newest.head;
        let beat = Beat { module, epoch, sequence, head: newest.id, issued: now, expires: now + BEAT_GOOD_MS };
        let beat = Some((now, Envelope::sign(&beat, &[&signer]).encode()));
        let mut state = self.change();
        let State { held, announced, .. } = &mut *state;
        for kept in [held, announced].into_iter().flatten().filter(|kept| kept.id == newest.id) {
            kept.beat.clone_from(&beat);
        }
        drop(state);
        self.news.send_replace(());
        true
    }

    /// Serves a newer head from here on. Its root files may be new as well.
    pub fn hold(&self, newest: Newest, roots: Option<Vec<(u64, Vec<u8>)>>) {
        self.offers.fit(newest.head.bytes);
        let mut state = self.change();
        if state.announced.as_ref().is_none_or(|announced| !newest.is_older_than(announced)) {
            let kept = state.announced.take().filter(|announced| announced.id == newest.id && newest.beat.is_none());
            state.announced = Some(kept.unwrap_or_else(|| newest.clone()));
        }
        state.held = Some(newest);
        if let Some(roots) = roots {
            state.roots = Arc::new(roots);
        }
        drop(state);
        self.beat();
        self.news.send_replace(());
    }

    /// Passes on that there is a newer head, root file or beat.
    pub fn announce(&self, newest: Newest, roots: Vec<(u64, Vec<u8>)>) {
        let mut state = self.change();
        if let Some(held) = state.held.as_mut().filter(|held| held.id == newest.id) {
            held.beat.clone_from(&newest.beat);
        }
        state.announced = Some(newest);
        state.roots = Arc::new(roots);
        drop(state);
        self.news.send_replace(());
    }

    /// Says by which way the news comes here; `None` for from nowhere yet.
    pub fn set_route(&self, before: Option<&Route>) {
        let route = Route::extend(before, self.own_tag);
        let mut state = self.change();
        if state.route == route {
            return;
        }
        state.route = route;
        drop(state);
        self.news.send_replace(());
    }

    /// What followers are told now.
    #[must_use]
    pub fn news(&self) -> News {
        let state = self.state();
        let (roots, announced, held) = (state.roots.clone(), state.announced.clone(), state.held.clone());
        News { roots, announced, held, route: state.route.clone(), partial: state.partial }
    }

    /// Lets everybody who waits for news look up.
    pub fn wake(&self) {
        self.news.send_replace(());
    }

    /// Wakes when [`news`](Self::news) may have changed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}
