//! A server that is played by hand over the in-memory transport, and a worker on a thread of its own.

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::message::{
    Beat, Hello, Holding, Order, OrderedJob, RunProgress, RunRef, SettleOutcome, Settled, SettledRun, Welcome,
};
use jobq_proto::{ClientMessage, Fence, Limits, ServerMessage, Window};
use jobq_transport::{Endpoint, Listener, MemoryListener, memory};
use jobq_worker::{Runtime, RuntimeError, Summary};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what has to happen.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens")
}

/// Where workers come to.
pub(crate) struct Server {
    listener: MemoryListener,
    pub(crate) limits: Limits,
    pub(crate) beat: Duration,
}

impl Server {
    pub(crate) fn new() -> (Self, Endpoint) {
        let (connector, listener) = memory::channel();
        let server = Self {
            listener,
            limits: Limits::default(),
            beat: Duration::from_secs(10),
        };
        (server, Endpoint::from(connector))
    }

    /// Takes the next connection and reads its Hello.
    pub(crate) async fn accept(&mut self) -> (Peer, Hello) {
        let setup = within(self.listener.accept()).await.expect("a connection");
        let (io, _) = within(setup).await.expect("a stream");
        let mut peer = Peer { io, beats: 0 };
        match peer.read().await {
            Some(ServerMessage::Hello(hello)) => (peer, *hello),
            other => panic!("the first message is Hello, not {other:?}"),
        }
    }

    /// Takes the next connection, says welcome, and reads Holding.
    pub(crate) async fn welcome(&mut self, resumed: bool) -> (Peer, Holding) {
        let (mut peer, _) = self.accept().await;
        peer.send(ClientMessage::Hello(Box::new(self.terms(resumed))))
            .await;
        match peer.recv().await {
            ServerMessage::Holding(holding) => (peer, holding),
            other => panic!("the second message is Holding, not {other:?}"),
        }
    }

    pub(crate) fn terms(&self, resumed: bool) -> Welcome {
        Welcome {
            version: 1,
            server: "played".to_owned(),
            store: Uuid::from_u128(1),
            epoch: 1,
            session: 1,
            secret: Bytes::from_static(&[1; 32]),
            resumed,
            ttl: 30_000_000,
            grace: 5_000_000,
            beat: micros(self.beat),
            idle_beat: None,
            uuid_window: 3_600_000_000,
            limits: self.limits,
            window: Window::default(),
        }
    }
}

/// One connection of a worker.
pub(crate) struct Peer {
    io: DuplexStream,
    /// How many Beats have come, and been answered.
    pub(crate) beats: u64,
}

impl Peer {
    pub(crate) async fn send(&mut self, message: ClientMessage) {
        let mut frame = Vec::new();
        ciborium::into_writer(&message, &mut frame).expect("a message can be encoded");
        let length = u32::try_from(frame.len()).expect("a short frame");
        within(self.io.write_all(&length.to_be_bytes()))
            .await
            .expect("the worker reads");
        within(self.io.write_all(&frame)).await.expect("the worker reads");
    }

    /// The next message but Beats, which are answered.
    pub(crate) async fn recv(&mut self) -> ServerMessage {
        loop {
            match self.read().await.expect("another message") {
                ServerMessage::Beat(beat) => self.answer(beat).await,
                message => return message,
            }
        }
    }

    /// Waits for one Beat and answers it.
    pub(crate) async fn beat(&mut self) {
        match self.read().await {
            Some(ServerMessage::Beat(beat)) => self.answer(beat).await,
            other => panic!("a Beat is due, not {other:?}"),
        }
    }

    pub(crate) async fn order(&mut self, jobs: impl IntoIterator<Item = OrderedJob>) {
        let jobs = jobs.into_iter().collect();
        self.send(ClientMessage::Order(Order { jobs })).await;
    }

    pub(crate) async fn settle(&mut self, ids: impl IntoIterator<Item = u64>) {
        let run = |id| SettledRun {
            id,
            fence: fence(id),
            outcome: SettleOutcome::Applied,
        };
        let runs = ids.into_iter().map(run).collect();
        self.send(ClientMessage::Settled(Settled { runs })).await;
    }

