//! The whole server over connections in memory, in a time that passes only when nothing else is left to do.

use std::time::Duration;

use bytes::Bytes;
use jobq_proto::message::{
    Acknowledged, Beat, Completed, CompletedRun, Goodbye, HeldRun, Hello, Holding, NameCredit, OrderedJob,
    Request, Resume, RunRef, RunState, SettleOutcome, Started, Submission, Welcome, Work,
};
use jobq_proto::{ClientMessage, ErrorCode, Fence, JobId, ServerMessage};
use jobq_transport::memory::{self, MemoryConnector};
use jobq_transport::{Connector, Dealer, RouterConfig, StreamDealer, StreamRouter};
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::*;
use crate::machine::Config;
use crate::store::{
    BackupOrder, Batch, Birth, LiveJob, MemoryDisk, MemoryReader, MemoryStore, Prune, Read, Recovered,
};
use crate::time::Wall;

/// How long a peer waits for what has to come, which is no time at all: half of the time-to-live.
const SOON: Duration = Duration::from_secs(15);

/// Longer than the time-to-live, many times over.
const BEATS: u64 = 30;
const BEAT: Duration = Duration::from_secs(10);

/// Clients that submit more than three batches hold, each less than is read of one peer; and those that submit more than
/// is taken beside, of what is brief.
const CLIENTS: usize = 16;
const REQUESTS: u64 = 3;
const LARGE: usize = 1_000_000;
const BRIEF: usize = 15_000;

/// What all peers show.
const TOKEN: &str = "shared";

