//! A job that takes its workers down is stopped, and its neighbours are not.

use jobq_proto::Status;
use jobq_proto::message::{RunState, Submission};

use super::world::{Worker, World, held, ids, job, secs};

/// A worker that starts all that it is given, and is lost.
fn crash_a_worker(world: &mut World, jobs: u32) -> Vec<u64> {
    let worker = world.worker(&[("a", jobs)]);
    let orders = world.orders(&worker);
    for order in &orders {
        world.started(&worker, order);
    }
    lose(world, &worker);
    ids(&orders)
}

fn lose(world: &mut World, worker: &Worker) {
    world.disconnect(worker.peer);
    world.advance(secs(6));
}

#[test]
fn three_crashes_in_a_row_make_a_started_job_a_dead_letter_that_says_so() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    for crash in 1..=3 {
        assert_eq!(world.status(id), Status::Queued);
        assert_eq!(world.view(id).charges, crash - 1);
        crash_a_worker(&mut world, 1);
    }
    let view = world.view(id);
    assert_eq!(view.status, Status::Failed);
    assert_eq!(view.attempts, 3);
    let reason = view.reason.expect("a dead letter has a reason");
    assert!(
        reason.contains("lost") && reason.contains("3 in a row"),
        "{reason}"
    );
}

#[test]
fn a_run_that_had_not_started_is_not_charged() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    for _ in 0..5 {
        let worker = world.worker(&[("a", 1)]);
        world.order(&worker);
        lose(&mut world, &worker);
    }
    let view = world.view(id);
    assert_eq!((view.status, view.attempts, view.charges), (Status::Queued, 0, 0));
}

#[test]
fn a_report_clears_the_charges() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    crash_a_worker(&mut world, 1);
    crash_a_worker(&mut world, 1);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.released(&worker, &order);
    let order = world.order(&worker);
    assert_eq!(world.view(id).charges, 0);
    world.started(&worker, &order);
    lose(&mut world, &worker);
    let view = world.view(id);
    assert_eq!((view.status, view.charges), (Status::Queued, 1));
}

#[test]
fn a_loss_of_an_unstarted_run_leaves_the_charges_as_they_are() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    crash_a_worker(&mut world, 1);
    let worker = world.worker(&[("a", 1)]);
    world.order(&worker);
    lose(&mut world, &worker);
    assert_eq!(world.view(id).charges, 1);
}

#[test]
fn a_session_never_holds_two_suspects_and_gets_other_jobs_instead() {
    let mut world = World::new();
    let client = world.client();
    let suspects = world.submit(client, vec![job("a"), job("a"), job("a")]);
    crash_a_worker(&mut world, 3);
    let fresh = world.submit(client, vec![job("a"), job("a")]);
    let worker = world.worker(&[("a", 9)]);
    let orders = world.orders(&worker);
    let (suspect, others): (Vec<_>, Vec<_>) = orders.into_iter().partition(|o| suspects.contains(&o.id));
    assert_eq!((ids(&suspect), ids(&others)), (vec![suspects[0]], fresh));
    world.completed(&worker, &suspect[0]);
    assert_eq!(ids(&world.orders(&worker)), [suspects[1]]);
    let other = world.worker(&[("a", 9)]);
    assert_eq!(ids(&world.orders(&other)), [suspects[2]]);
}

#[test]
fn a_poison_job_takes_down_three_workers_and_fails_none_of_its_neighbours() {
    let mut world = World::new();
    let client = world.client();
    let poison = world.submit_one(client, job("a"));
    let neighbours = world.submit(client, (0..9).map(|_| job("a")).collect());
    let mut crashes = 0;
    while world.status(poison) != Status::Failed {
        crashes += 1;
        assert!(crashes <= 3, "more than three workers were lost");
        let worker = world.worker(&[("a", 4)]);
        let orders = world.orders(&worker);
        for order in &orders {
            world.started(&worker, order);
        }
        assert!(ids(&orders).contains(&poison));
        lose(&mut world, &worker);
    }
    let worker = world.worker(&[("a", 4)]);
    loop {
        let orders = world.orders(&worker);
        if orders.is_empty() {
            break;
        }
        for order in orders {
            world.completed(&worker, &order);
        }
    }
    for id in neighbours {
        assert_eq!(world.status(id), Status::Completed);
    }
}

#[test]
fn a_job_with_one_attempt_that_is_lost_after_it_started_fails() {
    let mut world = World::new();
    let client = world.client();
    let once = Submission {
        max_attempts: Some(1),
        ..job("a")
    };
    let id = world.submit_one(client, once);
    crash_a_worker(&mut world, 1);
    assert_eq!(world.status(id), Status::Failed);
}

#[test]
fn charges_survive_a_restart() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    crash_a_worker(&mut world, 1);
    crash_a_worker(&mut world, 1);
    world.crash_and_restart();
    assert_eq!(world.view(id).charges, 2);
    crash_a_worker(&mut world, 1);
    assert_eq!(world.status(id), Status::Failed);
}

#[test]
fn a_run_that_holding_says_is_running_counts_as_started() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.disconnect(worker.peer);
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    lose(&mut world, &worker);
    assert_eq!(world.view(id).charges, 1);
}
