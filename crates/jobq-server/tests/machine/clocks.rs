//! Calendars that are set, and computers that are suspended.

use jobq_proto::Status;
use jobq_proto::message::{CancelOutcome, RunState, SettleOutcome, Submission};

use super::world::{World, held, job, secs};

const HOUR: i64 = 3_600;

/// A job for a moment of the calendar.
fn at(world: &World, seconds: i64) -> Submission {
    Submission {
        run_at: Some(world.now.wall.0 + seconds * 1_000_000),
        ..job("a")
    }
}

/// A job for later, however the calendar goes.
fn after(seconds: u64) -> Submission {
    Submission {
        delay: Some(seconds * 1_000_000),
        ..job("a")
    }
}

#[test]
fn a_job_for_a_moment_of_the_calendar_goes_by_the_calendar_in_both_directions() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 2)]);
    let early = world.submit_one(client, at(&world, HOUR));
    let late = world.submit_one(client, at(&world, 3 * HOUR));
    world.jump_wall(2 * HOUR);
    world.advance(secs(61));
    assert_eq!(world.order(&worker).id, early);
    world.jump_wall(-4 * HOUR);
    world.advance(secs(2 * HOUR as u64));
    assert!(world.orders(&worker).is_empty(), "three hours are left");
    world.advance(secs(3 * HOUR as u64));
    assert_eq!(world.order(&worker).id, late);
}

#[test]
fn a_delay_is_as_long_as_it_was_to_be_wherever_the_calendar_is_set() {
    for jump in [24 * HOUR, -24 * HOUR] {
        let mut world = World::new();
        let client = world.client();
        let worker = world.worker(&[("a", 1)]);
        let delayed = world.submit_one(client, after(600));
        world.jump_wall(jump);
        world.advance(secs(595));
        assert!(world.orders(&worker).is_empty(), "jump {jump}");
        world.advance(secs(10));
        assert_eq!(world.order(&worker).id, delayed, "jump {jump}");
    }
}

#[test]
fn the_wait_before_a_retry_is_as_long_as_it_was_to_be_wherever_the_calendar_is_set() {
    // A worker's own wish, and the backoff after the first attempt: a second, a tenth up or down.
    for (wish, least, most) in [(Some(60_000_000), 59, 61), (None, 0, 2)] {
        for jump in [24 * HOUR, -24 * HOUR] {
            let mut world = World::new();
            let client = world.client();
            let worker = world.worker(&[("a", 1)]);
            world.submit_one(client, job("a"));
            let order = world.order(&worker);
            world.failed_with(&worker, &order, false, wish);
            world.jump_wall(jump);
            world.advance(secs(least));
            assert!(world.orders(&worker).is_empty(), "jump {jump}, wish {wish:?}");
            world.advance(secs(most - least));
            assert_eq!(world.order(&worker).attempt, 2, "jump {jump}, wish {wish:?}");
        }
    }
}

#[test]
fn a_delay_goes_on_during_a_suspend() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    let delayed = world.submit_one(client, after(60));
    world.suspend(secs(3_600));
    world.advance(secs(1));
    assert_eq!(world.order(&worker).id, delayed);
}

#[test]
fn a_delay_goes_on_after_a_restart_by_the_calendar() {
    let mut world = World::new();
    let client = world.client();
    let delayed = world.submit_one(client, after(600));
    world.advance(secs(300));
    world.crash_and_restart();
    let worker = world.worker(&[("a", 1)]);
    world.advance(secs(290));
    assert!(world.orders(&worker).is_empty());
    world.advance(secs(20));
    assert_eq!(world.order(&worker).id, delayed);
}

#[test]
fn jobs_with_delays_alone_have_nobody_look_at_the_calendar() {
    let mut world = World::new();
    let client = world.client();
    let due = world.now.mono.plus(secs(3_600));
    world.submit_one(client, after(3_600));
    world.disconnect(client);
    // The time in which the client's session would have had to be heard.
    world.advance(secs(40));
    assert_eq!(world.machine.poll_timeout(), Some(due));
}

#[test]
fn a_delayed_job_is_cancelled_wherever_the_calendar_is_set() {
    for jump in [24 * HOUR, -24 * HOUR] {
        let mut world = World::new();
        let client = world.client();
        let delayed = world.submit_one(client, after(60));
        world.jump_wall(jump);
        assert_eq!(world.cancel(client, &[delayed]), [CancelOutcome::Cancelled]);
        assert_eq!(world.stats_now().total.scheduled, 0);
        world.advance(secs(120));
        assert_eq!(world.status(delayed), Status::Cancelled);
    }
}

#[test]
fn a_timed_job_does_not_run_early_where_the_calendar_jumped_ahead_and_back_across_a_restart() {
    let mut world = World::new();
    let client = world.client();
    let timed = world.submit_one(client, at(&world, HOUR));
    world.jump_wall(24 * HOUR);
    world.submit_one(client, job("b"));
    world.jump_wall(-24 * HOUR);
    world.crash_and_restart();
    let worker = world.worker(&[("a", 1)]);
    assert!(world.orders(&worker).is_empty());
    world.advance(secs(HOUR as u64 - 20));
    assert!(world.orders(&worker).is_empty());
    world.advance(secs(30));
    assert_eq!(world.order(&worker).id, timed);
}

