//! Taking jobs in.

use std::sync::Arc;

use jobq_proto::message::{Acknowledged, Receipt, Refused, Request};
use jobq_proto::{ClientMessage, ErrorCode, JobId, NewJob, StartAt, WireError};
use jobq_transport::PeerId;

use super::Machine;
use super::access;
use super::line::Waiting;
use super::peers::Weight;
use super::pending::{Effect, NewWaiting, Taken, TakenJob};
use super::scheduled::Until;
use crate::access::NamePatterns;
use crate::store::{Change, InsertOutcome, JobRecord, Policy};
use crate::time::{Now, Wall};

/// When to repeat what was refused since the store has no room, in microseconds: now and then, since somebody has to
/// make room first.
const STORAGE_RETRY_AFTER: u64 = 5_000_000;

/// How far past its window a client may go before a request is refused: what it sent before it knew the window.
const WINDOW_SLACK: u64 = 2;

impl Machine {
    pub(super) fn submit(&mut self, peer: PeerId, request: Request) {
        let Request { request, jobs } = request;
        if let Err(error) = self.check_request(peer, request, &jobs) {
            return self.refuse(peer, request, error);
        }
        let only = self.names_of(peer);
        let jobs = elsewhere(jobs, |job| {
            NewJob::check(job, &self.config.limits)
                .and_then(|job| match only.match_name(job.name.as_str()) {
                    true => Ok(job),
                    false => Err(access::forbidden_name(job.name.as_str())),
                })
                .map(|job| self.take(job, None, &only))
                .map_or_else(TakenJob::Refused, TakenJob::Inserted)
        });
        self.after_durable(Effect::Acknowledge(Taken { peer, request, jobs }));
    }

    fn check_request(
        &mut self,
        peer_id: PeerId,
        request: u64,
        jobs: &[jobq_proto::message::Submission],
    ) -> Result<(), WireError> {
        self.check_takes_jobs()?;
        let items = self.config.limits.items;
        if jobs.is_empty() || jobs.len() as u64 > items {
            return Err(WireError::new(
                ErrorCode::TooManyItems,
                format!("a Request carries 1 to {items} jobs, not {}", jobs.len()),
            ));
        }
        let bytes = jobs
            .iter()
            .map(|job| job.params.as_ref().map_or(0, |p| p.len() as u64))
            .sum();
        let weight = Weight {
            jobs: jobs.len() as u64,
            bytes,
        };
        let window = self.config.window;
        let Some(peer) = self.peers.find(peer_id) else {
            return Ok(());
        };
        let held = peer.weight();
        let over =
            |held: u64, new: u64, limit: u64| held > 0 && held + new > limit.saturating_mul(WINDOW_SLACK);
        if over(held.jobs, weight.jobs, window.jobs) || over(held.bytes, weight.bytes, window.bytes) {
            return Err(WireError::new(
                ErrorCode::WindowExceeded,
                format!(
                    "{} jobs are unacknowledged; the window is {} jobs",
                    held.jobs, window.jobs
                ),
            ));
        }
        self.begin_request(peer_id, request, weight)
    }

    /// Whether jobs are taken at all now.
    pub(super) fn check_takes_jobs(&self) -> Result<(), WireError> {
        if self.closing {
            return Err(WireError::new(
                ErrorCode::ShuttingDown,
                "the server is going down and takes no more jobs",
            ));
        }
        if !self.space.takes_jobs() {
            return Err(storage_full());
        }
        Ok(())
    }

    /// Notes an unanswered request, if its number is free.
    pub(super) fn begin_request(
        &mut self,
        peer: PeerId,
        request: u64,
        weight: Weight,
    ) -> Result<(), WireError> {
        if self.watches.has(peer, request) {
            return Err(request_in_use(request));
        }
        let begun = self.peers.find(peer).map(|peer| peer.begin(request, weight));
        begun.unwrap_or(Ok(())).map_err(|_| request_in_use(request))
    }

    /// Whether a number is that of no unanswered request and of no watch.
    pub(super) fn check_number(&mut self, peer: PeerId, request: u64) -> Result<(), WireError> {
        let in_use = self.watches.has(peer, request)
            || self
                .peers
                .find(peer)
                .is_some_and(|peer| peer.is_unanswered(request));
        if in_use {
            Err(request_in_use(request))
        } else {
            Ok(())
        }
    }

    /// Takes one job into the open batch, of a peer that may touch `only` these names.
    pub(super) fn take(&mut self, job: NewJob, retry_of: Option<JobId>, only: &NamePatterns) -> NewWaiting {
        let NewJob {
            uuid,
            name,
            params,
            username,
            priority,
            start,
            max_attempts,
            timeout,
            backoff,
        } = job;
        let created = self.arrival();
        let (due, until) = due(start, created, self.now);
        let bytes = params_bytes(params.len());
        // Only the store knows whether the job is there already. So a job that is refused goes there as well, just to
        // be looked for: whoever repeats a submit is told what became of it, however full the queue is.
        let admitted = self.admit(&name, bytes, only);
        let (id, name) = match &admitted {
            Ok(key) => (self.next_id, self.names.name(*key).clone()),
            Err(_) => (JobId(0), Arc::new(name)),
        };
        let record = Arc::new(JobRecord {
            id,
            uuid,
            name,
            username,
            priority,
            params,
            policy: Policy {
                max_attempts,
                timeout,
                backoff,
            },
            created,
            retry_of,
        });
        let record_too = record.clone();
        self.pending.change(if let Ok(name) = admitted {
            self.next_id = JobId(id.0 + 1);
            self.names.count_arrived(name, bytes);
            Change::Insert {
                record: record_too,
                due,
            }
        } else {
            Change::Find { record: record_too }
        });
        NewWaiting {
            record,
            admitted,
            due,
            until,
        }
    }

