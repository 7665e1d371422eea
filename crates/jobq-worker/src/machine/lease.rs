//! How long the runs are certainly ours.
//!
//! The server gives the runs of a silent session away once its time-to-live is over, counted from when it last
//! heard of it. The worker counts from when it *sent* what was last answered, which is never later, and stops
//! before the time is over. So on this path no two handlers of a job run at a time.
//!
//! For the same reason none is called when the time is nearly over, or when nobody knows: an order may have been under way
//! for long, and a worker that had nothing to do has not been answered for a while. Such a run waits until the server has
//! answered, which a Beat asks it to at once.

use std::time::Duration;

use jobq_client::BootTime;

use jobq_proto::Fence;

use super::{Command, Machine, Report, Run, State, Stop};

/// Of the time-to-live, this part is left to handlers to stop in, after they were told to.
const MARGIN_DIVISOR: u32 = 5;

/// Of the time-to-live, this part is kept between the end of the last handler and the end of the lease, for clocks
/// that run unevenly.
const SAFETY_DIVISOR: u32 = 30;

/// Of the time-to-live, this part has to be left until handlers would be told to stop, or none is called: the next answer
/// may take a while.
const START_DIVISOR: u32 = 4;

/// A server that states less than this is not taken at its word; the worker would do nothing but stop.
const MIN_TTL: Duration = Duration::from_secs(1);

/// What is known of the session's time.
#[derive(Debug, Default)]
pub(super) struct Lease {
    ttl: Duration,
    /// When the last message was sent that was answered.
    sent: Option<BootTime>,
    /// The runs were given back, and nothing was answered since.
    over: bool,
}

impl Lease {
    pub(super) fn handle_connected(&mut self, ttl: u64, sent: BootTime) {
        self.ttl = Duration::from_micros(ttl).max(MIN_TTL);
        self.handle_contact(sent);
    }

    /// Something that was sent then is answered. Whether that is news.
    pub(super) fn handle_contact(&mut self, sent: BootTime) -> bool {
        let is_later = self.sent.is_none_or(|last| sent > last);
        if is_later {
            self.sent = Some(sent);
            self.over = false;
        }
        is_later
    }

    /// Whether there is time for a handler that is called now.
    pub(super) fn covers_start(&self, now: BootTime) -> bool {
        self.deadline()
            .is_some_and(|deadline| now + self.ttl / START_DIVISOR < deadline)
    }

    /// When to tell the handlers to stop.
    pub(super) fn deadline(&self) -> Option<BootTime> {
        let sent = self.sent.filter(|_| !self.over)?;
        Some(sent + (self.ttl - self.ttl / MARGIN_DIVISOR))
    }

    pub(super) fn is_over(&self, now: BootTime) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }
}

impl Machine {
    /// The server has been silent for so long that it may soon give our runs to others. What completes all the
    /// same is reported; the rest of what runs is given back, which the server may know by then. What waits goes on waiting:
    /// none of it is started before the server has answered, and by then it is known whose it is.
    pub(super) fn give_back_all(&mut self, now: BootTime) {
        self.lease.over = true;
        let ttl = self.lease.ttl;
        let end = self.lease.sent.unwrap_or(now) + (ttl - ttl / SAFETY_DIVISOR);
        if end <= now {
            // It is noticed too late, so this process was stopped, or the machine asleep.
            return self.lose_all(now);
        }
        self.stop_running(Stop::GiveBack, end.min(now + self.config.cancel_grace));
    }

    /// The lease ran out unnoticed: the runs are somebody else's by now, and there is no time for handlers to stop in.
    fn lose_all(&mut self, now: BootTime) {
        for fence in self.running_fences() {
            self.lose(now, fence);
        }
    }

    fn lose(&mut self, now: BootTime, fence: Fence) {
        let Some(Run {
            id,
            state: State::Running { stop, due, .. },
            ..
        }) = self.runs.get(&fence)
        else {
            return;
        };
        let (name, told) = (id.name, stop.is_some());
        if let Some(due) = due {
            self.timers.remove(&(*due, fence));
        }
        if !told {
            self.commands.push_back(Command::Cancel(fence));
        }
        self.commands.push_back(Command::Drop {
            fence,
            overdue: false,
        });
        // It is said by then if the handler goes on all the same.
        self.timers.insert((now + self.config.cancel_grace, fence));
        self.stray(fence, name);
        self.end(fence, Report::Lost);
    }
}
