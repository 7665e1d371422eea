//! What a store reports by itself.

use super::backup::BackupReport;
use super::batch::Stored;
use super::prune::Pruned;

/// What [`Store::recv`](super::Store::recv) waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// The oldest batch that was not reported is durable.
    Stored(Stored),
    /// What [`Store::prune`](super::Store::prune) asked for last has been done in part, or whole.
    Pruned(Pruned),
    /// The copy that [`Store::back_up`](super::Store::back_up) asked for has come on.
    Backup(BackupReport),
    /// There is more room than before, or less. A store that has never said so has enough.
    Space(Space),
}

/// How much room a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Space {
    /// Enough.
    #[default]
    Enough,
    /// Only its reserve: it takes what ends runs and jobs, and no new job.
    Short,
    /// None: a batch waits for room, without its new jobs, and all others wait for that batch.
    Full,
}

impl Space {
    /// Whether new jobs are taken.
    pub fn takes_jobs(self) -> bool {
        self == Self::Enough
    }
}
