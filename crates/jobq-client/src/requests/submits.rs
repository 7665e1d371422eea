//! Jobs on their way to the server, until each is acknowledged, refused, or out of time.

mod batch;
mod deadlines;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jobq_proto::message::{Acknowledged, Receipt, Submission};
use jobq_proto::{ErrorCode, ServerMessage, WireError};

use super::rising_map::RisingMap;
use super::{Lane, Numbers, Terms, refusal_wait};
use crate::clock::BootTime;
use batch::{Batch, Ranges, Room};
use deadlines::Deadlines;
use stream::{Flow, Stream};

/// Most windows' worth of jobs that are kept here at a time: one on the wire, one that waits to be repeated.
pub(crate) const MAX_WINDOWS: u64 = 2;

/// Jobs that somebody wants to submit.
#[derive(Debug)]
pub struct Submit {
    /// The jobs, at least one.
    pub jobs: Vec<Submission>,
    /// What they are part of, a number of the caller's: of one stream, those that are refused for a passing reason
    /// are repeated before later ones are sent.
    pub stream: u64,
    /// Repeat what is refused for a passing reason, instead of reporting that.
    pub repeat: bool,
    /// When to give up, if nothing of the stream is answered in the `patience` before that.
    pub deadline: BootTime,
    /// How long to wait for the next answer to a job of the stream.
    pub patience: Duration,
}

/// What became of a [`Submit`].
#[derive(Debug, PartialEq)]
pub struct SubmitAnswer {
    /// The jobs, as they were given.
    pub jobs: Vec<Submission>,
    /// For each job its receipt; one with neither id nor error if no answer came.
    pub receipts: Vec<Receipt>,
    /// Only jobs before this index were ever sent.
    pub reached: usize,
}

/// The jobs of one client that are not acknowledged. `T` stands for whoever waits for an answer.
///
/// Jobs are given with [`Submits::push`] as long as [`Submits::has_room`]; what [`Submits::transmit`] shows is
/// to be sent at once, and in that order. Requests are cut from the batches by the server's limits and by what its
/// window has left; after a reconnect whatever is unanswered is sent again. A batch is answered when all its jobs are,
/// at its deadline, or, while the server refuses its stream, at the deadline of the stream's first.
#[derive(Debug)]
pub struct Submits<T> {
    batches: RisingMap<Batch<T>>,
    /// Those with batches.
    streams: RisingMap<Stream>,
    /// Batches with jobs to send now, in the order in which they came.
    ready: RisingMap<()>,
    /// Streams that were refused for a passing reason, and when to try them again.
    delayed: BTreeSet<(BootTime, u64)>,
    /// Streams whose jobs the server does not take, as far as is known.
    refused: BTreeSet<u64>,
    deadlines: Deadlines,
    /// Requests that the server has not answered on this connection, by their places in the lane.
    parts: RisingMap<Part>,
    numbers: Numbers,
    next_batch: u64,
    /// What the unanswered requests take of the window.
    used: Room,
    /// Jobs in all batches, and bytes of their params.
    kept: Room,
    terms: Option<Terms>,
    answers: VecDeque<(T, SubmitAnswer)>,
}

/// One request: some jobs of a batch, which may be gone by the time of the answer.
#[derive(Debug)]
struct Part {
    batch: u64,
    stream: u64,
    ranges: Ranges,
    room: Room,
}

impl<T> Default for Submits<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Submits<T> {
    /// No jobs, and no connection.
    pub fn new() -> Self {
        Self {
            batches: RisingMap::default(),
            streams: RisingMap::default(),
            ready: RisingMap::default(),
            delayed: BTreeSet::new(),
            refused: BTreeSet::new(),
            deadlines: Deadlines::default(),
            parts: RisingMap::default(),
            numbers: Numbers::new(Lane::Submits),
            next_batch: 0,
            used: Room::default(),
            kept: Room::default(),
            terms: None,
            answers: VecDeque::new(),
        }
    }

    /// Whether nothing is unanswered.
    pub fn is_idle(&self) -> bool {
        self.batches.is_empty() && self.parts.is_empty()
    }

    /// Whether to push more now. Not while something waits for the window, or for a connection.
    pub fn has_room(&self) -> bool {
        self.terms.is_some_and(|terms| {
            self.ready.is_empty()
                && self.kept.jobs < terms.window.jobs.saturating_mul(MAX_WINDOWS)
                && self.kept.bytes < terms.window.bytes.saturating_mul(MAX_WINDOWS)
        })
    }

    /// The reason for which the server does not take some of the jobs at the moment, if they are to be repeated.
    pub fn refusal(&self) -> Option<&WireError> {
        self.streams.get(*self.refused.first()?)?.refusal()
    }

    /// Takes jobs, whose answer will come with `token`.
    pub fn push(&mut self, submit: Submit, token: T) {
        let id = self.next_batch;
        self.next_batch += 1;
        self.deadlines.insert(submit.deadline, id);
        let stream = self.streams.get_or_insert_default(submit.stream);
        stream.batches.insert(id, ());
        if stream.is_open() {
            self.ready.insert(id, ());
        }
        let batch = Batch::new(submit, token);
        self.kept.add(batch.room());
        self.batches.insert(id, batch);
    }

