//! How runs end.

use std::time::Duration;

use bytes::Bytes;
use jobq_proto::message::{Cancel, FailedRun, RunRef};
use jobq_proto::{ClientMessage, Limits, ServerMessage};
use jobq_worker::{Job, JobError, Run, Runtime};

use crate::played_server::{Peer, Server, WorkerThread, encoded, fence, job, micros, within};

/// A worker of a server that takes results of up to 1000 bytes, and its connection.
async fn connect(handlers: impl FnOnce(Runtime) -> Runtime) -> (WorkerThread, Peer) {
    let (mut server, endpoint) = Server::new();
    server.limits = Limits::with_payload(1000);
    let worker = WorkerThread::start(handlers(Runtime::new(endpoint)));
    let (peer, _) = server.welcome(false).await;
    (worker, peer)
}

async fn cancel(peer: &mut Peer, id: u64) {
    let runs = vec![RunRef { id, fence: fence(id) }];
    peer.send(ClientMessage::Cancel(Cancel { runs })).await;
}

#[tokio::test]
async fn a_panic_fails_its_job_with_its_message_and_no_other() {
    let (_worker, mut peer) = connect(|runtime| {
        runtime
            .handler("async", |job: Job<u32>, _: Run| async move {
                assert!(job.params != 13, "unlucky {}", job.params);
                Ok(job.params)
            })
            .handler(
                "early",
                |_: Job<()>, _: Run| -> std::future::Ready<Result<(), JobError>> { panic!("too early") },
            )
            .blocking("blocking", |_: Job<()>, _: Run| -> Result<(), JobError> {
                panic!("blocked")
            })
    })
    .await;
    peer.order([job(1, "async", &13)]).await;
    assert_eq!(peer.failed().await, (1, "panicked: unlucky 13".to_owned(), false));
    peer.order([job(2, "early", &())]).await;
    assert_eq!(peer.failed().await, (2, "panicked: too early".to_owned(), false));
    peer.order([job(3, "blocking", &())]).await;
    assert_eq!(peer.failed().await, (3, "panicked: blocked".to_owned(), false));
    peer.order([job(4, "async", &14)]).await;
    assert_eq!(peer.completed().await, [(4, Some(encoded(&14)))]);
}

/// Panics so many times when it is dropped, each time with what is left of it, unless a panic is under way.
struct PanicsWhenDropped(u32);

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if self.0 > 0 && !std::thread::panicking() {
            std::panic::panic_any(Self(self.0 - 1));
        }
    }
}

#[tokio::test]
async fn a_panic_whose_payload_panics_when_it_is_dropped_ends_no_other_run() {
    let (_worker, mut peer) = connect(|runtime| {
        runtime
            .handler("leave", |job: Job<u32>, _: Run| async move {
                if job.params > 0 {
                    std::panic::panic_any(PanicsWhenDropped(job.params));
                }
                Ok(())
            })
            .handler("echo", |job: Job<u32>, _: Run| async move { Ok(job.params) })
    })
    .await;
    // Whatever catches a panic has a payload to drop, and whatever catches that one has the next.
    for (id, panics) in [(1, 1), (3, 2), (5, 3)] {
        ends_no_other_run(&mut peer, id, panics).await;
    }
}

async fn ends_no_other_run(peer: &mut Peer, id: u64, panics: u32) {
    peer.order([job(id, "leave", &panics), job(id + 1, "echo", &7)])
        .await;
    let (mut completed, mut released) = (Vec::new(), Vec::new());
    while completed.is_empty() || released.is_empty() {
        match within(peer.report()).await {
            ServerMessage::Completed(reported) => completed.extend(reported.runs),
            ServerMessage::Released(reported) => released.extend(reported.runs),
            other => panic!("one run completes and one is released, not {other:?}"),
        }
    }
    assert_eq!((released[0].id, completed[0].id), (id, id + 1), "{panics} panics");
    assert_eq!(completed[0].result, Some(encoded(&7)));
}

