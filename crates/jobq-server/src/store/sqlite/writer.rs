//! The thread that writes: one transaction for all batches that wait, and the log folded into the database between
//! them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use super::apply::Applier;
use super::backup::{self, Backups, Copying};
use super::durability::Durability;
use super::fold::Database;
use super::log::{self, Log};
use super::reserve::Reserve;
use super::suspect;
use super::sync::Syncer;
use super::values::During;
use crate::store::{
    BackupFailure, BackupOrder, BackupState, Batch, Prune, Pruned, Space, StoreError, StoreEvent, Stored,
};

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Task {
    Batch(Batch),
    /// Remove some records.
    Prune(Prune),
    /// Make a copy, or give one up.
    Backup(BackupOrder),
    /// Fold the log into the database, and end.
    Close,
}

/// Most batches in one transaction. The caller has only a few under way, and one that waits costs no more alone.
const GROUP: usize = 8;

/// When nothing came for this long the log is folded. While there is not enough room, that is looked at as often.
const IDLE: Duration = Duration::from_secs(1);

/// How often a batch that found no room is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// The thread's state.
pub(super) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) db: Connection,
    pub(super) database: Arc<Database>,
    pub(super) syncer: Syncer,
    pub(super) durability: Arc<Durability>,
    pub(super) last_batch: u64,
    pub(super) tasks: Receiver<Task>,
    pub(super) reports: Reports,
    pub(super) stop: Arc<StopFlags>,
    pub(super) reserve: Reserve,
}

/// What the writer's owner wants beside its tasks.
#[derive(Debug, Default)]
pub(super) struct StopFlags {
    /// The store was dropped: what waits is not written any more.
    pub(super) abandoned: AtomicBool,
    /// The store is being closed: what finds no room does not wait for it.
    pub(super) closing: AtomicBool,
}

/// Where events go.
///
/// Unbounded, and bounded by the caller all the same: a report for each batch that it has under way, and some about
/// room and about a copy, one a second and ten a second at most.
#[derive(Debug, Clone)]
pub(super) struct Events(UnboundedSender<Result<StoreEvent, StoreError>>);

impl Events {
    pub(super) fn send(&self, report: Result<StoreEvent, StoreError>) {
        // Nobody listens if the store was dropped.
        let _ = self.0.send(report);
    }
}

/// Where the writer says what it did.
pub(super) struct Reports {
    events: Events,
    space: Space,
}

impl Reports {
    pub(super) fn new(events: UnboundedSender<Result<StoreEvent, StoreError>>) -> Self {
        Self {
            events: Events(events),
            space: Space::Enough,
        }
    }

    /// How much room there is, if that is news.
    pub(super) fn space(&mut self, space: Space) {
        if self.space != space {
            self.space = space;
            self.send(Ok(StoreEvent::Space(space)));
        }
    }

    /// Where others report to.
    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    fn send(&self, report: Result<StoreEvent, StoreError>) {
        self.events.send(report);
    }
}

impl Writer {
    /// Writes until it is told to close, the store is dropped, or something fails, which is reported.
    ///
    /// # Errors
    /// When closing failed, or was not asked for.
    pub(super) fn run(mut self) -> Result<(), StoreError> {
        // After the report of an error, so that whoever serves finds the reason when readers are turned away.
        let _end = self.durability.end_on_drop();
        if let Err(error) = self.write() {
            if matches!(error, StoreError::Closed) {
                // A sync failed, or another thread of the store panicked; either was reported.
                return Err(error);
            }
            tracing::error!(%error, "the store failed and takes nothing more");
            suspect::mark(&self.dir, &error);
            self.reports.send(Err(error));
            return Err(StoreError::Closed);
        }
        if self.stop.abandoned.load(Ordering::Acquire) {
            return Ok(());
        }
        log::close(self.db, &self.dir, &mut self.reserve).inspect_err(|error| suspect::mark(&self.dir, error))
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let Self {
            db,
            database,
            syncer,
            durability,
            last_batch,
            tasks,
            reports,
            stop,
            reserve,
            dir,
        } = self;
        db.pragma_update(None, "synchronous", "NORMAL")
            .during("be set up to be synced by itself")?;
        let room = Room {
            reserve,
            reports,
            stop,
            durability,
        };
        let mut writing = Writing {
            applier: room.applier(db, *last_batch)?,
            log: Log::new(db, dir, database, durability)?,
            syncer,
            tasks,
            room,
            group: Group::default(),
            backups: Backups::new(dir),
        };
        writing.room.look(&writing.log);
        let written = writing.write();
        writing.backups.close();
        // What was committed before an error is reported before it.
        written.and(writing.syncer.finish())
    }
}

