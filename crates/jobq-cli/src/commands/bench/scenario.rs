//! The scenarios that measure throughput.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::StreamExt;
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use jobq_client::Client;
use jobq_worker::Summary;

use super::report::{Cost, Label, Report};
use super::server::Server;
use super::submitting::{self, Load};
use super::timing::{StampClock, Timing};
use super::verify::Expected;
use super::working::{self, Ledger};
use super::{disk, usage};

/// What is to be measured, and how.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) scenario: &'static str,
    pub(super) jobs: u64,
    pub(super) payload: usize,
    pub(super) clients: u64,
    pub(super) workers: u64,
    pub(super) concurrency: u32,
    pub(super) batch: usize,
    /// Where the server's directory is made.
    pub(super) dir: PathBuf,
    /// What the server logs.
    pub(super) log: Option<String>,
}

/// Jobs acknowledged a second, while nobody works.
pub(super) async fn submit(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(setting).await?;
    let acknowledged = Arc::new(Timing::new());
    let meter = Meter::start(&bench.server);
    let submitted = bench.submit(&acknowledged, "submitting").await?;
    let cost = meter.stop(&bench.server);
    let timings = vec![(Label::Ack, acknowledged)];
    bench.finish(submitted, 0, cost, timings).await
}

/// A full queue worked off.
pub(super) async fn drain(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(setting).await?;
    let submitted = bench
        .submit(&Arc::new(Timing::new()), "filling the queue")
        .await?;
    let ledger = Arc::new(Ledger::new(setting.jobs, bench.clock));
    let settled = Arc::new(Timing::new());
    let watch = tokio::spawn(watch(
        bench.clients[0].clone(),
        Arc::clone(&ledger),
        Arc::clone(&settled),
    ));
    let watch = AbortOnDrop(watch);
    // Its answer comes after the watch has begun.
    bench.clients[0]
        .stats()
        .await
        .context("failed to ask the server")?;
    let meter = Meter::start(&bench.server);
    let summary = bench.work(&ledger, "working").await?;
    let cost = meter.stop(&bench.server);
    watch.join().await?;
    let completed = completed(&summary, &ledger)?;
    bench
        .finish(submitted, completed, cost, vec![(Label::Settled, settled)])
        .await
}

/// Submitting and working at once.
pub(super) async fn flow(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(setting).await?;
    let ledger = Arc::new(Ledger::new(setting.jobs, bench.clock));
    let acknowledged = Arc::new(Timing::new());
    let meter = Meter::start(&bench.server);
    let (submitted, summary) = tokio::try_join!(
        bench.submit(&acknowledged, "submitting"),
        bench.work(&ledger, "working")
    )?;
    let cost = meter.stop(&bench.server);
    let completed = completed(&summary, &ledger)?;
    let timings = vec![(Label::Started, ledger.started()), (Label::Ack, acknowledged)];
    bench.finish(submitted, completed, cost, timings).await
}

