//! Asking about jobs and changing them, and what connections say about themselves.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::is_false;
use super::submit::Receipt;
use crate::error::WireError;
use crate::fence::Fence;
use crate::job::Status;

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Beat {
    /// A number of the sender's; the answer repeats it.
    #[serde(default)]
    pub seq: u64,
}

/// The server is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Closing {
    /// How long it waits for settlements, in microseconds.
    pub within: u64,
}

/// Which jobs are there. Without `ids` and `uuids`: a page of those that match all filters given, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Query {
    /// The client's number for this request.
    pub request: u64,
    /// These jobs; those that do not exist are left out of the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<u64>,
    /// The jobs of these uuids; those that do not exist are left out of the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uuids: Vec<Uuid>,
    /// Only jobs in this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Only jobs of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only jobs for this username.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Only jobs that arrived at this time or later, in microseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Only jobs that arrived before this time, in microseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Only jobs whose reason has this text somewhere in it, letter for letter: 1 to 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only jobs before this id: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Most jobs in the answer, 1 to the limit `items`; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What to send beside the jobs' states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Include>,
}

/// What a Query wants beside the jobs' states. One of them at a time: a message holds one item of the greatest length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Include {
    /// The params.
    Params,
    /// The results.
    Result,
    /// The runs that neither completed their job nor gave it back, with their reasons.
    Runs,
    /// Something that this version does not know; counts as absent.
    #[serde(other)]
    Unknown,
}

/// The answer to a Query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    /// The Query's number.
    pub request: u64,
    /// The jobs: in the order asked for, or newest first.
    pub jobs: Vec<JobView>,
    /// There is more: ask again with `before` set to this, or, when asked by ids or uuids, for those that are
    /// missing after the last one sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A job as its users see it. Times are microseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// The server's number for the job.
    pub id: u64,
    /// The submission's identity.
    pub uuid: Uuid,
    /// What kind of work it is.
    pub name: String,
    /// Who it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// `High`, `Normal` or `Low`.
    pub priority: String,
    /// Where it stands.
    pub status: Status,
    /// When it arrived.
    pub created: i64,
    /// From when on it may be, or might have been, handed out.
    pub due: i64,
    /// When its last known run was handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<i64>,
    /// How long its last run ran, in microseconds, as its worker reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<u64>,
    /// How many attempts have ended, the one that completed included.
    pub attempts: u32,
    /// How many it may have.
    pub max_attempts: u32,
    /// How many workers in a row were lost while they ran it.
    #[serde(default)]
    pub charges: u32,
    /// The fence of its current or last known run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// Somebody asked for its run to be cancelled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancelling: bool,
    /// How far its run has come, as its worker reported it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<JobProgress>,
    /// Why its last failed attempt failed, or why it ended as it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ended job that this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<u64>,
    /// How long its params are, in bytes.
    pub params_bytes: u64,
    /// One encoded CBOR item, where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Bytes>,
    /// One encoded CBOR item, where asked for and there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Bytes>,
    /// Its runs that neither completed it nor gave it back, the earliest first, where asked for: the latest of them
    /// where not all fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<EndedRun>,
}

/// How far a job's run has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobProgress {
    /// The part that is done, in millionths: 0 to 1,000,000. Absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    /// What the run is doing, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl JobProgress {
    /// The whole of a job, in the unit of `part`.
    pub const WHOLE: u32 = 1_000_000;

    /// The part that is done, from 0 to 1; none where it is not known.
    pub fn fraction(&self) -> Option<f64> {
        let part = self.part?.min(Self::WHOLE);
        Some(f64::from(part) / f64::from(Self::WHOLE))
    }
}

/// A run that neither completed its job nor gave it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRun {
    /// The run.
    pub fence: Fence,
    /// How it ended: `Failed`, `Lost` (its worker was) or `TimedOut` (the server took it away); may grow.
    pub end: String,
    /// When it ended, in microseconds since 1970 (UTC).
    pub at: i64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Tell when these jobs have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The client's number for this request. It stays in use until all its jobs have been answered, or Unwatch.
    pub request: u64,
    /// The jobs.
    pub ids: Vec<u64>,
    /// How many bytes of results and reasons the client takes with the answers; those beyond it are to be asked
    /// for with a Query.
    #[serde(default)]
    pub bytes: u64,
    /// Tell how far the jobs have come as well, by `Progressed`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub progress: bool,
}

