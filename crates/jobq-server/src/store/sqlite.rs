//! The store on disk: SQLite, with one writer, two readers and whoever folds the log on threads and connections of their
//! own, and a thread that syncs the log. Before them the `start` reads what is live.
//!
//! Data flows `commit` → `writer` → `apply` → `sync` → `recv`, and `read` → `reader` → `lookup` or `query`. The
//! schema is in `sqlite/schema/`.
//!
//! **Invariant.** This process opens the database and its `-shm` through SQLite only: closing any other descriptor of
//! them would drop the process's locks, and a visitor's `sqlite3` would then delete the live log. The one exception is the
//! descriptor on which `fold` syncs the database, which is closed after all connections.

mod apply;
mod arrivals;
mod backup;
mod blocks;
mod check;
mod checksum;
mod durability;
mod endings;
mod fold;
mod inserts;
mod live;
mod log;
mod lookup;
mod names;
mod open;
mod prealloc;
mod prune;
mod query;
mod reader;
mod recover;
mod reserve;
mod restore;
mod rows;
mod schema;
mod search;
mod start;
mod suspect;
mod sync;
mod totals;
mod values;
mod watermark;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;

use jobq_proto::JobId;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

pub use self::check::{CheckProgress, CheckReport, check, check_backup};
use self::durability::Durability;
use self::fold::Database;
use self::open::Opened;
use self::reader::Readers;
pub use self::reader::SqliteReader;
use self::reserve::Reserve;
pub use self::restore::{RestoreError, restore};
use self::start::Start;
use self::sync::Syncer;
use self::writer::{Reports, StopFlags, Task, Writer};
use super::{BackupOrder, Batch, Birth, LiveJob, Prune, Recovered, Store, StoreError, StoreEvent};
use crate::lock::DataDir;

/// How an SQLite store is opened and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteSettings {
    /// Bytes that are to be free on the directory's file system, or a quarter of that if it is less; below, the store
    /// takes no job. A quarter of them again are a ballast file, given up when even the reserve is used up. 0 for
    /// neither.
    pub reserve: u64,
    /// Whether a database that lacks commits that were acknowledged is opened all the same. It is another store then.
    pub accept_loss: bool,
}

impl Default for SqliteSettings {
    /// What `jobq serve` uses: a reserve of 256 MB.
    fn default() -> Self {
        Self {
            reserve: 256_000_000,
            ..Self::BARE
        }
    }
}

impl SqliteSettings {
    /// No reserve and no ballast, and no loss is accepted: for who only looks at a store.
    pub const BARE: Self = Self {
        reserve: 0,
        accept_loss: false,
    };
}

/// Keeps jobs in an SQLite database.
///
/// Dropped without [`Store::close`] it stops at once: batches that were not reported may or may not be found at the
/// next start, as after a crash.
#[derive(Debug)]
pub struct SqliteStore {
    recovered: Recovered,
    reports: UnboundedReceiver<Result<StoreEvent, StoreError>>,
    running: Option<Running>,
    start: Option<Start>,
}

/// The threads.
#[derive(Debug)]
struct Running {
    tasks: mpsc::Sender<Task>,
    stop: Arc<StopFlags>,
    writer: JoinHandle<Result<(), StoreError>>,
    readers: Readers,
    /// After all connections: `fold` says why.
    database: Arc<Database>,
    /// Last, so that the directory is free for another server only when everything here has ended.
    lock: Option<DataDir>,
}

impl SqliteStore {
    /// Opens `jobq.db` in the directory `dir` with [`SqliteSettings::BARE`], as [`SqliteStore::open_with`] does.
    ///
    /// # Errors
    /// As [`SqliteStore::open_with`].
    pub fn open(dir: &Path, birth: Birth) -> Result<Self, StoreError> {
        Self::open_with(dir, birth, SqliteSettings::BARE)
    }

