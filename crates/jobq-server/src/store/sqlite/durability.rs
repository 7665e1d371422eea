//! How far commits have come: which are in the log, for readers to see, and which are on the disk.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::store::StoreError;

/// The numbers of the last batches, shared by the writer, those that sync and fold its log, and readers.
#[derive(Debug)]
pub(super) struct Durability {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    /// The last batch that a reader may see.
    visible: u64,
    /// The last batch that is on the disk.
    durable: u64,
    /// Nothing becomes durable any more.
    ended: bool,
    /// How many wait for a change; while nobody does, none is announced, which takes a system call.
    waiting: usize,
}

impl Durability {
    /// All batches up to `last_batch` are on the disk.
    pub(super) fn new(last_batch: u64) -> Self {
        Self {
            progress: Mutex::new(Progress {
                visible: last_batch,
                durable: last_batch,
                ended: false,
                waiting: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// The next moment readers may see what the batches up to `batch` changed, or, after a commit that failed, may no
    /// longer see what followed it.
    pub(super) fn set_visible(&self, batch: u64) {
        self.change(|progress| progress.visible = batch);
    }

    /// All batches up to `batch` are on the disk.
    pub(super) fn set_durable(&self, batch: u64) {
        self.change(|progress| progress.durable = batch);
    }

    /// Nothing becomes durable any more: the store is closed, or has failed.
    pub(super) fn end(&self) {
        self.change(|progress| progress.ended = true);
    }

    /// Ends when this is dropped, also by a panic.
    pub(super) fn end_on_drop(self: &Arc<Self>) -> EndOnDrop {
        EndOnDrop(Arc::clone(self))
    }

    /// Whether it has ended. Nothing is to be written to a store that has failed.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Waits until all that a reader has seen by now is on the disk.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when it will never be known to be.
    pub(super) fn wait(&self) -> Result<(), StoreError> {
        let mut progress = self.lock();
        let seen = progress.visible;
        // What is taken back was not seen: less may be visible than before.
        while progress.durable < seen.min(progress.visible) {
            if progress.ended {
                return Err(StoreError::Closed);
            }
            progress.waiting += 1;
            progress = self
                .changed
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
            progress.waiting -= 1;
        }
        Ok(())
    }

    /// Waits until somebody waits.
    #[cfg(test)]
    pub(super) fn wait_for_waiting(&self) {
        let begun = std::time::Instant::now();
        while self.lock().waiting == 0 {
            assert!(begun.elapsed().as_secs() < 60, "nobody waits");
            std::thread::yield_now();
        }
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.lock();
        change(&mut progress);
        if progress.waiting > 0 {
            drop(progress);
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // Four numbers cannot be left half-way.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Durability::end_on_drop`] gives.
pub(super) struct EndOnDrop(Arc<Durability>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits on a thread of its own; what it came to.
    fn waiting(durability: &Arc<Durability>) -> std::sync::mpsc::Receiver<Result<(), StoreError>> {
        let (done, ended) = std::sync::mpsc::channel();
        let durability = Arc::clone(durability);
        std::thread::spawn(move || done.send(durability.wait()));
        ended
    }

    fn ends(ended: &std::sync::mpsc::Receiver<Result<(), StoreError>>) -> Result<(), StoreError> {
        ended
            .recv_timeout(std::time::Duration::from_secs(60))
            .expect("it comes to an end")
    }

    #[test]
    fn what_is_seen_before_it_is_on_the_disk_is_told_when_it_is() {
        let durability = Arc::new(Durability::new(3));
        assert!(durability.wait().is_ok(), "all of it is there");
        durability.set_visible(5);
        let ended = waiting(&durability);
        durability.wait_for_waiting();
        durability.set_durable(4);
        assert!(ended.try_recv().is_err(), "5 may have been seen");
        durability.set_durable(5);
        assert!(ends(&ended).is_ok());
    }

    #[test]
    fn nobody_waits_for_what_was_taken_back_or_will_never_be_on_the_disk() {
        let durability = Arc::new(Durability::new(3));
        durability.set_visible(4);
        let ended = waiting(&durability);
        durability.wait_for_waiting();
        durability.set_visible(3);
        assert!(ends(&ended).is_ok());

        durability.set_visible(4);
        let ended = waiting(&durability);
        durability.wait_for_waiting();
        drop(durability.end_on_drop());
        assert!(matches!(ends(&ended), Err(StoreError::Closed)));
    }
}
