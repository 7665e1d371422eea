//! Watching jobs: how far they come, and how they end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::stream::{self, BoxStream, Stream, StreamExt};
use jobq_proto::JobId;
use jobq_proto::message::{EndedJob, JobProgress, ProgressedJob};
use tokio::sync::{Notify, mpsc};

use super::Client;
use super::driver::Command;
use super::wait::Outcome;
use crate::error::WaitError;
use crate::requests::watches::WatchEvent;

/// What happens to a watched job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEvent {
    /// Its run has come further. Only the latest report counts: those in between may be left out.
    Progressed {
        /// The job.
        id: JobId,
        /// Which of its attempts this is, from 1.
        attempt: u32,
        /// How far it has come.
        progress: JobProgress,
    },
    /// It has ended. The last event of a job.
    Ended(Outcome),
}

/// What happens to the jobs that [`Client::watch`] watches: a [`Stream`], which ends when all of them have ended.
/// Dropping it ends the watch.
pub struct JobEvents {
    inner: BoxStream<'static, Result<JobEvent, WaitError>>,
}

impl Stream for JobEvents {
    type Item = Result<JobEvent, WaitError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for JobEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobEvents").finish_non_exhaustive()
    }
}

impl Client {
    /// Watches jobs, one or many: how far each comes, as far as its worker says, and how it ends, however long that
    /// takes and whatever happens to the connection. A job that is named twice is watched once.
    ///
    /// ```no_run
    /// use futures::TryStreamExt;
    /// use jobq_client::{Client, JobEvent, JobRequest};
    ///
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let receipt = client.submit(JobRequest::new("thumbnail")).await?;
    /// let mut events = client.watch([receipt.id]);
    /// while let Some(event) = events.try_next().await? {
    ///     match event {
    ///         JobEvent::Progressed { progress, .. } => match progress.fraction() {
    ///             Some(part) => println!("{:.0} % {}", part * 100.0, progress.text),
    ///             None => println!("{}", progress.text),
    ///         },
    ///         JobEvent::Ended(outcome) => println!("{}", outcome.status),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The stream's errors: a job that does not exist, which is that job's error alone; and, as the last item, the end
    /// of the session.
    pub fn watch(&self, ids: impl IntoIterator<Item = JobId>) -> JobEvents {
        JobEvents {
            inner: self.begin_watch(ids, true).boxed(),
        }
    }

    pub(super) fn begin_watch(
        &self,
        ids: impl IntoIterator<Item = JobId>,
        with_progress: bool,
    ) -> impl Stream<Item = Result<JobEvent, WaitError>> + Send + 'static {
        let mut seen = HashSet::new();
        let ids: Vec<u64> = ids
            .into_iter()
            .map(|id| id.0)
            .filter(|&id| seen.insert(id))
            .collect();
        let (events, received) = mpsc::unbounded_channel();
        let watch = Watch {
            client: self.clone(),
            group: self.next_number(),
            left: ids.len(),
            received,
            progress: Arc::new(LatestProgress::default()),
        };
        if !ids.is_empty() {
            let wait = Command::Wait {
                group: watch.group,
                ids,
                events,
                progress: with_progress.then(|| watch.progress.clone()),
            };
            // If the task has ended, it drops `events`, and that is what the stream then finds.
            let _ = self.handle.commands.send(wait);
        }
        stream::unfold(watch, Watch::next)
    }
}

/// One call's watch; it ends when it is dropped.
struct Watch {
    client: Client,
    group: u64,
    /// Jobs that have not been told.
    left: usize,
    received: mpsc::UnboundedReceiver<WatchEvent>,
    progress: Arc<LatestProgress>,
}

impl Watch {
    async fn next(mut self) -> Option<(Result<JobEvent, WaitError>, Self)> {
        if self.left == 0 {
            return None;
        }
        let event = tokio::select! {
            biased;
            event = self.received.recv() => event,
            job = self.progress.take() => {
                let event = JobEvent::Progressed {
                    id: JobId(job.id),
                    attempt: job.attempt,
                    progress: job.progress,
                };
                return Some((Ok(event), self));
            }
        };
        let result = match event {
            Some(WatchEvent::Ended(job)) => self.ended(job).await,
            Some(WatchEvent::Refused(error)) => {
                self.left = 0;
                Err(WaitError::Refused(error))
            }
            None | Some(WatchEvent::Progressed(_)) => {
                self.left = 0;
                Err(self.client.wait_over())
            }
        };
        Some((result, self))
    }

    async fn ended(&mut self, job: EndedJob) -> Result<JobEvent, WaitError> {
        self.left -= 1;
        self.progress.forget(job.id);
        self.client.outcome(job).await.map(JobEvent::Ended)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An error means that the task has ended, and its watches with it.
        let group = self.group;
        let _ = self.client.handle.commands.send(Command::Forget { group });
    }
}

/// The latest report of each watched job that has not been taken: one a job at most, however slow the taker is.
#[derive(Debug, Default)]
pub(super) struct LatestProgress {
    jobs: Mutex<Latest>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Latest {
    reports: HashMap<u64, ProgressedJob>,
    /// In the order in which the jobs got a report to take; those that have ended since are among them.
    order: VecDeque<u64>,
}

impl LatestProgress {
    pub(super) fn put(&self, job: ProgressedJob) {
        let mut latest = self.lock();
        let id = job.id;
        if latest.reports.insert(id, job).is_none() {
            latest.order.push_back(id);
        }
        drop(latest);
        self.arrived.notify_one();
    }

    /// Waits for a report. Cancel-safe.
    async fn take(&self) -> ProgressedJob {
        loop {
            if let Some(job) = self.lock().pop() {
                return job;
            }
            self.arrived.notified().await;
        }
    }

    /// The job has ended: how far it had come is of no interest any more.
    fn forget(&self, id: u64) {
        // Its place in the order is passed over when it comes.
        self.lock().reports.remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, Latest> {
        // Nobody panics between two changes that belong together.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    fn pop(&mut self) -> Option<ProgressedJob> {
        while let Some(id) = self.order.pop_front() {
            if let Some(job) = self.reports.remove(&id) {
                return Some(job);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: u64, attempt: u32) -> ProgressedJob {
        ProgressedJob {
            id,
            attempt,
            progress: JobProgress::default(),
        }
    }

    #[test]
    fn the_latest_report_of_each_job_is_taken_in_turn_and_none_of_a_job_that_has_ended() {
        let latest = LatestProgress::default();
        for job in [report(1, 1), report(2, 1), report(3, 1), report(1, 2)] {
            latest.put(job);
        }
        latest.forget(2);
        let taken: Vec<(u64, u32)> = std::iter::from_fn(|| latest.lock().pop())
            .map(|job| (job.id, job.attempt))
            .collect();
        assert_eq!(taken, [(1, 2), (3, 1)]);
    }
}
