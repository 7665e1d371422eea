//! `jobq restore`: a backup becomes the database of a new data directory.

use std::path::PathBuf;

use anyhow::Context;
use jobq_server::store::{self, CheckProgress, CheckReport, RestoreError, StoreError};
use serde_json::json;

use crate::exit::Exit;
use crate::output::Output;
use crate::progress::Line;

/// The flags of `jobq restore`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
It copies FILE to a new or empty directory, checks the copy as `jobq check` does,
and says how many jobs are in it. Nothing that was there is changed: move the old
directory away first, whole, since its log and watermark belong to the old
database.

The list of tokens is no part of a backup: copy the file `tokens` of the old
directory to the new one, or make new tokens, before a server starts on it.

What was submitted after the backup is not in it, and what ended after it is
still to be done: those jobs run again. The server that starts on it has another
identity and higher fences: workers of the old one come to it, but none of their
runs counts there.

Examples:
  jobq restore /backup/jobq.db --data /var/lib/jobq
  jobq restore /backup/jobq.db --data /tmp/look && jobq check /tmp/look")]
pub(crate) struct Args {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data directory to make, which is empty or not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let (file, data) = (args.file.clone(), args.data.clone());
    let restored = tokio::task::spawn_blocking(move || {
        let mut line = Line::spinner();
        line.say("copying and checking");
        let mut is_counting = false;
        store::restore(&file, &data, |progress| {
            if let CheckProgress::Jobs { done, of } = progress {
                if !std::mem::replace(&mut is_counting, true) {
                    line = Line::steps(of);
                    line.say("checking jobs");
                }
                line.at(done);
            }
        })
    });
    let report = restored
        .await
        .context("failed to restore the backup")?
        .map_err(|error| coded(error).context(format!("failed to restore {}", args.file.display())))?;
    write(&args, &report)?;
    Ok(Exit::Ok)
}

fn coded(error: RestoreError) -> anyhow::Error {
    let exit = match &error {
        RestoreError::NotEmpty { .. } => Exit::Usage,
        RestoreError::Unsound { .. } => Exit::Damaged,
        RestoreError::Store(StoreError::NotOurs { .. }) => Exit::Usage,
        RestoreError::Store(error) if error.is_corruption() => Exit::Damaged,
        _ => Exit::Failed,
    };
    exit.because(error)
}

fn write(args: &Args, report: &CheckReport) -> anyhow::Result<()> {
    let shown = args.data.display();
    let mut output = Output::optional();
    if args.json {
        output.json(&json!({
            "directory": shown.to_string(),
            "jobs": report.jobs,
            "live": report.live,
            "last_commit": report.last_commit,
        }))?;
    } else {
        output.line(format_args!(
            "{shown} has {} jobs, {} of them live, up to commit {}; start it with `jobq serve --data {shown}`",
            report.jobs, report.live, report.last_commit
        ))?;
    }
    output.finish()
}
