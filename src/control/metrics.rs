//! How a daemon and its modules are, as numbers for a program that keeps them: the OpenMetrics text format, which
//! Prometheus reads.
//!
//! Everything is made from one [`Status`] when it is asked for; nothing is kept here. There are as many series as
//! modules times the entries of a table, and a few of the mirra itself.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::mirror::report::Sources;
use crate::mirror::status::{ModuleStatus, Role, Status};

/// The media type of the text.
pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A number of a module.
struct Each {
    name: &'static str,
    help: &'static str,
    /// A counter, whose name gets `_total`; else a gauge.
    counts: bool,
    /// It, at a time in Unix milliseconds; `None` where the module has none.
    value: fn(&ModuleStatus, u64) -> Option<f64>,
}

/// A number of the mirra.
struct Whole {
    name: &'static str,
    help: &'static str,
    counts: bool,
    value: fn(&Status) -> f64,
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&ModuleStatus, u64) -> Option<f64>) -> Each {
    Each { name, help, counts: false, value }
}

const fn counter(name: &'static str, help: &'static str, value: fn(&ModuleStatus, u64) -> Option<f64>) -> Each {
    Each { name, help, counts: true, value }
}

const MODULE: [Each; 24] = [
    gauge("module_seq", "Sequence of the snapshot in the directory", |m, _| m.sequence.map(number)),
    gauge("module_newest_seq", "Sequence of the newest head that was accepted", |m, _| m.newest_sequence.map(number)),
    gauge("module_head_age_seconds", "Age of the snapshot in the directory", |m, now| age(m.created_ms, now)),
    gauge("module_confirmed_age_seconds", "Time since the root said that the newest head is the newest", |m, now| {
        age(m.confirmed_ms, now)
    }),
    gauge("module_last_success_timestamp_seconds", "When all was well last", |m, _| last_success(m).map(seconds)),
    gauge("module_lag_seconds", "How far the directory is behind the newest head", |m, _| m.lag_ms.map(seconds)),
    gauge("module_entries", "Files, directories and links of the snapshot", |m, _| Some(number(m.entries))),
    gauge("module_bytes", "Bytes of all files of the snapshot", |m, _| Some(number(m.bytes))),
    gauge("module_stale", "1 if it is older than it should be", |m, _| Some(flag(m.stale))),
    gauge("module_paused", "1 if the operator lets it rest", |m, _| Some(flag(m.paused))),
    gauge("module_failing", "1 if something is wrong with it now", |m, _| Some(flag(m.error.is_some()))),
    counter("module_errors", "Times that something went wrong", |m, _| Some(number(m.troubles))),
    gauge("module_watch_degraded", "1 if changes of the directory may be seen late", |m, _| {
        m.watch.as_ref().map(|watch| flag(watch.degraded.is_some()))
    }),
    gauge("module_nodes_connected", "Nodes that follow it from here", |m, _| Some(number(m.followers))),
    gauge("module_sync_duration_seconds", "How long the last snapshot took to be made or brought here", |m, _| {
        m.work.took_ms.map(seconds)
    }),
    counter("module_syncs", "Snapshots that were made or brought here", |m, _| Some(number(m.work.done))),
    counter("module_chunks_reused", "Chunks that were here and were not sent", |m, _| {
        Some(number(m.work.content.chunks))
    }),
    counter("module_deletes_blocked", "Times that deletes waited for the operator's word", |m, _| {
        Some(number(m.work.deletes_blocked))
    }),
    counter("module_verify_errors", "Times that what came was not what is signed or trusted", |m, _| {
        Some(number(m.work.verify_errors))
    }),
    gauge("module_transfer_bytes", "Bytes done of what goes on now", |m, _| m.transfer.map(|t| number(t.bytes))),
    gauge("module_transfer_size_bytes", "Bytes in all of what goes on now", |m, _| {
        m.transfer.map(|t| number(t.bytes_total))
    }),
    gauge("module_packs_bytes", "Bytes of change packs that are kept", |m, _| Some(number(m.packs_bytes))),
    gauge("module_block_lists_bytes", "Bytes of block lists that are kept", |m, _| Some(number(m.block_lists_bytes))),
    counter("http_sent_bytes", "Bytes of its content that visitors of the web got", |m, _| Some(number(m.web_bytes))),
];

