//! What all operations of one home share.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use super::catalog::Catalog;
use super::clock::now_ms;
use super::config::{Config, Kind, Module};
use super::config_file::{CONFIG, ConfigFile};
use super::desk::Desk;
use super::failure::Failure;
use super::keys::Keys;
use super::offers::Offers;
use super::peers::Peers;
use super::serve::Room;
use super::served::{Newest, Served};
use super::take_tree::index_failure;
use super::visits::Visits;
use crate::disk::dir::{Dir, StatKey};
use crate::disk::home::Home;
use crate::disk::index::Index;
use crate::disk::index::heads::HeadState;
use crate::protocol::message::RouteTag;
use crate::tree::name::Name;

/// The index's name in `.mirra`.
const INDEX: &str = "index.db";

/// A home whose lock this process holds.
pub(super) struct Site {
    pub(super) home: Arc<Home>,
    pub(super) keys: Keys,
    pub(super) index: Index,
    pub(super) catalog: Arc<Catalog>,
    pub(super) peers: Peers,
    pub(super) runtime: Handle,
    /// Visitors of the web.
    pub(super) visits: Arc<Visits>,
    /// For answers to peers.
    pub(super) room: Room,
    /// When this process took the home, Unix milliseconds.
    pub(super) started_ms: u64,
    /// Names this mirra on the way of news.
    pub(super) tag: RouteTag,
    config: Mutex<ConfigFile>,
    desks: Mutex<HashMap<String, Arc<Desk>>>,
}

impl Site {
    /// # Errors
    /// [`Failure`] when keys, config or index are not in order.
    pub(super) fn open(home: Arc<Home>, runtime: Handle) -> Result<Self, Failure> {
        let config = Mutex::new(ConfigFile::load(&home)?);
        let keys = Keys::open(&home)?;
        let index = Index::open(&home.inner().reach(INDEX)).map_err(index_failure)?;
        let (catalog, peers) = (Arc::new(Catalog::new(index.clone())), Peers::new(runtime.clone()));
        let (tag, desks) = (keys.route_tag(), Mutex::default());
        Ok(Self {
            home,
            keys,
            index,
            catalog,
            peers,
            runtime,
            visits: Arc::default(),
            room: Room::default(),
            started_ms: now_ms(),
            tag,
            config,
            desks,
        })
    }

    /// The config, to be read or changed.
    pub(super) fn config_file(&self) -> MutexGuard<'_, ConfigFile> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What changes when the config file is written.
    pub(super) fn config_state(&self) -> Option<StatKey> {
        let name = Name::new(CONFIG.as_bytes()).ok()?;
        self.home.inner().dir().look(&name).ok().flatten().map(|look| look.key)
    }

    /// Reads the config anew: the operator may have edited it.
    ///
    /// # Errors
    /// [`Failure`] when it is not right; the one before stays.
    pub(super) fn reload(&self) -> Result<Config, Failure> {
        let mut file = self.config_file();
        *file = ConfigFile::load(&self.home)?;
        Ok(file.config().clone())
    }

    /// Puts the module that `make` finds right into the config.
    ///
    /// # Errors
    /// [`Failure`] of `make`, or when the config cannot be written.
    pub(super) fn register(&self, make: impl FnOnce(&Config) -> Result<Module, Failure>) -> Result<Module, Failure> {
        let mut file = self.config_file();
        *file = ConfigFile::load(&self.home)?;
        let module = make(file.config())?;
        if file.config().module(&module.name) != Some(&module) {
            file.put(&module)?;
            file.save(&self.home)?;
        }
        Ok(module)
    }

    /// The desk of the module `name`.
    pub(super) fn desk(&self, name: &str) -> Arc<Desk> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks.entry(name.to_owned()).or_default().clone()
    }

    /// Serves a module with what is there of it, and takes up what the config says of it now.
    ///
    /// # Errors
    /// [`Failure`] of the index.
    pub(super) fn serve(&self, name: &str, kind: &Kind) -> Result<Arc<Served>, Failure> {
        let (path, title, signer) = match kind {
            Kind::Own(own) => (&own.path, own.title.as_deref(), Some(Arc::new(self.keys.head().clone()))),
            Kind::Followed(followed) => (&followed.into, None, None),
        };
        let served = match self.catalog.get(name) {
            Some(served) => served,
            None => {
                let number = self.index.module_number(name).map_err(index_failure)?;
                let held = self.index.reader().and_then(|reader| reader.newest_head(number, HeadState::Published));
                let held = held.map_err(index_failure)?.and_then(|stored| Newest::of(&stored, None));
                let offers = Offers::open(&self.home, name, held.map_or(0, |newest| newest.head.bytes));
                let served = Served::load(&self.index, name, number, offers, self.tag, signer);
                let served = Arc::new(served.map_err(index_failure)?);
                self.catalog.put(served.clone());
                served
            }
        };
        served.show(title, Dir::open_operator(&self.home.base().join(path)).ok());
        Ok(served)
    }

    /// Serves on what was brought into the directory `into` of a followed module.
    ///
    /// # Errors
    /// [`Failure`] of the index.
    pub(super) fn pass_on(&self, served: &Served, into: &Path) -> Result<(), Failure> {
        let reader = self.index.reader().map_err(index_failure)?;
        let published = reader.newest_head(served.number, HeadState::Published).map_err(index_failure)?;
        let beat = reader.beat(served.number).map_err(index_failure)?;
        let roots = reader.root_files(served.number, 1).map_err(index_failure)?;
        served.set_partial(reader.part(served.number).map_err(index_failure)?.is_some());
        served.show(None, Dir::open_operator(into).ok());
        if let Some(newest) = published.and_then(|stored| Newest::of(&stored, beat)) {
            served.hold(newest, Some(roots));
        }
        Ok(())
    }

    /// Serves `name` no more, and forgets what went on with it.
    pub(super) fn leave(&self, name: &str) {
        self.catalog.remove(name);
        self.desks.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
