//! What was under way before the start, and what workers say they still have.
//!
//! A run that was ordered shortly before a crash may not be recorded. So at a start, jobs that a recorded session
//! may be running, those of its names, are held back until it has said what it has, or its time is over.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use jobq_proto::message::{
    HeldRun, Holding, Progress, RunProgress, RunRef, RunState, SettleOutcome, SettledRun, Started,
};
use jobq_proto::{ErrorCode, JobId, Priority, WireError};
use jobq_transport::PeerId;

use super::lane::LaneKey;
use super::leases::{self, Lease, Phase};
use super::line::Waiting;
use super::lines::HeldBack;
use super::names::NameKey;
use super::pending::Effect;
use super::reads::Purpose;
use super::scheduled::Until;
use super::sessions::{HoldingState, Meanwhile, Session, WorkState};
use super::settle::End;
use super::silence::Silence;
use super::{Machine, Map};
use crate::store::{self, JobState, LiveJob, Policy, Read, SessionId, SessionRecord};

/// Sessions that were there before the start and have not come back, and what is held back for them.
pub(super) struct Recovery {
    absent: Map<NameKey, BTreeSet<SessionId>>,
    held_back: Map<NameKey, HeldBack>,
    /// Jobs from this one on are new since the start, and nobody can have been running them.
    first_new: JobId,
}

impl Recovery {
    pub(super) fn new(first_new: JobId) -> Self {
        Self {
            absent: Map::new(),
            held_back: Map::new(),
            first_new,
        }
    }

    /// How many jobs are held back.
    pub(super) fn held_back(&self) -> usize {
        self.held_back.values().map(HeldBack::len).sum()
    }
}

/// Runs that a worker named and the machine does not know.
#[derive(Debug)]
pub(super) struct Naming {
    session: SessionId,
    peer: PeerId,
    runs: Vec<HeldRun>,
}

impl Machine {
    /// Sessions go on where they were: with their connection lost a moment ago.
    pub(super) fn recover_sessions(&mut self, sessions: &[SessionRecord]) {
        for record in sessions {
            let names: Vec<NameKey> = record
                .names
                .iter()
                .map(|name| self.names.intern_known(name))
                .collect();
            for name in &names {
                // One that is listed twice is one that it works on.
                if self.recovery.absent.entry(*name).or_default().insert(record.id) {
                    self.names.add_worker(*name);
                }
            }
            let work = WorkState {
                credits: names.into_iter().map(|name| (name, 0)).collect(),
                jobs: 0,
                prefetch: 0,
                bytes: 0,
                recording: 0,
                holding: HoldingState::Awaited,
                checking: Map::new(),
                keeps_free_for: None,
                parked: BTreeSet::new(),
            };
            let session = Session::new(
                record.label.clone(),
                record.secret_hash,
                None,
                Silence::until(self.now.mono.plus(record.ttl)),
                Some(work),
            );
            self.sessions.insert(record.id, session);
            self.hasten_session_check(record.id);
        }
    }

    /// Gives sessions that have no connection so much more time.
    pub(super) fn extend_absent(&mut self, by: Duration) {
        for id in self.sessions.ids() {
            if let Some(session) = self.sessions.find(id).filter(|s| s.peer.is_none()) {
                session.silence.extend(by);
            }
        }
    }

    /// Takes in live jobs that the store held at the start, in any order.
    pub fn load(&mut self, jobs: Vec<LiveJob>) {
        for job in jobs {
            let name = self.names.intern_known(&job.name);
            self.names.mark_stored(name);
            let bytes = u32::try_from(job.params_bytes).unwrap_or(u32::MAX);
            self.names.count_arrived(name, bytes);
            let Some(lease) = job.lease else {
                self.load_waiting(&job, name);
                continue;
            };
            let is_awaited = self.sessions.find(lease.session).is_some();
            let lease = recovered_lease(&job, lease, name);
            let started = lease.has_started();
            self.leases
                .insert(job.id, lease, &mut self.sessions, &mut self.names);
            if !is_awaited {
                // Nobody can come back with it.
                self.end_run(job.id, End::Lost { charged: false });
            } else if started {
                // How long it has run is not known; its time runs anew, so that it is never cut short.
                self.limit_run(job.id);
            }
        }
    }

