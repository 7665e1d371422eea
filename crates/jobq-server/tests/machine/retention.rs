//! How long records of ended jobs are kept.

use std::sync::Arc;
use std::time::Duration;

use jobq_proto::message::{CancelOutcome, Query, Submission};
use jobq_proto::{ErrorCode, Status};
use jobq_server::Keep;
use jobq_server::store::{ByEnd, NameTotals, Pruned};

use super::world::{World, job, secs};

/// Completed ones for 200 s, dead letters for 1,000 s, cancelled ones for ever.
fn keep() -> Keep {
    let mut keep = Keep::default();
    keep.completed = Some(secs(200));
    keep.failed = Some(secs(1_000));
    keep.cancelled = None;
    keep
}

/// The same but for what is changed.
fn kept(change: impl FnOnce(&mut Keep)) -> Keep {
    let mut keep = keep();
    change(&mut keep);
    keep
}

fn world(keep: Keep) -> World {
    World::configured(|config| config.keep = keep)
}

/// Runs a job of its own name to its end in this status.
fn end(world: &mut World, name: &str, status: Status) -> u64 {
    let client = world.client();
    let submission = Submission {
        max_attempts: Some(1),
        ..job(name)
    };
    let id = world.submit_one(client, submission);
    match status {
        Status::Cancelled => assert_eq!(world.cancel(client, &[id]), [CancelOutcome::Cancelled]),
        _ => {
            let worker = world.worker(&[(name, 1)]);
            let order = world.order(&worker);
            if status == Status::Completed {
                world.completed(&worker, &order);
            } else {
                world.failed(&worker, &order);
            }
            world.disconnect(worker.peer);
        }
    }
    assert_eq!(world.status(id), status);
    world.disconnect(client);
    id
}

fn exists(world: &mut World, id: u64) -> bool {
    let client = world.client();
    let query = Query {
        ids: vec![id],
        ..Query::default()
    };
    let found = !world.query(client, query).jobs.is_empty();
    world.disconnect(client);
    found
}

#[test]
fn a_record_goes_when_it_is_as_old_as_its_status_may_be() {
    let mut world = world(keep());
    let completed = end(&mut world, "a", Status::Completed);
    let failed = end(&mut world, "a", Status::Failed);
    let cancelled = end(&mut world, "a", Status::Cancelled);
    world.advance(secs(195));
    assert!(exists(&mut world, completed));
    world.advance(secs(10));
    assert!(!exists(&mut world, completed));
    assert!(exists(&mut world, failed));
    world.advance(secs(800));
    assert!(!exists(&mut world, failed));
    world.advance(secs(10_000));
    assert!(exists(&mut world, cancelled));
}

#[test]
fn records_are_counted_for_as_long_as_they_are_kept() {
    let mut world = world(keep());
    for name in ["a", "b"] {
        end(&mut world, name, Status::Completed);
    }
    end(&mut world, "a", Status::Failed);
    let total = world.stats_now().total;
    assert_eq!((total.completed, total.failed), (2, 1));
    world.advance(secs(300));
    let stats = world.stats_now();
    assert_eq!((stats.total.completed, stats.total.failed), (0, 1));
    assert_eq!(stats.names.len(), 2);
    world.crash_and_restart();
    let total = world.stats_now().total;
    assert_eq!((total.completed, total.failed), (0, 1));
}

#[test]
fn a_job_whose_record_has_gone_is_as_if_it_had_never_been() {
    let mut world = world(keep());
    let id = end(&mut world, "a", Status::Completed);
    world.advance(secs(300));
    let client = world.client();
    assert_eq!(world.cancel(client, &[id]), [CancelOutcome::NotFound]);
    let receipt = world.retry(client, &[id]).remove(0);
    assert_eq!(receipt.error.map(|error| error.code), Some(ErrorCode::NotFound));
    let watch = world.watch(client, &[id], 100);
    let ended = world.ended(client, watch);
    assert_eq!((ended[0].id, ended[0].status), (id, None));
}

