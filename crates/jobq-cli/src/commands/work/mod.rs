//! `jobq work`: runs a command for each job of a name.
//!
//! [`child`] runs one command from its start to its last word, [`capture`] reads what it says, [`report`] turns that
//! into the job's result or the reason of its failure, and [`watch`] writes the log.

mod capture;
mod child;
mod group;
mod report;
mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use jobq_client::json;
use jobq_proto::{JobName, Limits};
use jobq_worker::{CancellationToken, Job, JobError, Run, Runtime, RuntimeError, Summary};
use tokio::sync::oneshot;

use crate::cli::Global;
use crate::connect::unreachable;
use crate::exit::Exit;
use crate::output;
use crate::signals::Signals;
use crate::times;
use child::Orders;

/// The flags of `jobq work`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The command gets the job's params as one line of JSON on its standard input,
and JOBQ_ID, JOBQ_NAME, JOBQ_UUID, JOBQ_ATTEMPT, JOBQ_MAX_ATTEMPTS, JOBQ_FENCE
and, where the job has one, JOBQ_USERNAME in its environment. If it exits with
status 0, the job completes, and what it wrote to standard output is the
result. Otherwise the attempt fails, and the end of what it wrote to standard
error is the reason.

The command has a process group of its own. When the job is cancelled or its
time is over, the group gets SIGTERM, and SIGKILL after --grace. What holds the
command's output open for a second after it has exited is killed.

SIGTERM or SIGINT stops the worker: it takes nothing new and waits up to
--drain for what runs. A second signal stops what runs and gives its jobs back;
a third kills it.

It keeps trying when no server answers, at the start too.

Examples:
  jobq work thumbnail -j 4 -- ./thumbnail.sh
  jobq work mail --timeout 1m --result none -- sh -c 'sendmail \"$(jq -r .to)\"'")]
pub(crate) struct Args {
    /// The jobs to run
    #[arg(value_parser = name)]
    name: String,
    /// Run so many at a time
    #[arg(short = 'j', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    jobs: u32,
    /// Stop a run after so long, beside the job's own time-out; it counts as a failed attempt
    #[arg(long, value_name = "DURATION", value_parser = times::positive_duration)]
    timeout: Option<Duration>,
    /// What becomes of standard output
    #[arg(long, value_name = "KIND", default_value = "text")]
    result: ResultKind,
    /// How long a command has between SIGTERM and SIGKILL; with more than 9s, a job whose time is over may be given
    /// to the next worker before its command has ended
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = times::duration)]
    grace: Duration,
    /// When stopping, wait so long for what runs
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = times::duration)]
    drain: Duration,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What becomes of a command's standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ResultKind {
    /// The result is the text; bytes where it is not UTF-8.
    Text,
    /// It is JSON, and the result is what it says.
    Json,
    /// It goes nowhere, and there is no result.
    None,
}

/// What the runtime adds to the grace of a command before it drops a handler: the pipes' second, and some room.
const HANDLER_SLACK: Duration = Duration::from_secs(3);

/// What every run needs to know.
struct Work {
    program: PathBuf,
    arguments: Vec<OsString>,
    result: ResultKind,
    timeout: Option<Duration>,
    grace: Duration,
    /// Kill what runs, without grace.
    kill: CancellationToken,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let kill = CancellationToken::new();
    let work = Arc::new(Work {
        program: find(&args.command[0])?,
        arguments: args.command[1..].to_vec(),
        result: args.result,
        timeout: args.timeout,
        grace: args.grace,
        kill: kill.clone(),
    });
    let (watch, mut over) = watch::Watch::new();
    let mut runtime = Runtime::new(global.endpoint()?)
        .raw_handler(&args.name, move |job, run| Arc::clone(&work).process(job, run))
        .concurrency(args.jobs)
        .label(format!("jobq work {}", std::process::id()))
        .shutdown_timeout(args.drain)
        .cancel_grace(args.grace.saturating_add(HANDLER_SLACK))
        .observer(watch);
    if let Some(token) = global.token()? {
        runtime = runtime.token(token);
    }
    tracing::info!(
        name = args.name,
        jobs = args.jobs,
        server = global.server,
        "working"
    );
    drive(runtime, &mut signals, &mut over, &kill).await
}

