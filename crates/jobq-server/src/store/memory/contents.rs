//! What a memory disk holds, and how batches change it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use jobq_proto::{Fence, JobId, JobName};
use uuid::Uuid;

use super::records::Records;
use crate::store::{
    Batch, Birth, Change, Ended, InsertOutcome, JobRecord, Lease, LiveJob, NameTotals, Recovered, Requeued,
    RunEnd, SessionId, SessionRecord, StoreError, Stored,
};
use crate::time::Wall;

/// Everything on the disk.
#[derive(Debug)]
pub(super) struct Contents {
    identity: Uuid,
    epoch: u64,
    last_batch: u64,
    next_id: JobId,
    clock: Wall,
    /// Whether there is no room for further jobs.
    pub(super) full: bool,
    names: BTreeMap<Arc<JobName>, NameTotals>,
    sessions: BTreeMap<SessionId, SessionRecord>,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) uuids: BTreeMap<Uuid, JobId>,
    pub(super) records: Records,
}

/// A job and what became of it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) record: Arc<JobRecord>,
    pub(super) standing: Standing,
    pub(super) runs: History,
}

/// A job's runs that ended without completing it or giving it back.
pub(super) type History = BTreeMap<Fence, PastRun>;

/// How, when and why a run ended.
#[derive(Debug)]
pub(super) struct PastRun {
    pub(super) end: RunEnd,
    pub(super) at: Wall,
    pub(super) reason: Option<String>,
}

/// Where a job stands.
#[derive(Debug)]
pub(super) enum Standing {
    Live(Live),
    Ended { due: Wall, ended: Ended },
}

/// A job that waits or runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub(super) due: Wall,
    pub(super) attempts: u32,
    pub(super) charges: u32,
    pub(super) cancelling: bool,
    pub(super) floor: Option<(Fence, RunEnd)>,
    pub(super) lease: Option<Lease>,
}

impl Contents {
    pub(super) fn new(birth: Birth) -> Self {
        Self {
            identity: birth.identity,
            epoch: 0,
            last_batch: 0,
            next_id: JobId(1),
            clock: birth.now,
            full: false,
            names: BTreeMap::new(),
            sessions: BTreeMap::new(),
            jobs: BTreeMap::new(),
            uuids: BTreeMap::new(),
            records: Records::default(),
        }
    }

    pub(super) fn last_batch(&self) -> u64 {
        self.last_batch
    }

    /// Begins a new life.
    pub(super) fn recover(&mut self) -> Recovered {
        self.epoch += 1;
        Recovered {
            identity: self.identity,
            epoch: self.epoch,
            last_batch: self.last_batch,
            next_id: self.next_id,
            clock: self.clock,
            names: self.names.values().cloned().collect(),
            sessions: self.sessions.values().cloned().collect(),
        }
    }

    pub(super) fn live(&self, after: JobId, limit: usize) -> Vec<LiveJob> {
        self.jobs
            .range((Bound::Excluded(after), Bound::Unbounded))
            .filter_map(|(_, job)| match &job.standing {
                Standing::Live(live) => Some(live.describe(&job.record)),
                Standing::Ended { .. } => None,
            })
            .take(limit)
            .collect()
    }

    /// Applies a batch of the life `epoch`, whole or not at all.
    pub(super) fn apply(&mut self, epoch: u64, batch: Batch) -> Result<Stored, StoreError> {
        if epoch != self.epoch {
            return Err(StoreError::Refused(
                "the store was opened again by another server",
            ));
        }
        if batch.number != self.last_batch + 1 {
            return Err(StoreError::out_of_order(batch.number, self.last_batch));
        }
        self.check(&batch.changes)?;
        let mut inserts = Vec::new();
        for change in batch.changes {
            match change {
                Change::Insert { record, due } => inserts.push(self.insert(record, due)),
                Change::Find { record } => {
                    inserts.push(self.find(&record).unwrap_or(InsertOutcome::NoRoom));
                }
                Change::Ended(ended) => self.end(ended),
                Change::SessionOpened(session) => {
                    self.sessions.insert(session.id, session);
                }
                Change::SessionClosed { id } => {
                    self.sessions.remove(&id);
                }
                change => self.alter(change),
            }
        }
        self.last_batch = batch.number;
        self.next_id = batch.next_id;
        self.clock = batch.clock;
        Ok(Stored {
            number: batch.number,
            inserts,
        })
    }

