//! The scenario that measures how soon a server with a long queue and a long history is back.

use std::future::ready;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use jobq_client::Client;
use jobq_worker::{CancellationToken, Job, Run, Runtime, Summary};
use serde_json::json;

use super::super::cost::{Cost, Meter};
use super::super::jobs::{Load, NAME};
use super::super::report::{Label, Line, Measured, Report, grouped, megabytes, micros, span};
use super::super::server::Server;
use super::super::setting::Setting;
use super::super::setup::{Bench, Ending, connect};
use super::super::timing::Timing;
use super::super::verify::Expected;
use super::super::working::Ledger;

/// Finished jobs for each that is queued.
const FINISHED_EACH: u64 = 2;

/// Longest wait for the first job of a worker.
const FIRST_JOB_WITHIN: Duration = Duration::from_secs(120);

/// Fills a store with finished jobs and queued ones, and measures how long a server takes that starts on it: once
/// after it was killed, and once after it was stopped.
pub(in super::super) async fn restart(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(setting).await?;
    let filled = Filled::fill(&bench).await?;
    filled.expected.check_server(&bench.stats().await?)?;

    let (mut bench, _) = bench.restart(Ending::Kill).await?;
    let after_kill = Comeback::measure(&mut bench).await?;
    let expected = after_kill.expected(&filled.expected);
    expected.check_server(&bench.stats().await?)?;

    let (mut bench, between) = bench.restart(Ending::Stop).await?;
    let after_stop = Comeback::measure(&mut bench).await?;
    let expected = after_stop.expected(&expected);

    let measured = Measured {
        lines: vec![
            after_kill.line("after kill", "after_kill"),
            after_stop.line("after stop", "after_stop"),
            filled.line(between.ending),
        ],
        ..Measured::new(filled.cost, vec![(Label::Ack, filled.acknowledged)])
    };
    bench.finish(&expected, measured).await
}

/// A store with queued and finished jobs.
struct Filled {
    expected: Expected,
    /// Bytes of the database.
    database: u64,
    cost: Cost,
    acknowledged: Arc<Timing>,
}

impl Filled {
    /// Has the finished jobs submitted and worked off at once, and then the queued ones submitted.
    async fn fill(bench: &Bench) -> anyhow::Result<Self> {
        let acknowledged = Arc::new(Timing::new());
        let queued = bench.load();
        let finished = Load {
            jobs: queued.jobs * FINISHED_EACH,
            ..queued.clone()
        };
        let ledger = Arc::new(Ledger::new(finished.jobs, bench.clock));
        let crew = bench.crew();
        let meter = Meter::start(&bench.server);
        let (submitted, summary) = tokio::try_join!(
            bench.submit(&finished, &acknowledged, "submitting"),
            bench.work(&crew, &ledger, finished.jobs, "finishing")
        )?;
        let expected = Expected {
            submitted,
            ..Expected::default()
        };
        let mut expected = expected.worked(&summary, &ledger)?;
        expected.submitted += bench.submit(&queued, &acknowledged, "filling the queue").await?;
        Ok(Self {
            expected,
            database: bench.server.database_bytes()?,
            cost: meter.stop(&bench.server, expected.submitted),
            acknowledged,
        })
    }

    fn line(&self, stop: Duration) -> Line {
        let (submitted, finished) = (self.expected.submitted, self.expected.completed);
        let each = self.database as f64 / submitted.max(1) as f64;
        Line::new(
            "store",
            format!(
                "{} queued and {} finished jobs in {}, {each:.0} bytes a job; stopping took {}",
                grouped(submitted - finished),
                grouped(finished),
                megabytes(self.database),
                span(micros(stop))
            ),
            [
                ("queued_jobs", json!(submitted - finished)),
                ("finished_jobs", json!(finished)),
                ("database_bytes", json!(self.database)),
                ("database_bytes_per_job", json!(each)),
                ("stop_us", json!(micros(stop))),
            ],
        )
    }
}

/// How a server came back.
struct Comeback {
    /// From the start of its process until it had answered a client.
    serving: Duration,
    /// From the start of its process until the handler of a worker was called.
    first_job: Duration,
    summary: Summary,
}

impl Comeback {
    /// Connects a client and a worker at once to a server that has just started.
    async fn measure(bench: &mut Bench) -> anyhow::Result<Self> {
        let begun = bench.server.begun();
        let (client, (first_job, summary)) =
            tokio::try_join!(first_answer(&bench.server), first_job(&bench.server))?;
        let (client, serving) = client;
        bench.clients.push(client);
        Ok(Self {
            serving: serving - begun,
            first_job: first_job - begun,
            summary,
        })
    }

    /// What there should be, from what there was before.
    fn expected(&self, before: &Expected) -> Expected {
        Expected {
            completed: self.summary.completed,
            released: self.summary.released,
            ..before.at_restart()
        }
    }

    /// The keys begin with `key`.
    fn line(&self, what: &'static str, key: &str) -> Line {
        let values = [("serving_us", self.serving), ("first_job_us", self.first_job)];
        Line {
            what,
            text: format!(
                "serving {} after the start of the process, a worker has its first job after {}",
                span(micros(self.serving)),
                span(micros(self.first_job))
            ),
            values: values
                .map(|(name, time)| (format!("{key}_{name}"), json!(micros(time))))
                .into(),
        }
    }
}

/// A client, and when the server had answered it.
async fn first_answer(server: &Server) -> anyhow::Result<(Client, Instant)> {
    let client = connect(server).await?;
    client.stats().await.context("failed to ask the server")?;
    Ok((client, Instant::now()))
}

/// Has a worker run until its handler is called. Returns when that was, and all that the worker did.
async fn first_job(server: &Server) -> anyhow::Result<(Instant, Summary)> {
    let called = Arc::new(OnceLock::new());
    let begun = CancellationToken::new();
    let handler = {
        let (called, begun) = (Arc::clone(&called), begun.clone());
        move |_job: Job<Bytes>, _run: Run| {
            called.get_or_init(Instant::now);
            begun.cancel();
            ready(Ok(None))
        }
    };
    let runtime = Runtime::new(server.address())
        .raw_handler(NAME, handler)
        .concurrency(1)
        .label("jobq bench");
    let summary = tokio::time::timeout(FIRST_JOB_WITHIN, runtime.run(begun.cancelled()))
        .await
        .map_err(|_| anyhow!("a worker got no job within {} s", FIRST_JOB_WITHIN.as_secs()))?
        .context("the worker failed")?;
    let called = called.get().context("the worker ended before it had a job")?;
    Ok((*called, summary))
}
