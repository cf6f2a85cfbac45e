//! Directory and list pages of all modules by id, and the collection of those that no tree needs.

use std::collections::HashSet;

use super::{Batch, Index, IndexError, Reader, SEEN_MAX, View, locked};
use crate::tree::chunker::Class;
use crate::tree::dir::DirKind;
use crate::tree::entry::Body;
use crate::tree::hash::{DirId, FileId, ID_LEN};
use crate::tree::list::ListKind;
use crate::tree::page::{Page, PageError, PageSink, PageSource, load};

impl PageSource for View {
    /// A page whose bytes do not hash to its id is an [`IndexError::Damaged`] inside of [`PageError::Store`].
    fn page(&self, id: &[u8; ID_LEN]) -> Result<Option<Vec<u8>>, PageError> {
        let sql = "SELECT bytes FROM page WHERE id = ?1";
        let bytes: Option<Vec<u8>> = self.one("read", sql, [id], |row| row.get(0))?;
        match &bytes {
            Some(bytes) if DirId::of(bytes).as_bytes() != id && FileId::of(bytes).as_bytes() != id => {
                Err(self.damaged().into())
            }
            _ => Ok(bytes),
        }
    }
}

impl PageSource for Reader {
    fn page(&self, id: &[u8; ID_LEN]) -> Result<Option<Vec<u8>>, PageError> {
        View::page(self, id)
    }
}

impl PageSource for Batch<'_> {
    fn page(&self, id: &[u8; ID_LEN]) -> Result<Option<Vec<u8>>, PageError> {
        View::page(self, id)
    }
}

impl PageSink for Batch<'_> {
    fn put(&mut self, id: &[u8; ID_LEN], bytes: &[u8]) -> Result<(), PageError> {
        if self.writer.seen.contains(id) {
            return Ok(());
        }
        self.run("write to", "INSERT OR IGNORE INTO page(id, bytes) VALUES(?1, ?2)", (id, bytes))?;
        let seen = &mut self.writer().seen;
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        seen.insert(*id);
        Ok(())
    }
}

/// What a collection has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Pages that stay.
    pub kept: u64,
    /// Pages that are gone.
    pub removed: u64,
    /// Sampled chunks of files that are gone.
    pub samples: u64,
    /// Block lists of contents that are gone.
    pub block_lists: u64,
}

/// Rows removed in one transaction of a collection.
const SWEEP_ROWS: u32 = 4 * 1024;

impl Index {
    /// Removes pages, and lists of blocks, that neither a tree of `keep`, nor a module's local tree, nor a known file
    /// needs, and gives the space back to the filesystem. `None` when trees are being built: their pages are in no tree yet, so try again
    /// later. Batches wait until it is done: a second or so for 100,000 files.
    ///
    /// Memory: one bit a page, the references above the page that is being looked at, and some 16 bytes for each block
    /// list of the past, a million of them at most.
    ///
    /// # Errors
    /// [`IndexError::Page`] when a tree is not whole: nothing is removed then.
    pub fn collect(&self, keep: &[DirId]) -> Result<Option<Collected>, IndexError> {
        {
            let mut gate = locked(&self.0.gate);
            if gate.holds > 0 || gate.collecting {
                gate.collection_waits = true;
                return Ok(None);
            }
            gate.collecting = true;
            gate.collection_waits = false;
        }
        let _collecting = Collecting(self);
        let reader = self.reader()?;
        let mut marks = Marks { view: &reader, bits: Vec::new(), doubted: reader.doubted_lists()? };
        for top in keep.iter().copied().chain(reader.locals()?) {
            marks.tree(&top)?;
        }
        marks.known_files()?;
        self.sweep(&marks).map(Some)
    }

    /// Whether a [collection](Self::collect) was put off.
    #[must_use]
    pub fn collection_waits(&self) -> bool {
        locked(&self.0.gate).collection_waits
    }

    fn sweep(&self, marks: &Marks<'_>) -> Result<Collected, IndexError> {
        let mut done = Collected::default();
        let mut writer = locked(&self.0.writer);
        writer.seen.clear();
        let view = &writer.view;
        let mut after = i64::MIN;
        loop {
            // Many transactions, so that the log stays short.
            let sql = "SELECT n FROM page WHERE n > ?1 ORDER BY n LIMIT ?2";
            let rows: Vec<i64> = view.all(sql, (after, SWEEP_ROWS), |row| row.get(0))?;
            let Some(last) = rows.last() else { break };
            after = *last;
            let gone: Vec<i64> = rows.iter().copied().filter(|n| !is_marked(&marks.bits, *n)).collect();
            done.kept += (rows.len() - gone.len()) as u64;
            done.removed += gone.len() as u64;
            in_transaction(view, || {
                gone.iter().try_for_each(|n| view.run("write to", "DELETE FROM page WHERE n = ?1", [n]).map(drop))
            })?;
        }
        let sql = "DELETE FROM sample WHERE NOT EXISTS \
                   (SELECT 1 FROM file f WHERE f.module = sample.module AND f.key = sample.key)";
        done.samples = view.run("write to", sql, [])? as u64;
        done.block_lists = view.drop_doubted(&marks.doubted)?;
        view.shrink()?;
        Ok(done)
    }
}

