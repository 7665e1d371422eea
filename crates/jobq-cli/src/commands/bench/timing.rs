//! Times of many jobs, and the time stamp that travels in a job's params.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Bytes of a time stamp.
pub(super) const STAMP_BYTES: usize = 8;

/// Longest time that is told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// Decimal digits that are told apart.
const DIGITS: u8 = 3;

/// How long something took, for many jobs. Shared by reference.
pub(super) struct Timing {
    histogram: Mutex<Histogram<u64>>,
}

impl Timing {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS)
            .expect("the bounds are in order, and three digits are allowed");
        Self {
            histogram: Mutex::new(histogram),
        }
    }

    /// One job took `time`.
    pub(super) fn record(&self, time: Duration) {
        self.record_many(time, 1);
    }

    /// `jobs` jobs took `time` each.
    pub(super) fn record_many(&self, time: Duration, jobs: u64) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.lock().saturating_record_n(micros, jobs);
    }

    /// The median, in microseconds.
    pub(super) fn p50(&self) -> u64 {
        self.lock().value_at_quantile(0.5)
    }

    /// What 99 of 100 jobs did not take longer than, in microseconds.
    pub(super) fn p99(&self) -> u64 {
        self.lock().value_at_quantile(0.99)
    }

    /// The longest, in microseconds.
    pub(super) fn max(&self) -> u64 {
        self.lock().max()
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.histogram.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock whose times fit into a job's params: nanoseconds since its making.
#[derive(Debug, Clone, Copy)]
pub(super) struct StampClock {
    start: Instant,
}

impl StampClock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(super) fn now(self) -> u64 {
        self.stamp(Instant::now())
    }

    /// The stamp of a time since its making.
    pub(super) fn stamp(self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long it is until the time of a stamp.
    pub(super) fn until(self, stamp: u64) -> Duration {
        Duration::from_nanos(stamp.saturating_sub(self.now()))
    }

    /// How long ago a stamp was taken.
    pub(super) fn since(self, stamp: u64) -> Duration {
        Duration::from_nanos(self.now().saturating_sub(stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let timing = Timing::new();
        timing.record_many(Duration::from_micros(100), 98);
        timing.record_many(Duration::from_millis(7), 2);
        assert_eq!(timing.p50(), 100);
        assert!((7_000..7_010).contains(&timing.max()), "{}", timing.max());
        assert!((7_000..7_010).contains(&timing.p99()), "{}", timing.p99());
    }

    #[test]
    fn a_time_out_of_range_counts_as_the_longest() {
        let timing = Timing::new();
        timing.record(Duration::MAX);
        timing.record(Duration::ZERO);
        assert!(timing.p99() >= LONGEST);
    }
}
