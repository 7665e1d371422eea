//! The write-ahead log, as far as the writer needs to know it.

use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::reserve::Reserve;
use super::schema::{BUSY_TIMEOUT, LOG_KEPT};
use super::values::During;
use crate::store::StoreError;

/// The log is folded into the database when it has this many bytes: half of what it may keep, so that a log that
/// could not begin anew at once, since a reader still needed it, rarely has to grow.
const LOG_FULL: u64 = LOG_KEPT as u64 / 2;

/// How long a start waits for visitors that read what the log was before: what it cannot fold the next start does.
const FOLD_WAIT: Duration = Duration::from_millis(500);

/// The log of the writer's connection.
pub(super) struct Log<'db> {
    db: &'db Connection,
    page_bytes: u64,
    /// Bytes that are not in the database yet.
    unfolded: u64,
    /// Whether something was committed since it was last folded.
    dirty: bool,
}

impl<'db> Log<'db> {
    pub(super) fn new(db: &'db Connection) -> Result<Self, StoreError> {
        let page_bytes: u32 = db
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .during("be read")?;
        let mut log = Self {
            db,
            page_bytes: page_bytes.into(),
            unfolded: 0,
            dirty: true,
        };
        log.checkpoint("NOOP")?;
        Ok(log)
    }

    pub(super) fn is_clean(&self) -> bool {
        !self.dirty
    }

    /// How many bytes the database may still grow by when the log is folded into it.
    pub(super) fn unfolded(&self) -> u64 {
        self.unfolded
    }

    /// Something was committed and reported: a good moment to fold the log if it is full.
    pub(super) fn committed(&mut self, reserve: &mut Reserve) -> Result<(), StoreError> {
        self.dirty = true;
        self.checkpoint("NOOP")?;
        if self.unfolded >= LOG_FULL {
            self.fold(reserve)?;
        }
        Ok(())
    }

    /// Copies the log into the database, as far as readers and the disk allow; the next commit then writes it from its
    /// start.
    pub(super) fn fold(&mut self, reserve: &mut Reserve) -> Result<(), StoreError> {
        match self.checkpoint("PASSIVE") {
            // What is in the log is safe there, and is tried again.
            Err(error) if reserve.ran_out(&error) => Ok(()),
            folded => {
                self.dirty = false;
                folded
            }
        }
    }

    fn checkpoint(&mut self, mode: &str) -> Result<(), StoreError> {
        let folding = checkpoint(self.db, mode)?;
        self.unfolded = folding.pages.saturating_sub(folding.folded) * self.page_bytes;
        Ok(())
    }
}

/// How far a checkpoint came.
struct Folding {
    /// A visitor kept it from coming to its end.
    is_busy: bool,
    /// The pages in the log.
    pages: u64,
    /// How many of them are in the database.
    folded: u64,
}

/// Runs a checkpoint.
fn checkpoint(db: &Connection, mode: &str) -> Result<Folding, StoreError> {
    let (is_busy, pages, folded): (bool, i64, i64) = db
        .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))
        .and_then(|mut pragma| pragma.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))))
        .during("fold its log")?;
    // -1 where it could not look, which a visitor's lock can cause: it is looked at again soon.
    Ok(Folding {
        is_busy,
        pages: u64::try_from(pages).unwrap_or(0),
        folded: u64::try_from(folded).unwrap_or(0),
    })
}

/// Folds all of the log, so that it and the database are on the disk; false where a visitor keeps some of it from being
/// folded for longer than a moment.
pub(super) fn fold_all(db: &Connection) -> Result<bool, StoreError> {
    db.busy_timeout(FOLD_WAIT).during("be set up to fold its log")?;
    let folding = checkpoint(db, "TRUNCATE")?;
    db.busy_timeout(BUSY_TIMEOUT).during("be set up")?;
    Ok(!folding.is_busy && folding.pages == folding.folded)
}

/// Folds all of the log and closes the database; where no visitor reads it, only `jobq.db` is left. On a full disk the
/// log stays, for the next start.
pub(super) fn close(db: Connection, reserve: &mut Reserve) -> Result<(), StoreError> {
    match checkpoint(&db, "TRUNCATE") {
        Err(error) if reserve.ran_out(&error) => {
            tracing::warn!("the log stays beside the database until there is room: {error}");
        }
        folded => {
            folded?;
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
                .during("be closed")?;
        }
    }
    db.close().map_err(|(_, error)| error).during("be closed")
}