    fn load_waiting(&mut self, job: &LiveJob, name: NameKey) {
        let waiting = Waiting::new(name, job.due, job.id, job.params_bytes, job.attempts, job.charges);
        if job.cancelling {
            // Its run ended in the crash of worker and server both; what was asked for is done now.
            self.cancel_waiting(&waiting);
        } else if job.due != job.created && job.due > self.now.wall {
            // Jobs without a time of their own are due when they arrived, by a clock that may be ahead of the calendar.
            self.names.counts(name).scheduled += 1;
            self.scheduled.push(job.priority, waiting, Until::Due);
        } else if self.recovery.absent.contains_key(&name) {
            self.hold_back(job.priority, waiting);
        } else {
            self.wait_in_line(job.priority, waiting);
        }
    }

    fn hold_back(&mut self, priority: Priority, waiting: Waiting) {
        self.names.counts(waiting.name).queued += 1;
        let held = self.recovery.held_back.entry(waiting.name).or_default();
        held.push(priority, waiting);
    }

    /// A job's time has come. By a calendar that was set back it may have come before, and a worker from before the
    /// start may be running the job.
    pub(super) fn wait_in_line_or_be_held_back(&mut self, priority: Priority, waiting: Waiting) {
        if waiting.id < self.recovery.first_new && self.is_awaited(waiting.name) {
            self.hold_back(priority, waiting);
        } else {
            self.wait_in_line(priority, waiting);
        }
    }

    /// What a worker still has. It is compared with what the machine thinks it has, and only then the session gets
    /// new orders.
    pub(super) fn holding(&mut self, peer: PeerId, id: SessionId, holding: Holding) {
        let Some(work) = self.sessions.find(id).and_then(|s| s.work.as_mut()) else {
            let error = WireError::new(
                ErrorCode::NotAWorker,
                "Holding is for workers, and Hello named no work",
            );
            return self.refuse_peer(peer, error);
        };
        if work.holding != HoldingState::Awaited {
            let error = WireError::bad_request("Holding comes once on a connection");
            return self.refuse_peer(peer, error);
        }
        if holding.runs.len() as u64 > self.config.limits.items {
            let error = WireError::new(
                ErrorCode::TooManyItems,
                format!("Holding names at most {} runs", self.config.limits.items),
            );
            return self.refuse_peer(peer, error);
        }
        work.holding = HoldingState::Checking;
        self.give_up_unnamed(id, &holding);
        let mut unknown = Vec::new();
        for held in holding.runs {
            self.compare(id, held, &mut unknown);
        }
        if unknown.is_empty() {
            return self.holding_known(id);
        }
        if let Some(work) = self.sessions.find(id).and_then(|s| s.work.as_mut()) {
            let runs = unknown.iter().map(|held| (JobId(held.id), held.fence));
            work.checking = runs.map(|run| (run, Meanwhile::default())).collect();
        }
        let ids = unknown.iter().map(|held| JobId(held.id)).collect();
        let purpose = Purpose::Adopt(Naming {
            session: id,
            peer,
            runs: unknown,
        });
        self.read_after_durable(Read::States { ids, result_bytes: 0 }, purpose);
    }

    /// Leases that the worker does not name: their orders never arrived, or it has forgotten them. The jobs wait
    /// again at once, uncharged.
    fn give_up_unnamed(&mut self, id: SessionId, holding: &Holding) {
        let named: BTreeSet<(u64, jobq_proto::Fence)> =
            holding.runs.iter().map(|h| (h.id, h.fence)).collect();
        let held: Vec<JobId> = self
            .sessions
            .find(id)
            .map(|s| s.held.jobs().collect())
            .unwrap_or_default();
        for job in held {
            let fence = self.leases.find(job).map(|lease| lease.fence);
            if fence.is_some_and(|fence| !named.contains(&(job.0, fence))) {
                self.end_run(job, End::Lost { charged: false });
            }
        }
    }

