//! A worker is never given more than it asked for.

use jobq_proto::ServerMessage;
use jobq_proto::limits::{MAX_HELD, MAX_HELD_BYTES};
use jobq_proto::message::{Completed, CompletedRun, Credit, NameCredit, Work};

use super::world::{World, ids, job, millis, secs, sized, urgent, work};

fn credit(
    world: &mut World,
    worker: &super::world::Worker,
    name: Option<(&str, u32)>,
    jobs: Option<u32>,
    bytes: Option<u64>,
) {
    let names = name
        .into_iter()
        .map(|(name, jobs)| NameCredit {
            name: name.to_owned(),
            jobs,
        })
        .collect();
    world.send(worker.peer, ServerMessage::Credit(Credit { names, jobs, bytes }));
}

#[test]
fn a_worker_gets_no_more_jobs_of_a_name_than_its_credit_for_it() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 2), ("b", 1)]);
    world.submit(client, vec![job("a"), job("a"), job("a"), job("b"), job("b")]);
    let orders = world.orders(&worker);
    assert_eq!(ids(&orders), [1, 2, 4]);
    world.completed(&worker, &orders[2]);
    assert_eq!(world.order(&worker).id, 5, "b has room again, a has none");
}

#[test]
fn a_worker_gets_no_more_jobs_than_its_credit_over_all_names() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.new_worker(Work {
        jobs: 2,
        ..work(&[("a", 9), ("b", 9)])
    });
    world.hold(&worker, vec![]);
    world.submit(client, vec![job("a"), job("b"), job("a")]);
    let orders = world.orders(&worker);
    assert_eq!(orders.len(), 2);
    world.released(&worker, &orders[1]);
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn a_worker_gets_no_more_bytes_than_its_credit() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.new_worker(Work {
        bytes: 100,
        ..work(&[("a", 9)])
    });
    world.hold(&worker, vec![]);
    world.submit(client, vec![sized("a", 60), sized("a", 40), sized("a", 1)]);
    let orders = world.orders(&worker);
    assert_eq!(ids(&orders), [1, 2]);
    world.completed(&worker, &orders[1]);
    assert_eq!(ids(&world.orders(&worker)), [3]);
}

#[test]
fn one_job_is_always_sent_however_large_it_is() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.new_worker(Work {
        bytes: 10,
        ..work(&[("a", 9)])
    });
    world.hold(&worker, vec![]);
    world.submit(client, vec![sized("a", 500), sized("a", 500)]);
    let order = world.order(&worker);
    world.completed(&worker, &order);
    assert_eq!(world.order(&worker).id, 2);
}

#[test]
fn a_large_job_is_not_passed_over_for_ever_by_small_ones_of_another_name() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.new_worker(Work {
        bytes: 100,
        ..work(&[("small", 9), ("large", 9)])
    });
    world.hold(&worker, vec![]);
    world.submit(client, vec![sized("small", 10), sized("small", 10)]);
    let mut running = world.orders(&worker);
    assert_eq!(running.len(), 2);
    let large = world.submit_one(client, sized("large", 200));
    for _ in 0..5 {
        world.advance(millis(10));
        world.submit_one(client, sized("small", 10));
        let order = running.remove(0);
        world.completed(&worker, &order);
        running.extend(world.orders(&worker));
        if ids(&running).contains(&large) {
            return;
        }
    }
    panic!("the large job still waits, and {running:?} were preferred");
}

#[test]
fn a_job_that_does_not_fit_a_busy_worker_goes_to_an_idle_one_at_once() {
    let mut world = World::new();
    let client = world.client();
    let busy = world.new_worker(Work {
        bytes: 100,
        ..work(&[("a", 9)])
    });
    world.hold(&busy, vec![]);
    world.submit(client, vec![sized("a", 90), sized("a", 50)]);
    assert_eq!(ids(&world.orders(&busy)), [1]);
    let idle = world.worker(&[("a", 9)]);
    assert_eq!(ids(&world.orders(&idle)), [2]);
    world.submit_one(client, sized("a", 5));
    assert_eq!(world.orders(&idle).len() + world.orders(&busy).len(), 1);
}

#[test]
fn a_credit_of_zero_means_none_until_it_is_raised() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 0), ("b", 1)]);
    world.submit(client, vec![job("a"), job("a")]);
    assert!(world.orders(&worker).is_empty());
    credit(&mut world, &worker, Some(("a", 1)), None, None);
    assert_eq!(ids(&world.orders(&worker)), [1]);
    credit(&mut world, &worker, Some(("a", 2)), Some(2), None);
    assert_eq!(ids(&world.orders(&worker)), [2]);
}

#[test]
fn a_lowered_credit_takes_nothing_back_and_gives_nothing_more() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 2)]);
    world.submit(client, vec![job("a"), job("a"), job("a")]);
    let orders = world.orders(&worker);
    credit(&mut world, &worker, None, Some(0), None);
    world.completed(&worker, &orders[0]);
    world.completed(&worker, &orders[1]);
    assert!(world.orders(&worker).is_empty());
    credit(&mut world, &worker, None, Some(2), Some(0));
    assert_eq!(world.orders(&worker).len(), 1, "one is always sent");
}

