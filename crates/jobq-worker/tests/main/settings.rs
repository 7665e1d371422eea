//! What a runtime refuses, and what ends it.

use jobq_proto::limits::MAX_FIRST_FRAME;
use jobq_proto::message::ErrorMessage;
use jobq_proto::{ClientMessage, ErrorCode, WireError};
use jobq_worker::{Job, JobError, Run, Runtime, RuntimeError};

use crate::played_server::{Server, WorkerThread, within};

const ADDRESS: &str = "tcp://127.0.0.1:1";

async fn nothing(_: Job<()>, _: Run) -> Result<(), JobError> {
    Ok(())
}

async fn refusal(runtime: Runtime) -> RuntimeError {
    within(runtime.run(std::future::pending::<()>()))
        .await
        .expect_err("it is refused")
}

#[tokio::test]
async fn wrong_settings_are_refused_at_once_and_say_what_is_wrong() {
    for (runtime, expected) in [
        (
            Runtime::new(ADDRESS),
            "the worker has no handlers; add one with worker(), handler() or blocking()",
        ),
        (
            Runtime::new("ftp://x").handler("a", nothing),
            "there is no transport \"ftp\"",
        ),
        (
            Runtime::new(ADDRESS).handler("two words", nothing),
            "the name \"two words\" is not 1 to 128",
        ),
        (
            Runtime::new(ADDRESS).handler("a", nothing).handler("a", nothing),
            "there are 2 handlers for \"a\", and there must be one",
        ),
        (
            Runtime::new(ADDRESS).handler("a", nothing).concurrency_of("b", 1),
            "there are 0 handlers for \"b\", and there must be one",
        ),
        (
            Runtime::new(ADDRESS).handler("a", nothing).concurrency(0),
            "the concurrency is 0, and has to be 1 to 10000",
        ),
        (
            Runtime::new(ADDRESS)
                .handler("a", nothing)
                .concurrency(10_000)
                .prefetch(1),
            "concurrency and prefetch together is 10001, and has to be 1 to 10000",
        ),
        (
            Runtime::new(ADDRESS).handler("a", nothing).label("x".repeat(129)),
            "the label's length is 129, and has to be 0 to 128",
        ),
        (
            Runtime::new(ADDRESS)
                .handler("a", nothing)
                .token("x".repeat(MAX_FIRST_FRAME)),
            "the length of all names, label and token together is 163861, and has to be 0 to 163584",
        ),
    ] {
        let error = refusal(runtime).await.to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_worker_that_the_server_refuses_for_good_ends_with_what_it_said() {
    let (mut server, endpoint) = Server::new();
    let worker = WorkerThread::start(Runtime::new(endpoint).handler("a", nothing).token("wrong"));
    let (mut peer, _) = server.accept().await;
    let error = WireError::new(ErrorCode::BadToken, "the token is not accepted");
    peer.send(ClientMessage::Error(ErrorMessage { error })).await;
    let error = worker.result().await.expect_err("it is refused");
    assert!(matches!(error, RuntimeError::Session(_)), "{error:?}");
    assert!(error.to_string().contains("the token is not accepted"), "{error}");
}

#[tokio::test]
async fn a_worker_of_an_embedded_server_ends_with_it_and_stops_what_runs() {
    let (mut server, endpoint) = Server::new();
    let (stopped, mut told) = tokio::sync::mpsc::unbounded_channel();
    let runtime = Runtime::new(endpoint).handler("a", move |_: Job<()>, run: Run| {
        let stopped = stopped.clone();
        async move {
            stopped.send("called")?;
            run.cancelled().await;
            stopped.send("stopped")?;
            Ok(())
        }
    });
    let worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order([crate::played_server::job(1, "a", &())]).await;
    assert_eq!(within(told.recv()).await, Some("called"));
    drop((peer, server));
    assert_eq!(within(told.recv()).await, Some("stopped"));
    let error = worker
        .result()
        .await
        .expect_err("there is no server to come back to");
    assert!(matches!(error, RuntimeError::Session(_)), "{error:?}");
}

#[tokio::test]
async fn a_worker_that_never_found_its_server_shuts_down_at_once() {
    let runtime = Runtime::new(ADDRESS).handler("a", nothing);
    let summary = within(runtime.run(std::future::ready(())))
        .await
        .expect("a good end");
    assert_eq!(summary, jobq_worker::Summary::default());
}
