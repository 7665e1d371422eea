//! Changes on their way to the store, and what waits for them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use jobq_proto::message::SettledRun;
use jobq_proto::{ClientMessage, Fence, JobId, Priority, Status, WireError};
use jobq_transport::PeerId;

use super::line::Waiting;
use super::names::NameKey;
use super::reads::Purpose;
use super::scheduled::Until;
use crate::store::{Batch, Change, JobRecord, Read, SessionId};
use crate::time::Wall;

/// Most changes in one batch. It bounds how long one commit takes, and with it the wait of whoever comes next.
const MAX_CHANGES: usize = 20_000;

/// Most bytes of params, results and reasons in one batch, give or take one item: some milliseconds of a disk's time,
/// which a small job waits for that comes behind it.
const MAX_BYTES: usize = 1024 * 1024;

/// What may come to a batch that is full of bytes, in things that are brief, whoever sends them: so nobody who says little
/// waits for a place behind large params. Some hundred jobs of a few hundred bytes, and a fraction of what is there already.
const MAX_BYTES_BRIEF: usize = 256 * 1024;

/// While batches that are out have so many bytes of large items, the next one waits until they are durable: so whoever
/// comes behind large params waits for one batch of them, and not for two. Not where the store is stuck: then what is full
/// has to go out of the way of whatever needs little.
const MAX_LARGE_OUT: usize = 256 * 1024;

/// An item with so many bytes is large. Batches of others take the writer as long as the disk, and two of them are out at
/// a time, that neither waits for the other.
const LARGE: usize = 16 * 1024;

/// Most things that wait for batches, open and out together, a job that is asked about counted as one. Changes have
/// one or two each; the others are requests that change nothing, and that nothing else bounds while a disk is slow.
const MAX_EFFECTS: usize = 200_000;

/// What follows from a batch once it is durable. Most jobs have two of them, and a batch has tens of thousands: what is
/// large and rare stands in a box.
#[derive(Debug)]
pub(super) enum Effect {
    /// A Request is answered.
    Acknowledge(Taken),
    /// A Retry is answered, or goes on.
    Retried(Box<super::ask::RetryStep>),
    /// A report is answered.
    Settled { session: SessionId, run: SettledRun },
    /// A worker is told of a run that it has not reported.
    TellSettled { session: SessionId, run: SettledRun },
    /// A job keeps its place in line.
    WaitInLine { priority: Priority, waiting: Waiting },
    /// A job waits for its next attempt.
    WaitForTime {
        priority: Priority,
        waiting: Waiting,
        until: Until,
    },
    /// A job has ended.
    JobEnded {
        id: JobId,
        name: NameKey,
        /// Whether a worker had it until then.
        had_run: bool,
        /// What those are told who watched it when it ended. Whoever begins to watch it later asks the store.
        told: Option<Box<Ending>>,
    },
    /// A run is to be stopped.
    TellCancel { id: JobId, fence: Fence },
    /// A worker's session may be given jobs.
    SessionRecorded(SessionId),
    /// A worker's session will never come back.
    SessionOver(SessionId),
    /// The store can be asked now.
    Read(Box<(Read, Purpose)>),
    /// A request is answered.
    Answer(PeerId, Box<ClientMessage>),
}

impl Effect {
    /// How much it counts for, while it waits.
    fn weight(&self) -> usize {
        let Effect::Read(read) = self else { return 1 };
        match &read.0 {
            Read::States { ids, .. } => 1 + ids.len(),
            Read::Runs(runs) => 1 + runs.len(),
            _ => 1,
        }
    }
}

/// How a job ended, for those who watch it.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) status: Status,
    pub(super) reason: Option<String>,
    pub(super) result: Option<Bytes>,
}

/// A job that no worker has any more, while the store still has its run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    pub(super) id: JobId,
    pub(super) name: NameKey,
    /// How it is going to stand; a job that has ended is counted already.
    pub(super) next: LeavingFor,
}

/// What a job leaves its worker for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeavingFor {
    Line,
    Time,
    End,
}

/// A Request whose good jobs are in a batch.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) peer: PeerId,
    pub(super) request: u64,
    pub(super) jobs: Vec<TakenJob>,
}

