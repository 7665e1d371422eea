//! A store in memory: for tests, for simulations, and for programs that embed a server and need no disk.
//!
//! It keeps the whole contract except that nothing survives the process. What survives a "crash" is the
//! [`MemoryDisk`]: drop the store, open the disk again, and the epoch is one higher.

mod contents;
mod records;
mod views;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use jobq_proto::JobId;
use tokio::sync::watch;
use uuid::Uuid;

use self::contents::Contents;
use super::{
    BackupFailure, BackupFailureKind, BackupOrder, BackupReport, BackupState, Batch, Birth, LiveJob, Prune,
    Read, ReadAnswer, Recovered, Space, Store, StoreError, StoreEvent, StoreReader, Stored,
};

/// What a [`MemoryStore`] writes to. Clones are the same disk; it outlives the stores that are opened on it.
///
/// It also decides when batches become durable, so that a test can crash a server between a commit and its sync.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    contents: Arc<Mutex<Contents>>,
    gate: Arc<watch::Sender<Gate>>,
    space: Arc<watch::Sender<Space>>,
}

/// What the disk does with the batches it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Syncs up to this batch and lets the others wait.
    UpTo(u64),
    /// Fails.
    Broken,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new(birth: Birth) -> Self {
        Self {
            contents: Arc::new(Mutex::new(Contents::new(birth))),
            gate: Arc::new(watch::Sender::new(Gate::UpTo(u64::MAX))),
            space: Arc::new(watch::Sender::new(Space::Enough)),
        }
    }

    /// From now on no batch after `number` becomes durable, until [`MemoryDisk::release`].
    pub fn hold_after(&self, number: u64) {
        self.gate.send_replace(Gate::UpTo(number));
    }

    /// From now on no further batch becomes durable, until [`MemoryDisk::release`]. What was not durable when the
    /// store is dropped is lost, as in a loss of power.
    pub fn hold(&self) {
        let last = self.lock().last_batch();
        self.hold_after(last);
    }

    /// Every batch becomes durable as soon as the store is asked for it, as at first.
    pub fn release(&self) {
        self.hold_after(u64::MAX);
    }

    /// From now on every sync fails, until [`MemoryDisk::release`].
    pub fn fail(&self) {
        self.gate.send_replace(Gate::Broken);
    }

    /// From now on there is no room for further jobs, and only for them, until [`MemoryDisk::make_room`].
    pub fn fill_up(&self) {
        self.lock().full = true;
        self.space.send_replace(Space::Short);
    }

    /// There is room for jobs again.
    pub fn make_room(&self) {
        self.lock().full = false;
        self.space.send_replace(Space::Enough);
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // A panic under the lock can come from a broken invariant of a test only; what it left is still readable.
        self.contents
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Keeps jobs in memory.
///
/// A batch becomes durable when [`Store::recv`] is polled for it, so a batch that nobody waited for is lost with
/// the store. All of it is in memory, params of ended jobs included, for as long as their records are kept.
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    gate: watch::Receiver<Gate>,
    space: watch::Receiver<Space>,
    recovered: Recovered,
    waiting: VecDeque<Batch>,
    /// What is to be removed once the first so many of the waiting batches are durable.
    prune: Option<(usize, Prune)>,
    /// The copy that was asked for last, and cannot be made.
    refused_backup: Option<Uuid>,
    poisoned: bool,
}

impl MemoryStore {
    /// A store on a disk of its own.
    pub fn new(birth: Birth) -> Self {
        Self::open(&MemoryDisk::new(birth))
    }

    /// Opens what is on the disk, with the epoch raised. A store that was opened on it before takes no more
    /// batches.
    pub fn open(disk: &MemoryDisk) -> Self {
        Self {
            disk: disk.clone(),
            gate: disk.gate.subscribe(),
            space: first_of(&disk.space),
            recovered: disk.lock().recover(),
            waiting: VecDeque::new(),
            prune: None,
            refused_backup: None,
            poisoned: false,
        }
    }

    /// The disk that it writes to.
    pub fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    fn apply(&mut self, batch: Batch) -> Result<Stored, StoreError> {
        self.disk.lock().apply(self.recovered.epoch, batch)
    }
}

impl Store for MemoryStore {
    type Reader = MemoryReader;

    fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    fn live(&mut self, after: JobId, limit: usize) -> Result<Vec<LiveJob>, StoreError> {
        Ok(self.disk.lock().live(after, limit))
    }

    fn reader(&self) -> MemoryReader {
        MemoryReader {
            disk: self.disk.clone(),
        }
    }

    fn commit(&mut self, batch: Batch) {
        self.waiting.push_back(batch);
    }

    fn prune(&mut self, prune: Prune) {
        self.prune = Some((self.waiting.len(), prune));
    }

    fn back_up(&mut self, order: BackupOrder) {
        self.refused_backup = match order {
            BackupOrder::Begin(id) => Some(id),
            BackupOrder::Drop(_) => None,
        };
    }

    async fn recv(&mut self) -> Result<StoreEvent, StoreError> {
        if self.poisoned {
            return Err(StoreError::Closed);
        }
        if let Some(id) = self.refused_backup.take() {
            let failure = BackupFailure::new(
                BackupFailureKind::Unsupported,
                "the server keeps its jobs in memory, and there is no file to copy",
            );
            let state = BackupState::Failed(failure);
            return Ok(StoreEvent::Backup(BackupReport { id, state }));
        }
        if let Some((_, prune)) = self.prune.take_if(|(batches, _)| *batches == 0) {
            return Ok(StoreEvent::Pruned(self.disk.lock().prune(&prune)));
        }
        let number = self.waiting.front().map(|batch| batch.number);
        let opens = async {
            match number {
                None => std::future::pending().await,
                Some(number) => {
                    let open = |gate: &Gate| match gate {
                        Gate::UpTo(last) => number <= *last,
                        Gate::Broken => true,
                    };
                    self.gate.wait_for(open).await.map(|gate| *gate)
                }
            }
        };
        let gate = tokio::select! {
            biased;
            Ok(()) = self.space.changed() => return Ok(StoreEvent::Space(*self.space.borrow_and_update())),
            // The sender is in `self.disk`.
            gate = opens => gate.map_err(|_| StoreError::Closed)?,
        };
        let stored = match (gate, self.waiting.pop_front()) {
            (Gate::UpTo(_), Some(batch)) => self.apply(batch),
            _ => Err(StoreError::Refused("the memory disk was told to fail")),
        };
        if let Some((batches, _)) = &mut self.prune {
            *batches -= 1;
        }
        self.poisoned = stored.is_err();
        stored.map(StoreEvent::Stored)
    }

    async fn close(mut self) -> Result<(), StoreError> {
        while !self.waiting.is_empty() {
            self.recv().await?;
        }
        Ok(())
    }
}

/// A receiver that has seen that there is enough room, as everybody assumes.
fn first_of(space: &watch::Sender<Space>) -> watch::Receiver<Space> {
    let mut receiver = space.subscribe();
    if *receiver.borrow_and_update() != Space::Enough {
        receiver.mark_changed();
    }
    receiver
}

/// Answers from a [`MemoryDisk`].
#[derive(Debug, Clone)]
pub struct MemoryReader {
    disk: MemoryDisk,
}

impl MemoryReader {
    /// Answers at once, for callers that are not asynchronous.
    pub fn answer(&self, read: &Read) -> ReadAnswer {
        self.disk.lock().answer(read)
    }
}

impl StoreReader for MemoryReader {
    async fn read(&self, read: Read) -> Result<ReadAnswer, StoreError> {
        Ok(self.answer(&read))
    }
}
