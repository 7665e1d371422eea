//! One peer's side, stepped by hand.

use bytes::Bytes;
use jobq_proto::message::{ErrorMessage, Work};
use jobq_proto::{ErrorCode, Limits, Window, WireError};
use uuid::Uuid;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn conversation() -> Conversation {
    let hello = Hello {
        work: Some(Work {
            names: Vec::new(),
            jobs: 1,
            bytes: 1,
            prefetch: 0,
        }),
        ..Hello::new("test")
    };
    Conversation::new("memory".to_owned(), hello, Reconnect::default(), 5 * SECOND)
}

fn welcome() -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        server: "test".to_owned(),
        store: Uuid::from_u128(7),
        epoch: 1,
        session: 11,
        secret: Bytes::from_static(&[3; 32]),
        resumed: false,
        ttl: 30_000_000,
        grace: 5_000_000,
        beat: 10_000_000,
        idle_beat: None,
        uuid_window: 1,
        limits: Limits::default(),
        window: Window::default(),
    }
}

fn at(seconds: u64) -> BootTime {
    BootTime::default() + Duration::from_secs(seconds)
}

fn open(conversation: &mut Conversation, now: BootTime) -> Hello {
    assert!(conversation.poll_connect(now));
    let ServerMessage::Hello(hello) = conversation.handle_connected(now) else {
        panic!("the first message is Hello");
    };
    conversation
        .handle_message(now, ClientMessage::Hello(Box::new(welcome())))
        .expect("a good Hello");
    *hello
}

fn closed(code: ErrorCode) -> SessionError {
    SessionError::Refused {
        address: "memory".to_owned(),
        error: WireError::new(code, "closed"),
    }
}

fn beat(conversation: &mut Conversation, now: BootTime) -> u64 {
    match conversation.handle_timeout(now) {
        Some(Due::Send(ServerMessage::Beat(beat))) => beat.seq,
        other => panic!("a Beat is due, and it was {other:?}"),
    }
}

#[test]
fn a_second_connection_shows_the_session_of_the_first() {
    let mut conversation = conversation();
    assert_eq!(open(&mut conversation, at(100)).resume, None);
    conversation.handle_lost(at(101), 0, &closed(ErrorCode::OutboxFull));
    let resume = open(&mut conversation, at(110)).resume.expect("a session");
    assert_eq!((resume.store, resume.session), (Uuid::from_u128(7), 11));
    assert_eq!(resume.secret, Bytes::from_static(&[3; 32]));
}

#[test]
fn a_client_has_nothing_to_resume() {
    let mut conversation = conversation();
    conversation.hello.work = None;
    open(&mut conversation, at(100));
    conversation.handle_lost(at(101), 0, &closed(ErrorCode::OutboxFull));
    assert_eq!(open(&mut conversation, at(110)).resume, None);
}

#[test]
fn a_session_that_another_took_is_not_resumed() {
    let mut conversation = conversation();
    open(&mut conversation, at(100));
    conversation.handle_lost(at(101), 0, &closed(ErrorCode::SessionTaken));
    assert_eq!(open(&mut conversation, at(110)).resume, None);
}

#[test]
fn beats_follow_the_interval_and_their_answers_tell_when_the_last_was_sent() {
    let mut conversation = conversation();
    open(&mut conversation, at(100));
    assert_eq!(conversation.last_answered_sent(), Some(at(100)), "Hello counts");
    assert_eq!(conversation.poll_timeout(), at(110));
    assert!(conversation.handle_timeout(at(109)).is_none());
    let first = beat(&mut conversation, at(110));
    let second = beat(&mut conversation, at(120));
    assert_ne!(first, second);
    assert_eq!(conversation.last_answered_sent(), Some(at(100)));
    let answer = ClientMessage::Beat(Beat { seq: second });
    assert_eq!(
        conversation.handle_message(at(121), answer).expect("an answer"),
        Heard::Answered
    );
    assert_eq!(conversation.last_answered_sent(), Some(at(120)));
}

/// A conversation with a server that lets idle peers be silent for a minute.
fn unhurried() -> Conversation {
    let mut conversation = conversation();
    let welcome = Welcome {
        idle_beat: Some(60_000_000),
        ..welcome()
    };
    conversation.poll_connect(at(100));
    conversation.handle_connected(at(100));
    conversation
        .handle_message(at(100), ClientMessage::Hello(Box::new(welcome)))
        .expect("a good Hello");
    conversation
}