/// Runs until a signal, and ends as fast as the signals ask.
async fn drive(
    runtime: Runtime,
    signals: &mut Signals,
    over: &mut oneshot::Receiver<()>,
    kill: &CancellationToken,
) -> anyhow::Result<Exit> {
    let drain = CancellationToken::new();
    {
        let mut working = std::pin::pin!(runtime.run(drain.cancelled()));
        tokio::select! {
            result = &mut working => return ended(result),
            () = signals.recv() => tracing::info!("stopping; a second signal gives back what runs"),
        }
        drain.cancel();
        tokio::select! {
            result = &mut working => return ended(result),
            () = signals.recv() => tracing::info!("giving back what runs; a third signal kills it"),
        }
        // Dropped here, it tells handlers to stop and goes on in the background until the server knows.
    }
    tokio::select! {
        _ = &mut *over => return Ok(Exit::Interrupted),
        () = signals.recv() => kill.cancel(),
    }
    tokio::select! {
        _ = &mut *over => {}
        () = signals.recv() => {}
    }
    Ok(Exit::Interrupted)
}

fn ended(result: Result<Summary, RuntimeError>) -> anyhow::Result<Exit> {
    match result {
        Ok(summary) => {
            let Summary {
                completed,
                failed,
                released,
                stale,
            } = summary;
            tracing::info!(completed, failed, released, stale, "stopped");
            Ok(Exit::Ok)
        }
        Err(RuntimeError::Session(error)) => Err(unreachable(error)).context("failed to go on working"),
        Err(error @ (RuntimeError::Thread(_) | RuntimeError::Panicked)) => {
            Err(error).context("failed to go on working")
        }
        Err(error) => Err(Exit::Usage.because(error)).context("failed to start working"),
    }
}

impl Work {
    async fn process(self: Arc<Self>, job: Job<Bytes>, run: Run) -> Result<Option<Bytes>, JobError> {
        let params = json::from_cbor(&job.params)
            .map_err(|error| JobError::never(format!("the params cannot be written as JSON: {error}")))?;
        let mut input = params.to_string();
        input.push('\n');
        let orders = Orders {
            input: input.into(),
            keep_output: self.result != ResultKind::None,
            output_limit: usize::try_from(Limits::default().result).unwrap_or(usize::MAX),
            timeout: self.timeout,
            grace: self.grace,
            cancelled: run.cancellation().clone(),
            kill: self.kill.clone(),
        };
        let finished = child::run(self.command(&job, &run), orders)
            .await
            .map_err(|error| {
                JobError::retry(format!("failed to start {}: {error}", self.program.display()))
            })?;
        report::outcome(finished, self.result)
    }

    fn command(&self, job: &Job<Bytes>, run: &Run) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.arguments)
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
        command
    }
}

/// Finds the program as the system would, so that a wrong one is noticed before there is a job.
fn find(program: &OsString) -> anyhow::Result<PathBuf> {
    let path = Path::new(program);
    let shown = output::escape(&program.to_string_lossy()).into_owned();
    if path.components().count() > 1 || shown.contains('/') {
        let problem = match std::fs::metadata(path) {
            Ok(file) if file.is_file() && is_executable(path) => return Ok(path.to_owned()),
            Ok(file) if file.is_file() => "it is not executable; chmod +x may help".to_owned(),
            Ok(_) => "it is no file".to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(Exit::Usage.because(anyhow!("failed to find the command {shown:?}: {problem}")));
    }
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories)
        .map(|directory| directory.join(path))
        .find(|candidate| candidate.is_file() && is_executable(candidate))
        .ok_or_else(|| {
            let error = anyhow!("failed to find the command {shown:?}: it is in no directory of PATH");
            Exit::Usage.because(error)
        })
}

fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn name(text: &str) -> Result<String, String> {
    text.parse::<JobName>()
        .map(String::from)
        .map_err(|error| error.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_in_the_path_or_where_it_is() {
        assert!(find(&"sh".into()).expect("every system has it").ends_with("sh"));
        assert!(find(&"/bin/sh".into()).is_ok());
        for wrong in ["no-such-command-anywhere", "./no-such-file", "/", ""] {
            let error = find(&wrong.into()).expect_err(wrong);
            assert_eq!(Exit::of(&error), Exit::Usage, "{wrong}");
        }
    }
}
