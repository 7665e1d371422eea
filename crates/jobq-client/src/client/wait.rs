//! Waiting for jobs to end.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use jobq_proto::message::{EndedJob, Include};
use jobq_proto::{JobId, Status};
use serde::de::DeserializeOwned;

use super::Client;
use super::watch::JobEvent;
use crate::error::{ResultError, WaitError};
use crate::params;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The job.
    pub id: JobId,
    /// `Completed`, `Failed` or `Cancelled`.
    pub status: Status,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
    /// One encoded CBOR item, if it completed with a result.
    pub result: Option<Bytes>,
}

impl Outcome {
    /// The result of a job that completed. A job without a result has that of `()`.
    ///
    /// # Errors
    /// The job failed or was cancelled, or its result is of another type.
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, ResultError> {
        let id = self.id;
        match self.status {
            Status::Completed => params::decode(self.result.as_deref().unwrap_or_default())
                .map_err(|source| ResultError::Decode { id, source }),
            Status::Cancelled => Err(ResultError::Cancelled {
                id,
                reason: self.reason,
            }),
            _ => Err(ResultError::Failed {
                id,
                reason: self.reason.unwrap_or_else(|| "no reason was given".to_owned()),
            }),
        }
    }
}

/// The ends of the jobs that [`Client::wait_many`] waits for, in the order in which they end. Dropping it ends the
/// wait.
pub struct Outcomes {
    inner: BoxStream<'static, Result<Outcome, WaitError>>,
}

impl Stream for Outcomes {
    type Item = Result<Outcome, WaitError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes").finish_non_exhaustive()
    }
}

/// The results of the jobs that [`Client::results`] waits for, in the order in which they end: a [`Stream`]. Dropping
/// it ends the wait.
pub struct Results<T> {
    inner: BoxStream<'static, Result<(JobId, T), ResultError>>,
}

impl<T> Stream for Results<T> {
    type Item = Result<(JobId, T), ResultError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Results<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

impl Client {
    /// Waits until a job has ended, however long that takes and whatever happens to the connection.
    ///
    /// # Errors
    /// There is no such job, or the session is over. A job that failed is an [`Outcome`].
    pub async fn wait(&self, id: JobId) -> Result<Outcome, WaitError> {
        match self.wait_many([id]).next().await {
            Some(result) => result,
            None => Err(self.wait_over()),
        }
    }

    /// As [`Client::wait`], but no longer than `within`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`], and those of [`Client::wait`].
    pub async fn wait_timeout(&self, id: JobId, within: Duration) -> Result<Outcome, WaitError> {
        tokio::time::timeout(within, self.wait(id))
            .await
            .unwrap_or(Err(WaitError::TimedOut { id, within }))
    }

    /// Waits for many jobs. Each is told once, as it ends, even if it is named twice.
    pub fn wait_many(&self, ids: impl IntoIterator<Item = JobId>) -> Outcomes {
        let ends = self.begin_watch(ids, false).filter_map(|event| async {
            match event {
                Ok(JobEvent::Ended(outcome)) => Some(Ok(outcome)),
                Ok(JobEvent::Progressed { .. }) => None,
                Err(error) => Some(Err(error)),
            }
        });
        Outcomes { inner: ends.boxed() }
    }

    /// Waits for many jobs and decodes their results, in the order in which they end. A job that fails is an error of
    /// its own, and the next result follows.
    ///
    /// ```no_run
    /// use futures::StreamExt;
    /// use jobq_client::{Client, JobId};
    ///
    /// # async fn example(client: Client, ids: Vec<JobId>) {
    /// let mut results = client.results::<u64>(ids);
    /// while let Some(result) = results.next().await {
    ///     match result {
    ///         Ok((id, bytes)) => println!("job {id}: {bytes} bytes"),
    ///         Err(error) => eprintln!("{error}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn results<T: DeserializeOwned + 'static>(&self, ids: impl IntoIterator<Item = JobId>) -> Results<T> {
        let decode = |outcome: Result<Outcome, WaitError>| {
            let outcome = outcome?;
            let id = outcome.id;
            outcome.decode().map(|result| (id, result))
        };
        Results {
            inner: self.wait_many(ids).map(decode).boxed(),
        }
    }

    /// Waits for a job and decodes its result. A job without a result has that of `()`.
    ///
    /// # Errors
    /// The job failed or was cancelled, its result is of another type, or those of [`Client::wait`].
    pub async fn result<T: DeserializeOwned>(&self, id: JobId) -> Result<T, ResultError> {
        self.wait(id).await?.decode()
    }

    /// What the server left out for its size is fetched now, when there is somebody to take it.
    pub(super) async fn outcome(&self, job: EndedJob) -> Result<Outcome, WaitError> {
        let id = JobId(job.id);
        let Some(status) = job.status else {
            return Err(WaitError::NotFound { id });
        };
        if !job.omitted {
            return Ok(Outcome {
                id,
                status,
                reason: job.reason,
                result: job.result,
            });
        }
        let view = self
            .show_with(id, Include::Result)
            .await
            .map_err(|source| WaitError::Fetch { id, source })?
            .ok_or(WaitError::NotFound { id })?;
        Ok(Outcome {
            id,
            status: view.status,
            reason: view.reason,
            result: view.result,
        })
    }

    pub(super) fn wait_over(&self) -> WaitError {
        self.over().map_or(WaitError::Closed, WaitError::Session)
    }
}
