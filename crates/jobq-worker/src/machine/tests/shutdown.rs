//! How a worker, or its server, goes.

use super::*;

#[test]
fn a_server_that_is_going_gets_back_what_has_not_started() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.out();
    sim.say(ClientMessage::Closing(Closing { within: 1_000_000 }));
    sim.order([job(3, "a")]);
    assert_eq!(sim.out(), [Out::Released(vec![2, 3])]);
    sim.complete([1]);
    assert_eq!(sim.out(), [Out::Completed(vec![1])], "what runs may finish");
    sim.settle([1, 2, 3], SettleOutcome::Applied);
    assert_eq!(sim.reconnect(true), [Out::Holding(vec![])]);
    sim.order([job(4, "a")]);
    assert_eq!(
        sim.out(),
        [Out::Started(vec![4]), Out::Call(4)],
        "the next server is not going"
    );
}

#[test]
fn a_shutdown_gives_back_the_unstarted_finishes_the_running_and_waits_until_that_is_settled() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.out();
    sim.machine.shut_down(sim.now, SHUTDOWN);
    assert_eq!(sim.out(), [Out::Credit(Some(0), vec![]), Out::Released(vec![2])]);
    sim.order([job(3, "a")]);
    assert_eq!(sim.out(), [Out::Released(vec![3])], "it was on its way");
    sim.settle([2, 3], SettleOutcome::Applied);
    sim.complete([1]);
    assert_eq!(sim.out(), [Out::Completed(vec![1])]);
    assert!(!sim.machine.is_shut_down());
    sim.settle([1], SettleOutcome::Applied);
    assert!(sim.machine.is_shut_down());
}

#[test]
fn a_shutdown_stops_what_runs_for_too_long_and_gives_it_back() {
    let mut sim = Sim::connected(2);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.machine.shut_down(sim.now, 10 * SECOND);
    sim.out();
    sim.pass_in_contact(10 * SECOND);
    assert_eq!(sim.out(), [Out::Cancel(1), Out::Cancel(2)]);
    sim.end(1, End::Failed(JobError::retry("interrupted")));
    assert_eq!(sim.out(), [Out::Released(vec![1])]);
    sim.pass_in_contact(GRACE);
    let out = sim.out();
    assert!(
        out.contains(&Out::Released(vec![2])) && out.contains(&Out::Drop(2)),
        "{out:?}"
    );
    assert!(!sim.machine.is_shut_down());
    sim.settle([1, 2], SettleOutcome::Applied);
    assert!(sim.machine.is_shut_down());
}

#[test]
fn a_shutdown_ends_without_a_server() {
    let mut sim = Sim::new(1);
    sim.machine.shut_down(sim.now, SHUTDOWN);
    assert!(sim.machine.is_shut_down(), "there is nothing to wait for");

    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.complete([1]);
    sim.machine.handle_disconnected();
    sim.machine.shut_down(sim.now, SHUTDOWN);
    assert!(!sim.machine.is_shut_down(), "the outcome is not settled");
    sim.pass(60 * SECOND);
    assert!(sim.machine.is_shut_down());
}

#[test]
fn a_worker_that_shuts_down_and_reconnects_takes_nothing() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.out();
    sim.machine.shut_down(sim.now, SHUTDOWN);
    sim.out();
    let running = Out::Holding(vec![(1, RunState::Running)]);
    assert_eq!(sim.reconnect(true), [running, Out::Credit(Some(0), vec![])]);
}
