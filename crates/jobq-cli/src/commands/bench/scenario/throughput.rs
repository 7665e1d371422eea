//! The scenarios that measure throughput.

use std::sync::Arc;

use anyhow::Context;
use futures::StreamExt;
use jobq_client::Client;

use super::super::cost::Meter;
use super::super::report::{Label, Measured, Report};
use super::super::setting::Setting;
use super::super::setup::Bench;
use super::super::timing::Timing;
use super::super::verify::Expected;
use super::super::working::Ledger;

/// Jobs acknowledged a second, while nobody works.
pub(in super::super) async fn submit(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(setting).await?;
    let acknowledged = Arc::new(Timing::new());
    let meter = Meter::start(&bench.server);
    let submitted = bench.submit(&bench.load(), &acknowledged, "submitting").await?;
    let cost = meter.stop(&bench.server, submitted);
    let expected = Expected {
        submitted,
        ..Expected::default()
    };
    let measured = Measured::new(cost, vec![(Label::Ack, acknowledged)]);
    bench.finish(&expected, measured).await
}

/// A full queue worked off.
pub(in super::super) async fn drain(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(setting).await?;
    let submitted = bench
        .submit(&bench.load(), &Arc::new(Timing::new()), "filling the queue")
        .await?;
    let ledger = Arc::new(Ledger::new(submitted, bench.clock));
    let settled = Arc::new(Timing::new());
    let watch = tokio::spawn(watch(
        bench.clients[0].clone(),
        Arc::clone(&ledger),
        Arc::clone(&settled),
    ));
    let watch = AbortOnDrop(watch);
    // Its answer comes after the watch has begun.
    bench.stats().await?;
    let meter = Meter::start(&bench.server);
    let summary = bench.work(&bench.crew(), &ledger, submitted, "working").await?;
    let cost = meter.stop(&bench.server, submitted);
    watch.join().await?;
    let expected = Expected {
        submitted,
        ..Expected::default()
    };
    let expected = expected.worked(&summary, &ledger)?;
    let measured = Measured::new(cost, vec![(Label::Settled, settled)]);
    bench.finish(&expected, measured).await
}

/// Submitting and working at once.
pub(in super::super) async fn flow(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(setting).await?;
    let ledger = Arc::new(Ledger::new(setting.jobs, bench.clock));
    let acknowledged = Arc::new(Timing::new());
    let meter = Meter::start(&bench.server);
    let (load, crew) = (bench.load(), bench.crew());
    let (submitted, summary) = tokio::try_join!(
        bench.submit(&load, &acknowledged, "submitting"),
        bench.work(&crew, &ledger, load.jobs, "working")
    )?;
    let cost = meter.stop(&bench.server, submitted);
    let expected = Expected {
        submitted,
        ..Expected::default()
    };
    let expected = expected.worked(&summary, &ledger)?;
    let timings = vec![(Label::Started, ledger.started()), (Label::Ack, acknowledged)];
    bench.finish(&expected, Measured::new(cost, timings)).await
}

/// Records how long watched jobs took from the call of their handler until their end was told.
async fn watch(client: Client, ledger: Arc<Ledger>, settled: Arc<Timing>) -> anyhow::Result<()> {
    let mut outcomes = client.wait_many(ledger.watched());
    while let Some(outcome) = outcomes.next().await {
        let outcome = outcome.context("failed to watch a job")?;
        settled.record(ledger.since_call(outcome.id));
    }
    Ok(())
}

/// A task that does not outlive this.
struct AbortOnDrop(tokio::task::JoinHandle<anyhow::Result<()>>);

impl AbortOnDrop {
    async fn join(mut self) -> anyhow::Result<()> {
        (&mut self.0).await.context("the watch panicked")?
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
