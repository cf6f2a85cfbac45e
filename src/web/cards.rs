//! A module as the pages introduce it, and the mirra that has it.

use super::pages::model::{Card, Progress, Role, Site, State};
use crate::mirror::clock::now_ms;
use crate::mirror::config::Kind;
use crate::mirror::front::{Front, View};
use crate::tree::address::DEFAULT_PORT;
use crate::tree::hash::{Authority, authority_text};
use crate::tree::signed::Envelope;

/// The mirra, as a visitor called it who used the name `host`.
#[must_use]
pub fn site(front: &Front, host: Option<&str>) -> Site {
    let server = front.server();
    let port = front.port();
    let host = host.unwrap_or("HOST");
    let host = if port == DEFAULT_PORT { host.to_owned() } else { format!("{host}:{port}") };
    Site { name: server.name, host, version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// The module that `view` is of.
#[must_use]
pub fn card(front: &Front, view: &View) -> Card {
    let (served, newest, config) = (view.served(), view.newest(), front.config());
    let role = match config.module(&served.name).map(|module| &module.kind) {
        Some(Kind::Followed(followed)) => Role::Node { upstream: followed.from.host.to_string() },
        _ => Role::Root,
    };
    let heard = newest.map(|newest| newest.head.created.max(newest.beat.as_ref().map_or(0, |(issued, _)| *issued)));
    let age = heard.map_or(0, |heard| now_ms().saturating_sub(heard));
    let late = u128::from(age) > config.server.stale_after.0.as_millis();
    Card {
        name: served.name.clone(),
        title: served.title(),
        stale: late && role != Role::Root,
        role,
        key: key(view).unwrap_or_default(),
        state: newest.map(|newest| State {
            sequence: newest.head.sequence,
            created_ms: newest.head.created,
            snapshot: newest.head.snapshot.to_string(),
            entries: newest.head.entries,
            bytes: newest.head.bytes,
        }),
        progress: front.progress(&served.name).filter(|_| newest.is_none()).map(|transfer| Progress {
            bytes: transfer.bytes,
            bytes_total: transfer.bytes_total,
            files: transfer.files,
            files_total: transfer.files_total,
            eta_s: transfer.eta_s,
        }),
        partial: view.is_partial(),
    }
}

/// Who may speak for the module, as text.
#[must_use]
pub fn key(view: &View) -> Option<String> {
    let roots = view.served().roots();
    let (_, first) = roots.first()?;
    Some(authority_text(&Authority::of(Envelope::decode(first).ok()?.payload())))
}
