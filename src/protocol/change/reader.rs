//! The receiver's side of CHANGES.

use std::collections::HashMap;

use super::columns::Columns;
use super::usual;
use crate::protocol::limits::CHANGES_PATHS_MAX;
use crate::protocol::message::{WireChange, WireContent, operation};
use crate::protocol::packed::unpack;
use crate::tree::chunker::Class;
use crate::tree::codec::{Malformed, bounded};
use crate::tree::count::recount;
use crate::tree::dir::Built;
use crate::tree::edit::{Edit, EditError, Editor, PageStore};
use crate::tree::entry::{Body, Entry, Meta};
use crate::tree::hash::DirId;
use crate::tree::limits::{ENTRIES_MAX, ENTRY_MAX, NAME_MAX, PATH_DEPTH_MAX};
use crate::tree::name::{Name, TreePath};
use crate::tree::page::PageError;

/// Why received changes could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// They break the format.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// They do not fit the base.
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// Applies CHANGES to the base it named.
pub struct ChangeReader {
    editor: Editor,
    /// Changes that may still come.
    left: u64,
    /// Directories that were taken over: each is counted once, however often it is named.
    counted: HashMap<DirId, Built>,
}

impl ChangeReader {
    /// Starts from the tree of the base, or from nothing. The tree to come has `entries` by its signed head: each change
    /// is of a path of one of the two, so there are no more of them than both have.
    #[must_use]
    pub fn new(base: Option<Built>, entries: u64) -> Self {
        let left = base.map_or(0, |base| base.entries).saturating_add(entries);
        Self { editor: Editor::new(base), left, counted: HashMap::new() }
    }

    /// Applies one CHANGES body.
    ///
    /// # Errors
    /// [`ChangeError`]; the reader is of no further use then.
    pub fn apply(&mut self, body: &[u8], store: &mut dyn PageStore) -> Result<(), ChangeError> {
        let mut records = Columns::new(&unpack(body)?)?;
        if records.count() == 0 {
            return Err(changes_rule("none are in the message").into());
        }
        self.left = self.left.checked_sub(records.count()).ok_or_else(too_many)?;
        let (mut last, mut paths) = (Vec::new(), 0u64);
        while let Some(record) = records.next_record()? {
            let keep = last.get(..record.keep as usize).ok_or_else(|| rule("keeps more than there is"))?;
            let bytes = [keep, &record.rest].concat();
            paths = paths.saturating_add(bytes.len() as u64);
            bounded("paths of changes", paths, CHANGES_PATHS_MAX as u64)?;
            let path = TreePath::new(&bytes).map_err(Malformed::Name)?;
            let (_, name) = path.split_last().ok_or_else(|| rule("names the top"))?;
            let counted = &mut self.counted;
            self.editor.apply_over(&path, store, |old, store| edit(&path, name, record, old, counted, store))?;
            last = bytes;
        }
        Ok(())
    }

    /// The tree that the changes lead to. The caller compares it with the signed head.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn finish(self, store: &mut dyn PageStore) -> Result<Built, ChangeError> {
        Ok(self.editor.finish(store)?)
    }
}

/// What a record does at `path`, which ends in `name`, where the base has `old`.
fn edit(
    path: &TreePath,
    name: Name,
    record: WireChange,
    old: Option<&Entry>,
    counted: &mut HashMap<DirId, Built>,
    store: &dyn PageStore,
) -> Result<Edit, ChangeError> {
    let WireChange { operation, mode, mtime, content, attributes, .. } = record;
    if operation == operation::REMOVE {
        let says_more = mode.is_some() || mtime.is_some() || content.is_some() || attributes.is_some();
        return if says_more { Err(rule("removes and says more").into()) } else { Ok(Edit::Remove) };
    }
    let old = old.filter(|old| is_of(operation, &old.body));
    let before = old.map_or_else(|| usual(operation), |old| old.meta);
    let meta = Meta { mode: mode.unwrap_or(before.mode), mtime: mtime.unwrap_or(before.mtime) };
    let attributes = attributes.unwrap_or_else(|| old.map_or_else(Vec::new, |old| old.attributes.clone()));
    let body = match (operation, content) {
        (operation::DIRECTORY, None) => Built { id: crate::tree::dir::empty(), entries: 0, bytes: 0 }.body(),
        (operation::HELD_DIRECTORY, Some(WireContent::Directory(id))) => take_held(path, id, counted, store)?.body(),
        (operation::FILE | operation::LINK, content) => leaf(old.map(|old| &old.body), content)?,
        _ => return Err(rule("has an unknown operation, or content that it may not have").into()),
    };
    let entry = Entry { name, meta, body, attributes };
    entry.check()?;
    Ok(match (operation, entry.body) {
        (operation::DIRECTORY, _) => Edit::Directory(entry.meta, entry.attributes),
        (_, Body::Directory { entries, bytes, id }) => {
            Edit::Over(entry.meta, entry.attributes, Built { id, entries, bytes })
        }
        (_, body) => Edit::Put(Entry { body, ..entry }),
    })
}