#[test]
fn beats_are_seldom_while_nothing_is_under_way() {
    let mut conversation = unhurried();
    assert_eq!(conversation.poll_timeout(), at(110), "the owner has not said");
    assert!(!conversation.set_busy(false));
    let first = conversation.poll_timeout();
    assert!(
        at(110) < first && first < at(160),
        "each session has its own first"
    );
    let seq = beat(&mut conversation, first);
    let answer = ClientMessage::Beat(Beat { seq });
    conversation.handle_message(first, answer).expect("an answer");
    assert_eq!(conversation.poll_timeout(), first + 60 * SECOND);
    assert!(conversation.handle_timeout(first + 59 * SECOND).is_none());
    beat(&mut conversation, first + 60 * SECOND);
}

#[test]
fn the_first_beats_of_sessions_that_come_together_are_spread_over_the_interval() {
    let mut tenths = [0; 10];
    for session in 1 << 32..(1 << 32) + 1_000 {
        tenths[usize::try_from(part(60, session) / 6).expect("it is a tenth")] += 1;
    }
    assert!(tenths.iter().all(|of| (90..=110).contains(of)), "{tenths:?}");
}

#[test]
fn who_becomes_busy_beats_at_once_unless_it_has_a_moment_ago() {
    let mut conversation = unhurried();
    conversation.set_busy(false);
    assert!(conversation.set_busy(true));
    assert_eq!(conversation.poll_beat(at(105)), None);
    assert_eq!(conversation.poll_timeout(), at(110));
    conversation.set_busy(false);
    assert!(conversation.set_busy(true));
    assert!(!conversation.set_busy(true), "that is no news");
    assert!(conversation.poll_beat(at(130)).is_some());
    assert_eq!(conversation.poll_beat(at(130)), None);
    assert_eq!(conversation.poll_timeout(), at(140));
}

#[test]
fn beats_that_are_seldom_meet_when_the_calendar_shows_a_whole_second() {
    for (ahead, sent) in [
        (0, 165_000),
        (100, 165_010),
        (249, 165_249),
        (1_790_000_000_123, 167_777),
    ] {
        let mut conversation = unhurried().with_calendar_ahead(Duration::from_millis(ahead));
        conversation.set_busy(false);
        let sent = BootTime::default() + Duration::from_millis(sent);
        let seq = beat(&mut conversation, sent);
        let answer = ClientMessage::Beat(Beat { seq });
        conversation.handle_message(sent, answer).expect("an answer");
        let wait = conversation.poll_timeout().since(sent);
        assert!(wait > 59 * SECOND && wait <= 60 * SECOND, "{ahead}: {wait:?}");
        let calendar = conversation.poll_timeout().since(BootTime::default()) + Duration::from_millis(ahead);
        assert_eq!(calendar.as_micros() % 1_000_000, 0, "{ahead}");
    }
    // With something under way each keeps its own time.
    let mut conversation = unhurried().with_calendar_ahead(Duration::from_millis(100));
    assert_eq!(conversation.poll_timeout(), at(110));
    beat(&mut conversation, at(110));
    assert_eq!(conversation.poll_timeout(), at(120));
}

#[test]
fn a_server_that_says_nothing_of_idle_peers_hears_them_as_often_as_others() {
    let mut conversation = conversation();
    open(&mut conversation, at(100));
    conversation.set_busy(false);
    assert_eq!(conversation.poll_timeout(), at(110));
    let mut unhurried = unhurried();
    unhurried.set_busy(false);
    unhurried.welcome.as_mut().expect("it was welcomed").idle_beat = Some(1);
    assert_eq!(unhurried.poll_timeout(), at(110), "never more often");
}

#[test]
fn an_idle_peer_gives_a_server_up_that_answers_no_beat() {
    let mut conversation = unhurried();
    conversation.set_busy(false);
    let sent = conversation.poll_timeout();
    beat(&mut conversation, sent);
    assert_eq!(conversation.poll_timeout(), sent + 30 * SECOND);
    let due = conversation.handle_timeout(sent + 30 * SECOND);
    assert!(matches!(due, Some(Due::Dead(_))));
}

#[test]
fn a_beat_that_stays_unanswered_for_the_time_to_live_ends_the_connection() {
    let mut conversation = conversation();
    open(&mut conversation, at(100));
    for seconds in [110, 120, 130] {
        beat(&mut conversation, at(seconds));
    }
    assert_eq!(conversation.poll_timeout(), at(140));
    let Some(Due::Dead(error)) = conversation.handle_timeout(at(140)) else {
        panic!("the connection is dead");
    };
    assert!(!error.is_permanent(), "{error}");
    assert!(conversation.handle_lost(at(140), 0, &error).is_some());
}

#[test]
fn a_server_that_says_other_things_is_not_dead() {
    let mut conversation = conversation();
    open(&mut conversation, at(100));
    beat(&mut conversation, at(110));
    let message = ClientMessage::Closing(Default::default());
    conversation
        .handle_message(at(139), message)
        .expect("a message for the owner");
    for seconds in [140, 150, 160] {
        beat(&mut conversation, at(seconds));
    }
    assert!(matches!(conversation.handle_timeout(at(169)), Some(Due::Dead(_))));
}

