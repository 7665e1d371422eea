//! Folding the log into the database beside the writer.
//!
//! SQLite lets one connection fold while another commits. What is committed meanwhile stays in the log, so the writer
//! folds the rest itself, which is little and takes a moment only.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::durability::Durability;
use super::log::{fold_what_can_be, look};
use super::schema;
use crate::store::StoreError;

/// A thread that folds when it is told to, on a connection of its own.
pub(super) struct Folder {
    orders: Option<Sender<()>>,
    results: Receiver<Result<(), StoreError>>,
    is_folding: bool,
    thread: Option<JoinHandle<()>>,
}

impl Folder {
    /// Starts the thread for the database in `dir`, which is open.
    ///
    /// # Errors
    /// When it cannot be opened once more, or no thread started.
    pub(super) fn start(dir: &Path, durability: Arc<Durability>) -> Result<Self, StoreError> {
        let db = schema::open_to_fold(dir)?;
        // It has the log open from now on, and so is told of each sync of it that fails.
        look(&db)?;
        let (orders, orders_rx) = channel();
        let (results_tx, results) = channel();
        let thread = std::thread::Builder::new()
            .name("jobq-fold".to_owned())
            .spawn(move || run(&db, &durability, &orders_rx, &results_tx))
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
    durability: &Durability,
    orders: &Receiver<()>,
    results: &Sender<Result<(), StoreError>>,
) {
    while orders.recv().is_ok() {
        let folded = if durability.has_ended() {
            Err(StoreError::Closed)
        } else {
            fold_what_can_be(db)
        };
        // Nobody listens if the writer has ended.
        let _ = results.send(folded);
    }
}
