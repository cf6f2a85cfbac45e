//! The sender's side: gathers what differs, and the content of files that a receiver with the base cannot have.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::{Pack, ends, files_message};
use crate::protocol::change::{ChangeWriter, Held, held as held_directories};
use crate::protocol::limits::{PACK_BYTES_MAX, PACK_CONTENT_MAX, PATHS_BYTES_MAX, PATHS_MAX, PUSH_CHANGES_MAX};
use crate::protocol::message::{FileItem, Message, way};
use crate::protocol::sender::{Source, file_at, internal};
use crate::protocol::sender_content::{ContentAnswer, Next};
use crate::tree::diff::changes;
use crate::tree::dir::{Built, PathFinder};
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::{DirId, FileId, HeadId};
use crate::tree::list::chunks;
use crate::tree::page::{PageError, PageSource};

/// Ids of removed and replaced files that are remembered; content beyond may be sent although the receiver has it.
const HELD_MAX: usize = 200_000;
/// Chunks of an old version that are looked at to tell what of a file is new.
const OLD_CHUNKS_MAX: usize = 1_000_000;
/// Bytes that a file takes in FILES beside its path, at most.
const ITEM_BYTES: usize = 16;
/// How often content is gathered anew because a file is changing just now.
const TRIES: usize = 3;

impl Pack {
    /// Gathers what leads from `base` to `head`, both of them heads of `module` and their trees. `None` when the entries
    /// alone exceed [`PUSH_CHANGES_MAX`].
    ///
    /// # Errors
    /// A code of [`refusal`](crate::protocol::message::refusal), when the source fails.
    pub fn build(
        source: &dyn Source,
        module: &str,
        base: (HeadId, Built),
        head: (HeadId, Built),
    ) -> Result<Option<Self>, u16> {
        let (pages, from, to) = (source.pages(), base.1.id, head.1.id);
        let mut held = HashSet::new();
        let note = |id| {
            if held.len() < HELD_MAX {
                held.insert(id);
            }
        };
        let paths_of = |id: &FileId| source.paths_of(module, id);
        let moved = held_directories(pages, Some(from), to, paths_of, note).map_err(|e| internal(&e))?;
        let moved = Arc::new(moved);
        let mut writer = ChangeWriter::over(pages, Some(from), to, moved.clone());
        let (mut bodies, mut size) = (Vec::new(), 0);
        while let Some(message) = writer.next_message().map_err(|e| internal(&e))? {
            size += message.wire_len();
            if size > PUSH_CHANGES_MAX {
                return Ok(None);
            }
            bodies.push(message.body);
        }
        let files = select(source, module, (from, to), &moved, held)?;
        let (content, contexts) = (Vec::new(), BTreeMap::new());
        let mut pack = Self { base: base.0, head: head.0, changes: bodies, files, content, contexts };
        pack.gather(source, module, (from, to))?;
        Ok(Some(pack))
    }

    /// Fills in the content of the files; those that are gone are left out.
    fn gather(&mut self, source: &dyn Source, module: &str, trees: (DirId, DirId)) -> Result<(), u16> {
        for _ in 0..TRIES {
            (self.content, self.contexts) = content(source, module, trees, &self.files)?;
            // Nothing but too many steps is wrong with content of our own.
            let Ok(gone) = ends(&self.content) else { break };
            let mut gone = gone.into_iter();
            let before = self.files.len();
            self.files.retain(|_| gone.next() == Some(false));
            let content_bytes = self.content_bytes();
            if self.files.len() == before && content_bytes <= PACK_BYTES_MAX / 2 {
                // Without contexts some literals cannot be read again; all of the pack can be sent.
                if self.contexts.values().map(Vec::len).sum::<usize>() > PACK_BYTES_MAX / 2 - PUSH_CHANGES_MAX {
                    self.contexts.clear();
                }
                return Ok(());
            }
        }
        self.files.clear();
        self.content.clear();
        self.contexts.clear();
        Ok(())
    }
}

