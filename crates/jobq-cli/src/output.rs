//! Standard output: lines, JSON and tables, for terminals and pipes, which may close.

mod one_line;
mod table;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use anyhow::Context;
use serde::Serialize;

pub(crate) use one_line::one_line;
pub(crate) use table::{Column, Table};

/// Nobody reads the output any more. No failure: the program ends quietly.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output")]
pub(crate) struct OutputClosed;

/// Standard output, buffered. What was written is there after [`Output::finish`].
pub(crate) struct Output {
    inner: BufWriter<Stdout>,
    terminal: bool,
    /// Nobody needs to read it.
    optional: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self {
            inner: BufWriter::new(stdout),
            terminal,
            optional: false,
        }
    }

    /// The output of a command that does what it was told to, and ends with its exit code, whether or not somebody
    /// reads this.
    pub(crate) fn optional() -> Self {
        Self {
            optional: true,
            ..Self::new()
        }
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> anyhow::Result<()> {
        let written = writeln!(self.inner, "{line}");
        self.check(written)
    }

    /// Writes one value as a line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(value).context("failed to write JSON")?;
        self.line(text)
    }

    /// Writes a text that somebody else chose: as it is into a pipe, and escaped, line breaks and tabs apart, on a
    /// terminal. It ends with a line break in any case, unless it is empty.
    pub(crate) fn foreign(&mut self, text: &str) -> anyhow::Result<()> {
        let shown = if self.terminal {
            escape_all(text, |c| matches!(c, '\n' | '\t'))
        } else {
            Cow::Borrowed(text)
        };
        let end = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        let written = write!(self.inner, "{shown}{end}");
        self.check(written)
    }

    /// Writes bytes as they are, and nothing else.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        check(self.inner.write_all(bytes))
    }

    /// Writes a table; on a terminal, no wider than that.
    pub(crate) fn table(&mut self, table: &Table) -> anyhow::Result<()> {
        let lines = table.lines(self.size().map(|(columns, _)| columns));
        lines.into_iter().try_for_each(|line| self.line(line))
    }

    /// Whether this is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether this is a terminal on which something can be drawn anew.
    pub(crate) fn redraws(&self) -> bool {
        self.terminal && !is_dumb()
    }

    /// Clears the terminal, for what is to be drawn anew.
    pub(crate) fn clear(&mut self) -> anyhow::Result<()> {
        let written = write!(self.inner, "\x1b[H\x1b[J");
        self.check(written)
    }

    /// Writes what is buffered by now.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        let written = self.inner.flush();
        self.check(written)
    }

    /// How many columns and rows the terminal has, if it is one.
    pub(crate) fn size(&self) -> Option<(usize, usize)> {
        let size = self
            .terminal
            .then(|| rustix::termios::tcgetwinsize(io::stdout()))?;
        let size = size.ok()?;
        Some((usize::from(size.ws_col), usize::from(size.ws_row))).filter(|&(columns, _)| columns > 0)
    }

    /// Writes what is still buffered.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.flush()
    }

    fn check(&self, result: io::Result<()>) -> anyhow::Result<()> {
        match check(result) {
            Err(error) if self.optional && error.is::<OutputClosed>() => Ok(()),
            checked => checked,
        }
    }
}

/// Whether the terminal can do nothing but write on, as `TERM=dumb` says.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
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
            match c {
                '\n' | '\r' | '\t' => escaped.extend(c.escape_default()),
                '\0' => escaped.push_str("\\0"),
                // As programs that print bytes write them; what binary data has most of stays short.
                c if c.is_ascii() => escaped.push_str(&format!("\\x{:02x}", u32::from(c))),
                c => escaped.extend(c.escape_unicode()),
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number and what it counts: "1 worker", "2 workers".
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

/// Says something beside the output, where it does not mix with it.
pub(crate) fn note(text: &str) {
    // There is nobody to tell if this fails.
    let _ = writeln!(io::stderr(), "jobq: {}", escape(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_by_their_numbers() {
        assert_eq!(escape("plain é"), "plain é");
        assert_eq!(escape("\x1b[31mred\n"), "\\x1b[31mred\\n");
        assert_eq!(escape("\0\0ELF\x7f"), "\\0\\0ELF\\x7f");
        assert_eq!(escape("a\u{202e}b\u{9b}"), "a\\u{202e}b\\u{9b}");
    }

    #[test]
    fn one_of_a_thing_is_not_many() {
        assert_eq!(count(1, "worker"), "1 worker");
        assert_eq!(count(0, "worker"), "0 workers");
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_failure() {
        let closed = check(Err(io::ErrorKind::BrokenPipe.into())).expect_err("it is closed");
        assert!(closed.is::<OutputClosed>());
        let full = check(Err(io::ErrorKind::StorageFull.into())).expect_err("it is full");
        assert!(!full.is::<OutputClosed>());
    }
}
