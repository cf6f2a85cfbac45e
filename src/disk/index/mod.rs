//! The local database: pages of all trees, what is where on disk, heads, root files, beats and pins.
//!
//! One [`Index`] per home, SQLite beneath. It has one writer, used through a [`Batch`] (a transaction), and any number
//! of [`Reader`]s; both are a [`View`], which holds every question that can be asked. What a batch commits is durable.
//! Pages and files can be rebuilt from the trees on disk; heads, root files and pins come from peers again.
//!
//! Read in this order: `schema` (the tables), [`pages`] (what trees are made of, and its collection), [`files`] (what
//! is where on disk), [`similar`] (files that share content), [`blocks`] (what files held), [`heads`] (what was signed),
//! [`partial`] (modules of which a part is held).

pub mod blocks;
pub mod files;
pub mod heads;
pub mod pages;
pub mod partial;
mod schema;
pub mod similar;

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row};

use crate::tree::hash::{DirId, ID_LEN};
use crate::tree::page::PageError;

/// Why the index did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A later mirra has written it.
    #[error("the index {} has version {found}, this mirra knows {known}: update mirra", path.display())]
    Version {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version of this program.
        known: i64,
    },
    /// It is a database of something else.
    #[error("{} is no index of mirra", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// Its bytes are not what was written.
    #[error("the index {} is damaged: move it away, mirra rebuilds it from the trees on disk", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was met, if SQLite met it.
        #[source]
        source: Option<rusqlite::Error>,
    },
    /// SQLite failed: a full disk, an I/O error, a lock held by somebody else.
    #[error("cannot {what} the index {}", path.display())]
    Sql {
        /// What was tried.
        what: &'static str,
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
    /// A page below a directory that is kept is missing or malformed.
    #[error(transparent)]
    Page(#[from] PageError),
    /// A number of a signed object that the index cannot order.
    #[error("the {what} {value} is beyond what the index can hold")]
    Range {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
    },
}

impl From<IndexError> for PageError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Page(error) => error,
            other => Self::Store(Box::new(other)),
        }
    }
}

impl IndexError {
    /// Whether there is no room for it on its disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            // The memory that its users share is a file, which cannot be made longer.
            Self::Sql { source: rusqlite::Error::SqliteFailure(error, _), .. } => {
                error.code == ErrorCode::DiskFull || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
            }
            Self::Page(PageError::Store(error)) => error.downcast_ref::<Self>().is_some_and(Self::is_full),
            _ => false,
        }
    }
}

fn sql_error(path: &Path, what: &'static str, source: rusqlite::Error) -> IndexError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            IndexError::Damaged { path, source: Some(source) }
        }
        _ => IndexError::Sql { what, path, source },
    }
}

/// A module's number in this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleNumber(i64);

/// The directory into which a followed module goes, so that another one in its place is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Device number; some filesystems have another one after each boot.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Its path.
    pub path: Vec<u8>,
    /// Whether it was in sync once, or empty at first: else what it holds beyond the snapshot is not mirra's to clear away.
    pub settled: bool,
}

impl Target {
    /// Whether `other` is the same directory: moved on its filesystem, or at its path with another device number.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.inode == other.inode && (self.device == other.device || self.path == other.path)
    }
}

/// The database of one home. Clones are the same index.
#[derive(Clone)]
pub struct Index(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// Before the writer, so that it is dropped before it: the last connection that closes writes the log back into the
    /// database, and a reader may not.
    idle: Mutex<Vec<View>>,
    writer: Mutex<Writer>,
    gate: Mutex<Gate>,
    opened: Condvar,
}

/// The one connection that writes.
struct Writer {
    view: View,
    /// Pages that were put lately and certainly stand in the database or in the open batch.
    seen: HashSet<[u8; ID_LEN]>,
    /// The directory that the last file was written in: files come directory by directory.
    last_place: Option<(ModuleNumber, Vec<u8>, i64)>,
}

/// Keeps collection and building apart: pages of a tree that is being built are in no tree yet.
#[derive(Default)]
struct Gate {
    holds: usize,
    collecting: bool,
    /// One was wanted while something was being built.
    collection_waits: bool,
}

/// Readers that are kept open when nobody uses them.
const IDLE_MAX: usize = 16;
/// Pages that the writer remembers to have put.
const SEEN_MAX: usize = 16 * 1024;

