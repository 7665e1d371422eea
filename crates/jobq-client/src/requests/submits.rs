//! Jobs on their way to the server, until each is acknowledged, refused, or out of time.

mod batch;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use jobq_proto::message::{Acknowledged, Receipt, Request, Submission};
use jobq_proto::{ErrorCode, ServerMessage, WireError};

use super::{Lane, Numbers, Terms, refusal_wait};
use crate::clock::BootTime;
use batch::{Batch, Room};

/// Most windows' worth of jobs that are kept here at a time: one on the wire, one that waits to be repeated.
const MAX_WINDOWS: u64 = 2;

/// Jobs that somebody wants to submit.
#[derive(Debug)]
pub(crate) struct Submit {
    /// The jobs, at least one.
    pub(crate) jobs: Vec<Submission>,
    /// Repeat the whole when all of it is refused for a passing reason, instead of reporting that.
    pub(crate) repeat: bool,
    /// When to give up.
    pub(crate) deadline: BootTime,
}

/// What became of a [`Submit`].
#[derive(Debug, PartialEq)]
pub(crate) struct SubmitAnswer {
    /// The jobs, as they were given.
    pub(crate) jobs: Vec<Submission>,
    /// For each job its receipt; one with neither id nor error if no answer came.
    pub(crate) receipts: Vec<Receipt>,
    /// Only jobs before this index were ever sent.
    pub(crate) reached: usize,
}

/// The jobs of one client that are not acknowledged. `T` stands for whoever waits for an answer.
///
/// Jobs are given with [`Submits::push`] as long as [`Submits::has_room`]; what [`Submits::poll_transmit`] gives is
/// to be sent at once, and in that order. Requests are cut from the batches by the server's limits and by what its
/// window has left; after a reconnect whatever is unanswered is sent again.
#[derive(Debug)]
pub(crate) struct Submits<T> {
    batches: BTreeMap<u64, Batch<T>>,
    /// Batches with jobs to send, in the order in which they came.
    ready: BTreeSet<u64>,
    /// Batches that were refused for a passing reason, and when to repeat them.
    delayed: BTreeSet<(BootTime, u64)>,
    deadlines: BTreeSet<(BootTime, u64)>,
    /// Requests that the server has not answered on this connection.
    parts: BTreeMap<u64, Part>,
    numbers: Numbers,
    next_batch: u64,
    /// What the unanswered requests take of the window.
    used: Room,
    /// Jobs in all batches.
    kept: u64,
    terms: Option<Terms>,
    answers: VecDeque<(T, SubmitAnswer)>,
}

/// One request: some jobs of a batch, which may be gone by the time of the answer.
#[derive(Debug)]
struct Part {
    batch: u64,
    range: Range<usize>,
    room: Room,
}

impl<T> Submits<T> {
    pub(crate) fn new() -> Self {
        Self {
            batches: BTreeMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            parts: BTreeMap::new(),
            numbers: Numbers::new(Lane::Submits),
            next_batch: 0,
            used: Room::default(),
            kept: 0,
            terms: None,
            answers: VecDeque::new(),
        }
    }

    /// Whether to push more now. Not while something waits for the window, or for a connection.
    pub(crate) fn has_room(&self) -> bool {
        self.terms.is_some_and(|terms| {
            self.ready.is_empty() && self.kept < terms.window.jobs.saturating_mul(MAX_WINDOWS)
        })
    }

    pub(crate) fn push(&mut self, submit: Submit, token: T) {
        let id = self.next_batch;
        self.next_batch += 1;
        self.kept += submit.jobs.len() as u64;
        self.deadlines.insert((submit.deadline, id));
        self.ready.insert(id);
        self.batches.insert(id, Batch::new(submit, token));
    }

    /// There is a connection; everything unanswered is to be sent on it.
    pub(crate) fn handle_connected(&mut self, now: BootTime, terms: Terms) {
        self.terms = Some(terms);
        for (_, id) in std::mem::take(&mut self.delayed) {
            self.make_ready(id);
        }
        // The server may have forgotten the uuids of these, so that repeating could store them twice.
        let forgotten: Vec<u64> = self
            .batches
            .iter()
            .filter(|(_, batch)| {
                batch
                    .first_sent
                    .is_some_and(|sent| now.since(sent) >= terms.uuid_window)
            })
            .map(|(&id, _)| id)
            .collect();
        for id in forgotten {
            self.finish(id);
        }
    }

    /// The connection is gone, and with it the answers that had not come.
    pub(crate) fn handle_disconnected(&mut self) {
        self.terms = None;
        self.used = Room::default();
        // Backwards, so that each batch's jobs come to stand in their order again.
        for (_, part) in std::mem::take(&mut self.parts).into_iter().rev() {
            if let Some(batch) = self.batches.get_mut(&part.batch) {
                batch.lost(part.range);
                if !batch.is_delayed {
                    self.ready.insert(part.batch);
                }
            }
        }
    }

