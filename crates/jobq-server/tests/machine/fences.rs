//! Only the current fence counts, and it counts once.

use jobq_proto::message::{Completed, CompletedRun, RunState, SettleOutcome};
use jobq_proto::{Fence, ServerMessage, Status};

use super::world::{World, held, job, secs};

#[test]
fn an_outcome_is_settled_only_after_it_is_durable() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.hold_disk();
    world.completed(&worker, &order);
    assert!(world.settled(&worker).is_empty());
    world.release_disk();
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert_eq!(world.status(id), Status::Completed);
}

#[test]
fn a_repeated_report_is_already_applied_and_another_one_is_stale() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.completed(&worker, &order);
    world.completed(&worker, &order);
    world.failed(&worker, &order);
    world.released(&worker, &order);
    use SettleOutcome::*;
    assert_eq!(world.settled(&worker), [Applied, AlreadyApplied, Stale, Stale]);
    assert_eq!(world.status(id), Status::Completed);
}

#[test]
fn the_same_run_twice_in_one_report_counts_once() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let run = CompletedRun {
        id: order.id,
        fence: order.fence,
        ran: 1,
        result: None,
    };
    let runs = vec![run.clone(), run];
    world.hold_disk();
    world.send(worker.peer, ServerMessage::Completed(Completed { runs }));
    assert!(world.settled(&worker).is_empty());
    world.release_disk();
    assert_eq!(
        world.settled(&worker),
        [SettleOutcome::Applied, SettleOutcome::AlreadyApplied]
    );
}

#[test]
fn a_report_on_a_job_that_does_not_exist_is_not_found() {
    let mut world = World::new();
    let client = world.client();
    world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let mut order = world.order(&worker);
    order.id = 99;
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::NotFound]);
}

#[test]
fn a_report_under_an_old_fence_is_stale_and_changes_nothing() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let old = world.order(&worker);
    world.released(&worker, &old);
    let new = world.order(&worker);
    assert!(new.fence > old.fence);
    world.settled(&worker);
    world.completed(&worker, &old);
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
    world.released(&worker, &old);
    assert_eq!(world.settled(&worker), [SettleOutcome::AlreadyApplied]);
    assert_eq!(world.status(id), Status::Processing);
    world.completed(&worker, &new);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_fence_that_was_never_issued_is_stale() {
    let mut world = World::new();
    let client = world.client();
    world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let mut order = world.order(&worker);
    order.fence = Fence { epoch: 99, seq: 99 };
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
}

#[test]
fn the_runs_of_one_session_are_not_settled_by_another() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    let thief = world.worker(&[("a", 1)]);
    world.completed(&thief, &order);
    assert_eq!(world.settled(&thief), [SettleOutcome::Stale]);
    assert_eq!(world.status(id), Status::Processing);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_job_is_ordered_again_only_after_the_end_of_its_run_is_durable() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    world.hold_disk();
    world.released(&worker, &order);
    assert!(world.orders(&worker).is_empty());
    world.release_disk();
    assert_eq!(world.order(&worker).id, order.id);
}

#[test]
fn after_a_restart_a_repeated_report_gets_its_old_answer() {
    let mut world = World::new();
    let client = world.client();
    let done = world.submit_one(client, job("a"));
    let failed = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 2)]);
    let orders = world.orders(&worker);
    world.completed(&worker, &orders[0]);
    world.failed(&worker, &orders[1]);
    world.crash_and_restart();
    let named = orders.iter().map(|order| held(order, RunState::Ended)).collect();
    let worker = world.resume(&worker, named);
    assert!(
        world.settled(&worker).is_empty(),
        "ended runs are answered by their report"
    );
    world.completed(&worker, &orders[0]);
    world.failed(&worker, &orders[1]);
    assert_eq!(world.settled(&worker), [SettleOutcome::AlreadyApplied; 2]);
    assert_eq!(world.status(done), Status::Completed);
    assert_eq!(world.view(failed).attempts, 1);
}

#[test]
fn a_report_that_was_lost_in_a_crash_is_applied_when_it_is_repeated() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 2)]);
    let order = world.order(&worker);
    world.advance(secs(1));
    world.hold_disk();
    world.completed(&worker, &order);
    world.crash_and_restart();
    let worker = world.resume(&worker, vec![held(&order, RunState::Ended)]);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert_eq!(world.status(id), Status::Completed);
}

#[test]
fn a_settlement_reaches_the_worker_over_its_new_connection() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    world.hold_disk();
    world.completed(&worker, &order);
    world.disconnect(worker.peer);
    let worker = world.resume(&worker, vec![held(&order, RunState::Ended)]);
    world.release_disk();
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}
