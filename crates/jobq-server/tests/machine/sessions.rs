//! A worker lives by its session, and a session outlives its connections.

use jobq_proto::message::{Beat, Goodbye, Resume, RunState, SettleOutcome, Submission, Work};
use jobq_proto::{ClientMessage, ErrorCode, ServerMessage, Status};
use jobq_transport::{CloseReason, PeerId};
use uuid::Uuid;

use super::world::{World, held, job, millis, secs, work};

#[test]
fn a_session_that_is_silent_for_its_time_to_live_is_closed_and_its_jobs_wait_again() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.silence(worker.peer);
    world.advance(secs(29));
    assert_eq!(world.status(order.id), Status::Processing);
    world.advance(secs(2));
    assert_eq!(world.closed(worker.peer), Some(ErrorCode::SessionSilent));
    assert_eq!(world.status(order.id), Status::Queued);
}

#[test]
fn a_session_that_is_over_is_sent_no_order_that_was_chosen_for_it_a_moment_before() {
    let mut world = World::new();
    let worker = world.worker(&[("a", 2)]);
    let client = world.client();
    world.silence(worker.peer);
    world.advance_deaf(secs(149));
    world.send(client, ServerMessage::Beat(Beat { seq: 1 }));
    world.hold_disk();
    world.request(client, vec![job("a")]);
    // The job is on disk, and goes to the worker, in the very turn in which that has been silent for too long.
    world.advance_deaf(secs(2));
    world.take_all_in_one_turn();
    assert_eq!(world.closed(worker.peer), Some(ErrorCode::SessionSilent));
    assert!(world.orders(&worker).is_empty(), "it is given away already");
    let other = world.worker(&[("a", 1)]);
    let order = world.order(&other);
    world.completed(&other, &order);
    assert_eq!(world.settled(&other), [SettleOutcome::Applied]);
}

#[test]
fn any_message_renews_a_session() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.silence(worker.peer);
    for _ in 0..5 {
        world.advance(secs(20));
        world.started(&worker, &order);
    }
    assert_eq!(world.status(order.id), Status::Processing);
    assert!(world.is_open(worker.peer));
}

#[test]
fn a_closed_connection_costs_its_runs_only_after_the_grace() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.disconnect(worker.peer);
    world.advance(secs(5) - millis(1));
    assert_eq!(world.status(order.id), Status::Processing);
    world.advance(millis(1));
    assert_eq!(world.status(order.id), Status::Queued);
    assert_eq!(world.view(order.id).charges, 1);
}

#[test]
fn a_session_that_comes_back_within_the_grace_keeps_its_runs() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.disconnect(worker.peer);
    world.advance(secs(4));
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    assert!(worker.welcome.resumed);
    world.advance(secs(100));
    assert_eq!(world.status(order.id), Status::Processing);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_session_that_comes_back_and_does_not_say_what_it_holds_still_keeps_its_runs() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.disconnect(worker.peer);
    let worker = world.resume_silently(&worker);
    world.advance(secs(20));
    assert_eq!(world.status(order.id), Status::Processing);
    assert!(world.is_open(worker.peer));
}

#[test]
fn a_run_that_holding_does_not_name_waits_again_at_once_and_uncharged() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.disconnect(worker.peer);
    let worker = world.resume(&worker, vec![]);
    let again = world.order(&worker);
    assert_eq!((again.id, again.attempt), (order.id, order.attempt));
    assert!(again.fence > order.fence);
    assert_eq!(world.view(order.id).charges, 0);
}

#[test]
fn a_named_run_that_is_not_current_is_stale_unless_it_has_ended() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.released(&worker, &order);
    world.disconnect(worker.peer);
    let named = vec![held(&order, RunState::Running)];
    world.advance(secs(1));
    let worker = world.resume(&worker, named);
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
    let worker = world.resume(&worker, vec![held(&order, RunState::Ended)]);
    assert!(world.settled(&worker).is_empty());
}

#[test]
fn a_run_is_told_to_be_over_only_once_its_end_is_on_disk() {
    let mut world = World::new();
    let client = world.client();
    let limited = Submission {
        timeout: Some(1_000_000),
        ..job("a")
    };
    world.submit_one(client, limited);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.advance(secs(1));
    world.hold_disk();
    world.advance(secs(11));
    let named = || vec![held(&order, RunState::Running)];
    let worker = world.resume(&worker, named());
    assert!(
        world.settled(&worker).is_empty(),
        "a crash now would bring the run back"
    );
    world.release_disk();
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
}

#[test]
fn a_resume_closes_the_older_connection_and_what_still_comes_from_it_is_ignored() {
    let mut world = World::new();
    let (old, order) = world.at_work();
    let new = world.resume(&old, vec![held(&order, RunState::Running)]);
    assert_eq!(world.closed(old.peer), Some(ErrorCode::SessionTaken));
    assert_eq!(world.close_reason(old.peer), Some(CloseReason::Replaced));
    world.failed(&old, &order);
    world.send(old.peer, ServerMessage::Goodbye(Goodbye {}));
    world.disconnect(old.peer);
    world.advance(secs(60));
    assert_eq!(world.status(order.id), Status::Processing);
    world.completed(&new, &order);
    assert_eq!(world.settled(&new), [SettleOutcome::Applied]);
}

