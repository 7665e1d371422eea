//! Query, Stats and Watch.

use jobq_proto::message::{Include, Query, Submission, Unwatch, Watch};
use jobq_proto::{ClientMessage, ErrorCode, ServerMessage, Status};
use jobq_transport::PeerId;

use super::world::{World, job, millis, secs, sized};

fn later(name: &str) -> Submission {
    Submission {
        delay: Some(60_000_000),
        ..job(name)
    }
}

#[test]
fn a_query_shows_runs_that_the_store_does_not_know_yet() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    assert_eq!(world.status(id), Status::Queued);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    let view = world.view(id);
    assert_eq!(view.status, Status::Processing);
    assert_eq!(view.fence, Some(order.fence));
    assert!(view.started.is_some());
    world.released(&worker, &order);
    world.disconnect(worker.peer);
    world.advance(secs(6));
    assert_eq!(world.status(id), Status::Queued);
}

#[test]
fn a_listing_has_the_newest_first_and_goes_on_where_it_was_cut() {
    let mut world = World::new();
    let client = world.client();
    let mut expected = world.submit(client, (0..25).map(|_| job("a")).collect());
    expected.reverse();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let query = Query {
            limit: Some(10),
            before,
            ..Query::default()
        };
        let page = world.query(client, query);
        assert!(page.jobs.len() <= 10);
        seen.extend(page.jobs.iter().map(|job| job.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[test]
fn a_listing_is_filtered_by_name_username_and_the_status_that_the_machine_knows() {
    let mut world = World::new();
    let client = world.client();
    let anns = Submission {
        username: Some("ann".to_owned()),
        ..job("a")
    };
    let submitted = world.submit(client, vec![job("a"), anns, job("b"), later("b")]);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    let mut list = |query| -> Vec<u64> { world.query(client, query).jobs.iter().map(|job| job.id).collect() };
    let named = |name: &str| Query {
        name: Some(name.to_owned()),
        ..Query::default()
    };
    let standing = |status| Query {
        status: Some(status),
        ..Query::default()
    };
    let of_ann = Query {
        username: Some("ann".to_owned()),
        ..Query::default()
    };
    assert_eq!(list(named("b")), [submitted[3], submitted[2]]);
    assert_eq!(list(of_ann), [submitted[1]]);
    assert_eq!(list(standing(Status::Scheduled)), [submitted[3]]);
    assert_eq!(list(standing(Status::Queued)), [submitted[2], submitted[1]]);
    assert_eq!(order.id, submitted[0]);
    assert_eq!(
        list(standing(Status::Processing)),
        [order.id],
        "at once, before the store knows of it"
    );
    world.advance(millis(300));
    let processing = world.query(client, standing(Status::Processing)).jobs;
    assert_eq!(processing.len(), 1);
    assert_eq!(processing[0].id, order.id);
}

#[test]
fn a_query_by_ids_answers_in_their_order_without_those_that_do_not_exist() {
    let mut world = World::new();
    let client = world.client();
    let submitted = world.submit(client, vec![sized("a", 3), sized("a", 4)]);
    let query = Query {
        ids: vec![submitted[1], 99, submitted[0]],
        include: Some(Include::Params),
        ..Query::default()
    };
    let jobs = world.query(client, query).jobs;
    let seen: Vec<_> = jobs
        .iter()
        .map(|job| (job.id, job.params.as_ref().map(|p| p.len())))
        .collect();
    assert_eq!(seen, [(submitted[1], Some(4)), (submitted[0], Some(3))]);
}

#[test]
fn a_listing_is_filtered_by_the_time_of_arrival() {
    let mut world = World::new();
    let client = world.client();
    let early = world.submit_one(client, job("a"));
    world.advance(secs(10));
    let late = world.submit_one(client, job("a"));
    let arrival = world.view(late).created;
    let mut list = |since, until| -> Vec<u64> {
        let query = Query {
            since,
            until,
            ..Query::default()
        };
        world.query(client, query).jobs.iter().map(|job| job.id).collect()
    };
    assert_eq!(list(Some(arrival), None), [late]);
    assert_eq!(list(None, Some(arrival)), [early]);
    assert_eq!(list(Some(arrival - 10_000_000), Some(arrival + 1)), [late, early]);
}

#[test]
fn the_history_of_a_job_comes_where_asked_for() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.failed(&worker, &order);
    let mut runs = |include| {
        let query = Query {
            ids: vec![id],
            include,
            ..Query::default()
        };
        world.query(client, query).jobs.remove(0).runs
    };
    let history = runs(Some(Include::Runs));
    assert_eq!(history.len(), 1);
    assert_eq!(
        (history[0].fence, history[0].end.as_str()),
        (order.fence, "Failed")
    );
    assert_eq!(history[0].reason.as_deref(), Some("it did not work"));
    assert!(runs(None).is_empty());
    let query = Query {
        reason: Some(" did not work".to_owned()),
        ..Query::default()
    };
    assert_eq!(world.query(client, query).jobs[0].id, id);
}

#[test]
fn a_text_to_find_in_reasons_has_1_to_128_bytes() {
    let mut world = World::new();
    let client = world.client();
    for (bytes, expected) in [(0, true), (1, false), (128, false), (129, true)] {
        let query = Query {
            reason: Some("x".repeat(bytes)),
            ..Query::default()
        };
        assert_eq!(is_bad(&mut world, client, query), expected, "{bytes} bytes");
    }
}

#[test]
fn a_query_for_times_has_some_time_between_them() {
    let mut world = World::new();
    let client = world.client();
    for (since, until, expected) in [(5, 6, false), (5, 5, true), (6, 5, true)] {
        let query = Query {
            since: Some(since),
            until: Some(until),
            ..Query::default()
        };
        assert_eq!(is_bad(&mut world, client, query), expected, "{since} to {until}");
    }
}

/// Whether a Query is refused with `bad_request`.
fn is_bad(world: &mut World, client: jobq_transport::PeerId, query: Query) -> bool {
    let request = world.next_request();
    world.send(client, ServerMessage::Query(Box::new(Query { request, ..query })));
    let refused = |message: &ClientMessage| match message {
        ClientMessage::Refused(refused) => Some(refused.error.code == ErrorCode::BadRequest),
        ClientMessage::Jobs(_) => Some(false),
        _ => None,
    };
    let messages = world.messages(client);
    messages.iter().find_map(refused).expect("the Query is answered")
}

#[test]
fn a_query_that_makes_no_sense_is_refused() {
    let mut world = World::new();
    let client = world.client();
    let base = Query::default;
    let bad = [
        Query {
            ids: vec![1],
            name: Some("a".to_owned()),
            ..base()
        },
        Query {
            ids: vec![1],
            since: Some(1),
            ..base()
        },
        Query {
            limit: Some(0),
            ..base()
        },
        Query {
            limit: Some(10_001),
            ..base()
        },
        Query {
            status: Some(Status::Unknown),
            ..base()
        },
        Query {
            name: Some("a b".to_owned()),
            ..base()
        },
    ];
    for query in bad {
        let request = world.next_request();
        let query = Query { request, ..query };
        world.send(client, ServerMessage::Query(Box::new(query.clone())));
        assert!(world.refusal(client, request).is_some(), "{query:?}");
    }
}

#[test]
fn stats_count_the_jobs_of_each_name_by_status() {
    let mut world = World::new();
    let client = world.client();
    world.submit(
        client,
        vec![job("a"), job("a"), job("a"), later("a"), job("b"), job("b")],
    );
    let worker = world.worker(&[("a", 2)]);
    let orders = world.orders(&worker);
    world.completed(&worker, &orders[0]);
    let order = world.order(&worker);
    world.failed_with(&worker, &order, true, None);
    world.cancel(client, &[5]);
    let stats = world.stats(client);
    let a = stats
        .names
        .iter()
        .find(|name| name.name == "a")
        .expect("the name is known");
    assert_eq!((a.scheduled, a.queued, a.processing), (1, 0, 1));
    assert_eq!((a.completed, a.failed, a.cancelled), (1, 1, 0));
    assert_eq!((stats.total.queued, stats.total.cancelled), (1, 1));
    assert_eq!((stats.submitted, stats.settled, stats.lost), (6, 2, 0));
    assert_eq!((stats.workers, stats.peers), (1, 2));
    let before = stats.names;
    world.advance(millis(300));
    world.crash_and_restart();
    assert_eq!(world.stats_now().names, before, "the counts survive");
}

#[test]
fn a_watch_is_answered_when_the_job_ends_and_that_is_durable() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let watch = world.watch(client, &[id], 100);
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.hold_disk();
    world.completed_with(&worker, &order, Some(vec![1, 2, 3].into()));
    assert!(world.ended(client, watch).is_empty());
    world.release_disk();
    let ended = world.ended(client, watch);
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].id, ended[0].status), (id, Some(Status::Completed)));
    assert_eq!(ended[0].result.as_deref(), Some(&[1, 2, 3][..]));
}

