//! Where what was read waits, and from which peers are heard in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jobq_proto::ServerMessage;
use tokio::sync::Notify;

use super::Received;
use super::link::Link;
use crate::router::{Closed, PeerId, PeerInfo, RouterEvent};

/// What a lane may hand out each time it is heard, in bytes, if others wait too. A lane whose next message is longer
/// saves that up: so those who say little are not kept waiting by those who say much.
const QUANTUM: usize = 16 * 1024;

/// Not much more than this is taken at once, in bytes: what comes meanwhile from others has its turn soon. It is what a
/// server deals with in some tenths of a millisecond, and a Request of a thousand jobs by itself.
const TAKE: usize = 128 * 1024;

/// What all connections have read, in one place, so that a thousand messages cost the router one wake.
pub(super) struct Inbox {
    state: Mutex<State>,
    happened: Notify,
    max: InboxLimits,
}

/// When a connection is not read any more.
#[derive(Debug, Clone, Copy)]
pub(super) struct InboxLimits {
    /// Messages of one peer.
    pub(super) messages: usize,
    /// Bytes of one peer.
    pub(super) bytes: usize,
    /// Bytes of all peers, for those that have more than [`SHARE`].
    pub(super) all_bytes: usize,
}

/// What of one peer may wait however much waits of others, in bytes: so a flood of some peers' messages never keeps the
/// others' Beats from being heard.
pub(super) const SHARE: usize = 64 * 1024;

#[derive(Default)]
struct State {
    lanes: HashMap<PeerId, Lane>,
    /// The lanes that have something, each once, in the order in which they are heard.
    turn: VecDeque<PeerId>,
    /// Bytes of all lanes.
    bytes: usize,
}

/// What came from one peer.
struct Lane {
    link: Arc<Link>,
    opened: Option<PeerInfo>,
    messages: VecDeque<Received>,
    /// Bytes of `messages`.
    bytes: usize,
    closed: Option<Closed>,
    /// Bytes that it may hand out, of those it has saved up.
    saved: usize,
    in_turn: bool,
    /// The connection is not read until there is room.
    paused: bool,
}

/// Whether a connection may read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InboxRoom {
    /// It may.
    Left,
    /// It waits until its link says that there is room.
    None,
}

/// How much was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) events: usize,
    /// Whether something is left.
    pub(super) more: bool,
}

impl Inbox {
    pub(super) fn new(max: InboxLimits) -> Self {
        Self {
            state: Mutex::default(),
            happened: Notify::new(),
            max,
        }
    }

    /// A new peer.
    pub(super) fn open(&self, info: PeerInfo, link: Arc<Link>) {
        let peer = link.peer;
        let lane = Lane {
            link,
            opened: Some(info),
            messages: VecDeque::new(),
            bytes: 0,
            closed: None,
            saved: 0,
            in_turn: false,
            paused: false,
        };
        let mut state = self.lock();
        state.lanes.insert(peer, lane);
        self.put_in_turn(state, peer);
    }

    /// Messages of a peer. They are dropped if it has been cut off.
    pub(super) fn put(&self, peer: PeerId, messages: &mut Vec<Received>) -> InboxRoom {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(lane) = state.lanes.get_mut(&peer).filter(|lane| lane.closed.is_none()) else {
            messages.clear();
            return InboxRoom::Left;
        };
        let bytes = messages.iter().map(|(_, bytes)| bytes).sum::<usize>();
        lane.bytes += bytes;
        state.bytes += bytes;
        lane.messages.extend(messages.drain(..));
        lane.paused = lane.messages.len() >= self.max.messages
            || lane.bytes >= self.max.bytes
            || (lane.bytes >= SHARE && state.bytes >= self.max.all_bytes);
        let room = if lane.paused {
            InboxRoom::None
        } else {
            InboxRoom::Left
        };
        self.put_in_turn(guard, peer);
        room
    }

