//! Lines in the log that peers cause.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Most lines that are written within a second.
const LINES: u32 = 10;

/// How many lines about peers may be written: whoever is refused again and again must not fill the disk with it. The
/// others are counted, and the next line that is written says how many there were.
#[derive(Debug, Default)]
pub struct LogBudget {
    second: u64,
    written: u32,
    unwritten: u64,
}

impl LogBudget {
    /// Whether a line may be written now, `second` being that of any clock that does not go back. If so, how many were not
    /// since the last one; none if all were.
    pub fn take(&mut self, second: u64) -> Option<Option<u64>> {
        if second != self.second {
            self.second = second;
            self.written = 0;
        }
        if self.written >= LINES {
            self.unwritten += 1;
            return None;
        }
        self.written += 1;
        let unwritten = std::mem::take(&mut self.unwritten);
        Some((unwritten > 0).then_some(unwritten))
    }
}

/// A budget that a router's tasks share.
#[derive(Debug)]
pub(crate) struct SharedLogBudget {
    since: Instant,
    budget: Mutex<LogBudget>,
}

impl SharedLogBudget {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            budget: Mutex::default(),
        }
    }

    /// As [`LogBudget::take`], now.
    pub(crate) fn take(&self) -> Option<Option<u64>> {
        let second = self.since.elapsed().as_secs();
        // Nothing in there panics half-way.
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.take(second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_are_written_and_the_next_says_how_many_were_not() {
        let mut budget = LogBudget::default();
        let mut written = |second| -> Vec<_> { (0..1_000).filter_map(|_| budget.take(second)).collect() };
        assert_eq!(written(7), [None; 10]);
        let next = written(8);
        assert_eq!(next[0], Some(990));
        assert_eq!(next[1..], [None; 9], "each is counted once");
    }
}
