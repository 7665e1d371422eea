//! How far runs have come, as the server is told.

use jobq_proto::message::JobProgress;

use super::*;

const TENTH: Duration = Duration::from_millis(100);

fn report(sim: &mut Sim, id: u64, part: u32) {
    let part = Some(part);
    let text = String::new();
    sim.machine
        .handle_progress(sim.now, fence(id), JobProgress { part, text });
}

fn is_due(sim: &Sim) -> bool {
    sim.machine.progress_due().is_some_and(|due| due <= sim.now)
}

#[test]
fn progress_is_told_at_once_and_then_ten_times_a_second_at_most() {
    let mut sim = Sim::connected(2);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.out();
    assert!(is_due(&sim));
    report(&mut sim, 1, 10);
    report(&mut sim, 2, 20);
    assert_eq!(sim.out(), [Out::Progress(vec![(1, Some(10)), (2, Some(20))])]);
    assert!(!is_due(&sim));
    sim.pass_in_contact(Duration::ZERO);
    sim.now = sim.now + TENTH;
    assert!(is_due(&sim));
}

#[test]
fn what_a_run_said_before_its_end_is_told_before_it_and_nothing_after_it() {
    let mut sim = Sim::connected(2);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.out();
    report(&mut sim, 1, 10);
    sim.complete([1, 2]);
    report(&mut sim, 2, 20);
    report(&mut sim, 3, 30);
    assert_eq!(
        sim.out(),
        [Out::Progress(vec![(1, Some(10))]), Out::Completed(vec![1, 2])]
    );
}

#[test]
fn progress_waits_for_a_connection() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.out();
    sim.machine.handle_disconnected();
    assert_eq!(sim.machine.progress_due(), None);
    assert_eq!(sim.reconnect(true), [Out::Holding(vec![(1, RunState::Running)])]);
    assert!(is_due(&sim));
}

#[test]
fn progress_needs_no_timer() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.out();
    let lease = sim.machine.poll_timeout();
    report(&mut sim, 1, 10);
    sim.out();
    assert_eq!(sim.machine.poll_timeout(), lease);
}
