//! Taking jobs in: acknowledged when on disk, one job a uuid.

use jobq_proto::message::Submission;
use jobq_proto::{ErrorCode, Status};
use uuid::Uuid;

use super::world::{World, job, secs, sized};

fn with_uuid(name: &str, uuid: u128) -> Submission {
    Submission {
        uuid: Uuid::from_u128(uuid),
        ..job(name)
    }
}

#[test]
fn a_job_is_acknowledged_and_ordered_only_after_it_is_durable() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    world.hold_disk();
    let request = world.request(client, vec![job("a")]);
    assert_eq!(world.acknowledged(client, request), None);
    assert!(world.orders(&worker).is_empty());
    world.release_disk();
    let receipts = world.acknowledged(client, request).expect("it is durable");
    assert_eq!(receipts[0].id, Some(world.order(&worker).id));
}

#[test]
fn a_refused_job_is_answered_with_its_request_after_the_good_ones_are_durable() {
    let mut world = World::new();
    let client = world.client();
    world.hold_disk();
    let good = world.request(client, vec![job("a"), job("no such name!"), job("b")]);
    let bad = world.request(client, vec![job("")]);
    assert!(world.messages(client).is_empty(), "both wait for the disk");
    world.release_disk();
    let receipts = world.acknowledged(client, good).expect("it is durable");
    assert_eq!(receipts[0].id, Some(1));
    assert_eq!(
        receipts[1].error.as_ref().map(|e| e.code),
        Some(ErrorCode::BadName)
    );
    assert_eq!(receipts[2].id, Some(2));
    let receipts = world.acknowledged(client, bad).expect("it is answered in turn");
    assert_eq!(
        receipts[0].error.as_ref().map(|e| e.code),
        Some(ErrorCode::BadName)
    );
}

#[test]
fn each_kind_of_bad_job_is_refused_by_itself() {
    let mut world = World::new();
    let client = world.client();
    let bad = [
        (ErrorCode::BadName, job("a b")),
        (
            ErrorCode::BadUsername,
            Submission {
                username: Some(String::new()),
                ..job("a")
            },
        ),
        (
            ErrorCode::BadPriority,
            Submission {
                priority: Some("Urgent".to_owned()),
                ..job("a")
            },
        ),
        (
            ErrorCode::BadTime,
            Submission {
                run_at: Some(5),
                delay: Some(5),
                ..job("a")
            },
        ),
        (
            ErrorCode::BadRetryPolicy,
            Submission {
                max_attempts: Some(0),
                ..job("a")
            },
        ),
        (ErrorCode::ParamsTooLarge, sized("a", 1024 * 1024 + 1)),
    ];
    let (codes, jobs): (Vec<_>, Vec<_>) = bad.into_iter().unzip();
    let receipts = world.receipts(client, jobs);
    let refused: Vec<_> = receipts
        .iter()
        .filter_map(|r| r.error.as_ref().map(|e| e.code))
        .collect();
    assert_eq!(refused, codes);
    assert_eq!(world.stats(client).total.queued, 0);
}

#[test]
fn the_same_uuid_twice_in_a_request_is_one_job() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 5)]);
    let receipts = world.receipts(client, vec![with_uuid("a", 9), with_uuid("a", 9)]);
    assert_eq!(receipts[0].id, receipts[1].id);
    assert_eq!((receipts[0].existing, receipts[1].existing), (false, true));
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn the_same_uuid_in_requests_in_flight_is_one_job() {
    let mut world = World::new();
    let (one, two) = (world.client(), world.client());
    let worker = world.worker(&[("a", 5)]);
    world.hold_disk();
    let first = world.request(one, vec![with_uuid("a", 9)]);
    let second = world.request(two, vec![with_uuid("a", 9)]);
    world.release_disk();
    let first = world.acknowledged(one, first).expect("it is durable");
    let second = world.acknowledged(two, second).expect("it is durable");
    assert_eq!(first[0].id, second[0].id);
    assert!(second[0].existing);
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn a_uuid_is_one_job_while_it_lives_after_it_ended_and_over_a_restart() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, with_uuid("a", 9));
    assert_eq!(world.submit_one(client, with_uuid("a", 9)), id);
    let worker = world.worker(&[("a", 5)]);
    let order = world.order(&worker);
    world.completed(&worker, &order);
    assert_eq!(world.submit_one(client, with_uuid("a", 9)), id);
    world.crash_and_restart();
    let client = world.client();
    assert_eq!(world.submit_one(client, with_uuid("a", 9)), id);
    assert_eq!(world.status(id), Status::Completed);
}

#[test]
fn a_known_uuid_with_another_name_or_other_params_is_a_conflict() {
    let mut world = World::new();
    let client = world.client();
    world.submit_one(client, with_uuid("a", 9));
    let other_params = Submission {
        params: Some(vec![1].into()),
        ..with_uuid("a", 9)
    };
    let receipts = world.receipts(client, vec![with_uuid("b", 9), other_params]);
    for receipt in receipts {
        assert_eq!(receipt.id, None);
        assert_eq!(receipt.error.map(|e| e.code), Some(ErrorCode::UuidConflict));
    }
}

#[test]
fn ids_rise_and_are_not_used_again_after_a_restart() {
    let mut world = World::new();
    let client = world.client();
    let first = world.submit(client, vec![job("a"), job("a")]);
    let worker = world.worker(&[("a", 5)]);
    for order in world.orders(&worker) {
        world.completed(&worker, &order);
    }
    // Takes a number of its own, though it is no job of its own.
    world.submit(client, vec![with_uuid("b", 9), with_uuid("b", 9)]);
    world.crash_and_restart();
    let client = world.client();
    let later = world.submit_one(client, job("a"));
    assert!(first[0] < first[1]);
    assert!(later > first[1] + 1, "{later} after {first:?}");
}

#[test]
fn a_job_whose_client_has_gone_runs_all_the_same() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    world.hold_disk();
    world.request(client, vec![job("a")]);
    world.disconnect(client);
    world.release_disk();
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn a_crash_loses_only_what_was_not_acknowledged() {
    let mut world = World::new();
    let client = world.client();
    let kept = world.submit_one(client, job("a"));
    world.hold_disk();
    let request = world.request(client, vec![job("a")]);
    assert_eq!(world.acknowledged(client, request), None);
    world.crash_and_restart();
    let worker = world.worker(&[("a", 5)]);
    assert_eq!(world.order(&worker).id, kept);
    world.advance(secs(100));
    assert!(world.orders(&worker).is_empty());
}
