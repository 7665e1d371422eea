//! The thread that writes: one transaction for all batches that wait, and the log folded into the database between
//! them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::mpsc::UnboundedSender;

use super::apply::Applier;
use super::log::{self, Log};
use super::reserve::Reserve;
use super::suspect;
use super::values::During;
use super::watermark::Watermark;
use crate::store::{Batch, Prune, Pruned, Space, StoreError, StoreEvent, Stored};

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Task {
    Batch(Batch),
    /// Remove some records.
    Prune(Prune),
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
    pub(super) watermark: Watermark,
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

/// Where the writer says what it did.
pub(super) struct Reports {
    /// Unbounded, and bounded by the caller all the same: a report for each batch that it has under way, and some
    /// about room, one a second at most.
    events: UnboundedSender<Result<StoreEvent, StoreError>>,
    space: Space,
}

impl Reports {
    pub(super) fn new(events: UnboundedSender<Result<StoreEvent, StoreError>>) -> Self {
        Self {
            events,
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

    fn stored(&self, stored: Vec<Stored>) {
        for stored in stored {
            self.send(Ok(StoreEvent::Stored(stored)));
        }
    }

    fn send(&self, report: Result<StoreEvent, StoreError>) {
        // Nobody listens if the store was dropped.
        let _ = self.events.send(report);
    }
}

impl Writer {
    /// Writes until it is told to close, the store is dropped, or something fails, which is reported.
    ///
    /// # Errors
    /// When closing failed, or was not asked for.
    pub(super) fn run(mut self) -> Result<(), StoreError> {
        if let Err(error) = self.write() {
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
            watermark,
            last_batch,
            tasks,
            reports,
            stop,
            reserve,
            dir,
        } = self;
        let mut room = Room {
            reserve,
            reports,
            stop,
        };
        let mut applier = Applier::new(db, *last_batch).during("prepare its statements")?;
        let mut log = Log::new(db, dir)?;
        let mut batches = Vec::with_capacity(GROUP);
        let mut prune = None;
        room.look(&log);
        loop {
            let at_rest = log.is_clean() && room.reserve.is_at_rest();
            let next = next_group(tasks, &mut batches, &mut prune, (!at_rest).then_some(IDLE));
            if room.is_abandoned() {
                return Ok(());
            }
            if next == Next::Idle && !log.is_clean() {
                log.fold(room.reserve)?;
            }
            room.look(&log);
            if let Some(last) = batches.last().map(|batch| batch.number) {
                let Some(stored) = room.apply(&mut applier, &mut log, &batches)? else {
                    return Ok(());
                };
                watermark.advance(last)?;
                room.reports.stored(stored);
                batches.clear();
                log.committed(room.reserve)?;
            }
            if let Some(prune) = prune.take() {
                room.prune(&mut applier, db, &prune)?;
                log.committed(room.reserve)?;
            }
            if next == Next::Close {
                return Ok(());
            }
        }
    }
}

/// What applying batches needs where there may be no room for them.
struct Room<'a> {
    reserve: &'a mut Reserve,
    reports: &'a mut Reports,
    stop: &'a StopFlags,
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
            roll_back(db)?;
            // If there is room for that now, the log needs no more for a while.
            log.fold(self.reserve)?;
            // What it remembers of the batches never was.
            *applier = Applier::new(db, last_batch).during("prepare its statements")?;
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
    ) -> Result<(), StoreError> {
        let last_batch = applier.last_batch();
        let pruned = match applier.prune(prune) {
            Err(error) if self.reserve.ran_out(&error) => {
                roll_back(db)?;
                db.pragma_update(None, "synchronous", "FULL")
                    .during("be set up to keep jobs")?;
                *applier = Applier::new(db, last_batch).during("prepare its statements")?;
                self.reports.space(self.reserve.space());
                Pruned {
                    gone: Vec::new(),
                    oldest: applier.oldest(),
                    more: false,
                }
            }
            pruned => pruned?,
        };
        self.reports.send(Ok(StoreEvent::Pruned(pruned)));
        Ok(())
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
    /// Batches, or the wish to remove records after them.
    Tasks,
    /// Nothing for as long as was waited.
    Idle,
    /// The wish to close, after the batches that came before.
    Close,
}

/// Waits for a batch, no longer than `wait`, and takes those that came with it.
fn next_group(
    tasks: &Receiver<Task>,
    batches: &mut Vec<Batch>,
    prune: &mut Option<Prune>,
    wait: Option<Duration>,
) -> Next {
    let first = match wait {
        None => tasks.recv().ok(),
        Some(wait) => match tasks.recv_timeout(wait) {
            Ok(task) => Some(task),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => return Next::Idle,
        },
    };
    for task in first.into_iter().chain(tasks.try_iter()) {
        match task {
            Task::Batch(batch) => batches.push(batch),
            Task::Prune(asked) => {
                *prune = Some(asked);
                return Next::Tasks;
            }
            Task::Close => return Next::Close,
        }
        if batches.len() == GROUP {
            break;
        }
    }
    // None at all: the store is gone.
    if batches.is_empty() {
        Next::Close
    } else {
        Next::Tasks
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jobq_proto::{JobId, Priority};
    use tokio::sync::mpsc::unbounded_channel;
    use uuid::Uuid;

    use super::*;
    use crate::store::sqlite::open::{self, Opened};
    use crate::store::{
        Birth, Change, InsertOutcome, JobRecord, Policy, SessionId, SessionRecord, SqliteSettings,
    };
    use crate::time::Wall;

    /// Bytes of each thing that finds no room, and of what then gives room to all of them.
    const THING: usize = 400_000;
    const FILLER: usize = 4_000_000;

    /// A batch that has to be stored, and is too much without its job already.
    fn too_much() -> Batch {
        let session = SessionRecord {
            id: SessionId(1),
            label: "x".repeat(THING),
            secret_hash: [0; 32],
            names: Vec::new(),
            ttl: Duration::from_secs(30),
        };
        let record = JobRecord {
            id: JobId(1),
            uuid: Uuid::from_u128(1),
            name: Arc::new("a".parse().expect("a name")),
            username: None,
            priority: Priority::Normal,
            params: Bytes::from(vec![7; THING]),
            policy: Policy::default(),
            created: Wall(1_000),
            retry_of: None,
        };
        Batch {
            number: 1,
            next_id: JobId(2),
            clock: Wall(1_000),
            changes: vec![
                Change::SessionOpened(session),
                Change::Insert {
                    record: Arc::new(record),
                    due: Wall(1_000),
                },
            ],
        }
    }

    #[test]
    fn a_batch_that_is_stuck_is_tried_without_its_jobs_until_it_is_through_and_says_so_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let birth = Birth {
            identity: Uuid::nil(),
            now: Wall(1_000),
        };
        let opened = open::open(
            dir.path(),
            birth,
            SqliteSettings::BARE,
            &Reserve::new(dir.path(), 0),
        )
        .expect("it opens");
        let Opened { db, watermark, .. } = opened;
        let visitor = Connection::open(dir.path().join("jobq.db")).expect("it opens");
        visitor
            .execute_batch(&format!(
                "CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob({FILLER}))"
            ))
            .expect("it is filled");
        let pages: i64 = db
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .expect("it has pages");
        // What SQLite then says is what it says of a full disk.
        db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .expect("it is limited");

        let (events, mut reports) = unbounded_channel();
        let (tasks, tasks_rx) = std::sync::mpsc::channel();
        let writer = Writer {
            dir: dir.path().to_owned(),
            db,
            watermark,
            last_batch: 0,
            tasks: tasks_rx,
            reports: Reports::new(events),
            stop: Arc::default(),
            reserve: Reserve::new(dir.path(), 0),
        };
        let (said, says) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            while let Some(event) = reports.blocking_recv() {
                let _ = said.send(event);
            }
        });
        let writing = std::thread::spawn(move || writer.run());
        tasks.send(Task::Batch(too_much())).expect("it listens");
        let next = || {
            says.recv_timeout(Duration::from_secs(60))
                .expect("it says something")
                .expect("it goes on")
        };
        assert_eq!(next(), StoreEvent::Space(Space::Full));
        let more = says.recv_timeout(TRY_AGAIN * 3);
        assert!(more.is_err(), "it tries again, and says nothing: {more:?}");

        visitor.execute_batch("DROP TABLE filler").expect("there is room");
        assert_eq!(next(), StoreEvent::Space(Space::Short));
        let StoreEvent::Stored(stored) = next() else {
            panic!("the batch is through");
        };
        assert_eq!(stored.inserts, [InsertOutcome::NoRoom]);
        assert_eq!(next(), StoreEvent::Space(Space::Enough));
        tasks.send(Task::Close).expect("it listens");
        assert!(writing.join().expect("it does not panic").is_ok());
    }
}
