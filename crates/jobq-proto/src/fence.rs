//! The right to report on a run.

use std::fmt;

use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The right to report on one run of one job.
///
/// `epoch` rises at every start of the server, and `seq` at every order within an epoch, so no fence is ever
/// issued twice and fences compare in the order in which they were issued. A settlement under a fence that is no
/// longer the job's current one is refused as `Stale`.
///
/// On the wire: the array `[epoch, seq]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "(u64, u64)")]
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

impl<'de> Deserialize<'de> for Fence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(2, FenceVisitor)
    }
}

/// Reads exactly two numbers. A tuple's own visitor would leave a third one behind, and some decoders would then
/// take it for the next key of the map around it.
struct FenceVisitor;

impl<'de> Visitor<'de> for FenceVisitor {
    type Value = Fence;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fence, which is an array of two numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Fence, A::Error> {
        let epoch = seq
            .next_element()?
            .ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let seq_number = seq
            .next_element()?
            .ok_or_else(|| de::Error::invalid_length(1, &self))?;
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(Fence {
                epoch,
                seq: seq_number,
            }),
            Some(_) => Err(de::Error::invalid_length(3, &self)),
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}
