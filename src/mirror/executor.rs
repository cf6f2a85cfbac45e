//! Carries out the commands of one home, and answers the peers that call it.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::catalog::{Catalog, Newest, Served};
use super::clock::now_ms;
use super::command::{self, Command, Execute};
use super::config::{Config, Followed, Kind, Module, Own};
use super::config_file::ConfigFile;
use super::dial::answering;
use super::failure::{Exit, Failure};
use super::gate::Gate;
use super::keys::Keys;
use super::manage;
use super::monitor::{Monitor, Phase};
use super::node::Node;
use super::register::{followed_module, own_module};
use super::report::{Following, ModuleStatus, Published, PublishedAll, Report, Role, Status, Synced};
use super::root::Root;
use super::serve::{ANSWERS_MAX, serve};
use super::take_tree::index_failure;
use crate::disk::dir::Dir;
use crate::disk::home::Home;
use crate::disk::index::heads::HeadState;
use crate::disk::index::{Index, IndexError, Reader};
use crate::net::Listener;
use crate::tree::address::Address;
use crate::tree::hash::authority_text;

/// The index's name in `.mirra`.
const INDEX: &str = "index.db";
/// Threads that move bytes between sockets and requests.
const NET_THREADS: usize = 2;
/// How long running requests may take to end when the process does.
const END: Duration = Duration::from_millis(300);

/// A home whose lock this process holds.
pub struct Executor(Arc<Inner>);

struct Inner {
    home: Arc<Home>,
    keys: Keys,
    config: Mutex<ConfigFile>,
    index: Index,
    catalog: Arc<Catalog>,
    /// Taken by `drop` alone.
    runtime: Mutex<Option<Runtime>>,
    handle: tokio::runtime::Handle,
    /// Held while modules are read or written: one operation at a time.
    work: Mutex<()>,
    serving: bool,
}

impl Executor {
    /// For one command, without peers that call.
    ///
    /// # Errors
    /// [`Failure`] when keys, config or index are not in order.
    pub fn open(home: Arc<Home>) -> Result<Self, Failure> {
        Ok(Self(Arc::new(Inner::open(home, false)?)))
    }

    /// For a daemon that peers call at `listener`. What was published last is served at once; modules that publish live
    /// are read again behind that.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn serve(home: Arc<Home>, listener: TcpListener) -> Result<Self, Failure> {
        let inner = Arc::new(Inner::open(home, true)?);
        inner.load_catalog()?;
        inner.listen(listener)?;
        let behind = inner.clone();
        let started = std::thread::Builder::new().name("rescan".into()).spawn(move || behind.rescan());
        started.map_err(|e| Failure::local("cannot start a thread", &e))?;
        Ok(Self(inner))
    }
}

impl Inner {
    fn open(home: Arc<Home>, serving: bool) -> Result<Self, Failure> {
        let config = Mutex::new(ConfigFile::load(&home)?);
        let keys = Keys::open(&home)?;
        let index = Index::open(&home.inner().reach(INDEX)).map_err(index_failure)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(NET_THREADS).enable_all().build();
        let runtime = runtime.map_err(|e| Failure::local("cannot start threads", &e))?;
        let (catalog, handle) = (Arc::new(Catalog::new(index.clone())), runtime.handle().clone());
        let (runtime, work) = (Mutex::new(Some(runtime)), Mutex::new(()));
        Ok(Self { home, keys, config, index, catalog, runtime, handle, work, serving })
    }

    fn config(&self) -> MutexGuard<'_, ConfigFile> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, ()> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the config anew: the operator may have edited it.
    fn reload(&self) -> Result<Config, Failure> {
        let mut file = self.config();
        *file = ConfigFile::load(&self.home)?;
        Ok(file.config().clone())
    }

    /// Puts the module that `make` finds right into the config.
    fn register(&self, make: impl FnOnce(&Config) -> Result<Module, Failure>) -> Result<Module, Failure> {
        let mut file = self.config();
        *file = ConfigFile::load(&self.home)?;
        let module = make(file.config())?;
        file.put(&module)?;
        file.save(&self.home)?;
        Ok(module)
    }

    /// Takes up all modules that have a published head.
    fn load_catalog(&self) -> Result<(), Failure> {
        for module in self.reload()?.modules {
            let loaded = self.load_served(&module).map_err(index_failure)?;
            if let Some(served) = loaded {
                self.catalog.put(Arc::new(served));
            }
        }
        Ok(())
    }

