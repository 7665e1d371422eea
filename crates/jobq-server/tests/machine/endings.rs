//! Time-outs, failures, and the attempts after them.

use jobq_proto::message::{OrderedJob, RunState, SettleOutcome, Submission};
use jobq_proto::{Backoff, Status};

use super::world::{Worker, World, held, job, millis, run_of, secs};

fn order_of(world: &mut World, submission: Submission) -> (Worker, OrderedJob) {
    let client = world.client();
    world.submit_one(client, submission);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    (worker, order)
}

fn limited(seconds: u64) -> Submission {
    Submission {
        timeout: Some(seconds * 1_000_000),
        ..job("a")
    }
}

#[test]
fn a_run_that_overstays_its_time_by_ten_seconds_is_taken_away_as_a_failed_attempt() {
    let mut world = World::new();
    let (worker, order) = order_of(&mut world, limited(60));
    assert_eq!(order.timeout, Some(60_000_000));
    world.advance(secs(30));
    world.started(&worker, &order);
    world.advance(secs(70) - millis(1));
    assert_eq!(world.status(order.id), Status::Processing);
    world.advance(millis(1));
    assert_eq!(world.cancels(&worker), [run_of(&order)]);
    let view = world.view(order.id);
    assert_eq!(
        (view.status, view.attempts, view.charges),
        (Status::Scheduled, 1, 0)
    );
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
    world.advance(secs(2));
    assert_eq!(world.order(&worker).attempt, 2);
}

#[test]
fn a_run_that_has_not_started_does_not_time_out() {
    let mut world = World::new();
    let (_, order) = order_of(&mut world, limited(1));
    world.advance(secs(100));
    assert_eq!(world.status(order.id), Status::Processing);
}

#[test]
fn a_time_out_in_the_last_attempt_makes_a_dead_letter_that_says_so() {
    let mut world = World::new();
    let once = Submission {
        max_attempts: Some(1),
        ..limited(1)
    };
    let (worker, order) = order_of(&mut world, once);
    world.started(&worker, &order);
    world.advance(secs(12));
    let view = world.view(order.id);
    assert_eq!(view.status, Status::Failed);
    assert!(view.reason.is_some_and(|reason| reason.contains("timed out")));
}

#[test]
fn a_repeated_start_does_not_prolong_a_run() {
    let mut world = World::new();
    let (mut worker, order) = order_of(&mut world, limited(10));
    world.started(&worker, &order);
    world.advance(secs(15));
    world.started(&worker, &order);
    worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.advance(secs(6));
    assert_eq!(world.cancels(&worker).len(), 1);
}

#[test]
fn the_timer_of_a_run_that_has_ended_is_forgotten() {
    let mut world = World::new();
    let (worker, order) = order_of(&mut world, limited(1));
    world.started(&worker, &order);
    let would_fire = world.now.mono.plus(secs(11));
    world.completed(&worker, &order);
    world.advance(secs(5));
    assert!(world.machine.poll_timeout().is_some_and(|at| at > would_fire));
}

#[test]
fn the_wait_after_a_failure_is_the_fourth_power_of_the_attempt_give_or_take_a_tenth() {
    let mut world = World::new();
    let (worker, mut order) = order_of(&mut world, job("a"));
    let mut exact = 0;
    for attempt in 1_u64..=6 {
        assert_eq!(u64::from(order.attempt), attempt);
        let failed = world.now.wall;
        world.failed(&worker, &order);
        let due = jobq_server::time::Wall(world.view(order.id).due);
        let wait = due.since(failed);
        let curve = secs(attempt.pow(4));
        assert!(
            wait >= curve * 9 / 10 && wait <= curve * 11 / 10,
            "{wait:?} after {attempt}"
        );
        exact += u32::from(wait == curve);
        world.advance(wait);
        order = world.order(&worker);
    }
    assert!(exact < 6, "there is chance in it");
}

