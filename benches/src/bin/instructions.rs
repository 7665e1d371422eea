//! Counts the instructions of each workload and prints them by job. `benches/instructions` builds and starts it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use jobq_benches::{Workload, callgrind, measured};
use serde::{Deserialize, Serialize};

/// Count instructions and allocations by job, in codec, machine and store
///
/// Each workload runs once under valgrind's callgrind. The same program gives the same numbers, however busy the
/// machine is; those of the store, which has threads, differ by up to 3 %.
#[derive(Debug, Parser)]
#[command(name = "instructions")]
struct Args {
    /// Only workloads whose names contain this
    #[arg(value_name = "TEXT")]
    only: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Compare with what was printed with --json before
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    against: Option<PathBuf>,
    /// Leave callgrind's files in this directory, for `callgrind_annotate DIR/callgrind.out.WORKLOAD`
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print the workloads' names
    #[arg(long)]
    list: bool,
    /// Do this workload once, and print nothing: what callgrind is given
    #[arg(long, value_name = "WORKLOAD", hide = true)]
    run: Option<String>,
}

/// What one workload took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    workload: String,
    instructions_per_job: f64,
    allocations_per_job: f64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let workloads = Workload::all();
    if let Some(name) = &args.run {
        let found = workloads.iter().find(|workload| workload.name() == name);
        let mut work = found
            .with_context(|| format!("there is no workload {name:?}"))?
            .prepare();
        measured(&mut work);
        return Ok(());
    }
    let only = args.only.as_deref().unwrap_or_default();
    let chosen: Vec<Workload> = workloads
        .into_iter()
        .filter(|workload| workload.name().contains(only))
        .collect();
    ensure!(
        !chosen.is_empty(),
        "no workload's name contains {only:?}; `--list` prints all names"
    );
    if args.list {
        chosen.iter().for_each(|workload| println!("{}", workload.name()));
        return Ok(());
    }
    if cfg!(debug_assertions) {
        bail!("this is a build without optimisation, whose instructions say nothing; add --release");
    }
    let before = match &args.against {
        Some(file) => earlier(file).with_context(|| format!("failed to read {}", file.display()))?,
        None => BTreeMap::new(),
    };
    let temporary = tempfile::tempdir().context("failed to make a temporary directory")?;
    let dir = args.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    if !args.json {
        let change = if args.against.is_some() { "   change" } else { "" };
        println!(
            "{:<46} {:>12} {:>11}{change}",
            "workload", "instructions", "allocations"
        );
    }
    for workload in &chosen {
        let line = count(workload, dir)?;
        if args.json {
            println!("{}", serde_json::to_string(&line)?);
        } else {
            println!("{}", line.shown(before.get(&line.workload)));
        }
    }
    Ok(())
}

/// Runs this program again, under callgrind.
fn count(workload: &Workload, dir: &Path) -> anyhow::Result<Line> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let mut program = Command::new(program);
    program.args(["--run", workload.name()]);
    let file: String = workload
        .name()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let counts = callgrind::count(&mut program, dir, &file)
        .with_context(|| format!("failed to count {}", workload.name()))?;
    let per_job = |count: u64| (count as f64 / workload.jobs() as f64 * 1000.0).round() / 1000.0;
    Ok(Line {
        workload: workload.name().to_owned(),
        instructions_per_job: per_job(counts.instructions),
        allocations_per_job: per_job(counts.allocations),
    })
}

/// What was printed with --json, by workload.
fn earlier(file: &Path) -> anyhow::Result<BTreeMap<String, Line>> {
    let mut lines = BTreeMap::new();
    for (number, line) in std::fs::read_to_string(file)?.lines().enumerate() {
        let line: Line =
            serde_json::from_str(line).with_context(|| format!("line {} is none of --json", number + 1))?;
        lines.insert(line.workload.clone(), line);
    }
    Ok(lines)
}

impl Line {
    /// A row of the table, with the change of both numbers since `before`.
    fn shown(&self, before: Option<&Self>) -> String {
        let row = format!(
            "{:<46} {:>12.1} {:>11.2}",
            self.workload, self.instructions_per_job, self.allocations_per_job
        );
        match before {
            None => row,
            Some(before) => {
                let instructions = (self.instructions_per_job / before.instructions_per_job - 1.0) * 100.0;
                let allocations = self.allocations_per_job - before.allocations_per_job;
                format!("{row}   {instructions:+.1} %, {allocations:+.2} allocations")
            }
        }
    }
}
