//! Streams of jobs against a server that takes some of them now and others later.

use super::*;

/// Batches of one stream whose refusals are repeated.
const STREAM: u64 = 1;

fn stream(submits: &mut Submits<u32>, token: u32, numbers: Range<u128>) {
    push_to(submits, STREAM, token, numbers.map(job).collect(), true);
}

/// The server takes some of a request's jobs, and refuses the others since its queue is full, for a second.
fn take_only(submits: &mut Submits<u32>, now: BootTime, request: &Request, taken: &[u128]) {
    let receipt = |job: &Submission| {
        let number = job.uuid.as_u128();
        if taken.contains(&number) {
            return Receipt::stored(number as u64, false);
        }
        let mut error = WireError::new(ErrorCode::QueueFull, "full");
        error.retry_after = Some(1_000_000);
        Receipt::refused(error)
    };
    let jobs = request.jobs.iter().map(receipt).collect();
    let request = request.request;
    submits.handle_acknowledged(now, || 0, Acknowledged { request, jobs });
}

/// The next request, when its time has come.
fn sent_later(submits: &mut Submits<u32>) -> (BootTime, Request) {
    assert_eq!(submits.poll_transmit(NOW), None);
    let now = submits.poll_timeout();
    submits.handle_timeout(now);
    (now, sent(submits))
}

#[test]
fn what_a_full_server_refuses_of_a_stream_is_tried_again_before_what_comes_after_it() {
    let mut submits = connected(100);
    stream(&mut submits, 0, 1..4);
    stream(&mut submits, 1, 4..6);
    let (first, second) = (sent(&mut submits), sent(&mut submits));
    take_only(&mut submits, NOW, &first, &[1]);
    assert_eq!(submits.refusal().map(|e| e.code), Some(ErrorCode::QueueFull));
    take_only(&mut submits, NOW, &second, &[5]);
    stream(&mut submits, 2, 6..8);
    assert!(
        submits.has_room(),
        "what waits for room does not keep others away"
    );
    let (now, again) = sent_later(&mut submits);
    assert_eq!(now, NOW + Duration::from_secs(1), "as the server said");
    assert_eq!(numbers(&again), [2, 3]);
    assert_eq!(
        submits.poll_transmit(NOW),
        None,
        "one request tells whether there is room"
    );
    take_only(&mut submits, now, &again, &[2]);
    let (now, again) = sent_later(&mut submits);
    assert_eq!(numbers(&again), [3]);
    take_only(&mut submits, now, &again, &[3]);
    assert_eq!(submits.refusal(), None);
    let (rest, last) = (sent(&mut submits), sent(&mut submits));
    assert_eq!((numbers(&rest), numbers(&last)), (vec![4], vec![6, 7]));
    acknowledge(&mut submits, &rest);
    acknowledge(&mut submits, &last);
    let all: Vec<Option<u64>> = std::iter::from_fn(|| submits.poll_answer())
        .flat_map(|(_, answer)| ids(&answer))
        .collect();
    assert_eq!(all, (1..8).map(Some).collect::<Vec<_>>());
    assert_eq!(submits.poll_timeout(), BootTime::NEVER);
}

#[test]
fn jobs_that_were_refused_between_others_are_repeated_in_one_request() {
    let mut submits = connected(100);
    stream(&mut submits, 0, 1..8);
    let request = sent(&mut submits);
    take_only(&mut submits, NOW, &request, &[2, 4, 5]);
    let (_, again) = sent_later(&mut submits);
    assert_eq!(numbers(&again), [1, 3, 6, 7]);
    acknowledge(&mut submits, &again);
    assert_eq!(ids(&answer(&mut submits).1), (1..8).map(Some).collect::<Vec<_>>());
}

#[test]
fn a_stream_that_the_server_refuses_does_not_hold_up_another() {
    let mut submits = connected(100);
    stream(&mut submits, 0, 1..3);
    let request = sent(&mut submits);
    take_only(&mut submits, NOW, &request, &[]);
    push(&mut submits, 1, vec![job(9)], true);
    let other = sent(&mut submits);
    assert_eq!(numbers(&other), [9]);
    acknowledge(&mut submits, &other);
    assert_eq!(answer(&mut submits).0, 1);
}

#[test]
fn a_stream_of_which_jobs_are_taken_now_and_then_does_not_run_out_of_time() {
    let mut submits = connected(100);
    stream(&mut submits, 0, 1..101);
    let mut request = sent(&mut submits);
    let mut now = NOW;
    for number in 1..100 {
        take_only(&mut submits, now, &request, &[number]);
        (now, request) = sent_later(&mut submits);
    }
    assert!(now > NOW + DEADLINE * 3, "each took its second");
    acknowledge(&mut submits, &request);
    assert_eq!(ids(&answer(&mut submits).1).len(), 100);
}

#[test]
fn a_stream_of_which_nothing_is_taken_for_its_patience_ends_as_a_whole() {
    let mut submits = connected(100);
    stream(&mut submits, 0, 1..3);
    let request = sent(&mut submits);
    take_only(&mut submits, NOW, &request, &[1]);
    let later = NOW + Duration::from_millis(500);
    let submit = Submit {
        jobs: vec![job(3)],
        stream: STREAM,
        repeat: true,
        deadline: later + DEADLINE,
        patience: DEADLINE,
    };
    submits.push(submit, 1);
    while submits.poll_timeout() < NOW + DEADLINE {
        let (now, again) = sent_later(&mut submits);
        take_only(&mut submits, now, &again, &[]);
    }
    submits.handle_timeout(NOW + DEADLINE);
    let (_, first) = answer(&mut submits);
    assert_eq!(ids(&first), [Some(1), None]);
    assert_eq!(
        first.receipts[1].error.as_ref().map(|e| e.code),
        Some(ErrorCode::QueueFull)
    );
    let (_, second) = answer(&mut submits);
    assert_eq!(
        (second.receipts, second.reached),
        (vec![Receipt::default()], 0),
        "it was not sent"
    );
    assert_eq!(submits.poll_timeout(), BootTime::NEVER);
    assert_eq!(submits.refusal(), None);
}

