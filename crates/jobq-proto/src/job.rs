//! What a job is: its checked types, and the way from the wire to them.

use std::borrow::Borrow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::error::{ErrorCode, WireError};
use crate::limits::{Limits, MAX_NAME};
use crate::message::Submission;

/// The server's number for a job; it rises in order of arrival, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of work a job is, and so which queue it waits in: 1 to 128 bytes of `[A-Za-z0-9_.-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobName(String);

impl JobName {
    /// Whether `name` can be a job's name. Usable in constants, so that a wrong name need not compile.
    pub const fn is_valid(name: &str) -> bool {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() > MAX_NAME {
            return false;
        }
        let mut i = 0;
        while i < bytes.len() {
            if !matches!(bytes[i], b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-') {
                return false;
            }
            i += 1;
        }
        true
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobName {
    type Error = WireError;

    fn try_from(name: String) -> Result<Self, WireError> {
        if Self::is_valid(&name) {
            return Ok(Self(name));
        }
        let shown: String = name.chars().take(40).collect();
        Err(WireError::new(
            ErrorCode::BadName,
            format!(
                "the name {shown:?} is not 1 to {MAX_NAME} characters of A-Z, a-z, 0-9, '_', '.' and '-'"
            ),
        ))
    }
}

impl FromStr for JobName {
    type Err = WireError;

    fn from_str(name: &str) -> Result<Self, WireError> {
        Self::try_from(name.to_owned())
    }
}

impl From<JobName> for String {
    fn from(name: JobName) -> Self {
        name.0
    }
}

impl Borrow<str> for JobName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who a job is for: 1 to 128 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(String);

impl Username {
    /// The username as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Username {
    type Error = WireError;

    fn try_from(name: String) -> Result<Self, WireError> {
        if !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control) {
            return Ok(Self(name));
        }
        Err(WireError::new(
            ErrorCode::BadUsername,
            format!(
                "a username has 1 to {MAX_NAME} bytes and no control characters; this one has {}",
                name.len()
            ),
        ))
    }
}

impl FromStr for Username {
    type Err = WireError;

    fn from_str(name: &str) -> Result<Self, WireError> {
        Self::try_from(name.to_owned())
    }
}

impl From<Username> for String {
    fn from(name: Username) -> Self {
        name.0
    }
}

/// How urgent a job is. A job of a higher priority is handed out before all of a lower one in the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Before everything else.
    High,
    /// The default.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

impl Priority {
    /// All priorities, the most urgent first.
    pub const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

    /// The priority as it stands on the wire and in the database's views.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::High => "High",
            Priority::Normal => "Normal",
            Priority::Low => "Low",
        }
    }
}

impl FromStr for Priority {
    type Err = WireError;

    /// Reads a priority in any case.
    fn from_str(text: &str) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|p| p.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                WireError::new(
                    ErrorCode::BadPriority,
                    format!("the priority {shown:?} is not High, Normal or Low"),
                )
            })
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a job stands. `Completed`, `Failed` and `Cancelled` are terminal and final.
///
/// On the wire: a text. A status that a peer does not know reads as [`Status::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Status {
    /// Its time has not come; retries included.
    Scheduled,
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Processing,
    /// It ran and has its result.
    Completed,
    /// It is a dead letter: out of attempts, or told never to be tried again.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// A status that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Status {
    /// All statuses that this version can send, in the order of a job's life.
    pub const ALL: [Status; 6] = [
        Status::Scheduled,
        Status::Queued,
        Status::Processing,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
    ];

    /// Whether a job in this status has ended for good.
    pub fn is_terminal(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }

    /// The status as it stands on the wire and in the database's views.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Scheduled => "Scheduled",
            Status::Queued => "Queued",
            Status::Processing => "Processing",
            Status::Completed => "Completed",
            Status::Failed => "Failed",
            Status::Cancelled => "Cancelled",
            Status::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = WireError;

    /// Reads a status in any case.
    fn from_str(text: &str) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                WireError::new(
                    ErrorCode::BadRequest,
                    format!(
                        "the status {text:?} is not one of {}",
                        Self::ALL.map(Status::as_str).join(", ")
                    ),
                )
            })
    }
}

/// When a job may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StartAt {
    /// As soon as a worker is free.
    #[default]
    Arrival,
    /// Not before this time, in microseconds since 1970 (UTC).
    Time(i64),
    /// Not before this long after its arrival, by the server's clock.
    After(Duration),
}

/// A job that somebody asks for, checked: everything in it is within its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The submission's identity, chosen by the client.
    pub uuid: Uuid,
    /// What kind of work it is.
    pub name: JobName,
    /// One encoded CBOR item, never looked into.
    pub params: Bytes,
    /// Who it is for.
    pub username: Option<Username>,
    /// How urgent it is.
    pub priority: Priority,
    /// When it may start.
    pub start: StartAt,
    /// How often it may be tried; the server's default where absent.
    pub max_attempts: Option<NonZeroU32>,
    /// How long one run may take; no limit where absent.
    pub timeout: Option<Duration>,
    /// How long it waits after a failure; the server's default where absent.
    pub backoff: Option<Backoff>,
}

