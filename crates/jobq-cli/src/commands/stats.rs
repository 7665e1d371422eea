//! `jobq stats`: how many jobs there are, and how the server is.

use std::time::Duration;

use anyhow::Context;
use jobq_client::{AskError, Client, NameStats, Stats};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::cli::Global;
use crate::connect::unanswered;
use crate::exit::Exit;
use crate::output::{self, Column, Output, Table, count, note};
use crate::signals::Signals;
use crate::times;

/// The flags of `jobq stats`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
CAP is the most jobs of a name that workers may have at a time, and in the last
row of all names together, where there is such a cap. On a terminal that is too
narrow for all columns, CAP, CANCELLED, SCHEDULED and COMPLETED are left out, in
this order; with --watch, names that a low window has no room for are too. --json
has all of it.

Examples:
  jobq stats
  jobq stats --watch --interval 5s
  jobq stats --json | jq .total.queued")]
pub(crate) struct Args {
    /// Show them again and again, until interrupted
    #[arg(long)]
    watch: bool,
    /// How often, with --watch
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval, requires = "watch")]
    interval: Duration,
    /// Write JSON; with --watch, one line each time
    #[arg(long)]
    json: bool,
}

/// Shortest interval: a question costs the server little, and nobody reads faster.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// What stands around the names: the header, the row of all, whether there are more, an empty line, two lines on the
/// server, and the one of the cursor.
const OTHER_ROWS: usize = 7;

/// How long `--watch` waits for an answer before it asks again, and says once that there is none.
const PATIENCE: Duration = Duration::from_secs(5);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = times::duration(text)?;
    if interval < MIN_INTERVAL {
        return Err(format!("it has to be at least {}", times::length(MIN_INTERVAL)));
    }
    Ok(interval)
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let client = global.connect().await.context("failed to count jobs")?;
    let shown = tokio::select! {
        shown = show(&client, &args) => shown.map(|()| Exit::Ok),
        () = signals.recv() => Ok(Exit::Interrupted),
    };
    client.close().await;
    shown
}

async fn show(client: &Client, args: &Args) -> anyhow::Result<()> {
    if !args.watch {
        let stats = client.stats().await;
        let mut output = Output::new();
        write(
            &mut output,
            &stats.map_err(unanswered).context("failed to count jobs")?,
            args.json,
            None,
        )?;
        return output.finish();
    }
    let client = client.with_deadline(PATIENCE);
    let mut ticks = tokio::time::interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut output = Output::new();
    let mut silent = false;
    loop {
        ticks.tick().await;
        let stats = match client.stats().await {
            Ok(stats) => stats,
            // The session comes back by itself.
            Err(error @ AskError::TimedOut(_)) => {
                if !std::mem::replace(&mut silent, true) {
                    note(&format!(
                        "failed to count jobs: {error}; trying again until it is back"
                    ));
                }
                continue;
            }
            Err(error) => return Err(unanswered(error)).context("failed to count jobs"),
        };
        silent = false;
        let redraws = output.redraws() && !args.json;
        let rows = output.size().filter(|_| redraws).map(|(_, rows)| rows);
        if redraws {
            output.clear()?;
        }
        write(&mut output, &stats, args.json, rows)?;
        if !redraws && !args.json {
            output.line("")?;
        }
        output.flush()?;
    }
}

/// Writes them; as a table into so many rows of a terminal, if that matters.
fn write(output: &mut Output, stats: &Stats, as_json: bool, rows: Option<usize>) -> anyhow::Result<()> {
    if as_json {
        output.json(&object(stats))
    } else {
        write_table(output, stats, rows)
    }
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
        "storage_full": stats.storage_full,
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

fn write_table(output: &mut Output, stats: &Stats, rows: Option<usize>) -> anyhow::Result<()> {
    let room = rows.map_or(usize::MAX, |rows| rows.saturating_sub(OTHER_ROWS));
    let shown = &stats.names[..stats.names.len().min(room)];
    let mut table = Table::new([
        Column::word("NAME"),
        Column::number("SCHEDULED").dispensable(2),
        Column::number("QUEUED"),
        Column::number("PROCESSING"),
        Column::number("COMPLETED").dispensable(1),
        Column::number("FAILED"),
        Column::number("CANCELLED").dispensable(3),
        Column::number("CAP").dispensable(4),
    ]);
    let row = |label: &str, name: &NameStats, cap: Option<u64>| {
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
            .chain([cap.map_or("-".to_owned(), |cap| cap.to_string())])
            .collect::<Vec<_>>()
    };
    for name in shown {
        table.row(row(&name.name, name, name.cap));
    }
    // No job has this name: parentheses are not allowed in one.
    table.row(row("(all)", &stats.total, stats.max_active));
    output.table(&table)?;
    if stats.truncated || shown.len() < stats.names.len() {
        output.line(format_args!(
            "There are more names than the {} above.",
            shown.len()
        ))?;
    }
    output.line("")?;
    output.line(format_args!(
        "up {}, {}, {}",
        times::length(Duration::from_micros(stats.uptime)),
        count(stats.workers, "worker"),
        count(stats.peers, "connection")
    ))?;
    output.line(format_args!(
        "since the start: {} submitted, {} settled, {} lost",
        count(stats.submitted, "job"),
        count(stats.settled, "run"),
        count(stats.lost, "lease")
    ))?;
    if stats.storage_full {
        output.line("the disk of the server is full: nothing is taken or handed out until there is room")?;
    }
    Ok(())
}
