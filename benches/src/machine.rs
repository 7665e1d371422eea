//! The server's machine, before a store that answers at once and costs nothing.

use std::sync::Arc;
use std::time::Duration;

use jobq_proto::message::{Hello, Holding, NameCredit, Work as WorkerHello};
use jobq_proto::{ClientMessage, Fence, JobId, JobName, Priority, ServerMessage};
use jobq_server::machine::{Config, Machine, Transmit};
use jobq_server::store::{
    Batch, Change, InsertOutcome, JobRecord, LiveJob, Policy, Read, ReadAnswer, Recovered, Stored,
};
use jobq_server::time::{Mono, Now, Wall};
use jobq_transport::{PeerId, PeerInfo};
use uuid::Uuid;

use crate::jobs::{self, NAME};
use crate::workload::{Work, Workload};

/// Jobs of one run.
const JOBS: u64 = 20_000;

/// Jobs that the driver's loop takes at a time, about.
const ROUND: u64 = 1_000;

/// How long a round takes: as if a million jobs went through a second.
const ROUND_TIME: Duration = Duration::from_millis(1);

/// Jobs that a worker holds, as in `jobq bench`.
const CONCURRENCY: u32 = 1_000;

/// Bytes of params that a worker holds; never the limit here.
const CREDIT_BYTES: u64 = 16 * 1024 * 1024;

/// When everything begins.
const START: Now = Now {
    mono: Mono(1_000_000_000),
    wall: Wall(1_800_000_000_000_000),
};

/// The ways of a job through the machine.
pub fn workloads() -> Vec<Workload> {
    vec![
        Workload::new("machine/submit, 1000 a request", JOBS, || submit(ROUND)),
        Workload::new("machine/submit, 1 a request", JOBS, || submit(1)),
        Workload::new("machine/hand out", JOBS, hand_out),
        Workload::new("machine/settle", JOBS, settle),
        Workload::new("machine/drain (hand out and settle in turns)", JOBS, drain),
        Workload::new("machine/drain, params read from the store", JOBS, drain_read),
        Workload::new("machine/load at a start", JOBS, load),
    ]
}

/// From the Request to its answer, `each` jobs in each Request.
fn submit(each: u64) -> Work {
    let mut stage = Stage::new();
    let client = stage.client();
    let mut rounds = requests(each);
    Box::new(move || {
        for round in &mut rounds {
            stage.round(client, std::mem::take(round));
        }
        stage.expect_told(each, JOBS / each);
    })
}

/// From a full queue to the Orders, of workers that take all of it.
fn hand_out() -> Work {
    let mut stage = Stage::new();
    stage.queue_jobs();
    let each = jobq_proto::limits::MAX_HELD as u32;
    let workers: Vec<PeerId> = (0..JOBS.div_ceil(u64::from(each)))
        .map(|_| stage.worker(each))
        .collect();
    Box::new(move || {
        for worker in &workers {
            stage.round(*worker, vec![begin()]);
        }
        assert_eq!(stage.orders.len() as u64, JOBS);
    })
}

/// From the reports to their answers, with nothing left to hand out.
fn settle() -> Work {
    let mut stage = Stage::new();
    stage.queue_jobs();
    let each = jobq_proto::limits::MAX_HELD as u32;
    let mut reports = Vec::new();
    for _ in 0..JOBS.div_ceil(u64::from(each)) {
        let worker = stage.worker(each);
        stage.round(worker, vec![begin()]);
        let orders = std::mem::take(&mut stage.orders);
        for some in orders.chunks(ROUND as usize) {
            reports.push((worker, vec![jobs::started(some), jobs::completed(some)]));
        }
    }
    Box::new(move || {
        for (worker, messages) in &mut reports {
            stage.round(*worker, std::mem::take(messages));
        }
        assert_eq!(stage.settled, JOBS);
    })
}

/// A queue worked off by one worker: each round settles what the one before handed out.
fn drain() -> Work {
    let mut stage = Stage::new();
    stage.queue_jobs();
    work_off(stage)
}

