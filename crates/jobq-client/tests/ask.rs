use jobq_client::{
    AskError, CancelOutcome, CancelResult, ErrorCode, JobFilter, JobId, Stats, Status, WireError,
};
use jobq_proto::message::{Cancelled, Jobs, Receipt, Refused, Retried};
use jobq_proto::{ClientMessage, ServerMessage};

use crate::fake::{FakeServer, Peer, patiently};

pub(crate) async fn answer_stats(peer: &mut Peer) {
    let Some(ServerMessage::Stats(query)) = peer.read().await else {
        panic!("a Stats is due");
    };
    let stats = Stats {
        request: query.request,
        workers: 3,
        ..Stats::default()
    };
    peer.send(ClientMessage::Stats(stats)).await;
}

#[tokio::test]
async fn a_question_is_asked_again_on_the_next_connection() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let (stats, ()) = tokio::join!(patiently(client.stats()), async {
        peer.read().await.expect("a Stats");
        drop(peer);
        let mut peer = server.accept().await;
        answer_stats(&mut peer).await;
    });
    assert_eq!(stats.expect("an answer").workers, 3);
}

#[tokio::test]
async fn a_listing_carries_its_filter_and_gives_the_next_page() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let filter = JobFilter {
        status: Some(Status::Failed),
        name: Some("ping".to_owned()),
        limit: Some(10),
        before: Some(JobId(900)),
        ..JobFilter::default()
    };
    let (page, ()) = tokio::join!(patiently(client.list(filter)), async {
        let Some(ServerMessage::Query(query)) = peer.read().await else {
            panic!("a Query is due");
        };
        assert_eq!(
            (query.status, query.limit, query.before),
            (Some(Status::Failed), Some(10), Some(900))
        );
        assert_eq!(query.name.as_deref(), Some("ping"));
        let jobs = Jobs {
            request: query.request,
            jobs: Vec::new(),
            next: Some(800),
        };
        peer.send(ClientMessage::Jobs(jobs)).await;
    });
    assert_eq!(page.expect("an answer").next, Some(JobId(800)));
}

#[tokio::test]
async fn cancelling_and_retrying_answer_for_each_job() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    // More than go into one message.
    let ids: Vec<JobId> = (1..=500).map(JobId).collect();
    let (cancelled, ()) = tokio::join!(patiently(client.cancel(&ids)), async {
        let mut done = 0;
        while done < 500 {
            let Some(ServerMessage::Cancel(cancel)) = peer.read().await else {
                panic!("a Cancel is due");
            };
            done += cancel.ids.len();
            let outcome = CancelOutcome::Cancelled;
            let jobs = cancel
                .ids
                .into_iter()
                .map(|id| CancelResult { id, outcome })
                .collect();
            let request = cancel.request;
            peer.send(ClientMessage::Cancelled(Cancelled { request, jobs }))
                .await;
        }
    });
    let cancelled = cancelled.expect("an answer");
    assert!(cancelled.iter().map(|c| JobId(c.id)).eq(ids.iter().copied()));

    let (retried, ()) = tokio::join!(patiently(client.retry(&ids[..2])), async {
        let Some(ServerMessage::Retry(retry)) = peer.read().await else {
            panic!("a Retry is due");
        };
        let refused = WireError::new(ErrorCode::NotEnded, "job 2 has not ended");
        let jobs = vec![Receipt::stored(501, true), Receipt::refused(refused)];
        let request = retry.request;
        peer.send(ClientMessage::Retried(Retried { request, jobs })).await;
    });
    let retried = retried.expect("an answer");
    assert!(matches!(&retried[0], Ok(receipt) if receipt.id == JobId(501) && receipt.existing));
    assert!(matches!(&retried[1], Err(error) if error.code == ErrorCode::NotEnded));
}

#[tokio::test]
async fn a_refused_question_is_an_error_that_says_why() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let (page, ()) = tokio::join!(patiently(client.list(JobFilter::default())), async {
        let Some(ServerMessage::Query(query)) = peer.read().await else {
            panic!("a Query is due");
        };
        let error = WireError::new(ErrorCode::BadRequest, "the limit is 0");
        let request = query.request;
        peer.send(ClientMessage::Refused(Refused { request, error }))
            .await;
    });
    let error = page.expect_err("refused");
    assert!(matches!(error, AskError::Refused(_)));
    assert_eq!(error.to_string(), "the limit is 0 (bad_request)");
}