#[test]
fn a_watch_of_ended_and_unknown_jobs_is_answered_at_once() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.failed_with(&worker, &order, true, None);
    let watch = world.watch(client, &[id, 99], 100);
    let ended = world.ended(client, watch);
    assert_eq!(ended[0].status, Some(Status::Failed));
    assert_eq!(ended[0].reason.as_deref(), Some("it did not work"));
    assert_eq!((ended[1].id, ended[1].status), (99, None));
}

#[test]
fn no_end_falls_between_a_watch_and_the_look_at_what_has_ended() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.hold_reads();
    let watch = world.watch(client, &[id], 100);
    world.completed(&worker, &order);
    assert_eq!(world.ended(client, watch).len(), 1);
    world.release_reads();
    assert!(world.ended(client, watch).is_empty(), "each job is answered once");
}

#[test]
fn results_come_with_a_watch_only_as_far_as_its_bytes_go() {
    let mut world = World::new();
    let client = world.client();
    let early = world.submit(client, vec![job("a"), job("a")]);
    let late = world.submit(client, vec![job("a"), job("a")]);
    let worker = world.worker(&[("a", 4)]);
    let orders = world.orders(&worker);
    let result = || Some(vec![0; 40].into());
    world.completed_with(&worker, &orders[0], result());
    world.completed_with(&worker, &orders[1], result());
    let watch = world.watch(client, &[early[0], early[1], late[0], late[1]], 100);
    world.completed_with(&worker, &orders[2], result());
    world.completed_with(&worker, &orders[3], None);
    let ended = world.ended(client, watch);
    let seen: Vec<_> = ended
        .iter()
        .map(|job| (job.result.is_some(), job.omitted))
        .collect();
    assert_eq!(
        seen,
        [(true, false), (true, false), (false, true), (false, false)]
    );
}

