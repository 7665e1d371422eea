//! What was done and what came of it, as a table.

use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::{Fault, Tally};

/// The rounds of several kinds of faults.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<(Fault, u64, Tally)>,
    skipped: Vec<(Fault, String)>,
}

impl Report {
    /// Adds the rounds of one kind.
    pub fn add(&mut self, fault: Fault, rounds: u64, tally: Tally) {
        self.rows.push((fault, rounds, tally));
    }

    /// One kind cannot be run here.
    pub fn skip(&mut self, fault: Fault, why: String) {
        self.skipped.push((fault, why));
    }

    /// Whether everything that was promised was kept.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|(_, _, tally)| tally.wrong.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rows.is_empty() {
            writeln!(f, "{}", self.table())?;
        }
        for (fault, _, tally) in &self.rows {
            if let Some((median, longest)) = summary(&tally.waits) {
                writeln!(
                    f,
                    "{}: {} jobs ran again after {:.2} s in the median, {:.2} s at most",
                    fault.name(),
                    tally.waits.len(),
                    median.as_secs_f64(),
                    longest.as_secs_f64()
                )?;
            }
        }
        for (fault, why) in &self.skipped {
            writeln!(f, "{}: skipped: {why}", fault.name())?;
        }
        Ok(())
    }
}

impl Report {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header([
            "fault",
            "rounds",
            "acknowledged",
            "settled",
            "doubts",
            "ran again",
            "lost",
            "twice",
            "broken",
            "what became of it",
        ]);
        for (fault, rounds, tally) in &self.rows {
            let noticed = tally
                .noticed
                .iter()
                .map(|(what, count)| format!("{what} {count}"));
            table.add_row([
                fault.name().to_owned(),
                rounds.to_string(),
                tally.acknowledged.to_string(),
                tally.settled.to_string(),
                tally.doubts.to_string(),
                tally.again.to_string(),
                tally.lost.to_string(),
                tally.twice.to_string(),
                tally.wrong.len().to_string(),
                noticed.collect::<Vec<_>>().join(", "),
            ]);
        }
        for column in 1..9 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

/// The median and the longest.
fn summary(waits: &[Duration]) -> Option<(Duration, Duration)> {
    let mut sorted = waits.to_vec();
    sorted.sort();
    Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_done_and_whether_it_is_good() {
        let mut report = Report::default();
        let waits = [3, 1, 2].map(Duration::from_secs).to_vec();
        let mut tally = Tally {
            acknowledged: 120,
            waits,
            ..Tally::default()
        };
        tally.notice("cuts");
        report.add(Fault::Power, 3, tally);
        report.skip(Fault::Partition, "no right to".to_owned());
        assert!(report.is_good());
        let text = report.to_string();
        for part in [
            "| power ",
            " 120 ",
            "cuts 1",
            "2.00 s in the median, 3.00 s at most",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(text.contains("partition: skipped: no right to"), "{text}");
        report.add(Fault::Kill, 1, Tally::broken("job 1 is lost".to_owned()));
        assert!(!report.is_good());
    }
}
