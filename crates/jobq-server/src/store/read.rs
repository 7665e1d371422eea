//! Questions to a store, and what it holds at the start.

use std::sync::Arc;
use std::time::Duration;

use jobq_proto::message::JobView;
use jobq_proto::{Fence, JobId, JobName, Priority, Status, Username};
use uuid::Uuid;

use super::batch::{JobRecord, Policy, RunEnd, SessionId, SessionRecord};
use crate::access::NamePatterns;
use crate::time::Wall;

/// What a store holds at the start, live jobs apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The identity of the store, made when the store was.
    pub identity: Uuid,
    /// This life's epoch: one more than any before, durable already.
    pub epoch: u64,
    /// The number of the last batch that was applied; 0 for none.
    pub last_batch: u64,
    /// The id that the next job gets; from 1.
    pub next_id: JobId,
    /// The latest time of arrival.
    pub clock: Wall,
    /// All names there are, with the jobs of each that have ended.
    pub names: Vec<NameTotals>,
    /// Sessions of workers that had not ended.
    pub sessions: Vec<SessionRecord>,
}

/// A name's jobs that have ended and whose records are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTotals {
    /// The name.
    pub name: Arc<JobName>,
    /// How many completed.
    pub completed: u64,
    /// How many are dead letters.
    pub failed: u64,
    /// How many were cancelled.
    pub cancelled: u64,
}

impl NameTotals {
    /// No jobs of a name.
    pub fn none(name: Arc<JobName>) -> Self {
        Self {
            name,
            completed: 0,
            failed: 0,
            cancelled: 0,
        }
    }

    /// How many ended in this status, which is terminal.
    pub fn of_mut(&mut self, status: Status) -> &mut u64 {
        match status {
            Status::Completed => &mut self.completed,
            Status::Failed => &mut self.failed,
            _ => &mut self.cancelled,
        }
    }
}

/// A live job as the start needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveJob {
    /// The job.
    pub id: JobId,
    /// What kind of work it is.
    pub name: Arc<JobName>,
    /// How urgent it is.
    pub priority: Priority,
    /// When it arrived, by the server's clock.
    pub created: Wall,
    /// From when on it may run; the same as `created` if it may at once.
    pub due: Wall,
    /// The length of its params, in bytes.
    pub params_bytes: u64,
    /// Attempts so far.
    pub attempts: u32,
    /// Workers lost in a row.
    pub charges: u32,
    /// Whether its run is to be cancelled.
    pub cancelling: bool,
    /// Its recorded run, if one is under way.
    pub lease: Option<Lease>,
}

/// A recorded run that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub fence: Fence,
    /// Whose it is.
    pub session: SessionId,
    /// Whether its handler has been called.
    pub started: bool,
    /// When it was handed out.
    pub at: Wall,
    /// The job's policy, which its end needs.
    pub policy: Policy,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The records of these jobs, live or ended, to be handed out or submitted again.
    Records(Vec<JobId>),
    /// Where these jobs stand.
    States {
        /// The jobs.
        ids: Vec<JobId>,
        /// How many bytes of results may come with those that have ended.
        result_bytes: u64,
    },
    /// How these runs ended, for reports that come again or too late.
    Runs(Vec<(JobId, Fence)>),
    /// Jobs for people to look at.
    Query(Query),
    /// A part of a copy that is ready.
    BackupPart {
        /// The copy.
        id: Uuid,
        /// Where the part begins.
        offset: u64,
        /// How many bytes it has, unless the copy ends before.
        length: usize,
    },
}

