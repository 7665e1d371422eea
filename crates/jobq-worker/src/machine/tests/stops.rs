//! Cancelled, timed out, given up: how runs end that did not want to.

use super::*;

#[test]
fn a_waiting_run_that_is_cancelled_is_given_back_and_never_called() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.out();
    sim.cancel(2);
    assert_eq!(sim.out(), [Out::Released(vec![2])]);
    sim.complete([1]);
    assert_eq!(sim.out(), [Out::Completed(vec![1])]);
}

#[test]
fn a_running_run_that_is_cancelled_fails_when_its_handler_gives_in() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.out();
    sim.cancel(1);
    sim.cancel(1);
    assert_eq!(sim.out(), [Out::Cancel(1)]);
    sim.end(1, End::Failed(JobError::retry("interrupted")));
    assert_eq!(sim.out(), [failed(1, "cancelled: interrupted")]);
}

#[test]
fn a_run_that_completes_although_it_was_cancelled_is_completed() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.cancel(1);
    sim.out();
    sim.complete([1]);
    assert_eq!(sim.out(), [Out::Completed(vec![1])]);
}

#[test]
fn a_handler_that_ignores_its_cancellation_loses_its_run_and_keeps_its_place() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.cancel(1);
    sim.out();
    sim.pass_in_contact(GRACE - SECOND);
    assert_eq!(sim.out(), []);
    sim.pass_in_contact(SECOND);
    let names = vec![("a".to_owned(), 10), ("b".to_owned(), 10)];
    let out = [Out::Credit(Some(10), names), failed(1, "cancelled"), Out::Drop(1)];
    assert_eq!(sim.out(), out, "one place is no longer on offer");
    sim.settle([1], SettleOutcome::Applied);
    assert!(!sim.machine.is_idle());

    sim.complete([1]);
    let names = vec![("a".to_owned(), 11), ("b".to_owned(), 11)];
    assert_eq!(
        sim.out(),
        [Out::Credit(Some(11), names), Out::Started(vec![2]), Out::Call(2)]
    );
}

#[test]
fn a_run_times_out_from_its_start_and_fails_even_if_it_completes_then() {
    let mut sim = Sim::connected(1);
    sim.order([timed(1, 3 * SECOND), timed(2, 3 * SECOND)]);
    sim.out();
    sim.pass_in_contact(2 * SECOND);
    assert_eq!(sim.out(), []);
    sim.pass_in_contact(SECOND);
    assert_eq!(sim.out(), [Out::Cancel(1)]);
    sim.complete([1]);
    assert_eq!(
        sim.out(),
        [
            Out::Started(vec![2]),
            failed(1, "timed out after 3s"),
            Out::Call(2)
        ]
    );
    sim.pass_in_contact(2 * SECOND);
    sim.complete([2]);
    assert_eq!(
        sim.out(),
        [Out::Completed(vec![2])],
        "its time began with its start"
    );
    sim.pass_in_contact(10 * SECOND);
    assert_eq!(sim.out(), []);
}

#[test]
fn what_a_handler_said_when_its_time_was_over_is_part_of_the_reason() {
    let mut sim = Sim::connected(1);
    sim.order([timed(1, 3 * SECOND)]);
    sim.pass_in_contact(3 * SECOND);
    sim.out();
    sim.end(1, End::Failed(JobError::never("at page 7")));
    assert_eq!(sim.out(), [failed(1, "timed out after 3s: at page 7")]);
}

#[test]
fn a_handler_that_ignores_its_time_out_does_not_hold_the_failure_up() {
    let mut sim = Sim::connected(1);
    sim.order([timed(1, 3 * SECOND)]);
    sim.out();
    sim.pass_in_contact(3 * SECOND + GRACE);
    let out = sim.out();
    assert!(
        out.contains(&failed(1, "timed out after 3s")) && out.contains(&Out::Drop(1)),
        "{out:?}"
    );
}