    /// The jobs that the next message, a Started, names.
    pub(crate) async fn started(&mut self) -> Vec<u64> {
        match self.recv().await {
            ServerMessage::Started(started) => ids(&started.runs),
            other => panic!("Started is next, not {other:?}"),
        }
    }

    /// The jobs and results that the next message but Started, a Completed, names.
    pub(crate) async fn completed(&mut self) -> Vec<(u64, Option<Bytes>)> {
        match self.report().await {
            ServerMessage::Completed(completed) => completed
                .runs
                .into_iter()
                .map(|run| (run.id, run.result))
                .collect(),
            other => panic!("Completed is next, not {other:?}"),
        }
    }

    /// The job, reason and finality of the one run that the next message but Started, a Failed, names.
    pub(crate) async fn failed(&mut self) -> (u64, String, bool) {
        match self.report().await {
            ServerMessage::Failed(mut failed) => {
                assert_eq!(failed.runs.len(), 1, "{failed:?}");
                let run = failed.runs.remove(0);
                (run.id, run.reason, run.never)
            }
            other => panic!("Failed is next, not {other:?}"),
        }
    }

    /// The next message but Started and Credit.
    pub(crate) async fn report(&mut self) -> ServerMessage {
        loop {
            match self.recv().await {
                ServerMessage::Started(_) | ServerMessage::Credit(_) => {}
                message => return message,
            }
        }
    }

    /// Reads up to the end, which Goodbye announces.
    pub(crate) async fn goodbye(mut self) {
        match self.recv().await {
            ServerMessage::Goodbye(_) => {}
            other => panic!("Goodbye is next, not {other:?}"),
        }
        assert_eq!(self.read().await, None);
    }

    /// What the next message, a Progress, says of one run.
    pub(crate) async fn progress(&mut self) -> RunProgress {
        match self.report().await {
            ServerMessage::Progress(mut progress) => {
                assert_eq!(progress.runs.len(), 1, "{progress:?}");
                progress.runs.remove(0)
            }
            other => panic!("Progress is next, not {other:?}"),
        }
    }

    async fn answer(&mut self, beat: Beat) {
        self.beats += 1;
        self.send(ClientMessage::Beat(beat)).await;
    }

    /// The next message, or none at the end.
    async fn read(&mut self) -> Option<ServerMessage> {
        let length = within(self.io.read_u32()).await.ok()?;
        let mut frame = vec![0; length as usize];
        within(self.io.read_exact(&mut frame))
            .await
            .expect("a whole frame");
        Some(ciborium::from_reader(&*frame).expect("a message"))
    }
}

/// A worker on a thread and a runtime of its own, so that its handlers may block.
pub(crate) struct WorkerThread {
    shutdown: Option<oneshot::Sender<()>>,
    over: oneshot::Receiver<Result<Summary, RuntimeError>>,
}

impl WorkerThread {
    pub(crate) fn start(runtime: Runtime) -> Self {
        let (shutdown, told) = oneshot::channel::<()>();
        let (result, over) = oneshot::channel();
        thread::spawn(move || {
            let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let executor = executor.expect("a runtime");
            // The test may have failed and gone.
            let _gone = result.send(executor.block_on(runtime.run(told)));
        });
        Self {
            shutdown: Some(shutdown),
            over,
        }
    }

    pub(crate) fn shut_down(&mut self) {
        self.shutdown.take();
    }

    pub(crate) async fn result(mut self) -> Result<Summary, RuntimeError> {
        within(&mut self.over).await.expect("the worker does not panic")
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("a short time")
}

pub(crate) fn fence(id: u64) -> Fence {
    Fence { epoch: 1, seq: id }
}

pub(crate) fn ids(runs: &[RunRef]) -> Vec<u64> {
    runs.iter().map(|run| run.id).collect()
}

pub(crate) fn encoded(value: &impl Serialize) -> Bytes {
    let mut item = Vec::new();
    ciborium::into_writer(value, &mut item).expect("it can be encoded");
    item.into()
}

/// A job whose fence has the number of its id.
pub(crate) fn job(id: u64, name: &str, params: &impl Serialize) -> OrderedJob {
    OrderedJob {
        id,
        fence: fence(id),
        attempt: 1,
        max_attempts: 20,
        uuid: Uuid::from_u128(id.into()),
        name: name.to_owned(),
        username: None,
        timeout: None,
        params: encoded(params),
    }
}
