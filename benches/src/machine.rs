//! The server's machine, before a store that answers at once and costs nothing.

use std::time::Duration;

use jobq_proto::message::{Hello, Holding, NameCredit, Work as WorkerHello};
use jobq_proto::{ClientMessage, Fence, JobId, ServerMessage};
use jobq_server::machine::{Config, Machine, Transmit};
use jobq_server::store::{Batch, Change, InsertOutcome, Recovered, Stored};
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

/// The ways of a job through the machine.
pub fn workloads() -> Vec<Workload> {
    vec![
        Workload::new("machine/submit, 1000 a request", JOBS, || submit(ROUND)),
        Workload::new("machine/submit, 1 a request", JOBS, || submit(1)),
        Workload::new("machine/hand out", JOBS, hand_out),
        Workload::new("machine/settle", JOBS, settle),
        Workload::new("machine/drain (hand out and settle in turns)", JOBS, drain),
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
}

impl Stage {
    fn new() -> Self {
        let now = Now {
            mono: Mono(1_000_000_000),
            wall: Wall(1_800_000_000_000_000),
        };
        let recovered = Recovered {
            identity: Uuid::from_u128(7),
            epoch: 1,
            last_batch: 0,
            next_id: JobId(1),
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
        self.round(peer, vec![ServerMessage::Hello(hello)]);
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
            assert!(self.machine.poll_read().is_none(), "the params are in memory");
            while let Some(transmit) = self.machine.poll_transmit() {
                self.transmit(transmit);
            }
            let Some(batch) = batch else { break };
            let stored = answer(&batch);
            self.batches.push(batch);
            self.machine.handle_stored(self.now, stored);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_workload_does_what_it_says() {
        for workload in workloads() {
            // Each counts what came of it.
            workload.prepare()();
        }
    }
}
