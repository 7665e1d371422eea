//! How long a failed job waits before its next attempt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The wait after the `n`-th failed attempt: `min(base · n^exponent, max)`, of which the server then takes 90 to
/// 110 % by chance, so that jobs that failed together do not come back together.
///
/// The default, `n⁴` seconds, is the curve that Sidekiq made customary: 1 s, 16 s, 81 s, … and 2 days in all for
/// the 20 attempts that a job has by default.
///
/// On the wire: a map of `base` and `max` in microseconds and `exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backoff {
    /// The wait after the first failure, in microseconds.
    pub base: u64,
    /// 0 for a constant wait, 1 for a linear one, … at most [`Backoff::MAX_EXPONENT`].
    pub exponent: u32,
    /// No wait is longer than this, in microseconds, chance apart.
    pub max: u64,
}

impl Backoff {
    /// The largest exponent that a job may ask for.
    pub const MAX_EXPONENT: u32 = 10;

    /// The longest wait that a job may ask for: 365 days, in microseconds.
    pub const MAX_WAIT: u64 = 365 * 24 * 3600 * 1_000_000;

    /// The wait after `attempt` attempts have failed (from 1), before chance is added.
    pub fn wait(&self, attempt: u32) -> Duration {
        let factor = u64::from(attempt.max(1)).saturating_pow(self.exponent);
        Duration::from_micros(self.base.saturating_mul(factor).min(self.max))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: 1_000_000,
            exponent: 4,
            max: 7 * 24 * 3600 * 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_curve_is_the_fourth_power_of_the_attempt_in_seconds() {
        let backoff = Backoff::default();
        assert_eq!(backoff.wait(1), Duration::from_secs(1));
        assert_eq!(backoff.wait(2), Duration::from_secs(16));
        assert_eq!(backoff.wait(20), Duration::from_secs(160_000));
        assert_eq!(
            backoff.wait(u32::MAX),
            Duration::from_secs(7 * 24 * 3600),
            "never past its maximum"
        );
    }

    #[test]
    fn an_exponent_of_zero_waits_the_same_each_time() {
        let backoff = Backoff {
            base: 250_000,
            exponent: 0,
            max: 1_000_000,
        };
        assert_eq!(backoff.wait(1), backoff.wait(17));
    }
}
