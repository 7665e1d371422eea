//! Waiting jobs, the most urgent first.

use jobq_proto::{JobId, Priority};

use super::line::{Line, Waiting};
use crate::time::Wall;

/// A job's place among all that wait: the most urgent is the least.
pub(super) type Place = (Priority, Wall, JobId);

/// A [`Line`] for each priority.
#[derive(Default)]
pub(super) struct PriorityQueue {
    /// The first job, so that looking which it is looks at no line.
    head: Option<(Priority, Waiting)>,
    /// Jobs that are taken before the next look at whether to read ahead.
    before_look: usize,
    lines: [Line; Priority::ALL.len()],
}

impl PriorityQueue {
    pub(super) fn len(&self) -> usize {
        self.lines.iter().map(Line::len).sum()
    }

    /// The first job, and its place.
    pub(super) fn head(&self) -> Option<(Place, Waiting)> {
        let (priority, first) = self.head?;
        Some(((priority, first.due, first.id), first))
    }

    /// The line that the first job stands in.
    pub(super) fn head_line(&self) -> Option<&Line> {
        let (priority, _) = self.head?;
        Some(&self.lines[priority as usize])
    }

    pub(super) fn push(&mut self, priority: Priority, waiting: Waiting) {
        self.lines[priority as usize].push(waiting);
        let is_first = |(p, first): (Priority, Waiting)| (priority, waiting.key()) < (p, first.key());
        if self.head.is_none_or(is_first) {
            self.head = Some((priority, waiting));
        }
    }

    pub(super) fn pop(&mut self) -> Option<(Priority, Waiting)> {
        let (priority, first) = self.head?;
        let popped = self.lines[priority as usize].pop();
        debug_assert_eq!(popped, Some(first), "the head is the first");
        // Nothing more urgent waits.
        self.head = self.first_from(priority);
        Some((priority, first))
    }

    /// Takes a job out, wherever it stands.
    pub(super) fn remove(&mut self, priority: Priority, due: Wall, id: JobId) -> Option<Waiting> {
        let found = self.lines[priority as usize].remove(due, id)?;
        if self.head.is_some_and(|(_, head)| head.id == id) {
            self.head = self.first_from(priority);
        }
        Some(found)
    }

    /// Puts another one's jobs into this one.
    pub(super) fn merge(&mut self, other: PriorityQueue) {
        for (line, other) in self.lines.iter_mut().zip(other.lines) {
            if other.len() > 0 {
                line.merge(other);
            }
        }
        self.head = self.first_from(Priority::High);
    }

    /// Whether it is to be looked at whether to read ahead: at its first job, and at each `every`th from then on.
    pub(super) fn is_look_due(&mut self, every: usize) -> bool {
        let left = self.before_look.checked_sub(1);
        self.before_look = left.unwrap_or(every.saturating_sub(1));
        left.is_none()
    }

    /// The first of the jobs of this priority and the less urgent ones.
    fn first_from(&self, priority: Priority) -> Option<(Priority, Waiting)> {
        let priorities = &Priority::ALL[priority as usize..];
        priorities.iter().find_map(|priority| {
            let first = self.lines[*priority as usize].first()?;
            Some((*priority, *first))
        })
    }
}
