//! The scenario that measures what a long queue costs: memory, room on disk, and speed beside it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::cost::{Cost, Meter};
use super::super::jobs::Load;
use super::super::report::{Label, Line, Measured, Report, grouped, megabytes};
use super::super::setting::Setting;
use super::super::setup::Bench;
use super::super::timing::Timing;
use super::super::usage::Memory;
use super::super::verify::Expected;
use super::super::working::Ledger;
use super::comparison::comparison;

/// The queue that the long one is compared with.
const SHORT_QUEUE: u64 = 100_000;

/// How often jobs are submitted on top of the queue, and as many worked off. In turns, so that the queue keeps its
/// length, and in turns with the short queue, so that what else the machine does slows both.
const ROUNDS: u64 = 5;

/// Most jobs of a round: so many are long enough to be measured, and few beside the queue.
const ROUND: u64 = 100_000;

/// Speed with a queue of the setting's length standing, compared with a short one on a server of its own.
pub(in super::super) async fn backlog(setting: &Setting) -> anyhow::Result<Report> {
    let short = Setting {
        jobs: setting.jobs.min(SHORT_QUEUE),
        ..setting.clone()
    };
    let round = short.jobs.min(ROUND);
    let mut base = Standing::fill(&short, round).await?;
    let mut long = Standing::fill(setting, round).await?;
    for _ in 0..ROUNDS {
        base.round().await?;
        long.round().await?;
    }
    let (submit, drain) = long.costs();
    let (base_submit, base_drain) = base.costs();
    let (beside, beside_short) = (long.situation(), base.situation());
    let compare = |what, key, long, short| comparison(what, key, (long, &beside), (short, &beside_short));
    let lines = vec![
        compare("submitting", "submit", &submit, &base_submit),
        compare("working", "drain", &drain, &base_drain),
        long.queue(),
    ];
    base.bench.end(&base.expected).await?;
    // Each job is submitted and worked off.
    let cost = Cost {
        jobs: drain.jobs,
        ..submit.and(drain)
    };
    let measured = Measured {
        lines,
        ..Measured::new(cost, vec![(Label::Ack, long.acknowledged)])
    };
    long.bench.finish(&long.expected, measured).await
}

/// A server with a queue that stands.
struct Standing {
    bench: Bench,
    jobs: u64,
    /// Of the server with the queue alone.
    memory: Option<Memory>,
    /// Bytes of the database with the queue alone.
    database: u64,
    /// What a round submits, and works off.
    round: Load,
    ledger: Arc<Ledger>,
    /// Of each round.
    submits: Vec<Cost>,
    drains: Vec<Cost>,
    acknowledged: Arc<Timing>,
    expected: Expected,
}

impl Standing {
    /// Starts a server and fills its queue.
    async fn fill(setting: &Setting, round: u64) -> anyhow::Result<Self> {
        let bench = Bench::start(setting).await?;
        let fill = bench.load();
        let submitted = bench
            .submit(&fill, &Arc::new(Timing::new()), "filling the queue")
            .await?;
        let all = submitted + ROUNDS * round;
        Ok(Self {
            jobs: submitted,
            memory: bench.server.memory(),
            database: bench.server.database_bytes()?,
            round: Load { jobs: round, ..fill },
            ledger: Arc::new(Ledger::new(all, bench.clock)),
            submits: Vec::new(),
            drains: Vec::new(),
            acknowledged: Arc::new(Timing::new()),
            expected: Expected {
                submitted,
                ..Expected::default()
            },
            bench,
        })
    }

    /// Submits some jobs on top of the queue, and works about as many off.
    async fn round(&mut self) -> anyhow::Result<()> {
        let Self { bench, round, .. } = &*self;
        let meter = Meter::start(&bench.server);
        let submitted = bench.submit(round, &self.acknowledged, "submitting").await?;
        let submit = meter.stop(&bench.server, submitted);

        let meter = Meter::start(&bench.server);
        let summary = bench
            .work(&bench.crew(), &self.ledger, round.jobs, "working")
            .await?;
        let drain = meter.stop(&bench.server, summary.completed);
        let expected = Expected {
            submitted: self.expected.submitted + submitted,
            ..self.expected
        };
        self.expected = expected.worked(&summary, &self.ledger)?;
        self.submits.push(submit);
        self.drains.push(drain);
        Ok(())
    }

    /// Of all rounds together.
    fn costs(&self) -> (Cost, Cost) {
        (Cost::of_all(&self.submits), Cost::of_all(&self.drains))
    }

    fn situation(&self) -> String {
        format!("beside {} queued", grouped(self.jobs))
    }

    /// What the queue alone takes.
    fn queue(&self) -> Line {
        let each = self.database as f64 / self.jobs as f64;
        let mut text = format!("{each:.0} bytes a job on disk");
        if let Some(memory) = self.memory {
            text += &format!(
                "; memory {}, {} of it anonymous",
                megabytes(memory.resident),
                megabytes(memory.anonymous)
            );
        }
        let value = |bytes: fn(Memory) -> u64| self.memory.map_or(Value::Null, |memory| json!(bytes(memory)));
        Line::new(
            "queue",
            text,
            [
                ("queue_bytes_per_job", json!(each)),
                ("queue_database_bytes", json!(self.database)),
                ("queue_rss_bytes", value(|memory| memory.resident)),
                ("queue_rss_anon_bytes", value(|memory| memory.anonymous)),
            ],
        )
    }
}
