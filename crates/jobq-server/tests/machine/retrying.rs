//! Submitting ended jobs again.

use jobq_proto::message::Submission;
use jobq_proto::{ErrorCode, Status};

use super::world::{World, job};

/// A dead letter.
fn dead_letter(world: &mut World) -> u64 {
    let client = world.client();
    let submission = Submission {
        params: Some(vec![7].into()),
        username: Some("ann".to_owned()),
        priority: Some("High".to_owned()),
        max_attempts: Some(1),
        ..job("a")
    };
    let id = world.submit_one(client, submission);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.failed(&worker, &order);
    world.disconnect(worker.peer);
    assert_eq!(world.status(id), Status::Failed);
    id
}

#[test]
fn a_dead_letter_is_submitted_again_as_a_new_job_like_it() {
    let mut world = World::new();
    let old = dead_letter(&mut world);
    let client = world.client();
    let receipts = world.retry(client, &[old]);
    let new = receipts[0].id.expect("it is taken");
    assert!(new != old && !receipts[0].existing);
    let view = world.view(new);
    assert_eq!(view.retry_of, Some(old));
    assert_eq!(
        (view.priority.as_str(), view.username.as_deref()),
        ("High", Some("ann"))
    );
    assert_eq!((view.max_attempts, view.attempts, view.params_bytes), (1, 0, 1));
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    assert_eq!((order.id, order.params.as_ref()), (new, &[7][..]));
    assert_eq!(world.status(old), Status::Failed);
}

#[test]
fn a_retry_is_due_at_once_whatever_time_the_old_job_had() {
    let mut world = World::new();
    let client = world.client();
    let old = world.submit_one(
        client,
        Submission {
            delay: Some(3_600_000_000),
            ..job("a")
        },
    );
    assert_eq!(world.status(old), Status::Scheduled);
    world.cancel(client, &[old]);
    let new = world.retry(client, &[old])[0].id.expect("it is taken");
    assert_eq!(world.status(new), Status::Queued);
    let worker = world.worker(&[("a", 1)]);
    assert_eq!(world.order(&worker).id, new);
}

#[test]
fn a_retry_makes_one_job_however_often_it_is_repeated() {
    let mut world = World::new();
    let old = dead_letter(&mut world);
    let client = world.client();
    let first = world.retry(client, &[old, old]);
    assert_eq!(first[0].id, first[1].id);
    world.crash_and_restart();
    let client = world.client();
    let again = world.retry(client, &[old]);
    assert_eq!(again[0].id, first[0].id);
    assert!(again[0].existing);
    assert_eq!(world.stats(client).total.queued, 1);
}

#[test]
fn the_retry_of_a_retry_is_another_job() {
    let mut world = World::new();
    let old = dead_letter(&mut world);
    let client = world.client();
    let second = world.retry(client, &[old])[0].id.expect("it is taken");
    world.cancel(client, &[second]);
    let third = world.retry(client, &[second])[0].id.expect("it is taken");
    assert!(third != second && third != old);
    assert_eq!(world.view(third).retry_of, Some(second));
}

#[test]
fn a_job_that_has_not_ended_or_does_not_exist_is_not_retried() {
    let mut world = World::new();
    let old = dead_letter(&mut world);
    let client = world.client();
    let live = world.submit_one(client, job("b"));
    let receipts = world.retry(client, &[99, old, live]);
    let codes: Vec<_> = receipts
        .iter()
        .map(|r| r.error.as_ref().map(|e| e.code))
        .collect();
    assert_eq!(
        codes,
        [Some(ErrorCode::NotFound), None, Some(ErrorCode::NotEnded)]
    );
}

#[test]
fn many_jobs_are_retried_in_the_order_asked_for() {
    let mut world = World::new();
    let client = world.client();
    let old = world.submit(client, (0..100).map(|_| job("a")).collect());
    world.cancel(client, &old);
    let receipts = world.retry(client, &old);
    assert_eq!(receipts.len(), 100);
    for (old, receipt) in old.iter().zip(receipts) {
        let new = receipt.id.expect("it is taken");
        assert_eq!(world.view(new).retry_of, Some(*old));
    }
}

#[test]
fn a_retry_is_answered_only_after_it_is_durable() {
    let mut world = World::new();
    let old = dead_letter(&mut world);
    let client = world.client();
    world.hold_disk();
    let request = world.next_request();
    let ids = vec![old];
    let retry = jobq_proto::message::RetryJobs { request, ids };
    world.send(client, jobq_proto::ServerMessage::Retry(retry));
    assert!(world.messages(client).is_empty());
    world.release_disk();
    assert_eq!(world.messages(client).len(), 1);
}
