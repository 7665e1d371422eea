//! Testing handlers without a server, in simulated time.
//!
//! A [`TestWorker`] takes a [`Runtime`](crate::Runtime) as it stands in the program and runs jobs with it, by the same
//! code: params are decoded, handlers called within their concurrency, results encoded, panics caught, time-outs and
//! graces kept, reports checked for their size. What a server would do is done by the test: it hands jobs over, cancels
//! them, lets time pass, and sees how each run ended.
//!
//! ```
//! use std::time::Duration;
//!
//! use jobq_worker::testing::{TestJob, TestWorker};
//! use jobq_worker::{Cause, Job, JobError, Run, Runtime};
//!
//! fn runtime(address: &str) -> Runtime {
//!     Runtime::new(address)
//!         .handler("halve", |job: Job<u32>, run: Run| async move {
//!             run.progress(0.5, "halving");
//!             match job.params {
//!                 0 => Err(JobError::never("there is nothing to halve")),
//!                 number => Ok(number / 2),
//!             }
//!         })
//!         .handler("wait", |_: Job<()>, run: Run| async move {
//!             run.cancelled().await;
//!             Ok(())
//!         })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut worker = TestWorker::new(runtime("tcp://127.0.0.1:7420"))?; // nothing is connected to
//!
//! let outcome = worker.run(TestJob::new("halve", &84)).await;
//! assert_eq!(outcome.result::<u32>(), 42);
//!
//! let zero = worker.submit(TestJob::new("halve", &0));
//! assert_eq!(worker.progress(zero).await.text, "halving");
//! assert_eq!(worker.outcome(zero).await.error(), &JobError::never("there is nothing to halve"));
//!
//! let slow = worker.submit(TestJob::new("wait", &()).timeout(Duration::from_secs(3600)));
//! worker.advance(Duration::from_secs(3600)).await;
//! assert_eq!(worker.outcome(slow).await.error().cause(), Cause::TimedOut);
//! # Ok(())
//! # }
//! ```
//!
//! The simulated time is that of time-outs, graces and the shutdown; it stands still but for [`TestWorker::advance`].
//! Timers of a handler's own, such as `tokio::time::sleep`, are tokio's: `#[tokio::test(start_paused = true)]` makes
//! those pass at once.

mod job;
mod outcome;
mod worker;

pub use job::TestJob;
pub use outcome::TestOutcome;
pub use worker::TestWorker;
