//! `jobq show`: everything about one job.

use anyhow::{Context, anyhow};
use jobq_client::{AskError, Client, Include, JobId, JobView};
use uuid::Uuid;

use crate::cli::Global;
use crate::connect::unanswered;
use crate::exit::Exit;
use crate::output::{self, Output};
use crate::view;

/// The flags of `jobq show`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  jobq show 7
  jobq show 019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11 --result --json")]
pub(crate) struct Args {
    /// The job's number, or the uuid that it was submitted under
    #[arg(value_name = "ID|UUID", value_parser = which)]
    job: Which,
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

/// What a job is named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Id(JobId),
    Uuid(Uuid),
}

fn which(text: &str) -> Result<Which, String> {
    if let Ok(id) = text.parse() {
        return Ok(Which::Id(JobId(id)));
    }
    text.parse()
        .map(Which::Uuid)
        .map_err(|_| "it is neither a job's number nor a uuid".to_owned())
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let client = global.connect().await.context("failed to show the job")?;
    let shown = show(&client, &args).await;
    client.close().await;
    shown
}

async fn show(client: &Client, args: &Args) -> anyhow::Result<Exit> {
    let mut view = fetch(client, args.job, args.result.then_some(Include::Result)).await?;
    if args.params {
        // One answer holds one of the two; params do not change.
        view.params = fetch(client, args.job, Some(Include::Params)).await?.params;
    }
    let mut output = Output::new();
    if args.json {
        let mut object = view::job(&view);
        if args.params {
            object.insert("params".to_owned(), view::payload(view.params.as_ref()));
        }
        if args.result {
            object.insert("result".to_owned(), view::payload(view.result.as_ref()));
        }
        output.json(&object)?;
    } else {
        write(&mut output, &view, args)?;
    }
    output.finish()?;
    Ok(Exit::Ok)
}

async fn fetch(client: &Client, job: Which, include: Option<Include>) -> anyhow::Result<JobView> {
    let answer: Result<Option<JobView>, AskError> = match (job, include) {
        (Which::Id(id), None) => client.show(id).await,
        (Which::Id(id), Some(include)) => client.show_with(id, include).await,
        (Which::Uuid(uuid), None) => client.show_uuid(uuid).await,
        (Which::Uuid(uuid), Some(include)) => client.show_uuid_with(uuid, include).await,
    };
    let view = answer.map_err(unanswered).context("failed to show the job")?;
    view.ok_or_else(|| {
        let named = match job {
            Which::Id(id) => format!("job {id}"),
            Which::Uuid(uuid) => format!("job of uuid {uuid}"),
        };
        Exit::Partial.because(anyhow!(
            "failed to show the job: there is no {named}, or its record is no longer kept"
        ))
    })
}

fn write(output: &mut Output, view: &JobView, args: &Args) -> anyhow::Result<()> {
    let mut lines = view::lines(view);
    if args.params {
        lines.push(("params", view::payload(view.params.as_ref()).to_string()));
    }
    if args.result {
        lines.push(("result", view::payload(view.result.as_ref()).to_string()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_by_number_or_uuid() {
        assert_eq!(which("7"), Ok(Which::Id(JobId(7))));
        let uuid = "019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11";
        assert_eq!(which(uuid), Ok(Which::Uuid(uuid.parse().expect("it is one"))));
        assert!(which("seven").is_err());
    }
}
