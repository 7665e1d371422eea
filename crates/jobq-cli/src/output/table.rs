//! Tables: whole in a pipe, and on a terminal no wider than that.
//!
//! Where a terminal is too narrow, whole columns are left out, since half a header or number says nothing. A column of
//! text is shortened first.

use comfy_table::{CellAlignment, presets};
use unicode_width::UnicodeWidthStr;

use super::one_line::{one_line, start};

/// Spaces between two columns.
const GAP: usize = 2;

/// A text is not shortened to less than this while another column can be left out instead.
const MIN_TEXT: usize = 24;

/// A table that reads well on a terminal and is cut well by `awk`: no lines, columns two spaces apart.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    header: bool,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    header: &'static str,
    /// Columns with a higher number are left out first, those with 0 never.
    dispensable: u8,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    /// Of at most so many columns of a terminal.
    Text(usize),
}

impl Column {
    /// A column of short texts.
    pub(crate) const fn word(header: &'static str) -> Self {
        Self {
            header,
            dispensable: 0,
            kind: Kind::Word,
        }
    }

    /// A column of numbers, which stand at its right.
    pub(crate) const fn number(header: &'static str) -> Self {
        Self {
            kind: Kind::Number,
            ..Self::word(header)
        }
    }

    /// A column of texts of any length, which are shortened to the room there is, and to `most` columns of a terminal
    /// in any case.
    pub(crate) const fn text(header: &'static str, most: usize) -> Self {
        Self {
            kind: Kind::Text(most),
            ..Self::word(header)
        }
    }

    /// Leaves this column out where there is no room for all: those with the highest number first.
    pub(crate) const fn dispensable(self, dispensable: u8) -> Self {
        Self { dispensable, ..self }
    }
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
            header: true,
        }
    }

    /// The same without its header, for what continues another table.
    pub(crate) fn without_header(mut self) -> Self {
        self.header = false;
        self
    }

    /// Adds a row, with a cell for each column. Texts may be anything; what is in the others is harmless.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// The lines, none of them wider than so many columns.
    pub(super) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let widths = self.widths();
        let shown = self.shown(&widths, width);
        let others: usize = shown
            .iter()
            .filter(|&&at| !matches!(self.columns[at].kind, Kind::Text(_)))
            .map(|&at| widths[at] + GAP)
            .sum();
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(others));
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if self.header {
            table.set_header(shown.iter().map(|&at| self.columns[at].header));
        }
        for row in &self.rows {
            table.add_row(shown.iter().map(|&at| match self.columns[at].kind {
                Kind::Text(most) => one_line(&row[at], room.min(most)),
                Kind::Word | Kind::Number => row[at].clone(),
            }));
        }
        for (column, &at) in table.column_iter_mut().zip(&shown) {
            column.set_padding((0, 2));
            if self.columns[at].kind == Kind::Number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let text = table.trim_fmt();
        let fit = |line: &str| width.map_or_else(|| line.to_owned(), |width| start(line, width));
        text.lines().map(fit).collect()
    }

    /// How wide each column is where there is room.
    fn widths(&self) -> Vec<usize> {
        let width = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| match column.kind {
                Kind::Text(most) => one_line(&row[at], most).width(),
                Kind::Word | Kind::Number => row[at].width(),
            });
            cells.max().unwrap_or(0).max(column.header.width())
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    /// The places of the columns that there is room for.
    fn shown(&self, widths: &[usize], width: Option<usize>) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let Some(width) = width else { return shown };
        let least = |at: usize| match self.columns[at].kind {
            Kind::Text(_) => widths[at].min(MIN_TEXT),
            Kind::Word | Kind::Number => widths[at],
        };
        while shown.iter().map(|&at| least(at) + GAP).sum::<usize>() > width + GAP {
            let dispensable = shown
                .iter()
                .copied()
                .filter(|&at| self.columns[at].dispensable > 0);
            let Some(last) = dispensable.max_by_key(|&at| (self.columns[at].dispensable, at)) else {
                break;
            };
            shown.retain(|&at| at != last);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([
            Column::word("NAME"),
            Column::number("QUEUED"),
            Column::number("CAP").dispensable(2),
            Column::text("DETAIL", 100).dispensable(1),
        ]);
        table.row([
            "thumbnail".to_owned(),
            "7".to_owned(),
            "100".to_owned(),
            "first line\nwhat went wrong in the end".to_owned(),
        ]);
        table
    }

    #[test]
    fn in_a_pipe_nothing_is_left_out() {
        assert_eq!(
            table().lines(None),
            [
                "NAME       QUEUED  CAP  DETAIL",
                "thumbnail       7  100  first line … what went wrong in the end",
            ]
        );
        assert_eq!(table().without_header().lines(None).len(), 1);
    }

    #[test]
    fn where_there_is_little_room_texts_are_shortened_and_then_columns_are_left_out() {
        let shown = |width| table().lines(Some(width));
        assert_eq!(shown(60)[1], "thumbnail       7  100  what went wrong in the end");
        assert_eq!(
            shown(44),
            [
                "NAME       QUEUED  DETAIL",
                "thumbnail       7  what went wrong in the e…"
            ]
        );
        assert_eq!(shown(20), ["NAME       QUEUED", "thumbnail       7"]);
        assert_eq!(shown(10), ["NAME     …", "thumbnail…"]);
    }
}
