//! Runs the simulator over many seeds.

#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use jobq_tests::sim::{self, Keep, Mutant, Tally};

/// Runs jobq in simulated time, with faults, and checks that it keeps its promises.
///
/// The server's state machine, the client's and the worker's protocol parts, a network and a store run in one thread; a
/// seed decides all that happens. A seed that finds something wrong is printed with the end of its trace and the
/// command that runs it again, and the exit status is 1.
#[derive(Debug, Parser)]
#[command(name = "simulate", version)]
struct Args {
    /// How many seeds to run.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    seeds: u64,
    /// The first seed; with --trace, the only one.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Stop after this time, however many seeds are left: a number and s, m or h.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    limit: Option<Duration>,
    /// Run one seed and print all that happens.
    #[arg(long)]
    trace: bool,
    /// Break a promise on purpose: acknowledge-before-sync, skip-fence-check, leak-cap-slot, drop-resumed-run,
    /// start-before-run-at, forget-retry, break-order or exceed-credit.
    #[arg(long, value_name = "NAME", value_parser = mutant)]
    mutant: Option<Mutant>,
    /// How many seeds to run at a time; as many as there are processors unless told otherwise.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Go on after a seed that found something wrong, and print only what was wrong, as it is found.
    #[arg(long)]
    keep_going: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; expected a number and s, m or h, as in 10m");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let known = Mutant::ALL.map(Mutant::name);
    Mutant::ALL
        .into_iter()
        .find(|mutant| mutant.name() == name)
        .ok_or_else(|| format!("there is no mutant {name:?}; there are {}", known.join(", ")))
}

fn main() -> ExitCode {
    let args = Args::parse();
    // What panics within a run is reported with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    if args.trace {
        let outcome = sim::run(args.seed, Keep::Print, args.mutant);
        eprintln!(
            "{} lines, digest {:032x}",
            outcome.trace.lines(),
            outcome.trace.digest()
        );
        return verdict(outcome.wrong.as_deref());
    }
    let hunt = Hunt::new(&args);
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| hunt.run(&args));
        }
    });
    hunt.finish(&args)
}

fn verdict(wrong: Option<&str>) -> ExitCode {
    match wrong {
        None => ExitCode::SUCCESS,
        Some(wrong) => {
            eprintln!("wrong: {wrong}");
            ExitCode::FAILURE
        }
    }
}

/// All threads' work.
struct Hunt {
    next: AtomicU64,
    end: u64,
    until: Option<Instant>,
    begun: Instant,
    stop: AtomicBool,
    bar: ProgressBar,
    tally: Mutex<Tally>,
    /// Seeds that were run, and those that found something, with what.
    found: Mutex<(u64, Vec<(u64, String)>)>,
}

impl Hunt {
    fn new(args: &Args) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(args.seeds)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let begun = Instant::now();
        Self {
            next: AtomicU64::new(args.seed),
            end: args.seed.saturating_add(args.seeds),
            until: args.limit.map(|limit| begun + limit),
            begun,
            stop: AtomicBool::new(false),
            bar,
            tally: Mutex::new(Tally::default()),
            found: Mutex::new((0, Vec::new())),
        }
    }

    fn run(&self, args: &Args) {
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let over = self.until.is_some_and(|until| Instant::now() >= until);
            if seed >= self.end || over || self.stop.load(Ordering::Relaxed) {
                return;
            }
            let outcome = sim::run(seed, Keep::Nothing, args.mutant);
            self.bar.inc(1);
            self.tally
                .lock()
                .expect("no thread panics while it adds")
                .merge(&outcome.tally);
            let mut found = self.found.lock().expect("no thread panics while it adds");
            found.0 += 1;
            if let Some(wrong) = outcome.wrong {
                if args.keep_going {
                    self.bar.suspend(|| println!("seed {seed}: {wrong}"));
                } else {
                    self.stop.store(true, Ordering::Relaxed);
                }
                found.1.push((seed, wrong));
            }
        }
    }

    fn finish(self, args: &Args) -> ExitCode {
        self.bar.finish_and_clear();
        let (run, mut found) = self.found.into_inner().expect("no thread panicked");
        found.sort();
        let tally = self.tally.into_inner().expect("no thread panicked");
        for (what, times) in tally.counts() {
            println!("{times:>12} {what}");
        }
        println!("{run} seeds in {:.1} s", self.begun.elapsed().as_secs_f64());
        if args.keep_going {
            println!("{} seeds found something wrong", found.len());
        } else if let Some((seed, wrong)) = found.first() {
            let outcome = sim::run(*seed, Keep::Last, args.mutant);
            for line in outcome.trace.kept() {
                println!("{line}");
            }
            println!("\nseed {seed}: {wrong}\nto see all of it:");
            let mutant = args
                .mutant
                .map_or(String::new(), |mutant| format!(" --mutant {}", mutant.name()));
            println!("  cargo run --release -p jobq-tests --bin simulate -- --seed {seed} --trace{mutant}");
        }
        if found.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
