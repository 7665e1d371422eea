//! The server's session handling: several peers say anything, in any order, to the production machine over the store
//! in memory, while time passes, the disk is slow or full, and the server crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use jobq_proto::message::*;
use jobq_proto::{ClientMessage, Fence, JobId, Limits, ServerMessage, Status};
use jobq_server::Config;
use jobq_server::machine::{Asked, Footprint, Machine, Transmit};
use jobq_server::store::{Birth, MemoryDisk, MemoryStore, Store, StoreEvent};
use jobq_server::time::{Mono, Now, Wall};
use jobq_transport::codec::encode;
use jobq_transport::{PeerId, PeerInfo};
use uuid::Uuid;

use super::invent::{Known, NAMES, invent};
use super::script::{Play, Script, play};

/// Batches that are out at a time, as the server's driver has them.
const MAX_BATCHES: usize = 2;

/// Most peers at a time. More say nothing new.
const MAX_PEERS: usize = 5;

/// Most messages that follow from one step, and most bytes of them. Far more than any step here asks for.
const MAX_OUTPUT: (usize, usize) = (20_000, 64 * 1024 * 1024);

/// More timers than this at one moment are a machine that never comes to rest.
const MAX_TIMERS: usize = 10_000;

const MAX_ACTIVE: usize = 4;

/// Room in the store's limits for params and results, in bytes: small, so that a script can go beyond it.
const PAYLOAD: u64 = 2 * 1024;

/// A byte for each step, and what the step asks for.
pub fn run(input: &[u8]) {
    play::<Playing>(input);
}

struct Playing {
    machine: Machine,
    store: MemoryStore,
    disk: MemoryDisk,
    config: Config,
    now: Now,
    open: BTreeSet<PeerId>,
    next_peer: u64,
    batches_out: usize,
    reads: VecDeque<Asked>,
    reads_held: bool,
    known: Known,
    seen: Seen,
    /// What followed from this step: messages and their bytes.
    output: (usize, usize),
}

/// What the server has said, which it may not take back.
#[derive(Default)]
struct Seen {
    /// The runs that were ordered, and of each job the latest.
    fences: BTreeSet<Fence>,
    latest: BTreeMap<u64, Fence>,
    /// Runs that a worker has named, truly or not, as those that it has from before.
    claims: BTreeSet<(u64, Fence)>,
    /// Runs whose report was applied.
    applied: BTreeSet<(u64, Fence)>,
    ended: BTreeMap<u64, Status>,
}