#[test]
fn a_uuid_is_remembered_for_as_long_as_the_record_is_kept() {
    let mut world = world(keep());
    let client = world.client();
    let submission = Submission {
        uuid: uuid::Uuid::from_u128(1_000_000),
        ..job("a")
    };
    let submit = |world: &mut World| {
        let client = world.client();
        let request = world.next_request();
        let jobs = vec![submission.clone()];
        let request_message = jobq_proto::message::Request { request, jobs };
        world.send(client, jobq_proto::ServerMessage::Request(request_message));
        let receipt = world
            .acknowledged(client, request)
            .expect("it is answered")
            .remove(0);
        (receipt.id.expect("it is taken"), receipt.existing)
    };
    let (first, _) = submit(&mut world);
    world.disconnect(client);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.completed(&worker, &order);
    world.disconnect(worker.peer);
    world.advance(secs(100));
    assert_eq!(submit(&mut world), (first, true));
    world.advance(secs(150));
    let (second, existing) = submit(&mut world);
    assert!(second != first && !existing);
}

#[test]
fn the_uuid_window_is_the_shortest_time_that_any_record_is_kept() {
    let window = |keep: Keep| {
        let mut world = world(keep);
        let (_, welcome) = world.hello(None, None);
        Duration::from_micros(welcome.expect("the Hello is answered").uuid_window)
    };
    assert_eq!(window(Keep::default()), secs(7 * 24 * 3600));
    assert_eq!(window(keep()), secs(200));
    let counted = kept(|keep| keep.count = Some(5));
    assert_eq!(window(counted), secs(60));
    let for_ever = kept(|keep| {
        keep.completed = None;
        keep.failed = None;
        keep.cancelled = None;
        keep.count = None;
    });
    assert!(window(for_ever) > secs(365 * 24 * 3600));
}

#[test]
fn of_too_many_records_the_first_go_when_they_are_a_minute_old() {
    let mut world = world(kept(|keep| {
        keep.completed = None;
        keep.count = Some(2);
    }));
    let ids: Vec<u64> = (0..4).map(|_| end(&mut world, "a", Status::Completed)).collect();
    let failed = end(&mut world, "a", Status::Failed);
    world.advance(secs(50));
    assert!(exists(&mut world, ids[0]));
    world.advance(secs(20));
    let left: Vec<bool> = ids.iter().map(|id| exists(&mut world, *id)).collect();
    assert_eq!(left, [false, false, true, true]);
    assert!(exists(&mut world, failed), "each status has its own number");
    world.advance(secs(5_000));
    assert!(exists(&mut world, ids[2]), "no more go than there are too many");
}

#[test]
fn nothing_wakes_the_server_before_a_record_is_due() {
    let mut world = world(keep());
    world.advance(secs(100));
    assert_eq!(
        world.machine.poll_timeout(),
        None,
        "without records nothing is due"
    );
    let ended = world.now.mono;
    end(&mut world, "a", Status::Failed);
    let next = world
        .machine
        .poll_timeout()
        .expect("the record is to go some time");
    // What is left of the worker's session is over soon.
    assert!(next <= ended.plus(secs(10)));
    world.advance(secs(60));
    assert_eq!(
        world.machine.poll_timeout().map(|at| at.since(ended)),
        Some(secs(1_000) + Duration::from_micros(1))
    );
    world.advance(secs(2_000));
    assert_eq!(world.machine.poll_timeout(), None);
}

#[test]
fn records_that_were_there_before_the_start_go_too() {
    let mut world = world(keep());
    let id = end(&mut world, "a", Status::Completed);
    world.crash_and_restart();
    world.advance(secs(100));
    assert!(exists(&mut world, id));
    world.advance(secs(120));
    assert!(!exists(&mut world, id));
}

