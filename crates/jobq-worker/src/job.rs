//! What a handler is given: the job, and a handle of the run.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jobq_proto::message::{JobProgress, OrderedJob};
use jobq_proto::{Fence, JobId, Limits};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::machine::RunId;
use crate::progress::LatestProgress;
use crate::reports::Reports;

/// A job to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job<P> {
    /// The server's number for the job.
    pub id: JobId,
    /// What kind of work it is.
    pub name: String,
    /// The submission's identity. It stays the same over all attempts, so it serves as a key for side effects that
    /// must happen once.
    pub uuid: Uuid,
    /// Which attempt this is, from 1. After a crash of the server it may repeat.
    pub attempt: u32,
    /// The attempt after which the job is not tried again.
    pub max_attempts: u32,
    /// Who the job is for.
    pub username: Option<String>,
    /// What to work on.
    pub params: P,
}

impl<P> Job<P> {
    /// The only attempt at a job that no server knows, to call a handler with in a test.
    pub fn detached(name: impl Into<String>, params: P) -> Self {
        Self {
            id: JobId(0),
            name: name.into(),
            uuid: Uuid::nil(),
            attempt: 1,
            max_attempts: 1,
            username: None,
            params,
        }
    }

    /// Whether the job is a dead letter if this attempt fails.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt >= self.max_attempts
    }

    /// The same job with other params, and the params that it had.
    pub(crate) fn replace_params<Q>(self, params: Q) -> (Job<Q>, P) {
        let job = Job {
            id: self.id,
            name: self.name,
            uuid: self.uuid,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            username: self.username,
            params,
        };
        (job, self.params)
    }
}

impl From<OrderedJob> for Job<Bytes> {
    fn from(order: OrderedJob) -> Self {
        Self {
            id: JobId(order.id),
            name: order.name,
            uuid: order.uuid,
            attempt: order.attempt,
            max_attempts: order.max_attempts,
            username: order.username,
            params: order.params,
        }
    }
}

/// A handle of one run, cheap to clone: the right to report on it, and whether it is to stop.
///
/// A run is to stop when somebody cancels the job, when its time-out is over, when the server gave the job to
/// another worker, and when this worker shuts down. An asynchronous handler that goes on is dropped at its next
/// `.await` once the grace is over ([`Runtime::cancel_grace`](crate::Runtime::cancel_grace)). A blocking one cannot
/// be, so it should look at [`Run::is_cancelled`] now and then; until it returns it keeps its place.
#[derive(Debug, Clone)]
pub struct Run {
    control: Arc<Control>,
}

/// What a handler and the session's thread have in common of a run: how it is told to stop, dropped, and heard.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) id: RunId,
    /// Made for whoever asks for it, since few handlers do before they have ended.
    cancel: OnceLock<CancellationToken>,
    pub(crate) drop: Notify,
    limits: Limits,
    pub(crate) progress: LatestProgress,
    /// Where its reports go; nowhere in a run that no server knows.
    pub(crate) reports: Option<Arc<Reports>>,
}

impl Control {
    pub(crate) fn new(id: RunId, limits: Limits, reports: Option<Arc<Reports>>) -> Self {
        Self {
            id,
            cancel: OnceLock::new(),
            drop: Notify::new(),
            limits,
            progress: LatestProgress::default(),
            reports,
        }
    }

    /// Tells the handler to stop.
    pub(crate) fn cancel(&self) {
        self.cancellation().cancel();
    }

    /// The server may have forgotten how far the run has come: has the latest report told again, if there is one.
    pub(crate) fn tell_progress_again(&self) {
        if self.progress.is_to_tell_again() {
            self.tell_progress();
        }
    }

    fn tell_progress(&self) {
        if let Some(reports) = &self.reports {
            reports.progressed.push(self.id.fence);
        }
    }

    fn cancellation(&self) -> &CancellationToken {
        self.cancel.get_or_init(CancellationToken::new)
    }
}

impl Run {
    pub(crate) fn new(control: Arc<Control>) -> Self {
        Self { control }
    }

    /// A run that no server knows and that is cancelled when `cancel` is, to call a handler with in a test.
    pub fn detached(fence: Fence, attempt: u32, cancel: CancellationToken) -> Self {
        let id = RunId {
            job: JobId(0),
            fence,
            attempt,
            name: 0,
        };
        let control = Control {
            cancel: OnceLock::from(cancel),
            ..Control::new(id, Limits::default(), None)
        };
        Self::new(Arc::new(control))
    }

    /// The right to report on this run. No two runs have the same, and a later run of a job has a greater one; a
    /// system that remembers the greatest it has seen can refuse the side effects of a run that was given up.
    pub fn fence(&self) -> Fence {
        self.control.id.fence
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.control.id.attempt
    }

    /// Whether the run is to stop. It stays so.
    pub fn is_cancelled(&self) -> bool {
        let cancel = self.control.cancel.get();
        cancel.is_some_and(CancellationToken::is_cancelled)
    }

    /// Waits until the run is to stop. Cancel-safe.
    pub async fn cancelled(&self) {
        self.control.cancellation().cancelled().await;
    }

    /// The token behind [`Run::cancelled`], to hand to what takes one. Cancelling it tells nobody but its holders.
    pub fn cancellation(&self) -> &CancellationToken {
        self.control.cancellation()
    }

    /// What the server takes, as it said when the worker connected: how long a result and a reason may be. A larger
    /// result fails the job for good, a longer reason loses its end.
    pub fn limits(&self) -> &Limits {
        &self.control.limits
    }

    /// Says how far the run has come: `part` from 0 to 1, or `None` where that is not known, and what it is doing, for
    /// people (up to 256 bytes; the rest is cut). `jobq show`, `jobq list` and whoever watches the job see it.
    ///
    /// Cheap, from any thread, and as often as you like: the server is told at most ten times a second, and of the
    /// latest report only.
    ///
    /// ```
    /// # use jobq_worker::{Fence, Run, CancellationToken};
    /// fn convert(pages: &[String], run: &Run) {
    ///     for (done, page) in pages.iter().enumerate() {
    ///         run.progress(done as f64 / pages.len() as f64, format!("converting {page}"));
    ///     }
    ///     run.progress(None, "cleaning up");
    /// }
    /// # let run = Run::detached(Fence { epoch: 1, seq: 1 }, 1, CancellationToken::new());
    /// # convert(&["title".to_owned()], &run);
    /// # assert_eq!(run.latest_progress().expect("a report").text, "cleaning up");
    /// ```
    pub fn progress(&self, part: impl Into<Option<f64>>, text: impl Into<String>) {
        if self.control.progress.report(part.into(), text.into()) {
            self.control.tell_progress();
        }
    }

    /// What [`Run::progress`] was told last.
    pub fn latest_progress(&self) -> Option<JobProgress> {
        self.control.progress.latest()
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }
}