/// The writer at work.
struct Writing<'a, 'db> {
    applier: Applier<'db>,
    log: Log<'db>,
    syncer: &'a mut Syncer,
    tasks: &'a Receiver<Task>,
    room: Room<'a>,
    group: Group,
    backups: Backups,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Another one follows.
    Next,
    /// Another one follows, and a copy of this name is to be made.
    Copy(Uuid),
    /// It was the last one.
    Last,
}

impl<'db> Writing<'_, 'db> {
    fn write(&mut self) -> Result<(), StoreError> {
        let mut turn = Turn::Next;
        loop {
            turn = match turn {
                Turn::Next => self.turn(None)?,
                Turn::Copy(id) => self.copy(id)?,
                Turn::Last => return Ok(()),
            };
        }
    }

    /// Waits for something to do and does it, then at most one step of the copy: what has come meanwhile is done before
    /// the next one.
    fn turn(&mut self, mut copying: Option<&mut Copying<'_, '_>>) -> Result<Turn, StoreError> {
        let Self {
            applier,
            log,
            syncer,
            tasks,
            room,
            group,
            backups,
        } = self;
        let at_rest = log.is_clean() && room.reserve.is_at_rest();
        let wait = match &copying {
            Some(copying) => Some(copying.wait()),
            None => (!at_rest).then_some(IDLE),
        };
        let next = group.take_next(tasks, wait);
        if room.is_abandoned() {
            return Ok(Turn::Last);
        }
        if next == Next::Idle && copying.is_none() && !log.is_clean() {
            log.fold(room.reserve)?;
        }
        room.look(log);
        if !group.batches.is_empty() {
            let give_up = || room_is_short(backups, copying.as_deref_mut());
            let Some(stored) = room.apply(applier, log, &group.batches, give_up)? else {
                return Ok(Turn::Last);
            };
            group.batches.clear();
            let stored = stored.into_iter().map(StoreEvent::Stored).collect();
            if group.look_ahead(tasks) {
                syncer.hand_over(stored)?;
            } else {
                syncer.sync(stored)?;
            }
            log.committed(room.reserve)?;
            if let Some(copying) = &mut copying {
                copying.committed();
            }
        }
        if let Some(prune) = group.prune.take() {
            let pruned = room.prune(applier, log.db(), &prune)?;
            syncer.sync(vec![StoreEvent::Pruned(pruned)])?;
            log.committed(room.reserve)?;
        }
        if next == Next::Close {
            return Ok(Turn::Last);
        }
        if !room.reserve.space().takes_jobs()
            && let Some(report) = room_is_short(backups, copying.as_deref_mut())
        {
            room.reports.send(Ok(report));
        }
        match group.backup.take() {
            Some(BackupOrder::Begin(id)) if backups.is_free() => return Ok(Turn::Copy(id)),
            Some(BackupOrder::Begin(id)) => {
                let failed = BackupState::Failed(backup::another_is_there());
                room.reports.send(Ok(backup::report(id, failed)));
            }
            Some(BackupOrder::Drop(id)) => backups.drop_copy(id),
            None => {}
        }
        if let Some(copying) = copying
            && backups.is_current(copying.id())
            && let Some(report) = copying.step(backups, room.reserve, log.unfolded())
        {
            room.reports.send(Ok(StoreEvent::Backup(report)));
        }
        Ok(Turn::Next)
    }

    /// Makes a copy beside whatever else there is to do.
    fn copy(&mut self, id: Uuid) -> Result<Turn, StoreError> {
        let db = self.log.db();
        let made = match self.backups.begin(id, self.room.reports.events.clone()) {
            Ok(mut to) => self.fill(id, db, &mut to)?,
            Err(failure) => Filled::Failed(failure),
        };
        match made {
            Filled::Whole => self.backups.finish(self.applier.last_batch()),
            Filled::Failed(failure) => {
                self.backups.drop_copy(id);
                tracing::error!("a backup failed: {failure}");
                let failed = backup::report(id, BackupState::Failed(failure));
                self.room.reports.send(Ok(failed));
            }
            Filled::Left(turn) => return Ok(turn),
        }
        Ok(Turn::Next)
    }

    fn fill(&mut self, id: Uuid, from: &Connection, to: &mut Connection) -> Result<Filled, StoreError> {
        let begun = Copying::new(id, from, to, self.room.reserve, self.log.unfolded());
        let mut copying = match begun {
            Ok(copying) => copying,
            Err(failure) => return Ok(Filled::Failed(failure)),
        };
        while self.backups.is_current(id) && !copying.has_ended() {
            match self.turn(Some(&mut copying))? {
                Turn::Next => {}
                turn => return Ok(Filled::Left(turn)),
            }
        }
        Ok(match copying.into_end() {
            Some(Ok(())) => Filled::Whole,
            Some(Err(failure)) => Filled::Failed(failure),
            None => Filled::Left(Turn::Next),
        })
    }
}

