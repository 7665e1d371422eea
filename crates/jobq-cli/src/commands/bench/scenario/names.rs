//! The scenario that measures what many names cost: choosing the next job must not look at each.

use std::sync::Arc;

use super::super::cost::{Cost, Meter};
use super::super::jobs::{NAME, one_name};
use super::super::report::{Label, Measured, Report};
use super::super::setting::Setting;
use super::super::setup::Bench;
use super::super::timing::Timing;
use super::super::verify::Expected;
use super::super::working::Ledger;
use super::comparison::comparison;

/// Drain and flow with jobs of many names, compared with jobs of one name on a server of its own.
pub(in super::super) async fn names(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(setting).await?;
    let one = Spread::measure(&bench, one_name()).await?;
    bench.end(&one.expected).await?;

    let bench = Bench::start(setting).await?;
    let many = Spread::measure(&bench, many_names(setting.names)).await?;
    let with_many = format!("with {} names", setting.names);
    let compare = |what, key, many, one| comparison(what, key, (many, &with_many), (one, "with one"));
    let lines = vec![
        compare("drain", "drain", &many.drain, &one.drain),
        compare("flow", "flow", &many.flow, &one.flow),
    ];
    let measured = Measured {
        lines,
        ..Measured::new(many.drain, vec![(Label::Ack, many.acknowledged)])
    };
    bench.finish(&many.expected, measured).await
}

fn many_names(count: u64) -> Arc<[String]> {
    (0..count).map(|name| format!("{NAME}-{name}")).collect()
}

/// What was measured with jobs that are spread over some names.
struct Spread {
    drain: Cost,
    flow: Cost,
    /// In flow.
    acknowledged: Arc<Timing>,
    expected: Expected,
}

impl Spread {
    /// Fills the queue and works it off, and then submits and works at once. Each worker works on all names.
    async fn measure(bench: &Bench, names: Arc<[String]>) -> anyhow::Result<Self> {
        let (mut load, mut crew) = (bench.load(), bench.crew());
        load.names = Arc::clone(&names);
        crew.names = names;
        let submitted = bench
            .submit(&load, &Arc::new(Timing::new()), "filling the queue")
            .await?;
        let ledger = Arc::new(Ledger::new(2 * load.jobs, bench.clock));
        let meter = Meter::start(&bench.server);
        let summary = bench.work(&crew, &ledger, submitted, "working").await?;
        let drain = meter.stop(&bench.server, submitted);
        let expected = Expected {
            submitted,
            ..Expected::default()
        };
        let mut expected = expected.worked(&summary, &ledger)?;

        let acknowledged = Arc::new(Timing::new());
        let meter = Meter::start(&bench.server);
        let (submitted, summary) = tokio::try_join!(
            bench.submit(&load, &acknowledged, "submitting"),
            bench.work(&crew, &ledger, load.jobs, "working")
        )?;
        let flow = meter.stop(&bench.server, submitted);
        expected.submitted += submitted;
        Ok(Self {
            drain,
            flow,
            acknowledged,
            expected: expected.worked(&summary, &ledger)?,
        })
    }
}
