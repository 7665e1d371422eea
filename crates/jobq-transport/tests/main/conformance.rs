//! What every kind of stream has to do.

use std::time::Duration;

use jobq_proto::limits::MAX_FIRST_FRAME;
use jobq_proto::message::ErrorMessage;
use jobq_proto::{ClientMessage, ErrorCode, WireError};
use jobq_transport::{
    CloseReason, Closed, Dealer, Router, RouterConfig, RouterEvent, SendError, TransportError, codec,
};
use tokio::io::AsyncWriteExt;

use crate::fixtures::{
    Fixture, Kind, MAX_FRAME, beat, beat_back, hello, hello_of, order, read_refusal, receive, receive_all,
    refusal, request, within, write_frame,
};

macro_rules! conformance {
    ($($test:ident,)*) => {
        conformance!(@kind tcp, Kind::Tcp, $($test,)*);
        conformance!(@kind tls, Kind::Tls, $($test,)*);
        conformance!(@kind unix, Kind::Unix, $($test,)*);
        conformance!(@kind memory, Kind::Memory, $($test,)*);
    };
    (@kind $name:ident, $kind:expr, $($test:ident,)*) => {
        mod $name {
            use super::Kind;

            $(
                #[tokio::test]
                async fn $test() {
                    super::$test($kind).await;
                }
            )*
        }
    };
}

conformance! {
    messages_arrive_in_order_both_ways,
    frames_of_the_greatest_length_pass,
    nothing_is_delivered_beyond_the_first_message_before_admission,
    a_first_frame_that_is_too_long_is_refused,
    a_long_first_frame_waits_until_there_is_room_for_it,
    a_peer_that_says_no_hello_is_told_so,
    a_frame_over_the_limit_is_refused_by_name,
    garbage_is_refused_as_malformed,
    a_message_of_no_known_name_is_refused_by_name,
    bytes_after_a_message_are_refused,
    a_frame_nested_a_thousand_deep_is_refused,
    messages_before_a_bad_frame_are_delivered,
    a_flood_from_one_peer_does_not_hide_another,
    a_peer_that_does_not_read_is_cut_off_and_no_other_is,
    a_peer_that_vanishes_is_reported_once,
    a_frame_that_is_cut_off_counts_as_a_broken_connection,
    last_words_arrive_behind_what_was_queued,
    nothing_is_delivered_from_a_peer_that_was_closed,
    receiving_can_be_cancelled_without_losing_a_message,
    peer_ids_rise_and_are_never_used_twice,
    connections_over_the_limit_are_told_so,
    newcomers_over_the_limit_are_told_so,
    draining_waits_until_everything_is_written,
    draining_does_not_wait_for_ever_for_a_peer_that_does_not_read,
    a_closed_peer_that_does_not_read_frees_its_seat,
    a_dropped_router_closes_its_connections,
    a_dealer_that_closes_has_written_everything,
}

async fn messages_arrive_in_order_both_ways(kind: Kind) {
    const MESSAGES: u64 = 3_000;
    let mut fixture = Fixture::new(kind).await;
    let (mut dealer, peer) = fixture.peer().await;
    for seq in 0..MESSAGES {
        dealer.send(&beat(seq)).unwrap();
        fixture.router.send(peer, beat_back(seq)).unwrap();
    }
    fixture.router.flush();

    let (mut sent, mut received) = (Vec::new(), Vec::new());
    while received.len() < MESSAGES as usize {
        received.extend(receive(&mut dealer).await.unwrap());
    }
    dealer.flush();
    while sent.len() < MESSAGES as usize {
        tokio::select! {
            _ = receive(&mut dealer) => panic!("nothing more was sent"),
            message = fixture.message() => sent.push(message),
        }
    }
    assert_eq!(received, (0..MESSAGES).map(beat_back).collect::<Vec<_>>());
    assert_eq!(
        sent,
        (0..MESSAGES).map(|seq| (peer, beat(seq))).collect::<Vec<_>>()
    );
}

