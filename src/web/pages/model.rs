//! What the pages are made from: plain values, which the server fills and nothing here looks up.

use super::order::View;
pub use crate::mirror::visits::Point;

/// The mirra that answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// What its operator calls it.
    pub name: String,
    /// Where to call it for a sync: host, and port unless it is the usual one.
    pub host: String,
    /// The version of the program.
    pub version: String,
}

/// A module, as all pages introduce it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Card {
    /// The module.
    pub name: String,
    /// What its operator says it is; may be empty.
    pub title: String,
    /// Whose it is.
    pub role: Role,
    /// Its authority as text, for `--key`.
    pub key: String,
    /// The snapshot that is served; `None` before the first one.
    pub state: Option<State>,
    /// How far the next snapshot is; shown only while there is no first one.
    pub progress: Option<Progress>,
    /// Whether only a part of the snapshot is here.
    pub partial: bool,
    /// Whether it is older than it should be.
    pub stale: bool,
}

/// Who makes a module's snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Role {
    /// This mirra.
    #[default]
    Root,
    /// Another one, followed from this host.
    Node {
        /// Whom it follows.
        upstream: String,
    },
}

/// A snapshot in figures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The head's sequence.
    pub sequence: u64,
    /// When the head was made, Unix milliseconds.
    pub created_ms: u64,
    /// The snapshot, hexadecimal.
    pub snapshot: String,
    /// Entries: files, directories and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// How far a sync is; a total of 0 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Files that are here.
    pub files: u64,
    /// Files in all.
    pub files_total: u64,
    /// Seconds that are left, where that can be told.
    pub eta_s: Option<u64>,
}

/// The page of all modules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// Who answers.
    pub site: Site,
    /// The modules, in the order to show.
    pub modules: Vec<Card>,
}

/// A page of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Who answers.
    pub site: Site,
    /// The module.
    pub module: Card,
    /// The directory's path in the module, name by name; empty for its top.
    pub path: Vec<Vec<u8>>,
    /// The rows of this page, in the order to show.
    pub rows: Vec<Row>,
    /// What the rows of all pages come to.
    pub totals: Totals,
    /// The order and the page that was asked for.
    pub view: View,
    /// How many pages there are, at least 1.
    pub pages: u64,
    /// Whether the directory is small enough to be put in another order than that of the tree.
    pub sortable: bool,
    /// A file beside the rows that says what they are.
    pub readme: Option<Readme>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name, as the tree has it.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// When it was last modified, Unix seconds.
    pub mtime: i64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory {
        /// Entries in it and below.
        entries: u64,
        /// Bytes of the files in it and below.
        bytes: u64,
    },
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: Vec<u8>,
        /// Whether that is something of this module; otherwise it is shown and leads nowhere.
        inside: bool,
    },
}

/// What lies directly in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Directories.
    pub directories: u64,
    /// Files.
    pub files: u64,
    /// Links.
    pub links: u64,
    /// Bytes of the files in it and below.
    pub bytes: u64,
}

/// The text that a directory has about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readme {
    /// The file's name.
    pub name: Vec<u8>,
    /// Its first bytes; the page shows [`README_MAX`](super::text::README_MAX) at most.
    pub bytes: Vec<u8>,
}

/// The status page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Who answers.
    pub site: Site,
    /// When this process began, Unix milliseconds.
    pub started_ms: u64,
    /// The modules, in the order to show.
    pub modules: Vec<ModuleStatus>,
}

/// How a module has been.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModuleStatus {
    /// The module.
    pub module: Card,
    /// When the root last said that this is still the newest, Unix milliseconds.
    pub confirmed_ms: Option<u64>,
    /// The last snapshots, newest first.
    pub changes: Vec<Change>,
    /// The module's size over time, ascending.
    pub sizes: Vec<Point>,
    /// Bytes sent to visitors and nodes in each span of time, ascending; the time is the span's beginning.
    pub served: Vec<Point>,
    /// Who follows it; `None` where that is not public.
    pub nodes: Option<Vec<NodeStatus>>,
}

/// What a snapshot changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// The head's sequence.
    pub sequence: u64,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
    /// What is different from the snapshot before; `None` where that is not known.
    pub entries: Option<Changed>,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Entries that differ between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// New ones.
    pub added: u64,
    /// Those with other content or metadata.
    pub updated: u64,
    /// Those that are gone.
    pub removed: u64,
}

/// A follower.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeStatus {
    /// What it wants to be called; empty if it does not want to be named.
    pub name: String,
    /// The sequence that it serves; `None` before its first, or when it is not known.
    pub sequence: Option<u64>,
    /// How long it has been behind, in milliseconds; 0 when it is not.
    pub lag_ms: u64,
}

/// A page in place of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problem {
    /// Who answers.
    pub site: Site,
    /// The status code.
    pub code: u16,
    /// What did not work, as a title.
    pub what: String,
    /// Why; may be empty.
    pub why: String,
    /// What the visitor can do; may be empty.
    pub fix: String,
    /// The module that it is about, if it may be named: with its progress before the first snapshot.
    pub module: Option<Card>,
}