    fn load_served(&self, module: &Module) -> Result<Option<Served>, IndexError> {
        let reader = self.index.reader()?;
        let Some(number) = reader.find_module(&module.name)? else { return Ok(None) };
        let (path, title, signer) = match &module.kind {
            Kind::Own(own) => (&own.path, own.title.as_deref(), Some(Arc::new(self.keys.head().clone()))),
            Kind::Followed(followed) => (&followed.into, None, None),
        };
        let path = self.home.base().join(path);
        let top = match Dir::open_operator(&path) {
            Ok(top) => top,
            Err(error) => {
                tracing::error!(module = module.name, path = %path.display(), %error, "the module is not served");
                return Ok(None);
            }
        };
        let roots = match &module.kind {
            Kind::Own(_) => vec![(1, self.keys.root_file().encode())],
            Kind::Followed(_) => reader.root_files(number, 1)?,
        };
        drop(reader);
        Served::load(&self.index, &module.name, title.unwrap_or_default(), number, top, roots, signer).map(Some)
    }

    /// Answers peers at `listener` from here on.
    fn listen(&self, listener: TcpListener) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::local("cannot answer peers", &e);
        listener.set_nonblocking(true).map_err(failed)?;
        let socket = {
            let _inside = self.handle.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let params = answering(self.keys.channel_secret(), self.keys.certificate(now_ms()).encode());
        let (catalog, answers) = (self.catalog.clone(), Arc::new(Semaphore::new(ANSWERS_MAX)));
        self.handle.spawn(async move {
            let serve = move |channel, _| serve(channel, catalog.clone(), answers.clone());
            Listener::from_socket(socket).run(params, serve).await;
        });
        Ok(())
    }

    /// Publishes what changed in live modules while no daemon ran.
    fn rescan(&self) {
        let modules = self.config().config().modules.clone();
        for module in modules {
            let Kind::Own(own) = &module.kind else { continue };
            if own.publish == Gate::Live
                && let Err(failure) = self.publish_one(&module.name, own, false, &Unwatched)
            {
                tracing::error!(
                    module = module.name,
                    what = failure.what,
                    why = failure.why,
                    fix = failure.fix,
                    "not published"
                );
            }
        }
    }

    fn publish_one(
        &self,
        name: &str,
        own: &Own,
        allow_delete: bool,
        monitor: &dyn Monitor,
    ) -> Result<Published, Failure> {
        let _busy = self.busy();
        let port = self.config().config().server.listen_address().port();
        let (base, keys, index, catalog) = (self.home.base(), &self.keys, &self.index, &*self.catalog);
        Root { base, keys, index, catalog, port }.publish(name, own, allow_delete, monitor)
    }

    fn share(&self, share: &command::Share, monitor: &dyn Monitor) -> Result<Report, Failure> {
        let module = self.register(|config| own_module(self.home.base(), config, share))?;
        let Kind::Own(own) = &module.kind else { return Err(not_own(&module.name)) };
        Ok(Report::Shared(self.publish_one(&module.name, own, false, monitor)?))
    }

    fn publish(&self, publish: &command::Publish, monitor: &dyn Monitor) -> Result<Report, Failure> {
        let config = self.reload()?;
        let chosen: Vec<&Module> = match &publish.module {
            Some(name) => vec![config.module(name).ok_or_else(|| no_module(name))?],
            None => config.modules.iter().filter(|module| matches!(module.kind, Kind::Own(_))).collect(),
        };
        let mut modules = Vec::new();
        for module in chosen {
            let Kind::Own(own) = &module.kind else { return Err(not_own(&module.name)) };
            modules.push(self.publish_one(&module.name, own, publish.allow_delete, monitor)?);
        }
        Ok(Report::Published(PublishedAll { modules }))
    }

    fn sync(&self, sync: &command::Sync, monitor: &dyn Monitor) -> Result<Report, Failure> {
        let base = self.home.base();
        if !sync.once {
            let module = self.register(|config| followed_module(base, config, sync))?;
            let Kind::Followed(followed) = module.kind else { return Err(not_own(&module.name)) };
            return Ok(Report::Following(Following {
                module: module.name,
                address: followed.from.to_string(),
                into: base.join(followed.into).display().to_string(),
                running: self.serving,
            }));
        }
        let module = followed_module(base, &self.reload()?, sync)?;
        let Kind::Followed(followed) = &module.kind else { return Err(not_own(&module.name)) };
        let synced = self.sync_once(followed, sync, monitor)?;
        // What was pinned is written down where the operator sees it.
        let from = Address::parse(&synced.address).unwrap_or_else(|_| followed.from.clone());
        let pinned = Module { kind: Kind::Followed(Followed { from, into: followed.into.clone() }), ..module.clone() };
        if self.config().config().module(&module.name) != Some(&pinned) {
            self.register(|_| Ok(pinned))?;
        }
        Ok(Report::Synced(synced))
    }

