//! The server's store, and the disk beneath it.
//!
//! [`MemoryStore`] keeps the jobs; what becomes durable and when, what survives, and whether there is room, is decided
//! here. Batches go to the disk in groups, as in production: a group is one transaction, so it survives a crash whole or
//! not at all. What was written and not synced survives the death of the process, and a loss of power by chance.

use std::collections::VecDeque;

use futures::FutureExt;
use jobq_server::store::{
    Batch, Birth, MemoryDisk, MemoryReader, MemoryStore, Prune, Read, ReadAnswer, Space, Store, StoreEvent,
};
use jobq_server::time::Wall;
use uuid::Uuid;

use super::agenda::{At, Event, MILLI, SECOND};
use super::ctx::{Ctx, trace};
use super::mutants::{self, Mutant};
use super::plan::Span;
use super::words;

/// How often the store tries again when its disk is full.
const TRY_AGAIN: At = 100 * MILLI;

/// Most batches in one transaction.
const GROUP: usize = 64;

/// What outlives the server's processes.
pub(super) struct Disk {
    disk: MemoryDisk,
    reader: MemoryReader,
    birth: Birth,
    /// How much room there is.
    pub(super) room: Space,
    /// The next sync fails.
    pub(super) sync_fails: bool,
    /// Everything takes much longer until then.
    pub(super) slow_until: At,
    /// What was done to it, where a mutant has to undo some of it.
    journal: Vec<Op>,
}

/// Something that was done to a disk.
enum Op {
    Opened,
    Stored(Batch),
    Pruned(Prune),
    Filled,
    Freed,
}

/// One life of the store.
pub(super) struct SimStore {
    inner: MemoryStore,
    life: u64,
    waiting: VecDeque<Batch>,
    /// What is being written and synced.
    group: Vec<Batch>,
    /// When the group is written.
    written: At,
    prune: Option<Prune>,
    /// What is to be reported.
    events: VecDeque<StoreEvent>,
    /// Batches that were reported before their time.
    reported_early: u64,
}

/// The store has failed: what is under way is in doubt.
#[derive(Debug)]
pub(super) struct SyncFailed;

impl Disk {
    pub(super) fn new(now: Wall) -> Self {
        let birth = Birth {
            identity: Uuid::from_u128(0x0051_u128 << 64 | 7),
            now,
        };
        let (disk, reader) = fresh(birth);
        Self {
            disk,
            reader,
            birth,
            room: Space::Enough,
            sync_fails: false,
            slow_until: 0,
            journal: Vec::new(),
        }
    }

    /// What the disk answers, whoever asks.
    pub(super) fn answer(&self, read: &Read) -> ReadAnswer {
        self.reader.answer(read)
    }

    pub(super) fn reader(&self) -> &MemoryReader {
        &self.reader
    }

    /// The store of the server's next life.
    pub(super) fn open(&mut self, life: u64, mutant: Option<Mutant>) -> SimStore {
        self.note(mutant, || Op::Opened);
        let mut store = SimStore {
            inner: MemoryStore::open(&self.disk),
            life,
            waiting: VecDeque::new(),
            group: Vec::new(),
            written: 0,
            prune: None,
            events: VecDeque::new(),
            reported_early: 0,
        };
        store.hear();
        store
    }

    /// There is more room than before, or less.
    pub(super) fn set_room(&mut self, room: Space, mutant: Option<Mutant>) {
        if room == self.room {
            return;
        }
        if room.takes_jobs() {
            self.disk.make_room();
            self.note(mutant, || Op::Freed);
        } else if self.room.takes_jobs() {
            self.disk.fill_up();
            self.note(mutant, || Op::Filled);
        }
        self.room = room;
    }

    fn note(&mut self, mutant: Option<Mutant>, op: impl FnOnce() -> Op) {
        if mutant == Some(Mutant::AcknowledgeBeforeSync) {
            self.journal.push(op());
        }
    }

    /// Goes back to before the last batches were stored.
    fn forget_batches(&mut self, count: u64) {
        for _ in 0..count {
            let last = self.journal.iter().rposition(|op| matches!(op, Op::Stored(_)));
            if let Some(last) = last {
                self.journal.remove(last);
            }
        }
        let (disk, reader) = fresh(self.birth);
        let mut store: Option<MemoryStore> = None;
        for op in &self.journal {
            match (op, &mut store) {
                (Op::Opened, store) => *store = Some(MemoryStore::open(&disk)),
                (Op::Filled, _) => disk.fill_up(),
                (Op::Freed, _) => disk.make_room(),
                (Op::Stored(batch), Some(store)) => store.commit(batch.clone()),
                (Op::Pruned(prune), Some(store)) => store.prune(*prune),
                _ => {}
            }
            if let Some(store) = &mut store {
                while store.recv().now_or_never().is_some_and(|event| event.is_ok()) {}
            }
        }
        self.disk = disk;
        self.reader = reader;
    }
}

