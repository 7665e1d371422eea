//! A server that goes down in order.

use jobq_proto::message::{RunState, SettleOutcome};
use jobq_proto::{ClientMessage, ErrorCode, Status};
use jobq_transport::{CloseReason, PeerId};

use super::world::{World, held, job, secs};

fn stop(world: &mut World) {
    world.machine.handle_shutdown(world.now);
    world.run();
}

fn closings(world: &mut World, peer: PeerId) -> usize {
    let messages = world.messages(peer);
    messages
        .iter()
        .filter(|m| matches!(m, ClientMessage::Closing(_)))
        .count()
}

#[test]
fn everybody_is_told_once_and_who_comes_later_is_told_too() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 1)]);
    stop(&mut world);
    stop(&mut world);
    assert_eq!(closings(&mut world, client), 1);
    assert_eq!(closings(&mut world, worker.peer), 1);
    let late = world.client();
    assert_eq!(closings(&mut world, late), 1);
}

#[test]
fn nothing_more_is_taken_or_handed_out() {
    let mut world = World::new();
    let client = world.client();
    world.submit(client, vec![job("a"), job("a")]);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    stop(&mut world);
    let request = world.request(client, vec![job("a")]);
    assert_eq!(world.refusal(client, request), Some(ErrorCode::ShuttingDown));
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert!(world.orders(&worker).is_empty());
}

#[test]
fn it_is_drained_when_all_runs_are_settled_durably() {
    let mut world = World::new();
    let client = world.client();
    world.submit(client, vec![job("a"), job("a")]);
    let worker = world.worker(&[("a", 2)]);
    let orders = world.orders(&worker);
    stop(&mut world);
    assert!(!world.machine.is_drained());
    world.released(&worker, &orders[0]);
    world.hold_disk();
    world.completed(&worker, &orders[1]);
    assert!(!world.machine.is_drained());
    world.release_disk();
    assert!(world.machine.is_drained());
    world.machine.close_peers();
    world.run();
    assert_eq!(world.close_reason(worker.peer), Some(CloseReason::ShuttingDown));
    assert_eq!(world.closed(client), Some(ErrorCode::ShuttingDown));
}

#[test]
fn runs_that_go_on_are_recorded_at_once_and_go_on_after_the_restart() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.started(&worker, &order);
    stop(&mut world);
    world.crash_and_restart();
    assert_eq!(world.status(id), Status::Processing);
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn jobs_that_are_being_read_are_taken_back() {
    let mut world = World::configured(|config| config.payload_budget = 0);
    let client = world.client();
    world.submit_one(client, job("a"));
    world.hold_reads();
    let worker = world.worker(&[("a", 1)]);
    stop(&mut world);
    assert!(world.machine.is_drained());
    world.release_reads();
    assert!(world.orders(&worker).is_empty());
}

#[test]
fn a_run_that_starts_while_the_server_goes_down_is_recorded_as_started() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    stop(&mut world);
    world.started(&worker, &order);
    world.advance(secs(1));
    world.crash_and_restart();
    world.advance(secs(31));
    assert_eq!(world.view(id).charges, 1);
}
