//! What was signed: heads, root files and beats, stored and passed on verbatim; and the pins.

use rusqlite::Row;

use super::{Batch, IndexError, ModuleNumber, View};
use crate::tree::hash::{Authority, DirId, HeadId, ID_LEN, SnapshotId};

/// A head that was believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHead {
    /// The epoch of the root file it was signed under.
    pub epoch: u64,
    /// Its sequence.
    pub sequence: u64,
    /// Its id.
    pub id: HeadId,
    /// The tree it names.
    pub snapshot: SnapshotId,
    /// Its signed envelope, as received.
    pub envelope: Vec<u8>,
    /// How far it came here.
    pub state: HeadState,
}

/// How far a head came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeadState {
    /// Believed and recorded: from here on no older one is, even if its tree was never shown.
    Accepted,
    /// Its tree was made the visible one.
    Published,
}

impl HeadState {
    fn number(self) -> i64 {
        match self {
            Self::Accepted => 0,
            Self::Published => 1,
        }
    }
}

/// The authority of a module, and since when it is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Who may speak for the module.
    pub authority: Authority,
    /// Unix milliseconds.
    pub first_seen: u64,
}

macro_rules! heads {
    ($rest:literal) => {
        concat!("SELECT epoch, sequence, id, snapshot, envelope, state FROM head WHERE module = ?1 ", $rest)
    };
}

impl View {
    /// The newest head of at least this state: by epoch, then by sequence.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn newest_head(&self, module: ModuleNumber, at_least: HeadState) -> Result<Option<StoredHead>, IndexError> {
        let sql = heads!("AND state >= ?2 ORDER BY epoch DESC, sequence DESC LIMIT 1");
        self.one("read", sql, (module.0, at_least.number()), head)
    }

    /// The head of this id.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn head(&self, module: ModuleNumber, id: &HeadId) -> Result<Option<StoredHead>, IndexError> {
        self.one("read", heads!("AND id = ?2"), (module.0, id.as_bytes()), head)
    }

    /// The newest published head of this snapshot.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn head_of(&self, module: ModuleNumber, snapshot: &SnapshotId) -> Result<Option<StoredHead>, IndexError> {
        let sql = heads!("AND snapshot = ?2 AND state = 1 ORDER BY epoch DESC, sequence DESC LIMIT 1");
        self.one("read", sql, (module.0, snapshot.as_bytes()), head)
    }

    /// How many heads of a module with at least this sequence are held, published and accepted ones.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn count_heads(&self, module: ModuleNumber, first: u64) -> Result<u32, IndexError> {
        let sql = "SELECT count(*) FROM head WHERE module = ?1 AND sequence >= ?2";
        // No sequence is beyond what the index can order.
        let first = i64::try_from(first).unwrap_or(i64::MAX);
        Ok(self.one("read", sql, (module.0, first), |row| row.get(0))?.unwrap_or(0))
    }

    /// The last heads of at least this state, newest first, `limit` of them at most.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn last_heads(
        &self,
        module: ModuleNumber,
        at_least: HeadState,
        limit: u32,
    ) -> Result<Vec<StoredHead>, IndexError> {
        let sql = heads!("AND state >= ?2 ORDER BY epoch DESC, sequence DESC LIMIT ?3");
        self.all(sql, (module.0, at_least.number(), limit), head)
    }

    /// The envelopes of the module's root files from version `first` up, in order.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn root_files(&self, module: ModuleNumber, first: u64) -> Result<Vec<(u64, Vec<u8>)>, IndexError> {
        let sql = "SELECT version, envelope FROM root_file WHERE module = ?1 AND version >= ?2 ORDER BY version";
        let first = ordered("version", first)?;
        self.all(sql, (module.0, first), |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)))
    }

    /// The envelope of the newest beat.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn beat(&self, module: ModuleNumber) -> Result<Option<Vec<u8>>, IndexError> {
        self.one("read", "SELECT envelope FROM beat WHERE module = ?1", [module.0], |row| row.get(0))
    }

    /// What is pinned for the module.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn pin(&self, module: ModuleNumber) -> Result<Option<Pin>, IndexError> {
        self.one("read", "SELECT authority, first_seen FROM pin WHERE module = ?1", [module.0], |row| {
            let authority = Authority::from_bytes(row.get::<_, [u8; ID_LEN]>(0)?);
            Ok(Pin { authority, first_seen: row.get::<_, i64>(1)?.cast_unsigned() })
        })
    }
}

