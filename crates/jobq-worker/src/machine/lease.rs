//! How long the runs are certainly ours.
//!
//! The server gives the runs of a silent session away once its time-to-live is over, counted from when it last
//! heard of it. The worker counts from when it *sent* what was last answered, which is never later, and stops
//! before the time is over. So on this path no two handlers of a job run at a time.

use std::time::Duration;

use jobq_client::BootTime;

use super::{Machine, Stop};

/// Of the time-to-live, this part is left to handlers to stop in, after they were told to.
const MARGIN_DIVISOR: u32 = 5;

/// Of the time-to-live, this part is kept between the end of the last handler and the end of the lease, for clocks
/// that run unevenly.
const SAFETY_DIVISOR: u32 = 30;

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

    pub(super) fn handle_contact(&mut self, sent: BootTime) {
        if self.sent.is_none_or(|last| sent > last) {
            self.sent = Some(sent);
            self.over = false;
        }
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
    /// same is reported; the rest is given back, which the server may know by then.
    pub(super) fn give_back_all(&mut self, now: BootTime) {
        self.lease.over = true;
        self.release_waiting();
        let ttl = self.lease.ttl;
        let end = self.lease.sent.unwrap_or(now) + (ttl - ttl / SAFETY_DIVISOR);
        self.stop_running(Stop::GiveBack, end.min(now + self.config.cancel_grace));
    }
}
