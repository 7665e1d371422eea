//! The heads of the lanes that may be taken from, and which of them is next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use jobq_proto::{JobId, Priority};

use super::lines::LaneKey;
use crate::time::Wall;

/// Entries of heads that are none any more, beside one for each lane, before they are removed.
const STALE: usize = 64;

/// The head of a lane, as heads are ordered over all lanes: the most urgent is the least.
pub(super) type Head = (Priority, Wall, JobId);

/// A head, where it stands, and how many bytes of params the job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ready {
    pub(super) head: Head,
    pub(super) lane: LaneKey,
    pub(super) bytes: u32,
}

/// The heads.
///
/// The first stands apart: as a rule it is taken, and the next job of its lane is first again, or comes after all others.
/// Others that are heads no more stay where they are until they come up, or until most are such: looking for each, or
/// keeping them in a tree, would take longer than all the rest of choosing a job.
#[derive(Default)]
pub(super) struct Heads {
    /// None only if there is none at all.
    first: Option<Ready>,
    /// Others that came in order, as they do while names take turns, and some that were heads.
    in_order: VecDeque<Ready>,
    /// All others, and some that were heads.
    others: BinaryHeap<Reverse<Ready>>,
    /// How many lanes have a head here.
    lanes: usize,
}

impl Heads {
    /// The one that is next.
    pub(super) fn first(&self) -> Option<Ready> {
        self.first
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lanes
    }

    /// A lane has another head, or its first, or none any more; `is_head` says of an entry whether it is that of its lane's
    /// head now.
    pub(super) fn replace(
        &mut self,
        before: Option<Head>,
        ready: Option<Ready>,
        is_head: impl Fn(&Ready) -> bool,
    ) {
        self.lanes = self.lanes + usize::from(ready.is_some()) - usize::from(before.is_some());
        self.first = self.first.filter(|first| Some(first.head) != before);
        if let Some(ready) = ready {
            self.add(ready);
        }
        while self.first.is_none()
            && let Some(next) = self.pop_other()
        {
            self.first = is_head(&next).then_some(next);
        }
        if self.in_order.len() + self.others.len() > 2 * self.lanes + STALE {
            self.clean(is_head);
        }
    }

    fn add(&mut self, new: Ready) {
        // While names take turns there is nothing else to look at.
        if self.in_order.back().is_some_and(|last| *last < new) {
            debug_assert!(
                self.first.is_none_or(|first| first < new),
                "the first is before all the others"
            );
            self.in_order.push_back(new);
            return;
        }
        let next = self.first.or_else(|| self.first_other());
        let other = if next.is_none_or(|next| new < next) {
            self.first.replace(new)
        } else {
            Some(new)
        };
        let Some(other) = other else { return };
        if self.in_order.is_empty() {
            self.in_order.push_back(other);
        } else {
            self.others.push(Reverse(other));
        }
    }

    fn first_other(&self) -> Option<Ready> {
        let in_order = self.in_order.front().copied();
        let other = self.others.peek().map(|Reverse(other)| *other);
        in_order.into_iter().chain(other).min()
    }

    fn pop_other(&mut self) -> Option<Ready> {
        let first = self.first_other()?;
        if self.in_order.front() == Some(&first) {
            self.in_order.pop_front();
        } else {
            self.others.pop();
        }
        Some(first)
    }

    /// Removes what is no head any more, and what has become one again and stands here twice.
    fn clean(&mut self, is_head: impl Fn(&Ready) -> bool) {
        let in_order = self.in_order.drain(..);
        let others = self.others.drain().map(|Reverse(other)| other);
        let mut all: Vec<Ready> = in_order.chain(others).filter(|ready| is_head(ready)).collect();
        all.sort_unstable();
        all.dedup();
        self.in_order.extend(all);
    }

    /// How many entries there are beside the first.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.in_order.len() + self.others.len()
    }

    /// Most entries that there may be beside the first.
    #[cfg(test)]
    pub(super) fn most_entries(&self) -> usize {
        2 * self.lanes + STALE
    }
}
