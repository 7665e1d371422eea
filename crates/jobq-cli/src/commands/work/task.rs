//! One run: from a job to a command, and from what becomes of that to the run's end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobq_client::json;
use jobq_worker::{CancellationToken, Job, JobError, Run};
use serde_json::Value;
use tokio::process::Command;

use super::child::{self, Orders};
use super::guard::Guard;
use super::report::{self, Expected};
use super::template::Word;

/// What every run needs to know.
pub(super) struct Task {
    pub(super) program: PathBuf,
    /// The words behind the program.
    pub(super) arguments: Vec<Word>,
    pub(super) expected: Expected,
    /// How long a command has between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// Give what is told to stop no grace.
    pub(super) kill: CancellationToken,
    /// Kills what runs if this process is killed.
    pub(super) guard: Arc<Guard>,
}

impl Task {
    /// Runs the command for a job.
    ///
    /// # Errors
    /// The run has failed.
    pub(super) async fn process(
        self: Arc<Self>,
        job: Job<Bytes>,
        run: Run,
    ) -> Result<Option<Bytes>, JobError> {
        let params = json::from_cbor(&job.params)
            .map_err(|error| JobError::never(format!("the params cannot be written as JSON: {error}")))?;
        let command = self.command(&job, &run, &params)?;
        let mut input = params.to_string();
        input.push('\n');
        let orders = Orders {
            input: input.into(),
            keep_output: self.expected.wants_output(),
            output_limit: bytes_of(run.limits().result),
            grace: self.grace,
            pipes_wait: child::PIPES_WAIT,
            run: run.clone(),
            kill: self.kill.clone(),
            guard: Arc::clone(&self.guard),
        };
        match child::run(command, orders).await {
            Ok(finished) => report::outcome(finished, &self.expected, bytes_of(run.limits().reason)),
            Err(error) => Err(self.not_started(&error)),
        }
    }

    fn command(&self, job: &Job<Bytes>, run: &Run, params: &Value) -> Result<Command, JobError> {
        let mut command = Command::new(&self.program);
        for word in &self.arguments {
            command.arg(word.expand(job, params)?);
        }
        command
            // What a command writes to its standard error becomes the job's reason, for all to read.
            .env_remove("JOBQ_TOKEN")
            .env("JOBQ_ID", job.id.to_string())
            .env("JOBQ_NAME", &job.name)
            .env("JOBQ_UUID", job.uuid.to_string())
            .env("JOBQ_ATTEMPT", job.attempt.to_string())
            .env("JOBQ_MAX_ATTEMPTS", job.max_attempts.to_string())
            .env("JOBQ_FENCE", run.fence().to_string());
        match &job.username {
            Some(username) => command.env("JOBQ_USERNAME", username),
            None => command.env_remove("JOBQ_USERNAME"),
        };
        Ok(command)
    }

    /// Why the command did not start. It was found when the worker began, so most of this may pass.
    fn not_started(&self, error: &io::Error) -> JobError {
        let what = format!("failed to start {}: {error}", self.program.display());
        match error.kind() {
            io::ErrorKind::ArgumentListTooLong => JobError::never(format!(
                "{what}; what the job puts into the command's words is too long for arguments: let the command read \
                 its standard input instead"
            )),
            io::ErrorKind::NotFound if self.program.exists() => JobError::retry(format!(
                "{what}; the interpreter that its first line names may be missing, or the directory of the worker"
            )),
            _ => JobError::retry(what),
        }
    }
}

fn bytes_of(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
