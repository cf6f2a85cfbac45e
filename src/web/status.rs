//! The page that says how the modules have been.

use hyper::StatusCode;
use hyper::header;

use super::asked::Asked;
use super::cards::{card, site};
use super::module::Wrong;
use super::pages::model::{Change, Changed, ModuleStatus, NodeStatus, Point, Status};
use super::pages::{POLICY, status as status_page};
use super::reply::{Answer, HTML, full, set};
use super::serve::Web;
use crate::mirror::clock::now_ms;
use crate::mirror::front::{Node, View};
use crate::tree::diff::changes;
use crate::tree::entry::Entry;
use crate::tree::hash::DirId;
use crate::tree::signed::Head;

/// Snapshots whose size is shown.
const SIZES_MAX: u32 = 256;
/// Snapshots of which it is said what they changed.
const CHANGES_MAX: usize = 10;
/// Paths that are looked at for that on one page; what a snapshot changed beyond is not counted.
const PATHS_MAX: u64 = 20_000;

/// The page.
///
/// # Errors
/// When the index fails.
pub fn page(web: &Web, asked: &Asked) -> Result<Answer, Wrong> {
    let (mut modules, mut left) = (Vec::new(), PATHS_MAX);
    for served in web.front.modules() {
        if let Some(view) = web.front.view(&served.name)? {
            modules.push(module(web, &view, &mut left)?);
        }
    }
    let page = Status { site: site(&web.front, asked.host()), started_ms: web.front.started_ms(), modules };
    let mut answer = full(StatusCode::OK, HTML, status_page(&page, now_ms()));
    set(&mut answer, header::CONTENT_SECURITY_POLICY, POLICY);
    set(&mut answer, header::CACHE_CONTROL, "no-cache");
    Ok(answer)
}

fn module(web: &Web, view: &View, left: &mut u64) -> Result<ModuleStatus, Wrong> {
    let (heads, now) = (view.heads(SIZES_MAX)?, now_ms());
    let before = heads.iter().skip(1).map(Some).chain([None]);
    let changes = heads.iter().zip(before).take(CHANGES_MAX).map(|(head, before)| Change {
        sequence: head.sequence,
        created_ms: head.created,
        entries: before.and_then(|before| count(view, before.snapshot, head.snapshot, left)),
        bytes: head.bytes,
    });
    let changes = changes.collect();
    let size = |head: &Head| Point { at_ms: head.created, bytes: head.bytes };
    Ok(ModuleStatus {
        module: card(&web.front, view),
        confirmed_ms: view.newest().and_then(|newest| newest.beat.as_ref()).map(|(issued, _)| *issued),
        changes,
        sizes: heads.iter().rev().map(size).collect(),
        served: web.visits.by_hours(&view.served().name),
        nodes: view.nodes()?.map(|nodes| nodes.into_iter().map(|node| shown(node, now)).collect()),
    })
}

fn shown(node: Node, now_ms: u64) -> NodeStatus {
    let lag_ms = node.behind_since_ms.map_or(0, |since| now_ms.saturating_sub(since).max(1));
    NodeStatus { name: node.name, sequence: node.sequence, lag_ms }
}

/// What differs between two snapshots; `None` if that is not all held, or more than may be looked at.
fn count(view: &View, old: DirId, new: DirId, left: &mut u64) -> Option<Changed> {
    let mut changed = Changed::default();
    for change in changes(view.pages(), Some(old), Some(new)) {
        *left = left.checked_sub(1)?;
        let change = change.ok()?;
        match (change.old, change.new) {
            (None, Some(_)) => changed.added += 1,
            (Some(old), None) => changed.removed = changed.removed.saturating_add(old.totals().0),
            (Some(old), Some(new)) if old.is_directory() && new.is_directory() => {
                changed.updated += u64::from(differ(&old, &new))
            }
            (Some(_), Some(_)) => changed.updated += 1,
            (None, None) => {}
        }
    }
    Some(changed)
}

/// Whether a directory itself changed, not what it holds.
fn differ(old: &Entry, new: &Entry) -> bool {
    old.meta != new.meta || old.attributes != new.attributes
}
