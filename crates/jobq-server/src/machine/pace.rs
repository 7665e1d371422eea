//! How fast a long removal of records goes on beside jobs.

use std::time::Duration;

/// The pause between two steps while jobs are on their way to the disk …
const LONGEST: Duration = Duration::from_millis(10);

/// … and where the removal does not keep up with the jobs that end: as long as half a step.
const SHORTEST: Duration = Duration::from_millis(1);

/// The pause is halved after so many steps that left no fewer records than there were. More than one, since ends come
/// in batches.
const STEPS: u32 = 8;

/// The pace of a removal.
#[derive(Debug)]
pub(super) struct Pace {
    pause: Duration,
    /// The fewest records since the pause was set.
    fewest: u64,
    /// How many steps ago that was.
    steps: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pause: LONGEST,
            fewest: u64::MAX,
            steps: 0,
        }
    }
}

impl Pace {
    /// A step removed some records and left so many, of which more are to go.
    pub(super) fn left(&mut self, records: u64) {
        if records < self.fewest {
            self.fewest = records;
            self.steps = 0;
            return;
        }
        self.steps += 1;
        if self.steps == STEPS {
            *self = Self {
                pause: (self.pause / 2).max(SHORTEST),
                fewest: records,
                steps: 0,
            };
        }
    }

    /// How long to wait before the next step while jobs are on their way to the disk.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }
}
