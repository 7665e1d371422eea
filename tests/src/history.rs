//! What a test asked for, and what it was told and saw.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jobq_client::{JobRequest, Receipt};
use jobq_proto::message::Submission;
use jobq_proto::{Fence, JobId, NewJob};
use tokio::sync::watch;
use uuid::Uuid;

use crate::soon;

/// What a test asked for, and what it was told and saw. A plain value, to be checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Jobs that were handed to a client, acknowledged or not.
    pub asked: BTreeMap<Uuid, Asked>,
    /// Acknowledgements, in the order in which they came.
    pub acknowledged: Vec<(JobId, Uuid)>,
    /// Handlers that were called, in the order in which that was noted.
    pub runs: Vec<HandlerRun>,
}

/// A job as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// Its params.
    pub params: Bytes,
}

/// A handler that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandlerRun {
    /// The job.
    pub id: JobId,
    /// The run.
    pub fence: Fence,
    /// Which attempt the handler was told that it is.
    pub attempt: u32,
}

/// How much a history holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that were acknowledged.
    pub acknowledged: usize,
    /// Handlers that were called.
    pub runs: usize,
}

/// A ledger that many tasks write to, and that can be waited on.
#[derive(Debug, Default)]
pub struct History {
    ledger: Mutex<Ledger>,
    counts: watch::Sender<Counts>,
}

impl History {
    /// A job is handed to a client.
    pub fn asks(&self, request: &JobRequest) {
        let submission = Submission::from(request.clone());
        let asked = Asked {
            name: submission.name,
            params: submission.params.unwrap_or(Bytes::from_static(NewJob::NO_PARAMS)),
        };
        self.lock().asked.insert(submission.uuid, asked);
    }

    /// The client says that the job is on the server's disk.
    pub fn acknowledges(&self, receipt: &Receipt) {
        let mut ledger = self.lock();
        ledger.acknowledged.push((receipt.id, receipt.uuid));
        self.tell(&ledger);
    }

    /// A handler is called.
    pub fn runs(&self, run: HandlerRun) {
        let mut ledger = self.lock();
        ledger.runs.push(run);
        self.tell(&ledger);
    }

    /// Waits until it holds enough.
    pub async fn until(&self, what: &str, enough: impl FnMut(&Counts) -> bool) {
        let mut counts = self.counts.subscribe();
        let reached = soon(what, counts.wait_for(enough)).await;
        reached.expect("the sender lives as long as this");
    }

    /// How much it holds.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// What it holds.
    pub fn ledger(&self) -> Ledger {
        self.lock().clone()
    }

    fn tell(&self, ledger: &Ledger) {
        self.counts.send_replace(Counts {
            acknowledged: ledger.acknowledged.len(),
            runs: ledger.runs.len(),
        });
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Each change is whole before anything can panic.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
