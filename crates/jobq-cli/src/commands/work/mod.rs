//! `jobq work`: runs a command for each job of the names that it is told.
//!
//! [`task`] makes a command of a job, with [`template`]; [`child`] runs it from its start to its last word, [`capture`]
//! reads what it says, [`progress`] how far it has come, [`report`] turns that into the job's result or the reason of
//! its failure, [`watch`] says what happens on the [`live`] log, and [`guard`] sees to it that no command outlives the
//! worker.

mod capture;
mod child;
mod descriptors;
mod group;
pub(crate) mod guard;
mod live;
mod names;
mod program;
mod progress;
mod report;
mod scripts;
mod task;
mod template;
mod watch;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jobq_worker::{CancellationToken, Runtime, RuntimeError, Summary};
use tokio::sync::oneshot;

use crate::cli::{Global, LogFormat};
use crate::connect::unreachable;
use crate::exit::Exit;
use crate::signals::Signals;
use crate::times;
use crate::values::number;
use guard::Guard;
use live::State;
use names::Names;
use report::Expected;
use task::Task;
use watch::{Log, Watch};

/// The flags of `jobq work`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    names: Names,
    /// Run so many at a time, over all names
    #[arg(short = 'j', long, value_name = "N", default_value_t = 1, value_parser = number::<u32>(1..=10_000))]
    concurrency: u32,
    /// How long a run may take whose job has no time-out of its own; it is a failed attempt then [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = times::positive_duration)]
    timeout: Option<Duration>,
    /// What becomes of standard output
    #[arg(long, value_name = "KIND", default_value = "text")]
    result: ResultKind,
    /// Do not try a job again whose command exits with this status; repeat it, or put commas between them
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = number::<u8>(1..))]
    never: Vec<u8>,
    /// How long a command has between SIGTERM and SIGKILL; with more than 9s, a job whose time is over may be given
    /// to the next worker before its command has ended
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = times::duration)]
    grace: Duration,
    /// When stopping, wait so long for what runs
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = times::duration)]
    drain: Duration,
    /// Say nothing of the runs, only what goes wrong with the worker itself
    #[arg(short, long)]
    quiet: bool,
    /// The command and its arguments, which may take something of the job, as in {params.file}
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const HELP: &str = "\
The command gets the job's params as one line of JSON on its standard input,
and JOBQ_ID, JOBQ_NAME, JOBQ_UUID, JOBQ_ATTEMPT, JOBQ_MAX_ATTEMPTS, JOBQ_FENCE
and, where the job has one, JOBQ_USERNAME in its environment. If it exits with
status 0, the job completes, and what it wrote to standard output is the
result; no output is no result. Otherwise the attempt fails, the end of what
it wrote to standard error is the reason, and the job is tried again unless
the exit status is one of --never. A result has 1 MiB at most, or what the
server's --max-payload says: with more, the job fails for good.

A line `::progress 40% page 4` on standard error (or 4/10, or text alone) says
how far it has come: `jobq show`, `jobq list` and `jobq submit --wait` show it.

In the words of the command, these are replaced:
  {}             the params: a text as it is, everything else as JSON
  {params.file}  a field of them, {params.sizes.0} one further down: a text, a
                 number, true or false. A job without it fails for good.
  {id} {uuid} {name} {attempt} {username}
Everything else with braces stays as it is: `${id}` and `{print}` do, and
`{{}}` and `{{id}}` are the texts {} and {id}. A word stays one word whatever
is in it, and no shell sees it unless it is the command; in a script for
`sh -c` and the like these forms are refused. A word that begins with what a
job says may look like an option: put `--` or ./ before it.

The command has a process group of its own. When the job is cancelled or its
time is over, the group gets SIGTERM, and SIGKILL after --grace. What holds the
command's output open for a second after it has exited is killed. When the
worker itself is killed, its commands are too.

SIGTERM or SIGINT stops the worker: it takes nothing new and waits up to
--drain for what runs. A second signal kills what runs and gives its jobs back;
a third ends the worker at once.

It keeps trying when no server answers, at the start too. A name that begins
with - is given as --name=-name.

Examples:
  jobq work thumbnail -j 4 -- convert {params.file} -resize 200x out/{id}.png
  jobq work mail --timeout 1m --result none -- sh -c 'sendmail \"$(jq -r .to)\"'
  jobq work --name day --name night -- sh -c 'exec ./report.sh \"$JOBQ_NAME\"'
  jobq work count --result json -- jq '{lines: .text | split(\"\\n\") | length}'";

/// What becomes of a command's standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ResultKind {
    /// The result is the text; where it is not UTF-8 it is the bytes, which `submit --wait` writes as they are.
    Text,
    /// It is JSON, and the result is what it says.
    Json,
    /// It goes nowhere, and there is no result.
    None,
}