impl Play for Playing {
    fn begin(script: &mut Script<'_>) -> Self {
        let choice = script.byte();
        let now = Now {
            mono: Mono(1_000_000_000),
            wall: Wall(1_800_000_000_000_000),
        };
        let disk = MemoryDisk::new(Birth {
            identity: Uuid::from_u128(7),
            now: now.wall,
        });
        let config = config(choice);
        let (machine, store) = start(&disk, &config, now);
        Self {
            machine,
            store,
            disk,
            config,
            now,
            open: BTreeSet::new(),
            next_peer: 0,
            batches_out: 0,
            reads: VecDeque::new(),
            reads_held: false,
            known: Known::default(),
            seen: Seen::default(),
            output: (0, 0),
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        self.output = (0, 0);
        match script.byte() % 24 {
            0 => {
                self.connect();
            }
            1 => self.hello(script),
            2..=3 => self.submit(script),
            4..=6 => self.report(script),
            7..=15 => self.say_anything(script),
            16 => self.pass(Duration::from_millis(script.u16().into())),
            17 => self.pass(Duration::from_secs(script.byte().into())),
            18 => self.close(script),
            19 => match script.byte() % 4 {
                0 => self.disk.hold(),
                1 => self.disk.release(),
                2 => self.disk.fill_up(),
                _ => self.disk.make_room(),
            },
            20 => self.reads_held = script.byte() % 2 == 1,
            21 => self.jump(script),
            22 => self.crash(),
            _ => self.say_hello_again(script),
        }
    }

    /// Carries out what the machine wants, until it wants nothing that the store gives.
    fn follow(&mut self) {
        loop {
            self.carry_out();
            if let Some(event) = self.store.recv().now_or_never() {
                match event.expect("the store takes what the machine makes") {
                    StoreEvent::Stored(stored) => {
                        self.batches_out -= 1;
                        self.machine.handle_stored(self.now, stored);
                    }
                    StoreEvent::Pruned(pruned) => self.machine.handle_pruned(self.now, pruned),
                    StoreEvent::Backup(report) => self.machine.handle_backup(self.now, report),
                    StoreEvent::Space(space) => self.machine.handle_space(self.now, space),
                }
            } else if !self.reads_held
                && let Some(asked) = self.reads.pop_front()
            {
                let answer = self.store.reader().answer(&asked.read);
                self.machine.handle_read(self.now, asked.token, answer);
            } else {
                return;
            }
        }
    }

    /// Everybody goes, faults stop, and time passes: nothing is left of them.
    fn end(&mut self) {
        self.output = (0, 0);
        self.disk.release();
        self.disk.make_room();
        self.reads_held = false;
        self.follow();
        for peer in std::mem::take(&mut self.open) {
            self.machine.handle_closed(self.now, peer);
        }
        self.follow();
        self.pass(self.config.ttl + self.config.idle_beat + self.config.grace + Duration::from_secs(60));
        self.follow();
        let Footprint {
            peers,
            sessions,
            leases,
            waiting,
            scheduled,
            held_back,
            watched,
            reads,
            effects,
            ..
        } = self.machine.footprint();
        assert_eq!((peers, sessions, leases, held_back), (0, 0, 0, 0));
        assert_eq!((watched, reads, effects), (0, 0, 0));
        let mut store = MemoryStore::open(&self.disk);
        let live = store
            .live(JobId(0), usize::MAX)
            .expect("the memory disk can be read");
        assert_eq!(
            live.len(),
            waiting + scheduled,
            "the store has other jobs than the machine"
        );
    }
}

impl Playing {
    fn connect(&mut self) -> PeerId {
        if self.open.len() >= MAX_PEERS
            && let Some(&oldest) = self.open.first()
        {
            self.open.remove(&oldest);
            self.machine.handle_closed(self.now, oldest);
        }
        self.next_peer += 1;
        let peer = PeerId(self.next_peer);
        self.open.insert(peer);
        let info = PeerInfo {
            transport: "memory",
            address: String::new(),
            identity: None,
        };
        self.machine.handle_opened(self.now, peer, info);
        peer
    }

    fn any_peer(&self, script: &mut Script<'_>) -> Option<PeerId> {
        let index = script.below(self.open.len().max(1));
        self.open.iter().nth(index).copied()
    }

    /// A peer that keeps to the protocol.
    fn hello(&mut self, script: &mut Script<'_>) {
        let choice = script.byte();
        let names = NAMES[..1 + usize::from(choice % 3)].iter();
        let work = (!choice.is_multiple_of(4)).then(|| Work {
            names: names
                .map(|name| NameCredit {
                    name: (*name).to_owned(),
                    jobs: u32::from(choice % 5),
                })
                .collect(),
            jobs: u32::from(choice % 7),
            bytes: 1 << 16,
            prefetch: u32::from(choice % 2),
        });
        let works = work.is_some();
        let resume = (choice >= 128).then(|| self.known.any_session(script)).flatten();
        let peer = self.connect();
        self.hear(peer, hello(work, resume));
        if works {
            let runs = (choice >= 192)
                .then(|| self.known.any_run(script))
                .flatten()
                .map(|(id, fence)| HeldRun {
                    id,
                    fence,
                    state: RunState::Running,
                });
            let runs = runs.into_iter().collect();
            self.hear(peer, ServerMessage::Holding(Holding { runs }));
        }
    }

    fn say_hello_again(&mut self, script: &mut Script<'_>) {
        if let Some(peer) = self.any_peer(script) {
            let resume = self.known.any_session(script);
            self.hear(peer, hello(None, resume));
        }
    }

    fn submit(&mut self, script: &mut Script<'_>) {
        let Some(peer) = self.any_peer(script) else { return };
        let choice = script.byte();
        let jobs = (0..1 + choice % 3).map(|_| {
            let choice = script.byte();
            Submission {
                params: (choice > 200).then(|| Bytes::from(vec![0; usize::from(choice) * 9])),
                delay: choice.is_multiple_of(7).then_some(u64::from(choice) * 100_000),
                max_attempts: choice.is_multiple_of(5).then_some(2),
                timeout: choice.is_multiple_of(3).then_some(1_000_000),
                ..Submission::new(
                    Uuid::from_u128(1_000 + u128::from(choice)),
                    NAMES[usize::from(choice % 3)],
                )
            }
        });
        let jobs = jobs.collect();
        let request = Request {
            request: script.byte().into(),
            jobs,
        };
        self.hear(peer, ServerMessage::Request(request));
    }

