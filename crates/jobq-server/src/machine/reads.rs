//! Questions to the store, and what their answers are for.

use std::collections::VecDeque;

use jobq_proto::message::RunRef;
use jobq_proto::{JobId, Status};
use jobq_transport::PeerId;

use super::{Machine, Map};
use crate::store::{JobState, Read, ReadAnswer, RunEnd, SessionId};
use crate::time::Now;

/// Most questions under way or waiting; while there are as many, no message is taken in.
const MAX_READS: usize = 64;

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
        status: Option<Status>,
        paged: bool,
    },
}

/// All questions.
#[derive(Default)]
pub(super) struct Reads {
    last: u64,
    waiting: VecDeque<Asked>,
    purposes: Map<ReadToken, Purpose>,
}

impl Reads {
    pub(super) fn ask(&mut self, read: Read, purpose: Purpose) {
        self.last += 1;
        let token = ReadToken(self.last);
        self.waiting.push_back(Asked { token, read });
        self.purposes.insert(token, purpose);
    }

    pub(super) fn poll(&mut self) -> Option<Asked> {
        self.waiting.pop_front()
    }

    pub(super) fn is_full(&self) -> bool {
        self.purposes.len() >= MAX_READS
    }
}

impl Machine {
    /// The store has answered a question.
    pub fn handle_read(&mut self, now: Now, token: ReadToken, answer: ReadAnswer) {
        self.tick(now);
        let purpose = self
            .reads
            .purposes
            .remove(&token)
            .expect("each question is answered once");
        match (purpose, answer) {
            (Purpose::Orders(ids), ReadAnswer::Records(records)) => self.payloads_read(&ids, records),
            (Purpose::Reports { session, reports }, ReadAnswer::Runs(statuses)) => {
                self.answer_reports(session, &reports, &statuses);
            }
            (Purpose::Adopt(naming), ReadAnswer::States(states)) => self.adopt(naming, states),
            (Purpose::Cancel(cancelling), ReadAnswer::States(states)) => {
                self.cancel_found(cancelling, &states)
            }
            (Purpose::RetryStates(retrying), ReadAnswer::States(states)) => {
                let ended = states
                    .iter()
                    .map(|s| s.as_ref().map(|s| matches!(s, JobState::Ended { .. })));
                self.retry_known(retrying, ended.collect());
            }
            (Purpose::RetryRecords(retrying), ReadAnswer::Records(records)) => {
                self.retry_read(retrying, records)
            }
            (Purpose::Watch { peer, request, ids }, ReadAnswer::States(states)) => {
                self.watch_checked(peer, request, &ids, states);
            }
            (
                Purpose::Query {
                    peer,
                    request,
                    status,
                    paged,
                },
                ReadAnswer::Query(answer),
            ) => {
                self.query_answered(peer, request, status, paged, answer);
            }
            (purpose, answer) => panic!("the store answered {purpose:?} with {answer:?}"),
        }
        self.dispatch();
    }
}
