//! Carries out the commands of one home.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::command::{Command, Execute};
use super::config::{Config, Kind, Module};
use super::config_file::ConfigFile;
use super::failure::{Exit, Failure};
use super::keys::Keys;
use super::monitor::Monitor;
use super::register::{followed_module, own_module};
use super::report::{Following, ModuleStatus, Report, Role, Status};
use crate::disk::home::Home;
use crate::tree::address::Host;
use crate::tree::hash::authority_text;

/// A home whose lock this process holds.
pub struct Executor {
    home: Arc<Home>,
    keys: Keys,
    config: Mutex<ConfigFile>,
    listener: Option<TcpListener>,
}

impl Executor {
    /// For one command, without peers that call.
    ///
    /// # Errors
    /// [`Failure`] when keys or config are not in order.
    pub fn open(home: Arc<Home>) -> Result<Self, Failure> {
        let config = Mutex::new(ConfigFile::load(&home)?);
        let keys = Keys::open(&home)?;
        Ok(Self { home, keys, config, listener: None })
    }

    /// For a daemon that peers call at `listener`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn serve(home: Arc<Home>, listener: TcpListener) -> Result<Self, Failure> {
        Ok(Self { listener: Some(listener), ..Self::open(home)? })
    }

    fn config(&self) -> MutexGuard<'_, ConfigFile> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the module that `make` finds right into the config.
    fn register(&self, make: impl FnOnce(&Config) -> Result<Module, Failure>) -> Result<Module, Failure> {
        let mut file = self.config();
        // The operator may have edited it since it was read.
        *file = ConfigFile::load(&self.home)?;
        let module = make(file.config())?;
        file.put(&module)?;
        file.save(&self.home)?;
        Ok(module)
    }

    fn status(&self) -> Status {
        let file = self.config();
        let module = |module: &Module| {
            let (role, path, address) = match &module.kind {
                Kind::Own(own) => (Role::Root, &own.path, None),
                Kind::Followed(followed) => (Role::Node, &followed.into, Some(followed.from.to_string())),
            };
            let path = self.home.base().join(path).display().to_string();
            ModuleStatus { module: module.name.clone(), role, path, address, ..ModuleStatus::default() }
        };
        Status {
            name: file.config().server.name.clone(),
            key: authority_text(self.keys.authority()),
            running: self.listener.is_some(),
            modules: file.config().modules.iter().map(module).collect(),
        }
    }
}

impl Execute for Executor {
    fn execute(&self, command: &Command, _monitor: &dyn Monitor) -> Result<Report, Failure> {
        let base = self.home.base();
        match command {
            Command::Status => Ok(Report::Status(self.status())),
            Command::Share(share) => {
                self.register(|config| own_module(base, config, share))?;
                Err(absent("publish"))
            }
            Command::Publish(_) => Err(absent("publish")),
            Command::Sync(sync) => {
                let module = self.register(|config| followed_module(base, config, sync))?;
                let Kind::Followed(followed) = module.kind else { return Err(absent("sync")) };
                Ok(Report::Following(Following {
                    module: module.name,
                    address: followed.from.to_string(),
                    into: base.join(followed.into).display().to_string(),
                    running: self.listener.is_some(),
                }))
            }
        }
    }
}

/// The modules of the mirra at `host`, asked without a home.
///
/// # Errors
/// [`Failure`].
pub fn list(_host: &Host, _timeout: Duration, _monitor: &dyn Monitor) -> Result<Report, Failure> {
    Err(absent("ls"))
}

fn absent(what: &str) -> Failure {
    Failure::new(
        Exit::Other,
        format!("cannot {what}"),
        "this build has no network and no index",
        "use a complete build",
    )
}
