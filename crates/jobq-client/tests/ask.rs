use std::time::{Duration, UNIX_EPOCH};

use futures::{StreamExt, TryStreamExt};
use jobq_client::{
    AskError, CancelOutcome, CancelResult, ErrorCode, JobFilter, JobId, JobView, Stats, Status, WireError,
};
use jobq_proto::message::{Cancelled, Jobs, Receipt, Refused, Retried};
use jobq_proto::{ClientMessage, ServerMessage};
use uuid::Uuid;

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
    peer.send(ClientMessage::Stats(Box::new(stats))).await;
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
    let filter = JobFilter::new()
        .status(Status::Failed)
        .name("ping")
        .since(UNIX_EPOCH + Duration::from_secs(3))
        .until(UNIX_EPOCH - Duration::from_secs(4))
        .reason("no paper")
        .limit(10)
        .before(JobId(900));
    let (page, ()) = tokio::join!(patiently(client.page(filter)), async {
        let Some(ServerMessage::Query(query)) = peer.read().await else {
            panic!("a Query is due");
        };
        assert_eq!(
            (query.status, query.limit, query.before),
            (Some(Status::Failed), Some(10), Some(900))
        );
        assert_eq!(query.name.as_deref(), Some("ping"));
        assert_eq!(query.reason.as_deref(), Some("no paper"));
        assert_eq!((query.since, query.until), (Some(3_000_000), Some(-4_000_000)));
        let jobs = Jobs {
            request: query.request,
            jobs: Vec::new(),
            next: Some(800),
        };
        peer.send(ClientMessage::Jobs(jobs)).await;
    });
    assert_eq!(page.expect("an answer").next, Some(JobId(800)));
}

/// Answers one Query with these jobs; gives its `before` and `limit`.
async fn answer_query(peer: &mut Peer, ids: &[u64], next: Option<u64>) -> (Option<u64>, Option<u64>) {
    let Some(ServerMessage::Query(query)) = peer.read().await else {
        panic!("a Query is due");
    };
    let jobs = Jobs {
        request: query.request,
        jobs: ids.iter().copied().map(view).collect(),
        next,
    };
    peer.send(ClientMessage::Jobs(jobs)).await;
    (query.before, query.limit)
}

fn view(id: u64) -> JobView {
    JobView {
        id,
        uuid: Uuid::from_u128(u128::from(id)),
        name: "ping".to_owned(),
        username: None,
        priority: "Normal".to_owned(),
        status: Status::Queued,
        created: 0,
        due: 0,
        started: None,
        ended: None,
        ran: None,
        attempts: 0,
        max_attempts: 20,
        charges: 0,
        fence: None,
        cancelling: false,
        progress: None,
        reason: None,
        retry_of: None,
        params_bytes: 1,
        params: None,
        result: None,
        runs: Vec::new(),
    }
}

#[tokio::test]
async fn a_listing_goes_on_from_page_to_page_over_empty_ones_until_there_is_no_next() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let listing = client.list(JobFilter::new());
    let (ids, ()) = tokio::join!(
        patiently(listing.map_ok(|job| job.id).try_collect::<Vec<_>>()),
        async {
            assert_eq!(
                answer_query(&mut peer, &[9, 8], Some(8)).await,
                (None, Some(1_000))
            );
            assert_eq!(answer_query(&mut peer, &[], Some(5)).await.0, Some(8));
            assert_eq!(answer_query(&mut peer, &[2], None).await.0, Some(5));
        }
    );
    assert_eq!(ids.expect("three pages"), [9, 8, 2]);
}

#[tokio::test]
async fn many_jobs_are_shown_though_an_answer_is_cut_short_and_some_do_not_exist() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let ids = [1, 2, 3, 4].map(JobId);
    let (views, asked) = tokio::join!(patiently(client.show_many(&ids)), async {
        let mut asked = Vec::new();
        for (there, next) in [(&[1, 2][..], Some(2)), (&[4], None)] {
            let Some(ServerMessage::Query(query)) = peer.read().await else {
                panic!("a Query is due");
            };
            let jobs = Jobs {
                request: query.request,
                jobs: there.iter().copied().map(view).collect(),
                next,
            };
            peer.send(ClientMessage::Jobs(jobs)).await;
            asked.push(query.ids);
        }
        asked
    });
    assert_eq!(asked, [vec![1, 2, 3, 4], vec![3, 4]]);
    let shown: Vec<u64> = views.expect("it answers").iter().map(|view| view.id).collect();
    assert_eq!(shown, [1, 2, 4]);
}

#[tokio::test]
async fn a_listing_asks_for_no_more_than_its_limit() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let listing = client.list(JobFilter::new().limit(3));
    let (ids, ()) = tokio::join!(
        patiently(listing.map_ok(|job| job.id).try_collect::<Vec<_>>()),
        async {
            assert_eq!(answer_query(&mut peer, &[9, 8], Some(8)).await, (None, Some(3)));
            assert_eq!(
                answer_query(&mut peer, &[7], Some(7)).await,
                (Some(8), Some(1)),
                "what is left of the limit"
            );
        }
    );
    assert_eq!(ids.expect("two pages"), [9, 8, 7]);
}

#[tokio::test]
async fn a_listing_that_leads_nowhere_ends_with_an_error() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let mut listing = client.list(JobFilter::new());
    let (ends, ()) = tokio::join!(
        patiently(async { (listing.next().await, listing.next().await) }),
        async {
            answer_query(&mut peer, &[], Some(8)).await;
            answer_query(&mut peer, &[], Some(8)).await;
        }
    );
    assert!(matches!(ends, (Some(Err(AskError::Unexpected)), None)));
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
async fn a_call_can_have_a_deadline_of_its_own() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let hasty = client.with_deadline(Duration::from_millis(1));
    let error = patiently(hasty.stats()).await.expect_err("nobody answers");
    assert!(matches!(error, AskError::TimedOut(limit) if limit == Duration::from_millis(1)));
    assert_eq!(client.deadline(), jobq_client::Client::DEADLINE);
    // The hasty question may have been sent or not.
    let answer_all = async {
        loop {
            answer_stats(&mut peer).await;
        }
    };
    let stats = tokio::select! {
        stats = patiently(client.stats()) => stats,
        () = answer_all => unreachable!("it goes on for ever"),
    };
    assert_eq!(stats.expect("it waits longer").workers, 3);
}

#[tokio::test]
async fn a_refused_question_is_an_error_that_says_why() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let (page, ()) = tokio::join!(patiently(client.page(JobFilter::new())), async {
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
