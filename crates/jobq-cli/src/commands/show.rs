//! `jobq show`: everything about one job.

use anyhow::{Context, anyhow};
use jobq_client::{AskError, Client, Include, JobView, Status};

use super::job_ref::JobRef;
use crate::cli::Global;
use crate::connect::unanswered;
use crate::exit::Exit;
use crate::output::{self, Output, note};
use crate::view;

/// The flags of `jobq show`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Beside the job's state it shows how far a run has come, and the runs that have
ended, the earliest first, each with its reason if it failed or was lost; those
that gave the job back are not among them. With --result, the exit code is 4 if
the job has not completed.

A result that is no text, nor any other JSON, is shown in base64url; with --json
a field \"result_encoding\" beside it says so, and so does \"params_encoding\".

Examples:
  jobq show 7
  jobq show 7 --json | jq -r '.runs[].reason'
  jobq show 019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11 --result --json")]
pub(crate) struct Args {
    /// The job's number, or the uuid that it was submitted under
    #[arg(value_name = "ID|UUID", value_parser = JobRef::parse)]
    job: JobRef,
    /// Show its params too
    #[arg(long)]
    params: bool,
    /// Show its result too
    #[arg(long)]
    result: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let client = global.connect().await.context("failed to show the job")?;
    let shown = show(&client, &args).await;
    client.close().await;
    shown
}

async fn show(client: &Client, args: &Args) -> anyhow::Result<Exit> {
    // One answer holds one of the three. What a job is and was given does not change, and how it ended is told by
    // the first.
    let mut view = fetch(client, args.job, args.result.then_some(Include::Result)).await?;
    view.runs = fetch(client, args.job, Some(Include::Runs)).await?.runs;
    if args.params {
        view.params = fetch(client, args.job, Some(Include::Params)).await?.params;
    }
    let mut output = Output::new();
    if args.json {
        let mut object = view::job(&view);
        object.insert("runs".to_owned(), view::runs(&view));
        if args.params {
            view::put_payload(&mut object, "params", view.params.as_ref());
        }
        if args.result {
            view::put_payload(&mut object, "result", view.result.as_ref());
        }
        output.json(&object)?;
    } else {
        write(&mut output, &view, args)?;
    }
    output.finish()?;
    if args.result && view.status != Status::Completed {
        note(&format!("no result: the job is {}", view.status));
        return Ok(Exit::Partial);
    }
    Ok(Exit::Ok)
}

async fn fetch(client: &Client, job: JobRef, include: Option<Include>) -> anyhow::Result<JobView> {
    let answer: Result<Option<JobView>, AskError> = match (job, include) {
        (JobRef::Id(id), None) => client.show(id).await,
        (JobRef::Id(id), Some(include)) => client.show_with(id, include).await,
        (JobRef::Uuid(uuid), None) => client.show_uuid(uuid).await,
        (JobRef::Uuid(uuid), Some(include)) => client.show_uuid_with(uuid, include).await,
    };
    let view = answer.map_err(unanswered).context("failed to show the job")?;
    view.ok_or_else(|| Exit::Partial.because(anyhow!("failed to show the job: {}", job.missing())))
}

fn write(output: &mut Output, view: &JobView, args: &Args) -> anyhow::Result<()> {
    let mut lines = view::lines(view);
    lines.extend(view::run_lines(view).map(|runs| ("runs", runs)));
    if args.params {
        lines.push(("params", view::payload_line(view.params.as_ref())));
    }
    if args.result && view.status == Status::Completed {
        lines.push(("result", view::payload_line(view.result.as_ref())));
    }
    for (label, text) in lines {
        let mut rows = text.trim_end().lines();
        output.line(format_args!(
            "{label:<10}{}",
            output::escape(rows.next().unwrap_or_default())
        ))?;
        // A reason may be the last words of a program, which have many lines.
        for row in rows {
            output.line(format_args!("{:10}{}", "", output::escape(row)))?;
        }
    }
    Ok(())
}
