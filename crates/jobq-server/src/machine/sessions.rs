//! Workers and clients, through their connections and between them.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use jobq_proto::limits::MAX_HELD;
use jobq_proto::message::JobProgress;
use jobq_proto::{Fence, JobId};
use jobq_transport::PeerId;

use super::Map;
use super::config::Config;
use super::lane::{Head, LaneKey};
use super::leases::Lease;
use super::names::NameKey;
use super::paged_map::{JobMap, PagedMap};
use super::settle::End;
use super::silence::Silence;
use crate::store::{JobRecord, SessionId};
use crate::time::Mono;

/// Most sessions that are looked at for an urgent job while they keep themselves free for others. Beyond that it waits
/// until one of them has room for what it waits for, as a rule the next time a run ends.
const MAX_LOOKS: usize = 64;

/// All sessions.
#[derive(Default)]
pub(super) struct Sessions {
    sessions: Map<SessionId, Session>,
    last: u64,
    /// Sessions that could take one more job, whichever it is. While there is none, nothing is handed out, and no
    /// line is looked at.
    free: BTreeSet<SessionId>,
    /// Sessions whose [`WorkState::keeps_free_for`] is set, by the lane of that job …
    keeping_free: BTreeSet<(LaneKey, SessionId)>,
    /// … and by the job.
    kept_free_for: BTreeSet<(Head, SessionId)>,
}

/// One session.
pub(super) struct Session {
    pub(super) label: String,
    /// SHA-256 of its secret and of whose it is, as [`super::access::Grant::hash_secret`] makes it.
    pub(super) secret_hash: [u8; 32],
    /// Its connection; none while a worker's has closed and it may come back.
    pub(super) peer: Option<PeerId>,
    /// Since when it is silent, and until when it may be.
    pub(super) silence: Silence,
    /// When its runs are given up, if its connection has closed.
    pub(super) grace: Option<Mono>,
    /// Whether that was since its rights had ended: no job is charged for it.
    pub(super) revoked: bool,
    /// What it works on; none for a client.
    pub(super) work: Option<WorkState>,
    /// What it holds.
    pub(super) held: Held,
    /// Whether it stands in [`Sessions::free`].
    is_listed: bool,
    /// Runs that it has reported and that have not been answered. It holds them too, until they are.
    unsettled: usize,
    /// Its leases whose orders are still to be sent, in order, with the records that are here: an order waits for
    /// those before it, so that the most urgent job is the first to arrive.
    pub(super) unsent: Map<Fence, (JobId, Option<Arc<JobRecord>>)>,
}

/// What a worker's session works on.
pub(super) struct WorkState {
    /// For each of its names, how many jobs it wants to hold.
    pub(super) credits: PagedMap<NameKey, usize>,
    /// How many jobs it wants to hold, over all names.
    pub(super) jobs: usize,
    /// How many of these, of each name and over all, are beyond what it runs at a time.
    pub(super) prefetch: usize,
    /// How many bytes of params it wants to hold.
    pub(super) bytes: u64,
    /// Records of the session that are on their way to the store; it gets no job before they are there.
    pub(super) recording: u32,
    /// Whether the worker has said, on this connection, what it still has.
    pub(super) holding: HoldingState,
    /// Runs that the store is being asked about, with what the worker has said of them meanwhile.
    pub(super) checking: Map<(JobId, Fence), Meanwhile>,
    /// The job that comes next for it and does not fit yet: it has more bytes than the credit leaves, or has to run at
    /// once. The session gets no other job before that one, or small jobs would keep a large
    /// one waiting for ever, and prefetched ones one that cannot be; except for one that is more urgent and fits.
    pub(super) keeps_free_for: Option<Head>,
    /// Lanes that had jobs for it when it could not take them.
    pub(super) parked: BTreeSet<LaneKey>,
}

/// What a worker says of a run before it is known whether the run goes on.
#[derive(Default)]
pub(super) struct Meanwhile {
    pub(super) started: bool,
    pub(super) progress: Option<JobProgress>,
    /// Its report; a repeated one has the same answer.
    pub(super) end: Option<End>,
}

/// How far a connection of a worker is with saying what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HoldingState {
    /// It has not said.
    Awaited,
    /// It has, and the store is being asked about what the machine does not know.
    Checking,
    /// It is known what it has.
    Known,
}

