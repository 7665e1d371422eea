//! What the server is told, and how often.

use super::*;

#[test]
fn the_server_is_told_of_a_start_before_the_handler_is_called_and_of_an_end_only_once() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    assert_eq!(sim.out(), [Out::Started(vec![1]), Out::Call(1)]);
    sim.complete([1]);
    assert_eq!(sim.out(), [Out::Completed(vec![1])]);
    assert_eq!(sim.out(), []);
}

#[test]
fn outcomes_are_repeated_after_every_reconnect_until_they_are_settled() {
    let mut sim = Sim::connected(4);
    sim.order((1..=3).map(|id| job(id, "a")));
    sim.out();
    sim.complete([1]);
    sim.end(2, End::Failed(JobError::retry("no luck")));
    sim.end(3, End::Dropped);
    let reports = [
        Out::Completed(vec![1]),
        failed(2, "no luck"),
        Out::Released(vec![3]),
    ];
    assert_eq!(sim.out(), reports);

    let ended = |id| (id, RunState::Ended);
    let mut again = sim.reconnect(true);
    assert_eq!(again.remove(0), Out::Holding(vec![ended(1), ended(2), ended(3)]));
    assert_eq!(again, reports);

    sim.settle([1], SettleOutcome::AlreadyApplied);
    sim.settle([3], SettleOutcome::Applied);
    assert_eq!(
        sim.reconnect(true),
        [Out::Holding(vec![ended(2)]), failed(2, "no luck")]
    );
    sim.settle([2], SettleOutcome::Stale);
    assert_eq!(sim.reconnect(true), [Out::Holding(vec![])]);
    let summary = sim.machine.summary();
    assert_eq!(
        (summary.completed, summary.failed, summary.released, summary.stale),
        (1, 0, 1, 1)
    );
    assert!(sim.machine.is_idle());
}

#[test]
fn holding_names_every_run_and_how_far_it_is() {
    let mut sim = Sim::connected(2);
    sim.order((1..=4).map(|id| job(id, "a")));
    sim.out();
    sim.complete([1]);
    sim.out();
    let out = sim.reconnect(true);
    let states = vec![
        (1, RunState::Ended),
        (2, RunState::Running),
        (3, RunState::Running),
        (4, RunState::Waiting),
    ];
    assert_eq!(out, [Out::Holding(states), Out::Completed(vec![1])]);
}

#[test]
fn a_result_that_is_too_large_fails_its_run_for_good() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a"), job(2, "a")]);
    sim.out();
    let limit = usize::try_from(sim.limits.result).expect("small");
    sim.end(1, End::Completed(Some(Bytes::from(vec![0; limit + 1]))));
    let reason = format!(
        "result_too_large: the result has {} bytes, and the limit is {limit}",
        limit + 1
    );
    let out = sim.out();
    assert!(out.contains(&Out::Failed(vec![(1, reason, true)])), "{out:?}");
    sim.end(2, End::Completed(Some(Bytes::from(vec![0; limit]))));
    assert_eq!(sim.out(), [Out::Completed(vec![2])]);
}

#[test]
fn a_long_reason_is_cut_between_two_characters() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.out();
    sim.end(1, End::Failed(JobError::retry(format!("x{}", "ü".repeat(4096)))));
    let [Out::Failed(runs)] = &sim.out()[..] else {
        panic!("one report")
    };
    assert_eq!(runs[0].1.len(), 4095);
    assert!(runs[0].1.ends_with('ü'));
}

#[test]
fn reports_are_batched_and_cut_by_number_and_by_size() {
    let mut sim = Sim::new(1000);
    sim.limits.items = 100;
    sim.connect(false);
    sim.out();
    sim.order((1..=250).map(|id| job(id, "a")));
    let started = |out: &Out| {
        if let Out::Started(runs) = out {
            Some(runs.len())
        } else {
            None
        }
    };
    let out = sim.out();
    assert_eq!(out.iter().filter_map(started).collect::<Vec<_>>(), [100, 100, 50]);

    let result = Bytes::from(vec![7; 300 * 1024]);
    (1..=7).for_each(|id| sim.end(id, End::Completed(Some(result.clone()))));
    let mut sizes = Vec::new();
    for message in sim.messages() {
        let ServerMessage::Completed(completed) = message else {
            panic!("{message:?}")
        };
        let bytes: usize = completed.runs.iter().map(WireSize::wire_size).sum();
        assert!(bytes as u64 <= sim.limits.frame, "{bytes} bytes");
        sizes.push(completed.runs.len());
    }
    assert_eq!(sizes, [3, 3, 1]);
}

#[test]
fn more_results_than_a_connection_takes_at_once_follow_as_they_are_settled() {
    let mut sim = Sim::connected(100);
    sim.order((1..=20).map(|id| job(id, "a")));
    sim.out();
    let result = Bytes::from(vec![7; 1024 * 1024]);
    (1..=20).for_each(|id| sim.end(id, End::Completed(Some(result.clone()))));
    let mut told = 0;
    let mut rounds = 0;
    while told < 20 {
        let ids: Vec<u64> = sim.out().into_iter().flat_map(completed_ids).collect();
        assert!((1..=5).contains(&ids.len()), "{ids:?}");
        told += ids.len();
        rounds += 1;
        sim.settle(ids, SettleOutcome::Applied);
    }
    assert!(rounds >= 4, "{rounds}");
    assert!(sim.machine.is_idle());
}

#[test]
fn runs_that_do_not_fit_into_holding_are_given_up_the_waiting_ones_first() {
    let mut sim = Sim::connected(2);
    sim.order((1..=4).map(|id| job(id, "a")));
    sim.out();
    sim.complete([1]);
    sim.out();
    sim.limits.items = 2;
    let out = sim.reconnect(true);
    assert_eq!(
        out[0],
        Out::Holding(vec![(1, RunState::Ended), (2, RunState::Running)])
    );
    assert!(out.contains(&Out::Cancel(3)), "{out:?}");
}

#[test]
fn nothing_is_called_that_finds_no_room_in_holding() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a"), job(2, "a"), job(3, "a")]);
    sim.out();
    sim.machine.handle_disconnected();
    sim.complete([1]);
    sim.limits.items = 2;
    sim.connect(true);
    let held = vec![(1, RunState::Ended), (2, RunState::Waiting)];
    let out = sim.out();
    assert_eq!(out[0], Out::Holding(held));
    assert_eq!(out.last(), Some(&Out::Call(2)), "{out:?}");
    assert!(!out.contains(&Out::Call(3)), "{out:?}");

    sim.machine.handle_disconnected();
    sim.complete([2]);
    sim.limits.items = 1;
    sim.order([job(4, "a")]);
    sim.connect(true);
    let out = sim.out();
    assert!(!out.iter().any(|out| matches!(out, Out::Call(_))), "{out:?}");
}

#[test]
fn events_tell_each_start_and_each_end() {
    let mut sim = Sim::connected(1);
    sim.order([job(1, "a")]);
    sim.end(1, End::Failed(JobError::never("broken")));
    let events: Vec<Event> = std::iter::from_fn(|| sim.machine.poll_event()).collect();
    let id = RunId {
        job: JobId(1),
        fence: fence(1),
        attempt: 1,
        name: 0,
    };
    let failed = Outcome::Failed(JobError::never("broken"));
    assert_eq!(events, [Event::Started(id), Event::Ended(id, failed)]);
}
