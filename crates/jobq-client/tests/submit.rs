use std::time::Duration;

use jobq_client::{Client, ErrorCode, JobRequest, SubmitError, WireError};
use jobq_proto::ClientMessage;
use jobq_proto::message::{Acknowledged, Receipt, Request};
use uuid::Uuid;

use crate::fake::{FakeServer, Peer, patiently};

fn requests(count: usize) -> Vec<JobRequest> {
    (0..count)
        .map(|i| JobRequest::new("ping").params(&i).expect("a number is encodable"))
        .collect()
}

fn identities(requests: &[JobRequest]) -> Vec<Uuid> {
    requests.iter().map(JobRequest::identity).collect()
}

#[tokio::test]
async fn a_submit_returns_when_the_server_has_acknowledged() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let request = JobRequest::new("ping").username("ann");
    let uuid = request.identity();
    let (receipt, ()) = tokio::join!(patiently(client.submit(request)), async {
        let request = peer.request().await;
        assert_eq!(request.jobs[0].uuid, uuid);
        assert_eq!(request.jobs[0].username.as_deref(), Some("ann"));
        peer.acknowledge(&request, 5).await;
    });
    let receipt = receipt.expect("stored");
    assert_eq!((receipt.id.0, receipt.uuid, receipt.existing), (5, uuid, false));
}

#[tokio::test]
async fn many_jobs_are_pipelined_and_their_receipts_come_in_order() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let jobs = requests(5_500);
    let uuids = identities(&jobs);
    let (receipts, ()) = tokio::join!(patiently(client.submit_many(jobs)), async {
        // All of them arrive before any is acknowledged, and the answers come backwards.
        let mut requests = Vec::new();
        let mut first = 1;
        while first <= 5_500 {
            let request = peer.request().await;
            let next = first + request.jobs.len() as u64;
            requests.push((request, first));
            first = next;
        }
        for (request, first) in requests.iter().rev() {
            peer.acknowledge(request, *first).await;
        }
    });
    let receipts: Vec<_> = receipts
        .expect("the client is open")
        .into_iter()
        .map(|receipt| receipt.expect("stored"))
        .collect();
    assert!(receipts.iter().map(|r| r.id.0).eq(1..=5_500));
    assert!(receipts.iter().map(|r| r.uuid).eq(uuids));
}

#[tokio::test]
async fn one_bad_job_of_many_is_its_own_error() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let jobs = vec![
        JobRequest::new("ping"),
        JobRequest::new("no good"),
        JobRequest::new("ping"),
    ];
    let (receipts, ()) = tokio::join!(patiently(client.submit_many(jobs)), async {
        for id in [1, 2] {
            let request = peer.request().await;
            peer.acknowledge(&request, id).await;
        }
    });
    let receipts = receipts.expect("the client is open");
    assert!(receipts[0].is_ok() && receipts[2].is_ok());
    let error = receipts[1].as_ref().expect_err("a bad name");
    assert!(
        matches!(error, SubmitError::Refused(e) if e.code == ErrorCode::BadName),
        "{error}"
    );
}

#[tokio::test]
async fn unacknowledged_jobs_are_repeated_under_their_uuids_on_the_next_connection() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let jobs = requests(3);
    let uuids = identities(&jobs);
    let (receipts, ()) = tokio::join!(patiently(client.submit_many(jobs)), async {
        let lost = peer.request().await;
        drop(peer);
        let mut peer = server.accept().await;
        let again = peer.request().await;
        assert_eq!(again.jobs, lost.jobs);
        peer.acknowledge(&again, 1).await;
    });
    let receipts = receipts.expect("the client is open");
    let repeated: Vec<_> = receipts.into_iter().map(|r| r.expect("stored").uuid).collect();
    assert_eq!(repeated, uuids);
}

#[tokio::test]
async fn a_submit_without_an_answer_is_unknown_at_its_deadline() {
    let (endpoint, mut server) = FakeServer::new();
    let builder = Client::builder(endpoint).deadline(Duration::from_millis(50));
    let (client, mut peer) = tokio::join!(builder.connect(), server.accept());
    let client = client.expect("the server is there");
    let request = JobRequest::new("ping");
    let uuid = request.identity();
    let (submitted, _request) = tokio::join!(patiently(client.submit(request)), peer.request());
    let error = submitted.expect_err("no answer");
    assert!(
        matches!(error, SubmitError::Unknown { uuid: unknown } if unknown == uuid),
        "{error}"
    );
}

#[tokio::test]
async fn a_submit_without_a_connection_times_out_and_is_not_stored() {
    let (endpoint, mut server) = FakeServer::new();
    let builder = Client::builder(endpoint).deadline(Duration::from_millis(300));
    let (client, peer) = tokio::join!(builder.connect(), server.accept());
    let client = client.expect("the server is there");
    drop(peer);
    // From here on connections are taken, and none is greeted.
    let _silent = server.accept_silently().await;
    let mut submitter = client.submitter();
    submitter
        .push(JobRequest::new("ping"))
        .await
        .expect("the client is open");
    let receipts = patiently(submitter.finish()).await.expect("the client is open");
    assert!(
        matches!(receipts[..], [Err(SubmitError::TimedOut { .. })]),
        "{receipts:?}"
    );
}

