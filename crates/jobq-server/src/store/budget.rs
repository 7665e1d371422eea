//! How much fits into one answer to a query.

use jobq_proto::message::{EndedRun, JobView};
use jobq_proto::{JobId, WireSize};

use super::Answer;

/// Collects jobs until their number or their bytes are at the limit.
#[derive(Debug)]
pub(super) struct Budget {
    jobs: Vec<JobView>,
    more: bool,
    bytes_left: usize,
    limit: usize,
}

impl Budget {
    /// Room for `limit` jobs and for `max_bytes`, but for one job in any case.
    pub(super) fn new(max_bytes: usize, limit: usize) -> Self {
        Self {
            jobs: Vec::new(),
            more: false,
            bytes_left: max_bytes,
            limit: limit.max(1),
        }
    }

    /// Takes the job, or says that the answer is full.
    pub(super) fn take(&mut self, view: JobView) -> bool {
        let size = view.wire_size();
        if !self.jobs.is_empty() && (self.jobs.len() >= self.limit || size > self.bytes_left) {
            self.more = true;
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(size);
        self.jobs.push(view);
        true
    }

    /// The latest of a job's runs that an answer has room for which has nothing else: the earliest first.
    pub(super) fn runs_that_fit<E>(
        max_bytes: usize,
        view: &JobView,
        latest_first: impl Iterator<Item = Result<EndedRun, E>>,
    ) -> Result<Vec<EndedRun>, E> {
        let mut bytes_left = max_bytes.saturating_sub(view.wire_size());
        let mut runs = Vec::new();
        for run in latest_first {
            let run = run?;
            let Some(left) = bytes_left.checked_sub(run.wire_size()) else {
                break;
            };
            bytes_left = left;
            runs.push(run);
        }
        runs.reverse();
        Ok(runs)
    }

    /// How many more jobs may be looked at: those that fit by number, and one to see whether there are more.
    pub(super) fn wanted(&self) -> usize {
        if self.more {
            0
        } else {
            self.limit.saturating_sub(self.jobs.len()).saturating_add(1)
        }
    }

    /// Whether there are as many jobs as there may be.
    pub(super) fn is_full(&self) -> bool {
        self.jobs.len() >= self.limit
    }

    /// The answer; `next` says where to go on if that is not after the last job.
    pub(super) fn into_answer(self, next: Option<JobId>) -> Answer {
        let last = self.jobs.last().map(|job| JobId(job.id));
        Answer {
            next: if self.more { last } else { next },
            jobs: self.jobs,
        }
    }
}
