//! The scenario that measures how fast large params move, and whether small jobs get through beside them.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use jobq_worker::CancellationToken;
use serde_json::json;

use super::super::cost::{Cost, Meter};
use super::super::jobs::{Load, Maker};
use super::super::report::{Label, Line, Measured, Report, grouped};
use super::super::setting::Setting;
use super::super::setup::{Bench, connect};
use super::super::timing::Timing;
use super::super::verify::Expected;
use super::super::working::Ledger;

/// Most bytes of params that are made at a time: each is in a frame of its own anyway.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of params of the small jobs.
const SMALL: usize = 100;

/// Submits jobs with large params, and meanwhile small ones one at a time on a connection of their own; then works
/// all of them off.
pub(in super::super) async fn large(setting: &Setting) -> anyhow::Result<Report> {
    let setting = Setting {
        batch: setting.batch.min((BATCH_BYTES / setting.payload).max(1)),
        rate: None,
        ..setting.clone()
    };
    let bench = Bench::start(&setting).await?;
    let acknowledged = Arc::new(Timing::new());
    let small_acknowledged = Arc::new(Timing::new());
    let submitted = CancellationToken::new();
    let meter = Meter::start(&bench.server);
    let (cost, small) = tokio::try_join!(
        async {
            let _guard = submitted.clone().drop_guard();
            let jobs = bench.submit(&bench.load(), &acknowledged, "submitting").await?;
            Ok(meter.stop(&bench.server, jobs))
        },
        small_jobs(&bench, &small_acknowledged, &submitted)
    )?;

    let all = cost.jobs + small;
    let ledger = Arc::new(Ledger::new(all, bench.clock));
    let meter = Meter::start(&bench.server);
    let summary = bench.work(&bench.crew(), &ledger, all, "working").await?;
    let worked = meter.stop(&bench.server, all);
    let expected = Expected {
        submitted: all,
        ..Expected::default()
    };
    let expected = expected.worked(&summary, &ledger)?;
    let timings = vec![(Label::SmallAck, small_acknowledged), (Label::Ack, acknowledged)];
    let measured = Measured {
        lines: vec![moved(&setting, &cost, &worked, small)],
        ..Measured::new(cost, timings)
    };
    bench.finish(&expected, measured).await
}

/// Submits small jobs one at a time, at least one, until the large ones are there. Returns how many.
async fn small_jobs(bench: &Bench, acknowledged: &Timing, until: &CancellationToken) -> anyhow::Result<u64> {
    let client = connect(&bench.server).await?;
    let mut maker = Maker::new(&Load {
        payload: SMALL,
        ..bench.load()
    });
    let mut jobs = 0;
    while jobs == 0 || !until.is_cancelled() {
        let job = maker.batch(1).pop().context("a batch of one is empty")?;
        let begun = Instant::now();
        client.submit(job).await.context("failed to submit a small job")?;
        acknowledged.record(begun.elapsed());
        jobs += 1;
    }
    client.close().await;
    Ok(jobs)
}

fn moved(setting: &Setting, submit: &Cost, work: &Cost, small: u64) -> Line {
    let bytes = setting.jobs as f64 * setting.payload as f64;
    let megabytes_per_s = |cost: &Cost| bytes / 1e6 / cost.time.as_secs_f64();
    let (submit, work) = (megabytes_per_s(submit), megabytes_per_s(work));
    Line::new(
        "moved",
        format!(
            "{submit:.0} MB/s acknowledged beside {} small jobs one at a time, {work:.0} MB/s worked off",
            grouped(small)
        ),
        [
            ("submit_mb_per_s", json!(submit)),
            ("work_mb_per_s", json!(work)),
            ("small_jobs", json!(small)),
        ],
    )
}
