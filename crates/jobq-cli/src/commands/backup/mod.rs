//! `jobq backup`: a copy of the database of a server that goes on.

mod target;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use jobq_client::{Backup, BackupError, BackupFile, BackupProgress, Client, ErrorCode};
use serde_json::json;

use self::target::Target;
use crate::cli::Global;
use crate::connect::{refused, unanswered};
use crate::exit::Exit;
use crate::output::Output;
use crate::progress::Line;
use crate::signals::Signals;
use crate::times;

/// The flags of `jobq backup`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The server makes a copy while it goes on, in steps of a few milliseconds between
its commits, checks it, and sends it here. All that was acknowledged before the
call is in it, and more. FILE is there when it is whole, has the checksum that
the server told, and is on the disk; until then it is FILE.part. Only you can
read it: params and results are in it. So where the server asks for tokens, it
takes one of the scope admin for all names.

The server's disk needs room for the copy while it is made, beside its reserve.
One backup is made at a time. `jobq restore` makes a data directory of it.

Examples:
  jobq backup /backup/jobq-$(date +%F).db
  jobq backup --server tls://queue.example.com /backup/jobq.db --force
  jobq backup nightly.db --json | jq -r .sha256")]
pub(crate) struct Args {
    /// Where the copy goes: a new file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace FILE if it is there, once the new one is whole
    #[arg(long)]
    force: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// How long to wait for a backup that somebody else has made before it is said that there is one.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);

/// A backup that has been made.
struct Made {
    file: BackupFile,
    took: Duration,
}

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let context = || format!("failed to back up to {}", args.file.display());
    let mut target = Target::open(&args.file, args.force).with_context(context)?;
    let client = global.connect().await.with_context(context)?;
    let made = tokio::select! {
        made = back_up(&client, &mut target) => Some(made.with_context(context)),
        () = signals.recv() => None,
    };
    // The server removes what it has when the connection is gone, if it was not told before.
    client.close().await;
    let Some(made) = made else {
        return Ok(Exit::Interrupted);
    };
    let made = made?;
    target.finish().with_context(context)?;
    write(&args, &made)?;
    Ok(Exit::Ok)
}

async fn back_up(client: &Client, target: &mut Target) -> anyhow::Result<Made> {
    let begun = Instant::now();
    let backup = client.with_deadline(BEGIN_WITHIN).back_up().await;
    let mut backup = backup.map_err(unanswered)?.with_deadline(client.deadline());
    let fetched = fetch(&mut backup, target).await;
    let done = backup.done().await;
    let file = fetched?;
    // The copy is here; the server removes its own by itself too.
    if let Err(error) = done {
        tracing::warn!("the server was not told that its copy can go: {error}");
    }
    Ok(Made {
        file,
        took: begun.elapsed(),
    })
}

async fn fetch(backup: &mut Backup, target: &mut Target) -> anyhow::Result<BackupFile> {
    let mut stage = Stage::default();
    let file = backup.ready(|progress| stage.show(progress)).await;
    drop(stage);
    let file = file.map_err(not_made)?;
    let line = Line::bytes(file.bytes);
    line.say("fetching");
    let mut fetched = 0;
    while let Some(part) = backup.next().await.map_err(not_made)? {
        target.write(&part)?;
        fetched += part.len() as u64;
        line.at(fetched);
    }
    Ok(file)
}

/// The line of what the server is doing.
#[derive(Default)]
struct Stage {
    line: Option<(&'static str, Line)>,
}

impl Stage {
    fn show(&mut self, progress: BackupProgress) {
        let (says, done, of) = match progress {
            BackupProgress::Copying { done, of } => ("copying", done, of),
            BackupProgress::Checking { done, of } => ("checking", done, of),
            _ => return,
        };
        let make = || match (says, of) {
            (_, 0) => Line::spinner(),
            ("copying", of) => Line::bytes(of),
            (_, of) => Line::steps(of),
        };
        // Once it is known how much there is, the line is another one.
        let key = if of == 0 { "" } else { says };
        if self.line.as_ref().is_none_or(|(shown, _)| *shown != key) {
            self.line = None;
            let line = make();
            line.say(says);
            self.line = Some((key, line));
        }
        if let Some((_, line)) = &self.line {
            line.at(done);
        }
    }
}

/// The error of a backup, with its exit code.
fn not_made(error: BackupError) -> anyhow::Error {
    match error {
        BackupError::Ask(error) => unanswered(error),
        BackupError::Failed(ref failed) => match failed.code {
            ErrorCode::Damaged => Exit::Damaged,
            ErrorCode::Internal => Exit::Failed,
            code => refused(code),
        }
        .because(error),
        error => error.into(),
    }
}

fn write(args: &Args, made: &Made) -> anyhow::Result<()> {
    let Made { file, took } = made;
    let shown = args.file.display();
    let mut output = Output::optional();
    if args.json {
        let sha256: String = file.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        output.json(&json!({
            "file": shown.to_string(),
            "bytes": file.bytes,
            "seconds": took.as_secs_f64(),
            "sha256": sha256,
            "commit": file.commit,
            "jobs": file.jobs,
        }))?;
    } else {
        output.line(format_args!(
            "{shown}: {} jobs up to commit {}, {} bytes, in {}",
            file.jobs,
            file.commit,
            file.bytes,
            times::length(*took)
        ))?;
    }
    output.finish()
}
