//! What became of the jobs, and how long it took.

use std::collections::BTreeMap;

use jobq_client::{JobView, Outcome, Priority, Status};

use crate::output::{Column, Table};

/// Most columns of a reason.
const MAX_REASON: usize = 120;

/// Sums over all jobs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    completed: u64,
    failed: u64,
    reasons: BTreeMap<String, u64>,
    priorities: BTreeMap<Priority, Times>,
    all: Times,
}

/// The jobs of one priority, or all.
#[derive(Debug, Default)]
struct Times {
    completed: u64,
    failed: u64,
    /// From its arrival until each was handed out, in microseconds.
    waited: Vec<u64>,
    /// How long each ran, in microseconds.
    ran: Vec<u64>,
}

impl Tally {
    /// The client was told of a job's end.
    pub(super) fn ended(&mut self, outcome: &Outcome) {
        match outcome.status {
            Status::Completed => self.completed += 1,
            _ => {
                self.failed += 1;
                let reason = outcome.reason.as_deref().unwrap_or("no reason was given");
                *self.reasons.entry(reason.to_owned()).or_default() += 1;
            }
        }
    }

    /// The server lists a job.
    pub(super) fn listed(&mut self, job: &JobView) {
        self.all.add(job);
        if let Ok(priority) = job.priority.parse() {
            self.priorities.entry(priority).or_default().add(job);
        }
    }

    /// Jobs that the client was told have completed.
    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    /// Jobs that the client was told have failed.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// Jobs that were listed.
    pub(super) fn jobs(&self) -> u64 {
        self.all.jobs()
    }

    /// How many there were, and how long they waited and ran.
    pub(super) fn by_priority(&self) -> Table {
        let mut table = Table::new([
            Column::word("PRIORITY"),
            Column::number("JOBS"),
            Column::number("COMPLETED"),
            Column::number("FAILED"),
            Column::number("WAITED p50").dispensable(1),
            Column::number("p99").dispensable(2),
            Column::number("RAN p50").dispensable(3),
            Column::number("p99").dispensable(4),
        ]);
        for (priority, times) in &self.priorities {
            table.row(times.row(priority.as_str()));
        }
        table.row(self.all.row("all"));
        table
    }

    /// Why jobs failed, the most frequent reason first.
    pub(super) fn by_reason(&self) -> Table {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let mut table = Table::new([Column::text("FAILED BECAUSE", MAX_REASON), Column::number("JOBS")]);
        for (reason, count) in reasons {
            table.row([reason.clone(), count.to_string()]);
        }
        table
    }
}

impl Times {
    fn add(&mut self, job: &JobView) {
        match job.status {
            Status::Completed => self.completed += 1,
            _ => self.failed += 1,
        }
        if let Some(started) = job.started {
            self.waited
                .push(u64::try_from(started - job.created).unwrap_or(0));
        }
        self.ran.extend(job.ran);
    }

    fn jobs(&self) -> u64 {
        self.completed + self.failed
    }

    fn row(&self, what: &str) -> Vec<String> {
        let (waited, ran) = (sorted(&self.waited), sorted(&self.ran));
        vec![
            what.to_owned(),
            self.jobs().to_string(),
            self.completed.to_string(),
            self.failed.to_string(),
            time(quantile(&waited, 50)),
            time(quantile(&waited, 99)),
            time(quantile(&ran, 50)),
            time(quantile(&ran, 99)),
        ]
    }
}

fn sorted(times: &[u64]) -> Vec<u64> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

/// The least time that so many of a hundred do not exceed.
fn quantile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn time(micros: Option<u64>) -> String {
    match micros {
        None => "-".to_owned(),
        Some(micros) if micros < 1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        Some(micros) => format!("{:.2} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_occurred() {
        let times: Vec<u64> = (1..=200).collect();
        assert_eq!(quantile(&times, 50), Some(100));
        assert_eq!(quantile(&times, 99), Some(198));
        assert_eq!(quantile(&[7], 50), Some(7));
        assert_eq!(quantile(&[], 99), None);
    }

    #[test]
    fn times_are_in_the_unit_that_fits() {
        assert_eq!(time(Some(100_432)), "100.4 ms");
        assert_eq!(time(Some(12_340_000)), "12.34 s");
        assert_eq!(time(None), "-");
    }
}
