//! What a client has asked and not been told yet: numbering, windows, deadlines, and what is repeated after a
//! reconnect. Without I/O: time and chance are arguments.
//!
//! [`submits`] keeps jobs until they are acknowledged, [`asks`] keeps questions, [`watches`] keeps who waits for
//! which job, [`parts`] knows what is fetched of a backup. Each takes the numbers of its own [`Lane`], so that an
//! answer tells whose it is.

pub(crate) mod asks;
pub(crate) mod parts;
mod rising_map;
pub(crate) mod submits;
pub(crate) mod watches;

use std::time::Duration;

use jobq_proto::message::Welcome;
use jobq_proto::{ErrorCode, Limits, Window, WireError};

/// The first wait after a refusal that may be repeated, where the server gives none.
const FIRST_REFUSAL_WAIT: Duration = Duration::from_millis(50);

/// No wait after a refusal is longer than this, unless the server says so.
const MAX_REFUSAL_WAIT: Duration = Duration::from_secs(2);

/// What a server lets its clients do, from its Hello.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How large things may be.
    pub limits: Limits,
    /// How much may be unacknowledged.
    pub window: Window,
    /// How long a uuid is remembered after its job has ended.
    pub uuid_window: Duration,
}

impl From<&Welcome> for Terms {
    fn from(welcome: &Welcome) -> Self {
        Self {
            limits: welcome.limits,
            window: welcome.window,
            uuid_window: Duration::from_micros(welcome.uuid_window),
        }
    }
}

/// Who takes a request's number, and so gets its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Those of [`submits::Submits`].
    Submits = 0,
    /// Those of [`asks::Asks`].
    Asks = 1,
    /// Those of [`watches::Watches`].
    Watches = 2,
}

impl Lane {
    const COUNT: u64 = 3;

    /// Whose number it is.
    pub fn of(request: u64) -> Lane {
        match request % Self::COUNT {
            0 => Lane::Submits,
            1 => Lane::Asks,
            _ => Lane::Watches,
        }
    }

    /// How many numbers of this lane come before a number of it; none for a number of another lane.
    fn place(self, request: u64) -> Option<u64> {
        (Self::of(request) == self).then_some(request / Self::COUNT)
    }
}

/// The numbers of one lane. None is used twice in the life of a client.
#[derive(Debug)]
struct Numbers {
    next: u64,
}

impl Numbers {
    fn new(lane: Lane) -> Self {
        Self {
            next: Lane::COUNT + lane as u64,
        }
    }

    fn take(&mut self) -> u64 {
        let number = self.next;
        self.next += Lane::COUNT;
        number
    }
}

/// How long to wait before something is repeated that was refused `refusals` times before. Chance takes up to half,
/// so that those who were refused together do not come back together.
fn refusal_wait(error: &WireError, refusals: u32, chance: u32) -> Duration {
    // A server that goes down closes its connections; the repetition then follows the reconnect.
    let full = if error.code == ErrorCode::ShuttingDown {
        MAX_REFUSAL_WAIT
    } else if let Some(after) = error.retry_after {
        return Duration::from_micros(after);
    } else {
        FIRST_REFUSAL_WAIT
            .saturating_mul(2_u32.saturating_pow(refusals.min(16)))
            .min(MAX_REFUSAL_WAIT)
    };
    full / 2 + (full / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX))
}
