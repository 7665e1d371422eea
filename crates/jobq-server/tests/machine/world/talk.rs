//! What clients and workers say, and what they are told.

use bytes::Bytes;
use jobq_proto::message::*;
use jobq_proto::{ClientMessage, ErrorCode, ServerMessage, Status, WireError};
use jobq_transport::PeerId;
use uuid::Uuid;

use super::{Worker, World, job, run_of, work};

impl World {
    // Submitting.

    /// Sends a Request, and gives its number.
    pub(in crate::machine) fn request(&mut self, peer: PeerId, mut jobs: Vec<Submission>) -> u64 {
        for job in &mut jobs {
            if job.uuid.is_nil() {
                self.next_uuid += 1;
                job.uuid = Uuid::from_u128(self.next_uuid << 64 | 1);
            }
        }
        let request = self.next_request();
        self.send(peer, ServerMessage::Request(Request { request, jobs }));
        request
    }

    pub(in crate::machine) fn next_request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    pub(in crate::machine) fn acknowledged(&mut self, peer: PeerId, request: u64) -> Option<Vec<Receipt>> {
        let found = self.pick(peer, |message| match message {
            ClientMessage::Acknowledged(a) if a.request == request => Some(a.jobs.clone()),
            _ => None,
        });
        found.into_iter().next()
    }

    pub(in crate::machine) fn receipts(&mut self, peer: PeerId, jobs: Vec<Submission>) -> Vec<Receipt> {
        let request = self.request(peer, jobs);
        self.acknowledged(peer, request).expect("the request is answered")
    }

    /// Submits good jobs; their ids.
    pub(in crate::machine) fn submit(&mut self, peer: PeerId, jobs: Vec<Submission>) -> Vec<u64> {
        let receipts = self.receipts(peer, jobs);
        receipts
            .into_iter()
            .map(|receipt| {
                receipt
                    .id
                    .unwrap_or_else(|| panic!("refused: {:?}", receipt.error))
            })
            .collect()
    }

    pub(in crate::machine) fn submit_one(&mut self, peer: PeerId, job: Submission) -> u64 {
        self.submit(peer, vec![job])[0]
    }

    // Working.

    pub(in crate::machine) fn orders(&mut self, worker: &Worker) -> Vec<OrderedJob> {
        let orders = self.pick(worker.peer, |message| match message {
            ClientMessage::Order(order) => Some(order.jobs.clone()),
            _ => None,
        });
        orders.into_iter().flatten().collect()
    }

    /// The one job that a worker has been ordered.
    pub(in crate::machine) fn order(&mut self, worker: &Worker) -> OrderedJob {
        let mut orders = self.orders(worker);
        assert_eq!(orders.len(), 1, "one order is expected: {orders:?}");
        orders.remove(0)
    }

    pub(in crate::machine) fn started(&mut self, worker: &Worker, order: &OrderedJob) {
        let runs = vec![run_of(order)];
        self.send(worker.peer, ServerMessage::Started(Started { runs }));
    }

    pub(in crate::machine) fn completed(&mut self, worker: &Worker, order: &OrderedJob) {
        self.completed_with(worker, order, None);
    }

    pub(in crate::machine) fn completed_with(
        &mut self,
        worker: &Worker,
        order: &OrderedJob,
        result: Option<Bytes>,
    ) {
        let runs = vec![CompletedRun {
            id: order.id,
            fence: order.fence,
            ran: 5,
            result,
        }];
        self.send(worker.peer, ServerMessage::Completed(Completed { runs }));
    }

    pub(in crate::machine) fn failed(&mut self, worker: &Worker, order: &OrderedJob) {
        self.failed_with(worker, order, false, None);
    }

    pub(in crate::machine) fn failed_with(
        &mut self,
        worker: &Worker,
        order: &OrderedJob,
        never: bool,
        after: Option<u64>,
    ) {
        let runs = vec![FailedRun {
            id: order.id,
            fence: order.fence,
            ran: 5,
            reason: "it did not work".to_owned(),
            never,
            after,
        }];
        self.send(worker.peer, ServerMessage::Failed(Failed { runs }));
    }