#[test]
fn many_records_go_in_steps_while_jobs_come_and_end() {
    const JOBS: usize = 2_000;
    let mut world = world(kept(|keep| keep.cancelled = Some(secs(200))));
    let client = world.client();
    let ids = world.submit(client, (0..JOBS).map(|_| job("a")).collect());
    world.cancel(client, &ids);
    world.disconnect(client);
    assert_eq!(world.stats_now().total.cancelled, ids.len() as u64);
    world.advance(secs(150));
    let mut young = 0;
    // A second or more each, across the time when the others are due.
    while world.stats_now().total.cancelled > 0 {
        end(&mut world, "b", Status::Completed);
        young += 1;
        assert!(young < 100, "they go some time");
        world.advance(secs(1));
    }
    assert_eq!(world.stats_now().total.completed, young);
}

#[test]
fn a_calendar_that_jumps_ahead_takes_no_records_with_it() {
    let mut world = world(keep());
    let id = end(&mut world, "a", Status::Completed);
    world.jump_wall(365 * 24 * 3600);
    world.advance(secs(60));
    assert!(exists(&mut world, id));
    world.jump_wall(-365 * 24 * 3600);
    world.advance(secs(130));
    assert!(exists(&mut world, id), "it is 190 s old");
    world.advance(secs(20));
    assert!(!exists(&mut world, id));
}

#[test]
fn a_calendar_that_was_set_ahead_for_good_is_believed_in_time() {
    let mut world = world(keep());
    let id = end(&mut world, "a", Status::Completed);
    world.jump_wall(365 * 24 * 3600);
    world.advance(secs(250));
    assert!(!exists(&mut world, id));
}

#[test]
fn a_stopping_server_leaves_its_records_alone() {
    let mut world = world(keep());
    end(&mut world, "a", Status::Completed);
    world.machine.handle_shutdown(world.now);
    world.run();
    world.trace.clear();
    world.advance(secs(300));
    // Nothing is due, but whatever it hears lets it look at its records.
    world.machine.handle_timeout(world.now);
    world.run();
    let pruned = world.trace.iter().find(|line| line.starts_with("Prune"));
    assert_eq!(pruned, None);
}

#[test]
fn jobs_that_end_while_a_calendar_is_ahead_and_after_it_was_mended_go_when_their_time_is_over() {
    const YEAR: i64 = 365 * 24 * 3600;
    let mut world = world(keep());
    let before = end(&mut world, "a", Status::Completed);
    world.jump_wall(YEAR);
    let ahead = end(&mut world, "a", Status::Completed);
    world.jump_wall(-YEAR);
    let mended = end(&mut world, "a", Status::Completed);
    let ids = [before, ahead, mended];
    world.advance(secs(190));
    assert_eq!(ids.map(|id| exists(&mut world, id)), [true; 3]);
    world.advance(secs(30));
    assert_eq!(ids.map(|id| exists(&mut world, id)), [false; 3]);
    let later = end(&mut world, "a", Status::Completed);
    world.crash_and_restart();
    world.advance(secs(220));
    assert!(!exists(&mut world, later), "nor is a restart of any matter");
}

#[test]
fn too_many_records_go_after_a_calendar_that_was_ahead_was_mended() {
    const YEAR: i64 = 365 * 24 * 3600;
    let mut world = world(kept(|keep| {
        keep.completed = None;
        keep.count = Some(1);
    }));
    world.jump_wall(YEAR);
    let ahead = end(&mut world, "a", Status::Completed);
    world.jump_wall(-YEAR);
    let mended = end(&mut world, "a", Status::Completed);
    let last = end(&mut world, "a", Status::Completed);
    world.advance(secs(90));
    let left = [ahead, mended, last].map(|id| exists(&mut world, id));
    assert_eq!(left, [false, false, true]);
}

#[test]
fn a_uuid_is_remembered_for_its_window_of_real_time_however_the_calendar_jumps() {
    const DAY: i64 = 24 * 3600;
    for jump in [DAY, -DAY] {
        let mut world = world(keep());
        world.jump_wall(-jump);
        let id = end(&mut world, "a", Status::Completed);
        world.jump_wall(jump);
        world.advance(secs(190));
        assert!(exists(&mut world, id), "{jump} s");
    }
    let mut world = world(keep());
    let id = end(&mut world, "a", Status::Completed);
    world.jump_wall(365 * DAY);
    world.advance(secs(190));
    assert!(exists(&mut world, id), "ahead for good");
}

