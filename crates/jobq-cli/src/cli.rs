//! The command line: what all commands have in common, and the variables that set flags.

use std::path::PathBuf;

use clap::{Arg, CommandFactory, Parser};
use jobq_client::Endpoint;

use crate::commands::Command;
use crate::exit::Exit;
use crate::log;
use crate::settings::is_setting;

/// A background job queue in one binary: submit jobs, keep them on disk, run them on any number of workers.
#[derive(Debug, Parser)]
#[command(name = "jobq", version, max_term_width = 100, after_long_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Flags can also be set by a variable: those of all commands by JOBQ_SERVER,
JOBQ_LOG, JOBQ_LOG_FORMAT, JOBQ_TOKEN_FILE, JOBQ_ASK_TOKEN, JOBQ_TLS_CA,
JOBQ_TLS_CERT, JOBQ_TLS_KEY, JOBQ_CORE_DUMPS and JOBQ_CONFIG, those of a command
by the command's name and the flag's, as in JOBQ_SERVE_DATA or
JOBQ_SUBMIT_MAX_ATTEMPTS; and in a file, jobq.toml. Those that say which jobs
one call is about cannot: --uuid and --once, and the filters of list, cancel and
retry. A flag counts for more than a variable, a variable for more than the
file. `jobq config` prints what is set and where, and its help tells about the
file. The token itself is read from JOBQ_TOKEN, and has no flag, since command
lines can be seen by everybody.

Examples:
  jobq serve
  jobq work thumbnail -j 4 -- ./thumbnail.sh
  jobq submit thumbnail --params '{\"file\": \"a.png\"}' --wait
  jobq list --status failed

The first keeps its jobs in ./jobq-data and listens on tcp://127.0.0.1:7420,
where the others look for it. `jobq COMMAND --help` has more.";

/// What all commands have in common.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// Where the server is: tcp://HOST:PORT or tls://HOST:PORT, with port 7420 if it is left out, or unix:///PATH
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        default_value = "tcp://127.0.0.1:7420",
        value_parser = address
    )]
    #[arg(help_heading = "Global options", env = "JOBQ_SERVER")]
    pub(crate) server: String,
    /// Read the token that the server asks for from this file, instead of from JOBQ_TOKEN. To `serve` it is the one
    /// that all may share; `jobq token` makes others
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(help_heading = "Global options", env = "JOBQ_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Ask for the token on the terminal
    #[arg(long, global = true, conflicts_with = "token_file")]
    #[arg(help_heading = "Global options", env = "JOBQ_ASK_TOKEN")]
    pub(crate) ask_token: bool,
    /// Trust the CAs in this PEM file at tls:// addresses, instead of those that the system trusts
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(help_heading = "Global options", env = "JOBQ_TLS_CA")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Show the certificate in this PEM file at tls:// addresses, with those up to its CA behind it: `serve` to
    /// everybody, the others to a server that asks for one
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(help_heading = "Global options", env = "JOBQ_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, in PEM
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(help_heading = "Global options", env = "JOBQ_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// What to log to standard error: a level, or a filter such as `warn,jobq_server=debug`
    #[arg(long, global = true, value_name = "FILTER", value_parser = log::filter)]
    #[arg(help_heading = "Global options", env = "JOBQ_LOG")]
    pub(crate) log: Option<String>,
    /// How to write the log
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    #[arg(help_heading = "Global options", env = "JOBQ_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Let the system write core dumps of this process; they hold tokens, params and results
    #[arg(long, global = true)]
    #[arg(help_heading = "Global options", env = "JOBQ_CORE_DUMPS")]
    pub(crate) core_dumps: bool,
    /// Read settings from this file, instead of from jobq.toml in the working directory or the user's
    /// configuration directory; see `jobq config --help`
    #[arg(long, global = true, value_name = "FILE", value_parser = path)]
    #[arg(help_heading = "Global options", env = "JOBQ_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A path that may be empty, which clap's own parser does not take.
#[expect(clippy::unnecessary_wraps, reason = "clap wants a parser")]
fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

fn address(text: &str) -> Result<String, String> {
    match text.parse::<Endpoint>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The command line as clap has it, with a variable for every flag that is a setting.
///
/// The variables of a command carry its name. Without it, the `JOBQ_UUID` that `work` sets for what it runs would be
/// taken for a flag by a `jobq submit` in there.
pub(crate) fn definition() -> clap::Command {
    let mut root = Cli::command();
    let names: Vec<String> = root
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    for name in names {
        root = root.mut_subcommand(&name, |command| {
            let command = match command.get_after_long_help() {
                Some(examples) => {
                    let help = format!("{examples}\n\n{}", Exit::TABLE);
                    command.after_long_help(help)
                }
                None => command.after_long_help(Exit::TABLE),
            };
            command.mut_args(|argument| with_variable(&name, with_any_sign(argument)))
        });
    }
    root
}

/// What the values of flags are that somebody may write with a minus; none takes one, and their parsers say so better
/// than clap would.
const SIGNED: [&str; 6] = ["BACKOFF", "BYTES", "DURATION", "N", "SIZE", "TIME"];

fn with_any_sign(argument: Arg) -> Arg {
    let names = argument.get_value_names().unwrap_or_default();
    let signed = names.iter().any(|name| SIGNED.contains(&name.as_str()));
    if signed && argument.get_long().is_some() {
        argument.allow_hyphen_values(true)
    } else {
        argument
    }
}

fn with_variable(command: &str, argument: Arg) -> Arg {
    let Some(flag) = argument
        .get_long()
        .filter(|_| argument.get_env().is_none() && is_setting(&argument))
    else {
        return argument;
    };
    let variable = variable_of(command, flag);
    argument.env(variable).hide_env(true)
}

/// The variable of a command's flag.
pub(crate) fn variable_of(command: &str, flag: &str) -> String {
    format!("JOBQ_{command}_{flag}").replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn every_setting_has_a_variable_and_no_variable_is_one_that_work_sets() {
        for command in definition().get_subcommands() {
            for argument in command.get_arguments().filter(|argument| is_setting(argument)) {
                let variable = argument
                    .get_env()
                    .and_then(|name| name.to_str())
                    .expect("every setting has one");
                assert!(variable.starts_with("JOBQ_"), "{variable}");
                let parts = variable.split('_').count();
                assert!(
                    parts > 2 || ["JOBQ_SERVER", "JOBQ_LOG", "JOBQ_CONFIG"].contains(&variable),
                    "{variable}"
                );
            }
        }
    }
}
