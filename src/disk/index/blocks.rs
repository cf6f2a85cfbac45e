//! Lists of blocks of what files held, kept so that a later version can be told apart from bytes that are gone.
//!
//! A list belongs to a content, not to a path: it is made when a file is read, outlives the file, and goes with the last
//! tree that holds the content, or when there is no room, the oldest first. The hashes are keyed with a secret of this
//! index, which never leaves it.

use std::collections::HashSet;

use super::files::REST_LEN;
use super::pages::in_transaction;
use super::{Batch, Index, IndexError, ModuleNumber, View};
use crate::tree::hash::{FileId, ID_LEN};

/// Bytes of the lists of a module that there is always room for.
pub const LISTS_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// What part of a module's bytes its lists may have beyond that. Those of its files have less than half of it: the rest
/// is for the past.
pub const LISTS_SHARE: u64 = 16;
/// What part of the room is made free at once: to find what is old means to look at many lists.
const SPARE_SHARE: u64 = 8;
/// Hashes in one row.
const PIECE_HASHES: usize = 16 * 1024;
/// Lists that are removed in one transaction, and rows of a large one.
const DROPPED_AT_ONCE: u32 = 256;
/// Lists of the past that one collection looks for in the trees, the oldest; others wait for the next.
const DOUBTED_MAX: u32 = 1 << 20;

/// Bytes that the lists of a module of `module_bytes` may have.
#[must_use]
pub const fn lists_bytes_max(module_bytes: u64) -> u64 {
    let share = module_bytes / LISTS_SHARE;
    if share > LISTS_BYTES_MIN { share } else { LISTS_BYTES_MIN }
}

impl View {
    /// The block hashes of the content `file`, as [`Rabin::list`](crate::delta::rabin::Rabin::list) made them of each of
    /// its chunks in order, if they are kept.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn block_list(&self, module: ModuleNumber, file: &FileId) -> Result<Option<Vec<u32>>, IndexError> {
        let (key, rest) = halves(file);
        let sql = "SELECT hashes FROM block WHERE module = ?1 AND key = ?2 AND rest = ?3 ORDER BY piece";
        let pieces = self.all(sql, (module.0, key, rest), |row| {
            let (words, _) = row.get_ref(0)?.as_blob()?.as_chunks::<4>();
            Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect::<Vec<_>>())
        })?;
        // Most lists are of one piece.
        Ok(pieces.into_iter().reduce(|mut list, mut piece| {
            list.append(&mut piece);
            list
        }))
    }

    /// Bytes of all block lists of a module.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn block_bytes(&self, module: ModuleNumber) -> Result<u64, IndexError> {
        let bytes = self.one("read", "SELECT block_bytes FROM module WHERE n = ?1", [module.0], |row| row.get(0))?;
        Ok(bytes.map_or(0, i64::cast_unsigned))
    }

    /// What the block hashes are keyed with; `None` in an index that never made any.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn block_secret(&self) -> Result<Option<[u8; 32]>, IndexError> {
        self.one("read", "SELECT bytes FROM secret WHERE n = 1", [], |row| row.get(0))
    }

    /// Lists of the past: their rows' numbers beyond `after`, and what they are lists of; the oldest first.
    fn past_lists(&self, module: Option<ModuleNumber>, after: i64, limit: u32) -> Result<Vec<List>, IndexError> {
        // At an "or" SQLite would not take the numbers in order.
        let sql = "SELECT b.n, b.module, b.key, b.rest FROM block b WHERE b.n > ?1 AND b.piece = 0 \
                   AND b.module = coalesce(?2, b.module) AND NOT EXISTS \
                   (SELECT 1 FROM file f WHERE f.module = b.module AND f.key = b.key) ORDER BY b.n LIMIT ?3";
        self.all(sql, (after, module.map(|module| module.0), limit), |row| {
            Ok(List { n: row.get(0)?, module: row.get(1)?, key: row.get(2)?, rest: row.get(3)? })
        })
    }

    /// Removes a list; says how many bytes it had.
    fn drop_list(&self, list: &List) -> Result<u64, IndexError> {
        let of = (list.module, list.key, list.rest);
        let sql = "SELECT sum(length(hashes)) FROM block WHERE module = ?1 AND key = ?2 AND rest = ?3";
        let bytes: Option<i64> = self.one("read", sql, of, |row| row.get(0))?.flatten();
        let sql = "UPDATE module SET block_bytes = max(0, block_bytes - ?2) WHERE n = ?1";
        self.run("write to", sql, (list.module, bytes.unwrap_or(0)))?;
        self.run("write to", "DELETE FROM block WHERE module = ?1 AND key = ?2 AND rest = ?3", of)?;
        Ok(bytes.unwrap_or(0).cast_unsigned())
    }

    /// What a collection has to look for in the trees: the starts of the ids of contents that no known file has.
    pub(super) fn doubted_lists(&self) -> Result<HashSet<u64>, IndexError> {
        Ok(self.past_lists(None, i64::MIN, DOUBTED_MAX)?.iter().map(|list| list.key.cast_unsigned()).collect())
    }

    /// Removes the lists of the past that are `doubted` still; says how many.
    pub(super) fn drop_doubted(&self, doubted: &HashSet<u64>) -> Result<u64, IndexError> {
        let (mut after, mut dropped) = (i64::MIN, 0);
        while !doubted.is_empty() {
            let lists = self.past_lists(None, after, DROPPED_AT_ONCE)?;
            let Some(last) = lists.last() else { break };
            after = last.n;
            let gone: Vec<&List> = lists.iter().filter(|list| doubted.contains(&list.key.cast_unsigned())).collect();
            dropped += gone.len() as u64;
            in_transaction(self, || gone.iter().try_for_each(|list| self.drop_list(list).map(drop)))?;
        }
        Ok(dropped)
    }
}

