//! What can be set.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use jobq_proto::{Backoff, JobName, Limits, Window};

/// The machine's settings. [`Config::default`] is what `jobq serve` uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What the server calls itself in its Hello.
    pub server: String,
    /// What every Hello must show; anybody is let in where absent.
    pub token: Option<String>,
    /// Most jobs leased at a time, over all workers; no cap where absent.
    pub max_active: Option<usize>,
    /// Most jobs of a name leased at a time, over all workers, for the names that have such a cap.
    pub caps: BTreeMap<JobName, NonZeroU32>,
    /// How long a session may be silent.
    pub ttl: Duration,
    /// How long a session whose connection closed keeps its runs.
    pub grace: Duration,
    /// How often a peer sends a Beat when it sends nothing else.
    pub beat: Duration,
    /// How long past its time-out a run is left to its worker before the server takes it away.
    pub timeout_slack: Duration,
    /// How long a uuid is remembered after its job has ended.
    pub uuid_window: Duration,
    /// How often a job is tried that does not say.
    pub max_attempts: NonZeroU32,
    /// How long a job waits after a failure that does not say.
    pub backoff: Backoff,
    /// How large things may be.
    pub limits: Limits,
    /// How much a client may have submitted and unacknowledged.
    pub window: Window,
    /// How many bytes of params are kept in memory for jobs that wait.
    pub payload_budget: usize,
    /// How long a stopping server waits for settlements.
    pub close_within: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: concat!("jobq/", env!("CARGO_PKG_VERSION")).to_owned(),
            token: None,
            max_active: None,
            caps: BTreeMap::new(),
            ttl: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            beat: Duration::from_secs(10),
            timeout_slack: Duration::from_secs(10),
            uuid_window: Duration::from_secs(7 * 24 * 3600),
            max_attempts: NonZeroU32::new(20).expect("20 is not 0"),
            backoff: Backoff::default(),
            limits: Limits::default(),
            window: Window::default(),
            payload_budget: 64 * 1024 * 1024,
            close_within: Duration::from_secs(10),
        }
    }
}
