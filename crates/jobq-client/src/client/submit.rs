//! Submitting jobs.

use jobq_proto::JobId;
use jobq_proto::message::{Receipt as WireReceipt, Submission};
use tokio::sync::oneshot;
use tokio::task::coop;
use uuid::Uuid;

use super::Client;
use super::driver::Command;
use super::submitter::Submitter;
use crate::clock::BootTime;
use crate::error::SubmitError;
use crate::job_request::JobRequest;
use crate::requests::submits::{Submit, SubmitAnswer};

/// A job that is on the server's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Receipt {
    /// The server's number for the job.
    pub id: JobId,
    /// The submission's identity.
    pub uuid: Uuid,
    /// The uuid was known: the job had been submitted before.
    pub existing: bool,
}

/// Why a batch did not get to the task.
pub(super) enum NotTaken {
    TimedOut,
    /// The task has ended.
    Ended,
}

impl Client {
    /// Submits a job. It is on the server's disk when this returns. A refusal that may pass is repeated until the
    /// deadline.
    ///
    /// # Errors
    /// [`SubmitError::Unknown`] when it may be stored or not; after all others it is not.
    pub async fn submit(&self, request: JobRequest) -> Result<Receipt, SubmitError> {
        let uuid = request.identity();
        let mut jobs = vec![Submission::from(request)];
        let alone = self.next_number();
        let answer = match self.hand_over(&mut jobs, alone, true).await {
            Ok(answer) => answer,
            Err(NotTaken::TimedOut) => return Err(SubmitError::TimedOut { uuid }),
            Err(NotTaken::Ended) => return Err(self.submit_over()),
        };
        let Ok(answer) = answer.await else {
            return Err(SubmitError::Unknown { uuid });
        };
        self.read_answer(answer)
            .next()
            .unwrap_or(Err(SubmitError::Unknown { uuid }))
    }

    /// Submits many jobs: in requests as large as the server takes, several at a time. One result for each job, in
    /// order; refusals are reported and not repeated. The deadline is that of each thousand jobs by itself, counted
    /// from the last answer. For more jobs than should be in memory, and to wait while the server's queue is full, use
    /// [`Client::submitter`].
    ///
    /// # Errors
    /// When the client was closed, or its session is over, before the first job was sent.
    pub async fn submit_many(
        &self,
        requests: Vec<JobRequest>,
    ) -> Result<Vec<Result<Receipt, SubmitError>>, SubmitError> {
        if self.handle.commands.is_closed() {
            return Err(self.submit_over());
        }
        let mut submitter = Submitter::new(self.clone(), false);
        // What could not be pushed has its error among the receipts.
        let _ = submitter.push_many(requests).await;
        submitter.finish().await
    }

    /// Submits a stream of jobs of any length, and waits while the server's queue is full.
    pub fn submitter(&self) -> Submitter {
        Submitter::new(self.clone(), true)
    }

    /// Waits until the task takes a batch, and takes it out of `jobs` then; leaves it there if it does not come to
    /// that. Cancel-safe.
    pub(super) async fn hand_over(
        &self,
        jobs: &mut Vec<Submission>,
        stream: u64,
        repeat: bool,
    ) -> Result<oneshot::Receiver<SubmitAnswer>, NotTaken> {
        // Whoever hands over many small batches lets the task send some of them now and then.
        coop::consume_budget().await;
        let limit = self.deadline;
        let deadline = BootTime::now() + limit;
        let permits = &self.handle.submit_permits;
        let count = u32::try_from(jobs.len()).expect("no batch has more than MAX_BATCH jobs");
        let permit = match permits.try_acquire_many(count) {
            Ok(permit) => permit,
            Err(_) => tokio::time::timeout(limit, permits.acquire_many(count))
                .await
                .map_err(|_| NotTaken::TimedOut)?
                .map_err(|_| NotTaken::Ended)?,
        };
        // The task gives it back.
        permit.forget();
        let (answer, answered) = oneshot::channel();
        let submit = Submit {
            jobs: std::mem::take(jobs),
            stream,
            repeat,
            deadline,
            patience: limit,
        };
        match self.handle.commands.send(Command::Submit { submit, answer }) {
            Ok(()) => Ok(answered),
            Err(refused) => {
                if let Command::Submit { submit, .. } = refused.0 {
                    *jobs = submit.jobs;
                }
                Err(NotTaken::Ended)
            }
        }
    }

    pub(super) fn read_answer(
        &self,
        answer: SubmitAnswer,
    ) -> impl Iterator<Item = Result<Receipt, SubmitError>> {
        let over = self.handle.commands.is_closed().then(|| self.submit_over());
        let reached = answer.reached;
        let pairs = answer.jobs.into_iter().zip(answer.receipts);
        pairs.enumerate().map(move |(index, (job, receipt))| {
            let uuid = job.uuid;
            match receipt {
                WireReceipt {
                    error: Some(error), ..
                } => Err(SubmitError::Refused(error)),
                WireReceipt {
                    id: Some(id),
                    existing,
                    ..
                } => Ok(Receipt {
                    id: JobId(id),
                    uuid,
                    existing,
                }),
                _ if index < reached => Err(SubmitError::Unknown { uuid }),
                _ => Err(over.clone().unwrap_or(SubmitError::TimedOut { uuid })),
            }
        })
    }

    pub(super) fn submit_over(&self) -> SubmitError {
        self.over().map_or(SubmitError::Closed, SubmitError::Session)
    }
}
