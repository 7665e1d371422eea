//! Handlers that do not listen.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use jobq_proto::message::{Cancel, RunRef};
use jobq_proto::{ClientMessage, ServerMessage};
use jobq_worker::{Job, JobError, Run, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::played_server::{Peer, Server, WorkerThread, fence, job, within};

const GRACE: Duration = Duration::from_millis(10);

/// Blocks its thread until the other end is dropped, whatever it is told meanwhile.
#[derive(Clone)]
struct Block {
    entered: UnboundedSender<()>,
    blocked: Arc<Mutex<mpsc::Receiver<()>>>,
}

/// The other end.
struct Blocked {
    entered: UnboundedReceiver<()>,
    _unblock: mpsc::Sender<()>,
}

impl Block {
    fn new() -> (Blocked, Self) {
        let (unblock, blocked) = mpsc::channel();
        let (entered, has_entered) = unbounded_channel();
        let other = Blocked {
            entered: has_entered,
            _unblock: unblock,
        };
        let blocked = Arc::new(Mutex::new(blocked));
        (other, Self { entered, blocked })
    }

    fn block(&self) -> Result<(), JobError> {
        self.entered.send(()).expect("the test waits");
        // Returns when the test drops the other end.
        let _end = self.blocked.lock().expect("nobody panics").recv();
        Ok(())
    }
}

impl Blocked {
    /// Waits until the handler is at it: one that is told to stop before is never called.
    async fn entered(&mut self) {
        within(self.entered.recv()).await.expect("the handler is called");
    }
}

async fn cancel(peer: &mut Peer, id: u64) {
    let runs = vec![RunRef { id, fence: fence(id) }];
    peer.send(ClientMessage::Cancel(Cancel { runs })).await;
}

#[tokio::test]
async fn a_blocking_handler_that_ignores_its_cancellation_is_reported_and_keeps_its_place_until_it_ends() {
    let (mut server, endpoint) = Server::new();
    let (mut blocked, block) = Block::new();
    let runtime = Runtime::new(endpoint)
        .blocking("stubborn", move |_: Job<()>, _: Run| block.block())
        .handler("ping", |_: Job<()>, _: Run| async { Ok("pong") })
        .concurrency(1)
        .prefetch(1)
        .cancel_grace(GRACE);
    let _worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "stubborn", &()), job(2, "ping", &())]).await;
    assert_eq!(peer.started().await, [1]);
    blocked.entered().await;
    cancel(&mut peer, 1).await;
    let ServerMessage::Credit(credit) = peer.recv().await else {
        panic!("Credit is next")
    };
    assert_eq!(credit.jobs, Some(1), "only what is fetched ahead is left");
    assert_eq!(peer.failed().await, (1, "cancelled".to_owned(), false));
    peer.settle([1]).await;
    drop(blocked);
    let ServerMessage::Credit(credit) = peer.recv().await else {
        panic!("Credit is next, since job 2 had no place before")
    };
    assert_eq!(credit.jobs, Some(2));
    assert_eq!(peer.completed().await.len(), 1);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_blocking_handler_that_does_not_listen() {
    let (mut server, endpoint) = Server::new();
    let (mut blocked, block) = Block::new();
    let runtime = Runtime::new(endpoint)
        .blocking("stubborn", move |_: Job<()>, _: Run| block.block())
        .shutdown_timeout(GRACE)
        .cancel_grace(GRACE);
    let mut worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "stubborn", &())]).await;
    assert_eq!(peer.started().await, [1]);
    blocked.entered().await;
    worker.shut_down();
    assert!(matches!(peer.report().await, ServerMessage::Released(released) if released.runs.len() == 1));
    peer.settle([1]).await;
    assert_eq!(worker.result().await.expect("a good end").released, 1);
    drop(blocked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_does_not_wait_for_an_asynchronous_handler_that_never_yields() {
    let (mut server, endpoint) = Server::new();
    let (mut blocked, block) = Block::new();
    let runtime = Runtime::new(endpoint)
        .handler("endless", move |_: Job<()>, _: Run| {
            let block = block.clone();
            async move { block.block() }
        })
        .shutdown_timeout(GRACE)
        .cancel_grace(GRACE);
    let (shut_down, told) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run(told));
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "endless", &())]).await;
    assert_eq!(peer.started().await, [1]);
    blocked.entered().await;
    drop(shut_down);
    assert!(matches!(peer.report().await, ServerMessage::Released(released) if released.runs.len() == 1));
    peer.settle([1]).await;
    let summary = within(running).await.expect("no panic").expect("a good end");
    assert_eq!(summary.released, 1);
    drop(blocked);
}

#[tokio::test]
async fn a_handler_that_outlives_its_time_out_fails_its_job_without_it() {
    let (mut server, endpoint) = Server::new();
    let (blocked, block) = Block::new();
    let runtime = Runtime::new(endpoint)
        .blocking("stubborn", move |_: Job<()>, _: Run| block.block())
        .cancel_grace(GRACE);
    let _worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    let mut timed = job(1, "stubborn", &());
    timed.timeout = Some(10_000);
    peer.order([timed]).await;
    assert_eq!(peer.failed().await, (1, "timed out after 10ms".to_owned(), false));
    drop(blocked);
}
