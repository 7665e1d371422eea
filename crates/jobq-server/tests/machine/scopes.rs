//! What tokens allow: the names of jobs that do not exist for some, and what is for others to do.

use jobq_proto::message::*;
use jobq_proto::{ErrorCode, ServerMessage, Status};
use jobq_server::access::{Proof, Scope, Token, TokenHash, Tokens};
use jobq_transport::PeerId;
use uuid::Uuid;

use super::access::{token, world_of};
use super::world::{Worker, World, held, job, secs, sized, work};

/// A server with an admin, and with others that may touch names that begin with `own`.
fn world() -> (World, PeerId) {
    let mut world = world_of(vec![
        token("admin", Scope::Admin, &[]),
        token("submit", Scope::Submit, &["own*"]),
        token("work", Scope::Work, &["own*"]),
        token("owner", Scope::Admin, &["own*"]),
        token("worker", Scope::Work, &[]),
    ]);
    world.show("admin");
    let admin = world.client();
    (world, admin)
}

fn as_client(world: &mut World, token: &str) -> PeerId {
    world.show(token);
    let client = world.client();
    world.show("admin");
    client
}

fn as_worker(world: &mut World, token: &str, names: &[(&str, u32)]) -> Worker {
    world.show(token);
    let worker = world.worker(names);
    world.show("admin");
    worker
}

#[test]
fn whom_others_leave_no_room_is_not_told_how_much_they_have() {
    for by_bytes in [false, true] {
        let mut world = World::configured(|config| {
            let tokens = vec![
                token("admin", Scope::Admin, &[]),
                token("own", Scope::Submit, &["own*"]),
            ];
            config.tokens = Some(Tokens::new(tokens));
            config.queue.jobs = (!by_bytes).then_some(3);
            config.queue.bytes = by_bytes.then_some(300);
        });
        world.show("admin");
        let admin = world.client();
        let client = as_client(&mut world, "own");
        world.submit(admin, vec![sized("foreign", 100); 3]);
        let mut refused = |peer| {
            let receipt = world.receipts(peer, vec![sized("own", 10)]).remove(0);
            let error = receipt.error.expect("there is no room");
            assert_eq!(error.code, ErrorCode::QueueFull);
            assert!(error.retry_after.is_some());
            error.message
        };
        let told = refused(client);
        assert!(
            told.starts_with("the queue is full") && !told.contains(char::is_numeric),
            "{told}"
        );
        assert!(refused(admin).contains(if by_bytes { "300" } else { "3 jobs" }));
    }
}

#[test]
fn the_limit_of_a_name_is_told_with_its_numbers_to_whoever_may_touch_the_name() {
    let mut world = World::configured(|config| {
        config.tokens = Some(Tokens::new(vec![token("own", Scope::Submit, &["own*"])]));
        config.queue.jobs_per_name = Some(2);
    });
    let client = as_client(&mut world, "own");
    let receipts = world.receipts(client, vec![job("own"); 3]);
    let error = receipts[2].error.as_ref().expect("there is no room");
    assert!(error.message.contains("2 jobs of the name own"), "{error:?}");
}

/// Jobs that wait, run and have completed, in that order.
fn in_all_states(world: &mut World, admin: PeerId, name: &str) -> [u64; 3] {
    let worker = as_worker(world, "worker", &[(name, 2)]);
    let ids = world.submit(admin, vec![job(name); 2]);
    let orders = world.orders(&worker);
    world.started(&worker, &orders[0]);
    world.completed(&worker, &orders[1]);
    let delayed = Submission {
        delay: Some(1_000_000_000),
        ..job(name)
    };
    [world.submit_one(admin, delayed), ids[0], ids[1]]
}

fn statuses(world: &mut World, peer: PeerId, query: Query) -> Vec<(u64, Status)> {
    let jobs = world.query(peer, query).jobs;
    jobs.iter().map(|job| (job.id, job.status)).collect()
}

#[test]
fn a_job_of_a_name_that_a_token_may_not_touch_is_refused_and_its_neighbours_are_taken() {
    let (mut world, _) = world();
    let client = as_client(&mut world, "submit");
    let receipts = world.receipts(client, vec![job("own"), job("foreign"), job("own.2")]);
    let codes: Vec<_> = receipts
        .iter()
        .map(|receipt| receipt.error.as_ref().map(|error| error.code))
        .collect();
    assert_eq!(codes, [None, Some(ErrorCode::Forbidden), None]);
}

