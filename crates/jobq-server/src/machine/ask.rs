//! Cancelling jobs, submitting ended ones again, and how many there are.

use std::sync::Arc;

use jobq_proto::message::{
    CancelJobs, CancelOutcome, CancelResult, Cancelled, Receipt, Retried, RetryJobs, Stats, StatsQuery,
};
use jobq_proto::{ClientMessage, ErrorCode, JobId, NewJob, StartAt, WireError};
use jobq_transport::PeerId;
use uuid::Uuid;

use super::Machine;
use super::leases::Phase;
use super::line::Waiting;
use super::names::NameKey;
use super::peers::Weight;
use super::pending::{Effect, NewWaiting};
use super::reads::Purpose;
use crate::store::{Change, InsertOutcome, JobRecord, JobState, LiveJob, Read};

/// Ended jobs that are read at a time to be submitted again; each may have params of the greatest length.
const RETRY_JOBS: usize = 16;

/// How often a job is looked for that is always on its way from one place to another.
const MAX_LOOKS: u32 = 100;

/// A Cancel on its way.
#[derive(Debug)]
pub(super) struct Cancelling {
    peer: PeerId,
    request: u64,
    results: Vec<CancelResult>,
    /// Places in `results` that are not decided yet.
    open: Vec<usize>,
    looks: u32,
}

/// A Retry on its way.
#[derive(Debug)]
pub(super) struct Retrying {
    peer: PeerId,
    request: u64,
    ids: Vec<JobId>,
    /// Those of the first ids; the rest are still to be done.
    receipts: Vec<Receipt>,
    /// What is known of the next ids: the answer, or that the job can be submitted again.
    next: Vec<Option<Receipt>>,
}

/// Some of a Retry's jobs are in a batch.
#[derive(Debug)]
pub(super) struct RetryStep {
    retrying: Retrying,
    jobs: Vec<Result<NewWaiting, Receipt>>,
}

impl Cancelling {
    /// Who asked.
    pub(super) fn peer(&self) -> PeerId {
        self.peer
    }
}

impl Retrying {
    /// Who asked.
    pub(super) fn peer(&self) -> PeerId {
        self.peer
    }
}

impl Machine {
    pub(super) fn stats(&mut self, peer: PeerId, query: StatsQuery) {
        if let Err(error) = self.check_number(peer, query.request) {
            return self.refuse(peer, query.request, error);
        }
        let only = self.names_of(peer);
        let listed = self.names.stats(Stats::MAX_NAMES, self.pending.leaving(), &only);
        let (names, truncated, total) = listed;
        if !only.are_all() {
            // What is counted over all names says how much there is of those that it may not touch.
            let workers = self
                .sessions
                .workers_on(|name| only.match_name(self.names.name(name).as_str()));
            let stats = Stats {
                request: query.request,
                uptime: jobq_proto::job::micros(self.now.mono.since(self.started)),
                workers: workers as u64,
                storage_full: !self.space.takes_jobs(),
                names,
                truncated,
                total,
                ..Stats::default()
            };
            return self.outbox.send(peer, ClientMessage::Stats(Box::new(stats)));
        }
        let stats = Stats {
            request: query.request,
            uptime: jobq_proto::job::micros(self.now.mono.since(self.started)),
            workers: self.sessions.workers() as u64,
            peers: self.peers.len() as u64,
            max_active: self.config.max_active.map(|max| max as u64),
            submitted: self.totals.submitted,
            settled: self.totals.settled,
            lost: self.totals.lost,
            storage_full: !self.space.takes_jobs(),
            names,
            truncated,
            total,
        };
        self.outbox.send(peer, ClientMessage::Stats(Box::new(stats)));
    }

    /// Cancels jobs: those that a worker has at once, the others once it is known where they stand.
    pub(super) fn cancel(&mut self, peer: PeerId, cancel: CancelJobs) {
        let CancelJobs { request, ids } = cancel;
        if let Err(error) = self.begin_ids(peer, request, &ids) {
            return self.refuse(peer, request, error);
        }
        let results = ids
            .iter()
            .map(|id| CancelResult {
                id: *id,
                outcome: CancelOutcome::NotFound,
            })
            .collect();
        let open = (0..ids.len()).collect();
        self.cancel_next(Cancelling {
            peer,
            request,
            results,
            open,
            looks: 0,
        });
    }