#[test]
fn a_session_can_come_back_any_number_of_times() {
    let mut world = World::new();
    let (mut worker, order) = world.at_work();
    for _ in 0..5 {
        world.disconnect(worker.peer);
        world.advance(secs(4));
        worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
        assert!(worker.welcome.resumed);
        world.advance(secs(8));
    }
    assert_eq!(world.status(order.id), Status::Processing);
}

#[test]
fn a_wrong_secret_opens_a_new_session_and_leaves_the_old_one_alone() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    let mut wrong = worker.clone();
    wrong.welcome.secret = vec![0; 32].into();
    let stranger = world.resume(&wrong, vec![held(&order, RunState::Running)]);
    assert!(!stranger.welcome.resumed);
    assert_ne!(stranger.welcome.session, worker.welcome.session);
    assert_eq!(world.settled(&stranger), [SettleOutcome::Stale]);
    assert!(world.is_open(worker.peer));
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
}

#[test]
fn a_session_of_another_store_is_a_new_one() {
    let mut world = World::new();
    let (worker, _) = world.at_work();
    let mut other = worker.clone();
    other.welcome.store = Uuid::from_u128(99);
    assert!(!world.resume_silently(&other).welcome.resumed);
    assert!(world.is_open(worker.peer));
}

#[test]
fn a_session_that_is_over_does_not_come_back() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.disconnect(worker.peer);
    world.advance(secs(6));
    let worker = world.resume(&worker, vec![held(&order, RunState::Ended)]);
    assert!(!worker.welcome.resumed);
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker), [SettleOutcome::Stale]);
}

#[test]
fn a_client_cannot_come_back_as_the_worker_of_a_session() {
    let mut world = World::new();
    let (worker, _) = world.at_work();
    let resume = Resume { ..worker.resume() };
    let (_, welcome) = world.hello(None, Some(resume));
    assert!(!welcome.expect("it is a client").resumed);
    assert!(world.is_open(worker.peer));
}

#[test]
fn goodbye_releases_what_the_session_holds_uncharged_and_closes() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.send(worker.peer, ServerMessage::Goodbye(Goodbye {}));
    assert_eq!(world.close_reason(worker.peer), Some(CloseReason::Goodbye));
    assert_eq!(world.closed(worker.peer), None);
    let view = world.view(order.id);
    assert_eq!((view.status, view.attempts, view.charges), (Status::Queued, 0, 0));
    assert!(!world.resume_silently(&worker).welcome.resumed);
}

#[test]
fn leases_do_not_run_out_while_the_machine_takes_nothing_in() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.silence(worker.peer);
    world.hold_disk();
    let mut clients = 0;
    while world.machine.accepts() {
        clients += 1;
        assert!(clients < 10, "the machine takes in whatever comes");
        let client = world.client();
        world.silence(client);
        let jobs = (0..8).map(|_| super::world::sized("b", 1024 * 1024)).collect();
        world.request(client, jobs);
    }
    world.advance_deaf(secs(100));
    // It was sent in time, and is handled before any timer.
    world.release_disk();
    assert!(world.machine.accepts());
    world.started(&worker, &order);
    world.advance(secs(1));
    assert_eq!(world.status(order.id), Status::Processing);
    assert!(world.is_open(worker.peer));
}

#[test]
fn a_lease_is_lost_only_after_what_arrived_before_was_handled() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    world.silence(worker.peer);
    world.advance(secs(29));
    world.advance_deaf(secs(10));
    // The driver hands in what has arrived before it lets time-outs fire.
    world.completed(&worker, &order);
    world.advance(secs(1));
    assert_eq!(world.settled(&worker), [SettleOutcome::Applied]);
    assert_eq!(world.status(order.id), Status::Completed);
}

#[test]
fn a_new_worker_says_holding_before_it_gets_jobs_even_if_it_holds_nothing() {
    let mut world = World::new();
    let client = world.client();
    world.submit_one(client, job("a"));
    let worker = world.new_worker(work(&[("a", 1)]));
    assert!(!worker.welcome.resumed);
    assert!(world.orders(&worker).is_empty());
}

/// The names that the server counts jobs of.
fn known_names(world: &mut World) -> Vec<String> {
    world
        .stats_now()
        .names
        .into_iter()
        .map(|name| name.name)
        .collect()
}

#[test]
fn a_name_that_only_workers_know_is_forgotten_with_the_last_of_them() {
    let mut world = World::new();
    let client = world.client();
    world.submit_one(client, job("kept"));
    let names = [("kept", 0), ("one", 1), ("two", 1)];
    let workers = [0; 2].map(|_| world.worker(&names));
    assert_eq!(known_names(&mut world), ["kept", "one", "two"]);
    world.send(workers[0].peer, ServerMessage::Goodbye(Goodbye {}));
    assert_eq!(known_names(&mut world), ["kept", "one", "two"]);
    world.disconnect(workers[1].peer);
    world.advance(secs(6));
    assert_eq!(known_names(&mut world), ["kept"]);
    // Another name in its place is nobody else's.
    let other = world.worker(&[("other", 1)]);
    let id = world.submit_one(client, job("other"));
    assert_eq!(world.order(&other).id, id);
    assert_eq!(known_names(&mut world), ["kept", "other"]);
}

