//! A page of a directory.

use askama::Template;

use super::card::Shown;
use super::model::{Kind, Listing, Row};
use super::order::{Sort, View};
use super::text::{ago, counted, date, directory_href, encoded, exact, readme, target_shown};
use super::{Frame, render};
use crate::mirror::words;

/// Directories of a path that are named on the way to the last of them. Each is a link with all above in it, so that many
/// would make a page as long as their square.
const CRUMBS_MAX: usize = 12;
/// What stands for the others.
const GAP: &str = "…";

/// A page of a directory, at `now_ms`.
#[must_use]
pub fn listing(page: &Listing, now_ms: u64) -> String {
    let module = Shown::new(&page.site, &page.module, now_ms);
    let mut crumbs = vec![Crumb { href: module.href.clone(), name: page.module.name.clone() }];
    let left_out = page.path.len().saturating_sub(CRUMBS_MAX);
    for (at, name) in page.path.iter().enumerate().skip(left_out) {
        let (path, _) = page.path.split_at(at + 1);
        crumbs.push(Crumb { href: directory_href(&page.module.name, path), name: words::escaped(name) });
    }
    let mut names: Vec<&str> = crumbs.iter().map(|crumb| crumb.name.as_str()).collect();
    if left_out > 0 {
        names.insert(1, GAP);
    }
    let title = names.join("/");
    let here = crumbs.pop().map(|crumb| crumb.name).unwrap_or_default();
    render(&ListingPage {
        frame: Frame::new(&page.site, &title),
        top: page.path.is_empty(),
        module,
        crumbs,
        gap: left_out > 0,
        here,
        totals: totals(page),
        columns: Column::all(page),
        rows: page.rows.iter().map(|row| Line::new(row, now_ms)).collect(),
        pager: (page.pages > 1).then(|| Pager::new(page.view, page.pages)),
        readme: page.readme.as_ref().map(|file| {
            let (text, more) = readme(&file.bytes);
            Text { name: words::escaped(&file.name), href: encoded(&file.name), text, more }
        }),
    })
}

fn totals(page: &Listing) -> Vec<Figure> {
    let totals = page.totals;
    let some = [
        (totals.directories, "directory", "directories"),
        (totals.files, "file", "files"),
        (totals.links, "link", "links"),
    ];
    let mut figures: Vec<Figure> = some
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| Figure { text: counted(number, one, many), title: String::new() })
        .collect();
    if figures.is_empty() {
        figures.push(Figure { text: "empty".to_owned(), title: String::new() });
    } else {
        figures.push(Figure { text: words::bytes(totals.bytes), title: exact(totals.bytes) });
    }
    figures
}

#[derive(Template)]
#[template(path = "listing.html")]
struct ListingPage<'a> {
    frame: Frame<'a>,
    module: Shown<'a>,
    /// Whether this is the top of the module.
    top: bool,
    /// The top, if this is not it, and the directories right above.
    crumbs: Vec<Crumb>,
    /// Whether there are more between the first of them and the others.
    gap: bool,
    here: String,
    totals: Vec<Figure>,
    columns: [Column; 3],
    rows: Vec<Line>,
    pager: Option<Pager>,
    readme: Option<Text>,
}

struct Crumb {
    href: String,
    name: String,
}

struct Figure {
    text: String,
    title: String,
}

struct Text {
    name: String,
    href: String,
    text: String,
    more: bool,
}

/// The title of a column.
struct Column {
    name: &'static str,
    /// The order behind a click; nothing where there is no other order.
    link: Option<View>,
    /// What `aria-sort` says, if this is the order now.
    sorted: Option<&'static str>,
}

impl Column {
    fn all(page: &Listing) -> [Self; 3] {
        [(Sort::Name, "Name"), (Sort::Size, "Size"), (Sort::Date, "Modified, UTC")].map(|(sort, name)| {
            let sorted = (page.sortable && page.view.sort == sort).then_some(if page.view.descending {
                "descending"
            } else {
                "ascending"
            });
            Self { name, link: page.sortable.then(|| page.view.turned(sort)), sorted }
        })
    }
}

/// A row in words.
struct Line {
    /// Behind `./`; nothing where it leads nowhere.
    href: Option<String>,
    name: String,
    /// Where a link points.
    target: Option<String>,
    size: String,
    exact: String,
    date: String,
    age: String,
}

impl Line {
    fn new(row: &Row, now_ms: u64) -> Self {
        let (href, name) = (encoded(&row.name), words::escaped(&row.name));
        let mtime_ms = u64::try_from(row.mtime).unwrap_or(0).saturating_mul(1_000);
        let line = Self {
            href: Some(href),
            name,
            target: None,
            size: String::new(),
            exact: String::new(),
            date: date(row.mtime),
            age: ago(mtime_ms, now_ms),
        };
        match &row.kind {
            Kind::File { size } => Self { size: words::bytes(*size), exact: exact(*size), ..line },
            Kind::Directory { entries, bytes } => Self {
                href: line.href.map(|href| href + "/"),
                name: line.name + "/",
                size: words::bytes(*bytes),
                exact: format!("{} in {}", exact(*bytes), counted(*entries, "entry", "entries")),
                ..line
            },
            Kind::Link { target, inside } => {
                Self { href: line.href.filter(|_| *inside), target: Some(target_shown(target)), ..line }
            }
        }
    }
}

/// The way to the other pages.
struct Pager {
    page: u64,
    pages: u64,
    first: Option<View>,
    previous: Option<View>,
    next: Option<View>,
    last: Option<View>,
}

impl Pager {
    fn new(view: View, pages: u64) -> Self {
        let page = view.page.clamp(1, pages);
        let (before, behind) = (page > 1, page < pages);
        Self {
            page,
            pages,
            first: before.then(|| view.at(1)),
            previous: before.then(|| view.at(page - 1)),
            next: behind.then(|| view.at(page + 1)),
            last: behind.then(|| view.at(pages)),
        }
    }
}
