//! What was promised, by a judge who has never seen the machine.
//!
//! The model hears every message that the machine hears and says, and sees each batch that goes to the disk and whether it
//! got there. From that alone it knows what has to be so, and says what is not. It keeps what clients were acknowledged,
//! which runs were handed out under which fences, what was reported on them, and why each of them may have ended.

mod absence;
mod batches;
mod ends;
mod hearing;
mod orders;

use std::collections::{BTreeMap, BTreeSet};

use jobq_proto::message::{Submission, Work};
use jobq_proto::{Fence, Priority, Status};
use jobq_server::machine::Config;
use jobq_server::store::{LiveJob, Recovered, RunEnd};
use uuid::Uuid;

use super::agenda::{At, ConnId, PeerIx};
use crate::Chance;

/// All that is known.
pub(super) struct Model {
    /// What is wrong, if anything is.
    pub(super) wrong: Option<String>,
    /// The calendar as it is.
    pub(super) wall: i64,
    now: At,
    numbers: u64,
    config: Config,
    /// The epoch and the beginning of the server's life.
    epoch: u64,
    begun: At,
    is_up: bool,
    stopping: bool,
    asked: BTreeMap<Uuid, Submission>,
    /// When the server heard of them.
    heard: BTreeMap<Uuid, Heard>,
    /// Uuids under which something else was asked for, too.
    disputed: BTreeMap<Uuid, Submission>,
    jobs: BTreeMap<u64, Job>,
    by_uuid: BTreeMap<Uuid, u64>,
    /// Jobs whose time has not come.
    timed: BTreeSet<u64>,
    /// Jobs that may be handed out, and are not.
    in_line: BTreeSet<u64>,
    runs: BTreeMap<Fence, Run>,
    /// Runs whose end is not known to the machine for all that the model knows.
    live: BTreeSet<Fence>,
    conns: BTreeMap<ConnId, ConnState>,
    sessions: BTreeMap<u64, SessionState>,
    /// Whose requests the unanswered ones are.
    requests: BTreeMap<(ConnId, u64), Vec<Uuid>>,
    cancels: BTreeSet<u64>,
    retries: BTreeSet<u64>,
    /// What clients were told, for the checks that histories of processes go through as well.
    acknowledged: Vec<(u64, Uuid)>,
    /// Runs in the order in which they were handed out.
    ordered: Vec<(u64, Fence)>,
    told_ends: BTreeMap<u64, Status>,
    /// Batches that are not on disk, by number: which runs and jobs they end.
    out: BTreeMap<u64, Vec<Ending>>,
    /// The network has repeated what somebody said on a connection, on another.
    repeats: bool,
    /// When the batches that are not on disk were handed to the store.
    handed: BTreeMap<u64, At>,
    handlers: BTreeMap<u64, BTreeSet<(PeerIx, Fence)>>,
    /// Whether records are being read for orders, so that the order of orders says little.
    pub(super) reading: bool,
    /// How often the server has started.
    starts: u64,
    /// Runs that a mutant has taken a wrong report for: who reported, under which fence.
    pub(super) forged: BTreeMap<Fence, (ConnId, Fence)>,
    /// What was handed out in this round, and whether it is certain that nothing was chosen before.
    round_orders: Vec<(Fence, u64, bool)>,
    /// Runs that were handed out beyond a cap's own numbers: they were there at a start.
    resumed_runs: BTreeSet<Fence>,
    /// Sessions from before the start that may have runs of which nothing is known.
    absent: BTreeMap<u64, absence::Absent>,
    /// Jobs that waited at the start, and may be held back for those.
    waited_at_start: BTreeSet<u64>,
    /// When the server looked last at what is due.
    timers_at: At,
    /// The last batch that was handed to the store.
    last_batch: u64,
    /// When a batch became durable last.
    stored_at: At,
    /// Nothing changes any more, and what the server counts is compared with what there is.
    judges_stats: bool,
    pub(super) stats_judged: u64,
}

/// A job that is on disk.
#[derive(Debug)]
struct Job {
    uuid: Uuid,
    name: String,
    priority: Priority,
    bytes: u64,
    max_attempts: u32,
    /// Its last run that was handed out.
    last: Option<Fence>,
    attempts: u32,
    charges: u32,
    /// It never waited for a time, so its place in line is that of its arrival.
    plain: bool,
    /// From when on it may run, if it waits for a time.
    wait: Option<Wait>,
    /// Since when it certainly stands in line.
    strict: bool,
    /// Until then it may have been given to a worker that never heard of it.
    doubtful_until: At,
    /// It has ended, or will have once a batch is on disk.
    ending: Option<u64>,
    ended: Option<(Status, At, u64)>,
    cancel_asked: bool,
    /// Somebody asked to cancel it by its id before it was on disk, and may be told that there is no such job.
    cancelled_early: bool,
    /// Its record might have gone in an earlier life of the server.
    could_go: bool,
}

