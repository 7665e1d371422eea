//! Where jobs are kept: the trait that every store implements, and the stores.
//!
//! A store has two sides. The writer takes [`Batch`]es, in order, and says of each when it is durable. Readers
//! answer [`Read`]s from what is durable, beside it. The rules are divided: that a uuid is one job is the store's
//! to enforce and comes back as an [`InsertOutcome`]; order, limits and time are the machine's, and a store does
//! what a batch says without looking for a reason.

mod backup;
mod batch;
mod budget;
mod error;
mod event;
pub mod memory;
mod prune;
mod read;
pub mod sqlite;

use std::future::Future;

use jobq_proto::JobId;
use uuid::Uuid;

pub use backup::{BackupFailure, BackupFailureKind, BackupFile, BackupOrder, BackupReport, BackupState};
pub use batch::{
    Batch, Change, Ended, InsertOutcome, JobRecord, Leased, Policy, Requeued, RunEnd, SessionId,
    SessionRecord, Stored,
};
pub use error::StoreError;
pub use event::{Space, StoreEvent};
pub use memory::{MemoryDisk, MemoryReader, MemoryStore};
pub use prune::{ByEnd, Count, Prune, Pruned};
pub use read::{
    Answer, Filter, JobState, Lease, LiveJob, NameTotals, Query, Read, ReadAnswer, Recovered, RunStatus,
    Select,
};
pub use sqlite::{
    CheckProgress, CheckReport, RestoreError, SqliteSettings, SqliteStore, check, check_backup, restore,
};

use crate::time::Wall;

/// Keeps jobs.
///
/// Contract: the numbers of the batches handed to [`Store::commit`] rise by one from `recovered().last_batch + 1`.
/// Each batch is applied whole and in order, or not at all, and [`Store::recv`] reports them in that order, once
/// they survive a loss of power (as far as the store's kind goes). A store without room leaves the jobs of a batch
/// out, says so in their [`InsertOutcome`]s, and keeps the rest until it finds room for it.
pub trait Store: Send {
    /// Answers questions, on other connections.
    type Reader: StoreReader + Clone + Send + Sync + 'static;

    /// What was found at the start. The epoch in it has been raised already, durably.
    fn recovered(&self) -> &Recovered;

    /// A page of the live jobs with ids greater than `after`, by id. For the start, before the first commit.
    ///
    /// # Errors
    /// When the store cannot be read, or holds what it cannot hold.
    fn live(&mut self, after: JobId, limit: usize) -> Result<Vec<LiveJob>, StoreError>;

    /// A handle for reading.
    fn reader(&self) -> Self::Reader;

    /// Queues a batch; never waits. The caller bounds how many are under way.
    fn commit(&mut self, batch: Batch);

    /// Removes some of the records that are to go: as many as keep no commit waiting for more than a few milliseconds.
    /// Queues, never waits; [`StoreEvent::Pruned`] says what was done and whether there is more. One at a time.
    ///
    /// With a record go its job, its uuid and its history: as if there had never been such a job.
    fn prune(&mut self, prune: Prune);

    /// Makes a copy of the store, or gives one up. Queues, never waits: a copy is made in steps between commits, of
    /// which none waits for more than one step. [`StoreEvent::Backup`] says how far it is, and how that ended; nothing
    /// is said of a copy that was given up.
    fn back_up(&mut self, order: BackupOrder);

    /// Waits until the oldest unreported batch is durable, some records have gone, a copy has come on, or there is more
    /// room or less. Cancel-safe.
    ///
    /// # Errors
    /// The batch and all after it are in doubt: they may or may not be found at the next start. The store takes
    /// nothing more.
    fn recv(&mut self) -> impl Future<Output = Result<StoreEvent, StoreError>> + Send;

    /// Finishes what was handed over, folds the log into the database, and closes it.
    ///
    /// # Errors
    /// When that could not be done; what was reported by [`Store::recv`] is durable nevertheless.
    fn close(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Answers questions from what is durable.
pub trait StoreReader {
    /// Answers one question. A read that begins after [`Store::recv`] reported a batch sees that batch.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn read(&self, read: Read) -> impl Future<Output = Result<ReadAnswer, StoreError>> + Send;
}

/// What a new store needs from outside, since stores make no randomness and read no clock of their own.
#[derive(Debug, Clone, Copy)]
pub struct Birth {
    /// The identity of a store that is made new.
    pub identity: Uuid,
    /// The time of its making.
    pub now: Wall,
}
