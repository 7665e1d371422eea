use futures::FutureExt;
use jobq_proto::message::{Beat, Query};

use super::super::accept::Count;
use super::super::link::Unsent;
use super::*;

const ROOM: usize = 4;

/// An inbox with this many peers, whose `Opened` have been taken.
fn inbox(peers: u64) -> (Inbox, Vec<Arc<Link>>) {
    let limits = InboxLimits {
        messages: ROOM,
        bytes: 1_000,
        all_bytes: usize::MAX,
    };
    inbox_of(limits, peers)
}

fn inbox_of(limits: InboxLimits, peers: u64) -> (Inbox, Vec<Arc<Link>>) {
    let inbox = Inbox::new(limits);
    let open = |peer| {
        let place = Count::up_to(1).take().expect("there is one");
        let link = Arc::new(Link::new(PeerId(peer), 1_000, Arc::<Unsent>::default(), place));
        let info = PeerInfo {
            transport: "test",
            address: peer.to_string(),
            identity: None,
        };
        inbox.open(info, link.clone());
        link
    };
    let links = (1..=peers).map(open).collect();
    assert_eq!(inbox.take(usize::MAX, Length::Brief, |_, _| {}) as u64, peers);
    (inbox, links)
}

fn put(inbox: &Inbox, peer: u64, messages: u64, bytes: usize) -> InboxRoom {
    let beat = |seq| Received {
        message: ServerMessage::Beat(Beat { seq }),
        held: bytes,
    };
    inbox.put(PeerId(peer), &mut (0..messages).map(beat).collect())
}

/// The peers of the next events, in order.
fn peers(inbox: &Inbox, limit: usize) -> Vec<u64> {
    let mut peers = Vec::new();
    for length in [Length::Brief, Length::Long] {
        let left = limit - peers.len();
        inbox.take(left, length, |event, _| peers.push(event.peer().0));
    }
    peers
}

#[test]
fn peers_are_heard_in_turn_however_much_each_has_to_say() {
    let (inbox, _links) = inbox(3);
    put(&inbox, 1, 4, 1);
    put(&inbox, 2, 1, 1);
    put(&inbox, 3, 2, 1);
    assert_eq!(peers(&inbox, 2), [1, 2]);
    put(&inbox, 2, 1, 1);
    assert_eq!(peers(&inbox, 100), [3, 1, 2, 3, 1, 1]);
    assert_eq!(peers(&inbox, 100), [0_u64; 0]);
}

#[test]
fn who_says_much_does_not_keep_those_waiting_who_say_little() {
    let limits = InboxLimits {
        messages: 1_000,
        bytes: usize::MAX,
        all_bytes: usize::MAX,
    };
    let (inbox, _links) = inbox_of(limits, 3);
    put(&inbox, 1, 10, LONG);
    put(&inbox, 2, 10, 1);
    put(&inbox, 3, 10, 1);
    let mut heard = Vec::new();
    while heard.len() < 30 {
        let some = peers(&inbox, 4);
        assert!(!some.is_empty(), "something is there");
        heard.extend(some);
    }
    let first: Vec<u64> = heard[..16].to_vec();
    assert_eq!(first.iter().filter(|&&peer| peer == 1).count(), 1, "{first:?}");
}

#[test]
fn what_is_brief_is_heard_by_itself_and_nothing_before_what_its_peer_said_earlier() {
    let limits = InboxLimits {
        messages: 1_000,
        bytes: usize::MAX,
        all_bytes: usize::MAX,
    };
    let (inbox, _links) = inbox_of(limits, 2);
    put(&inbox, 1, 1, LONG + 1);
    put(&inbox, 1, 1, 1);
    put(&inbox, 2, 1, 1);
    let mut brief = Vec::new();
    inbox.take(100, Length::Brief, |event, _| brief.push(event.peer().0));
    assert_eq!(brief, [2]);
    assert_eq!(inbox.take(100, Length::Brief, |_, _| {}), 0);
    assert_eq!(peers(&inbox, 100), [1]);
    assert_eq!(peers(&inbox, 100), [1]);
}

