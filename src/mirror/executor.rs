//! Carries out the commands of one home, and runs what a daemon does without being asked.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::clock::now_ms;
use super::command::{self, Command, Execute};
use super::config::{Config, Followed, Kind, Module};
use super::crew::Crew;
use super::dial::answering;
use super::failure::{Exit, Failure};
use super::front::Front;
use super::line::Line;
use super::manage;
use super::monitor::{Monitor, Phase, Stop};
use super::node::Node;
use super::overview::overview;
use super::register::{followed_module, own_module};
use super::report::{Following, Published, PublishedAll, Report, Role};
use super::root::Root;
use super::seeds;
use super::serve::serve;
use super::site::Site;
use super::take_tree::index_failure;
use crate::disk::home::Home;
use crate::net::{Listener, attach};
use crate::tree::address::Address;
use crate::tree::hash::Authority;

/// Threads that move bytes between sockets and requests.
const NET_THREADS: usize = 2;
/// How long modules and running requests may take to end when the process does.
const END: Duration = Duration::from_millis(300);
/// How often a daemon looks whether its config was edited, and whether a beat is due.
const LOOK: Duration = Duration::from_secs(1);

/// A home whose lock this process holds.
pub struct Executor {
    inner: Arc<Inner>,
    /// Taken by `drop` alone.
    runtime: Option<Runtime>,
}

struct Inner {
    site: Arc<Site>,
    /// The threads of a daemon.
    crew: Option<Daemon>,
}

struct Daemon {
    crew: Crew,
    stop: Stop,
    /// Looks after the config and the beats.
    caretaker: Mutex<Option<JoinHandle<()>>>,
}

impl Executor {
    /// For one command, without peers that call.
    ///
    /// # Errors
    /// [`Failure`] when keys, config or index are not in order.
    pub fn open(home: Arc<Home>) -> Result<Self, Failure> {
        let (runtime, site) = open(home)?;
        Ok(Self { inner: Arc::new(Inner { site, crew: None }), runtime: Some(runtime) })
    }

    /// For a daemon that peers call at `listener`. What was published last is served at once; what changed meanwhile is
    /// found behind that.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn serve(home: Arc<Home>, listener: TcpListener) -> Result<Self, Failure> {
        let (runtime, site) = open(home)?;
        let daemon = Daemon { crew: Crew::new(site.clone()), stop: Stop::new(), caretaker: Mutex::default() };
        let inner = Arc::new(Inner { site, crew: Some(daemon) });
        let executor = Self { inner: inner.clone(), runtime: Some(runtime) };
        let config = inner.site.config_file().config().clone();
        if let Err(Failure { what, why, fix, .. }) = inner.arrange(&config) {
            tracing::error!(what, why, fix, "a module is not taken up");
        }
        inner.listen(listener)?;
        inner.take_care()?;
        Ok(executor)
    }

    /// What the web may see of the home, which peers call at `port`.
    #[must_use]
    pub fn front(&self, port: u16) -> Front {
        Front::new(self.inner.site.clone(), port)
    }
}

fn open(home: Arc<Home>) -> Result<(Runtime, Arc<Site>), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(NET_THREADS).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::local("cannot start threads", &e))?;
    let site = Arc::new(Site::open(home, runtime.handle().clone())?);
    Ok((runtime, site))
}

impl Inner {
    /// Lets a daemon do what the config says.
    fn arrange(&self, config: &Config) -> Result<(), Failure> {
        self.site.catalog.set_compress(config.server.compress);
        self.crew.as_ref().map_or(Ok(()), |daemon| daemon.crew.arrange(config))
    }