    /// Opens `jobq.db` in the directory `dir`, which must exist and which no other server may use: hold a
    /// [`crate::lock::DataDir`]. A database is made if there is none. Blocks while it recovers.
    ///
    /// # Errors
    /// When the database cannot be opened, is not ours or damaged, when it is of a newer version, or when it lacks
    /// commits that were reported and that loss is not accepted.
    pub fn open_with(dir: &Path, birth: Birth, settings: SqliteSettings) -> Result<Self, StoreError> {
        backup::remove_leftovers(dir);
        let mut reserve = Reserve::new(dir, settings.reserve);
        let opened = match open::open(dir, birth, settings, &reserve) {
            // What is under way has to end on a full disk too.
            Err(error) if reserve.ran_out(&error) => open::open(dir, birth, settings, &reserve),
            opened => opened,
        };
        let Opened {
            db,
            recovered,
            watermark,
        } = opened.inspect_err(|error| suspect::mark(dir, error))?;
        let unusable = |source| StoreError::Directory {
            path: dir.to_owned(),
            source,
        };
        let durability = Arc::new(Durability::new(recovered.last_batch));
        let database = Arc::new(Database::open(dir)?);
        let readers = Readers::start(
            dir,
            schema::open_reader(dir)?,
            schema::open_reader(dir)?,
            &durability,
        )
        .map_err(unusable)?;
        let (tasks, tasks_rx) = mpsc::channel();
        let (reports_tx, reports) = unbounded_channel();
        let mut reports_tx = Reports::new(reports_tx);
        // Before anybody can connect, so that a full disk is known before the first job is handed out.
        reports_tx.space(reserve.look(0));
        let syncer = Syncer::start(
            dir,
            watermark,
            Arc::clone(&durability),
            reports_tx.events().clone(),
        )?;
        let stop = Arc::new(StopFlags::default());
        let writer = Writer {
            dir: dir.to_owned(),
            db,
            database: Arc::clone(&database),
            syncer,
            durability,
            last_batch: recovered.last_batch,
            tasks: tasks_rx,
            reports: reports_tx,
            stop: Arc::clone(&stop),
            reserve,
        };
        let writer = std::thread::Builder::new()
            .name("jobq-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(unusable)?;
        Ok(Self {
            recovered,
            reports,
            running: Some(Running {
                tasks,
                stop,
                writer,
                readers,
                database,
                lock: None,
            }),
            start: Some(Start::open(dir)?),
        })
    }

    /// Holds the lock on its directory until it is closed, or dropped.
    #[must_use]
    pub fn holding(mut self, lock: DataDir) -> Self {
        if let Some(running) = &mut self.running {
            running.lock = Some(lock);
        }
        self
    }
}

impl Store for SqliteStore {
    type Reader = SqliteReader;

    fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    fn live(&mut self, after: JobId, limit: usize) -> Result<Vec<LiveJob>, StoreError> {
        let Some(start) = &mut self.start else {
            return Err(StoreError::Misused(
                "live jobs are listed before the first commit only".to_owned(),
            ));
        };
        start.live(after, limit)
    }

    fn reader(&self) -> SqliteReader {
        self.running
            .as_ref()
            .expect("it is taken by close and drop only")
            .readers
            .handle()
    }

    fn commit(&mut self, batch: Batch) {
        self.start = None;
        if let Some(running) = &self.running {
            // A writer that has ended said why; `recv` says so again.
            let _ = running.tasks.send(Task::Batch(batch));
        }
    }

    fn prune(&mut self, prune: Prune) {
        if let Some(running) = &self.running {
            let _ = running.tasks.send(Task::Prune(prune));
        }
    }

    fn back_up(&mut self, order: BackupOrder) {
        if let Some(running) = &self.running {
            let _ = running.tasks.send(Task::Backup(order));
        }
    }

    async fn recv(&mut self) -> Result<StoreEvent, StoreError> {
        self.reports.recv().await.unwrap_or(Err(StoreError::Closed))
    }

    async fn close(mut self) -> Result<(), StoreError> {
        let Some(running) = self.running.take() else {
            return Err(StoreError::Closed);
        };
        self.start = None;
        let (closed, closes) = oneshot::channel();
        // A thread, since folding the log can take long, and this may be an executor's only one.
        std::thread::Builder::new()
            .name("jobq-close".to_owned())
            .spawn(move || {
                let _ = closed.send(running.close());
            })
            .map_err(|_| StoreError::Refused("no thread can be started to close it"))?;
        closes.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.start = None;
        if let Some(running) = self.running.take() {
            running.abandon();
        }
    }
}

impl Running {
    /// Finishes and closes.
    fn close(self) -> Result<(), StoreError> {
        // Readers first: the last connection to close cleans up.
        self.stop.closing.store(true, Ordering::Release);
        self.readers.stop();
        let _ = self.tasks.send(Task::Close);
        drop(self.tasks);
        let closed = self.writer.join().unwrap_or(Err(StoreError::Closed));
        drop(self.database);
        drop(self.lock);
        closed
    }

    /// Stops as soon as the commit and the reads that are under way have ended, so that the database can be opened
    /// again at once.
    fn abandon(self) {
        self.stop.abandoned.store(true, Ordering::Release);
        drop(self.tasks);
        self.readers.stop();
        if self.writer.join().is_err() {
            tracing::error!("the store's writer panicked");
        }
        drop(self.database);
        drop(self.lock);
    }
}