/// What a job waits for.
#[derive(Debug, Clone, Copy)]
struct Wait {
    wall: i64,
    /// A length of time, and not a moment: it goes by this, and by the calendar only after a start.
    mono: Option<At>,
    starts: u64,
    came: bool,
}

/// A run that was handed out.
#[derive(Debug)]
struct Run {
    id: u64,
    session: u64,
    ordered: At,
    timeout: Option<At>,
    /// When its worker said that it had started.
    started: Option<At>,
    report: Option<Report>,
    /// When that was heard.
    reported: At,
    /// Its worker came back and did not name it.
    unnamed: bool,
    /// In which of the server's lives its worker last named it, or was given it.
    known_in: u64,
    /// Other sessions that have named it after a start. Its own may be over without a trace on disk: then whoever comes back
    /// with the run goes on with it, and that is its worker under a new session.
    claimed: BTreeSet<u64>,
    /// That it was handed out is on disk.
    leased: bool,
    /// How it ended, once that is in a batch, and whether the batch is on disk.
    end: Option<(RunEnd, u64, bool)>,
}

/// What a worker said of the end of its run.
#[derive(Debug, Clone)]
enum Report {
    Completed(Option<bytes::Bytes>),
    Failed {
        never: bool,
        after: Option<u64>,
        at: At,
        wall: i64,
    },
    Released,
}

#[derive(Debug, Default)]
struct ConnState {
    session: Option<u64>,
    work: Option<Work>,
    resumed: bool,
}

#[derive(Debug)]
struct SessionState {
    work: Work,
    conn: Option<ConnId>,
    /// When its connection was seen to end.
    gone: Option<At>,
    heard: At,
    /// When it was given a run and had none.
    at_work: At,
    goodbye: bool,
    /// The server has written down that it is over, and that is on disk.
    closed: bool,
    /// That was for its silence: its connection was there, and it had not said goodbye.
    silenced: bool,
    gone_for_good: bool,
    /// It has asked for less in this round.
    asks_for_less: bool,
}

/// When a job was heard of: first, and at the earliest and the latest time that the calendar has had then.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: At,
    wall: i64,
    latest: i64,
}

/// What a batch ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Run(Fence),
    Job(u64),
    Session(u64),
}

impl Model {
    pub(super) fn new(config: Config) -> Self {
        Self {
            wrong: None,
            wall: 0,
            now: 0,
            numbers: 0,
            config,
            epoch: 0,
            begun: 0,
            is_up: false,
            stopping: false,
            asked: BTreeMap::new(),
            heard: BTreeMap::new(),
            disputed: BTreeMap::new(),
            jobs: BTreeMap::new(),
            by_uuid: BTreeMap::new(),
            timed: BTreeSet::new(),
            in_line: BTreeSet::new(),
            runs: BTreeMap::new(),
            live: BTreeSet::new(),
            conns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            requests: BTreeMap::new(),
            cancels: BTreeSet::new(),
            retries: BTreeSet::new(),
            acknowledged: Vec::new(),
            ordered: Vec::new(),
            told_ends: BTreeMap::new(),
            out: BTreeMap::new(),
            repeats: false,
            handed: BTreeMap::new(),
            handlers: BTreeMap::new(),
            reading: false,
            starts: 0,
            forged: BTreeMap::new(),
            round_orders: Vec::new(),
            resumed_runs: BTreeSet::new(),
            absent: BTreeMap::new(),
            waited_at_start: BTreeSet::new(),
            timers_at: 0,
            last_batch: 0,
            stored_at: 0,
            judges_stats: false,
            stats_judged: 0,
        }
    }

    /// Something is not as it has to be.
    fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// A number that no job has.
    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A client is about to submit a job.
    pub(super) fn asked(&mut self, job: &Submission) {
        self.asked.entry(job.uuid).or_insert_with(|| job.clone());
    }

    /// A client is about to submit another job under a uuid that is in use.
    pub(super) fn asked_otherwise(&mut self, job: &Submission) {
        self.disputed.insert(job.uuid, job.clone());
    }

    /// The priority that was asked for.
    pub(super) fn priority_of(&self, uuid: Uuid) -> Option<Priority> {
        let asked = self.asked.get(&uuid)?;
        Some(
            asked
                .priority
                .as_deref()
                .and_then(|priority| priority.parse().ok())
                .unwrap_or_default(),
        )
    }

    /// Something that somebody has submitted.
    pub(super) fn any_submission(&self, chance: &mut Chance) -> Option<Submission> {
        let place = chance.between(0, (self.asked.len() as u64).max(1) - 1);
        self.asked
            .values()
            .nth(usize::try_from(place).unwrap_or(0))
            .cloned()
    }

    /// Some jobs that there are, and now and then one that there is not. The latest are the most likely.
    pub(super) fn any_ids(&self, chance: &mut Chance, most: u64) -> Vec<u64> {
        let Some((&last, _)) = self.jobs.last_key_value() else {
            return Vec::new();
        };
        let count = chance.between(1, most);
        let one = |_| match chance.between(0, 20) {
            0 => last + 1_000,
            1..=8 => chance.between(1, last),
            _ => last - chance.between(0, last.min(12) - 1),
        };
        (0..count).map(one).collect()
    }