/// The same, of jobs that were there before the start: nothing but what ordering needs is in memory.
fn drain_read() -> Work {
    let mut stage = Stage::new();
    for page in live_jobs() {
        stage.records.extend(page.iter().map(|job| record(job.id)));
        stage.machine.load(page);
    }
    work_off(stage)
}

/// What a server does with each job that it finds at its start.
fn load() -> Work {
    let mut stage = Stage::new();
    let mut pages = live_jobs();
    Box::new(move || {
        for page in &mut pages {
            stage.machine.load(std::mem::take(page));
        }
    })
}

fn work_off(mut stage: Stage) -> Work {
    let worker = stage.worker(CONCURRENCY);
    Box::new(move || {
        stage.round(worker, vec![begin()]);
        while !stage.orders.is_empty() {
            let orders = std::mem::take(&mut stage.orders);
            stage.round(worker, vec![jobs::started(&orders), jobs::completed(&orders)]);
        }
        assert_eq!(stage.settled, JOBS);
    })
}

/// Requests for all jobs, in rounds of [`ROUND`] jobs.
fn requests(each: u64) -> Vec<Vec<ServerMessage>> {
    let all: Vec<u64> = (0..JOBS).step_by(each as usize).collect();
    all.chunks((ROUND / each) as usize)
        .map(|round| round.iter().map(|&n| jobs::request(n, n, each)).collect())
        .collect()
}

/// All jobs as a store tells of them at a start, in pages.
fn live_jobs() -> Vec<Vec<LiveJob>> {
    let name = Arc::new(name());
    let job = |id| LiveJob {
        id: JobId(id),
        name: Arc::clone(&name),
        priority: Priority::Normal,
        created: START.wall,
        due: START.wall,
        params_bytes: jobs::PARAMS as u64,
        attempts: 0,
        charges: 0,
        cancelling: false,
        lease: None,
    };
    let ids: Vec<u64> = (1..=JOBS).collect();
    ids.chunks(ROUND as usize)
        .map(|ids| ids.iter().copied().map(job).collect())
        .collect()
}

/// What a store answers when it is asked for a job.
fn record(id: JobId) -> Arc<JobRecord> {
    Arc::new(JobRecord {
        id,
        uuid: jobs::uuid(id.0),
        name: Arc::new(name()),
        username: None,
        priority: Priority::Normal,
        params: jobs::params(id.0),
        policy: Policy::default(),
        created: START.wall,
        retry_of: None,
    })
}

fn name() -> JobName {
    NAME.parse().expect("it is a good name")
}

/// A worker's first message, after which it gets jobs.
fn begin() -> ServerMessage {
    ServerMessage::Holding(Holding::default())
}

/// A machine, and what the driver does around it.
struct Stage {
    machine: Machine,
    now: Now,
    peers: u64,
    /// Jobs that were handed out and that nobody has looked at.
    orders: Vec<(u64, Fence)>,
    settled: u64,
    /// What was said, and what was to be stored. It is dropped with the stage, and not while it is measured: in
    /// the server that is done elsewhere.
    told: Vec<ClientMessage>,
    batches: Vec<Batch>,
    /// What the store has of jobs that were there before the start, by id from 1 on.
    records: Vec<Arc<JobRecord>>,
}

impl Stage {
    fn new() -> Self {
        let now = START;
        let recovered = Recovered {
            identity: Uuid::from_u128(7),
            epoch: 1,
            last_batch: 0,
            next_id: JobId(JOBS + 1),
            clock: now.wall,
            names: Vec::new(),
            sessions: Vec::new(),
        };
        let mut machine = Machine::new(Config::default(), &recovered, [1; 32], now);
        machine.begin(now);
        Self {
            machine,
            now,
            peers: 0,
            orders: Vec::with_capacity(JOBS as usize),
            settled: 0,
            told: Vec::with_capacity(2 * JOBS as usize),
            batches: Vec::with_capacity(JOBS as usize),
            records: Vec::new(),
        }
    }

