//! What happened to jobs, to be made durable together.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::{Backoff, Fence, JobId, JobName, Priority, Status, Username};
use uuid::Uuid;

use crate::time::Wall;

/// A job as it was asked for. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// The server's number for it.
    pub id: JobId,
    /// The submission's identity.
    pub uuid: Uuid,
    /// What kind of work it is.
    pub name: Arc<JobName>,
    /// Who it is for.
    pub username: Option<Username>,
    /// How urgent it is.
    pub priority: Priority,
    /// What the handler gets: one encoded CBOR item.
    pub params: Bytes,
    /// How often, how long, how soon again.
    pub policy: Policy,
    /// When it arrived.
    pub created: Wall,
    /// The ended job that it repeats.
    pub retry_of: Option<JobId>,
}

/// How often a job may be tried, how long a run may take, and how soon it is tried again. What is absent is the
/// server's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// How often it may be tried.
    pub max_attempts: Option<NonZeroU32>,
    /// How long one run may take; no limit where absent.
    pub timeout: Option<Duration>,
    /// How long it waits after a failure.
    pub backoff: Option<Backoff>,
}

/// A worker's session, by the server's number for it. Numbers are never used twice in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What the store keeps of a worker's session, so that its runs can go on after a restart of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The session.
    pub id: SessionId,
    /// What its worker calls itself.
    pub label: String,
    /// SHA-256 of its secret and of whose session it is: nobody else can go on with it, the secret in hand or not.
    pub secret_hash: [u8; 32],
    /// The names that it works on.
    pub names: Vec<Arc<JobName>>,
    /// How long it may be silent.
    pub ttl: Duration,
}

/// Changes that become durable together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Rises by one with each batch, over all lives of the store.
    pub number: u64,
    /// The id that the next job will get, once this batch is durable.
    pub next_id: JobId,
    /// The latest time of arrival so far; the server's clock does not start before it.
    pub clock: Wall,
    /// What happened, in order.
    pub changes: Vec<Change>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A job arrived. If its uuid is known, nothing changes; [`InsertOutcome`] says which it was.
    Insert {
        /// The job.
        record: Arc<JobRecord>,
        /// From when on it may run.
        due: Wall,
    },
    /// A job arrived that is not taken. Nothing changes; [`InsertOutcome`] says whether its uuid is known.
    Find {
        /// The job, without an id of its own.
        record: Arc<JobRecord>,
    },
    /// A run was handed out, or was reported to have started.
    Leased(Leased),
    /// A run ended, and the job waits again.
    Requeued(Requeued),
    /// A job ended for good.
    Ended(Ended),
    /// Somebody asked for the job's run to be cancelled.
    CancelMarked {
        /// The job, which is live.
        id: JobId,
    },
    /// A worker's session began.
    SessionOpened(SessionRecord),
    /// A worker's session is over.
    SessionClosed {
        /// The session.
        id: SessionId,
    },
}

/// A run is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leased {
    /// The job, which is live.
    pub id: JobId,
    /// The run.
    pub fence: Fence,
    /// Whose run it is.
    pub session: SessionId,
    /// Whether its handler has been called.
    pub started: bool,
    /// When it was handed out.
    pub at: Wall,
}

/// A run ended, and the job waits again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requeued {
    /// The job, which is live.
    pub id: JobId,
    /// The run that ended: the job's floor from now on.
    pub fence: Fence,
    /// How it ended. [`RunEnd::Completed`] does not occur here.
    pub end: RunEnd,
    /// From when on the job may run again.
    pub due: Wall,
    /// Attempts so far.
    pub attempts: u32,
    /// Workers lost in a row.
    pub charges: u32,
    /// Why the run failed; it stands in the job's history, with the time.
    pub reason: Option<String>,
    /// When the run ended.
    pub at: Wall,
}

/// A job ended for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The job, which is live.
    pub id: JobId,
    /// Its name, whose totals count it.
    pub name: Arc<JobName>,
    /// `Completed`, `Failed` or `Cancelled`.
    pub status: Status,
    /// Its last run and how that ended; none if it was cancelled while it waited.
    pub run: Option<(Fence, RunEnd)>,
    /// When its last run was handed out.
    pub started: Option<Wall>,
    /// How long its last run ran, as its worker reported it.
    pub ran: Option<Duration>,
    /// Attempts that ended, this one included.
    pub attempts: u32,
    /// Workers lost in a row.
    pub charges: u32,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
    /// What it gave: one encoded CBOR item.
    pub result: Option<Bytes>,
    /// When it ended.
    pub at: Wall,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// Its worker reported `Completed`.
    Completed,
    /// Its worker reported `Failed`.
    Failed,
    /// Its worker gave it back.
    Released,
    /// Its worker's session was lost, or did not know the run any more.
    Lost,
    /// The server took it away since its time was over.
    TimedOut,
}

impl RunEnd {
    /// All ways to end.
    pub const ALL: [RunEnd; 5] = [
        RunEnd::Completed,
        RunEnd::Failed,
        RunEnd::Released,
        RunEnd::Lost,
        RunEnd::TimedOut,
    ];

    /// Whether the run stands in its job's history: it neither completed the job nor gave it back.
    pub fn is_history(self) -> bool {
        matches!(self, RunEnd::Failed | RunEnd::Lost | RunEnd::TimedOut)
    }

    /// The way as it stands in the database's views.
    pub fn as_str(self) -> &'static str {
        match self {
            RunEnd::Completed => "Completed",
            RunEnd::Failed => "Failed",
            RunEnd::Released => "Released",
            RunEnd::Lost => "Lost",
            RunEnd::TimedOut => "TimedOut",
        }
    }
}

/// A batch is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Which batch.
    pub number: u64,
    /// What became of its [`Change::Insert`]s and [`Change::Find`]s, in order.
    pub inserts: Vec<InsertOutcome>,
}

/// What became of an inserted job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertOutcome {
    /// It is there now.
    Inserted,
    /// Its uuid, name and params are those of this earlier job, live or ended.
    Existing(JobId),
    /// Its uuid is that of this earlier job, but its name or params are not.
    Conflict(JobId),
    /// It is not there, since the store has no room for it, or since it was not to be inserted.
    NoRoom,
}
