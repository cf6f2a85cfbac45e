//! What the web may see of a home: each module at one snapshot, files that are what it says, and how things are. Nothing
//! here changes anything.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::catalog::AllPages;
use super::checked::Checked;
use super::config::{Config, Server, Shown};
use super::followers::Follower;
use super::served::{Newest, Served};
use super::site::Site;
use super::status::Transfer;
use super::visits::Visits;
use crate::disk::dir::StatKey;
use crate::disk::index::IndexError;
use crate::disk::index::heads::{HeadState, StoredHead};
use crate::tree::dir::look_up;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{DirId, FileId};
use crate::tree::name::TreePath;
use crate::tree::page::PageSource;
use crate::tree::signed::Head;

/// Other places of a content that are looked at when it is not where the snapshot has it.
const PLACES_MAX: u32 = 8;

/// A home as the web sees it. Clones see the same.
#[derive(Clone)]
pub struct Front {
    site: Arc<Site>,
    port: u16,
}

impl Front {
    pub(super) fn new(site: Arc<Site>, port: u16) -> Self {
        Self { site, port }
    }

    /// The port at which peers call this mirra.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the home's connections are answered.
    #[must_use]
    pub fn runtime(&self) -> Handle {
        self.site.runtime.clone()
    }

    /// The settings as they are now.
    #[must_use]
    pub fn config(&self) -> Config {
        self.site.config_file().config().clone()
    }

    /// The settings of the mirra as a whole.
    #[must_use]
    pub fn server(&self) -> Server {
        self.site.config_file().config().server.clone()
    }

    /// How far what goes on with a module is, if anything does.
    #[must_use]
    pub fn progress(&self, module: &str) -> Option<Transfer> {
        self.site.desk(module).look().transfer
    }

    /// When this process began to answer, in Unix milliseconds.
    #[must_use]
    pub fn started_ms(&self) -> u64 {
        self.site.started_ms
    }

    /// Where visits are counted.
    #[must_use]
    pub fn visits(&self) -> Arc<Visits> {
        self.site.visits.clone()
    }

    /// The modules that are served, by name.
    #[must_use]
    pub fn modules(&self) -> Vec<Arc<Served>> {
        self.site.catalog.all()
    }

    /// A module as it is served now, for one answer; `None` when there is none of that name.
    ///
    /// # Errors
    /// [`IndexError`] when the index cannot be opened once more.
    pub fn view(&self, module: &str) -> Result<Option<View>, IndexError> {
        let Some(served) = self.site.catalog.get(module) else { return Ok(None) };
        let shown = self.site.config_file().config().module(module).map(|module| module.shown).unwrap_or_default();
        let (newest, pages) = (served.held(), AllPages(self.site.index.reader()?));
        Ok(Some(View { served, newest, pages, shown }))
    }
}

/// The last heads at one of which a node is looked for.
const HEADS_MAX: u32 = 256;

/// One that follows a module from here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// As it wants to be called; empty if it does not want to be shown by name.
    pub name: String,
    /// The sequence of what it has published, if that is one of the last heads.
    pub sequence: Option<u64>,
    /// Since when there is newer, Unix milliseconds; `None` when there is not.
    pub behind_since_ms: Option<u64>,
}

/// A module at one snapshot.
pub struct View {
    served: Arc<Served>,
    newest: Option<Newest>,
    pages: AllPages,
    shown: Shown,
}

/// Why a file of the snapshot cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// What is on the disk is something else at the moment: a change is on its way.
    Now,
    /// Only a part of the module is kept here, and this is not in it.
    Elsewhere,
}

impl View {
    /// What is served.
    #[must_use]
    pub fn served(&self) -> &Served {
        &self.served
    }

    /// The head of the snapshot; `None` before the first one.
    #[must_use]
    pub fn newest(&self) -> Option<&Newest> {
        self.newest.as_ref()
    }

