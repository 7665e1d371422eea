//! What was under way before a crash goes on after it, and nothing runs a second time while workers come back.

use jobq_proto::message::{RunState, SettleOutcome, Submission};
use jobq_proto::{Fence, Status};

use super::world::{World, held, ids, job, millis, secs, work};

#[test]
fn a_recorded_run_goes_on_under_its_fence() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.advance(millis(250));
    world.crash_and_restart();
    assert_eq!(world.status(id), Status::Processing);
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    assert!(worker.welcome.resumed);
    assert!(world.messages(worker.peer).is_empty());
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_run_that_was_not_recorded_is_held_back_and_goes_on_under_its_fence() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.crash_and_restart();
    assert_eq!(world.status(id), Status::Queued);
    let other = world.worker(&[("a", 9)]);
    assert!(world.orders(&other).is_empty(), "it may be running");
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    assert_eq!(world.status(id), Status::Processing);
    assert!(world.orders(&other).is_empty());
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_job_is_held_back_for_a_session_until_the_end_of_that_is_on_disk() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.crash_and_restart();
    let other = world.worker(&[("a", 9)]);
    world.hold_disk();
    world.advance(secs(40));
    assert!(
        world.orders(&other).is_empty(),
        "a crash now would bring the session back, and with it the run"
    );
    world.release_disk();
    let again = world.order(&other);
    assert_eq!(again.id, id);
    assert!(again.fence > order.fence);
    world.crash_and_restart();
    let worker = world.resume(&worker, vec![held(&order, RunState::Ended)]);
    assert!(!worker.welcome.resumed);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
    let other = world.resume(&other, vec![held(&again, RunState::Running)]);
    world.completed(&other, &again);
    assert_eq!(world.settled(&other), [SettleOutcome::Applied]);
}

#[test]
fn a_report_right_behind_holding_counts_for_a_run_that_was_not_recorded() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.crash_and_restart();
    // The store takes a while to say what it knows of the run.
    world.hold_reads();
    let worker = world.resume(&worker, vec![held(&order, RunState::Ended)]);
    world.completed(&worker, &order);
    world.completed(&worker, &order);
    world.release_reads();
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert_eq!(world.status(id), Status::Completed);
    let client = world.client();
    world.submit_one(client, job("a"));
    assert_eq!(world.orders(&worker).len(), 1, "the run is off its hands");
}

#[test]
fn a_start_right_behind_holding_counts_for_a_run_that_was_not_recorded() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.crash_and_restart();
    world.hold_reads();
    let worker = world.resume(&worker, vec![held(&order, RunState::Waiting)]);
    world.started(&worker, &order);
    world.release_reads();
    world.disconnect(worker.peer);
    world.advance(secs(6));
    assert_eq!(world.view(id).charges, 1);
}

#[test]
fn new_jobs_and_other_names_flow_at_once_while_a_session_is_awaited() {
    let mut world = World::new();
    let client = world.client();
    let held_back = world.submit_one(client, job("a"));
    let other_name = world.submit_one(client, job("b"));
    world.worker(&[("a", 0)]);
    world.crash_and_restart();
    let client = world.client();
    let new = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 9), ("b", 9)]);
    let mut flowing = ids(&world.orders(&worker));
    flowing.sort_unstable();
    assert_eq!(flowing, [other_name, new]);
    world.advance(secs(31));
    assert_eq!(ids(&world.orders(&worker)), [held_back]);
}

#[test]
fn jobs_flow_when_the_last_awaited_session_has_said_what_it_holds() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let one = world.worker(&[("a", 0)]);
    let two = world.worker(&[("a", 0)]);
    world.crash_and_restart();
    let free = world.worker(&[("a", 9)]);
    world.resume(&one, vec![]);
    assert!(world.orders(&free).is_empty());
    world.resume_silently(&two);
    assert!(world.orders(&free).is_empty(), "it has not said what it holds");
    world.resume(&two, vec![]);
    assert_eq!(world.order(&free).id, id);
}

#[test]
fn a_session_that_stays_away_for_its_time_to_live_loses_its_runs_and_started_ones_are_charged() {
    let mut world = World::new();
    let client = world.client();
    let submitted = world.submit(client, vec![job("a"), job("a"), job("a")]);
    let worker = world.worker(&[("a", 3)]);
    let orders = world.orders(&worker);
    world.started(&worker, &orders[0]);
    world.advance(millis(250));
    world.crash_and_restart();
    world.advance(secs(29));
    assert_eq!(world.status(submitted[0]), Status::Processing);
    world.advance(secs(2));
    for (id, charges) in submitted.iter().zip([1, 0, 0]) {
        let view = world.view(*id);
        assert_eq!((view.status, view.charges), (Status::Queued, charges), "job {id}");
    }
    let worker = world.resume(&worker, vec![held(&orders[0], RunState::Running)]);
    assert!(!worker.welcome.resumed);
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
}

#[test]
fn a_fence_at_or_below_the_floor_is_never_adopted() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let first = world.order(&worker);
    world.released(&worker, &first);
    let second = world.order(&worker);
    world.crash_and_restart();
    let named = vec![held(&first, RunState::Running), held(&second, RunState::Running)];
    let worker = world.resume(&worker, named);
    let settled = world.settled_runs(&worker);
    assert_eq!(settled.len(), 1);
    assert_eq!(
        (settled[0].fence, settled[0].outcome),
        (first.fence, SettleOutcome::Stale)
    );
    assert_eq!(world.view(id).fence, Some(second.fence));
}

#[test]
fn a_run_that_ended_before_the_crash_does_not_run_again() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.completed(&worker, &order);
    world.crash_and_restart();
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
    world.advance(secs(40));
    assert!(world.orders(&worker).is_empty());
    assert_eq!(world.status(id), Status::Completed);
}

