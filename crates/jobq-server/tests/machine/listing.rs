//! At every moment, each job is in the listing of one status and counted in one.

use jobq_proto::Status;
use jobq_proto::message::{CancelOutcome, Query};

use super::world::{World, job, millis, secs};

const STATUSES: [Status; 6] = [
    Status::Scheduled,
    Status::Queued,
    Status::Processing,
    Status::Completed,
    Status::Failed,
    Status::Cancelled,
];

/// In the listings of which statuses a job is, alone and together with its name.
fn listed_as(world: &mut World, id: u64) -> Vec<Status> {
    let client = world.client();
    let mut found = Vec::new();
    for status in STATUSES {
        let by_status = Query {
            status: Some(status),
            ..Query::default()
        };
        let by_name_too = Query {
            name: Some("a".to_owned()),
            ..by_status.clone()
        };
        let [alone, named] = [by_status, by_name_too].map(|query| {
            let jobs = world.query(client, query).jobs;
            jobs.iter().filter(|job| job.id == id).count()
        });
        assert_eq!(alone, named, "{status}");
        found.extend(std::iter::repeat_n(status, alone));
    }
    world.disconnect(client);
    found
}

/// As what the one job that there is counts.
fn counted_as(world: &mut World) -> Vec<Status> {
    let total = world.stats_now().total;
    let counts = [
        total.scheduled,
        total.queued,
        total.processing,
        total.completed,
        total.failed,
        total.cancelled,
    ];
    let mut counted = Vec::new();
    for (status, count) in STATUSES.into_iter().zip(counts) {
        counted.extend(std::iter::repeat_n(
            status,
            usize::try_from(count).expect("one job is counted"),
        ));
    }
    counted
}

fn assert_stands(world: &mut World, id: u64, status: Status) {
    assert_eq!(listed_as(world, id), [status]);
    assert_eq!(world.status(id), status);
    assert_eq!(counted_as(world), [status]);
}

#[test]
fn a_recorded_run_is_processing_after_a_restart_until_its_session_is_given_up() {
    let mut world = World::new();
    let (_, order) = world.at_work();
    let id = order.id;
    world.advance(millis(250));
    world.crash_and_restart();
    assert_stands(&mut world, id, Status::Processing);
    world.advance(secs(29));
    assert_stands(&mut world, id, Status::Processing);
    world.advance(secs(2));
    assert_stands(&mut world, id, Status::Queued);
}

#[test]
fn a_run_that_was_not_recorded_is_queued_after_a_restart() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    world.order(&worker);
    world.crash_and_restart();
    assert_stands(&mut world, id, Status::Queued);
}

#[test]
fn a_recorded_run_whose_session_is_gone_at_a_restart_is_queued_at_once_uncharged() {
    let mut world = World::new();
    let (_, order) = world.at_work();
    let id = order.id;
    world.advance(millis(250));
    world.crash_and_restart_without_sessions();
    assert_stands(&mut world, id, Status::Queued);
    assert_eq!(world.view(id).charges, 0);
    let other = world.worker(&[("a", 1)]);
    assert_eq!(world.order(&other).id, id);
}

#[test]
fn a_job_whose_worker_is_lost_is_processing_until_the_disk_has_it_waiting() {
    let mut world = World::new();
    let (worker, order) = world.at_work();
    let id = order.id;
    world.advance(millis(250));
    world.hold_disk();
    world.disconnect(worker.peer);
    world.advance(secs(6));
    assert_eq!(listed_as(&mut world, id), [Status::Processing]);
    assert_eq!(world.status(id), Status::Processing);
    assert_eq!(counted_as(&mut world), [Status::Queued], "no worker has it");
    world.release_disk();
    assert_stands(&mut world, id, Status::Queued);
}

#[test]
fn a_job_that_failed_and_waits_for_its_retry_is_processing_until_the_disk_has_that() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.hold_disk();
    world.failed_with(&worker, &order, false, Some(60_000_000));
    assert_eq!(listed_as(&mut world, id), [Status::Processing]);
    assert_eq!(counted_as(&mut world), [Status::Scheduled]);
    world.release_disk();
    assert_stands(&mut world, id, Status::Scheduled);
}

#[test]
fn a_job_that_completed_is_processing_in_listings_until_the_disk_has_its_end() {
    let mut world = World::new();
    let (worker, order) = world.with_order();
    let id = order.id;
    world.hold_disk();
    world.completed(&worker, &order);
    assert_eq!(listed_as(&mut world, id), [Status::Processing]);
    assert_eq!(world.status(id), Status::Processing);
    world.release_disk();
    assert_stands(&mut world, id, Status::Completed);
}

#[test]
fn a_job_that_is_cancelled_while_it_waits_is_queued_in_listings_until_the_disk_has_its_end() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    world.hold_disk();
    world.cancel_later(client, &[id]);
    assert_eq!(listed_as(&mut world, id), [Status::Queued]);
    world.release_disk();
    assert_stands(&mut world, id, Status::Cancelled);
}

#[test]
fn a_job_whose_worker_is_lost_is_cancelled_as_one_that_waits_once_the_disk_has_it_waiting() {
    let mut world = World::new();
    let client = world.client();
    let (worker, order) = world.at_work();
    let id = order.id;
    world.advance(millis(250));
    world.hold_disk();
    world.disconnect(worker.peer);
    world.advance(secs(6));
    let request = world.cancel_later(client, &[id]);
    assert_eq!(world.cancelled(client, request), None);
    world.release_disk();
    assert_eq!(
        world.cancelled(client, request),
        Some(vec![CancelOutcome::Cancelled])
    );
    assert_stands(&mut world, id, Status::Cancelled);
}

#[test]
fn a_run_from_before_a_restart_is_cancelled_before_its_worker_is_back() {
    let mut world = World::new();
    let (_, order) = world.at_work();
    let id = order.id;
    world.advance(millis(250));
    world.crash_and_restart();
    let client = world.client();
    assert_eq!(world.cancel(client, &[id]), [CancelOutcome::Marked]);
    assert_stands(&mut world, id, Status::Processing);
    world.advance(secs(31));
    assert_stands(&mut world, id, Status::Cancelled);
}

#[test]
fn pages_of_what_is_processing_neither_repeat_nor_skip_jobs_whose_runs_end_meanwhile() {
    let mut world = World::new();
    let client = world.client();
    let submitted = world.submit(client, (0..9).map(|_| job("a")).collect());
    let worker = world.worker(&[("a", 9)]);
    let orders = world.orders(&worker);
    world.advance(millis(250));
    world.hold_disk();
    let page = |before| Query {
        status: Some(Status::Processing),
        limit: Some(2),
        before,
        ..Query::default()
    };
    let mut listed = Vec::new();
    let mut before = None;
    // The jobs of every second page leave their worker between the pages, the oldest first.
    for order in orders.iter().step_by(2) {
        let jobs = world.query(client, page(before));
        listed.extend(jobs.jobs.iter().map(|job| job.id));
        before = jobs.next;
        world.released(&worker, order);
    }
    let newest_first: Vec<u64> = submitted.into_iter().rev().collect();
    assert_eq!(listed, newest_first);
    assert_eq!(before, None);
}
