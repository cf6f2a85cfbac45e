//! CHANGES: what leads from one tree to another, as the sender writes it and the receiver applies it.
//!
//! A directory whose metadata did not change is not named: the paths below it imply it, and its new id follows from
//! what it holds. The receiver computes every id up to the top and compares with the signed head.

use std::collections::HashSet;

use super::limits::PACKED_TARGET;
use super::message::{Message, WireChange, operation, tag};
use super::packed::{pack, unpack};
use crate::tree::chunker::Class;
use crate::tree::codec::{Malformed, decode, encode};
use crate::tree::count::recount;
use crate::tree::diff::{Change, Changes, changes};
use crate::tree::dir::{Built, Entries};
use crate::tree::edit::{Edit, EditError, Editor, PageStore};
use crate::tree::entry::{Body, Entry, Meta, Mtime};
use crate::tree::hash::{DirId, FileId};
use crate::tree::limits::{ENTRY_MAX, NAME_MAX, PATH_DEPTH_MAX};
use crate::tree::name::TreePath;
use crate::tree::page::{PageError, PageSource};

/// Directories of the base that vanish and may be named by id where they stand now; beyond, they are sent in full.
const MOVED_MAX: usize = 100_000;

/// The sender's side: packs the changes from a base to a snapshot, message by message.
pub struct ChangeWriter<'a> {
    changes: Changes<'a>,
    /// Directories that the base has and the snapshot does not have at that path.
    vanished: HashSet<DirId>,
    done: bool,
}

impl<'a> ChangeWriter<'a> {
    /// Starts at the first path; a `base` of `None` gives all entries.
    ///
    /// # Errors
    /// [`PageError`] when the index fails.
    pub fn new(pages: &'a dyn PageSource, base: Option<DirId>, snapshot: DirId) -> Result<Self, PageError> {
        let vanished = if base.is_some() { vanished(pages, base, snapshot, |_| {})? } else { HashSet::new() };
        Ok(Self::over(pages, base, snapshot, vanished))
    }

    /// As [`new`](Self::new), where it is known which directories have [`vanished`].
    pub(super) fn over(
        pages: &'a dyn PageSource,
        base: Option<DirId>,
        snapshot: DirId,
        vanished: HashSet<DirId>,
    ) -> Self {
        Self { changes: changes(pages, base, Some(snapshot)), vanished, done: false }
    }

    /// The next message, or `None` behind the last.
    ///
    /// # Errors
    /// [`PageError`] when the index fails.
    pub fn next_message(&mut self) -> Result<Option<Message>, PageError> {
        let (mut records, mut size, mut last) = (Vec::new(), 0, Vec::new());
        while size < PACKED_TARGET && !self.done {
            let Some(change) = self.changes.next().transpose()? else {
                self.done = true;
                break;
            };
            let Some((operation, entry)) = self.operation(&change) else { continue };
            if operation == operation::HELD_DIRECTORY {
                self.changes.skip_below();
            }
            let record = wire(&last, change.path.as_bytes(), operation, entry);
            size += record.rest.len() + record.content.len() + 32;
            last = change.path.as_bytes().to_vec();
            records.push(record);
        }
        if records.is_empty() {
            return Ok(None);
        }
        Ok(Some(Message { tag: tag::CHANGES, body: pack(&encode(&records)) }))
    }

    /// What is said of a change; `None` when what follows implies it.
    fn operation<'c>(&self, change: &'c Change) -> Option<(u8, Option<&'c Entry>)> {
        let Some(new) = &change.new else { return Some((operation::REMOVE, None)) };
        let operation = match &new.body {
            Body::File { .. } => operation::FILE,
            Body::Link { .. } => operation::LINK,
            Body::Directory { id, .. } => match &change.old {
                Some(old) if old.is_directory() => {
                    if old.meta == new.meta && old.attributes == new.attributes {
                        return None;
                    }
                    operation::DIRECTORY
                }
                _ if self.vanished.contains(id) => operation::HELD_DIRECTORY,
                _ => operation::DIRECTORY,
            },
        };
        Some((operation, Some(new)))
    }
}