/// The leases of a session, as sums that its credits are compared with. They come and go by [`super::leases::Leases`] only.
#[derive(Default)]
pub(super) struct Held {
    jobs: JobMap<()>,
    by_name: PagedMap<NameKey, usize>,
    bytes: u64,
    suspects: usize,
    /// How many of them the worker knows of.
    ordered: usize,
}

impl Held {
    pub(super) fn insert(&mut self, id: JobId, lease: &Lease) {
        self.jobs.insert(id, ());
        *self.by_name.get_or_default(lease.name) += 1;
        self.bytes += u64::from(lease.bytes);
        self.suspects += usize::from(lease.is_suspect());
        self.ordered += usize::from(lease.is_ordered());
    }

    /// The worker is told of one. Whether it knows of no other.
    pub(super) fn order(&mut self) -> bool {
        self.ordered += 1;
        self.ordered == 1
    }

    pub(super) fn remove(&mut self, id: JobId, lease: &Lease) {
        self.jobs.remove(id);
        if let Some(count) = self.by_name.get_mut(lease.name) {
            *count -= 1;
            if *count == 0 {
                self.by_name.remove(lease.name);
            }
        }
        self.bytes -= u64::from(lease.bytes);
        self.suspects -= usize::from(lease.is_suspect());
        self.ordered -= usize::from(lease.is_ordered());
    }

    /// How many of them the worker knows of.
    pub(super) fn ordered(&self) -> usize {
        self.ordered
    }

    /// Whether fewer of them than that are of a name.
    fn fewer_of_than(&self, name: NameKey, limit: usize) -> bool {
        // As a rule there are fewer even of all names together.
        self.jobs.len() < limit || self.by_name.get(name).copied().unwrap_or(0) < limit
    }

    /// How many of them a worker may run at a time: of each name no more than its credit leaves beside what is
    /// prefetched. The others wait for one of their own name, and keep no other job waiting.
    fn at_most_running(&self, work: &WorkState) -> usize {
        let of_name = |(name, held): (NameKey, &usize)| {
            // What it wants no more of, it runs still.
            let credit = work.credits.get(name).copied().filter(|credit| *credit > 0);
            credit.map_or(*held, |credit| (*held).min(credit.saturating_sub(work.prefetch)))
        };
        self.by_name.iter().map(of_name).sum()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = NameKey> {
        self.by_name.keys()
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys()
    }
}

impl Session {
    /// A session with a connection, or with none as after a start, that holds nothing yet.
    pub(super) fn new(
        label: String,
        secret_hash: [u8; 32],
        peer: Option<PeerId>,
        silence: Silence,
        work: Option<WorkState>,
    ) -> Self {
        Self {
            label,
            secret_hash,
            peer,
            silence,
            grace: None,
            revoked: false,
            work,
            held: Held::default(),
            is_listed: false,
            unsettled: 0,
            unsent: Map::new(),
        }
    }

    pub(super) fn is_worker(&self) -> bool {
        self.work.is_some()
    }

    /// Whether it could take one more job, whichever it is.
    fn is_free(&self) -> bool {
        self.has_place()
            && self
                .work
                .as_ref()
                .is_some_and(|work| work.keeps_free_for.is_none())
    }

    /// The same, if it kept itself free for no job.
    fn has_place(&self) -> bool {
        let Some(work) = &self.work else { return false };
        self.peer.is_some()
            && work.recording == 0
            && work.holding == HoldingState::Known
            && self.held.jobs.len() < work.jobs
            && self.held.jobs.len() + self.unsettled < MAX_HELD
            && (self.held.bytes < work.bytes || self.held.jobs.is_empty())
    }

    /// Whether it can take a job of this lane, once there is room for it, and if it keeps itself free for no other.
    fn may_take(&self, lane: LaneKey, capped: bool) -> bool {
        let Some(work) = &self.work else { return false };
        let spare = if capped { work.prefetch } else { 0 };
        self.has_place()
            && work
                .credits
                .get(lane.name)
                .is_some_and(|credit| self.held.fewer_of_than(lane.name, credit.saturating_sub(spare)))
            && !(lane.suspects && self.held.suspects > 0)
    }

