//! The binary `jobq`: a server, workers that run commands, and everything else that a command line can do.
//!
//! [`cli`] says what can be typed, [`settings`] adds what variables and the configuration file say, [`commands`] does
//! it, [`exit`] lists the exit codes, and [`output`] is the way to
//! standard output. What a user of the libraries would want is in the libraries.

/// A job's record is made by the thread that reads it and freed by the one that stores it, which the system's allocator
/// answers with long searches.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod cli;
mod commands;
mod connect;
mod descriptors;
mod errors;
mod exit;
mod log;
mod output;
mod progress;
mod settings;
mod signals;
mod sizes;
mod times;
mod usage;
mod values;
mod view;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use cli::Cli;
use commands::guard;
use exit::Exit;
use output::OutputClosed;
use settings::{Settings, SettingsError};

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == guard::COMMAND)
    {
        return end(keep_guard());
    }
    let (cli, settings) = match settings::read(std::env::args_os().collect()) {
        Ok(read) => read,
        Err(SettingsError::Arguments { layer, error }) => return usage::print(*error, layer).into(),
        Err(error) => return fail(&Exit::Usage.because(error)),
    };
    end(run(cli, &settings))
}

fn end(result: anyhow::Result<Exit>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        // Whoever read the output has seen enough, as in `jobq list | head`.
        Err(error) if error.is::<OutputClosed>() => Exit::Ok.into(),
        Err(error) => fail(&error),
    }
}

/// Says why, and ends.
fn fail(error: &anyhow::Error) -> ExitCode {
    let text = output::escape(&errors::describe(error.as_ref())).into_owned();
    // There is nobody to tell if this fails.
    let _ = writeln!(std::io::stderr(), "jobq: {text}");
    Exit::of(error).into()
}

/// Has the system write no core dump of this process, in which tokens, params and results would be, and let no other
/// process of the same user read its memory or its variables. What it starts is not concerned.
fn without_core_dumps() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!("core dumps cannot be switched off: {error}");
    }
}

fn run(cli: Cli, settings: &Settings) -> anyhow::Result<Exit> {
    if !cli.global.core_dumps {
        without_core_dumps();
    }
    log::start(&cli.global, &cli.command)?;
    let runtime = runtime()?;
    let result = runtime.block_on(cli.command.run(&cli.global, settings));
    // A thread may be reading standard input, and nobody can end that.
    runtime.shutdown_background();
    result
}

/// One thread: the server's work is one loop beside its connections, and handing each message from one thread to the
/// next costs more than it saves. The store, a worker's session and whatever blocks have threads of their own.
fn runtime() -> anyhow::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.context("failed to start the runtime")
}

/// Is the guard of a worker.
fn keep_guard() -> anyhow::Result<Exit> {
    let runtime = runtime()?;
    // It listens for signals.
    let _entered = runtime.enter();
    guard::run()
}
