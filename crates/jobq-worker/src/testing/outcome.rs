//! How a test's run ended.

use bytes::Bytes;
use jobq_client::params;
use serde::de::DeserializeOwned;

use crate::error::JobError;

/// How a run ended, as a server would be told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TestOutcome {
    /// It completed, with a result as it travels: one encoded CBOR item, or none. [`TestOutcome::result`] decodes it.
    Completed(Option<Bytes>),
    /// It failed. The error says why, whether the job would be tried again, and by [`JobError::cause`] whether the
    /// handler returned it, panicked, was cancelled or ran out of time.
    Failed(JobError),
    /// It was given back unfinished, as by a worker that shuts down.
    Released,
    /// The run had been taken away, so nothing was reported.
    GivenUp,
}

impl TestOutcome {
    /// The result of a run that completed. Without one it is that of `()`.
    ///
    /// # Panics
    /// When the run did not complete, or its result is of another type.
    #[track_caller]
    pub fn result<T: DeserializeOwned>(&self) -> T {
        let Self::Completed(result) = self else {
            panic!("the run was to complete, and it ended otherwise: {self:?}");
        };
        match params::decode(result.as_deref().unwrap_or_default()) {
            Ok(result) => result,
            Err(error) => panic!("the run completed with a result of another type: {error}"),
        }
    }

    /// Why a run failed.
    ///
    /// # Panics
    /// When the run did not fail.
    #[track_caller]
    pub fn error(&self) -> &JobError {
        match self {
            Self::Failed(error) => error,
            _ => panic!("the run was to fail, and it ended otherwise: {self:?}"),
        }
    }
}
