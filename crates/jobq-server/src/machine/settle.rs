//! How runs end, and what becomes of their jobs.

use std::time::Duration;

use bytes::Bytes;
use jobq_proto::limits::MAX_REASON;
use jobq_proto::message::{Completed, Failed, Released, RunRef, SettleOutcome, SettledRun, Started};
use jobq_proto::{ErrorCode, JobId, NewJob, Status, WireError};
use jobq_transport::PeerId;
use rand_chacha::rand_core::Rng;

use super::Machine;
use super::lane::LaneKey;
use super::leases::{Lease, Phase};
use super::line::Waiting;
use super::names::NameKey;
use super::pending::{Effect, Ending};
use super::reads::Purpose;
use super::scheduled::Until;
use super::sessions::HoldingState;
use super::timers::Timer;
use crate::store::{Change, Ended, Read, Requeued, RunEnd, RunStatus, SessionId};

/// Workers lost in a row while they ran a job, after which it is a dead letter.
const MAX_CHARGES: u32 = 3;

/// By how much a wait after a failure differs from its curve, by chance: a tenth in both directions.
const JITTER_PERCENT: u64 = 10;

/// How a run ends.
pub(super) enum End {
    /// Its worker says that it went well.
    Completed { ran: Duration, result: Option<Bytes> },
    /// Its worker says that it did not.
    Failed {
        ran: Duration,
        reason: String,
        never: bool,
        after: Option<Duration>,
    },
    /// Its worker gives it back.
    Released,
    /// Its worker was lost, or does not know it any more. A crash is charged to runs that had started.
    Lost { charged: bool },
    /// Its time was over, and its worker did not end it.
    TimedOut { timeout: Duration },
}

impl End {
    fn kind(&self) -> RunEnd {
        match self {
            End::Completed { .. } => RunEnd::Completed,
            End::Failed { .. } => RunEnd::Failed,
            End::Released => RunEnd::Released,
            End::Lost { .. } => RunEnd::Lost,
            End::TimedOut { .. } => RunEnd::TimedOut,
        }
    }
}

/// What becomes of a job whose run has ended.
struct Verdict {
    next: Next,
    attempts: u32,
    charges: u32,
    reason: Option<String>,
    result: Option<Bytes>,
    ran: Option<Duration>,
}

enum Next {
    /// It has ended.
    End(Status),
    /// It waits in its old place.
    SamePlace,
    /// It waits for its next attempt.
    After(Duration),
}

impl Machine {
    /// Whether a connection may report on runs: it is a worker's, and has said what it has.
    pub(super) fn may_report(&mut self, peer: PeerId, session: SessionId) -> bool {
        let holding = self
            .sessions
            .find(session)
            .and_then(|s| s.work.as_ref())
            .map(|work| work.holding);
        let error = match holding {
            None => WireError::new(
                ErrorCode::NotAWorker,
                "only workers report on runs, and Hello named no work",
            ),
            Some(HoldingState::Awaited) => WireError::new(
                ErrorCode::HoldingExpected,
                "a worker says Holding before it reports on runs",
            ),
            Some(HoldingState::Checking | HoldingState::Known) => return true,
        };
        self.refuse_peer(peer, error);
        false
    }

    pub(super) fn runs_started(&mut self, peer: PeerId, session: SessionId, started: Started) {
        if !self.may_name(peer, started.runs.len()) {
            return;
        }
        for run in started.runs {
            match self.leases.current(run, session).map(|lease| lease.phase) {
                Some(Phase::Ordered) => self.mark_started(JobId(run.id)),
                Some(Phase::Fetching | Phase::Started) => {}
                None => {
                    if let Some(meanwhile) = self.checked_run(session, run) {
                        meanwhile.started = true;
                    }
                }
            }
        }
    }

    /// Whether a message may name so many runs. If not, its connection is closed.
    pub(super) fn may_name(&mut self, peer: PeerId, runs: usize) -> bool {
        let limit = self.config.limits.items;
        if runs as u64 <= limit {
            return true;
        }
        let message = format!("a message carries at most {limit} runs, not {runs}");
        self.refuse_peer(peer, WireError::new(ErrorCode::TooManyItems, message));
        false
    }

