//! The messages, as they travel.
//!
//! Each message is a CBOR map of one entry: its name and a map of its fields, e.g. `{"Beat": {}}`. Fields that a
//! peer does not know are skipped, fields that are absent have their default, so both sides can grow. The types
//! here are plain on purpose: what is in them is checked one by one, so that one bad job in a batch of a thousand
//! is that job's error alone.

mod ask;
mod backup;
mod hello;
mod run;
mod submit;

use serde::{Deserialize, Serialize};

pub use ask::{
    Beat, CancelJobs, CancelOutcome, CancelResult, Cancelled, Closing, Ended, EndedJob, EndedRun,
    ErrorMessage, Include, JobProgress, JobView, Jobs, NameStats, Progressed, ProgressedJob, Query, Refused,
    Retried, RetryJobs, Stats, StatsQuery, Unwatch, Watch,
};
pub use backup::{Backup, BackupDone, BackupFile, BackupPart, BackupPhase, BackupRead, BackupState};
pub use hello::{Goodbye, Hello, NameCredit, Resume, Welcome, Work};
pub use run::{
    Cancel, Completed, CompletedRun, Credit, Failed, FailedRun, HeldRun, Holding, Order, OrderedJob,
    Progress, Released, RunProgress, RunRef, RunState, SettleOutcome, Settled, SettledRun, Started,
};
pub use submit::{Acknowledged, Receipt, Request, Submission};

/// A message to the server. What is rare and large is boxed, since messages are moved often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ServerMessage {
    /// Who the peer is, and what it will work on. Always the first message, and only that.
    Hello(Box<Hello>),
    /// Jobs to be kept and run. Answered by `Acknowledged`.
    Request(Request),
    /// A worker's limits on what it wants to hold, instead of those in its Hello.
    Credit(Credit),
    /// Runs whose handler is about to be called. Unanswered.
    Started(Started),
    /// How far runs have come. Unanswered.
    Progress(Progress),
    /// Runs that ended well. Answered by `Settled`.
    Completed(Completed),
    /// Runs that ended badly. Answered by `Settled`.
    Failed(Failed),
    /// Runs that were given back unfinished. Answered by `Settled`.
    Released(Released),
    /// Every run that the worker still has. The first message after each Hello of a worker.
    Holding(Holding),
    /// A sign of life. Answered by `Beat`.
    Beat(Beat),
    /// The session is over; what it still holds is released. The server closes the connection.
    Goodbye(Goodbye),
    /// Which jobs are there, and what became of them. Answered by `Jobs`.
    Query(Box<Query>),
    /// Tell when these jobs have ended. Answered by `Ended`, as often as needed.
    Watch(Watch),
    /// End a watch before its jobs have ended. Unanswered.
    Unwatch(Unwatch),
    /// Cancel these jobs. Answered by `Cancelled`.
    Cancel(CancelJobs),
    /// Submit ended jobs again. Answered by `Retried`.
    Retry(RetryJobs),
    /// How many jobs, of what name and status. Answered by `Stats`.
    Stats(StatsQuery),
    /// Have a copy of the database made, or say where it stands. Answered by `BackupState`.
    Backup(Backup),
    /// Send a part of the copy. Answered by `BackupPart`.
    BackupRead(BackupRead),
    /// Remove the copy. Answered by `BackupState`.
    BackupDone(BackupDone),
}

impl ServerMessage {
    /// The names of all messages to the server that this version knows, as they stand on the wire.
    pub const NAMES: &[&str] = &[
        "Hello",
        "Request",
        "Credit",
        "Started",
        "Progress",
        "Completed",
        "Failed",
        "Released",
        "Holding",
        "Beat",
        "Goodbye",
        "Query",
        "Watch",
        "Unwatch",
        "Cancel",
        "Retry",
        "Stats",
        "Backup",
        "BackupRead",
        "BackupDone",
    ];
}

/// A message from the server. What is rare and large is boxed, since messages are moved often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ClientMessage {
    /// The peer is welcome; the server's terms.
    Hello(Box<Welcome>),
    /// What became of the jobs of a Request; those with an id are on disk.
    Acknowledged(Acknowledged),
    /// Jobs to run.
    Order(Order),
    /// What became of reported runs; the answers are on disk.
    Settled(Settled),
    /// Stop these runs. Each is still to be settled.
    Cancel(Cancel),
    /// A sign of life, in answer to one.
    Beat(Beat),
    /// The server is going: give back what has not started, and finish or release the rest.
    Closing(Closing),
    /// The answer to a Query.
    Jobs(Jobs),
    /// Watched jobs that have ended.
    Ended(Ended),
    /// How far watched jobs have come.
    Progressed(Progressed),
    /// The answer to a Cancel.
    Cancelled(Cancelled),
    /// The answer to a Retry.
    Retried(Retried),
    /// The answer to a Stats.
    Stats(Box<Stats>),
    /// The answer to a Backup or a BackupDone.
    BackupState(Box<BackupState>),
    /// The answer to a BackupRead.
    BackupPart(BackupPart),
    /// A numbered request was refused as a whole.
    Refused(Refused),
    /// Why the server closes the connection: the last message.
    Error(ErrorMessage),
}

impl ClientMessage {
    /// The names of all messages from the server that this version knows, as they stand on the wire.
    pub const NAMES: &[&str] = &[
        "Hello",
        "Acknowledged",
        "Order",
        "Settled",
        "Cancel",
        "Beat",
        "Closing",
        "Jobs",
        "Ended",
        "Progressed",
        "Cancelled",
        "Retried",
        "Stats",
        "BackupState",
        "BackupPart",
        "Refused",
        "Error",
    ];
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}
