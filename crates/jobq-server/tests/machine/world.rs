//! A machine, a store and a clock, all moved by hand: no threads, no sockets, no waiting.

mod talk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use jobq_proto::message::*;
use jobq_proto::{ClientMessage, ErrorCode, Fence, JobId, ServerMessage};
use jobq_server::Config;
use jobq_server::machine::{Asked, Machine, Transmit};
use jobq_server::store::{BackupOrder, Birth, MemoryDisk, MemoryStore, Read, Recovered, Store, StoreEvent};
use jobq_server::time::{Mono, Now, Wall};
use jobq_transport::{CloseReason, PeerId, PeerInfo};
use uuid::Uuid;

/// What the driver allows, too.
const MAX_BATCHES: usize = 2;

/// More timeouts than this at one moment are a machine that never comes to rest.
const MAX_TIMEOUTS: usize = 10_000;

pub(super) const BYTES: u64 = 8 * 1024 * 1024;

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A job of this name with no wishes. It gets a uuid when it is submitted.
pub(super) fn job(name: &str) -> Submission {
    Submission::new(Uuid::nil(), name)
}

pub(super) fn urgent(name: &str, priority: &str) -> Submission {
    Submission {
        priority: Some(priority.to_owned()),
        ..job(name)
    }
}

pub(super) fn sized(name: &str, bytes: usize) -> Submission {
    Submission {
        params: Some(Bytes::from(vec![0; bytes])),
        ..job(name)
    }
}

/// A worker as the server sees it.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) peer: PeerId,
    pub(super) work: Work,
    pub(super) welcome: Welcome,
}

impl Worker {
    pub(super) fn resume(&self) -> Resume {
        Resume {
            store: self.welcome.store,
            session: self.welcome.session,
            secret: self.welcome.secret.clone(),
        }
    }
}

pub(super) fn work(names: &[(&str, u32)]) -> Work {
    Work {
        names: names
            .iter()
            .map(|(name, jobs)| NameCredit {
                name: (*name).to_owned(),
                jobs: *jobs,
            })
            .collect(),
        jobs: names.iter().map(|(_, jobs)| jobs).sum(),
        bytes: BYTES,
        prefetch: 0,
    }
}

pub(super) fn run_of(order: &OrderedJob) -> RunRef {
    RunRef {
        id: order.id,
        fence: order.fence,
    }
}

pub(super) fn held(order: &OrderedJob, state: RunState) -> HeldRun {
    HeldRun {
        id: order.id,
        fence: order.fence,
        state,
    }
}

pub(super) fn ids(orders: &[OrderedJob]) -> Vec<u64> {
    orders.iter().map(|order| order.id).collect()
}

pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) store: MemoryStore,
    pub(super) config: Config,
    pub(super) now: Now,
    /// Everything that the machine had done, in order.
    pub(super) trace: Vec<String>,
    disk: MemoryDisk,
    seed: u8,
    batches_out: usize,
    reads: VecDeque<Asked>,
    reads_held: bool,
    next_peer: u64,
    next_request: u64,
    next_uuid: u128,
    inboxes: BTreeMap<PeerId, VecDeque<ClientMessage>>,
    open: BTreeSet<PeerId>,
    silent: BTreeSet<PeerId>,
    /// Peers that read slowly: much is queued for them.
    congested: BTreeSet<PeerId>,
    closed: BTreeMap<PeerId, (Option<ErrorCode>, CloseReason)>,
    fences: BTreeSet<Fence>,
    /// What peers show from now on.
    pub(super) shown: Shown,
    /// What the store was to do about copies of itself; it does nothing.
    pub(super) backups: Vec<BackupOrder>,
}

