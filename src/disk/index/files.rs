//! What is where on disk: one row for each file of each module's tree, found by path, by inode or by content.

use std::ops::ControlFlow;

use rusqlite::Row;

use super::{Batch, IndexError, ModuleNumber, View, sql_error};
use crate::disk::dir::StatKey;
use crate::tree::chunker::Class;
use crate::tree::hash::{FileId, ID_LEN};
use crate::tree::limits::NAME_MAX;
use crate::tree::name::{Name, TreePath};

/// What is known of a file that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRow {
    /// The file that was read.
    pub stat: StatKey,
    /// Whether a later change of the file must show in [`stat`](Self::stat): its times were old enough when it was
    /// read. The content of a file that was not settled is read again.
    pub settled: bool,
    /// How its content is cut.
    pub class: Class,
    /// Its content.
    pub id: FileId,
}

/// Bytes of an id that stand in `rest`.
pub(super) const REST_LEN: usize = ID_LEN - 8;

/// Follows every name in byte order.
const BEYOND_NAMES: [u8; NAME_MAX + 1] = [0xff; NAME_MAX + 1];

/// The columns that [`row_at`] reads, in its order.
macro_rules! columns {
    () => {
        "f.device, f.inode, f.size, f.mtime, f.ctime, f.settled, f.class, f.key, f.rest, f.sum"
    };
}

/// With an upper bound in any case: at an "or" SQLite walks on to the end of the directory.
pub(super) const FILES_IN: &str = concat!(
    "SELECT f.name, ",
    columns!(),
    " FROM file f WHERE f.place = ?1 AND f.name >= ?2 AND f.name < ?3 ORDER BY f.name"
);
/// As two searches: at an "or" SQLite walks through all of the module.
pub(super) const PLACES_WITHIN: &str = "SELECT n FROM place WHERE module = ?1 AND path = ?2 UNION ALL \
                                        SELECT n FROM place WHERE module = ?1 AND path > ?3 AND path < ?4";

impl FileRow {
    /// What [`View::similar`] and [`View::files_of_key`] know a file's content by: the start of its id.
    #[must_use]
    pub fn content_key(&self) -> u64 {
        self.id.prefix()
    }

    /// A checksum over all fields, for rows that a disk may have damaged.
    fn sum(&self) -> i64 {
        let mut hasher = blake3::Hasher::new();
        let StatKey { device, inode, size, mtime, ctime } = self.stat;
        for number in [device, inode, size, mtime.cast_unsigned(), ctime.cast_unsigned()] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&[u8::from(self.settled), self.class.number()]);
        hasher.update(self.id.as_bytes());
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        i64::from(u32::from_le_bytes([a, b, c, d]))
    }
}

/// Reads a file from the columns that start at `at`; `None` when they do not fit each other, as if it were not there.
fn row_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<FileRow>> {
    let number = |i: usize| row.get::<_, i64>(at + i);
    let stat = StatKey {
        device: number(0)?.cast_unsigned(),
        inode: number(1)?.cast_unsigned(),
        size: number(2)?.cast_unsigned(),
        mtime: number(3)?,
        ctime: number(4)?,
    };
    let id = id_at(row, at + 7)?;
    let Some(class) = Class::from_number(number(6)?.cast_unsigned()) else { return Ok(None) };
    let file = FileRow { stat, settled: number(5)? != 0, class, id };
    Ok((file.sum() == number(9)?).then_some(file))
}

/// The id of a file, from its two columns.
fn id_at(row: &Row<'_>, at: usize) -> rusqlite::Result<FileId> {
    let (key, rest): (i64, [u8; REST_LEN]) = (row.get(at)?, row.get(at + 1)?);
    let mut id = [0; ID_LEN];
    let (head, tail) = id.split_at_mut(ID_LEN - REST_LEN);
    head.copy_from_slice(&key.to_be_bytes());
    tail.copy_from_slice(&rest);
    Ok(FileId::from_bytes(id))
}

/// The path of `name` in the directory `place`; `None` for bytes that no scan has written.
fn path_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<TreePath>> {
    let (place, name) = (row.get_ref(at)?.as_blob()?, row.get_ref(at + 1)?.as_blob()?);
    Ok(TreePath::new(place).ok().zip(Name::new(name).ok()).map(|(place, name)| place.join(&name)))
}

/// The range of places below `path`, both ends excluded: "a/" and "a0", as "0" follows "/" in byte order.
fn below(path: &TreePath) -> (Vec<u8>, Vec<u8>) {
    ([path.as_bytes(), b"/"].concat(), [path.as_bytes(), b"0"].concat())
}

