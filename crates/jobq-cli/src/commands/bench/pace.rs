//! The pace of jobs that come at a rate, whatever becomes of those before them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::mpsc;

/// How often jobs come: all that are due by then, together. Shorter, and waking up would be most of the work.
const STEP: Duration = Duration::from_millis(1);

/// How many steps a client may be behind: a minute, if there is one client.
const BEHIND: usize = 60_000;

/// Jobs that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// When they were due, which their times are counted from.
    pub(super) at: Instant,
    /// How many, at least one.
    pub(super) jobs: u64,
}

/// Has `jobs` jobs come at `rate` a second, each step's to the next of `clients` clients in turn. What a client gets
/// ends when all have come, or when a client is too far behind to be told.
///
/// The steps are counted by a thread that sleeps: timers of tokio are late by up to a step.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(jobs: u64, rate: u64, clients: usize) -> anyhow::Result<Vec<mpsc::Receiver<Due>>> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..clients).map(|_| mpsc::channel(BEHIND)).unzip();
    let walk = move || {
        let begun = Instant::now();
        let mut come = 0;
        for (step, sender) in (1..).zip(senders.iter().cycle()) {
            let at = begun + STEP * step;
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let due = due_by(STEP * step, rate).min(jobs) - come;
            // Full or gone, the client says so itself.
            if due > 0 && sender.try_send(Due { at, jobs: due }).is_err() {
                return;
            }
            come += due;
            if come == jobs {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("jobq-bench-pace".to_owned());
    thread.spawn(walk).context("failed to start a thread")?;
    Ok(receivers)
}

/// How many jobs have come after `time`.
fn due_by(time: Duration, rate: u64) -> u64 {
    u64::try_from(u128::from(rate) * time.as_micros() / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_at_their_rate_to_the_last_one_and_to_each_client_in_turn() {
        let mut clients = start(45, 10_000, 2).expect("the thread starts");
        let mut come = Vec::new();
        for client in &mut clients {
            let mut jobs = Vec::new();
            while let Some(due) = client.blocking_recv() {
                jobs.push(due.jobs);
            }
            come.push(jobs);
        }
        assert_eq!(come, [vec![10, 10, 5], vec![10, 10]]);
    }

    #[test]
    fn a_rate_below_the_steps_skips_some() {
        assert_eq!(due_by(Duration::from_millis(9), 100), 0);
        assert_eq!(due_by(Duration::from_millis(10), 100), 1);
        assert_eq!(due_by(Duration::from_secs(3_600), 100_000), 360_000_000);
    }
}
