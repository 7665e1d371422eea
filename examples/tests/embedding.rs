//! A server in the process of its users.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use jobq_client::{
    AskError, CancelOutcome, Client, JobEvent, JobFilter, JobId, JobRequest, RetryReceipt, SessionError,
    SubmitError, WaitError, WireError,
};
use jobq_server::Server;
use jobq_worker::{CancellationToken, Job, Run, Runtime, RuntimeError};
use tokio::sync::Semaphore;

use crate::within;

fn doubles(endpoint: impl jobq_client::IntoEndpoint) -> Runtime {
    Runtime::new(endpoint).handler(
        "double",
        |job: Job<u32>, _: Run| async move { Ok(job.params * 2) },
    )
}

fn double(number: u32) -> JobRequest {
    let request = JobRequest::new("double").params(&number);
    request.expect("a number can be encoded")
}

#[tokio::test]
async fn jobs_come_through_memory_and_tcp_at_once_and_outlive_the_server_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let any_port = "tcp://127.0.0.1:0".parse().expect("an address");
    let server = Server::new().data(folder.path()).listen(any_port);
    let server = server.start().await.expect("it starts");
    let stop = CancellationToken::new();
    let worker = tokio::spawn(doubles(server.endpoint()).run(stop.clone().cancelled_owned()));
    let inside = Client::connect(server.endpoint())
        .await
        .expect("the server is there");
    let outside = Client::connect(server.addresses()[0].to_string())
        .await
        .expect("it listens");

    let first = inside.submit(double(21)).await.expect("it is stored").id;
    let second = outside.submit(double(50)).await.expect("it is stored").id;
    assert_eq!(
        within(outside.result::<u32>(first)).await.expect("it completes"),
        42
    );
    assert_eq!(
        within(inside.result::<u32>(second)).await.expect("it completes"),
        100
    );
    stop.cancel();
    within(worker).await.expect("no panic").expect("a good end");
    let waits = inside.submit(double(4)).await.expect("it is stored").id;
    outside.close().await;
    inside.close().await;
    within(server.stop()).await.expect("a good end");

    let server = Server::new()
        .data(folder.path())
        .start()
        .await
        .expect("it starts again");
    let stop = CancellationToken::new();
    let worker = tokio::spawn(doubles(server.endpoint()).run(stop.clone().cancelled_owned()));
    let client = Client::connect(server.endpoint())
        .await
        .expect("the server is there");
    assert_eq!(within(client.result::<u32>(first)).await.expect("it is kept"), 42);
    assert_eq!(
        within(client.result::<u32>(waits)).await.expect("it completes"),
        8
    );
    stop.cancel();
    within(worker).await.expect("no panic").expect("a good end");
    client.close().await;
    within(server.stop()).await.expect("a good end");
}

#[tokio::test]
async fn an_embedded_server_that_was_dropped_is_gone_for_client_and_worker() {
    let server = Server::new().start().await.expect("it starts");
    let endpoint = server.endpoint();
    let client = Client::connect(&endpoint).await.expect("the server is there");
    let worker = tokio::spawn(doubles(&endpoint).run(std::future::pending::<()>()));
    let done = client.submit(double(1)).await.expect("it is stored").id;
    within(client.result::<u32>(done))
        .await
        .expect("the worker is there");
    let unknown_name = client
        .submit(JobRequest::new("nobody"))
        .await
        .expect("it is stored")
        .id;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.wait(unknown_name).await }
    });

    drop(server);
    let error = within(waiting)
        .await
        .expect("no panic")
        .expect_err("nobody tells");
    assert!(matches!(error, WaitError::Session(SessionError::Gone)), "{error}");
    let error = within(client.stats()).await.expect_err("nobody answers");
    assert!(matches!(error, AskError::Session(SessionError::Gone)), "{error}");
    let error = within(client.submit(double(2)))
        .await
        .expect_err("nobody stores it");
    assert!(
        matches!(error, SubmitError::Session(SessionError::Gone)),
        "{error}"
    );
    let error = within(worker)
        .await
        .expect("no panic")
        .expect_err("nobody sends jobs");
    assert!(
        matches!(error, RuntimeError::Session(SessionError::Gone)),
        "{error}"
    );
    assert!(Client::connect(endpoint).await.is_err());
}

