//! How much may be queued, and what is said to whoever submits beyond that.
//!
//! What counts are jobs that have not ended: waiting, scheduled, leased, or on their way to the store. Only new jobs
//! are refused. Those that are there go back to their lines as often as they have to, and end.

use jobq_proto::{ErrorCode, JobName, WireError};

use super::Machine;
use super::config::QueueLimits;
use super::names::NameKey;
use crate::access::NamePatterns;

/// When to repeat what was refused since too much is queued, in microseconds, and up to as much again by chance, so
/// that those who were refused together do not come back together. How soon there is room is for the workers to say.
const RETRY_AFTER: u64 = 1_000_000;

/// What is said of the limits over all names to whoever may not touch all: how much there is, is how much others have.
const FULL_OF_OTHERS: &str = "the queue is full: as much as the server takes over all names is queued";

/// Jobs, and bytes of their params.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    pub(super) jobs: u64,
    pub(super) bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u32) {
        self.jobs += 1;
        self.bytes += u64::from(bytes);
    }

    pub(super) fn subtract(&mut self, bytes: u32) {
        self.jobs -= 1;
        self.bytes -= u64::from(bytes);
    }
}

impl Machine {
    /// The key of the name of one more job, with so many bytes of params, or why it may not be queued. Only then is a
    /// name kept that is new to the server: those of refused jobs would leave no room for others.
    /// How much there is of all names is told only to whoever may touch all.
    pub(super) fn admit(
        &mut self,
        name: &JobName,
        bytes: u32,
        only: &NamePatterns,
    ) -> Result<NameKey, WireError> {
        let known = self.names.find(name.as_str());
        let live = known.map(|key| self.names.live_of(key)).unwrap_or_default();
        match self.beyond_queue((name, live), bytes, only.are_all()) {
            None => known.map_or_else(|| self.names.intern(name), Ok),
            Some(error) => Err(error),
        }
    }

    fn beyond_queue(
        &mut self,
        (name, of_name): (&JobName, Amount),
        bytes: u32,
        tells_all: bool,
    ) -> Option<WireError> {
        let QueueLimits {
            jobs,
            bytes: max_bytes,
            jobs_per_name,
            bytes_per_name,
        } = self.config.queue;
        let beyond_all =
            beyond(self.names.live(), bytes, jobs, max_bytes, None).map(|message| match tells_all {
                true => message,
                false => FULL_OF_OTHERS.to_owned(),
            });
        let message =
            beyond_all.or_else(|| beyond(of_name, bytes, jobs_per_name, bytes_per_name, Some(name)))?;
        let retry_after = RETRY_AFTER + self.chance(RETRY_AFTER);
        Some(WireError {
            retry_after: Some(retry_after),
            ..WireError::new(ErrorCode::QueueFull, message)
        })
    }
}

fn beyond(
    used: Amount,
    bytes: u32,
    max_jobs: Option<u64>,
    max_bytes: Option<u64>,
    name: Option<&JobName>,
) -> Option<String> {
    // Said of few jobs, and asked of all.
    let of = || name.map_or_else(String::new, |name| format!(" of the name {name}"));
    if let Some(max) = max_jobs.filter(|max| used.jobs >= *max) {
        return Some(format!(
            "the queue is full: {} not ended, and at most {max} may be queued",
            match used.jobs {
                1 => format!("1 job{} has", of()),
                jobs => format!("{jobs} jobs{} have", of()),
            }
        ));
    }
    let max = max_bytes.filter(|max| used.jobs > 0 && used.bytes + u64::from(bytes) > *max)?;
    Some(format!(
        "the queue is full: the params of the jobs{} that have not ended take {} bytes, those of this one {bytes}, \
         and at most {max} may be queued",
        of(),
        used.bytes
    ))
}