#[test]
fn a_refused_name_is_refused_in_the_same_words_whether_there_are_jobs_of_it_or_not() {
    let (mut world, admin) = world();
    world.submit_one(admin, job("known"));
    let client = as_client(&mut world, "submit");
    let receipts = world.receipts(client, vec![job("known"), job("nknow")]);
    let [known, unknown] = &receipts[..] else {
        panic!("{receipts:?}");
    };
    let message = |receipt: &Receipt| receipt.error.as_ref().expect("it is refused").message.clone();
    assert_eq!(
        message(known).replace("known", ""),
        message(unknown).replace("nknow", "")
    );
}

#[test]
fn a_worker_is_refused_that_lists_a_name_it_may_not_touch() {
    let (mut world, _) = world();
    world.show("work");
    for (names, expected) in [
        (vec![("own.a", 1), ("foreign", 1)], Some(ErrorCode::Forbidden)),
        (vec![("own.a", 1), ("own", 1)], None),
    ] {
        let (peer, _) = world.hello(Some(work(&names)), None);
        assert_eq!(world.closed(peer), expected, "{names:?}");
    }
}

#[test]
fn a_name_is_looked_at_before_anything_is_said_of_it() {
    let (mut world, _) = world();
    let forged = "x\n2026-01-01T00:00:00Z  INFO forged";
    let work = Work {
        prefetch: 1,
        ..work(&[(forged, 1)])
    };
    let (peer, _) = world.hello(Some(work), None);
    assert_eq!(world.closed(peer), Some(ErrorCode::BadName));
}

/// Two tokens of a worker, the second of which may touch less.
fn narrowed() -> World {
    let narrow = Token {
        proof: Proof::Token(TokenHash::of("narrow")),
        ..token("wide", Scope::Work, &["own"])
    };
    world_of(vec![
        token("admin", Scope::Admin, &[]),
        token("wide", Scope::Work, &["own", "other"]),
        narrow,
    ])
}

fn come_back_narrower(world: &mut World, worker: &Worker, orders: &[OrderedJob]) -> Worker {
    world.show("narrow");
    let worker = Worker {
        work: work(&[("own", 2)]),
        ..worker.clone()
    };
    let runs = orders
        .iter()
        .map(|order| held(order, RunState::Running))
        .collect();
    let worker = world.resume(&worker, runs);
    assert!(worker.welcome.resumed);
    world.show("admin");
    worker
}

#[test]
fn a_session_that_comes_back_with_fewer_rights_has_no_runs_of_the_other_names() {
    for restarted in [false, true] {
        let mut world = narrowed();
        world.show("admin");
        let admin = world.client();
        let ids = [
            world.submit_one(admin, job("own")),
            world.submit_one(admin, job("other")),
        ];
        let worker = as_worker(&mut world, "wide", &[("own", 2), ("other", 2)]);
        let orders = world.orders(&worker);
        assert_eq!(orders.len(), 2);
        if restarted {
            world.crash_and_restart();
        } else {
            world.disconnect(worker.peer);
        }
        let worker = come_back_narrower(&mut world, &worker, &orders);
        for order in &orders {
            world.completed(&worker, order);
        }
        assert_eq!(
            ids.map(|id| world.status(id)),
            [Status::Completed, Status::Queued]
        );
        assert_eq!(world.view(ids[1]).charges, 0);
    }
}

#[test]
fn who_is_let_in_for_work_may_look_and_neither_submit_nor_cancel_nor_retry() {
    let (mut world, admin) = world();
    let id = world.submit_one(admin, job("own"));
    let client = as_client(&mut world, "work");
    let requests = [
        world.request(client, vec![job("own")]),
        world.cancel_later(client, &[id]),
        world.retry_later(client, &[id]),
    ];
    for request in requests {
        assert_eq!(world.refusal(client, request), Some(ErrorCode::Forbidden));
    }
    assert!(world.is_open(client));
    assert_eq!(world.status(id), Status::Queued);
    assert_eq!(
        statuses(&mut world, client, Query::default()),
        [(id, Status::Queued)]
    );
    let watch = world.follow(client, &[id]);
    let worker = as_worker(&mut world, "work", &[("own", 1)]);
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.progress(&worker, &order, 7);
    assert_eq!(world.parts(client, watch), [(id, Some(7))]);
    world.completed(&worker, &order);
    assert_eq!(world.ended(client, watch)[0].status, Some(Status::Completed));
}