impl Index {
    /// Opens the database at `path`, and makes it if it is not there.
    ///
    /// # Errors
    /// [`IndexError::Version`] for one of a later mirra, [`IndexError::Damaged`], [`IndexError::Foreign`], or
    /// [`IndexError::Sql`].
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let view = View { connection: schema::open_writer(path)?, path: path.to_owned() };
        let writer = Writer { view, seen: HashSet::new(), last_place: None };
        Ok(Self(Arc::new(Shared {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            idle: Mutex::new(Vec::new()),
            gate: Mutex::new(Gate::default()),
            opened: Condvar::new(),
        })))
    }

    /// A connection to ask questions with. It sees what was committed before each question.
    ///
    /// # Errors
    /// [`IndexError::Sql`] when no more connections can be opened.
    pub fn reader(&self) -> Result<Reader, IndexError> {
        let idle = locked(&self.0.idle).pop();
        let view = match idle {
            Some(view) => view,
            None => View { connection: schema::open_reader(&self.0.path)?, path: self.0.path.clone() },
        };
        Ok(Reader { view: Some(view), index: self.clone() })
    }

    /// Starts a transaction; waits for the one that is open. Dropped without [`commit`](Batch::commit), it leaves no
    /// trace.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn batch(&self) -> Result<Batch<'_>, IndexError> {
        let hold = self.hold();
        let writer = locked(&self.0.writer);
        writer.view.run("write to", "BEGIN IMMEDIATE", [])?;
        Ok(Batch { writer, open: true, _hold: hold })
    }

    /// The number of the module `name`, which is made, durably, if there is none.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn module_number(&self, name: &str) -> Result<ModuleNumber, IndexError> {
        if let Some(number) = self.reader()?.find_module(name)? {
            return Ok(number);
        }
        let mut batch = self.batch()?;
        let number = batch.module(name)?;
        batch.commit()?;
        Ok(number)
    }

    /// Keeps pages from being collected while it lives: for who builds a tree in several batches.
    #[must_use]
    pub fn hold(&self) -> Hold {
        let mut gate = locked(&self.0.gate);
        while gate.collecting {
            gate = self.0.opened.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        gate.holds += 1;
        Hold(Arc::clone(&self.0))
    }

    /// Reads all of the database and compares what it says twice; seconds for a large one.
    ///
    /// # Errors
    /// [`IndexError::Damaged`].
    pub fn check(&self) -> Result<(), IndexError> {
        let reader = self.reader()?;
        let answer: Option<String> = reader.one("check", "PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if answer.as_deref() == Some("ok") { Ok(()) } else { Err(reader.damaged()) }
    }
}

/// Locks; a thread that panicked left no half-made state behind any of these locks.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, no page is collected.
pub struct Hold(Arc<Shared>);

impl Drop for Hold {
    fn drop(&mut self) {
        locked(&self.0.gate).holds -= 1;
    }
}

/// What can be asked of the index. A [`Reader`] sees what is committed, a [`Batch`] its own writes too.
pub struct View {
    connection: Connection,
    path: PathBuf,
}

/// A connection of one's own; it goes back to the index when dropped.
pub struct Reader {
    /// Taken by `drop` alone.
    view: Option<View>,
    index: Index,
}

impl Deref for Reader {
    type Target = View;

    fn deref(&self) -> &View {
        self.view.as_ref().expect("the view is taken when the reader is dropped")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut idle = locked(&self.index.0.idle);
        if idle.len() < IDLE_MAX {
            idle.extend(self.view.take());
        }
    }
}

/// A transaction: all of it is durable after [`commit`](Self::commit), or none of it ever was.
pub struct Batch<'a> {
    writer: MutexGuard<'a, Writer>,
    open: bool,
    _hold: Hold,
}

impl Deref for Batch<'_> {
    type Target = View;

    fn deref(&self) -> &View {
        &self.writer.view
    }
}

