//! Sets hostile peers on a server, and measures what its other peers notice.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use comfy_table::{Table, presets};
use jobq_tests::Program;
use jobq_tests::hostile::{Attack, Trial, percentile};

/// Measures how long jobs take from their submission to their settlement while hostile peers are on their server, and
/// while they are not, in turns; and how much memory the server takes.
///
/// "usual" is without hostile peers, "attacked" with them, and "beside" is another server on the same machine
/// meanwhile: what the attack takes of the machine, and not of the server. "ratio" compares "attacked" with the longer
/// of those two. Percentiles are the middle ones of the rounds'.
#[derive(Debug, Parser)]
#[command(name = "hostile")]
struct Args {
    /// What the peers do; each of them, and then all together, if nothing is named
    #[arg(value_name = "ATTACK", value_parser = PossibleValuesParser::new(Attack::ALL.map(Attack::name))
        .map(|name| Attack::named(&name).expect("clap allows known names only")))]
    attacks: Vec<Attack>,
    /// How many peers of each kind
    #[arg(long, value_name = "N", default_value_t = 20)]
    peers: usize,
    /// How many jobs to measure, each time
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = at_least_one)]
    jobs: usize,
    /// How many times to measure, with and without hostile peers in turns
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = at_least_one)]
    rounds: usize,
    /// The binary [default: the jobq beside this program]
    #[arg(long, value_name = "PATH")]
    jobq: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let beside = std::env::current_exe().map(|path| path.with_file_name("jobq"));
    let Some(path) = args.jobq.clone().or(beside.ok()).filter(|path| path.exists()) else {
        eprintln!("error: there is no jobq beside this program; build it, or name it with --jobq");
        return ExitCode::from(2);
    };
    let program = Program::new(path);
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "attack",
        "connections",
        "sent",
        "p50 usual",
        "attacked",
        "beside",
        "ratio",
        "p99 usual",
        "attacked",
        "beside",
        "ratio",
        "memory",
        "bound",
    ]);
    let alone: Vec<Vec<Attack>> = if args.attacks.is_empty() {
        let each = Attack::ALL.iter().map(|attack| vec![*attack]);
        each.chain([Attack::ALL.to_vec()]).collect()
    } else {
        vec![args.attacks.clone()]
    };
    for attacks in alone {
        let row = measure(&program, &attacks, &args).await;
        eprintln!("{}", row.join("  "));
        table.add_row(row);
    }
    println!("{table}");
    ExitCode::SUCCESS
}

async fn measure(program: &Program, attacks: &[Attack], args: &Args) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let mut trial = Trial::prepare(program, directory.path(), attacks, args.peers).await;
    let blocks = trial.run(args.rounds, args.jobs).await;
    let names: Vec<&str> = attacks.iter().map(|attack| attack.name()).collect();
    let what = if attacks.len() == Attack::ALL.len() {
        "all".to_owned()
    } else {
        names.join(", ")
    };
    let mut row = vec![
        what,
        blocks.connections.to_string(),
        format!("{} MiB", blocks.bytes >> 20),
    ];
    for percent in [50, 99] {
        let usual = percentile(&blocks.usual, percent);
        let attacked = percentile(&blocks.attacked, percent);
        let beside = percentile(&blocks.beside, percent);
        let ratio = attacked.as_secs_f64() / usual.max(beside).as_secs_f64();
        row.extend([
            format!("{usual:.2?}"),
            format!("{attacked:.2?}"),
            format!("{beside:.2?}"),
            format!("{ratio:.1}"),
        ]);
    }
    row.extend([blocks.memory, blocks.memory_bound].map(|bytes| format!("{} MiB", bytes >> 20)));
    row
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("it is a number from 1".to_owned()),
    }
}