#[test]
fn jobs_of_other_names_do_not_exist_for_a_query() {
    let (mut world, admin) = world();
    let foreign = in_all_states(&mut world, admin, "foreign");
    let own = in_all_states(&mut world, admin, "own");
    let uuids: Vec<Uuid> = [foreign, own]
        .as_flattened()
        .iter()
        .map(|id| world.view(*id).uuid)
        .collect();
    for token in ["submit", "work", "owner"] {
        let client = as_client(&mut world, token);
        let by_ids = Query {
            ids: [foreign, own].concat(),
            ..Query::default()
        };
        let by_uuids = Query {
            uuids: uuids.clone(),
            ..Query::default()
        };
        let expected = [
            (own[0], Status::Scheduled),
            (own[1], Status::Processing),
            (own[2], Status::Completed),
        ];
        assert_eq!(statuses(&mut world, client, by_ids), expected);
        assert_eq!(statuses(&mut world, client, by_uuids), expected);
        let mut newest_first = expected;
        newest_first.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        assert_eq!(statuses(&mut world, client, Query::default()), newest_first);
        for (place, status) in [Status::Scheduled, Status::Processing, Status::Completed]
            .into_iter()
            .enumerate()
        {
            let query = Query {
                status: Some(status),
                ..Query::default()
            };
            assert_eq!(statuses(&mut world, client, query), [(own[place], status)]);
        }
        let named = Query {
            name: Some("foreign".to_owned()),
            ..Query::default()
        };
        assert_eq!(statuses(&mut world, client, named), []);
    }
}

