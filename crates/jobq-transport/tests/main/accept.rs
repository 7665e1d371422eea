//! A listener that fails, and setups that hang.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use jobq_transport::{
    Closed, Dealer, Listener, PeerInfo, Router, RouterConfig, RouterEvent, StreamDealer, StreamRouter,
};
use tokio::io::{DuplexStream, duplex};

use crate::fixtures::{MAX_FRAME, hello, within};

/// What a call of `accept` brings.
enum Step {
    Fail(io::ErrorKind),
    Hang,
    FailSetup,
    Connect(DuplexStream),
}

struct Scripted(VecDeque<Step>);

impl Listener for Scripted {
    type Io = DuplexStream;
    type Setup = Pin<Box<dyn Future<Output = io::Result<(DuplexStream, PeerInfo)>> + Send>>;

    async fn accept(&mut self) -> io::Result<Self::Setup> {
        Ok(match self.0.pop_front() {
            Some(Step::Fail(kind)) => return Err(kind.into()),
            Some(Step::Hang) => Box::pin(pending()),
            Some(Step::FailSetup) => Box::pin(async { Err(io::ErrorKind::PermissionDenied.into()) }),
            Some(Step::Connect(stream)) => Box::pin(async {
                let info = PeerInfo {
                    transport: "scripted",
                    address: "1".to_owned(),
                    identity: None,
                };
                Ok((stream, info))
            }),
            None => return pending().await,
        })
    }
}

/// Whether a peer gets through after these steps.
async fn a_peer_gets_through_after(steps: Vec<Step>, config: RouterConfig) {
    let (ours, theirs) = duplex(1024);
    let mut steps = VecDeque::from(steps);
    steps.push_back(Step::Connect(theirs));
    let mut router = StreamRouter::new(config);
    router.listen(Scripted(steps));
    let mut dealer = StreamDealer::new(ours, MAX_FRAME);
    dealer.send(&hello()).unwrap();
    dealer.flush();
    let mut events = Vec::new();
    while events.len() < 2 {
        within(router.recv(&mut events, 10)).await.unwrap();
    }
    assert!(
        matches!(
            &events[..],
            [RouterEvent::Opened { .. }, RouterEvent::Message { .. }]
        ),
        "{events:?}"
    );
}

#[tokio::test]
async fn failing_to_accept_does_not_end_accepting() {
    // As with too many open files, which is of no kind of its own.
    let steps = vec![
        Step::Fail(io::ErrorKind::Other),
        Step::Fail(io::ErrorKind::ConnectionAborted),
    ];
    a_peer_gets_through_after(steps, RouterConfig::default()).await;
}

#[tokio::test]
async fn a_setup_that_fails_or_hangs_does_not_hold_up_the_next() {
    let steps = vec![Step::Hang, Step::FailSetup, Step::Hang];
    a_peer_gets_through_after(steps, RouterConfig::default()).await;
}

#[tokio::test]
async fn a_setup_that_hangs_gives_its_seat_back() {
    let mut config = RouterConfig::default();
    config.hello_timeout = Duration::from_millis(20);

    let mut router = StreamRouter::new(config);
    router.listen(Scripted(VecDeque::from(vec![Step::Hang])));
    let seen = within(async {
        let mut most = 0;
        loop {
            most = most.max(router.connections());
            if most > 0 && router.connections() == 0 {
                return most;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(seen.await, 1);
    let mut events = Vec::new();
    assert_eq!(
        router.try_recv(&mut events, 10),
        0,
        "nobody was there: {events:?}"
    );
}

#[tokio::test]
async fn peers_of_several_listeners_come_to_one_router() {
    let mut router = StreamRouter::new(RouterConfig::default());
    let mut dealers = Vec::new();
    for _ in 0..3 {
        let (ours, theirs) = duplex(1024);
        router.listen(Scripted(VecDeque::from(vec![Step::Connect(theirs)])));
        dealers.push(StreamDealer::new(ours, MAX_FRAME));
    }
    let mut events = Vec::new();
    while events.len() < 3 {
        within(router.recv(&mut events, 1)).await.unwrap();
    }
    let mut peers: Vec<_> = events
        .iter()
        .map(|event| match event {
            RouterEvent::Opened { peer, .. } => *peer,
            other => panic!("expected Opened, not {other:?}"),
        })
        .collect();
    peers.sort();
    peers.dedup();
    assert_eq!(peers.len(), 3);
    drop(dealers);
    events.clear();
    while events.len() < 3 {
        within(router.recv(&mut events, 1)).await.unwrap();
    }
    assert!(events.iter().all(|event| matches!(
        event,
        RouterEvent::Closed {
            why: Closed::PeerGone,
            ..
        }
    )));
}
