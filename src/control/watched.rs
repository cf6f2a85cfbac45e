//! What programs that watch a daemon ask it for: is it alive, is it ready, how is it. The same at the control socket and
//! on loopback, and nothing of it changes anything.

use serde::Serialize;

use super::metrics;
use crate::mirror::clock::now_ms;
use crate::mirror::failure::Failure;
use crate::mirror::status::{Activity, Role, Status};

/// Raised when the meaning of a field changes.
const SCHEMA: &str = "mirra.daemon/1";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// Its media type.
    pub kind: &'static str,
    /// What it says.
    pub body: Vec<u8>,
}

/// All paths.
pub const PATHS: [&str; 4] = ["/metrics", "/healthz", "/readyz", "/status.json"];

/// What stands at `path`, from what `look` finds; `None` if nothing does.
#[must_use]
pub fn page(path: &str, look: impl FnOnce() -> Result<Status, Failure>) -> Option<Page> {
    let make: fn(Status) -> Page = match path {
        // Who answers is alive.
        "/healthz" => return Some(Page { status: 200, kind: TEXT, body: b"ok\n".to_vec() }),
        "/metrics" => metrics_page,
        "/readyz" => ready,
        "/status.json" => status,
        _ => return None,
    };
    Some(look().map_or_else(failed, make))
}

fn metrics_page(status: Status) -> Page {
    Page { status: 200, kind: metrics::KIND, body: metrics::text(status, now_ms()).into_bytes() }
}

fn status(status: Status) -> Page {
    #[derive(Serialize)]
    struct Told {
        schema: &'static str,
        version: &'static str,
        time_ms: u64,
        #[serde(flatten)]
        status: Status,
    }
    let told = Told { schema: SCHEMA, version: env!("CARGO_PKG_VERSION"), time_ms: now_ms(), status };
    json(200, &told)
}

/// Ready is a mirra that can give all it promises: every module has a snapshot, and none is stale or rests.
fn ready(status: Status) -> Page {
    #[derive(Serialize)]
    struct Readiness {
        ready: bool,
        /// Modules that are not, and why.
        missing: Vec<Missing>,
    }
    #[derive(Serialize)]
    struct Missing {
        module: String,
        why: &'static str,
    }
    let why = |module: &crate::mirror::status::ModuleStatus| match module.role {
        _ if module.activity == Activity::Paused => Some("it is paused"),
        Role::Root if module.sequence.is_none() => Some("it has no snapshot yet"),
        Role::Node if module.sequence.is_none() => Some("its first sync is not over"),
        _ if module.stale => Some("it is stale"),
        _ => None,
    };
    let missing: Vec<Missing> =
        status.modules.iter().filter_map(|m| why(m).map(|why| Missing { module: m.module.clone(), why })).collect();
    let ready = missing.is_empty();
    json(if ready { 200 } else { 503 }, &Readiness { ready, missing })
}

fn failed(failure: Failure) -> Page {
    json(500, &serde_json::json!({ "failure": failure }))
}

fn json(status: u16, value: &impl Serialize) -> Page {
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    Page { status, kind: JSON, body }
}
