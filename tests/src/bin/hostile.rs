//! Sets hostile peers on a server, and measures what its other peers notice.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use comfy_table::{Table, presets};
use jobq_tests::hostile::{Attack, Flood, Neighbour, memory_bound, peak_memory};
use jobq_tests::{Program, ServerProcess, Via};

/// Starts `jobq serve`, measures how long a job takes from its submission to its settlement, then sets hostile peers on
/// the server and measures again; says by how much the others' jobs took longer, and how much memory the server took.
#[derive(Debug, Parser)]
#[command(name = "hostile")]
struct Args {
    /// What the peers do; each of them, and then all together, if nothing is named
    #[arg(value_name = "ATTACK", value_parser = PossibleValuesParser::new(Attack::ALL.map(Attack::name))
        .map(|name| Attack::named(&name).expect("clap allows known names only")))]
    attacks: Vec<Attack>,
    /// How many peers of each kind
    #[arg(long, value_name = "N", default_value_t = 100)]
    peers: usize,
    /// How many jobs to measure, each time
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    jobs: usize,
    /// The binary [default: the jobq beside this program]
    #[arg(long, value_name = "PATH")]
    jobq: Option<PathBuf>,
}

const PEER_MEMORY: u64 = 256 * 1024 * 1024;

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
        "peers",
        "connections",
        "sent",
        "usual p50",
        "p50",
        "ratio",
        "usual p99",
        "p99",
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
    let connections = 2 * (args.peers * attacks.len()) as u64 + 10;
    let (most, memory) = (connections.to_string(), PEER_MEMORY.to_string());
    let flags = [
        "--ttl",
        "1h",
        "--max-connections",
        &most,
        "--peer-memory",
        &memory,
    ];
    let server = ServerProcess::start(program, directory.path(), Via::Tcp, &flags).await;
    let mut neighbour = Neighbour::move_in(server.address()).await;
    neighbour.run_jobs(args.jobs).await;
    let usual = neighbour.run_jobs(args.jobs).await;
    let flood = Flood::start(server.address(), attacks, args.peers);
    // They are there before it is measured.
    while flood.connections() < (args.peers * attacks.len()) as u64 {
        neighbour.run_jobs(1).await;
    }
    let measured = neighbour.run_jobs(args.jobs).await;
    let peak = server.id().and_then(peak_memory).unwrap_or(0);
    let ratio =
        |percent| measured.percentile(percent).as_secs_f64() / usual.percentile(percent).as_secs_f64();
    let names: Vec<&str> = attacks.iter().map(|attack| attack.name()).collect();
    let what = if attacks.len() == Attack::ALL.len() {
        "all".to_owned()
    } else {
        names.join(", ")
    };
    vec![
        what,
        (args.peers * attacks.len()).to_string(),
        flood.connections().to_string(),
        format!("{} MiB", flood.bytes() >> 20),
        format!("{:.2?}", usual.percentile(50)),
        format!("{:.2?}", measured.percentile(50)),
        format!("{:.1}", ratio(50)),
        format!("{:.2?}", usual.percentile(99)),
        format!("{:.2?}", measured.percentile(99)),
        format!("{:.1}", ratio(99)),
        format!("{} MiB", peak >> 20),
        format!("{} MiB", memory_bound(connections, PEER_MEMORY) >> 20),
    ]
}
