//! `jobq completions`: what a shell needs to complete command lines.

use clap_complete::Shell;

use crate::cli::definition;
use crate::exit::Exit;
use crate::output::Output;

/// The flags of `jobq completions`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
It writes the script to standard output.

Examples:
  jobq completions bash > ~/.local/share/bash-completion/completions/jobq
  jobq completions zsh > ~/.zfunc/_jobq
  jobq completions fish > ~/.config/fish/completions/jobq.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "jobq", &mut script);
    let mut output = Output::new();
    output.line(String::from_utf8_lossy(&script).trim_end())?;
    output.finish()?;
    Ok(Exit::Ok)
}
