//! What the router and one connection share: the queue of what is to be sent, and signals.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jobq_proto::ClientMessage;
use tokio::sync::Notify;

use super::accept::Place;
use super::weight::weight;
use crate::error::SendError;
use crate::router::PeerId;

/// One connection, as the router and the connection's tasks see it.
pub(super) struct Link {
    pub(super) peer: PeerId,
    outbox: Mutex<Outbox>,
    max_bytes: usize,
    unsent: Arc<Unsent>,
    /// Longest frame, in bytes; 0 until the peer is admitted.
    max_frame: AtomicUsize,
    admitted: Notify,
    room: Notify,
    fewer: Notify,
    writer: Notify,
    stop: Notify,
    /// The connection counts until its task and the router have both let go of it. So peers that come and go while
    /// the router does not listen are bounded too.
    _place: Place,
}

struct Outbox {
    queue: VecDeque<Outgoing>,
    /// What is queued, and what the writer has taken and not yet written, in bytes.
    bytes: usize,
    phase: Phase,
}

/// A message, and about how many bytes it takes.
pub(super) type Outgoing = (ClientMessage, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The queue ends with the last words.
    Finishing,
    Over,
}

/// What becomes of what is queued when a connection is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queued {
    /// It is written before the last words.
    Written,
    /// It is not written.
    Dropped,
}

/// What there is for a writer to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// There are messages.
    Write,
    /// There are none at the moment.
    Wait,
    /// There are none, and there will be none.
    Finish,
}

impl Link {
    pub(super) fn new(peer: PeerId, max_bytes: usize, unsent: Arc<Unsent>, place: Place) -> Self {
        let outbox = Outbox {
            queue: VecDeque::new(),
            bytes: 0,
            phase: Phase::Open,
        };
        Self {
            peer,
            outbox: Mutex::new(outbox),
            max_bytes,
            unsent,
            max_frame: AtomicUsize::new(0),
            admitted: Notify::new(),
            room: Notify::new(),
            fewer: Notify::new(),
            writer: Notify::new(),
            stop: Notify::new(),
            _place: place,
        }
    }

    /// Queues a message, without waking the writer.
    pub(super) fn queue(&self, message: ClientMessage) -> Result<(), SendError> {
        let weight = weight(&message);
        let mut outbox = self.lock();
        if outbox.phase != Phase::Open {
            return Err(SendError::Gone(self.peer));
        }
        if outbox.bytes + weight > self.max_bytes {
            return Err(SendError::Full {
                queued: outbox.bytes,
                limit: self.max_bytes,
            });
        }
        outbox.push(message, weight);
        self.unsent.add_bytes(weight);
        Ok(())
    }

    /// Bytes, about, that are queued and not written yet.
    pub(super) fn queued(&self) -> usize {
        self.lock().bytes
    }

    /// Ends the connection: nothing more is read, and nothing is queued after `last`.
    pub(super) fn finish(&self, last: Option<ClientMessage>, queued: Queued) {
        let mut outbox = self.lock();
        if outbox.phase != Phase::Open {
            return;
        }
        outbox.phase = Phase::Finishing;
        self.unsent.add_closing();
        if queued == Queued::Dropped {
            let dropped = outbox.queue.drain(..).map(|(_, weight)| weight).sum();
            outbox.bytes -= dropped;
            self.unsent.remove_bytes(dropped);
        }
        if let Some(message) = last {
            let weight = weight(&message);
            outbox.push(message, weight);
            self.unsent.add_bytes(weight);
        }
        drop(outbox);
        self.writer.notify_one();
        self.stop.notify_one();
    }

    /// The connection is over. What it did not send never will be.
    pub(super) fn over(&self) {
        let mut outbox = self.lock();
        outbox.queue = VecDeque::new();
        let bytes = std::mem::take(&mut outbox.bytes);
        let phase = std::mem::replace(&mut outbox.phase, Phase::Over);
        drop(outbox);
        self.unsent.remove_bytes(bytes);
        if phase == Phase::Finishing {
            self.unsent.remove_closing();
        }
    }

    /// Ends the connection without a word: nothing of it is to take memory any more.
    pub(super) fn cut(&self) {
        self.over();
        self.stop.notify_one();
    }

    /// Whether nothing is to be sent any more, not even last words.
    pub(super) fn is_over(&self) -> bool {
        self.lock().phase == Phase::Over
    }

    /// Moves what is queued to `batch`, which is empty.
    pub(super) fn take(&self, batch: &mut VecDeque<Outgoing>) -> Work {
        let mut outbox = self.lock();
        std::mem::swap(&mut outbox.queue, batch);
        match outbox.phase {
            _ if !batch.is_empty() => Work::Write,
            Phase::Open => Work::Wait,
            Phase::Finishing | Phase::Over => Work::Finish,
        }
    }

    /// Bytes that were taken have been written.
    pub(super) fn written(&self, bytes: usize) {
        let mut outbox = self.lock();
        if outbox.phase != Phase::Over {
            outbox.bytes -= bytes;
            drop(outbox);
            self.fewer.notify_waiters();
            self.unsent.remove_bytes(bytes);
        }
    }

    /// Lets the peer send as it likes, in frames of up to `max_frame` bytes.
    pub(super) fn admit(&self, max_frame: usize) {
        self.max_frame.store(max_frame.max(1), Ordering::Release);
        self.admitted.notify_one();
    }

    /// Waits until the peer is admitted; the longest frame it may send.
    pub(super) async fn admitted(&self) -> usize {
        loop {
            match self.max_frame.load(Ordering::Acquire) {
                0 => self.admitted.notified().await,
                max_frame => return max_frame,
            }
        }
    }

    pub(super) fn room(&self) {
        self.room.notify_one();
    }

    /// Waits until the inbox has room for more of this peer's messages.
    pub(super) async fn has_room(&self) {
        self.room.notified().await;
    }

    /// Waits until fewer bytes than that are queued and not written yet.
    pub(super) async fn has_less_than(&self, bytes: usize) {
        loop {
            let fewer = self.fewer.notified();
            if self.queued() < bytes {
                return;
            }
            fewer.await;
        }
    }

    pub(super) fn wake_writer(&self) {
        self.writer.notify_one();
    }

    /// Waits until there may be something to write.
    pub(super) async fn has_work(&self) {
        self.writer.notified().await;
    }

    /// Waits until the connection is to be finished.
    pub(super) async fn stopped(&self) {
        self.stop.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        // Nothing in here panics between two changes that belong together.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    fn push(&mut self, message: ClientMessage, weight: usize) {
        self.bytes += weight;
        self.queue.push_back((message, weight));
    }
}

/// What all connections together have still to say.
#[derive(Default)]
pub(super) struct Unsent {
    bytes: AtomicUsize,
    closing: AtomicUsize,
    fewer: Notify,
}

impl Unsent {
    /// Waits until everything is sent, and all connections that are being closed are closed.
    pub(super) async fn none(&self) {
        while self.bytes.load(Ordering::Acquire) > 0 || self.closing.load(Ordering::Acquire) > 0 {
            self.fewer.notified().await;
        }
    }

    /// Bytes, about, of what is queued for all connections.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn remove_bytes(&self, bytes: usize) {
        if bytes > 0 && self.bytes.fetch_sub(bytes, Ordering::AcqRel) == bytes {
            self.fewer.notify_one();
        }
    }

    fn add_closing(&self) {
        self.closing.fetch_add(1, Ordering::AcqRel);
    }

    fn remove_closing(&self) {
        if self.closing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.fewer.notify_one();
        }
    }
}
