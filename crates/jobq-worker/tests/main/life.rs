//! How a worker works, comes back, and goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jobq_proto::message::{HeldRun, RunState};
use jobq_proto::{ClientMessage, ServerMessage};
use jobq_worker::{Connection, Job, JobError, Observer, Outcome, Run, RunInfo, Runtime, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::played_server::{Server, WorkerThread, encoded, fence, ids, job, within};

#[derive(Serialize, Deserialize)]
struct Asset {
    width: u32,
    height: u32,
}

struct Area;

impl Worker for Area {
    const JOB_NAME: &'static str = "area";
    type Params = Asset;
    type Output = u32;

    async fn process(&self, job: Job<Asset>, run: &Run) -> Result<u32, JobError> {
        assert_eq!((run.fence(), run.attempt()), (fence(job.id.0), job.attempt));
        Ok(job.params.width * job.params.height)
    }
}

/// A handler that takes a permit for each job that it finishes, and counts how many are at it.
fn gated(gate: &Arc<Semaphore>, at_it: &Arc<AtomicUsize>) -> impl Fn(Job<()>, Run) -> GatedFuture + use<> {
    let (gate, at_it) = (Arc::clone(gate), Arc::clone(at_it));
    move |_, _| {
        let (gate, at_it) = (Arc::clone(&gate), Arc::clone(&at_it));
        Box::pin(async move {
            let before = at_it.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await?.forget();
            at_it.fetch_sub(1, Ordering::SeqCst);
            Ok(before)
        })
    }
}

type GatedFuture = std::pin::Pin<Box<dyn Future<Output = Result<usize, JobError>> + Send>>;

#[tokio::test]
async fn a_worker_says_what_it_runs_runs_it_and_says_goodbye() {
    let (mut server, endpoint) = Server::new();
    let runtime = Runtime::new(endpoint)
        .worker(Area)
        .handler("ping", |_: Job<()>, _: Run| async { Ok("pong") })
        .concurrency(5)
        .concurrency_of("ping", 2)
        .prefetch(1)
        .label("painter")
        .token("secret");
    let mut worker = WorkerThread::start(runtime);

    let (mut peer, hello) = server.accept().await;
    assert_eq!(
        (hello.label.as_str(), hello.token.as_deref()),
        ("painter", Some("secret"))
    );
    let work = hello.work.expect("a worker names its work");
    let names: Vec<_> = work
        .names
        .iter()
        .map(|name| (name.name.as_str(), name.jobs))
        .collect();
    assert_eq!(names, [("area", 6), ("ping", 3)]);
    assert_eq!((work.jobs, work.bytes), (6, 8 * 1024 * 1024));

    peer.send(ClientMessage::Hello(Box::new(server.terms(false))))
        .await;
    let ServerMessage::Holding(holding) = peer.recv().await else {
        panic!("Holding is next")
    };
    assert_eq!(holding.runs, []);
    let asset = Asset { width: 6, height: 7 };
    peer.order([job(1, "area", &asset)]).await;
    assert_eq!(peer.started().await, [1]);
    assert_eq!(peer.completed().await, [(1, Some(encoded(&42)))]);
    peer.order([job(2, "ping", &())]).await;
    assert_eq!(peer.completed().await, [(2, Some(encoded(&"pong")))]);
    peer.settle([1, 2]).await;

    worker.shut_down();
    let ServerMessage::Credit(credit) = peer.recv().await else {
        panic!("Credit is next")
    };
    assert_eq!(credit.jobs, Some(0));
    peer.goodbye().await;
    assert_eq!(worker.result().await.expect("a good end").completed, 2);
}

#[tokio::test]
async fn no_more_handlers_run_at_a_time_than_the_concurrency_allows() {
    let (mut server, endpoint) = Server::new();
    let (gate, at_it) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = gated(&gate, &at_it);
    let runtime = Runtime::new(endpoint)
        .handler("slow", handler)
        .concurrency(2)
        .prefetch(8);
    let _worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order((1..=10).map(|id| job(id, "slow", &()))).await;
    assert_eq!(peer.started().await, [1, 2]);
    let mut ended = 0;
    while ended < 10 {
        gate.add_permits(1);
        for (_, at_it_before) in peer.completed().await {
            let result = at_it_before.expect("a result");
            assert!(
                result == encoded(&0) || result == encoded(&1),
                "two at a time: {result:?}"
            );
            ended += 1;
        }
    }
}

#[tokio::test]
async fn an_outcome_is_reported_again_after_each_reconnect_until_it_is_settled() {
    let (mut server, endpoint) = Server::new();
    let runtime = Runtime::new(endpoint).handler("ping", |_: Job<()>, _: Run| async { Ok("pong") });
    let mut worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "ping", &())]).await;
    let report = peer.completed().await;
    for _ in 0..2 {
        drop(peer);
        let (mut next, hello) = server.accept().await;
        assert!(hello.resume.is_some());
        next.send(ClientMessage::Hello(Box::new(server.terms(true))))
            .await;
        let ServerMessage::Holding(holding) = next.recv().await else {
            panic!("Holding is next")
        };
        let held = HeldRun {
            id: 1,
            fence: fence(1),
            state: RunState::Ended,
        };
        assert_eq!(holding.runs, [held]);
        assert_eq!(next.completed().await, report);
        peer = next;
    }
    peer.settle([1]).await;
    // An order after the settlement, so that it is known to have been read.
    peer.order([job(2, "ping", &())]).await;
    peer.completed().await;
    peer.settle([2]).await;
    drop(peer);
    let (peer, holding) = server.welcome(true).await;
    assert_eq!(holding.runs, []);
    worker.shut_down();
    drop(peer);
    assert_eq!(worker.result().await.expect("a good end").completed, 2);
}