    /// Whether its credit leaves so many bytes, and it can run the job at once if that has to be. A job of a name with
    /// a cap has to: while it waited at one worker, another would do without.
    fn has_room(&self, bytes: u32, capped: bool) -> bool {
        let Some(work) = &self.work else { return false };
        let fits = self.held.bytes + u64::from(bytes) <= work.bytes;
        let runs = !capped || self.held.at_most_running(work) + work.prefetch < work.jobs;
        (fits && runs) || self.held.jobs.is_empty()
    }
}

impl Sessions {
    /// No session, and numbers that no earlier epoch has used: the epoch's in the upper half.
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            last: epoch << 32,
            ..Self::default()
        }
    }

    pub(super) fn next_id(&mut self) -> SessionId {
        self.last += 1;
        SessionId(self.last)
    }

    pub(super) fn insert(&mut self, id: SessionId, session: Session) {
        self.sessions.insert(id, session);
        self.update(id);
    }

    pub(super) fn find(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    /// Whether it has been silent or away for too long.
    pub(super) fn is_due(&self, id: SessionId, now: Mono, config: &Config) -> bool {
        let session = self.sessions.get(&id);
        session.is_some_and(|session| session.due(config) <= now)
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<Session> {
        self.keep_free_no_more(id);
        self.free.remove(&id);
        self.sessions.remove(&id)
    }

    /// Notes whether a session is free, after something about it has changed.
    pub(super) fn update(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let is_free = session.is_free();
        if std::mem::replace(&mut session.is_listed, is_free) == is_free {
            return;
        }
        if is_free {
            self.free.insert(id);
        } else {
            self.free.remove(&id);
        }
    }

    /// A session has reported runs, and holds them until they are answered.
    pub(super) fn reported(&mut self, id: SessionId, runs: usize) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.unsettled += runs;
        }
    }

    /// A reported run is answered. Whether that makes room where there was none.
    pub(super) fn answered(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let was_full = session.held.jobs.len() + session.unsettled >= MAX_HELD;
        session.unsettled = session.unsettled.saturating_sub(1);
        was_full
    }

    /// Whether any session could take one more job.
    pub(super) fn any_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether a session takes this job. If there is just no room for it yet, it takes no other until it
    /// is woken.
    pub(super) fn takes(&mut self, id: SessionId, head: Head, capped: bool) -> bool {
        let found = self.sessions.get_mut(&id);
        let Some(session) = found.filter(|s| s.is_free() && s.may_take(head.lane, capped)) else {
            return false;
        };
        let takes = session.has_room(head.bytes, capped);
        if let Some(work) = session.work.as_mut().filter(|_| !takes) {
            work.keeps_free_for = Some(head);
            self.keeping_free.insert((head.lane, id));
            self.kept_free_for.insert((head, id));
            self.update(id);
        }
        takes
    }

    /// Whether any session keeps itself free for a job.
    pub(super) fn any_keeping_free(&self) -> bool {
        !self.kept_free_for.is_empty()
    }

    /// A session that keeps itself free for a less urgent job than this one, and has room for this one.
    pub(super) fn kept_from(&self, head: Head, capped: bool) -> Option<SessionId> {
        let less_urgent = (Bound::Excluded((head, SessionId(u64::MAX))), Bound::Unbounded);
        let fits = |id: &SessionId| {
            let session = self.sessions.get(id);
            session.is_some_and(|s| s.may_take(head.lane, capped) && s.has_room(head.bytes, capped))
        };
        self.kept_free_for
            .range(less_urgent)
            .rev()
            .map(|(_, id)| *id)
            .take(MAX_LOOKS)
            .find(fits)
    }

    /// Sessions that keep themselves free for a job of a lane.
    pub(super) fn keeping_free_for(&self, lane: LaneKey) -> Vec<SessionId> {
        let all = (lane, SessionId(0))..=(lane, SessionId(u64::MAX));
        self.keeping_free.range(all).map(|(_, id)| *id).collect()
    }

    /// A session keeps itself free for no job any more.
    pub(super) fn keep_free_no_more(&mut self, id: SessionId) {
        let work = self.sessions.get_mut(&id).and_then(|s| s.work.as_mut());
        if let Some(head) = work.and_then(|work| work.keeps_free_for.take()) {
            self.keeping_free.remove(&(head.lane, id));
            self.kept_free_for.remove(&(head, id));
        }
        self.update(id);
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn workers(&self) -> usize {
        self.sessions.values().filter(|s| s.is_worker()).count()
    }

    /// How many work on a name that is one of these.
    pub(super) fn workers_on(&self, is_one: impl Fn(NameKey) -> bool) -> usize {
        let works = |session: &&Session| {
            let names = session.work.iter().flat_map(|work| work.credits.keys());
            names.into_iter().any(&is_one)
        };
        self.sessions.values().filter(works).count()
    }

    pub(super) fn ids(&self) -> Vec<SessionId> {
        self.sessions.keys().copied().collect()
    }
}