    fn cancel_next(&mut self, mut cancelling: Cancelling) {
        // Whoever may not touch all names is told nothing before it is known what the jobs are.
        let may_touch_all = self.may_touch_all(cancelling.peer);
        let Cancelling { results, open, .. } = &mut cancelling;
        open.retain(|place| {
            let result = &mut results[*place];
            let marked = may_touch_all
                .then(|| self.cancel_leased(JobId(result.id)))
                .flatten();
            if let Some(outcome) = marked {
                result.outcome = outcome;
            }
            marked.is_none()
        });
        if cancelling.open.is_empty() {
            return self.cancelled(cancelling);
        }
        let ids = cancelling
            .open
            .iter()
            .map(|place| JobId(cancelling.results[*place].id))
            .collect();
        let purpose = Purpose::Cancel(cancelling);
        self.read_after_durable(Read::States { ids, result_bytes: 0 }, purpose);
    }

    fn cancel_leased(&mut self, id: JobId) -> Option<CancelOutcome> {
        let lease = self.leases.find(id)?;
        if lease.phase == Phase::Fetching {
            // Its worker knows nothing of it: it is as if it still waited.
            let lease = self.leases.remove(id, &mut self.sessions, &mut self.names)?;
            self.forget_unsent(lease.session, lease.fence);
            let waiting = lease.waiting(id);
            self.cancel_waiting(&waiting);
            self.wake(lease.session);
            return Some(CancelOutcome::Cancelled);
        }
        if !lease.cancelling {
            lease.cancelling = true;
            let fence = lease.fence;
            // A mark without a run would be all that a restart finds, and it would end the job.
            self.record_run(id);
            self.pending.change(Change::CancelMarked { id });
            self.pending.effect(Effect::TellCancel { id, fence });
        }
        Some(CancelOutcome::Marked)
    }

    /// It is known where the jobs stand that no worker has.
    pub(super) fn cancel_found(&mut self, mut cancelling: Cancelling, states: &[Option<JobState>]) {
        let mut moving = Vec::new();
        for (place, state) in std::mem::take(&mut cancelling.open).into_iter().zip(states) {
            let outcome = match state {
                None => Some(CancelOutcome::NotFound),
                Some(JobState::Ended { .. }) => Some(CancelOutcome::AlreadyEnded),
                Some(JobState::Live { job, .. }) => {
                    self.cancel_leased(job.id).or_else(|| self.cancel_in_line(job))
                }
            };
            match outcome {
                Some(outcome) => cancelling.results[place].outcome = outcome,
                None => moving.push(place),
            }
        }
        cancelling.open = moving;
        cancelling.looks += 1;
        if cancelling.open.is_empty() {
            self.cancelled(cancelling);
        } else if cancelling.looks < MAX_LOOKS {
            self.cancel_next(cancelling);
        } else {
            let Cancelling { peer, request, .. } = cancelling;
            self.end_request(peer, request);
            let error = WireError::new(
                ErrorCode::Internal,
                "some of the jobs could not be found where they stood",
            );
            self.refuse(peer, request, error);
        }
    }

    fn cancel_in_line(&mut self, job: &LiveJob) -> Option<CancelOutcome> {
        let name = self.names.find(job.name.as_str())?;
        let waiting = self.remove_waiting(name, job)?;
        self.cancel_waiting(&waiting);
        Some(CancelOutcome::Cancelled)
    }

    fn remove_waiting(&mut self, name: NameKey, job: &LiveJob) -> Option<Waiting> {
        if let Some((_, waiting)) = self.scheduled.remove(job.due, job.id) {
            self.names.counts(name).scheduled -= 1;
            return Some(waiting);
        }
        let found = self.lines.remove(name, job.priority, job.due, job.id);
        let waiting = found.or_else(|| self.remove_held_back(name, job))?;
        self.names.counts(name).queued -= 1;
        Some(waiting)
    }

    fn cancelled(&mut self, cancelling: Cancelling) {
        let Cancelling {
            peer,
            request,
            results,
            ..
        } = cancelling;
        self.end_request(peer, request);
        let answer = ClientMessage::Cancelled(Cancelled {
            request,
            jobs: results,
        });
        self.after_durable(Effect::Answer(peer, Box::new(answer)));
    }

    /// Tells a worker to stop a run.
    pub(super) fn tell_cancel(&mut self, id: JobId, fence: jobq_proto::Fence) {
        let Some(lease) = self.leases.find(id).filter(|lease| lease.fence == fence) else {
            return;
        };
        let (session, run) = (lease.session, lease.run(id));
        if let Some(peer) = self.sessions.find(session).and_then(|s| s.peer) {
            self.outbox.cancel(peer, run);
        }
    }

    /// Submits ended jobs again, some at a time.
    pub(super) fn retry(&mut self, peer: PeerId, retry: RetryJobs) {
        let RetryJobs { request, ids } = retry;
        let checked = self
            .check_takes_jobs()
            .and_then(|()| self.begin_ids(peer, request, &ids));
        if let Err(error) = checked {
            return self.refuse(peer, request, error);
        }
        let ids = ids.into_iter().map(JobId).collect();
        self.retry_next(Retrying {
            peer,
            request,
            ids,
            receipts: Vec::new(),
            next: Vec::new(),
        });
    }