    /// Nothing more comes from a peer; what came is still delivered. Only the first reason counts.
    pub(super) fn end(&self, peer: PeerId, why: Closed) {
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(&peer) {
            lane.closed.get_or_insert(why);
            self.put_in_turn(state, peer);
        }
    }

    /// Nothing more is delivered from a peer save its `Closed`.
    pub(super) fn cut_off(&self, peer: PeerId, why: Closed) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(lane) = state.lanes.get_mut(&peer) {
            lane.messages.clear();
            state.bytes -= std::mem::take(&mut lane.bytes);
            lane.closed.get_or_insert(why);
            self.put_in_turn(guard, peer);
        }
    }

    /// Hands out up to `limit` events, and messages of about [`TAKE`] bytes, one a peer at a time. None only if there
    /// is nothing.
    pub(super) fn take(&self, limit: usize, mut hand_out: impl FnMut(RouterEvent, &Arc<Link>)) -> Taken {
        let mut state = self.lock();
        let State { lanes, turn, bytes } = &mut *state;
        let most = *bytes;
        let mut taken = 0;
        while taken < limit
            && most - *bytes < TAKE
            && let Some(peer) = turn.pop_front()
        {
            let Some(lane) = lanes.get_mut(&peer) else {
                continue;
            };
            let alone = turn.is_empty();
            if !alone && !lane.may_speak() {
                turn.push_back(peer);
                continue;
            }
            let share = if alone { limit - taken } else { 1 };
            let before = lane.bytes;
            let mut over = false;
            for _ in 0..share {
                if most - *bytes + (before - lane.bytes) >= TAKE {
                    break;
                }
                let Some(event) = lane.next_event(peer) else { break };
                over = matches!(event, RouterEvent::Closed { .. });
                hand_out(event, &lane.link);
                taken += 1;
            }
            *bytes -= before - lane.bytes;
            lane.spoke(before - lane.bytes);
            self.read_on(lane, *bytes);
            lane.in_turn = !over && !lane.is_empty();
            if lane.in_turn {
                turn.push_back(peer);
            } else if over {
                lanes.remove(&peer);
            }
        }
        Taken {
            events: taken,
            more: !turn.is_empty(),
        }
    }

    /// Hands out up to `limit` events and no message that `wanted` does not agree to, who is told whether an earlier
    /// one of the peer stays; says how many. All lanes are looked through.
    pub(super) fn take_some(
        &self,
        limit: usize,
        wanted: &mut dyn FnMut(PeerId, &ServerMessage, bool) -> bool,
        mut hand_out: impl FnMut(RouterEvent, &Arc<Link>),
    ) -> usize {
        let mut state = self.lock();
        let State { lanes, turn, bytes } = &mut *state;
        let mut taken = 0;
        for _ in 0..turn.len() {
            let Some(peer) = turn.pop_front() else { break };
            let Some(lane) = lanes.get_mut(&peer) else {
                continue;
            };
            let before = lane.bytes;
            let mut over = false;
            let mut staying = 0;
            while taken < limit
                && let Some(event) = lane.next_wanted(peer, &mut staying, wanted)
            {
                over = matches!(event, RouterEvent::Closed { .. });
                hand_out(event, &lane.link);
                taken += 1;
            }
            *bytes -= before - lane.bytes;
            self.read_on(lane, *bytes);
            lane.in_turn = !over && !lane.is_empty();
            if lane.in_turn {
                turn.push_back(peer);
            } else if over {
                lanes.remove(&peer);
            }
        }
        taken
    }

    /// Lets a connection be read on that was paused, once its lane is half empty, so that a full one does not wake its
    /// reader for each message. `all` is what all lanes have, in bytes.
    fn read_on(&self, lane: &mut Lane, all: usize) {
        let bytes = if all < self.max.all_bytes {
            self.max.bytes
        } else {
            SHARE.min(self.max.bytes)
        };
        if lane.paused && lane.messages.len() <= self.max.messages / 2 && lane.bytes <= bytes / 2 {
            lane.paused = false;
            lane.link.room();
        }
    }

    /// Waits until there may be something to take. Cancel-safe.
    pub(super) async fn happened(&self) {
        self.happened.notified().await;
    }

    fn put_in_turn(&self, mut state: MutexGuard<'_, State>, peer: PeerId) {
        let State { lanes, turn, .. } = &mut *state;
        let Some(lane) = lanes.get_mut(&peer) else { return };
        if lane.in_turn || lane.is_empty() {
            return;
        }
        lane.in_turn = true;
        let first = turn.is_empty();
        turn.push_back(peer);
        drop(state);
        // While something waits, the router is awake or has been woken.
        if first {
            self.happened.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.opened.is_none() && self.messages.is_empty() && self.closed.is_none()
    }

    /// Whether it hands out its next event this time, or saves up for it.
    fn may_speak(&mut self) -> bool {
        let (None, Some((_, bytes))) = (&self.opened, self.messages.front()) else {
            return true;
        };
        self.saved += QUANTUM;
        *bytes <= self.saved
    }

    fn spoke(&mut self, bytes: usize) {
        self.saved = if self.messages.is_empty() {
            0
        } else {
            self.saved.saturating_sub(bytes).min(QUANTUM)
        };
    }

    fn next_event(&mut self, peer: PeerId) -> Option<RouterEvent> {
        if let Some(info) = self.opened.take() {
            return Some(RouterEvent::Opened { peer, info });
        }
        if let Some(message) = self.next_message() {
            return Some(RouterEvent::Message { peer, message });
        }
        let why = self.closed.take()?;
        Some(RouterEvent::Closed { peer, why })
    }

    /// The next event, if all but the first `staying` messages are still to be looked at, and those stay.
    fn next_wanted(
        &mut self,
        peer: PeerId,
        staying: &mut usize,
        wanted: &mut dyn FnMut(PeerId, &ServerMessage, bool) -> bool,
    ) -> Option<RouterEvent> {
        if let Some(info) = self.opened.take() {
            return Some(RouterEvent::Opened { peer, info });
        }
        while let Some((message, _)) = self.messages.get(*staying) {
            if wanted(peer, message, *staying > 0) {
                let (message, bytes) = self.messages.remove(*staying)?;
                self.bytes -= bytes;
                return Some(RouterEvent::Message { peer, message });
            }
            *staying += 1;
        }
        if *staying > 0 {
            return None;
        }
        let why = self.closed.take()?;
        Some(RouterEvent::Closed { peer, why })
    }

    fn next_message(&mut self) -> Option<ServerMessage> {
        let (message, bytes) = self.messages.pop_front()?;
        self.bytes -= bytes;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use jobq_proto::message::Beat;

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
        assert_eq!(inbox.take(usize::MAX, |_, _| {}).events as u64, peers);
        (inbox, links)
    }

    fn put(inbox: &Inbox, peer: u64, messages: u64, bytes: usize) -> InboxRoom {
        let beat = |seq| (ServerMessage::Beat(Beat { seq }), bytes);
        inbox.put(PeerId(peer), &mut (0..messages).map(beat).collect())
    }

    /// The peers of the next events, in order.
    fn peers(inbox: &Inbox, limit: usize) -> Vec<u64> {
        let mut peers = Vec::new();
        inbox.take(limit, |event, _| match event {
            RouterEvent::Opened { peer, .. }
            | RouterEvent::Message { peer, .. }
            | RouterEvent::Closed { peer, .. } => peers.push(peer.0),
        });
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
        put(&inbox, 1, 10, 8 * QUANTUM);
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
    fn no_more_is_taken_at_once_than_is_soon_dealt_with() {
        let limits = InboxLimits {
            messages: 1_000,
            bytes: usize::MAX,
            all_bytes: usize::MAX,
        };
        for others in [0, 1] {
            let (inbox, _links) = inbox_of(limits, 2);
            put(&inbox, 1, 10, TAKE / 2);
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
        assert_eq!(peers(&inbox, 1), [2], "the longer ones save up");
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
        inbox.take(100, |event, _| events.push(event));
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
}
