//! Where what was read waits, and from which peers are heard in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jobq_proto::ServerMessage;
use tokio::sync::Notify;

use super::Received;
use super::link::Link;
use crate::router::{Closed, PeerId, PeerInfo, RouterEvent};

/// What all connections have read, in one place, so that a thousand messages cost the router one wake.
pub(super) struct Inbox {
    state: Mutex<State>,
    happened: Notify,
    max_messages: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    lanes: HashMap<PeerId, Lane>,
    /// The lanes that have something, each once, in the order in which they are heard.
    turn: VecDeque<PeerId>,
}

/// What came from one peer.
struct Lane {
    link: Arc<Link>,
    opened: Option<PeerInfo>,
    messages: VecDeque<Received>,
    /// Bytes of `messages`.
    bytes: usize,
    closed: Option<Closed>,
    in_turn: bool,
    /// The connection is not read until there is room.
    paused: bool,
}

/// Whether a connection may read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It may.
    Left,
    /// It waits until its link says that there is room.
    None,
}

impl Inbox {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            happened: Notify::new(),
            max_messages,
            max_bytes,
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
            in_turn: false,
            paused: false,
        };
        let mut state = self.lock();
        state.lanes.insert(peer, lane);
        self.put_in_turn(state, peer);
    }

    /// Messages of a peer. They are dropped if it has been cut off.
    pub(super) fn put(&self, peer: PeerId, messages: &mut Vec<Received>) -> Room {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(&peer).filter(|lane| lane.closed.is_none()) else {
            messages.clear();
            return Room::Left;
        };
        lane.bytes += messages.iter().map(|(_, bytes)| bytes).sum::<usize>();
        lane.messages.extend(messages.drain(..));
        lane.paused = lane.messages.len() >= self.max_messages || lane.bytes >= self.max_bytes;
        let room = if lane.paused { Room::None } else { Room::Left };
        self.put_in_turn(state, peer);
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
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(&peer) {
            lane.messages.clear();
            lane.bytes = 0;
            lane.closed.get_or_insert(why);
            self.put_in_turn(state, peer);
        }
    }

    /// Hands out up to `limit` events, one a peer at a time; says how many.
    pub(super) fn take(&self, limit: usize, mut hand_out: impl FnMut(RouterEvent, &Arc<Link>)) -> usize {
        let mut state = self.lock();
        let State { lanes, turn } = &mut *state;
        let mut taken = 0;
        while taken < limit
            && let Some(peer) = turn.pop_front()
        {
            let Some(lane) = lanes.get_mut(&peer) else {
                continue;
            };
            let share = if turn.is_empty() { limit - taken } else { 1 };
            let mut over = false;
            for _ in 0..share {
                let Some(event) = lane.next_event(peer) else { break };
                over = matches!(event, RouterEvent::Closed { .. });
                hand_out(event, &lane.link);
                taken += 1;
            }
            // Half empty, so that a full lane does not wake its reader for each message.
            if lane.paused && lane.messages.len() <= self.max_messages / 2 && lane.bytes <= self.max_bytes / 2
            {
                lane.paused = false;
                lane.link.room();
            }
            lane.in_turn = !over && !lane.is_empty();
            if lane.in_turn {
                turn.push_back(peer);
            } else if over {
                lanes.remove(&peer);
            }
        }
        taken
    }

    /// Waits until there may be something to take. Cancel-safe.
    pub(super) async fn happened(&self) {
        self.happened.notified().await;
    }

    fn put_in_turn(&self, mut state: MutexGuard<'_, State>, peer: PeerId) {
        let State { lanes, turn } = &mut *state;
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

    fn next_message(&mut self) -> Option<ServerMessage> {
        let (message, bytes) = self.messages.pop_front()?;
        self.bytes -= bytes;
        Some(message)
    }
}
