//! The program's log, on standard error.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::cli::{Global, LogFormat};

/// Starts logging.
///
/// # Errors
/// The filter is none.
pub(crate) fn start(global: &Global, default: &str) -> anyhow::Result<()> {
    let asked = global
        .log
        .as_deref()
        .filter(|filter| !filter.is_empty())
        .unwrap_or(default);
    let filter = EnvFilter::builder()
        .parse(asked)
        .with_context(|| format!("failed to read the log filter {asked:?}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would complain where the log went, and end the program if nobody reads that any more.
        .log_internal_errors(false);
    match global.log_format {
        LogFormat::Text => log.with_target(false).with_ansi(wants_colour()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Checks a filter.
///
/// # Errors
/// It is none.
pub(crate) fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{error}; expected a level (error, warn, info, debug, trace, off) or a list such as \
             warn,jobq_server=debug"
        )),
    }
}

/// Whether standard error is a terminal whose user wants colours, as <https://no-color.org> has it.
pub(crate) fn wants_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::io::stderr().is_terminal()
}
