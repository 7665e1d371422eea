//! Who is not to notice: a client that submits, and a worker that runs what it submits, each on one connection.

use std::time::{Duration, Instant};

use jobq_proto::message::{
    Completed, CompletedRun, Holding, NameCredit, Request, RunRef, SettleOutcome, Started, Submission, Work,
};
use jobq_proto::{ClientMessage, ServerMessage};
use uuid::Uuid;

use crate::RawPeer;

const NAME: &str = "neighbour";

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
            let began = Instant::now();
            self.run_job().await;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Latencies { times }
    }

    async fn run_job(&mut self) {
        self.request += 1;
        let job = Submission {
            uuid: Uuid::now_v7(),
            name: NAME.to_owned(),
            params: None,
            username: None,
            priority: None,
            run_at: None,
            delay: None,
            max_attempts: None,
            timeout: None,
            backoff: None,
        };
        let request = self.request;
        let jobs = vec![job];
        self.client
            .send(&ServerMessage::Request(Request { request, jobs }))
            .await;
        match self.client.recv().await {
            Some(ClientMessage::Acknowledged(answer)) if answer.jobs.iter().all(|job| job.id.is_some()) => {}
            other => panic!("a good request was answered by {other:?}"),
        }
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
    }
}

impl Latencies {
    /// How long `percent` of them took at most.
    ///
    /// # Panics
    /// There are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let place = (self.times.len() * percent / 100).min(self.times.len() - 1);
        self.times[place]
    }
}