    /// A run's handler has been called: its time runs from now, and a crash is charged to it.
    pub(super) fn mark_started(&mut self, id: JobId) {
        let Some(lease) = self.leases.find(id) else { return };
        lease.phase = Phase::Started;
        if lease.recorded.is_some() {
            self.timers.record_later(self.now.mono, id, lease.fence);
        }
        if lease.policy.timeout.is_some() {
            self.limit_run(id);
        }
    }

    pub(super) fn runs_completed(&mut self, peer: PeerId, session: SessionId, completed: Completed) {
        let limit = self.config.limits.result;
        let reports = completed.runs.into_iter().map(|run| {
            let ran = Duration::from_micros(run.ran);
            let bytes = run.result.as_ref().map_or(0, Bytes::len) as u64;
            let end = if bytes > limit {
                // The worker should have seen to it. Kept as a failure, so that nothing is repeated for ever.
                let reason =
                    format!("result_too_large: the result has {bytes} bytes, and the limit is {limit}");
                End::Failed {
                    ran,
                    reason,
                    never: true,
                    after: None,
                }
            } else {
                End::Completed {
                    ran,
                    result: run.result,
                }
            };
            (
                RunRef {
                    id: run.id,
                    fence: run.fence,
                },
                end,
            )
        });
        self.settle(peer, session, reports.collect());
    }

    pub(super) fn runs_failed(&mut self, peer: PeerId, session: SessionId, failed: Failed) {
        let reports = failed.runs.into_iter().map(|run| {
            let end = End::Failed {
                ran: Duration::from_micros(run.ran),
                reason: cut_reason(run.reason),
                never: run.never,
                after: run
                    .after
                    .map(|after| Duration::from_micros(after).min(NewJob::MAX_DURATION)),
            };
            (
                RunRef {
                    id: run.id,
                    fence: run.fence,
                },
                end,
            )
        });
        self.settle(peer, session, reports.collect());
    }

    pub(super) fn runs_released(&mut self, peer: PeerId, session: SessionId, released: Released) {
        let reports = released.runs.into_iter().map(|run| (run, End::Released));
        self.settle(peer, session, reports.collect());
    }

    /// Takes reports in. Those on current runs end them; what the others were is for the store to say.
    pub(super) fn settle(&mut self, peer: PeerId, session: SessionId, reports: Vec<(RunRef, End)>) {
        if !self.may_name(peer, reports.len()) {
            return;
        }
        let mut settled = 0;
        let mut others = Vec::new();
        for (run, end) in reports {
            if self
                .leases
                .current(run, session)
                .is_some_and(|lease| lease.phase != Phase::Fetching)
            {
                settled += 1;
                self.end_lease(JobId(run.id), end);
                let run = SettledRun {
                    id: run.id,
                    fence: run.fence,
                    outcome: SettleOutcome::Applied,
                };
                self.pending.effect(Effect::Settled { session, run });
            } else if let Some(meanwhile) = self.checked_run(session, run) {
                meanwhile.end.get_or_insert(end);
            } else {
                others.push((run, end.kind()));
            }
        }
        self.totals.settled += settled as u64;
        self.sessions.reported(session, settled + others.len());
        if !others.is_empty() {
            let runs = others.iter().map(|(run, _)| (JobId(run.id), run.fence)).collect();
            let purpose = Purpose::Reports {
                session,
                reports: others,
            };
            self.read_after_durable(Read::Runs(runs), purpose);
        }
        self.wake(session);
    }

    /// Answers reports on runs that were not current.
    pub(super) fn answer_reports(
        &mut self,
        session: SessionId,
        reports: &[(RunRef, RunEnd)],
        statuses: &[RunStatus],
    ) {
        let peer = self.sessions.find(session).and_then(|session| session.peer);
        let may_touch_all = peer.is_none_or(|peer| self.may_touch_all(peer));
        for ((run, reported), status) in reports.iter().zip(statuses) {
            let outcome = match status {
                RunStatus::NoJob if may_touch_all => SettleOutcome::NotFound,
                // Whether there is such a job is not for everybody to know.
                RunStatus::NoJob => SettleOutcome::Stale,
                RunStatus::Ended(end) if end == reported => SettleOutcome::AlreadyApplied,
                RunStatus::Ended(_) | RunStatus::Unknown => SettleOutcome::Stale,
            };
            let run = SettledRun {
                id: run.id,
                fence: run.fence,
                outcome,
            };
            self.answer_report(session, run);
        }
    }