    fn retry_next(&mut self, retrying: Retrying) {
        let rest = &retrying.ids[retrying.receipts.len()..];
        if rest.is_empty() {
            let Retrying {
                peer,
                request,
                receipts,
                ..
            } = retrying;
            self.end_request(peer, request);
            return self.answer(
                peer,
                ClientMessage::Retried(Retried {
                    request,
                    jobs: receipts,
                }),
            );
        }
        let ids = rest.iter().take(RETRY_JOBS).copied().collect();
        let purpose = Purpose::RetryStates(retrying);
        self.read_after_durable(Read::States { ids, result_bytes: 0 }, purpose);
    }

    /// It is known which of the next jobs have ended; none for those that do not exist.
    pub(super) fn retry_known(&mut self, mut retrying: Retrying, ended: Vec<Option<bool>>) {
        let start = retrying.receipts.len();
        let next: Vec<Option<Receipt>> = ended
            .into_iter()
            .zip(&retrying.ids[start..])
            .map(|(ended, id)| {
                let (code, message) = match ended {
                    Some(true) => return None,
                    Some(false) => (ErrorCode::NotEnded, format!("job {id} has not ended")),
                    None => (ErrorCode::NotFound, format!("there is no job {id}")),
                };
                Some(Receipt::refused(WireError::new(code, message)))
            })
            .collect();
        let ids = next
            .iter()
            .zip(&retrying.ids[start..])
            .filter(|(n, _)| n.is_none())
            .map(|(_, id)| *id)
            .collect();
        retrying.next = next;
        self.reads
            .ask(Read::Records(ids), Purpose::RetryRecords(retrying));
    }

    /// What the ended jobs were: they are taken in again, under uuids made from the old ones.
    pub(super) fn retry_read(&mut self, mut retrying: Retrying, records: Vec<Option<Arc<JobRecord>>>) {
        let only = self.names_of(retrying.peer);
        let mut records = records.into_iter();
        let jobs: Vec<Result<NewWaiting, Receipt>> = std::mem::take(&mut retrying.next)
            .into_iter()
            .map(|known| match known {
                Some(receipt) => Err(receipt),
                None => {
                    // Its record was there a moment ago, but records are not kept for ever.
                    let gone = || WireError::new(ErrorCode::NotFound, "the job's record is kept no longer");
                    let record = records.next().flatten().ok_or_else(gone);
                    self.check_takes_jobs()
                        .and(record)
                        .map(|record| self.take(again(&record), Some(record.id), &only))
                        .map_err(Receipt::refused)
                }
            })
            .collect();
        self.after_durable(Effect::Retried(Box::new(RetryStep { retrying, jobs })));
    }

    /// Some of a Retry's jobs are durable.
    pub(super) fn acknowledge_retry(
        &mut self,
        step: RetryStep,
        outcomes: &mut dyn Iterator<Item = InsertOutcome>,
    ) {
        let RetryStep { mut retrying, jobs } = step;
        let names_conflict = self.may_touch_all(retrying.peer);
        for job in jobs {
            let receipt = job.map_or_else(
                |receipt| receipt,
                |new| {
                    let outcome = outcomes
                        .next()
                        .expect("the store answers every insert of a batch");
                    self.inserted(new, outcome, names_conflict)
                },
            );
            retrying.receipts.push(receipt);
        }
        self.retry_next(retrying);
    }

    fn begin_ids(&mut self, peer: PeerId, request: u64, ids: &[u64]) -> Result<(), WireError> {
        let items = self.config.limits.items;
        if ids.is_empty() || ids.len() as u64 > items {
            return Err(WireError::new(
                ErrorCode::TooManyItems,
                format!("a request names 1 to {items} jobs, not {}", ids.len()),
            ));
        }
        self.begin_request(peer, request, Weight::default())
    }

    pub(super) fn end_request(&mut self, peer: PeerId, request: u64) {
        if let Some(peer) = self.peers.find(peer) {
            peer.end(request);
        }
    }
}

/// The job that repeats an ended one. Its uuid follows from the old one's (version 5, with the old one as the
/// name space), so that a retry that is repeated finds the job that it made the first time. It is due at once: the time
/// or delay of the old job has passed, or somebody did not want to wait for it.
fn again(record: &JobRecord) -> NewJob {
    NewJob {
        uuid: Uuid::new_v5(&record.uuid, b"jobq retry"),
        name: (*record.name).clone(),
        params: record.params.clone(),
        username: record.username.clone(),
        priority: record.priority,
        start: StartAt::Arrival,
        max_attempts: record.policy.max_attempts,
        timeout: record.policy.timeout,
        backoff: record.policy.backoff,
    }
}