/// The answer to a [`Read`], of the same kind and in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadAnswer {
    /// One for each id; none for a job that does not exist.
    Records(Vec<Option<Arc<JobRecord>>>),
    /// One for each id; none for a job that does not exist.
    States(Vec<Option<JobState>>),
    /// One for each run.
    Runs(Vec<RunStatus>),
    /// The jobs found.
    Query(Answer),
    /// The part; none if there is no such copy.
    BackupPart(Option<bytes::Bytes>),
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// It waits, or runs.
    Live {
        /// As at the start; its lease is the recorded one.
        job: LiveJob,
        /// How often, how long, how soon again.
        policy: Policy,
        /// The last of its runs whose end is recorded. No fence at or below it may be adopted.
        floor: Option<Fence>,
    },
    /// It ended.
    Ended {
        /// What kind of work it was.
        name: Arc<JobName>,
        /// How.
        status: Status,
        /// Why.
        reason: Option<String>,
        /// What it gave.
        result: Option<bytes::Bytes>,
        /// It gave something that did not fit into the question's `result_bytes`.
        omitted: bool,
    },
}

impl JobState {
    /// What kind of work the job is.
    pub fn name(&self) -> &str {
        match self {
            Self::Live { job, .. } => job.name.as_str(),
            Self::Ended { name, .. } => name.as_str(),
        }
    }
}

/// What the store knows of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// There is no such job.
    NoJob,
    /// The run's end is recorded.
    Ended(RunEnd),
    /// No end of such a run is recorded.
    Unknown,
}

/// Which jobs to look at, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Which jobs.
    pub select: Select,
    /// Only of these names: jobs of others do not exist for whoever asks.
    pub only: NamePatterns,
    /// Whether params come with them.
    pub params: bool,
    /// Whether results come with them.
    pub result: bool,
    /// Whether the runs that neither completed them nor gave them back come with them: the latest that fit.
    pub runs: bool,
    /// Stop before the jobs' [`jobq_proto::WireSize`] together is over this, but give at least one.
    pub max_bytes: usize,
    /// Tells `Scheduled` from `Queued`.
    pub now: Wall,
    /// What `max_attempts` is for jobs that do not say.
    pub max_attempts: u32,
    /// How long a page is looked for. What was found until then is the page, and [`Answer::next`] says where to go
    /// on. A store goes on for long enough to look at some jobs in any case.
    pub patience: Duration,
}

/// Which jobs to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// These, in this order; those that do not exist are left out.
    Ids(Vec<JobId>),
    /// These, in this order; those that do not exist are left out.
    Uuids(Vec<Uuid>),
    /// Those that match, newest first.
    Page(Filter),
}

/// What jobs must match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only in this status.
    pub status: Option<Status>,
    /// Only of this name.
    pub name: Option<JobName>,
    /// Only for this username.
    pub username: Option<Username>,
    /// Only those that arrived at this time or later.
    pub since: Option<Wall>,
    /// Only those that arrived before this time.
    pub until: Option<Wall>,
    /// Only those whose reason contains this text, which is not empty.
    pub reason: Option<String>,
    /// Only before this id.
    pub before: Option<JobId>,
    /// Most jobs in the answer, at least 1.
    pub limit: usize,
}

impl Filter {
    /// Whether a job is one of those that are looked for, `before` and `limit` apart.
    pub(crate) fn matches(&self, view: &JobView) -> bool {
        self.status.is_none_or(|status| status == view.status)
            && self.name.as_ref().is_none_or(|name| name.as_str() == view.name)
            && self
                .username
                .as_ref()
                .is_none_or(|username| view.username.as_deref() == Some(username.as_str()))
            && self.since.is_none_or(|since| since.0 <= view.created)
            && self.until.is_none_or(|until| view.created < until.0)
            && self
                .reason
                .as_ref()
                .is_none_or(|text| view.reason.as_ref().is_some_and(|reason| reason.contains(text)))
    }
}

/// Jobs found by a [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// Where to go on, if there may be more: before this id if it is a page, or else after this job, the last one
    /// in the answer.
    pub next: Option<JobId>,
}

/// How long an answer of a reader may take before a log line says so.
pub(crate) const SLOW_READ: Duration = Duration::from_secs(1);
