//! The commands, one a module: its flags, and a function that runs it.

mod attempts;
mod backup;
mod bench;
mod cancel;
mod cert;
mod change;
mod check;
mod completions;
mod config;
mod demo;
mod job_ref;
mod list;
mod man;
mod restore;
mod retry;
mod selection;
mod serve;
mod show;
mod stats;
mod submit;
mod token;
mod wait;
mod work;

pub(crate) use work::guard;

use clap::Subcommand;

use crate::cli::Global;
use crate::exit::Exit;
use crate::settings::Settings;

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server.
    Serve(serve::Args),
    /// Run a command for each job of one or more names.
    Work(work::Args),
    /// Submit a job, or many from standard input.
    Submit(submit::Args),
    /// List jobs.
    List(list::Args),
    /// Show one job.
    Show(show::Args),
    /// Count jobs.
    Stats(stats::Args),
    /// Wait until jobs have ended.
    Wait(wait::Args),
    /// Cancel jobs.
    Cancel(cancel::Args),
    /// Submit ended jobs again.
    Retry(retry::Args),
    /// Make certificates for TLS: a CA, a server's, clients'.
    #[command(subcommand)]
    Cert(cert::Command),
    /// Say who gets into a server, and what each may do: make, list and revoke tokens.
    #[command(subcommand)]
    Token(token::Command),
    /// Copy the database of a running server to a file.
    Backup(backup::Args),
    /// Make a data directory of a backup.
    Restore(restore::Args),
    /// Look whether a data directory's database is sound.
    Check(check::Args),
    /// Show what is set by flags, variables and the configuration file.
    Config(config::Args),
    /// Write what a shell needs to complete command lines.
    Completions(completions::Args),
    /// Write the manual pages.
    Man(man::Args),
    /// See the whole path at work: a server, a worker and 500 jobs in one process.
    Demo(demo::Args),
    /// Measure how many jobs this machine takes and runs a second.
    Bench(bench::Args),
}

impl Command {
    /// What is logged unless told otherwise: those that run on say what they do, the others speak by their output.
    pub(crate) fn default_log(&self, global: &Global) -> &'static str {
        match self {
            Self::Serve(_) => "info",
            Self::Work(args) => args.default_log(global),
            _ => "warn",
        }
    }

    /// Whether it runs on, and has a log with times.
    pub(crate) fn keeps_log(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Work(_))
    }

    /// Does it.
    pub(crate) async fn run(self, global: &Global, settings: &Settings) -> anyhow::Result<Exit> {
        match self {
            Self::Serve(args) => serve::run(args, global).await,
            Self::Work(args) => work::run(args, global).await,
            Self::Submit(args) => submit::run(args, global).await,
            Self::List(args) => list::run(args, global).await,
            Self::Show(args) => show::run(args, global).await,
            Self::Stats(args) => stats::run(args, global).await,
            Self::Wait(args) => wait::run(args, global).await,
            Self::Cancel(args) => cancel::run(args, global).await,
            Self::Retry(args) => retry::run(args, global).await,
            Self::Cert(command) => cert::run(command),
            Self::Token(command) => token::run(command),
            Self::Backup(args) => backup::run(args, global).await,
            Self::Restore(args) => restore::run(args).await,
            Self::Check(args) => check::run(args).await,
            Self::Config(args) => config::run(&args, global, settings),
            Self::Completions(args) => completions::run(&args),
            Self::Man(args) => man::run(&args),
            Self::Demo(args) => demo::run(args, global).await,
            Self::Bench(args) => bench::run(args, global).await,
        }
    }
}
