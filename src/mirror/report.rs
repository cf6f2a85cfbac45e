//! What a command has done, as figures: the program prints them for people, `--json` prints them as they are.

use serde::{Deserialize, Serialize};

use super::failure::Exit;
pub use super::status::{Activity, Degraded, ModuleStatus, Role, Status, Transfer, Trouble, WatchStatus};

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub enum Report {
    /// A directory is a module.
    Shared(Published),
    /// Snapshots were looked for, and made where something changed.
    Published(PublishedAll),
    /// A directory equals the signed snapshot.
    Synced(Box<Synced>),
    /// A module is registered; the daemon brings it up to date and keeps it so.
    Following(Following),
    /// A module is no longer one of this home.
    Removed(Removed),
    /// Modules rest, or are taken up again.
    Paused(Paused),
    /// How the modules are.
    Status(Status),
    /// What another mirra has.
    Listing(Listing),
}

impl Report {
    /// The exit code that goes with it: not everything that comes back is in order.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let skipped = match self {
            Self::Shared(one) => !one.skipped.is_empty(),
            Self::Published(all) => all.modules.iter().any(|one| !one.skipped.is_empty()),
            Self::Synced(one) => !one.skipped.is_empty(),
            Self::Status(status) if status.modules.iter().any(|module| module.stale) => return Exit::Stale,
            Self::Following(_) | Self::Removed(_) | Self::Paused(_) | Self::Status(_) | Self::Listing(_) => false,
        };
        if skipped { Exit::Partial } else { Exit::Ok }
    }
}

/// An own module and its newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Published {
    /// The module.
    pub module: String,
    /// The directory, as the operator would write it.
    pub path: String,
    /// The head's sequence.
    pub sequence: u64,
    /// The snapshot, hexadecimal.
    pub snapshot: String,
    /// Entries: files, directories and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Whether this made a new snapshot.
    pub changed: bool,
    /// The key that others may name behind `#`.
    pub key: String,
    /// The port that others call.
    pub port: u16,
    /// Paths that could not be read, or cannot be part of a module, each with the reason.
    pub skipped: Vec<String>,
}

/// What `publish` found, module by module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PublishedAll {
    /// In the order of the config.
    pub modules: Vec<Published>,
}

/// A followed module that was brought up to date.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Synced {
    /// The module.
    pub module: String,
    /// The address it came from, with its key.
    pub address: String,
    /// The directory.
    pub into: String,
    /// The head's sequence.
    pub sequence: u64,
    /// The snapshot, hexadecimal.
    pub snapshot: String,
    /// Whether the rules of this home take a part of it only.
    #[serde(default)]
    pub partial: bool,
    /// Entries of the snapshot, or of that part.
    pub entries: u64,
    /// Bytes of all files of the snapshot, or of that part.
    pub bytes: u64,
    /// Entries that were made.
    pub added: u64,
    /// Entries whose content or metadata changed.
    pub updated: u64,
    /// Entries that were removed.
    pub removed: u64,
    /// Bytes that came over the network, everything counted.
    pub received: u64,
    /// Bytes that went over the network, everything counted.
    pub sent: u64,
    /// Time it took, in milliseconds.
    pub elapsed_ms: u64,
    /// Whether the key was accepted because it was the first one seen.
    pub first_contact: bool,
    /// Entries that lay in the directory and were put aside.
    pub put_aside: u64,
    /// Paths that could not be written here, each with the reason.
    pub skipped: Vec<String>,
    /// Where the bytes went, and where the content came from.
    pub stats: Stats,
}

/// What a sync was made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Bytes of the socket; all of them together are those that were sent and received.
    pub wire: Wire,
    /// Bytes of the files that were new or had changed.
    pub content: Sources,
}

/// Bytes of the socket by what they were for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wire {
    /// Heads, beats, keys.
    pub news: Traffic,
    /// Entries and pages.
    pub tree: Traffic,
    /// Chunk lists.
    pub lists: Traffic,
    /// What is asked for, with what is here of it: paths, bitmaps, hashes of blocks.
    pub blocks: Traffic,
    /// Steps and literals.
    pub content: Traffic,
    /// Handshake, records, tags of authentication, credit.
    pub overhead: Traffic,
}