    /// A true report, or one about somebody else's run.
    fn report(&mut self, script: &mut Script<'_>) {
        let (Some(peer), Some((id, fence))) = (self.any_peer(script), self.known.any_run(script)) else {
            return;
        };
        let run = RunRef { id, fence };
        self.hear(
            peer,
            match script.byte() % 6 {
                0 | 1 => ServerMessage::Started(Started { runs: vec![run] }),
                2 => ServerMessage::Released(Released { runs: vec![run] }),
                3 => ServerMessage::Failed(Failed {
                    runs: vec![FailedRun {
                        id,
                        fence,
                        ran: 1,
                        reason: "it failed".to_owned(),
                        never: script.byte() % 2 == 1,
                        after: None,
                    }],
                }),
                _ => ServerMessage::Completed(Completed {
                    runs: vec![CompletedRun {
                        id,
                        fence,
                        ran: 1,
                        result: None,
                    }],
                }),
            },
        );
    }

    fn say_anything(&mut self, script: &mut Script<'_>) {
        if let Some(peer) = self.any_peer(script)
            && let Some(message) = invent(script, &self.known)
        {
            self.hear(peer, message);
        }
    }

    /// Hands a message in, as the driver does: while there is no room, most of them wait where nobody sees them.
    fn hear(&mut self, peer: PeerId, message: ServerMessage) {
        match &message {
            ServerMessage::Watch(watch) => self.known.request(watch.request),
            ServerMessage::Query(query) => self.known.request(query.request),
            ServerMessage::Holding(holding) => self.seen.claimed(holding),
            _ => {}
        }
        if self.machine.accepts() || self.machine.hears(peer, &message, false) {
            self.machine.handle_message(self.now, peer, message);
            self.follow();
        }
    }

    fn close(&mut self, script: &mut Script<'_>) {
        if let Some(peer) = self.any_peer(script) {
            self.open.remove(&peer);
            self.machine.handle_closed(self.now, peer);
        }
    }

    /// Somebody sets the calendar.
    fn jump(&mut self, script: &mut Script<'_>) {
        let hours = i64::from(script.byte()) - 128;
        self.now.wall = Wall(self.now.wall.0 + hours * 3_600_000_000);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.mono.plus(time);
        for _ in 0..MAX_TIMERS {
            let due = self.machine.poll_timeout().filter(|at| *at <= end);
            let Some(at) = due.filter(|_| self.machine.accepts()) else {
                self.set_mono(end);
                return;
            };
            self.set_mono(at.max(self.now.mono));
            self.machine.handle_timeout(self.now);
            self.follow();
        }
        panic!("the machine asks for timeouts without end");
    }

    fn set_mono(&mut self, mono: Mono) {
        self.now.wall = self.now.wall.plus(mono.since(self.now.mono));
        self.now.mono = mono;
    }

    fn crash(&mut self) {
        self.open.clear();
        self.reads.clear();
        self.batches_out = 0;
        self.disk.release();
        (self.machine, self.store) = start(&self.disk, &self.config, self.now);
        self.machine.begin(self.now);
    }

    fn carry_out(&mut self) {
        while self.batches_out < MAX_BATCHES
            && let Some(batch) = self.machine.poll_batch()
        {
            self.batches_out += 1;
            self.store.commit(batch);
        }
        if let Some(prune) = self.machine.poll_prune() {
            self.store.prune(prune);
        }
        while let Some(order) = self.machine.poll_backup() {
            self.store.back_up(order);
        }
        while let Some(asked) = self.machine.poll_read() {
            self.reads.push_back(asked);
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            self.transmit(transmit);
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Admit(..) => {}
            Transmit::Send(_, message) | Transmit::Offer(_, message) => self.told(&message),
            Transmit::Close(peer, last, _) => {
                last.iter().for_each(|last| self.told(last));
                if self.open.remove(&peer) {
                    self.machine.handle_closed(self.now, peer);
                }
            }
        }
    }