    /// Answers one report. Its run is the worker's no longer, which may make room for another.
    pub(super) fn answer_report(&mut self, session: SessionId, run: SettledRun) {
        self.tell_settled(session, run);
        if self.sessions.answered(session) {
            self.wake(session);
        }
    }

    pub(super) fn tell_settled(&mut self, session: SessionId, run: SettledRun) {
        if let Some(peer) = self.sessions.find(session).and_then(|s| s.peer) {
            self.outbox.settled(peer, run);
        }
    }

    /// Ends the current run of a job, and decides what becomes of the job. That is in the open batch afterwards,
    /// with its consequences.
    pub(super) fn end_run(&mut self, id: JobId, end: End) {
        let session = self.end_lease(id, end);
        self.wake(session);
    }

    /// The same, where the session whose run it was is woken later.
    fn end_lease(&mut self, id: JobId, end: End) -> SessionId {
        let lease = self
            .leases
            .remove(id, &mut self.sessions, &mut self.names)
            .expect("the run is current");
        if let Some(at) = lease.times_out {
            self.timers.unset(at, Timer::TimedOut(id, lease.fence));
        }
        let kind = end.kind();
        if kind == RunEnd::Lost {
            self.totals.lost += 1;
        }
        let verdict = self.judge(&lease, end);
        match verdict.next {
            Next::End(status) => self.end_job(id, &lease, kind, status, verdict),
            Next::SamePlace => {
                let waiting = requeued_as(id, &lease, lease.due, &verdict);
                self.requeue(id, &lease, kind, verdict, &waiting);
                self.pending.effect(Effect::WaitInLine {
                    priority: lease.priority,
                    waiting,
                });
            }
            Next::After(wait) => {
                let due = self.now.wall.plus(wait);
                let waiting = requeued_as(id, &lease, due, &verdict);
                self.requeue(id, &lease, kind, verdict, &waiting);
                self.pending.effect(Effect::WaitForTime {
                    priority: lease.priority,
                    waiting,
                    until: Until::Deadline(self.now.mono.plus(wait)),
                });
            }
        }
        lease.session
    }

    fn judge(&mut self, lease: &Lease, end: End) -> Verdict {
        let max_attempts = lease
            .policy
            .max_attempts
            .unwrap_or(self.config.max_attempts)
            .get();
        let tried = lease.attempts + 1;
        let last = tried >= max_attempts;
        let unchanged = Verdict {
            next: Next::SamePlace,
            attempts: lease.attempts,
            charges: 0,
            reason: None,
            result: None,
            ran: None,
        };
        let mut verdict = match end {
            End::Completed { ran, result } => Verdict {
                next: Next::End(Status::Completed),
                attempts: tried,
                result,
                ran: Some(ran),
                ..unchanged
            },
            End::Failed {
                ran,
                reason,
                never,
                after,
            } => {
                let next = if never || last {
                    Next::End(Status::Failed)
                } else {
                    Next::After(after.unwrap_or_else(|| self.backoff(lease, tried)))
                };
                Verdict {
                    next,
                    attempts: tried,
                    reason: Some(reason),
                    ran: Some(ran),
                    ..unchanged
                }
            }
            End::TimedOut { timeout } => {
                let reason =
                    format!("timed out: it ran for longer than {timeout:?}, and its worker did not end it");
                let next = if last {
                    Next::End(Status::Failed)
                } else {
                    Next::After(self.backoff(lease, tried))
                };
                Verdict {
                    next,
                    attempts: tried,
                    reason: Some(reason),
                    ran: Some(timeout),
                    ..unchanged
                }
            }
            End::Released => unchanged,
            End::Lost { charged: false } => Verdict {
                charges: lease.charges,
                ..unchanged
            },
            End::Lost { charged: true } => {
                let charges = lease.charges + 1;
                let next = if charges >= MAX_CHARGES || last {
                    Next::End(Status::Failed)
                } else {
                    Next::SamePlace
                };
                let reason = match charges {
                    1 => "its worker was lost while it ran".to_owned(),
                    n => format!("its workers were lost while they ran it, {n} in a row"),
                };
                Verdict {
                    next,
                    attempts: tried,
                    charges,
                    reason: Some(reason),
                    ..unchanged
                }
            }
        };
        if lease.cancelling && !matches!(verdict.next, Next::End(Status::Completed)) {
            verdict.next = Next::End(Status::Cancelled);
            verdict
                .reason
                .get_or_insert_with(|| "cancelled while it ran".to_owned());
        }
        verdict
    }

