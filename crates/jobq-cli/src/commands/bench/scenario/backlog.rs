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
/// length.
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
    let bench = Bench::start(&short).await?;
    let base = Standing::measure(&bench, round).await?;
    bench.end(&base.expected).await?;

    let bench = Bench::start(setting).await?;
    let long = Standing::measure(&bench, round).await?;
    let (beside, beside_short) = (long.situation(), base.situation());
    let compare = |what, key, long, short| comparison(what, key, (long, &beside), (short, &beside_short));
    let lines = vec![
        compare("submitting", "submit", &long.submit, &base.submit),
        compare("working", "drain", &long.drain, &base.drain),
        long.queue(),
    ];
    // Each job is submitted and worked off.
    let cost = Cost {
        jobs: long.drain.jobs,
        ..long.submit.and(long.drain)
    };
    let measured = Measured {
        lines,
        ..Measured::new(cost, vec![(Label::Ack, Arc::clone(&long.acknowledged))])
    };
    bench.finish(&long.expected, measured).await
}

/// What was measured while a queue stood.
struct Standing {
    jobs: u64,
    /// Of the server with the queue alone.
    memory: Option<Memory>,
    /// Bytes of the database with the queue alone.
    database: u64,
    submit: Cost,
    drain: Cost,
    acknowledged: Arc<Timing>,
    expected: Expected,
}

impl Standing {
    /// Fills the queue, and submits and works off beside it, some rounds of `round` jobs.
    async fn measure(bench: &Bench, round: u64) -> anyhow::Result<Self> {
        let fill = bench.load();
        let submitted = bench
            .submit(&fill, &Arc::new(Timing::new()), "filling the queue")
            .await?;
        let mut expected = Expected {
            submitted,
            ..Expected::default()
        };
        let (memory, database) = (bench.server.memory(), bench.server.database_bytes()?);
        let all = submitted + ROUNDS * round;
        let ledger = Arc::new(Ledger::new(all, bench.clock));
        let acknowledged = Arc::new(Timing::new());
        let load = Load { jobs: round, ..fill };
        let mut costs: Option<(Cost, Cost)> = None;
        for _ in 0..ROUNDS {
            let meter = Meter::start(&bench.server);
            expected.submitted += bench.submit(&load, &acknowledged, "submitting").await?;
            let submit = meter.stop(&bench.server, round);

            let before = expected.completed;
            let meter = Meter::start(&bench.server);
            let summary = bench.work(&bench.crew(), &ledger, round, "working").await?;
            expected = expected.worked(&summary, &ledger)?;
            let drain = meter.stop(&bench.server, expected.completed - before);
            costs = Some(match costs {
                Some(so_far) => (so_far.0.and(submit), so_far.1.and(drain)),
                None => (submit, drain),
            });
        }
        let (submit, drain) = costs.expect("there is at least one round");
        Ok(Self {
            jobs: submitted,
            memory,
            database,
            submit,
            drain,
            acknowledged,
            expected,
        })
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
