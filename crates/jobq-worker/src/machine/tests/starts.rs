//! What starts, and when.

use super::*;

#[test]
fn runs_start_in_the_order_in_which_they_came_as_places_get_free() {
    let mut sim = Sim::connected(2);
    sim.order([job(5, "a"), job(3, "a"), job(4, "a")]);
    assert_eq!(sim.out(), [Out::Started(vec![5, 3]), Out::Call(5), Out::Call(3)]);
    sim.complete([3]);
    assert_eq!(
        sim.out(),
        [Out::Started(vec![4]), Out::Completed(vec![3]), Out::Call(4)]
    );
}

#[test]
fn a_name_at_its_limit_is_passed_over_and_keeps_its_place() {
    let mut sim = Sim::connected(3);
    sim.order([job(1, "b"), job(2, "b"), job(3, "a")]);
    assert_eq!(sim.out(), [Out::Started(vec![1, 3]), Out::Call(1), Out::Call(3)]);
    sim.order([job(4, "a"), job(5, "a")]);
    assert_eq!(sim.out(), [Out::Started(vec![4]), Out::Call(4)]);
    sim.complete([1]);
    assert_eq!(
        sim.out(),
        [Out::Started(vec![2]), Out::Completed(vec![1]), Out::Call(2)]
    );
}

#[test]
fn an_order_that_comes_twice_is_one_run() {
    let mut sim = Sim::connected(4);
    sim.order([job(1, "a"), job(1, "a")]);
    sim.order([job(1, "a")]);
    assert_eq!(sim.out(), [Out::Started(vec![1]), Out::Call(1)]);
}

#[test]
fn nothing_is_started_while_there_is_no_connection() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.out();
    sim.machine.handle_disconnected();
    sim.complete([1]);
    assert_eq!(sim.out(), []);
    sim.connect(true);
    let out = sim.out();
    assert!(
        matches!(&out[0], Out::Holding(runs) if runs.len() == 2),
        "{out:?}"
    );
    assert_eq!(
        out[1..],
        [Out::Started(vec![2]), Out::Completed(vec![1]), Out::Call(2)]
    );
}

#[test]
fn a_job_that_nobody_asked_for_fails_and_is_not_given_straight_back() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "unheard-of")]);
    assert_eq!(
        sim.out(),
        [failed(1, "it was sent to a worker that does not run its name")]
    );
    assert!(sim.machine.is_idle());
}

#[test]
fn orders_beyond_what_a_worker_can_hold_are_given_back() {
    let mut sim = Sim::connected(1);
    let most = MAX_HELD as u64;
    sim.order((1..=most + 2).map(|id| job(id, "a")));
    let out = sim.out();
    assert!(
        out.contains(&Out::Released(vec![most + 1, most + 2])),
        "{} messages",
        out.len()
    );
}