impl Batch<'_> {
    /// Records a head; one that is known keeps its place and takes the new state and envelope.
    ///
    /// # Errors
    /// [`IndexError::Range`] for an epoch or sequence of 2^63 or more; [`IndexError::Sql`].
    pub fn put_head(&mut self, module: ModuleNumber, head: &StoredHead) -> Result<(), IndexError> {
        let sql = "INSERT OR REPLACE INTO head(module, epoch, sequence, id, snapshot, envelope, state) \
                   VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let values = (
            module.0,
            ordered("epoch", head.epoch)?,
            ordered("sequence", head.sequence)?,
            head.id.as_bytes(),
            head.snapshot.as_bytes(),
            &head.envelope,
            head.state.number(),
        );
        self.run("write to", sql, values).map(drop)
    }

    /// Notes that a head's tree is the visible one; says whether the head was known.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn set_published(&mut self, module: ModuleNumber, id: &HeadId) -> Result<bool, IndexError> {
        let sql = "UPDATE head SET state = ?3 WHERE module = ?1 AND id = ?2";
        let values = (module.0, id.as_bytes(), HeadState::Published.number());
        Ok(self.run("write to", sql, values)? > 0)
    }

    /// Forgets all published heads but the last `keep`, and heads older than those that were never published; returns
    /// how many.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn prune_heads(&mut self, module: ModuleNumber, keep: u32) -> Result<usize, IndexError> {
        let sql = "DELETE FROM head WHERE module = ?1 AND (epoch, sequence) < (\
                   SELECT epoch, sequence FROM (SELECT epoch, sequence FROM head WHERE module = ?1 AND state = ?2 \
                   ORDER BY epoch DESC, sequence DESC LIMIT ?3) ORDER BY epoch, sequence LIMIT 1)";
        self.run("write to", sql, (module.0, HeadState::Published.number(), keep.max(1)))
    }

    /// Keeps the envelope of a root file.
    ///
    /// # Errors
    /// [`IndexError::Range`], [`IndexError::Sql`].
    pub fn put_root_file(&mut self, module: ModuleNumber, version: u64, envelope: &[u8]) -> Result<(), IndexError> {
        let sql = "INSERT OR REPLACE INTO root_file(module, version, envelope) VALUES(?1, ?2, ?3)";
        self.run("write to", sql, (module.0, ordered("version", version)?, envelope)).map(drop)
    }

    /// Keeps the envelope of a beat, over the one before.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn put_beat(&mut self, module: ModuleNumber, envelope: &[u8]) -> Result<(), IndexError> {
        let sql = "INSERT OR REPLACE INTO beat(module, envelope) VALUES(?1, ?2)";
        self.run("write to", sql, (module.0, envelope)).map(drop)
    }

    /// Pins an authority, over the one before.
    ///
    /// # Errors
    /// [`IndexError::Range`], [`IndexError::Sql`].
    pub fn put_pin(&mut self, module: ModuleNumber, pin: &Pin) -> Result<(), IndexError> {
        let sql = "INSERT OR REPLACE INTO pin(module, authority, first_seen) VALUES(?1, ?2, ?3)";
        let values = (module.0, pin.authority.as_bytes(), ordered("time", pin.first_seen)?);
        self.run("write to", sql, values).map(drop)
    }
}

fn head(row: &Row<'_>) -> rusqlite::Result<StoredHead> {
    let state = if row.get::<_, i64>(5)? == 0 { HeadState::Accepted } else { HeadState::Published };
    Ok(StoredHead {
        epoch: row.get::<_, i64>(0)?.cast_unsigned(),
        sequence: row.get::<_, i64>(1)?.cast_unsigned(),
        id: HeadId::from_bytes(row.get(2)?),
        snapshot: DirId::from_bytes(row.get(3)?),
        envelope: row.get(4)?,
        state,
    })
}

/// Numbers that SQLite puts in order must fit its signed ones. A root that signs a higher one is refused here.
fn ordered(what: &'static str, value: u64) -> Result<i64, IndexError> {
    i64::try_from(value).map_err(|_| IndexError::Range { what, value })
}
