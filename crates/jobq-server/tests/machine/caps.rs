//! Caps: how many jobs of a name, and of all names, workers have at a time.

use std::num::NonZeroU32;

use jobq_proto::ErrorCode;
use jobq_proto::message::{RunState, Work};
use jobq_server::Config;

use super::world::{World, held, ids, job, millis, secs, sized, urgent, work};

fn capped(caps: &[(&str, u32)]) -> Config {
    let cap = |(name, cap): &(&str, u32)| {
        let cap = NonZeroU32::new(*cap).expect("a cap is at least 1");
        (name.parse().expect("the name is good"), cap)
    };
    let mut config = Config::default();
    config.caps = caps.iter().map(cap).collect();
    config
}

/// What a worker wants that runs `running` jobs of each name and in all, and prefetches.
fn prefetching(names: &[&str], running: u32, prefetch: u32) -> Work {
    let names: Vec<(&str, u32)> = names.iter().map(|name| (*name, running + prefetch)).collect();
    Work {
        jobs: running + prefetch,
        prefetch,
        ..work(&names)
    }
}

#[test]
fn no_more_jobs_of_a_name_are_leased_than_its_cap_over_all_workers() {
    let mut world = World::with(capped(&[("a", 3)]));
    let client = world.client();
    let one = world.worker(&[("a", 2)]);
    let other = world.worker(&[("a", 2)]);
    world.submit(client, vec![job("a"); 5]);
    let orders = [world.orders(&one), world.orders(&other)];
    assert_eq!(orders[0].len() + orders[1].len(), 3);
    world.completed(&one, &orders[0][0]);
    assert_eq!(world.orders(&one).len() + world.orders(&other).len(), 1);
}

#[test]
fn a_cap_is_reached_again_however_runs_end() {
    let mut world = World::with(capped(&[("a", 1)]));
    let client = world.client();
    let worker = world.worker(&[("a", 9)]);
    let jobs = world.submit(client, vec![job("a"); 6]);
    let order = world.order(&worker);
    world.completed(&worker, &order);
    let order = world.order(&worker);
    world.failed(&worker, &order);
    let order = world.order(&worker);
    assert_eq!(order.id, jobs[2]);
    world.cancel(client, &[order.id]);
    world.released(&worker, &order);
    let order = world.order(&worker);
    assert_eq!(order.id, jobs[3]);
    let other = world.worker(&[("a", 9)]);
    world.disconnect(worker.peer);
    world.advance(secs(6));
    assert_eq!(world.order(&other).id, jobs[4], "the lost one is not on disk yet");
    assert_eq!(world.stats_now().total.processing, 1);
}

#[test]
fn jobs_of_a_name_at_its_cap_hold_no_others_up() {
    let mut world = World::with(capped(&[("slow", 1)]));
    let client = world.client();
    let worker = world.worker(&[("slow", 9), ("quick", 9)]);
    let slow = world.submit(client, vec![urgent("slow", "High"); 1_000]);
    world.advance(millis(1));
    let quick = world.submit(client, vec![urgent("quick", "Low"); 3]);
    assert_eq!(ids(&world.orders(&worker)), [&slow[..1], &quick[..]].concat());
}

#[test]
fn a_cap_of_a_name_and_the_cap_of_all_both_hold() {
    let mut config = capped(&[("a", 2)]);
    config.max_active = Some(3);
    let mut world = World::with(config);
    let client = world.client();
    let worker = world.worker(&[("a", 9), ("b", 9)]);
    world.submit(client, vec![job("a"), job("a"), job("a"), job("b"), job("b")]);
    let orders = world.orders(&worker);
    assert_eq!(ids(&orders), [1, 2, 4]);
    world.completed(&worker, &orders[2]);
    assert_eq!(ids(&world.orders(&worker)), [5], "a is at its cap still");
    world.completed(&worker, &orders[0]);
    assert_eq!(ids(&world.orders(&worker)), [3]);
}

#[test]
fn suspects_count_towards_the_cap_of_their_name() {
    let mut world = World::with(capped(&[("a", 1)]));
    let client = world.client();
    let worker = world.worker(&[("a", 9)]);
    world.submit(client, vec![job("a"); 2]);
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.disconnect(worker.peer);
    world.advance(secs(6));
    let worker = world.worker(&[("a", 9)]);
    let suspect = world.order(&worker);
    assert_eq!(suspect.id, order.id);
    world.completed(&worker, &suspect);
    assert_eq!(world.order(&worker).id, 2);
}

#[test]
fn a_job_of_a_capped_name_goes_to_no_worker_where_it_would_wait() {
    let mut world = World::with(capped(&[("a", 8)]));
    let client = world.client();
    let worker = world.new_worker(prefetching(&["a"], 2, 4));
    world.hold(&worker, vec![]);
    world.submit(client, vec![job("a"); 9]);
    let orders = world.orders(&worker);
    assert_eq!(ids(&orders), [1, 2], "it runs two at a time");
    let other = world.worker(&[("a", 2)]);
    assert_eq!(ids(&world.orders(&other)), [3, 4]);
    world.completed(&worker, &orders[0]);
    assert_eq!(ids(&world.orders(&worker)), [5]);
}

