//! What is the mirra's own, beside its modules: the list of them, what stands under `/-/`, and what programs ask every
//! server for.

use std::sync::Arc;

use data_encoding::BASE64;
use hyper::StatusCode;
use hyper::header;
use serde::Serialize;

use super::asked::Asked;
use super::cards::{card, key, site};
use super::module::{Wrong, stamp};
use super::pages::assets::{self, Asset};
use super::pages::model::{Card, Index, Role};
use super::pages::{POLICY, index as index_page};
use super::problem::{FAILED, NOT_YET, NOWHERE};
use super::reply::{Answer, HTML, JSON, TEXT, full, set};
use super::serve::Web;
use crate::mirror::clock::now_ms;
use crate::mirror::front::Node;
use crate::mirror::served::Served;

/// Raised when the meaning of a field changes.
const STATUS_SCHEMA: &str = "mirra.status/1";
const NODES_SCHEMA: &str = "mirra.nodes/1";
const MANIFEST_SCHEMA: &str = "mirra.manifest/1";
/// A year, for what has another address when it changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Robots may read all of it; what only sorts the same anew is not worth their time.
const ROBOTS: &str = "User-agent: *\nDisallow: /*?sort=\nDisallow: /*?tar\nDisallow: /*?sha256\nDisallow: /*?b3\n";

/// The list of modules.
#[must_use]
pub fn index(web: &Web, asked: &Asked) -> Answer {
    let mut answer = if asked.wants_json() {
        status(web)
    } else {
        let page = Index { site: site(&web.front, asked.host()), modules: cards(web) };
        let mut answer = full(StatusCode::OK, HTML, index_page(&page, now_ms()));
        set(&mut answer, header::CONTENT_SECURITY_POLICY, POLICY);
        answer
    };
    set(&mut answer, header::CACHE_CONTROL, "no-cache");
    set(&mut answer, header::VARY, "Accept");
    answer
}

/// What stands at `names` below `/-/`.
#[must_use]
pub fn own(web: &Web, asked: &Asked, names: &[Vec<u8>]) -> Answer {
    let names: Vec<&str> = names.iter().map(|name| std::str::from_utf8(name).unwrap_or_default()).collect();
    match names.as_slice() {
        ["healthz"] => full(StatusCode::OK, TEXT, "ok\n"),
        ["status"] => status_page(web, asked),
        ["status.json"] => status(web),
        ["nodes.json"] => nodes(web, asked),
        ["manifest", module] => manifest(web, asked, module),
        [file] => {
            let path = format!("/-/{file}");
            let found = assets::ALL.iter().find(|asset| asset.path == path);
            found.map_or_else(|| NOWHERE.answer(&web.front, asked, None), asset)
        }
        _ => NOWHERE.answer(&web.front, asked, None),
    }
}

/// Whether a file of that name stands at the top of the server.
#[must_use]
pub fn is_own(name: &[u8]) -> bool {
    matches!(name, b"robots.txt" | b"favicon.ico")
}

/// It.
#[must_use]
pub fn own_file(name: &[u8]) -> Answer {
    match name {
        b"robots.txt" => full(StatusCode::OK, TEXT, ROBOTS),
        _ => asset(&assets::FAVICON),
    }
}

fn status_page(web: &Web, asked: &Asked) -> Answer {
    super::status::page(web, asked).unwrap_or_else(|error| {
        tracing::error!(error = &*error, "the index fails");
        FAILED.answer(&web.front, asked, None)
    })
}

fn asset(asset: &Asset) -> Answer {
    let mut answer = full(StatusCode::OK, asset.kind, asset.body);
    set(&mut answer, header::CACHE_CONTROL, FOR_EVER);
    answer
}

/// All modules that can be looked at.
fn cards(web: &Web) -> Vec<Card> {
    let modules = web.front.modules();
    let views = modules.iter().filter_map(|served| web.front.view(&served.name).ok().flatten());
    views.map(|view| card(&web.front, &view)).collect()
}

#[derive(Serialize)]
struct Status {
    schema: &'static str,
    name: String,
    version: &'static str,
    time_ms: u64,
    modules: Vec<ModuleStatus>,
}

#[derive(Serialize)]
struct ModuleStatus {
    name: String,
    title: String,
    role: &'static str,
    upstream: Option<String>,
    key: String,
    sequence: Option<u64>,
    snapshot: Option<String>,
    created_ms: Option<u64>,
    entries: Option<u64>,
    bytes: Option<u64>,
    partial: bool,
    stale: bool,
    progress: Option<Progress>,
}

/// How far the first snapshot is.
#[derive(Serialize)]
struct Progress {
    bytes: u64,
    bytes_total: u64,
    files: u64,
    files_total: u64,
}