#[tokio::test]
async fn an_error_says_whether_and_when_the_job_is_tried_again() {
    let (_worker, mut peer) = connect(|runtime| {
        runtime.handler("fail", |job: Job<u32>, _: Run| async move {
            match job.params {
                0 => Err(JobError::never("hopeless")),
                1 => Err(JobError::after(Duration::from_secs(90), "busy")),
                _ => Ok("x".parse::<u32>()?),
            }
        })
    })
    .await;
    for (params, reason, never, after) in [
        (0, "hopeless", true, None),
        (1, "busy", false, Some(90_000_000)),
        (2, "invalid digit found in string", false, None),
    ] {
        peer.order([job(params + 10, "fail", &params)]).await;
        let ServerMessage::Failed(failed) = peer.report().await else {
            panic!("Failed is next")
        };
        let FailedRun { ran, .. } = failed.runs[0];
        let run = FailedRun {
            id: params + 10,
            fence: fence(params + 10),
            ran,
            reason: reason.to_owned(),
            never,
            after,
        };
        assert_eq!(failed.runs, [run]);
    }
}

#[tokio::test]
async fn params_of_another_type_fail_the_job_for_good() {
    let (_worker, mut peer) =
        connect(|runtime| runtime.handler("count", |job: Job<u32>, _: Run| async move { Ok(job.params) }))
            .await;
    peer.order([job(1, "count", &"three")]).await;
    let (id, reason, never) = peer.failed().await;
    assert_eq!((id, never), (1, true));
    assert!(
        reason.contains("\"count\"") && reason.contains("expected integer"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_result_that_is_too_large_fails_the_job_for_good() {
    let (_worker, mut peer) = connect(|runtime| {
        runtime.raw_handler("fill", |_: Job<Bytes>, _: Run| async {
            Ok(Some(Bytes::from(vec![0; 1001])))
        })
    })
    .await;
    peer.order([job(1, "fill", &())]).await;
    let (_, reason, never) = peer.failed().await;
    assert_eq!(
        reason,
        "result_too_large: the result has 1001 bytes, and the limit is 1000"
    );
    assert!(never);
}

#[tokio::test]
async fn a_cancelled_run_is_told_to_stop() {
    // A run that is cancelled before its handler is called is not told anything, so the test waits for the call.
    let (called, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let (first, second) = (called.clone(), called);
    let (_worker, mut peer) = connect(|runtime| {
        runtime
            .handler("gives-in", move |_: Job<()>, run: Run| {
                let sent = first.send(());
                async move {
                    sent?;
                    run.cancelled().await;
                    Err::<(), _>(JobError::retry("I was told"))
                }
            })
            .blocking("finishes", move |_: Job<()>, run: Run| {
                second.send(())?;
                while !run.is_cancelled() {
                    std::thread::yield_now();
                }
                Ok("done all the same")
            })
    })
    .await;
    peer.order([job(1, "gives-in", &())]).await;
    assert_eq!(within(calls.recv()).await, Some(()));
    cancel(&mut peer, 1).await;
    assert_eq!(
        peer.failed().await,
        (1, "cancelled: I was told".to_owned(), false)
    );

    peer.order([job(2, "finishes", &())]).await;
    assert_eq!(within(calls.recv()).await, Some(()));
    cancel(&mut peer, 2).await;
    assert_eq!(peer.completed().await, [(2, Some(encoded(&"done all the same")))]);
}

#[tokio::test]
async fn a_cancelled_handler_that_does_not_listen_is_dropped_and_its_place_is_free_again() {
    let (_worker, mut peer) = connect(|runtime| {
        runtime
            .handler("does-not", |_: Job<()>, _: Run| {
                std::future::pending::<Result<(), JobError>>()
            })
            .handler("ping", |_: Job<()>, _: Run| async { Ok("pong") })
            .concurrency(1)
            .cancel_grace(Duration::from_millis(10))
    })
    .await;
    peer.order([job(1, "does-not", &())]).await;
    peer.started().await;
    cancel(&mut peer, 1).await;
    peer.order([job(2, "ping", &())]).await;
    let mut reasons = Vec::new();
    loop {
        match peer.report().await {
            ServerMessage::Credit(_) => {}
            ServerMessage::Failed(failed) => reasons.extend(failed.runs.into_iter().map(|run| run.reason)),
            ServerMessage::Completed(completed) => break assert_eq!(completed.runs[0].id, 2),
            other => panic!("a report is next, not {other:?}"),
        }
    }
    assert_eq!(reasons, ["cancelled"]);
}

#[tokio::test]
async fn a_run_that_takes_too_long_fails() {
    let (_worker, mut peer) = connect(|runtime| {
        runtime.handler("listens", |_: Job<()>, run: Run| async move {
            run.cancelled().await;
            Ok("in vain")
        })
    })
    .await;
    let timed = jobq_proto::message::OrderedJob {
        timeout: Some(micros(Duration::from_millis(20))),
        ..job(1, "listens", &())
    };
    peer.order([timed]).await;
    assert_eq!(peer.failed().await, (1, "timed out after 20ms".to_owned(), false));
}

#[tokio::test]
async fn the_default_time_out_is_for_jobs_that_have_none() {
    let (_worker, mut peer) = connect(|runtime| {
        let handler = |_: Job<()>, run: Run| async move {
            run.cancelled().await;
            Ok("in vain")
        };
        runtime
            .handler("listens", handler)
            .default_timeout(Duration::from_millis(20))
    })
    .await;
    peer.order([job(1, "listens", &())]).await;
    assert_eq!(peer.failed().await, (1, "timed out after 20ms".to_owned(), false));
    let timed = jobq_proto::message::OrderedJob {
        timeout: Some(micros(Duration::from_millis(10))),
        ..job(2, "listens", &())
    };
    peer.order([timed]).await;
    assert_eq!(peer.failed().await, (2, "timed out after 10ms".to_owned(), false));
}

#[tokio::test]
async fn a_run_knows_the_limits_of_its_server() {
    let (_worker, mut peer) = connect(|runtime| {
        runtime.handler(
            "asks",
            |_: Job<()>, run: Run| async move { Ok(run.limits().result) },
        )
    })
    .await;
    peer.order([job(1, "asks", &())]).await;
    assert_eq!(peer.completed().await, [(1, Some(encoded(&1000)))]);
}

#[tokio::test]
async fn a_job_without_a_result_has_none() {
    let (_worker, mut peer) = connect(|runtime| {
        runtime
            .handler("unit", |_: Job<()>, _: Run| async { Ok(()) })
            .handler("zero", |_: Job<()>, _: Run| async { Ok(0) })
    })
    .await;
    peer.order([job(1, "unit", &())]).await;
    assert_eq!(peer.completed().await, [(1, None)]);
    peer.order([job(2, "zero", &())]).await;
    assert_eq!(peer.completed().await, [(2, Some(encoded(&0)))]);
}

#[tokio::test]
async fn a_handler_can_be_called_without_a_server() {
    use jobq_worker::{CancellationToken, Worker};

    struct Half;

    impl Worker for Half {
        const JOB_NAME: &'static str = "half";
        type Params = u32;
        type Output = u32;

        async fn process(&self, job: Job<u32>, run: &Run) -> Result<u32, JobError> {
            if run.is_cancelled() {
                return Err(JobError::retry("stopped"));
            }
            Ok(job.params / 2)
        }
    }

    let cancel = CancellationToken::new();
    let run = Run::detached(fence(1), 1, cancel.clone());
    let job = || Job::detached(Half::JOB_NAME, 8);
    assert_eq!(Half.process(job(), &run).await, Ok(4));
    cancel.cancel();
    assert_eq!(Half.process(job(), &run).await, Err(JobError::retry("stopped")));
}
