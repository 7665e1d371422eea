//! What can be set.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use jobq_proto::{Backoff, JobName, Limits, Window};

use super::retention::Keep;
use crate::access::Tokens;

/// Jobs that all connections together watch at a time, unless told otherwise: 128 MiB of them.
const WATCHES: usize = 128 * 1024 * 1024 / 100;

/// The machine's settings. Its `Debug` says whether there is a token, and not which. [`Config::default`] is what `jobq
/// serve` uses, and begins whatever is to differ from it:
///
/// ```
/// let mut config = jobq_server::Config::default();
/// config.max_active = Some(8);
/// config.keep.completed = None;
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// What the server calls itself in its Hello.
    pub server: String,
    /// A token that anybody may share, and that allows everything. Anybody is let in without any where it, `tokens` and
    /// `certificates` are absent.
    pub token: Option<String>,
    /// Tokens and entries for certificates, each with what it allows. A list, even an empty one, keeps everybody out
    /// who is not in it.
    pub tokens: Option<Tokens>,
    /// Whether the transport asks for client certificates, which it verifies. As long as none has an entry in `tokens`,
    /// each allows everything.
    pub certificates: bool,
    /// Most jobs leased at a time, over all workers; no cap where absent.
    pub max_active: Option<usize>,
    /// Most jobs of a name leased at a time, over all workers, for the names that have such a cap.
    pub caps: BTreeMap<JobName, NonZeroU32>,
    /// How much may be queued.
    pub queue: QueueLimits,
    /// How long a session may be silent that has something to lose.
    pub ttl: Duration,
    /// How long a session whose connection closed keeps its runs.
    pub grace: Duration,
    /// How often a peer sends a Beat that has something under way.
    pub beat: Duration,
    /// How often one does that has nothing under way; not above `beat`: as often as ever. A session without runs may be
    /// silent for so long and `ttl` together.
    pub idle_beat: Duration,
    /// How long past its time-out a run is left to its worker before the server takes it away.
    pub timeout_slack: Duration,
    /// How long records of ended jobs are kept, and their uuids with them.
    pub keep: Keep,
    /// How often a job is tried that does not say.
    pub max_attempts: NonZeroU32,
    /// How long a job waits after a failure that does not say.
    pub backoff: Backoff,
    /// How large things may be.
    pub limits: Limits,
    /// How much a client may have submitted and unacknowledged.
    pub window: Window,
    /// Most jobs that all connections together watch at a time, those apart of connections that watch up to 100. Each
    /// takes about 100 bytes.
    pub watches: usize,
    /// How many bytes of params are kept in memory for jobs that wait.
    pub payload_budget: usize,
    /// Most peers at a time whose Hello is answered later, since tokens from the same place were wrong a moment ago.
    /// Others are sent away at once. Each of them has a place among the connections that are not let in: this is to be a
    /// small part of those.
    pub late_answers: usize,
    /// How long a stopping server waits for settlements.
    pub close_within: Duration,
}

/// How many jobs that have not ended a server holds, and how many bytes of their params. A job beyond that is refused;
/// whatever happens to those that are there goes on. No limit where absent. The limits on bytes let one job in,
/// however large, where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLimits {
    /// Jobs, over all names.
    pub jobs: Option<u64>,
    /// Bytes, over all names.
    pub bytes: Option<u64>,
    /// Jobs of one name.
    pub jobs_per_name: Option<u64>,
    /// Bytes of one name.
    pub bytes_per_name: Option<u64>,
}

impl QueueLimits {
    /// Most jobs, unless told otherwise. A waiting job takes two to ten bytes of memory, a scheduled one about
    /// 100: so many take up to two gigabytes, where a producer that runs away would end in a server that the system kills.
    pub const DEFAULT_JOBS: u64 = 20_000_000;
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            jobs: Some(Self::DEFAULT_JOBS),
            bytes: None,
            jobs_per_name: None,
            bytes_per_name: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: concat!("jobq/", env!("CARGO_PKG_VERSION")).to_owned(),
            token: None,
            tokens: None,
            certificates: false,
            max_active: None,
            caps: BTreeMap::new(),
            queue: QueueLimits::default(),
            ttl: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            beat: Duration::from_secs(10),
            idle_beat: Duration::from_secs(120),
            timeout_slack: Duration::from_secs(10),
            keep: Keep::default(),
            max_attempts: NonZeroU32::new(20).expect("20 is not 0"),
            backoff: Backoff::default(),
            limits: Limits::default(),
            window: Window::default(),
            watches: WATCHES,
            payload_budget: 64 * 1024 * 1024,
            late_answers: 100,
            close_within: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By name, so that a new secret cannot be forgotten here.
        let Self {
            server,
            token,
            tokens,
            certificates,
            max_active,
            caps,
            queue,
            ttl,
            grace,
            beat,
            idle_beat,
            timeout_slack,
            keep,
            max_attempts,
            backoff,
            limits,
            window,
            watches,
            payload_budget,
            late_answers,
            close_within,
        } = self;
        f.debug_struct("Config")
            .field("server", server)
            .field("token", &token.as_ref().map(|_| "…"))
            .field("tokens", tokens)
            .field("certificates", certificates)
            .field("max_active", max_active)
            .field("caps", caps)
            .field("queue", queue)
            .field("ttl", ttl)
            .field("grace", grace)
            .field("beat", beat)
            .field("idle_beat", idle_beat)
            .field("timeout_slack", timeout_slack)
            .field("keep", keep)
            .field("max_attempts", max_attempts)
            .field("backoff", backoff)
            .field("limits", limits)
            .field("window", window)
            .field("watches", watches)
            .field("payload_budget", payload_budget)
            .field("late_answers", late_answers)
            .field("close_within", close_within)
            .finish()
    }
}
