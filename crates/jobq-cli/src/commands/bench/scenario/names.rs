//! The scenario that measures what many names cost: choosing the next job must not look at each.

use std::sync::Arc;

use super::super::cost::{Cost, Meter};
use super::super::jobs::{Load, NAME, one_name};
use super::super::report::{Label, Measured, Report};
use super::super::setting::Setting;
use super::super::setup::Bench;
use super::super::timing::Timing;
use super::super::verify::Expected;
use super::super::working::{Crew, Ledger};
use super::comparison::comparison;

/// How often each is measured: in turns, so that what else the machine does slows both.
const ROUNDS: u64 = 3;

/// Drain and flow with jobs of many names, compared with jobs of one name on a server of its own.
pub(in super::super) async fn names(setting: &Setting) -> anyhow::Result<Report> {
    let mut one = Spread::start(setting, one_name()).await?;
    let mut many = Spread::start(setting, many_names(setting.names)).await?;
    for _ in 0..ROUNDS {
        one.round().await?;
        many.round().await?;
    }
    let (drain, flow) = many.costs();
    let (base_drain, base_flow) = one.costs();
    let with_many = format!("with {} names", setting.names);
    let compare = |what, many, one| comparison(what, what, (many, &with_many), (one, "with one"));
    let lines = vec![
        compare("drain", &drain, &base_drain),
        compare("flow", &flow, &base_flow),
    ];
    one.bench.end(&one.expected).await?;
    let measured = Measured {
        lines,
        ..Measured::new(drain, vec![(Label::Ack, many.acknowledged)])
    };
    many.bench.finish(&many.expected, measured).await
}

fn many_names(count: u64) -> Arc<[String]> {
    (0..count).map(|name| format!("{NAME}-{name}")).collect()
}

/// A server whose jobs are spread over some names. Each worker works on all of them.
struct Spread {
    bench: Bench,
    load: Load,
    crew: Crew,
    ledger: Arc<Ledger>,
    /// Of each round.
    drains: Vec<Cost>,
    flows: Vec<Cost>,
    /// In flow.
    acknowledged: Arc<Timing>,
    expected: Expected,
}

impl Spread {
    async fn start(setting: &Setting, names: Arc<[String]>) -> anyhow::Result<Self> {
        let bench = Bench::start(setting).await?;
        // Drain and flow.
        let all = 2 * ROUNDS * setting.jobs;
        Ok(Self {
            load: Load {
                names: Arc::clone(&names),
                ..bench.load()
            },
            crew: Crew {
                names,
                ..bench.crew()
            },
            ledger: Arc::new(Ledger::new(all, bench.clock)),
            drains: Vec::new(),
            flows: Vec::new(),
            acknowledged: Arc::new(Timing::new()),
            expected: Expected::default(),
            bench,
        })
    }

    /// Fills the queue and works it off, and then submits and works at once.
    async fn round(&mut self) -> anyhow::Result<()> {
        let Self {
            bench,
            load,
            crew,
            ledger,
            ..
        } = &*self;
        let mut expected = self.expected;
        expected.submitted += bench
            .submit(load, &Arc::new(Timing::new()), "filling the queue")
            .await?;
        let meter = Meter::start(&bench.server);
        let summary = bench.work(crew, ledger, load.jobs, "working").await?;
        let drain = meter.stop(&bench.server, load.jobs);
        let mut expected = expected.worked(&summary, ledger)?;

        let meter = Meter::start(&bench.server);
        let (submitted, summary) = tokio::try_join!(
            bench.submit(load, &self.acknowledged, "submitting"),
            bench.work(crew, ledger, load.jobs, "working")
        )?;
        let flow = meter.stop(&bench.server, load.jobs);
        expected.submitted += submitted;
        self.expected = expected.worked(&summary, ledger)?;
        self.drains.push(drain);
        self.flows.push(flow);
        Ok(())
    }

    /// Of all rounds together.
    fn costs(&self) -> (Cost, Cost) {
        (Cost::of_all(&self.drains), Cost::of_all(&self.flows))
    }
}
