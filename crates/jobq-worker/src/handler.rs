//! From a job as it came to a call of the user's code, and from what that does to how the run ended.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use jobq_client::params;
use jobq_proto::NewJob;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Cause, JobError};
use crate::job::{Control, Job, Run};
use crate::machine::End;
use crate::reports::Ended;
use crate::worker::Worker;

/// A result as it travels: one encoded CBOR item, or none.
type RawResult = Result<Option<Bytes>, JobError>;

/// What runs the jobs of one name.
pub(crate) trait Handler: Send + Sync {
    /// Begins the run and returns at once: with what is left to be polled to its end, or with nothing if it is on a
    /// thread of its own.
    fn call(&self, job: Job<Bytes>, ending: Ending) -> Option<BoxFuture<'static, ()>>;
}

/// A run whose end has not been told. It is told once, even if this is dropped.
pub(crate) struct Ending {
    run: Run,
    /// When the handler was called.
    since: Option<Instant>,
    told: bool,
}

impl Ending {
    pub(crate) fn new(run: Run) -> Self {
        Self {
            run,
            since: None,
            told: false,
        }
    }

    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// The handler is called now.
    fn begin(&mut self) {
        self.since = Some(Instant::now());
    }

    fn tell(&mut self, end: End) {
        let Control { id, reports, .. } = self.run.control();
        if let Some(reports) = reports
            && !self.told
        {
            reports.ended.push(Ended {
                fence: id.fence,
                ran: self.since.map_or(Duration::ZERO, |since| since.elapsed()),
                end,
            });
        }
        self.told = true;
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
        fn call(&self, job: Job<Bytes>, ending: Ending) -> Option<BoxFuture<'static, ()>> {
            let (worker, run) = (Arc::clone(&self.0), ending.run().clone());
            let process = async move {
                let output = worker.process(decode(job)?, &run).await?;
                encode(&output)
            };
            Some(supervise(process, ending).boxed())
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
    Arc::new(Closure(move |job: Job<Bytes>, ending: Ending| {
        let (handler, run) = (Arc::clone(&handler), ending.run().clone());
        let process = async move {
            let output = handler(decode(job)?, run).await?;
            encode(&output)
        };
        Some(supervise(process, ending).boxed())
    }))
}

pub(crate) fn of_raw<F, Fut>(handler: F) -> Arc<dyn Handler>
where
    F: Fn(Job<Bytes>, Run) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = RawResult> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(Closure(move |job: Job<Bytes>, ending: Ending| {
        let (handler, run) = (Arc::clone(&handler), ending.run().clone());
        // Called when it is polled, so that a panic before its first `.await` is this job's too.
        let process = async move { handler(job, run).await };
        Some(supervise(process, ending).boxed())
    }))
}

pub(crate) fn of_blocking<F, P, O>(handler: F) -> Arc<dyn Handler>
where
    F: Fn(Job<P>, Run) -> Result<O, JobError> + Send + Sync + 'static,
    P: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(Closure(move |job: Job<Bytes>, mut ending: Ending| {
        let handler = Arc::clone(&handler);
        tokio::task::spawn_blocking(move || {
            // It may have waited for a thread longer than it is wanted; `ending` says so when it is dropped.
            if ending.run().is_cancelled() {
                return;
            }
            ending.begin();
            let run = ending.run().clone();
            let process = || encode(&handler(decode(job)?, run)?);
            // Nothing of the call is looked at after a panic.
            ending.tell(end(catch_unwind(AssertUnwindSafe(process))));
        });
        None
    }))
}

/// Runs a handler to its end, or until it is to be dropped.
async fn supervise(process: impl Future<Output = RawResult>, mut ending: Ending) {
    ending.begin();
    // A block, so that the handler is gone before its end is told.
    let end = {
        // Nothing of the handler is looked at after a panic.
        let process = AssertUnwindSafe(process).catch_unwind();
        tokio::select! {
            biased;
            result = process => end(result),
            () = ending.run().control().drop.notified() => End::Dropped,
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

impl<F> Handler for Closure<F>
where
    F: Fn(Job<Bytes>, Ending) -> Option<BoxFuture<'static, ()>> + Send + Sync,
{
    fn call(&self, job: Job<Bytes>, ending: Ending) -> Option<BoxFuture<'static, ()>> {
        (self.0)(job, ending)
    }
}
