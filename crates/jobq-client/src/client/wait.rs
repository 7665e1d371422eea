//! Waiting for jobs to end.

use std::collections::HashSet;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use jobq_proto::message::{EndedJob, Include};
use jobq_proto::{JobId, Status};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::Client;
use super::driver::Command;
use crate::error::{ResultError, WaitError};
use crate::params;
use crate::requests::watches::WatchEvent;

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
        let mut seen = HashSet::new();
        let ids: Vec<u64> = ids
            .into_iter()
            .map(|id| id.0)
            .filter(|&id| seen.insert(id))
            .collect();
        let (events, received) = mpsc::unbounded_channel();
        let wait = Wait {
            client: self.clone(),
            group: self.next_group(),
            left: ids.len(),
            received,
        };
        if !ids.is_empty() {
            let group = wait.group;
            // If the task has ended, it drops `events`, and that is what the stream then finds.
            let _ = self.handle.commands.send(Command::Wait { group, ids, events });
        }
        Outcomes {
            inner: stream::unfold(wait, Wait::next).boxed(),
        }
    }

    /// Waits for a job and decodes its result. A job without a result has that of `()`.
    ///
    /// # Errors
    /// The job failed or was cancelled, its result is of another type, or those of [`Client::wait`].
    pub async fn result<T: DeserializeOwned>(&self, id: JobId) -> Result<T, ResultError> {
        let outcome = self.wait(id).await?;
        match outcome.status {
            Status::Completed => params::decode(outcome.result.as_deref().unwrap_or_default())
                .map_err(|source| ResultError::Decode { id, source }),
            Status::Cancelled => Err(ResultError::Cancelled {
                id,
                reason: outcome.reason,
            }),
            _ => Err(ResultError::Failed {
                id,
                reason: outcome.reason.unwrap_or_else(|| "no reason was given".to_owned()),
            }),
        }
    }

    /// What the server left out for its size is fetched now, when there is somebody to take it.
    async fn outcome(&self, job: EndedJob) -> Result<Outcome, WaitError> {
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

    fn wait_over(&self) -> WaitError {
        self.over().map_or(WaitError::Closed, WaitError::Session)
    }
}

/// One call's wait; it ends the watch when it is dropped.
struct Wait {
    client: Client,
    group: u64,
    /// Jobs that have not been told.
    left: usize,
    received: mpsc::UnboundedReceiver<WatchEvent>,
}

impl Wait {
    async fn next(mut self) -> Option<(Result<Outcome, WaitError>, Self)> {
        if self.left == 0 {
            return None;
        }
        let result = match self.received.recv().await {
            Some(WatchEvent::Ended(job)) => {
                self.left -= 1;
                self.client.outcome(job).await
            }
            Some(WatchEvent::Refused(error)) => {
                self.left = 0;
                Err(WaitError::Refused(error))
            }
            None => {
                self.left = 0;
                Err(self.client.wait_over())
            }
        };
        Some((result, self))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // An error means that the task has ended, and its watches with it.
        let group = self.group;
        let _ = self.client.handle.commands.send(Command::Forget { group });
    }
}
