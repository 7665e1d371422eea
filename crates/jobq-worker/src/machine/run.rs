//! One run, from its order to its settlement.

use std::time::Duration;

use bytes::Bytes;
use jobq_client::BootTime;
use jobq_proto::job::micros;
use jobq_proto::message::{CompletedRun, FailedRun, HeldRun, OrderedJob, RunRef, RunState};
use jobq_proto::{Fence, JobId, Limits};

use crate::error::{Cause, JobError, Retry};

/// What a run is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunId {
    /// The job.
    pub job: JobId,
    /// The right to report on this run.
    pub fence: Fence,
    /// Which attempt of the job it is, from 1.
    pub attempt: u32,
    /// The job's name, as its place in [`Config::names`](super::Config::names).
    pub name: usize,
}

/// How a handler ended.
#[derive(Debug)]
pub enum End {
    /// It returned a result: one encoded CBOR item, or none.
    Completed(Option<Bytes>),
    /// It returned an error, or panicked.
    Failed(JobError),
    /// It never returned: it was dropped where it stood, or never called.
    Dropped,
}

/// Why a running handler was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody cancelled the job.
    Cancelled,
    /// It ran longer than it may.
    TimedOut(Duration),
    /// The worker gives it back: it shuts down, or has not heard from the server for too long.
    GiveBack,
}

/// A run that this worker holds.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) state: State,
    /// The size of its report while that is on its way, in bytes.
    pub(super) under_way: usize,
}

#[derive(Debug)]
pub(super) enum State {
    /// Its handler has not been called.
    Waiting(Box<OrderedJob>),
    /// Its handler runs.
    Running {
        stop: Option<Stop>,
        /// When it times out or, after a stop, when its grace is over. Equal to its entry among the timers.
        due: Option<BootTime>,
        timeout: Option<Duration>,
        since: BootTime,
    },
    /// It is over for the worker, and the server has not said that it knows.
    Ended(Report),
}

/// How a run ended, as the server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    Completed {
        ran: Duration,
        result: Option<Bytes>,
    },
    Failed {
        ran: Duration,
        error: JobError,
    },
    Released,
    /// Told as released, in case that the server still takes it for ours.
    Lost,
}

impl Run {
    pub(super) fn new(id: RunId, state: State) -> Self {
        Self {
            id,
            state,
            under_way: 0,
        }
    }

    pub(super) fn reference(&self) -> RunRef {
        RunRef {
            id: self.id.job.0,
            fence: self.id.fence,
        }
    }

    pub(super) fn held(&self) -> HeldRun {
        HeldRun {
            id: self.id.job.0,
            fence: self.id.fence,
            state: match self.state {
                State::Waiting(_) => RunState::Waiting,
                State::Running { .. } => RunState::Running,
                State::Ended(_) => RunState::Ended,
            },
        }
    }

    pub(super) fn started(&self) -> Option<RunRef> {
        matches!(self.state, State::Running { .. }).then(|| self.reference())
    }

    pub(super) fn completed(&self) -> Option<CompletedRun> {
        let State::Ended(Report::Completed { ran, result }) = &self.state else {
            return None;
        };
        Some(CompletedRun {
            id: self.id.job.0,
            fence: self.id.fence,
            ran: micros(*ran),
            result: result.clone(),
        })
    }

    pub(super) fn failed(&self) -> Option<FailedRun> {
        let State::Ended(Report::Failed { ran, error }) = &self.state else {
            return None;
        };
        Some(FailedRun {
            id: self.id.job.0,
            fence: self.id.fence,
            ran: micros(*ran),
            reason: error.reason().to_owned(),
            never: error.retries() == Retry::Never,
            after: match error.retries() {
                Retry::After(wait) => Some(micros(wait)),
                Retry::Backoff | Retry::Never => None,
            },
        })
    }

    pub(super) fn released(&self) -> Option<RunRef> {
        matches!(self.state, State::Ended(Report::Released | Report::Lost)).then(|| self.reference())
    }
}

/// Which message carries a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReportKind {
    Completed,
    Failed,
    Released,
}

impl Report {
    pub(super) fn kind(&self) -> ReportKind {
        match self {
            Self::Completed { .. } => ReportKind::Completed,
            Self::Failed { .. } => ReportKind::Failed,
            Self::Released | Self::Lost => ReportKind::Released,
        }
    }

    /// What the server is told when a handler has ended, after it was told to stop or not.
    ///
    /// A handler that completed has done the work, whatever it was told meanwhile; only a time-out is final. An
    /// error after a stop is taken for the stop's doing.
    pub(super) fn of(end: End, ran: Duration, stop: Option<Stop>) -> Self {
        match (stop, end) {
            (Some(Stop::TimedOut(limit)), End::Failed(error)) => {
                let reason = format!("timed out after {limit:?}: {}", error.reason());
                Self::failed(ran, Cause::TimedOut, reason)
            }
            (Some(Stop::TimedOut(limit)), _) => {
                Self::failed(ran, Cause::TimedOut, format!("timed out after {limit:?}"))
            }
            (_, End::Completed(result)) => Self::Completed { ran, result },
            (None, End::Failed(error)) => Self::Failed { ran, error },
            (Some(Stop::Cancelled), End::Failed(error)) => {
                Self::failed(ran, Cause::Cancelled, format!("cancelled: {}", error.reason()))
            }
            (Some(Stop::Cancelled), End::Dropped) => Self::failed(ran, Cause::Cancelled, "cancelled"),
            (Some(Stop::GiveBack), _) | (None, End::Dropped) => Self::Released,
        }
    }

    fn failed(ran: Duration, cause: Cause, reason: impl Into<String>) -> Self {
        let error = JobError::retry(reason).caused_by(cause);
        Self::Failed { ran, error }
    }

    /// Makes the report fit what the server takes: a result that is too large is a failure, without another try,
    /// since the next result would be as large; a long reason is cut.
    pub(super) fn fit(&mut self, limits: &Limits) {
        if let Self::Completed {
            ran,
            result: Some(result),
        } = self
            && result.len() as u64 > limits.result
        {
            let reason = format!(
                "result_too_large: the result has {} bytes, and the limit is {}",
                result.len(),
                limits.result
            );
            *self = Self::Failed {
                ran: *ran,
                error: JobError::never(reason),
            };
        }
        if let Self::Failed { error, .. } = self {
            error.cut(usize::try_from(limits.reason).unwrap_or(usize::MAX));
        }
    }
}