#[test]
fn a_stream_that_is_given_up_ends_with_what_is_known_of_it() {
    let mut submits = connected(100);
    stream(&mut submits, 0, 1..4);
    let request = sent(&mut submits);
    take_only(&mut submits, NOW, &request, &[2]);
    stream(&mut submits, 1, 4..5);
    submits.give_up(STREAM);
    let (_, first) = answer(&mut submits);
    assert_eq!(ids(&first), [None, Some(2), None]);
    assert!(first.receipts[0].error.is_some() && first.receipts[2].error.is_some());
    assert_eq!(answer(&mut submits).1.reached, 0);
    assert_eq!(submits.poll_timeout(), BootTime::NEVER);
}

#[test]
fn a_stream_that_is_given_up_waits_for_the_request_that_was_to_tell_whether_there_is_room() {
    let mut submits = connected(100);
    stream(&mut submits, 0, 1..3);
    let request = sent(&mut submits);
    take_only(&mut submits, NOW, &request, &[]);
    let (now, again) = sent_later(&mut submits);
    submits.give_up(STREAM);
    assert!(submits.poll_answer().is_none());
    take_only(&mut submits, now, &again, &[1]);
    let (_, told) = answer(&mut submits);
    assert_eq!(ids(&told), [Some(1), None]);
    assert!(told.receipts[1].error.is_some());
}

#[test]
fn a_stream_that_was_refused_is_sent_as_a_whole_on_the_next_connection() {
    let mut submits = connected(100);
    stream(&mut submits, 0, 1..3);
    stream(&mut submits, 1, 3..5);
    let first = sent(&mut submits);
    take_only(&mut submits, NOW, &first, &[]);
    let (_, _) = sent_later(&mut submits);
    submits.handle_disconnected();
    submits.handle_connected(NOW, terms(100));
    assert_eq!(submits.refusal(), None);
    assert_eq!(numbers(&sent(&mut submits)), [1, 2]);
    assert_eq!(numbers(&sent(&mut submits)), [3, 4]);
}

#[test]
fn what_was_refused_for_longer_than_the_uuid_window_is_still_repeated() {
    let mut submits = connected(100);
    stream(&mut submits, 0, 1..3);
    let request = sent(&mut submits);
    take_only(&mut submits, NOW, &request, &[1]);
    submits.handle_disconnected();
    submits.handle_connected(NOW + Duration::from_secs(3600), terms(100));
    assert_eq!(numbers(&sent(&mut submits)), [2]);
}

#[test]
fn what_a_stream_keeps_is_bounded_in_bytes_too() {
    let mut submits = Submits::new();
    let mut few = terms(1_000);
    few.window.bytes = 1_000;
    submits.handle_connected(NOW, few);
    for token in 0..2 {
        let large = Submission {
            params: Some(vec![0; 1_000].into()),
            ..job(u128::from(token))
        };
        assert!(submits.has_room());
        push_to(&mut submits, STREAM, token, vec![large], true);
        if token == 0 {
            let request = sent(&mut submits);
            take_only(&mut submits, NOW, &request, &[]);
        }
    }
    assert!(!submits.has_room());
}

#[test]
fn a_request_that_is_refused_as_a_whole_is_tried_again_when_the_server_says() {
    let mut submits = connected(100);
    stream(&mut submits, 0, 1..3);
    stream(&mut submits, 1, 3..5);
    let (first, second) = (sent(&mut submits), sent(&mut submits));
    let full = WireError {
        retry_after: Some(5_000_000),
        ..WireError::new(ErrorCode::StorageFull, "no room on the disk")
    };
    for request in [&first, &second] {
        submits.handle_refused(NOW, 0, request.request, &full);
    }
    assert_eq!(submits.refusal(), Some(&full));
    let (now, again) = sent_later(&mut submits);
    assert_eq!(now, NOW + Duration::from_secs(5));
    assert_eq!(numbers(&again), [1, 2]);
    assert_eq!(
        submits.refusal(),
        Some(&full),
        "it is not known yet whether there is room"
    );
    acknowledge(&mut submits, &again);
    assert_eq!(submits.refusal(), None);
    let last = sent(&mut submits);
    assert_eq!(numbers(&last), [3, 4]);
    acknowledge(&mut submits, &last);
    assert_eq!(std::iter::from_fn(|| submits.poll_answer()).count(), 2);
}

#[test]
fn a_stream_waits_for_a_server_that_shuts_down_though_it_repeats_nothing_else() {
    let mut submits = connected(100);
    push_to(&mut submits, STREAM, 0, vec![job(1)], false);
    let request = sent(&mut submits);
    let error = WireError::new(ErrorCode::ShuttingDown, "going down");
    submits.handle_refused(NOW, 0, request.request, &error);
    push_to(&mut submits, STREAM, 1, vec![job(2)], false);
    assert_eq!(submits.poll_transmit(NOW), None, "nothing goes before it");
    submits.handle_disconnected();
    submits.handle_connected(NOW, terms(100));
    assert_eq!(numbers(&sent(&mut submits)), [1]);
    assert_eq!(numbers(&sent(&mut submits)), [2]);
}
