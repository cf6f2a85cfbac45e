//! How the modules of a home are: what the index knows, and what goes on.

use std::time::Duration;

use super::clock::now_ms;
use super::config::{Config, Kind, Module};
use super::desk::Look;
use super::served::Newest;
use super::site::Site;
use super::status::{Activity, ModuleStatus, Role, Status};
use crate::disk::index::heads::HeadState;
use crate::disk::index::{IndexError, Reader};
use crate::tree::hash::authority_text;

/// Looks at all modules of `config`; `running` says whether a daemon takes care of them.
///
/// # Errors
/// [`IndexError`].
pub(super) fn overview(site: &Site, config: &Config, running: bool) -> Result<Status, IndexError> {
    let reader = site.index.reader()?;
    let stale_after = config.server.stale_after.0;
    let modules = config.modules.iter().map(|module| look_at(site, &reader, module, stale_after));
    Ok(Status {
        name: config.server.name.clone(),
        key: authority_text(site.keys.authority()),
        running,
        started_ms: if running { site.started_ms } else { 0 },
        web: site.visits.status(),
        queue: site.room.queue(),
        modules: modules.collect::<Result<_, _>>()?,
    })
}

fn look_at(site: &Site, reader: &Reader, module: &Module, stale_after: Duration) -> Result<ModuleStatus, IndexError> {
    let (role, path, from, publish) = match &module.kind {
        Kind::Own(own) => (Role::Root, &own.path, None, Some(own.publish)),
        Kind::Followed(followed) => (Role::Node, &followed.into, Some(&followed.from), None),
    };
    let number = reader.find_module(&module.name)?;
    let newest = |state| -> Result<_, IndexError> {
        let Some(number) = number else { return Ok(None) };
        let Some(stored) = reader.newest_head(number, state)? else { return Ok(None) };
        Ok(Newest::of(&stored, reader.beat(number)?))
    };
    let (published, accepted) = (newest(HeadState::Published)?, newest(HeadState::Accepted)?);
    let now = now_ms();
    let age = |then: u64| now.saturating_sub(then);
    let current = match (&published, &accepted) {
        (Some(published), Some(accepted)) => published.id == accepted.id,
        _ => false,
    };
    let created = accepted.as_ref().map(|accepted| accepted.head.created);
    let confirmed = accepted.as_ref().and_then(|accepted| accepted.beat.as_ref()).map(|(issued, _)| *issued);
    let Look { activity, transfer, trouble, watch, sent, received, work, troubles, success_ms } =
        site.desk(&module.name).look();
    let late = |then: Option<u64>| then.is_some_and(|then| u128::from(age(then)) > stale_after.as_millis());
    let stale = match role {
        Role::Root => false,
        Role::Node if current => late(confirmed.max(created)),
        Role::Node => late(created) || published.is_none() && trouble.is_some(),
    };
    let served = site.catalog.get(&module.name);
    let path = site.home.base().join(path);
    let there = path.is_dir();
    let partial = matches!(&module.kind, Kind::Followed(followed) if followed.filter.is_partial());
    let part = number.map_or(Ok(None), |number| reader.part(number))?;
    let held = published.as_ref().map(|newest| part.map_or_else(|| newest.built(), |part| part.tree));
    let mut status = ModuleStatus {
        module: module.name.clone(),
        role,
        path: path.display().to_string(),
        address: from.map(ToString::to_string),
        upstream: from.map(|from| from.host.to_string()),
        sequence: published.as_ref().map(|newest| newest.head.sequence),
        created_ms: published.as_ref().map(|newest| newest.head.created),
        newest_sequence: accepted.as_ref().map(|newest| newest.head.sequence),
        lag_ms: match role {
            Role::Root => None,
            Role::Node if current => Some(0),
            Role::Node => created.map(age),
        },
        confirmed_ms: confirmed,
        partial,
        entries: held.map_or(0, |built| built.entries),
        bytes: held.map_or(0, |built| built.bytes),
        publish,
        paused: module.paused,
        activity: if module.paused { Activity::Paused } else { activity },
        state: String::new(),
        transfer,
        watch,
        error: trouble,
        block_lists_bytes: number.map_or(Ok(0), |number| reader.block_bytes(number))?,
        packs_bytes: served.as_ref().map_or(0, |served| served.offers.bytes()),
        followers: served.as_ref().map_or(0, |served| served.followers.count()),
        received,
        sent,
        work,
        web_bytes: site.visits.bytes(&module.name),
        troubles,
        success_ms,
        stale,
    };
    status.state = words(&status, there, current).to_owned();
    Ok(status)
}

/// A module's state in a few words.
fn words(status: &ModuleStatus, there: bool, current: bool) -> &'static str {
    match status.activity {
        Activity::Paused => return "paused",
        Activity::Loop => return "followed in a loop",
        Activity::Indexing => return "reading the tree",
        Activity::Comparing => return "comparing",
        Activity::Fetching => return "fetching",
        Activity::Publishing => return "publishing",
        Activity::Idle | Activity::Waiting | Activity::Connecting | Activity::Watching | Activity::Following => {}
    }
    match (status.role, status.sequence) {
        (Role::Root, _) if !there => "directory missing",
        (Role::Root, None) => "not published yet",
        (Role::Root, Some(_)) => "published",
        (Role::Node, Some(_)) if !there => "directory missing",
        (Role::Node, None) => "not synced yet",
        (Role::Node, Some(_)) if status.stale => "stale",
        (Role::Node, Some(_)) if current && status.partial => "in sync (partial)",
        (Role::Node, Some(_)) if current => "in sync",
        (Role::Node, Some(_)) => "behind",
    }
}