    pub(in crate::machine) fn released(&mut self, worker: &Worker, order: &OrderedJob) {
        let runs = vec![run_of(order)];
        self.send(worker.peer, ServerMessage::Released(Released { runs }));
    }

    /// A worker that was just given the one job there is, of the name a.
    pub(in crate::machine) fn with_order(&mut self) -> (Worker, OrderedJob) {
        let client = self.client();
        self.submit_one(client, job("a"));
        let worker = self.worker(&[("a", 1)]);
        let order = self.order(&worker);
        (worker, order)
    }

    /// A worker that has just started the one job there is, of the name a.
    pub(in crate::machine) fn at_work(&mut self) -> (Worker, OrderedJob) {
        let (worker, order) = self.with_order();
        self.started(&worker, &order);
        (worker, order)
    }

    /// How the runs were settled that the worker has not looked at.
    pub(in crate::machine) fn settled(&mut self, worker: &Worker) -> Vec<SettleOutcome> {
        self.settled_runs(worker)
            .into_iter()
            .map(|run| run.outcome)
            .collect()
    }

    pub(in crate::machine) fn settled_runs(&mut self, worker: &Worker) -> Vec<SettledRun> {
        let settled = self.pick(worker.peer, |message| match message {
            ClientMessage::Settled(settled) => Some(settled.runs.clone()),
            _ => None,
        });
        settled.into_iter().flatten().collect()
    }

    /// The runs that the worker was told to stop.
    pub(in crate::machine) fn cancels(&mut self, worker: &Worker) -> Vec<RunRef> {
        let cancels = self.pick(worker.peer, |message| match message {
            ClientMessage::Cancel(cancel) => Some(cancel.runs.clone()),
            _ => None,
        });
        cancels.into_iter().flatten().collect()
    }

    /// Lets a worker that takes one job at a time complete what there is; the jobs in the order of their runs.
    pub(in crate::machine) fn drain_in_turn(&mut self, names: &[(&str, u32)]) -> Vec<u64> {
        let worker = self.new_worker(Work {
            jobs: 1,
            ..work(names)
        });
        self.hold(&worker, Vec::new());
        let mut done = Vec::new();
        while let Some(order) = self.orders(&worker).pop() {
            self.completed(&worker, &order);
            done.push(order.id);
        }
        self.disconnect(worker.peer);
        done
    }

    // Asking.

    pub(in crate::machine) fn cancel(&mut self, peer: PeerId, ids: &[u64]) -> Vec<CancelOutcome> {
        let request = self.cancel_later(peer, ids);
        self.cancelled(peer, request).expect("the cancel is answered")
    }

    pub(in crate::machine) fn cancel_later(&mut self, peer: PeerId, ids: &[u64]) -> u64 {
        let request = self.next_request();
        let ids = ids.to_vec();
        self.send(peer, ServerMessage::Cancel(CancelJobs { request, ids }));
        request
    }

    pub(in crate::machine) fn cancelled(&mut self, peer: PeerId, request: u64) -> Option<Vec<CancelOutcome>> {
        let found = self.pick(peer, |message| match message {
            ClientMessage::Cancelled(c) if c.request == request => {
                Some(c.jobs.iter().map(|job| job.outcome).collect())
            }
            _ => None,
        });
        found.into_iter().next()
    }

    pub(in crate::machine) fn retry(&mut self, peer: PeerId, ids: &[u64]) -> Vec<Receipt> {
        let request = self.retry_later(peer, ids);
        self.retried(peer, request).expect("the retry is answered")
    }

    /// Asks for a retry whose answer is looked for later.
    pub(in crate::machine) fn retry_later(&mut self, peer: PeerId, ids: &[u64]) -> u64 {
        let request = self.next_request();
        let ids = ids.to_vec();
        self.send(peer, ServerMessage::Retry(RetryJobs { request, ids }));
        request
    }

    pub(in crate::machine) fn retried(&mut self, peer: PeerId, request: u64) -> Option<Vec<Receipt>> {
        let found = self.pick(peer, |message| match message {
            ClientMessage::Retried(r) if r.request == request => Some(r.jobs.clone()),
            _ => None,
        });
        found.into_iter().next()
    }

