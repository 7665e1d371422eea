//! Profiles scenarios of `jobq bench` and draws a flame graph of each. `run` beside this builds jobq with frame pointers
//! and starts it.
//!
//! `perf record` takes the samples, of all threads of the bench and of the server that it starts; [`samples`] says which
//! of them count and whose they are, and the crate inferno draws them.

#![forbid(unsafe_code)]

mod samples;

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Parser;
use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options as FoldOptions};
use inferno::flamegraph::color::{BackgroundColor, MultiPalette, Palette};
use inferno::flamegraph::{self, Options};

/// Profiles scenarios of `jobq bench` with perf, and draws a flame graph of each.
///
/// Each bar is a function, as wide as its part of the CPU time, upon the one that called it; the lowest ones are the
/// threads of the server (server:) and of clients and workers (bench:).
#[derive(Debug, Parser)]
#[command(name = "flames")]
struct Args {
    /// Which, of those below; all of them if none is named
    #[arg(value_name = "SCENARIO", value_parser = ["submit", "drain", "flow", "frames"])]
    scenarios: Vec<String>,
    /// How many jobs
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    jobs: u64,
    /// Samples a second and processor
    #[arg(long, value_name = "HZ", default_value_t = 997)]
    frequency: u32,
    /// Leave out what took less than this part of all, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.3)]
    least: f64,
    /// Where the images go: flame-submit.svg and so on
    #[arg(long, value_name = "DIR", default_value = default_dir())]
    out: PathBuf,
    /// The binary, built with frame pointers
    #[arg(long, value_name = "FILE", env = "JOBQ")]
    jobq: PathBuf,
}

/// What is profiled: a name, and the arguments of `jobq bench`.
const SCENARIOS: [(&str, &[&str]); 4] = [
    ("submit", &["submit"]),
    ("drain", &["drain"]),
    ("flow", &["flow"]),
    ("frames", &["submit", "--batch", "1"]),
];

/// Pixels. Names in bars that are no wider than a few letters are not shown.
const WIDTH: usize = 1200;

fn default_dir() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join("docs/img").display().to_string()
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let is_wanted =
        |name: &str| args.scenarios.is_empty() || args.scenarios.iter().any(|wanted| wanted == name);
    for (name, bench) in SCENARIOS.into_iter().filter(|(name, _)| is_wanted(name)) {
        let image = draw(&args, name, bench).with_context(|| format!("failed to profile {name}"))?;
        let kilobytes = image.metadata().map_or(0, |image| image.len()) / 1_000;
        println!("{} ({kilobytes} kB)", image.display());
    }
    Ok(())
}

/// Profiles one scenario and draws it. Returns the image.
fn draw(args: &Args, name: &str, bench: &[&str]) -> anyhow::Result<PathBuf> {
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let profile = directory.path().join("perf.data");
    record(args, bench, &profile)?;
    let kept = samples::keep(&script(&profile)?)?;

    let mut folding = FoldOptions::default();
    folding.skip_after = Vec::new();
    let mut folded = Vec::new();
    Folder::from(folding)
        .collapse(kept.as_bytes(), &mut folded)
        .context("failed to read what perf wrote")?;

    let image = args.out.join(format!("flame-{name}.svg"));
    let file = File::create(&image).with_context(|| format!("failed to write {}", image.display()))?;
    let mut options = options(args, bench);
    flamegraph::from_reader(&mut options, BufReader::new(&folded[..]), BufWriter::new(file))
        .with_context(|| format!("failed to draw {}", image.display()))?;
    Ok(image)
}

fn options(args: &Args, bench: &[&str]) -> Options<'static> {
    let mut options = Options::default();
    options.title = format!("jobq bench {} --jobs {}: CPU time", bench.join(" "), args.jobs);
    options.subtitle = Some("server: the server's threads; bench: those of clients and workers".to_owned());
    options.count_name = "samples".to_owned();
    options.colors = Palette::Multi(MultiPalette::Rust);
    options.bgcolors = Some(BackgroundColor::Flat((255, 255, 255).into()));
    // The same profile gives the same image.
    options.deterministic = true;
    options.min_width = args.least;
    options.image_width = Some(WIDTH);
    options.pretty_xml = false;
    options
}

/// Takes samples while the bench runs.
fn record(args: &Args, bench: &[&str], profile: &Path) -> anyhow::Result<()> {
    let mut perf = Command::new("perf");
    perf.args(["record", "--quiet", "--event", "cpu-clock", "--call-graph", "fp"])
        .args(["--freq", &args.frequency.to_string(), "--output"])
        .arg(profile)
        .arg("--")
        .arg(&args.jobq)
        .arg("bench")
        .args(bench)
        .args(["--jobs", &args.jobs.to_string()])
        .stdin(Stdio::null());
    let ended = perf.output().context("failed to start perf")?;
    if !ended.status.success() {
        bail!(
            "perf record ended with {}: {}; where it may take no samples, `sysctl kernel.perf_event_paranoid=1` lets it",
            ended.status,
            String::from_utf8_lossy(&ended.stderr).trim()
        );
    }
    Ok(())
}

/// The samples as text.
fn script(profile: &Path) -> anyhow::Result<String> {
    let mut perf = Command::new("perf");
    perf.args([
        "script",
        "--fields",
        "comm,pid,tid,time,event,ip,sym,dso",
        "--no-inline",
        "--input",
    ])
    .arg(profile)
    .stdin(Stdio::null());
    let ended = perf.output().context("failed to start perf")?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        bail!("perf script ended with {}: {}", ended.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}