async fn frames_of_the_greatest_length_pass(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let (mut dealer, peer) = fixture.peer().await;
    let params = MAX_FRAME - 1_000;
    dealer.send(&request(params)).unwrap();
    fixture.router.send(peer, order(params)).unwrap();
    fixture.router.flush();
    let received = receive(&mut dealer).await;
    // It writes as long as somebody listens to it.
    let sent = tokio::select! {
        sent = fixture.message() => sent,
        more = receive(&mut dealer) => panic!("nothing more was sent to the dealer, and it received {more:?}"),
    };
    assert_eq!(received.unwrap(), [order(params)]);
    assert_eq!(sent, (peer, request(params)));
    assert_eq!(dealer.queued_bytes(), 0);
}

async fn nothing_is_delivered_beyond_the_first_message_before_admission(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let (mut early, first) = fixture.newcomer().await;
    early.send(&beat(1)).unwrap();
    early.send(&request(100_000)).unwrap();
    early.flush();
    // That a later peer is heard shows that the early one could have been.
    let (mut later, second) = fixture.peer().await;
    later.send(&beat(2)).unwrap();
    later.flush();
    assert_eq!(fixture.message().await, (second, beat(2)));

    fixture.router.admit(first, MAX_FRAME);
    let deliver = async { (fixture.message().await, fixture.message().await) };
    tokio::select! {
        _ = receive(&mut early) => panic!("nothing was sent"),
        delivered = deliver => assert_eq!(delivered, ((first, beat(1)), (first, request(100_000)))),
    }
}

async fn a_first_frame_that_is_too_long_is_refused(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let mut dealer = fixture.endpoint.connect(MAX_FRAME).await.unwrap();
    dealer.send(&hello_of(&"x".repeat(MAX_FIRST_FRAME + 1))).unwrap();
    dealer.flush();
    let peer = fixture.opened().await;
    let (closed, why) = fixture.closed().await;
    assert_eq!(closed, peer);
    assert!(matches!(why, Closed::Protocol(error) if error.code == ErrorCode::FrameTooLarge));
    let (last, end) = receive_all(&mut dealer).await;
    let [last] = <[ClientMessage; 1]>::try_from(last).unwrap();
    assert_eq!(refusal(last).0, ErrorCode::FrameTooLarge);
    assert!(matches!(end, TransportError::Closed), "{end}");
}

async fn a_long_first_frame_waits_until_there_is_room_for_it(kind: Kind) {
    let mut config = RouterConfig::default();
    config.first_frames_bytes = 10_000;

    let mut fixture = Fixture::with(kind, config).await;
    let mut slow = fixture.raw().await;
    slow.write_all(&9_000_u32.to_be_bytes()).await.unwrap();
    slow.write_all(&[0; 100]).await.unwrap();
    let slow_peer = fixture.opened().await;
    let mut long = fixture.endpoint.connect(MAX_FRAME).await.unwrap();
    long.send(&hello_of(&"x".repeat(9_000))).unwrap();
    let long_peer = {
        let opened = fixture.opened();
        tokio::select! {
            _ = receive(&mut long) => panic!("nothing was sent"),
            peer = opened => peer,
        }
    };
    let mut short = fixture.endpoint.connect(MAX_FRAME).await.unwrap();
    short.send(&hello()).unwrap();
    let heard = async {
        let short_peer = fixture.opened().await;
        // The short one is heard first, and the long one when the slow one has made room.
        assert_eq!(fixture.message().await.0, short_peer);
        drop(slow);
        assert_eq!(fixture.closed().await.0, slow_peer);
        assert_eq!(fixture.message().await.0, long_peer);
    };
    tokio::select! {
        _ = receive(&mut long) => panic!("nothing was sent"),
        _ = receive(&mut short) => panic!("nothing was sent"),
        () = heard => {}
    }
}

