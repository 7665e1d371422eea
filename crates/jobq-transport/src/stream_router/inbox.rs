//! Where what was read waits, and from which peers are heard in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jobq_proto::ServerMessage;
use tokio::sync::Notify;

use super::fair_queue::{FairQueue, Length};
use super::link::Link;
use super::received::Received;
use super::steps::LONG;
use crate::router::{Closed, PeerId, PeerInfo, RouterEvent};

/// Not much more than this is taken at once, by its cost: what comes meanwhile from others has its turn soon. It is what
/// a server deals with in some tenths of a millisecond, as a Request of a thousand jobs. With less, the batches of changes
/// that go to the disk together are smaller, and there are more of them.
const TAKE: u64 = 256 * 1024;

/// What the beginning and the end of a connection cost, as messages do.
const EVENT: u64 = 1024;

/// Whose questions cost more in all, and wait to be heard, is not read on while the router is listened to. Far more than
/// what a server deals with before the next ones are read, and so little that it is soon dealt with when many peers begin
/// to ask at the same time.
const MAX_ASKED: usize = 256 * 1024;

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
    /// The lanes that have something, each once.
    queue: FairQueue,
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
    /// What those of them cost that ask for something.
    asked: usize,
    closed: Option<Closed>,
    /// What all cost that it has handed out, in the time of the queue.
    had: u64,
    in_queue: bool,
    /// What it asks does not count: nobody listens at the moment, and Beats may be behind it.
    ahead: bool,
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
            asked: 0,
            closed: None,
            had: 0,
            in_queue: false,
            ahead: false,
            paused: false,
        };
        let mut state = self.lock();
        state.lanes.insert(peer, lane);
        self.put_in_queue(state, peer);
    }

    /// Messages of a peer. They are dropped if it has been cut off.
    pub(super) fn put(&self, peer: PeerId, messages: &mut Vec<Received>) -> InboxRoom {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(lane) = state.lanes.get_mut(&peer).filter(|lane| lane.closed.is_none()) else {
            messages.clear();
            return InboxRoom::Left;
        };
        let before = lane.bytes;
        for message in messages.drain(..) {
            lane.bytes += message.held;
            lane.asked += message.asked();
            lane.messages.push_back(message);
        }
        state.bytes += lane.bytes - before;
        let room = self.pause(lane, state.bytes);
        self.put_in_queue(guard, peer);
        room
    }

    /// A peer that has no room has waited for it for a while: it is read ahead, whatever it asks, as far as there is room
    /// for its bytes.
    pub(super) fn read_ahead(&self, peer: PeerId) -> InboxRoom {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(lane) = state.lanes.get_mut(&peer).filter(|lane| lane.paused) else {
            return InboxRoom::Left;
        };
        lane.ahead = true;
        self.pause(lane, state.bytes)
    }

    /// Nothing more comes from a peer; what came is still delivered. Only the first reason counts.
    pub(super) fn end(&self, peer: PeerId, why: Closed) {
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(&peer) {
            lane.closed.get_or_insert(why);
            self.put_in_queue(state, peer);
        }
    }

    /// Nothing more is delivered from a peer save its `Closed`.
    pub(super) fn cut_off(&self, peer: PeerId, why: Closed) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(lane) = state.lanes.get_mut(&peer) {
            lane.messages.clear();
            lane.asked = 0;
            state.bytes -= std::mem::take(&mut lane.bytes);
            lane.closed.get_or_insert(why);
            self.put_in_queue(guard, peer);
        }
    }

    /// Hands out up to `limit` events of that length, and not many more than cost [`TAKE`] in all, each from the peer for
    /// which the least was done. None only if there is nothing.
    pub(super) fn take(
        &self,
        limit: usize,
        length: Length,
        mut hand_out: impl FnMut(RouterEvent, &Arc<Link>),
    ) -> usize {
        let mut state = self.lock();
        let State { lanes, queue, bytes } = &mut *state;
        let (mut events, mut cost) = (0, 0);
        while events < limit
            && cost < TAKE
            && let Some(turn) = queue.next(length)
        {
            let peer = turn.peer;
            let Some(lane) = lanes.get_mut(&peer) else {
                continue;
            };
            lane.had = turn.start;
            let before = lane.bytes;
            let mut over = false;
            while let Some((event, event_cost)) = lane.next_event(peer) {
                over = matches!(event, RouterEvent::Closed { .. });
                hand_out(event, &lane.link);
                lane.had += event_cost;
                cost += event_cost;
                events += 1;
                let goes_on = lane.length() == length && !queue.has_before(lane.had, length);
                if !goes_on || events == limit || cost >= TAKE {
                    break;
                }
            }
            *bytes -= before - lane.bytes;
            self.read_on(lane, *bytes);
            lane.in_queue = !over && !lane.is_empty();
            if lane.in_queue {
                queue.join(peer, lane.had, lane.length());
            } else if over {
                lanes.remove(&peer);
            }
        }
        events
    }

    /// Whether something of that length is left.
    pub(super) fn has(&self, length: Length) -> bool {
        !self.lock().queue.is_empty(length)
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
        let State { lanes, queue, bytes } = &mut *state;
        let mut taken = 0;
        for peer in queue.drain() {
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
            lane.in_queue = !over && !lane.is_empty();
            if lane.in_queue {
                queue.join(peer, lane.had, lane.length());
            } else if over {
                lanes.remove(&peer);
            }
        }
        taken
    }

    /// Pauses a connection whose lane is full. `all` is what all lanes have, in bytes.
    fn pause(&self, lane: &mut Lane, all: usize) -> InboxRoom {
        lane.paused = lane.messages.len() >= self.max.messages
            || lane.bytes >= self.max.bytes
            || (lane.bytes >= SHARE && all >= self.max.all_bytes)
            || (lane.asked >= MAX_ASKED && !lane.ahead);
        if lane.paused {
            InboxRoom::None
        } else {
            InboxRoom::Left
        }
    }

    /// Lets a connection be read on that was paused, once its lane is half empty, so that a full one does not wake its
    /// reader for each message. `all` is what all lanes have, in bytes.
    fn read_on(&self, lane: &mut Lane, all: usize) {
        let bytes = if all < self.max.all_bytes {
            self.max.bytes
        } else {
            SHARE.min(self.max.bytes)
        };
        let asks_little = lane.asked <= MAX_ASKED / 2;
        let is_half_empty = lane.messages.len() <= self.max.messages / 2 && lane.bytes <= bytes / 2;
        if lane.paused && is_half_empty && (asks_little || lane.ahead) {
            lane.paused = false;
            lane.link.room();
        }
        lane.ahead &= !asks_little;
    }

    /// Waits until there may be something to take. Cancel-safe.
    pub(super) async fn happened(&self) {
        self.happened.notified().await;
    }

    fn put_in_queue(&self, mut state: MutexGuard<'_, State>, peer: PeerId) {
        let State { lanes, queue, .. } = &mut *state;
        let Some(lane) = lanes.get_mut(&peer) else { return };
        if lane.in_queue || lane.is_empty() {
            return;
        }
        lane.in_queue = true;
        queue.join(peer, lane.had, lane.length());
        drop(state);
        // The router is woken once for all that comes before it is there.
        self.happened.notify_one();
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

    /// How long its next event takes to be dealt with.
    fn length(&self) -> Length {
        let next = self.messages.front().filter(|_| self.opened.is_none());
        match next {
            Some(message) if message.cost() > LONG => Length::Long,
            _ => Length::Brief,
        }
    }

    /// The next event and its cost.
    fn next_event(&mut self, peer: PeerId) -> Option<(RouterEvent, u64)> {
        if let Some(info) = self.opened.take() {
            return Some((RouterEvent::Opened { peer, info }, EVENT));
        }
        if let Some(received) = self.remove(0) {
            let cost = received.cost() as u64;
            let message = received.message;
            return Some((RouterEvent::Message { peer, message }, cost));
        }
        let why = self.closed.take()?;
        Some((RouterEvent::Closed { peer, why }, EVENT))
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
        while let Some(received) = self.messages.get(*staying) {
            if wanted(peer, &received.message, *staying > 0) {
                let message = self.remove(*staying)?.message;
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

    fn remove(&mut self, place: usize) -> Option<Received> {
        let received = self.messages.remove(place)?;
        self.bytes -= received.held;
        self.asked -= received.asked();
        Some(received)
    }
}

#[cfg(test)]
mod tests;