/// One job of a Request.
#[derive(Debug)]
pub(super) enum TakenJob {
    /// It is in the batch.
    Inserted(NewWaiting),
    /// It is in no batch.
    Refused(WireError),
}

/// A job that will wait once it is durable.
#[derive(Debug)]
pub(super) struct NewWaiting {
    pub(super) record: Arc<JobRecord>,
    /// The key of its name. Or why it is not taken, since too much is queued: the answer unless its uuid is known.
    pub(super) admitted: Result<NameKey, WireError>,
    pub(super) due: Wall,
    /// What it waits for before its turn, if it asked for a time.
    pub(super) until: Option<Until>,
}

/// The batch that fills, and those that are out.
pub(super) struct Pending {
    last_number: u64,
    open: Filling,
    out: VecDeque<Out>,
    effects: usize,
    /// The oldest batch that is out has been for long.
    is_stuck: bool,
}

/// A batch that is not durable yet.
struct Out {
    number: u64,
    effects: Vec<Effect>,
    /// Bytes of its large items.
    large: usize,
}

#[derive(Default)]
struct Filling {
    changes: Vec<Change>,
    effects: Vec<Effect>,
    bytes: usize,
    /// Those of items that are large.
    large: usize,
    /// Those that came when it had [`MAX_BYTES`] already.
    bytes_since_full: usize,
}

impl Pending {
    pub(super) fn new(last_number: u64) -> Self {
        Self {
            last_number,
            open: Filling::default(),
            out: VecDeque::new(),
            effects: 0,
            is_stuck: false,
        }
    }

    /// The store has not taken a batch for long.
    pub(super) fn notice_stuck(&mut self) {
        self.is_stuck = !self.out.is_empty();
    }

    /// Adds a change to the open batch.
    pub(super) fn change(&mut self, change: Change) {
        let bytes = match &change {
            Change::Insert { record, .. } | Change::Find { record } => record.params.len(),
            Change::Ended(ended) => {
                ended.result.as_ref().map_or(0, Bytes::len) + ended.reason.as_ref().map_or(0, String::len)
            }
            Change::Requeued(requeued) => requeued.reason.as_ref().map_or(0, String::len),
            _ => 0,
        };
        if self.open.bytes >= MAX_BYTES {
            self.open.bytes_since_full += bytes;
        }
        if bytes >= LARGE {
            self.open.large += bytes;
        }
        self.open.bytes += bytes;
        self.open.changes.push(change);
    }

    /// Adds what follows from the open batch, which has a change.
    pub(super) fn effect(&mut self, effect: Effect) {
        debug_assert!(!self.open.changes.is_empty(), "an effect of no change");
        self.effects += effect.weight();
        self.open.effects.push(effect);
    }

    /// Adds what is to follow from everything so far; gives it back if everything is durable.
    pub(super) fn attach(&mut self, effect: Effect) -> Option<Effect> {
        let weight = effect.weight();
        if !self.open.changes.is_empty() {
            self.open.effects.push(effect);
        } else if let Some(last) = self.out.back_mut() {
            last.effects.push(effect);
        } else {
            return Some(effect);
        }
        self.effects += weight;
        None
    }

    /// Closes the open batch, if there is anything in it and what is out of large items is not too much.
    pub(super) fn seal(&mut self, next_id: JobId, clock: Wall) -> Option<Batch> {
        let large_out: usize = self.out.iter().map(|batch| batch.large).sum();
        let waits = large_out >= MAX_LARGE_OUT && !self.is_stuck;
        if self.open.changes.is_empty() || waits {
            return None;
        }
        // Under load one batch is about as large as the one before; growing to that again would copy all of it.
        let next = Filling {
            changes: Vec::with_capacity(self.open.changes.len()),
            effects: Vec::with_capacity(self.open.effects.len()),
            ..Filling::default()
        };
        let Filling {
            changes,
            effects,
            large,
            ..
        } = std::mem::replace(&mut self.open, next);
        self.last_number += 1;
        self.out.push_back(Out {
            number: self.last_number,
            effects,
            large,
        });
        Some(Batch {
            number: self.last_number,
            next_id,
            clock,
            changes,
        })
    }

