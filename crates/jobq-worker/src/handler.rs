//! From a job as it came to a call of the user's code, and from what that does to how the run ended.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use jobq_client::params;
use jobq_proto::{Fence, NewJob};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Cause, JobError};
use crate::job::{Job, Run};
use crate::machine::End;
use crate::mailbox::Mailbox;
use crate::worker::Worker;

/// A result as it travels: one encoded CBOR item, or none.
type RawResult = Result<Option<Bytes>, JobError>;

/// What runs the jobs of one name.
pub(crate) trait Handler: Send + Sync {
    /// Begins the run on the runtime that this is called on, and returns at once.
    fn call(&self, job: Job<Bytes>, run: Run, ending: Ending);
}

/// A handler that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) fence: Fence,
    pub(crate) ran: Duration,
    pub(crate) end: End,
}

/// Tells how a handler ended: once, even if it is dropped.
pub(crate) struct Ending {
    fence: Fence,
    since: Instant,
    ended: Option<Arc<Mailbox<Ended>>>,
}

impl Ending {
    pub(crate) fn new(fence: Fence, ended: Arc<Mailbox<Ended>>) -> Self {
        Self {
            fence,
            since: Instant::now(),
            ended: Some(ended),
        }
    }

    /// The handler is called now.
    fn begin(&mut self) {
        self.since = Instant::now();
    }

    fn tell(&mut self, end: End) {
        if let Some(ended) = self.ended.take() {
            ended.push(Ended {
                fence: self.fence,
                ran: self.since.elapsed(),
                end,
            });
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.tell(End::Dropped);
    }
}

pub(crate) fn of_worker<W: Worker>(worker: W) -> Arc<dyn Handler> {
    struct Of<W>(Arc<W>);

    impl<W: Worker> Handler for Of<W> {
        fn call(&self, job: Job<Bytes>, run: Run, ending: Ending) {
            let (worker, handle) = (Arc::clone(&self.0), run.clone());
            let process = async move {
                let output = worker.process(decode(job)?, &handle).await?;
                encode(&output)
            };
            tokio::spawn(supervise(process, run, ending));
        }
    }

    Arc::new(Of(Arc::new(worker)))
}

pub(crate) fn of_async<F, Fut, P, O>(handler: F) -> Arc<dyn Handler>
where
    F: Fn(Job<P>, Run) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, JobError>> + Send + 'static,
    P: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(Closure(move |job: Job<Bytes>, run: Run, ending: Ending| {
        let (handler, handle) = (Arc::clone(&handler), run.clone());
        let process = async move {
            let output = handler(decode(job)?, handle).await?;
            encode(&output)
        };
        tokio::spawn(supervise(process, run, ending));
    }))
}

pub(crate) fn of_raw<F, Fut>(handler: F) -> Arc<dyn Handler>
where
    F: Fn(Job<Bytes>, Run) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = RawResult> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(Closure(move |job: Job<Bytes>, run: Run, ending: Ending| {
        let (handler, handle) = (Arc::clone(&handler), run.clone());
        // Called within the task, so that a panic before its first `.await` is this job's too.
        let process = async move { handler(job, handle).await };
        tokio::spawn(supervise(process, run, ending));
    }))
}

pub(crate) fn of_blocking<F, P, O>(handler: F) -> Arc<dyn Handler>
where
    F: Fn(Job<P>, Run) -> Result<O, JobError> + Send + Sync + 'static,
    P: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(Closure(move |job: Job<Bytes>, run: Run, mut ending: Ending| {
        let handler = Arc::clone(&handler);
        tokio::task::spawn_blocking(move || {
            // It may have waited for a thread longer than it is wanted; `ending` says so when it is dropped.
            if run.is_cancelled() {
                return;
            }
            ending.begin();
            let process = || encode(&handler(decode(job)?, run)?);
            // Nothing of the call is looked at after a panic.
            ending.tell(end(catch_unwind(AssertUnwindSafe(process))));
        });
    }))
}

/// Runs a handler to its end, or until it is to be dropped.
async fn supervise(process: impl Future<Output = RawResult>, run: Run, mut ending: Ending) {
    ending.begin();
    // A block, so that the handler is gone before its end is told.
    let end = {
        // Nothing of the handler is looked at after a panic.
        let process = AssertUnwindSafe(process).catch_unwind();
        tokio::select! {
            biased;
            result = process => end(result),
            () = run.control().drop.notified() => End::Dropped,
        }
    };
    ending.tell(end);
}

fn end(result: Result<RawResult, Box<dyn Any + Send>>) -> End {
    match result {
        Ok(Ok(result)) => End::Completed(result),
        Ok(Err(error)) => End::Failed(error),
        Err(panic) => {
            let reason = format!("panicked: {}", panic_message(&*panic));
            End::Failed(JobError::retry(reason).caused_by(Cause::Panic))
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(message) = panic.downcast_ref::<&'static str>() {
        message
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message
    } else {
        "without a message"
    }
}

/// Params that do not fit now never will, so the job is not tried again.
fn decode<P: DeserializeOwned>(job: Job<Bytes>) -> Result<Job<P>, JobError> {
    let params = params::decode(&job.params).map_err(|error| {
        let name = &job.name;
        JobError::never(format!(
            "the params are not what the worker of {name:?} takes: {error}"
        ))
    })?;
    let (job, _) = job.replace_params(params);
    Ok(job)
}

fn encode<O: Serialize>(output: &O) -> RawResult {
    let result = params::encode(output).map_err(|error| JobError::never(format!("the result: {error}")))?;
    // An absent result is `null`.
    Ok((*result != *NewJob::NO_PARAMS).then_some(result))
}

struct Closure<F>(F);

impl<F: Fn(Job<Bytes>, Run, Ending) + Send + Sync> Handler for Closure<F> {
    fn call(&self, job: Job<Bytes>, run: Run, ending: Ending) {
        (self.0)(job, run, ending);
    }
}
