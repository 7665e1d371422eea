//! Handing jobs out.

use std::sync::Arc;

use jobq_proto::job::micros;
use jobq_proto::message::OrderedJob;
use jobq_proto::{Fence, JobId, Priority};

use super::Machine;
use super::lane::{Head, LaneKey};
use super::leases::{Lease, Phase};
use super::line::Waiting;
use super::lines::Next;
use super::names::NameKey;
use super::reads::Purpose;
use super::scheduled::Until;
use super::timers::Timer;
use crate::store::{JobRecord, Policy, Read, SessionId};

/// How many jobs records are read ahead of in common, and as many over all lanes that jobs are taken from. At a million
/// jobs a second it is about as long as one question to the store takes.
const READ_AHEAD: usize = 2_000;

/// How many of the latter are in each lane at least: with fewer, there would be a look at each job.
const LEAST_AHEAD: usize = 16;

/// Jobs taken from a line between two looks at whether to read ahead, at most.
const LOOK_EVERY: usize = 64;

/// Jobs that nobody takes and that stand before others: so many are set aside at a time, which takes a fraction of a
/// millisecond. There may be millions, when the last worker of their name has gone.
const ASIDE_AT_A_TIME: usize = 4_096;

impl Machine {
    /// Hands out what can be handed out.
    pub(super) fn dispatch(&mut self) {
        self.open_freed();
        self.hand_out();
        while let Some(session) = self.next_overtaken() {
            self.wake(session);
            self.hand_out();
        }
    }

    /// The next job in line to the session whose turn it is, as long as there is one that can take it.
    fn hand_out(&mut self) {
        let mut aside = ASIDE_AT_A_TIME;
        while self.hands_out() && self.sessions.any_free() {
            let Some(next) = self.lines.next(&mut aside) else {
                if aside == 0 {
                    self.timers.set(self.now.mono, Timer::HandOut);
                }
                break;
            };
            let lane = next.head.lane;
            // Those in common are of names without a cap.
            let capped = !next.in_common && self.names.is_capped(lane.name);
            if capped && self.names.is_at_cap(lane.name) {
                self.close_lanes(lane.name);
                continue;
            }
            // A job that nobody can take at the moment is left by all, and is not next any more.
            if let Some(session) = self.choose(next.head, capped) {
                self.lease(&next, session);
            }
        }
    }

    /// Whether any job may be handed out now.
    fn hands_out(&self) -> bool {
        let cap = self.config.max_active.unwrap_or(usize::MAX);
        !self.closing && self.space.takes_jobs() && self.leases.len() < cap
    }

    /// A job has come that stands in common. A session that keeps itself free for a less urgent one, and has room for this
    /// one, is woken.
    fn came_to_common(&mut self, head: Head) {
        if self.sessions.any_keeping_free()
            && let Some(session) = self.sessions.kept_from(head, false)
        {
            self.wake(session);
        }
    }

    /// Jobs have come to a lane, or may be taken from it again. Sessions that keep themselves free for less urgent ones may
    /// have to be woken, one after the other as long as there is such a job.
    pub(super) fn came_to(&mut self, lane: LaneKey) {
        if self.sessions.any_keeping_free() {
            self.overtaking.insert(lane);
        }
    }

    /// A session that keeps itself free for a job, while one has come that is more urgent and fits. Once woken it takes
    /// that, or keeps itself free for one that is more urgent still.
    fn next_overtaken(&mut self) -> Option<SessionId> {
        while self.hands_out()
            && let Some(lane) = self.overtaking.first().copied()
        {
            let capped = self.names.is_capped(lane.name);
            let found = self
                .lines
                .head(lane)
                .filter(|_| !self.names.is_at_cap(lane.name))
                .and_then(|head| self.sessions.kept_from(head, capped));
            if found.is_some() {
                return found;
            }
            self.overtaking.remove(&lane);
        }
        None
    }

    /// A name is at its cap. Sessions that kept themselves free for one of its jobs look for the next one.
    fn close_lanes(&mut self, name: NameKey) {
        self.lines.close(name);
        for lane in LaneKey::both(name) {
            self.wake_those_free_for(lane);
        }
    }

