//! What the machine is told to begin with, and what it says.

use std::time::Duration;

use jobq_proto::Fence;
use jobq_proto::message::OrderedJob;

use super::run::RunId;
use super::slots::Slots;
use crate::error::JobError;

/// What a worker runs, and how much of it at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The names that it runs, each once.
    pub names: Vec<NameLimit>,
    /// Most handlers that run at a time, over all names.
    pub concurrency: u32,
    /// Jobs that it holds beyond those that run, so that the next is there when one ends.
    pub prefetch: u32,
    /// How long a handler may run whose job has no time-out of its own.
    pub default_timeout: Option<Duration>,
    /// How long a handler that was told to stop has before it is dropped.
    pub cancel_grace: Duration,
    /// The server is told how far runs have come this long after it was told before, at the earliest.
    pub progress_interval: Duration,
}

impl Config {
    /// How many runs are held at a time when no handler is stuck: over all names, and of each. This is what Hello
    /// has to state.
    pub fn credit(&self) -> (u32, Vec<u32>) {
        Slots::new(self).credit(self.prefetch)
    }
}

/// How many handlers of one name run at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameLimit {
    /// The name.
    pub name: String,
    /// Handlers, at least 1.
    pub concurrency: u32,
}

/// What is to be done with handlers.
#[derive(Debug)]
pub enum Command {
    /// Call the handler.
    Start(Start),
    /// Ask the handler of this run to stop.
    Cancel(Fence),
    /// Drop the handler of this run where it stands, if that is possible: its time to stop is over, or there is none.
    Drop {
        /// The run.
        fence: Fence,
        /// It was told to stop, and had time for it.
        overdue: bool,
    },
}

/// A handler to call.
#[derive(Debug)]
pub struct Start {
    /// The run.
    pub id: RunId,
    /// The job as it came.
    pub order: OrderedJob,
}

/// Something that a person may want to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A handler is about to be called.
    Started(RunId),
    /// A run is over for this worker.
    Ended(RunId, Outcome),
    /// How a run ended was told too late: the server had given it to somebody else, or ended it.
    TooLate(RunId),
}

/// How a run ended, as far as this worker knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It completed.
    Completed,
    /// It failed.
    Failed(JobError),
    /// It was given back unfinished.
    Released,
    /// This worker did not get to run until its lease had run out, as when it was stopped or its machine asleep. The
    /// server gives such a run to somebody else.
    Lost,
    /// The server had given it to somebody else, or ended it; what comes of it is not reported.
    GivenUp,
}

/// What a worker has done. Counted when the server says that it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Runs that completed.
    pub completed: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Runs that were given back unfinished.
    pub released: u64,
    /// Runs that were lost or given up, and those whose report came too late.
    pub stale: u64,
}
