//! A worker that keeps itself free for a large job is given what is more urgent meanwhile.

use jobq_proto::ServerMessage;
use jobq_proto::message::{Goodbye, OrderedJob, Submission, Work};

use super::world::{Worker, World, ids, job, millis, sized, urgent, work};

/// A worker with room for 100 bytes that has 60 of them, and keeps itself free for a job that takes 90.
fn keeping_free(world: &mut World, names: &[(&str, u32)]) -> (Worker, OrderedJob) {
    let client = world.client();
    let worker = world.new_worker(Work {
        bytes: 100,
        ..work(names)
    });
    world.hold(&worker, vec![]);
    world.submit_one(client, sized("a", 60));
    let order = world.order(&worker);
    world.submit(client, vec![sized("a", 90), sized("a", 1)]);
    assert!(world.orders(&worker).is_empty(), "it keeps itself free");
    (worker, order)
}

fn urgent_of(name: &str, bytes: usize) -> Submission {
    Submission {
        params: sized(name, bytes).params,
        ..urgent(name, "High")
    }
}

#[test]
fn an_urgent_job_of_the_same_name_is_handed_out_at_once() {
    let mut world = World::new();
    let (worker, _) = keeping_free(&mut world, &[("a", 9)]);
    let client = world.client();
    let urgent = world.submit_one(client, urgent_of("a", 10));
    assert_eq!(ids(&world.orders(&worker)), [urgent]);
}

#[test]
fn an_urgent_job_of_another_name_is_handed_out_at_once() {
    for was_there in [false, true] {
        let mut world = World::new();
        let (worker, _) = keeping_free(&mut world, &[("a", 9), ("b", 9)]);
        let client = world.client();
        if was_there {
            world.submit_one(client, job("b"));
        }
        let urgent = world.submit_one(client, urgent_of("b", 10));
        assert_eq!(ids(&world.orders(&worker)), [urgent]);
    }
}

#[test]
fn urgent_jobs_are_handed_out_as_far_as_they_fit_and_the_large_one_is_next() {
    let mut world = World::new();
    let (worker, first) = keeping_free(&mut world, &[("a", 9), ("b", 9)]);
    let client = world.client();
    let jobs = (0..3).map(|_| urgent_of("b", 20)).collect();
    let urgent = world.submit(client, jobs);
    let orders = world.orders(&worker);
    assert_eq!(ids(&orders), urgent[..2]);
    world.completed(&worker, &orders[0]);
    assert_eq!(ids(&world.orders(&worker)), urgent[2..]);
    world.completed(&worker, &first);
    assert!(
        world.orders(&worker).is_empty(),
        "the large one is next, and does not fit yet"
    );
}

#[test]
fn a_job_that_is_less_urgent_is_not() {
    let mut world = World::new();
    let (worker, _) = keeping_free(&mut world, &[("a", 9), ("b", 9)]);
    let client = world.client();
    world.advance(millis(10));
    world.submit(client, vec![sized("b", 1), urgent("b", "Low")]);
    assert!(world.orders(&worker).is_empty());
}

#[test]
fn the_one_of_many_workers_that_has_the_name_of_the_urgent_job_gets_it() {
    let mut world = World::new();
    let client = world.client();
    let mut names = vec![vec![("a", 9)]; 5];
    names.push(vec![("a", 9), ("b", 9)]);
    let workers: Vec<Worker> = names
        .iter()
        .map(|names| {
            let worker = world.new_worker(Work {
                bytes: 100,
                ..work(names)
            });
            world.hold(&worker, vec![]);
            worker
        })
        .collect();
    world.submit(client, (0..6).map(|_| sized("a", 60)).collect());
    assert!(workers.iter().all(|worker| world.orders(worker).len() == 1));
    world.submit_one(client, sized("a", 90));
    let urgent = world.submit_one(client, urgent_of("b", 10));
    let got: Vec<Vec<u64>> = workers.iter().map(|worker| ids(&world.orders(worker))).collect();
    assert_eq!(got[5], [urgent]);
    assert!(got[..5].iter().all(Vec::is_empty));
}

#[test]
fn an_urgent_job_that_another_worker_gives_back_is_handed_out_at_once() {
    let mut world = World::new();
    let client = world.client();
    let other = world.worker(&[("b", 1)]);
    let urgent = world.submit_one(client, urgent_of("b", 10));
    assert_eq!(world.order(&other).id, urgent);
    let (worker, _) = keeping_free(&mut world, &[("a", 9), ("b", 9)]);
    world.send(other.peer, ServerMessage::Goodbye(Goodbye {}));
    assert_eq!(ids(&world.orders(&worker)), [urgent]);
}

#[test]
fn an_urgent_job_that_does_not_fit_is_what_the_worker_keeps_itself_free_for() {
    let mut world = World::new();
    let (worker, first) = keeping_free(&mut world, &[("a", 9), ("b", 9)]);
    let client = world.client();
    let urgent = world.submit(client, vec![urgent_of("b", 95), urgent_of("b", 10)]);
    assert!(
        world.orders(&worker).is_empty(),
        "the first does not fit, and is not passed over"
    );
    world.completed(&worker, &first);
    assert_eq!(ids(&world.orders(&worker)), urgent[..1]);
}
