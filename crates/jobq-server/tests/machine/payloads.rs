//! Jobs whose params are not in memory.

use jobq_proto::ServerMessage;
use jobq_proto::Status;
use jobq_proto::message::{CancelOutcome, Goodbye, SettleOutcome};

use super::world::{World, ids, job, secs, sized, urgent};

/// A server that keeps next to nothing in memory.
fn forgetful(budget: usize) -> World {
    World::configured(|config| config.payload_budget = budget)
}

#[test]
fn jobs_flow_in_order_and_whole_whatever_the_budget() {
    for budget in [0, 300, 1000, 10_000, 1_000_000] {
        let mut world = forgetful(budget);
        let client = world.client();
        let jobs = (0..500).map(|i| sized("a", i % 90)).collect();
        let submitted = world.submit(client, jobs);
        let worker = world.worker(&[("a", 7)]);
        let mut seen = Vec::new();
        loop {
            let orders = world.orders(&worker);
            if orders.is_empty() {
                break;
            }
            for order in orders {
                assert_eq!(order.params.len() as u64, (order.id - 1) % 90, "budget {budget}");
                world.completed(&worker, &order);
                seen.push(order.id);
            }
        }
        assert_eq!(seen, submitted, "budget {budget}");
    }
}

#[test]
fn jobs_from_before_a_restart_are_read_when_their_turn_comes() {
    let mut world = World::new();
    let client = world.client();
    let submitted = world.submit(client, (1..=50).map(|i| sized("a", i)).collect());
    world.crash_and_restart();
    let worker = world.worker(&[("a", 50)]);
    let orders = world.orders(&worker);
    assert_eq!(ids(&orders), submitted);
    assert!(
        orders
            .iter()
            .zip(1..)
            .all(|(order, length)| order.params.len() == length)
    );
}

#[test]
fn a_job_that_is_being_read_is_cancelled_as_if_it_still_waited() {
    let mut world = forgetful(0);
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    world.hold_reads();
    let worker = world.worker(&[("a", 1)]);
    assert_eq!(world.reads_waiting(), 1);
    let request = world.cancel_later(client, &[id]);
    world.release_reads();
    assert_eq!(
        world.cancelled(client, request),
        Some(vec![CancelOutcome::Cancelled])
    );
    assert!(world.orders(&worker).is_empty());
    assert_eq!(world.status(id), Status::Cancelled);
    let next = world.submit_one(client, job("a"));
    assert_eq!(world.order(&worker).id, next, "the worker is free again");
}

#[test]
fn a_job_that_is_being_read_for_a_connection_that_is_lost_goes_to_another_at_once() {
    let mut world = forgetful(0);
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    world.hold_reads();
    let lost = world.worker(&[("a", 1)]);
    world.disconnect(lost.peer);
    let other = world.worker(&[("a", 1)]);
    world.release_reads();
    assert_eq!(world.order(&other).id, id);
    let view = world.view(id);
    assert_eq!((view.attempts, view.charges), (0, 0));
}

#[test]
fn a_session_that_comes_back_while_its_job_is_read_is_ordered_it_anew() {
    let mut world = forgetful(0);
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    world.hold_reads();
    let worker = world.worker(&[("a", 1)]);
    let worker = world.resume(&worker, vec![]);
    world.release_reads();
    assert_eq!(world.order(&worker).id, id);
}

#[test]
fn a_session_that_ends_while_its_job_is_read_leaves_no_trace_on_the_job() {
    for silent in [true, false] {
        let mut world = forgetful(0);
        let client = world.client();
        let id = world.submit_one(client, job("a"));
        world.hold_reads();
        let worker = world.worker(&[("a", 1)]);
        if silent {
            world.silence(worker.peer);
            world.advance(secs(151));
        } else {
            world.send(worker.peer, ServerMessage::Goodbye(Goodbye {}));
        }
        assert_eq!(world.machine.totals().lost, 0, "nobody has seen the run");
        let other = world.worker(&[("a", 1)]);
        world.release_reads();
        assert_eq!(world.order(&other).id, id);
    }
}

#[test]
fn a_report_on_a_job_that_is_being_read_is_stale() {
    let mut world = forgetful(0);
    let client = world.client();
    world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let mut order = world.order(&worker);
    world.hold_reads();
    world.released(&worker, &order);
    order.fence.seq += 1;
    world.completed(&worker, &order);
    world.release_reads();
    assert_eq!(
        world.settled(&worker),
        [SettleOutcome::Applied, SettleOutcome::Stale]
    );
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn reading_ahead_asks_for_no_more_than_the_budget_holds() {
    let mut world = forgetful(100_000);
    let client = world.client();
    world.submit(client, (0..200).map(|_| sized("a", 9_000)).collect());
    world.crash_and_restart();
    world.hold_reads();
    let worker = world.worker(&[("a", 1)]);
    let wanted = world.records_asked_for();
    assert!(wanted > 1 && wanted <= 12, "{wanted} records of 9 kB for 100 kB");
    world.release_reads();
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn jobs_that_arrive_behind_a_long_line_leave_room_for_reading_ahead() {
    let mut world = forgetful(100_000);
    let client = world.client();
    world.submit(client, (0..200).map(|_| sized("a", 1_000)).collect());
    world.crash_and_restart();
    let client = world.client();
    world.submit(client, (0..200).map(|_| sized("a", 1_000)).collect());
    world.hold_reads();
    world.worker(&[("a", 1)]);
    assert!(world.records_asked_for() > 10, "and not only for the first one");
}

#[test]
fn jobs_whose_params_are_in_memory_do_not_overtake_those_that_are_read() {
    let mut world = World::new();
    let client = world.client();
    let mut submitted = world.submit(client, vec![job("a"), job("a"), job("a")]);
    world.crash_and_restart();
    let client = world.client();
    submitted.extend(world.submit(client, vec![job("a"), job("a")]));
    world.hold_reads();
    let worker = world.worker(&[("a", 9)]);
    assert!(world.orders(&worker).is_empty(), "the first are still read");
    let request = world.cancel_later(client, &[submitted[1], submitted[3]]);
    world.release_reads();
    let outcomes = world.cancelled(client, request);
    assert_eq!(outcomes, Some(vec![CancelOutcome::Cancelled; 2]));
    let expected = [0, 2, 4].map(|i| submitted[i]);
    assert_eq!(ids(&world.orders(&worker)), expected);
}

#[test]
fn urgent_jobs_overtake_those_that_are_not_in_memory() {
    let mut world = forgetful(0);
    let client = world.client();
    world.submit(client, vec![job("a"), job("a")]);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    let high = world.submit_one(client, urgent("a", "High"));
    world.completed(&worker, &order);
    assert_eq!(world.order(&worker).id, high);
}