#[test]
fn a_job_can_have_a_backoff_of_its_own() {
    let mut world = World::new();
    let constant = Submission {
        backoff: Some(Backoff {
            base: 50_000_000,
            exponent: 0,
            max: 50_000_000,
        }),
        ..job("a")
    };
    let (worker, order) = order_of(&mut world, constant);
    world.failed(&worker, &order);
    world.advance(secs(44));
    assert!(world.orders(&worker).is_empty());
    world.advance(secs(12));
    let order = world.order(&worker);
    world.failed(&worker, &order);
    world.advance(secs(56));
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn a_job_that_fails_as_often_as_it_may_is_a_dead_letter_with_its_last_reason() {
    let mut world = World::new();
    let (worker, mut order) = order_of(
        &mut world,
        Submission {
            max_attempts: Some(3),
            ..job("a")
        },
    );
    assert_eq!(order.max_attempts, 3);
    for _ in 0..2 {
        world.failed(&worker, &order);
        world.advance(secs(20));
        order = world.order(&worker);
    }
    world.failed(&worker, &order);
    let view = world.view(order.id);
    assert_eq!((view.status, view.attempts), (Status::Failed, 3));
    assert_eq!(view.reason.as_deref(), Some("it did not work"));
    world.advance(secs(1000));
    assert!(world.orders(&worker).is_empty());
}

#[test]
fn a_job_has_twenty_attempts_unless_told_otherwise() {
    let mut world = World::new();
    let (worker, mut order) = order_of(&mut world, job("a"));
    for attempt in 1..20 {
        assert_eq!((order.attempt, order.max_attempts), (attempt, 20));
        world.failed_with(&worker, &order, false, Some(0));
        order = world.order(&worker);
    }
    world.failed_with(&worker, &order, false, Some(0));
    assert_eq!(world.status(order.id), Status::Failed);
}

#[test]
fn a_worker_can_say_never_again() {
    let mut world = World::new();
    let (worker, order) = order_of(&mut world, job("a"));
    world.failed_with(&worker, &order, true, Some(5));
    let view = world.view(order.id);
    assert_eq!((view.status, view.attempts), (Status::Failed, 1));
}

#[test]
fn a_worker_can_say_when_to_try_again() {
    let mut world = World::new();
    let (worker, order) = order_of(&mut world, job("a"));
    world.failed_with(&worker, &order, false, Some(100_000_000));
    world.advance(secs(99));
    assert!(world.orders(&worker).is_empty());
    world.advance(secs(1));
    assert_eq!(world.order(&worker).attempt, 2);
}

#[test]
fn no_worker_can_put_a_job_off_for_longer_than_a_client_could() {
    let mut world = World::new();
    let (worker, order) = order_of(&mut world, job("a"));
    world.failed_with(&worker, &order, false, Some(u64::MAX));
    let year = jobq_proto::NewJob::MAX_DURATION;
    assert!(world.view(order.id).due <= world.now.wall.plus(year).0);
}

#[test]
fn a_retry_waits_for_its_time_over_a_restart() {
    let mut world = World::new();
    let (worker, order) = order_of(&mut world, job("a"));
    world.failed_with(&worker, &order, false, Some(50_000_000));
    world.crash_and_restart();
    let worker = world.resume(&worker, vec![]);
    world.advance(secs(49));
    assert!(world.orders(&worker).is_empty());
    world.advance(secs(1));
    assert_eq!(world.order(&worker).attempt, 2);
}

#[test]
fn a_released_run_is_no_attempt() {
    let mut world = World::new();
    let (worker, order) = order_of(&mut world, job("a"));
    world.started(&worker, &order);
    world.released(&worker, &order);
    assert_eq!(world.order(&worker).attempt, 1);
}

#[test]
fn a_result_that_is_too_large_fails_its_job_without_another_attempt() {
    let mut world = World::new();
    let (worker, order) = order_of(&mut world, job("a"));
    world.completed_with(&worker, &order, Some(vec![0; 1024 * 1024 + 1].into()));
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    let view = world.view(order.id);
    assert_eq!(view.status, Status::Failed);
    assert!(
        view.reason
            .is_some_and(|reason| reason.starts_with("result_too_large"))
    );
}

#[test]
fn a_result_and_the_time_it_took_are_kept() {
    let mut world = World::new();
    let (worker, order) = order_of(&mut world, job("a"));
    world.completed_with(&worker, &order, Some(vec![1, 2].into()));
    let view = world.view(order.id);
    assert_eq!((view.result, view.ran), (Some(vec![1, 2].into()), Some(5)));
}
