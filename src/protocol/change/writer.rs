//! The sender's side of CHANGES.

use std::sync::Arc;

use super::columns::write;
use super::{Held, held, usual};
use crate::protocol::limits::{CHANGES_PATHS_MAX, PACKED_TARGET};
use crate::protocol::message::{Message, WireChange, WireContent, operation, tag};
use crate::protocol::packed::pack_thoroughly;
use crate::tree::diff::{Change, Changes, changes};
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::DirId;
use crate::tree::page::{PageError, PageSource};

/// Packs the changes from a base to a snapshot, message by message.
pub struct ChangeWriter<'a> {
    changes: Changes<'a>,
    /// Directories that the base has elsewhere.
    held: Arc<Held>,
    done: bool,
}

impl<'a> ChangeWriter<'a> {
    /// Starts at the first path; a `base` of `None` gives all entries. Copies of directories are not looked for.
    ///
    /// # Errors
    /// [`PageError`] when the index fails.
    pub fn new(pages: &'a dyn PageSource, base: Option<DirId>, snapshot: DirId) -> Result<Self, PageError> {
        let held = held(pages, base, snapshot, |_| Vec::new(), |_| {})?;
        Ok(Self::over(pages, base, snapshot, Arc::new(held)))
    }

    /// As [`new`](Self::new), where it is known which directories are [`held`].
    pub(in crate::protocol) fn over(
        pages: &'a dyn PageSource,
        base: Option<DirId>,
        snapshot: DirId,
        held: Arc<Held>,
    ) -> Self {
        Self { changes: changes(pages, base, Some(snapshot)), held, done: false }
    }

    /// The next message, or `None` behind the last.
    ///
    /// # Errors
    /// [`PageError`] when the index fails.
    pub fn next_message(&mut self) -> Result<Option<Message>, PageError> {
        let (mut records, mut size, mut paths, mut last) = (Vec::new(), 0, 0, Vec::new());
        while size < PACKED_TARGET && paths < CHANGES_PATHS_MAX / 2 && !self.done {
            let Some(change) = self.changes.next().transpose()? else {
                self.done = true;
                break;
            };
            let Some((operation, origin)) = self.operation(&change) else { continue };
            if let Some(origin) = origin {
                self.changes.compare_below(origin);
            }
            let record = record(&last, &change, operation, origin);
            size += weight(&record);
            last = change.path.as_bytes().to_vec();
            paths += last.len();
            records.push(record);
        }
        if records.is_empty() {
            return Ok(None);
        }
        Ok(Some(Message { tag: tag::CHANGES, body: pack_thoroughly(&write(&records)) }))
    }

    /// What is said of a change, and which directory of the base it begins from; `None` when what follows implies it.
    fn operation(&self, change: &Change) -> Option<(u8, Option<DirId>)> {
        let Some(new) = &change.new else { return Some((operation::REMOVE, None)) };
        Some(match &new.body {
            Body::File { .. } => (operation::FILE, None),
            Body::Link { .. } => (operation::LINK, None),
            Body::Directory { id, .. } => match change.old.as_ref().filter(|old| old.is_directory()) {
                Some(old) if old.meta == new.meta && old.attributes == new.attributes => return None,
                Some(_) => (operation::DIRECTORY, None),
                None => match self.held.origin(id) {
                    Some(origin) => (operation::HELD_DIRECTORY, Some(origin)),
                    None => (operation::DIRECTORY, None),
                },
            },
        })
    }
}

/// Bytes of a record, about.
fn weight(record: &WireChange) -> usize {
    let content = match &record.content {
        Some(WireContent::Link(target)) => target.len(),
        Some(_) => 40,
        None => 0,
    };
    let attributes: usize = record.attributes.iter().flatten().map(|attribute| attribute.value.len() + 8).sum();
    record.rest.len() + content + attributes + 16
}

/// What the new entry has that does not follow from the old one.
fn record(last: &[u8], change: &Change, operation: u8, origin: Option<DirId>) -> WireChange {
    let path = change.path.as_bytes();
    let keep = last.iter().zip(path).take_while(|(a, b)| a == b).count();
    let rest = path.get(keep..).unwrap_or_default().to_vec();
    let keep = u32::try_from(keep).unwrap_or(0);
    let nothing = WireChange { keep, rest, operation, mode: None, mtime: None, content: None, attributes: None };
    let Some(new) = &change.new else { return nothing };
    let old = change.old.as_ref().filter(|old| is_alike(&old.body, &new.body));
    let meta = old.map_or_else(|| usual(operation), |old| old.meta);
    WireChange {
        mode: Some(new.meta.mode).filter(|mode| *mode != meta.mode),
        mtime: Some(new.meta.mtime).filter(|mtime| *mtime != meta.mtime),
        content: content(old, new, origin),
        attributes: (old.map_or(&[][..], |old| &old.attributes) != new.attributes).then(|| new.attributes.clone()),
        ..nothing
    }
}

/// Whether both are files, or links, or directories.
pub(super) fn is_alike(a: &Body, b: &Body) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn content(old: Option<&Entry>, new: &Entry, origin: Option<DirId>) -> Option<WireContent> {
    match &new.body {
        Body::Directory { .. } => origin.map(WireContent::Directory),
        body if old.is_some_and(|old| old.body == *body) => None,
        Body::File { size, class, id } => {
            let before = match old.map(|old| &old.body) {
                Some(Body::File { size, .. }) => *size,
                _ => 0,
            };
            let growth = size.wrapping_sub(before).cast_signed();
            Some(WireContent::File { growth, class: u64::from(class.number()), id: *id })
        }
        Body::Link { target } => Some(WireContent::Link(target.to_vec())),
    }
}
