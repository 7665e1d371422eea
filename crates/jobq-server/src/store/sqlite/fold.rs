//! Folding the log into the database beside the writer.
//!
//! SQLite lets one connection fold while another commits. What is committed meanwhile stays in the log, so the writer
//! folds the rest itself, which is little and takes a moment only.
//!
//! SQLite syncs the database only when all of the log has been folded. Beside a busy writer that is seldom so, and then the
//! disk would have everything to write at once that was folded for a long time, while commits wait for their syncs. So what
//! has been folded is synced here each time.
//!
//! The database has a descriptor of its own for that. Closing it drops the locks that SQLite has on the database, so it is
//! closed when all connections are.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::durability::Durability;
use super::log::{fold_what_can_be, look};
use super::schema;
use crate::store::StoreError;

/// The database's file, to be synced.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    file: File,
}

impl Database {
    /// Opens that of the database in `dir`. It is to be dropped after all connections of this process.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::of(dir.join(schema::FILE))
    }

    fn of(path: PathBuf) -> Result<Self, StoreError> {
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(StoreError::File { path, source }),
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|source| StoreError::Sync {
            path: self.path.clone(),
            source,
        })
    }
}

/// A thread that folds when it is told to, on a connection of its own.
pub(super) struct Folder {
    orders: Option<Sender<()>>,
    results: Receiver<Result<(), StoreError>>,
    is_folding: bool,
    thread: Option<JoinHandle<()>>,
}

impl Folder {
    /// Starts the thread for the database in `dir`, which is open, and whose file is `database`.
    ///
    /// # Errors
    /// When it cannot be opened once more, or no thread started.
    pub(super) fn start(
        dir: &Path,
        database: Arc<Database>,
        durability: Arc<Durability>,
    ) -> Result<Self, StoreError> {
        let db = schema::open_to_fold(dir)?;
        // It has the log open from now on, and so is told of each sync of it that fails.
        look(&db)?;
        let (orders, orders_rx) = channel();
        let (results_tx, results) = channel();
        let thread = std::thread::Builder::new()
            .name("jobq-fold".to_owned())
            .spawn(move || run(&db, &database, &durability, &orders_rx, &results_tx))
            .map_err(|source| StoreError::Directory {
                path: dir.to_owned(),
                source,
            })?;
        Ok(Self {
            orders: Some(orders),
            results,
            is_folding: false,
            thread: Some(thread),
        })
    }

    /// Folds what is in the log now, as far as readers allow, unless that is being done already.
    pub(super) fn begin(&mut self) {
        if !self.is_folding
            && let Some(orders) = &self.orders
        {
            self.is_folding = orders.send(()).is_ok();
        }
    }

    /// Whether it is still at it.
    ///
    /// # Errors
    /// When what was begun last has failed.
    pub(super) fn is_folding(&mut self) -> Result<bool, StoreError> {
        if self.is_folding {
            match self.results.try_recv() {
                Ok(result) => {
                    self.is_folding = false;
                    result?;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(StoreError::Closed),
            }
        }
        Ok(self.is_folding)
    }

    /// Waits until it has done what was begun.
    ///
    /// # Errors
    /// As [`Self::is_folding`].
    pub(super) fn wait(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.is_folding) {
            return self.results.recv().unwrap_or(Err(StoreError::Closed));
        }
        Ok(())
    }
}

impl Drop for Folder {
    /// Waits until its connection is closed: the last one to close cleans up.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that folds the log panicked");
        }
    }
}

fn run(
    db: &Connection,
    database: &Database,
    durability: &Durability,
    orders: &Receiver<()>,
    results: &Sender<Result<(), StoreError>>,
) {
    while orders.recv().is_ok() {
        let folded = if durability.has_ended() {
            Err(StoreError::Closed)
        } else {
            fold_what_can_be(db).and_then(|()| database.sync())
        };
        // Nobody listens if the writer has ended.
        let _ = results.send(folded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fold_that_does_not_reach_the_disk_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Connection::open(dir.path().join(schema::FILE)).expect("it opens");
        db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE x (y)")
            .expect("it is made");
        // What cannot be synced.
        let database = Database::of(PathBuf::from("/dev/null")).expect("it opens");
        let durability = Arc::new(Durability::new(0));
        let mut folder = Folder::start(dir.path(), Arc::new(database), durability).expect("it starts");
        folder.begin();
        let folded = folder.wait();
        assert!(matches!(folded, Err(StoreError::Sync { .. })), "{folded:?}");
    }
}
