//! Gives other job queues the work that `jobq bench` gives jobq: jobs of 100 bytes submitted, then worked off, as fast
//! as each of them can, all in turns on one machine.
//!
//! [`contest`] says who takes part and runs the rounds; [`beanstalkd`], [`redis`] and [`nats`] speak to a server that
//! [`server`] started, over a [`pipe`]; [`jobq`] starts `jobq bench`; [`report`] prints what came of it. What is sent
//! is made beforehand, so that the servers are measured and not this program; its CPU time is reported beside theirs.

#![forbid(unsafe_code)]

mod beanstalkd;
mod contest;
mod jobq;
mod nats;
mod pipe;
mod redis;
mod report;
mod server;

use std::path::PathBuf;

use clap::Parser;

/// Give beanstalkd, Redis and NATS the same work as `jobq bench`, in turns with jobq
///
/// Whichever of beanstalkd, redis-server and nats-server is on PATH takes part, each started on loopback with a fresh
/// directory, and stopped afterwards. Nothing is installed.
#[derive(Debug, Parser)]
#[command(name = "peers")]
pub(crate) struct Args {
    /// The jobq binary
    #[arg(long, value_name = "FILE", env = "JOBQ")]
    jobq: PathBuf,
    /// How many jobs; a tenth of it for who takes one sync for each
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    jobs: u64,
    /// How many rounds; the table has the medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only who has this in their name, and jobq
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Where to put the servers' files, which are deleted afterwards [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let results = contest::run(&args)?;
    if args.json {
        report::json(&results);
    } else {
        report::table(&args, &results);
    }
    Ok(())
}
