//! The scenario that measures what jobs take on disk: while they are queued, when they have completed, and when their
//! records have gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use jobq_server::Keep;
use serde_json::json;

use super::super::cost::{Cost, Meter};
use super::super::report::{Label, Line, Measured, Report, megabytes};
use super::super::setting::Setting;
use super::super::setup::{Bench, Ending, connect};
use super::super::timing::Timing;
use super::super::verify::Expected;
use super::super::working::Ledger;

/// How often the server is asked how many records it has.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How often the database is looked at that gets smaller.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A database whose length has been the same for so long has given back what it gives back. A server at rest folds its
/// log after a second, and one that is at it every few hundred milliseconds.
const AT_REST: Duration = Duration::from_secs(4);

/// Longest time in which no record goes, or the database never rests.
const GOES_WITHIN: Duration = Duration::from_secs(120);

/// Fills the queue, works it off, and lets the records go; between these the server is stopped, so that all there is on
/// disk is the database.
pub(in super::super) async fn prune(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(setting).await?;
    let acknowledged = Arc::new(Timing::new());
    let submitted = bench
        .submit(&bench.load(), &acknowledged, "filling the queue")
        .await?;
    let expected = Expected {
        submitted,
        ..Expected::default()
    };
    expected.check_server(&bench.stats().await?)?;
    let (mut bench, queued) = again(bench).await?;

    let ledger = Arc::new(Ledger::new(submitted, bench.clock));
    let summary = bench.work(&bench.crew(), &ledger, submitted, "working").await?;
    let expected = expected.at_restart().worked(&summary, &ledger)?;
    expected.check_server(&bench.stats().await?)?;
    bench.setting.keep_completed = Some(Keep::LEAST_AGE);
    let (bench, completed) = again(bench).await?;

    let cost = let_records_go(&bench, submitted).await?;
    let (bench, pruned) = again(bench).await?;
    let measured = Measured {
        lines: vec![room(submitted, queued, completed, pruned)],
        ..Measured::new(cost, vec![(Label::Ack, acknowledged)])
    };
    bench.finish(&Expected::default(), measured).await
}

/// Another server on the same store, with a client. How long the database was in between, in bytes.
async fn again(bench: Bench) -> anyhow::Result<(Bench, u64)> {
    let (mut bench, between) = bench.restart(Ending::Stop).await?;
    bench.clients.push(connect(&bench.server).await?);
    Ok((bench, between.database))
}

/// Waits until the records of all jobs have gone, and the database is as small as it gets. What it cost from the first
/// record to the last.
async fn let_records_go(bench: &Bench, jobs: u64) -> anyhow::Result<Cost> {
    bench.wait(Keep::LEAST_AGE, "waiting").await;
    let bar = bench.bar(jobs, "pruning");
    let mut left = jobs;
    let mut last = Instant::now();
    let mut meter = Meter::start(&bench.server);
    while left > 0 {
        tokio::time::sleep(ASK_EVERY).await;
        let now = bench.stats().await?.total.completed;
        if now < left {
            left = now;
            last = Instant::now();
            bar.set_position(jobs - left);
        } else if left == jobs {
            meter = Meter::start(&bench.server);
        }
        if last.elapsed() > GOES_WITHIN {
            bail!(
                "of {jobs} records that were to go {left} are there, and none has gone for {} s",
                GOES_WITHIN.as_secs()
            );
        }
    }
    let cost = meter.stop(&bench.server, jobs);
    bar.finish_and_clear();
    come_to_rest(bench).await?;
    Ok(cost)
}

/// Waits until the database keeps its length.
async fn come_to_rest(bench: &Bench) -> anyhow::Result<()> {
    let bar = bench.busy("shrinking");
    let begun = Instant::now();
    let (mut length, mut since) = (bench.server.database_bytes()?, begun);
    while since.elapsed() < AT_REST {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = bench.server.database_bytes()?;
        if now != length {
            (length, since) = (now, Instant::now());
        }
        if begun.elapsed() > GOES_WITHIN {
            bail!(
                "the database still changes its length {} s after the last record has gone",
                GOES_WITHIN.as_secs()
            );
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// What the jobs took.
fn room(jobs: u64, queued: u64, completed: u64, pruned: u64) -> Line {
    let each = |bytes: u64| bytes as f64 / jobs as f64;
    let part = pruned as f64 / completed.max(1) as f64;
    Line::new(
        "room",
        format!(
            "queued {:.0} bytes a job, {}; completed {:.0}, {}; pruned {}, {:.1} % of that",
            each(queued),
            megabytes(queued),
            each(completed),
            megabytes(completed),
            megabytes(pruned),
            part * 100.0
        ),
        [
            ("queued_database_bytes", json!(queued)),
            ("queued_database_bytes_per_job", json!(each(queued))),
            ("completed_database_bytes", json!(completed)),
            ("completed_database_bytes_per_job", json!(each(completed))),
            ("pruned_database_bytes", json!(pruned)),
            ("pruned_database_ratio", json!(part)),
        ],
    )
}
