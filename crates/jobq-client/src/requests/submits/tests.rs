//! The jobs of one client, in simulated time.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::message::Request;
use jobq_proto::{Limits, Window, WireSize};
use uuid::Uuid;

use super::*;

mod streams;

const NOW: BootTime = BootTime::from_micros(1_000_000);
const DEADLINE: Duration = Duration::from_secs(30);

fn terms(jobs: u64) -> Terms {
    Terms {
        limits: Limits::default(),
        window: Window {
            jobs,
            ..Window::default()
        },
        uuid_window: Duration::from_secs(3600),
    }
}

fn job(number: u128) -> Submission {
    Submission {
        params: Some(Bytes::from_static(&[1])),
        ..Submission::new(Uuid::from_u128(number), "ping")
    }
}

/// Each batch is a stream of its own.
fn push(submits: &mut Submits<u32>, token: u32, jobs: Vec<Submission>, repeat: bool) {
    push_to(submits, u64::from(token) + 1_000, token, jobs, repeat);
}

fn push_to(submits: &mut Submits<u32>, stream: u64, token: u32, jobs: Vec<Submission>, repeat: bool) {
    let submit = Submit {
        jobs,
        stream,
        repeat,
        deadline: NOW + DEADLINE,
        patience: DEADLINE,
    };
    submits.push(submit, token);
}

fn batch(submits: &mut Submits<u32>, token: u32, numbers: Range<u128>) {
    push(submits, token, numbers.map(job).collect(), false);
}

fn connected(window: u64) -> Submits<u32> {
    let mut submits = Submits::new();
    submits.handle_connected(NOW, terms(window));
    submits
}

fn sent(submits: &mut Submits<u32>) -> Request {
    match submits.poll_transmit(NOW) {
        Some(ServerMessage::Request(request)) => request,
        other => panic!("a Request is due, and it was {other:?}"),
    }
}

/// Acknowledges a request; each job's id is its uuid.
fn acknowledge(submits: &mut Submits<u32>, request: &Request) {
    let jobs = request
        .jobs
        .iter()
        .map(|job| Receipt::stored(job.uuid.as_u128() as u64, false))
        .collect();
    let request = request.request;
    submits.handle_acknowledged(NOW, || 0, Acknowledged { request, jobs });
}

fn refuse_all(submits: &mut Submits<u32>, request: &Request, code: ErrorCode) {
    let refused = Receipt::refused(WireError::new(code, "refused"));
    let jobs = vec![refused; request.jobs.len()];
    let request = request.request;
    submits.handle_acknowledged(NOW, || 0, Acknowledged { request, jobs });
}

fn numbers(request: &Request) -> Vec<u128> {
    request.jobs.iter().map(|job| job.uuid.as_u128()).collect()
}

fn answer(submits: &mut Submits<u32>) -> (u32, SubmitAnswer) {
    submits.poll_answer().expect("an answer")
}

fn ids(answer: &SubmitAnswer) -> Vec<Option<u64>> {
    answer.receipts.iter().map(|receipt| receipt.id).collect()
}

#[test]
fn requests_are_pipelined_until_the_window_is_full() {
    let mut submits = connected(10);
    for token in 0..3 {
        let first = u128::from(token) * 4;
        batch(&mut submits, token, first..first + 4);
    }
    let first = sent(&mut submits);
    let second = sent(&mut submits);
    assert_eq!(
        (numbers(&first), numbers(&second)),
        (vec![0, 1, 2, 3], vec![4, 5, 6, 7])
    );
    let third = sent(&mut submits);
    assert_eq!(numbers(&third), [8, 9], "what the window has left");
    assert_eq!(submits.poll_transmit(NOW), None);
    assert!(!submits.has_room());
    acknowledge(&mut submits, &second);
    assert_eq!(numbers(&sent(&mut submits)), [10, 11]);
    assert!(submits.has_room());
}

#[test]
fn bytes_of_params_fill_the_window_too() {
    let mut submits = connected(1000);
    submits.handle_connected(
        NOW,
        Terms {
            window: Window {
                jobs: 1000,
                bytes: 100,
            },
            ..terms(0)
        },
    );
    let big = |number, bytes| Submission {
        params: Some(vec![0; bytes].into()),
        ..job(number)
    };
    push(&mut submits, 0, vec![big(1, 60), big(2, 60), big(3, 300)], false);
    let first = sent(&mut submits);
    assert_eq!(numbers(&first), [1]);
    assert_eq!(submits.poll_transmit(NOW), None);
    acknowledge(&mut submits, &first);
    let second = sent(&mut submits);
    assert_eq!(numbers(&second), [2]);
    acknowledge(&mut submits, &second);
    assert_eq!(
        numbers(&sent(&mut submits)),
        [3],
        "one job is always allowed, however large"
    );
}

