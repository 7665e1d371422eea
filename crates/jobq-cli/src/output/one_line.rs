//! Reasons and other texts in one line: their first words and, above all, their last.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::escape;

/// What stands for the lines between the first and the last.
const BETWEEN: &str = " … ";

/// What `jobq work` puts between a command's end and the rest of what it said, where the beginning of that is missing.
const CUT: &str = ": …";

/// The first words of a text are left out rather than shown in fewer columns than this.
const MIN_FIRST: usize = 8;

/// A text that somebody else chose, harmless, in one line and at most so many columns.
///
/// Of several lines, the first and the last are shown, and the last is what survives if there is little room: where
/// programs say what went wrong, as a Python traceback does. What stands after a cut is a piece of any line, and not
/// shown if there is better.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = escape(lines.next().unwrap_or_default());
    match (first.split_once(CUT), lines.next_back().map(escape)) {
        (None, None) => start(&first, most),
        (Some((what, rest)), None) if first.width() > most => {
            let what = format!("{what}{CUT}");
            let room = most.saturating_sub(what.width());
            start(&format!("{what}{}", last_columns(rest, room)), most)
        }
        (Some(_), None) => first.into_owned(),
        (Some((first, _)), Some(last)) => both(first, &last, most),
        (None, Some(last)) => both(&first, &last, most),
    }
}

/// The start of a line, in at most so many columns, and a sign that there is more.
pub(super) fn start(line: &str, most: usize) -> String {
    if line.width() <= most {
        return line.to_owned();
    }
    let mut start = first_columns(line, most.saturating_sub(1)).to_owned();
    start.push('…');
    start
}

fn both(first: &str, last: &str, most: usize) -> String {
    let room = most.saturating_sub(last.width() + BETWEEN.width());
    if first.width() > room && room < MIN_FIRST {
        return start(last, most);
    }
    let first = first_columns(first, room).trim_end();
    format!("{first}{BETWEEN}{last}")
}

fn first_columns(text: &str, most: usize) -> &str {
    let end = columns(text.char_indices(), most)
        .last()
        .map_or(0, |(at, c)| at + c.len_utf8());
    &text[..end]
}

fn last_columns(text: &str, most: usize) -> &str {
    let start = columns(text.char_indices().rev(), most)
        .last()
        .map_or(text.len(), |(at, _)| at);
    &text[start..]
}

/// As many characters as fit into so many columns.
fn columns(chars: impl Iterator<Item = (usize, char)>, most: usize) -> impl Iterator<Item = (usize, char)> {
    let mut taken = 0;
    chars.take_while(move |(_, c)| {
        taken += c.width().unwrap_or(0);
        taken <= most
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEBACK: &str = "exit status 1: Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\n    \
                             1 / 0\nZeroDivisionError: division by zero\n";

    #[test]
    fn a_short_text_stays_as_it_is_and_a_long_one_says_that_it_was_cut() {
        assert_eq!(one_line("short", 10), "short");
        assert_eq!(one_line("0123456789ab", 10), "012345678…");
        assert_eq!(one_line("one\n", 10), "one");
        assert_eq!(one_line("", 10), "");
        assert_eq!(one_line("日本語", 5), "日本…");
        assert_eq!(one_line("日本語日", 6), "日本…");
        assert_eq!(one_line("a\x1bb", 20), "a\\x1bb");
    }

    #[test]
    fn of_several_lines_the_last_survives() {
        assert_eq!(
            one_line(TRACEBACK, 200),
            "exit status 1: Traceback (most recent call last): … ZeroDivisionError: division by zero"
        );
        assert_eq!(
            one_line(TRACEBACK, 60),
            "exit status 1: Traceba … ZeroDivisionError: division by zero"
        );
        assert_eq!(one_line(TRACEBACK, 40), "ZeroDivisionError: division by zero");
        assert_eq!(one_line(TRACEBACK, 20), "ZeroDivisionError: …");
        assert_eq!(one_line("one\n\n  two  \n\n", 20), "one … two");
    }

    #[test]
    fn a_piece_of_a_line_is_not_shown_if_there_is_better() {
        let cut = format!("exit status 1: …{}\nOSError: disk full", "e".repeat(4_000));
        assert_eq!(one_line(&cut, 200), "exit status 1 … OSError: disk full");
        let cut = format!("exit status 1: …{} the end", "e".repeat(4_000));
        assert_eq!(one_line(&cut, 28), "exit status 1: …eeee the end");
        assert_eq!(
            one_line("exit status 1: …e the end", 40),
            "exit status 1: …e the end"
        );
    }
}