    /// Some jobs have been taken or refused. Chance is asked for only if something is to be repeated.
    pub(crate) fn handle_acknowledged(
        &mut self,
        now: BootTime,
        chance: impl FnOnce() -> u32,
        answer: Acknowledged,
    ) {
        let Some(part) = self.take_part(answer.request) else {
            return;
        };
        let Some(batch) = self.batches.get_mut(&part.batch) else {
            return;
        };
        if let Some(error) = batch.reason_to_repeat(&answer.jobs) {
            let error = error.clone();
            return self.repeat(now, chance(), part, &error);
        }
        batch.answered(part.range, answer.jobs);
        if batch.is_done() {
            self.finish(part.batch);
        }
    }

    /// A request was refused as a whole.
    pub(crate) fn handle_refused(&mut self, now: BootTime, chance: u32, request: u64, error: &WireError) {
        let Some(part) = self.take_part(request) else {
            return;
        };
        let Some(batch) = self.batches.get_mut(&part.batch) else {
            return;
        };
        let passing = matches!(error.code, ErrorCode::ShuttingDown | ErrorCode::WindowExceeded);
        if passing || (batch.repeat && error.code.may_repeat()) {
            return self.repeat(now, chance, part, error);
        }
        let receipts = vec![Receipt::refused(error.clone()); part.range.len()];
        batch.answered(part.range, receipts);
        if batch.is_done() {
            self.finish(part.batch);
        }
    }

    /// When [`Submits::handle_timeout`] is due next.
    pub(crate) fn poll_timeout(&self) -> BootTime {
        let first = |times: &BTreeSet<(BootTime, u64)>| times.first().map_or(BootTime::NEVER, |&(at, _)| at);
        first(&self.deadlines).min(first(&self.delayed))
    }

    pub(crate) fn handle_timeout(&mut self, now: BootTime) {
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            self.finish(id);
        }
        while let Some(&(at, id)) = self.delayed.first()
            && at <= now
        {
            self.delayed.pop_first();
            self.make_ready(id);
        }
    }

    /// The session is over: nothing is answered any more.
    pub(crate) fn handle_over(&mut self) {
        while let Some((&id, _)) = self.batches.first_key_value() {
            self.finish(id);
        }
    }

    /// The next request to send, if there is one and the window has room for it.
    pub(crate) fn poll_transmit(&mut self, now: BootTime) -> Option<ServerMessage> {
        let terms = self.terms?;
        while let Some(&id) = self.ready.first() {
            let Some(batch) = self.batches.get_mut(&id) else {
                self.ready.pop_first();
                continue;
            };
            let cut = batch.cut(&terms, self.used);
            let (drained, done) = (batch.todo.is_empty(), batch.is_done());
            if let Some(cut) = cut {
                let jobs = batch.send(now, cut.range.clone());
                if drained {
                    self.ready.pop_first();
                }
                let request = self.numbers.take();
                self.used.add(cut.room);
                self.parts.insert(
                    request,
                    Part {
                        batch: id,
                        range: cut.range,
                        room: cut.room,
                    },
                );
                return Some(ServerMessage::Request(Request { request, jobs }));
            }
            if !drained {
                return None;
            }
            // What was left of it could not be sent to any server.
            self.ready.pop_first();
            if done {
                self.finish(id);
            }
        }
        None
    }

    /// The next answer for somebody who waits.
    pub(crate) fn poll_answer(&mut self) -> Option<(T, SubmitAnswer)> {
        self.answers.pop_front()
    }

    fn make_ready(&mut self, id: u64) {
        if let Some(batch) = self.batches.get_mut(&id) {
            batch.is_delayed = false;
            self.ready.insert(id);
        }
    }

    fn take_part(&mut self, request: u64) -> Option<Part> {
        let part = self.parts.remove(&request)?;
        self.used.subtract(part.room);
        Some(part)
    }

    fn repeat(&mut self, now: BootTime, chance: u32, part: Part, error: &WireError) {
        let Some(batch) = self.batches.get_mut(&part.batch) else {
            return;
        };
        let wait = refusal_wait(error, batch.refusals, chance);
        batch.refused(part.range, error);
        if !batch.is_delayed {
            batch.is_delayed = true;
            self.ready.remove(&part.batch);
            self.delayed.insert((now + wait, part.batch));
        }
    }

    /// Answers a batch as it stands. What is unanswered on the wire keeps its place in the window.
    fn finish(&mut self, id: u64) {
        let Some(batch) = self.batches.remove(&id) else {
            return;
        };
        self.kept -= batch.jobs.len() as u64;
        self.deadlines.remove(&(batch.deadline, id));
        self.ready.remove(&id);
        if batch.is_delayed {
            self.delayed.retain(|&(_, delayed)| delayed != id);
        }
        self.answers.push_back(batch.into_answer());
    }
}