    pub(in crate::machine) fn watch(&mut self, peer: PeerId, ids: &[u64], bytes: u64) -> u64 {
        let request = self.next_request();
        let ids = ids.to_vec();
        self.send(
            peer,
            ServerMessage::Watch(Watch {
                request,
                ids,
                bytes,
                progress: false,
            }),
        );
        request
    }

    /// Watches jobs and how far they come; the watch's number.
    pub(in crate::machine) fn follow(&mut self, peer: PeerId, ids: &[u64]) -> u64 {
        let request = self.next_request();
        let watch = Watch {
            request,
            ids: ids.to_vec(),
            bytes: 0,
            progress: true,
        };
        self.send(peer, ServerMessage::Watch(watch));
        request
    }

    /// A worker says how far a run has come.
    pub(in crate::machine) fn progress(&mut self, worker: &Worker, order: &OrderedJob, part: u32) {
        let run = RunProgress {
            id: order.id,
            fence: order.fence,
            part: Some(part),
            text: String::new(),
        };
        self.send(worker.peer, ServerMessage::Progress(Progress { runs: vec![run] }));
    }

    /// What a watch was told of its jobs' progress and has not looked at: a list for each message.
    pub(in crate::machine) fn progressed(&mut self, peer: PeerId, request: u64) -> Vec<Vec<ProgressedJob>> {
        self.pick(peer, |message| match message {
            ClientMessage::Progressed(p) if p.request == request => Some(p.jobs.clone()),
            _ => None,
        })
    }

    /// The parts that a watch was told, in order.
    pub(in crate::machine) fn parts(&mut self, peer: PeerId, request: u64) -> Vec<(u64, Option<u32>)> {
        let told = self.progressed(peer, request);
        told.into_iter()
            .flatten()
            .map(|job| (job.id, job.progress.part))
            .collect()
    }

    pub(in crate::machine) fn ended(&mut self, peer: PeerId, request: u64) -> Vec<EndedJob> {
        let found = self.pick(peer, |message| match message {
            ClientMessage::Ended(e) if e.request == request => Some(e.jobs.clone()),
            _ => None,
        });
        found.into_iter().flatten().collect()
    }

    pub(in crate::machine) fn refusal(&mut self, peer: PeerId, request: u64) -> Option<ErrorCode> {
        self.refused(peer, request).map(|error| error.code)
    }

    pub(in crate::machine) fn refused(&mut self, peer: PeerId, request: u64) -> Option<WireError> {
        let found = self.pick(peer, |message| match message {
            ClientMessage::Refused(r) if r.request == request => Some(r.error.clone()),
            _ => None,
        });
        found.into_iter().next()
    }

    pub(in crate::machine) fn query(&mut self, peer: PeerId, query: Query) -> Jobs {
        let request = self.next_request();
        self.send(peer, ServerMessage::Query(Box::new(Query { request, ..query })));
        let found = self.pick(peer, |message| match message {
            ClientMessage::Jobs(jobs) if jobs.request == request => Some(jobs.clone()),
            _ => None,
        });
        found.into_iter().next().expect("the query is answered")
    }

    pub(in crate::machine) fn stats(&mut self, peer: PeerId) -> Stats {
        let request = self.next_request();
        self.send(peer, ServerMessage::Stats(StatsQuery { request }));
        let found = self.pick(peer, |message| match message {
            ClientMessage::Stats(stats) if stats.request == request => Some((**stats).clone()),
            _ => None,
        });
        found.into_iter().next().expect("stats are answered")
    }

    /// The server's counts, as a client sees them that comes just for this.
    pub(in crate::machine) fn stats_now(&mut self) -> Stats {
        let client = self.client();
        let stats = self.stats(client);
        self.disconnect(client);
        stats
    }

    /// A job as a client sees it that comes just for this.
    pub(in crate::machine) fn view(&mut self, id: u64) -> JobView {
        let client = self.client();
        let query = Query {
            ids: vec![id],
            include: Some(Include::Result),
            ..Query::default()
        };
        let jobs = self.query(client, query).jobs;
        self.disconnect(client);
        jobs.into_iter().next().expect("the job exists")
    }

    pub(in crate::machine) fn status(&mut self, id: u64) -> Status {
        self.view(id).status
    }
}
