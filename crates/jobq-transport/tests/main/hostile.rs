//! Peers that take more than is theirs: seats, time and memory. Their neighbours notice nothing.

use std::time::Duration;

use jobq_proto::ErrorCode;
use jobq_proto::limits::NO_BEAT;
use jobq_transport::{Closed, Dealer, Router, RouterConfig, RouterEvent, codec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixtures::{
    Fixture, Kind, MAX_FRAME, beat, beat_back, hello, order, read_refusal, receive, request, within,
    write_frame,
};

const KINDS: [Kind; 3] = [Kind::Tcp, Kind::Unix, Kind::Memory];

#[tokio::test]
async fn a_newcomer_takes_the_place_of_the_one_that_has_been_silent_the_longest() {
    for kind in KINDS {
        let mut config = RouterConfig::default();
        config.max_unadmitted = 3;
        let mut fixture = Fixture::with(kind, config).await;
        let (mut known, known_peer) = fixture.newcomer().await;
        let mut silent = Vec::new();
        for _ in 0..2 {
            silent.push((fixture.raw().await, fixture.opened().await));
        }
        for _ in 0..20 {
            let new = fixture.raw().await;
            let (mut stream, peer) = silent.remove(0);
            // The newcomer's coming and the other's end happen at the same time.
            let (mut opened, mut closed) = (None, None);
            while opened.is_none() || closed.is_none() {
                match fixture.event().await {
                    RouterEvent::Opened { peer, .. } => opened = Some(peer),
                    RouterEvent::Closed { peer, .. } => closed = Some(peer),
                    other => panic!("expected a coming or a going, not {other:?}"),
                }
            }
            assert_eq!(closed, Some(peer), "the oldest goes first");
            assert_eq!(
                within(stream.read(&mut [0; 16])).await.unwrap_or(0),
                0,
                "it is told nothing"
            );
            silent.push((new, opened.expect("it has come")));
        }
        fixture.router.admit(known_peer, MAX_FRAME);
        known.send(&beat(1)).unwrap();
        known.flush();
        assert_eq!(
            fixture.message().await,
            (known_peer, beat(1)),
            "who has said Hello stays"
        );
        let (_stream, _) = fixture.newcomer().await;
    }
}

#[tokio::test]
async fn who_says_little_waits_for_no_more_than_a_part_of_what_the_others_have_said_already() {
    /// So many messages each loud peer has said, of which the inbox holds a part.
    const LOUD: usize = 40;
    /// What is taken at once while the quiet one is read, and what may be taken once more before.
    const MOST: usize = 6;
    for kind in KINDS {
        let mut fixture = Fixture::new(kind).await;
        let (mut quiet, quiet_peer) = fixture.peer().await;
        let mut dealers = Vec::new();
        for _ in 0..4 {
            dealers.push(fixture.peer().await.0);
        }
        let mut loud = tokio::task::JoinSet::new();
        for mut dealer in dealers {
            for _ in 0..LOUD {
                dealer.send(&request(60_000)).unwrap();
            }
            dealer.flush();
            loud.spawn(async move { receive(&mut dealer).await.is_ok() });
        }
        let mut events = Vec::new();
        within(fixture.router.recv(&mut events, 1)).await.unwrap();
        for _ in 0..1_000 {
            tokio::task::yield_now().await; // The others are read meanwhile.
        }
        quiet.send(&beat(1)).unwrap();
        quiet.flush();
        let mut before = 0;
        while !events
            .iter()
            .any(|event| matches!(event, RouterEvent::Message { peer, .. } if *peer == quiet_peer))
        {
            before += events.drain(..).count();
            within(fixture.router.recv(&mut events, 4_096)).await.unwrap();
        }
        assert!(before <= MOST, "{before} messages of others came first");
    }
}

#[tokio::test]
async fn what_takes_long_is_heard_however_much_others_say_that_is_brief() {
    /// Little enough that all of it is in the inbox when the first of it is taken.
    const BEATS: u64 = 500;
    for kind in KINDS {
        let mut fixture = Fixture::new(kind).await;
        let (mut chatty, _) = fixture.peer().await;
        let (mut loud, loud_peer) = fixture.peer().await;
        loud.send(&request(60_000)).unwrap();
        loud.flush();
        for seq in 1..=BEATS {
            chatty.send(&beat(seq)).unwrap();
        }
        chatty.flush();
        for _ in 0..1_000 {
            tokio::task::yield_now().await; // Both are read meanwhile.
        }
        let (mut events, mut calls) = (Vec::new(), 0);
        while !events.iter().any(|event: &RouterEvent| event.peer() == loud_peer) {
            events.clear();
            within(fixture.router.recv(&mut events, 10)).await.unwrap();
            calls += 1;
        }
        assert!(calls <= 3, "it was heard in the {calls}th turn");
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_and_does_not_read_the_answers_is_heard_now_and_then() {
    let mut fixture = Fixture::new(Kind::Memory).await;
    let mut deaf = fixture.raw().await;
    write_frame(&mut deaf, &codec::encode(&hello()).unwrap()).await;
    let peer = fixture.opened().await;
    assert_eq!(fixture.message().await, (peer, hello()));
    fixture.router.admit(peer, MAX_FRAME);
    fixture.router.send(peer, order(600_000)).unwrap();
    fixture.router.flush();
    // What is no question does not wait; what comes behind a question does.
    for (message, waits) in [
        (beat(1), false),
        (request(2), false),
        (beat(3), true),
        (beat(4), false),
    ] {
        let said = tokio::time::Instant::now();
        write_frame(&mut deaf, &codec::encode(&message).unwrap()).await;
        assert_eq!(fixture.message().await, (peer, message));
        assert_eq!(
            said.elapsed() >= Duration::from_millis(500),
            waits,
            "{:?}",
            said.elapsed()
        );
    }
    // Once it reads, nothing waits.
    write_frame(&mut deaf, &codec::encode(&request(5)).unwrap()).await;
    assert_eq!(fixture.message().await, (peer, request(5)));
    let mut answer = vec![0; 500_000];
    within(deaf.read_exact(&mut answer)).await.unwrap();
    let said = tokio::time::Instant::now();
    write_frame(&mut deaf, &codec::encode(&beat(6)).unwrap()).await;
    assert_eq!(fixture.message().await, (peer, beat(6)));
    assert!(
        said.elapsed() < Duration::from_millis(500),
        "{:?}",
        said.elapsed()
    );
}

#[tokio::test]
async fn a_frame_that_does_not_end_in_time_costs_its_peer_the_connection_and_nobody_else() {
    for kind in KINDS {
        for beginning in [&[0][..], &[0, 0, 1, 0], &[0, 0, 1, 0, 0xa1, 0x64]] {
            let mut config = RouterConfig::default();
            config.frame_timeout = Duration::from_millis(50);
            let mut fixture = Fixture::with(kind, config).await;
            let (mut quiet, quiet_peer) = fixture.peer().await;
            let mut slow = fixture.raw().await;
            write_frame(&mut slow, &codec::encode(&hello()).unwrap()).await;
            let slow_peer = fixture.opened().await;
            fixture.message().await;
            fixture.router.admit(slow_peer, MAX_FRAME);
            // A whole frame, and the beginning of the next.
            write_frame(&mut slow, &codec::encode(&beat(1)).unwrap()).await;
            slow.write_all(beginning).await.unwrap();
            assert_eq!(fixture.message().await, (slow_peer, beat(1)));
            let (peer, why) = fixture.closed().await;
            assert_eq!(peer, slow_peer);
            assert!(matches!(why, Closed::Protocol(error) if error.code == ErrorCode::FrameTimeout));
            assert_eq!(read_refusal(&mut slow).await.0, ErrorCode::FrameTimeout);

            quiet.send(&beat(2)).unwrap();
            quiet.flush();
            assert_eq!(
                fixture.message().await,
                (quiet_peer, beat(2)),
                "silence between frames is allowed"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_frame_may_take_longer_than_the_delay_and_its_peer_is_alive_meanwhile() {
    let mut config = RouterConfig::default();
    config.frame_timeout = Duration::from_secs(5);
    let mut fixture = Fixture::with(Kind::Memory, config).await;
    let mut slow = fixture.raw().await;
    write_frame(&mut slow, &codec::encode(&hello()).unwrap()).await;
    let slow_peer = fixture.opened().await;
    fixture.message().await;
    fixture.router.admit(slow_peer, MAX_FRAME);
    let frame = codec::encode(&request(1_000_000)).unwrap();
    slow.write_all(&(frame.len() as u32).to_be_bytes()).await.unwrap();
    let (most, last) = frame.split_at(frame.len() - 1);
    // 50 s at a little more than the least rate.
    for piece in most.chunks(20_000) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        slow.write_all(piece).await.unwrap();
        let sign = tokio::time::timeout(Duration::from_secs(1), fixture.message()).await;
        assert_eq!(sign.expect("it is alive"), (slow_peer, beat(NO_BEAT)));
    }
    slow.write_all(last).await.unwrap();
    let mut whole = fixture.message().await;
    if whole.1 == beat(NO_BEAT) {
        whole = fixture.message().await;
    }
    assert_eq!(whole, (slow_peer, request(1_000_000)));

    // With nothing more of it to come, the delay and what came count.
    slow.write_all(&1_000_000_u32.to_be_bytes()).await.unwrap();
    slow.write_all(&[0; 1_000]).await.unwrap();
    let (peer, why) = fixture.closed().await;
    assert_eq!(peer, slow_peer);
    assert!(matches!(why, Closed::Protocol(error) if error.code == ErrorCode::FrameTimeout));
}

#[tokio::test]
async fn a_long_frame_waits_for_room_and_short_ones_do_not() {
    for kind in KINDS {
        let mut config = RouterConfig::default();
        config.frames_bytes = 200_000;
        config.frame_timeout = Duration::from_secs(3600);
        let mut fixture = Fixture::with(kind, config).await;
        let mut hoarder = fixture.raw().await;
        write_frame(&mut hoarder, &codec::encode(&hello()).unwrap()).await;
        let hoarder_peer = fixture.opened().await;
        fixture.message().await;
        fixture.router.admit(hoarder_peer, MAX_FRAME);
        write_frame(&mut hoarder, &codec::encode(&beat(1)).unwrap()).await;
        hoarder.write_all(&150_000_u32.to_be_bytes()).await.unwrap();
        hoarder.write_all(&[0; 70_000]).await.unwrap();
        assert_eq!(fixture.message().await.1, beat(1));

        let (mut long, long_peer) = fixture.peer().await;
        let (mut short, short_peer) = fixture.peer().await;
        long.send(&request(120_000)).unwrap();
        let mut seen = Vec::new();
        let talk = async {
            for seq in 0..20 {
                short.send(&beat(seq)).unwrap();
                short.flush();
                assert_eq!(fixture.message().await, (short_peer, beat(seq)));
            }
            drop(hoarder);
            assert_eq!(fixture.closed().await.0, hoarder_peer);
            seen.push(fixture.message().await);
        };
        tokio::select! {
            _ = receive(&mut long) => panic!("nothing was sent"),
            () = talk => {}
        }
        assert_eq!(seen, [(long_peer, request(120_000))]);
    }
}

#[tokio::test]
async fn when_all_peers_together_read_too_slowly_the_one_with_the_most_to_read_is_cut() {
    for kind in KINDS {
        let mut config = RouterConfig::default();
        config.outboxes_bytes = 20 * 1024 * 1024;
        let mut fixture = Fixture::with(kind, config).await;
        let (mut modest, modest_peer) = fixture.peer().await;
        let (_deaf, deaf_peer) = fixture.peer().await;
        for _ in 0..10 {
            fixture.router.send(modest_peer, order(512 * 1024)).unwrap();
            fixture.router.send(deaf_peer, order(1024 * 1024)).unwrap();
        }
        for _ in 0..10 {
            // Less than one peer may have, and too much with the other's.
            let _ = fixture.router.send(deaf_peer, order(1024 * 1024));
        }
        assert_eq!(fixture.closed().await, (deaf_peer, Closed::OutboxFull));
        fixture.router.send(modest_peer, beat_back(1)).unwrap();
        fixture.router.flush();
        let mut messages = Vec::new();
        while messages.len() < 11 {
            messages.extend(receive(&mut modest).await.unwrap());
        }
        assert_eq!(messages.last(), Some(&beat_back(1)));
    }
}
