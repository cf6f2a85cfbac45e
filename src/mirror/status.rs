//! How the modules of a home are, as an operator wants to know it: what is there, what goes on, and what is wrong.

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::gate::Gate;
use super::report::Sources;

/// How a home's modules are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// The name of this mirra.
    pub name: String,
    /// The key of its own modules.
    pub key: String,
    /// Whether a daemon runs.
    pub running: bool,
    /// When it began, Unix milliseconds; 0 without one.
    #[serde(default)]
    pub started_ms: u64,
    /// Visitors of its web pages since then.
    #[serde(default)]
    pub web: WebStatus,
    /// Requests of peers that wait for a free hand.
    #[serde(default)]
    pub queue: u64,
    /// In the order of the config.
    pub modules: Vec<ModuleStatus>,
}

/// Visitors of the web pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WebStatus {
    /// Connections that are open.
    pub connections: u64,
    /// Connections for which there was no place.
    pub turned_away: u64,
    /// Requests that were answered with what was asked for.
    pub found: u64,
    /// Requests that were led elsewhere, or told that nothing has changed.
    pub redirected: u64,
    /// Requests that asked for what there is not, or in a wrong way.
    pub refused: u64,
    /// Requests that could not be answered for a reason of this side.
    pub failed: u64,
}

/// What a home is to a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Makes its snapshots.
    #[default]
    Root,
    /// Follows it.
    Node,
}

/// How one module is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// The module.
    pub module: String,
    /// What this home is to it.
    pub role: Role,
    /// The directory.
    pub path: String,
    /// The address it comes from, on a node.
    pub address: Option<String>,
    /// Host and port that it comes from, on a node.
    pub upstream: Option<String>,
    /// The sequence of the head whose snapshot is in the directory; `None` before the first.
    pub sequence: Option<u64>,
    /// When that head was made, Unix milliseconds.
    pub created_ms: Option<u64>,
    /// The sequence of the newest head that was accepted, which may not be in the directory yet.
    pub newest_sequence: Option<u64>,
    /// How far the directory is behind the newest head, in milliseconds; `None` when that cannot be said.
    pub lag_ms: Option<u64>,
    /// When the root last confirmed that the newest head is the newest, Unix milliseconds.
    pub confirmed_ms: Option<u64>,
    /// Whether the rules of this home take a part of its snapshots only.
    #[serde(default)]
    pub partial: bool,
    /// Entries of its snapshot, or of that part.
    pub entries: u64,
    /// Bytes of all files of its snapshot, or of that part.
    pub bytes: u64,
    /// When changes are published, on a root.
    pub publish: Option<Gate>,
    /// Whether the operator lets it rest.
    pub paused: bool,
    /// What goes on, for programs.
    pub activity: Activity,
    /// What goes on, in a few words for people.
    pub state: String,
    /// What is being transferred or read.
    pub transfer: Option<Transfer>,
    /// How the directory is watched; `None` when it is not.
    pub watch: Option<WatchStatus>,
    /// The last thing that went wrong, until it is cured.
    pub error: Option<Trouble>,
    /// Bytes of change packs that are kept of it.
    pub packs_bytes: u64,
    /// Bytes of block lists that are kept of its files and of what they held, on a root; they lie in the index.
    pub block_lists_bytes: u64,
    /// Peers that follow it from here.
    pub followers: u64,
    /// Bytes that came over its connections since the daemon started, everything counted; modules of one source share one.
    pub received: u64,
    /// As `received`, what went out.
    #[serde(default)]
    pub sent: u64,
    /// What was done with it since then.
    #[serde(default)]
    pub work: Work,
    /// Bytes of its content that visitors of the web pages have got since the daemon started.
    #[serde(default)]
    pub web_bytes: u64,
    /// Times that something went wrong since then; the same over and over counts once.
    #[serde(default)]
    pub troubles: u64,
    /// When all was well last, Unix milliseconds: published on a root, equal to the newest head on a node.
    #[serde(default)]
    pub success_ms: Option<u64>,
    /// Whether it is older than it should be.
    pub stale: bool,
}

/// Snapshots that were made of a module, on a root, or brought here, on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Work {
    /// How many.
    pub done: u64,
    /// How long the last took, milliseconds.
    pub took_ms: Option<u64>,
    /// Where the content of all came from, on a node.
    pub content: Sources,
    /// Times that deletes waited for the operator's word.
    pub deletes_blocked: u64,
    /// Times that what came was not what is signed or trusted.
    pub verify_errors: u64,
}

/// What goes on with a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Nothing.
    #[default]
    Idle,
    /// Waits before it tries again, or for a free hand.
    Waiting,
    /// Calls the other end.
    Connecting,
    /// Reads the tree here.
    Indexing,
    /// Learns what differs.
    Comparing,
    /// Takes content.
    Fetching,
    /// Makes the snapshot the visible one.
    Publishing,
    /// Waits for changes of the directory.
    Watching,
    /// Waits for the next head of the other end.
    Following,
    /// Rests, as the operator wants it.
    Paused,
    /// Its source follows this home: nothing can come of it.
    Loop,
}

/// How far something is; a total of 0 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Transfer {
    /// Files done.
    pub files: u64,
    /// Files in all.
    pub files_total: u64,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Bytes a second of late.
    pub rate: u64,
    /// Seconds that are left at that rate.
    pub eta_s: Option<u64>,
}

/// How a directory is watched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WatchStatus {
    /// Directories that are watched.
    pub directories: u64,
    /// Why some are not, if so.
    pub degraded: Option<Degraded>,
}

/// Why changes may be seen late, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Degraded {
    /// Why.
    pub why: String,
    /// What mends it.
    pub fix: String,
}

/// Something that went wrong and is not cured yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Since when, Unix milliseconds.
    pub since_ms: u64,
    /// What, why, and what to do.
    pub failure: Failure,
    /// When it is tried again, Unix milliseconds; `None` when only the operator can mend it.
    pub retry_ms: Option<u64>,
}