#[test]
fn no_more_is_taken_at_once_than_is_soon_dealt_with() {
    let limits = InboxLimits {
        messages: 1_000,
        bytes: usize::MAX,
        all_bytes: usize::MAX,
    };
    for others in [0, 1] {
        let (inbox, _links) = inbox_of(limits, 2);
        put(&inbox, 1, 10, usize::try_from(TAKE / 2).expect("it is small"));
        put(&inbox, 2, others, 1);
        let mut rounds = Vec::new();
        while rounds.iter().sum::<usize>() < 10 + usize::try_from(others).expect("it is small") {
            rounds.push(peers(&inbox, 100).len());
        }
        assert!(rounds.iter().all(|events| (1..=3).contains(events)), "{rounds:?}");
    }
}

#[test]
fn a_connection_is_paused_when_its_lane_is_full_and_goes_on_when_it_is_half_empty() {
    for (messages, bytes) in [(ROOM as u64, 1), (2, 600)] {
        let (inbox, links) = inbox(2);
        assert_eq!(put(&inbox, 1, 1, 1), InboxRoom::Left);
        assert_eq!(put(&inbox, 2, messages, bytes), InboxRoom::None);
        assert_eq!(put(&inbox, 1, 1, 1), InboxRoom::Left, "the other one has room");
        assert_eq!(peers(&inbox, 2).len(), 2);
        assert_eq!(links[1].has_room().now_or_never(), None);
        peers(&inbox, 100);
        assert_eq!(links[1].has_room().now_or_never(), Some(()));
        assert_eq!(put(&inbox, 2, 1, 1), InboxRoom::Left);
    }
}

#[test]
fn who_has_asked_much_is_not_read_on_until_that_is_heard_and_who_reports_much_is() {
    let limits = InboxLimits {
        messages: 1_000,
        bytes: usize::MAX,
        all_bytes: usize::MAX,
    };
    let (inbox, links) = inbox_of(limits, 2);
    let ask = |request| {
        let query = Query {
            request,
            ..Query::default()
        };
        Received::new(ServerMessage::Query(Box::new(query)), 10)
    };
    let cost = ask(1).cost();
    let room = |asks: u64| inbox.put(PeerId(1), &mut (0..asks).map(ask).collect());
    let most = MAX_ASKED / cost;
    assert_eq!(room(most as u64), InboxRoom::Left);
    assert_eq!(room(1), InboxRoom::None);
    assert_eq!(
        put(&inbox, 2, 2, MAX_ASKED),
        InboxRoom::Left,
        "it asks for nothing"
    );
    while !peers(&inbox, 100).is_empty() {}
    assert_eq!(
        room(most as u64),
        InboxRoom::Left,
        "nothing is left of what was counted"
    );
    assert_eq!(room(1), InboxRoom::None);
    links[0].has_room().now_or_never();
    let mut heard = 0;
    while links[0].has_room().now_or_never().is_none() {
        heard += peers(&inbox, 1).len();
    }
    assert!((most / 2..=most / 2 + 2).contains(&heard), "{heard} of {most}");
    assert_eq!(room(1), InboxRoom::Left);
}

