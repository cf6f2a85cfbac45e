//! A directory: as a page, as JSON, as a plain list, or all of it as an archive.

use std::io;

use hyper::StatusCode;
use hyper::header;
use serde::Serialize;

use super::asked::Asked;
use super::cards::{card, site};
use super::file::extended;
use super::limits::{LINKS_MAX, README_MAX, ROWS, SORTED_MAX};
use super::module::{Wrong, stamp};
use super::pages::model::{Kind, Listing, Readme, Row, Totals};
use super::pages::order::{Facts, Sort, View as Order, page_of, rows_per_page};
use super::pages::text::encoded;
use super::pages::{POLICY, listing};
use super::plain::Plain;
use super::problem::{CHANGING, ELSEWHERE};
use super::reply::{Answer, HTML, JSON, full, set};
use super::resolve::follow;
use super::rows::Rows;
use super::serve::{Outcome, Web, busy};
use super::tar::Tar;
use crate::mirror::clock::now_ms;
use crate::mirror::front::View;
use crate::mirror::words::{escaped, iso};
use crate::tree::dir::{find, look_up};
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::DirId;
use crate::tree::name::TreePath;
use crate::tree::page::PageError;

/// Raised when the meaning of a field changes.
const SCHEMA: &str = "mirra.directory/1";
/// Files that say what a directory holds, the best first.
const README_NAMES: &[&str] =
    &["README", "README.txt", "README.md", "README.rst", "HEADER.txt", "00README", "readme.txt"];

/// A page of a directory.
struct Page {
    entries: Vec<Entry>,
    count: u64,
    totals: Totals,
    order: Order,
    pages: u64,
    sortable: bool,
}

/// The directory `id` at `path`, as the visitor wants it.
///
/// # Errors
/// [`Wrong`].
pub fn look(web: &Web, asked: &Asked, view: View, path: &TreePath, id: DirId) -> Result<Outcome, Wrong> {
    let is_tar = asked.target.asks("tar");
    let rows = match Rows::of(view.pages(), id, view.shows_hidden() || is_tar) {
        Err(PageError::Missing { .. }) if view.is_partial() => {
            return Ok(ELSEWHERE.answer(&web.front, asked, None).into());
        }
        rows => rows?,
    };
    if is_tar && !view.holds_all(path, id)? {
        return Ok(ELSEWHERE.answer(&web.front, asked, None).into());
    }
    if is_tar {
        return Ok(tar(web, asked, view, path, rows)?.into());
    }
    if asked.target.asks("plain") {
        return Ok(plain(web, asked, view, path, rows).into());
    }
    let page = page(&view, rows, Order::parse(&asked.target.query), bytes_of(&view, path)?)?;
    let mut answer = if asked.wants_json() {
        full(StatusCode::OK, JSON, serde_json::to_vec(&json(&view, path, &page))?)
    } else {
        let mut answer = full(StatusCode::OK, HTML, html(web, asked, &view, path, id, page)?);
        set(&mut answer, header::CONTENT_SECURITY_POLICY, POLICY);
        answer
    };
    set(&mut answer, header::VARY, "Accept");
    describe(&mut answer, &view);
    Ok(answer.into())
}

fn describe(answer: &mut Answer, view: &View) {
    set(answer, header::CACHE_CONTROL, "no-cache");
    stamp(answer, view);
}

/// Bytes of all files in and below `path`.
fn bytes_of(view: &View, path: &TreePath) -> Result<u64, PageError> {
    let (Some(newest), Some(top)) = (view.newest(), view.top()) else { return Ok(0) };
    if path.is_top() {
        return Ok(newest.head.bytes);
    }
    Ok(look_up(view.pages(), top, path)?.map_or(0, |entry| entry.totals().1))
}