/// By what a peer shows who it is, and where it comes from.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    pub(super) token: Option<String>,
    pub(super) certificate: Option<String>,
    /// Made up for each peer, if there is none.
    pub(super) address: Option<String>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Config::default())
    }

    /// With the default settings but for what is changed.
    pub(super) fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        Self::with(config)
    }

    pub(super) fn with(config: Config) -> Self {
        Self::seeded(config, 1)
    }

    pub(super) fn seeded(config: Config, seed: u8) -> Self {
        let now = Now {
            mono: Mono(1_000_000_000),
            wall: Wall(1_800_000_000_000_000),
        };
        let disk = MemoryDisk::new(Birth {
            identity: Uuid::from_u128(7),
            now: now.wall,
        });
        let (machine, store) = start(&disk, &config, seed, now, |_| ());
        Self {
            machine,
            store,
            config,
            now,
            trace: Vec::new(),
            disk,
            seed,
            batches_out: 0,
            reads: VecDeque::new(),
            reads_held: false,
            next_peer: 0,
            next_request: 0,
            next_uuid: 0,
            inboxes: BTreeMap::new(),
            open: BTreeSet::new(),
            silent: BTreeSet::new(),
            congested: BTreeSet::new(),
            closed: BTreeMap::new(),
            backups: Vec::new(),
            fences: BTreeSet::new(),
            shown: Shown::default(),
        }
    }

    // Store and time.

    /// No batch becomes durable until [`World::release_disk`].
    pub(super) fn hold_disk(&mut self) {
        self.disk.hold();
    }

    /// Batches up to this number become durable.
    pub(super) fn let_through(&mut self, number: u64) {
        self.disk.hold_after(number);
        self.run();
    }

    /// There is no room for jobs until [`World::make_room`].
    pub(super) fn fill_disk(&mut self) {
        self.disk.fill_up();
        self.run();
    }

    pub(super) fn make_room(&mut self) {
        self.disk.make_room();
        self.run();
    }

    pub(super) fn release_disk(&mut self) {
        self.disk.release();
        self.run();
    }

    /// No question is answered until [`World::release_reads`].
    pub(super) fn hold_reads(&mut self) {
        self.reads_held = true;
    }

    pub(super) fn release_reads(&mut self) {
        self.reads_held = false;
        self.run();
    }

    pub(super) fn reads_waiting(&self) -> usize {
        self.reads.len()
    }

    /// How many jobs' records are asked for by the questions that wait.
    pub(super) fn records_asked_for(&self) -> usize {
        let records = |asked: &Asked| match &asked.read {
            Read::Records(ids) => ids.len(),
            _ => 0,
        };
        self.reads.iter().map(records).sum()
    }

    /// How many runs have been ordered.
    pub(super) fn fences_issued(&self) -> usize {
        self.fences.len()
    }

    /// Carries out what the machine wants, until it wants nothing more that the store gives.
    pub(super) fn run(&mut self) {
        loop {
            self.carry_out();
            if let Some(event) = self.store.recv().now_or_never() {
                self.store_event(event.expect("the memory store takes what the machine makes"));
            } else if !self.reads_held
                && let Some(asked) = self.reads.pop_front()
            {
                let answer = self.store.reader().answer(&asked.read);
                self.machine.handle_read(self.now, asked.token, answer);
            } else {
                break;
            }
        }
    }

    fn store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Stored(stored) => {
                self.batches_out -= 1;
                self.machine.handle_stored(self.now, stored);
            }
            StoreEvent::Pruned(pruned) => self.machine.handle_pruned(self.now, pruned),
            StoreEvent::Space(space) => self.machine.handle_space(self.now, space),
            StoreEvent::Backup(report) => self.machine.handle_backup(self.now, report),
        }
    }

    fn carry_out(&mut self) {
        while self.batches_out < MAX_BATCHES
            && let Some(batch) = self.machine.poll_batch()
        {
            self.trace.push(format!("{batch:?}"));
            self.batches_out += 1;
            self.store.commit(batch);
        }
        if let Some(prune) = self.machine.poll_prune() {
            self.trace.push(format!("{prune:?}"));
            self.store.prune(prune);
        }
        while let Some(order) = self.machine.poll_backup() {
            self.backups.push(order);
        }
        let congested = &self.congested;
        while let Some(asked) = self.machine.poll_read_for(|peer| !congested.contains(&peer)) {
            self.trace.push(format!("{asked:?}"));
            self.reads.push_back(asked);
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            self.trace.push(format!("{transmit:?}"));
            self.transmit(transmit);
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Admit(..) => {}
            Transmit::Send(_, ClientMessage::Beat(Beat { seq: 0 })) => {}
            Transmit::Offer(peer, message) if self.congested.contains(&peer) => {
                self.machine.handle_no_room(self.now, peer, message);
            }
            Transmit::Send(peer, message) | Transmit::Offer(peer, message) => {
                if let ClientMessage::Order(order) = &message {
                    for job in &order.jobs {
                        assert!(self.fences.insert(job.fence), "the fence {} twice", job.fence);
                    }
                }
                if self.open.contains(&peer) {
                    self.inboxes.entry(peer).or_default().push_back(message);
                }
            }
            Transmit::Close(peer, last, why) => {
                let code = last.map(|last| match last {
                    ClientMessage::Error(last) => last.error.code,
                    other => panic!("the last word is {other:?}"),
                });
                self.open.remove(&peer);
                self.closed.insert(peer, (code, why));
                // The router says so a moment later.
                self.machine.handle_closed(self.now, peer);
            }
        }
    }

    /// Lets time pass. Every connection that is not silent beats, and what is due happens when it is due.
    pub(super) fn advance(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let beating: Vec<PeerId> = self.open.difference(&self.silent).copied().collect();
            for peer in beating {
                self.send(peer, ServerMessage::Beat(Beat { seq: 0 }));
            }
            let step = left.min(secs(10));
            self.step(step);
            left -= step;
        }
    }

    /// Lets time pass while nobody is heard and nothing that is due happens.
    pub(super) fn advance_deaf(&mut self, time: Duration) {
        self.set_mono(self.now.mono.plus(time));
    }

    /// A server that is so slow that in one turn of its loop it hears of stored batches and answered questions, and
    /// does what is due, before anything is sent.
    pub(super) fn take_all_in_one_turn(&mut self) {
        self.disk.release();
        self.reads_held = false;
        while let Some(event) = self.store.recv().now_or_never() {
            self.store_event(event.expect("the memory store takes what the machine makes"));
        }
        while let Some(asked) = self.reads.pop_front() {
            let answer = self.store.reader().answer(&asked.read);
            self.machine.handle_read(self.now, asked.token, answer);
        }
        self.machine.handle_timeout(self.now);
        self.run();
    }

    fn step(&mut self, time: Duration) {
        let end = self.now.mono.plus(time);
        for _ in 0..MAX_TIMEOUTS {
            let due = self.machine.poll_timeout().filter(|at| *at <= end);
            match due.filter(|_| self.machine.accepts()) {
                Some(at) => {
                    self.set_mono(at.max(self.now.mono));
                    self.machine.handle_timeout(self.now);
                    self.run();
                }
                None => return self.set_mono(end),
            }
        }
        panic!("the machine asks for timeouts without end");
    }

    fn set_mono(&mut self, mono: Mono) {
        self.now.wall = self.now.wall.plus(mono.since(self.now.mono));
        self.now.mono = mono;
    }

    /// The server is suspended for so long: nobody is heard, nothing happens, and it notices afterwards.
    pub(super) fn suspend(&mut self, time: Duration) {
        self.advance_deaf(time);
        self.machine.handle_pause(self.now);
        self.run();
    }

    /// Somebody sets the calendar.
    pub(super) fn jump_wall(&mut self, seconds: i64) {
        self.now.wall.0 += seconds * 1_000_000;
    }

    /// The server loses its power, what is not durable is lost, and it starts again at once.
    pub(super) fn crash_and_restart(&mut self) {
        self.crash_and_restart_slowly(Duration::ZERO);
    }

    /// The same, and it takes so long to load its jobs before anybody can connect.
    pub(super) fn crash_and_restart_slowly(&mut self, loading: Duration) {
        self.crash_and_restart_from(loading, |_| ());
    }

    /// The same, from a store that knows no session any more.
    pub(super) fn crash_and_restart_without_sessions(&mut self) {
        self.crash_and_restart_from(Duration::ZERO, |recovered| recovered.sessions.clear());
    }

    fn crash_and_restart_from(&mut self, loading: Duration, change: impl FnOnce(&mut Recovered)) {
        self.batches_out = 0;
        self.reads.clear();
        self.reads_held = false;
        self.open.clear();
        self.inboxes.clear();
        self.disk.release();
        let (machine, store) = start(&self.disk, &self.config, self.seed, self.now, change);
        self.machine = machine;
        self.store = store;
        self.now.mono = self.now.mono.plus(loading);
        self.now.wall = self.now.wall.plus(loading);
        self.machine.begin(self.now);
        self.run();
    }

    // Connections.

    pub(super) fn connect(&mut self) -> PeerId {
        self.next_peer += 1;
        let peer = PeerId(self.next_peer);
        let info = PeerInfo {
            transport: "memory",
            address: self.shown.address.clone().unwrap_or(format!("peer {peer}")),
            identity: self.shown.certificate.clone(),
        };
        self.open.insert(peer);
        self.machine.handle_opened(self.now, peer, info);
        peer
    }

    pub(super) fn send(&mut self, peer: PeerId, message: ServerMessage) {
        self.trace.push(format!("{peer} says {message:?}"));
        self.machine.handle_message(self.now, peer, message);
        self.run();
    }

    pub(super) fn disconnect(&mut self, peer: PeerId) {
        self.open.remove(&peer);
        self.inboxes.remove(&peer);
        self.machine.handle_closed(self.now, peer);
        self.run();
    }

    /// The connection stays, and nothing comes from it any more.
    pub(super) fn silence(&mut self, peer: PeerId) {
        self.silent.insert(peer);
    }

    /// Much is queued for a peer, or is read at last.
    pub(super) fn set_congested(&mut self, peer: PeerId, is_congested: bool) {
        if is_congested {
            self.congested.insert(peer);
        } else {
            self.congested.remove(&peer);
            self.run();
        }
    }

    pub(super) fn closed(&self, peer: PeerId) -> Option<ErrorCode> {
        self.closed.get(&peer).and_then(|(code, _)| *code)
    }

    pub(super) fn close_reason(&self, peer: PeerId) -> Option<CloseReason> {
        self.closed.get(&peer).map(|(_, why)| *why)
    }

    pub(super) fn is_open(&self, peer: PeerId) -> bool {
        self.open.contains(&peer)
    }

    /// Takes the messages that `pick` wants out of a peer's inbox, and leaves the others.
    fn pick<T>(&mut self, peer: PeerId, mut pick: impl FnMut(&ClientMessage) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        if let Some(inbox) = self.inboxes.get_mut(&peer) {
            inbox.retain(|message| match pick(message) {
                Some(found) => {
                    picked.push(found);
                    false
                }
                None => true,
            });
        }
        picked
    }

    /// Everything a peer was sent and has not looked at.
    pub(super) fn messages(&mut self, peer: PeerId) -> Vec<ClientMessage> {
        self.pick(peer, |message| Some(message.clone()))
    }

    pub(super) fn hello(&mut self, work: Option<Work>, resume: Option<Resume>) -> (PeerId, Option<Welcome>) {
        let peer = self.connect();
        let hello = Hello {
            token: self.shown.token.clone(),
            work,
            resume,
            ..Hello::new(format!("peer {peer}"))
        };
        self.send(peer, ServerMessage::Hello(Box::new(hello)));
        let welcome = self.pick(peer, |message| match message {
            ClientMessage::Hello(welcome) => Some((**welcome).clone()),
            _ => None,
        });
        (peer, welcome.into_iter().next())
    }

    pub(super) fn client(&mut self) -> PeerId {
        let (peer, welcome) = self.hello(None, None);
        welcome.expect("a client is welcome");
        peer
    }

    /// A worker that has said hello, and not yet what it holds.
    pub(super) fn new_worker(&mut self, work: Work) -> Worker {
        let (peer, welcome) = self.hello(Some(work.clone()), None);
        let welcome = welcome.expect("a worker is welcome");
        Worker { peer, work, welcome }
    }

    /// A worker that holds nothing and may be given jobs.
    pub(super) fn worker(&mut self, names: &[(&str, u32)]) -> Worker {
        let worker = self.new_worker(work(names));
        self.hold(&worker, Vec::new());
        worker
    }

    /// A worker comes back over a new connection, and has not yet said what it holds.
    pub(super) fn resume_silently(&mut self, worker: &Worker) -> Worker {
        let (peer, welcome) = self.hello(Some(worker.work.clone()), Some(worker.resume()));
        let welcome = welcome.expect("a worker is welcome");
        Worker {
            peer,
            welcome,
            work: worker.work.clone(),
        }
    }

    pub(super) fn resume(&mut self, worker: &Worker, runs: Vec<HeldRun>) -> Worker {
        let worker = self.resume_silently(worker);
        self.hold(&worker, runs);
        worker
    }

    pub(super) fn hold(&mut self, worker: &Worker, runs: Vec<HeldRun>) {
        self.send(worker.peer, ServerMessage::Holding(Holding { runs }));
    }
}

fn start(
    disk: &MemoryDisk,
    config: &Config,
    seed: u8,
    now: Now,
    change: impl FnOnce(&mut Recovered),
) -> (Machine, MemoryStore) {
    let mut store = MemoryStore::open(disk);
    let mut recovered = store.recovered().clone();
    change(&mut recovered);
    let mut machine = Machine::new(config.clone(), &recovered, [seed; 32], now);
    let mut after = JobId(0);
    loop {
        let page = store.live(after, 100).expect("the memory disk can be read");
        let Some(last) = page.last() else { break };
        after = last.id;
        machine.load(page);
    }
    (machine, store)
}
