//! Breaks the product's source in a copy of the workspace, one promise at a time, and sees whether the simulator notices.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use comfy_table::{Table, presets};
use jobq_tests::Mutation;

/// Puts defects into a copy of the source, one at a time, builds the simulator with it, and runs seeds until one finds
/// something wrong.
///
/// It ends with a table, and with exit status 1 if a defect was not noticed within its number of seeds, or if the source as
/// it is was found wrong. Each defect takes as long as the server's crate and the simulator take to build.
#[derive(Debug, Parser)]
#[command(name = "mutate", version)]
struct Args {
    /// Which defects; all of them if none is named.
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(Mutation::ALL.map(|mutation| mutation.name))
        .map(|name| Mutation::named(&name).expect("clap allows known names only")))]
    mutations: Vec<Mutation>,
    /// Where cargo builds; what is there already is used.
    #[arg(long, value_name = "DIR", default_value = default_target_dir())]
    target_dir: PathBuf,
    /// Build with optimisation: seeds are faster, and building is slower.
    #[arg(long)]
    release: bool,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Seeds in which the source as it is must be found right, before it is broken.
    #[arg(long, value_name = "N", default_value_t = 100)]
    control: u64,
}

/// Longest time that the seeds of one defect may take, as `simulate` takes it.
const LONGEST: &str = "15m";

/// Folders that are not part of the source.
const NOT_SOURCE: [&str; 3] = [".git", "target", "corpus"];

/// Characters of what was noticed that the table shows.
const SHOWN: usize = 90;

fn default_target_dir() -> String {
    root().join("target/mutants").display().to_string()
}

/// The workspace that this program was built in.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn main() -> ExitCode {
    match mutate(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failed to try the mutations: {error}");
            ExitCode::from(2)
        }
    }
}

/// What came of one.
struct Row {
    name: &'static str,
    allowed: u64,
    seeds: u64,
    wrong: Option<String>,
}

impl Row {
    /// The source as it is has to be right, and each defect has to be noticed.
    fn is_good(&self) -> bool {
        self.wrong.is_some() == (self.name != CONTROL)
    }
}

/// What the source as it is is called.
const CONTROL: &str = "none";

fn mutate(args: &Args) -> Result<bool, Box<dyn std::error::Error>> {
    let mutations = match &args.mutations[..] {
        [] => &Mutation::ALL[..],
        some => some,
    };
    let copy = tempfile::Builder::new().prefix("jobq-mutants-").tempdir()?;
    copy_source(&root(), copy.path())?;
    let mut rows = vec![try_one(args, copy.path(), CONTROL, args.control)?];
    for mutation in mutations {
        let path = copy.path().join(mutation.file);
        let broken = mutation.apply(copy.path())?;
        let source = fs::read_to_string(&path)?;
        fs::write(&path, broken)?;
        rows.push(try_one(args, copy.path(), mutation.name, mutation.seeds)?);
        fs::write(&path, source)?;
    }
    println!("{}", table(&rows));
    Ok(rows.iter().all(Row::is_good))
}

/// Builds the copy as it is now, and runs seeds in it.
fn try_one(
    args: &Args,
    copy: &Path,
    name: &'static str,
    allowed: u64,
) -> Result<Row, Box<dyn std::error::Error>> {
    eprintln!("{name}: building");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--locked",
        "--quiet",
        "-p",
        "jobq-tests",
        "--bin",
        "simulate",
    ]);
    build.arg("--target-dir").arg(&args.target_dir);
    if args.release {
        build.arg("--release");
    }
    let status = build.current_dir(copy).status()?;
    if !status.success() {
        return Err(format!("{name} does not build").into());
    }
    let profile = if args.release { "release" } else { "debug" };
    let output = Command::new(args.target_dir.join(profile).join("simulate"))
        .args(["--seeds", &allowed.to_string(), "--seed", &args.seed.to_string()])
        .args(["--for", LONGEST])
        .stderr(Stdio::inherit())
        .output()?;
    let (seeds, wrong) = findings(&String::from_utf8_lossy(&output.stdout));
    let wrong = wrong.filter(|_| !output.status.success());
    match &wrong {
        Some(wrong) => eprintln!("{name}: noticed after {seeds} seeds: {wrong}"),
        None => eprintln!("{name}: nothing noticed in {seeds} seeds"),
    }
    Ok(Row {
        name,
        allowed,
        seeds,
        wrong,
    })
}

/// How many seeds were run, and what was wrong, by what `simulate` says.
fn findings(text: &str) -> (u64, Option<String>) {
    let seeds = text
        .lines()
        .find_map(|line| line.split_once(" seeds in ")?.0.parse().ok());
    let wrong = text.lines().find_map(|line| {
        let (_, wrong) = line.strip_prefix("seed ")?.split_once(": ")?;
        (!wrong.starts_with("Plan")).then(|| wrong.to_owned())
    });
    (seeds.unwrap_or(0), wrong)
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "mutation",
        "noticed after",
        "within",
        "what was noticed",
    ]);
    for row in rows {
        let noticed = match &row.wrong {
            Some(_) => format!("{} seeds", row.seeds),
            None => format!("not in {} seeds", row.seeds),
        };
        let what: String = row
            .wrong
            .iter()
            .flat_map(|wrong| wrong.chars())
            .take(SHOWN)
            .collect();
        table.add_row([row.name.to_owned(), noticed, row.allowed.to_string(), what]);
    }
    table
}

fn copy_source(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if kind.is_dir() && !NOT_SOURCE.iter().any(|other| name == *other) {
            copy_source(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
