//! What a path in a module leads to: a file, a directory, or an explanation.

use std::error::Error;

use hyper::StatusCode;

use super::asked::Asked;
use super::cards::card;
use super::pages::text::encoded;
use super::problem::{ELSEWHERE, NOT_YET, NOWHERE, Trouble};
use super::reply::{Answer, SEQUENCE, SNAPSHOT, elsewhere, set};
use super::resolve::resolve;
use super::serve::{Outcome, Web};
use super::{directory, file};
use crate::mirror::front::View;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::DirId;
use crate::tree::name::TreePath;
use crate::tree::page::PageError;

/// Something of this side went wrong; it is logged, and nobody is told what.
pub type Wrong = Box<dyn Error + Send + Sync>;

/// What `path` leads to in the module called `name`.
///
/// # Errors
/// [`Wrong`].
pub fn look(web: &Web, asked: &Asked, name: &[u8], path: &[Vec<u8>]) -> Result<Outcome, Wrong> {
    let trouble = |trouble: &Trouble<'_>| Ok(trouble.answer(&web.front, asked, None).into());
    let Ok(module) = std::str::from_utf8(name) else { return trouble(&NOWHERE) };
    let Some(view) = web.front.view(module)? else { return trouble(&NOWHERE) };
    let Some(top) = view.top() else {
        return Ok(NOT_YET.answer(&web.front, asked, Some(card(&web.front, &view))).into());
    };
    let found = match resolve(view.pages(), top, path) {
        Ok(Some(found)) => found,
        Ok(None) => return trouble(&NOWHERE),
        Err(PageError::Missing { .. }) if view.is_partial() => return trouble(&ELSEWHERE),
        Err(error) => return Err(error.into()),
    };
    match (&found.entry, asked.target.slash) {
        (Some(entry @ Entry { body: Body::File { .. }, .. }), false) => {
            let name = path.last().map_or(entry.name.as_bytes(), Vec::as_slice);
            file::look(web, asked, view, &found.path, entry, name)
        }
        (Some(Entry { body: Body::File { .. } | Body::Link { .. }, .. }), _) => trouble(&NOWHERE),
        (Some(Entry { body: Body::Directory { id, .. }, .. }), slash) => {
            directory_at(web, asked, view, &found.path, *id, slash && !found.linked)
        }
        (None, slash) => directory_at(web, asked, view, &found.path, top, slash && !found.linked),
    }
}

/// The directory `id` at `path`, if it was asked for at its own place; else the visitor is sent there, so that no link
/// leads into a circle.
fn directory_at(
    web: &Web,
    asked: &Asked,
    view: View,
    path: &TreePath,
    id: DirId,
    there: bool,
) -> Result<Outcome, Wrong> {
    if there {
        return directory::look(web, asked, view, path, id);
    }
    let mut place = format!("/{}/", encoded(view.served().name.as_bytes()));
    for name in path.names() {
        place.push_str(&encoded(name));
        place.push('/');
    }
    // Of the query only what is known goes along.
    let word = ["json", "plain", "tar"].into_iter().find(|word| asked.target.asks(word));
    place.extend(word.into_iter().flat_map(|word| ["?", word]));
    let sent = elsewhere(StatusCode::FOUND, &place);
    Ok(sent.unwrap_or_else(|| NOWHERE.answer(&web.front, asked, None)).into())
}

/// Says of which snapshot an answer is.
pub fn stamp(answer: &mut Answer, view: &View) {
    if let Some(newest) = view.newest() {
        set(answer, SNAPSHOT, &newest.head.snapshot.to_string());
        set(answer, SEQUENCE, &newest.head.sequence.to_string());
    }
}