async fn a_peer_that_says_no_hello_is_told_so(kind: Kind) {
    let mut config = RouterConfig::default();
    config.hello_timeout = Duration::from_millis(50);

    let mut fixture = Fixture::with(kind, config).await;
    let mut stream = fixture.raw().await;
    // A beginning is not enough.
    stream.write_all(&[0, 0, 0]).await.unwrap();
    let peer = fixture.opened().await;
    let (closed, why) = fixture.closed().await;
    assert_eq!(closed, peer);
    assert!(matches!(why, Closed::Protocol(error) if error.code == ErrorCode::HelloTimeout));
    assert_eq!(read_refusal(&mut stream).await.0, ErrorCode::HelloTimeout);
}

async fn a_frame_over_the_limit_is_refused_by_name(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let mut stream = fixture.raw().await;
    write_frame(&mut stream, &codec::encode(&hello()).unwrap()).await;
    let peer = fixture.opened().await;
    fixture.message().await;
    fixture.router.admit(peer, 10_000);
    write_frame(&mut stream, &codec::encode(&request(9_000)).unwrap()).await;
    assert_eq!(fixture.message().await, (peer, request(9_000)));

    stream.write_all(&4_000_000_000_u32.to_be_bytes()).await.unwrap();
    stream.write_all(b"the beginning of it").await.unwrap();
    assert!(matches!(fixture.closed().await, (_, Closed::Protocol(_))));
    let (code, message) = read_refusal(&mut stream).await;
    assert_eq!(code, ErrorCode::FrameTooLarge);
    assert!(
        message.contains("4000000000") && message.contains("10000"),
        "{message}"
    );
}

/// Sends a frame instead of Hello, and says what it was refused with.
async fn refusal_of(kind: Kind, frame: &[u8]) -> (ErrorCode, String) {
    let mut fixture = Fixture::new(kind).await;
    let mut stream = fixture.raw().await;
    write_frame(&mut stream, frame).await;
    let peer = fixture.opened().await;
    let (closed, why) = fixture.closed().await;
    assert_eq!(closed, peer);
    let refusal = read_refusal(&mut stream).await;
    assert!(matches!(why, Closed::Protocol(error) if error.code == refusal.0));
    refusal
}

async fn garbage_is_refused_as_malformed(kind: Kind) {
    for frame in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 64],
        &[0xa1],
        &[0xa0],
        b"\x64Beat\xa0",
    ] {
        assert_eq!(refusal_of(kind, frame).await.0, ErrorCode::Malformed, "{frame:?}");
    }
}

async fn a_message_of_no_known_name_is_refused_by_name(kind: Kind) {
    let (code, message) = refusal_of(kind, b"\xa1\x65Later\xa1\x61x\x01").await;
    assert_eq!(code, ErrorCode::UnknownMessage);
    assert!(message.contains("Later"), "{message}");
}

async fn bytes_after_a_message_are_refused(kind: Kind) {
    let mut frame = codec::encode(&hello()).unwrap().to_vec();
    frame.push(0);
    let (code, message) = refusal_of(kind, &frame).await;
    assert_eq!(code, ErrorCode::Malformed);
    assert!(message.contains("bytes follow"), "{message}");
}

async fn a_frame_nested_a_thousand_deep_is_refused(kind: Kind) {
    // In a field that no version knows, which is skipped; as arrays, and as tags.
    for head in [0x81, 0xc1] {
        let mut frame = b"\xa1\x64Beat\xa1\x61x".to_vec();
        frame.extend([head; 1_000]);
        frame.push(0);
        let (code, _) = refusal_of(kind, &frame).await;
        assert_eq!(code, ErrorCode::Malformed);
    }
}