impl View {
    /// The file at `path`.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn file(&self, module: ModuleNumber, path: &TreePath) -> Result<Option<FileRow>, IndexError> {
        let Some((place, name)) = path.split_last() else { return Ok(None) };
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM place p JOIN file f ON f.place = p.n WHERE p.module = ?1 AND p.path = ?2 AND f.name = ?3"
        );
        let values = (module.0, place.as_bytes(), name.as_bytes());
        Ok(self.one("read", sql, values, |row| row_at(row, 0))?.flatten())
    }

    /// The files of the directory `place` (not those below it), by name, with names from `first` up to and without
    /// `end`. `None` stands for a row that is damaged.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn files_in(
        &self,
        place: PlaceNumber,
        first: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<Vec<(Name, Option<FileRow>)>, IndexError> {
        let values = (place.0, first.unwrap_or(&[]), end.unwrap_or(&BEYOND_NAMES));
        let rows = self.all(FILES_IN, values, |row| {
            let name = Name::new(row.get_ref(0)?.as_blob()?).ok();
            Ok(name.zip(Some(row_at(row, 1)?)))
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Whether any file of any module is known.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn knows_files(&self) -> Result<bool, IndexError> {
        Ok(self.one("read", "SELECT 1 FROM file LIMIT 1", [], |_| Ok(()))?.is_some())
    }

    /// Bytes of all known files of the module; a look at each of them.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn file_bytes(&self, module: ModuleNumber) -> Result<u64, IndexError> {
        let sql = "SELECT coalesce(sum(size), 0) FROM file WHERE module = ?1";
        Ok(self.one("read", sql, [module.0], |row| row.get(0))?.map_or(0, i64::cast_unsigned))
    }

    /// The number of the directory `path`, if files in it are known.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn place(&self, module: ModuleNumber, path: &TreePath) -> Result<Option<PlaceNumber>, IndexError> {
        let sql = "SELECT n FROM place WHERE module = ?1 AND path = ?2";
        self.one("read", sql, (module.0, path.as_bytes()), |row| row.get(0).map(PlaceNumber))
    }

    /// A settled file with exactly this stat key, in whatever module and place: the same file, moved with a directory
    /// above it.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn same_stat(&self, stat: &StatKey) -> Result<Option<FileRow>, IndexError> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM file f WHERE f.inode = ?1 AND f.device = ?2 AND f.size = ?3 AND f.mtime = ?4 AND f.ctime = ?5",
            " AND f.settled LIMIT 1"
        );
        let StatKey { device, inode, size, mtime, ctime } = *stat;
        let values = (inode.cast_signed(), device.cast_signed(), size.cast_signed(), mtime, ctime);
        Ok(self.one("read", sql, values, |row| row_at(row, 0))?.flatten())
    }

    /// Where in the module files with this inode are, `limit` of them at most: several where they are hard links.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn paths_of_inode(
        &self,
        module: ModuleNumber,
        stat: &StatKey,
        limit: u32,
    ) -> Result<Vec<TreePath>, IndexError> {
        let sql = "SELECT p.path, f.name FROM file f JOIN place p ON p.n = f.place \
                   WHERE f.inode = ?1 AND f.device = ?2 AND f.module = ?3 LIMIT ?4";
        let values = (stat.inode.cast_signed(), stat.device.cast_signed(), module.0, limit);
        Ok(self.all(sql, values, |row| path_at(row, 0))?.into_iter().flatten().collect())
    }

    /// Where in the module files of this content are, `limit` of them at most.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn paths_of(
        &self,
        module: ModuleNumber,
        id: &FileId,
        limit: u32,
    ) -> Result<Vec<(TreePath, StatKey)>, IndexError> {
        let files = self.files_of_key(module, id.prefix(), limit)?;
        Ok(files.into_iter().filter(|(_, file)| file.id == *id).map(|(path, file)| (path, file.stat)).collect())
    }

    /// Files of the module whose ids start with `key`, `limit` of them at most.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn files_of_key(
        &self,
        module: ModuleNumber,
        key: u64,
        limit: u32,
    ) -> Result<Vec<(TreePath, FileRow)>, IndexError> {
        let sql = concat!(
            "SELECT p.path, f.name, ",
            columns!(),
            " FROM file f JOIN place p ON p.n = f.place WHERE f.module = ?1 AND f.key = ?2 LIMIT ?3"
        );
        let rows =
            self.all(sql, (module.0, key.cast_signed(), limit), |row| Ok(path_at(row, 0)?.zip(row_at(row, 2)?)))?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// The id of files of the module that begins so; `None` where there are none, or several.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn file_id(&self, module: ModuleNumber, beginning: &[u8]) -> Result<Option<FileId>, IndexError> {
        let [first, last] = [0, u8::MAX].map(|rest| {
            let mut key = [rest; ID_LEN - REST_LEN];
            key.iter_mut().zip(beginning).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(key).cast_signed()
        });
        // Of many files with the same id none but the first and the last are looked at.
        let end = |sql| self.one("read", sql, (module.0, first, last), |row| id_at(row, 0));
        let sql = "SELECT key, rest FROM file WHERE module = ?1 AND key BETWEEN ?2 AND ?3 ORDER BY key LIMIT 1";
        let lowest = end(sql)?;
        let sql = "SELECT key, rest FROM file WHERE module = ?1 AND key BETWEEN ?2 AND ?3 ORDER BY key DESC LIMIT 1";
        let highest = end(sql)?;
        Ok(lowest.filter(|_| lowest == highest))
    }

    /// Gives all files of the module, directory by directory, until told to stop.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn each_file(
        &self,
        module: ModuleNumber,
        mut take: impl FnMut(TreePath, FileRow) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let sql = concat!(
            "SELECT p.path, f.name, ",
            columns!(),
            " FROM place p CROSS JOIN file f ON f.place = p.n WHERE p.module = ?1 ORDER BY p.path, f.name"
        );
        let mut ask = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query([module.0])?;
            while let Some(row) = rows.next()? {
                if let Some((path, file)) = path_at(row, 0)?.zip(row_at(row, 2)?)
                    && take(path, file).is_break()
                {
                    break;
                }
            }
            Ok(())
        };
        ask().map_err(|source| sql_error(&self.path, "read", source))
    }

    /// The directories at `path` and below that the index knows files in.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn places_within(&self, module: ModuleNumber, path: &TreePath) -> Result<Vec<PlaceNumber>, IndexError> {
        let read = |row: &Row<'_>| row.get(0).map(PlaceNumber);
        if path.is_top() {
            return self.all("SELECT n FROM place WHERE module = ?1", [module.0], read);
        }
        let (first, end) = below(path);
        self.all(PLACES_WITHIN, (module.0, path.as_bytes(), first, end), read)
    }
}

