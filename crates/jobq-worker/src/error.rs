//! What can go wrong: with one job, and with the worker as a whole.

use std::fmt;
use std::time::Duration;

use jobq_proto::limits::MAX_REASON;

/// Why a job failed, and whether it is to be tried again.
///
/// Any error turns into one with `?`, and the job is then tried again after its backoff, as long as it has attempts
/// left. For that reason this type is not an [`std::error::Error`] itself.
///
/// ```
/// use jobq_worker::JobError;
/// fn parse(text: &str) -> Result<u32, JobError> {
///     if text.is_empty() {
///         return Err(JobError::never("there is nothing to parse"));
///     }
///     Ok(text.parse()?)
/// }
/// # assert!(parse("x").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    reason: String,
    retry: Retry,
    cause: Cause,
}

/// Whether a failed job is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// After its backoff, if it has attempts left.
    Backoff,
    /// After this long, if it has attempts left.
    After(Duration),
    /// Never: it is a dead letter now.
    Never,
}

/// What made a run fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Its handler returned an error, or what it was given or returned is of no use.
    Error,
    /// Its handler panicked.
    Panic,
    /// It ran for longer than it may.
    TimedOut,
    /// Somebody cancelled the job.
    Cancelled,
}

impl JobError {
    /// Most errors of a chain that a reason tells, so that a chain that bites its tail has an end.
    const MAX_CAUSES: usize = 16;

    /// A failure that may pass: the job is tried again after its backoff.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::new(reason.into(), Retry::Backoff)
    }

    /// A failure that will not pass: the job is not tried again.
    pub fn never(reason: impl Into<String>) -> Self {
        Self::new(reason.into(), Retry::Never)
    }

    /// A failure of which it is known when it may have passed: the job is tried again after `wait`, at most 365
    /// days. It counts as an attempt.
    pub fn after(wait: Duration, reason: impl Into<String>) -> Self {
        Self::new(reason.into(), Retry::After(wait))
    }

    /// Why, for people; at most 4 KiB.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the job is tried again.
    pub fn retries(&self) -> Retry {
        self.retry
    }

    /// What made the run fail; [`Cause::Error`] for every error that a handler returns.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    pub(crate) fn caused_by(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }

    fn new(reason: String, retry: Retry) -> Self {
        let cause = Cause::Error;
        let mut error = Self { reason, retry, cause };
        error.cut(MAX_REASON);
        error
    }

    /// Cuts the reason to at most `limit` bytes, between two characters.
    pub(crate) fn cut(&mut self, limit: usize) {
        let end = self.reason.floor_char_boundary(limit);
        self.reason.truncate(end);
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl<E: std::error::Error> From<E> for JobError {
    /// A failure that may pass; the reason is the error and what caused it.
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        for _ in 0..Self::MAX_CAUSES {
            let Some(error) = cause else { break };
            // Many errors repeat their cause in their own text.
            let text = error.to_string();
            if !reason.ends_with(&text) {
                reason.push_str(": ");
                reason.push_str(&text);
            }
            cause = error.source();
        }
        Self::retry(reason)
    }
}