    /// Names of which leases have ended may be below their caps again.
    fn open_freed(&mut self) {
        for name in self.leases.take_freed() {
            if !self.names.is_at_cap(name) {
                self.lines.open(name);
                LaneKey::both(name)
                    .into_iter()
                    .for_each(|lane| self.came_to(lane));
            }
        }
    }

    /// The session that gets the next job. Those that cannot take it leave its lane until they are woken.
    fn choose(&mut self, head: Head, capped: bool) -> Option<SessionId> {
        let lane = head.lane;
        while let Some(id) = self.lines.taker(lane) {
            if self.sessions.takes(id, head, capped) {
                self.lines.rotate(lane);
                return Some(id);
            }
            self.lines.remove_taker(lane, id);
            if let Some(work) = self.sessions.find(id).and_then(|s| s.work.as_mut()) {
                work.parked.insert(lane);
            }
        }
        None
    }

    fn lease(&mut self, next: &Next, session: SessionId) {
        self.read_ahead(next);
        let (priority, waiting) = self.lines.take(next).expect("the next job waits");
        let Waiting {
            due,
            id,
            name,
            bytes,
            attempts,
            charges,
        } = waiting;
        self.names.counts(name).queued -= 1;
        let fence = self.next_fence();
        let lease = Lease {
            fence,
            session,
            name,
            priority,
            due,
            bytes,
            attempts: attempts.into(),
            charges: charges.into(),
            at: self.now.wall,
            phase: Phase::Fetching,
            times_out: None,
            recorded: None,
            progress: None,
            cancelling: false,
            policy: Policy::default(),
        };
        self.leases.insert(id, lease, &mut self.sessions, &mut self.names);
        self.sessions.update(session);
        self.wake_those_free_for(next.head.lane);
        let record = self.payloads.take(id, bytes as usize);
        let session = self
            .sessions
            .find(session)
            .expect("a session takes while it lasts");
        match record {
            Some(record) if session.unsent.is_empty() => self.order(record),
            record => {
                session.unsent.insert(fence, (id, record));
            }
        }
    }

    /// Sends a leased job to its worker.
    fn order(&mut self, record: Arc<JobRecord>) {
        // Nobody else has it as a rule, and its texts and params go out as they are.
        let record = Arc::unwrap_or_clone(record);
        let default_attempts = self.config.max_attempts;
        let lease = self.leases.find(record.id).expect("an ordered job is leased");
        lease.phase = Phase::Ordered;
        lease.policy = record.policy;
        let order = OrderedJob {
            id: record.id.0,
            fence: lease.fence,
            attempt: lease.attempts + 1,
            max_attempts: record.policy.max_attempts.unwrap_or(default_attempts).get(),
            uuid: record.uuid,
            name: record.name.as_str().to_owned(),
            username: record.username.map(String::from),
            timeout: record.policy.timeout.map(micros),
            params: record.params,
        };
        let (session, fence) = (lease.session, lease.fence);
        self.timers.record_later(self.now.mono, record.id, fence);
        let holder = self.sessions.find(session);
        let holder = holder.expect("what was not sent is taken back when a session is gone");
        let peer = holder.peer;
        if holder.held.order() {
            self.begins_to_hold(session);
        }
        self.outbox.order(
            peer.expect("what was not sent is taken back when a connection is gone"),
            order,
        );
    }

    /// Records have come from the store: of jobs that are leased, and of jobs that soon will be.
    pub(super) fn payloads_read(&mut self, ids: &[JobId], records: Vec<Option<Arc<JobRecord>>>) {
        for (id, record) in ids.iter().zip(records) {
            let record = match record.map(|record| self.payloads.arrived_ahead(record)) {
                Some(Ok(())) => continue,
                Some(Err(record)) => Some(record),
                None => None,
            };
            let lease = self
                .leases
                .find(*id)
                .filter(|lease| lease.phase == Phase::Fetching);
            let fetching = lease.map(|lease| (lease.session, lease.fence));
            if fetching.is_none() && !self.payloads.knows(*id) {
                continue; // It has ended meanwhile, and its record may be gone.
            }
            let record = record.unwrap_or_else(|| panic!("job {id} waits, and the store does not know it"));
            let Some((session, fence)) = fetching else {
                self.payloads.arrived(record);
                continue;
            };
            self.payloads.forget(*id);
            if let Some(session) = self.sessions.find(session) {
                session.unsent.insert(fence, (*id, Some(record)));
            }
            self.send_orders(session);
        }
    }

