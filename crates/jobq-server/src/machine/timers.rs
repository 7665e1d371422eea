//! What is due when.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jobq_proto::{Fence, JobId};
use jobq_transport::PeerId;
use uuid::Uuid;

use super::Machine;
use super::leases::{Phase, Started};
use crate::store::{Change, Leased, SessionId};
use crate::time::Mono;

/// How long a run may be under way before it is recorded, at most twice over: runs that end sooner, as most do,
/// cost the store nothing.
const RECORD_AFTER: Duration = Duration::from_millis(100);

/// How often the calendar is looked at while a job is scheduled by it: the wall clock may have been set.
const WALL_CHECK: Duration = Duration::from_secs(60);

/// With so many names, workers that come or go are dealt with at a time: what takes a millisecond.
const NAMES_AT_A_TIME: usize = 1_000;

/// Something with a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A session may have been silent for too long, or away for too long.
    Session(SessionId),
    /// A run's worker should have ended it by now.
    TimedOut(JobId, Fence),
    /// A new worker of many names can be let in.
    Admission,
    /// More can be handed out, once what stands before it has been set aside.
    HandOut,
    /// A watch may be told again how far its jobs have come.
    Progress(PeerId, u64),
    /// A copy of the store may have been left by who asked for it.
    Backup(Uuid),
}

/// All timers.
#[derive(Default)]
pub(super) struct Timers {
    due: BTreeSet<(Mono, Timer)>,
    /// When Hellos are answered that have to wait. They are apart, since a refusal needs no room in the store.
    hellos: BTreeSet<(Mono, PeerId)>,
    /// Runs that are not recorded, or not as started, with the time from which on they should be; in order.
    unrecorded: VecDeque<(Mono, JobId, Fence)>,
    /// When the unrecorded are looked at next.
    record_at: Option<Mono>,
}

impl Timers {
    /// Sets a timer. One that fires looks whether it still means anything.
    pub(super) fn set(&mut self, at: Mono, timer: Timer) {
        self.due.insert((at, timer));
    }

    /// Forgets a timer. Runs end long before their time as a rule, and so many timers would be left behind.
    pub(super) fn unset(&mut self, at: Mono, timer: Timer) {
        self.due.remove(&(at, timer));
    }

    /// Has a Hello answered at a time.
    pub(super) fn answer_hello(&mut self, at: Mono, peer: PeerId) {
        self.hellos.insert((at, peer));
    }

    /// How many Hellos wait for their answer, those of peers included that are gone by now.
    pub(super) fn late_answers(&self) -> usize {
        self.hellos.len()
    }

    /// Has a run recorded, unless it ends first.
    pub(super) fn record_later(&mut self, now: Mono, id: JobId, fence: Fence) {
        let at = now.plus(RECORD_AFTER);
        self.unrecorded.push_back((at, id, fence));
        self.record_at.get_or_insert(at);
    }

    fn pop(&mut self, now: Mono) -> Option<Timer> {
        let (at, _) = self.due.first()?;
        (*at <= now)
            .then(|| self.due.pop_first().map(|(_, timer)| timer))
            .flatten()
    }
}

impl Machine {
    pub(super) fn next_timeout(&self) -> Option<Mono> {
        let scheduled = self.scheduled.next_due().map(|due| {
            let wait = due.since(self.now.wall).min(WALL_CHECK);
            self.now.mono.plus(wait)
        });
        let deadline = self.scheduled.next_deadline();
        let timers = self.timers.due.first().map(|(at, _)| *at);
        let hellos = self.timers.hellos.first().map(|(at, _)| *at);
        let others = [self.timers.record_at, self.next_prune(), self.access.next_check()];
        [scheduled, deadline, timers, hellos]
            .into_iter()
            .chain(others)
            .flatten()
            .min()
    }

    /// Whether something is due that takes runs from a worker, unless what the worker has said meanwhile is heard
    /// first.
    pub(super) fn is_loss_due(&self, now: Mono) -> bool {
        let due = self.timers.due.iter().take_while(|(at, _)| *at <= now);
        due.into_iter().any(|(_, timer)| match timer {
            Timer::Session(id) => self.sessions.is_due(*id, now, &self.config),
            Timer::TimedOut(id, fence) => self.leases.has(*id, *fence),
            Timer::Admission | Timer::HandOut | Timer::Progress(..) | Timer::Backup(_) => false,
        })
    }

