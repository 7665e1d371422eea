//! `jobq demo`: a server, a client and a worker in one process, joined by real TCP and a real SQLite file.

mod progress;
mod tally;

use std::num::NonZeroU32;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::StreamExt;
use jobq_client::{Client, JobFilter, JobId, JobRequest, Priority, Stats};
use jobq_server::{Config, RunningServer, Server};
use jobq_worker::{CancellationToken, Job, JobError, Run, Runtime, RuntimeError, Summary};
use tokio::task::JoinHandle;

use crate::cli::Global;
use crate::exit::Exit;
use crate::output::{Output, count};
use crate::signals::Signals;
use crate::times;
use crate::values::number;

use self::progress::Progress;
use self::tally::Tally;

/// The name of all jobs.
const NAME: &str = "demo";

/// Why the jobs fail that do.
const REASON: &str = "simulated failure";

/// Most jobs: all of them are watched and listed.
const MAX_JOBS: u64 = 1_000_000;

/// Most jobs at a time; the worker's limit.
const MAX_CONCURRENCY: u32 = jobq_worker::MAX_HELD as u32;

/// How long handlers may go on after an interruption. They stop at once when they are told to.
const STOP_WITHIN: Duration = Duration::from_millis(200);

/// The flags of `jobq demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Its store is in a temporary directory, which is deleted at the end.

Examples:
  jobq demo
  jobq demo --jobs 5000 --duration 10ms -n 32")]
pub(crate) struct Args {
    /// How many jobs; half of them are of high priority
    #[arg(long, value_name = "N", default_value_t = 500)]
    #[arg(value_parser = number::<u64>(1..=MAX_JOBS))]
    jobs: u64,
    /// How many run at a time
    #[arg(long, short = 'n', value_name = "N", default_value = "4")]
    #[arg(value_parser = number::<u32>(1..=MAX_CONCURRENCY))]
    concurrency: u32,
    /// How long each of them runs
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = times::duration)]
    duration: Duration,
    /// Of so many jobs one fails, for good; 0 for none
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = number::<u64>(0..))]
    fail_every: u64,
}

/// The params of a job.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Task {
    number: u64,
    fails: bool,
}

pub(crate) async fn run(args: Args, _global: &Global) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let directory = tempfile::Builder::new()
        .prefix("jobq-demo-")
        .tempdir()
        .context("failed to make a temporary directory")?;
    let demo = Demo::start(&args, directory.path()).await?;
    // Whatever comes of it, all parts are stopped in order, and the directory deleted after that.
    let played = tokio::select! {
        played = demo.play(&args) => played.map(Some),
        () = signals.recv() => Ok(None),
    };
    let stopped = demo.stop().await;
    let Some(played) = played? else {
        stopped?;
        return Ok(Exit::Interrupted);
    };
    played.check(&stopped?)?;
    let mut out = Output::optional();
    played.print(&mut out)?;
    out.finish()?;
    Ok(Exit::Ok)
}

/// The parts, all running.
struct Demo {
    server: RunningServer,
    client: Client,
    worker: JoinHandle<Result<Summary, RuntimeError>>,
    /// Ends the worker.
    stop: CancellationToken,
}

/// What came of it.
struct Played {
    tally: Tally,
    stats: Stats,
    time: Duration,
}

impl Demo {
    async fn start(args: &Args, data: &Path) -> anyhow::Result<Self> {
        let mut config = Config::default();
        config.max_active = Some(args.concurrency as usize);
        config.max_attempts = NonZeroU32::MIN;
        let server = Server::new()
            .config(config)
            .data(data)
            .listen(
                "tcp://127.0.0.1:0"
                    .parse()
                    .context("failed to read the address")?,
            )
            .start()
            .await
            .context("failed to start the server")?;
        let address = server.addresses().first().context("the server listens nowhere")?;
        let address = address.to_string();
        let client = Client::builder(&address).label("jobq demo").connect().await;
        let client = client.context("failed to connect to the server")?;
        let stop = CancellationToken::new();
        let duration = args.duration;
        let runtime = Runtime::new(address)
            .handler(NAME, move |job: Job<Task>, run: Run| work(job, run, duration))
            .concurrency(args.concurrency)
            .shutdown_timeout(STOP_WITHIN)
            .label("jobq demo");
        let stopped = stop.clone();
        let worker = tokio::spawn(async move {
            // A worker that ends by itself is noticed.
            let _ended = stopped.clone().drop_guard();
            runtime.run(stopped.cancelled()).await
        });
        Ok(Self {
            server,
            client,
            worker,
            stop,
        })
    }

