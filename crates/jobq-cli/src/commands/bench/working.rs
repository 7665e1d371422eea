//! Workers whose handlers do nothing but to take down that they were called.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use indicatif::ProgressBar;
use jobq_client::JobId;
use jobq_worker::{CancellationToken, Job, Run, Runtime, Summary};
use tokio::task::JoinSet;

use super::jobs::stamp;
use super::timing::{StampClock, Timing};

/// Of how many jobs one has the time until its start taken down.
const STARTS_EVERY: u64 = 16;

/// About how many jobs are watched until their end. A connection may watch 10,000.
const WATCHED: u64 = 1_000;

/// A job that is started this much before its time is early: clocks are read one after the other.
const EARLY: Duration = Duration::from_millis(1);

/// How often the workers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long nothing may happen while jobs are left.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// The workers.
#[derive(Debug, Clone)]
pub(super) struct Crew {
    /// How many.
    pub(super) workers: u64,
    /// Jobs that each has at a time.
    pub(super) concurrency: u32,
    /// The names that each of them works on.
    pub(super) names: Arc<[String]>,
}

/// Which jobs have run. Their ids are 1 to their number, since the store was empty.
pub(super) struct Ledger {
    jobs: u64,
    /// A bit for each job.
    seen: Box<[AtomicU64]>,
    /// Jobs that have run.
    ran: AtomicU64,
    /// Runs of jobs that had run before, or that nobody submitted.
    extra: AtomicU64,
    /// When the handlers of watched jobs were called.
    called: Box<[AtomicU64]>,
    watch_every: u64,
    clock: StampClock,
    /// Of how many jobs one has the time from its stamp until its start taken down.
    starts_every: u64,
    started: Arc<Timing>,
    /// Runs before the time in the job's stamp.
    early: AtomicU64,
}

impl Ledger {
    pub(super) fn new(jobs: u64, clock: StampClock) -> Self {
        let zeroes = |count: u64| (0..count).map(|_| AtomicU64::new(0)).collect();
        let watch_every = (jobs / WATCHED).max(1);
        Self {
            jobs,
            seen: zeroes(jobs / 64 + 1),
            ran: AtomicU64::new(0),
            extra: AtomicU64::new(0),
            called: zeroes(jobs / watch_every + 1),
            watch_every,
            clock,
            starts_every: STARTS_EVERY,
            started: Arc::new(Timing::new()),
            early: AtomicU64::new(0),
        }
    }

    /// One that takes down the time from every job's stamp until its start.
    pub(super) fn of_every_start(jobs: u64, clock: StampClock) -> Self {
        Self {
            starts_every: 1,
            ..Self::new(jobs, clock)
        }
    }

    /// The jobs to watch.
    pub(super) fn watched(&self) -> impl Iterator<Item = JobId> + use<> {
        let every = self.watch_every;
        (1..=self.jobs / every).map(move |n| JobId(n * every))
    }

    /// How long ago the handler of a watched job was called.
    pub(super) fn since_call(&self, id: JobId) -> Duration {
        let called = self.called.get((id.0 / self.watch_every) as usize);
        let stamp = called.map_or(0, |stamp| stamp.load(Ordering::Relaxed));
        self.clock.since(stamp)
    }

    /// How many runs there were before their time.
    pub(super) fn early(&self) -> u64 {
        self.early.load(Ordering::Relaxed)
    }

    /// How long jobs took from being handed to a client, or from their time, until their handlers were called.
    pub(super) fn started(&self) -> Arc<Timing> {
        Arc::clone(&self.started)
    }

    /// How many jobs have run.
    pub(super) fn ran(&self) -> u64 {
        self.ran.load(Ordering::Relaxed)
    }

    /// How many runs there were that should not have been.
    pub(super) fn extra(&self) -> u64 {
        self.extra.load(Ordering::Relaxed)
    }