fn status(web: &Web) -> Answer {
    let module = |card: Card| {
        let (role, upstream) = match card.role {
            Role::Root => ("root", None),
            Role::Node { upstream } => ("node", Some(upstream)),
        };
        let state = card.state.as_ref();
        ModuleStatus {
            role,
            upstream,
            sequence: state.map(|state| state.sequence),
            snapshot: state.map(|state| state.snapshot.clone()),
            created_ms: state.map(|state| state.created_ms),
            entries: state.map(|state| state.entries),
            bytes: state.map(|state| state.bytes),
            progress: card.progress.map(|progress| Progress {
                bytes: progress.bytes,
                bytes_total: progress.bytes_total,
                files: progress.files,
                files_total: progress.files_total,
            }),
            name: card.name,
            title: card.title,
            key: card.key,
            partial: card.partial,
            stale: card.stale,
        }
    };
    let modules = cards(web).into_iter().map(module).collect();
    let (name, version) = (web.front.server().name, env!("CARGO_PKG_VERSION"));
    json(&Status { schema: STATUS_SCHEMA, name, version, time_ms: now_ms(), modules })
}

#[derive(Serialize)]
struct Nodes {
    schema: &'static str,
    time_ms: u64,
    modules: Vec<ModuleNodes>,
}

/// Who follows a module, where that is shown.
#[derive(Serialize)]
struct ModuleNodes {
    name: String,
    nodes: Vec<NodeStatus>,
}

#[derive(Serialize)]
struct NodeStatus {
    name: Option<String>,
    sequence: Option<u64>,
    behind_since_ms: Option<u64>,
}

/// Who follows the modules that show it.
fn nodes(web: &Web, asked: &Asked) -> Answer {
    let node = |node: Node| NodeStatus {
        name: Some(node.name).filter(|name| !name.is_empty()),
        sequence: node.sequence,
        behind_since_ms: node.behind_since_ms,
    };
    let module = |served: &Arc<Served>| {
        let nodes = web.front.view(&served.name)?.map_or(Ok(None), |view| view.nodes())?;
        let nodes = nodes.map(|nodes| nodes.into_iter().map(node).collect());
        Ok(nodes.map(|nodes| ModuleNodes { name: served.name.clone(), nodes }))
    };
    let modules: Result<Vec<_>, Wrong> = web.front.modules().iter().filter_map(|of| module(of).transpose()).collect();
    match modules {
        Ok(modules) => json(&Nodes { schema: NODES_SCHEMA, time_ms: now_ms(), modules }),
        Err(error) => {
            tracing::error!(error = &*error, "the index fails");
            FAILED.answer(&web.front, asked, None)
        }
    }
}

#[derive(Serialize)]
struct Manifest<'a> {
    schema: &'static str,
    module: &'a str,
    key: String,
    epoch: u64,
    sequence: u64,
    snapshot: String,
    head_id: String,
    created_ms: u64,
    entries: u64,
    bytes: u64,
    /// Signed envelopes as they were received, in base64.
    roots: Vec<Root>,
    head: String,
    beat: Option<String>,
}

#[derive(Serialize)]
struct Root {
    version: u64,
    envelope: String,
}

/// All that was signed for the snapshot of a module.
fn manifest(web: &Web, asked: &Asked, module: &str) -> Answer {
    let view = match web.front.view(module) {
        Ok(Some(view)) => view,
        Ok(None) => return NOWHERE.answer(&web.front, asked, None),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the index fails");
            return FAILED.answer(&web.front, asked, None);
        }
    };
    let Some(newest) = view.newest() else { return NOT_YET.answer(&web.front, asked, Some(card(&web.front, &view))) };
    let head = &newest.head;
    let roots = view.served().roots();
    let root = |(version, bytes): &(u64, Vec<u8>)| Root { version: *version, envelope: BASE64.encode(bytes) };
    let mut answer = json(&Manifest {
        schema: MANIFEST_SCHEMA,
        module: &view.served().name,
        key: key(&view).unwrap_or_default(),
        epoch: head.epoch,
        sequence: head.sequence,
        snapshot: head.snapshot.to_string(),
        head_id: newest.id.to_string(),
        created_ms: head.created,
        entries: head.entries,
        bytes: head.bytes,
        roots: roots.iter().map(root).collect(),
        head: BASE64.encode(&newest.envelope),
        beat: newest.beat.as_ref().map(|(_, bytes)| BASE64.encode(bytes)),
    });
    stamp(&mut answer, &view);
    answer
}

fn json(value: &impl Serialize) -> Answer {
    let mut answer = match serde_json::to_vec(value) {
        Ok(text) => full(StatusCode::OK, JSON, text),
        Err(_) => full(FAILED.status, TEXT, FAILED.what),
    };
    set(&mut answer, header::CACHE_CONTROL, "no-cache");
    answer
}