    /// Submits the jobs, waits for their ends, and gathers what there is to know about them.
    async fn play(&self, args: &Args) -> anyhow::Result<Played> {
        let begun = Instant::now();
        let ids = self.submit(args).await?;
        let mut tally = Tally::default();
        let mut progress = Progress::new(args.jobs);
        let mut outcomes = self.client.wait_many(ids);
        let mut dead = pin!(self.stop.cancelled());
        loop {
            let outcome = tokio::select! {
                outcome = outcomes.next() => outcome,
                () = &mut dead => bail!("the worker has ended before the jobs"),
            };
            let Some(outcome) = outcome else { break };
            tally.ended(&outcome.context("failed to wait for a job")?);
            progress.show(tally.completed(), tally.failed());
        }
        let time = begun.elapsed();
        progress.finish();
        self.list(&mut tally).await?;
        let stats = self.client.stats().await.context("failed to ask the server")?;
        Ok(Played { tally, stats, time })
    }

    async fn submit(&self, args: &Args) -> anyhow::Result<Vec<JobId>> {
        let requests = (1..=args.jobs).map(|number| {
            let fails = args.fail_every > 0 && number % args.fail_every == 0;
            // The urgent ones come last, and run first.
            let urgent = number > args.jobs / 2;
            let priority = if urgent { Priority::High } else { Priority::Normal };
            JobRequest::new(NAME)
                .params(&Task { number, fails })
                .map(|request| request.priority(priority))
        });
        let requests = requests
            .collect::<Result<Vec<_>, _>>()
            .context("failed to encode params")?;
        let receipts = self
            .client
            .submit_many(requests)
            .await
            .context("failed to submit")?;
        let ids = receipts
            .into_iter()
            .map(|receipt| receipt.map(|receipt| receipt.id));
        ids.collect::<Result<Vec<_>, _>>()
            .context("failed to submit a job")
    }

    /// Reads the times of all jobs.
    async fn list(&self, tally: &mut Tally) -> anyhow::Result<()> {
        let mut jobs = self.client.list(JobFilter::new().name(NAME));
        while let Some(job) = jobs.next().await {
            tally.listed(&job.context("failed to list the jobs")?);
        }
        Ok(())
    }

    /// Stops the worker, the client and the server.
    async fn stop(self) -> anyhow::Result<Summary> {
        self.stop.cancel();
        let summary = self
            .worker
            .await
            .context("the worker panicked")?
            .context("the worker failed");
        self.client.close().await;
        let stopped = self.server.stop().await.context("failed to stop the server");
        let summary = summary?;
        stopped?;
        Ok(summary)
    }
}

/// What the jobs do: they take their time.
async fn work(job: Job<Task>, run: Run, duration: Duration) -> Result<u64, JobError> {
    let Task { number, fails } = job.params;
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = run.cancelled() => return Err(JobError::retry("told to stop")),
    }
    if fails {
        return Err(JobError::never(REASON));
    }
    Ok(number)
}

impl Played {
    /// Compares what the client was told with what the worker, the server and its listing say.
    fn check(&self, summary: &Summary) -> anyhow::Result<()> {
        let (completed, failed) = (self.tally.completed(), self.tally.failed());
        let total = &self.stats.total;
        let left = total.scheduled + total.queued + total.processing + total.cancelled;
        let agree = (total.completed, total.failed, left) == (completed, failed, 0)
            && (summary.completed, summary.failed) == (completed, failed)
            && self.stats.submitted == completed + failed
            && self.tally.jobs() == completed + failed;
        if agree {
            return Ok(());
        }
        bail!(
            "the counts disagree: the client was told of {completed} jobs completed and {failed} failed; the \
             worker settled {} and {}; the server took {} and has {} completed, {} failed and {left} others; {} \
             are listed",
            summary.completed,
            summary.failed,
            self.stats.submitted,
            total.completed,
            total.failed,
            self.tally.jobs()
        )
    }

    fn print(&self, out: &mut Output) -> anyhow::Result<()> {
        out.table(&self.tally.by_priority())?;
        if self.tally.failed() > 0 {
            out.line("")?;
            out.table(&self.tally.by_reason())?;
        }
        let seconds = self.time.as_secs_f64();
        let jobs = self.tally.jobs();
        out.line("")?;
        out.line(format_args!(
            "{} in {seconds:.2} s, {:.0} a second; client, worker and server agree on every count",
            count(jobs, "job"),
            jobs as f64 / seconds.max(f64::MIN_POSITIVE)
        ))
    }
}
