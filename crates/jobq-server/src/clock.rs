//! The clocks of the running server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::time::{Mono, Now, Wall};

/// Where the driver gets the time from.
pub trait Clock: Send + 'static {
    /// Both times of this moment. The monotonic one never goes back.
    fn now(&self) -> Now;

    /// How long the computer has been suspended so far, as far as that is known.
    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// The system's clocks. The monotonic one counts the time of suspend, in which workers may have gone on.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        #[cfg(target_os = "linux")]
        let id = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = ClockId::Monotonic;
        let since = read(id);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Mono(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)),
            wall: Wall(i64::try_from(wall.as_micros()).unwrap_or(i64::MAX)),
        }
    }

    #[cfg(target_os = "linux")]
    fn suspended(&self) -> Duration {
        // One clock counts suspend and the other does not. The first is read last, or a moment between the two would be
        // missing.
        let awake = read(ClockId::Monotonic);
        read(ClockId::Boottime).saturating_sub(awake)
    }
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