impl Batch<'_> {
    /// Makes everything durable.
    ///
    /// # Errors
    /// [`IndexError::Sql`]; nothing of the batch is kept.
    pub fn commit(mut self) -> Result<(), IndexError> {
        self.writer.view.run("commit to", "COMMIT", [])?;
        self.open = false;
        Ok(())
    }

    /// The number of the module `name`, which is made if there is none.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn module(&mut self, name: &str) -> Result<ModuleNumber, IndexError> {
        self.run("write to", "INSERT INTO module(name) VALUES(?1) ON CONFLICT DO NOTHING", [name])?;
        self.find_module(name)?.ok_or_else(|| self.damaged())
    }

    /// Notes the tree of a module as it stands on disk: found there by a scan, or published there.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn set_local(&mut self, module: ModuleNumber, local: Option<DirId>) -> Result<(), IndexError> {
        let id = local.as_ref().map(DirId::as_bytes);
        self.run("write to", "UPDATE module SET local = ?2 WHERE n = ?1", (module.0, id)).map(drop)
    }

    /// Notes the directory into which a module goes.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn set_target(&mut self, module: ModuleNumber, target: &Target) -> Result<(), IndexError> {
        let sql = "UPDATE module SET device = ?2, inode = ?3, path = ?4, settled = ?5 WHERE n = ?1";
        let Target { device, inode, path, settled } = target;
        self.run("write to", sql, (module.0, device.cast_signed(), inode.cast_signed(), path, settled)).map(drop)
    }

    /// Forgets all of a module but its pages, which the next collection takes.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn forget_module(&mut self, module: ModuleNumber) -> Result<(), IndexError> {
        for delete in [
            "DELETE FROM file WHERE place IN (SELECT n FROM place WHERE module = ?1)",
            "DELETE FROM place WHERE module = ?1",
            "DELETE FROM sample WHERE module = ?1",
            "DELETE FROM block WHERE module = ?1",
            "DELETE FROM head WHERE module = ?1",
            "DELETE FROM root_file WHERE module = ?1",
            "DELETE FROM beat WHERE module = ?1",
            "DELETE FROM pin WHERE module = ?1",
            "DELETE FROM part_page WHERE module = ?1",
            "DELETE FROM part WHERE module = ?1",
            "DELETE FROM module WHERE n = ?1",
        ] {
            self.run("write to", delete, [module.0])?;
        }
        self.writer.last_place = None;
        Ok(())
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.deref_mut()
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.open {
            self.writer.seen.clear();
            self.writer.last_place = None;
            // Nothing is lost if this fails: what was not committed is rolled back when the database is next opened.
            let _ = self.writer.view.run("roll back", "ROLLBACK", []);
        }
    }
}

impl View {
    /// The number of the module `name`.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn find_module(&self, name: &str) -> Result<Option<ModuleNumber>, IndexError> {
        self.one("read", "SELECT n FROM module WHERE name = ?1", [name], |row| row.get(0).map(ModuleNumber))
    }

    /// All modules, by name.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn modules(&self) -> Result<Vec<(ModuleNumber, String)>, IndexError> {
        self.all("SELECT n, name FROM module ORDER BY name", [], |row| Ok((ModuleNumber(row.get(0)?), row.get(1)?)))
    }

    /// The tree that was last found on disk or published there.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn local(&self, module: ModuleNumber) -> Result<Option<DirId>, IndexError> {
        let found = self.one("read", "SELECT local FROM module WHERE n = ?1", [module.0], |row| {
            row.get::<_, Option<[u8; ID_LEN]>>(0)
        })?;
        Ok(found.flatten().map(DirId::from_bytes))
    }

    /// The directory into which a module goes, if one was noted.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn target(&self, module: ModuleNumber) -> Result<Option<Target>, IndexError> {
        let sql = "SELECT device, inode, path, settled FROM module WHERE n = ?1 AND path IS NOT NULL";
        self.one("read", sql, [module.0], |row| {
            let (device, inode) = (row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned());
            Ok(Target { device, inode, path: row.get(2)?, settled: row.get(3)? })
        })
    }

    /// Runs one statement that gives no rows, and says how many it has changed.
    fn run(&self, what: &'static str, sql: &str, values: impl Params) -> Result<usize, IndexError> {
        let run = || self.connection.prepare_cached(sql)?.execute(values);
        run().map_err(|source| sql_error(&self.path, what, source))
    }

    /// The first row of an answer.
    fn one<T>(
        &self,
        what: &'static str,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, IndexError> {
        let ask = || self.connection.prepare_cached(sql)?.query_row(values, read).optional();
        ask().map_err(|source| sql_error(&self.path, what, source))
    }

    /// All rows of an answer.
    fn all<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, IndexError> {
        let ask =
            || -> rusqlite::Result<Vec<T>> { self.connection.prepare_cached(sql)?.query_map(values, read)?.collect() };
        ask().map_err(|source| sql_error(&self.path, "read", source))
    }

    fn damaged(&self) -> IndexError {
        IndexError::Damaged { path: self.path.clone(), source: None }
    }
}

#[cfg(test)]
mod tests;