/// A directory's number in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceNumber(i64);

impl PlaceNumber {
    /// The number; small and dense.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0.cast_unsigned()
    }
}

impl Batch<'_> {
    /// Writes what is known of the file at `path`, over what was; returns the number of its directory.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn put_file(
        &mut self,
        module: ModuleNumber,
        path: &TreePath,
        file: &FileRow,
    ) -> Result<Option<PlaceNumber>, IndexError> {
        let Some((place, name)) = path.split_last() else { return Ok(None) };
        let place = self.make_place(module, &place)?;
        let StatKey { device, inode, size, mtime, ctime } = file.stat;
        let rest = file.id.as_bytes().get(ID_LEN - REST_LEN..);
        let sql = "INSERT OR REPLACE INTO file(place, name, module, device, inode, size, mtime, ctime, settled, class, \
                   key, rest, sum) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        let values = rusqlite::params![
            place.0,
            name.as_bytes(),
            module.0,
            device.cast_signed(),
            inode.cast_signed(),
            size.cast_signed(),
            mtime,
            ctime,
            file.settled,
            file.class.number(),
            file.id.prefix().cast_signed(),
            rest,
            file.sum(),
        ];
        self.run("write to", sql, values)?;
        Ok(Some(place))
    }

    /// Forgets the file at `path`; says whether it was known.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn remove_file(&mut self, module: ModuleNumber, path: &TreePath) -> Result<bool, IndexError> {
        let Some((place, name)) = path.split_last() else { return Ok(false) };
        let Some(place) = self.place(module, &place)? else { return Ok(false) };
        let sql = "DELETE FROM file WHERE place = ?1 AND name = ?2";
        Ok(self.run("write to", sql, (place.0, name.as_bytes()))? > 0)
    }

    /// Forgets `path` and everything below it; says how many files that were.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn remove_within(&mut self, module: ModuleNumber, path: &TreePath) -> Result<u64, IndexError> {
        let mut removed = u64::from(self.remove_file(module, path)?);
        for place in self.places_within(module, path)? {
            removed += self.remove_place(place)?;
        }
        Ok(removed)
    }

    /// Forgets a directory and the files in it, not those below; says how many files that were.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn remove_place(&mut self, place: PlaceNumber) -> Result<u64, IndexError> {
        self.writer().last_place = None;
        let removed = self.run("write to", "DELETE FROM file WHERE place = ?1", [place.0])?;
        self.run("write to", "DELETE FROM place WHERE n = ?1", [place.0])?;
        Ok(removed as u64)
    }

    fn make_place(&mut self, module: ModuleNumber, path: &TreePath) -> Result<PlaceNumber, IndexError> {
        if let Some((of, last, number)) = &self.writer.last_place
            && *of == module
            && last == path.as_bytes()
        {
            return Ok(PlaceNumber(*number));
        }
        let place = match self.place(module, path)? {
            Some(place) => place,
            None => {
                let sql = "INSERT INTO place(module, path) VALUES(?1, ?2)";
                self.run("write to", sql, (module.0, path.as_bytes()))?;
                PlaceNumber(self.connection.last_insert_rowid())
            }
        };
        self.writer().last_place = Some((module, path.as_bytes().to_vec(), place.0));
        Ok(place)
    }
}
