//! Who is next.

use jobq_proto::Status;
use jobq_proto::message::{RunState, Submission};

use super::world::{World, held, ids, job, millis, secs, urgent};

fn later(name: &str, seconds: u64) -> Submission {
    Submission {
        delay: Some(seconds * 1_000_000),
        ..job(name)
    }
}

#[test]
fn urgent_jobs_come_first_and_equals_come_in_order_of_arrival() {
    let mut world = World::new();
    let client = world.client();
    let jobs = vec![
        urgent("a", "Low"),
        urgent("a", "Normal"),
        urgent("a", "High"),
        urgent("a", "Low"),
        urgent("a", "Normal"),
        urgent("a", "High"),
    ];
    let submitted = world.submit(client, jobs);
    let worker = world.worker(&[("a", 6)]);
    let expected = [2, 5, 1, 4, 0, 3].map(|i| submitted[i]);
    assert_eq!(ids(&world.orders(&worker)), expected);
}

#[test]
fn between_the_names_of_a_worker_priority_counts_and_then_the_time_of_arrival() {
    let mut world = World::new();
    let client = world.client();
    let mut submitted = Vec::new();
    for job in [
        job("a"),
        urgent("b", "Low"),
        job("b"),
        urgent("a", "High"),
        job("a"),
    ] {
        submitted.push(world.submit_one(client, job));
        world.advance(millis(5));
    }
    let worker = world.worker(&[("b", 9), ("a", 9)]);
    let expected = [3, 0, 2, 4, 1].map(|i| submitted[i]);
    assert_eq!(ids(&world.orders(&worker)), expected);
}

#[test]
fn a_scheduled_job_waits_for_its_time_and_then_stands_by_that_time() {
    let mut world = World::new();
    let client = world.client();
    let in_ten = world.submit_one(client, later("a", 10));
    world.advance(secs(5));
    let now = world.submit_one(client, job("a"));
    assert_eq!(world.status(in_ten), Status::Scheduled);
    world.advance(secs(7));
    let last = world.submit_one(client, job("a"));
    assert_eq!(world.status(in_ten), Status::Queued);
    assert_eq!(world.drain_in_turn(&[("a", 9)]), [now, in_ten, last]);
}

#[test]
fn no_job_is_ordered_before_its_time_and_it_is_ordered_when_that_comes() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 9)]);
    let at = world.now.wall.0 + 100_000_000;
    let run_at = Submission {
        run_at: Some(at),
        ..job("a")
    };
    let id = world.submit_one(client, run_at);
    world.advance(secs(100) - millis(1));
    assert!(world.orders(&worker).is_empty());
    world.advance(millis(1));
    assert_eq!(world.order(&worker).id, id);
}

#[test]
fn a_time_that_has_passed_is_now() {
    let mut world = World::new();
    let client = world.client();
    let first = world.submit_one(client, job("a"));
    let past = Submission {
        run_at: Some(1),
        ..job("a")
    };
    let past = world.submit_one(client, past);
    assert_eq!(world.drain_in_turn(&[("a", 9)]), [first, past]);
}

#[test]
fn a_scheduled_job_survives_a_restart_and_still_waits_for_its_time() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, later("a", 100));
    world.crash_and_restart();
    let worker = world.worker(&[("a", 9)]);
    world.advance(secs(99));
    assert!(world.orders(&worker).is_empty());
    world.advance(secs(1));
    assert_eq!(world.order(&worker).id, id);
}

#[test]
fn released_and_lost_jobs_keep_their_place() {
    let mut world = World::new();
    let client = world.client();
    let submitted = world.submit(client, vec![job("a"), job("a")]);
    let worker = world.worker(&[("a", 2)]);
    let orders = world.orders(&worker);
    world.advance(secs(1));
    let last = world.submit_one(client, job("a"));
    world.released(&worker, &orders[1]);
    world.disconnect(worker.peer);
    world.advance(secs(6));
    assert_eq!(
        world.drain_in_turn(&[("a", 9)]),
        [submitted[0], submitted[1], last]
    );
}

