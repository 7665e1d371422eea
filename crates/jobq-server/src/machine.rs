//! The whole logic of the server, without I/O.
//!
//! [`Machine`] is told what happens (`handle_*`) and says what is to be done (`poll_*`). It has no socket, clock,
//! random source or task; time is an argument, chance a generator with a seed, and all its maps are ordered, so
//! that the same calls give the same trace.
//!
//! How a job goes through it: [`submit`](self) takes it into the open [`pending`](self) batch; once that is
//! durable the job waits in [`lines`](self); `dispatch` leases it to a session and orders it; `settle` ends the
//! run and, durably, the job. `hello` and `sessions` know who is there, `recovery` what was there before the
//! start, `query` and `ask` answer questions, `timers` knows what is due. What a peer may do is for `access` to say.
//!
//! **Whatever depends on a change is held until that change is durable**, refusals included: such consequences
//! are `Effect`s of the batch, carried out by [`Machine::handle_stored`].

#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

mod access;
mod admission;
mod ask;
mod backup;
mod config;
mod dispatch;
mod failures;
mod footprint;
mod hearing;
mod hello;
mod lane;
mod leases;
mod line;
mod lines;
mod name_index;
mod names;
mod pace;
mod packed;
mod paged_map;
mod pauses;
mod payloads;
mod peers;
mod pending;
mod priority_queue;
mod progress;
mod query;
mod queue_limits;
mod reads;
mod recovery;
mod retention;
mod scheduled;
mod sessions;
mod settle;
mod silence;
mod submit;
mod timers;
mod transmit;
mod watches;

use std::collections::{BTreeMap, BTreeSet};

use jobq_proto::{Fence, JobId, ServerMessage, WireError};
use jobq_transport::{CloseReason, LogBudget, PeerId, PeerInfo};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::store::{Batch, Read, Recovered, SessionId, Space, Stored};
use crate::time::{Mono, Now, Wall};

pub use config::{Config, QueueLimits};
pub use footprint::Footprint;
pub use reads::{Asked, ReadToken};
pub use retention::Keep;
pub use transmit::Transmit;

use access::Access;
use admission::Admission;
use backup::Backups;
use lane::LaneKey;
use leases::Leases;
use lines::Lines;
use names::Names;
use payloads::Payloads;
use peers::Peers;
use pending::{Effect, Pending};
use reads::{Purpose, Reads};
use recovery::Recovery;
use retention::Retention;
use scheduled::Scheduled;
use sessions::Sessions;
use timers::Timers;
use transmit::Outbox;
use watches::Watches;

/// The server's state machine. The module's text says how to read it.
///
/// Contract: `now` never goes back in its `mono` part. After any `handle_*`, poll until every `poll_*` says
/// `None`, batches first; at most as many batches are out as the caller likes, and each is answered by
/// [`Machine::handle_stored`] in order, each read by [`Machine::handle_read`] in any order. While
/// [`Machine::accepts`] is false, no timeouts are handed in, and of the messages only those that are brief while
/// [`Machine::accepts_brief`], and those that [`Machine::hears`]; now and then [`Machine::handle_hearing`] is called
/// instead.
pub struct Machine {
    config: Config,
    rng: ChaCha12Rng,
    now: Now,
    started: Mono,
    identity: uuid::Uuid,
    epoch: u64,
    last_seq: u64,
    next_id: JobId,
    clock: Wall,
    access: Access,
    admission: Admission,
    names: Names,
    peers: Peers,
    sessions: Sessions,
    lines: Lines,
    scheduled: Scheduled,
    /// Lanes that jobs have come to while sessions keep themselves free for others.
    overtaking: BTreeSet<LaneKey>,
    leases: Leases,
    payloads: Payloads,
    pending: Pending,
    reads: Reads,
    outbox: Outbox,
    timers: Timers,
    recovery: Recovery,
    retention: Retention,
    watches: Watches,
    backups: Backups,
    totals: Totals,
    /// Lines in the log about peers that are refused.
    refusals: LogBudget,
    space: Space,
    closing: bool,
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Jobs taken.
    pub submitted: u64,
    /// Runs settled.
    pub settled: u64,
    /// Leases lost.
    pub lost: u64,
}