    /// Does what is due; where many workers of many names come or go at one moment, only a part of it, so that the rest
    /// is still due.
    pub(super) fn fire_timers(&mut self) {
        let mut names = 0;
        while names < NAMES_AT_A_TIME
            && let Some(timer) = self.timers.pop(self.now.mono)
        {
            match timer {
                Timer::Session(id) => names += self.check_session(id),
                Timer::TimedOut(id, fence) => self.check_run_time(id, fence),
                Timer::Admission => names += self.let_in_next(),
                // That is done after everything that happens.
                Timer::HandOut => {}
                Timer::Backup(id) => self.check_backup(id),
                Timer::Progress(peer, request) => self.resume_telling(peer, request),
            }
        }
        self.answer_hellos(|_, _| true);
        if self.timers.record_at.is_some_and(|at| at <= self.now.mono) {
            self.record_starts(false);
        }
        if self.access.next_check().is_some_and(|at| at <= self.now.mono) {
            self.check_grants();
        }
        self.release_scheduled();
    }

    /// Answers the Hellos whose time has come, of the peers that are `wanted`.
    pub(super) fn answer_hellos(&mut self, wanted: impl Fn(&mut Self, PeerId) -> bool) {
        let due = self
            .timers
            .hellos
            .iter()
            .take_while(|(at, _)| *at <= self.now.mono);
        for (at, peer) in due.copied().collect::<Vec<_>>() {
            if wanted(self, peer) {
                self.timers.hellos.remove(&(at, peer));
                self.answer_hello(peer);
            }
        }
    }

    /// Hands jobs whose time has come to their lines.
    pub(super) fn release_scheduled(&mut self) {
        while let Some((priority, waiting)) = self.scheduled.pop(self.now) {
            self.names.counts(waiting.name).scheduled -= 1;
            self.wait_in_line_or_be_held_back(priority, waiting);
        }
    }

    /// Records the runs that have been under way for long enough, or all.
    pub(super) fn record_starts(&mut self, all: bool) {
        while let Some(&(at, id, fence)) = self.timers.unrecorded.front() {
            if at > self.now.mono && !all {
                break;
            }
            self.timers.unrecorded.pop_front();
            if self.leases.find(id).is_some_and(|lease| lease.fence == fence) {
                self.record_run(id);
            }
        }
        // The front may be due a moment from now; looking again a while later gathers what comes meanwhile.
        self.timers.record_at =
            (!self.timers.unrecorded.is_empty()).then(|| self.now.mono.plus(RECORD_AFTER));
    }

    /// Has the store know a run as it is, unless it does.
    pub(super) fn record_run(&mut self, id: JobId) {
        let Some(lease) = self.leases.find(id) else { return };
        let started = lease.has_started();
        if lease.phase == Phase::Fetching || lease.recorded == Some(Started(started)) {
            return;
        }
        lease.recorded = Some(Started(started));
        let leased = Leased {
            id,
            fence: lease.fence,
            session: lease.session,
            started,
            at: lease.at,
        };
        self.pending.change(Change::Leased(leased));
    }

    /// From now on the time of a run is limited, if its job says so.
    pub(super) fn limit_run(&mut self, id: JobId) {
        let Some(lease) = self.leases.find(id) else { return };
        let Some(timeout) = lease.policy.timeout else {
            return;
        };
        let at = self.now.mono.plus(timeout).plus(self.config.timeout_slack);
        lease.times_out = Some(at);
        self.timers.set(at, Timer::TimedOut(id, lease.fence));
    }

    /// A run whose time is over, and whose worker has not ended it, is taken away.
    fn check_run_time(&mut self, id: JobId, fence: Fence) {
        if let Some(lease) = self.leases.find(id).filter(|lease| lease.fence == fence) {
            let (session, timeout) = (lease.session, lease.policy.timeout.unwrap_or_default());
            let run = lease.run(id);
            self.end_run(id, super::settle::End::TimedOut { timeout });
            if let Some(peer) = self.sessions.find(session).and_then(|s| s.peer) {
                self.outbox.cancel(peer, run);
            }
        }
    }
}