    /// Whether each change finds its job live, and each new id is free, so that applying them cannot stop half way.
    fn check(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut uuids = BTreeSet::new();
        let mut inserted = BTreeSet::new();
        let mut ended = BTreeSet::new();
        for change in changes {
            let id = match change {
                Change::Insert { record, .. } => {
                    let new = !self.uuids.contains_key(&record.uuid) && uuids.insert(record.uuid);
                    if new && (self.jobs.contains_key(&record.id) || !inserted.insert(record.id)) {
                        return Err(StoreError::taken(record.id));
                    }
                    continue;
                }
                Change::Find { .. } | Change::SessionOpened(_) | Change::SessionClosed { .. } => continue,
                Change::Leased(leased) => leased.id,
                Change::Requeued(requeued) => requeued.id,
                Change::CancelMarked { id } => *id,
                Change::Ended(ended) => ended.id,
            };
            let was_live = self
                .jobs
                .get(&id)
                .is_some_and(|job| matches!(job.standing, Standing::Live(_)));
            let live = (was_live || inserted.contains(&id)) && !ended.contains(&id);
            if !live {
                return Err(StoreError::not_live(id));
            }
            if matches!(change, Change::Ended(_)) {
                ended.insert(id);
            }
        }
        Ok(())
    }

    fn insert(&mut self, record: Arc<JobRecord>, due: Wall) -> InsertOutcome {
        if let Some(known) = self.find(&record) {
            return known;
        }
        if self.full {
            return InsertOutcome::NoRoom;
        }
        self.totals(&record.name);
        self.uuids.insert(record.uuid, record.id);
        let job = Job {
            record: Arc::clone(&record),
            standing: Standing::Live(Live {
                due,
                attempts: 0,
                charges: 0,
                cancelling: false,
                floor: None,
                lease: None,
            }),
            runs: BTreeMap::new(),
        };
        self.jobs.insert(record.id, job);
        InsertOutcome::Inserted
    }

    /// The job that has the uuid of this one.
    fn find(&self, record: &JobRecord) -> Option<InsertOutcome> {
        let known = &self.jobs.get(self.uuids.get(&record.uuid)?)?.record;
        Some(if known.name == record.name && known.params == record.params {
            InsertOutcome::Existing(known.id)
        } else {
            InsertOutcome::Conflict(known.id)
        })
    }

    pub(super) fn totals(&mut self, name: &Arc<JobName>) -> &mut NameTotals {
        self.names
            .entry(Arc::clone(name))
            .or_insert_with(|| NameTotals::none(Arc::clone(name)))
    }

    /// A change of a job that stays live.
    fn alter(&mut self, change: Change) {
        match change {
            Change::Leased(leased) => {
                if let Some((record, live, _)) = self.live_job(leased.id) {
                    live.lease = Some(Lease {
                        fence: leased.fence,
                        session: leased.session,
                        started: leased.started,
                        at: leased.at,
                        policy: record.policy,
                    });
                }
            }
            Change::Requeued(requeued) => {
                if let Some((_, live, runs)) = self.live_job(requeued.id) {
                    live.due = requeued.due;
                    live.attempts = requeued.attempts;
                    live.charges = requeued.charges;
                    live.floor = Some((requeued.fence, requeued.end));
                    live.lease = None;
                    if requeued.end.is_history() {
                        let Requeued { end, at, reason, .. } = requeued;
                        runs.insert(requeued.fence, PastRun { end, at, reason });
                    }
                }
            }
            Change::CancelMarked { id } => {
                if let Some((_, live, _)) = self.live_job(id) {
                    live.cancelling = true;
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, ended: Ended) {
        *self.totals(&ended.name).of_mut(ended.status) += 1;
        let Some(job) = self.jobs.get_mut(&ended.id) else {
            return;
        };
        let Standing::Live(live) = &job.standing else {
            return;
        };
        self.records.insert(ended.id, ended.status, ended.at);
        if let Some((fence, end)) = ended.run
            && end.is_history()
        {
            let (at, reason) = (ended.at, ended.reason.clone());
            job.runs.insert(fence, PastRun { end, at, reason });
        }
        job.standing = Standing::Ended { due: live.due, ended };
    }

    /// A job that [`Contents::check`] found live.
    fn live_job(&mut self, id: JobId) -> Option<(&JobRecord, &mut Live, &mut History)> {
        let job = self.jobs.get_mut(&id)?;
        match &mut job.standing {
            Standing::Live(live) => Some((&*job.record, live, &mut job.runs)),
            Standing::Ended { .. } => None,
        }
    }
}

impl Live {
    pub(super) fn describe(&self, record: &JobRecord) -> LiveJob {
        LiveJob {
            id: record.id,
            name: Arc::clone(&record.name),
            priority: record.priority,
            created: record.created,
            due: self.due,
            params_bytes: record.params.len() as u64,
            attempts: self.attempts,
            charges: self.charges,
            cancelling: self.cancelling,
            lease: self.lease,
        }
    }
}
