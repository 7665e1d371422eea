//! Questions to the store, and what their answers are for.

use std::collections::VecDeque;

use jobq_proto::message::RunRef;
use jobq_proto::{ErrorCode, JobId, WireError};
use jobq_transport::PeerId;
use uuid::Uuid;

use super::{Machine, Map};
use crate::store::{JobState, Read, ReadAnswer, RunEnd, SessionId};
use crate::time::Now;

/// Most questions under way or waiting, Queries and parts of copies apart; while there are as many, no message is
/// taken in.
const MAX_READS: usize = 64;

/// Most Queries that the store has at a time: it answers one after the other, and what it has stands before whatever
/// comes from others. What people look at is slow at times, and holds nothing else up.
const MAX_QUERIES: usize = 4;

/// Most Queries that wait beside those; more are refused, save to peers of whom fewer wait than [`SHARE`].
const MAX_QUERIES_WAITING: usize = 4_096;

/// Queries of one peer that may wait however many of others do.
const SHARE: usize = 4;

/// A question's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadToken(u64);

/// A question on its way to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The number, for [`Machine::handle_read`].
    pub token: ReadToken,
    /// The question.
    pub read: Read,
}

/// What an answer is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Jobs are to be ordered.
    Orders(Vec<JobId>),
    /// Reports that fit no lease are to be answered.
    Reports {
        session: SessionId,
        reports: Vec<(RunRef, RunEnd)>,
    },
    /// Runs that a worker names are to be adopted, if they may.
    Adopt(super::recovery::Naming),
    /// Jobs are to be cancelled.
    Cancel(super::ask::Cancelling),
    /// Ended jobs are to be submitted again: whether they have ended.
    RetryStates(super::ask::Retrying),
    /// Ended jobs are to be submitted again: what they were.
    RetryRecords(super::ask::Retrying),
    /// Watched jobs may have ended already.
    Watch {
        peer: PeerId,
        request: u64,
        ids: Vec<JobId>,
    },
    /// Somebody asked.
    Query {
        peer: PeerId,
        request: u64,
        listing: super::query::Listing,
    },
    /// Somebody fetches a copy of the store.
    BackupPart { peer: PeerId, request: u64, id: Uuid },
}

/// All questions.
#[derive(Default)]
pub(super) struct Reads {
    last: u64,
    waiting: VecDeque<Asked>,
    purposes: Map<ReadToken, Purpose>,
    queries_waiting: Queries,
    queries_out: usize,
    /// Bounded by whoever asks for them.
    backup_parts: usize,
}

/// Queries that wait, taken from each peer in turn: whoever asks for much, or for what takes long to find, keeps nobody
/// waiting but itself.
#[derive(Default)]
struct Queries {
    by_peer: Map<PeerId, VecDeque<Asked>>,
    /// The peers that have some, each once.
    turn: VecDeque<PeerId>,
    count: usize,
}

impl Queries {
    fn put(&mut self, peer: PeerId, query: Asked) {
        let waiting = self.by_peer.entry(peer).or_default();
        if waiting.is_empty() {
            self.turn.push_back(peer);
        }
        waiting.push_back(query);
        self.count += 1;
    }

    /// The next one of a peer that reads its answers.
    fn take(&mut self, mut reads: impl FnMut(PeerId) -> bool) -> Option<Asked> {
        let place = self.turn.iter().position(|peer| reads(*peer))?;
        let peer = self.turn.remove(place)?;
        let waiting = self.by_peer.get_mut(&peer)?;
        let query = waiting.pop_front();
        if waiting.is_empty() {
            self.by_peer.remove(&peer);
        } else {
            self.turn.push_back(peer);
        }
        self.count -= usize::from(query.is_some());
        query
    }

    /// How many of one peer wait.
    fn of(&self, peer: PeerId) -> usize {
        self.by_peer.get(&peer).map_or(0, VecDeque::len)
    }
}

impl Reads {
    pub(super) fn ask(&mut self, read: Read, purpose: Purpose) {
        self.last += 1;
        let token = ReadToken(self.last);
        self.backup_parts += usize::from(matches!(purpose, Purpose::BackupPart { .. }));
        if let Purpose::Query { peer, .. } = purpose {
            self.queries_waiting.put(peer, Asked { token, read });
        } else {
            self.waiting.push_back(Asked { token, read });
        }
        self.purposes.insert(token, purpose);
    }

    /// The next question; of the Queries, one of a peer that reads its answers.
    pub(super) fn poll(&mut self, reads: impl FnMut(PeerId) -> bool) -> Option<Asked> {
        self.waiting.pop_front().or_else(|| {
            if self.queries_out == MAX_QUERIES {
                return None;
            }
            let query = self.queries_waiting.take(reads)?;
            self.queries_out += 1;
            Some(query)
        })
    }

    /// Whether Queries wait that the store has room for: those of peers that do not read.
    pub(super) fn holds_queries(&self) -> bool {
        self.queries_out < MAX_QUERIES && self.queries_waiting.count > 0
    }

    /// How many have no answer.
    pub(super) fn len(&self) -> usize {
        self.purposes.len()
    }

    /// Whether another Query of a peer can be taken.
    pub(super) fn has_room_for_query(&self, peer: PeerId) -> bool {
        self.queries_waiting.count < MAX_QUERIES_WAITING || self.queries_waiting.of(peer) < SHARE
    }

