use futures::StreamExt;
use jobq_client::{Include, JobId, JobView, Outcome, ResultError, Status, WaitError, params};
use jobq_proto::message::{Ended, EndedJob, Jobs, Watch};
use jobq_proto::{ClientMessage, ServerMessage};
use uuid::Uuid;

use crate::fake::{FakeServer, Peer, patiently};

fn completed(id: u64, result: &str) -> EndedJob {
    EndedJob {
        id,
        status: Some(Status::Completed),
        reason: None,
        result: Some(params::encode(result).expect("a text is encodable")),
        omitted: false,
    }
}

async fn watch(peer: &mut Peer) -> Watch {
    match peer.read().await {
        Some(ServerMessage::Watch(watch)) => watch,
        other => panic!("a Watch is due, and it was {other:?}"),
    }
}

async fn end(peer: &mut Peer, watch: &Watch, job: EndedJob) {
    let request = watch.request;
    let jobs = vec![job];
    peer.send(ClientMessage::Ended(Ended { request, jobs })).await;
}

#[tokio::test]
async fn a_wait_goes_on_over_a_lost_connection() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let (result, ()) = tokio::join!(patiently(client.result::<String>(JobId(4))), async {
        assert_eq!(watch(&mut peer).await.ids, [4]);
        drop(peer);
        let mut peer = server.accept().await;
        let watch = watch(&mut peer).await;
        assert_eq!(watch.ids, [4]);
        end(&mut peer, &watch, completed(4, "done")).await;
    });
    assert_eq!(result.expect("it completed"), "done");
}

#[tokio::test]
async fn many_jobs_are_told_as_they_end_and_the_stream_ends_with_the_last() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let outcomes = client.wait_many([1, 2, 3, 2].map(JobId));
    let (outcomes, ()) = tokio::join!(patiently(outcomes.collect::<Vec<_>>()), async {
        let watch = watch(&mut peer).await;
        assert_eq!(watch.ids, [1, 2, 3]);
        for id in [3, 1, 2] {
            end(&mut peer, &watch, completed(id, "done")).await;
        }
    });
    let ids: Vec<u64> = outcomes
        .into_iter()
        .map(|o| o.expect("it completed").id.0)
        .collect();
    assert_eq!(ids, [3, 1, 2]);
}

#[tokio::test]
async fn waiting_for_nothing_ends_at_once() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, _peer) = server.client(endpoint).await;
    assert!(patiently(client.wait_many([]).next()).await.is_none());
}

#[tokio::test]
async fn a_wait_that_is_dropped_ends_the_watch() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let waiting = client.clone();
    let wait = tokio::spawn(async move { waiting.wait(JobId(1)).await });
    let watched = watch(&mut peer).await;
    wait.abort();
    match peer.read().await {
        Some(ServerMessage::Unwatch(unwatch)) => assert_eq!(unwatch.request, watched.request),
        other => panic!("an Unwatch is due, and it was {other:?}"),
    }
}

#[tokio::test]
async fn a_result_that_was_left_out_is_fetched() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let (outcome, ()) = tokio::join!(patiently(client.wait(JobId(1))), async {
        let watch = watch(&mut peer).await;
        let omitted = EndedJob {
            result: None,
            omitted: true,
            ..completed(1, "")
        };
        end(&mut peer, &watch, omitted).await;
        let Some(ServerMessage::Query(query)) = peer.read().await else {
            panic!("a Query is due");
        };
        assert_eq!((query.ids, query.include), (vec![1], Some(Include::Result)));
        let view = JobView {
            id: 1,
            uuid: Uuid::from_u128(1),
            name: "ping".to_owned(),
            username: None,
            priority: "Normal".to_owned(),
            status: Status::Completed,
            created: 1,
            due: 1,
            started: Some(1),
            ended: Some(2),
            ran: Some(1),
            attempts: 1,
            max_attempts: 20,
            charges: 0,
            fence: None,
            cancelling: false,
            reason: None,
            retry_of: None,
            params_bytes: 1,
            params: None,
            result: completed(1, "large").result,
            progress: None,
            runs: Vec::new(),
        };
        let jobs = Jobs {
            request: query.request,
            jobs: vec![view],
            next: None,
        };
        peer.send(ClientMessage::Jobs(jobs)).await;
    });
    let Outcome { result, .. } = outcome.expect("it completed");
    assert_eq!(result, completed(1, "large").result);
}

#[tokio::test]
async fn jobs_that_failed_or_are_not_there_are_errors_of_the_result() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let failed = EndedJob {
        status: Some(Status::Failed),
        reason: Some("no such file".to_owned()),
        result: None,
        ..completed(1, "")
    };
    let absent = EndedJob {
        status: None,
        result: None,
        ..completed(1, "")
    };
    for (job, text) in [
        (failed, "job 1 failed: no such file"),
        (absent, "there is no job 1"),
        (completed(1, "text"), "the result of job 1: "),
    ] {
        let (result, ()) = tokio::join!(patiently(client.result::<u64>(JobId(1))), async {
            let watch = watch(&mut peer).await;
            end(&mut peer, &watch, job).await;
        });
        let error: ResultError = result.expect_err("no result");
        assert!(error.to_string().starts_with(text), "{error}");
    }
}

#[tokio::test]
async fn a_wait_with_a_limit_ends_at_it() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, _peer) = server.client(endpoint).await;
    let within = std::time::Duration::from_millis(20);
    let waited = patiently(client.wait_timeout(JobId(1), within)).await;
    assert!(matches!(waited, Err(WaitError::TimedOut { .. })), "{waited:?}");
}