    fn told(&mut self, message: &ClientMessage) {
        let frame = encode(message).expect("the protocol's messages can be written");
        let limit = self.config.limits.frame;
        assert!(
            frame.len() as u64 <= limit,
            "a frame of {} bytes, over {limit}",
            frame.len()
        );
        self.output.0 += 1;
        self.output.1 += frame.len();
        assert!(
            self.output.0 <= MAX_OUTPUT.0 && self.output.1 <= MAX_OUTPUT.1,
            "there is no end of it"
        );

        match message {
            ClientMessage::Hello(welcome) => self.known.session(Resume {
                store: welcome.store,
                session: welcome.session,
                secret: welcome.secret.clone(),
            }),
            ClientMessage::Acknowledged(answer) => {
                answer
                    .jobs
                    .iter()
                    .filter_map(|job| job.id)
                    .for_each(|id| self.known.job(id));
            }
            ClientMessage::Order(order) => {
                for job in &order.jobs {
                    self.known.run(job.id, job.fence);
                    self.seen.ordered(job);
                }
            }
            ClientMessage::Settled(settled) => settled.runs.iter().for_each(|run| self.seen.settled(run)),
            ClientMessage::Ended(ended) => {
                for job in &ended.jobs {
                    job.status
                        .iter()
                        .for_each(|status| self.seen.is_now(job.id, *status));
                }
            }
            ClientMessage::Jobs(jobs) => jobs
                .jobs
                .iter()
                .for_each(|job| self.seen.is_now(job.id, job.status)),
            ClientMessage::Stats(stats) => {
                let active = self.machine.footprint().leases;
                assert_eq!(
                    stats.total.processing, active as u64,
                    "what is leased is what is counted"
                );
            }
            _ => {}
        }
    }
}

impl Seen {
    fn ordered(&mut self, job: &OrderedJob) {
        assert!(self.fences.insert(job.fence), "the fence {} twice", job.fence);
        let before = self.latest.insert(job.id, job.fence);
        assert!(
            before < Some(job.fence),
            "job {} ordered under an older fence",
            job.id
        );
        let ended = self.ended.get(&job.id);
        assert!(
            ended.is_none(),
            "job {} is ordered after it was {ended:?}",
            job.id
        );
    }

    fn claimed(&mut self, holding: &Holding) {
        self.claims
            .extend(holding.runs.iter().map(|run| (run.id, run.fence)));
    }

    fn settled(&mut self, run: &SettledRun) {
        if run.outcome == SettleOutcome::Applied {
            assert!(
                self.applied.insert((run.id, run.fence)),
                "the run {} was applied twice",
                run.fence
            );
            // Of the orders that were out when the server crashed, it knows what their workers say.
            assert!(
                self.fences.contains(&run.fence) || self.claims.contains(&(run.id, run.fence)),
                "the run {} never was",
                run.fence
            );
        }
    }

    fn is_now(&mut self, id: u64, status: Status) {
        if status.is_terminal() {
            let before = self.ended.insert(id, status);
            assert!(
                before.is_none_or(|before| before == status),
                "job {id} was {before:?} before"
            );
        } else {
            let ended = self.ended.get(&id);
            assert!(ended.is_none(), "job {id} is {status} after it was {ended:?}");
        }
    }
}

fn config(choice: u8) -> Config {
    let mut config = Config::default();
    config.limits = Limits {
        watches: 20,
        names: 8,
        items: 100,
        ..Limits::with_payload(PAYLOAD)
    };
    if choice.is_multiple_of(2) {
        config.max_active = Some(MAX_ACTIVE);
    }
    if choice.is_multiple_of(3) {
        let name = NAMES[1].parse().expect("the name is good");
        config.caps = BTreeMap::from([(name, NonZeroU32::MIN)]);
    }
    if choice.is_multiple_of(5) {
        config.payload_budget = 1_000;
    }
    config
}

fn hello(work: Option<Work>, resume: Option<Resume>) -> ServerMessage {
    ServerMessage::Hello(Box::new(Hello {
        work,
        resume,
        ..Hello::new("")
    }))
}

fn start(disk: &MemoryDisk, config: &Config, now: Now) -> (Machine, MemoryStore) {
    let mut store = MemoryStore::open(disk);
    let recovered = store.recovered().clone();
    let mut machine = Machine::new(config.clone(), &recovered, [1; 32], now);
    let mut after = JobId(0);
    loop {
        let page = store.live(after, 100).expect("the memory disk can be read");
        let Some(last) = page.last() else { break };
        after = last.id;
        machine.load(page);
    }
    (machine, store)
}