async fn messages_before_a_bad_frame_are_delivered(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let mut stream = fixture.raw().await;
    write_frame(&mut stream, &codec::encode(&hello()).unwrap()).await;
    write_frame(&mut stream, &codec::encode(&beat(1)).unwrap()).await;
    write_frame(&mut stream, b"bad").await;
    write_frame(&mut stream, &codec::encode(&beat(2)).unwrap()).await;
    let peer = fixture.opened().await;
    assert_eq!(fixture.message().await, (peer, hello()));
    fixture.router.admit(peer, MAX_FRAME);
    assert_eq!(fixture.message().await, (peer, beat(1)));
    assert!(matches!(fixture.closed().await, (_, Closed::Protocol(_))));
    assert_eq!(read_refusal(&mut stream).await.0, ErrorCode::Malformed);
}

async fn a_flood_from_one_peer_does_not_hide_another(kind: Kind) {
    const FLOOD: u64 = 20_000;
    let mut config = RouterConfig::default();
    config.inbox_messages = 64;

    let mut fixture = Fixture::with(kind, config).await;
    let (mut loud, loud_peer) = fixture.peer().await;
    let (mut quiet, quiet_peer) = fixture.peer().await;
    for seq in 0..FLOOD {
        loud.send(&beat(seq)).unwrap();
    }
    quiet.send(&beat(0)).unwrap();
    quiet.flush();
    // The loud peer goes on writing for as long as it can.
    let flood = tokio::spawn(async move {
        let mut nothing = Vec::new();
        loud.recv(&mut nothing, 1).await
    });
    let mut before = 0;
    loop {
        match fixture.message().await {
            (peer, _) if peer == quiet_peer => break,
            (peer, message) => {
                assert_eq!((peer, message), (loud_peer, beat(before)));
                before += 1;
            }
        }
    }
    assert!(before < FLOOD / 2, "{before} messages came first");
    flood.abort();
}

async fn a_peer_that_does_not_read_is_cut_off_and_no_other_is(kind: Kind) {
    let mut config = RouterConfig::default();
    config.outbox_bytes = 256 * 1024;
    config.close_timeout = Duration::from_millis(50);

    let mut fixture = Fixture::with(kind, config).await;
    let (_deaf, deaf_peer) = fixture.peer().await;
    let (mut other, other_peer) = fixture.peer().await;
    let refused = (0..10_000).find_map(|_| fixture.router.send(deaf_peer, order(32 * 1024)).err());
    assert!(matches!(refused, Some(SendError::Full { .. })), "{refused:?}");
    assert_eq!(fixture.closed().await, (deaf_peer, Closed::OutboxFull));
    assert_eq!(
        fixture.router.send(deaf_peer, beat_back(1)),
        Err(SendError::Gone(deaf_peer))
    );

    fixture.router.send(other_peer, beat_back(2)).unwrap();
    fixture.router.flush();
    assert_eq!(receive(&mut other).await.unwrap(), [beat_back(2)]);
    other.send(&beat(3)).unwrap();
    other.flush();
    assert_eq!(fixture.message().await, (other_peer, beat(3)));
}

async fn a_peer_that_vanishes_is_reported_once(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let (dealer, peer) = fixture.peer().await;
    drop(dealer);
    assert_eq!(fixture.closed().await, (peer, Closed::PeerGone));
    assert_eq!(
        fixture.router.send(peer, beat_back(1)),
        Err(SendError::Gone(peer))
    );
    fixture.router.close(peer, None, CloseReason::Goodbye);
    fixture.router.admit(peer, MAX_FRAME);
    // Whatever came of it would come before what a later peer does.
    let (_later, second) = fixture.peer().await;
    assert_ne!(peer, second);
}

async fn a_frame_that_is_cut_off_counts_as_a_broken_connection(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let mut stream = fixture.raw().await;
    stream.write_all(&[0, 0, 1, 0, 0xa1]).await.unwrap();
    drop(stream);
    fixture.opened().await;
    let (_, why) = fixture.closed().await;
    assert!(matches!(why, Closed::Io { .. }), "{why}");
}

