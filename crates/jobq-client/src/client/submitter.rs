//! Submitting a stream of jobs.

use std::collections::VecDeque;

use jobq_proto::message::Submission;
use tokio::sync::oneshot;

use super::driver::Command;
use super::submit::NotTaken;
use super::{Client, Receipt};
use crate::error::SubmitError;
use crate::job_request::JobRequest;
use crate::requests::submits::SubmitAnswer;

/// Most jobs that are handed to the task, and answered, together.
pub(super) const MAX_BATCH: usize = 1_000;

/// Of what the client keeps, in windows, a submitter takes so many halves at most: others who submit through the
/// same client find room, though this one's jobs wait for the server's queue to become shorter.
const HALF_WINDOWS: u64 = 3;

/// Submits a stream of jobs of any length, many at a time, as fast as the server stores them.
///
/// Jobs are gathered into batches and sent while others are unanswered; [`Submitter::push`] waits while the server's
/// window is full. Receipts come in the order of the jobs, one for each, and are kept until they are taken: a program
/// that does not end should take them now and then. Dropping a submitter does not take back what it has sent.
///
/// **When the server is full.** Jobs that it refuses for a passing reason (`queue_full`, `storage_full`) are sent
/// again,
/// when it says, before any that had not been sent; meanwhile no more than one and a half windows of jobs are held, and
/// pushing waits. [`Client::refusal`] tells why. The client's deadline is how long the submitter waits for the next
/// answer to any of its jobs, not for all of them: a queue that becomes shorter, however slowly, takes them all in the
/// end. When it has passed, all that is unanswered ends with what is known of it. More than one submitter that waits
/// may hold up what else is submitted through the same client.
///
/// **In which order.** Jobs are sent in their order, and most often taken in it. A full server may take one and refuse
/// one before it, which is larger or has another name, or whose place became free a moment too late; requests that were
/// on their way at the first refusal may be taken before what is repeated.
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
    stream: u64,
    /// Repeat what is refused for a passing reason.
    repeat: bool,
    /// Jobs that do not make a batch yet.
    open: Vec<Submission>,
    /// Batches that the task has not taken.
    queue: VecDeque<Vec<Submission>>,
    batches: VecDeque<Batch>,
    /// Jobs that were sent, as far as they have no receipt here, and bytes of their params.
    unanswered: Size,
    /// Answered, and not asked for yet.
    ready: Vec<Result<Receipt, SubmitError>>,
}

#[derive(Debug)]
enum Batch {
    Sent(oneshot::Receiver<SubmitAnswer>, Size),
    /// These were not taken before their deadline, or the session was over.
    NotTaken(Vec<Submission>),
}

/// How much some jobs are.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    jobs: u64,
    bytes: u64,
}

impl Size {
    fn of(jobs: &[Submission]) -> Self {
        let bytes = |job: &Submission| job.params.as_ref().map_or(0, |params| params.len() as u64);
        Self {
            jobs: jobs.len() as u64,
            bytes: jobs.iter().map(bytes).sum(),
        }
    }
}

impl Submitter {
    pub(super) fn new(client: Client, repeat: bool) -> Self {
        Self {
            stream: client.next_number(),
            repeat,
            client,
            open: Vec::new(),
            queue: VecDeque::new(),
            batches: VecDeque::new(),
            unanswered: Size::default(),
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
        if self.open.len() < MAX_BATCH {
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
        if requests.len() <= MAX_BATCH {
            self.open = requests.into_iter().map(Submission::from).collect();
        } else {
            let mut rest = requests.into_iter().map(Submission::from);
            while rest.len() > MAX_BATCH {
                self.queue.push_back(rest.by_ref().take(MAX_BATCH).collect());
            }
            self.open = rest.collect();
        }
        self.flush().await
    }

    /// Repeats nothing any more: what waits for its repetition ends with the refusal, and what the server refuses from
    /// now on is reported. For a program that is told to end; the receipts tell where it was.
    pub fn stop_repeating(&mut self) {
        self.repeat = false;
        let stream = self.stream;
        // If the task has ended, so has all that it repeated.
        let _ = self.client.handle.commands.send(Command::GiveUp { stream });
    }

    /// Sends what does not make a full batch yet; waits while the window is full, or the server is.
    ///
    /// # Errors
    /// As [`Submitter::push`].
    pub async fn flush(&mut self) -> Result<(), SubmitError> {
        self.close_batch();
        while !self.queue.is_empty() {
            self.make_room().await?;
            let Some(jobs) = self.queue.front_mut() else {
                break;
            };
            let size = Size::of(jobs);
            match self.client.hand_over(jobs, self.stream, self.repeat).await {
                Ok(answer) => {
                    self.queue.pop_front();
                    self.batches.push_back(Batch::Sent(answer, size));
                    self.unanswered.jobs += size.jobs;
                    self.unanswered.bytes += size.bytes;
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

    /// Waits until the next batch does not go beyond this submitter's share of what the client keeps.
    async fn make_room(&mut self) -> Result<(), SubmitError> {
        let window = self.client.window();
        let most = |window: u64| (window / 2).saturating_mul(HALF_WINDOWS);
        loop {
            self.take_answered();
            let Size { jobs, bytes } = self.unanswered;
            if jobs == 0 || (jobs < most(window.jobs) && bytes < most(window.bytes)) {
                return Ok(());
            }
            self.await_oldest().await?;
        }
    }

    async fn await_oldest(&mut self) -> Result<(), SubmitError> {
        if let Some(Batch::Sent(answer, size)) = self.batches.front_mut() {
            let (answer, size) = (answer.await, *size);
            self.batches.pop_front();
            self.answered(size);
            let answer = answer.map_err(|_| SubmitError::Closed)?;
            self.ready.extend(self.client.read_answer(answer));
        }
        Ok(())
    }

    fn answered(&mut self, size: Size) {
        self.unanswered.jobs -= size.jobs;
        self.unanswered.bytes -= size.bytes;
    }

    /// Takes whatever has been answered, as far as nothing before it is unanswered.
    fn take_answered(&mut self) {
        while let Some(batch) = self.batches.front_mut() {
            match batch {
                Batch::Sent(answer, size) => match answer.try_recv() {
                    Ok(answer) => {
                        let size = *size;
                        self.answered(size);
                        self.ready.extend(self.client.read_answer(answer));
                    }
                    Err(_) => return,
                },
                Batch::NotTaken(jobs) => {
                    let over = self.client.handle.commands.is_closed();
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