#[test]
fn credit_for_names_that_are_not_the_workers_is_ignored() {
    let mut world = World::new();
    let client = world.client();
    world.submit(client, vec![job("b")]);
    let worker = world.worker(&[("a", 1)]);
    credit(&mut world, &worker, Some(("b", 5)), None, None);
    assert!(world.orders(&worker).is_empty());
    assert!(world.is_open(worker.peer));
}

#[test]
fn nothing_is_ordered_before_holding() {
    let mut world = World::new();
    let client = world.client();
    world.submit(client, vec![job("a")]);
    let worker = world.new_worker(work(&[("a", 1)]));
    world.advance(secs(1));
    assert!(world.orders(&worker).is_empty());
    world.hold(&worker, vec![]);
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn nothing_is_ordered_before_the_session_is_on_disk() {
    let mut world = World::new();
    let client = world.client();
    world.submit(client, vec![job("a")]);
    world.hold_disk();
    let worker = world.worker(&[("a", 1)]);
    assert!(world.orders(&worker).is_empty());
    world.release_disk();
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn a_session_that_comes_back_with_other_names_gets_none_of_them_before_they_are_on_disk() {
    let mut world = World::new();
    let client = world.client();
    world.submit(client, vec![job("b")]);
    // The first record is held up on its way, while the session comes back with another one.
    world.hold_disk();
    let mut worker = world.worker(&[("a", 1)]);
    world.disconnect(worker.peer);
    worker.work = work(&[("b", 1)]);
    let worker = world.resume(&worker, vec![]);
    assert!(worker.welcome.resumed);
    // Batch 1 has the job, batch 2 the first record of the session.
    world.let_through(2);
    assert!(
        world.orders(&worker).is_empty(),
        "only the names before are on disk"
    );
    world.release_disk();
    assert_eq!(world.orders(&worker).len(), 1);
}

#[test]
fn jobs_go_round_among_the_workers_of_a_name() {
    let mut world = World::new();
    let client = world.client();
    let workers = [0; 3].map(|_| world.worker(&[("a", 10)]));
    world.submit(client, (0..9).map(|_| job("a")).collect());
    for worker in &workers {
        assert_eq!(world.orders(worker).len(), 3);
    }
}

#[test]
fn max_active_caps_the_leases_of_all_workers_together() {
    let mut world = World::configured(|config| config.max_active = Some(2));
    let client = world.client();
    let (one, two) = (world.worker(&[("a", 9)]), world.worker(&[("a", 9)]));
    world.submit(client, (0..6).map(|_| urgent("a", "Low")).collect());
    let (first, second) = (world.orders(&one), world.orders(&two));
    assert_eq!(first.len() + second.len(), 2);
    world.completed(&one, &first[0]);
    assert_eq!(world.orders(&one).len() + world.orders(&two).len(), 1);
}

#[test]
fn max_active_is_reached_again_after_workers_are_lost() {
    let mut world = World::configured(|config| config.max_active = Some(3));
    let client = world.client();
    world.submit(client, (0..9).map(|_| job("a")).collect());
    for _ in 0..4 {
        let worker = world.worker(&[("a", 9)]);
        assert_eq!(world.orders(&worker).len(), 3);
        world.disconnect(worker.peer);
        world.advance(secs(6));
    }
    let worker = world.worker(&[("a", 9)]);
    world.orders(&worker);
    world.advance(secs(1));
    world.crash_and_restart();
    let other = world.worker(&[("a", 9)]);
    world.advance(secs(31));
    assert_eq!(world.orders(&other).len(), 3);
}

#[test]
fn a_worker_is_not_sent_more_than_it_can_hold_while_its_reports_wait_for_the_disk() {
    let mut world = World::new();
    let client = world.client();
    let step = 2_000;
    let worker = world.worker(&[("a", step)]);
    for _ in 0..8 {
        world.submit(client, (0..step).map(|_| job("a")).collect());
    }
    world.hold_disk();
    let mut unsettled = 0;
    loop {
        let orders = world.orders(&worker);
        if orders.is_empty() {
            break;
        }
        unsettled += orders.len();
        assert!(unsettled <= MAX_HELD, "{unsettled} runs are the worker's");
        let runs = orders.iter().map(|order| CompletedRun {
            id: order.id,
            fence: order.fence,
            ran: 0,
            result: None,
        });
        let completed = Completed { runs: runs.collect() };
        world.send(worker.peer, ServerMessage::Completed(completed));
    }
    assert_eq!(unsettled, MAX_HELD, "credit alone would have let it have more");
    world.release_disk();
    assert_eq!(world.settled(&worker).len(), MAX_HELD);
    assert_eq!(
        world.orders(&worker).len(),
        step as usize,
        "what is settled makes room"
    );
}

#[test]
fn no_credit_lets_a_worker_hold_more_bytes_than_are_queued_for_a_connection() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.new_worker(Work {
        bytes: u64::MAX,
        ..work(&[("a", 99)])
    });
    world.hold(&worker, vec![]);
    for _ in 0..5 {
        world.submit(client, (0..4).map(|_| sized("a", 1_000_000)).collect());
    }
    let bytes: u64 = world
        .orders(&worker)
        .iter()
        .map(|order| order.params.len() as u64)
        .sum();
    assert!(
        bytes > 0 && bytes <= MAX_HELD_BYTES,
        "{bytes} bytes are the worker's"
    );
}