impl NewJob {
    /// Most attempts that a job may ask for.
    pub const MAX_ATTEMPTS: u32 = 10_000;

    /// Longest time-out and delay: 365 days.
    pub const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

    /// Earliest and latest `run_at`, in microseconds since 1970: 1970 to the year 3000.
    pub const RUN_AT: std::ops::RangeInclusive<i64> = 0..=32_503_680_000_000_000;

    /// Params of a job that has none: the CBOR item `null`.
    pub const NO_PARAMS: &'static [u8] = &[0xf6];

    /// Checks one submission.
    ///
    /// # Errors
    /// `bad_name`, `bad_username`, `bad_priority`, `bad_time`, `bad_retry_policy` or `params_too_large`, with a
    /// message that says what was expected. They concern this job alone.
    pub fn check(wire: Submission, limits: &Limits) -> Result<Self, WireError> {
        let name = JobName::try_from(wire.name)?;
        let params = wire.params.unwrap_or(Bytes::from_static(Self::NO_PARAMS));
        if params.len() as u64 > limits.params {
            return Err(WireError::new(
                ErrorCode::ParamsTooLarge,
                format!(
                    "the params have {} bytes, and the limit is {}",
                    params.len(),
                    limits.params
                ),
            ));
        }
        Ok(Self {
            uuid: wire.uuid,
            name,
            params,
            username: wire.username.map(Username::try_from).transpose()?,
            priority: wire.priority.map_or(Ok(Priority::Normal), |p| p.parse())?,
            start: start_at(wire.run_at, wire.delay)?,
            max_attempts: wire.max_attempts.map(max_attempts).transpose()?,
            timeout: wire.timeout.map(timeout).transpose()?,
            backoff: wire.backoff.map(backoff).transpose()?,
        })
    }
}

impl From<NewJob> for Submission {
    fn from(job: NewJob) -> Self {
        let (run_at, delay) = match job.start {
            StartAt::Arrival => (None, None),
            StartAt::Time(at) => (Some(at), None),
            StartAt::After(delay) => (None, Some(micros(delay))),
        };
        Submission {
            uuid: job.uuid,
            name: job.name.into(),
            params: Some(job.params),
            username: job.username.map(String::from),
            priority: (job.priority != Priority::Normal).then(|| job.priority.as_str().to_owned()),
            run_at,
            delay,
            max_attempts: job.max_attempts.map(NonZeroU32::get),
            timeout: job.timeout.map(micros),
            backoff: job.backoff,
        }
    }
}

fn start_at(run_at: Option<i64>, delay: Option<u64>) -> Result<StartAt, WireError> {
    match (run_at, delay) {
        (None, None) => Ok(StartAt::Arrival),
        (Some(at), None) if NewJob::RUN_AT.contains(&at) => Ok(StartAt::Time(at)),
        (None, Some(delay)) if delay <= micros(NewJob::MAX_DURATION) => {
            Ok(StartAt::After(Duration::from_micros(delay)))
        }
        (Some(_), Some(_)) => Err(WireError::new(
            ErrorCode::BadTime,
            "run_at and delay are both given; give one of them",
        )),
        (Some(at), None) => Err(WireError::new(
            ErrorCode::BadTime,
            format!("run_at is {at}; it is microseconds since 1970, up to the year 3000"),
        )),
        (None, Some(_)) => Err(WireError::new(
            ErrorCode::BadTime,
            "the delay is longer than 365 days",
        )),
    }
}

fn max_attempts(attempts: u32) -> Result<NonZeroU32, WireError> {
    NonZeroU32::new(attempts)
        .filter(|n| n.get() <= NewJob::MAX_ATTEMPTS)
        .ok_or_else(|| {
            bad_retry(&format!(
                "max_attempts is {attempts}; it is 1 to {}",
                NewJob::MAX_ATTEMPTS
            ))
        })
}

fn timeout(micros_: u64) -> Result<Duration, WireError> {
    let timeout = Duration::from_micros(micros_);
    if timeout.is_zero() || timeout > NewJob::MAX_DURATION {
        return Err(bad_retry("the timeout is 0 or over 365 days"));
    }
    Ok(timeout)
}

fn backoff(backoff: Backoff) -> Result<Backoff, WireError> {
    let fits = backoff.exponent <= Backoff::MAX_EXPONENT
        && backoff.base <= Backoff::MAX_WAIT
        && backoff.max <= Backoff::MAX_WAIT;
    fits.then_some(backoff)
        .ok_or_else(|| bad_retry("the backoff's exponent is over 10, or its base or max is over 365 days"))
}

fn bad_retry(message: &str) -> WireError {
    WireError::new(ErrorCode::BadRetryPolicy, message)
}

/// A duration in whole microseconds, as the wire has it; the longest that fits where it is longer.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