#[test]
fn a_nearly_full_window_is_not_filled_with_crumbs() {
    let mut submits = connected(100);
    batch(&mut submits, 0, 0..95);
    batch(&mut submits, 1, 100..200);
    let first = sent(&mut submits);
    assert_eq!(first.jobs.len(), 95);
    assert_eq!(submits.poll_transmit(NOW), None, "5 of 100 are a crumb");
    acknowledge(&mut submits, &first);
    assert_eq!(sent(&mut submits).jobs.len(), 100);
}

#[test]
fn requests_keep_to_the_limits_of_items_and_frame() {
    let mut submits = connected(1000);
    submits.handle_connected(
        NOW,
        Terms {
            limits: Limits {
                items: 3,
                frame: 64 + 2 * job(0).wire_size() as u64 + 1000,
                ..Limits::default()
            },
            ..terms(1000)
        },
    );
    let big = Submission {
        params: Some(vec![0; 900].into()),
        ..job(9)
    };
    push(
        &mut submits,
        0,
        vec![job(1), job(2), job(3), job(4), big.clone(), big],
        false,
    );
    let sizes: Vec<usize> = std::iter::from_fn(|| submits.poll_transmit(NOW))
        .map(|message| match message {
            ServerMessage::Request(request) => request.jobs.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [3, 2, 1]);
}

#[test]
fn answers_come_in_the_order_of_the_jobs_however_the_requests_were_answered() {
    let mut submits = connected(4);
    submits.handle_connected(
        NOW,
        Terms {
            limits: Limits {
                items: 2,
                ..Limits::default()
            },
            ..terms(4)
        },
    );
    batch(&mut submits, 7, 1..5);
    let first = sent(&mut submits);
    let second = sent(&mut submits);
    acknowledge(&mut submits, &second);
    assert!(submits.poll_answer().is_none());
    acknowledge(&mut submits, &first);
    let (token, answer) = answer(&mut submits);
    assert_eq!(token, 7);
    assert_eq!(ids(&answer), [Some(1), Some(2), Some(3), Some(4)]);
}

#[test]
fn whatever_is_unanswered_is_sent_again_in_its_order_under_the_same_uuids() {
    let mut submits = connected(100);
    batch(&mut submits, 0, 1..4);
    batch(&mut submits, 1, 4..6);
    batch(&mut submits, 2, 6..8);
    let first = sent(&mut submits);
    let second = sent(&mut submits);
    acknowledge(&mut submits, &first);
    submits.handle_disconnected();
    assert_eq!(submits.poll_transmit(NOW), None);
    submits.handle_connected(NOW, terms(100));
    let again = sent(&mut submits);
    assert_eq!(numbers(&again), numbers(&second));
    assert_ne!(again.request, second.request);
    assert_eq!(numbers(&sent(&mut submits)), [6, 7]);
    acknowledge(&mut submits, &second);
    assert_eq!(answer(&mut submits).0, 0);
    assert!(
        submits.poll_answer().is_none(),
        "an answer to the old connection is none"
    );
    acknowledge(&mut submits, &again);
    assert_eq!(answer(&mut submits).0, 1);
}

#[test]
fn a_job_that_no_server_takes_is_that_jobs_error_and_is_never_sent() {
    let mut submits = connected(100);
    let bad = |job: Submission, name: &str| Submission {
        name: name.to_owned(),
        ..job
    };
    let huge = Submission {
        params: Some(vec![0; 2 << 20].into()),
        ..job(4)
    };
    let jobs = vec![bad(job(1), "no good"), job(2), bad(job(3), ""), huge, job(5)];
    push(&mut submits, 0, jobs, false);
    let (first, second) = (sent(&mut submits), sent(&mut submits));
    assert_eq!((numbers(&first), numbers(&second)), (vec![2], vec![5]));
    acknowledge(&mut submits, &first);
    acknowledge(&mut submits, &second);
    let (_, answer) = answer(&mut submits);
    assert_eq!(ids(&answer), [None, Some(2), None, None, Some(5)]);
    let codes: Vec<_> = answer
        .receipts
        .iter()
        .filter_map(|r| r.error.as_ref())
        .map(|e| e.code)
        .collect();
    assert_eq!(
        codes,
        [ErrorCode::BadName, ErrorCode::BadName, ErrorCode::ParamsTooLarge]
    );

    push(&mut submits, 1, vec![bad(job(1), "")], true);
    assert_eq!(submits.poll_transmit(NOW), None);
    assert_eq!(
        super::tests::answer(&mut submits).0,
        1,
        "a batch of bad jobs alone is answered too"
    );
}

#[test]
fn at_its_deadline_a_batch_is_unknown_as_far_as_it_was_sent() {
    let mut submits = connected(2);
    batch(&mut submits, 0, 1..4);
    let request = sent(&mut submits);
    assert_eq!(submits.poll_timeout(), NOW + DEADLINE);
    submits.handle_timeout(NOW + DEADLINE);
    let (_, answer) = answer(&mut submits);
    assert_eq!(ids(&answer), [None, None, None]);
    assert_eq!(answer.reached, 2, "the third was never sent");
    batch(&mut submits, 1, 7..8);
    assert_eq!(
        submits.poll_transmit(NOW),
        None,
        "the window still counts what is unanswered"
    );
    acknowledge(&mut submits, &request);
    assert_eq!(numbers(&sent(&mut submits)), [7]);
    submits.handle_disconnected();
    submits.handle_connected(NOW, terms(2));
    assert_eq!(
        numbers(&sent(&mut submits)),
        [7],
        "and the old one is not repeated"
    );
}

#[test]
fn a_refusal_that_may_pass_is_repeated_where_asked_for_and_reported_elsewhere() {
    let mut submits = connected(100);
    push(&mut submits, 0, vec![job(1)], true);
    push(&mut submits, 1, vec![job(2)], false);
    let (repeated, reported) = (sent(&mut submits), sent(&mut submits));
    refuse_all(&mut submits, &repeated, ErrorCode::StorageFull);
    refuse_all(&mut submits, &reported, ErrorCode::StorageFull);
    let (token, told) = answer(&mut submits);
    assert_eq!(token, 1);
    assert_eq!(
        told.receipts[0].error.as_ref().map(|e| e.code),
        Some(ErrorCode::StorageFull)
    );
    assert_eq!(submits.poll_transmit(NOW), None);
    let again = submits.poll_timeout();
    assert!(again > NOW && again < NOW + Duration::from_secs(1));
    submits.handle_timeout(again);
    let repeated = sent(&mut submits);
    assert_eq!(numbers(&repeated), [1]);
    refuse_all(&mut submits, &repeated, ErrorCode::StorageFull);
    submits.handle_timeout(NOW + DEADLINE);
    let (_, told) = answer(&mut submits);
    assert_eq!(
        told.receipts[0].error.as_ref().map(|e| e.code),
        Some(ErrorCode::StorageFull)
    );
    assert_eq!(submits.poll_timeout(), BootTime::NEVER);
}

#[test]
fn a_server_that_shuts_down_gets_the_jobs_when_it_is_back() {
    let mut submits = connected(100);
    batch(&mut submits, 0, 1..3);
    let request = sent(&mut submits);
    let error = WireError::new(ErrorCode::ShuttingDown, "going down");
    submits.handle_refused(NOW, 0, request.request, &error);
    assert_eq!(submits.poll_transmit(NOW), None);
    submits.handle_disconnected();
    submits.handle_connected(NOW, terms(100));
    let request = sent(&mut submits);
    acknowledge(&mut submits, &request);
    assert_eq!(ids(&answer(&mut submits).1), [Some(1), Some(2)]);
}

#[test]
fn a_refusal_after_a_lost_connection_leaves_the_job_unknown() {
    let mut submits = connected(100);
    batch(&mut submits, 0, 1..2);
    sent(&mut submits);
    submits.handle_disconnected();
    submits.handle_connected(NOW, terms(100));
    let request = sent(&mut submits);
    refuse_all(&mut submits, &request, ErrorCode::QueueFull);
    let (_, answer) = answer(&mut submits);
    assert_eq!(answer.receipts, [Receipt::default()]);
    assert_eq!(answer.reached, 1);
}

#[test]
fn what_is_older_than_the_uuid_window_is_not_repeated() {
    let mut submits = connected(100);
    let deadline = NOW + Duration::from_secs(100_000);
    let jobs = vec![job(1)];
    let submit = Submit {
        jobs,
        stream: 1,
        repeat: false,
        deadline,
        patience: DEADLINE,
    };
    submits.push(submit, 0);
    sent(&mut submits);
    submits.handle_disconnected();
    submits.handle_connected(NOW + Duration::from_secs(3600), terms(100));
    assert_eq!(submits.poll_transmit(NOW), None);
    let (_, answer) = answer(&mut submits);
    assert_eq!((answer.receipts, answer.reached), (vec![Receipt::default()], 1));
}

#[test]
fn an_answer_with_too_few_receipts_leaves_the_rest_unknown() {
    let mut submits = connected(100);
    batch(&mut submits, 0, 1..4);
    let request = sent(&mut submits).request;
    let jobs = vec![Receipt::stored(1, false)];
    submits.handle_acknowledged(NOW, || 0, Acknowledged { request, jobs });
    assert_eq!(ids(&answer(&mut submits).1), [Some(1), None, None]);
}

#[test]
fn no_more_is_kept_than_two_windows_hold() {
    let mut submits = connected(10);
    for token in 0..2 {
        push(&mut submits, token, (0..10).map(job).collect(), true);
        let request = sent(&mut submits);
        refuse_all(&mut submits, &request, ErrorCode::QueueFull);
    }
    assert!(!submits.has_room());
    submits.handle_over();
    assert_eq!(std::iter::from_fn(|| submits.poll_answer()).count(), 2);
    assert!(submits.has_room());
}