/// The entries of the page that `order` asks for. A directory that is too large to be sorted is shown in the order of the
/// tree, of which only the pages that are needed are read.
fn page(view: &View, rows: Rows, order: Order, bytes: u64) -> Result<Page, PageError> {
    let (pages, count) = (view.pages(), rows.count);
    if count > SORTED_MAX {
        let order = Order { sort: Sort::Name, descending: false, ..order };
        let last = count.div_ceil(ROWS);
        let order = order.at(order.page.min(last));
        let entries = rows.read(pages, (order.page - 1).saturating_mul(ROWS), usize::try_from(ROWS).unwrap_or(0))?;
        let totals = Totals { files: count, bytes, ..Totals::default() };
        return Ok(Page { entries, count, totals, order, pages: last, sortable: false });
    }
    let mut entries = rows.read(pages, 0, usize::try_from(count).unwrap_or(0))?;
    let mut totals = Totals { bytes, ..Totals::default() };
    for entry in &entries {
        match entry.body {
            Body::Directory { .. } => totals.directories += 1,
            Body::File { .. } => totals.files += 1,
            Body::Link { .. } => totals.links += 1,
        }
    }
    let each = rows_per_page(entries.iter().map(|entry| match &entry.body {
        Body::Link { target } => (entry.name.as_bytes(), &**target),
        Body::File { .. } | Body::Directory { .. } => (entry.name.as_bytes(), &[][..]),
    }));
    let last = entries.len().div_ceil(each).max(1) as u64;
    let order = order.at(order.page.min(last));
    let shown = page_of(&mut entries, order, each, facts).to_vec();
    Ok(Page { entries: shown, count, totals, order, pages: last, sortable: true })
}

fn facts(entry: &Entry) -> Facts<'_> {
    let (name, mtime) = (entry.name.as_bytes(), entry.meta.mtime.seconds);
    Facts { name, directory: entry.is_directory(), bytes: entry.totals().1, mtime }
}

fn html(web: &Web, asked: &Asked, view: &View, path: &TreePath, id: DirId, page: Page) -> Result<String, Wrong> {
    let readme = if page.order.page == 1 { readme(view, path, id)? } else { None };
    let mut links = 0;
    let row = |entry: Entry| -> Result<Row, PageError> {
        let kind = match &entry.body {
            Body::Directory { entries, bytes, .. } => Kind::Directory { entries: *entries, bytes: *bytes },
            Body::File { size, .. } => Kind::File { size: *size },
            Body::Link { target } => {
                links += 1;
                // Of very many, the rest is shown as if it led somewhere: whoever goes there sees.
                let inside = links > LINKS_MAX || leads(view, path, target)?;
                Kind::Link { target: target.to_vec(), inside }
            }
        };
        Ok(Row { name: entry.name.as_bytes().to_vec(), kind, mtime: entry.meta.mtime.seconds })
    };
    let page = Listing {
        site: site(&web.front, asked.host()),
        module: card(&web.front, view),
        path: path.names().map(<[u8]>::to_vec).collect(),
        rows: page.entries.into_iter().map(row).collect::<Result<_, _>>()?,
        totals: page.totals,
        view: page.order,
        pages: page.pages,
        sortable: page.sortable,
        readme,
    };
    Ok(listing(&page, now_ms()))
}

/// Whether a link in `path` leads to something of the module.
fn leads(view: &View, path: &TreePath, target: &[u8]) -> Result<bool, PageError> {
    let Some(top) = view.top() else { return Ok(false) };
    match follow(view.pages(), top, path, target) {
        Err(PageError::Missing { .. }) => Ok(false),
        found => Ok(found?.is_some()),
    }
}

/// What a file beside the rows says about them.
fn readme(view: &View, path: &TreePath, id: DirId) -> Result<Option<Readme>, Wrong> {
    for name in README_NAMES {
        let Some(entry) = find(view.pages(), id, name.as_bytes())? else { continue };
        let Body::File { size, .. } = entry.body else { continue };
        let Ok(file) = view.open(&path.join(&entry.name), &entry)? else { continue };
        let len = usize::try_from(size).unwrap_or(README_MAX).min(README_MAX);
        let Ok(bytes) = file.read(0, len) else { continue };
        return Ok(Some(Readme { name: name.as_bytes().to_vec(), bytes }));
    }
    Ok(None)
}