    pub(super) fn is_full(&self) -> bool {
        let others = self.queries_waiting.count + self.queries_out + self.backup_parts;
        self.purposes.len() - others >= MAX_READS
    }

    /// What a question was for that has been answered.
    fn answered(&mut self, token: ReadToken) -> Purpose {
        let purpose = self
            .purposes
            .remove(&token)
            .expect("each question is answered once");
        self.queries_out -= usize::from(matches!(purpose, Purpose::Query { .. }));
        self.backup_parts -= usize::from(matches!(purpose, Purpose::BackupPart { .. }));
        purpose
    }
}

impl Machine {
    /// The store has answered a question.
    pub fn handle_read(&mut self, now: Now, token: ReadToken, answer: ReadAnswer) {
        self.tick(now);
        let purpose = self.reads.answered(token);
        match (purpose, answer) {
            (Purpose::Orders(ids), ReadAnswer::Records(records)) => self.payloads_read(&ids, records),
            (Purpose::Reports { session, reports }, ReadAnswer::Runs(statuses)) => {
                self.answer_reports(session, &reports, &statuses);
            }
            (Purpose::Adopt(naming), ReadAnswer::States(states)) => self.adopt(naming, states),
            (Purpose::Cancel(cancelling), ReadAnswer::States(states)) => {
                let states = self.visible(cancelling.peer(), states);
                self.cancel_found(cancelling, &states)
            }
            (Purpose::RetryStates(retrying), ReadAnswer::States(states)) => {
                let states = self.visible(retrying.peer(), states);
                let ended = states
                    .iter()
                    .map(|s| s.as_ref().map(|s| matches!(s, JobState::Ended { .. })));
                self.retry_known(retrying, ended.collect());
            }
            (Purpose::RetryRecords(retrying), ReadAnswer::Records(records)) => {
                self.retry_read(retrying, records)
            }
            (Purpose::Watch { peer, request, ids }, ReadAnswer::States(states)) => {
                let states = self.visible(peer, states);
                self.watch_checked(peer, request, &ids, states);
            }
            (
                Purpose::Query {
                    peer,
                    request,
                    listing,
                },
                ReadAnswer::Query(answer),
            ) => {
                self.query_answered(peer, request, listing, answer);
            }
            (Purpose::BackupPart { peer, request, id }, ReadAnswer::BackupPart(bytes)) => {
                self.backup_read(peer, request, id, bytes);
            }
            _ => panic!("the store gave an answer of another kind than the question"),
        }
        self.dispatch();
    }

    /// The store could not answer a question. Whether that concerns nobody but who asked.
    pub fn handle_unread(&mut self, now: Now, token: ReadToken) -> bool {
        self.tick(now);
        let (peer, request) = match self.reads.answered(token) {
            Purpose::Query { peer, request, .. } => (peer, request),
            Purpose::BackupPart { peer, request, id } => {
                self.part_ended(id);
                (peer, request)
            }
            _ => return false,
        };
        self.end_request(peer, request);
        let error = WireError::new(
            ErrorCode::Internal,
            "the store could not be read; the server's log says why",
        );
        self.refuse(peer, request, error);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::query::Listing;
    use crate::store::Select;

    fn ask(reads: &mut Reads, peer: u64) {
        let query = crate::store::Query {
            select: Select::Ids(Vec::new()),
            only: crate::access::NamePatterns::all(),
            params: false,
            result: false,
            runs: false,
            max_bytes: 0,
            now: crate::time::Wall(0),
            max_attempts: 1,
            patience: std::time::Duration::ZERO,
        };
        let purpose = Purpose::Query {
            peer: PeerId(peer),
            request: 0,
            listing: Listing::Named,
        };
        reads.ask(Read::Query(query), purpose);
    }

    fn next_peer(reads: &mut Reads) -> Option<u64> {
        let asked = reads.poll(|_| true)?;
        match reads.answered(asked.token) {
            Purpose::Query { peer, .. } => Some(peer.0),
            other => panic!("{other:?} was never asked for"),
        }
    }

    #[test]
    fn whoever_asks_for_much_keeps_nobody_waiting_but_itself() {
        let mut reads = Reads::default();
        for _ in 0..MAX_QUERIES_WAITING {
            ask(&mut reads, 1);
        }
        assert!(!reads.has_room_for_query(PeerId(1)));
        assert!(reads.has_room_for_query(PeerId(2)), "the others have a share");
        assert_eq!(next_peer(&mut reads), Some(1));
        ask(&mut reads, 2);
        ask(&mut reads, 3);
        let next: Vec<_> = (0..4).map(|_| next_peer(&mut reads)).collect();
        assert_eq!(next, [1, 2, 3, 1].map(Some));
        let rest = std::iter::from_fn(|| next_peer(&mut reads)).count();
        assert_eq!(rest, MAX_QUERIES_WAITING - 3);
        assert!(reads.queries_waiting.by_peer.is_empty());
    }

    #[test]
    fn the_store_has_a_few_queries_at_a_time() {
        let mut reads = Reads::default();
        for _ in 0..2 * MAX_QUERIES {
            ask(&mut reads, 1);
        }
        assert_eq!(std::iter::from_fn(|| reads.poll(|_| true)).count(), MAX_QUERIES);
    }
}