/// What became of a copy that was being made.
enum Filled {
    /// It is whole.
    Whole,
    Failed(BackupFailure),
    /// It was given up, and this comes next.
    Left(Turn),
}

/// Gives up the copy that there is, so that jobs have its room. The report, if it was being made no more; else its
/// maker reports it.
fn room_is_short(backups: &mut Backups, copying: Option<&mut Copying<'_, '_>>) -> Option<StoreEvent> {
    let id = backups.give_up()?;
    let failure = backup::short_of_room();
    match copying {
        Some(copying) if copying.id() == id => {
            copying.fail(failure);
            None
        }
        _ => Some(backup::report(id, BackupState::Failed(failure))),
    }
}

/// What applying batches needs where there may be no room for them.
struct Room<'a> {
    reserve: &'a mut Reserve,
    reports: &'a mut Reports,
    stop: &'a StopFlags,
    durability: &'a Arc<Durability>,
}

impl Room<'_> {
    /// Looks how much room there is, and reports what is new.
    fn look(&mut self, log: &Log<'_>) {
        let space = self.reserve.look(log.unfolded());
        self.reports.space(space);
    }

    /// Applies batches, however long it takes until there is room for what they must not lose; without their new jobs
    /// where there is little. Once they have found no room they are tried without their jobs until they are through,
    /// whatever the file system says of its room meanwhile. None if the store was dropped meanwhile.
    fn apply<'db>(
        &mut self,
        applier: &mut Applier<'db>,
        log: &mut Log<'db>,
        batches: &[Batch],
        mut give_up: impl FnMut() -> Option<StoreEvent>,
    ) -> Result<Option<Vec<Stored>>, StoreError> {
        let last_batch = applier.last_batch();
        let db = log.db();
        let mut takes_jobs = self.reserve.space().takes_jobs();
        let mut is_first = true;
        loop {
            match applier.apply(batches, takes_jobs) {
                Err(error) if self.reserve.ran_out(&error) => {}
                stored => {
                    self.reserve.found_room();
                    self.reports.space(self.reserve.space());
                    return stored.map(Some);
                }
            }
            takes_jobs = false;
            self.reports.space(self.reserve.space());
            if let Some(report) = give_up() {
                self.reports.send(Ok(report));
            }
            roll_back(db)?;
            // If there is room for that now, the log needs no more for a while.
            log.fold(self.reserve)?;
            // What it remembers of the batches never was.
            *applier = self.applier(db, last_batch)?;
            if std::mem::take(&mut is_first) {
                continue; // With the room of the ballast.
            }
            if self.stop.closing.load(Ordering::Acquire) {
                return Err(StoreError::NoRoom);
            }
            std::thread::sleep(TRY_AGAIN);
            if self.is_abandoned() {
                return Ok(None);
            }
        }
    }

    /// Removes some records, if there is room for doing so; else it is for another time.
    fn prune<'db>(
        &mut self,
        applier: &mut Applier<'db>,
        db: &'db Connection,
        prune: &Prune,
    ) -> Result<Pruned, StoreError> {
        let last_batch = applier.last_batch();
        match applier.prune(prune) {
            Err(error) if self.reserve.ran_out(&error) => {
                roll_back(db)?;
                *applier = self.applier(db, last_batch)?;
                self.reports.space(self.reserve.space());
                Ok(Pruned {
                    gone: Vec::new(),
                    oldest: applier.oldest(),
                    more: false,
                })
            }
            pruned => pruned,
        }
    }

    fn applier<'db>(&self, db: &'db Connection, last_batch: u64) -> Result<Applier<'db>, StoreError> {
        Applier::new(db, last_batch, Arc::clone(self.durability)).during("prepare its statements")
    }

    fn is_abandoned(&self) -> bool {
        self.stop.abandoned.load(Ordering::Acquire)
    }
}

