//! `jobq stats`: how many jobs there are, and how the server is.

use std::time::Duration;

use anyhow::Context;
use jobq_client::{NameStats, Stats};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::connect::unanswered;
use crate::exit::Exit;
use crate::output::{self, Output};
use crate::times;

/// The flags of `jobq stats`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  jobq stats
  jobq stats --json | jq .total.queued")]
pub(crate) struct Args {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let client = global.connect().await.context("failed to count jobs")?;
    let stats = client
        .stats()
        .await
        .map_err(unanswered)
        .context("failed to count jobs");
    client.close().await;
    let stats = stats?;
    let mut output = Output::new();
    if args.json {
        output.json(&object(&stats))?;
    } else {
        write(&mut output, &stats)?;
    }
    output.finish()?;
    Ok(Exit::Ok)
}

fn object(stats: &Stats) -> Value {
    json!({
        "uptime_us": stats.uptime,
        "workers": stats.workers,
        "peers": stats.peers,
        "max_active": stats.max_active,
        "submitted": stats.submitted,
        "settled": stats.settled,
        "lost": stats.lost,
        "total": counts(&stats.total),
        "names": stats.names.iter().map(|name| (name.name.clone(), counts(name))).collect::<serde_json::Map<_, _>>(),
        "truncated": stats.truncated,
    })
}

fn counts(name: &NameStats) -> Value {
    json!({
        "scheduled": name.scheduled,
        "queued": name.queued,
        "processing": name.processing,
        "cap": name.cap,
        "completed": name.completed,
        "failed": name.failed,
        "cancelled": name.cancelled,
    })
}

fn write(output: &mut Output, stats: &Stats) -> anyhow::Result<()> {
    let mut table = output::table();
    table.set_header([
        "NAME",
        "SCHEDULED",
        "QUEUED",
        "PROCESSING",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
    ]);
    let row = |label: &str, name: &NameStats| {
        let counts = [
            name.scheduled,
            name.queued,
            name.processing,
            name.completed,
            name.failed,
            name.cancelled,
        ];
        let label = output::escape(label).into_owned();
        [label]
            .into_iter()
            .chain(counts.map(|count| count.to_string()))
            .collect::<Vec<_>>()
    };
    table.add_rows(stats.names.iter().map(|name| row(&name.name, name)));
    // No job has this name: parentheses are not allowed in one.
    table.add_row(row("(all)", &stats.total));
    output.table(table)?;
    if stats.truncated {
        output.line(format_args!(
            "There are more names than the {} above.",
            stats.names.len()
        ))?;
    }
    let cap = stats
        .max_active
        .map_or("no cap".to_owned(), |cap| format!("at most {cap}"));
    output.line("")?;
    output.line(format_args!(
        "up {}, {} workers, {} connections, {cap} active",
        times::length(Duration::from_micros(stats.uptime)),
        stats.workers,
        stats.peers
    ))?;
    output.line(format_args!(
        "since the start: {} submitted, {} runs settled, {} leases lost",
        stats.submitted, stats.settled, stats.lost
    ))
}
