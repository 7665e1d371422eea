//! What is to be measured, and how.

use std::path::PathBuf;
use std::time::Duration;

/// The setting of one scenario.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) scenario: &'static str,
    pub(super) jobs: u64,
    /// Bytes of params of each job, more than those of a stamp.
    pub(super) payload: usize,
    pub(super) clients: u64,
    pub(super) workers: u64,
    pub(super) concurrency: u32,
    /// Most jobs that a client hands over at a time, at least one.
    pub(super) batch: usize,
    /// Most jobs of each client that are not acknowledged; as many as the client library takes if there is none.
    pub(super) outstanding: Option<usize>,
    /// Jobs handed over a second by all clients together; as fast as they are taken if there is none.
    pub(super) rate: Option<u64>,
    /// Connections that do nothing.
    pub(super) connections: u64,
    /// Names that jobs are spread over.
    pub(super) names: u64,
    /// How long a server that has nothing to do is looked at.
    pub(super) observe: Duration,
    /// How long the server keeps the records of completed jobs; as by default if there is none.
    pub(super) keep_completed: Option<Duration>,
    /// Where the server's directory is made.
    pub(super) dir: PathBuf,
    /// What the server logs.
    pub(super) log: Option<String>,
}
