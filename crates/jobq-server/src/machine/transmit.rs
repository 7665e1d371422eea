//! What is to be told to peers. Orders, settlements and ended watches are gathered, so that what happens together
//! travels together, and cut to the size of frames.

use std::collections::{BTreeSet, VecDeque};

use jobq_proto::message::{
    Cancel, Ended, EndedJob, ErrorMessage, Order, OrderedJob, Progressed, RunRef, Settled, SettledRun,
};
use jobq_proto::{ClientMessage, Limits, WireError, WireSize};
use jobq_transport::{CloseReason, PeerId};

use super::Map;

/// Something to do with a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Transmit {
    /// Send a message.
    Send(PeerId, ClientMessage),
    /// Send a message if little is queued for the peer; else give it back by
    /// [`Machine::handle_no_room`](super::Machine::handle_no_room).
    Offer(PeerId, ClientMessage),
    /// Its Hello was good: lift the first limits.
    Admit(PeerId, usize),
    /// Say something last, and close.
    Close(PeerId, Option<ClientMessage>, CloseReason),
}

/// Where a gathered message is cut, in bytes: far below the limit of a frame, so that a peer can begin with the
/// first part while the next is written.
const CUT: usize = 256 * 1024;

/// All that is to be told.
pub(super) struct Outbox {
    ready: VecDeque<Transmit>,
    gathered: Map<PeerId, Gathered>,
    dirty: BTreeSet<PeerId>,
    items: usize,
}

#[derive(Default)]
struct Gathered {
    /// How many orders and settlements there were last time. Under load there are as many again, and growing to that step
    /// by step would copy them.
    last: (usize, usize),
    orders: Vec<OrderedJob>,
    settled: Vec<SettledRun>,
    cancels: Vec<RunRef>,
    ended: Map<u64, Vec<EndedJob>>,
}

impl Outbox {
    pub(super) fn new(limits: &Limits) -> Self {
        let items = usize::try_from(limits.items).unwrap_or(usize::MAX).max(1);
        Self {
            ready: VecDeque::new(),
            gathered: Map::new(),
            dirty: BTreeSet::new(),
            items,
        }
    }

    pub(super) fn poll(&mut self) -> Option<Transmit> {
        if self.ready.is_empty() {
            while let Some(peer) = self.dirty.pop_first() {
                self.release(peer);
            }
        }
        self.ready.pop_front()
    }

    pub(super) fn send(&mut self, peer: PeerId, message: ClientMessage) {
        self.ready.push_back(Transmit::Send(peer, message));
    }

    /// Sends what the peer does not need, as far as it has room for it.
    pub(super) fn offer(&mut self, peer: PeerId, progressed: Progressed) {
        let message = ClientMessage::Progressed(progressed);
        self.ready.push_back(Transmit::Offer(peer, message));
    }

    pub(super) fn admit(&mut self, peer: PeerId, max_frame: usize) {
        self.ready.push_back(Transmit::Admit(peer, max_frame));
    }

    /// Closes a connection, with a reason where there is one. What was gathered for it goes out first, but for orders:
    /// their runs may be given up in this very moment, and a worker that comes back says which it knows.
    pub(super) fn close(&mut self, peer: PeerId, last: Option<WireError>, why: CloseReason) {
        if let Some(gathered) = self.gathered.get_mut(&peer) {
            gathered.orders.clear();
        }
        if self.dirty.remove(&peer) {
            self.release(peer);
        }
        self.gathered.remove(&peer);
        let last = last.map(|error| ClientMessage::Error(ErrorMessage { error }));
        self.ready.push_back(Transmit::Close(peer, last, why));
    }

    /// Forgets what was gathered for a peer that is gone.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.gathered.remove(&peer);
        self.dirty.remove(&peer);
    }

    pub(super) fn order(&mut self, peer: PeerId, job: OrderedJob) {
        let Gathered { orders, last, .. } = self.gather(peer);
        if orders.is_empty() {
            orders.reserve(last.0);
        }
        orders.push(job);
    }

    pub(super) fn settled(&mut self, peer: PeerId, run: SettledRun) {
        let Gathered { settled, last, .. } = self.gather(peer);
        if settled.is_empty() {
            settled.reserve(last.1);
        }
        settled.push(run);
    }

    pub(super) fn cancel(&mut self, peer: PeerId, run: RunRef) {
        self.gather(peer).cancels.push(run);
    }

    pub(super) fn ended(&mut self, peer: PeerId, request: u64, job: EndedJob) {
        self.gather(peer).ended.entry(request).or_default().push(job);
    }

    fn gather(&mut self, peer: PeerId) -> &mut Gathered {
        self.dirty.insert(peer);
        self.gathered.entry(peer).or_default()
    }

    /// Makes messages of what was gathered for a peer: settlements first, since they free what orders fill.
    fn release(&mut self, peer: PeerId) {
        let Some(gathered) = self.gathered.get_mut(&peer) else {
            return;
        };
        let Gathered {
            orders,
            settled,
            cancels,
            ended,
            last: _,
        } = std::mem::take(gathered);
        gathered.last = (orders.len(), settled.len());
        let ready = &mut self.ready;
        let mut send = |message| ready.push_back(Transmit::Send(peer, message));
        cut(settled, self.items, |runs| {
            send(ClientMessage::Settled(Settled { runs }))
        });
        cut(cancels, self.items, |runs| {
            send(ClientMessage::Cancel(Cancel { runs }))
        });
        cut(orders, self.items, |jobs| {
            send(ClientMessage::Order(Order { jobs }))
        });
        for (request, jobs) in ended {
            cut(jobs, self.items, |jobs| {
                send(ClientMessage::Ended(Ended { request, jobs }))
            });
        }
    }
}

/// Hands a batch on in parts of at most `items` items and about [`CUT`] bytes, one item at least.
fn cut<T: WireSize>(mut batch: Vec<T>, items: usize, mut part: impl FnMut(Vec<T>)) {
    while !batch.is_empty() {
        let mut bytes = 0;
        let count = batch
            .iter()
            .take(items)
            .take_while(|item| {
                let fits = bytes == 0 || bytes + item.wire_size() <= CUT;
                bytes += item.wire_size();
                fits
            })
            .count();
        let rest = batch.split_off(count);
        part(std::mem::replace(&mut batch, rest));
    }
}
