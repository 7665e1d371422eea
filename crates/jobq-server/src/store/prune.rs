//! Which records of ended jobs a store gives up.

use jobq_proto::Status;

use super::NameTotals;
use crate::time::Wall;

/// Something for each status in which a job can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByEnd<T> {
    /// For those that completed.
    pub completed: T,
    /// For dead letters.
    pub failed: T,
    /// For those that were cancelled.
    pub cancelled: T,
}

impl ByEnd<()> {
    /// The statuses, in the order of the fields.
    pub const STATUSES: [Status; 3] = [Status::Completed, Status::Failed, Status::Cancelled];
}

impl<T> ByEnd<T> {
    /// What is there for a status. Any that is not terminal counts as `Cancelled`.
    pub fn of(&self, status: Status) -> &T {
        match status {
            Status::Completed => &self.completed,
            Status::Failed => &self.failed,
            _ => &self.cancelled,
        }
    }

    /// As [`ByEnd::of`], to be changed.
    pub fn of_mut(&mut self, status: Status) -> &mut T {
        match status {
            Status::Completed => &mut self.completed,
            Status::Failed => &mut self.failed,
            _ => &mut self.cancelled,
        }
    }

    /// Makes something of each.
    pub fn map<U>(&self, mut make: impl FnMut(&T) -> U) -> ByEnd<U> {
        ByEnd {
            completed: make(&self.completed),
            failed: make(&self.failed),
            cancelled: make(&self.cancelled),
        }
    }

    /// All of them, in the order of [`ByEnd::STATUSES`].
    pub fn values(&self) -> [&T; 3] {
        [&self.completed, &self.failed, &self.cancelled]
    }
}

/// Which records of ended jobs are to go: those that ended too long ago, and then, where there are too many of a
/// status, those of the lowest ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prune {
    /// Those go that ended before this time.
    pub before: ByEnd<Wall>,
    /// Most records of a status that ended before `count_before`.
    pub count: Option<Count>,
}

/// Most records of a status that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// How many, of each status.
    pub most: u64,
    /// None that ended at this time or later goes for there being too many.
    pub before: Wall,
}

/// Some records have gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// How many, by name.
    pub gone: Vec<NameTotals>,
    /// When the first of the jobs ended whose records are left.
    pub oldest: ByEnd<Option<Wall>>,
    /// There is more to do for the same [`Prune`].
    pub more: bool,
}