/// Bytes both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Sent.
    pub sent: u64,
    /// Received.
    pub received: u64,
}

/// Bytes of content by where they came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sources {
    /// New bytes that came as such.
    pub literal: u64,
    /// What those took on the wire, packed.
    pub literal_packed: u64,
    /// What the steps took on the wire, packed.
    pub steps_packed: u64,
    /// Copied from an old version, or from another file that was chosen as basis.
    pub from_basis: u64,
    /// Chunks that were here.
    pub from_chunks: u64,
    /// How many of those.
    #[serde(default)]
    pub chunks: u64,
    /// All of files whose content stood here at another path.
    pub from_files: u64,
    /// All of files that an earlier run had staged.
    pub from_stage: u64,
    /// All of files that a seed held.
    #[serde(default)]
    pub from_seed: u64,
}

impl std::ops::AddAssign<&Self> for Sources {
    fn add_assign(&mut self, more: &Self) {
        self.literal += more.literal;
        self.literal_packed += more.literal_packed;
        self.steps_packed += more.steps_packed;
        self.from_basis += more.from_basis;
        self.from_chunks += more.from_chunks;
        self.chunks += more.chunks;
        self.from_files += more.from_files;
        self.from_stage += more.from_stage;
        self.from_seed += more.from_seed;
    }
}

/// A module that the daemon follows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Following {
    /// The module.
    pub module: String,
    /// The address it comes from.
    pub address: String,
    /// The directory.
    pub into: String,
    /// The newest head's sequence; `None` while there is none.
    pub sequence: Option<u64>,
    /// Entries of its snapshot.
    pub entries: u64,
    /// Bytes of all files of its snapshot.
    pub bytes: u64,
    /// Bytes that are free where the directory lies, as far as the system says.
    pub free: Option<u64>,
    /// Whether the key was accepted because it was the first one seen.
    pub first_contact: bool,
    /// Whether a daemon runs that takes care of it.
    pub running: bool,
}

/// A module that left the config.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Removed {
    /// The module.
    pub module: String,
    /// What this home was to it.
    pub role: Role,
    /// Whether its directory was removed as well.
    pub data_deleted: bool,
    /// The directory.
    pub path: String,
}

/// Modules that rest, or no longer do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Paused {
    /// In the order of the config.
    pub modules: Vec<String>,
    /// Whether they rest now.
    pub paused: bool,
}

/// What another mirra has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listing {
    /// The host that was asked.
    pub host: String,
    /// Its modules, by name.
    pub modules: Vec<RemoteModule>,
}

/// One entry of a module of another mirra.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteEntry {
    /// Its path in the module: bytes, which may be anything but NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u16,
    /// Time of last modification, seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A directory.
    Directory {
        /// Entries in it and below.
        entries: u64,
        /// Bytes of the files in it and below.
        bytes: u64,
    },
    /// A symbolic link.
    Link {
        /// Where it points: bytes.
        target: Vec<u8>,
    },
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Looked {
    /// The module.
    pub module: String,
    /// The sequence of the head whose tree it was.
    pub sequence: u64,
    /// The key of the module's owner, as it goes behind `#`.
    pub key: String,
    /// Whether that key was named by who asked. Else it is the word of the mirra that was asked.
    pub key_named: bool,
    /// Entries that were listed.
    pub entries: u64,
}

/// One module of another mirra.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RemoteModule {
    /// The module.
    pub module: String,
    /// A line for people.
    pub title: String,
    /// Whether that mirra has a part of it only.
    #[serde(default)]
    pub partial: bool,
    /// Entries of its newest snapshot.
    pub entries: u64,
    /// Bytes of all files of its newest snapshot.
    pub bytes: u64,
    /// Its newest head's sequence.
    pub sequence: u64,
    /// When that head was made, Unix milliseconds.
    pub created_ms: u64,
    /// The key that goes behind `#`.
    pub key: String,
}
