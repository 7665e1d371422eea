//! How far a command says it has come: lines such as `::progress 40% resizing` on its standard error.
//!
//! Standard error, since every language writes there without being told how, and what is written comes at once. Such
//! lines are taken out of what becomes the reason of a failure.

use jobq_worker::Run;
use tokio::io::AsyncRead;

use super::capture::{self, Tail};

/// How a line begins that says how far the command has come.
const PREFIX: &[u8] = b"::progress ";

/// Longest such line, in bytes; a longer one is no such line. Longer than the longest text of a report.
const MAX_LINE: usize = 1_024;

/// Reads standard error to its end: reports go to the run, the rest to `tail`. What was read is kept if this is
/// dropped.
pub(super) async fn read(source: Option<impl AsyncRead + Unpin>, tail: &mut Tail, run: &Run) {
    let mut lines = Lines::default();
    let report = |Report { part, text }| run.progress(part, text);
    capture::read(source, |chunk| lines.take(chunk, tail, &report)).await;
    lines.end(tail, &report);
}

/// How far a command has come.
#[derive(Debug, Clone, PartialEq)]
struct Report {
    /// From 0 to 1.
    part: Option<f64>,
    text: String,
}

/// Tells lines that are reports from others, chunk by chunk.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line that may still be a report.
    held: Vec<u8>,
    /// The rest of the line is none.
    passes: bool,
}

impl Lines {
    fn take(&mut self, chunk: &[u8], tail: &mut Tail, report: &impl Fn(Report)) {
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            if self.passes {
                tail.take(piece);
                self.passes = !ends;
                continue;
            }
            self.held.extend_from_slice(piece);
            if ends {
                self.end(tail, report);
            } else if !self.may_be_report() {
                self.pass(tail);
                self.passes = true;
            }
        }
    }

    /// The line that is held ends here.
    fn end(&mut self, tail: &mut Tail, report: &impl Fn(Report)) {
        match Report::parse(&self.held) {
            Some(parsed) if self.held.len() <= MAX_LINE => {
                self.held.clear();
                report(parsed);
            }
            _ => self.pass(tail),
        }
    }

    fn pass(&mut self, tail: &mut Tail) {
        tail.take(&self.held);
        self.held.clear();
    }

    fn may_be_report(&self) -> bool {
        let common = self.held.len().min(PREFIX.len());
        self.held[..common] == PREFIX[..common] && self.held.len() <= MAX_LINE
    }
}

impl Report {
    /// Reads `::progress 40% text`, `::progress 3/12 text`, or `::progress text`.
    fn parse(line: &[u8]) -> Option<Self> {
        let said = String::from_utf8_lossy(line.strip_prefix(PREFIX)?);
        let said = said.trim();
        if said.is_empty() {
            return None;
        }
        let (first, rest) = said.split_once(char::is_whitespace).unwrap_or((said, ""));
        Some(match part(first) {
            Some(part) => Self {
                part: Some(part),
                text: rest.trim_start().to_owned(),
            },
            None => Self {
                part: None,
                text: said.to_owned(),
            },
        })
    }
}

/// A part such as `40%` or `3/12`, from 0 to 1.
fn part(text: &str) -> Option<f64> {
    let number = |text: &str| {
        text.parse()
            .ok()
            .filter(|number: &f64| number.is_finite() && *number >= 0.0)
    };
    let part = match text.strip_suffix('%') {
        Some(percent) => number(percent)? / 100.0,
        None => {
            let (done, all) = text.split_once('/')?;
            number(done)? / number(all).filter(|&all| all > 0.0)?
        }
    };
    Some(part.min(1.0))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What is taken for reports, and what is left, when a text comes in chunks of so many bytes.
    fn split(text: &str, size: usize) -> (Vec<Report>, String) {
        let reports = RefCell::new(Vec::new());
        let mut tail = Tail::new(100_000);
        let mut lines = Lines::default();
        let report = |report| reports.borrow_mut().push(report);
        for chunk in text.as_bytes().chunks(size) {
            lines.take(chunk, &mut tail, &report);
        }
        lines.end(&mut tail, &report);
        (reports.into_inner(), tail.text(100_000))
    }

    fn report(part: Option<f64>, text: &str) -> Report {
        let text = text.to_owned();
        Report { part, text }
    }

    #[test]
    fn reports_are_taken_out_of_what_is_said_however_it_comes() {
        let said = "first\n::progress 40% page 4\nsecond ::progress 50%\n::progress 3/12\r\n::progressive\n\
                    ::progress tidying up\nlast\n::progress 100%";
        for size in [1, 2, 7, 1_000] {
            let (reports, left) = split(said, size);
            let expected = [
                report(Some(0.4), "page 4"),
                report(Some(0.25), ""),
                report(None, "tidying up"),
                report(Some(1.0), ""),
            ];
            assert_eq!(reports, expected, "{size}");
            assert_eq!(
                left, "first\nsecond ::progress 50%\n::progressive\nlast",
                "{size}"
            );
        }
    }

    #[test]
    fn what_is_no_part_is_text_and_a_part_is_at_most_all() {
        for (said, part, text) in [
            ("250%", Some(1.0), ""),
            ("12.5%  of it", Some(0.125), "of it"),
            ("-1% x", None, "-1% x"),
            ("NaN% x", None, "NaN% x"),
            ("1/0", None, "1/0"),
            ("and/or", None, "and/or"),
        ] {
            let line = format!("::progress {said}");
            assert_eq!(Report::parse(line.as_bytes()), Some(report(part, text)), "{said}");
        }
        assert_eq!(Report::parse(b"::progress  "), None);
    }

    #[test]
    fn a_line_that_is_too_long_is_no_report_and_is_not_held() {
        let said = format!("::progress {}\n::progress 1%\n", "x".repeat(10_000));
        let (reports, left) = split(&said, 100);
        assert_eq!(reports, [report(Some(0.01), "")]);
        assert_eq!(left.len(), 10_011);
    }
}