#[test]
fn a_stale_run_is_stopped_and_nothing_of_it_is_reported() {
    let mut sim = Sim::connected(2);
    sim.order([job(1, "a"), job(2, "a"), job(3, "a")]);
    sim.out();
    sim.settle([1, 3], SettleOutcome::Stale);
    let out = sim.out();
    assert_eq!(out.last(), Some(&Out::Cancel(1)));
    assert!(matches!(out[..], [Out::Credit(..), Out::Cancel(1)]), "{out:?}");
    sim.complete([1]);
    assert!(
        matches!(sim.out()[..], [Out::Credit(..)]),
        "neither reported, nor is 3 started"
    );
    assert_eq!(sim.reconnect(true), [Out::Holding(vec![(2, RunState::Running)])]);
}

#[test]
fn a_stale_run_whose_handler_goes_on_is_dropped_after_its_grace() {
    let mut sim = Sim::connected(2);
    sim.order([job(1, "a")]);
    sim.settle([1], SettleOutcome::Stale);
    sim.out();
    sim.pass_in_contact(GRACE);
    assert_eq!(sim.out(), [Out::Drop(1)]);
}

#[test]
fn in_a_new_session_the_runs_of_the_old_one_are_over_and_outcomes_are_told_again() {
    let mut sim = Sim::connected(2);
    sim.order([job(1, "a"), job(2, "a"), job(3, "a"), job(4, "a")]);
    sim.out();
    sim.complete([1]);
    sim.out();
    let out = sim.reconnect(false);
    assert_eq!(out[0], Out::Holding(vec![]), "a new session holds nothing");
    assert!(out.contains(&Out::Completed(vec![1])), "{out:?}");
    assert!(
        out.contains(&Out::Cancel(2)) && out.contains(&Out::Cancel(3)),
        "{out:?}"
    );
    assert!(!out.contains(&Out::Call(4)), "{out:?}");
    sim.complete([2, 3]);
    let reports = sim
        .out()
        .into_iter()
        .filter(|out| matches!(out, Out::Completed(_)));
    assert_eq!(reports.count(), 0);
}

#[test]
fn another_store_is_told_nothing_of_the_old_ones_runs() {
    let mut sim = Sim::connected(2);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.complete([1]);
    sim.out();
    sim.machine.handle_disconnected();
    let welcome = Welcome {
        store: Uuid::from_u128(2),
        ..sim.welcome(false)
    };
    sim.machine.handle_connected(sim.now, &welcome, sim.now);
    let out = sim.out();
    assert_eq!(out[0], Out::Holding(vec![]));
    assert!(!out.iter().any(|out| matches!(out, Out::Completed(_))), "{out:?}");
}

#[test]
fn runs_stop_before_the_server_gives_them_away() {
    let mut sim = Sim::connected(2);
    let sent = sim.now;
    sim.order((1..=3).map(|id| job(id, "a")));
    sim.out();
    sim.machine.handle_disconnected();
    sim.pass(23 * SECOND);
    assert_eq!(sim.out(), [], "the lease holds");
    sim.pass(2 * SECOND);
    assert_eq!(sim.out(), [Out::Cancel(1), Out::Cancel(2)]);
    while !sim.out().contains(&Out::Drop(2)) {
        sim.pass(SECOND);
        assert!(
            sim.now < sent + TTL,
            "the last handler is dropped within the time-to-live"
        );
    }
    let mut out = sim.reconnect(true);
    let named = [1, 2].map(|id| (id, RunState::Ended)).into_iter();
    let named = named.chain([(3, RunState::Waiting)]).collect();
    assert_eq!(out.remove(0), Out::Holding(named), "what waited does no harm");
    assert!(out.contains(&Out::Released(vec![1, 2])), "{out:?}");
    sim.end(1, End::Dropped);
    assert!(sim.out().contains(&Out::Call(3)));
}