#[test]
fn a_name_without_a_cap_is_prefetched() {
    let mut world = World::with(capped(&[("b", 1)]));
    let client = world.client();
    let worker = world.new_worker(prefetching(&["a", "b"], 2, 4));
    world.hold(&worker, vec![]);
    world.submit(client, vec![job("a"); 9]);
    assert_eq!(world.orders(&worker).len(), 6);
}

#[test]
fn prefetched_jobs_keep_no_job_of_a_capped_name_waiting_for_ever() {
    let mut world = World::with(capped(&[("b", 1)]));
    let client = world.client();
    let worker = world.new_worker(prefetching(&["a", "b"], 2, 4));
    world.hold(&worker, vec![]);
    world.submit(client, vec![job("a"); 6]);
    let mut running = world.orders(&worker);
    let capped = world.submit_one(client, job("b"));
    for _ in 0..10 {
        world.advance(millis(1));
        world.submit_one(client, job("a"));
        let first = running.remove(0);
        world.completed(&worker, &first);
        running.extend(world.orders(&worker));
        if let Some(place) = ids(&running).iter().position(|id| *id == capped) {
            assert_eq!(place, 1, "it runs at once");
            return;
        }
    }
    panic!("{capped} still waits");
}

#[test]
fn jobs_that_wait_at_a_worker_for_one_of_their_own_name_keep_its_places_from_no_job_of_a_capped_name() {
    let mut world = World::with(capped(&[("a", 1)]));
    let client = world.client();
    // It runs four at a time, one of them of the name b, and prefetches four.
    let worker = world.new_worker(Work {
        jobs: 8,
        prefetch: 4,
        ..work(&[("a", 8), ("b", 5)])
    });
    world.hold(&worker, vec![]);
    world.submit(client, vec![job("b"); 5]);
    assert_eq!(world.orders(&worker).len(), 5, "one runs, four wait for it");
    let capped = world.submit_one(client, job("a"));
    assert_eq!(ids(&world.orders(&worker)), [capped], "three places are free");
}

#[test]
fn a_worker_kept_free_for_a_name_that_comes_to_its_cap_takes_others() {
    let mut world = World::with(capped(&[("b", 1)]));
    let client = world.client();
    let worker = world.new_worker(prefetching(&["a", "b"], 1, 4));
    world.hold(&worker, vec![]);
    world.submit_one(client, job("a"));
    assert_eq!(world.orders(&worker).len(), 1);
    world.advance(millis(1));
    world.submit(client, vec![job("b"), job("b")]);
    world.advance(millis(1));
    world.submit_one(client, job("a"));
    assert!(world.orders(&worker).is_empty(), "it keeps itself free for b");
    let other = world.worker(&[("b", 1)]);
    assert_eq!(world.orders(&other).len(), 1);
    assert_eq!(ids(&world.orders(&worker)), [4], "b is at its cap");
}

#[test]
fn limits_that_leave_out_what_is_prefetched_are_refused() {
    let mut world = World::new();
    let bad = Work {
        prefetch: 4,
        ..work(&[("a", 4)])
    };
    let (peer, welcome) = world.hello(Some(bad), None);
    assert!(welcome.is_none());
    assert_eq!(world.closed(peer), Some(ErrorCode::BadRequest));
}

#[test]
fn runs_that_go_on_after_a_restart_may_exceed_a_cap_and_nothing_is_added_to_them() {
    let mut world = World::with(Config::default());
    let client = world.client();
    let worker = world.worker(&[("a", 4)]);
    world.submit(client, vec![job("a"); 6]);
    let orders = world.orders(&worker);
    assert_eq!(orders.len(), 4);
    world.advance(secs(1));
    world.config.caps = capped(&[("a", 2)]).caps;
    world.crash_and_restart();
    let runs = orders
        .iter()
        .map(|order| held(order, RunState::Running))
        .collect();
    let worker = world.resume(&worker, runs);
    for order in &orders[..2] {
        world.completed(&worker, order);
        assert!(world.orders(&worker).is_empty());
    }
    for (order, next) in orders[2..].iter().zip([5, 6]) {
        world.completed(&worker, order);
        assert_eq!(world.order(&worker).id, next);
    }
}

#[test]
fn a_large_job_of_a_name_at_its_cap_keeps_no_worker_free() {
    let mut world = World::with(capped(&[("large", 1)]));
    let client = world.client();
    let other = world.worker(&[("large", 1)]);
    world.submit_one(client, sized("large", 10));
    assert_eq!(world.orders(&other).len(), 1);
    let worker = world.new_worker(Work {
        bytes: 100,
        ..work(&[("large", 9), ("small", 9)])
    });
    world.hold(&worker, vec![]);
    world.submit(client, vec![sized("small", 10)]);
    assert_eq!(world.orders(&worker).len(), 1);
    world.submit(client, vec![sized("large", 500), sized("small", 10)]);
    assert_eq!(ids(&world.orders(&worker)), [4]);
}

#[test]
fn stats_show_the_cap_of_a_name() {
    let mut world = World::with(capped(&[("a", 7)]));
    let client = world.client();
    world.submit(client, vec![job("a"), job("b")]);
    let names = world.stats(client).names;
    let caps: Vec<_> = names.iter().map(|n| (n.name.as_str(), n.cap)).collect();
    assert_eq!(caps, [("a", Some(7)), ("b", None)]);
}
