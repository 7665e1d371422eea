//! `jobq retry`: ended jobs, submitted again.

use anyhow::Context;
use jobq_client::JobId;
use serde_json::json;

use crate::cli::Global;
use crate::connect::unanswered;
use crate::exit::Exit;
use crate::output::{self, Output};

/// The flags of `jobq retry`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Each ended job is submitted again as a new job, which names the old one.
Repeating the command gives the same new jobs and no others.

Examples:
  jobq retry 7
  jobq list --status failed --limit 100000 --json | jq .id | xargs -r jobq retry")]
pub(crate) struct Args {
    /// The ended jobs' numbers
    #[arg(value_name = "ID", required = true)]
    ids: Vec<u64>,
    /// Write JSON, one job a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let ids: Vec<JobId> = args.ids.iter().copied().map(JobId).collect();
    let client = global.connect().await.context("failed to retry jobs")?;
    let receipts = client
        .retry(&ids)
        .await
        .map_err(unanswered)
        .context("failed to retry jobs");
    client.close().await;
    let mut output = Output::new();
    let mut exit = Exit::Ok;
    for (old, receipt) in ids.iter().zip(receipts?) {
        match receipt {
            Ok(new) if args.json => {
                output.json(&json!({ "id": new.id.0, "retry_of": old.0, "existing": new.existing }))?;
            }
            Ok(new) => {
                let again = if new.existing { ", as it was before" } else { "" };
                output.line(format_args!("{old}: submitted again as {}{again}", new.id))?;
            }
            Err(error) => {
                exit = Exit::Partial;
                if args.json {
                    output.json(
                        &json!({ "retry_of": old.0, "error": error.code.as_str(), "message": error.message }),
                    )?;
                } else {
                    output.line(format_args!("{old}: {}", output::escape(&error.to_string())))?;
                }
            }
        }
    }
    output.finish()?;
    Ok(exit)
}
