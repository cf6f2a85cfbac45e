//! How the modules have been.

use std::cmp::Ordering;

use askama::Template;

use super::card::Shown;
use super::model::{Change, ModuleStatus, NodeStatus, Point, Status};
use super::text::{ago, counted, date_ms, iso, long, short};
use super::{Frame, plot, render, shown};
use crate::mirror::words;

/// The status page, at `now_ms`.
#[must_use]
pub fn status(page: &Status, now_ms: u64) -> String {
    render(&StatusPage {
        frame: Frame::new(&page.site, "Status"),
        up: long(now_ms.saturating_sub(page.started_ms) / 1_000),
        started: date_ms(page.started_ms),
        modules: page.modules.iter().map(|module| Section::new(page, module, now_ms)).collect(),
    })
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage<'a> {
    frame: Frame<'a>,
    up: String,
    started: String,
    modules: Vec<Section<'a>>,
}

struct Section<'a> {
    module: Shown<'a>,
    confirmed: Option<Time>,
    plots: Vec<Plot>,
    changes: Vec<Step>,
    nodes: Option<Vec<Follower>>,
}

impl<'a> Section<'a> {
    fn new(page: &Status, status: &'a ModuleStatus, now_ms: u64) -> Self {
        let served = status.served.iter().fold(0, |sum: u64, point| sum.saturating_add(point.bytes));
        let newest = status.sizes.last().map_or(0, |point| point.bytes);
        let plots = [
            Plot::new("Size", words::bytes(newest), "size", &status.sizes, plot::steps, now_ms),
            Plot::new("Served", words::bytes(served), "served", &status.served, plot::bars, now_ms),
        ];
        Self {
            module: Shown::new(&page.site, &status.module, now_ms),
            confirmed: status.confirmed_ms.map(|at| Time::new(at, now_ms)),
            plots: plots.into_iter().flatten().collect(),
            changes: status
                .changes
                .iter()
                .zip(status.changes.iter().skip(1).map(Some).chain([None]))
                .map(|(change, before)| Step::new(change, before, now_ms))
                .collect(),
            nodes: status.nodes.as_ref().map(|nodes| nodes.iter().map(Follower::new).collect()),
        }
    }
}

struct Time {
    iso: String,
    date: String,
    age: String,
}

impl Time {
    fn new(at_ms: u64, now_ms: u64) -> Self {
        Self { iso: iso(at_ms), date: date_ms(at_ms), age: ago(at_ms, now_ms) }
    }
}

struct Plot {
    title: &'static str,
    /// The figure that it comes to.
    sum: String,
    class: &'static str,
    path: String,
    /// The highest of it.
    top: String,
    from: String,
    /// What it shows, for those who do not see it.
    words: String,
}

impl Plot {
    fn new(
        title: &'static str,
        sum: String,
        class: &'static str,
        points: &[Point],
        draw: fn(&[Point], u64) -> Option<String>,
        now_ms: u64,
    ) -> Option<Self> {
        let path = draw(points, now_ms)?;
        let top = words::bytes(points.iter().map(|point| point.bytes).max()?);
        let from = date_ms(points.first()?.at_ms);
        let words = format!("{title} since {from}: {sum}, at most {top}");
        Some(Self { title, sum, class, path, top, from, words })
    }
}

struct Step {
    sequence: u64,
    time: Time,
    /// Added, changed, removed.
    entries: [String; 3],
    /// In bytes of all files, from the snapshot before.
    difference: String,
    exact: String,
}

impl Step {
    fn new(change: &Change, before: Option<&Change>, now_ms: u64) -> Self {
        Self {
            sequence: change.sequence,
            time: Time::new(change.created_ms, now_ms),
            entries: change
                .entries
                .map_or_else(|| [(); 3].map(|()| unknown()), |of| [of.added, of.updated, of.removed].map(words::count)),
            difference: before.map_or_else(unknown, |before| signed(before.bytes, change.bytes)),
            exact: counted(change.bytes, "byte", "bytes"),
        }
    }
}

fn unknown() -> String {
    "?".to_owned()
}

/// `+1.2 MiB`, from one figure to the other.
fn signed(from: u64, to: u64) -> String {
    let sign = match from.cmp(&to) {
        Ordering::Less => "+",
        Ordering::Equal => "",
        Ordering::Greater => "\u{2212}",
    };
    format!("{sign}{}", words::bytes(from.abs_diff(to)))
}

struct Follower {
    name: String,
    sequence: Option<u64>,
    lag: String,
    behind: bool,
}

impl Follower {
    fn new(node: &NodeStatus) -> Self {
        let behind = node.lag_ms > 0;
        let lag = if behind { format!("{} behind", short(node.lag_ms)) } else { "up to date".to_owned() };
        let name = if node.name.is_empty() { "not named" } else { &node.name };
        Self { name: shown(&words::cut(name, 100)), sequence: node.sequence, lag, behind }
    }
}