    /// Sends a session the orders that wait for no record any more.
    fn send_orders(&mut self, session: SessionId) {
        while let Some(session) = self.sessions.find(session)
            && let Some(first) = session.unsent.first_entry()
            && first.get().1.is_some()
        {
            if let (_, Some(record)) = first.remove() {
                self.order(record);
            }
        }
    }

    /// A job is not to be sent after all. Its record stays here, if it is here.
    pub(super) fn forget_unsent(&mut self, session: SessionId, fence: Fence) {
        if let Some(session) = self.sessions.find(session)
            && let Some((_, Some(record))) = session.unsent.remove(&fence)
        {
            self.payloads.offer(&record);
        }
        self.send_orders(session);
    }

    /// Has the records of the jobs that are next in line, behind the one that is about to be taken, read before their turn
    /// comes.
    fn read_ahead(&mut self, next: &Next) {
        let ahead = if next.in_common {
            READ_AHEAD
        } else {
            (READ_AHEAD / self.lines.ready_lanes().max(1)).max(LEAST_AHEAD)
        };
        let every = LOOK_EVERY.min(ahead / 4);
        if !self.lines.is_look_due(next, every) {
            return;
        }
        let Some(line) = self.lines.line_of(next) else {
            return;
        };
        // Those that nobody takes will be set aside.
        let is_taken = |waiting: &Waiting| self.lines.taker(waiting.lane()).is_some();
        let is_seen_to = |waiting: &Waiting| self.payloads.knows(waiting.id) || !is_taken(waiting);
        let first_known = line.first().is_some_and(is_seen_to);
        if first_known && line.peek(ahead / 2).is_none_or(is_seen_to) {
            return;
        }
        // What the last look found there has moved up by as much as was taken since.
        let near = ahead / 2 - every;
        let from = if first_known && line.peek(near).is_some_and(is_seen_to) {
            near
        } else {
            0
        };
        for waiting in line.upcoming(from, ahead - from).filter(is_taken) {
            self.payloads.read_ahead(waiting.id, waiting.bytes as usize);
        }
    }

    /// Makes questions of the records that are wanted.
    pub(super) fn ask_for_payloads(&mut self) {
        for ids in self.payloads.take_wanted() {
            self.reads.ask(Read::Records(ids.clone()), Purpose::Orders(ids));
        }
    }

    /// Takes back what a session was to get and was not sent, without a trace: nobody has seen its fence.
    pub(super) fn return_unsent(&mut self, session: SessionId) {
        let Some(unsent) = self.sessions.find(session).map(|s| std::mem::take(&mut s.unsent)) else {
            return;
        };
        for (id, record) in unsent.into_values() {
            let lease = self
                .leases
                .remove(id, &mut self.sessions, &mut self.names)
                .expect("what is unsent is leased");
            if let Some(record) = record {
                self.payloads.offer(&record);
            }
            let waiting = lease.waiting(id);
            self.wait_in_line(lease.priority, waiting);
        }
        self.wake(session);
    }

    /// Takes back everything that was not sent, where nothing more is to be sent.
    pub(super) fn give_back_unsent(&mut self) {
        for session in self.sessions.ids() {
            self.return_unsent(session);
        }
    }

    /// A job begins to wait in line.
    pub(super) fn wait_in_line(&mut self, priority: Priority, waiting: Waiting) {
        self.names.counts(waiting.name).queued += 1;
        if waiting.is_suspect() || self.names.is_capped(waiting.name) {
            self.lines.push_apart(priority, waiting);
            self.came_to(waiting.lane());
        } else {
            self.lines.push(priority, waiting);
            self.came_to_common(Head::new((priority, waiting.due, waiting.id), &waiting));
        }
    }

    /// A job begins to wait for its time, if that has not come, or else in line.
    pub(super) fn wait_for_time(&mut self, priority: Priority, waiting: Waiting, until: Until) {
        if until.has_come(waiting.due, self.now) {
            self.wait_in_line(priority, waiting);
        } else {
            self.names.counts(waiting.name).scheduled += 1;
            self.scheduled.push(priority, waiting, until);
        }
    }
}
