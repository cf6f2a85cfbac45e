//! The page of all modules.

use askama::Template;

use super::card::Shown;
use super::model::Index;
use super::text::counted;
use super::{Frame, render};
use crate::mirror::words;

/// The page of all modules, at `now_ms`.
#[must_use]
pub fn index(page: &Index, now_ms: u64) -> String {
    let states = || page.modules.iter().filter_map(|module| module.state.as_ref());
    let bytes = states().fold(0, |sum: u64, state| sum.saturating_add(state.bytes));
    let entries = states().fold(0, |sum: u64, state| sum.saturating_add(state.entries));
    render(&IndexPage {
        frame: Frame::new(&page.site, ""),
        modules: page.modules.iter().map(|module| Shown::new(&page.site, module, now_ms)).collect(),
        count: counted(page.modules.len() as u64, "module", "modules"),
        size: words::bytes(bytes),
        entries: counted(entries, "entry", "entries"),
    })
}

#[derive(Template)]
#[template(path = "index.html")]
struct IndexPage<'a> {
    frame: Frame<'a>,
    modules: Vec<Shown<'a>>,
    count: String,
    size: String,
    entries: String,
}
