//! The right to report on a run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The right to report on one run of one job.
///
/// `epoch` rises at every start of the server, and `seq` at every order within an epoch, so no fence is ever
/// issued twice and fences compare in the order in which they were issued. A settlement under a fence that is no
/// longer the job's current one is refused as `Stale`.
///
/// On the wire: the array `[epoch, seq]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Fence {
    /// Which life of the server issued it.
    pub epoch: u64,
    /// Which order of that life it was.
    pub seq: u64,
}

impl From<(u64, u64)> for Fence {
    fn from((epoch, seq): (u64, u64)) -> Self {
        Self { epoch, seq }
    }
}

impl From<Fence> for (u64, u64) {
    fn from(fence: Fence) -> Self {
        (fence.epoch, fence.seq)
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}
