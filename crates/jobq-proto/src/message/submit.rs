//! Submitting jobs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::is_false;
use crate::backoff::Backoff;
use crate::error::WireError;

/// Jobs to be kept and run. Not a transaction: each job is taken or refused by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The client's number for this request; its answer has the same. Unique among the unanswered ones of a
    /// connection.
    pub request: u64,
    /// The jobs, at least one.
    pub jobs: Vec<Submission>,
}

/// One job of a Request, unchecked. [`crate::NewJob::check`] makes a checked one of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The submission's identity: 16 bytes. The same uuid twice is one job. Version 7 is best, since the store
    /// keeps uuids in order.
    pub uuid: Uuid,
    /// What kind of work it is.
    pub name: String,
    /// One encoded CBOR item, as a byte string. Absent for none, which is the item `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Bytes>,
    /// Who the job is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// `High`, `Normal` (where absent) or `Low`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Not before this time by the server's calendar: microseconds since 1970 (UTC). Not together with `delay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<i64>,
    /// Not before this long after its arrival, in microseconds, however the server's calendar is set meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<u64>,
    /// How often it may be tried, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How long one run may take, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// How long it waits after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

impl Submission {
    /// A job of this name, for which nothing else is asked.
    pub fn new(uuid: Uuid, name: impl Into<String>) -> Self {
        Self {
            uuid,
            name: name.into(),
            params: None,
            username: None,
            priority: None,
            run_at: None,
            delay: None,
            max_attempts: None,
            timeout: None,
            backoff: None,
        }
    }
}

/// The answer to a Request, after the fsync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The Request's number.
    pub request: u64,
    /// One receipt for each job, in the order of the Request.
    pub jobs: Vec<Receipt>,
}

/// What became of one submitted job: an id, which means that it is on disk, or an error.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// The job's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The uuid was known: the id is that of the job submitted earlier.
    #[serde(default, skip_serializing_if = "is_false")]
    pub existing: bool,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WireError>,
}

impl Receipt {
    /// A job that is on disk; `existing` if it was there before.
    pub fn stored(id: u64, existing: bool) -> Self {
        Self {
            id: Some(id),
            existing,
            error: None,
        }
    }

    /// A job that was refused.
    pub fn refused(error: WireError) -> Self {
        Self {
            id: None,
            existing: false,
            error: Some(error),
        }
    }
}
