//! A server in the process of its users.

use jobq_client::{AskError, Client, JobRequest, SessionError, SubmitError, WaitError};
use jobq_server::Server;
use jobq_worker::{CancellationToken, Job, Run, Runtime, RuntimeError};

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
