//! Modules that are mirrored in part: which part, and the pages of their signed trees that lead to it.
//!
//! These pages name others that are not held, so they stand apart: a page among the [others](super::pages) always means
//! that all below it is held.

use std::collections::HashSet;

use super::{Batch, IndexError, ModuleNumber, View};
use crate::tree::dir::Built;
use crate::tree::hash::{DirId, HeadId, ID_LEN};

/// The part of a module that was published last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The rules that chose it, one a line.
    pub rules: String,
    /// The head whose tree it is a part of.
    pub head: HeadId,
    /// The part as a tree of its own.
    pub tree: Built,
}

impl View {
    /// The part of a module that is held; `None` if it is held whole, or not at all.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn part(&self, module: ModuleNumber) -> Result<Option<Part>, IndexError> {
        let sql = "SELECT rules, head, tree, entries, bytes FROM part WHERE module = ?1";
        self.one("read", sql, [module.0], |row| {
            let (entries, bytes) = (row.get::<_, i64>(3)?.cast_unsigned(), row.get::<_, i64>(4)?.cast_unsigned());
            let tree = Built { id: DirId::from_bytes(row.get::<_, [u8; ID_LEN]>(2)?), entries, bytes };
            Ok(Part { rules: row.get(0)?, head: HeadId::from_bytes(row.get(1)?), tree })
        })
    }

    /// A page of a signed tree of which only a part is held, of whichever module.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] when its bytes do not hash to its id, [`IndexError::Sql`].
    pub fn part_page(&self, id: &[u8; ID_LEN]) -> Result<Option<Vec<u8>>, IndexError> {
        let sql = "SELECT bytes FROM part_page WHERE id = ?1 LIMIT 1";
        let bytes: Option<Vec<u8>> = self.one("read", sql, [id], |row| row.get(0))?;
        match &bytes {
            Some(bytes) if DirId::of(bytes).as_bytes() != id => Err(self.damaged()),
            _ => Ok(bytes),
        }
    }
}

impl Batch<'_> {
    /// Notes which part of a module is held; `None` for all of it.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn set_part(&mut self, module: ModuleNumber, part: Option<&Part>) -> Result<(), IndexError> {
        let Some(Part { rules, head, tree }) = part else {
            self.run("write to", "DELETE FROM part_page WHERE module = ?1", [module.0])?;
            return self.run("write to", "DELETE FROM part WHERE module = ?1", [module.0]).map(drop);
        };
        let sql =
            "INSERT OR REPLACE INTO part(module, rules, head, tree, entries, bytes) VALUES(?1, ?2, ?3, ?4, ?5, ?6)";
        let (entries, bytes) = (tree.entries.cast_signed(), tree.bytes.cast_signed());
        let values = (module.0, rules, head.as_bytes(), tree.id.as_bytes(), entries, bytes);
        self.run("write to", sql, values).map(drop)
    }

    /// Keeps a page of a module's signed tree that leads to what is held.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn put_part_page(&mut self, module: ModuleNumber, id: &[u8; ID_LEN], bytes: &[u8]) -> Result<(), IndexError> {
        let sql = "INSERT OR IGNORE INTO part_page(id, module, bytes) VALUES(?1, ?2, ?3)";
        self.run("write to", sql, (id, module.0, bytes)).map(drop)
    }

    /// Forgets such pages but those of `keep`.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn prune_part_pages(&mut self, module: ModuleNumber, keep: &HashSet<[u8; ID_LEN]>) -> Result<(), IndexError> {
        let sql = "SELECT id FROM part_page WHERE module = ?1";
        let ids: Vec<[u8; ID_LEN]> = self.all(sql, [module.0], |row| row.get(0))?;
        for id in ids.iter().filter(|id| !keep.contains(*id)) {
            self.run("write to", "DELETE FROM part_page WHERE id = ?1 AND module = ?2", (id, module.0))?;
        }
        Ok(())
    }
}