    /// A Request's jobs are durable.
    pub(super) fn acknowledge(&mut self, taken: Taken, outcomes: &mut dyn Iterator<Item = InsertOutcome>) {
        let Taken { peer, request, jobs } = taken;
        let names_conflict = self.may_touch_all(peer);
        let jobs = elsewhere(jobs, |job| match job {
            TakenJob::Inserted(new) => {
                let outcome = outcomes
                    .next()
                    .expect("the store answers every insert of a batch");
                self.inserted(new, outcome, names_conflict)
            }
            TakenJob::Refused(error) => Receipt::refused(error),
        });
        self.answer(peer, ClientMessage::Acknowledged(Acknowledged { request, jobs }));
        if let Some(peer) = self.peers.find(peer) {
            peer.end(request);
        }
    }

    /// The store has said what became of a new job; if it is there, it begins to wait. The job that a uuid is in
    /// conflict with is named only to whoever may touch all.
    pub(super) fn inserted(
        &mut self,
        new: NewWaiting,
        outcome: InsertOutcome,
        names_conflict: bool,
    ) -> Receipt {
        let NewWaiting {
            record,
            admitted,
            due,
            until,
        } = new;
        if let Ok(name) = admitted
            && outcome != InsertOutcome::Inserted
        {
            self.names.count_left(name, params_bytes(record.params.len()));
            self.forget_name(name);
        }
        match outcome {
            InsertOutcome::Inserted => {
                let name = admitted.expect("the store was asked to insert no other");
                self.names.mark_stored(name);
                self.totals.submitted += 1;
                let waiting = Waiting::new(name, due, record.id, record.params.len() as u64, 0, 0);
                if let Some(until) = until {
                    self.wait_for_time(record.priority, waiting, until);
                } else {
                    self.payloads.offer(&record);
                    self.wait_in_line(record.priority, waiting);
                }
                Receipt::stored(record.id.0, false)
            }
            InsertOutcome::Existing(id) => Receipt::stored(id.0, true),
            InsertOutcome::Conflict(id) => {
                let whose = if names_conflict {
                    format!("job {id}, which has")
                } else {
                    "a job with".to_owned()
                };
                let message = format!(
                    "the uuid {} is that of {whose} another name or other params",
                    record.uuid
                );
                Receipt::refused(WireError::new(ErrorCode::UuidConflict, message))
            }
            InsertOutcome::NoRoom => Receipt::refused(admitted.err().unwrap_or_else(storage_full)),
        }
    }

    /// Refuses a numbered request as a whole.
    pub(super) fn refuse(&mut self, peer: PeerId, request: u64, error: WireError) {
        self.answer(peer, ClientMessage::Refused(Refused { request, error }));
    }

    /// Sends an answer, if the peer is still there.
    pub(super) fn answer(&mut self, peer: PeerId, message: ClientMessage) {
        if self.peers.find(peer).is_some() {
            self.outbox.send(peer, message);
        }
    }
}

/// What becomes of each, in memory of its own. Collected, it would stand where the items were, and giving back what that
/// leaves over takes longer than making a job's record.
fn elsewhere<A, B>(items: Vec<A>, become_of: impl FnMut(A) -> B) -> Vec<B> {
    let mut became = Vec::with_capacity(items.len());
    became.extend(items.into_iter().map(become_of));
    became
}

/// The length of params, as waiting jobs and leases know it.
fn params_bytes(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn storage_full() -> WireError {
    WireError {
        retry_after: Some(STORAGE_RETRY_AFTER),
        ..WireError::new(
            ErrorCode::StorageFull,
            "the server's disk is full: it takes no jobs until there is room again",
        )
    }
}

fn request_in_use(request: u64) -> WireError {
    WireError::new(
        ErrorCode::RequestInUse,
        format!("the request number {request} is that of an unanswered request, or too many are unanswered"),
    )
}

/// From when on a job may run, and what it waits for if it asked for a time. Times that are asked for go by the
/// calendar as it is now: the clock of arrivals may be ahead of it by as much as the calendar was ever wrong.
fn due(start: StartAt, created: Wall, now: Now) -> (Wall, Option<Until>) {
    let (due, until) = match start {
        StartAt::Arrival => return (created, None),
        StartAt::Time(at) => (Wall(at), Until::Due),
        StartAt::After(delay) => (now.wall.plus(delay), Until::Deadline(now.mono.plus(delay))),
    };
    if until.has_come(due, now) {
        (created, None)
    } else {
        (due, Some(until))
    }
}