/// Whether an operation puts what `body` is.
fn is_of(operation: u8, body: &Body) -> bool {
    match body {
        Body::File { .. } => operation == operation::FILE,
        Body::Link { .. } => operation == operation::LINK,
        Body::Directory { .. } => matches!(operation, operation::DIRECTORY | operation::HELD_DIRECTORY),
    }
}

/// The body of a file or link; `old` is of the same kind.
fn leaf(old: Option<&Body>, content: Option<WireContent>) -> Result<Body, Malformed> {
    match content {
        None => old.cloned().ok_or_else(|| rule("says nothing of its content")),
        Some(WireContent::Link(target)) => Ok(Body::Link { target: target.into() }),
        Some(WireContent::File { growth, class, id }) => {
            let before = match old {
                Some(Body::File { size, .. }) => *size,
                _ => 0,
            };
            let class = Class::from_number(class).ok_or_else(|| rule("has an unknown class"))?;
            Ok(Body::File { size: before.wrapping_add(growth.cast_unsigned()), class, id })
        }
        Some(WireContent::Directory(_)) => Err(rule("has content that it may not have")),
    }
}

/// A directory that is taken over is one that is held, which means that all below it is.
fn take_held(
    path: &TreePath,
    id: DirId,
    counted: &mut HashMap<DirId, Built>,
    store: &dyn PageStore,
) -> Result<Built, ChangeError> {
    if let Some(built) = counted.get(&id) {
        return Ok(*built);
    }
    match recount(store, id, ENTRIES_MAX) {
        Ok(Some(built)) if built.id == id => {
            counted.insert(id, built);
            Ok(built)
        }
        Ok(_) => Err(rule("names a directory that is none").into()),
        Err(PageError::Missing(_)) => Err(EditError::NoDirectory(path.clone()).into()),
        Err(error) => Err(EditError::Page(error).into()),
    }
}

/// How many records a CHANGES body says that it has, without a look at them: for who keeps bodies before they are applied.
/// So many records can be no larger than the body is.
///
/// # Errors
/// [`Malformed`] when the body cannot hold what it says, or says that it holds nothing.
pub fn records_in(body: &[u8]) -> Result<u64, Malformed> {
    let unpacked = unpack(body)?;
    // An array of less than 16, then a binary string, by the MessagePack specification: the operations, a byte each.
    let count = match *unpacked.as_slice() {
        [0x90..=0x9f, 0xc4, a, ..] => u64::from(a),
        [0x90..=0x9f, 0xc5, a, b, ..] => u64::from(u16::from_be_bytes([a, b])),
        [0x90..=0x9f, 0xc6, a, b, c, d, ..] => u64::from(u32::from_be_bytes([a, b, c, d])),
        _ => return Err(changes_rule("are no array of columns")),
    };
    if count == 0 {
        return Err(changes_rule("none are in the message"));
    }
    if unpacked.len() as u64 > count.saturating_mul(RECORD_BYTES_MAX) {
        return Err(changes_rule("are larger than so many can be"));
    }
    Ok(count)
}

/// Bytes of one record: an entry, the path that leads to it, and what is around them.
const RECORD_BYTES_MAX: u64 = (ENTRY_MAX + PATH_DEPTH_MAX * (NAME_MAX + 1) + 256) as u64;

fn rule(rule: &'static str) -> Malformed {
    Malformed::Rule { what: "change", rule }
}

fn changes_rule(rule: &'static str) -> Malformed {
    Malformed::Rule { what: "changes", rule }
}

fn too_many() -> Malformed {
    changes_rule("are more than the two trees have entries")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::change::columns::write;
    use crate::protocol::packed::pack;
    use crate::tree::codec::encode;

    #[test]
    fn records_are_counted_by_what_their_columns_say() {
        let rest = b"name".to_vec();
        let (mode, mtime, content, attributes) = (None, None, None, None);
        let record = WireChange { keep: 0, rest, operation: operation::REMOVE, mode, mtime, content, attributes };
        for count in [1usize, 255, 256, 70_000] {
            let body = pack(&write(&vec![record.clone(); count]));
            assert_eq!(records_in(&body).unwrap(), count as u64);
        }
        // None, no array, columns whose head is cut, and one record that is larger than any can be.
        let large = [vec![0x9b, 0xc4, 1], vec![0; 1 << 20]].concat();
        for wrong in [write(&[]), encode(&Vec::<u8>::new()), vec![0xc0], vec![0x9b, 0xc5, 1], Vec::new(), large] {
            assert!(records_in(&pack(&wrong)).is_err());
        }
        assert!(records_in(b"none of ours").is_err());
    }
}