    /// A process of the server begins with what the disk has.
    pub(super) fn server_started(
        &mut self,
        now: At,
        recovered: &Recovered,
        live: &[LiveJob],
        config: &Config,
    ) {
        self.now = now;
        self.starts += 1;
        self.begun = now;
        self.is_up = true;
        self.stopping = false;
        if recovered.epoch <= self.epoch {
            self.wrong(format!(
                "the epoch {} is not above the one before, {}",
                recovered.epoch, self.epoch
            ));
        }
        self.epoch = recovered.epoch;
        self.config = config.clone();
        let ids: BTreeSet<u64> = live.iter().map(|job| job.id.0).collect();
        let lost = self
            .jobs
            .iter()
            .find(|(id, job)| job.ended.is_none() && !ids.contains(id))
            .map(|(id, _)| *id);
        if let Some(id) = lost {
            self.wrong(format!("job {id} was on disk, and is not there at the start"));
        }
        let again = live
            .iter()
            .find(|live| self.jobs.get(&live.id.0).is_none_or(|job| job.ended.is_some()));
        if let Some(job) = again {
            self.wrong(format!("job {} is live at the start, and should not be", job.id));
        }
        self.resumed_runs = self.live.clone();
        self.await_sessions(recovered);
        // What survived the crash is in line with all the others.
        self.in_line = live
            .iter()
            .filter(|job| job.lease.is_none() && !job.cancelling)
            .map(|job| job.id.0)
            .filter(|id| self.jobs.get(id).is_some_and(|job| job.wait.is_none()))
            .collect();
        self.waited_at_start = self.in_line.clone();
    }

    /// The server's process is gone, with all its connections. What it had not on disk has not happened.
    pub(super) fn server_ended(&mut self, now: At) {
        self.now = now;
        self.is_up = false;
        let gone: Vec<u64> = self
            .jobs
            .keys()
            .copied()
            .filter(|id| self.may_be_gone(*id))
            .collect();
        for id in gone {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.could_go = true;
            }
        }
        self.requests.clear();
        self.conns.clear();
        self.in_line.clear();
        self.round_orders.clear();
        for session in self.sessions.values_mut() {
            session.conn = None;
            session.gone.get_or_insert(now);
        }
        for job in self.jobs.values_mut() {
            job.strict = false;
        }
    }

    /// After a crash it is known which batches were lost.
    pub(super) fn batches_lost(&mut self) {
        self.handed.clear();
        for (_, endings) in std::mem::take(&mut self.out) {
            for ending in endings {
                match ending {
                    Ending::Run(fence) => {
                        if let Some(run) = self.runs.get_mut(&fence) {
                            run.end = None;
                            self.live.insert(fence);
                        }
                    }
                    Ending::Job(id) => {
                        if let Some(job) = self.jobs.get_mut(&id) {
                            job.ending = None;
                            if job.wait.is_some() {
                                self.timed.insert(id);
                            }
                        }
                    }
                    Ending::Session(id) => {
                        if let Some(session) = self.sessions.get_mut(&id) {
                            session.closed = false;
                            session.silenced = false;
                        }
                    }
                }
            }
        }
    }

    /// The network repeats what somebody said on a connection, on another: whoever it was may seem to have come back.
    pub(super) fn connection_is_doubled(&mut self) {
        self.repeats = true;
    }

    /// The server has been told to stop.
    pub(super) fn server_stops(&mut self) {
        self.stopping = true;
    }

    /// The run that a job has, as far as is known, and the connection of its worker.
    pub(super) fn current_run(&self, id: u64) -> Option<(Fence, ConnId)> {
        let fence = self.jobs.get(&id)?.last?;
        let run = self.runs.get(&fence).filter(|run| run.end.is_none())?;
        let conn = self.sessions.get(&run.session)?.conn?;
        Some((fence, conn))
    }

    /// A handler is called.
    pub(super) fn handler_starts(&mut self, _: At, worker: PeerIx, order: &jobq_proto::message::OrderedJob) {
        let run = self.runs.get(&order.fence);
        let session = run.and_then(|run| self.sessions.get(&run.session));
        if run.is_none() {
            self.wrong(format!(
                "a handler is called for {}, which nobody handed out",
                order.fence
            ));
        } else if session.is_some_and(|session| session.silenced) {
            self.wrong(format!(
                "a handler is called for {}, which was given up since its worker was silent",
                order.fence
            ));
        }
        let handlers = self.handlers.entry(order.id).or_default();
        if !handlers.insert((worker, order.fence)) {
            self.wrong(format!(
                "worker {worker} calls a handler twice for {}",
                order.fence
            ));
        }
    }

    /// A handler ends, or goes with its worker.
    pub(super) fn handler_ends(&mut self, worker: PeerIx, id: u64, fence: Fence) {
        if let Some(handlers) = self.handlers.get_mut(&id) {
            handlers.remove(&(worker, fence));
        }
    }
}
