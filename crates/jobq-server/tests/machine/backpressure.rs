//! How much may be queued, and what always gets through.

use bytes::Bytes;
use jobq_proto::message::{Receipt, Submission};
use jobq_proto::{ErrorCode, Status, WireError};
use jobq_server::QueueLimits;
use uuid::Uuid;

use super::world::{World, job, secs, sized};

/// A server with no limits but these.
fn limited(change: impl FnOnce(&mut QueueLimits)) -> World {
    World::configured(|config| {
        config.queue.jobs = None;
        change(&mut config.queue);
    })
}

fn at_most(jobs: u64) -> World {
    limited(|queue| queue.jobs = Some(jobs))
}

fn known(name: &str, uuid: u128, params: &'static [u8]) -> Submission {
    Submission {
        uuid: Uuid::from_u128(uuid),
        params: Some(Bytes::from_static(params)),
        ..job(name)
    }
}

/// Why the queue was full for a job.
fn full(receipt: &Receipt) -> &WireError {
    let error = receipt.error.as_ref().expect("the job is refused");
    assert_eq!(error.code, ErrorCode::QueueFull, "{error:?}");
    error
}

#[test]
fn jobs_beyond_the_limit_are_refused_one_by_one_with_what_is_used_and_when_to_repeat() {
    let mut world = at_most(2);
    let client = world.client();
    let receipts = world.receipts(client, vec![job("a"); 3]);
    assert_eq!([receipts[0].id, receipts[1].id], [Some(1), Some(2)]);
    let error = full(&receipts[2]);
    let message = "the queue is full: 2 jobs have not ended, and at most 2 may be queued";
    assert_eq!(error.message, message);
    let after = error.retry_after.expect("it says when to repeat");
    assert!((1_000_000..2_000_000).contains(&after), "{after}");
}

#[test]
fn a_name_has_a_limit_of_its_own() {
    let mut world = limited(|queue| queue.jobs_per_name = Some(1));
    let client = world.client();
    let receipts = world.receipts(client, vec![job("a"), job("a"), job("b")]);
    assert!(
        full(&receipts[1]).message.contains("of the name a"),
        "{receipts:?}"
    );
    assert!(receipts[2].id.is_some());
}

#[test]
fn bytes_of_params_are_limited_over_all_and_for_each_name() {
    let mut world = limited(|queue| {
        queue.bytes = Some(100);
        queue.bytes_per_name = Some(60);
    });
    let client = world.client();
    let jobs = vec![
        sized("a", 50),
        sized("a", 11),
        sized("a", 10),
        sized("b", 41),
        sized("b", 40),
    ];
    let receipts = world.receipts(client, jobs);
    let taken: Vec<bool> = receipts.iter().map(|receipt| receipt.id.is_some()).collect();
    assert_eq!(taken, [true, false, true, false, true]);
    let of_name = &full(&receipts[1]).message;
    assert!(of_name.contains("of the name a") && of_name.contains("take 50 bytes, those of this one 11"));
    let of_all = &full(&receipts[3]).message;
    assert!(of_all.contains("take 60 bytes, those of this one 41") && of_all.contains("at most 100"));
}

#[test]
fn a_job_that_is_larger_than_the_limit_on_bytes_is_taken_where_there_is_none() {
    let mut world = limited(|queue| queue.bytes = Some(10));
    let client = world.client();
    let receipts = world.receipts(client, vec![sized("a", 500), sized("a", 1)]);
    assert!(receipts[0].id.is_some());
    full(&receipts[1]);
}