#[tokio::test]
async fn whoever_watches_a_job_sees_how_far_it_comes_and_how_it_ends() {
    let server = Server::new().start().await.expect("it starts");
    let seen = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&seen);
    let runtime = Runtime::new(server.endpoint()).handler("steps", move |_: Job<()>, run: Run| {
        let gate = Arc::clone(&gate);
        async move {
            for step in 0..4 {
                run.progress(f64::from(step) / 4.0, format!("step {step}"));
                gate.acquire().await?.forget();
            }
            Ok("done")
        }
    });
    let stop = CancellationToken::new();
    let worker = tokio::spawn(runtime.run(stop.clone().cancelled_owned()));
    let client = Client::connect(server.endpoint())
        .await
        .expect("the server is there");
    let id = client
        .submit(JobRequest::new("steps"))
        .await
        .expect("it is stored")
        .id;
    let mut events = client.watch([id]);
    for step in 0..4 {
        let event = within(events.next())
            .await
            .expect("it has not ended")
            .expect("it is there");
        let JobEvent::Progressed {
            id: of,
            attempt,
            progress,
        } = event
        else {
            panic!("step {step} is due, and it was {event:?}");
        };
        assert_eq!((of, attempt), (id, 1));
        assert_eq!(progress.fraction(), Some(f64::from(step) / 4.0));
        assert_eq!(progress.text, format!("step {step}"));
        let view = client.show(id).await.expect("an answer").expect("it is there");
        assert_eq!(view.progress, Some(progress));
        seen.add_permits(1);
    }
    let event = within(events.next())
        .await
        .expect("it ends")
        .expect("it is there");
    let JobEvent::Ended(outcome) = event else {
        panic!("its end is due, and it was {event:?}");
    };
    assert_eq!(outcome.decode::<String>().expect("it completed"), "done");
    assert!(within(events.next()).await.is_none());
    stop.cancel();
    within(worker).await.expect("no panic").expect("a good end");
    client.close().await;
    within(server.stop()).await.expect("a good end");
}

#[tokio::test]
async fn listings_cancels_and_retries_take_any_number_of_jobs() {
    const JOBS: usize = 2_500;
    let server = Server::new().start().await.expect("it starts");
    let client = Client::connect(server.endpoint())
        .await
        .expect("the server is there");
    let requests = (0..JOBS).map(|_| JobRequest::new("nobody")).collect();
    let receipts = client.submit_many(requests).await.expect("they are sent");
    let ids: Vec<_> = receipts
        .into_iter()
        .map(|receipt| receipt.expect("it is stored").id)
        .collect();

    let listed: Vec<_> = client
        .list(JobFilter::new().name("nobody"))
        .try_collect()
        .await
        .expect("pages");
    assert!(
        listed
            .iter()
            .rev()
            .map(|job| JobId(job.id))
            .eq(ids.iter().copied()),
        "all, newest first"
    );
    let two: Vec<_> = client
        .list(JobFilter::new().limit(2))
        .try_collect()
        .await
        .expect("a page");
    assert_eq!(two.len(), 2);

    let cancelled = client.cancel(&ids).await.expect("an answer");
    assert!(
        cancelled
            .iter()
            .map(|result| JobId(result.id))
            .eq(ids.iter().copied())
    );
    assert!(
        cancelled
            .iter()
            .all(|result| result.outcome == CancelOutcome::Cancelled)
    );
    let retried = client.retry(&ids).await.expect("an answer");
    let again = client.retry(&ids).await.expect("an answer");
    let new = |receipts: Vec<Result<RetryReceipt, WireError>>| -> Vec<JobId> {
        receipts
            .into_iter()
            .map(|receipt| receipt.expect("it had ended").id)
            .collect()
    };
    let retried = new(retried);
    assert_eq!(retried.len(), JOBS);
    assert_eq!(retried, new(again), "the same jobs as before");
    client.close().await;
    within(server.stop()).await.expect("a good end");
}
