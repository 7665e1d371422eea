//! A job to be submitted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use jobq_proto::job::micros;
use jobq_proto::message::Submission;
use jobq_proto::{Backoff, Priority};
use serde::Serialize;
use uuid::Uuid;

use crate::params::{self, ParamsError};
use crate::uuids;

/// A job to be submitted. Nothing in it is checked before it is; what is wrong with one job of many is that job's
/// error alone.
///
/// ```
/// use jobq_client::{JobRequest, Priority};
///
/// let request = JobRequest::new("thumbnail")
///     .params(&("a/b.png", 640))?
///     .priority(Priority::High)
///     .max_attempts(3);
/// # Ok::<(), jobq_client::ParamsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRequest {
    submission: Submission,
}

impl JobRequest {
    /// A job of a name: 1 to 128 bytes of `[A-Za-z0-9_.-]`. It has no params and a new uuid, greater than those of
    /// earlier jobs of this process.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            submission: Submission::new(uuids::next(), name),
        }
    }

    /// What the job is given, encoded as CBOR.
    ///
    /// # Errors
    /// [`ParamsError::Encode`], when the value's `Serialize` fails.
    pub fn params<T: Serialize + ?Sized>(self, params: &T) -> Result<Self, ParamsError> {
        Ok(self.raw_params(params::encode(params)?))
    }

    /// What the job is given: one encoded CBOR item.
    pub fn raw_params(mut self, item: impl Into<Bytes>) -> Self {
        self.submission.params = Some(item.into());
        self
    }

    /// Who the job is for: 1 to 128 bytes without control characters.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.submission.username = Some(username.into());
        self
    }

    /// How urgent it is; `Normal` by default.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.submission.priority = (priority != Priority::Normal).then(|| priority.as_str().to_owned());
        self
    }

    /// Not before this time: microseconds since 1970 (UTC), up to the year 3000. Not together with
    /// [`JobRequest::delay`].
    pub fn run_at(mut self, micros: i64) -> Self {
        self.submission.run_at = Some(micros);
        self
    }

    /// Not before this time. As [`JobRequest::run_at`].
    pub fn run_at_time(self, time: SystemTime) -> Self {
        self.run_at(unix_micros(time))
    }

    /// Not before this long after its arrival, by the server's clock: up to 365 days.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.submission.delay = Some(micros(delay));
        self
    }

    /// How often it may be tried, at least once; the server's default where not given.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.submission.max_attempts = Some(attempts);
        self
    }

    /// How long one run may take: up to 365 days, and no limit where not given.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.submission.timeout = Some(micros(timeout));
        self
    }

    /// How long it waits after a failure; the server's default where not given.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.submission.backoff = Some(backoff);
        self
    }

    /// The submission's identity: the same uuid twice is one job. Give one of your own to make a submit safe to
    /// repeat beyond this process.
    pub fn uuid(mut self, uuid: Uuid) -> Self {
        self.submission.uuid = uuid;
        self
    }

    /// The submission's identity, as it stands.
    pub fn identity(&self) -> Uuid {
        self.submission.uuid
    }
}

/// Microseconds since 1970 (UTC), as near as the wire can say it.
pub(crate) fn unix_micros(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
    }
}

impl From<JobRequest> for Submission {
    fn from(request: JobRequest) -> Self {
        request.submission
    }
}

impl From<Submission> for JobRequest {
    fn from(submission: Submission) -> Self {
        Self { submission }
    }
}