#[test]
fn a_job_that_failed_gets_a_new_time_and_loses_its_place() {
    let mut world = World::new();
    let client = world.client();
    let first = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    let second = world.submit_one(client, job("a"));
    world.failed_with(&worker, &order, false, Some(3_000_000));
    let order = world.order(&worker);
    assert_eq!(order.id, second);
    world.advance(secs(2));
    let third = world.submit_one(client, job("a"));
    world.advance(secs(2));
    world.completed(&worker, &order);
    assert_eq!(world.order(&worker).id, third);
    assert_eq!(world.status(first), Status::Queued);
}

#[test]
fn the_calendar_going_back_does_not_reorder_arrivals() {
    let mut world = World::new();
    let client = world.client();
    let first = world.submit_one(client, job("a"));
    world.jump_wall(-3600);
    let second = world.submit_one(client, job("a"));
    world.jump_wall(7200);
    let third = world.submit_one(client, job("a"));
    world.jump_wall(-7200);
    world.crash_and_restart();
    let client = world.client();
    let fourth = world.submit_one(client, job("a"));
    assert_eq!(world.drain_in_turn(&[("a", 9)]), [first, second, third, fourth]);
}

#[test]
fn after_the_calendar_was_wrong_for_a_while_delays_and_retries_are_as_long_as_ever() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 9)]);
    world.jump_wall(365 * 24 * 3600);
    let id = world.submit_one(client, job("a"));
    let order = world.order(&worker);
    world.jump_wall(-365 * 24 * 3600);
    world.failed_with(&worker, &order, false, Some(20_000_000));
    let delayed = world.submit_one(client, later("a", 30));
    let at = world.now.wall.0 + 40_000_000;
    let timed = world.submit_one(
        client,
        Submission {
            run_at: Some(at),
            ..job("a")
        },
    );
    let mut ordered = Vec::new();
    for _ in 0..5 {
        world.advance(secs(9));
        ordered.push(ids(&world.orders(&worker)));
    }
    assert_eq!(ordered, [vec![], vec![], vec![id], vec![delayed], vec![timed]]);
}

#[test]
fn a_scheduled_job_is_found_due_when_the_calendar_is_set_forward() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 9)]);
    let at = world.now.wall.0 + 86_400_000_000;
    world.submit_one(
        client,
        Submission {
            run_at: Some(at),
            ..job("a")
        },
    );
    world.jump_wall(86_400);
    world.advance(secs(61));
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn the_order_of_arrival_survives_a_restart_and_what_is_held_back_merges_into_it() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    let first = world.submit_one(client, job("a"));
    let order = world.order(&worker);
    assert_eq!(order.id, first);
    let waiting = world.submit(client, vec![job("a"), urgent("a", "High"), job("a")]);
    world.advance(secs(1));
    world.crash_and_restart();
    let client = world.client();
    let new = world.submit(client, vec![job("a"), urgent("a", "High")]);
    assert_eq!(
        world.drain_in_turn(&[("a", 9)]),
        [new[1], new[0]],
        "the others may be running"
    );
    let new = world.submit(client, vec![job("a"), urgent("a", "High")]);
    world.resume(&worker, vec![held(&order, RunState::Running)]);
    let expected = [waiting[1], new[1], waiting[0], waiting[2], new[0]];
    assert_eq!(world.drain_in_turn(&[("a", 9)]), expected);
}

#[test]
fn jobs_that_nobody_takes_hold_up_no_others_however_many_they_are_and_keep_their_order() {
    let mut world = World::new();
    let client = world.client();
    let mut untaken = Vec::new();
    for _ in 0..5 {
        untaken.extend(world.submit(client, vec![job("a"); 1_000]));
    }
    let other = world.submit_one(client, job("b"));
    let worker = world.worker(&[("b", 1)]);
    // No more than some of those before it are set aside at a time.
    assert_eq!(world.orders(&worker), []);
    world.advance(millis(1));
    assert_eq!(ids(&world.orders(&worker)), [other]);
    untaken.push(world.submit_one(client, job("a")));
    let worker = world.worker(&[("a", 6_000)]);
    assert!(ids(&world.orders(&worker)) == untaken, "they come in order");
}
