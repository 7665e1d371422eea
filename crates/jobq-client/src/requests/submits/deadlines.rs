//! When the time of each batch is over.

use std::collections::BTreeSet;

use crate::clock::BootTime;
use crate::requests::rising_map::RisingMap;

/// The deadlines of batches, the earliest first. Most batches have a later number and no earlier deadline than those
/// before them; for these nothing is compared.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// By the batch's number; none is earlier than one before it.
    rising: RisingMap<BootTime>,
    others: BTreeSet<(BootTime, u64)>,
}

impl Deadlines {
    pub(super) fn insert(&mut self, at: BootTime, batch: u64) {
        let rises = |(last, deadline): (u64, &BootTime)| last < batch && *deadline <= at;
        if self.rising.last().is_none_or(rises) {
            self.rising.insert(batch, at);
        } else {
            self.others.insert((at, batch));
        }
    }

    pub(super) fn remove(&mut self, at: BootTime, batch: u64) {
        if self.rising.get(batch) == Some(&at) {
            self.rising.remove(batch);
        } else {
            self.others.remove(&(at, batch));
        }
    }

    /// The earliest deadline, and the first batch that has it.
    pub(super) fn first(&self) -> Option<(BootTime, u64)> {
        let rising = self.rising.first().map(|(batch, &at)| (at, batch));
        let other = self.others.first().copied();
        rising.into_iter().chain(other).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> BootTime {
        BootTime::from_micros(second * 1_000_000)
    }

    #[test]
    fn the_earliest_comes_first_whatever_the_order_of_the_batches() {
        let mut deadlines = Deadlines::default();
        let all = [
            (at(30), 1),
            (at(30), 2),
            (at(5), 3),
            (at(31), 4),
            (at(30), 5),
            (at(40), 0),
        ];
        for (at, batch) in all {
            deadlines.insert(at, batch);
        }
        let mut told = Vec::new();
        while let Some((at, batch)) = deadlines.first() {
            deadlines.remove(at, batch);
            told.push((at, batch));
        }
        let mut sorted = all.to_vec();
        sorted.sort();
        assert_eq!(told, sorted);
    }

    #[test]
    fn a_deadline_that_was_moved_is_told_at_its_new_time() {
        let mut deadlines = Deadlines::default();
        for batch in 0..3 {
            deadlines.insert(at(30), batch);
        }
        deadlines.remove(at(30), 0);
        deadlines.insert(at(35), 0);
        deadlines.remove(at(30), 1);
        assert_eq!(deadlines.first(), Some((at(30), 2)));
        deadlines.remove(at(30), 2);
        assert_eq!(deadlines.first(), Some((at(35), 0)));
        deadlines.remove(at(35), 0);
        assert_eq!(deadlines.first(), None);
    }
}
