//! The runs that workers have.

use std::collections::BTreeSet;

use jobq_proto::message::{JobProgress, RunRef};
use jobq_proto::{Fence, JobId, Priority};

use super::line::Waiting;
use super::names::{NameKey, Names};
use super::paged_map::JobMap;
use super::sessions::Sessions;
use crate::store::{Policy, SessionId};
use crate::time::{Mono, Wall};

/// A job handed to a worker, or about to be.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) fence: Fence,
    pub(super) session: SessionId,
    pub(super) name: NameKey,
    pub(super) priority: Priority,
    /// The job's place in line, which it keeps if the run is lost or released.
    pub(super) due: Wall,
    pub(super) bytes: u32,
    /// Attempts that ended before this one.
    pub(super) attempts: u32,
    /// Workers lost in a row before this run.
    pub(super) charges: u32,
    /// When it was handed out.
    pub(super) at: Wall,
    pub(super) phase: Phase,
    /// When the server takes the run away, if it has started and its time is limited.
    pub(super) times_out: Option<Mono>,
    /// Whether the store knows of the run, and whether it knows that it started.
    pub(super) recorded: Option<Started>,
    /// How far it has come, as its worker said last.
    pub(super) progress: Option<Box<JobProgress>>,
    /// Somebody asked for the run to be cancelled.
    pub(super) cancelling: bool,
    /// How often, how long, how soon again; known once the job's record has been read.
    pub(super) policy: Policy,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The job's record is being read; the worker knows nothing yet.
    Fetching,
    /// The worker has its order.
    Ordered,
    /// The worker's handler has been called.
    Started,
}

/// Whether a recorded run is recorded as started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Started(pub(super) bool);

impl Lease {
    pub(super) fn run(&self, id: JobId) -> RunRef {
        RunRef {
            id: id.0,
            fence: self.fence,
        }
    }

    /// The job as it waits again in its old place, uncharged.
    pub(super) fn waiting(&self, id: JobId) -> Waiting {
        let bytes = u64::from(self.bytes);
        Waiting::new(self.name, self.due, id, bytes, self.attempts, self.charges)
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.charges > 0
    }

    /// Whether its worker knows of it.
    pub(super) fn is_ordered(&self) -> bool {
        self.phase != Phase::Fetching
    }

    pub(super) fn has_started(&self) -> bool {
        self.phase == Phase::Started
    }
}

/// All leases. What a session holds, and how many jobs of a name are processing, follow from them: both change
/// here and nowhere else.
#[derive(Default)]
pub(super) struct Leases {
    leases: JobMap<Lease>,
    /// Names with a cap of which a lease has ended since they were looked at.
    freed: BTreeSet<NameKey>,
}

impl Leases {
    pub(super) fn insert(&mut self, id: JobId, lease: Lease, sessions: &mut Sessions, names: &mut Names) {
        names.counts(lease.name).processing += 1;
        if let Some(session) = sessions.find(lease.session) {
            session.held.insert(id, &lease);
        }
        let before = self.leases.insert(id, lease);
        assert!(before.is_none(), "job {id} has two leases");
    }

    pub(super) fn remove(&mut self, id: JobId, sessions: &mut Sessions, names: &mut Names) -> Option<Lease> {
        let lease = self.leases.remove(id)?;
        names.counts(lease.name).processing -= 1;
        if names.is_capped(lease.name) {
            self.freed.insert(lease.name);
        }
        if let Some(session) = sessions.find(lease.session) {
            session.held.remove(id, &lease);
        }
        Some(lease)
    }

    /// Names with a cap that may have room for a lease again.
    pub(super) fn take_freed(&mut self) -> BTreeSet<NameKey> {
        std::mem::take(&mut self.freed)
    }

    /// The runs of jobs before this one that workers know of, the newest job first.
    pub(super) fn ordered_before(&self, id: JobId) -> impl Iterator<Item = (JobId, &Lease)> {
        self.leases.before(id).filter(|(_, lease)| lease.is_ordered())
    }

    pub(super) fn find(&mut self, id: JobId) -> Option<&mut Lease> {
        self.leases.get_mut(id)
    }

    /// Whether a job has a lease of this fence.
    pub(super) fn has(&self, id: JobId, fence: Fence) -> bool {
        self.leases.get(id).is_some_and(|lease| lease.fence == fence)
    }

    /// The lease of exactly this run, if it is the job's current one and the session's own.
    pub(super) fn current(&mut self, run: RunRef, session: SessionId) -> Option<&mut Lease> {
        self.find(JobId(run.id))
            .filter(|lease| lease.fence == run.fence && lease.session == session)
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }
}
