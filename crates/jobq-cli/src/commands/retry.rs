//! `jobq retry`: ended jobs, submitted again.

use jobq_client::{AskError, Client, ErrorCode, JobId, Status};
use serde_json::json;

use super::change::{self, Change, Changed, Targets};
use super::job_ref::JobRef;
use crate::cli::Global;
use crate::exit::Exit;

/// The flags of `jobq retry`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Each ended job is submitted again as a new job, which names the old one.
Repeating the command gives the same new jobs and no others, and says how many
there were before: an old job stays listed as failed as long as its record is
kept.

Jobs are named by their numbers or uuids, or by filters, as in `jobq list`: all
jobs that match all of them. Without --status, filters mean failed jobs. With
filters it counts the jobs and asks first, unless --yes is given.

Examples:
  jobq retry 7
  jobq retry --name thumbnail --reason 'connection refused' --since 2h
  jobq retry --status cancelled --username ada --yes")]
pub(crate) struct Args {
    #[command(flatten)]
    targets: Targets,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    change::run::<Retry>(args.targets, global).await
}

/// What a sum calls those that this call submitted, and those that were submitted before.
const AGAIN: &str = "submitted again";
const BEFORE: &str = "had been before";
/// And those that it could not.
const REFUSED: &str = "refused";

struct Retry;

impl Change for Retry {
    const VERB: &'static str = "retry";
    const STATUSES: &'static [Status] = &[Status::Completed, Status::Failed, Status::Cancelled];
    const MEANT: &'static [Status] = &[Status::Failed];
    const REMARK: &'static str = " Those that were submitted again before are left as they are.";
    const FIRST: Option<&'static str> = Some(AGAIN);

    fn missing(job: JobRef) -> Changed {
        let error = ErrorCode::NotFound.as_str();
        let message = job.missing();
        Changed {
            outcome: REFUSED,
            done: false,
            object: match job {
                JobRef::Id(id) => json!({ "retry_of": id.0, "error": error, "message": message }),
                JobRef::Uuid(uuid) => json!({ "uuid": uuid.to_string(), "error": error, "message": message }),
            },
            says: message,
        }
    }

    async fn change(client: &Client, ids: &[JobId]) -> Result<Vec<Changed>, AskError> {
        let receipts = client.retry(ids).await?;
        let changed = ids.iter().zip(receipts).map(|(old, receipt)| match receipt {
            Ok(new) => {
                let (outcome, says) = if new.existing {
                    (BEFORE, format!("had been submitted again before, as {}", new.id))
                } else {
                    (AGAIN, format!("submitted again as {}", new.id))
                };
                Changed {
                    outcome,
                    done: true,
                    says,
                    object: json!({ "id": new.id.0, "retry_of": old.0, "existing": new.existing }),
                }
            }
            Err(error) if error.code == ErrorCode::NotFound => Self::missing(JobRef::Id(*old)),
            Err(error) => Changed {
                outcome: REFUSED,
                done: false,
                says: error.to_string(),
                object: json!({ "retry_of": old.0, "error": error.code.as_str(), "message": error.message }),
            },
        });
        Ok(changed.collect())
    }
}