impl Machine {
    /// A machine that goes on where the store was left, with no live job loaded yet: [`Machine::load`] follows,
    /// before anything is handled.
    pub fn new(config: Config, recovered: &Recovered, seed: [u8; 32], now: Now) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let mut machine = Self {
            now,
            started: now.mono,
            identity: recovered.identity,
            epoch: recovered.epoch,
            last_seq: 0,
            next_id: recovered.next_id,
            clock: recovered.clock.max(now.wall),
            access: Access::new(&config),
            admission: Admission::default(),
            names: Names::new(&recovered.names, &config.caps, rng.next_u64()),
            peers: Peers::default(),
            sessions: Sessions::new(recovered.epoch),
            lines: Lines::default(),
            scheduled: Scheduled::default(),
            overtaking: BTreeSet::new(),
            leases: Leases::default(),
            payloads: Payloads::new(config.payload_budget),
            pending: Pending::new(recovered.last_batch),
            reads: Reads::default(),
            outbox: Outbox::new(&config.limits),
            timers: Timers::default(),
            recovery: Recovery::new(recovered.next_id),
            retention: Retention::new(&config.keep, &recovered.names, recovered.clock, now),
            watches: Watches::default(),
            backups: Backups::default(),
            totals: Totals::default(),
            refusals: LogBudget::default(),
            space: Space::Enough,
            closing: false,
            rng,
            config,
        };
        machine.recover_sessions(&recovered.sessions);
        machine
    }

    /// Serving begins. Sessions from before the start have their time from now on: nobody could come back while the
    /// jobs were loaded.
    pub fn begin(&mut self, now: Now) {
        self.tick(now);
        self.extend_absent(now.mono.since(self.started));
        self.retention.begin(now.mono);
    }

    /// Whether there is room for more messages and for timeouts. While there is not, leases do not run out: what
    /// the workers have sent may not have been heard.
    pub fn accepts(&self) -> bool {
        !self.pending.is_full() && !self.reads.is_full()
    }

    /// Whether there is room for messages that are brief, as there is also beside large params. It is for the caller to
    /// say what is brief, some kilobytes, and to let no message of a peer overtake another.
    pub fn accepts_brief(&self) -> bool {
        !self.pending.is_full_for_brief() && !self.reads.is_full()
    }

    /// A peer has connected.
    pub fn handle_opened(&mut self, now: Now, peer: PeerId, info: PeerInfo) {
        self.tick(now);
        self.peers.open(peer, info);
    }

    /// A peer has sent a message.
    pub fn handle_message(&mut self, now: Now, peer: PeerId, message: ServerMessage) {
        self.tick(now);
        let Some(known) = self.peers.find(peer) else {
            return; // What still comes from a connection that was closed is ignored.
        };
        match (known.session, message) {
            (None, ServerMessage::Hello(hello)) => self.hello(peer, *hello),
            (None, _) => self.refuse_peer(
                peer,
                WireError::new(
                    jobq_proto::ErrorCode::HelloExpected,
                    "the first message of a connection is Hello",
                ),
            ),
            (Some(session), message) => {
                let limited = known
                    .grant
                    .as_ref()
                    .filter(|grant| !grant.is_unlimited())
                    .cloned();
                self.renew(session);
                if limited.is_none_or(|grant| self.may_send(peer, &grant, &message)) {
                    self.converse(peer, session, message);
                }
            }
        }
        self.dispatch();
    }

    /// Nothing more comes from a peer.
    pub fn handle_closed(&mut self, now: Now, peer: PeerId) {
        self.tick(now);
        self.forget_peer(peer);
        self.dispatch();
    }

    /// The oldest batch that was handed out is durable.
    pub fn handle_stored(&mut self, now: Now, stored: Stored) {
        self.tick(now);
        let mut inserts = stored.inserts.into_iter();
        for effect in self.pending.stored(stored.number) {
            self.carry_out(effect, &mut inserts);
        }
        assert!(
            inserts.next().is_none(),
            "the store answered more inserts than the batch had"
        );
        self.dispatch();
    }

    /// The store has more room than before, or less. Without enough, no job is taken or handed out; what is under way
    /// still ends.
    pub fn handle_space(&mut self, now: Now, space: Space) {
        self.tick(now);
        self.space = space;
        if !space.takes_jobs() {
            self.give_back_unsent();
        }
        self.dispatch();
    }

    /// Whatever is due happens now.
    pub fn handle_timeout(&mut self, now: Now) {
        self.tick(now);
        self.fire_timers();
        self.dispatch();
    }

    /// Changes to make durable, together.
    pub fn poll_batch(&mut self) -> Option<Batch> {
        self.pending.seal(self.next_id, self.clock)
    }

    /// A question to the store.
    pub fn poll_read(&mut self) -> Option<Asked> {
        self.poll_read_for(|_| true)
    }

    /// As [`Self::poll_read`], where Queries wait whose peers do not read what they asked for: whether one does is for
    /// `reads` to say.
    pub fn poll_read_for(&mut self, reads: impl FnMut(PeerId) -> bool) -> Option<Asked> {
        self.ask_for_payloads();
        self.reads.poll(reads)
    }

    /// Whether Queries wait for their peers to read.
    pub fn holds_queries(&self) -> bool {
        self.reads.holds_queries()
    }

    /// Something to tell a peer, or to do with its connection, now.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outbox.poll()
    }

    /// When [`Machine::handle_timeout`] is to be called; never if there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.next_timeout()
    }

    /// Whether [`Machine::handle_timeout`] would take runs from a worker now, which may have said meanwhile what keeps
    /// them: everything that arrived before is to be handed in first.
    pub fn takes_runs(&self, now: Mono) -> bool {
        self.is_loss_due(now)
    }

    /// The server is to stop: no more jobs are taken or handed out, and everybody is told. What is settled from now
    /// on still counts.
    pub fn handle_shutdown(&mut self, now: Now) {
        self.tick(now);
        if self.closing {
            return;
        }
        self.closing = true;
        self.give_up_backup();
        self.give_back_unsent();
        self.record_starts(true);
        self.announce_closing();
    }

    /// After [`Machine::handle_shutdown`]: whether no worker holds anything and no batch is out.
    pub fn is_drained(&self) -> bool {
        self.leases.is_empty() && self.pending.is_idle()
    }

    /// Whether a batch is filling or out.
    pub fn is_idle(&self) -> bool {
        self.pending.is_idle()
    }

    /// The latest time that it was told.
    pub fn now(&self) -> Now {
        self.now
    }

    /// What has been counted since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Closes all connections, for the end of a graceful stop.
    pub fn close_peers(&mut self) {
        for peer in self.peers.ids() {
            self.outbox.close(
                peer,
                Some(WireError::new(
                    jobq_proto::ErrorCode::ShuttingDown,
                    "the server is going down",
                )),
                CloseReason::ShuttingDown,
            );
        }
    }

    fn tick(&mut self, now: Now) {
        debug_assert!(now.mono >= self.now.mono, "time went back");
        self.now = now;
    }

    /// The time of arrival for a job that comes now. It never goes back, so that jobs keep their order when the
    /// wall clock jumps.
    fn arrival(&mut self) -> Wall {
        self.clock = self.clock.max(self.now.wall);
        self.clock
    }

    fn next_fence(&mut self) -> Fence {
        self.last_seq += 1;
        Fence {
            epoch: self.epoch,
            seq: self.last_seq,
        }
    }

    /// The messages of a connection whose Hello was good.
    fn converse(&mut self, peer: PeerId, session: SessionId, message: ServerMessage) {
        use ServerMessage as M;
        if matches!(
            message,
            M::Started(_) | M::Progress(_) | M::Completed(_) | M::Failed(_) | M::Released(_)
        ) && !self.may_report(peer, session)
        {
            return;
        }
        match message {
            M::Hello(_) => self.refuse_peer(peer, hello::hello_repeated()),
            M::Request(request) => self.submit(peer, request),
            M::Credit(credit) => self.set_credit(peer, session, credit),
            M::Started(started) => self.runs_started(peer, session, started),
            M::Progress(progress) => self.runs_progressed(peer, session, progress),
            M::Completed(completed) => self.runs_completed(peer, session, completed),
            M::Failed(failed) => self.runs_failed(peer, session, failed),
            M::Released(released) => self.runs_released(peer, session, released),
            M::Holding(holding) => self.holding(peer, session, holding),
            M::Beat(beat) => self.outbox.send(peer, jobq_proto::ClientMessage::Beat(beat)),
            M::Goodbye(_) => self.goodbye(peer, session),
            M::Query(query) => self.query(peer, *query),
            M::Watch(watch) => self.watch(peer, watch),
            M::Unwatch(unwatch) => self.watches.end(peer, unwatch.request),
            M::Cancel(cancel) => self.cancel(peer, cancel),
            M::Retry(retry) => self.retry(peer, retry),
            M::Stats(stats) => self.stats(peer, stats),
            M::Backup(backup) => self.back_up(peer, backup),
            M::BackupRead(read) => self.read_backup(peer, read),
            M::BackupDone(done) => self.end_backup(peer, done),
            // Every message has its arm; the enum only claims to have more.
            _ => debug_assert!(false, "a message without an arm"),
        }
    }

    /// What follows from a change that is now durable.
    fn carry_out(&mut self, effect: Effect, inserts: &mut dyn Iterator<Item = crate::store::InsertOutcome>) {
        match effect {
            Effect::Acknowledge(taken) => self.acknowledge(taken, inserts),
            Effect::Retried(retried) => self.acknowledge_retry(*retried, inserts),
            Effect::Settled { session, run } => self.answer_report(session, run),
            Effect::TellSettled { session, run } => self.tell_settled(session, run),
            Effect::WaitInLine { priority, waiting } => self.wait_in_line(priority, waiting),
            Effect::WaitForTime {
                priority,
                waiting,
                until,
            } => self.wait_for_time(priority, waiting, until),
            Effect::JobEnded { id, name, told, .. } => {
                if let Some(ending) = told {
                    self.tell_watchers(id, name, &ending);
                }
            }
            Effect::TellCancel { id, fence } => self.tell_cancel(id, fence),
            Effect::SessionRecorded(id) => self.session_recorded(id),
            Effect::SessionOver(id) => self.recovered_session_resolved(id),
            Effect::Read(question) => {
                let (read, purpose) = *question;
                self.reads.ask(read, purpose);
            }
            Effect::Answer(peer, message) => self.answer(peer, *message),
        }
    }

    /// Asks the store once everything that has happened so far is durable.
    fn read_after_durable(&mut self, read: Read, purpose: Purpose) {
        self.after_durable(Effect::Read(Box::new((read, purpose))));
    }

    /// Does something once everything that has happened so far is durable.
    fn after_durable(&mut self, effect: Effect) {
        if let Some(effect) = self.pending.attach(effect) {
            self.carry_out(effect, &mut std::iter::empty());
        }
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("epoch", &self.epoch)
            .field("next_id", &self.next_id)
            .field("leases", &self.leases.len())
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

/// Every map of the machine is ordered.
type Map<K, V> = BTreeMap<K, V>;