    /// A connection that submits.
    fn client(&mut self) -> PeerId {
        self.connect(Hello::new("client"))
    }

    /// A connection that works, and gets no job before [`begin`].
    fn worker(&mut self, jobs: u32) -> PeerId {
        let work = WorkerHello {
            names: vec![NameCredit {
                name: NAME.to_owned(),
                jobs,
            }],
            jobs,
            bytes: CREDIT_BYTES,
            prefetch: 0,
        };
        self.connect(Hello {
            work: Some(work),
            ..Hello::new("worker")
        })
    }

    fn connect(&mut self, hello: Hello) -> PeerId {
        self.peers += 1;
        let peer = PeerId(self.peers);
        let info = PeerInfo {
            transport: "memory",
            address: self.peers.to_string(),
            identity: None,
        };
        self.machine.handle_opened(self.now, peer, info);
        self.round(peer, vec![ServerMessage::Hello(Box::new(hello))]);
        assert!(
            matches!(self.told.pop(), Some(ClientMessage::Hello(_))),
            "the server welcomes everybody"
        );
        peer
    }

    /// All jobs wait in line.
    fn queue_jobs(&mut self) {
        let client = self.client();
        for round in requests(ROUND) {
            self.round(client, round);
        }
        self.expect_told(ROUND, JOBS / ROUND);
        self.told.clear();
        self.batches.clear();
    }

    /// All was acknowledged.
    fn expect_told(&self, each: u64, requests: u64) {
        let good = self.told.iter().filter(|message| match message {
            ClientMessage::Acknowledged(it) => {
                it.jobs.len() as u64 == each && it.jobs.iter().all(|job| job.id.is_some())
            }
            _ => false,
        });
        assert_eq!(good.count() as u64, requests);
    }

    /// One turn of the driver's loop, and what becomes durable after it.
    fn round(&mut self, peer: PeerId, messages: Vec<ServerMessage>) {
        self.now.mono = self.now.mono.plus(ROUND_TIME);
        self.now.wall = self.now.wall.plus(ROUND_TIME);
        for message in messages {
            self.machine.handle_message(self.now, peer, message);
        }
        if self.machine.poll_timeout().is_some_and(|at| at <= self.now.mono) {
            self.machine.handle_timeout(self.now);
        }
        loop {
            let batch = self.machine.poll_batch();
            let read = self.machine.poll_read();
            while let Some(transmit) = self.machine.poll_transmit() {
                self.transmit(transmit);
            }
            if let Some(asked) = &read {
                let answer = self.answer_read(&asked.read);
                self.machine.handle_read(self.now, asked.token, answer);
            }
            if let Some(batch) = &batch {
                self.machine.handle_stored(self.now, answer(batch));
            }
            if batch.is_none() && read.is_none() {
                break;
            }
            self.batches.extend(batch);
        }
    }

    fn answer_read(&self, read: &Read) -> ReadAnswer {
        let Read::Records(ids) = read else {
            panic!("only records are asked for here, and not {read:?}");
        };
        let record = |id: &JobId| self.records.get(id.0 as usize - 1).cloned();
        let records: Vec<_> = ids.iter().map(record).collect();
        ReadAnswer::Records(records)
    }

    fn transmit(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Send(_, message) | Transmit::Offer(_, message) => {
                match &message {
                    ClientMessage::Order(order) => {
                        self.orders
                            .extend(order.jobs.iter().map(|job| (job.id, job.fence)));
                    }
                    ClientMessage::Settled(settled) => self.settled += settled.runs.len() as u64,
                    _ => {}
                }
                self.told.push(message);
            }
            Transmit::Admit(..) => {}
            Transmit::Close(_, last, why) => panic!("a connection is closed: {why:?}, {last:?}"),
        }
    }
}

/// What a store says that takes everything.
fn answer(batch: &Batch) -> Stored {
    let inserts = batch
        .changes
        .iter()
        .filter(|change| matches!(change, Change::Insert { .. }))
        .map(|_| InsertOutcome::Inserted)
        .collect();
    Stored {
        number: batch.number,
        inserts,
    }
}
