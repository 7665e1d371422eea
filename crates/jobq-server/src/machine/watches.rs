//! Who waits for which jobs to end.

use std::collections::BTreeSet;

use bytes::Bytes;
use jobq_proto::message::{EndedJob, Watch};
use jobq_proto::{ErrorCode, JobId, WireError};
use jobq_transport::PeerId;

use super::names::NameKey;
use super::pending::Ending;
use super::progress::Follower;
use super::reads::Purpose;
use super::{Machine, Map};
use crate::store::{JobState, Read};

/// Most jobs in one question to the store.
const CHECK_JOBS: usize = 1_000;

/// Most bytes of results and reasons that come with the answers to one watch; more is to be asked for.
const MAX_INLINE: u64 = 8 * 1024 * 1024;

/// Jobs that a connection may watch however many the others watch: so nobody who watches a few is refused because of
/// those who watch many.
const SHARE: usize = 100;

/// All watches.
#[derive(Default)]
pub(super) struct Watches {
    by_job: BTreeSet<(JobId, PeerId, u64)>,
    by_watch: Map<(PeerId, u64), State>,
    sums: Map<PeerId, Sum>,
    /// Jobs of all of them, once for each watch.
    jobs: usize,
}

/// All watches of one connection together.
#[derive(Default)]
struct Sum {
    jobs: usize,
    bytes: u64,
}

struct State {
    jobs: BTreeSet<JobId>,
    /// How many bytes of results and reasons may still come with its answers.
    bytes: u64,
    /// If it wants to know how far its jobs have come.
    follower: Option<Follower>,
}

impl Watches {
    fn begin(&mut self, peer: PeerId, request: u64, jobs: BTreeSet<JobId>, bytes: u64) {
        let sum = self.sums.entry(peer).or_default();
        let bytes = bytes.min(MAX_INLINE - sum.bytes);
        sum.jobs += jobs.len();
        sum.bytes += bytes;
        self.jobs += jobs.len();
        self.by_job.extend(jobs.iter().map(|id| (*id, peer, request)));
        let state = State {
            jobs,
            bytes,
            follower: None,
        };
        self.by_watch.insert((peer, request), state);
    }

    /// How many jobs are watched, once for each watch.
    pub(super) fn len(&self) -> usize {
        self.jobs
    }

    /// Whether a watch of this number goes on.
    pub(super) fn has(&self, peer: PeerId, request: u64) -> bool {
        self.by_watch.contains_key(&(peer, request))
    }

    /// A watch is over before all its jobs have ended.
    pub(super) fn end(&mut self, peer: PeerId, request: u64) {
        let Some(state) = self.by_watch.remove(&(peer, request)) else {
            return;
        };
        self.subtract(peer, state.jobs.len(), state.bytes);
        for id in state.jobs {
            self.by_job.remove(&(id, peer, request));
        }
    }

    /// A connection is gone, and its watches with it.
    pub(super) fn forget(&mut self, peer: PeerId) {
        let gone: Vec<u64> = self
            .by_watch
            .range((peer, 0)..=(peer, u64::MAX))
            .map(|(key, _)| key.1)
            .collect();
        for request in gone {
            self.end(peer, request);
        }
    }

    /// A watch wants to know how far its jobs have come.
    pub(super) fn follow(&mut self, peer: PeerId, request: u64, follower: Follower) {
        if let Some(state) = self.by_watch.get_mut(&(peer, request)) {
            state.follower = Some(follower);
        }
    }

    /// What a watch is still to be told of its jobs' progress, if it wants to be.
    pub(super) fn follower(&mut self, peer: PeerId, request: u64) -> Option<&mut Follower> {
        self.by_watch.get_mut(&(peer, request))?.follower.as_mut()
    }

    /// Notes that a job's run has come further; the watches that want to know.
    pub(super) fn note_progress(&mut self, id: JobId) -> Vec<(PeerId, u64)> {
        let mut watches = self.watchers(id);
        watches.retain(|(peer, request)| {
            let follower = self.follower(*peer, *request);
            follower.map(|follower| follower.note(id)).is_some()
        });
        watches
    }

    /// Whether anybody watches a job.
    pub(super) fn is_watched(&self, id: JobId) -> bool {
        let from_here = (id, PeerId(0), 0)..;
        let next = self.by_job.range(from_here).next();
        next.is_some_and(|(watched, ..)| *watched == id)
    }

    fn watchers(&self, id: JobId) -> Vec<(PeerId, u64)> {
        let watches = self
            .by_job
            .range((id, PeerId(0), 0)..=(id, PeerId(u64::MAX), u64::MAX));
        watches.map(|&(_, peer, request)| (peer, request)).collect()
    }

