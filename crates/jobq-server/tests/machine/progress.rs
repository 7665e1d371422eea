//! How far runs have come: kept with the lease, shown by queries, told to those who watch.

use jobq_proto::message::{JobProgress, OrderedJob, Progress, ProgressedJob, RunProgress, RunState};
use jobq_proto::{ErrorCode, Fence, ServerMessage, Status};

use super::world::{Worker, World, held, job, millis, secs};

/// A client, and a worker that runs one job.
fn running() -> (World, jobq_transport::PeerId, Worker, OrderedJob) {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 9)]);
    world.submit_one(client, job("a"));
    let order = world.order(&worker);
    world.started(&worker, &order);
    (world, client, worker, order)
}

#[test]
fn a_query_shows_how_far_a_run_has_come() {
    let (mut world, _, worker, order) = running();
    assert_eq!(world.view(order.id).progress, None);
    let run = RunProgress {
        id: order.id,
        fence: order.fence,
        part: Some(2_000_000),
        text: "page\n3".to_owned(),
    };
    world.send(worker.peer, ServerMessage::Progress(Progress { runs: vec![run] }));
    let shown = JobProgress {
        part: Some(1_000_000),
        text: "page 3".to_owned(),
    };
    assert_eq!(world.view(order.id).progress, Some(shown));
}

#[test]
fn the_progress_of_a_run_is_forgotten_when_it_ends() {
    let (mut world, _, worker, order) = running();
    world.progress(&worker, &order, 500);
    world.released(&worker, &order);
    let again = world.order(&worker);
    assert_eq!(
        world.view(order.id).progress,
        None,
        "the next run has not said anything"
    );
    world.progress(&worker, &again, 10);
    world.completed(&worker, &again);
    assert_eq!(world.view(order.id).progress, None);
    assert_eq!(world.status(order.id), Status::Completed);
}

#[test]
fn progress_of_a_run_that_is_not_the_workers_current_one_is_ignored() {
    let (mut world, _, worker, order) = running();
    let other = world.worker(&[("b", 1)]);
    world.progress(&other, &order, 7);
    let stale = OrderedJob {
        fence: Fence {
            seq: order.fence.seq + 1,
            ..order.fence
        },
        ..order.clone()
    };
    world.progress(&worker, &stale, 7);
    world.progress(
        &worker,
        &OrderedJob {
            id: 99,
            ..order.clone()
        },
        7,
    );
    assert_eq!(world.view(order.id).progress, None);
    assert!(world.is_open(worker.peer) && world.is_open(other.peer));
}

#[test]
fn a_client_that_is_no_worker_may_not_report_progress() {
    let (mut world, client, ..) = running();
    world.send(client, ServerMessage::Progress(Progress { runs: vec![] }));
    assert_eq!(world.closed(client), Some(ErrorCode::NotAWorker));
}

#[test]
fn a_watch_is_told_the_progress_there_is_when_it_begins() {
    let (mut world, client, worker, order) = running();
    world.progress(&worker, &order, 500);
    let watch = world.follow(client, &[order.id]);
    let told = ProgressedJob {
        id: order.id,
        attempt: 1,
        progress: JobProgress {
            part: Some(500),
            text: String::new(),
        },
    };
    assert_eq!(world.progressed(client, watch), [[told]]);
}

#[test]
fn a_watch_that_does_not_ask_for_progress_is_not_told_of_it() {
    let (mut world, client, worker, order) = running();
    world.progress(&worker, &order, 1);
    let watch = world.watch(client, &[order.id], 0);
    world.progress(&worker, &order, 2);
    world.advance(secs(1));
    assert!(world.progressed(client, watch).is_empty());
}

#[test]
fn a_watch_is_told_the_latest_at_most_ten_times_a_second() {
    let (mut world, client, worker, order) = running();
    let watch = world.follow(client, &[order.id]);
    for part in 1..=100 {
        world.progress(&worker, &order, part);
        world.advance(millis(10));
    }
    world.advance(secs(1));
    let told = world.parts(client, watch);
    assert!(told.len() <= 11, "{told:?}");
    assert_eq!(
        told.first(),
        Some(&(order.id, Some(1))),
        "the first is told at once"
    );
    assert_eq!(
        told.last(),
        Some(&(order.id, Some(100))),
        "the last is told in the end"
    );
    assert!(told.is_sorted(), "{told:?}");
}