#[test]
fn runs_whose_lease_ran_out_while_the_worker_was_away_are_lost_and_nobody_is_blamed() {
    let mut sim = Sim::connected(1);
    sim.order([timed(1, SECOND), job(2, "a")]);
    sim.out();
    // Stopped, and let go on: no timer goes off on the way.
    sim.now = sim.now + TTL + 10 * SECOND;
    sim.machine.handle_timeout(sim.now);
    assert_eq!(ended(&mut sim), [(1, Outcome::Lost)]);
    let out = sim.out();
    assert!(
        out.contains(&Out::Released(vec![1])),
        "in case the server was away too: {out:?}"
    );
    assert_eq!(
        out[out.len() - 2..],
        [Out::Cancel(1), Out::DropAtOnce(1)],
        "{out:?}"
    );
    sim.settle([1, 2], SettleOutcome::Stale);
    sim.end(1, End::Dropped);
    let summary = sim.machine.summary();
    assert_eq!((summary.stale, summary.released), (2, 0), "as was said");
    assert_eq!(ended(&mut sim), [(2, Outcome::GivenUp)], "each is said once");
    assert!(sim.machine.is_idle());
}

#[test]
fn a_lost_handler_that_goes_on_keeps_its_place_from_being_on_offer() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.out();
    sim.now = sim.now + TTL;
    sim.machine.handle_timeout(sim.now);
    let names = vec![("a".to_owned(), 10), ("b".to_owned(), 10)];
    let out = sim.out();
    assert!(out.contains(&Out::Credit(Some(10), names)), "{out:?}");
    sim.end(1, End::Dropped);
    let names = vec![("a".to_owned(), 11), ("b".to_owned(), 11)];
    let out = sim.out();
    assert!(out.contains(&Out::Credit(Some(11), names)), "{out:?}");
}

#[test]
fn a_lost_handler_that_goes_on_is_said_to_after_its_grace() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.now = sim.now + TTL;
    sim.machine.handle_timeout(sim.now);
    sim.out();
    sim.pass(GRACE);
    assert_eq!(sim.out(), [Out::Drop(1)]);
}

#[test]
fn a_report_that_comes_too_late_is_said_to() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.complete([1]);
    sim.out();
    assert_eq!(ended(&mut sim), [(1, Outcome::Completed)]);
    sim.settle([1], SettleOutcome::Stale);
    assert!(matches!(sim.machine.poll_event(), Some(Event::TooLate(_))));
    let summary = sim.machine.summary();
    assert_eq!((summary.completed, summary.stale), (0, 1));
}

#[test]
fn an_answered_beat_counts_from_when_it_was_sent() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.out();
    let sent = sim.now + 10 * SECOND;
    sim.pass(20 * SECOND);
    for sent in [sent, sent + 3 * SECOND, sent] {
        sim.machine.handle_contact(sim.now, sent);
    }
    sim.pass(16 * SECOND);
    assert_eq!(sim.out(), []);
    sim.pass(2 * SECOND);
    assert_eq!(sim.out(), [Out::Cancel(1)], "24 s after the later of the two");
}

#[test]
fn what_completes_after_the_lease_ran_out_is_reported_all_the_same() {
    let mut sim = Sim::connected(2);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.pass(25 * SECOND);
    sim.out();
    sim.complete([1]);
    sim.end(2, End::Failed(JobError::retry("interrupted")));
    assert_eq!(sim.out(), [Out::Completed(vec![1]), Out::Released(vec![2])]);
}

#[test]
fn a_machine_at_rest_has_no_timer() {
    let mut sim = Sim::connected(1);
    assert_eq!(sim.machine.poll_timeout(), None);
    sim.order([timed(1, SECOND)]);
    assert!(sim.machine.poll_timeout().is_some());
    sim.complete([1]);
    assert_eq!(sim.machine.poll_timeout(), None);
    assert_eq!(
        calls([1]),
        sim.out()
            .into_iter()
            .filter(|out| matches!(out, Out::Call(_)))
            .collect::<Vec<_>>()
    );
}