    fn sync_once(&self, followed: &Followed, sync: &command::Sync, monitor: &dyn Monitor) -> Result<Synced, Failure> {
        let _busy = self.busy();
        let node = Node {
            index: &self.index,
            home: self.home.inner().dir(),
            runtime: &self.handle,
            from: &followed.from,
            into: self.home.base().join(&followed.into),
            adopt: sync.adopt,
            timeout: Duration::from_millis(sync.timeout_ms),
        };
        node.sync(monitor)
    }

    fn leave(&self, role: Role, leave: &command::Leave) -> Result<Report, Failure> {
        let _busy = self.busy();
        let module = manage::leave(&self.home, &mut self.config(), role, leave)?;
        Ok(Report::Removed(manage::clear(&self.home, &self.index, &module, leave.delete_data)?))
    }

    fn set_paused(&self, which: &command::Which, paused: bool) -> Result<Report, Failure> {
        Ok(Report::Paused(manage::set_paused(&self.home, &mut self.config(), which, paused)?))
    }

    fn status(&self) -> Result<Status, Failure> {
        let config = self.reload()?;
        let reader = self.index.reader().map_err(index_failure)?;
        let modules: Result<_, IndexError> =
            config.modules.iter().map(|module| self.module_status(&reader, module)).collect();
        Ok(Status {
            name: config.server.name.clone(),
            key: authority_text(self.keys.authority()),
            running: self.serving,
            modules: modules.map_err(index_failure)?,
        })
    }

    fn module_status(&self, reader: &Reader, module: &Module) -> Result<ModuleStatus, IndexError> {
        let (role, path, address) = match &module.kind {
            Kind::Own(own) => (Role::Root, &own.path, None),
            Kind::Followed(followed) => (Role::Node, &followed.into, Some(followed.from.to_string())),
        };
        let number = reader.find_module(&module.name)?;
        let newest = |state| -> Result<_, IndexError> {
            let Some(number) = number else { return Ok(None) };
            Ok(reader.newest_head(number, state)?.and_then(|stored| Newest::of(&stored, None)))
        };
        let (published, accepted) = (newest(HeadState::Published)?, newest(HeadState::Accepted)?);
        let behind =
            accepted.is_some_and(|accepted| published.as_ref().is_none_or(|published| published.id != accepted.id));
        let path = self.home.base().join(path);
        let state = match (&published, role) {
            _ if !path.is_dir() => "directory missing",
            (None, Role::Root) => "not published yet",
            (None, Role::Node) => "not synced yet",
            (Some(_), Role::Node) if behind => "behind: sync again",
            (Some(_), Role::Root) => "published",
            (Some(_), Role::Node) => "in sync",
        };
        Ok(ModuleStatus {
            module: module.name.clone(),
            role,
            path: path.display().to_string(),
            address,
            sequence: published.as_ref().map(|newest| newest.head.sequence),
            created_ms: published.as_ref().map(|newest| newest.head.created),
            entries: published.as_ref().map_or(0, |newest| newest.head.entries),
            bytes: published.as_ref().map_or(0, |newest| newest.head.bytes),
            state: state.to_owned(),
            paused: module.paused,
            ..ModuleStatus::default()
        })
    }
}

impl Execute for Executor {
    fn execute(&self, command: &Command, monitor: &dyn Monitor) -> Result<Report, Failure> {
        match command {
            Command::Status => Ok(Report::Status(self.0.status()?)),
            Command::Share(share) => self.0.share(share, monitor),
            Command::Publish(publish) => self.0.publish(publish, monitor),
            Command::Sync(sync) => self.0.sync(sync, monitor),
            Command::Unshare(leave) => self.0.leave(Role::Root, leave),
            Command::Unsync(leave) => self.0.leave(Role::Node, leave),
            Command::Pause(which) => self.0.set_paused(which, true),
            Command::Resume(which) => self.0.set_paused(which, false),
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_timeout(END);
        }
    }
}

/// Nobody looks.
struct Unwatched;

impl Monitor for Unwatched {
    fn phase(&self, _: Phase) {}
    fn total(&self, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: u64) {}
    fn note(&self, text: &str) {
        tracing::warn!("{text}");
    }
    fn cancelled(&self) -> bool {
        false
    }
}

fn no_module(name: &str) -> Failure {
    let fix = "mirra status lists the modules of this home";
    Failure::new(Exit::NoModule, format!("there is no module {name} here"), "the config does not name it", fix)
}

fn not_own(name: &str) -> Failure {
    let fix = "publish it on its root; here mirra sync brings it up to date";
    Failure::new(Exit::Usage, format!("{name} cannot be published here"), "it follows another mirra", fix)
}