    /// There is a connection; everything unanswered is to be sent on it.
    pub fn handle_connected(&mut self, now: BootTime, terms: Terms) {
        self.terms = Some(terms);
        self.open_all();
        // The server may have forgotten the uuids of these, so that repeating could store them twice.
        let forgotten: Vec<u64> = self
            .batches
            .iter()
            .filter(|(_, batch)| {
                batch
                    .first_sent
                    .is_some_and(|sent| now.since(sent) >= terms.uuid_window)
            })
            .map(|(id, _)| id)
            .collect();
        for id in forgotten {
            self.finish(id);
        }
    }

    /// The connection is gone, and with it the answers that had not come.
    pub fn handle_disconnected(&mut self) {
        self.terms = None;
        self.used = Room::default();
        while let Some((_, part)) = self.parts.pop_first() {
            if let Some(batch) = self.batches.get_mut(part.batch) {
                batch.lost(part.ranges);
            }
        }
        self.open_all();
    }

    /// Some jobs have been taken or refused. Chance is asked for only if something is to be repeated.
    pub fn handle_acknowledged(&mut self, now: BootTime, chance: impl FnOnce() -> u32, answer: Acknowledged) {
        if let Some(part) = self.take_part(answer.request) {
            self.answered(now, chance, answer.request, part, answer.jobs);
        }
    }

    /// A request was refused as a whole.
    pub fn handle_refused(&mut self, now: BootTime, chance: u32, request: u64, error: &WireError) {
        let Some(part) = self.take_part(request) else {
            return;
        };
        if error.code == ErrorCode::WindowExceeded
            && let Some(batch) = self.batches.get_mut(part.batch)
        {
            batch.refused(part.ranges, error);
            return self.delay(now, chance, part.stream, request, error.clone());
        }
        let count = part.ranges.iter().map(ExactSizeIterator::len).sum();
        let receipts = vec![Receipt::refused(error.clone()); count];
        self.answered(now, || chance, request, part, receipts);
    }

    /// Repeats nothing of a stream any more, and sends no more of one that the server refuses: that is answered as it
    /// stands.
    pub fn give_up(&mut self, stream: u64) {
        let Some(given_up) = self.streams.get(stream) else {
            return;
        };
        let refused = !given_up.is_open();
        for id in given_up.ids() {
            let Some(batch) = self.batches.get_mut(id) else {
                continue;
            };
            batch.repeat = false;
            if refused {
                batch.give_up();
                self.ready.remove(id);
            }
            if batch.is_done() {
                self.finish(id);
            }
        }
        // Nothing of it is left that could be tried.
        if refused {
            self.open(stream);
        }
    }

