//! The sender's side of CHANGES.

use std::collections::HashSet;

use super::columns::write;
use super::{held, usual};
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
    held: HashSet<DirId>,
    done: bool,
}

impl<'a> ChangeWriter<'a> {
    /// Starts at the first path; a `base` of `None` gives all entries. Copies of directories are not looked for.
    ///
    /// # Errors
    /// [`PageError`] when the index fails.
    pub fn new(pages: &'a dyn PageSource, base: Option<DirId>, snapshot: DirId) -> Result<Self, PageError> {
        Ok(Self::over(pages, base, snapshot, held(pages, base, snapshot, |_| Vec::new(), |_| {})?))
    }

    /// As [`new`](Self::new), where it is known which directories are [`held`].
    pub(in crate::protocol) fn over(
        pages: &'a dyn PageSource,
        base: Option<DirId>,
        snapshot: DirId,
        held: HashSet<DirId>,
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
            let Some(operation) = self.operation(&change) else { continue };
            if operation == operation::HELD_DIRECTORY {
                self.changes.skip_below();
            }
            let record = record(&last, &change, operation);
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

    /// What is said of a change; `None` when what follows implies it.
    fn operation(&self, change: &Change) -> Option<u8> {
        let Some(new) = &change.new else { return Some(operation::REMOVE) };
        Some(match &new.body {
            Body::File { .. } => operation::FILE,
            Body::Link { .. } => operation::LINK,
            Body::Directory { id, .. } => match change.old.as_ref().filter(|old| old.is_directory()) {
                Some(old) if old.meta == new.meta && old.attributes == new.attributes => return None,
                None if self.held.contains(id) => operation::HELD_DIRECTORY,
                _ => operation::DIRECTORY,
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
fn record(last: &[u8], change: &Change, operation: u8) -> WireChange {
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
        content: content(old, new, operation),
        attributes: (old.map_or(&[][..], |old| &old.attributes) != new.attributes).then(|| new.attributes.clone()),
        ..nothing
    }
}

/// Whether both are files, or links, or directories.
pub(super) fn is_alike(a: &Body, b: &Body) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn content(old: Option<&Entry>, new: &Entry, operation: u8) -> Option<WireContent> {
    match &new.body {
        Body::Directory { id, .. } => (operation == operation::HELD_DIRECTORY).then_some(WireContent::Directory(*id)),
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
