//! The clock by which sessions live.

use std::ops::Add;
use std::time::{Duration, SystemTime};

/// A moment on a clock that never goes back and goes on while the machine is suspended: `CLOCK_BOOTTIME` where the
/// system has it. A lease that ran out during a suspension has therefore run out by this clock too.
///
/// The numbers are microseconds since the machine's start and mean nothing to another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootTime(u64);

impl BootTime {
    /// The moment that no clock reaches.
    pub const NEVER: BootTime = BootTime(u64::MAX);

    /// Now.
    pub fn now() -> Self {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

        let time = rustix::time::clock_gettime(CLOCK);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
    }

    /// A moment by its number, for simulated time.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The last moment until this one at which a clock that is `ahead` shows a whole multiple of `step`.
    pub(crate) fn whole(self, step: Duration, ahead: Duration) -> Self {
        let beyond = self.since(BootTime(0)).saturating_add(ahead).as_micros() % step.as_micros().max(1);
        BootTime(self.0.saturating_sub(beyond as u64))
    }

    /// How far the calendar is ahead of this clock, now; zero where it is behind.
    pub(crate) fn calendar_ahead() -> Duration {
        let calendar = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        calendar
            .unwrap_or_default()
            .saturating_sub(Self::now().since(BootTime(0)))
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: BootTime) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for BootTime {
    type Output = BootTime;

    fn add(self, duration: Duration) -> BootTime {
        BootTime(self.0.saturating_add(jobq_proto::job::micros(duration)))
    }
}