    /// One named run: it goes on, or is over, or the store has to be asked.
    fn compare(&mut self, id: SessionId, held: HeldRun, unknown: &mut Vec<HeldRun>) {
        let run = RunRef {
            id: held.id,
            fence: held.fence,
        };
        if let Some(lease) = self.leases.current(run, id) {
            let (started, cancelling) = (lease.has_started(), lease.cancelling);
            if !started && held.state != RunState::Waiting {
                self.mark_started(JobId(held.id));
            }
            if cancelling {
                self.tell_cancel(JobId(held.id), held.fence);
            }
        } else if held.fence.epoch < self.epoch && self.leases.find(JobId(held.id)).is_none() {
            unknown.push(held);
        } else if held.state != RunState::Ended {
            // Ended runs are left to their report, whose answer may be better than Stale.
            self.tell_stale(id, run);
        }
    }

    /// The store has said where the named jobs stand: runs that nobody has ended since go on, under the fence that
    /// they have.
    pub(super) fn adopt(&mut self, naming: Naming, states: Vec<Option<JobState>>) {
        let Naming { session, peer, runs } = naming;
        if self.sessions.find(session).is_none_or(|s| s.peer != Some(peer)) {
            return; // It has gone or come anew, and will say again what it has.
        }
        // Of two runs of a job the newer goes on: the older was over when that was handed out.
        let mut named: Vec<_> = runs.into_iter().zip(states).collect();
        named.sort_by_key(|(held, _)| Reverse(held.fence));
        for (held, state) in named {
            let run = RunRef {
                id: held.id,
                fence: held.fence,
            };
            if self.leases.current(run, session).is_some() {
                continue; // It was named twice.
            }
            let adopted = match state {
                Some(JobState::Live { job, policy, floor })
                    if floor.is_none_or(|floor| held.fence > floor) =>
                {
                    self.adopt_run(peer, session, held, &job, policy)
                }
                _ => false,
            };
            if !adopted && held.state != RunState::Ended {
                self.tell_stale(session, run);
            }
        }
        self.hear_meanwhile(peer, session);
        self.holding_known(session);
    }

    /// What the worker has said of a run that the store is being asked about.
    pub(super) fn checked_run(&mut self, session: SessionId, run: RunRef) -> Option<&mut Meanwhile> {
        let work = self.sessions.find(session)?.work.as_mut()?;
        work.checking.get_mut(&(JobId(run.id), run.fence))
    }

    /// What the worker has said while the store was asked counts as if it came now.
    fn hear_meanwhile(&mut self, peer: PeerId, session: SessionId) {
        let Some(work) = self.sessions.find(session).and_then(|s| s.work.as_mut()) else {
            return;
        };
        let mut started = Vec::new();
        let mut progressed = Vec::new();
        let mut reports = Vec::new();
        for ((JobId(id), fence), meanwhile) in std::mem::take(&mut work.checking) {
            let run = RunRef { id, fence };
            if meanwhile.started {
                started.push(run);
            }
            progressed.extend(meanwhile.progress.map(|progress| RunProgress {
                id,
                fence,
                part: progress.part,
                text: progress.text,
            }));
            reports.extend(meanwhile.end.map(|end| (run, end)));
        }
        self.runs_started(peer, session, Started { runs: started });
        self.runs_progressed(peer, session, Progress { runs: progressed });
        self.settle(peer, session, reports);
    }