#[tokio::test]
async fn a_run_goes_on_while_the_server_is_away() {
    let (mut server, endpoint) = Server::new();
    let (gate, at_it) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let _worker = WorkerThread::start(Runtime::new(endpoint).handler("slow", gated(&gate, &at_it)));
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "slow", &())]).await;
    assert_eq!(peer.started().await, [1]);
    drop(peer);
    let (mut peer, holding) = server.welcome(true).await;
    assert_eq!(
        holding
            .runs
            .iter()
            .map(|run| (run.id, run.state))
            .collect::<Vec<_>>(),
        [(1, RunState::Running)]
    );
    gate.add_permits(1);
    assert_eq!(peer.completed().await.len(), 1);
}

#[tokio::test]
async fn a_shutdown_gives_back_what_has_not_started_and_finishes_what_runs() {
    let (mut server, endpoint) = Server::new();
    let (gate, at_it) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = gated(&gate, &at_it);
    let runtime = Runtime::new(endpoint)
        .handler("slow", handler)
        .concurrency(1)
        .prefetch(2);
    let mut worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order((1..=3).map(|id| job(id, "slow", &()))).await;
    assert_eq!(peer.started().await, [1]);
    worker.shut_down();
    let ServerMessage::Credit(credit) = peer.recv().await else {
        panic!("Credit is next")
    };
    assert_eq!(credit.jobs, Some(0));
    let ServerMessage::Released(released) = peer.recv().await else {
        panic!("Released is next")
    };
    assert_eq!(ids(&released.runs), [2, 3]);
    peer.settle([2, 3]).await;
    gate.add_permits(1);
    assert_eq!(peer.completed().await.len(), 1);
    peer.settle([1]).await;
    peer.goodbye().await;
    let summary = worker.result().await.expect("a good end");
    assert_eq!((summary.completed, summary.released), (1, 2));
}

#[tokio::test]
async fn a_shutdown_gives_back_what_runs_for_too_long() {
    let (mut server, endpoint) = Server::new();
    let runtime = Runtime::new(endpoint)
        .handler("endless", |_: Job<()>, _: Run| {
            std::future::pending::<Result<(), JobError>>()
        })
        .shutdown_timeout(Duration::from_millis(10))
        .cancel_grace(Duration::from_millis(10));
    let mut worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "endless", &())]).await;
    peer.started().await;
    worker.shut_down();
    let released = loop {
        match peer.recv().await {
            ServerMessage::Credit(_) => {}
            ServerMessage::Released(released) => break released,
            other => panic!("Released is next, not {other:?}"),
        }
    };
    assert_eq!(ids(&released.runs), [1]);
    peer.settle([1]).await;
    assert_eq!(worker.result().await.expect("a good end").released, 1);
}

#[tokio::test]
async fn a_handler_that_blocks_its_thread_does_not_stop_the_beats() {
    let (mut server, endpoint) = Server::new();
    server.beat = Duration::from_millis(100);
    let (unblock, blocked) = mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let runtime = Runtime::new(endpoint).handler("rude", move |_: Job<()>, _: Run| {
        let blocked = Arc::clone(&blocked);
        async move {
            // Returns when the test drops the other end.
            let _end = blocked.lock().expect("one handler").recv();
            Ok(())
        }
    });
    let _worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "rude", &())]).await;
    assert_eq!(peer.started().await, [1]);
    for _ in 0..3 {
        peer.beat().await;
    }
    drop(unblock);
    assert_eq!(peer.completed().await, [(1, None)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_handlers_run_beside_each_other_from_their_beginning() {
    let (mut server, endpoint) = Server::new();
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let runtime = Runtime::new(endpoint).handler("meet", move |_: Job<()>, _: Run| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait();
            Ok(())
        }
    });
    let worker = tokio::spawn(async move { runtime.run(std::future::pending::<()>()).await });
    let (mut peer, _) = server.welcome(false).await;
    peer.order((1..=2).map(|id| job(id, "meet", &()))).await;
    let mut completed = 0;
    while completed < 2 {
        completed += peer.completed().await.len();
    }
    worker.abort();
}

