//! Brings real faults to the real binary, and says what came of it.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jobq_tests::Program;
use jobq_tests::faults::{Fault, Outcome, Report, Tally};
use tokio::signal::unix::{SignalKind, signal};

/// Brings real faults to the real binary: starts `jobq serve`, clients and workers as processes, kills them, cuts
/// their power and their lines, and compares what was acknowledged with what is on disk.
#[derive(Debug, Parser)]
#[command(name = "faults", after_help = after_help())]
struct Args {
    /// What to bring; everything if nothing is named
    #[arg(value_name = "FAULT", value_parser = PossibleValuesParser::new(Fault::ALL.map(Fault::name))
        .map(|name| Fault::named(&name).expect("clap allows known names only")), hide_possible_values = true)]
    faults: Vec<Fault>,
    /// How many rounds of each; without it, as many as the long form has, which the list below says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// The first round's seed; each next one has the next number [default: from the clock]
    ///
    /// It says when and where faults hit. Processes run as fast as they run, so that a seed brings nearly the same,
    /// and not the same to the microsecond.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The binary to bring them to [default: the jobq beside this program]
    #[arg(long, value_name = "PATH")]
    jobq: Option<PathBuf>,
    /// Keep the directory of every round, not only of those that break a promise
    #[arg(long)]
    keep: bool,
}

/// Broken rounds of a kind, after which no more of them are run.
const MOST_BROKEN: usize = 5;

/// Lines that are shown of a broken round.
const SHOWN: usize = 10;

/// The exit codes.
const BROKEN: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // A round's panic is one of the things that are wrong with it.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            eprintln!("\nfailed at {place}");
        }
    }));
    let program = match jobq(args.jobq.as_deref()) {
        Ok(program) => program,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let bar = bar();
    let report = tokio::select! {
        report = bring(&args, &program, &bar) => report,
        // Whoever ends it leaves no mounts and namespaces behind.
        () = interrupted() => return ExitCode::from(INTERRUPTED),
    };
    bar.finish_and_clear();
    print!("{report}");
    if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(BROKEN)
    }
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() {
    let mut term = signal(SignalKind::terminate()).expect("SIGTERM can be waited for");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}

/// The binary that is asked for, or that is built into the same directory.
fn jobq(path: Option<&Path>) -> Result<Program, String> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => {
            let own =
                std::env::current_exe().map_err(|error| format!("failed to find this program: {error}"))?;
            own.with_file_name("jobq")
        }
    };
    // Rounds have directories of their own.
    let path = std::path::absolute(&path).map_err(|error| format!("failed to find the binary: {error}"))?;
    if !path.is_file() {
        return Err(format!(
            "failed to find the binary: there is no {}; build it with `cargo build --release -p jobq-cli`, or say \
             where it is with --jobq PATH",
            path.display()
        ));
    }
    Ok(Program::new(path))
}

async fn bring(args: &Args, program: &Program, bar: &ProgressBar) -> Report {
    let first = args.seed.unwrap_or_else(from_the_clock);
    let all = Fault::ALL.to_vec();
    let faults = if args.faults.is_empty() {
        &all
    } else {
        &args.faults
    };
    let mut report = Report::default();
    for &fault in faults {
        let rounds = args.rounds.unwrap_or_else(|| fault.rounds());
        match bring_one(fault, rounds, first, args.keep, program, bar).await {
            Ok((done, tally)) => report.add(fault, done, tally),
            Err(why) => report.skip(fault, why),
        }
    }
    report
}

/// The rounds of one kind: how many there were, and what they came to. Or why there are none.
async fn bring_one(
    fault: Fault,
    rounds: u64,
    first: u64,
    keep: bool,
    program: &Program,
    bar: &ProgressBar,
) -> Result<(u64, Tally), String> {
    bar.reset();
    bar.set_length(rounds);
    bar.set_prefix(fault.name());
    let mut sum = Tally::default();
    let mut broken = 0;
    let mut done = 0;
    for round in 0..rounds {
        let seed = first.wrapping_add(round);
        let directory = tempfile::Builder::new().prefix("jobq-faults-").tempdir();
        let directory = directory.map_err(|error| format!("no directory can be made: {error}"))?;
        let tally = match fault.bring(program, directory.path(), seed).await {
            Outcome::Done(tally) => tally,
            Outcome::Skipped(why) => return Err(why),
        };
        done += 1;
        if !tally.wrong.is_empty() {
            broken += 1;
            let kept = directory.keep();
            bar.suspend(|| tell(fault, seed, &tally, &kept));
        } else if keep {
            let kept = directory.keep();
            bar.suspend(|| eprintln!("{}, seed {seed}: {}", fault.name(), kept.display()));
        }
        sum.add(tally);
        bar.inc(1);
        bar.set_message(format!(
            "{} acknowledged, {} lost, {broken} broken",
            sum.acknowledged, sum.lost
        ));
        if broken == MOST_BROKEN {
            break;
        }
    }
    Ok((done, sum))
}

/// Says what is wrong, and how to see it again.
fn tell(fault: Fault, seed: u64, tally: &Tally, kept: &Path) {
    eprintln!(
        "{}, seed {seed}: {} things are wrong:",
        fault.name(),
        tally.wrong.len()
    );
    for line in tally.wrong.iter().take(SHOWN) {
        eprintln!("  {line}");
    }
    eprintln!("  history.txt and the server's data are in {}", kept.display());
    eprintln!("  again: faults {} --rounds 1 --seed {seed}", fault.name());
}

/// A seed that is another each time, and short enough to be typed.
fn from_the_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64 % 1_000_000_000
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:14} {bar:30} {pos}/{len}  {wide_msg} {elapsed} (about {eta} left)",
    );
    let style = style.expect("the template is well-formed");
    // Hidden by itself where there is no terminal.
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
}

fn after_help() -> String {
    let mut help = "Faults, and the rounds of the long form:\n".to_owned();
    for fault in Fault::ALL {
        help.push_str(&format!(
            "  {:14} {:>5}  {}\n",
            fault.name(),
            fault.rounds(),
            fault.about()
        ));
    }
    help.push_str(
        "\nIt exits with 1 if anything that was promised was not kept: the directory of \
         that round is kept, with its history, logs and data, and its seed is printed. A \
         fault that needs what this machine does not allow is skipped, and that is said.\n\n\
         Examples:\n  \
         cargo build --release -p jobq-cli\n  \
         cargo run --release -p jobq-tests --bin faults -- kill power --rounds 30\n  \
         cargo run --release -p jobq-tests --bin faults -- --rounds 2",
    );
    help
}