#[test]
fn a_retry_does_not_run_early_where_the_calendar_jumped_ahead_and_back_across_a_restart() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    world.submit_one(client, job("a"));
    let order = world.order(&worker);
    world.failed_with(&worker, &order, false, Some(60_000_000));
    world.jump_wall(24 * HOUR);
    world.submit_one(client, job("b"));
    world.jump_wall(-24 * HOUR);
    world.crash_and_restart();
    let worker = world.resume(&worker, vec![]);
    world.advance(secs(50));
    assert!(world.orders(&worker).is_empty());
    world.advance(secs(20));
    assert_eq!(world.order(&worker).attempt, 2);
}

#[test]
fn a_job_without_a_time_of_its_own_is_not_delayed_where_the_calendar_went_back() {
    let mut world = World::new();
    let client = world.client();
    world.jump_wall(24 * HOUR);
    let early = world.submit_one(client, job("a"));
    world.jump_wall(-24 * HOUR);
    let late = world.submit_one(client, job("a"));
    world.crash_and_restart();
    assert_eq!(world.drain_in_turn(&[("a", 2)]), [early, late]);
}

#[test]
fn a_job_that_was_due_stays_so_when_the_calendar_goes_back() {
    let mut world = World::new();
    let client = world.client();
    let timed = world.submit_one(client, at(&world, 10));
    world.advance(secs(11));
    world.jump_wall(-HOUR);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    assert_eq!(order.id, timed);
    world.released(&worker, &order);
    assert_eq!(
        world.order(&worker).id,
        timed,
        "nor is it delayed when it is given back"
    );
}

#[test]
fn a_run_goes_on_after_a_restart_where_by_the_calendar_its_jobs_time_has_not_come_any_more() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    let id = world.submit_one(client, at(&world, 60));
    world.advance(secs(60));
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.jump_wall(-HOUR);
    // The run is not recorded yet.
    world.crash_and_restart();
    let other = world.worker(&[("a", 1)]);
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    assert!(world.settled(&worker).is_empty(), "it goes on");
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert_eq!(world.status(id), Status::Completed);
    world.advance(secs(2 * HOUR as u64));
    assert!(world.orders(&other).is_empty());
}

#[test]
fn a_job_whose_time_comes_again_is_held_back_for_the_worker_that_may_be_running_it() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    world.submit_one(client, at(&world, 60));
    world.advance(secs(60));
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.jump_wall(-5);
    world.crash_and_restart();
    let other = world.worker(&[("a", 1)]);
    world.advance(secs(10));
    assert!(world.orders(&other).is_empty(), "its worker may come back");
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_job_whose_time_comes_again_is_given_to_another_when_its_worker_stays_away() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    let id = world.submit_one(client, at(&world, 60));
    world.advance(secs(60));
    assert_eq!(world.order(&worker).id, id);
    world.jump_wall(-5);
    world.crash_and_restart();
    let other = world.worker(&[("a", 1)]);
    world.advance(secs(29));
    assert!(world.orders(&other).is_empty());
    world.advance(secs(2));
    assert_eq!(world.order(&other).id, id);
}

#[test]
fn a_lease_does_not_go_by_the_calendar() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    world.submit_one(client, job("a"));
    let order = world.order(&worker);
    world.jump_wall(24 * HOUR);
    world.advance(secs(20));
    world.jump_wall(-48 * HOUR);
    world.advance(secs(20));
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    let silent = world.worker(&[("b", 1)]);
    world.submit_one(client, job("b"));
    world.silence(silent.peer);
    world.jump_wall(-24 * HOUR);
    world.advance(secs(31));
    assert!(
        !world.is_open(silent.peer),
        "nor is a silent worker's lease longer"
    );
}

#[test]
fn a_worker_that_is_heard_after_a_suspend_keeps_its_runs() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.suspend(secs(3_600));
    world.advance(secs(60));
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_worker_that_is_not_heard_after_a_suspend_is_lost_soon() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    let id = world.submit_one(client, job("a"));
    world.silence(worker.peer);
    world.suspend(secs(3_600));
    world.advance(secs(14));
    assert!(
        world.is_open(worker.peer),
        "it has the time for a beat and a new connection"
    );
    world.advance(secs(2));
    assert!(!world.is_open(worker.peer));
    assert_eq!(world.status(id), Status::Queued);
}

#[test]
fn a_server_that_pauses_again_and_again_notices_that_a_worker_is_gone() {
    let mut world = World::new();
    let (worker, _) = world.at_work();
    world.silence(worker.peer);
    for _ in 0..10 {
        world.suspend(secs(5));
        world.advance(secs(1));
    }
    assert!(!world.is_open(worker.peer));
}

#[test]
fn a_worker_that_had_lost_its_connection_can_come_back_after_a_suspend() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.advance(secs(1));
    world.disconnect(worker.peer);
    world.suspend(secs(3_600));
    world.advance(secs(3));
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_run_that_was_over_its_time_during_a_suspend_can_still_be_reported() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    let limited = Submission {
        timeout: Some(60_000_000),
        ..job("a")
    };
    let id = world.submit_one(client, limited);
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.suspend(secs(3_600));
    world.advance(secs(5));
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert_eq!(world.status(id), Status::Completed);
}

#[test]
fn a_timed_job_runs_after_a_suspend_over_its_time() {
    let mut world = World::new();
    let client = world.client();
    let timed = world.submit_one(client, at(&world, 60));
    let worker = world.worker(&[("a", 1)]);
    world.suspend(secs(3_600));
    world.advance(secs(1));
    assert_eq!(world.order(&worker).id, timed);
}
