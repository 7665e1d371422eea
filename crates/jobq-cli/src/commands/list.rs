//! `jobq list`: jobs, newest first, page by page.

use anyhow::Context;
use jobq_client::{Client, JobFilter, JobView};

use super::selection::Selection;
use crate::cli::Global;
use crate::connect::unanswered;
use crate::exit::Exit;
use crate::output::{self, Column, Output, Table, note};
use crate::values::number;
use crate::{times, view};

/// Most jobs in one page: what is in memory at a time, and the rows that share their columns' widths.
const PAGE: u64 = 1_000;

/// Most columns of a reason in a row; a terminal may have room for fewer.
const MAX_DETAIL: usize = 120;

/// The flags of `jobq list`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The newest job comes first. The last column says how far a running job has
come, else why its last attempt failed: the first and the last line of it. On a
terminal that is too narrow for all columns, PRIORITY, USERNAME, CREATED,
ATTEMPTS and DETAIL are left out, in this order. With --json, each job is one
line with one object, which has all of it.

Examples:
  jobq list --status failed --since 2h
  jobq list --name thumbnail --reason 'out of memory' --all
  jobq list --status failed --all --json |
    jq -r '.reason | split(\"\\n\") | last' | sort | uniq -c")]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Show at most so many jobs
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = number::<u64>(1..))]
    limit: u64,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Write JSON, one job a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let filter = args.selection.filter().context("failed to list jobs")?;
    let client = global.connect().await.context("failed to list jobs")?;
    let listed = list(&client, args, filter).await;
    client.close().await;
    listed
}

async fn list(client: &Client, args: Args, mut filter: JobFilter) -> anyhow::Result<Exit> {
    let mut output = Output::new();
    let mut left = if args.all { u64::MAX } else { args.limit };
    let mut first = true;
    let mut more = false;
    while left > 0 {
        filter.limit = Some(left.min(PAGE));
        let page = client
            .page(filter.clone())
            .await
            .map_err(unanswered)
            .context("failed to list jobs")?;
        left = left.saturating_sub(page.jobs.len() as u64);
        if args.json {
            for job in &page.jobs {
                output.json(&view::job(job))?;
            }
        } else if !page.jobs.is_empty() {
            write_rows(&mut output, &page.jobs, first)?;
        }
        more = page.next.is_some();
        if first && page.jobs.is_empty() && !more && !args.json {
            note("no jobs match");
        }
        first = false;
        match page.next {
            Some(next) => filter.before = Some(next),
            None => break,
        }
    }
    output.finish()?;
    if more {
        note(&format!(
            "there are more than these {}; --limit or --all shows them",
            args.limit
        ));
    }
    Ok(Exit::Ok)
}

fn write_rows(output: &mut Output, jobs: &[JobView], header: bool) -> anyhow::Result<()> {
    let mut table = Table::new([
        Column::word("ID"),
        Column::word("NAME"),
        Column::word("USERNAME").dispensable(4),
        Column::word("PRIORITY").dispensable(5),
        Column::word("STATUS"),
        Column::word("ATTEMPTS").dispensable(2),
        Column::word("CREATED").dispensable(3),
        Column::text("DETAIL", MAX_DETAIL).dispensable(1),
    ]);
    for job in jobs {
        let detail = match (&job.progress, &job.reason) {
            (Some(progress), _) => view::progress(progress),
            (None, reason) => reason.clone().unwrap_or_default(),
        };
        table.row([
            job.id.to_string(),
            output::escape(&job.name).into_owned(),
            output::escape(job.username.as_deref().unwrap_or("-")).into_owned(),
            output::escape(&job.priority).into_owned(),
            job.status.to_string(),
            format!("{}/{}", job.attempts, job.max_attempts),
            times::local(job.created),
            detail,
        ]);
    }
    // Each page has its own columns, so people see a header on each, and a pipe has one.
    if !header && !output.is_terminal() {
        table = table.without_header();
    }
    output.table(&table)
}
