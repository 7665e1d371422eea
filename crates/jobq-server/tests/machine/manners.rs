//! What peers must not do, and what becomes of them.

use jobq_proto::message::*;
use jobq_proto::{ClientMessage, ErrorCode, ServerMessage, Window};
use jobq_server::Config;

use super::world::{World, job, sized, work};

fn hello() -> Hello {
    Hello::new("")
}

/// How a connection ends that begins with this Hello; none if it is welcome.
fn refusal(world: &mut World, hello: Hello) -> Option<ErrorCode> {
    let peer = world.connect();
    world.send(peer, ServerMessage::Hello(Box::new(hello)));
    world.closed(peer)
}

#[test]
fn anything_before_hello_closes_the_connection() {
    let mut world = World::new();
    let peer = world.connect();
    world.send(peer, ServerMessage::Beat(Beat { seq: 1 }));
    assert_eq!(world.closed(peer), Some(ErrorCode::HelloExpected));
    world.send(peer, ServerMessage::Hello(Box::new(hello())));
    assert!(world.messages(peer).is_empty(), "what comes after is ignored");
}

#[test]
fn a_second_hello_closes_the_connection() {
    let mut world = World::new();
    let client = world.client();
    world.send(client, ServerMessage::Hello(Box::new(hello())));
    assert_eq!(world.closed(client), Some(ErrorCode::HelloRepeated));
}

#[test]
fn a_hello_of_another_version_or_with_a_bad_token_is_refused() {
    let token = Some("secret".to_owned());
    let mut world = World::configured(|config| config.token = token.clone());
    let version = jobq_proto::PROTOCOL_VERSION + 1;
    let newer = Hello {
        version,
        token: token.clone(),
        ..hello()
    };
    assert_eq!(refusal(&mut world, newer), Some(ErrorCode::WrongVersion));
    assert_eq!(refusal(&mut world, hello()), Some(ErrorCode::BadToken));
    let wrong = Hello {
        token: Some("Secret".to_owned()), // The first wrong one is answered at once.
        ..hello()
    };
    assert_eq!(refusal(&mut world, wrong), Some(ErrorCode::BadToken));
    assert_eq!(refusal(&mut world, Hello { token, ..hello() }), None);
}

#[test]
fn a_hello_with_bad_names_is_refused() {
    let mut world = World::new();
    for (names, code) in [
        (vec![], ErrorCode::TooManyItems),
        (vec![("a b", 1)], ErrorCode::BadName),
        (vec![("a", 1), ("a", 2)], ErrorCode::BadRequest),
    ] {
        let hello = Hello {
            work: Some(work(&names)),
            ..hello()
        };
        assert_eq!(refusal(&mut world, hello), Some(code), "{names:?}");
    }
    let label = Hello {
        label: "a\nb".to_owned(),
        ..hello()
    };
    assert_eq!(refusal(&mut world, label), Some(ErrorCode::BadName));
}

#[test]
fn what_only_workers_send_closes_the_connection_of_a_client() {
    let messages = [
        ServerMessage::Started(Started { runs: vec![] }),
        ServerMessage::Completed(Completed { runs: vec![] }),
        ServerMessage::Failed(Failed { runs: vec![] }),
        ServerMessage::Released(Released { runs: vec![] }),
        ServerMessage::Holding(Holding { runs: vec![] }),
        ServerMessage::Credit(Credit {
            names: vec![],
            jobs: None,
            bytes: None,
        }),
    ];
    let mut world = World::new();
    for message in messages {
        let client = world.client();
        world.send(client, message.clone());
        assert_eq!(world.closed(client), Some(ErrorCode::NotAWorker), "{message:?}");
    }
}

#[test]
fn a_report_before_holding_closes_the_connection() {
    let mut world = World::new();
    let worker = world.new_worker(work(&[("a", 1)]));
    world.send(worker.peer, ServerMessage::Started(Started { runs: vec![] }));
    assert_eq!(world.closed(worker.peer), Some(ErrorCode::HoldingExpected));
}

#[test]
fn holding_twice_closes_the_connection() {
    let mut world = World::new();
    let worker = world.worker(&[("a", 1)]);
    world.hold(&worker, vec![]);
    assert_eq!(world.closed(worker.peer), Some(ErrorCode::BadRequest));
}

#[test]
fn a_beat_is_answered_by_one_with_its_number() {
    let mut world = World::new();
    let client = world.client();
    world.send(client, ServerMessage::Beat(Beat { seq: 7 }));
    assert_eq!(world.messages(client), [ClientMessage::Beat(Beat { seq: 7 })]);
}