    /// Takes a job out of a watch that is answered with `bytes` bytes: whether they may be sent; none if the watch
    /// does not wait for the job.
    fn answer(&mut self, peer: PeerId, request: u64, id: JobId, bytes: u64) -> Option<bool> {
        let state = self.by_watch.get_mut(&(peer, request))?;
        if !state.jobs.remove(&id) {
            return None;
        }
        if let Some(follower) = &mut state.follower {
            follower.forget(id);
        }
        let fits = bytes <= state.bytes;
        let mut freed = if fits { bytes } else { 0 };
        state.bytes -= freed;
        if state.jobs.is_empty() {
            freed += state.bytes;
            self.by_watch.remove(&(peer, request));
        }
        self.subtract(peer, 1, freed);
        self.by_job.remove(&(id, peer, request));
        Some(fits)
    }

    fn subtract(&mut self, peer: PeerId, jobs: usize, bytes: u64) {
        self.jobs -= jobs;
        if let Some(sum) = self.sums.get_mut(&peer) {
            sum.jobs -= jobs;
            sum.bytes -= bytes;
            if sum.jobs == 0 {
                self.sums.remove(&peer);
            }
        }
    }
}

impl Machine {
    /// Begins a watch. Whether its jobs have ended already is asked afterwards, so that no end falls between.
    pub(super) fn watch(&mut self, peer: PeerId, watch: Watch) {
        let Watch {
            request,
            ids,
            bytes,
            progress,
        } = watch;
        if let Err(error) = self.check_number(peer, request) {
            return self.refuse(peer, request, error);
        }
        if let Err(error) = self.check_watched(peer, ids.len()) {
            return self.refuse(peer, request, error);
        }
        let jobs: BTreeSet<JobId> = ids.into_iter().map(JobId).collect();
        let may_touch_all = self.may_touch_all(peer);
        // A job that has a lease, or whose record is kept for its order, has not ended; the others may have, or are
        // of a name that does not exist for this peer.
        let ids: Vec<JobId> = jobs
            .iter()
            .copied()
            .filter(|id| !may_touch_all || (self.leases.find(*id).is_none() && !self.payloads.knows(*id)))
            .collect();
        let followed = progress.then(|| jobs.clone());
        self.watches.begin(peer, request, jobs, bytes);
        if let Some(jobs) = followed {
            self.begin_following(peer, request, &jobs);
        }
        for ids in ids.chunks(CHECK_JOBS) {
            let read = Read::States {
                ids: ids.to_vec(),
                result_bytes: bytes,
            };
            let purpose = Purpose::Watch {
                peer,
                request,
                ids: ids.to_vec(),
            };
            self.read_after_durable(read, purpose);
        }
    }

    /// Whether a peer may watch so many more jobs.
    fn check_watched(&self, peer: PeerId, jobs: usize) -> Result<(), WireError> {
        let own = self.watches.sums.get(&peer).map_or(0, |sum| sum.jobs) + jobs;
        let most = self.config.limits.watches;
        if jobs == 0 || own as u64 > most {
            return Err(WireError::new(
                ErrorCode::TooManyItems,
                format!("a connection watches 1 to {most} jobs at a time"),
            ));
        }
        if own > SHARE && self.watches.jobs + jobs > self.config.watches {
            return Err(WireError::new(
                ErrorCode::WindowExceeded,
                format!(
                    "as many jobs are watched as the server keeps in mind, {} of them; repeat when some have ended",
                    self.watches.jobs
                ),
            ));
        }
        Ok(())
    }

    /// The store has said which watched jobs had ended before they were watched.
    pub(super) fn watch_checked(
        &mut self,
        peer: PeerId,
        request: u64,
        ids: &[JobId],
        states: Vec<Option<JobState>>,
    ) {
        for (id, state) in ids.iter().zip(states) {
            match state {
                Some(JobState::Live { .. }) => {}
                Some(JobState::Ended {
                    name: _,
                    status,
                    reason,
                    result,
                    omitted,
                }) => {
                    let end = EndedJob {
                        id: id.0,
                        status: Some(status),
                        reason,
                        result,
                        omitted,
                    };
                    self.answer_watch(peer, request, end);
                }
                None => {
                    let none = EndedJob {
                        id: id.0,
                        status: None,
                        reason: None,
                        result: None,
                        omitted: false,
                    };
                    self.answer_watch(peer, request, none);
                }
            }
        }
    }

    /// A job has ended, durably.
    pub(super) fn tell_watchers(&mut self, id: JobId, name: NameKey, ending: &Ending) {
        for (peer, request) in self.watches.watchers(id) {
            if !self.may_touch(peer, name) {
                continue; // It was not checked yet, and is told that there is no such job.
            }
            let end = EndedJob {
                id: id.0,
                status: Some(ending.status),
                reason: ending.reason.clone(),
                result: ending.result.clone(),
                omitted: false,
            };
            self.answer_watch(peer, request, end);
        }
    }

    fn answer_watch(&mut self, peer: PeerId, request: u64, mut end: EndedJob) {
        let bytes = end.reason.as_ref().map_or(0, String::len) + end.result.as_ref().map_or(0, Bytes::len);
        match self.watches.answer(peer, request, JobId(end.id), bytes as u64) {
            None => return,
            Some(true) => {}
            Some(false) => {
                end.reason = None;
                end.result = None;
                end.omitted = true;
            }
        }
        self.outbox.ended(peer, request, end);
    }
}
