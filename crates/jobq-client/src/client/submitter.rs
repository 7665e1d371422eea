//! Submitting a stream of jobs.

use std::collections::VecDeque;

use jobq_proto::message::Submission;
use tokio::sync::oneshot;

use super::submit::NotTaken;
use super::{Client, Receipt};
use crate::error::SubmitError;
use crate::job_request::JobRequest;
use crate::requests::submits::SubmitAnswer;

/// Most jobs that are handed to the task, and answered, together.
const BATCH: usize = 1_000;

/// Submits a stream of jobs of any length, many at a time, as fast as the server stores them.
///
/// Jobs are gathered into batches and sent while others are unanswered; [`Submitter::push`] waits while the server's
/// window is full. Receipts come in the order of the jobs, one for each, and are kept until they are taken: a program
/// that does not end should take them now and then. The deadline counts for each batch by itself. Dropping a submitter
/// does not take back what it has sent.
///
/// ```no_run
/// # async fn example(client: jobq_client::Client) -> Result<(), jobq_client::SubmitError> {
/// use jobq_client::JobRequest;
///
/// let mut submitter = client.submitter();
/// for _ in 0..1_000_000 {
///     submitter.push(JobRequest::new("ping")).await?;
///     for receipt in submitter.take_receipts() {
///         println!("{}", receipt?.id);
///     }
/// }
/// for receipt in submitter.finish().await? {
///     println!("{}", receipt?.id);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Submitter {
    client: Client,
    /// Jobs that do not make a batch yet.
    open: Vec<Submission>,
    /// Batches that the task has not taken.
    queue: VecDeque<Vec<Submission>>,
    batches: VecDeque<Batch>,
    /// Answered, and not asked for yet.
    ready: Vec<Result<Receipt, SubmitError>>,
}

#[derive(Debug)]
enum Batch {
    Sent(oneshot::Receiver<SubmitAnswer>),
    /// These were not taken before their deadline, or the session was over.
    NotTaken(Vec<Submission>),
}

impl Submitter {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            open: Vec::new(),
            queue: VecDeque::new(),
            batches: VecDeque::new(),
            ready: Vec::new(),
        }
    }

    /// Adds one job; waits while the window is full. It leaves with the next full batch, or by
    /// [`Submitter::flush`]. Cancel-safe: the job is added in any case.
    ///
    /// # Errors
    /// When the session is over. The jobs' own errors are among the receipts, this one included.
    pub async fn push(&mut self, request: JobRequest) -> Result<(), SubmitError> {
        self.open.push(request.into());
        if self.open.len() < BATCH {
            return Ok(());
        }
        self.flush().await
    }

    /// Adds many jobs and sends them; waits while the window is full. Cancel-safe: the jobs are added in any case.
    ///
    /// # Errors
    /// As [`Submitter::push`].
    pub async fn push_many(&mut self, requests: Vec<JobRequest>) -> Result<(), SubmitError> {
        self.close_batch();
        if requests.len() <= BATCH {
            self.open = requests.into_iter().map(Submission::from).collect();
        } else {
            let mut rest = requests.into_iter().map(Submission::from);
            while rest.len() > BATCH {
                self.queue.push_back(rest.by_ref().take(BATCH).collect());
            }
            self.open = rest.collect();
        }
        self.flush().await
    }

    /// Sends what does not make a full batch yet; waits while the window is full.
    ///
    /// # Errors
    /// As [`Submitter::push`].
    pub async fn flush(&mut self) -> Result<(), SubmitError> {
        self.close_batch();
        while let Some(jobs) = self.queue.front_mut() {
            match self.client.hand_over(jobs, false).await {
                Ok(answer) => {
                    self.queue.pop_front();
                    self.batches.push_back(Batch::Sent(answer));
                }
                Err(NotTaken::TimedOut) => {
                    let jobs = self.queue.pop_front().unwrap_or_default();
                    self.batches.push_back(Batch::NotTaken(jobs));
                }
                Err(NotTaken::Ended) => {
                    self.batches.extend(self.queue.drain(..).map(Batch::NotTaken));
                    return Err(self.client.submit_over());
                }
            }
        }
        Ok(())
    }

    /// Sends what is gathered, waits for the oldest receipts, and gives all that are there, in order; none only if
    /// every job has had its receipt. Cancel-safe.
    ///
    /// # Errors
    /// [`SubmitError::Closed`] when the runtime that the client was made in is gone.
    pub async fn receipts(&mut self) -> Result<Vec<Result<Receipt, SubmitError>>, SubmitError> {
        // Its error is among the receipts.
        let _ = self.flush().await;
        self.take_answered();
        if self.ready.is_empty() {
            self.await_oldest().await?;
            self.take_answered();
        }
        Ok(std::mem::take(&mut self.ready))
    }

    /// Gives the receipts that are there, in order, without waiting.
    pub fn take_receipts(&mut self) -> Vec<Result<Receipt, SubmitError>> {
        self.take_answered();
        std::mem::take(&mut self.ready)
    }

    /// Sends what is gathered and waits for all receipts that have not been given yet.
    ///
    /// # Errors
    /// As [`Submitter::receipts`].
    pub async fn finish(mut self) -> Result<Vec<Result<Receipt, SubmitError>>, SubmitError> {
        // Its error is among the receipts.
        let _ = self.flush().await;
        while !self.batches.is_empty() {
            self.await_oldest().await?;
            self.take_answered();
        }
        Ok(self.ready)
    }

    fn close_batch(&mut self) {
        if !self.open.is_empty() {
            self.queue.push_back(std::mem::take(&mut self.open));
        }
    }

    async fn await_oldest(&mut self) -> Result<(), SubmitError> {
        if let Some(Batch::Sent(answer)) = self.batches.front_mut() {
            let answer = answer.await.map_err(|_| SubmitError::Closed);
            self.batches.pop_front();
            self.ready.extend(self.client.read_answer(answer?));
        }
        Ok(())
    }

    /// Takes whatever has been answered, as far as nothing before it is unanswered.
    fn take_answered(&mut self) {
        while let Some(batch) = self.batches.front_mut() {
            match batch {
                Batch::Sent(answer) => match answer.try_recv() {
                    Ok(answer) => self.ready.extend(self.client.read_answer(answer)),
                    Err(_) => return,
                },
                Batch::NotTaken(jobs) => {
                    let over = self.client.handle.submits.is_closed();
                    let over = over.then(|| self.client.submit_over());
                    let error =
                        |job: &Submission| over.clone().unwrap_or(SubmitError::TimedOut { uuid: job.uuid });
                    self.ready.extend(jobs.iter().map(|job| Err(error(job))));
                }
            }
            self.batches.pop_front();
        }
    }
}
