//! The live log: a line for what happens to each run, on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::log::{Clock, wants_colour};

/// Lines that wait to be written. Beyond these, lines are left out and counted: whoever stops their terminal must not
/// cost the worker its leases.
const MAX_WAITING: usize = 1_024;

/// How long the end of the program waits for the last lines.
const LAST_LINES_WAIT: Duration = Duration::from_secs(1);

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Working,
    Connected,
    Waiting,
    Started,
    Completed,
    Failed,
    GivenBack,
    Lost,
    Stopping,
    Stopped,
}

/// Writes lines from a thread of its own, each as a whole.
#[derive(Debug)]
pub(super) struct Live {
    lines: SyncSender<String>,
    left_out: Arc<AtomicU64>,
    clock: Clock,
    colour: bool,
}

/// Ends when the last line was written.
#[derive(Debug)]
pub(super) struct Written(Receiver<()>);

impl State {
    /// The width of the longest word.
    const WIDTH: usize = 10;

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Connected => "connected",
            Self::Waiting => "waiting",
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::GivenBack => "given back",
            Self::Lost => "lost",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    fn style(self) -> Style {
        let colour = match self {
            Self::Completed => AnsiColor::Green,
            Self::Failed => AnsiColor::Red,
            Self::Waiting | Self::GivenBack | Self::Lost => AnsiColor::Yellow,
            Self::Started => AnsiColor::Cyan,
            Self::Working | Self::Connected | Self::Stopping | Self::Stopped => return Style::new().bold(),
        };
        colour.on_default()
    }
}

impl Live {
    /// Starts the thread. It ends when this is dropped.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn start() -> io::Result<(Self, Written)> {
        let (lines, taken) = sync_channel::<String>(MAX_WAITING);
        let (ended, written) = channel();
        let left_out = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&left_out);
        let write = move || {
            for line in taken {
                let mut stderr = io::stderr().lock();
                // There is nobody to tell if this fails.
                let _ = stderr.write_all(line.as_bytes());
                let count = counted.swap(0, Ordering::Relaxed);
                if count > 0 {
                    let _ = writeln!(
                        stderr,
                        "({count} lines were left out, since these were not read fast enough)"
                    );
                }
            }
            // Nobody listens if the program did not want to wait.
            let _ = ended.send(());
        };
        std::thread::Builder::new()
            .name("jobq-log".to_owned())
            .spawn(write)?;
        let live = Self {
            lines,
            left_out,
            clock: Clock {
                terminal: io::stderr().is_terminal(),
            },
            colour: wants_colour(),
        };
        Ok((live, Written(written)))
    }

    /// Writes a line. Never waits.
    pub(super) fn say(&self, state: State, text: impl fmt::Display) {
        let line = line(&self.clock, state, &text, self.colour);
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Written {
    /// Waits until all lines are written that can be, for a short time. Whoever says them has to be gone.
    pub(super) fn wait(self) {
        let _ = self.0.recv_timeout(LAST_LINES_WAIT);
    }
}

fn line(time: &dyn fmt::Display, state: State, text: &dyn fmt::Display, colour: bool) -> String {
    let (word, width) = (state.word(), State::WIDTH);
    if colour {
        let (dim, style) = (Style::new().dimmed(), state.style());
        format!("{dim}{time}{dim:#}  {style}{word:width$}{style:#}  {text}\n")
    } else {
        format!("{time}  {word:width$}  {text}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_colour_has_no_escapes() {
        assert_eq!(
            line(&"12:00:00", State::Failed, &"7 thumbnail", false),
            "12:00:00  failed      7 thumbnail\n"
        );
        let coloured = line(&"12:00:00", State::Failed, &"7 thumbnail", true);
        assert!(coloured.contains("\u{1b}[31mfailed"), "{coloured:?}");
        assert!(
            coloured.ends_with("  7 thumbnail\n"),
            "what it is about has no colour"
        );
    }

    #[test]
    fn the_words_stand_in_a_column() {
        for state in [State::Completed, State::GivenBack, State::Connected] {
            assert!(state.word().len() <= State::WIDTH);
        }
    }
}
