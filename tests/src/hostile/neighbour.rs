//! Who is not to notice: a client that submits, and a worker that runs what it submits, each on one connection.

use std::time::{Duration, Instant};

use jobq_proto::message::{
    Completed, CompletedRun, Holding, NameCredit, Request, RunRef, SettleOutcome, Started, StatsQuery,
    Submission, Work,
};
use jobq_proto::{ClientMessage, ServerMessage};
use uuid::Uuid;

use crate::{RawPeer, soon};

const NAME: &str = "neighbour";

/// What nobody runs.
const LEFT: &str = "left";

/// How often it looks whether it is alone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A client and a worker whose connections last as long as they do. They send no beats: the server has a long `--ttl`.
#[derive(Debug)]
pub struct Neighbour {
    client: RawPeer,
    worker: RawPeer,
    request: u64,
}

/// How long things took, in order of length.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    times: Vec<Duration>,
}

impl Neighbour {
    /// Connects to an address of the kind `tcp://`.
    ///
    /// # Panics
    /// The server does not let them in.
    pub async fn move_in(address: &str) -> Self {
        let (client, _) = RawPeer::introduced(address, None).await;
        let work = Work {
            names: vec![NameCredit {
                name: NAME.to_owned(),
                jobs: 1,
            }],
            jobs: 1,
            bytes: 1024,
            prefetch: 0,
        };
        let (mut worker, _) = RawPeer::introduced(address, Some(work)).await;
        worker.send(&ServerMessage::Holding(Holding::default())).await;
        Self {
            client,
            worker,
            request: 0,
        }
    }

    /// Has so many jobs run, one after the other; how long each took from its submission to its settlement, both on
    /// disk.
    ///
    /// # Panics
    /// One of the connections ended, or a job is not run as it should be.
    pub async fn run_jobs(&mut self, jobs: usize) -> Latencies {
        let mut times = Vec::with_capacity(jobs);
        for _ in 0..jobs {
            times.push(self.run_job().await);
        }
        Latencies::of(times)
    }

    /// As [`Self::run_jobs`], each of this one's jobs followed by one of another's.
    pub async fn run_jobs_beside(&mut self, other: &mut Self, jobs: usize) -> (Latencies, Latencies) {
        let (mut times, mut others) = (Vec::with_capacity(jobs), Vec::with_capacity(jobs));
        for _ in 0..jobs {
            times.push(self.run_job().await);
            others.push(other.run_job().await);
        }
        (Latencies::of(times), Latencies::of(others))
    }

    /// Submits so many jobs that nobody runs.
    ///
    /// # Panics
    /// They are not taken.
    pub async fn leave_jobs(&mut self, jobs: usize) {
        self.submit((0..jobs).map(|_| Submission::new(Uuid::now_v7(), LEFT)).collect())
            .await;
    }

    /// Waits until there are no other connections than its own two.
    ///
    /// # Panics
    /// Its connection ended.
    pub async fn be_alone(&mut self) {
        soon("the end of all other connections", async {
            loop {
                self.request += 1;
                let request = self.request;
                self.client
                    .send(&ServerMessage::Stats(StatsQuery { request }))
                    .await;
                match self.client.recv().await {
                    Some(ClientMessage::Stats(stats)) if stats.peers == 2 => break,
                    Some(ClientMessage::Stats(_)) => tokio::time::sleep(LOOK_EVERY).await,
                    other => panic!("a question was answered by {other:?}"),
                }
            }
        })
        .await;
    }

    async fn submit(&mut self, jobs: Vec<Submission>) {
        self.request += 1;
        let request = self.request;
        self.client
            .send(&ServerMessage::Request(Request { request, jobs }))
            .await;
        match self.client.recv().await {
            Some(ClientMessage::Acknowledged(answer)) if answer.jobs.iter().all(|job| job.id.is_some()) => {}
            other => panic!("a good request was answered by {other:?}"),
        }
    }

    /// Has one job run; how long it took.
    async fn run_job(&mut self) -> Duration {
        let began = Instant::now();
        self.submit(vec![Submission::new(Uuid::now_v7(), NAME)]).await;
        let run = match self.worker.recv().await {
            Some(ClientMessage::Order(order)) if order.jobs.len() == 1 => RunRef {
                id: order.jobs[0].id,
                fence: order.jobs[0].fence,
            },
            other => panic!("a worker with room for one job was sent {other:?}"),
        };
        self.worker
            .send(&ServerMessage::Started(Started { runs: vec![run] }))
            .await;
        let completed = CompletedRun {
            id: run.id,
            fence: run.fence,
            ran: 1,
            result: None,
        };
        let runs = vec![completed];
        self.worker
            .send(&ServerMessage::Completed(Completed { runs }))
            .await;
        match self.worker.recv().await {
            Some(ClientMessage::Settled(settled)) if settled.runs[0].outcome == SettleOutcome::Applied => {}
            other => panic!("a good report was answered by {other:?}"),
        }
        began.elapsed()
    }
}

impl Latencies {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { times }
    }

    /// How long `percent` of them took at most.
    ///
    /// # Panics
    /// There are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let place = (self.times.len() * percent / 100).min(self.times.len() - 1);
        self.times[place]
    }
}
