//! `jobq bench`: how many jobs this machine takes and runs a second, with every promise kept.
//!
//! The server is a process of its own on a fresh store; clients and workers are in this one, and use the libraries
//! as any program would. Each [`scenario`] drives them ([`setup`], [`submitting`], [`working`]), [`verify`] compares
//! what they counted with what the server and its store did, and [`report`] prints the figures.

mod cost;
mod disk;
mod help;
mod jobs;
mod pace;
mod report;
mod scenario;
mod server;
mod setting;
mod setup;
mod submitting;
mod timing;
mod usage;
mod verify;
mod which;
mod working;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::cli::Global;
use crate::exit::Exit;
use crate::output::Output;
use crate::signals::Signals;
use crate::times;
use crate::values::number;

use self::report::Report;
use self::scenario::{backlog, idle, large, latency, names, prune, restart, scheduled, throughput};
use self::setting::Setting;
use self::which::Which;

/// Most jobs of a run: each takes a bit here, and about 300 bytes on disk.
const MAX_JOBS: u64 = 1_000_000_000;

/// Least bytes of params: they hold the time at which they were made.
const LEAST_PAYLOAD: u64 = timing::STAMP_BYTES as u64 + 1;

/// Most bytes of params: what a server takes by default.
const MAX_PAYLOAD: u64 = 1024 * 1024;

/// Most connections of each kind.
const MAX_PEERS: u64 = 1_000;

/// Most jobs that a worker may hold at a time; the library's limit.
const MAX_CONCURRENCY: u32 = jobq_worker::MAX_HELD as u32;

/// Most jobs in a batch.
const MAX_BATCH: u64 = 100_000;

/// Most jobs a second that may be asked for.
const MAX_RATE: u64 = 10_000_000;

/// Most connections that do nothing. Those to one address differ by their local ports, of which Linux gives 28,000.
const MAX_IDLE: u64 = 25_000;

/// Most names of a worker; the protocol's limit.
const MAX_NAMES: u64 = 1_000;

/// The flags of `jobq bench`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help::FIGURES)]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_enum, default_value_t = Which::All, value_name = "SCENARIO")]
    scenario: Which,
    /// How many jobs [default: one that takes seconds; see below]
    #[arg(long, value_name = "N", value_parser = number::<u64>(1..=MAX_JOBS))]
    jobs: Option<u64>,
    /// How many bytes of params each job has [default: 100, and 1048576 in large]
    #[arg(long, value_name = "BYTES", value_parser = number::<u64>(LEAST_PAYLOAD..=MAX_PAYLOAD))]
    payload: Option<u64>,
    /// How many clients submit, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = number::<u64>(1..=MAX_PEERS))]
    clients: u64,
    /// How many workers there are, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = number::<u64>(1..=MAX_PEERS))]
    workers: u64,
    /// How many jobs each worker has at a time
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = number::<u32>(1..=MAX_CONCURRENCY))]
    concurrency: u32,
    /// How many jobs a client hands over at a time; 1 sends each in a frame of its own
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = number::<u64>(1..=MAX_BATCH))]
    batch: u64,
    /// How many jobs of each client may be without their acknowledgement [default: what the library holds]
    ///
    /// With --batch 1 and --outstanding 1 a client submits one job at a time, and waits for each.
    #[arg(long, value_name = "N", value_parser = number::<u64>(1..=MAX_BATCH))]
    outstanding: Option<u64>,
    /// How many jobs come a second in submit and flow, over all clients, and are due a second in scheduled [default: as
    /// many as are taken, and 10000 in scheduled]
    ///
    /// They come whatever became of those before them: each millisecond what is due by then, in batches of --batch at
    /// most, and their times count from that millisecond.
    #[arg(long, value_name = "N", value_parser = number::<u64>(1..=MAX_RATE))]
    rate: Option<u64>,
    /// How many connections do nothing in idle: half of them clients, half workers
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = number::<u64>(1..=MAX_IDLE))]
    connections: u64,
    /// How many names the jobs have in names; each worker works on all of them
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = number::<u64>(1..=MAX_NAMES))]
    names: u64,
    /// How long the server is looked at that has nothing to do, in idle and scheduled
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = times::duration)]
    observe: Duration,
    /// Where to put the stores, which are deleted afterwards [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    // What is dropped at an interruption ends the server and deletes its store.
    tokio::select! {
        result = measure(&args, global) => result.map(|()| Exit::Ok),
        () = signals.recv() => Ok(Exit::Interrupted),
    }
}

async fn measure(args: &Args, global: &Global) -> anyhow::Result<()> {
    args.check()?;
    let scenarios = match args.scenario {
        Which::All => Which::EACH,
        ref one => std::slice::from_ref(one),
    };
    for (place, &which) in scenarios.iter().enumerate() {
        let setting = args.setting(which, global);
        let report = match which {
            Which::Submit => throughput::submit(&setting).await,
            Which::Drain => throughput::drain(&setting).await,
            Which::Latency => latency::latency(&setting).await,
            Which::Backlog => backlog::backlog(&setting).await,
            Which::Idle => idle::idle(&setting).await,
            Which::Names => names::names(&setting).await,
            Which::Scheduled => scheduled::scheduled(&setting).await,
            Which::Large => large::large(&setting).await,
            Which::Restart => restart::restart(&setting).await,
            Which::Prune => prune::prune(&setting).await,
            Which::Flow | Which::All => throughput::flow(&setting).await,
        };
        let report = report.with_context(|| format!("the scenario {} failed", which.name()))?;
        print(&report, args.json, place > 0)?;
    }
    Ok(())
}

fn print(report: &Report, json: bool, apart: bool) -> anyhow::Result<()> {
    let mut out = Output::optional();
    if json {
        out.json(&report.json())?;
    } else {
        if apart {
            out.line("")?;
        }
        out.line(report.to_string().trim_end())?;
    }
    out.finish()
}

impl Args {
    /// # Errors
    /// A flag says nothing about the scenario.
    fn check(&self) -> anyhow::Result<()> {
        if self.rate.is_some() && self.scenario != Which::All && !self.scenario.has_rate() {
            let name = self.scenario.name();
            return Err(Exit::Usage.because(anyhow!(
                "--rate is for submit, flow and scheduled, and not for {name}"
            )));
        }
        Ok(())
    }

    fn setting(&self, which: Which, global: &Global) -> Setting {
        Setting {
            scenario: which.name(),
            jobs: self.jobs.unwrap_or_else(|| which.jobs()),
            payload: self.payload.unwrap_or_else(|| which.payload()) as usize,
            clients: self.clients,
            workers: self.workers,
            concurrency: self.concurrency,
            batch: self.batch as usize,
            outstanding: self.outstanding.map(|jobs| jobs as usize),
            rate: self.rate.filter(|_| which.has_rate()),
            connections: if which == Which::Idle { self.connections } else { 0 },
            names: if which == Which::Names { self.names } else { 1 },
            observe: self.observe,
            keep_completed: None,
            dir: self.dir.clone().unwrap_or_else(std::env::temp_dir),
            log: global.log.clone(),
        }
    }
}