#[test]
fn while_much_waits_of_all_peers_each_still_has_its_share() {
    let limits = InboxLimits {
        messages: 1_000,
        bytes: 100 * SHARE,
        all_bytes: 3 * SHARE,
    };
    let (inbox, links) = inbox_of(limits, 3);
    assert_eq!(put(&inbox, 1, 2, SHARE), InboxRoom::Left);
    assert_eq!(
        put(&inbox, 2, 2, SHARE / 2),
        InboxRoom::None,
        "it is one share too many"
    );
    assert_eq!(
        put(&inbox, 3, 1, SHARE - 1),
        InboxRoom::Left,
        "it is less than its share"
    );
    assert_eq!(put(&inbox, 3, 1, 1), InboxRoom::None);
    assert_eq!(put(&inbox, 1, 1, 1), InboxRoom::None);
    assert_eq!(peers(&inbox, 2), [1, 2]);
    assert_eq!(
        links[1].has_room().now_or_never(),
        Some(()),
        "half a share is left of it"
    );
    assert_eq!(links[0].has_room().now_or_never(), None);
    while !peers(&inbox, 100).is_empty() {}
    assert_eq!(links[0].has_room().now_or_never(), Some(()));
    assert_eq!(links[2].has_room().now_or_never(), Some(()));
    assert_eq!(
        put(&inbox, 1, 2, SHARE),
        InboxRoom::Left,
        "nothing is left of what was counted"
    );
    inbox.cut_off(PeerId(1), Closed::PeerGone);
    assert_eq!(
        put(&inbox, 2, 2, SHARE),
        InboxRoom::Left,
        "nor of what was dropped"
    );
}

#[test]
fn who_cannot_take_everything_takes_what_is_wanted_and_the_rest_stays_in_order() {
    let (inbox, links) = inbox(3);
    let put = |peer, messages| put(&inbox, peer, messages, 1);
    assert_eq!(
        [put(1, 4), put(2, 1), put(3, 1)],
        [InboxRoom::None, InboxRoom::Left, InboxRoom::Left]
    );
    inbox.end(PeerId(1), Closed::PeerGone);
    inbox.end(PeerId(3), Closed::PeerGone);
    let mut asked = Vec::new();
    let mut taken = Vec::new();
    // Of the first peer the last two; of the second nothing; of the third all.
    let mut wanted = |peer: PeerId, message: &ServerMessage, behind: bool| {
        let ServerMessage::Beat(beat) = message else {
            return false;
        };
        asked.push((peer.0, beat.seq, behind));
        peer == PeerId(3) || beat.seq >= 2
    };
    assert_eq!(inbox.take_some(100, &mut wanted, |event, _| taken.push(event)), 4);
    assert_eq!(
        asked,
        [
            (1, 0, false),
            (1, 1, true),
            (1, 2, true),
            (1, 3, true),
            (2, 0, false),
            (3, 0, false)
        ]
    );
    let of: Vec<u64> = taken.iter().map(|event| event.peer().0).collect();
    assert_eq!(of, [1, 1, 3, 3]);
    assert!(
        matches!(taken[3], RouterEvent::Closed { .. }),
        "nothing stays before it"
    );
    assert_eq!(links[0].has_room().now_or_never(), Some(()), "it is half empty");
    assert_eq!(
        peers(&inbox, 100),
        [1, 2, 1, 1],
        "two messages and the end, in order"
    );
}

#[test]
fn the_first_reason_for_an_end_is_the_one_that_counts() {
    let (inbox, _links) = inbox(1);
    put(&inbox, 1, 2, 1);
    inbox.end(PeerId(1), Closed::PeerGone);
    inbox.cut_off(PeerId(1), Closed::OutboxFull);
    assert_eq!(put(&inbox, 1, 1, 1), InboxRoom::Left, "it is dropped");
    let mut events = Vec::new();
    inbox.take(100, Length::Brief, |event, _| events.push(event));
    let (peer, why) = (PeerId(1), Closed::PeerGone);
    assert_eq!(events, [RouterEvent::Closed { peer, why }]);
    inbox.end(PeerId(1), Closed::OutboxFull);
    assert_eq!(peers(&inbox, 100), [0_u64; 0], "it is over");
}

#[test]
fn many_messages_make_one_wake() {
    let (inbox, _links) = inbox(2);
    // Of the peers' coming.
    assert_eq!(inbox.happened().now_or_never(), Some(()));
    put(&inbox, 1, 3, 1);
    put(&inbox, 2, 3, 1);
    put(&inbox, 1, 3, 1);
    assert_eq!(inbox.happened().now_or_never(), Some(()));
    assert_eq!(inbox.happened().now_or_never(), None);
}