fn fresh(birth: Birth) -> (MemoryDisk, MemoryReader) {
    let disk = MemoryDisk::new(birth);
    let reader = MemoryStore::open(&disk).reader();
    (disk, reader)
}

impl SimStore {
    /// For the start: what was found.
    pub(super) fn inner(&mut self) -> &mut MemoryStore {
        &mut self.inner
    }

    /// The next thing to report.
    pub(super) fn recv(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn commit(&mut self, ctx: &mut Ctx, disk: &mut Disk, batch: Batch) {
        let batch = mutants::write(ctx, batch);
        trace!(ctx, "{}", words::batch(&batch));
        ctx.model.batch_out(&batch);
        if ctx.mutant == Some(Mutant::AcknowledgeBeforeSync) {
            self.apply(ctx, disk, batch);
            self.reported_early += 1;
            let wait = ctx.draw(ctx.plan.sync);
            ctx.after(wait, Event::Synced(self.life));
            return;
        }
        self.waiting.push_back(batch);
        self.begin(ctx, disk);
    }

    pub(super) fn prune(&mut self, ctx: &mut Ctx, disk: &mut Disk, prune: Prune) {
        ctx.tally.count("removals of records");
        self.prune = Some(prune);
        self.begin(ctx, disk);
    }

    /// Begins to write the next group, unless one is being written.
    fn begin(&mut self, ctx: &mut Ctx, disk: &Disk) {
        if !self.group.is_empty() || (self.waiting.is_empty() && self.prune.is_none()) {
            return;
        }
        let count = self.waiting.len().min(GROUP);
        self.group.extend(self.waiting.drain(..count));
        let mut wait = ctx.draw(ctx.plan.sync);
        if ctx.now < disk.slow_until {
            wait += ctx.draw(Span(SECOND / 2, 20 * SECOND));
        }
        self.written = ctx.now + ctx.draw(Span(0, wait));
        ctx.after(wait, Event::Synced(self.life));
    }

    /// The group is on disk, if the disk is good and has room.
    pub(super) fn synced(&mut self, ctx: &mut Ctx, disk: &mut Disk) -> Result<(), SyncFailed> {
        if ctx.mutant == Some(Mutant::AcknowledgeBeforeSync) && self.group.is_empty() {
            self.reported_early = self.reported_early.saturating_sub(1);
        }
        if disk.room == Space::Full && !self.group.is_empty() {
            self.written = At::MAX;
            ctx.after(TRY_AGAIN, Event::Synced(self.life));
            return Ok(());
        }
        if disk.sync_fails && !self.group.is_empty() {
            disk.sync_fails = false;
            ctx.tally.count("failed syncs");
            return Err(SyncFailed);
        }
        for batch in std::mem::take(&mut self.group) {
            self.apply(ctx, disk, batch);
        }
        if let Some(prune) = self.prune.take() {
            disk.note(ctx.mutant, || Op::Pruned(prune));
            self.inner.prune(prune);
            self.hear();
        }
        self.begin(ctx, disk);
        Ok(())
    }

    /// How much room there is has changed.
    pub(super) fn room(&mut self, room: Space) {
        self.hear();
        // The memory store knows no third degree.
        self.events.retain(|event| !matches!(event, StoreEvent::Space(_)));
        self.events.push_back(StoreEvent::Space(room));
    }

    fn apply(&mut self, ctx: &mut Ctx, disk: &mut Disk, batch: Batch) {
        disk.note(ctx.mutant, || Op::Stored(batch.clone()));
        self.inner.commit(batch.clone());
        let before = self.events.len();
        self.hear();
        for event in self.events.range(before..) {
            if let StoreEvent::Stored(stored) = event {
                trace!(ctx, "{}", words::stored(stored));
                ctx.model.batch_stored(ctx.now, &batch, stored);
            }
        }
    }

    fn hear(&mut self) {
        while let Some(event) = self.inner.recv().now_or_never() {
            self.events
                .push_back(event.expect("the memory store takes what the machine makes"));
        }
    }

    /// The process is gone, or the power, or the sync has failed. What was written may be found at the next start.
    pub(super) fn crash(mut self, ctx: &mut Ctx, disk: &mut Disk, how: Crash) {
        if self.reported_early > 0 {
            disk.forget_batches(self.reported_early);
        }
        let written = !self.group.is_empty() && ctx.now >= self.written;
        let survives = match how {
            Crash::Process => written,
            Crash::Power | Crash::Sync => written && ctx.chance.percent(50),
        };
        if survives {
            ctx.tally.count("unacknowledged batches found after a crash");
            for batch in std::mem::take(&mut self.group) {
                trace!(ctx, "survives: {}", words::batch(&batch));
                self.apply(ctx, disk, batch);
            }
        } else if !self.group.is_empty() || !self.waiting.is_empty() {
            ctx.tally.count("unacknowledged batches lost in a crash");
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.group.is_empty() && self.waiting.is_empty()
    }
}

/// What a store ends with, when it is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// The process was killed.
    Process,
    /// The computer lost its power.
    Power,
    /// A sync failed.
    Sync,
}
