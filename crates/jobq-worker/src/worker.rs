//! What a worker of one name is.

use jobq_proto::JobName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::JobError;
use crate::job::{Job, Run};

/// Something that runs the jobs of one name. [`Runtime::worker`](crate::Runtime::worker) takes it.
///
/// ```
/// use jobq_worker::{Job, JobError, Run, Worker};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Asset {
///     path: String,
/// }
///
/// #[derive(Serialize)]
/// struct Size {
///     bytes: u64,
/// }
///
/// struct Measure;
///
/// impl Worker for Measure {
///     const JOB_NAME: &'static str = "measure";
///     type Params = Asset;
///     type Output = Size;
///
///     async fn process(&self, job: Job<Asset>, _run: &Run) -> Result<Size, JobError> {
///         Ok(Size { bytes: std::fs::metadata(&job.params.path)?.len() })
///     }
/// }
/// ```
///
/// A name that no job can have does not compile where the worker is handed to a runtime:
///
/// ```compile_fail
/// # use jobq_worker::{Job, JobError, Run, Runtime, Worker};
/// struct Spaced;
///
/// impl Worker for Spaced {
///     const JOB_NAME: &'static str = "two words";
///     type Params = ();
///     type Output = ();
///
///     async fn process(&self, _job: Job<()>, _run: &Run) -> Result<(), JobError> {
///         Ok(())
///     }
/// }
///
/// let runtime = Runtime::new("tcp://127.0.0.1:7420").worker(Spaced);
/// ```
pub trait Worker: Send + Sync + 'static {
    /// The name of the jobs that it runs: 1 to 128 bytes of `[A-Za-z0-9_.-]`.
    const JOB_NAME: &'static str;

    /// What its jobs are submitted with.
    type Params: DeserializeOwned + Send;

    /// What a run results in.
    type Output: Serialize + Send;

    /// Runs one job. Many calls may be under way at a time, as many as the runtime's concurrency.
    ///
    /// At least once is the promise: a job may run again after a crash, so what it does should bear repetition.
    ///
    /// # Errors
    /// The job has failed, and is tried again if the error says so. A panic counts as an error too.
    fn process(
        &self,
        job: Job<Self::Params>,
        run: &Run,
    ) -> impl Future<Output = Result<Self::Output, JobError>> + Send;
}

/// Fails to compile for a worker whose name no job can have.
pub(crate) const fn assert_name<W: Worker>() {
    const {
        assert!(
            JobName::is_valid(W::JOB_NAME),
            "JOB_NAME has to be 1 to 128 bytes of A-Z, a-z, 0-9, '_', '.' and '-'"
        );
    }
}
