//! Who is connected.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use jobq_transport::{PeerId, PeerInfo};

use super::Map;
use super::access::{Grant, Waiting};
use crate::store::SessionId;

/// All connections.
#[derive(Default)]
pub(super) struct Peers {
    peers: Map<PeerId, Peer>,
}

/// One connection.
pub(super) struct Peer {
    /// Where it comes from.
    pub(super) info: PeerInfo,
    /// Its session, once its Hello was good.
    pub(super) session: Option<SessionId>,
    /// What it may do, once its Hello was good.
    pub(super) grant: Option<Arc<Grant>>,
    /// Its Hello, while that is answered later.
    pub(super) waiting: Option<Waiting>,
    /// Its unanswered requests, by the numbers that the peer gave them.
    requests: Map<u64, Weight>,
    /// What all of them weigh together.
    weight: Weight,
}

/// What an unanswered request holds of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Weight {
    pub(super) jobs: u64,
    pub(super) bytes: u64,
}

/// Most unanswered requests of one connection. A client with one job a request keeps far below it by its window.
const MAX_REQUESTS: usize = 65_536;

impl Peers {
    pub(super) fn open(&mut self, peer: PeerId, info: PeerInfo) {
        let new = Peer {
            info,
            session: None,
            grant: None,
            waiting: None,
            requests: Map::new(),
            weight: Weight::default(),
        };
        let before = self.peers.insert(peer, new);
        assert!(before.is_none(), "the router used {peer} twice");
    }

    pub(super) fn find(&mut self, peer: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(&peer)
    }

    pub(super) fn remove(&mut self, peer: PeerId) -> Option<Peer> {
        self.peers.remove(&peer)
    }

    pub(super) fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }
}

impl Peer {
    /// Notes an unanswered request; `Err` if its number is in use, or there are too many.
    pub(super) fn begin(&mut self, request: u64, weight: Weight) -> Result<(), InUse> {
        if self.requests.len() >= MAX_REQUESTS {
            return Err(InUse);
        }
        let Entry::Vacant(entry) = self.requests.entry(request) else {
            return Err(InUse);
        };
        entry.insert(weight);
        self.weight.jobs += weight.jobs;
        self.weight.bytes += weight.bytes;
        Ok(())
    }

    /// The request has been answered. Whether it was unanswered until now.
    pub(super) fn end(&mut self, request: u64) -> bool {
        let Some(weight) = self.requests.remove(&request) else {
            return false;
        };
        self.weight.jobs -= weight.jobs;
        self.weight.bytes -= weight.bytes;
        true
    }

    /// Whether a number is that of an unanswered request.
    pub(super) fn is_unanswered(&self, request: u64) -> bool {
        self.requests.contains_key(&request)
    }

    /// What its unanswered requests weigh.
    pub(super) fn weight(&self) -> Weight {
        self.weight
    }
}

/// The number of a request is in use.
pub(super) struct InUse;