#[test]
fn an_ended_watch_is_answered_no_more_and_its_number_is_free() {
    let mut world = World::new();
    let client = world.client();
    let submitted = world.submit(client, vec![job("a"), job("a")]);
    let request = world.watch(client, &[submitted[0]], 0);
    let watch = Watch {
        request,
        ids: vec![submitted[1]],
        bytes: 0,
        progress: false,
    };
    world.send(client, ServerMessage::Watch(watch.clone()));
    assert_eq!(world.refusal(client, request), Some(ErrorCode::RequestInUse));
    world.send(client, ServerMessage::Unwatch(Unwatch { request }));
    world.send(client, ServerMessage::Unwatch(Unwatch { request: 12345 }));
    world.send(client, ServerMessage::Watch(watch));
    let worker = world.worker(&[("a", 2)]);
    for order in world.orders(&worker) {
        world.completed(&worker, &order);
    }
    let ended = world.ended(client, request);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].id, submitted[1]);
}

#[test]
fn a_connection_watches_no_more_jobs_than_the_limit_and_others_are_not_counted() {
    let mut config = jobq_server::Config::default();
    config.limits.watches = 3;
    let mut world = World::with(config);
    let (one, two) = (world.client(), world.client());
    let submitted = world.submit(one, (0..4).map(|_| job("a")).collect());
    world.watch(one, &submitted[..2], 0);
    let over = world.watch(one, &submitted[2..], 0);
    assert_eq!(world.refusal(one, over), Some(ErrorCode::TooManyItems));
    let others = world.watch(two, &submitted[..3], 0);
    assert_eq!(world.refusal(two, others), None);
    world.cancel(two, &submitted[..2]);
    let again = world.watch(one, &submitted, 0);
    assert_eq!(world.refusal(one, again), Some(ErrorCode::TooManyItems));
    let again = world.watch(one, &submitted[1..], 0);
    assert_eq!(world.refusal(one, again), None);
}

