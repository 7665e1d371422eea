//! How far things are: lines on a terminal, nothing in a pipe.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::{QueueSelector, tcflush};

use crate::output::is_dumb;

/// How often a line moves while nothing happens.
pub(crate) const TICK: Duration = Duration::from_millis(200);

/// A line on standard error that changes, and goes away at the end.
#[derive(Debug)]
pub(crate) struct Line {
    bar: ProgressBar,
}

impl Line {
    /// A line for work of unknown length.
    pub(crate) fn spinner() -> Self {
        Self::new(None, "{spinner} {wide_msg} {elapsed}")
    }

    /// A line for so many steps.
    pub(crate) fn steps(steps: u64) -> Self {
        Self::new(
            Some(steps),
            // No estimate: jobs end when they do, and what is asked for in thousands comes in a few answers.
            "{bar:30} {pos}/{len}  {wide_msg} {elapsed}",
        )
    }

    /// A line for so many bytes.
    pub(crate) fn bytes(bytes: u64) -> Self {
        Self::new(
            Some(bytes),
            "{bar:30} {bytes}/{total_bytes}  {wide_msg} {elapsed} (about {eta} left)",
        )
    }

    fn new(length: Option<u64>, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).expect("the templates above are well-formed");
        let bar = ProgressBar::with_draw_target(length, target()).with_style(style);
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    /// What the line says.
    pub(crate) fn say(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// So many steps are done.
    pub(crate) fn at(&self, steps: u64) {
        self.bar.set_position(steps);
    }

    /// Does something to the terminal that would mix with the line.
    pub(crate) fn beside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.bar.suspend(act)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Where bars are drawn: on standard error, if that is a terminal that can draw.
pub(crate) fn target() -> ProgressDrawTarget {
    if std::io::stderr().is_terminal() && !is_dumb() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// Asks a question on the terminal; anything but yes is no.
///
/// # Errors
/// The terminal cannot be read.
pub(crate) fn confirm(question: &str) -> std::io::Result<bool> {
    // What was typed before the question is no answer to it.
    tcflush(std::io::stdin(), QueueSelector::IFlush)?;
    let mut stderr = std::io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