/// How far watched jobs have come: the latest report of each. Reports in between may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progressed {
    /// The Watch's number.
    pub request: u64,
    /// The jobs.
    pub jobs: Vec<ProgressedJob>,
}

/// How far one watched job has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressedJob {
    /// The job.
    pub id: u64,
    /// Which of its attempts this is, from 1.
    pub attempt: u32,
    /// How far it has come.
    pub progress: JobProgress,
}

/// End a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwatch {
    /// The Watch's number.
    pub request: u64,
}

/// Watched jobs that have ended, or do not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The Watch's number.
    pub request: u64,
    /// The jobs.
    pub jobs: Vec<EndedJob>,
}

/// One watched job that has ended, or does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedJob {
    /// The job.
    pub id: u64,
    /// How it ended; absent if there is no such job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why it failed or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One encoded CBOR item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Bytes>,
    /// The result or reason was left out for its size; ask for it with a Query.
    #[serde(default, skip_serializing_if = "is_false")]
    pub omitted: bool,
}

/// Cancel these jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelJobs {
    /// The client's number for this request.
    pub request: u64,
    /// The jobs.
    pub ids: Vec<u64>,
}

/// The answer to a Cancel, after the fsync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// The Cancel's number.
    pub request: u64,
    /// One answer for each job, in the order asked.
    pub jobs: Vec<CancelResult>,
}

/// What became of one cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelResult {
    /// The job.
    pub id: u64,
    /// What became of it.
    pub outcome: CancelOutcome,
}

/// What became of a cancellation. On the wire: a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CancelOutcome {
    /// It had not been handed out, and is cancelled.
    Cancelled,
    /// A worker has it and was told; the job ends cancelled unless it completes first.
    Marked,
    /// It had ended before.
    AlreadyEnded,
    /// There is no such job.
    NotFound,
    /// An outcome that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Submit ended jobs again, each under a uuid derived from the old one's, so that repeating this gives the same
/// jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryJobs {
    /// The client's number for this request.
    pub request: u64,
    /// The ended jobs.
    pub ids: Vec<u64>,
}

/// The answer to a Retry, after the fsync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// The Retry's number.
    pub request: u64,
    /// One receipt for each job, in the order asked.
    pub jobs: Vec<Receipt>,
}

/// How many jobs there are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatsQuery {
    /// The client's number for this request.
    pub request: u64,
}

/// The answer to a Stats.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// The Stats' number.
    pub request: u64,
    /// How long the server has been up, in microseconds.
    pub uptime: u64,
    /// Sessions of workers, those that wait for their connection to come back included.
    pub workers: u64,
    /// Connections.
    pub peers: u64,
    /// Most jobs that may be leased at a time over all workers, where there is a cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_active: Option<u64>,
    /// Jobs taken since the server's start.
    pub submitted: u64,
    /// Runs settled since the server's start.
    pub settled: u64,
    /// Leases that were lost since the server's start.
    pub lost: u64,
    /// The server's disk is full: no job is taken or handed out until there is room.
    #[serde(default, skip_serializing_if = "is_false")]
    pub storage_full: bool,
    /// Each name's jobs, by name. At most [`Stats::MAX_NAMES`] of them.
    pub names: Vec<NameStats>,
    /// There are more names than are listed here.
    #[serde(default, skip_serializing_if = "is_false")]
    pub truncated: bool,
    /// The jobs of all names together.
    pub total: NameStats,
}

impl Stats {
    /// Most names in one answer. 128 names of the greatest length take a good half of the bytes that a frame has
    /// beside its params.
    pub const MAX_NAMES: usize = 128;
}

/// How many jobs of one name there are, by status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NameStats {
    /// The name; empty for all of them.
    pub name: String,
    /// Jobs whose time has not come.
    pub scheduled: u64,
    /// Jobs that wait for a worker.
    pub queued: u64,
    /// Jobs that a worker has.
    pub processing: u64,
    /// Most jobs that workers may have at a time, where the name has a cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u64>,
    /// Jobs that completed, as long as their record is kept.
    pub completed: u64,
    /// Dead letters, as long as their record is kept.
    pub failed: u64,
    /// Jobs that were cancelled, as long as their record is kept.
    pub cancelled: u64,
}

/// A numbered request was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The request's number.
    pub request: u64,
    /// Why.
    pub error: WireError,
}

/// Why the server closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// Why.
    pub error: WireError,
}