/// What the runtime adds to the grace of a command before it drops a handler: the pipes' second, and some room.
const HANDLER_SLACK: Duration = Duration::from_secs(3);

impl Args {
    /// What is logged unless told otherwise: for people, the live log says what happens.
    pub(crate) fn default_log(&self, global: &Global) -> &'static str {
        match global.log_format {
            _ if self.quiet => "warn",
            LogFormat::Json => "info",
            // Lost connections are on the live log.
            LogFormat::Text => "warn,jobq_client::session=error",
        }
    }
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let names = args.names.checked()?;
    let words = template::parse(&args.command)
        .map_err(|error| Exit::Usage.because(error))
        .context("failed to read the command")?;
    let program = program::find(&words[0].literal())?;
    let (endpoint, token) = (global.endpoint()?, global.token()?);
    descriptors::reserve(args.concurrency)?;
    let kill = CancellationToken::new();
    let task = Arc::new(Task {
        program,
        arguments: words[1..].to_vec(),
        expected: Expected {
            result: args.result,
            never: args.never,
        },
        grace: args.grace,
        kill: kill.clone(),
        guard: Arc::new(Guard::start()),
    });
    let mut runtime = Runtime::new(endpoint)
        .concurrency(args.concurrency)
        .label(format!("jobq work {}", std::process::id()))
        .shutdown_timeout(args.drain)
        .cancel_grace(args.grace.saturating_add(HANDLER_SLACK));
    for name in names {
        let task = Arc::clone(&task);
        runtime = runtime.raw_handler(name, move |job, run| Arc::clone(&task).process(job, run));
    }
    if let Some(timeout) = args.timeout {
        runtime = runtime.default_timeout(timeout);
    }
    if let Some(token) = token {
        runtime = runtime.token(token);
    }
    let (log, written) = Log::start(args.quiet, global.log_format)?;
    let (names, server) = (names.join(", "), &global.server);
    log.say(
        State::Working,
        format_args!("on {names} of {server}, {} at a time", args.concurrency),
    );
    let (watch, over) = Watch::new(Arc::clone(&log));
    let worker = Worker {
        runtime: runtime.observer(watch),
        over,
        kill,
        log,
    };
    let Some(result) = worker.drive(&mut signals).await else {
        return Ok(Exit::Interrupted);
    };
    if let Some(written) = written {
        written.wait();
    }
    result
}

/// A worker from its start to its end.
struct Worker {
    runtime: Runtime,
    /// Ends when the worker's session has, even if nobody waits for the runtime.
    over: oneshot::Receiver<()>,
    /// Gives what is told to stop no grace.
    kill: CancellationToken,
    log: Arc<Log>,
}

impl Worker {
    /// Runs until a signal, and ends as fast as the signals ask: with nothing if not even the log's last lines are to
    /// be waited for.
    async fn drive(self, signals: &mut Signals) -> Option<anyhow::Result<Exit>> {
        let Self {
            runtime,
            over,
            kill,
            log,
        } = self;
        let drain = CancellationToken::new();
        {
            let mut working = std::pin::pin!(runtime.run(drain.cancelled()));
            tokio::select! {
                result = &mut working => return Some(ended(result, &log)),
                () = signals.recv() => {}
            }
            log.say(
                State::Stopping,
                "once what runs has ended; a second signal kills it and gives its jobs back",
            );
            drain.cancel();
            tokio::select! {
                result = &mut working => return Some(ended(result, &log)),
                () = signals.recv() => {}
            }
            log.say(
                State::Stopping,
                "now; a third signal does not wait for the server to know",
            );
            // First, so that the runs that are told to stop below find it.
            kill.cancel();
            // Dropped here, the runtime tells them, and goes on in the background until the server knows.
        }
        tokio::select! {
            // Its sender is dropped.
            _ = over => {}
            () = signals.recv() => return None,
        }
        log.say(State::Stopped, "what ran was killed and given back");
        Some(Ok(Exit::Interrupted))
    }
}

fn ended(result: Result<Summary, RuntimeError>, log: &Log) -> anyhow::Result<Exit> {
    match result {
        Ok(summary) => {
            let Summary {
                completed,
                failed,
                released,
                stale,
            } = summary;
            let late = if stale > 0 {
                format!(", {stale} lost")
            } else {
                String::new()
            };
            log.say(
                State::Stopped,
                format_args!("{completed} completed, {failed} failed, {released} given back{late}"),
            );
            Ok(Exit::Ok)
        }
        Err(RuntimeError::Session(error)) => Err(unreachable(error)).context("failed to go on working"),
        Err(error @ (RuntimeError::Thread(_) | RuntimeError::Panicked)) => {
            Err(error).context("failed to go on working")
        }
        Err(error) => Err(Exit::Usage.because(error)).context("failed to start working"),
    }
}
