//! The scenario that measures latency: one job at a time, on a server that has nothing else to do.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use jobq_client::Status;
use jobq_worker::{CancellationToken, Job, Run, Runtime};
use serde_json::json;

use super::super::cost::{Cost, Meter};
use super::super::disk::Probe;
use super::super::jobs::{Maker, NAME};
use super::super::report::{Label, Line, Measured, Report};
use super::super::setting::Setting;
use super::super::setup::Bench;
use super::super::timing::Timing;
use super::super::verify::Expected;

/// About how often the disk is synced alone, between the jobs: a disk is not as fast at all times, so that times are
/// compared with syncs of the same moments.
const SYNCS: u64 = 200;

/// Longest wait for the end of one job.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Times of one job at a time: until it is acknowledged, until its handler is called, until its result is there.
pub(in super::super) async fn latency(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(&one_at_a_time(setting)).await?;
    let (expected, measured) = measure(&bench).await?;
    bench.finish(&expected, measured).await
}

/// One of each, since there is one job at a time.
pub(super) fn one_at_a_time(setting: &Setting) -> Setting {
    Setting {
        clients: 1,
        workers: 1,
        concurrency: 1,
        batch: 1,
        outstanding: Some(1),
        rate: None,
        ..setting.clone()
    }
}

/// Submits the jobs of the setting one by one to a worker of its own, on a store that had none.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<(Expected, Measured)> {
    let jobs = bench.setting.jobs;
    let called = Arc::new(AtomicU64::new(0));
    let handler = {
        let (called, clock) = (Arc::clone(&called), bench.clock);
        move |_job: Job<Bytes>, _run: Run| {
            called.store(clock.now(), Ordering::Release);
            ready(Ok(None))
        }
    };
    let runtime = Runtime::new(bench.server.address())
        .raw_handler(NAME, handler)
        .concurrency(1)
        .label("jobq bench");
    let done = CancellationToken::new();
    let meter = Meter::start(&bench.server);
    let (times, summary) = tokio::join!(
        async {
            // Whatever comes of it, the worker is to end.
            let _guard = done.clone().drop_guard();
            one_by_one(bench, &called).await
        },
        runtime.run(done.cancelled())
    );
    let summary = summary.context("the worker failed")?;
    let times = times?;
    let cost = meter.stop(&bench.server, jobs);
    let expected = Expected {
        submitted: jobs,
        completed: summary.completed,
        ..Expected::default()
    };
    Ok((expected, times.measured(cost)))
}

struct Times {
    /// Of the disk, between the jobs.
    fdatasync: Option<Duration>,
    acknowledged: Timing,
    started: Timing,
    result: Timing,
}

impl Times {
    fn measured(self, cost: Cost) -> Measured {
        let after = self.started.p50() as i64 - self.acknowledged.p50() as i64;
        let handed_out = Line::new(
            "handed out",
            format!("started {after} µs after the acknowledgement, by their medians"),
            [("started_after_ack_us", json!(after))],
        );
        let timings = vec![
            (Label::Ack, Arc::new(self.acknowledged)),
            (Label::Started, Arc::new(self.started)),
            (Label::Result, Arc::new(self.result)),
        ];
        Measured {
            in_syncs: true,
            fdatasync: self.fdatasync,
            lines: vec![handed_out],
            ..Measured::new(cost, timings)
        }
    }
}

async fn one_by_one(bench: &Bench, called: &AtomicU64) -> anyhow::Result<Times> {
    let mut times = Times {
        fdatasync: None,
        acknowledged: Timing::new(),
        started: Timing::new(),
        result: Timing::new(),
    };
    let (client, clock) = (&bench.clients[0], bench.clock);
    let jobs = bench.setting.jobs;
    let mut maker = Maker::new(&bench.load());
    let mut disk = Probe::new(bench.server.directory()).context("failed to write beside the store")?;
    let bar = bench.bar(jobs, "one at a time");
    let sync_every = (jobs / SYNCS).max(1);
    for number in 0..jobs {
        if number % sync_every == 0 {
            // Nothing else is to be done here meanwhile.
            disk.sync().context("failed to measure the disk's fdatasync")?;
        }
        let job = maker.batch(1).pop().context("a batch of one is empty")?;
        let begun = clock.now();
        let receipt = client.submit(job).await.context("failed to submit a job")?;
        times.acknowledged.record(clock.since(begun));
        let outcome = client
            .wait_timeout(receipt.id, ENDS_WITHIN)
            .await
            .context("failed to wait for a job")?;
        times.result.record(clock.since(begun));
        if outcome.status != Status::Completed {
            bail!(
                "job {} ended {}, and should have completed",
                outcome.id,
                outcome.status
            );
        }
        let called = called.load(Ordering::Acquire).saturating_sub(begun);
        times.started.record(Duration::from_nanos(called));
        bar.inc(1);
    }
    bar.finish_and_clear();
    times.fdatasync = disk.median();
    Ok(times)
}
