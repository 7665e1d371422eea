//! `jobq cancel`: jobs that shall not run, or stop running.

use anyhow::Context;
use jobq_client::{CancelOutcome, JobId};
use serde_json::json;

use crate::cli::Global;
use crate::connect::unanswered;
use crate::exit::Exit;
use crate::output::Output;

/// The flags of `jobq cancel`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A job that waits is cancelled at once. The worker of one that runs is told to
stop it; if it completes first, it stays completed. It is no error if a job had
ended before.

Examples:
  jobq cancel 7 8 9
  jobq list --name report --status queued --limit 100000 --json | jq .id | xargs -r jobq cancel")]
pub(crate) struct Args {
    /// The jobs' numbers
    #[arg(value_name = "ID", required = true)]
    ids: Vec<u64>,
    /// Write JSON, one job a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let ids: Vec<JobId> = args.ids.iter().copied().map(JobId).collect();
    let client = global.connect().await.context("failed to cancel jobs")?;
    let results = client
        .cancel(&ids)
        .await
        .map_err(unanswered)
        .context("failed to cancel jobs");
    client.close().await;
    let mut output = Output::new();
    let mut exit = Exit::Ok;
    for result in results? {
        let (code, says) = match result.outcome {
            CancelOutcome::Cancelled => ("cancelled", "cancelled"),
            CancelOutcome::Marked => ("marked", "its worker is told to stop it"),
            CancelOutcome::AlreadyEnded => ("already_ended", "it had ended before"),
            CancelOutcome::NotFound => ("not_found", "there is no such job"),
            _ => ("unknown", "the server's answer is not known to this version"),
        };
        if !matches!(code, "cancelled" | "marked" | "already_ended") {
            exit = Exit::Partial;
        }
        if args.json {
            output.json(&json!({ "id": result.id, "outcome": code }))?;
        } else {
            output.line(format_args!("{}: {says}", result.id))?;
        }
    }
    output.finish()?;
    Ok(exit)
}
