//! `jobq cancel`: jobs that shall not run, or stop running.

use jobq_client::{AskError, CancelOutcome, Client, JobId, Status};
use serde_json::json;

use super::change::{self, Change, Changed, Targets};
use super::job_ref::JobRef;
use crate::cli::Global;
use crate::exit::Exit;

/// The flags of `jobq cancel`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A job that waits is cancelled at once. The worker of one that runs is told to
stop it; if it completes first, it stays completed. It is no error if a job had
ended before: the command can be repeated.

Jobs are named by their numbers or uuids, or by filters, as in `jobq list`: all
jobs that match all of them and have not ended. With filters it counts them and
asks first, unless --yes is given.

Examples:
  jobq cancel 7 8 9
  jobq cancel --name report --status queued
  jobq cancel --username ada --until 1d --yes")]
pub(crate) struct Args {
    #[command(flatten)]
    targets: Targets,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    change::run::<Cancel>(args.targets, global).await
}

struct Cancel;

impl Change for Cancel {
    const VERB: &'static str = "cancel";
    const STATUSES: &'static [Status] = &[Status::Scheduled, Status::Queued, Status::Processing];
    const MEANT: &'static [Status] = Self::STATUSES;

    fn missing(job: JobRef) -> Changed {
        let outcome = "not_found";
        Changed {
            outcome: "not there",
            done: false,
            says: job.missing(),
            object: match job {
                JobRef::Id(id) => json!({ "id": id.0, "outcome": outcome }),
                JobRef::Uuid(uuid) => json!({ "uuid": uuid.to_string(), "outcome": outcome }),
            },
        }
    }

    async fn change(client: &Client, ids: &[JobId]) -> Result<Vec<Changed>, AskError> {
        let results = client.cancel(ids).await?;
        let changed = results.iter().map(|result| {
            if result.outcome == CancelOutcome::NotFound {
                return Self::missing(JobRef::Id(JobId(result.id)));
            }
            let (code, outcome, says) = match result.outcome {
                CancelOutcome::Cancelled => ("cancelled", "cancelled", "cancelled"),
                CancelOutcome::Marked => ("marked", "told to stop", "its worker is told to stop it"),
                CancelOutcome::AlreadyEnded => ("already_ended", "had ended before", "it had ended before"),
                _ => (
                    "unknown",
                    "unknown",
                    "the server's answer is not known to this version",
                ),
            };
            Changed {
                outcome,
                done: matches!(code, "cancelled" | "marked" | "already_ended"),
                says: says.to_owned(),
                object: json!({ "id": result.id, "outcome": code }),
            }
        });
        Ok(changed.collect())
    }
}