#[tokio::test]
async fn a_passing_refusal_is_repeated_by_submit_and_reported_by_submit_many() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let full = |request| {
        let error = WireError::new(ErrorCode::StorageFull, "no room");
        let jobs = vec![Receipt::refused(error)];
        ClientMessage::Acknowledged(Acknowledged { request, jobs })
    };
    let (receipt, ()) = tokio::join!(patiently(client.submit(JobRequest::new("ping"))), async {
        let request = peer.request().await;
        peer.send(full(request.request)).await;
        let again = peer.request().await;
        assert_eq!(again.jobs, request.jobs);
        peer.acknowledge(&again, 9).await;
    });
    assert_eq!(receipt.expect("stored in the end").id.0, 9);
    let (receipts, ()) = tokio::join!(patiently(client.submit_many(requests(1))), async {
        let request = peer.request().await;
        peer.send(full(request.request)).await;
    });
    let receipts = receipts.expect("the client is open");
    assert!(
        matches!(&receipts[..], [Err(SubmitError::Refused(e))] if e.code == ErrorCode::StorageFull),
        "{receipts:?}"
    );
}

/// Takes the first job of a request, and refuses the others since the queue is full.
async fn take_one(peer: &mut Peer, request: &Request, id: u64) {
    let full = WireError {
        retry_after: Some(1_000),
        ..WireError::new(ErrorCode::QueueFull, "full")
    };
    let refused = Receipt::refused(full);
    let mut jobs = vec![refused; request.jobs.len()];
    jobs[0] = Receipt::stored(id, false);
    let request = request.request;
    peer.send(ClientMessage::Acknowledged(Acknowledged { request, jobs }))
        .await;
}

#[tokio::test]
async fn a_submitter_waits_for_a_full_queue_and_then_all_of_its_jobs_are_taken_in_their_order() {
    let (endpoint, mut server) = FakeServer::new();
    let (client, mut peer) = server.client(endpoint).await;
    let jobs = requests(20);
    let uuids = identities(&jobs);
    let mut submitter = client.submitter();
    submitter.push_many(jobs).await.expect("the client is open");
    let (receipts, taken) = tokio::join!(patiently(submitter.finish()), async {
        let mut taken = Vec::new();
        for id in 1..=20 {
            let request = peer.request().await;
            taken.push(request.jobs[0].uuid);
            take_one(&mut peer, &request, id).await;
        }
        taken
    });
    assert_eq!(taken, uuids);
    let receipts = receipts.expect("the client is open").into_iter();
    assert!(receipts.map(|receipt| receipt.expect("stored").id.0).eq(1..=20));
    assert_eq!(client.refusal(), None);
}

#[tokio::test]
async fn a_submitter_takes_no_more_than_its_share_while_the_queue_is_full_and_says_why() {
    let (endpoint, mut server) = FakeServer::new();
    server.welcome.window.jobs = 2_000;
    let (client, mut peer) = server.client(endpoint).await;
    let mut submitter = client.submitter();
    submitter
        .push_many(requests(3_000))
        .await
        .expect("the client is open");
    let refused = Receipt::refused(WireError {
        retry_after: Some(3_600_000_000),
        ..WireError::new(ErrorCode::QueueFull, "full")
    });
    for _ in 0..2 {
        let Request { request, jobs } = peer.request().await;
        let jobs = vec![refused.clone(); jobs.len()];
        let answer = Acknowledged { request, jobs };
        peer.send(ClientMessage::Acknowledged(answer)).await;
    }
    patiently(async {
        while client.refusal().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Another's job finds its way, and when that is answered this one's have still not been taken.
    {
        let more = submitter.push_many(requests(1));
        let other = async {
            let (receipt, ()) = tokio::join!(client.submit(JobRequest::new("other")), async {
                let request = peer.request().await;
                peer.acknowledge(&request, 9).await;
            });
            receipt.expect("stored")
        };
        tokio::select! {
            biased;
            _ = more => panic!("the submitter takes more than its share"),
            receipt = patiently(other) => assert_eq!(receipt.id.0, 9),
        }
    }
    submitter.stop_repeating();
    let receipts = patiently(async {
        let mut receipts = Vec::new();
        while receipts.len() < 3_000 {
            receipts.extend(submitter.receipts().await.expect("the client is open"));
        }
        receipts
    });
    let (receipts, ()) = tokio::join!(receipts, async {
        let last = peer.request().await;
        peer.acknowledge(&last, 10).await;
    });
    assert!(receipts.iter().take(3_000).all(Result::is_err));
    assert_eq!(client.refusal(), None);
}

#[tokio::test]
async fn a_stream_of_jobs_gives_each_its_receipt_in_order() {
    let (endpoint, mut server) = FakeServer::new();
    // Small enough that pushing has to wait for answers.
    server.welcome.window.jobs = 1_500;
    let (client, mut peer) = server.client(endpoint).await;
    let answers = tokio::spawn(async move {
        let mut stored = 0;
        while stored < 20_000 {
            let request = peer.request().await;
            assert!(request.jobs.len() <= 1_500);
            peer.acknowledge(&request, stored + 1).await;
            stored += request.jobs.len() as u64;
        }
    });
    let mut submitter = client.submitter();
    let mut ids = Vec::new();
    for request in requests(20_000) {
        patiently(submitter.push(request))
            .await
            .expect("the client is open");
        ids.extend(
            submitter
                .take_receipts()
                .into_iter()
                .map(|r| r.expect("stored").id.0),
        );
    }
    loop {
        let receipts = patiently(submitter.receipts()).await.expect("the client is open");
        if receipts.is_empty() {
            break;
        }
        ids.extend(receipts.into_iter().map(|r| r.expect("stored").id.0));
    }
    assert!(ids.into_iter().eq(1..=20_000));
    answers.await.expect("the server was content");
}
