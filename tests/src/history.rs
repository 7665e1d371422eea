//! What a test asked for, and what it was told and saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use jobq_client::{JobRequest, Receipt};
use jobq_proto::message::Submission;
use jobq_proto::{Fence, JobId, NewJob, Status};
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
    /// Jobs that were acknowledged to a program that did not say their numbers.
    pub taken: BTreeSet<Uuid>,
    /// Handlers that were called, in the order in which that was noted.
    pub runs: Vec<HandlerRun>,
    /// Ends of jobs that a client was told, in the order in which it was.
    pub ends: Vec<(JobId, Status)>,
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

impl HandlerRun {
    /// What a script says with `echo "$JOBQ_ID $JOBQ_FENCE $JOBQ_ATTEMPT"`; none if it is something else.
    pub fn read(line: &str) -> Option<Self> {
        let (id, rest) = line.split_once(' ')?;
        let (fence, attempt) = rest.split_once(' ')?;
        let (epoch, seq) = fence.split_once('.')?;
        Some(Self {
            id: JobId(id.parse().ok()?),
            fence: Fence {
                epoch: epoch.parse().ok()?,
                seq: seq.parse().ok()?,
            },
            attempt: attempt.parse().ok()?,
        })
    }
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
    /// Where it is written down as it happens, for people.
    file: Option<(File, Instant)>,
}

impl History {
    /// A history that is also written to a file: a line for each thing, with the seconds since now.
    pub fn written_to(path: &Path) -> Self {
        let file =
            File::create(path).unwrap_or_else(|error| panic!("failed to make {}: {error}", path.display()));
        Self {
            file: Some((file, Instant::now())),
            ..Self::default()
        }
    }

    /// Something happened that is not checked, a fault say.
    pub fn notes(&self, what: impl fmt::Display) {
        if let Some((file, since)) = &self.file {
            let line = format!("{:10.6}  {what}\n", since.elapsed().as_secs_f64());
            // Each line is written as a whole. One that cannot be is missed by people only.
            let _ = (&mut &*file).write_all(line.as_bytes());
        }
    }

    /// A job is handed to a client.
    pub fn asks(&self, request: &JobRequest) {
        let submission = Submission::from(request.clone());
        let asked = Asked {
            name: submission.name,
            params: submission.params.unwrap_or(Bytes::from_static(NewJob::NO_PARAMS)),
        };
        self.notes(format_args!("asks      {} {}", submission.uuid, asked.name));
        self.lock().asked.insert(submission.uuid, asked);
    }

    /// The client says that the job is on the server's disk.
    pub fn acknowledges(&self, receipt: &Receipt) {
        self.notes(format_args!("receipt   {} is job {}", receipt.uuid, receipt.id));
        let mut ledger = self.lock();
        ledger.acknowledged.push((receipt.id, receipt.uuid));
        self.tell(&ledger);
    }

    /// A program says that the job is on the server's disk, and not which number it has.
    pub fn takes(&self, uuid: Uuid) {
        self.notes(format_args!("receipt   {uuid}"));
        self.lock().taken.insert(uuid);
    }

    /// The client says that the job has ended.
    pub fn ends(&self, id: JobId, status: Status) {
        self.notes(format_args!("end       job {id} is {status}"));
        self.lock().ends.push((id, status));
    }

    /// A handler is called.
    pub fn runs(&self, run: HandlerRun) {
        self.notes(format_args!(
            "run       job {} as {}, attempt {}",
            run.id, run.fence, run.attempt
        ));
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
