//! What happens when, in simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jobq_proto::Fence;

/// A moment of simulated time, or a span of it: microseconds since the beginning of the simulation.
pub(super) type At = u64;

/// A thousandth of a second.
pub(super) const MILLI: At = 1_000;

/// A second.
pub(super) const SECOND: At = 1_000_000;

/// A connection, by its number; the server knows it as a peer of the same number.
pub(super) type ConnId = u64;

/// A program that talks to the server, by its place.
pub(super) type PeerIx = usize;

/// Something that happens at its time. Those with a life are for nobody once that life is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// An attempt to connect reaches the server's computer.
    Knock(ConnId),
    /// Something arrives at the server's end of a connection.
    Up(ConnId),
    /// Something arrives at the peer's end.
    Down(ConnId),
    /// A connection should have said Hello by now.
    HelloOver(ConnId),
    /// The server looks at what there is to do.
    Server(u64),
    /// The store's group of batches is on disk.
    Synced(u64),
    /// The store has answered a question.
    Read(u64, u64),
    /// The server starts.
    Start,
    /// The server's disk has room again.
    Room,
    /// A peer looks at what there is to do.
    Peer(PeerIx),
    /// A peer's user does something.
    Act(PeerIx),
    /// A handler of a worker's life goes on.
    Handler(PeerIx, u64, Fence),
    /// A peer's program begins again.
    Revive(PeerIx),
    /// Something goes wrong.
    Fault,
    /// Nothing goes wrong any more.
    Calm,
    /// Whether everything has been worked off is looked at.
    Look,
}

/// All that is to happen. What is to happen at the same moment happens in the order in which it was put down.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: BinaryHeap<Reverse<Entry>>,
    last: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at: At,
    number: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Agenda {
    pub(super) fn put(&mut self, at: At, event: Event) {
        self.last += 1;
        let number = self.last;
        self.entries.push(Reverse(Entry { at, number, event }));
    }

    pub(super) fn pop(&mut self) -> Option<(At, Event)> {
        self.entries.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

/// When somebody is to be woken next, so that each wish to be woken earlier does not leave an entry behind that wakes
/// for nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Alarm {
    set: Option<At>,
}

impl Alarm {
    /// Whether an entry for this time is to be put down.
    pub(super) fn set(&mut self, at: At) -> bool {
        let sooner = self.set.is_none_or(|set| at < set);
        if sooner {
            self.set = Some(at);
        }
        sooner
    }

    /// Whether the entry that has come up is the one that counts.
    pub(super) fn rings(&mut self, now: At) -> bool {
        let rings = self.set == Some(now);
        if rings {
            self.set = None;
        }
        rings
    }
}
