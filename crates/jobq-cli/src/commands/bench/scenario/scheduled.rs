//! The scenario that measures whether jobs start when they are due, and what waiting for that costs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use serde_json::json;

use super::super::cost::Meter;
use super::super::jobs::Schedule;
use super::super::report::{Label, Line, Measured, Report, grouped, span};
use super::super::setting::Setting;
use super::super::setup::Bench;
use super::super::timing::Timing;
use super::super::verify::Expected;
use super::super::working::Ledger;
use super::rest::Rest;

/// Jobs that are due a second, unless told otherwise.
const DUE_PER_S: u64 = 10_000;

/// Jobs a second that are submitted at least; the first is due when all are.
const SUBMITTED_PER_S: u64 = 40_000;

/// What workers have to connect in.
const CONNECT: Duration = Duration::from_millis(500);

/// The look at the waiting server ends so long before the first job is due.
const BEFORE_FIRST: Duration = Duration::from_millis(200);

/// Submits jobs that are due later at a rate, has workers wait for them, and measures how late each starts.
pub(in super::super) async fn scheduled(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(setting).await?;
    let jobs = setting.jobs;
    let rate = setting.rate.unwrap_or(DUE_PER_S);
    let lead = time_of(jobs, SUBMITTED_PER_S) + CONNECT + setting.observe + BEFORE_FIRST;
    let schedule = Schedule::starting_in(lead, time_of(jobs, rate), bench.clock)?;
    let mut load = bench.load();
    load.rate = None;
    load.due = Some(schedule);
    let acknowledged = Arc::new(Timing::new());
    let submitted = bench.submit(&load, &acknowledged, "scheduling").await?;
    let waiting = bench.stats().await?.total.scheduled;
    if waiting != jobs {
        bail!(
            "{jobs} jobs are to wait for their time, and {waiting} do: submitting took longer than it had, {:.0} s; \
             give a longer --observe, or fewer --jobs",
            lead.as_secs_f64()
        );
    }

    let ledger = Arc::new(Ledger::of_every_start(jobs, bench.clock));
    let crew = bench.crew();
    let watch = async {
        tokio::time::sleep(CONNECT).await;
        let time = bench.clock.until(schedule.first).saturating_sub(BEFORE_FIRST);
        let rest = Rest::observe(&bench, time, "waiting").await;
        tokio::time::sleep(bench.clock.until(schedule.first)).await;
        Ok((rest, Meter::start(&bench.server)))
    };
    let (summary, (rest, meter)) = tokio::try_join!(bench.work(&crew, &ledger, jobs, "working"), watch)?;
    let cost = meter.stop(&bench.server, jobs);
    let expected = Expected {
        submitted,
        ..Expected::default()
    };
    let expected = expected.worked(&summary, &ledger)?;
    let late = ledger.started();
    let due = Line::new(
        "due",
        format!(
            "{} jobs a second; the latest was {} late",
            grouped(rate),
            span(late.max())
        ),
        [("due_per_s", json!(rate)), ("late_max_us", json!(late.max()))],
    );
    let measured = Measured {
        lines: vec![due, rest.line("waiting")],
        ..Measured::new(cost, vec![(Label::Late, late), (Label::Ack, acknowledged)])
    };
    bench.finish(&expected, measured).await
}

/// How long so many jobs take at a rate.
fn time_of(jobs: u64, per_second: u64) -> Duration {
    Duration::from_secs_f64(jobs as f64 / per_second as f64)
}