async fn last_words_arrive_behind_what_was_queued(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let (mut dealer, peer) = fixture.peer().await;
    // What the peer has said and nobody has read would reset the connection, if it were just dropped.
    dealer.send(&request(50_000)).unwrap();
    dealer.flush();
    let last = ClientMessage::Error(ErrorMessage {
        error: WireError::new(
            ErrorCode::SessionTaken,
            "another connection has taken the session",
        ),
    });
    fixture.router.send(peer, beat_back(1)).unwrap();
    fixture
        .router
        .close(peer, Some(last.clone()), CloseReason::Replaced);
    assert_eq!(
        fixture.router.send(peer, beat_back(2)),
        Err(SendError::Gone(peer))
    );
    let (messages, end) = receive_all(&mut dealer).await;
    assert_eq!(messages, [beat_back(1), last]);
    assert!(matches!(end, TransportError::Closed), "{end}");
}

async fn nothing_is_delivered_from_a_peer_that_was_closed(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let (mut dealer, peer) = fixture.peer().await;
    for seq in 0..100 {
        dealer.send(&beat(seq)).unwrap();
    }
    dealer.flush();
    assert_eq!(
        fixture.message().await,
        (peer, beat(0)),
        "they have begun to arrive"
    );
    fixture.router.close(peer, None, CloseReason::Goodbye);
    assert_eq!(fixture.closed().await, (peer, Closed::ByUs(CloseReason::Goodbye)));
    let (_later, second) = fixture.peer().await;
    assert_ne!(peer, second);
}

async fn receiving_can_be_cancelled_without_losing_a_message(kind: Kind) {
    const MESSAGES: u64 = 2_000;
    let mut fixture = Fixture::new(kind).await;
    let (mut dealer, peer) = fixture.peer().await;
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    let (mut next, mut events) = (0, Vec::new());
    while sent.len() < MESSAGES as usize || received.len() < MESSAGES as usize {
        // A few at a time, so that both sides are cancelled in all kinds of places.
        for seq in next..MESSAGES.min(next + 7) {
            dealer.send(&beat(seq)).unwrap();
            fixture.router.send(peer, beat_back(seq)).unwrap();
        }
        next = MESSAGES.min(next + 7);
        fixture.router.flush();
        tokio::select! {
            biased;
            result = dealer.recv(&mut received, 3) => result.unwrap(),
            result = fixture.router.recv(&mut events, 5) => result.unwrap(),
            () = tokio::task::yield_now() => {}
        }
        sent.append(&mut events);
    }
    assert_eq!(received, (0..MESSAGES).map(beat_back).collect::<Vec<_>>());
    let expected = (0..MESSAGES).map(|seq| RouterEvent::Message {
        peer,
        message: beat(seq),
    });
    assert_eq!(sent, expected.collect::<Vec<_>>());
}

async fn peer_ids_rise_and_are_never_used_twice(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let mut last = None;
    for _ in 0..10 {
        let (dealer, peer) = fixture.peer().await;
        assert!(Some(peer) > last, "{peer} after {last:?}");
        last = Some(peer);
        drop(dealer);
        assert_eq!(fixture.closed().await, (peer, Closed::PeerGone));
    }
}

