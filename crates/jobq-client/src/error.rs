//! What can go wrong, by operation. Each text fits after "failed to submit: " and the like.

use std::time::Duration;

use jobq_proto::{JobId, WireError};
use jobq_transport::{AddressError, TlsError};
use uuid::Uuid;

use crate::params::ParamsError;
use crate::session::SessionError;

/// Why there is no client.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// What the settings for TLS say cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody answers there, or not as a server does, or it refuses.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Why a job has no receipt.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The server refused it: it is not stored. [`jobq_proto::ErrorCode::may_repeat`] says whether repeating can help.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// It was sent, and no answer came: it may be stored or not. Submitting it again under the same uuid is safe
    /// for as long as the server remembers uuids (7 days by default).
    #[error(
        "no answer came; job {uuid} may be stored or not, and submitting it again with that uuid is safe"
    )]
    Unknown {
        /// The job.
        uuid: Uuid,
    },
    /// It could not be sent before its deadline: it is not stored.
    #[error("job {uuid} could not be sent in time; it is not stored")]
    TimedOut {
        /// The job.
        uuid: Uuid,
    },
    /// The session is over for good; what was not sent is not stored.
    #[error(transparent)]
    Session(SessionError),
    /// The client was closed; what was not sent is not stored.
    #[error("the client is closed")]
    Closed,
}

/// Why a question, or a command about jobs, has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The server refused it.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// No answer came in time. It may have been carried out or not; repeating it is safe.
    #[error("no answer came within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The server answered something else than was asked.
    #[error("the server's answer is none to what was asked")]
    Unexpected,
    /// The session is over for good.
    #[error(transparent)]
    Session(SessionError),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// Why there is no backup.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The server could not make it.
    #[error(transparent)]
    Failed(WireError),
    /// The server had it, and has it no longer: it was restarted, or was not asked for it for a while, or its disk got
    /// short of room.
    #[error("the server no longer has its copy ({0})")]
    Lost(WireError),
    /// What was fetched is not what the server announced.
    #[error("what came is not the copy that the server announced: its length or checksum differs")]
    Mismatch,
    /// A question about it has no answer.
    #[error(transparent)]
    Ask(AskError),
}

/// Why the end of a job is not known.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// There is no such job, or its record is no longer kept.
    #[error("there is no job {id}")]
    NotFound {
        /// The job.
        id: JobId,
    },
    /// It has not ended in the time given.
    #[error("job {id} has not ended within {} s", within.as_secs_f32())]
    TimedOut {
        /// The job.
        id: JobId,
        /// The time given.
        within: Duration,
    },
    /// The server refused to watch it.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// It has ended, and its result could not be fetched.
    #[error("job {id} has ended, and its result could not be fetched: {source}")]
    Fetch {
        /// The job.
        id: JobId,
        /// Why.
        source: AskError,
    },
    /// The session is over for good.
    #[error(transparent)]
    Session(SessionError),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// Why there is no result.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// The job is a dead letter.
    #[error("job {id} failed: {reason}")]
    Failed {
        /// The job.
        id: JobId,
        /// Why its last attempt failed.
        reason: String,
    },
    /// The job was cancelled.
    #[error("job {id} was cancelled{}", reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default())]
    Cancelled {
        /// The job.
        id: JobId,
        /// Why, where somebody said.
        reason: Option<String>,
    },
    /// The job completed, and its result is not of the type asked for.
    #[error("the result of job {id}: {source}")]
    Decode {
        /// The job.
        id: JobId,
        /// What does not fit.
        source: ParamsError,
    },
    /// The end of the job is not known.
    #[error(transparent)]
    Wait(#[from] WaitError),
}
