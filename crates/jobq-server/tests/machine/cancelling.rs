//! Cancelling jobs, wherever they are.

use jobq_proto::message::{CancelOutcome, RunState, SettleOutcome, Submission};
use jobq_proto::{ErrorCode, Status};

use super::world::{World, held, ids, job, run_of, secs};

#[test]
fn a_waiting_job_ends_at_once_and_is_never_ordered() {
    let mut world = World::new();
    let client = world.client();
    let submitted = world.submit(client, vec![job("a"), job("a"), job("a")]);
    assert_eq!(world.cancel(client, &[submitted[1]]), [CancelOutcome::Cancelled]);
    let view = world.view(submitted[1]);
    assert_eq!((view.status, view.attempts), (Status::Cancelled, 0));
    let worker = world.worker(&[("a", 9)]);
    assert_eq!(ids(&world.orders(&worker)), [submitted[0], submitted[2]]);
}

#[test]
fn a_cancel_is_answered_only_after_it_is_durable() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    world.hold_disk();
    let request = world.cancel_later(client, &[id]);
    assert_eq!(world.cancelled(client, request), None);
    world.release_disk();
    assert_eq!(
        world.cancelled(client, request),
        Some(vec![CancelOutcome::Cancelled])
    );
}

#[test]
fn a_scheduled_job_is_cancelled_and_its_time_passes_without_it() {
    let mut world = World::new();
    let client = world.client();
    let later = Submission {
        delay: Some(5_000_000),
        ..job("a")
    };
    let id = world.submit_one(client, later);
    assert_eq!(world.cancel(client, &[id]), [CancelOutcome::Cancelled]);
    let worker = world.worker(&[("a", 1)]);
    world.advance(secs(10));
    assert!(world.orders(&worker).is_empty());
    assert_eq!(world.stats(client).total.scheduled, 0);
}

#[test]
fn a_job_that_is_held_back_after_a_restart_is_cancelled_and_its_run_is_stale() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    world.crash_and_restart();
    let client = world.client();
    assert_eq!(world.cancel(client, &[order.id]), [CancelOutcome::Cancelled]);
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
    assert_eq!(world.status(order.id), Status::Cancelled);
    assert_eq!(world.stats(client).total.queued, 0);
}

#[test]
fn a_leased_job_is_marked_and_its_worker_told_after_that_is_durable() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let client = world.client();
    world.hold_disk();
    let request = world.cancel_later(client, &[order.id]);
    assert!(world.cancels(&worker).is_empty());
    world.release_disk();
    assert_eq!(
        world.cancelled(client, request),
        Some(vec![CancelOutcome::Marked])
    );
    assert_eq!(world.cancels(&worker), [run_of(&order)]);
    let view = world.view(order.id);
    assert_eq!((view.status, view.cancelling), (Status::Processing, true));
}

#[test]
fn a_marked_job_that_completes_is_completed() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let client = world.client();
    world.cancel(client, &[order.id]);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert_eq!(world.status(order.id), Status::Completed);
}

#[test]
fn a_marked_job_that_fails_or_is_released_or_lost_is_cancelled() {
    for how in 0..4 {
        let mut world = World::new();
        let (worker, order) = world.with_order();
        let client = world.client();
        world.cancel(client, &[order.id]);
        match how {
            0 => world.failed(&worker, &order),
            1 => world.released(&worker, &order),
            2 => {
                world.disconnect(worker.peer);
                world.advance(secs(6));
            }
            _ => {
                world.resume(&worker, vec![]);
            }
        }
        assert_eq!(world.status(order.id), Status::Cancelled, "case {how}");
        assert!(world.view(order.id).reason.is_some());
    }
}

#[test]
fn a_mark_survives_a_restart_and_the_worker_is_told_when_it_comes_back() {
    for recorded in [true, false] {
        let mut world = World::new();
        let (worker, order) = world.with_order();
        let client = world.client();
        if recorded {
            world.advance(secs(1));
        }
        world.cancel(client, &[order.id]);
        world.crash_and_restart();
        let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
        assert_eq!(world.cancels(&worker), [run_of(&order)], "recorded: {recorded}");
        world.released(&worker, &order);
        assert_eq!(world.status(order.id), Status::Cancelled);
    }
}

#[test]
fn a_marked_run_that_ended_well_before_a_restart_is_completed() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let client = world.client();
    world.cancel(client, &[order.id]);
    world.crash_and_restart();
    let worker = world.resume(&worker, vec![held(&order, RunState::Ended)]);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert_eq!(world.status(order.id), Status::Completed);
}

#[test]
fn cancelling_an_ended_or_an_unknown_job_says_so() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    world.completed(&worker, &order);
    let client = world.client();
    assert_eq!(
        world.cancel(client, &[order.id, 99]),
        [CancelOutcome::AlreadyEnded, CancelOutcome::NotFound]
    );
    assert_eq!(world.status(order.id), Status::Completed);
}

#[test]
fn a_job_named_twice_in_a_cancel_is_cancelled_once() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    assert_eq!(
        world.cancel(client, &[id, id]),
        [CancelOutcome::Cancelled, CancelOutcome::AlreadyEnded]
    );
}

#[test]
fn a_second_cancel_of_a_leased_job_is_marked_too_and_the_worker_is_told_once() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let client = world.client();
    assert_eq!(world.cancel(client, &[order.id]), [CancelOutcome::Marked]);
    assert_eq!(world.cancel(client, &[order.id]), [CancelOutcome::Marked]);
    assert_eq!(world.cancels(&worker).len(), 1);
}

#[test]
fn a_job_between_two_places_is_found_where_it_comes_to_rest() {
    // Released and failed jobs are nowhere until the end of their run is durable; completed ones never come back.
    for (how, expected) in [
        (0, CancelOutcome::Cancelled),
        (1, CancelOutcome::Cancelled),
        (2, CancelOutcome::AlreadyEnded),
    ] {
        let mut world = World::new();
        let (worker, order) = world.with_order();
        let client = world.client();
        world.send(
            worker.peer,
            jobq_proto::ServerMessage::Credit(jobq_proto::message::Credit {
                names: vec![],
                jobs: Some(0),
                bytes: None,
            }),
        );
        world.hold_disk();
        match how {
            0 => world.released(&worker, &order),
            1 => world.failed(&worker, &order),
            _ => world.completed(&worker, &order),
        }
        let request = world.cancel_later(client, &[order.id]);
        assert_eq!(world.cancelled(client, request), None);
        world.release_disk();
        assert_eq!(
            world.cancelled(client, request),
            Some(vec![expected]),
            "case {how}"
        );
    }
}

#[test]
fn a_job_that_is_handed_out_while_it_is_looked_for_is_marked() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    world.hold_reads();
    let request = world.cancel_later(client, &[id]);
    let worker = world.worker(&[("a", 1)]);
    assert_eq!(world.order(&worker).id, id);
    world.release_reads();
    assert_eq!(
        world.cancelled(client, request),
        Some(vec![CancelOutcome::Marked])
    );
    assert_eq!(world.cancels(&worker).len(), 1);
}

#[test]
fn watchers_are_told_of_a_cancelled_job() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let watch = world.watch(client, &[id], 1000);
    let other = world.client();
    world.cancel(other, &[id]);
    let ended = world.ended(client, watch);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].status, Some(Status::Cancelled));
}

#[test]
fn a_cancel_of_nothing_is_refused() {
    let mut world = World::new();
    let client = world.client();
    let request = world.cancel_later(client, &[]);
    assert_eq!(world.refusal(client, request), Some(ErrorCode::TooManyItems));
}
