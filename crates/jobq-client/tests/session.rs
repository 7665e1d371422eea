use jobq_client::{BootTime, Session, SessionConfig, SessionError, SessionEvent, Work};
use jobq_proto::message::{Beat, Credit, Holding};
use jobq_proto::{ClientMessage, ServerMessage};

use crate::fake::{FakeServer, patiently};

fn worker(endpoint: jobq_client::Endpoint) -> Session {
    let mut config = SessionConfig::new(endpoint);
    config.work = Some(Work {
        names: Vec::new(),
        jobs: 4,
        bytes: 1000,
        prefetch: 0,
    });
    Session::new(config)
}

/// The next event; what comes with it is kept.
async fn next(session: &mut Session, events: &mut Vec<SessionEvent>) -> SessionEvent {
    if events.is_empty() {
        patiently(session.recv(events))
            .await
            .expect("the session goes on");
    }
    events.remove(0)
}

#[tokio::test]
async fn a_worker_shows_its_session_when_it_comes_back() {
    let (endpoint, mut server) = FakeServer::new();
    let mut session = worker(endpoint);
    let mut events = Vec::new();
    let (event, peer) = tokio::join!(next(&mut session, &mut events), server.accept());
    assert!(matches!(event, SessionEvent::Connected { resumed: false, .. }));
    assert_eq!(peer.hello.resume, None);
    drop(peer);
    assert!(matches!(
        next(&mut session, &mut events).await,
        SessionEvent::Disconnected { .. }
    ));
    assert!(!session.is_connected());
    assert!(session.send(&ServerMessage::Holding(Holding::default())).is_err());
    server.welcome.resumed = true;
    let (event, mut peer) = tokio::join!(next(&mut session, &mut events), server.accept());
    assert!(matches!(event, SessionEvent::Connected { resumed: true, .. }));
    let resume = peer.hello.resume.take().expect("it shows its session");
    assert_eq!(
        (resume.store, resume.session),
        (server.welcome.store, server.welcome.session)
    );
    assert_eq!(resume.secret, server.welcome.secret);
    session
        .send(&ServerMessage::Holding(Holding::default()))
        .expect("it is connected");
    session.flush();
    assert!(matches!(peer.read().await, Some(ServerMessage::Holding(_))));
    tokio::join!(session.close(), async move {
        assert!(matches!(peer.read().await, Some(ServerMessage::Goodbye(_))));
        assert_eq!(peer.read().await, None);
    });
}

#[tokio::test]
async fn an_idle_session_beats_and_knows_when_the_last_answered_one_was_sent() {
    let (endpoint, mut server) = FakeServer::new();
    server.welcome.beat = 20_000;
    let mut session = worker(endpoint);
    let mut events = Vec::new();
    let (_, mut peer) = tokio::join!(next(&mut session, &mut events), server.accept());
    let greeted = session.last_answered_beat_sent().expect("Hello counts");
    let beats = async {
        let seq = peer.beat().await;
        peer.send(ClientMessage::Beat(Beat { seq })).await;
    };
    let (event, ()) = tokio::join!(next(&mut session, &mut events), beats);
    assert!(matches!(event, SessionEvent::Answered));
    let answered = session.last_answered_beat_sent().expect("a Beat was answered");
    assert!(answered > greeted && answered <= BootTime::now());
}

#[tokio::test]
async fn a_connection_that_answers_no_beat_is_given_up() {
    let (endpoint, mut server) = FakeServer::new();
    (server.welcome.beat, server.welcome.ttl) = (20_000, 60_000);
    let mut session = worker(endpoint);
    let mut events = Vec::new();
    let (_, _half_open) = tokio::join!(next(&mut session, &mut events), server.accept());
    let event = next(&mut session, &mut events).await;
    let SessionEvent::Disconnected { error } = event else {
        panic!("the connection is dead, and it was {event:?}");
    };
    assert!(matches!(error, SessionError::Silent { .. }), "{error}");
    let (event, _) = tokio::join!(next(&mut session, &mut events), server.accept());
    assert!(matches!(event, SessionEvent::Connected { .. }));
}

#[tokio::test]
async fn a_recv_that_is_dropped_loses_nothing() {
    let (endpoint, mut server) = FakeServer::new();
    let mut session = worker(endpoint);
    let mut events = Vec::new();
    let server = tokio::spawn(async move {
        let mut peer = server.accept().await;
        for _ in 0..100 {
            peer.send(ClientMessage::Closing(Default::default())).await;
            tokio::task::yield_now().await;
        }
        peer.read().await
    });
    let mut closings = 0;
    while closings < 100 {
        tokio::select! {
            biased;
            result = session.recv(&mut events) => result.expect("the session goes on"),
            // Dropped at once, again and again.
            () = tokio::task::yield_now() => {}
        }
        closings += events
            .drain(..)
            .filter(|event| matches!(event, SessionEvent::Message(ClientMessage::Closing(_))))
            .count();
    }
    session
        .send(&ServerMessage::Credit(Credit {
            names: Vec::new(),
            jobs: Some(0),
            bytes: None,
        }))
        .expect("it is connected");
    session.flush();
    let last = patiently(server).await.expect("the server was content");
    assert!(matches!(last, Some(ServerMessage::Credit(_))));
}