/// The workers' own count, if every job has run once.
fn completed(summary: &Summary, ledger: &Ledger) -> anyhow::Result<u64> {
    let odd = summary.failed + summary.released + summary.stale + ledger.extra();
    if odd > 0 || summary.completed != ledger.ran() {
        bail!(
            "the counts disagree: {} jobs have run, {} runs were extra, and the workers report {summary:?}",
            ledger.ran(),
            ledger.extra()
        );
    }
    Ok(summary.completed)
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

/// A server and its clients.
pub(super) struct Bench {
    pub(super) setting: Setting,
    /// Before the server, so that none of them comes back to one that was killed.
    pub(super) clients: Vec<Client>,
    pub(super) server: Server,
    pub(super) clock: StampClock,
    /// Bars that are shown at the same time, below each other.
    bars: MultiProgress,
    fdatasync: Duration,
}

impl Bench {
    pub(super) async fn start(setting: &Setting) -> anyhow::Result<Self> {
        let server = Server::start(&setting.dir, setting.log.as_deref()).await?;
        let directory = server.directory().to_owned();
        let fdatasync = tokio::task::spawn_blocking(move || disk::fdatasync(&directory))
            .await
            .context("measuring the disk panicked")?
            .context("failed to measure the disk's fdatasync")?;
        let mut clients = Vec::new();
        for _ in 0..setting.clients {
            let client = Client::builder(server.address())
                .label("jobq bench")
                .connect()
                .await;
            clients.push(client.context("failed to connect")?);
        }
        Ok(Self {
            setting: setting.clone(),
            clients,
            bars: MultiProgress::new(),
            server,
            clock: StampClock::new(),
            fdatasync,
        })
    }

    async fn submit(&self, acknowledged: &Arc<Timing>, what: &'static str) -> anyhow::Result<u64> {
        let load = Load {
            jobs: self.setting.jobs,
            payload: self.setting.payload,
            batch: self.setting.batch,
            clock: self.clock,
        };
        let bar = self.bars.add(bar(self.setting.jobs, what));
        let taken = submitting::submit_all(&self.clients, self.setting.jobs, &load, acknowledged, &bar).await;
        bar.finish_and_clear();
        taken
    }

    async fn work(&self, ledger: &Arc<Ledger>, what: &'static str) -> anyhow::Result<Summary> {
        let Setting {
            jobs,
            workers,
            concurrency,
            ..
        } = self.setting;
        let bar = self.bars.add(bar(jobs, what));
        let summary = working::work_all(self.server.address(), workers, concurrency, ledger, &bar).await;
        bar.finish_and_clear();
        summary
    }

    /// Compares all counts, stops the server, and makes the report.
    pub(super) async fn finish(
        self,
        submitted: u64,
        completed: u64,
        cost: Cost,
        timings: Vec<(Label, Arc<Timing>)>,
    ) -> anyhow::Result<Report> {
        let expected = Expected { submitted, completed };
        if submitted != self.setting.jobs {
            bail!(
                "{} jobs were submitted, and {submitted} acknowledged",
                self.setting.jobs
            );
        }
        let stats = self.clients[0]
            .stats()
            .await
            .context("failed to ask the server")?;
        expected.check_server(&stats)?;
        for client in self.clients {
            client.close().await;
        }
        let start = self.server.start_time();
        let leftover = self.server.stop().await?;
        expected.check_store(&leftover).await?;
        Ok(Report {
            setting: self.setting,
            start,
            fdatasync: self.fdatasync,
            cost,
            timings,
        })
    }
}

/// A bar on standard error; none where that is no terminal.
pub(super) fn bar(jobs: u64, what: &'static str) -> ProgressBar {
    let template = "{msg:18} {bar:30} {human_pos}/{human_len}  {rate}/s  {eta} left";
    let style = ProgressStyle::with_template(template)
        .expect("the template is well formed")
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing to a text does not fail.
            let _ = write!(out, "{}", HumanCount(state.per_sec() as u64));
        });
    ProgressBar::new(jobs).with_style(style).with_message(what)
}

/// Measures what a part of a scenario costs.
pub(super) struct Meter {
    begun: Instant,
    server_cpu: Option<Duration>,
    client_cpu: Duration,
}

impl Meter {
    pub(super) fn start(server: &Server) -> Self {
        Self {
            server_cpu: server.cpu(),
            client_cpu: usage::own_cpu(),
            begun: Instant::now(),
        }
    }

    pub(super) fn stop(self, server: &Server) -> Cost {
        let time = self.begun.elapsed();
        let server_cpu = server.cpu().zip(self.server_cpu);
        Cost {
            time,
            client_cpu: usage::own_cpu().saturating_sub(self.client_cpu),
            server_cpu: server_cpu.map(|(now, before)| now.saturating_sub(before)),
            memory: server.memory(),
        }
    }
}