/// Takes a transaction back. SQLite may have done so by itself.
fn roll_back(db: &Connection) -> Result<(), StoreError> {
    if db.is_autocommit() {
        return Ok(());
    }
    db.execute_batch("ROLLBACK").during("take a transaction back")
}

/// What a wait for tasks ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Batches, or something else to be done after them.
    Tasks,
    /// Nothing for as long as was waited.
    Idle,
    /// The wish to close, after the batches that came before.
    Close,
}

/// What is to be done in one turn.
#[derive(Default)]
struct Group {
    /// Came while the last turn was under way.
    ahead: Option<Task>,
    batches: Vec<Batch>,
    prune: Option<Prune>,
    backup: Option<BackupOrder>,
}

impl Group {
    /// Waits for something to do, no longer than `wait`, and takes the batches that came with it.
    fn take_next(&mut self, tasks: &Receiver<Task>, wait: Option<Duration>) -> Next {
        let first = match (self.ahead.take(), wait) {
            (Some(task), _) => Some(task),
            (None, None) => tasks.recv().ok(),
            (None, Some(wait)) => match tasks.recv_timeout(wait) {
                Ok(task) => Some(task),
                Err(RecvTimeoutError::Disconnected) => None,
                Err(RecvTimeoutError::Timeout) => return Next::Idle,
            },
        };
        for task in first.into_iter().chain(tasks.try_iter()) {
            match task {
                Task::Batch(batch) => self.batches.push(batch),
                Task::Prune(asked) => {
                    self.prune = Some(asked);
                    return Next::Tasks;
                }
                Task::Backup(order) => {
                    self.backup = Some(order);
                    return Next::Tasks;
                }
                Task::Close => return Next::Close,
            }
            if self.batches.len() == GROUP {
                break;
            }
        }
        // None at all: the store is gone.
        if self.batches.is_empty() {
            Next::Close
        } else {
            Next::Tasks
        }
    }

    /// Whether there is something for the next turn already.
    fn look_ahead(&mut self, tasks: &Receiver<Task>) -> bool {
        if self.ahead.is_none() {
            self.ahead = tasks.try_recv().ok();
        }
        self.ahead.is_some()
    }
}

#[cfg(test)]
mod tests;