fn plain(web: &Web, asked: &Asked, view: View, path: &TreePath, rows: Rows) -> Answer {
    let mut answer = full(StatusCode::OK, HTML, "");
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    set(&mut answer, header::CONTENT_SECURITY_POLICY, "default-src 'none'");
    describe(&mut answer, &view);
    let module = view.served().name.clone();
    match web.long_stream(&module, Plain::new(view, path.clone(), rows)) {
        Some(body) => *answer.body_mut() = body,
        None => return busy(web, asked),
    }
    answer
}

fn tar(web: &Web, asked: &Asked, view: View, path: &TreePath, rows: Rows) -> io::Result<Answer> {
    let name = path.split_last().map_or(view.served().name.as_bytes().to_vec(), |(_, name)| name.as_bytes().to_vec());
    let mut answer = full(StatusCode::OK, "application/x-tar", "");
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    let attachment =
        format!("attachment; filename*=UTF-8''{}.tar", extended(String::from_utf8_lossy(&name).as_bytes()));
    set(&mut answer, header::CONTENT_DISPOSITION, &attachment);
    describe(&mut answer, &view);
    let module = view.served().name.clone();
    let mut archive = Tar::new(view, path.clone(), rows, name);
    match archive.begin() {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(CHANGING.answer(&web.front, asked, None)),
        begun => begun?,
    }
    match web.long_stream(&module, archive) {
        Some(body) => *answer.body_mut() = body,
        None => return Ok(busy(web, asked)),
    }
    Ok(answer)
}

#[derive(Serialize)]
struct Json<'a> {
    schema: &'static str,
    module: &'a str,
    path: String,
    snapshot: String,
    sequence: u64,
    created_ms: u64,
    /// Of this directory, on all pages.
    entries: u64,
    /// Of all files in and below it.
    bytes: u64,
    sort: &'static str,
    order: &'static str,
    page: u64,
    pages: u64,
    rows: Vec<JsonRow>,
}

#[derive(Serialize)]
struct JsonRow {
    name: String,
    href: String,
    kind: &'static str,
    size: Option<u64>,
    entries: Option<u64>,
    mode: String,
    mtime: String,
    target: Option<String>,
    id: Option<String>,
}

fn json<'a>(view: &'a View, path: &TreePath, page: &Page) -> Json<'a> {
    let head = view.newest().map(|newest| &newest.head);
    Json {
        schema: SCHEMA,
        module: &view.served().name,
        path: escaped(path.as_bytes()),
        snapshot: head.map(|head| head.snapshot.to_string()).unwrap_or_default(),
        sequence: head.map_or(0, |head| head.sequence),
        created_ms: head.map_or(0, |head| head.created),
        entries: page.count,
        bytes: page.totals.bytes,
        sort: match page.order.sort {
            Sort::Name => "name",
            Sort::Size => "size",
            Sort::Date => "date",
        },
        order: if page.order.descending { "desc" } else { "asc" },
        page: page.order.page,
        pages: page.pages,
        rows: page.entries.iter().map(json_row).collect(),
    }
}

fn json_row(entry: &Entry) -> JsonRow {
    let href = format!("./{}", encoded(entry.name.as_bytes()));
    let (kind, size, entries, target, id) = match &entry.body {
        Body::File { size, id, .. } => ("file", Some(*size), None, None, Some(id.to_string())),
        Body::Directory { entries, bytes, .. } => ("directory", Some(*bytes), Some(*entries), None, None),
        Body::Link { target } => ("link", None, None, Some(escaped(target)), None),
    };
    JsonRow {
        name: escaped(entry.name.as_bytes()),
        href: if entry.is_directory() { href + "/" } else { href },
        kind,
        size,
        entries,
        mode: format!("{:04o}", entry.meta.mode),
        mtime: iso(entry.meta.mtime.seconds, Some(entry.meta.mtime.nanos)),
        target,
        id,
    }
}