/// A counter of a module by kinds.
struct Kinds {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: fn(&ModuleStatus) -> Vec<(&'static str, u64)>,
}

const KINDS: [Kinds; 2] = [
    Kinds {
        name: "module_wire_bytes",
        help: "Bytes over its connections, everything counted",
        label: "dir",
        values: |m| vec![("received", m.received), ("sent", m.sent)],
    },
    Kinds {
        name: "module_content_bytes",
        help: "Bytes of new and changed files by where they came from",
        label: "from",
        values: |m| {
            let Sources { literal, from_basis, from_chunks, from_files, from_stage, from_seed, .. } = m.work.content;
            vec![
                ("wire", literal),
                ("basis", from_basis),
                ("chunks", from_chunks),
                ("files", from_files),
                ("stage", from_stage),
                ("seed", from_seed),
            ]
        },
    },
];

const MIRRA: [Whole; 4] = [
    Whole {
        name: "start_time_seconds",
        help: "When the daemon began",
        counts: false,
        value: |s| seconds(s.started_ms),
    },
    Whole {
        name: "queue_length",
        help: "Requests of peers that wait for a free hand",
        counts: false,
        value: |s| number(s.queue),
    },
    Whole {
        name: "http_connections",
        help: "Connections to the web that are open",
        counts: false,
        value: |s| number(s.web.connections),
    },
    Whole {
        name: "http_connections_refused",
        help: "Connections to the web for which there was no place",
        counts: true,
        value: |s| number(s.web.turned_away),
    },
];

/// The text for `status` at `now_ms`.
#[must_use]
pub fn text(status: Status, now_ms: u64) -> String {
    let mut registry = Registry::with_prefix("mirra");
    registry.register_collector(Box::new(Snapshot { status, now_ms }));
    let mut text = String::new();
    // Writing into memory does not fail.
    if text::encode(&mut text, &registry).is_err() {
        text.clear();
    }
    text
}

#[derive(Debug)]
struct Snapshot {
    status: Status,
    now_ms: u64,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { status, now_ms } = self;
        for Each { name, help, counts, value } in &MODULE {
            let mut family = encoder.encode_descriptor(name, help, None, kind(*counts))?;
            for module in &status.modules {
                let Some(value) = value(module, *now_ms) else { continue };
                let labels = [("module", module.module.as_str()), ("role", role(module))];
                put(family.encode_family(&labels)?, *counts, value)?;
            }
        }
        for Kinds { name, help, label, values } in &KINDS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for module in &status.modules {
                for (kind, value) in values(module) {
                    let labels = [("module", module.module.as_str()), ("role", role(module)), (*label, kind)];
                    put(family.encode_family(&labels)?, true, number(value))?;
                }
            }
        }
        for Whole { name, help, counts, value } in &MIRRA {
            put(encoder.encode_descriptor(name, help, None, kind(*counts))?, *counts, value(status))?;
        }
        let web = &status.web;
        let help = "Requests to the web by what came of them";
        let mut requests = encoder.encode_descriptor("http_requests", help, None, MetricType::Counter)?;
        let results =
            [("found", web.found), ("redirected", web.redirected), ("refused", web.refused), ("failed", web.failed)];
        for (result, count) in results {
            put(requests.encode_family(&[("result", result)])?, true, number(count))?;
        }
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("name", status.name.as_str())];
        encoder.encode_descriptor("build", "Which mirra this is", None, MetricType::Info)?.encode_info(&labels)
    }
}

fn role(module: &ModuleStatus) -> &'static str {
    match module.role {
        Role::Root => "root",
        Role::Node => "node",
    }
}

fn kind(counts: bool) -> MetricType {
    if counts { MetricType::Counter } else { MetricType::Gauge }
}

fn put(mut encoder: MetricEncoder<'_>, counts: bool, value: f64) -> fmt::Result {
    if counts { encoder.encode_counter::<NoLabels, _, f64>(&value, None) } else { encoder.encode_gauge(&value) }
}

/// For exemplars, of which there are none.
type NoLabels = [(&'static str, &'static str); 0];

/// Exact up to 2^53: nine petabytes.
fn number(value: u64) -> f64 {
    value as f64
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

fn age(then: Option<u64>, now_ms: u64) -> Option<f64> {
    then.map(|then| seconds(now_ms.saturating_sub(then)))
}

/// When the module was last known to be as it should: published here, or equal to the newest head when that was confirmed.
fn last_success(module: &ModuleStatus) -> Option<u64> {
    let confirmed = module.confirmed_ms.filter(|_| module.role == Role::Node && module.lag_ms == Some(0));
    module.success_ms.max(confirmed)
}