#[test]
fn pages_of_a_listing_are_full_and_complete_whatever_lies_between() {
    let (mut world, admin) = world();
    let mut own = Vec::new();
    for round in 0..25 {
        world.submit(admin, vec![job("foreign"); 7]);
        own.push(world.submit_one(admin, job(if round % 2 == 0 { "own" } else { "own.2" })));
    }
    own.reverse();
    let client = as_client(&mut world, "submit");
    let mut listed = Vec::new();
    let mut before = None;
    loop {
        let query = Query {
            before,
            limit: Some(10),
            ..Query::default()
        };
        let page = world.query(client, query);
        let ids: Vec<u64> = page.jobs.iter().map(|job| job.id).collect();
        assert!(
            ids.len() == 10 || page.next.is_none(),
            "a page with more behind it is full: {ids:?}"
        );
        listed.extend(ids);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(listed, own);
}

#[test]
fn jobs_of_other_names_cannot_be_cancelled_and_are_not_there_to_be_retried() {
    let (mut world, admin) = world();
    let foreign = in_all_states(&mut world, admin, "foreign");
    let unknown = 1_000;
    let client = as_client(&mut world, "owner");
    let ids = [&foreign[..], &[unknown]].concat();
    assert_eq!(world.cancel(client, &ids), [CancelOutcome::NotFound; 4]);
    let retried = world.retry(client, &ids);
    let errors: Vec<_> = retried
        .iter()
        .zip(&ids)
        .map(|(receipt, id)| {
            let error = receipt.error.as_ref().expect("it is refused");
            (error.code, error.message.replace(&id.to_string(), "N"))
        })
        .collect();
    assert!(errors.iter().all(|error| *error == errors[3]), "{errors:?}");
    assert_eq!(errors[3].0, ErrorCode::NotFound);
    let status = foreign.map(|id| world.status(id));
    assert_eq!(status, [Status::Scheduled, Status::Processing, Status::Completed]);
}

#[test]
fn jobs_of_ones_own_names_are_cancelled_and_retried_wherever_they_stand() {
    let (mut world, admin) = world();
    let own = in_all_states(&mut world, admin, "own");
    let client = as_client(&mut world, "submit");
    let outcomes = world.cancel(client, &own);
    let expected = [
        CancelOutcome::Cancelled,
        CancelOutcome::Marked,
        CancelOutcome::AlreadyEnded,
    ];
    assert_eq!(outcomes, expected);
    assert!(world.retry(client, &own[2..])[0].id.is_some());
}

#[test]
fn a_watch_tells_nothing_of_jobs_of_other_names_but_that_there_are_none() {
    let (mut world, admin) = world();
    let worker = as_worker(&mut world, "worker", &[("foreign", 1)]);
    let foreign = world.submit_one(admin, job("foreign"));
    let order = world.order(&worker);
    world.started(&worker, &order);
    world.progress(&worker, &order, 7);
    let client = as_client(&mut world, "submit");
    world.hold_reads();
    let watch = world.follow(client, &[foreign]);
    assert_eq!(world.parts(client, watch), []);
    world.progress(&worker, &order, 8);
    world.advance(secs(1));
    world.completed(&worker, &order);
    assert_eq!(
        world.ended(client, watch),
        [],
        "it is not known yet what the job is"
    );
    world.release_reads();
    let none = world.ended(client, watch);
    assert_eq!((none.len(), none[0].id, none[0].status), (1, foreign, None));
    assert_eq!(world.parts(client, watch), []);
}

#[test]
fn a_watch_of_an_own_job_hears_of_its_end_also_when_that_comes_at_once() {
    let (mut world, admin) = world();
    let worker = as_worker(&mut world, "worker", &[("own", 1)]);
    let own = world.submit_one(admin, job("own"));
    let order = world.order(&worker);
    let client = as_client(&mut world, "submit");
    world.hold_reads();
    let watch = world.watch(client, &[own], 0);
    world.completed(&worker, &order);
    world.release_reads();
    let ended = world.ended(client, watch);
    assert_eq!((ended.len(), ended[0].status), (1, Some(Status::Completed)));
}

#[test]
fn stats_count_what_a_token_may_touch_and_nothing_else() {
    let (mut world, admin) = world();
    in_all_states(&mut world, admin, "foreign");
    in_all_states(&mut world, admin, "own");
    let client = as_client(&mut world, "submit");
    let stats = world.stats(client);
    let names: Vec<&str> = stats.names.iter().map(|name| name.name.as_str()).collect();
    assert_eq!(names, ["own"]);
    let counted = |stats: &NameStats| (stats.scheduled, stats.processing, stats.completed);
    assert_eq!(
        (counted(&stats.total), counted(&stats.names[0])),
        ((1, 1, 1), (1, 1, 1))
    );
    assert_eq!((stats.workers, stats.peers), (1, 0));
    assert_eq!((stats.submitted, stats.settled, stats.lost), (0, 0, 0));
    assert_eq!(world.stats(admin).total.completed, 2);
}

#[test]
fn a_uuid_that_is_somebody_elses_is_a_conflict_with_no_job_in_particular() {
    let (mut world, admin) = world();
    let taken = Submission {
        uuid: Uuid::from_u128(9),
        ..job("foreign")
    };
    let id = world.submit_one(admin, taken);
    let client = as_client(&mut world, "submit");
    let again = Submission {
        uuid: Uuid::from_u128(9),
        ..sized("own", 5)
    };
    for (peer, names_it) in [(client, false), (admin, true)] {
        let receipt = world.receipts(peer, vec![again.clone()]).remove(0);
        let error = receipt.error.expect("it is refused");
        assert_eq!(error.code, ErrorCode::UuidConflict);
        assert_eq!(
            error.message.contains(&format!("job {id}")),
            names_it,
            "{}",
            error.message
        );
    }
}

#[test]
fn reports_on_other_names_runs_settle_nothing() {
    let (mut world, admin) = world();
    let worker = as_worker(&mut world, "worker", &[("foreign", 1)]);
    let id = world.submit_one(admin, job("foreign"));
    let order = world.order(&worker);
    world.started(&worker, &order);
    let thief = as_worker(&mut world, "work", &[("own", 1)]);
    world.completed(&thief, &order);
    assert_eq!(world.settled(&thief), [SettleOutcome::Stale]);
    let runs = vec![CompletedRun {
        id: 1_000,
        fence: order.fence,
        ran: 1,
        result: None,
    }];
    world.send(thief.peer, ServerMessage::Completed(Completed { runs }));
    assert_eq!(
        world.settled(&thief),
        [SettleOutcome::Stale],
        "as for a job that is not its own"
    );
    assert_eq!(world.status(id), Status::Processing);
}