#[test]
fn a_worker_that_comes_back_with_other_names_again_and_again_is_known_by_its_last() {
    let mut world = World::new();
    let mut worker = world.worker(&[("0", 1)]);
    for round in 1..50 {
        let name = round.to_string();
        worker.work = work(&[(&name, 1), ("always", 1)]);
        worker = world.resume(&worker, vec![]);
        assert!(worker.welcome.resumed);
    }
    assert_eq!(known_names(&mut world), ["49", "always"]);
    let client = world.client();
    let id = world.submit_one(client, job("always"));
    assert_eq!(world.order(&worker).id, id);
    world.crash_and_restart();
    world.advance(secs(31));
    assert_eq!(known_names(&mut world), ["always"], "its session is over");
}

#[test]
fn a_hello_that_is_refused_leaves_no_names_behind() {
    let mut world = World::new();
    let twice = work(&[("a", 1), ("b", 1), ("a", 1)]);
    let (peer, welcome) = world.hello(Some(twice), None);
    assert!(welcome.is_none() && !world.is_open(peer));
    assert!(known_names(&mut world).is_empty());
}

#[test]
fn a_name_of_a_job_that_is_not_taken_in_is_forgotten() {
    let mut world = World::new();
    let client = world.client();
    let uuid = uuid::Uuid::from_u128(5);
    let named = |name: &str| Submission { uuid, ..job(name) };
    world.submit_one(client, named("a"));
    for name in ["b", "c"] {
        let receipts = world.receipts(client, vec![named(name)]);
        assert!(receipts[0].error.is_some());
    }
    assert_eq!(known_names(&mut world), ["a"]);
}

/// What a worker of so many names says, all of them its own.
fn work_on(names: usize, number: usize) -> Work {
    let names: Vec<String> = (0..names).map(|name| format!("worker-{number}-{name}")).collect();
    let names: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    work(&names)
}

#[test]
fn new_workers_of_many_names_come_in_one_after_the_other_and_keep_nobody_else_waiting() {
    let mut world = World::new();
    let mut waiting = Vec::new();
    for number in 0..20 {
        let (peer, welcome) = world.hello(Some(work_on(1_000, number)), None);
        if welcome.is_none() {
            waiting.push(peer);
        }
    }
    assert_eq!(
        waiting.len(),
        9,
        "ten thousand names are let in together, and those of one more worker"
    );
    // Others are not kept waiting, and who goes on with a session is not either.
    let few = world.new_worker(work_on(64, 20));
    world.client();
    world.disconnect(few.peer);
    world.resume(&few, Vec::new());
    // They say nothing before they are answered.
    for peer in &waiting {
        world.silence(*peer);
    }
    // Who is gone takes nobody's turn.
    world.disconnect(waiting.remove(0));
    world.advance(millis(40));
    let mut came_in = Vec::new();
    for _ in 0..8 {
        let mut is_in = |peer: &mut PeerId| {
            let said = world.messages(*peer);
            said.iter()
                .any(|message| matches!(message, ClientMessage::Hello(_)))
        };
        came_in.extend(waiting.extract_if(.., |peer| is_in(peer)));
        world.advance(millis(40));
    }
    assert_eq!(came_in.len(), 8, "each has its turn, {waiting:?}");
    assert!(
        came_in.is_sorted(),
        "in the order in which they came: {came_in:?}"
    );
}

#[test]
fn workers_of_many_names_that_are_lost_at_one_moment_are_dealt_with_one_after_the_other() {
    let mut world = World::new();
    let lost: Vec<_> = (0..3)
        .map(|number| world.new_worker(work_on(1_000, number)))
        .collect();
    for worker in &lost {
        world.silence(worker.peer);
    }
    world.now.mono = world.now.mono.plus(2 * jobq_server::Config::default().ttl);
    for left in [2, 1, 0] {
        world.take_all_in_one_turn();
        let open = lost.iter().filter(|worker| world.is_open(worker.peer)).count();
        assert_eq!(open, left);
        let is_due = world
            .machine
            .poll_timeout()
            .is_some_and(|at| at <= world.now.mono);
        assert_eq!(is_due, left > 0, "with {left} left");
    }
}

#[test]
fn runs_are_about_to_be_taken_when_their_worker_was_silent_and_not_when_it_was_heard() {
    let mut world = World::new();
    let (worker, _) = world.at_work();
    let ttl = jobq_server::Config::default().ttl;
    let begin = world.now.mono;
    assert!(!world.machine.takes_runs(begin.plus(ttl / 2)));
    world.advance(ttl / 2);
    assert!(!world.machine.takes_runs(begin.plus(ttl)), "its beats were heard");
    world.silence(worker.peer);
    assert!(world.machine.takes_runs(begin.plus(2 * ttl)));
}