    fn end_job(&mut self, id: JobId, lease: &Lease, kind: RunEnd, status: Status, verdict: Verdict) {
        let Verdict {
            attempts,
            charges,
            reason,
            result,
            ran,
            ..
        } = verdict;
        let ended = Ended {
            id,
            name: self.names.name(lease.name).clone(),
            status,
            run: Some((lease.fence, kind)),
            started: Some(lease.at),
            ran,
            attempts,
            charges,
            reason,
            result,
            at: self.end_time(),
        };
        self.job_ended(lease.name, lease.bytes, ended);
    }

    /// A job that had not been handed out is cancelled.
    pub(super) fn cancel_waiting(&mut self, waiting: &Waiting) {
        let &Waiting { id, name, .. } = waiting;
        self.payloads.forget(id);
        for lane in LaneKey::both(name) {
            self.wake_those_free_for(lane);
        }
        let ended = Ended {
            id,
            name: self.names.name(name).clone(),
            status: Status::Cancelled,
            run: None,
            started: None,
            ran: None,
            attempts: waiting.attempts.into(),
            charges: waiting.charges.into(),
            reason: Some("cancelled while it waited".to_owned()),
            result: None,
            at: self.end_time(),
        };
        self.job_ended(name, waiting.bytes, ended);
    }

    fn job_ended(&mut self, name: NameKey, bytes: u32, ended: Ended) {
        self.count_ended(name, ended.status, ended.at);
        self.names.count_left(name, bytes);
        let told = self.watches.is_watched(ended.id).then(|| {
            Box::new(Ending {
                status: ended.status,
                reason: ended.reason.clone(),
                result: ended.result.clone(),
            })
        });
        let effect = Effect::JobEnded {
            id: ended.id,
            name,
            had_run: ended.run.is_some(),
            told,
        };
        self.pending.change(Change::Ended(ended));
        self.pending.effect(effect);
    }

    fn requeue(&mut self, id: JobId, lease: &Lease, end: RunEnd, verdict: Verdict, waiting: &Waiting) {
        let at = self.arrival();
        self.pending.change(Change::Requeued(Requeued {
            id,
            fence: lease.fence,
            end,
            due: waiting.due,
            attempts: verdict.attempts,
            charges: verdict.charges,
            reason: verdict.reason,
            at,
        }));
    }

    /// A number below `bound`, by chance.
    pub(super) fn chance(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// How long a job waits after its `attempt`-th attempt has failed: its backoff, 10 % up or down by chance.
    fn backoff(&mut self, lease: &Lease, attempt: u32) -> Duration {
        let wait = lease.policy.backoff.unwrap_or(self.config.backoff).wait(attempt);
        let percent = 100 - JITTER_PERCENT + self.chance(2 * JITTER_PERCENT + 1);
        wait.saturating_mul(u32::try_from(percent).expect("a percentage is small")) / 100
    }
}

fn requeued_as(id: JobId, lease: &Lease, due: crate::time::Wall, verdict: &Verdict) -> Waiting {
    let bytes = u64::from(lease.bytes);
    Waiting::new(lease.name, due, id, bytes, verdict.attempts, verdict.charges)
}

/// A reason within its limit, cut between characters.
fn cut_reason(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        let end = reason.floor_char_boundary(MAX_REASON);
        reason.truncate(end);
    }
    reason
}
