//! A disk without room: nothing new begins, and everything that is under way ends.

use jobq_proto::message::SettleOutcome;
use jobq_proto::{ErrorCode, Status};

use super::world::{World, job, secs, sized, work};

#[test]
fn jobs_are_refused_while_there_is_no_room_and_taken_when_there_is() {
    let mut world = World::new();
    let client = world.client();
    world.fill_disk();
    let request = world.request(client, vec![job("a")]);
    let refusal = world.refused(client, request).expect("it is answered at once");
    assert_eq!(refusal.code, ErrorCode::StorageFull);
    assert!(refusal.retry_after.is_some_and(|after| after > 0), "{refusal:?}");
    world.make_room();
    world.submit_one(client, job("a"));
}

#[test]
fn jobs_that_were_on_their_way_when_the_room_went_are_refused_one_by_one() {
    let mut world = World::new();
    let client = world.client();
    let known = world.submit_one(client, job("known"));
    world.hold_disk();
    let request = world.request(client, vec![job("a"), job("no such name!"), job("b")]);
    world.fill_disk();
    world.release_disk();
    let receipts = world.acknowledged(client, request).expect("it is answered");
    let codes: Vec<_> = receipts
        .iter()
        .map(|r| r.error.as_ref().map(|e| e.code))
        .collect();
    let full = Some(ErrorCode::StorageFull);
    assert_eq!(codes, [full, Some(ErrorCode::BadName), full]);
    assert!(
        receipts[0]
            .error
            .as_ref()
            .is_some_and(|e| e.retry_after.is_some())
    );
    let stats = world.stats(client);
    assert_eq!(
        (stats.submitted, stats.total.queued),
        (1, 1),
        "what was refused counts nowhere"
    );
    world.make_room();
    let worker = world.worker(&[("a", 9), ("known", 9)]);
    assert_eq!(world.order(&worker).id, known);
    assert!(world.orders(&worker).is_empty());
}

#[test]
fn runs_settle_and_jobs_are_cancelled_while_there_is_no_room_and_nothing_is_handed_out() {
    let mut world = World::new();
    let client = world.client();
    let ids = world.submit(client, vec![job("a"), job("a"), job("a"), job("a")]);
    let worker = world.worker(&[("a", 2)]);
    let orders = world.orders(&worker);
    world.fill_disk();
    world.completed(&worker, &orders[0]);
    world.failed(&worker, &orders[1]);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied; 2]);
    world.cancel(client, &[ids[2]]);
    assert_eq!(world.status(ids[0]), Status::Completed);
    assert_eq!(world.status(ids[1]), Status::Scheduled, "it will be tried again");
    assert_eq!(world.status(ids[2]), Status::Cancelled);
    world.advance(secs(60));
    assert!(world.orders(&worker).is_empty());
    world.make_room();
    let mut ordered = super::world::ids(&world.orders(&worker));
    ordered.sort_unstable();
    assert_eq!(ordered, [ids[1], ids[3]]);
}

#[test]
fn a_worker_that_comes_while_there_is_no_room_gets_its_jobs_when_there_is() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    world.fill_disk();
    let worker = world.worker(&[("a", 1)]);
    assert!(world.orders(&worker).is_empty());
    world.make_room();
    assert_eq!(world.order(&worker).id, id);
}

#[test]
fn what_was_to_be_ordered_once_its_params_are_read_stays_in_line() {
    let mut world = World::configured(|config| config.payload_budget = 0);
    let client = world.client();
    let id = world.submit_one(client, sized("a", 1_000));
    world.hold_reads();
    let worker = world.worker(&[("a", 1)]);
    world.fill_disk();
    world.release_reads();
    assert!(world.orders(&worker).is_empty());
    assert_eq!(world.status(id), Status::Queued);
    world.make_room();
    assert_eq!(world.order(&worker).id, id);
}

#[test]
fn a_retry_is_refused_while_there_is_no_room() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    world.cancel(client, &[id]);
    world.fill_disk();
    let request = world.retry_later(client, &[id]);
    assert_eq!(world.refusal(client, request), Some(ErrorCode::StorageFull));
    world.make_room();
    assert!(world.retry(client, &[id])[0].error.is_none());
}

#[test]
fn a_retry_that_is_under_way_when_the_room_goes_ends_with_refusals() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    world.cancel(client, &[id]);
    world.hold_reads();
    let request = world.retry_later(client, &[id]);
    world.fill_disk();
    world.release_reads();
    let receipts = world.retried(client, request).expect("it is answered");
    assert_eq!(
        receipts[0].error.as_ref().map(|e| e.code),
        Some(ErrorCode::StorageFull)
    );
}

#[test]
fn a_server_that_starts_without_room_lets_the_runs_of_its_last_life_end() {
    let mut world = World::new();
    let client = world.client();
    let ids = world.submit(client, vec![job("a"), job("a")]);
    let worker = world.new_worker(work(&[("a", 1)]));
    world.hold(&worker, Vec::new());
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.advance(secs(1));
    world.fill_disk();
    world.crash_and_restart();
    let run = super::world::held(&order, jobq_proto::message::RunState::Running);
    let worker = world.resume(&worker, vec![run]);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert!(world.orders(&worker).is_empty());
    world.make_room();
    assert_eq!(world.order(&worker).id, ids[1]);
}