async fn connections_over_the_limit_are_told_so(kind: Kind) {
    let mut config = RouterConfig::default();
    config.max_peers = 2;

    let mut fixture = Fixture::with(kind, config).await;
    let (_first, _) = fixture.peer().await;
    let (second, second_peer) = fixture.peer().await;
    let mut third = fixture.raw().await;
    assert_eq!(read_refusal(&mut third).await.0, ErrorCode::TooManyPeers);

    drop(second);
    // The seat is not free before the router has heard of it.
    assert_eq!(fixture.closed().await, (second_peer, Closed::PeerGone));
    within(async {
        while fixture.router.connections() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    fixture.peer().await;
}

async fn newcomers_over_the_limit_are_told_so(kind: Kind) {
    let mut config = RouterConfig::default();
    config.max_unadmitted = 1;

    let mut fixture = Fixture::with(kind, config).await;
    let (mut first, first_peer) = fixture.newcomer().await;
    let mut second = fixture.raw().await;
    assert_eq!(read_refusal(&mut second).await.0, ErrorCode::TooManyPeers);

    fixture.router.admit(first_peer, MAX_FRAME);
    // Whatever it says now shows that the admission has been seen.
    first.send(&beat(1)).unwrap();
    first.flush();
    assert_eq!(fixture.message().await, (first_peer, beat(1)));
    fixture.peer().await;
}

async fn draining_waits_until_everything_is_written(kind: Kind) {
    const ORDERS: usize = 100;
    let mut config = RouterConfig::default();
    config.drain_timeout = Duration::from_secs(60);

    let mut fixture = Fixture::with(kind, config).await;
    let (mut dealer, peer) = fixture.peer().await;
    let (mut closed, closed_peer) = fixture.peer().await;
    for _ in 0..ORDERS {
        fixture.router.send(peer, order(100_000)).unwrap();
    }
    fixture
        .router
        .close(closed_peer, Some(order(1_000_000)), CloseReason::ShuttingDown);
    let serve = async {
        fixture.router.drain().await;
        drop(fixture);
    };
    let (_, (orders, end), (last, _)) =
        within(async { tokio::join!(serve, receive_all(&mut dealer), receive_all(&mut closed)) }).await;
    assert_eq!(orders.len(), ORDERS);
    assert!(matches!(end, TransportError::Closed), "{end}");
    assert_eq!(last, [order(1_000_000)]);
}

async fn draining_does_not_wait_for_ever_for_a_peer_that_does_not_read(kind: Kind) {
    let mut config = RouterConfig::default();
    config.drain_timeout = Duration::from_millis(50);

    let mut fixture = Fixture::with(kind, config).await;
    let (_deaf, peer) = fixture.peer().await;
    for _ in 0..20 {
        fixture.router.send(peer, order(1_000_000)).unwrap();
    }
    within(fixture.router.drain()).await;
}

async fn a_closed_peer_that_does_not_read_frees_its_seat(kind: Kind) {
    let mut config = RouterConfig::default();
    config.close_timeout = Duration::from_millis(50);

    let mut fixture = Fixture::with(kind, config).await;
    let (_deaf, peer) = fixture.peer().await;
    for _ in 0..20 {
        fixture.router.send(peer, order(1_000_000)).unwrap();
    }
    fixture.router.close(peer, None, CloseReason::SessionEnded);
    assert_eq!(
        fixture.closed().await,
        (peer, Closed::ByUs(CloseReason::SessionEnded))
    );
    within(async {
        while fixture.router.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn a_dropped_router_closes_its_connections(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let (mut dealer, _) = fixture.peer().await;
    drop(fixture);
    let (messages, end) = receive_all(&mut dealer).await;
    assert_eq!(messages, []);
    assert!(
        matches!(end, TransportError::Closed | TransportError::Io(_)),
        "{end}"
    );
    assert_eq!(dealer.send(&beat(1)), Err(SendError::Closed));
}

async fn a_dealer_that_closes_has_written_everything(kind: Kind) {
    const REQUESTS: usize = 50;
    let mut fixture = Fixture::new(kind).await;
    let (mut dealer, peer) = fixture.peer().await;
    // It is never read, and would reset the connection if it were just dropped.
    fixture.router.send(peer, order(200_000)).unwrap();
    fixture.router.flush();
    for _ in 0..REQUESTS {
        dealer.send(&request(100_000)).unwrap();
    }
    let serve = async {
        for _ in 0..REQUESTS {
            assert_eq!(fixture.message().await, (peer, request(100_000)));
        }
        assert_eq!(fixture.closed().await, (peer, Closed::PeerGone));
    };
    let (closed, ()) = tokio::join!(within(dealer.close()), serve);
    closed.unwrap();
}
