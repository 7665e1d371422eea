//! `jobq check`: whether a data directory's database is sound.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use jobq_server::DataDir;
use jobq_server::store::{self, CheckProgress, CheckReport, StoreError};
use serde_json::json;

use crate::exit::Exit;
use crate::output::Output;
use crate::progress::{TICK, target};

/// The flags of `jobq check`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
It reads everything in the database and changes nothing: SQLite's own check of
all pages, each job's checksum, and whether the tables agree with each other.
No server may use the directory meanwhile.

What is damaged is written one a line, and the exit code is 12. Then restore a
copy, or save what can be read with `sqlite3 DIR/jobq.db .recover`.

Examples:
  jobq check
  jobq check /var/lib/jobq
  jobq check /var/lib/jobq --json | jq .findings")]
pub(crate) struct Args {
    /// The data directory
    #[arg(value_name = "DIR", default_value = "./jobq-data")]
    directory: PathBuf,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let directory = args.directory.clone();
    let report = tokio::task::spawn_blocking(move || look(&directory))
        .await
        .context("failed to check the database")?
        .map_err(|error| cannot_check(&args.directory, &error))?;
    write(&args, &report)?;
    if report.is_sound() {
        return Ok(Exit::Ok);
    }
    let count = report.findings.len() as u64 + report.more;
    Err(Exit::Damaged.because(anyhow!(
        "failed to find {} sound: {count} {}; restore a copy, or save what can be read with `sqlite3 … .recover`",
        args.directory.display(),
        if count == 1 { "finding" } else { "findings" },
    )))
}

fn look(directory: &Path) -> Result<CheckReport, StoreError> {
    // Locking makes a directory that is not there.
    let lock = match directory.is_dir() {
        true => Some(DataDir::lock(directory)?),
        false => None,
    };
    let bar = Bar::new();
    let report = store::check(directory, |progress| bar.show(progress));
    bar.0.finish_and_clear();
    drop(lock);
    report
}

fn cannot_check(directory: &Path, error: &StoreError) -> anyhow::Error {
    let shown = directory.display();
    if !directory.is_dir() {
        return anyhow!(
            "failed to check {shown}: there is no such directory; give the one that the server has as --data"
        );
    }
    let exit = if error.is_corruption() {
        Exit::Damaged
    } else if error.is_damage() {
        Exit::StoreFailed
    } else {
        Exit::Failed
    };
    let advice = match error {
        StoreError::NotOurs { .. } => "; give the directory that the server has as --data",
        _ => "",
    };
    exit.because(anyhow!("failed to check {shown}: {error}{advice}"))
}

fn write(args: &Args, report: &CheckReport) -> anyhow::Result<()> {
    let mut output = Output::optional();
    if args.json {
        output.json(&json!({
            "directory": args.directory.display().to_string(),
            "sound": report.is_sound(),
            "jobs": report.jobs,
            "live": report.live,
            "last_commit": report.last_commit,
            "findings": report.findings,
            "more": report.more,
        }))?;
        return output.finish();
    }
    for finding in &report.findings {
        output.line(crate::output::escape(finding))?;
    }
    if report.more > 0 {
        output.line(format_args!("… and {} more", report.more))?;
    }
    if report.is_sound() {
        output.line(format_args!(
            "{} is sound: {} jobs, {} of them live, up to commit {}",
            args.directory.display(),
            report.jobs,
            report.live,
            report.last_commit
        ))?;
    }
    output.finish()
}

/// How far it is: on a terminal only.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, target());
        bar.set_style(style("{spinner} {msg}  {elapsed}"));
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    fn show(&self, progress: CheckProgress) {
        match progress {
            CheckProgress::Pages => self.0.set_message("looking at all pages"),
            CheckProgress::Jobs { done, of } => {
                if self.0.length() != Some(of) {
                    self.0.set_style(style(
                        "{bar:30} {percent:>3}%  {msg}  {elapsed} (about {eta} left)",
                    ));
                    self.0.set_message("looking at all jobs");
                    self.0.set_length(of);
                    self.0.reset_eta();
                }
                self.0.set_position(done);
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are well-formed")
}
