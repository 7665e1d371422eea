//! A worker that had nothing to do, and speaks seldom then: what it is sent waits until the server is known to be there.

use super::*;

/// Longer than any lease lasts without an answer.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn what_comes_after_a_long_rest_starts_when_the_server_has_answered() {
    let mut sim = Sim::connected(2);
    sim.pass(LONG);
    assert!(!sim.machine.is_busy());
    sim.order([job(1, "a"), job(2, "a")]);
    assert_eq!(sim.out(), [], "nothing is started, nor given back");
    assert!(sim.machine.is_busy(), "so a Beat is sent at once");
    let sent = sim.now;
    sim.pass(SECOND);
    sim.machine.handle_contact(sim.now, sent);
    assert_eq!(sim.out(), [Out::Started(vec![1, 2]), Out::Call(1), Out::Call(2)]);
}

#[test]
fn it_waits_however_long_the_answer_takes_and_is_named_when_the_worker_comes_back() {
    let mut sim = Sim::connected(1);
    sim.pass(LONG);
    sim.order([job(1, "a")]);
    sim.pass(LONG);
    assert_eq!(sim.out(), []);
    assert_eq!(
        sim.machine.poll_timeout(),
        None,
        "nothing runs that is to be stopped"
    );
    assert_eq!(
        sim.reconnect(true),
        [
            Out::Holding(vec![(1, RunState::Waiting)]),
            Out::Started(vec![1]),
            Out::Call(1)
        ]
    );
}

#[test]
fn an_answer_that_took_too_long_starts_nothing() {
    let mut sim = Sim::connected(1);
    sim.pass(LONG);
    let sent = sim.now;
    sim.order([job(1, "a")]);
    sim.pass(20 * SECOND);
    sim.machine.handle_contact(sim.now, sent);
    assert_eq!(sim.out(), [], "the server may give it away ten seconds from now");
    sim.machine.handle_contact(sim.now, sim.now);
    assert_eq!(sim.out(), [Out::Started(vec![1]), Out::Call(1)]);
}

#[test]
fn a_run_starts_only_while_there_is_time_for_the_next_answer_before_it_would_be_stopped() {
    let mut sim = Sim::connected(3);
    sim.pass(16 * SECOND);
    sim.order([job(1, "a")]);
    assert_eq!(sim.out(), [Out::Started(vec![1]), Out::Call(1)]);
    sim.pass(SECOND);
    sim.order([job(2, "a")]);
    assert_eq!(sim.out(), []);
    sim.machine.handle_contact(sim.now, sim.now);
    assert_eq!(sim.out(), [Out::Started(vec![2]), Out::Call(2)]);
}

#[test]
fn an_order_that_comes_when_the_runs_were_given_back_waits_for_an_answer() {
    let mut sim = Sim::connected(2);
    sim.order([job(1, "a")]);
    sim.out();
    sim.pass(24 * SECOND);
    assert_eq!(sim.out(), [Out::Cancel(1)]);
    // It was under way for all that time.
    sim.order([job(2, "a")]);
    sim.end(1, End::Dropped);
    assert_eq!(sim.out(), [Out::Released(vec![1])]);
    sim.machine.handle_contact(sim.now, sim.now);
    assert_eq!(sim.out(), [Out::Started(vec![2]), Out::Call(2)]);
}

#[test]
fn a_run_that_waits_for_an_answer_can_be_cancelled_and_given_back() {
    let mut sim = Sim::connected(1);
    sim.pass(LONG);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.cancel(1);
    assert_eq!(sim.out(), [Out::Released(vec![1])]);
    sim.machine.shut_down(sim.now, SHUTDOWN);
    assert!(sim.out().contains(&Out::Released(vec![2])));
}

#[test]
fn a_worker_is_busy_until_its_last_report_is_settled() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.complete([1]);
    sim.out();
    assert!(sim.machine.is_busy());
    sim.settle([1], SettleOutcome::Applied);
    assert!(!sim.machine.is_busy());
}