#[tokio::test]
async fn a_runtime_that_is_dropped_stops_its_handlers_and_says_goodbye() {
    let (mut server, endpoint) = Server::new();
    let runtime = Runtime::new(endpoint).handler("patient", |_: Job<()>, run: Run| async move {
        run.cancelled().await;
        Err::<(), _>(JobError::retry("stopped"))
    });
    let running = tokio::spawn(runtime.run(std::future::pending::<()>()));
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "patient", &())]).await;
    peer.started().await;
    running.abort();
    let ServerMessage::Credit(_) = peer.recv().await else {
        panic!("Credit is next")
    };
    let ServerMessage::Released(released) = peer.recv().await else {
        panic!("Released is next")
    };
    assert_eq!(ids(&released.runs), [1]);
    peer.settle([1]).await;
    peer.goodbye().await;
}

#[tokio::test]
async fn a_thousand_jobs_sent_at_once_all_end_with_their_own_results() {
    const JOBS: u64 = 1000;
    let (mut server, endpoint) = Server::new();
    let runtime = Runtime::new(endpoint)
        .raw_handler(
            "echo",
            |job: Job<Bytes>, _: Run| async move { Ok(Some(job.params)) },
        )
        .concurrency(1000);
    let mut worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order((1..=JOBS).map(|id| job(id, "echo", &id))).await;
    let mut ended = 0;
    while ended < JOBS {
        let runs = peer.completed().await;
        ended += runs.len() as u64;
        for (id, result) in &runs {
            assert_eq!(result.as_ref(), Some(&encoded(id)));
        }
        peer.settle(runs.into_iter().map(|(id, _)| id)).await;
    }
    worker.shut_down();
    while !matches!(peer.recv().await, ServerMessage::Goodbye(_)) {}
    assert_eq!(worker.result().await.expect("a good end").completed, JOBS);
}

#[tokio::test]
async fn an_observer_is_told_what_happens_in_order() {
    struct Tell(tokio::sync::mpsc::UnboundedSender<String>);

    impl Tell {
        fn tell(&self, what: String) {
            self.0.send(what).expect("the test listens");
        }
    }

    impl Observer for Tell {
        fn connected(&self, connection: &Connection<'_>) {
            self.tell(format!("connected to {}", connection.server));
        }

        fn started(&self, run: &RunInfo<'_>) {
            self.tell(format!("started {} {} {}", run.id, run.name, run.attempt));
        }

        fn ended(&self, run: &RunInfo<'_>, outcome: &Outcome) {
            self.tell(format!("ended {} {outcome:?}", run.id));
        }
    }

    let (mut server, endpoint) = Server::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let runtime = Runtime::new(endpoint)
        .handler("ping", |_: Job<()>, _: Run| async { Ok("pong") })
        .observer(Tell(tell));
    let _worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(7, "ping", &())]).await;
    for expected in ["connected to played", "started 7 ping 1", "ended 7 Completed"] {
        assert_eq!(within(told.recv()).await.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn handlers_that_wait_for_nothing_leave_others_of_their_runtime_their_turns() {
    /// As long as handlers may take in one go.
    const JOB: Duration = Duration::from_millis(1);
    const JOBS: u64 = 100;
    /// A few times the handlers between two looks at the time: the neighbour has its turn before or after them.
    const IN_ONE_GO: u64 = 32;
    let (mut server, endpoint) = Server::new();
    let ended = Arc::new(AtomicU64::new(0));
    let in_one_go = Arc::new(AtomicU64::new(0));
    let neighbour = {
        let (ended, in_one_go) = (Arc::clone(&ended), Arc::clone(&in_one_go));
        move |_: Job<()>, _: Run| {
            let (ended, in_one_go) = (Arc::clone(&ended), Arc::clone(&in_one_go));
            async move {
                let mut seen = 0;
                while seen < JOBS {
                    tokio::task::yield_now().await;
                    let now = ended.load(Ordering::Relaxed);
                    in_one_go.fetch_max(now - seen, Ordering::Relaxed);
                    seen = now;
                }
                Ok(())
            }
        }
    };
    let busy = move |_: Job<()>, _: Run| {
        let begun = Instant::now();
        while begun.elapsed() < JOB {
            std::hint::spin_loop();
        }
        ended.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(()))
    };
    let runtime = Runtime::new(endpoint)
        .handler("neighbour", neighbour)
        .handler("busy", busy)
        .concurrency(u32::try_from(JOBS).expect("they are few") + 1);
    let _worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "neighbour", &())]).await;
    assert_eq!(peer.started().await, [1]);
    peer.order((0..JOBS).map(|number| job(10 + number, "busy", &())))
        .await;
    let mut completed = 0;
    while completed <= JOBS {
        completed += within(peer.completed()).await.len() as u64;
    }
    let in_one_go = in_one_go.load(Ordering::Relaxed);
    assert!(
        (1..=IN_ONE_GO).contains(&in_one_go),
        "{in_one_go} handlers in one go"
    );
}
