//! Handing things from one thread to another in batches.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What waits to be taken, all at once, by one taker. It holds at most one item for each run that the worker holds,
/// so it needs no bound of its own.
///
/// Only the first item of a batch wakes the taker; that makes it cheaper than a channel.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    items: Mutex<Vec<T>>,
    arrived: Notify,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Self {
        Self {
            items: Mutex::new(Vec::new()),
            arrived: Notify::new(),
        }
    }

    pub(crate) fn push(&self, item: T) {
        let mut items = self.lock();
        let first = items.is_empty();
        items.push(item);
        drop(items);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Moves all of `batch` in, and leaves nothing in it.
    pub(crate) fn append(&self, batch: &mut Vec<T>) {
        if batch.is_empty() {
            return;
        }
        let mut items = self.lock();
        let first = items.is_empty();
        if first {
            std::mem::swap(&mut *items, batch);
        } else {
            items.append(batch);
        }
        drop(items);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Moves everything to the end of `out`. Never waits.
    pub(crate) fn take(&self, out: &mut Vec<T>) {
        let mut items = self.lock();
        if out.is_empty() {
            std::mem::swap(&mut *items, out);
        } else {
            out.append(&mut items);
        }
    }

    /// Moves everything to the end of `out`, if there is anything and `now` says so. Whether something is left. Never
    /// waits.
    pub(crate) fn take_if(&self, out: &mut Vec<T>, now: impl FnOnce() -> bool) -> bool {
        let mut items = self.lock();
        if items.is_empty() {
            return false;
        }
        if !now() {
            return true;
        }
        out.append(&mut items);
        false
    }

    /// Waits until there is something to take. Cancel-safe.
    pub(crate) async fn ready(&self) {
        while self.lock().is_empty() {
            self.arrived.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        // Nobody panics between two changes that belong together.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
