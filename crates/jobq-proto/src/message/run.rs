//! Handing jobs out, and how their runs end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hello::NameCredit;
use crate::fence::Fence;

/// New limits on what a worker wants to hold. What it holds beyond them already is not taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// For these names; the others keep theirs. Names that Hello did not list are ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameCredit>,
    /// Over all names; unchanged where absent. 0 stops all orders, as a worker does that shuts down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u32>,
    /// Bytes of params; unchanged where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Jobs for a worker to run, the most urgent first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The jobs.
    pub jobs: Vec<OrderedJob>,
}

/// One job to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedJob {
    /// The server's number for the job.
    pub id: u64,
    /// The right to report on this run.
    pub fence: Fence,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The attempt after which the job is not tried again.
    pub max_attempts: u32,
    /// The submission's identity.
    pub uuid: Uuid,
    /// What kind of work it is.
    pub name: String,
    /// Who it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// How long the run may take from its start, in microseconds. The worker ends it as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// One encoded CBOR item.
    pub params: Bytes,
}

/// A job and the fence of one of its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRef {
    /// The job.
    pub id: u64,
    /// The run.
    pub fence: Fence,
}

/// Runs whose handler is about to be called. A crash of the worker is charged only to runs that had started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The runs.
    pub runs: Vec<RunRef>,
}

/// How far runs have come. Whoever reports often keeps the latest report of each run and sends it now and then: the
/// server keeps the last one, in memory, as long as the run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The runs.
    pub runs: Vec<RunProgress>,
}

/// How far one run has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProgress {
    /// The job.
    pub id: u64,
    /// The run.
    pub fence: Fence,
    /// The part that is done, in millionths: 0 to 1,000,000, and a greater one counts as that. Absent where it is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    /// What the run is doing, for people: at most [`crate::limits::MAX_PROGRESS_TEXT`] bytes; the rest is cut.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Runs that ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// The runs.
    pub runs: Vec<CompletedRun>,
}

/// One run that ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedRun {
    /// The job.
    pub id: u64,
    /// The run.
    pub fence: Fence,
    /// How long the handler ran, in microseconds.
    #[serde(default)]
    pub ran: u64,
    /// One encoded CBOR item. Absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Bytes>,
}

/// Runs that ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The runs.
    pub runs: Vec<FailedRun>,
}

/// One run that ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    /// The job.
    pub id: u64,
    /// The run.
    pub fence: Fence,
    /// How long the handler ran, in microseconds.
    #[serde(default)]
    pub ran: u64,
    /// Why, for people.
    pub reason: String,
    /// Never try the job again: it is a dead letter now.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub never: bool,
    /// Try it again after this long, in microseconds, instead of after its backoff. It counts as an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// Runs that the worker gives back unfinished. They keep their place in line and are not charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The runs.
    pub runs: Vec<RunRef>,
}

/// What became of reported runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// One answer for each reported run.
    pub runs: Vec<SettledRun>,
}

/// What became of one reported run. The worker may now forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledRun {
    /// The job.
    pub id: u64,
    /// The run.
    pub fence: Fence,
    /// What became of the report.
    pub outcome: SettleOutcome,
}

/// What became of a report. On the wire: a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SettleOutcome {
    /// It is on disk.
    Applied,
    /// The same report was on disk already.
    AlreadyApplied,
    /// The run had been given up: its fence is not the job's current one. The report changed nothing.
    Stale,
    /// There is no such job.
    NotFound,
    /// An outcome that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Every run that a worker still has. A lease of its session that is not named here is given up at once, uncharged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holding {
    /// The runs; none after a first Hello.
    pub runs: Vec<HeldRun>,
}

/// One run that a worker still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRun {
    /// The job.
    pub id: u64,
    /// The run.
    pub fence: Fence,
    /// How far it is.
    pub state: RunState,
}

/// How far a run is. On the wire: a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RunState {
    /// Its handler has not been called.
    Waiting,
    /// Its handler runs.
    Running,
    /// It has ended, and its report follows.
    Ended,
    /// A state that this version does not know; counts as running.
    #[serde(other)]
    Unknown,
}

/// Runs that the worker is to stop. It settles each as it ends: `Stale` is the answer to those that were given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The runs.
    pub runs: Vec<RunRef>,
}
