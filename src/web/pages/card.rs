//! A module as words: what the index, a listing and the status page say of it alike.

use super::model::{Card, Progress, Role, Site, State};
use super::shown;
use super::text::{ago, date_ms, directory_href, exact, iso, long};
use crate::mirror::words;

/// Characters of a hash that tell it from its neighbours.
const SHORT: usize = 12;

/// What the templates write of a [`Card`].
pub(super) struct Shown<'a> {
    pub(super) card: &'a Card,
    pub(super) title: String,
    /// Whom it is followed from, on a node.
    pub(super) upstream: Option<String>,
    /// Its top.
    pub(super) href: String,
    pub(super) state: Option<Snapshot>,
    pub(super) progress: Option<Bar>,
    /// The command that takes it; its key behind it makes that proven.
    pub(super) take: String,
}

/// A [`State`] in words.
pub(super) struct Snapshot {
    pub(super) size: String,
    pub(super) exact: String,
    pub(super) entries: String,
    pub(super) sequence: u64,
    pub(super) created_iso: String,
    pub(super) created: String,
    pub(super) age: String,
    pub(super) id: String,
    pub(super) id_short: String,
}

/// A [`Progress`] in words, and as a share.
pub(super) struct Bar {
    /// Of [`max`](Self::max), never more; nothing where the total is not known.
    pub(super) value: Option<u64>,
    pub(super) max: u64,
    pub(super) words: String,
}

impl<'a> Shown<'a> {
    pub(super) fn new(site: &Site, card: &'a Card, now_ms: u64) -> Self {
        Self {
            card,
            title: shown(&card.title),
            upstream: match &card.role {
                Role::Root => None,
                Role::Node { upstream } => Some(shown(upstream)),
            },
            href: directory_href(&card.name, &[]),
            state: card.state.as_ref().map(|state| Snapshot::new(state, now_ms)),
            progress: card.progress.as_ref().filter(|_| card.state.is_none()).map(Bar::new),
            take: format!("mirra sync {} {}", shown(&site.host), card.name),
        }
    }
}

impl Snapshot {
    fn new(state: &State, now_ms: u64) -> Self {
        Self {
            size: words::bytes(state.bytes),
            exact: exact(state.bytes),
            entries: words::count(state.entries),
            sequence: state.sequence,
            created_iso: iso(state.created_ms),
            created: date_ms(state.created_ms),
            age: ago(state.created_ms, now_ms),
            id: state.snapshot.clone(),
            id_short: state.snapshot.chars().take(SHORT).collect(),
        }
    }
}

impl Bar {
    fn new(progress: &Progress) -> Self {
        let Progress { bytes, bytes_total, files, files_total, eta_s } = *progress;
        if bytes_total == 0 {
            let words = format!("{} so far", words::bytes(bytes));
            return Self { value: None, max: 1, words };
        }
        let mut text = format!("{} of {}", words::bytes(bytes), words::bytes(bytes_total));
        if files_total > 0 {
            text.push_str(&format!(", {} of {} files", words::count(files), words::count(files_total)));
        }
        if let Some(left) = eta_s {
            text.push_str(&format!(", about {} left", long(left)));
        }
        Self { value: Some(bytes.min(bytes_total)), max: bytes_total, words: text }
    }
}
