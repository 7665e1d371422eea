//! Who has nothing to lose may be silent for longer, and whoever gets a run has to be heard of from then on.

use jobq_proto::message::{Beat, RunState, SettleOutcome};
use jobq_proto::{ErrorCode, ServerMessage, Status};
use std::time::Duration;

use super::world::{World, held, job, secs};

#[test]
fn peers_are_told_how_often_to_speak_when_they_have_nothing_to_do() {
    let mut world = World::new();
    let welcome = world.worker(&[("a", 1)]).welcome;
    assert_eq!((welcome.beat, welcome.idle_beat), (10_000_000, Some(120_000_000)));
    let mut world = World::configured(|config| config.idle_beat = config.beat);
    assert_eq!(world.worker(&[("a", 1)]).welcome.idle_beat, None);
}

#[test]
fn a_worker_without_runs_and_a_client_are_closed_when_they_were_silent_for_both_times_together() {
    let mut world = World::new();
    let peers = [world.worker(&[("a", 1)]).peer, world.client()];
    peers.iter().for_each(|peer| world.silence(*peer));
    world.advance(secs(149));
    assert!(peers.iter().all(|peer| world.is_open(*peer)));
    world.advance(secs(2));
    for peer in peers {
        assert_eq!(world.closed(peer), Some(ErrorCode::SessionSilent));
    }
}

#[test]
fn a_server_that_wants_to_hear_idle_peers_as_often_notices_them_as_soon() {
    let mut world = World::configured(|config| config.idle_beat = Duration::ZERO);
    let worker = world.worker(&[("a", 1)]);
    world.silence(worker.peer);
    world.advance(secs(29));
    assert!(world.is_open(worker.peer));
    world.advance(secs(2));
    assert!(!world.is_open(worker.peer));
}

#[test]
fn a_worker_that_was_silent_without_runs_has_the_time_to_live_from_its_first_order() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 2)]);
    world.silence(worker.peer);
    world.advance(secs(88));
    let first = world.submit_one(client, job("a"));
    world.advance(secs(20));
    let second = world.submit_one(client, job("a"));
    assert_eq!(world.orders(&worker).len(), 2);
    world.advance(secs(9));
    assert_eq!(world.status(first), Status::Processing);
    world.advance(secs(2));
    assert_eq!(world.closed(worker.peer), Some(ErrorCode::SessionSilent));
    for job in [first, second] {
        assert_eq!(
            world.status(job),
            Status::Queued,
            "the second order changes nothing"
        );
    }
}

#[test]
fn a_worker_that_is_heard_of_after_its_first_order_goes_on() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    world.silence(worker.peer);
    world.advance(secs(115));
    world.submit_one(client, job("a"));
    let order = world.order(&worker);
    world.advance(secs(28));
    world.send(worker.peer, ServerMessage::Beat(Beat { seq: 1 }));
    world.advance(secs(28));
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_worker_whose_last_run_has_ended_may_be_silent_for_longer_again() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.completed(&worker, &order);
    world.silence(worker.peer);
    world.advance(secs(149));
    assert!(world.is_open(worker.peer));
    world.advance(secs(2));
    assert!(!world.is_open(worker.peer));
}

#[test]
fn a_worker_with_one_run_after_the_other_is_noticed_in_time_when_it_falls_silent_with_the_last() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    for _ in 0..50 {
        world.submit_one(client, job("a"));
        let order = world.order(&worker);
        world.completed(&worker, &order);
        world.advance(secs(3));
    }
    let last = world.submit_one(client, job("a"));
    world.silence(worker.peer);
    world.advance(secs(29));
    assert_eq!(world.status(last), Status::Processing);
    world.advance(secs(2));
    assert_eq!(world.status(last), Status::Queued);
}

#[test]
fn a_run_that_the_worker_was_not_told_of_yet_is_none_of_its() {
    let mut world = World::configured(|config| config.payload_budget = 0);
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    world.silence(worker.peer);
    world.hold_reads();
    let id = world.submit_one(client, job("a"));
    world.advance(secs(110));
    assert!(
        world.is_open(worker.peer),
        "it has said nothing since it had nothing"
    );
    world.release_reads();
    assert_eq!(world.order(&worker).id, id);
    world.advance(secs(29));
    assert!(world.is_open(worker.peer));
    world.advance(secs(2));
    assert!(!world.is_open(worker.peer));
    assert_eq!(world.status(id), Status::Queued);
}

#[test]
fn a_worker_that_has_come_back_and_not_said_what_it_has_is_one_that_may_have_something() {
    let mut world = World::new();
    let worker = world.worker(&[("a", 1)]);
    let worker = world.resume_silently(&worker);
    assert!(worker.welcome.resumed);
    world.silence(worker.peer);
    world.advance(secs(29));
    assert!(world.is_open(worker.peer));
    world.advance(secs(2));
    assert!(!world.is_open(worker.peer));
}

#[test]
fn a_run_that_goes_on_after_a_start_has_its_worker_heard_of_as_any_other() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    // It is not recorded yet.
    world.crash_and_restart();
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.silence(worker.peer);
    world.advance(secs(29));
    assert_eq!(world.status(order.id), Status::Processing);
    world.advance(secs(2));
    assert_eq!(world.status(order.id), Status::Queued);
}

#[test]
fn a_session_that_comes_back_after_a_start_lives_by_the_time_to_live_that_counts_now() {
    let mut world = World::configured(|config| config.ttl = secs(3_600));
    let (worker, order) = world.at_work();
    world.config.ttl = secs(30);
    world.crash_and_restart();
    world.advance(secs(1_000));
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    assert!(worker.welcome.resumed, "until then the old one counts");
    world.silence(worker.peer);
    world.advance(secs(29));
    assert_eq!(world.status(order.id), Status::Processing);
    world.advance(secs(2));
    assert_eq!(world.status(order.id), Status::Queued);
}

#[test]
fn sessions_that_are_over_leave_no_timers_behind() {
    let mut world = World::new();
    world.advance(secs(1));
    let due = world.machine.poll_timeout();
    for _ in 0..3 {
        let client = world.client();
        world.disconnect(client);
    }
    assert_eq!(world.machine.poll_timeout(), due);
}

#[test]
fn an_idle_worker_that_a_pause_of_the_server_kept_silent_has_the_time_for_a_beat() {
    let mut world = World::new();
    let worker = world.worker(&[("a", 1)]);
    world.silence(worker.peer);
    world.advance(secs(50));
    world.suspend(secs(3_600));
    world.advance(secs(14));
    assert!(world.is_open(worker.peer));
    world.advance(secs(2));
    assert!(!world.is_open(worker.peer));
}