#[test]
fn names_of_which_every_job_was_refused_are_not_kept() {
    let mut world = at_most(1);
    let client = world.client();
    let receipts = world.receipts(client, vec![job("a"), job("b"), job("c")]);
    full(&receipts[1]);
    full(&receipts[2]);
    let names = world.stats(client).names;
    assert_eq!(names.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_known_uuid_is_answered_however_full_the_queue_is() {
    let mut world = at_most(1);
    let client = world.client();
    world.submit_one(client, known("a", 5, b"x"));
    let again = vec![
        known("a", 5, b"x"),
        known("a", 5, b"y"),
        known("b", 5, b"x"),
        job("a"),
    ];
    let receipts = world.receipts(client, again);
    assert_eq!((receipts[0].id, receipts[0].existing), (Some(1), true));
    for conflict in &receipts[1..3] {
        let code = conflict.error.as_ref().map(|error| error.code);
        assert_eq!(code, Some(ErrorCode::UuidConflict));
    }
    full(&receipts[3]);
}

#[test]
fn a_job_and_its_repetition_in_one_request_that_fills_the_queue_are_one_job() {
    let mut world = at_most(1);
    let client = world.client();
    let receipts = world.receipts(client, vec![known("a", 5, b"x"), known("a", 5, b"x")]);
    assert_eq!((receipts[1].id, receipts[1].existing), (receipts[0].id, true));
}

#[test]
fn jobs_on_their_way_to_the_store_count() {
    let mut world = at_most(2);
    let client = world.client();
    world.hold_disk();
    let first = world.request(client, vec![job("a"), job("a")]);
    let second = world.request(client, vec![job("a")]);
    world.release_disk();
    let first = world.acknowledged(client, first).expect("it is answered");
    assert!(first.iter().all(|receipt| receipt.id.is_some()));
    full(&world.acknowledged(client, second).expect("it is answered")[0]);
}

#[test]
fn jobs_that_were_there_already_or_conflict_take_no_place() {
    let mut world = at_most(3);
    let client = world.client();
    world.submit_one(client, known("a", 5, b"x"));
    world.receipts(client, vec![known("a", 5, b"x"), known("a", 5, b"y")]);
    let receipts = world.receipts(client, vec![job("a"), job("a"), job("a")]);
    assert!(receipts[1].id.is_some());
    full(&receipts[2]);
}

#[test]
fn a_job_has_its_place_until_it_ends_and_whatever_happens_to_it_gets_through() {
    let mut world = at_most(2);
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    let jobs = world.submit(client, vec![job("a"); 2]);
    let order = world.order(&worker);
    world.released(&worker, &order);
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.failed(&worker, &order);
    full(&world.receipts(client, vec![job("a")])[0]);
    world.disconnect(worker.peer);
    world.advance(secs(6));
    full(&world.receipts(client, vec![job("a")])[0]);
    let worker = world.worker(&[("a", 2)]);
    for order in world.orders(&worker) {
        world.completed(&worker, &order);
    }
    assert_eq!(world.status(jobs[0]), Status::Completed);
    assert_eq!(world.submit(client, vec![job("a"); 2]).len(), 2);
}

#[test]
fn a_job_that_is_cancelled_makes_room() {
    let mut world = at_most(1);
    let client = world.client();
    for _ in 0..3 {
        let id = world.submit_one(client, job("a"));
        full(&world.receipts(client, vec![job("a")])[0]);
        world.cancel(client, &[id]);
    }
}

#[test]
fn jobs_whose_time_has_not_come_count() {
    let mut world = at_most(1);
    let client = world.client();
    let later = Submission {
        delay: Some(3_600_000_000),
        ..job("a")
    };
    world.submit_one(client, later);
    full(&world.receipts(client, vec![job("a")])[0]);
}

#[test]
fn what_was_there_before_a_restart_counts_and_a_lower_limit_takes_nothing_back() {
    let mut world = at_most(3);
    let client = world.client();
    world.submit(client, vec![sized("a", 7); 3]);
    world.config.queue.jobs = Some(2);
    world.crash_and_restart();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    for _ in 0..2 {
        full(&world.receipts(client, vec![job("a")])[0]);
        let order = world.order(&worker);
        world.completed(&worker, &order);
    }
    world.submit_one(client, job("a"));
    full(&world.receipts(client, vec![job("a")])[0]);
}

#[test]
fn a_retry_beyond_the_limit_is_refused_and_one_that_was_made_is_found() {
    let mut world = at_most(2);
    let client = world.client();
    let worker = world.worker(&[("a", 2)]);
    let ended = world.submit(client, vec![job("a"); 2]);
    for order in world.orders(&worker) {
        world.failed_with(&worker, &order, true, None);
    }
    world.disconnect(worker.peer);
    world.submit_one(client, job("a"));
    let first = world.retry(client, &ended);
    assert!(first[0].id.is_some());
    full(&first[1]);
    let again = world.retry(client, &ended);
    assert_eq!((again[0].id, again[0].existing), (first[0].id, true));
    full(&again[1]);
}