    fn adopt_run(
        &mut self,
        peer: PeerId,
        session: SessionId,
        held: HeldRun,
        job: &LiveJob,
        policy: Policy,
    ) -> bool {
        let Some(name) = self.names.find(job.name.as_str()) else {
            return false;
        };
        if !self.may_touch(peer, name) {
            return false; // It has come back with fewer rights.
        }
        // Only a session that was there before the start can have runs from then: fences can be guessed.
        let awaited = self.recovery.absent.get(&name);
        if !awaited.is_some_and(|absent| absent.contains(&session)) || self.leases.find(job.id).is_some() {
            return false;
        }
        // Only a job that has not been handed out since the start can have a run that is not known.
        let Some(waiting) = self.take_from_before(name, job) else {
            return false;
        };
        let lease = Lease {
            fence: held.fence,
            session,
            name,
            priority: job.priority,
            due: job.due,
            bytes: waiting.bytes,
            attempts: job.attempts,
            charges: job.charges,
            at: self.now.wall,
            phase: Phase::Ordered,
            times_out: None,
            recorded: None,
            progress: None,
            cancelling: false,
            policy,
        };
        self.leases
            .insert(job.id, lease, &mut self.sessions, &mut self.names);
        if self
            .sessions
            .find(session)
            .is_some_and(|session| session.held.ordered() == 1)
        {
            self.begins_to_hold(session);
        }
        self.timers.record_later(self.now.mono, job.id, held.fence);
        if held.state != RunState::Waiting {
            self.mark_started(job.id);
        }
        true
    }

    /// Takes a job out of those that are held back since the start, or that wait for a time which has come before: the
    /// calendar was set back.
    fn take_from_before(&mut self, name: NameKey, job: &LiveJob) -> Option<Waiting> {
        let waiting = self.remove_held_back(name, job);
        if waiting.is_some() {
            self.names.counts(name).queued -= 1;
            return waiting;
        }
        if job.id >= self.recovery.first_new {
            return None;
        }
        let (_, waiting) = self.scheduled.remove(job.due, job.id)?;
        self.names.counts(name).scheduled -= 1;
        Some(waiting)
    }

    /// It is known what a session has: it may be given more, and its names are held back for it no longer.
    fn holding_known(&mut self, id: SessionId) {
        if let Some(work) = self.sessions.find(id).and_then(|s| s.work.as_mut()) {
            work.holding = HoldingState::Known;
        }
        self.wake(id);
        self.recovered_session_resolved(id);
    }

    /// A session that was there before the start has come back, or never will.
    pub(super) fn recovered_session_resolved(&mut self, id: SessionId) {
        let mut free = Vec::new();
        for (name, absent) in &mut self.recovery.absent {
            if absent.remove(&id) && absent.is_empty() {
                free.push(*name);
            }
        }
        for name in free {
            self.recovery.absent.remove(&name);
            self.forget_name(name);
            if let Some(held) = self.recovery.held_back.remove(&name) {
                self.lines.release(name, held);
                LaneKey::both(name)
                    .into_iter()
                    .for_each(|lane| self.came_to(lane));
            }
        }
    }

    /// Whether a session from before the start may have runs of a name that it has not told of.
    pub(super) fn is_awaited(&self, name: NameKey) -> bool {
        self.recovery.absent.contains_key(&name)
    }

    /// Takes a job out of what is held back.
    pub(super) fn remove_held_back(&mut self, name: NameKey, job: &LiveJob) -> Option<Waiting> {
        self.recovery
            .held_back
            .get_mut(&name)?
            .remove(job.priority, job.due, job.id)
    }

    /// Tells a worker that a run it named is over, once that is on disk: it forgets the run, which would be brought
    /// back by a crash that loses its end.
    fn tell_stale(&mut self, session: SessionId, run: RunRef) {
        let run = SettledRun {
            id: run.id,
            fence: run.fence,
            outcome: SettleOutcome::Stale,
        };
        self.after_durable(Effect::TellSettled { session, run });
    }
}

fn recovered_lease(job: &LiveJob, lease: store::Lease, name: NameKey) -> Lease {
    Lease {
        fence: lease.fence,
        session: lease.session,
        name,
        priority: job.priority,
        due: job.due,
        bytes: u32::try_from(job.params_bytes).unwrap_or(u32::MAX),
        attempts: job.attempts,
        charges: job.charges,
        at: lease.at,
        phase: if lease.started {
            Phase::Started
        } else {
            Phase::Ordered
        },
        times_out: None,
        recorded: Some(leases::Started(lease.started)),
        progress: None,
        cancelling: job.cancelling,
        policy: lease.policy,
    }
}
