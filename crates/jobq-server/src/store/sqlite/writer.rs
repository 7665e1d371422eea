//! The thread that writes: one transaction for all batches that wait, and the log folded into the database between
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::mpsc::UnboundedSender;

use super::apply::Applier;
use super::schema::LOG_KEPT;
use super::values::During;
use super::watermark::Watermark;
use crate::store::{Batch, StoreError, Stored};

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Task {
    Batch(Batch),
    /// Fold the log into the database, and end.
    Close,
}

/// Most batches in one transaction. The caller has only a few under way, and one that waits costs no more alone.
const GROUP: usize = 8;

/// The log is folded into the database when it has this many bytes: half of what it may keep, so that a log that
/// could not begin anew at once, since a reader still needed it, rarely has to grow.
const LOG_FULL: u64 = LOG_KEPT as u64 / 2;

/// … or when nothing came for this long.
const IDLE: Duration = Duration::from_secs(1);

/// The thread's state.
pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) watermark: Watermark,
    pub(super) last_batch: u64,
    pub(super) tasks: Receiver<Task>,
    /// Unbounded, and bounded by the caller all the same: a report for each batch that it has under way.
    pub(super) reports: UnboundedSender<Result<Stored, StoreError>>,
    /// The store was dropped: what waits is not written any more.
    pub(super) abandoned: Arc<AtomicBool>,
}

impl Writer {
    /// Writes until it is told to close, the store is dropped, or something fails, which is reported.
    ///
    /// # Errors
    /// When closing failed, or was not asked for.
    pub(super) fn run(mut self) -> Result<(), StoreError> {
        if let Err(error) = self.write() {
            tracing::error!(%error, "the store failed and takes nothing more");
            // Nobody listens if the store was dropped.
            let _ = self.reports.send(Err(error));
            return Err(StoreError::Closed);
        }
        if self.abandoned.load(Ordering::Acquire) {
            return Ok(());
        }
        close(self.db)
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let mut applier = Applier::new(&self.db, self.last_batch).during("prepare its statements")?;
        let mut log = Log::new(&self.db)?;
        let mut batches = Vec::with_capacity(GROUP);
        loop {
            let closing = next_group(&self.tasks, &mut batches, &mut log)?;
            if self.abandoned.load(Ordering::Acquire) {
                return Ok(());
            }
            if let Some(last) = batches.last() {
                let last = last.number;
                let stored = applier.apply(&batches)?;
                self.watermark.advance(last)?;
                for stored in stored {
                    let _ = self.reports.send(Ok(stored));
                }
                batches.clear();
                log.committed()?;
            }
            if closing {
                return Ok(());
            }
        }
    }
}

/// Waits for a batch and takes those that came with it. Whether the store is to close after them.
fn next_group(
    tasks: &Receiver<Task>,
    batches: &mut Vec<Batch>,
    log: &mut Log<'_>,
) -> Result<bool, StoreError> {
    let first = if log.is_clean() {
        tasks.recv().ok()
    } else {
        match tasks.recv_timeout(IDLE) {
            Ok(task) => Some(task),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                log.fold()?;
                tasks.recv().ok()
            }
        }
    };
    for task in first.into_iter().chain(tasks.try_iter()) {
        match task {
            Task::Batch(batch) => batches.push(batch),
            Task::Close => return Ok(true),
        }
        if batches.len() == GROUP {
            break;
        }
    }
    // None at all: the store is gone.
    Ok(batches.is_empty())
}

/// The write-ahead log, as far as the writer needs to know it.
struct Log<'db> {
    db: &'db Connection,
    page_bytes: u64,
    /// Whether something was committed since it was last folded.
    dirty: bool,
}

impl<'db> Log<'db> {
    fn new(db: &'db Connection) -> Result<Self, StoreError> {
        let page_bytes: u32 = db
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .during("be read")?;
        Ok(Self {
            db,
            page_bytes: page_bytes.into(),
            dirty: true,
        })
    }

    fn is_clean(&self) -> bool {
        !self.dirty
    }

    /// Something was committed and reported: a good moment to fold the log if it is full.
    fn committed(&mut self) -> Result<(), StoreError> {
        self.dirty = true;
        let (pages, folded) = checkpoint(self.db, "NOOP")?;
        if pages.saturating_sub(folded) * self.page_bytes >= LOG_FULL {
            self.fold()?;
        }
        Ok(())
    }

    /// Copies the log into the database, as far as readers allow; the next commit then writes it from its start.
    fn fold(&mut self) -> Result<(), StoreError> {
        checkpoint(self.db, "PASSIVE")?;
        self.dirty = false;
        Ok(())
    }
}

/// Runs a checkpoint; the pages in the log, and how many of them are in the database.
fn checkpoint(db: &Connection, mode: &str) -> Result<(u64, u64), StoreError> {
    let pages: (i64, i64) = db
        .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))
        .and_then(|mut pragma| pragma.query_row([], |row| Ok((row.get(1)?, row.get(2)?))))
        .during("fold its log")?;
    // -1 where it could not look, which a visitor's lock can cause: it is looked at again soon.
    Ok((
        u64::try_from(pages.0).unwrap_or(0),
        u64::try_from(pages.1).unwrap_or(0),
    ))
}

/// Folds all of the log and closes the database; where no visitor reads it, only `jobq.db` is left.
fn close(db: Connection) -> Result<(), StoreError> {
    checkpoint(&db, "TRUNCATE")?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .during("be closed")?;
    db.close().map_err(|(_, error)| error).during("be closed")
}
