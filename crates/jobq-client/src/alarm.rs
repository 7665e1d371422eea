//! A timer that is asked for again with each turn of a loop, most often for a time later than before.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::clock::BootTime;

/// What is overdue waits this long yet: what arrived while nobody looked is read first.
const LEAST_SLEEP: Duration = Duration::from_millis(1);

/// No timer is longer; whoever waits longer is woken in between. Timers stand still while the machine is suspended, and
/// an idle session, whose next Beat is a minute away, is to look at the clock soon after that.
const MAX_SLEEP: Duration = Duration::from_secs(10);

/// Wakes somebody at a time, or somewhat before. While the time becomes later and later, as that of a connection does on
/// which something is heard, the timer stays as it was set: to set it anew with each message costs more than to be woken
/// once too early.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    /// None before the first wait, since there need be no runtime until then.
    sleep: Option<Pin<Box<Sleep>>>,
    /// When that ends, if the machine is not suspended meanwhile.
    at: BootTime,
}

impl Alarm {
    /// Ends at `due` at the latest, save for what the clock of tokio's timers is behind.
    pub(crate) fn wait(&mut self, now: BootTime, due: BootTime) -> Pin<&mut Sleep> {
        let wait = due.since(now).clamp(LEAST_SLEEP, MAX_SLEEP);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
        let is_set = !sleep.is_elapsed() && now < self.at && self.at <= now + wait;
        if !is_set {
            self.at = now + wait;
            sleep.as_mut().reset(Instant::now() + wait);
        }
        sleep.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How long the wait takes, in whole seconds of a clock that stands still but for it.
    async fn wait(alarm: &mut Alarm, now: BootTime, due: BootTime) -> u64 {
        let begun = Instant::now();
        alarm.wait(now, due).await;
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_becomes_later_does_not_set_the_timer_and_one_that_becomes_earlier_does() {
        let mut alarm = Alarm::default();
        let now = BootTime::now();
        assert_eq!(alarm.wait(now, now + SECOND * 4).now_or_never(), None);
        assert_eq!(wait(&mut alarm, now, now + SECOND * 8).await, 4);
        assert_eq!(wait(&mut alarm, now, now + SECOND * 8).await, 8);
        assert_eq!(alarm.wait(now, now + SECOND * 8).now_or_never(), None);
        assert_eq!(wait(&mut alarm, now, now + SECOND * 2).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_became_due_while_the_timers_stood_still_is_not_waited_for() {
        let mut alarm = Alarm::default();
        let now = BootTime::now();
        let due = now + SECOND * 10;
        assert_eq!(alarm.wait(now, due).now_or_never(), None);
        assert_eq!(wait(&mut alarm, now + SECOND * 100, due).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_never_comes_is_waited_for_in_parts() {
        let mut alarm = Alarm::default();
        let waited = wait(&mut alarm, BootTime::now(), BootTime::NEVER).await;
        assert_eq!(waited, MAX_SLEEP.as_secs());
    }
}
