//! `jobq list`: jobs, newest first, page by page.

use std::io::Write;

use anyhow::Context;
use jobq_client::{Client, JobFilter, JobView, Status};

use crate::cli::Global;
use crate::connect::unanswered;
use crate::exit::Exit;
use crate::output::{self, Output};
use crate::{times, view};

/// Most jobs in one page: what is in memory at a time, and the rows that share their columns' widths.
const PAGE: u64 = 1_000;

/// Most characters of a reason in a row.
const REASON_WIDTH: usize = 60;

/// The flags of `jobq list`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
With --json, each job is one line with one object.

Examples:
  jobq list --status failed
  jobq list --name thumbnail --limit 1000 --json | jq -r .reason | sort | uniq -c")]
pub(crate) struct Args {
    /// Only jobs in this status: scheduled, queued, processing, completed, failed or cancelled
    #[arg(long)]
    status: Option<Status>,
    /// Only jobs of this name
    #[arg(long)]
    name: Option<String>,
    /// Only jobs for this username
    #[arg(long)]
    username: Option<String>,
    /// Show at most so many jobs
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Write JSON, one job a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let client = global.connect().await.context("failed to list jobs")?;
    let listed = list(&client, args).await;
    client.close().await;
    listed
}

async fn list(client: &Client, args: Args) -> anyhow::Result<Exit> {
    let mut output = Output::new();
    let mut filter = JobFilter::new();
    filter.status = args.status;
    filter.name = args.name;
    filter.username = args.username;
    let mut left = args.limit;
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
            "there are more than these {}; --limit shows them",
            args.limit
        ));
    }
    Ok(Exit::Ok)
}

/// Says something beside the listing, where it does not mix with it.
fn note(text: &str) {
    // There is nobody to tell if this fails.
    let _ = writeln!(std::io::stderr(), "jobq: {text}");
}

fn write_rows(output: &mut Output, jobs: &[JobView], header: bool) -> anyhow::Result<()> {
    let mut table = output::table();
    if header {
        table.set_header([
            "ID", "NAME", "USERNAME", "PRIORITY", "STATUS", "ATTEMPTS", "CREATED", "REASON",
        ]);
    }
    for job in jobs {
        let reason = job
            .reason
            .as_deref()
            .map(|reason| output::cut(reason, REASON_WIDTH));
        table.add_row([
            job.id.to_string(),
            output::escape(&job.name).into_owned(),
            output::escape(job.username.as_deref().unwrap_or("-")).into_owned(),
            output::escape(&job.priority).into_owned(),
            job.status.to_string(),
            format!("{}/{}", job.attempts, job.max_attempts),
            times::local(job.created),
            reason.unwrap_or_default(),
        ]);
    }
    output.table(table)
}
