//! The page in place of what was asked for.

use askama::Template;

use super::card::Shown;
use super::model::Problem;
use super::{Frame, render, shown};

/// What did not work, why, and what to do, at `now_ms`.
#[must_use]
pub fn problem(page: &Problem, now_ms: u64) -> String {
    let module = page.module.as_ref().map(|module| Shown::new(&page.site, module, now_ms));
    let [what, why, fix] = [&page.what, &page.why, &page.fix].map(|text| shown(text));
    render(&ProblemPage { frame: Frame::new(&page.site, &what), code: page.code, what, why, fix, module })
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    frame: Frame<'a>,
    code: u16,
    what: String,
    why: String,
    fix: String,
    module: Option<Shown<'a>>,
}
