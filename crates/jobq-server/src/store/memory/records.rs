//! Which records of ended jobs a memory disk holds, and how they go.

use std::collections::{BTreeMap, BTreeSet};

use jobq_proto::{JobId, Status};

use super::contents::{Contents, Standing};
use crate::store::{ByEnd, NameTotals, Prune, Pruned};
use crate::time::Wall;

/// How many records go in one step: all of a disk is behind one lock.
const STEP: usize = 256;

/// When the jobs ended that have records, by id and in order of their ends.
#[derive(Debug, Default)]
pub(super) struct Records {
    by_id: ByEnd<BTreeMap<JobId, Wall>>,
    by_end: ByEnd<BTreeSet<(Wall, JobId)>>,
}

impl Records {
    pub(super) fn insert(&mut self, id: JobId, status: Status, at: Wall) {
        self.by_id.of_mut(status).insert(id, at);
        self.by_end.of_mut(status).insert((at, id));
    }

    fn remove(&mut self, id: JobId, status: Status) {
        if let Some(at) = self.by_id.of_mut(status).remove(&id) {
            self.by_end.of_mut(status).remove(&(at, id));
        }
    }

    /// The next record that is to go: those that are too old come first.
    fn next(&self, prune: &Prune) -> Option<(JobId, Status)> {
        for status in ByEnd::STATUSES {
            if let Some((at, id)) = self.by_end.of(status).first()
                && at < prune.before.of(status)
            {
                return Some((*id, status));
            }
        }
        let count = prune.count?;
        for status in ByEnd::STATUSES {
            let records = self.by_id.of(status);
            if records.len() as u64 > count.most
                && let Some((id, _)) = records.iter().find(|(_, at)| **at < count.before)
            {
                return Some((*id, status));
            }
        }
        None
    }
}

impl Contents {
    /// Removes some of the records that are to go.
    pub(super) fn prune(&mut self, prune: &Prune) -> Pruned {
        let mut gone: BTreeMap<_, NameTotals> = BTreeMap::new();
        for _ in 0..STEP {
            let Some((id, status)) = self.records.next(prune) else {
                break;
            };
            self.records.remove(id, status);
            let Some(job) = self.jobs.remove(&id) else {
                continue;
            };
            debug_assert!(matches!(job.standing, Standing::Ended { .. }), "live jobs stay");
            self.uuids.remove(&job.record.uuid);
            let name = &job.record.name;
            *self.totals(name).of_mut(status) -= 1;
            let gone = gone
                .entry(name.clone())
                .or_insert_with(|| NameTotals::none(name.clone()));
            *gone.of_mut(status) += 1;
        }
        Pruned {
            gone: gone.into_values().collect(),
            oldest: self.records.by_end.map(|ends| ends.first().map(|(at, _)| *at)),
            more: self.records.next(prune).is_some(),
        }
    }
}
