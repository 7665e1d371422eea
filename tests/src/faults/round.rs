//! One round: what it is given, and what it comes to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::check;
use crate::{Chance, Contents, History, Ledger, Program};

/// The file in which the history is written down.
const HISTORY: &str = "history.txt";

/// What a round is given.
#[derive(Debug)]
pub struct Round {
    pub(super) program: Program,
    pub(super) directory: PathBuf,
    pub(super) chance: Chance,
    pub(super) history: Arc<History>,
}

impl Round {
    /// A round in a directory that is there and empty.
    pub fn new(program: &Program, directory: &Path, seed: u64) -> Self {
        Self {
            program: program.clone(),
            directory: directory.to_owned(),
            chance: Chance::new(seed),
            history: Arc::new(History::written_to(&directory.join(HISTORY))),
        }
    }
}

/// How a round ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It was run.
    Done(Tally),
    /// It cannot be run here, and why.
    Skipped(String),
}

/// A round cannot be run here, and why.
#[derive(Debug, Clone)]
pub(super) struct Skipped(pub(super) String);

/// What rounds came to.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Jobs that were acknowledged.
    pub acknowledged: usize,
    /// Of all jobs, those that have ended.
    pub settled: usize,
    /// Jobs whose answer did not come. Nearly all were submitted again, under their uuid.
    pub doubts: usize,
    /// Runs beyond a job's first: what a lost worker had, for one.
    pub again: usize,
    /// Jobs that were acknowledged and are not there.
    pub lost: usize,
    /// Jobs that completed by two runs.
    pub twice: usize,
    /// What became of the fault, and how often.
    pub noticed: BTreeMap<String, usize>,
    /// How long it took until the jobs of a lost worker ran again.
    pub waits: Vec<Duration>,
    /// What was promised and not kept, in words.
    pub wrong: Vec<String>,
}

impl Tally {
    /// The figures of a history and of what the store holds after it. What is wrong is not looked for.
    pub(super) fn of(ledger: &Ledger, contents: &Contents) -> Self {
        let mut runs: BTreeMap<_, usize> = BTreeMap::new();
        for run in &ledger.runs {
            *runs.entry(run.id).or_default() += 1;
        }
        Self {
            acknowledged: check::acknowledged(ledger).len(),
            settled: contents
                .jobs
                .iter()
                .filter(|job| job.status.is_terminal())
                .count(),
            again: runs.values().map(|runs| runs - 1).sum(),
            lost: check::count_lost(ledger, contents),
            twice: check::count_twice(ledger, contents),
            ..Self::default()
        }
    }

    /// That of a round that could not go to its end.
    pub(super) fn broken(why: String) -> Self {
        Self {
            wrong: vec![why],
            ..Self::default()
        }
    }

    /// Something became of the fault.
    pub(super) fn notice(&mut self, what: impl Into<String>) {
        *self.noticed.entry(what.into()).or_default() += 1;
    }

    /// Adds another round's.
    pub fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.settled += other.settled;
        self.doubts += other.doubts;
        self.again += other.again;
        self.lost += other.lost;
        self.twice += other.twice;
        for (what, count) in other.noticed {
            *self.noticed.entry(what).or_default() += count;
        }
        self.waits.extend(other.waits);
        self.wrong.extend(other.wrong);
    }
}