    /// Answers peers at `listener` from here on.
    fn listen(&self, listener: TcpListener) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::local("cannot answer peers", &e);
        let site = &self.site;
        let socket = attach(listener, &site.runtime).map_err(failed)?;
        let params = answering(site.keys.channel_secret(), site.keys.certificate(now_ms()).encode());
        let (catalog, room) = (site.catalog.clone(), site.room.clone());
        site.runtime.spawn(async move {
            let serve = move |channel, _| serve(channel, catalog.clone(), room.clone());
            Listener::from_socket(socket).run(params, serve).await;
        });
        Ok(())
    }

    /// Takes up what the operator writes into the config while the daemon runs, and keeps saying that the newest heads
    /// are the newest.
    fn take_care(self: &Arc<Self>) -> Result<(), Failure> {
        let Some(daemon) = &self.crew else { return Ok(()) };
        let (inner, stop) = (self.clone(), daemon.stop.clone());
        let look = move || {
            let mut seen = inner.site.config_state();
            while !stop.wait(LOOK) {
                for served in inner.site.catalog.all() {
                    served.beat();
                }
                let now = inner.site.config_state();
                if now == seen {
                    continue;
                }
                seen = now;
                if let Err(Failure { what, why, fix, .. }) = inner.site.reload().and_then(|c| inner.arrange(&c)) {
                    tracing::error!(what, why, fix, "the config was changed, and not all of it is taken up");
                }
            }
        };
        let thread = std::thread::Builder::new().name("caretaker".into()).spawn(look);
        let thread = thread.map_err(|e| Failure::local("cannot start a thread", &e))?;
        *daemon.caretaker.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    fn publish_one(&self, module: &Module, allow_delete: bool, monitor: &dyn Monitor) -> Result<Published, Failure> {
        let Kind::Own(own) = &module.kind else { return Err(not_own(&module.name)) };
        let (site, desk, name) = (&*self.site, self.site.desk(&module.name), &*module.name);
        let published = Root { site, desk: &desk, name, own, allow_delete }.publish(None, monitor)?;
        desk.cured();
        Ok(published)
    }

    fn share(&self, share: &command::Share, monitor: &dyn Monitor) -> Result<Report, Failure> {
        let base = self.site.home.base();
        let module = self.site.register(|config| own_module(base, config, share))?;
        let published = self.publish_one(&module, false, monitor)?;
        self.arrange(&self.site.reload()?)?;
        Ok(Report::Shared(published))
    }

    fn publish(&self, publish: &command::Publish, monitor: &dyn Monitor) -> Result<Report, Failure> {
        let config = self.site.reload()?;
        let chosen: Vec<&Module> = match &publish.module {
            Some(name) => vec![config.module(name).ok_or_else(|| no_module(name))?],
            None => config.modules.iter().filter(|module| matches!(module.kind, Kind::Own(_))).collect(),
        };
        let mut modules = Vec::new();
        for module in chosen {
            modules.push(self.publish_one(module, publish.allow_delete, monitor)?);
        }
        Ok(Report::Published(PublishedAll { modules }))
    }

    fn sync(&self, sync: &command::Sync, monitor: &dyn Monitor) -> Result<Report, Failure> {
        let base = self.site.home.base();
        let module = followed_module(base, &self.site.reload()?, sync)?;
        let Kind::Followed(followed) = &module.kind else { return Err(not_own(&module.name)) };
        let into = base.join(&followed.into);
        if !sync.once && !sync.seeds.is_empty() {
            let (what, why) = ("cannot use a seed", "a daemon that follows a module fetches it without seeds");
            return Err(Failure::new(Exit::Usage, what, why, "add --once, or leave --seed out"));
        }
        let seeds = seeds::open(base, &into, &sync.seeds)?;
        let node = Node {
            index: &self.site.index,
            home: self.site.home.inner().dir(),
            from: &followed.from,
            into,
            filter: &followed.filter,
            adopt: sync.adopt,
            seeds: &seeds,
        };
        let timeout = Duration::from_millis(sync.timeout_ms);
        monitor.phase(Phase::Connecting);
        let used = self.site.peers.channel(&followed.from.host, timeout, monitor)?;
        let line = Line::on(used.channel.clone(), &self.site.runtime, &followed.from.host, &module.name, timeout);
        let report = if sync.once {
            let desk = self.site.desk(&module.name);
            let mut local = desk.work();
            // What stands in the directory is looked at, whatever is known of it.
            *local = None;
            let synced = node.sync(&line, &mut local, monitor)?;
            seeds::forget(&self.site.index, &module.name).map_err(index_failure)?;
            // Those who follow this mirra get it too, whether or not the module is followed here.
            self.site.pass_on(&*self.site.serve(&module.name, &module.kind)?, &node.into)?;
            Report::Synced(Box::new(synced))
        } else {
            node.claim()?;
            let belief = node.contact(&line, monitor)?;
            let head = belief.as_ref().map(|belief| &belief.head);
            Report::Following(Following {
                module: module.name.clone(),
                address: pinned(&followed.from, belief.as_ref().map(|belief| belief.authority)).to_string(),
                into: node.into.display().to_string(),
                sequence: head.map(|head| head.sequence),
                entries: head.map_or(0, |head| head.entries),
                bytes: head.map_or(0, |head| head.bytes),
                free: node.free_bytes(),
                first_contact: belief.as_ref().is_some_and(|belief| belief.first_contact),
                running: self.crew.is_some(),
            })
        };
        if self.crew.is_none() {
            line.close();
        }
        // What was pinned is written down where the operator sees it.
        let address = match &report {
            Report::Synced(synced) => &synced.address,
            Report::Following(following) => &following.address,
            _ => return Ok(report),
        };
        let from = Address::parse(address).unwrap_or_else(|_| followed.from.clone());
        let kind = Kind::Followed(Followed { from, ..followed.clone() });
        self.site.register(|_| Ok(Module { kind, ..module.clone() }))?;
        self.arrange(&self.site.reload()?)?;
        Ok(report)
    }

    fn leave(&self, role: Role, leave: &command::Leave) -> Result<Report, Failure> {
        let site = &self.site;
        let module = manage::leave(&site.home, &mut site.config_file(), role, leave)?;
        self.arrange(&site.reload()?)?;
        let desk = site.desk(&module.name);
        // Whoever works on it has done so before anything is removed.
        let work = desk.work();
        let removed = manage::clear(&site.home, &site.index, &module, leave.delete_data)?;
        drop(work);
        site.leave(&module.name);
        Ok(Report::Removed(removed))
    }

    fn set_paused(&self, which: &command::Which, paused: bool) -> Result<Report, Failure> {
        let report = manage::set_paused(&self.site.home, &mut self.site.config_file(), which, paused)?;
        self.arrange(&self.site.reload()?)?;
        Ok(Report::Paused(report))
    }

    fn status(&self) -> Result<Report, Failure> {
        let config = self.site.reload()?;
        overview(&self.site, &config, self.crew.is_some()).map(Report::Status).map_err(index_failure)
    }
}

/// The address with the key that was found, or as it was.
fn pinned(from: &Address, found: Option<Authority>) -> Address {
    Address { key: found.or(from.key), ..from.clone() }
}

impl Execute for Executor {
    fn execute(&self, command: &Command, monitor: &dyn Monitor) -> Result<Report, Failure> {
        let inner = &self.inner;
        match command {
            Command::Status => inner.status(),
            Command::Share(share) => inner.share(share, monitor),
            Command::Publish(publish) => inner.publish(publish, monitor),
            Command::Sync(sync) => inner.sync(sync, monitor),
            Command::Unshare(leave) => inner.leave(Role::Root, leave),
            Command::Unsync(leave) => inner.leave(Role::Node, leave),
            Command::Pause(which) => inner.set_paused(which, true),
            Command::Resume(which) => inner.set_paused(which, false),
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(daemon) = &self.inner.crew {
            daemon.stop.request();
            daemon.crew.end(END);
            let caretaker = daemon.caretaker.lock().unwrap_or_else(PoisonError::into_inner).take();
            if caretaker.is_some_and(|caretaker| caretaker.join().is_err()) {
                tracing::error!("the thread that looks after config and beats has panicked");
            }
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(END);
        }
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