#[test]
fn a_request_number_that_is_in_use_is_refused_and_the_first_one_goes_on() {
    let mut world = World::new();
    let client = world.client();
    world.hold_disk();
    let request = world.request(client, vec![job("a")]);
    let ids = vec![1];
    world.send(
        client,
        ServerMessage::Cancel(CancelJobs {
            request,
            ids: ids.clone(),
        }),
    );
    assert_eq!(world.refusal(client, request), Some(ErrorCode::RequestInUse));
    world.send(
        client,
        ServerMessage::Query(Box::new(Query {
            request,
            ..Query::default()
        })),
    );
    assert_eq!(world.refusal(client, request), Some(ErrorCode::RequestInUse));
    world.send(
        client,
        ServerMessage::Watch(Watch {
            request,
            ids,
            bytes: 0,
            progress: false,
        }),
    );
    assert_eq!(world.refusal(client, request), Some(ErrorCode::RequestInUse));
    world.send(client, ServerMessage::Stats(StatsQuery { request }));
    assert_eq!(world.refusal(client, request), Some(ErrorCode::RequestInUse));
    world.release_disk();
    assert_eq!(
        world.acknowledged(client, request).map(|jobs| jobs.len()),
        Some(1)
    );
    world.send(client, ServerMessage::Stats(StatsQuery { request }));
    assert_eq!(world.messages(client).len(), 1, "the number is free again");
}

#[test]
fn a_watch_keeps_its_number_until_it_is_answered() {
    let mut world = World::new();
    let client = world.client();
    let id = world.submit_one(client, job("a"));
    let request = world.watch(client, &[id], 0);
    world.send(
        client,
        ServerMessage::Cancel(CancelJobs {
            request,
            ids: vec![id],
        }),
    );
    assert_eq!(world.refusal(client, request), Some(ErrorCode::RequestInUse));
    world.cancel(client, &[id]);
    world.send(
        client,
        ServerMessage::Cancel(CancelJobs {
            request,
            ids: vec![id],
        }),
    );
    assert_eq!(
        world.cancelled(client, request),
        Some(vec![CancelOutcome::AlreadyEnded])
    );
}

#[test]
fn what_goes_far_beyond_the_window_is_refused_until_something_is_acknowledged() {
    let window = Window { jobs: 2, bytes: 100 };
    let mut world = World::configured(|config| config.window = window);
    let client = world.client();
    world.hold_disk();
    let first = world.request(client, (0..4).map(|_| job("a")).collect());
    let over = world.request(client, vec![job("a")]);
    assert_eq!(world.refusal(client, over), Some(ErrorCode::WindowExceeded));
    let other = world.client();
    world.request(other, vec![sized("a", 150)]);
    let over = world.request(other, vec![sized("a", 100)]);
    assert_eq!(world.refusal(other, over), Some(ErrorCode::WindowExceeded));
    world.release_disk();
    assert!(world.acknowledged(client, first).is_some());
    assert_eq!(world.submit(client, vec![job("a")]).len(), 1);
}

#[test]
fn one_job_is_always_taken_however_large_it_is_for_the_window() {
    let window = Window { jobs: 1, bytes: 10 };
    let mut world = World::configured(|config| config.window = window);
    let client = world.client();
    assert_eq!(world.submit(client, vec![sized("a", 1000)]).len(), 1);
}

#[test]
fn a_request_of_no_jobs_or_of_too_many_is_refused_whole() {
    let mut config = Config::default();
    config.limits.items = 3;
    let mut world = World::with(config);
    let client = world.client();
    for count in [0, 4] {
        let request = world.request(client, (0..count).map(|_| job("a")).collect());
        assert_eq!(world.refusal(client, request), Some(ErrorCode::TooManyItems));
    }
    assert_eq!(world.stats(client).submitted, 0);
    assert!(world.is_open(client));
}

#[test]
fn too_many_runs_in_one_message_close_the_connection() {
    let mut config = Config::default();
    config.limits.items = 3;
    let mut world = World::with(config);
    let fence = jobq_proto::Fence { epoch: 1, seq: 1 };
    let runs = vec![RunRef { id: 1, fence }; 4];
    for message in [
        ServerMessage::Started(Started { runs: runs.clone() }),
        ServerMessage::Released(Released { runs }),
    ] {
        let worker = world.worker(&[("a", 1)]);
        world.send(worker.peer, message);
        assert_eq!(world.closed(worker.peer), Some(ErrorCode::TooManyItems));
    }
}

#[test]
fn an_unknown_peer_is_ignored() {
    let mut world = World::new();
    world.send(
        jobq_transport::PeerId(99),
        ServerMessage::Hello(Box::new(hello())),
    );
    world.disconnect(jobq_transport::PeerId(99));
    world.client();
}

#[test]
fn requests_wait_while_more_is_in_flight_than_memory_should_hold() {
    let mut world = World::new();
    let client = world.client();
    world.submit_one(client, job("a"));
    world.hold_disk();
    world.request(client, vec![job("a")]);
    let mut peer = client;
    let mut sent = 0_u64;
    while world.machine.accepts() {
        sent += 1;
        assert!(sent < 1_000_000, "what waits for the disk has no bound");
        if sent.is_multiple_of(60_000) {
            peer = world.client();
        }
        let request = world.next_request();
        let cancel = CancelJobs {
            request,
            ids: vec![1],
        };
        world
            .machine
            .handle_message(world.now, peer, ServerMessage::Cancel(cancel));
    }
    world.release_disk();
    assert!(world.machine.accepts());
}
