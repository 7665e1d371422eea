//! Standard output: lines, JSON and tables, for terminals and pipes, which may close.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use anyhow::Context;
use comfy_table::{Table, presets};
use serde::Serialize;

/// Nobody reads the output any more. No failure: the program ends quietly.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output")]
pub(crate) struct OutputClosed;

/// Standard output, buffered. What was written is there after [`Output::finish`].
pub(crate) struct Output {
    inner: BufWriter<Stdout>,
    terminal: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self {
            inner: BufWriter::new(stdout),
            terminal,
        }
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> anyhow::Result<()> {
        check(writeln!(self.inner, "{line}"))
    }

    /// Writes one value as a line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(value).context("failed to write JSON")?;
        self.line(text)
    }

    /// Writes a text that somebody else chose: as it is into a pipe, and escaped, line breaks and tabs apart, on a
    /// terminal. Ends with a line break on a terminal in any case.
    pub(crate) fn foreign(&mut self, text: &str) -> anyhow::Result<()> {
        if !self.terminal {
            return check(self.inner.write_all(text.as_bytes()));
        }
        let text = escape_all(text, |c| matches!(c, '\n' | '\t'));
        let end = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        check(write!(self.inner, "{text}{end}"))
    }

    /// Writes a table.
    pub(crate) fn table(&mut self, mut table: Table) -> anyhow::Result<()> {
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.line(table.trim_fmt())
    }

    /// Writes what is still buffered.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        check(self.inner.flush())
    }
}

/// A table that reads well on a terminal and is cut well by `awk`: no lines, columns two spaces apart.
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn check(result: io::Result<()>) -> anyhow::Result<()> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => OutputClosed.into(),
        _ => anyhow::Error::new(error).context("failed to write to standard output"),
    })
}

/// A text that somebody else chose, in one line and harmless: control characters, and those that change the
/// direction of writing, are shown by their numbers.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    escape_all(text, |_| false)
}

fn escape_all(text: &str, keep: fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| is_harmful(c) && !keep(c)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) && !keep(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text in at most so many characters, and one line.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let escaped = escape(line);
    let whole = line.len() == text.trim().len() && escaped.chars().count() <= most;
    if whole {
        return escaped.into_owned();
    }
    escaped
        .chars()
        .take(most.saturating_sub(1))
        .chain(['…'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_by_their_numbers() {
        assert_eq!(escape("plain é"), "plain é");
        assert_eq!(escape("\x1b[31mred\n"), "\\u{1b}[31mred\\n");
        assert_eq!(escape("a\u{202e}b\u{9b}"), "a\\u{202e}b\\u{9b}");
    }

    #[test]
    fn a_cut_text_is_one_line_and_says_that_it_was_cut() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("0123456789ab", 10), "012345678…");
        assert_eq!(cut("one\ntwo", 10), "one…");
        assert_eq!(cut("one\n", 10), "one");
        assert_eq!(cut("", 10), "");
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_failure() {
        let closed = check(Err(io::ErrorKind::BrokenPipe.into())).expect_err("it is closed");
        assert!(closed.is::<OutputClosed>());
        let full = check(Err(io::ErrorKind::StorageFull.into())).expect_err("it is full");
        assert!(!full.is::<OutputClosed>());
    }
}
