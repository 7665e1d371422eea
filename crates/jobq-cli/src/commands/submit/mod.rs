//! `jobq submit`: one job, or many from standard input.

mod fields;
mod lines;
mod many;
mod notices;
mod one;
mod pairs;
mod progress;

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::anyhow;
use jobq_client::SubmitError;
use uuid::Uuid;

use crate::cli::Global;
use crate::connect::{refused, unreachable, when_to_repeat};
use crate::exit::Exit;
use crate::{times, values};
use fields::Fields;

/// The flags of `jobq submit`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
It prints the job's number once the job is on the server's disk; with --wait,
it waits for the job's end and prints its result: a text as it is, with a line
break at its end if it has none, bytes that are no text as they are (into a file
or pipe, not onto a terminal), and anything else as JSON. With --json a text is
JSON too, as it is to the last byte, and bytes are in base64url, which a field
\"result_encoding\" says. Meanwhile standard error tells of each attempt that
fails and is to be repeated, and a terminal shows how far the job has come.

Params are any JSON by --params, or an object made of words: KEY=VALUE for a
text, KEY:=JSON for anything else. A backslash takes their meaning from '=',
':' and itself in a KEY: 'a\\=b=c' gives {\"a=b\": \"c\"}. Integers of more than 64
bits would be rounded, and are refused: write them as texts. So are JSON objects
with a key twice.

Without NAME, with - for it, or with --stdin, it submits many jobs from
standard input, one JSON object a line, and ends with counts:

  {\"name\": \"thumbnail\", \"params\": {\"file\": \"a.png\"}, \"in\": \"10m\"}

An object may have: name, params, uuid, username, priority, in, at,
max_attempts, timeout and backoff, written as the flags are. NAME and the flags
count for what a line does not say. A broken line is reported by its number,
and the others are submitted.

While the server's queue or disk is full it waits, and goes on when there is
room; it gives up when nothing is taken for 30 seconds, says which line is the
first that was not, and ends with 3, as for a single job. Jobs are sent in the
order of their lines; a full server may take one before another that is larger
or has another name.

A uuid makes a job safe to submit again: the same uuid is one job, for as long
as the server keeps its record. With --once KEY, lines without a uuid get one
that follows from KEY and the line's number, so that the same input can be
submitted again after an interruption. Lines may be added at its end; a line
that changed is refused as uuid_conflict.

A NAME that begins with - goes behind --, as in `jobq submit -- -name`.

Times are RFC 3339, or local where no zone is given; the name of a zone or an
offset may follow: '2026-11-23 06:00 Europe/Berlin', '2026-11-23 06:00 +01:00',
'tomorrow 06:00'. A time that a clock skips when it is put forward is taken as
an hour later, one that it shows twice as the first of the two. A job whose time
is past is due at once, and standard error says so.

Examples:
  jobq submit thumbnail file=a.png width:=200
  jobq submit report --params @params.json --in 10m --priority low
  jobq submit report --at 'tomorrow 06:00' --max-attempts 3 --backoff 30s
  jobq submit thumbnail --params '{\"file\": \"a.png\"}' --wait
  jq -c '{name: \"mail\", params: .}' people.ndjson | jobq submit --once mail-2026-11")]
pub(crate) struct Args {
    /// What kind of job
    #[arg(value_parser = name)]
    name: Option<String>,
    /// What the job is given: an object of these keys, KEY=TEXT or KEY:=JSON
    #[arg(value_name = "KEY=VALUE", conflicts_with_all = ["params", "stdin"])]
    pairs: Vec<String>,
    /// What the job is given: JSON, @FILE, or - for standard input
    #[arg(
        long,
        value_name = "JSON|@FILE|-",
        conflicts_with = "stdin",
        requires = "name",
        allow_hyphen_values = true,
        value_parser = one::params
    )]
    params: Option<String>,
    /// The job's identity: the same uuid twice is one job
    #[arg(long, conflicts_with = "stdin", requires = "name")]
    uuid: Option<Uuid>,
    #[command(flatten)]
    fields: Fields,
    /// Wait for the job's end, and print its result
    #[arg(long, conflicts_with = "stdin", requires = "name")]
    wait: bool,
    /// Submit many jobs from standard input, one JSON object a line
    #[arg(long)]
    stdin: bool,
    /// Give lines without a uuid one that follows from KEY and their number, so that the same input can be submitted
    /// again
    #[arg(long, value_name = "KEY", conflicts_with_all = ["uuid", "wait", "params"])]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    once: Option<String>,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(mut args: Args, global: &Global) -> anyhow::Result<Exit> {
    // A job could be named `-`, but whoever types that means standard input.
    if args.name.as_deref() == Some("-") {
        if args.params.is_some() || args.uuid.is_some() || args.wait || !args.pairs.is_empty() {
            return Err(Exit::Usage.because(anyhow!(
                "failed to submit: --params, KEY=VALUE, --uuid and --wait are for one job, and - reads many from \
                 standard input"
            )));
        }
        args.name = None;
        args.stdin = true;
    }
    if args.once.is_some() && !args.pairs.is_empty() {
        return Err(Exit::Usage.because(anyhow!(
            "failed to submit: --once gives uuids to many jobs from standard input, whose lines have their params \
             themselves, and KEY=VALUE is for one job; --uuid makes one job safe to submit again"
        )));
    }
    // With a name and a key for many, what is on standard input are many.
    args.stdin |= args.once.is_some();
    match &args.name {
        Some(name) if !args.stdin => one::run(name, &args, global).await,
        None if !args.stdin && std::io::stdin().is_terminal() => Err(Exit::Usage.because(anyhow!(
            "failed to submit: no NAME is given, and standard input is a terminal; give the job's NAME, pipe one JSON \
             object a line, or type them with --stdin"
        ))),
        _ => many::run(args, global).await,
    }
}

fn name(text: &str) -> Result<String, String> {
    values::name(text).map_err(|error| {
        let advice = if text.contains('=') {
            "; the job's name comes before its params"
        } else {
            ""
        };
        format!("{error}{advice}")
    })
}

/// The error of a job without a receipt after so long, with its exit code.
fn not_submitted(error: SubmitError, after: Duration) -> anyhow::Error {
    match error {
        SubmitError::Refused(refusal) if refusal.code.may_repeat() => refused(refusal.code).because(anyhow!(
            "{refusal}; it was tried for {}: submit it again {}",
            times::length(after),
            when_to_repeat(Some(refusal.code))
        )),
        SubmitError::Unknown { .. } => Exit::Unknown.because(error),
        SubmitError::TimedOut { .. } => Exit::Unreachable.because(error),
        SubmitError::Session(error) => unreachable(error),
        SubmitError::Refused(ref refusal) => refused(refusal.code).because(error),
        error => error.into(),
    }
}