#[test]
fn the_same_progress_is_told_once() {
    let (mut world, client, worker, order) = running();
    let watch = world.follow(client, &[order.id]);
    for _ in 0..5 {
        world.progress(&worker, &order, 500);
        world.advance(secs(1));
    }
    assert_eq!(world.parts(client, watch), [(order.id, Some(500))]);
}

#[test]
fn progress_of_many_jobs_that_is_reported_together_is_told_together() {
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", 9)]);
    let jobs = world.submit(client, vec![job("a"), job("a"), job("a")]);
    let orders = world.orders(&worker);
    let watch = world.follow(client, &jobs);
    let runs = orders.iter().map(|order| RunProgress {
        id: order.id,
        fence: order.fence,
        part: Some(1),
        text: String::new(),
    });
    let runs = runs.collect();
    world.send(worker.peer, ServerMessage::Progress(Progress { runs }));
    let told = world.progressed(client, watch);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].len(), 3);
}

#[test]
fn no_progress_is_told_after_the_end() {
    let (mut world, client, worker, order) = running();
    let watch = world.follow(client, &[order.id]);
    world.progress(&worker, &order, 1);
    world.progress(&worker, &order, 2);
    world.completed(&worker, &order);
    world.advance(secs(1));
    assert_eq!(world.parts(client, watch), [(order.id, Some(1))]);
    assert_eq!(world.ended(client, watch).len(), 1);
}

#[test]
fn progress_that_waited_to_be_told_is_forgotten_with_its_run() {
    let (mut world, client, worker, order) = running();
    let watch = world.follow(client, &[order.id]);
    world.progress(&worker, &order, 1);
    world.progress(&worker, &order, 2);
    world.released(&worker, &order);
    world.advance(secs(1));
    assert_eq!(world.parts(client, watch), [(order.id, Some(1))]);
}

#[test]
fn nothing_is_told_after_unwatch() {
    let (mut world, client, worker, order) = running();
    let request = world.follow(client, &[order.id]);
    world.progress(&worker, &order, 1);
    world.progress(&worker, &order, 2);
    world.send(
        client,
        ServerMessage::Unwatch(jobq_proto::message::Unwatch { request }),
    );
    world.progress(&worker, &order, 3);
    world.advance(secs(1));
    assert_eq!(world.parts(client, request), [(order.id, Some(1))]);
}

#[test]
fn a_client_that_reads_slowly_is_told_the_latest_once_it_has_room() {
    let (mut world, client, worker, order) = running();
    let watch = world.follow(client, &[order.id]);
    world.set_congested(client, true);
    for part in 1..=50 {
        world.progress(&worker, &order, part);
        world.advance(millis(50));
    }
    assert!(world.parts(client, watch).is_empty());
    world.set_congested(client, false);
    world.advance(secs(1));
    assert_eq!(world.parts(client, watch), [(order.id, Some(50))]);
}

#[test]
fn what_is_told_at_once_is_cut_and_every_job_has_its_turn() {
    const JOBS: usize = 1_000;
    let mut world = World::new();
    let client = world.client();
    let worker = world.worker(&[("a", JOBS as u32)]);
    let jobs = world.submit(client, vec![job("a"); JOBS]);
    let orders = world.orders(&worker);
    let watch = world.follow(client, &jobs);
    let report = |world: &mut World, part| {
        let runs = orders.iter().map(|order| RunProgress {
            id: order.id,
            fence: order.fence,
            part: Some(part),
            text: "x".repeat(256),
        });
        let runs = runs.collect();
        world.send(worker.peer, ServerMessage::Progress(Progress { runs }));
    };
    let mut seen = std::collections::BTreeSet::new();
    for part in 0..10 {
        report(&mut world, part);
        world.advance(millis(100));
    }
    for told in world.progressed(client, watch) {
        assert!(told.len() < 300, "{} jobs at once", told.len());
        seen.extend(told.into_iter().map(|job| job.id));
    }
    assert_eq!(seen.len(), JOBS);
}

#[test]
fn progress_said_while_a_run_is_adopted_counts_once_it_is() {
    let (mut world, _, worker, order) = running();
    world.crash_and_restart();
    world.hold_reads();
    let worker = world.resume(&worker, vec![held(&order, RunState::Running)]);
    world.progress(&worker, &order, 500);
    world.release_reads();
    let progress = world.view(order.id).progress.expect("the run goes on");
    assert_eq!(progress.part, Some(500));
}
