//! `jobq wait`: until jobs have ended.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::StreamExt;
use jobq_client::{Client, JobEvent, JobId, Outcome, Status, WaitError};
use serde_json::Map;

use super::attempts::Attempts;
use super::job_ref::JobRef;
use crate::cli::Global;
use crate::connect::{unanswered, unreachable};
use crate::exit::Exit;
use crate::output::{Output, count, note, one_line};
use crate::progress::Line;
use crate::signals::Signals;
use crate::{times, view};

/// Most columns of a reason behind a job's end.
const REASON_WIDTH: usize = 200;

/// The flags of `jobq wait`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
It tells each job's end as it comes, and ends when all have ended. Attempts that
fail and are to be repeated are told on standard error, those of the first 100
jobs that are left. The exit code is that of the worst: 5 if a job failed, else
6 if one was cancelled, else 4 if one does not exist. With --json, each end is
one line with one object, which has the job's result too.

Examples:
  jobq wait 7 8 9 && echo all completed
  jobq wait $(jobq submit report) --timeout 10m
  jobq list --name report --status queued --all --json | jq .id | xargs jobq wait")]
pub(crate) struct Args {
    /// The jobs' numbers, or the uuids that they were submitted under
    #[arg(value_name = "ID|UUID", required = true, value_parser = JobRef::parse)]
    jobs: Vec<JobRef>,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", value_parser = times::duration)]
    timeout: Option<Duration>,
    /// Write JSON, one ended job a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let client = global.connect().await.context("failed to wait for jobs")?;
    let waited = wait(&client, &args, &mut signals).await;
    client.close().await;
    waited
}

async fn wait(client: &Client, args: &Args, signals: &mut Signals) -> anyhow::Result<Exit> {
    let mut ends = Ends::new(args.json);
    let ids = ids(client, &args.jobs, &mut ends).await?;
    let mut events = client.watch(ids.iter().copied());
    let mut left: HashSet<JobId> = ids.iter().copied().collect();
    let mut attempts = Attempts::new(client);
    let all = left.len() as u64;
    let line = Line::steps(all);
    let over = async {
        match args.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let mut over = std::pin::pin!(over);
    let stopped = loop {
        let event = tokio::select! {
            biased;
            () = signals.recv() => break Some(Exit::Interrupted),
            event = events.next() => event,
            failed = attempts.failed(ids.iter().copied().filter(|id| left.contains(id))) => {
                line.beside(|| failed.iter().for_each(|line| note(line)));
                continue;
            }
            () = &mut over => break Some(Exit::TimeOver),
        };
        match event {
            None => break None,
            Some(Ok(JobEvent::Progressed { id, progress, .. })) => {
                line.say(one_line(
                    &format!("job {id}: {}", view::progress(&progress)),
                    REASON_WIDTH,
                ));
            }
            Some(Ok(JobEvent::Ended(outcome))) => {
                left.remove(&outcome.id);
                line.beside(|| ends.ended(&outcome))?;
            }
            Some(Ok(_)) => {}
            Some(Err(WaitError::NotFound { id })) => {
                left.remove(&id);
                line.beside(|| ends.missing(JobRef::Id(id)));
            }
            Some(Err(error)) => {
                drop(line);
                ends.output.finish()?;
                return Err(not_waited(error));
            }
        }
        line.at(all - left.len() as u64);
    };
    drop(line);
    let exit = ends.exit;
    ends.output.finish()?;
    let Some(stopped) = stopped else {
        return Ok(exit);
    };
    let left = count(left.len() as u64, "job");
    Err(stopped.because(match (stopped, args.timeout) {
        (Exit::TimeOver, Some(timeout)) => anyhow!(
            "failed to wait for all jobs: {left} had not ended within {}",
            times::length(timeout)
        ),
        _ => anyhow!("interrupted; {left} had not ended, and the server goes on with them"),
    }))
}

/// The jobs' numbers, each once.
async fn ids(client: &Client, jobs: &[JobRef], ends: &mut Ends) -> anyhow::Result<Vec<JobId>> {
    let mut ids = Vec::with_capacity(jobs.len());
    for &job in jobs {
        match job.id(client).await? {
            Some(id) => ids.push(id),
            None => ends.missing(job),
        }
    }
    let mut seen = HashSet::new();
    ids.retain(|&id| seen.insert(id));
    Ok(ids)
}

/// What has been told of the jobs' ends.
struct Ends {
    output: Output,
    json: bool,
    exit: Exit,
}

impl Ends {
    fn new(json: bool) -> Self {
        Self {
            output: Output::optional(),
            json,
            exit: Exit::Ok,
        }
    }

    fn ended(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        self.worse(match outcome.status {
            Status::Completed => Exit::Ok,
            Status::Cancelled => Exit::JobCancelled,
            _ => Exit::JobFailed,
        });
        let id = outcome.id;
        if self.json {
            let mut object = Map::new();
            object.insert("id".to_owned(), id.0.into());
            object.insert("status".to_owned(), outcome.status.as_str().into());
            object.insert("reason".to_owned(), outcome.reason.as_deref().into());
            view::put_payload(&mut object, "result", outcome.result.as_ref());
            self.output.json(&object)?;
        } else {
            let status = outcome.status.as_str().to_lowercase();
            let reason = outcome
                .reason
                .as_deref()
                .map(|reason| one_line(reason, REASON_WIDTH));
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            self.output.line(format_args!("{id}: {status}{reason}"))?;
        }
        // Whoever waits for several wants to know of each at once.
        self.output.flush()
    }

    fn missing(&mut self, job: JobRef) {
        self.worse(Exit::Partial);
        note(&job.missing());
    }

    /// A failed job is worse than a cancelled one, and that than one that does not exist.
    fn worse(&mut self, exit: Exit) {
        let rank = |exit| match exit {
            Exit::JobFailed => 3,
            Exit::JobCancelled => 2,
            Exit::Partial => 1,
            _ => 0,
        };
        if rank(exit) > rank(self.exit) {
            self.exit = exit;
        }
    }
}

/// The error of a wait that ended before its job, with its exit code.
pub(in crate::commands) fn not_waited(error: WaitError) -> anyhow::Error {
    let error = match error {
        WaitError::Session(error) => unreachable(error),
        WaitError::Fetch { id, source } => {
            unanswered(source).context(format!("job {id} has ended, and its result could not be fetched"))
        }
        WaitError::NotFound { id } => Exit::Partial.because(anyhow!(JobRef::Id(id).missing())),
        error => error.into(),
    };
    error.context("failed to wait for the job")
}