#[test]
fn a_run_is_adopted_only_by_a_session_that_was_there_before_the_restart() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.crash_and_restart();
    let stranger = world.new_worker(worker.work.clone());
    world.hold(&stranger, vec![held(&order, RunState::Running)]);
    assert_eq!(world.settled(&stranger), [SettleOutcome::Stale]);
    assert_eq!(world.status(id), Status::Queued);
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_session_that_came_back_for_other_names_is_still_awaited_for_the_runs_of_its_earlier_ones() {
    let mut world = World::new();
    let client = world.client();
    world.submit_one(client, job("a"));
    let mut worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    worker.work = work(&[("b", 1)]);
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.crash_and_restart();
    let other = world.worker(&[("a", 1)]);
    assert!(world.orders(&other).is_empty());
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_run_that_holding_names_twice_is_adopted_once_and_goes_on() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    world.crash_and_restart();
    let named = vec![held(&order, RunState::Running); 2];
    let worker = world.resume(&worker, named);
    assert!(world.settled(&worker).is_empty());
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn of_two_runs_of_a_job_that_nobody_recorded_the_newer_goes_on() {
    let mut world = World::new();
    let (worker, first) = world.with_order();
    let id = first.id;
    world.crash_and_restart();
    world.advance(secs(40));
    // The same worker in another session, which has the end of its first run still to report.
    let worker = world.new_worker(worker.work.clone());
    world.hold(&worker, Vec::new());
    let second = world.order(&worker);
    world.crash_and_restart();
    let named = vec![held(&first, RunState::Ended), held(&second, RunState::Ended)];
    let worker = world.resume(&worker, named);
    world.released(&worker, &first);
    world.completed(&worker, &second);
    let settled: Vec<_> = world
        .settled_runs(&worker)
        .into_iter()
        .map(|run| (run.fence, run.outcome))
        .collect();
    assert!(
        settled.contains(&(first.fence, SettleOutcome::Stale)),
        "{settled:?}"
    );
    assert!(
        settled.contains(&(second.fence, SettleOutcome::Applied)),
        "{settled:?}"
    );
    assert_eq!(world.status(id), Status::Completed);
}

#[test]
fn a_fence_of_no_epoch_yet_is_stale() {
    let mut world = World::new();
    let client = world.client();
    world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let mut order = world.order(&worker);
    world.crash_and_restart();
    order.fence = Fence { epoch: 50, seq: 1 };
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
}

#[test]
fn an_adopted_run_survives_the_next_restart_too() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let mut worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    for wait in [0, 250, 0, 250] {
        world.crash_and_restart();
        worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
        assert!(worker.welcome.resumed);
        world.advance(millis(wait));
    }
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert_eq!(world.status(id), Status::Completed);
}

#[test]
fn a_restart_while_the_store_is_asked_about_a_run_loses_nothing() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    world.crash_and_restart();
    world.hold_reads();
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.release_reads();
    assert!(world.settled(&worker).is_empty());
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_run_is_recorded_within_two_tenths_of_a_second() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 20)]);
    for _ in 0..20 {
        world.submit_one(client, job("a"));
        world.advance(millis(13));
    }
    world.advance(millis(200));
    world.crash_and_restart();
    assert_eq!(world.stats_now().total.processing, 20);
    assert_eq!(worker.work.jobs, 20);
}

#[test]
fn a_run_that_ends_soon_is_never_recorded_as_begun() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.advance(millis(50));
    world.completed(&worker, &order);
    world.advance(secs(1));
    assert!(!world.trace.iter().any(|line| line.contains("Leased(")));
}

#[test]
fn a_start_is_recorded_even_if_the_run_was_recorded_before_it() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.advance(secs(1));
    world.started(&worker, &order);
    world.advance(millis(200));
    world.crash_and_restart();
    world.advance(secs(31));
    assert_eq!(world.view(id).charges, 1);
}

#[test]
fn max_active_counts_the_runs_from_before_the_restart() {
    let mut world = World::configured(|config| config.max_active = Some(2));
    let client = world.client();
    world.submit(client, vec![job("a"), job("a"), job("b"), job("b")]);
    let worker = world.worker(&[("a", 2)]);
    let orders = world.orders(&worker);
    world.advance(secs(1));
    world.crash_and_restart();
    let other = world.worker(&[("b", 2)]);
    assert!(world.orders(&other).is_empty());
    let named = orders
        .iter()
        .map(|order| held(order, RunState::Running))
        .collect();
    let worker = world.resume(&worker, named);
    world.completed(&worker, &orders[0]);
    assert_eq!(world.orders(&other).len(), 1);
}

#[test]
fn a_time_out_goes_on_after_a_restart() {
    let mut world = World::new();
    let client = world.client();
    let limited = Submission {
        timeout: Some(5_000_000),
        ..job("a")
    };
    let id = world.submit_one(client, limited);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.advance(secs(1));
    world.crash_and_restart();
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.advance(secs(16));
    assert_eq!(world.view(id).attempts, 1);
    assert_eq!(world.cancels(&worker).len(), 1);
}

#[test]
fn each_life_of_the_server_has_a_greater_epoch_and_other_session_numbers() {
    let mut world = World::new();
    let mut last = (0, 0);
    for _ in 0..3 {
        let worker = world.worker(&[("a", 1)]);
        let next = (worker.welcome.epoch, worker.welcome.session);
        assert!(next.0 > last.0 && next.1 > last.1);
        last = next;
        world.crash_and_restart();
    }
}

#[test]
fn a_start_that_takes_long_costs_no_session_its_time() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    let id = order.id;
    world.advance(millis(250));
    world.crash_and_restart_slowly(secs(60));
    world.advance(secs(29));
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert_eq!(world.status(id), Status::Completed);
}