    /// When [`Submits::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> BootTime {
        let first = [self.deadlines.first(), self.delayed.first().copied()];
        first
            .into_iter()
            .flatten()
            .map(|(at, _)| at)
            .min()
            .unwrap_or(BootTime::NEVER)
    }

    /// Answers what is out of time, and has repeated what has waited for long enough.
    pub fn handle_timeout(&mut self, now: BootTime) {
        while let Some((at, id)) = self.deadlines.first()
            && at <= now
        {
            self.handle_deadline(now, id);
        }
        while let Some(&(at, id)) = self.delayed.first()
            && at <= now
        {
            self.delayed.pop_first();
            self.try_again(id);
        }
    }

    /// The time of a batch is over, unless jobs of its stream are answered all the while.
    fn handle_deadline(&mut self, now: BootTime, id: u64) {
        let Some(batch) = self.batches.get_mut(id) else {
            return;
        };
        let Some(stream) = self.streams.get(batch.stream) else {
            return;
        };
        let patient = stream.last_answer.map(|last| last + batch.patience);
        if let Some(later) = patient.filter(|&patient| patient > now) {
            self.deadlines.remove(batch.deadline, id);
            batch.deadline = later;
            self.deadlines.insert(later, id);
        } else if stream.is_open() {
            self.finish(id);
        } else {
            // They all wait for the same thing, and would otherwise be taken with a gap before them.
            for id in stream.ids() {
                self.finish(id);
            }
        }
    }

    /// The session is over: nothing is answered any more.
    pub fn handle_over(&mut self) {
        while let Some((id, _)) = self.batches.first() {
            self.finish(id);
        }
    }

    /// As [`Submits::transmit`], with a copy of the request.
    pub fn poll_transmit(&mut self, now: BootTime) -> Option<ServerMessage> {
        self.transmit(now, ServerMessage::clone)
    }

    /// Shows the next request to `send`, if there is one and the window has room for it, and returns what that returns.
    pub fn transmit<R>(&mut self, now: BootTime, send: impl FnOnce(&ServerMessage) -> R) -> Option<R> {
        let terms = self.terms?;
        while let Some((id, ())) = self.ready.first() {
            let Some(batch) = self.batches.get_mut(id) else {
                self.ready.pop_first();
                continue;
            };
            let cut = batch.cut(&terms, self.used);
            let drained = batch.todo.is_empty();
            let Some(cut) = cut else {
                if !drained {
                    return None;
                }
                // What was left of it could not be sent to any server.
                self.pass(id);
                continue;
            };
            let request = self.numbers.take();
            let sent = batch.send(now, request, &cut.ranges, send);
            let stream = batch.stream;
            self.used.add(cut.room);
            let part = Part {
                batch: id,
                stream,
                ranges: cut.ranges,
                room: cut.room,
            };
            if let Some(place) = Lane::Submits.place(request) {
                self.parts.insert(place, part);
            }
            let tries = self.streams.get_mut(stream).is_some_and(|s| s.sends(request));
            if drained || tries {
                self.ready.pop_first();
            }
            return Some(sent);
        }
        None
    }

    /// The next answer for somebody who waits.
    pub fn poll_answer(&mut self) -> Option<(T, SubmitAnswer)> {
        self.answers.pop_front()
    }

    /// A batch has nothing more to send.
    fn pass(&mut self, id: u64) {
        self.ready.remove(id);
        let Some(batch) = self.batches.get(id) else {
            return;
        };
        let stream = batch.stream;
        if batch.is_done() {
            self.finish(id);
        }
        if self.streams.get(stream).is_some_and(|stream| !stream.is_open()) {
            self.try_again(stream);
        }
    }

    fn take_part(&mut self, request: u64) -> Option<Part> {
        let part = self.parts.remove(Lane::Submits.place(request)?)?;
        self.used.subtract(part.room);
        Some(part)
    }

    fn answered(
        &mut self,
        now: BootTime,
        chance: impl FnOnce() -> u32,
        request: u64,
        part: Part,
        receipts: Vec<Receipt>,
    ) {
        let Some(batch) = self.batches.get_mut(part.batch) else {
            return self.taken(part.stream, request);
        };
        let taken = batch.answered(part.ranges, receipts);
        let done = batch.is_done();
        if let Some(stream) = self.streams.get_mut(part.stream)
            && taken.any
        {
            stream.last_answer = Some(now);
            stream.refusals = 0;
        }
        match taken.refusal {
            Some(error) => self.delay(now, chance(), part.stream, request, error),
            None => self.taken(part.stream, request),
        }
        if done {
            self.finish(part.batch);
        }
    }

    /// Nothing of a request is to be repeated.
    fn taken(&mut self, stream: u64, request: u64) {
        let decides = |stream: &Stream| !stream.is_open() && stream.decides(request);
        if self.streams.get(stream).is_some_and(decides) {
            self.open(stream);
        }
    }

    /// The server does not take the stream's jobs now.
    fn delay(&mut self, now: BootTime, chance: u32, id: u64, request: u64, error: WireError) {
        let Some(stream) = self.streams.get_mut(id).filter(|s| s.decides(request)) else {
            return;
        };
        let until = now + refusal_wait(&error, stream.refusals, chance);
        stream.refusals = stream.refusals.saturating_add(1);
        for batch in stream.batches.keys() {
            self.ready.remove(batch);
        }
        stream.flow = Flow::Waiting(until, error);
        self.delayed.insert((until, id));
        self.refused.insert(id);
    }

    /// The time has come to try a refused stream again, by its first jobs.
    fn try_again(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let batches = &self.batches;
        let has_jobs = |&id: &u64| batches.get(id).is_some_and(|batch| !batch.todo.is_empty());
        let Some(first) = stream.batches.keys().find(has_jobs) else {
            return self.open(id);
        };
        stream.come_due();
        self.ready.insert(first, ());
    }

    /// The server takes the stream's jobs, as far as is known.
    fn open(&mut self, id: u64) {
        self.refused.remove(&id);
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if let Flow::Waiting(until, _) = std::mem::take(&mut stream.flow) {
            self.delayed.remove(&(until, id));
        }
        stream.refusals = 0;
        for id in stream.batches.keys() {
            if self.batches.get(id).is_some_and(|batch| !batch.todo.is_empty()) {
                self.ready.insert(id, ());
            }
        }
    }

    /// What was refused on one connection may be taken on the next.
    fn open_all(&mut self) {
        for id in std::mem::take(&mut self.refused) {
            self.open(id);
        }
        self.ready = RisingMap::default();
        for (id, batch) in self.batches.iter() {
            if !batch.todo.is_empty() {
                self.ready.insert(id, ());
            }
        }
    }

    /// Answers a batch as it stands. What is unanswered on the wire keeps its place in the window.
    fn finish(&mut self, id: u64) {
        let Some(batch) = self.batches.remove(id) else {
            return;
        };
        self.kept.subtract(batch.room());
        self.deadlines.remove(batch.deadline, id);
        self.ready.remove(id);
        if let Some(stream) = self.streams.get_mut(batch.stream) {
            stream.batches.remove(id);
            if stream.batches.is_empty() {
                if let Flow::Waiting(until, _) = stream.flow {
                    self.delayed.remove(&(until, batch.stream));
                }
                self.refused.remove(&batch.stream);
                self.streams.remove(batch.stream);
            }
        }
        self.answers.push_back(batch.into_answer());
    }
}