/// The files whose content the pack carries: those that a receiver with the base has nowhere, as far as they fit.
fn select(
    source: &dyn Source,
    module: &str,
    (base, head): (DirId, DirId),
    moved: &Held,
    mut held: HashSet<FileId>,
) -> Result<Vec<FileItem>, u16> {
    let pages = source.pages();
    let mut all = changes(pages, Some(base), Some(head));
    let (mut files, mut literal_bytes, mut item_bytes) = (Vec::new(), 0, 0);
    while let Some(change) = all.next().transpose().map_err(|e| internal(&e))? {
        let Some(new) = change.new else { continue };
        let stays = change.old.as_ref().is_some_and(Entry::is_directory);
        if let Some(origin) = new.directory_id().filter(|_| !stays).and_then(|id| moved.origin(&id)) {
            all.compare_below(origin);
        }
        let Body::File { id, size, .. } = new.body else { continue };
        let item = change.path.as_bytes().len() + ITEM_BYTES;
        if held.contains(&id) || files.len() >= PATHS_MAX || item_bytes + item > PATHS_BYTES_MAX as usize {
            continue;
        }
        let old = change.old.as_ref().and_then(|old| match old.body {
            Body::File { id, .. } => Some(id),
            _ => None,
        });
        let literal = new_bytes(pages, old, id, size).map_err(|e| internal(&e))?;
        if literal_bytes + literal <= PACK_CONTENT_MAX as u64 && !is_elsewhere(source, module, base, &id)? {
            literal_bytes += literal;
            item_bytes += item;
            held.insert(id);
            let way = if old.is_some() { way::BASE } else { way::ALL };
            files.push(FileItem::plain(change.path, way));
        }
    }
    Ok(files)
}

/// Whether the base has a file of this id at a path that the source knows.
fn is_elsewhere(source: &dyn Source, module: &str, base: DirId, id: &FileId) -> Result<bool, u16> {
    for path in source.paths_of(module, id) {
        if let Some(Entry { body: Body::File { id: found, .. }, .. }) =
            file_at(source, &mut PathFinder::new(base), &path)?
            && found == *id
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Bytes of a file that its old version does not have, as far as their chunks tell.
fn new_bytes(pages: &dyn PageSource, old: Option<FileId>, new: FileId, size: u64) -> Result<u64, PageError> {
    let Some(old) = old else { return Ok(size) };
    let (Some(old), Some(new)) = (chunks(pages, old)?, chunks(pages, new)?) else { return Ok(size) };
    let mut has = HashSet::new();
    for chunk in old.take(OLD_CHUNKS_MAX) {
        has.insert(chunk?.id);
    }
    let mut bytes = 0;
    for chunk in new {
        let chunk = chunk?;
        if !has.contains(&chunk.id) {
            bytes += u64::from(chunk.len);
        }
    }
    Ok(bytes)
}

/// The answer that a CONTENT request for the files would get, and the context of each batch by its number.
#[allow(clippy::type_complexity, reason = "two fields of a pack")]
fn content(
    source: &dyn Source,
    module: &str,
    (base, head): (DirId, DirId),
    files: &[FileItem],
) -> Result<(Vec<Message>, BTreeMap<usize, Vec<u8>>), u16> {
    let (mut messages, mut contexts) = (Vec::new(), BTreeMap::new());
    if files.is_empty() {
        return Ok((messages, contexts));
    }
    let mut answer = ContentAnswer::new(module.to_owned(), head, Some(base), false);
    answer.handle(source, Some(&files_message(files)))?;
    answer.handle(source, None)?;
    while let Next::Message(message, context) = answer.next_with_context(source)? {
        if !context.is_empty() {
            contexts.insert(messages.len(), context);
        }
        messages.push(message);
    }
    Ok((messages, contexts))
}
