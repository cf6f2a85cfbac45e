//! What mirra can be asked to do, in the same words on the command line and at the control socket.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::gate::Gate;
use super::monitor::Monitor;
use super::report::Report;

/// One thing to do for the modules of a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Registers a directory as a module and publishes its first snapshot.
    Share(Share),
    /// Publishes what changed.
    Publish(Publish),
    /// Follows a module of another mirra.
    Sync(Sync),
    /// Ends an own module; its directory stays unless the operator says otherwise.
    Unshare(Leave),
    /// Ends a followed module; its directory stays unless the operator says otherwise.
    Unsync(Leave),
    /// Lets modules rest: nothing is published or fetched, what is there is served on.
    Pause(Which),
    /// Takes them up again.
    Resume(Which),
    /// Says how the modules are.
    Status,
}

/// A directory that becomes a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The directory, absolute.
    pub dir: PathBuf,
    /// The module's name; that of the directory when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// When changes are published; as it was, or `live`, when left out.
    #[serde(default)]
    pub publish: Option<Gate>,
    /// Patterns of what is not part of the module.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// A line for people.
    #[serde(default)]
    pub title: Option<String>,
}

/// A new snapshot of one module, or of all own ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The module; all own ones when left out.
    #[serde(default)]
    pub module: Option<String>,
    /// The owner means it when much of a module is gone.
    #[serde(default)]
    pub allow_delete: bool,
}

/// A module of another mirra, to be followed into a directory here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// `mirra://host[:port]/module[#key]`, with a module.
    pub address: String,
    /// The directory, absolute; one with the module's name beside `.mirra` when left out.
    #[serde(default)]
    pub into: Option<PathBuf>,
    /// Takes over what is already there.
    #[serde(default)]
    pub adopt: bool,
    /// Brings it up to date once, without a daemon.
    #[serde(default)]
    pub once: bool,
    /// Directories, absolute, with files that need not be fetched; goes with `once`.
    #[serde(default)]
    pub seeds: Vec<PathBuf>,
    /// What is taken of the module, as rules in order: `+ PATTERN`, `- PATTERN`; as it was when left out, all of it when
    /// empty.
    #[serde(default)]
    pub filter: Option<Vec<String>>,
    /// Removes from the directory what the rules leave out; goes with the rules.
    #[serde(default)]
    pub delete_excluded: bool,
    /// How long the other end may be silent, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// A module that this home has no more to do with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// The module.
    pub module: String,
    /// Removes its directory and all that is in it.
    #[serde(default)]
    pub delete_data: bool,
}

/// One module, or all of this home.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// The module; all when left out.
    #[serde(default)]
    pub module: Option<String>,
}

/// How long a busy home or a silent peer is waited for when nothing is said.
pub const TIMEOUT: Duration = Duration::from_secs(10);

fn default_timeout_ms() -> u64 {
    u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX)
}

impl Command {
    /// The word for it, on the command line and in the control interface.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Share(_) => "share",
            Self::Publish(_) => "publish",
            Self::Sync(_) => "sync",
            Self::Unshare(_) => "unshare",
            Self::Unsync(_) => "unsync",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Status => "status",
        }
    }
}

/// Carries out commands for the home it owns: in the process that was called, or in the daemon.
pub trait Execute: Send + std::marker::Sync {
    /// Does what `command` says; `monitor` hears of it and may want it to stop.
    ///
    /// # Errors
    /// [`Failure`], complete enough to be printed as it is.
    fn execute(&self, command: &Command, monitor: &dyn Monitor) -> Result<Report, Failure>;
}