#[test]
fn all_connections_watch_no_more_jobs_than_the_limit_and_each_may_watch_a_hundred() {
    let mut world = World::configured(|config| config.watches = 250);
    let [one, two, three] = [(); 3].map(|()| world.client());
    let jobs: Vec<u64> = world.submit(one, (0..300).map(|_| job("a")).collect());
    let most = world.watch(one, &jobs[..200], 0);
    assert_eq!(world.refusal(one, most), None);
    for others in [two, three] {
        let few = world.watch(others, &jobs[..100], 0);
        assert_eq!(world.refusal(others, few), None);
        let many = world.watch(others, &jobs[100..101], 0);
        assert_eq!(world.refusal(others, many), Some(ErrorCode::WindowExceeded));
    }
    world.send(one, ServerMessage::Unwatch(Unwatch { request: most }));
    let many = world.watch(two, &jobs[100..150], 0);
    assert_eq!(world.refusal(two, many), None);
    world.disconnect(three);
    let all = world.watch(one, &jobs[..100], 0);
    assert_eq!(world.refusal(one, all), None);
    world.cancel(two, &jobs);
    assert_eq!(world.ended(two, many).len(), 50);
    assert_eq!(world.machine.footprint().watched, 0);
}

#[test]
fn a_watch_ends_with_its_connection() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    world.watch(client, &[id], 0);
    world.disconnect(client);
    let other = world.client();
    world.cancel(other, &[id]);
    assert!(world.messages(client).is_empty());
}

#[test]
fn slow_queries_hold_up_nobody_but_who_asks() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let worker = world.worker(&[("a", 1)]);
    let order = world.order(&worker);
    world.hold_reads();
    for request in 1_000..1_200 {
        let query = Query {
            request,
            ..Query::default()
        };
        world.send(client, ServerMessage::Query(Box::new(query)));
    }
    assert!(world.machine.accepts());
    assert!(world.reads_waiting() < 100, "the store is asked a few at a time");
    world.completed(&worker, &order);
    assert_eq!(world.settled(&worker).len(), 1);
    world.messages(client);
    world.release_reads();
    assert_eq!(world.messages(client).len(), 200, "all are answered in the end");
    assert_eq!(world.status(id), Status::Completed);
}

/// Has a client ask so many questions at once.
fn ask(world: &mut World, client: PeerId, questions: u64) {
    for request in 1..=questions {
        let query = Query {
            request,
            ..Query::default()
        };
        world.send(client, ServerMessage::Query(Box::new(query)));
    }
}

#[test]
fn who_does_not_read_its_answers_is_sent_no_more_of_them_and_nobody_waits_for_it() {
    let mut world = World::new();
    let (deaf, other) = (world.client(), world.client());
    world.set_congested(deaf, true);
    ask(&mut world, deaf, 10);
    ask(&mut world, other, 10);
    assert_eq!(world.messages(other).len(), 10);
    assert!(world.messages(deaf).is_empty());
    assert!(world.machine.holds_queries());
    world.set_congested(deaf, false);
    assert_eq!(world.messages(deaf).len(), 10, "it reads again");
    assert!(!world.machine.holds_queries());
}

#[test]
fn the_watches_of_one_connection_share_their_bytes() {
    let mut world = World::new();
    let client = world.client();
    let megabyte = 1024 * 1024;
    let submitted = world.submit(client, (0..12).map(|_| job("a")).collect());
    let watches: Vec<_> = submitted
        .iter()
        .map(|id| world.watch(client, &[*id], megabyte))
        .collect();
    let worker = world.worker(&[("a", 12)]);
    let orders = world.orders(&worker);
    // Nothing is answered before all of them have ended.
    world.hold_disk();
    for order in &orders {
        world.completed_with(&worker, order, Some(vec![0; 1_000_000].into()));
    }
    world.release_disk();
    let ended = watches.into_iter().flat_map(|watch| world.ended(client, watch));
    let sent: usize = ended.map(|job| job.result.map_or(0, |result| result.len())).sum();
    assert!(sent > 0 && sent <= 8 * 1024 * 1024, "{sent} bytes came unasked");
}
