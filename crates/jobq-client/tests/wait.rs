use futures::StreamExt;
use jobq_client::{
    Include, JobEvent, JobId, JobProgress, JobView, Outcome, ResultError, Status, WaitError, params,
};
use jobq_proto::message::{Ended, EndedJob, Jobs, Progressed, ProgressedJob, Watch};
use jobq_proto::{ClientMessage, ServerMessage};
use uuid::Uuid;

use crate::ask::answer_stats;
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
async fn results_come_in_the_order_of_ending_and_a_failure_is_that_jobs_alone() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let results = client.results::<String>([1, 2, 3].map(JobId));
    let (results, ()) = tokio::join!(patiently(results.collect::<Vec<_>>()), async {
        let watch = watch(&mut peer).await;
        end(&mut peer, &watch, completed(2, "two")).await;
        let failed = EndedJob {
            status: Some(Status::Failed),
            reason: Some("no paper".to_owned()),
            result: None,
            ..completed(3, "")
        };
        end(&mut peer, &watch, failed).await;
        end(&mut peer, &watch, completed(1, "one")).await;
    });
    let told: Vec<_> = results
        .into_iter()
        .map(|result| result.map_err(|error| error.to_string()))
        .collect();
    assert_eq!(
        told,
        [
            Ok((JobId(2), "two".to_owned())),
            Err("job 3 failed: no paper".to_owned()),
            Ok((JobId(1), "one".to_owned())),
        ]
    );
}

async fn progressed(peer: &mut Peer, watch: &Watch, id: u64, part: u32) {
    let job = ProgressedJob {
        id,
        attempt: 1,
        progress: JobProgress {
            part: Some(part),
            text: format!("{part} of a million"),
        },
    };
    let request = watch.request;
    let jobs = vec![job];
    peer.send(ClientMessage::Progressed(Progressed { request, jobs }))
        .await;
}

#[tokio::test]
async fn a_watched_job_says_how_far_it_has_come_and_then_how_it_ended() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let mut events = client.watch([JobId(1)]);
    let watch = watch(&mut peer).await;
    assert!(watch.progress);
    progressed(&mut peer, &watch, 1, 250_000).await;
    match patiently(events.next()).await {
        Some(Ok(JobEvent::Progressed {
            id,
            attempt,
            progress,
        })) => {
            assert_eq!((id, attempt, progress.fraction()), (JobId(1), 1, Some(0.25)));
        }
        other => panic!("progress is due, and it was {other:?}"),
    }
    end(&mut peer, &watch, completed(1, "done")).await;
    let ended = patiently(events.next()).await;
    assert!(
        matches!(&ended, Some(Ok(JobEvent::Ended(outcome))) if outcome.status == Status::Completed),
        "{ended:?}"
    );
    assert!(patiently(events.next()).await.is_none());
}

#[tokio::test]
async fn whoever_is_slow_to_listen_hears_the_latest_progress_of_each_job() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let mut events = client.watch([1, 2, 3].map(JobId));
    let watch = watch(&mut peer).await;
    for part in 1..=100 {
        progressed(&mut peer, &watch, 1, part).await;
        progressed(&mut peer, &watch, 2, part).await;
    }
    end(&mut peer, &watch, completed(2, "done")).await;
    end(&mut peer, &watch, completed(3, "done")).await;
    // The answer to a question comes after all that, so the client has read it.
    tokio::join!(patiently(client.stats()), answer_stats(&mut peer))
        .0
        .expect("an answer");
    let mut told = Vec::new();
    for _ in 0..3 {
        match patiently(events.next()).await {
            Some(Ok(JobEvent::Progressed { id, progress, .. })) => told.push((id.0, progress.part)),
            Some(Ok(JobEvent::Ended(outcome))) => told.push((outcome.id.0, None)),
            other => panic!("an event is due, and it was {other:?}"),
        }
    }
    assert_eq!(told, [(2, None), (3, None), (1, Some(100))]);
}

#[tokio::test]
async fn whoever_only_waits_does_not_ask_for_progress() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let _wait = client.wait_many([JobId(1)]);
    assert!(!watch(&mut peer).await.progress);
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
