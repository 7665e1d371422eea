//! The jobs whose time has not come.
//!
//! Two clocks say when it has. A job for a moment of the calendar goes by the calendar, which may be set. A delay and
//! the wait before a retry are as long as they were to be, whatever the calendar says meanwhile: they have a deadline
//! on the clock that never jumps. It is not on disk, where only the calendar means something: after a start, the time
//! that was written down is all there is, and everything goes by that.

use jobq_proto::{JobId, Priority};

use super::Map;
use super::line::Waiting;
use super::names::NameKey;
use crate::time::{Mono, Now, Wall};

/// What says that a job's time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The calendar has come to the time that the job is due.
    Due,
    /// This moment has come; the time that the job is due is what was expected of the calendar then.
    Deadline(Mono),
}

impl Until {
    /// Whether that is so for a job that is due at this time.
    pub(super) fn has_come(self, due: Wall, now: Now) -> bool {
        match self {
            Until::Due => due <= now.wall,
            Until::Deadline(at) => at <= now.mono,
        }
    }
}

/// All of them. A job with a deadline takes 56 bytes, one for the calendar 28, and what the maps need beside.
#[derive(Default)]
pub(super) struct Scheduled {
    by_calendar: Map<(Wall, JobId), Kept>,
    by_deadline: Map<(Mono, JobId), (Wall, Kept)>,
    deadlines: Map<JobId, Mono>,
}

/// A job without what it is found by.
#[derive(Debug, Clone, Copy)]
struct Kept {
    name: NameKey,
    bytes: u32,
    attempts: u16,
    charges: u8,
    priority: Priority,
}

/// A job that leaves, as it was when it came.
pub(super) type Timed = (Priority, Waiting);

impl Kept {
    fn timed(self, due: Wall, id: JobId) -> Timed {
        let Self {
            name,
            bytes,
            attempts,
            charges,
            priority,
        } = self;
        let waiting = Waiting::new(name, due, id, bytes.into(), attempts.into(), charges.into());
        (priority, waiting)
    }
}

impl Scheduled {
    pub(super) fn push(&mut self, priority: Priority, waiting: Waiting, until: Until) {
        let Waiting {
            due,
            id,
            name,
            bytes,
            attempts,
            charges,
        } = waiting;
        let kept = Kept {
            name,
            bytes,
            attempts,
            charges,
            priority,
        };
        match until {
            Until::Due => {
                self.by_calendar.insert((due, id), kept);
            }
            Until::Deadline(at) => {
                self.by_deadline.insert((at, id), (due, kept));
                self.deadlines.insert(id, at);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_calendar.len() + self.by_deadline.len()
    }

    /// When the first one's time comes by the calendar.
    pub(super) fn next_due(&self) -> Option<Wall> {
        self.by_calendar.keys().next().map(|(due, _)| *due)
    }

    /// When the first deadline is.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.by_deadline.keys().next().map(|(at, _)| *at)
    }

    /// Takes one whose time has come.
    pub(super) fn pop(&mut self, now: Now) -> Option<Timed> {
        if self.next_due().is_some_and(|due| due <= now.wall) {
            let ((due, id), kept) = self.by_calendar.pop_first()?;
            return Some(kept.timed(due, id));
        }
        if self.next_deadline().is_some_and(|at| at <= now.mono) {
            let ((_, id), (due, kept)) = self.by_deadline.pop_first()?;
            self.deadlines.remove(&id);
            return Some(kept.timed(due, id));
        }
        None
    }

    pub(super) fn remove(&mut self, due: Wall, id: JobId) -> Option<Timed> {
        if let Some(at) = self.deadlines.remove(&id) {
            let (due, kept) = self.by_deadline.remove(&(at, id))?;
            return Some(kept.timed(due, id));
        }
        let kept = self.by_calendar.remove(&(due, id))?;
        Some(kept.timed(due, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduled_job_takes_56_bytes_at_most() {
        assert_eq!(size_of::<(Wall, JobId)>() + size_of::<Kept>(), 28);
        let deadline = size_of::<(Mono, JobId)>() + size_of::<(Wall, Kept)>();
        assert_eq!(deadline + size_of::<(JobId, Mono)>(), 56);
    }
}