#[test]
fn waits_grow_from_the_least_to_two_seconds_and_never_beyond() {
    let mut conversation = conversation();
    let mut now = at(100);
    let mut waits = Vec::new();
    for _ in 0..100 {
        assert!(conversation.poll_connect(now));
        let wait = conversation
            .handle_lost(now, u32::MAX, &closed(ErrorCode::TooManyPeers))
            .expect("it comes back");
        waits.push(wait);
        now = now + wait;
    }
    assert_eq!(waits[0], Duration::from_millis(50));
    assert!(waits.is_sorted());
    assert_eq!(waits[99], 2 * SECOND);
    let spread = Reconnect::default().wait(99, 0);
    assert_eq!(spread, SECOND, "chance takes up to half");
}

#[test]
fn only_a_connection_that_lasted_starts_the_waits_anew() {
    let mut conversation = conversation();
    for _ in 0..10 {
        conversation.poll_connect(at(100));
        conversation.handle_lost(at(100), u32::MAX, &closed(ErrorCode::TooManyPeers));
    }
    open(&mut conversation, at(200));
    let short = conversation.handle_lost(at(201), u32::MAX, &closed(ErrorCode::OutboxFull));
    assert_eq!(short, Some(2 * SECOND));
    open(&mut conversation, at(300));
    let long = conversation.handle_lost(at(400), u32::MAX, &closed(ErrorCode::OutboxFull));
    assert_eq!(long, Some(Duration::from_millis(50)));
}

#[test]
fn a_bad_token_is_the_end() {
    let mut conversation = conversation();
    assert!(conversation.poll_connect(at(100)));
    conversation.handle_connected(at(100));
    let last = ErrorMessage {
        error: WireError::new(ErrorCode::BadToken, "the token is not accepted"),
    };
    let error = conversation
        .handle_message(at(100), ClientMessage::Error(last))
        .expect_err("refused");
    assert!(error.is_permanent());
    assert_eq!(conversation.handle_lost(at(100), 0, &error), None);
    assert!(!conversation.poll_connect(at(100_000)));
    assert_eq!(conversation.poll_timeout(), BootTime::NEVER);
}

#[test]
fn bytes_that_were_garbled_on_the_way_are_sent_again_but_not_for_ever() {
    let unreadable = SessionError::Protocol {
        address: "tcp://somewhere".to_owned(),
        what: "the frame is no message".to_owned(),
    };
    let mut fresh = conversation();
    assert!(fresh.poll_connect(at(100)));
    fresh.handle_connected(at(100));
    let wait = fresh.handle_lost(at(100), 0, &unreadable);
    assert_eq!(wait, None, "whoever that is never spoke the protocol");

    for garbled in [unreadable, closed(ErrorCode::Malformed)] {
        let mut conversation = conversation();
        for hour in 1..100 {
            open(&mut conversation, at(3_600 * hour));
            let wait = conversation.handle_lost(at(3_600 * hour + 60), 0, &garbled);
            assert!(wait.is_some(), "{garbled}: connections lasted in between");
        }
        let mut now = at(1_000_000);
        let mut times = 0;
        loop {
            open(&mut conversation, now);
            let Some(wait) = conversation.handle_lost(now, 0, &garbled) else {
                break;
            };
            now = now + wait;
            times += 1;
        }
        assert_eq!(times, MAX_GARBLED - 1, "the last of those before was one too");
        assert!(!conversation.poll_connect(at(2_000_000)));
    }
}

#[test]
fn a_hello_that_stays_unanswered_is_given_up() {
    let mut conversation = conversation();
    assert!(conversation.poll_connect(at(100)));
    conversation.handle_connected(at(101));
    assert_eq!(conversation.poll_timeout(), at(106));
    assert!(matches!(
        conversation.handle_timeout(at(106)),
        Some(Due::Dead(SessionError::HelloTimeout { .. }))
    ));
}

#[test]
fn another_version_or_a_limit_of_zero_is_no_server_to_talk_to() {
    for bad in [
        Welcome {
            version: PROTOCOL_VERSION + 1,
            ..welcome()
        },
        Welcome { beat: 0, ..welcome() },
    ] {
        let mut conversation = conversation();
        conversation.poll_connect(at(100));
        conversation.handle_connected(at(100));
        let error = conversation
            .handle_message(at(100), ClientMessage::Hello(Box::new(bad)))
            .expect_err("refused");
        assert!(error.is_permanent(), "{error}");
    }
}
