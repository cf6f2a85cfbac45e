//! The tables of the index and how its connections are set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{IndexError, sql_error};

/// Version of the tables; a higher one was written by a later mirra.
const SCHEMA_VERSION: i64 = 2;
/// Marks the database as ours: "mirr".
const APPLICATION_ID: i64 = 0x6d69_7272;
/// Bytes of a database page. Directory pages of some kilobytes leave less unused in these than in SQLite's 4 KiB.
const PAGE_SIZE: i64 = 8 * 1024;
/// KiB of cache of the one writer: its random inserts go to the indexes by content and by inode.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
/// KiB of cache of each reader.
const READER_CACHE_KIB: i64 = 4 * 1024;
/// Database pages in the write-ahead log after which it is taken over into the database.
const CHECKPOINT_PAGES: i64 = 4 * 1024;
/// Bytes that the write-ahead log keeps after it was taken over.
const LOG_KEPT_BYTES: i64 = 32 * 1024 * 1024;
/// How long a connection waits for a lock of another process, such as an operator's `sqlite3`.
const BUSY: Duration = Duration::from_secs(10);
/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 64;

/// `file` keeps an id as its first eight bytes (`key`, which is indexed) and the `rest`; `sum` covers the row, so that
/// a damaged one is read again and not believed. A directory's path stands once, in `place`.
const TABLES: &str = "
CREATE TABLE page(n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, bytes BLOB NOT NULL) STRICT;
CREATE TABLE module(n INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, local BLOB,
    device INTEGER, inode INTEGER, path BLOB, settled INTEGER) STRICT;
CREATE TABLE place(
    n INTEGER PRIMARY KEY, module INTEGER NOT NULL, path BLOB NOT NULL, UNIQUE(module, path)) STRICT;
CREATE TABLE file(
    place INTEGER NOT NULL, name BLOB NOT NULL, module INTEGER NOT NULL,
    device INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, settled INTEGER NOT NULL, class INTEGER NOT NULL,
    key INTEGER NOT NULL, rest BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY(place, name)) STRICT, WITHOUT ROWID;
CREATE INDEX file_by_key ON file(module, key);
CREATE INDEX file_by_inode ON file(inode);
CREATE TABLE sample(
    module INTEGER NOT NULL, chunk INTEGER NOT NULL, key INTEGER NOT NULL,
    PRIMARY KEY(module, chunk, key)) STRICT, WITHOUT ROWID;
CREATE TABLE head(
    module INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, id BLOB NOT NULL,
    snapshot BLOB NOT NULL, envelope BLOB NOT NULL, state INTEGER NOT NULL,
    PRIMARY KEY(module, epoch, sequence, id)) STRICT;
CREATE TABLE root_file(
    module INTEGER NOT NULL, version INTEGER NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY(module, version)) STRICT;
CREATE TABLE beat(module INTEGER PRIMARY KEY, envelope BLOB NOT NULL) STRICT;
CREATE TABLE pin(module INTEGER PRIMARY KEY, authority BLOB NOT NULL, first_seen INTEGER NOT NULL) STRICT;
";

/// What version 2 has beyond version 1. `block` keeps block lists in pieces, the hashes little-endian, by an id's halves
/// as in `file`; a list's rows are written together, and its number says how old it is. `module.block_bytes` is the sum
/// over them.
const TABLES_2: &str = "
CREATE TABLE block(
    n INTEGER PRIMARY KEY, module INTEGER NOT NULL, key INTEGER NOT NULL, piece INTEGER NOT NULL,
    rest BLOB NOT NULL, hashes BLOB NOT NULL) STRICT;
CREATE INDEX block_by_content ON block(module, key, piece);
ALTER TABLE module ADD COLUMN block_bytes INTEGER NOT NULL DEFAULT 0;
CREATE TABLE secret(n INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
";

/// Tables that came later; a database that was made before gets them when it is opened.
const LATER_TABLES: &str = "
CREATE TABLE IF NOT EXISTS part(module INTEGER PRIMARY KEY, rules TEXT NOT NULL, head BLOB NOT NULL, tree BLOB NOT NULL,
    entries INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS part_page(
    id BLOB NOT NULL, module INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY(id, module)) STRICT, WITHOUT ROWID;
";

/// Opens the database for writing, and makes its tables if there are none.
pub(super) fn open_writer(path: &Path) -> Result<Connection, IndexError> {
    let failed = |source| sql_error(path, "open", source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    set_up(&connection, WRITER_CACHE_KIB).map_err(failed)?;
    make_tables(&mut connection, path)?;
    connection.execute_batch(LATER_TABLES).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", LOG_KEPT_BYTES).map_err(failed)?;
    Ok(connection)
}

/// Opens one more connection to a database that [`open_writer`] has opened before.
pub(super) fn open_reader(path: &Path) -> Result<Connection, IndexError> {
    let failed = |source| sql_error(path, "open", source);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    set_up(&connection, READER_CACHE_KIB).map_err(failed)?;
    Ok(connection)
}

fn set_up(connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    // The planner may not look at bound values: it would compile a statement anew each time one of them changes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Negative: KiB, not pages.
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A database that somebody prepared runs no code of his.
    connection.pragma_update(None, "trusted_schema", false)
}

fn make_tables(connection: &mut Connection, path: &Path) -> Result<(), IndexError> {
    let failed = |source| sql_error(path, "open", source);
    let number = |connection: &Connection, name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = number(connection, "user_version").map_err(failed)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if found == 0 && tables == 0 {
        // Both only take effect before the first table, and outside a transaction.
        connection.pragma_update(None, "page_size", PAGE_SIZE).map_err(failed)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
        let making = connection.transaction().map_err(failed)?;
        making.execute_batch(TABLES).map_err(failed)?;
        making.execute_batch(TABLES_2).map_err(failed)?;
        making.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        making.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(failed)?;
        return making.commit().map_err(failed);
    }
    if number(connection, "application_id").map_err(failed)? != APPLICATION_ID {
        return Err(IndexError::Foreign { path: path.to_owned() });
    }
    match found {
        SCHEMA_VERSION => Ok(()),
        1 => {
            let adding = connection.transaction().map_err(failed)?;
            adding.execute_batch(TABLES_2).map_err(failed)?;
            adding.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(failed)?;
            adding.commit().map_err(failed)
        }
        _ => Err(IndexError::Version { path: path.to_owned(), found, known: SCHEMA_VERSION }),
    }
}
