//! `jobq bench`: how many jobs this machine takes and runs a second, with every promise kept.
//!
//! The server is a process of its own on a fresh store; clients and workers are in this one, and use the libraries
//! as any program would. [`scenario`] and [`latency`] drive them ([`submitting`], [`working`]), [`verify`] compares
//! what they counted with what the server and its store did, and [`report`] prints the figures.

mod disk;
mod latency;
mod report;
mod scenario;
mod server;
mod submitting;
mod timing;
mod usage;
mod verify;
mod working;

use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;

use crate::cli::Global;
use crate::exit::Exit;
use crate::output::Output;
use crate::signals::Signals;
use crate::values::number;

use self::report::Report;
use self::scenario::Setting;

/// Jobs of a scenario that measures throughput, unless told otherwise.
const JOBS: u64 = 500_000;

/// Jobs of the scenario that measures latency, unless told otherwise.
const LATENCY_JOBS: u64 = 2_000;

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

/// The flags of `jobq bench`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = FIGURES)]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_enum, default_value_t = Which::All, value_name = "SCENARIO")]
    scenario: Which,
    /// How many jobs [default: 500000, and 2000 for latency]
    #[arg(long, value_name = "N", value_parser = number::<u64>(1..=MAX_JOBS))]
    jobs: Option<u64>,
    /// How many bytes of params each job has
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    #[arg(value_parser = number::<u64>(LEAST_PAYLOAD..=MAX_PAYLOAD))]
    payload: u64,
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
    /// Where to put the stores, which are deleted afterwards [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// All of these, one after the other
    All,
    /// Jobs acknowledged a second, none of them run
    Submit,
    /// A full queue worked off and settled
    Drain,
    /// Submitting and working at once
    Flow,
    /// One job at a time on an idle server
    Latency,
}

const FIGURES: &str = "\
What is measured:
  Each scenario has a server of its own (`jobq serve`, a process of its own) on a fresh store, and clients and
  workers in this process, over loopback TCP. A job's params are one CBOR byte string, and its handler does
  nothing. Afterwards the jobs counted here, by the server and in the store have to agree, or the run fails.

  speed         jobs in the time from the first job handed to a client (submit, flow), or from the start of the
                workers (drain), until the last job is acknowledged (submit) or all are settled (drain, flow)
  acknowledged  from handing a batch to the client until the program has its receipts; the batch waits its turn
                behind those before it
  started       from handing a job to the client until its handler is called; where more is submitted than is
                worked off, most of it is waiting in line
  settled       from the call of a job's handler until a client that watches the job is told of its end, which is
                on disk then; one job in a few hundred is watched
  result        from handing a job to the client until it has the job's result
  fdatasync     4 KiB appended to a file in the same directory and synced, 200 times, the median
  server        CPU time, and memory at the end, of the server's process
  client        CPU time of this process, in which clients and workers are

With --json: p50_us and p99_us are those of `acknowledged` in submit and latency, of `settled` in drain and of
`started` in flow; further ones have their names in front. Times in microseconds have names that end in _us.

Examples:
  jobq bench
  jobq bench drain --jobs 2000000 --workers 4
  jobq bench --json | jq -r '[.scenario, .jobs_per_s] | @tsv'";

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    // What is dropped at an interruption ends the server and deletes its store.
    tokio::select! {
        result = measure(&args, global) => result.map(|()| Exit::Ok),
        () = signals.recv() => Ok(Exit::Interrupted),
    }
}

async fn measure(args: &Args, global: &Global) -> anyhow::Result<()> {
    let scenarios = match args.scenario {
        Which::All => &[Which::Submit, Which::Drain, Which::Flow, Which::Latency][..],
        ref one => std::slice::from_ref(one),
    };
    for (place, &which) in scenarios.iter().enumerate() {
        let setting = args.setting(which, global);
        let report = match which {
            Which::Submit => scenario::submit(&setting).await,
            Which::Drain => scenario::drain(&setting).await,
            Which::Latency => latency::latency(&setting).await,
            Which::Flow | Which::All => scenario::flow(&setting).await,
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
    fn setting(&self, which: Which, global: &Global) -> Setting {
        let jobs = if which == Which::Latency {
            LATENCY_JOBS
        } else {
            JOBS
        };
        Setting {
            scenario: which.name(),
            jobs: self.jobs.unwrap_or(jobs),
            payload: self.payload as usize,
            clients: self.clients,
            workers: self.workers,
            concurrency: self.concurrency,
            batch: self.batch as usize,
            dir: self.dir.clone().unwrap_or_else(std::env::temp_dir),
            log: global.log.clone(),
        }
    }
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Submit => "submit",
            Self::Drain => "drain",
            Self::Flow => "flow",
            Self::Latency => "latency",
        }
    }
}