    /// The oldest batch that is out is durable: what follows from it.
    pub(super) fn stored(&mut self, number: u64) -> Vec<Effect> {
        let Out {
            number: expected,
            effects,
            ..
        } = self
            .out
            .pop_front()
            .expect("the store reported a batch that was never out");
        assert_eq!(number, expected, "the store reports batches in order");
        self.is_stuck = false;
        self.effects -= effects.iter().map(Effect::weight).sum::<usize>();
        effects
    }

    /// The jobs whose runs end with a batch that is not durable yet. Looked for where somebody asks, so that a run that
    /// ends costs nothing for it.
    pub(super) fn leaving(&self) -> impl Iterator<Item = Leaving> {
        let out = self.out.iter().flat_map(|batch| &batch.effects);
        out.chain(&self.open.effects).filter_map(|effect| {
            let (id, name, next) = match effect {
                Effect::WaitInLine { waiting, .. } => (waiting.id, waiting.name, LeavingFor::Line),
                Effect::WaitForTime { waiting, .. } => (waiting.id, waiting.name, LeavingFor::Time),
                Effect::JobEnded {
                    id,
                    name,
                    had_run: true,
                    ..
                } => (*id, *name, LeavingFor::End),
                _ => return None,
            };
            Some(Leaving { id, name, next })
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.bytes >= MAX_BYTES || self.has_too_many()
    }

    /// Whether it is full for what is brief, too.
    pub(super) fn is_full_for_brief(&self) -> bool {
        self.open.bytes_since_full >= MAX_BYTES_BRIEF || self.has_too_many()
    }

    fn has_too_many(&self) -> bool {
        self.open.changes.len() >= MAX_CHANGES || self.effects >= MAX_EFFECTS
    }

    /// How much waits for batches.
    pub(super) fn len(&self) -> usize {
        self.effects
    }

    /// Whether nothing is in a batch, open or out.
    pub(super) fn is_idle(&self) -> bool {
        self.open.changes.is_empty() && self.out.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use jobq_proto::JobName;
    use uuid::Uuid;

    use super::*;
    use crate::store::Policy;

    fn insert(bytes: usize) -> Change {
        let record = JobRecord {
            id: JobId(1),
            uuid: Uuid::nil(),
            name: Arc::new("a".parse::<JobName>().expect("a name")),
            username: None,
            priority: Priority::Normal,
            params: vec![0; bytes].into(),
            policy: Policy::default(),
            created: Wall(0),
            retry_of: None,
        };
        Change::Insert {
            record: Arc::new(record),
            due: Wall(0),
        }
    }

    fn seal(pending: &mut Pending, bytes: usize) -> Option<u64> {
        pending.change(insert(bytes));
        pending.seal(JobId(2), Wall(0)).map(|batch| batch.number)
    }

    #[test]
    fn large_items_wait_for_those_before_them_unless_the_store_is_stuck() {
        let mut pending = Pending::new(0);
        assert_eq!(seal(&mut pending, MAX_LARGE_OUT), Some(1));
        assert_eq!(seal(&mut pending, MAX_BYTES), None);
        assert!(pending.is_full());
        pending.notice_stuck();
        assert_eq!(pending.seal(JobId(2), Wall(0)).map(|batch| batch.number), Some(2));
        assert!(!pending.is_full(), "there is room for what comes");
        pending.stored(1);
        assert_eq!(seal(&mut pending, MAX_LARGE_OUT), None, "it is stuck no longer");
        pending.stored(2);
        assert_eq!(pending.seal(JobId(2), Wall(0)).map(|batch| batch.number), Some(3));
    }

    #[test]
    fn small_items_do_not_wait() {
        let mut pending = Pending::new(0);
        for number in 1..=3 {
            assert_eq!(seal(&mut pending, LARGE - 1), Some(number));
        }
    }

    #[test]
    fn what_is_full_of_bytes_takes_what_is_brief_up_to_a_bound() {
        let mut pending = Pending::new(0);
        pending.change(insert(MAX_BYTES));
        assert!(pending.is_full() && !pending.is_full_for_brief());
        pending.change(insert(MAX_BYTES_BRIEF));
        assert!(pending.is_full_for_brief());
    }
}