    /// A handler was called with this job. Says how many jobs have run with it, unless it should not have run.
    fn take_down(&self, job: &Job<Bytes>) -> Option<u64> {
        let id = job.id.0;
        let bit = 1 << (id % 64);
        let known =
            id <= self.jobs && self.seen[(id / 64) as usize].fetch_or(bit, Ordering::Relaxed) & bit == 0;
        if !known {
            self.extra.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if id.is_multiple_of(self.watch_every) {
            self.called[(id / self.watch_every) as usize].store(self.clock.now(), Ordering::Relaxed);
        }
        if id.is_multiple_of(self.starts_every)
            && let Some(stamp) = stamp(&job.params)
        {
            if self.clock.until(stamp) > EARLY {
                self.early.fetch_add(1, Ordering::Relaxed);
            }
            self.started.record(self.clock.since(stamp));
        }
        Some(self.ran.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Runs workers until `jobs` more jobs have run, and all that have run are settled. Workers that are told to stop
/// then may have begun others, and give back those that they have not. Sets `bar` to how many have run.
///
/// # Errors
/// A worker cannot go on, or nothing happens for a minute.
pub(super) async fn work_all(
    address: &str,
    crew: &Crew,
    ledger: &Arc<Ledger>,
    jobs: u64,
    bar: &ProgressBar,
) -> anyhow::Result<Summary> {
    let before = ledger.ran();
    let goal = before + jobs;
    let reached = CancellationToken::new();
    let mut running = JoinSet::new();
    for _ in 0..crew.workers {
        let runtime = runtime(address, crew, ledger, goal, &reached);
        let reached = reached.clone();
        running.spawn(async move { runtime.run(reached.cancelled()).await });
    }
    let mut total = Summary::default();
    let mut watchdog = Watchdog::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            ended = running.join_next() => {
                let Some(ended) = ended else { return Ok(total) };
                let summary = ended.context("a worker panicked")?.context("a worker failed")?;
                total.completed += summary.completed;
                total.failed += summary.failed;
                total.released += summary.released;
                total.stale += summary.stale;
                watchdog.reset();
            }
            _ = ticks.tick() => {
                let ran = ledger.ran();
                bar.set_position(ran - before);
                watchdog.look(ran, goal)?;
            }
        }
    }
}

/// A worker that takes down what it runs, and says when the goal is reached.
fn runtime(
    address: &str,
    crew: &Crew,
    ledger: &Arc<Ledger>,
    goal: u64,
    reached: &CancellationToken,
) -> Runtime {
    let runtime = Runtime::new(address)
        .concurrency(crew.concurrency)
        .label("jobq bench");
    crew.names.iter().fold(runtime, |runtime, name| {
        let (ledger, reached) = (Arc::clone(ledger), reached.clone());
        runtime.raw_handler(name, move |job: Job<Bytes>, _run: Run| {
            if ledger.take_down(&job) == Some(goal) {
                reached.cancel();
            }
            ready(Ok(None))
        })
    })
}

/// Notices that nothing happens.
struct Watchdog {
    ran: u64,
    changed: Instant,
}

impl Watchdog {
    fn new() -> Self {
        Self {
            ran: 0,
            changed: Instant::now(),
        }
    }

    fn reset(&mut self) {
        self.changed = Instant::now();
    }

    fn look(&mut self, ran: u64, goal: u64) -> anyhow::Result<()> {
        if ran != self.ran {
            self.ran = ran;
            self.reset();
        } else if self.changed.elapsed() > STALLED_AFTER {
            let seconds = STALLED_AFTER.as_secs();
            bail!(
                "nothing has happened for {seconds} s: {ran} of {goal} jobs have run, and not all are settled"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u64) -> Job<Bytes> {
        jobq_proto::message::OrderedJob {
            id,
            fence: jobq_proto::Fence { epoch: 1, seq: id },
            attempt: 1,
            max_attempts: 1,
            uuid: uuid::Uuid::nil(),
            name: "bench".to_owned(),
            username: None,
            timeout: None,
            params: Bytes::new(),
        }
        .into()
    }

    #[test]
    fn a_second_run_and_a_job_of_nobodys_are_extra() {
        let ledger = Ledger::new(2, StampClock::new());
        let ran: Vec<_> = [1, 1, 3, 2].map(|id| ledger.take_down(&job(id))).into();
        assert_eq!(ran, [Some(1), None, None, Some(2)]);
        assert_eq!((ledger.ran(), ledger.extra()), (2, 2));
    }

    #[test]
    fn watched_jobs_are_spread_over_all() {
        let ledger = Ledger::new(5_000, StampClock::new());
        let watched: Vec<u64> = ledger.watched().map(|id| id.0).collect();
        assert_eq!(watched.len(), 1_000);
        assert_eq!((watched[0], watched[999]), (5, 5_000));
    }
}