/// Lets builders in again when the collection ends, however it ends.
struct Collecting<'a>(&'a Index);

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        locked(&self.0.0.gate).collecting = false;
        self.0.0.opened.notify_all();
    }
}

pub(super) fn in_transaction(view: &View, work: impl FnOnce() -> Result<(), IndexError>) -> Result<(), IndexError> {
    view.run("write to", "BEGIN IMMEDIATE", [])?;
    match work() {
        Ok(()) => view.run("commit to", "COMMIT", []).map(drop),
        Err(e) => {
            // The first error is the one to tell.
            let _ = view.run("roll back", "ROLLBACK", []);
            Err(e)
        }
    }
}

impl View {
    /// Gives free pages of the database back to the filesystem.
    fn shrink(&self) -> Result<(), IndexError> {
        let failed = |source| super::sql_error(&self.path, "shrink", source);
        // The statement frees a page with each step, so all of its empty rows are taken.
        self.connection.pragma_query(None, "incremental_vacuum", |_| Ok(())).map_err(failed)?;
        self.connection.pragma(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())).map_err(failed)
    }

    fn locals(&self) -> Result<Vec<DirId>, IndexError> {
        let sql = "SELECT local FROM module WHERE local IS NOT NULL";
        self.all(sql, [], |row| row.get(0).map(DirId::from_bytes))
    }

    /// Whether a page is held, which means that all below it is held.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn page_is_held(&self, id: &[u8; ID_LEN]) -> Result<bool, IndexError> {
        Ok(self.page_number(id)?.is_some())
    }

    fn page_number(&self, id: &[u8; ID_LEN]) -> Result<Option<i64>, IndexError> {
        self.one("read", "SELECT n FROM page WHERE id = ?1", [id], |row| row.get(0))
    }
}

fn is_marked(bits: &[u64], n: i64) -> bool {
    let n = n.cast_unsigned();
    let word = usize::try_from(n / 64).ok().and_then(|at| bits.get(at)).copied();
    word.is_some_and(|word| word >> (n % 64) & 1 == 1)
}

/// What stays.
struct Marks<'a> {
    view: &'a View,
    /// Pages, a bit for each row number.
    bits: Vec<u64>,
    /// Contents with a block list that were met neither as a file nor in a tree.
    doubted: HashSet<u64>,
}

impl Marks<'_> {
    /// Marks a page; `false` when it was marked before, and all below it with it, or when it is not stored.
    fn mark(&mut self, id: &[u8; ID_LEN]) -> Result<bool, IndexError> {
        let Some(n) = self.view.page_number(id)? else { return Ok(false) };
        let (word, bit) = (usize::try_from(n / 64).unwrap_or(usize::MAX), 1u64 << (n.cast_unsigned() % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let Some(word) = self.bits.get_mut(word) else { return Ok(false) };
        let fresh = *word & bit == 0;
        *word |= bit;
        Ok(fresh)
    }

    fn tree(&mut self, top: &DirId) -> Result<(), IndexError> {
        let mut todo = vec![*top];
        while let Some(id) = todo.pop() {
            if self.view.page_number(id.as_bytes())?.is_none() {
                return Err(PageError::Missing(*id.as_bytes()).into());
            }
            if !self.mark(id.as_bytes())? {
                continue;
            }
            match load::<DirKind>(self.view, id.as_bytes())? {
                Page::Upper(_, ups) => todo.extend(ups.iter().map(|up| up.1)),
                Page::Leaf(entries) => {
                    for entry in &entries {
                        match &entry.body {
                            Body::Directory { id, .. } => todo.push(*id),
                            Body::File { id, size, class } => {
                                self.doubted.remove(&id.prefix());
                                self.list(id, *size, *class)?;
                            }
                            Body::Link { .. } => {}
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Marks the list pages of a file, if it has any.
    fn list(&mut self, file: &FileId, size: u64, class: Class) -> Result<(), IndexError> {
        let (shortest, ..) = class.sizes();
        if size <= shortest as u64 {
            return Ok(()); // One chunk, and so no list.
        }
        let mut todo = vec![*file];
        while let Some(id) = todo.pop() {
            if self.mark(id.as_bytes())?
                && let Page::Upper(_, ups) = load::<ListKind>(self.view, id.as_bytes())?
            {
                todo.extend(ups.iter().map(|up| up.1));
            }
        }
        Ok(())
    }

    /// Marks the lists of all files that a scan would not read again, in a tree or not.
    fn known_files(&mut self) -> Result<(), IndexError> {
        for (module, _) in self.view.modules()? {
            let mut result = Ok(());
            self.view.each_file(module, |_, file| {
                result = self.list(&file.id, file.stat.size, file.class);
                if result.is_ok() { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
            })?;
            result?;
        }
        Ok(())
    }
}
