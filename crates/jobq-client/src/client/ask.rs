//! Asking about jobs, and changing them.

use futures::stream::{self, StreamExt};
use jobq_proto::message::{
    CancelJobs, CancelResult, Include, JobView, Query, Receipt, RetryJobs, Stats, StatsQuery,
};
use jobq_proto::{ClientMessage, JobId, ServerMessage, WireError};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Client;
use super::driver::{Answer, Command, Question};
use crate::clock::BootTime;
use crate::error::AskError;
use crate::requests::asks::Unanswered;

/// Most ids in one Cancel or Retry: even if each is answered with an error, the answer fits into a frame.
const MAX_IDS: usize = 200;

/// Cancels or Retries that are under way at a time for one call, so that the server's disk syncs several at once.
const BATCHES_AT_ONCE: usize = 8;

/// An ended job that was submitted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryReceipt {
    /// The new job.
    pub id: JobId,
    /// It had been submitted again before, as this job.
    pub existing: bool,
}

impl Client {
    /// One job without its params and result; none if there is no such job.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn show(&self, id: JobId) -> Result<Option<JobView>, AskError> {
        self.show_one(vec![id.0], Vec::new(), None).await
    }

    /// As [`Client::show`], with the job's params, its result or the runs that failed.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn show_with(&self, id: JobId, include: Include) -> Result<Option<JobView>, AskError> {
        self.show_one(vec![id.0], Vec::new(), Some(include)).await
    }

    /// Many jobs without their params and results, in the order asked for, without those that do not exist.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn show_many(&self, ids: &[JobId]) -> Result<Vec<JobView>, AskError> {
        let items = usize::try_from(self.welcome().limits.items).unwrap_or(usize::MAX);
        let mut views = Vec::new();
        for chunk in ids.chunks(items.clamp(1, MAX_IDS)) {
            let mut left = chunk;
            while !left.is_empty() {
                let query = Query {
                    ids: plain(left),
                    ..Query::default()
                };
                let (jobs, next) = self.query(query).await?;
                // An answer that is cut short by its size goes on after the last job that it has.
                let last = jobs.last().map(|job| job.id).filter(|_| next.is_some());
                let answered = last.and_then(|last| left.iter().position(|id| id.0 == last));
                left = answered.map_or(&[], |at| &left[at + 1..]);
                views.extend(jobs);
            }
        }
        Ok(views)
    }

    /// The job that was submitted under a uuid; none if there is none, or its record is no longer kept.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn show_uuid(&self, uuid: Uuid) -> Result<Option<JobView>, AskError> {
        self.show_one(Vec::new(), vec![uuid], None).await
    }

    /// As [`Client::show_uuid`], with the job's params, its result or the runs that failed.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn show_uuid_with(&self, uuid: Uuid, include: Include) -> Result<Option<JobView>, AskError> {
        self.show_one(Vec::new(), vec![uuid], Some(include)).await
    }

    /// Cancels jobs, any number of them: those that wait at once, those that run by telling their worker. One answer
    /// for each, in order; they are on disk.
    ///
    /// # Errors
    /// No answer in time; some may have been cancelled, and cancelling them again is safe.
    pub async fn cancel(&self, ids: &[JobId]) -> Result<Vec<CancelResult>, AskError> {
        self.in_batches(ids, |ids| self.cancel_batch(ids)).await
    }

    /// Submits ended jobs again, any number of them, as new jobs. Repeating this for the same job gives the same new
    /// one. One answer for each, in order; `not_found` and `not_ended` are those of single jobs.
    ///
    /// # Errors
    /// No answer in time; some may have been submitted, and retrying them again is safe.
    pub async fn retry(&self, ids: &[JobId]) -> Result<Vec<Result<RetryReceipt, WireError>>, AskError> {
        self.in_batches(ids, |ids| self.retry_batch(ids)).await
    }

    /// How many jobs there are, and how the server is.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn stats(&self) -> Result<Stats, AskError> {
        let question = |request| ServerMessage::Stats(StatsQuery { request });
        match self.ask(Box::new(question)).await? {
            ClientMessage::Stats(stats) => Ok(*stats),
            _ => Err(AskError::Unexpected),
        }
    }

    /// Asks for many jobs, as many at a time as a message may name and some messages at a time; the answers stand in
    /// the jobs' order.
    async fn in_batches<'a, T, F>(
        &self,
        ids: &'a [JobId],
        ask: impl Fn(&'a [JobId]) -> F,
    ) -> Result<Vec<T>, AskError>
    where
        F: Future<Output = Result<Vec<T>, AskError>>,
    {
        let items = usize::try_from(self.welcome().limits.items).unwrap_or(usize::MAX);
        let mut answers = stream::iter(ids.chunks(items.clamp(1, MAX_IDS)))
            .map(ask)
            .buffered(BATCHES_AT_ONCE);
        let mut all = Vec::with_capacity(ids.len());
        while let Some(answer) = answers.next().await {
            all.extend(answer?);
        }
        Ok(all)
    }

    async fn cancel_batch(&self, ids: &[JobId]) -> Result<Vec<CancelResult>, AskError> {
        let ids = plain(ids);
        let count = ids.len();
        let question = |request| ServerMessage::Cancel(CancelJobs { request, ids });
        match self.ask(Box::new(question)).await? {
            ClientMessage::Cancelled(answer) if answer.jobs.len() == count => Ok(answer.jobs),
            _ => Err(AskError::Unexpected),
        }
    }

    async fn retry_batch(&self, ids: &[JobId]) -> Result<Vec<Result<RetryReceipt, WireError>>, AskError> {
        let ids = plain(ids);
        let count = ids.len();
        let question = |request| ServerMessage::Retry(RetryJobs { request, ids });
        let ClientMessage::Retried(answer) = self.ask(Box::new(question)).await? else {
            return Err(AskError::Unexpected);
        };
        if answer.jobs.len() != count {
            return Err(AskError::Unexpected);
        }
        let receipt = |receipt: Receipt| match (receipt.error, receipt.id) {
            (Some(error), _) => Ok(Err(error)),
            (None, Some(id)) => Ok(Ok(RetryReceipt {
                id: JobId(id),
                existing: receipt.existing,
            })),
            (None, None) => Err(AskError::Unexpected),
        };
        answer.jobs.into_iter().map(receipt).collect()
    }

    async fn show_one(
        &self,
        ids: Vec<u64>,
        uuids: Vec<Uuid>,
        include: Option<Include>,
    ) -> Result<Option<JobView>, AskError> {
        let query = Query {
            ids,
            uuids,
            include,
            ..Query::default()
        };
        Ok(self.query(query).await?.0.pop())
    }

    pub(super) async fn query(&self, query: Query) -> Result<(Vec<JobView>, Option<u64>), AskError> {
        let question = move |request| ServerMessage::Query(Box::new(Query { request, ..query }));
        match self.ask(Box::new(question)).await? {
            ClientMessage::Jobs(answer) => Ok((answer.jobs, answer.next)),
            _ => Err(AskError::Unexpected),
        }
    }

    pub(super) async fn ask(&self, question: Question) -> Result<ClientMessage, AskError> {
        let limit = self.deadline;
        let deadline = BootTime::now() + limit;
        let permit = tokio::time::timeout(limit, self.handle.ask_permits.clone().acquire_owned())
            .await
            .map_err(|_| AskError::TimedOut(limit))?
            .map_err(|_| self.ask_over())?;
        let (answer, answered) = oneshot::channel::<Answer>();
        let command = Command::Ask {
            question,
            deadline,
            answer,
            permit,
        };
        self.handle.commands.send(command).map_err(|_| self.ask_over())?;
        match answered.await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(Unanswered::Refused(error))) => Err(AskError::Refused(error)),
            Ok(Err(Unanswered::TimedOut)) => Err(AskError::TimedOut(limit)),
            Ok(Err(Unanswered::Over)) | Err(_) => Err(self.ask_over()),
        }
    }

    fn ask_over(&self) -> AskError {
        self.over().map_or(AskError::Closed, AskError::Session)
    }
}

fn plain(ids: &[JobId]) -> Vec<u64> {
    ids.iter().map(|id| id.0).collect()
}