/// Ids of directories that vanish between two trees, with those below them. `file` hears of each file that is removed or
/// changed at its path.
pub(super) fn vanished(
    pages: &dyn PageSource,
    base: Option<DirId>,
    snapshot: DirId,
    mut file: impl FnMut(FileId),
) -> Result<HashSet<DirId>, PageError> {
    let mut found = HashSet::new();
    for change in changes(pages, base, Some(snapshot)) {
        let change = change?;
        let Some(old) = change.old else { continue };
        if let Body::File { id, .. } = old.body {
            file(id);
        }
        let stays = change.new.as_ref().is_some_and(Entry::is_directory);
        let Some(old) = old.directory_id().filter(|_| !stays) else { continue };
        let mut below = vec![old];
        while let Some(id) = below.pop() {
            if found.len() >= MOVED_MAX {
                return Ok(found);
            }
            if found.insert(id) {
                for entry in Entries::new(pages, id) {
                    let entry = entry?;
                    below.extend(entry.directory_id());
                    if let Body::File { id, .. } = entry.body {
                        file(id);
                    }
                }
            }
        }
    }
    Ok(found)
}

fn wire(last: &[u8], path: &[u8], operation: u8, entry: Option<&Entry>) -> WireChange {
    let keep = last.iter().zip(path).take_while(|(a, b)| a == b).count();
    let rest = path.get(keep..).unwrap_or_default().to_vec();
    let keep = u32::try_from(keep).unwrap_or(0);
    let Some(entry) = entry else {
        let content = Vec::new();
        let attributes = Vec::new();
        return WireChange {
            keep,
            rest,
            operation,
            mode: 0,
            seconds: 0,
            nanos: 0,
            size: 0,
            class: 0,
            content,
            attributes,
        };
    };
    let (size, class, content) = match &entry.body {
        Body::File { size, class, id } => (*size, u64::from(class.number()), id.as_bytes().to_vec()),
        Body::Link { target } => (0, 0, target.to_vec()),
        Body::Directory { entries, bytes, id } if operation == operation::HELD_DIRECTORY => {
            (*entries, *bytes, id.as_bytes().to_vec())
        }
        Body::Directory { .. } => (0, 0, Vec::new()),
    };
    let Meta { mode, mtime: Mtime { seconds, nanos } } = entry.meta;
    let attributes = entry.attributes.clone();
    WireChange { keep, rest, operation, mode, seconds, nanos, size, class, content, attributes }
}

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

/// The receiver's side: applies CHANGES to the base it named.
pub struct ChangeReader {
    editor: Editor,
    /// Changes that may still come.
    left: u64,
}

impl ChangeReader {
    /// Starts from the tree of the base, or from nothing. The tree to come has `entries` by its signed head: each change
    /// is of a path of one of the two, so there are no more of them than both have.
    #[must_use]
    pub fn new(base: Option<Built>, entries: u64) -> Self {
        let left = base.map_or(0, |base| base.entries).saturating_add(entries);
        Self { editor: Editor::new(base), left }
    }

