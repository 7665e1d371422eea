//! How much fits into one answer to a query.

use jobq_proto::WireSize;
use jobq_proto::message::JobView;

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

    /// How many more jobs may be looked at: those that fit by number, and one to see whether there are more.
    pub(super) fn wanted(&self) -> usize {
        if self.more {
            0
        } else {
            self.limit.saturating_sub(self.jobs.len()).saturating_add(1)
        }
    }

    pub(super) fn into_answer(self) -> Answer {
        Answer {
            jobs: self.jobs,
            more: self.more,
        }
    }
}
