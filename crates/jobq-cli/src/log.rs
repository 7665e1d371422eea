//! The program's log, on standard error.

use std::fmt::{self, Write};
use std::io::IsTerminal;

use anyhow::Context;
use jiff::{Timestamp, Zoned};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::{Global, LogFormat};
use crate::commands::Command;
use crate::output::{escape, is_dumb};

/// Starts logging.
///
/// # Errors
/// The filter is none.
pub(crate) fn start(global: &Global, command: &Command) -> anyhow::Result<()> {
    let asked = global
        .log
        .as_deref()
        .filter(|filter| !filter.is_empty())
        .unwrap_or_else(|| command.default_log(global));
    let filter = EnvFilter::builder()
        .parse(asked)
        .with_context(|| format!("failed to read the log filter {asked:?}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would complain where the log went, and end the program if nobody reads that any more.
        .log_internal_errors(false);
    match global.log_format {
        LogFormat::Text if !command.keeps_log() && global.log.is_none() => log.event_format(Notes).init(),
        LogFormat::Text => log
            .with_target(false)
            .with_ansi(wants_colour())
            .with_timer(Clock {
                terminal: std::io::stderr().is_terminal(),
            })
            .init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// How lines for people begin: on a terminal with the local time alone, since they are seen as they come, else with
/// the date too, in UTC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) terminal: bool,
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terminal {
            write!(f, "{}", Zoned::now().strftime("%H:%M:%S"))
        } else {
            write!(f, "{:.3}", Timestamp::now())
        }
    }
}

impl FormatTime for Clock {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{self}")
    }
}

/// Events in the form of what else a command says: "jobq: disconnected; trying to come back: …".
struct Notes;

impl<S, N> FormatEvent<S, N> for Notes
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut note = Note::default();
        event.record(&mut note);
        writeln!(writer, "jobq: {}", escape(&(note.message + &note.rest)))
    }
}

/// An event's message, and what else it has.
#[derive(Default)]
struct Note {
    message: String,
    rest: String,
}

impl Visit for Note {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "error" => write!(self.rest, ": {value:?}"),
            name => write!(self.rest, ", {name} {value:?}"),
        };
    }
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

/// Whether standard error is a terminal that has colours, and its user wants them, as <https://no-color.org> has it.
pub(crate) fn wants_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && !is_dumb() && std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_with_the_whole_time_but_on_a_terminal() {
        let written = Clock { terminal: false }.to_string();
        assert!(written.parse::<Timestamp>().is_ok() && written.len() == "2026-11-23T10:00:00.000Z".len());
        let seen = Clock { terminal: true }.to_string();
        assert!(
            seen.parse::<jiff::civil::Time>().is_ok() && seen.len() == "10:00:00".len(),
            "{seen}"
        );
    }
}