#[tokio::test(start_paused = true)]
async fn sessions_live_on_and_runs_settle_however_long_the_store_was_stuck() {
    let server = TestServer::start();
    let mut client = server.client().await;
    let mut worker = soon(server.worker(None)).await;
    worker.say(ServerMessage::Holding(Holding { runs: Vec::new() }));
    client.submit(1, vec![job(1, 0), job(2, 0)]);
    let orders = worker.orders().await;
    let runs = orders.iter().map(run_of).collect();
    worker.say(ServerMessage::Started(Started { runs }));
    sleep(Duration::from_secs(1)).await; // The starts are recorded.

    server.disk.hold();
    let mut clients = server.flood().await;
    worker.complete(&orders[0]);
    for _ in 0..BEATS {
        sleep(BEAT).await;
        worker.beat().await;
        client.beat().await;
    }
    // Its connection breaks, as it were, and its answer to Hello does not wait for the disk either.
    let session = worker.welcome.clone();
    drop(worker);
    let mut worker = soon(server.worker(Some(&session))).await;
    assert!(worker.welcome.resumed);
    let held = [RunState::Ended, RunState::Running];
    let runs = orders.iter().zip(held).map(|(order, state)| HeldRun {
        id: order.id,
        fence: order.fence,
        state,
    });
    worker.say(ServerMessage::Holding(Holding { runs: runs.collect() }));
    worker.complete(&orders[0]);
    for _ in 0..BEATS {
        sleep(BEAT).await;
        worker.beat().await;
    }

    server.disk.release();
    worker.complete(&orders[1]);
    assert_eq!(
        worker.settled().await,
        [SettleOutcome::Applied, SettleOutcome::Applied]
    );
    for client in &mut clients {
        for _ in 0..REQUESTS {
            let acknowledged = client.acknowledged().await;
            assert!(acknowledged.jobs[0].error.is_none(), "{acknowledged:?}");
        }
    }
    worker.say(ServerMessage::Goodbye(Goodbye {}));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_small_job_finds_a_place_in_a_batch_that_is_full_of_large_ones() {
    let server = TestServer::start();
    server.disk.hold();
    let mut clients = server.flood_with(LARGE, 0).await;
    let mut client = server.client().await;
    client.submit(1, vec![job(1, 1_000)]);
    sleep(Duration::from_secs(1)).await;
    // Nothing gets to the disk but the two batches that are out, and the one that was full.
    server.disk.hold_after(3);
    let acknowledged = client.acknowledged().await;
    assert!(acknowledged.jobs[0].error.is_none(), "{acknowledged:?}");
    server.disk.release();
    for client in &mut clients {
        for _ in 0..REQUESTS {
            client.acknowledged().await;
        }
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn new_jobs_are_refused_at_once_when_it_is_known_that_the_stuck_store_has_no_room() {
    let server = TestServer::start();
    server.disk.hold();
    let mut clients = server.flood().await;
    server.disk.fill_up();
    let mut client = server.client().await;
    client.submit(1, vec![job(1, 0)]);
    client.submit(2, vec![job(2, 0)]);
    for request in [1, 2] {
        let refused = client.hear(|message| match message {
            ClientMessage::Refused(refused) => Some(refused),
            _ => None,
        });
        let refused = refused.await;
        assert_eq!(
            (refused.request, refused.error.code),
            (request, ErrorCode::StorageFull)
        );
    }
    let mut refused = 0;
    server.disk.make_room();
    server.disk.release();
    for client in &mut clients {
        for _ in 0..REQUESTS {
            let answer = client.hear(|message| match message {
                ClientMessage::Refused(_) => Some(true),
                ClientMessage::Acknowledged(_) => Some(false),
                _ => None,
            });
            refused += u64::from(answer.await);
        }
    }
    assert!(refused > 0, "those that were in no batch");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_worker_is_welcomed_when_its_record_has_room() {
    let server = TestServer::start();
    server.disk.hold();
    let _clients = server.flood().await;
    let mut welcomed = Box::pin(server.worker(None));
    assert!(timeout(SOON, &mut welcomed).await.is_err(), "it waits its turn");
    server.disk.release();
    assert!(!soon(welcomed).await.welcome.resumed);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn wrong_tokens_are_refused_in_their_time_however_long_the_store_is_stuck() {
    let server = TestServer::start();
    server.disk.hold();
    let _clients = server.flood().await;
    for _ in 0..8 {
        for work in [None, Some(work())] {
            let mut heard = Vec::new();
            let mut dealer = Peer::knock(&server.connector, "wrong", work, None).await;
            soon(dealer.recv(&mut heard, 1)).await.expect("it is answered");
            let refused =
                matches!(&heard[..], [ClientMessage::Error(last)] if last.error.code == ErrorCode::BadToken);
            assert!(refused, "{heard:?}");
        }
    }
    server.disk.release();
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_readers_are_turned_away_first_ends_with_the_reason_that_the_store_gives() {
    let (failing, store) = FailingStore::new();
    let reason = StoreError::Damaged("a page is not what was written".to_owned());
    let task = failing.fail_under_a_question(store).await;
    sleep(TELLS_WITHIN / 2).await; // It leaves its marker.
    assert!(!task.is_finished(), "the reason is waited for");
    failing.reason.send(reason).expect("the server waits");
    let served = soon(task).await.expect("the server does not panic");
    assert!(
        matches!(served, Err(ServeError::Store(StoreError::Damaged(_)))),
        "{served:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_store_never_says_why_it_is_closed_ends_all_the_same() {
    let (failing, store) = FailingStore::new();
    let task = failing.fail_under_a_question(store).await;
    let served = soon(task).await.expect("the server does not panic");
    assert!(
        matches!(served, Err(ServeError::Store(StoreError::Closed))),
        "{served:?}"
    );
}

/// What a test has of a [`FailingStore`].
struct Failing {
    has_failed: watch::Sender<bool>,
    reason: oneshot::Sender<StoreError>,
}

/// A store that fails: its readers turn questions away at once, and it says why when it is told to.
struct FailingStore {
    store: MemoryStore,
    has_failed: watch::Receiver<bool>,
    reason: oneshot::Receiver<StoreError>,
}

impl FailingStore {
    fn new() -> (Failing, Self) {
        let (has_failed_tx, has_failed) = watch::channel(false);
        let (reason_tx, reason) = oneshot::channel();
        let store = Self {
            store: MemoryStore::open(&empty_disk()),
            has_failed,
            reason,
        };
        let failing = Failing {
            has_failed: has_failed_tx,
            reason: reason_tx,
        };
        (failing, store)
    }
}

impl Failing {
    /// Serves from the store, fails it, and has the server ask it something that it has to know.
    async fn fail_under_a_question(&self, store: FailingStore) -> JoinHandle<Result<(), ServeError>> {
        let server = TestServer::serve(store.store.disk().clone(), store);
        let mut worker = soon(server.worker(None)).await;
        worker.say(ServerMessage::Holding(Holding { runs: Vec::new() }));
        self.has_failed.send_replace(true);
        // Whether there ever was such a run the store knows alone.
        let run = CompletedRun {
            id: 1,
            fence: Fence { epoch: 1, seq: 1 },
            ran: 1_000,
            result: None,
        };
        worker.say(ServerMessage::Completed(Completed { runs: vec![run] }));
        while worker.dealer.queued_bytes() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        server.task
    }
}

impl Store for FailingStore {
    type Reader = FailingReader;

    fn recovered(&self) -> &Recovered {
        self.store.recovered()
    }

    fn live(&mut self, after: JobId, limit: usize) -> Result<Vec<LiveJob>, StoreError> {
        self.store.live(after, limit)
    }

    fn reader(&self) -> FailingReader {
        FailingReader {
            reader: self.store.reader(),
            has_failed: self.has_failed.clone(),
        }
    }

    fn commit(&mut self, batch: Batch) {
        self.store.commit(batch);
    }

    fn prune(&mut self, prune: Prune) {
        self.store.prune(prune);
    }

    fn back_up(&mut self, order: BackupOrder) {
        self.store.back_up(order);
    }

    async fn recv(&mut self) -> Result<StoreEvent, StoreError> {
        tokio::select! {
            biased;
            Ok(reason) = &mut self.reason => Err(reason),
            event = self.store.recv(), if !*self.has_failed.borrow() => event,
        }
    }

    async fn close(self) -> Result<(), StoreError> {
        self.store.close().await
    }
}

/// The reader of a [`FailingStore`].
#[derive(Clone)]
struct FailingReader {
    reader: MemoryReader,
    has_failed: watch::Receiver<bool>,
}

impl StoreReader for FailingReader {
    async fn read(&self, read: Read) -> Result<ReadAnswer, StoreError> {
        if *self.has_failed.borrow() {
            return Err(StoreError::Closed);
        }
        self.reader.read(read).await
    }
}

/// A server on a disk that does as it is told.
struct TestServer {
    disk: MemoryDisk,
    connector: MemoryConnector,
    stop: watch::Sender<Stop>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl TestServer {
    fn start() -> Self {
        let disk = empty_disk();
        Self::serve(disk.clone(), MemoryStore::open(&disk))
    }

    /// Serves what is on `disk` from this store.
    fn serve<S: Store + 'static>(disk: MemoryDisk, store: S) -> Self {
        let clock = TestClock(Instant::now());
        let config = Config {
            token: Some(TOKEN.to_owned()),
            ..Config::default()
        };
        let mut machine = Machine::new(config, store.recovered(), [7; 32], clock.now());
        machine.begin(clock.now());
        let mut router = StreamRouter::new(RouterConfig::default());
        let (connector, listener) = memory::channel();
        router.listen(listener);
        let (stop, stopped) = watch::channel(Stop::No);
        let (_, tokens) = watch::channel(None);
        let driver = Driver::new(machine, router, store, clock, stopped, tokens);
        Self {
            disk,
            connector,
            stop,
            task: tokio::spawn(driver.run(Duration::from_secs(1))),
        }
    }

    async fn client(&self) -> Peer {
        soon(Peer::connect(&self.connector, None, None)).await
    }

    async fn worker(&self, session: Option<&Welcome>) -> Peer {
        let resume = session.map(|session| Resume {
            store: session.store,
            session: session.session,
            secret: session.secret.clone(),
        });
        Peer::connect(&self.connector, Some(work()), resume).await
    }

    /// Submits until the machine has no room for more, be it large or brief, and more waits.
    async fn flood(&self) -> Vec<Peer> {
        let mut clients = self.flood_with(LARGE, 0).await;
        clients.extend(self.flood_with(BRIEF, CLIENTS).await);
        clients
    }

    /// Has clients submit jobs with so many bytes of params, the first of whom has this number.
    async fn flood_with(&self, params: usize, first: usize) -> Vec<Peer> {
        let mut clients = Vec::new();
        for number in first..first + CLIENTS {
            let mut client = self.client().await;
            for request in 1..=REQUESTS {
                let uuid = 1_000 + number as u128 * 100 + u128::from(request);
                client.submit(request, vec![job(uuid, params)]);
            }
            clients.push(client);
        }
        for client in &mut clients {
            while client.dealer.queued_bytes() > 0 {
                client.dealer.flush();
                sleep(Duration::from_millis(1)).await; // What has been written is read meanwhile.
            }
        }
        clients
    }

    async fn stop(self) {
        self.stop.send_replace(Stop::Now);
        let served = self.task.await.expect("the server does not panic");
        served.expect("the server ends in order");
    }
}

fn empty_disk() -> MemoryDisk {
    MemoryDisk::new(Birth {
        identity: Uuid::from_u128(1),
        now: TestClock(Instant::now()).now().wall,
    })
}

/// The time of the test's runtime.
#[derive(Clone, Copy)]
struct TestClock(Instant);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let since = u64::try_from(self.0.elapsed().as_micros()).expect("the test is short");
        Now {
            mono: Mono(since),
            wall: Wall(1_800_000_000_000_000 + i64::try_from(since).expect("the test is short")),
        }
    }
}

/// A client or a worker.
struct Peer {
    dealer: StreamDealer<DuplexStream>,
    welcome: Welcome,
    heard: Vec<ClientMessage>,
    beats: u64,
}

impl Peer {
    async fn connect(connector: &MemoryConnector, work: Option<Work>, resume: Option<Resume>) -> Self {
        let mut dealer = Self::knock(connector, TOKEN, work, resume).await;
        let mut heard = Vec::new();
        dealer.recv(&mut heard, 1).await.expect("the server answers");
        let Some(ClientMessage::Hello(welcome)) = heard.pop() else {
            panic!("the server's first message is Hello");
        };
        Self {
            dealer,
            welcome: *welcome,
            heard,
            beats: 0,
        }
    }

    /// Says Hello.
    async fn knock(
        connector: &MemoryConnector,
        token: &str,
        work: Option<Work>,
        resume: Option<Resume>,
    ) -> StreamDealer<DuplexStream> {
        let io = connector.connect().await.expect("the server listens");
        let mut dealer = StreamDealer::new(io, 2_000_000);
        let hello = Hello {
            token: Some(token.to_owned()),
            work,
            resume,
            ..Hello::new("")
        };
        dealer
            .send(&ServerMessage::Hello(Box::new(hello)))
            .expect("there is room");
        dealer
    }

    fn say(&mut self, message: ServerMessage) {
        self.dealer.send(&message).expect("there is room");
        self.dealer.flush();
    }

    /// The first message that is wanted; the others stay.
    async fn hear<T>(&mut self, wanted: impl Fn(ClientMessage) -> Option<T>) -> T {
        let heard = async {
            let mut looked_at = 0;
            loop {
                while looked_at < self.heard.len() {
                    if let Some(found) = wanted(self.heard[looked_at].clone()) {
                        self.heard.remove(looked_at);
                        return found;
                    }
                    looked_at += 1;
                }
                self.dealer
                    .recv(&mut self.heard, 100)
                    .await
                    .expect("the connection lives");
            }
        };
        soon(heard).await
    }

    async fn beat(&mut self) {
        self.beats += 1;
        let seq = self.beats;
        self.say(ServerMessage::Beat(Beat { seq }));
        self.hear(|message| (message == ClientMessage::Beat(Beat { seq })).then_some(()))
            .await;
    }

    fn submit(&mut self, request: u64, jobs: Vec<Submission>) {
        self.say(ServerMessage::Request(Request { request, jobs }));
    }

    async fn acknowledged(&mut self) -> Acknowledged {
        let acknowledged = self.hear(|message| match message {
            ClientMessage::Acknowledged(acknowledged) => Some(acknowledged),
            _ => None,
        });
        acknowledged.await
    }

    /// The next two orders.
    async fn orders(&mut self) -> Vec<OrderedJob> {
        let mut jobs = Vec::new();
        while jobs.len() < 2 {
            let order = self.hear(|message| match message {
                ClientMessage::Order(order) => Some(order),
                _ => None,
            });
            jobs.extend(order.await.jobs);
        }
        jobs
    }

    fn complete(&mut self, order: &OrderedJob) {
        let run = CompletedRun {
            id: order.id,
            fence: order.fence,
            ran: 1_000,
            result: None,
        };
        self.say(ServerMessage::Completed(Completed { runs: vec![run] }));
    }

    /// The answers to two reports.
    async fn settled(&mut self) -> Vec<SettleOutcome> {
        let mut outcomes = Vec::new();
        while outcomes.len() < 2 {
            let settled = self.hear(|message| match message {
                ClientMessage::Settled(settled) => Some(settled),
                _ => None,
            });
            outcomes.extend(settled.await.runs.into_iter().map(|run| run.outcome));
        }
        outcomes
    }
}

async fn soon<T>(happens: impl Future<Output = T>) -> T {
    timeout(SOON, happens).await.expect("the server answers in time")
}

fn work() -> Work {
    Work {
        names: vec![NameCredit {
            name: "a".to_owned(),
            jobs: 2,
        }],
        jobs: 2,
        bytes: 1_000_000,
        prefetch: 0,
    }
}

fn job(uuid: u128, params: usize) -> Submission {
    // A byte string of so many bytes, with a head for its length.
    let params = (params > 0).then(|| {
        let mut item = vec![0x5a];
        item.extend(u32::try_from(params).expect("they are few").to_be_bytes());
        item.resize(item.len() + params, 7);
        Bytes::from(item)
    });
    let name = if params.is_some() { "large" } else { "a" };
    Submission {
        params,
        ..Submission::new(Uuid::from_u128(uuid), name)
    }
}

fn run_of(order: &OrderedJob) -> RunRef {
    RunRef {
        id: order.id,
        fence: order.fence,
    }
}
