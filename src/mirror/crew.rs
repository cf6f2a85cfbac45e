//! The threads of a daemon: one for each module that is watched or followed, started and ended as the config says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::config::{Config, Kind, Module};
use super::failure::Failure;
use super::following::{self, Following};
use super::monitor::Stop;
use super::site::Site;
use super::status::Activity;
use super::watching::{self, Watching};

/// Who works on which module.
pub(super) struct Crew {
    site: Arc<Site>,
    running: Mutex<HashMap<String, Running>>,
}

/// A thread and how it is told to end.
struct Running {
    module: Module,
    stop: Stop,
    bell: Bell,
    thread: JoinHandle<()>,
}

enum Bell {
    Watching(Arc<watching::Bell>),
    Following(following::Bell),
}

impl Running {
    fn end(&self) {
        self.stop.request();
        match &self.bell {
            Bell::Watching(bell) => bell.ring(),
            // A thread that has gone needs no bell.
            Bell::Following(bell) => drop(bell.send(following::Event::Look)),
        }
    }
}

impl Crew {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves, watches and follows what `config` names, and nothing else. Waits for threads that have to end.
    ///
    /// # Errors
    /// [`Failure`] of the first module that cannot be taken up; the others are.
    pub(super) fn arrange(&self, config: &Config) -> Result<(), Failure> {
        let mut running = self.running();
        let gone: Vec<String> = running
            .iter()
            .filter(|(name, running)| config.module(name) != Some(&running.module))
            .map(|(name, _)| name.clone())
            .collect();
        let ending: Vec<Running> = gone.iter().filter_map(|name| running.remove(name)).collect();
        ending.iter().for_each(Running::end);
        for ended in ending {
            if ended.thread.join().is_err() {
                tracing::error!(module = ended.module.name, "its thread has panicked");
            }
        }
        for served in self.site.catalog.all() {
            if config.module(&served.name).is_none() {
                self.site.leave(&served.name);
            }
        }
        let mut first = Ok(());
        for module in &config.modules {
            if running.contains_key(&module.name) {
                continue;
            }
            let taken = self.site.serve(&module.name, &module.kind).and_then(|_| {
                if module.paused {
                    self.site.desk(&module.name).rest(Activity::Paused);
                } else {
                    running.insert(module.name.clone(), self.start(module)?);
                }
                Ok(())
            });
            first = first.and(taken);
        }
        first
    }

    fn start(&self, module: &Module) -> Result<Running, Failure> {
        let (site, desk, stop) = (self.site.clone(), self.site.desk(&module.name), Stop::new());
        let thread = Builder::new().name(module.name.chars().take(15).collect());
        let (bell, thread) = match &module.kind {
            Kind::Own(own) => {
                let (bell, hints) = watching::Bell::new();
                let rings = bell.clone();
                let (name, own, stop) = (module.name.clone(), own.clone(), stop.clone());
                let watching = Watching { site, desk, name, own, stop };
                (Bell::Watching(bell), thread.spawn(move || watching.run(&rings, &hints)))
            }
            Kind::Followed(followed) => {
                let (bell, events) = following::bell();
                let rings = bell.clone();
                let following = Following { site, desk, followed: followed.clone(), stop: stop.clone() };
                (Bell::Following(bell), thread.spawn(move || following.run(&rings, &events)))
            }
        };
        let thread = thread.map_err(|e| Failure::local("cannot start a thread", &e))?;
        Ok(Running { module: module.clone(), stop, bell, thread })
    }

    /// Ends all threads, and waits for them for `time` at most: what they do can be cut anywhere.
    pub(super) fn end(&self, time: Duration) {
        let ending: Vec<Running> = self.running().drain().map(|(_, running)| running).collect();
        ending.iter().for_each(Running::end);
        let until = Instant::now() + time;
        for ended in ending {
            while !ended.thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