/// A list, by the number of its first row and the content it belongs to.
struct List {
    n: i64,
    module: i64,
    key: i64,
    rest: [u8; REST_LEN],
}

impl Batch<'_> {
    /// Keeps the block hashes of a content, unless that would give the module more than `bytes_max` of lists. Says
    /// whether they are kept.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn put_block_list(
        &mut self,
        module: ModuleNumber,
        file: &FileId,
        hashes: &[u32],
        bytes_max: u64,
    ) -> Result<bool, IndexError> {
        let (key, rest) = halves(file);
        let known = "SELECT 1 FROM block WHERE module = ?1 AND key = ?2 AND piece = 0 AND rest = ?3";
        if hashes.is_empty() || self.one("read", known, (module.0, key, rest), |_| Ok(()))?.is_some() {
            return Ok(!hashes.is_empty());
        }
        let (bytes, bytes_max) = (size_of_val(hashes) as i64, i64::try_from(bytes_max).unwrap_or(i64::MAX));
        let count = "UPDATE module SET block_bytes = block_bytes + ?2 WHERE n = ?1 AND block_bytes + ?2 <= ?3";
        if self.run("write to", count, (module.0, bytes, bytes_max))? == 0 {
            return Ok(false);
        }
        for (piece, hashes) in (0i64..).zip(hashes.chunks(PIECE_HASHES)) {
            let hashes: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            let sql = "INSERT INTO block(module, key, piece, rest, hashes) VALUES(?1, ?2, ?3, ?4, ?5)";
            self.run("write to", sql, (module.0, key, piece, rest, hashes))?;
        }
        Ok(true)
    }
}

impl Index {
    /// What the block hashes of this index are keyed with: `drawn`, which is random, if nothing was before.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn set_block_secret(&self, drawn: &[u8; 32]) -> Result<[u8; 32], IndexError> {
        let batch = self.batch()?;
        batch.run("write to", "INSERT OR IGNORE INTO secret(n, bytes) VALUES(1, ?1)", [drawn])?;
        let secret = batch.block_secret()?.unwrap_or(*drawn);
        batch.commit()?;
        Ok(secret)
    }

    /// Removes lists of the past, the oldest first, if all of a module have more than `bytes_max`: so many that the next
    /// ones find room. Those of known files stay.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn trim_block_lists(&self, module: ModuleNumber, bytes_max: u64) -> Result<(), IndexError> {
        let mut bytes = self.reader()?.block_bytes(module)?;
        if bytes <= bytes_max {
            return Ok(());
        }
        let (wanted, mut after) = (bytes_max - bytes_max / SPARE_SHARE, i64::MIN);
        while bytes > wanted {
            let batch = self.batch()?;
            let lists = batch.past_lists(Some(module), after, DROPPED_AT_ONCE)?;
            let Some(last) = lists.last() else { break };
            after = last.n;
            for list in &lists {
                if bytes > wanted {
                    bytes = bytes.saturating_sub(batch.drop_list(list)?);
                }
            }
            batch.commit()?;
        }
        Ok(())
    }

    /// Removes all lists of a module.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn drop_block_lists(&self, module: ModuleNumber) -> Result<(), IndexError> {
        if self.reader()?.block_bytes(module)? == 0 {
            return Ok(());
        }
        loop {
            let batch = self.batch()?;
            let sql = "DELETE FROM block WHERE n IN (SELECT n FROM block WHERE module = ?1 LIMIT ?2)";
            let gone = batch.run("write to", sql, (module.0, DROPPED_AT_ONCE))?;
            if gone == 0 {
                batch.run("write to", "UPDATE module SET block_bytes = 0 WHERE n = ?1", [module.0])?;
                return batch.commit();
            }
            batch.commit()?;
        }
    }
}

/// The start of an id, which is indexed, and the rest, as `file` keeps them.
fn halves(file: &FileId) -> (i64, [u8; REST_LEN]) {
    let mut rest = [0; REST_LEN];
    rest.iter_mut().zip(file.as_bytes().iter().skip(ID_LEN - REST_LEN)).for_each(|(rest, byte)| *rest = *byte);
    (file.prefix().cast_signed(), rest)
}