#[test]
fn a_start_takes_no_records_before_clients_had_their_time_to_repeat() {
    let mut world = world(kept(|keep| keep.completed = Some(secs(3_600))));
    world.advance(secs(1));
    let id = end(&mut world, "a", Status::Completed);
    // It was set while the server was down.
    world.jump_wall(365 * 24 * 3600);
    world.crash_and_restart();
    world.advance(secs(590));
    assert!(exists(&mut world, id));
    world.advance(secs(3_700));
    assert!(!exists(&mut world, id));
}

#[test]
fn records_go_where_the_clock_was_set_for_the_first_time_after_the_start() {
    const SINCE_1970: i64 = 1_800_000_000;
    let mut world = world(keep());
    world.jump_wall(-SINCE_1970);
    world.crash_and_restart();
    let before = end(&mut world, "a", Status::Completed);
    world.jump_wall(SINCE_1970);
    let after = end(&mut world, "a", Status::Completed);
    world.advance(secs(190));
    assert_eq!([before, after].map(|id| exists(&mut world, id)), [true; 2]);
    world.advance(secs(30));
    assert_eq!([before, after].map(|id| exists(&mut world, id)), [false; 2]);
}

#[test]
fn a_clock_that_was_set_ahead_for_good_is_written_down_as_it_is_after_an_hour() {
    const DAY: i64 = 24 * 3600;
    let mut world = world(kept(|keep| {
        keep.completed = Some(Duration::from_secs(300 * 24 * 3600))
    }));
    end(&mut world, "a", Status::Completed);
    world.jump_wall(30 * DAY);
    let early = end(&mut world, "a", Status::Completed);
    world.advance(secs(3_610));
    let late = end(&mut world, "a", Status::Completed);
    let ago = |world: &mut World, id| {
        let ended = world.view(id).ended.expect("it has ended");
        (world.now.wall.0 - ended) / 1_000_000
    };
    assert!(ago(&mut world, early) > 29 * DAY);
    assert!(ago(&mut world, late) < 60);
}

#[test]
fn a_removal_that_leaves_no_fewer_records_pauses_less_until_it_has_caught_up() {
    const RECORDS: usize = 100;
    let mut world = world(keep());
    let client = world.client();
    let ids = world.submit(client, (0..RECORDS).map(|_| job("a")).collect());
    world.cancel(client, &ids);
    // A job is on its way to the disk for as long as this goes on.
    world.hold_disk();
    let request = world.next_request();
    let jobs = vec![job("a")];
    let message = jobq_proto::message::Request { request, jobs };
    world.send(client, jobq_proto::ServerMessage::Request(message));
    let mut pause_after = |cancelled: u64, more: bool| {
        let gone = NameTotals {
            cancelled,
            ..NameTotals::none(Arc::new("a".parse().expect("it is a name")))
        };
        let pruned = Pruned {
            gone: vec![gone],
            oldest: ByEnd::default(),
            more,
        };
        world.machine.handle_pruned(world.now, pruned);
        let next = world.machine.poll_timeout().expect("there is more to do");
        next.since(world.now.mono)
    };
    let longest = Duration::from_millis(10);
    for _ in 0..RECORDS / 2 {
        assert_eq!(pause_after(1, true), longest, "the records get fewer");
    }
    // As many end as go.
    let pauses: Vec<Duration> = (0..100).map(|_| pause_after(0, true)).collect();
    assert!(
        pauses.is_sorted_by(|earlier, later| earlier >= later),
        "{pauses:?}"
    );
    assert_eq!(pauses.last(), Some(&Duration::from_millis(1)));
    pause_after(1, false);
    assert_eq!(
        pause_after(1, true),
        longest,
        "another sweep begins as the first did"
    );
}
