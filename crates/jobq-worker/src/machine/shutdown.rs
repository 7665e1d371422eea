//! How a worker ends: nothing new, what runs may finish, the rest goes back, and the server has said so.

use std::time::Duration;

use jobq_client::BootTime;

use super::{Machine, Stop};

/// How long a worker that shuts down waits for its last reports to be settled. They are only lost with the
/// process, and then their jobs run again.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

/// How far a shutdown is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    #[default]
    None,
    /// Handlers may finish until this time.
    Finishing(BootTime),
    /// They have been told to stop, and each has its grace.
    Stopping,
    /// The last reports are to be settled until this time.
    Settling(BootTime),
    /// There is nothing left to wait for.
    Done,
}

impl Shutdown {
    pub(super) fn is_begun(self) -> bool {
        self != Self::None
    }

    pub(super) fn deadline(self) -> Option<BootTime> {
        match self {
            Self::Finishing(until) | Self::Settling(until) => Some(until),
            Self::None | Self::Stopping | Self::Done => None,
        }
    }
}

impl Machine {
    /// Begins to shut down: takes nothing new, gives back what has not started, and lets handlers run for at most
    /// `timeout`. Said again, it can only shorten the time.
    pub fn shut_down(&mut self, now: BootTime, timeout: Duration) {
        let until = now + timeout;
        self.credit_changed = true;
        match self.shutdown {
            Shutdown::None => {
                self.shutdown = Shutdown::Finishing(until);
                self.release_waiting();
            }
            Shutdown::Finishing(earlier) => self.shutdown = Shutdown::Finishing(until.min(earlier)),
            Shutdown::Stopping | Shutdown::Settling(_) | Shutdown::Done => {}
        }
        self.advance_shutdown(now);
    }

    /// Whether it has begun to shut down.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_begun()
    }

    /// Whether the shutdown is complete, and the session can be closed.
    pub fn is_shut_down(&self) -> bool {
        self.shutdown == Shutdown::Done
    }

    pub(super) fn advance_shutdown(&mut self, now: BootTime) {
        if let Shutdown::Finishing(until) = self.shutdown
            && until <= now
        {
            self.stop_running(Stop::GiveBack, now + self.config.cancel_grace);
            self.shutdown = Shutdown::Stopping;
        }
        if matches!(self.shutdown, Shutdown::Finishing(_) | Shutdown::Stopping) && self.running() == 0 {
            self.shutdown = Shutdown::Settling(now + SETTLE_WAIT);
        }
        if let Shutdown::Settling(until) = self.shutdown
            && (self.runs.is_empty() || until <= now)
        {
            self.shutdown = Shutdown::Done;
        }
    }
}