    /// The top directory of the snapshot; `None` before the first one.
    #[must_use]
    pub fn top(&self) -> Option<DirId> {
        self.newest.as_ref().map(|newest| newest.head.snapshot)
    }

    /// The pages that the snapshot is made of, as far as they are held.
    #[must_use]
    pub fn pages(&self) -> &dyn PageSource {
        &self.pages
    }

    /// The last heads that were published, newest first, `limit` of them at most.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn heads(&self, limit: u32) -> Result<Vec<Head>, IndexError> {
        let stored = self.pages.0.last_heads(self.served.number, HeadState::Published, limit)?;
        Ok(stored.iter().filter_map(|stored| Newest::of(stored, None)).map(|newest| newest.head).collect())
    }

    /// Whether names that begin with a dot are listed.
    #[must_use]
    pub fn shows_hidden(&self) -> bool {
        self.shown.hidden
    }

    /// Who follows it from here, each with the sequence of what it has published and since when, in Unix milliseconds, there is
    /// newer; `None` where that is not shown.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn nodes(&self) -> Result<Option<Vec<Node>>, IndexError> {
        if !self.shown.nodes {
            return Ok(None);
        }
        let heads = self.pages.0.last_heads(self.served.number, HeadState::Published, HEADS_MAX)?;
        let created = |stored: &StoredHead| Newest::of(stored, None).map(|newest| newest.head.created);
        let node = |follower: Follower| {
            let at = heads.iter().position(|stored| Some(stored.id) == follower.at);
            // The one that came next; who is at none of them has been behind for longer than they tell.
            let next = at.unwrap_or(heads.len()).checked_sub(1).and_then(|next| heads.get(next));
            let sequence = at.and_then(|at| heads.get(at)).map(|stored| stored.sequence);
            Node { name: follower.name, sequence, behind_since_ms: next.and_then(created) }
        };
        Ok(Some(self.served.followers.list().into_iter().map(node).collect()))
    }

    /// Whether only a part of the module is kept here.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.served.is_partial()
    }

    /// Whether the directory `id` at `path` is kept here with all that is below it.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn holds_all(&self, path: &TreePath, id: DirId) -> Result<bool, IndexError> {
        if !self.is_partial() {
            return Ok(true);
        }
        let Some(part) = self.pages.0.part(self.served.number)? else { return Ok(false) };
        let held = match path.is_top() {
            true => Some(part.tree.id),
            false => look_up(&self.pages, part.tree.id, path)?.and_then(|entry| match entry.body {
                Body::Directory { id, .. } => Some(id),
                _ => None,
            }),
        };
        Ok(held == Some(id))
    }

    /// Opens the file that the snapshot has at `path` as `entry`: the one there, or another with the same content. What is
    /// opened is, by all that the system knows of a file, the one that was read and hashed.
    ///
    /// # Errors
    /// [`Missing`], wrapped in the error of the index if that is why.
    pub fn open(&self, path: &TreePath, entry: &Entry) -> Result<Result<Checked, Missing>, IndexError> {
        let Body::File { size, id, .. } = entry.body else { return Ok(Err(Missing::Now)) };
        let known = self.pages.0.file(self.served.number, path)?;
        if let Some(row) = &known
            && row.id == id
            && let Some(checked) = self.open_at(path, &row.stat, size, id)
        {
            return Ok(Ok(checked));
        }
        for (other, stat) in self.pages.0.paths_of(self.served.number, &id, PLACES_MAX)? {
            if let Some(checked) = self.open_at(&other, &stat, size, id) {
                return Ok(Ok(checked));
            }
        }
        Ok(Err(if known.is_none() && self.is_partial() { Missing::Elsewhere } else { Missing::Now }))
    }

    fn open_at(&self, path: &TreePath, stat: &StatKey, size: u64, id: FileId) -> Option<Checked> {
        Checked::open(self.served.top()?, path, stat, size, id)
    }
}