    /// Applies one CHANGES body.
    ///
    /// # Errors
    /// [`ChangeError`]; the reader is of no further use then.
    pub fn apply(&mut self, body: &[u8], store: &mut dyn PageStore) -> Result<(), ChangeError> {
        let records: Vec<WireChange> = decode("changes", &unpack(body)?)?; // `[changes.list]`
        if records.is_empty() {
            return Err(Malformed::Rule { what: "changes", rule: "none are in the message" }.into());
        }
        let too_many = || Malformed::Rule { what: "changes", rule: "are more than the two trees have entries" };
        self.left = self.left.checked_sub(records.len() as u64).ok_or_else(too_many)?;
        let mut last = Vec::new();
        for record in records {
            let keep = last
                .get(..record.keep as usize)
                .ok_or(Malformed::Rule { what: "change", rule: "keeps more than there is" })?;
            let bytes = [keep, &record.rest].concat();
            let path = TreePath::new(&bytes).map_err(Malformed::Name)?;
            let held = record.operation == operation::HELD_DIRECTORY;
            let edit = edit(&path, record)?;
            if let Edit::Put(entry) = &edit
                && let Body::Directory { entries, bytes, id } = entry.body
                && held
            {
                self.left = self.left.checked_sub(entries).ok_or_else(too_many)?;
                check_held(&path, Built { id, entries, bytes }, store)?;
            }
            self.editor.apply(&path, edit, store)?;
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

/// A directory that is taken over is one that is held, which means that all below it is, and holds what the change says
/// of it.
fn check_held(path: &TreePath, said: Built, store: &dyn PageStore) -> Result<(), ChangeError> {
    match recount(store, said.id, said.entries) {
        Ok(Some(counted)) if counted == said => Ok(()),
        Ok(_) => Err(Malformed::Rule { what: "change", rule: "says of a held directory what is not so" }.into()),
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
    let rule = |rule| Malformed::Rule { what: "changes", rule };
    let records = unpack(body)?;
    // The head of a MessagePack array: the format's specification, "array format family".
    let count = match *records.as_slice() {
        [head @ 0x90..=0x9f, ..] => u64::from(head & 0x0f),
        [0xdc, a, b, ..] => u64::from(u16::from_be_bytes([a, b])),
        [0xdd, a, b, c, d, ..] => u64::from(u32::from_be_bytes([a, b, c, d])),
        _ => return Err(rule("are no array")),
    };
    if count == 0 {
        return Err(rule("none are in the message"));
    }
    if records.len() as u64 > count.saturating_mul(RECORD_BYTES_MAX) {
        return Err(rule("are larger than so many can be"));
    }
    Ok(count)
}

/// Bytes of one record: an entry, the path that leads to it, and what is around them.
const RECORD_BYTES_MAX: u64 = (ENTRY_MAX + PATH_DEPTH_MAX * (NAME_MAX + 1) + 256) as u64;

fn edit(path: &TreePath, record: WireChange) -> Result<Edit, Malformed> {
    let rule = |rule| Malformed::Rule { what: "change", rule };
    let (_, name) = path.split_last().ok_or_else(|| rule("names the top"))?;
    let WireChange { operation, mode, seconds, nanos, size, class, content, attributes, .. } = record;
    let meta = Meta { mode, mtime: Mtime { seconds, nanos } };
    let sized = matches!(operation, operation::FILE | operation::HELD_DIRECTORY);
    let named = sized || operation == operation::LINK;
    if !sized && (size, class) != (0, 0) || !named && !content.is_empty() {
        return Err(rule("has a size or content that it may not have"));
    }
    let body = match operation {
        operation::REMOVE if meta == Meta::default() && attributes.is_empty() => return Ok(Edit::Remove),
        operation::REMOVE => return Err(rule("removes and says more")),
        operation::FILE => Body::File {
            size,
            class: Class::from_number(class).ok_or_else(|| rule("has an unknown class"))?,
            id: FileId::try_from(content.as_slice()).map_err(|_| rule("has a file id that is not 32 bytes"))?,
        },
        operation::LINK => Body::Link { target: content.into() },
        operation::DIRECTORY | operation::HELD_DIRECTORY => {
            let id = DirId::try_from(content.as_slice());
            let id = match operation {
                operation::HELD_DIRECTORY => id.map_err(|_| rule("has a directory id that is not 32 bytes"))?,
                _ => crate::tree::dir::empty(),
            };
            Body::Directory { entries: size, bytes: class, id }
        }
        _ => return Err(rule("has an unknown operation")),
    };
    let entry = Entry { name, meta, body, attributes };
    entry.check()?;
    Ok(match operation {
        operation::DIRECTORY => Edit::Directory(entry.meta, entry.attributes),
        _ => Edit::Put(entry),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_by_what_their_array_says() {
        let record = wire(b"", b"name", operation::REMOVE, None);
        for count in [1usize, 15, 16, 70_000] {
            let body = pack(&encode(&vec![record.clone(); count]));
            assert_eq!(records_in(&body).unwrap(), count as u64);
        }
        // None, no array, an array whose head is cut, and one record that is larger than any can be.
        let large = [vec![0x91], vec![0; 1 << 20]].concat();
        for wrong in [encode(&Vec::<WireChange>::new()), vec![0xc0], vec![0xdc, 1], Vec::new(), large] {
            assert!(records_in(&pack(&wrong)).is_err());
        }
        assert!(records_in(b"none of ours").is_err());
    }
}
