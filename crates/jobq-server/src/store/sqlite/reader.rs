//! The threads that answer questions, each on a connection of its own: one for what jobs are handed out with, which
//! is short and frequent, and one for what people ask.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::backup;
use super::durability::Durability;
use super::lookup::Lookup;
use super::names::Names;
use super::query;
use super::suspect;
use super::values::During;
use crate::store::read::SLOW_READ;
use crate::store::{Read, ReadAnswer, StoreError, StoreReader};

/// Questions that may wait at a thread; who asks more waits for room.
const WAITING: usize = 64;

/// The longest rest after what people asked. It is as long as the answer took: so whoever looks at page after page, who
/// is busy with the last one meanwhile, hardly notices, and a crowd that asks without end leaves the processor to the
/// jobs for half of the time.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// A question and where its answer goes.
#[derive(Debug)]
pub(super) struct Question {
    read: Read,
    answer: oneshot::Sender<Result<ReadAnswer, StoreError>>,
}

/// Answers from the database, and tells nothing that is not durable. When the store closes, it answers [`StoreError::Closed`].
#[derive(Debug, Clone)]
pub struct SqliteReader {
    orders: mpsc::WeakSender<Question>,
    queries: mpsc::WeakSender<Question>,
}

impl StoreReader for SqliteReader {
    async fn read(&self, read: Read) -> Result<ReadAnswer, StoreError> {
        let thread = match read {
            Read::Records(_) | Read::States { .. } | Read::Runs(_) => &self.orders,
            Read::Query(_) | Read::BackupPart { .. } => &self.queries,
        };
        let thread = thread.upgrade().ok_or(StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        thread
            .send(Question { read, answer })
            .await
            .map_err(|_| StoreError::Closed)?;
        drop(thread);
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

/// Both threads. They end when this is dropped and what was asked has been answered.
#[derive(Debug)]
pub(super) struct Readers {
    orders: mpsc::Sender<Question>,
    queries: mpsc::Sender<Question>,
    threads: [JoinHandle<()>; 2],
}

impl Readers {
    /// Starts the threads.
    pub(super) fn start(
        dir: &Path,
        orders: Connection,
        queries: Connection,
        durability: &Arc<Durability>,
    ) -> std::io::Result<Self> {
        let (orders_tx, orders_rx) = mpsc::channel(WAITING);
        let (queries_tx, queries_rx) = mpsc::channel(WAITING);
        let spawn = |name: &str, db, questions| {
            let (dir, durability) = (dir.to_owned(), Arc::clone(durability));
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || run(&dir, &db, &durability, questions))
        };
        Ok(Self {
            threads: [
                spawn("jobq-orders", orders, orders_rx)?,
                spawn("jobq-queries", queries, queries_rx)?,
            ],
            orders: orders_tx,
            queries: queries_tx,
        })
    }

    pub(super) fn handle(&self) -> SqliteReader {
        SqliteReader {
            orders: self.orders.downgrade(),
            queries: self.queries.downgrade(),
        }
    }

    /// Ends the threads and waits until their connections are closed.
    pub(super) fn stop(self) {
        let Self {
            orders,
            queries,
            threads,
        } = self;
        drop((orders, queries));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a reader of the store panicked");
            }
        }
    }
}

fn run(dir: &Path, db: &Connection, durability: &Durability, mut questions: mpsc::Receiver<Question>) {
    let mut names = Names::default();
    while let Some(Question { read, answer }) = questions.blocking_recv() {
        if answer.is_closed() {
            continue;
        }
        let begun = Instant::now();
        let found = answer_one(dir, db, &mut names, &read).inspect_err(|error| suspect::mark(dir, error));
        let took = begun.elapsed();
        let found = found.and_then(|found| {
            if tells_of_changes(&read) {
                durability.wait()?;
            }
            Ok(found)
        });
        if took > SLOW_READ {
            tracing::warn!(
                kind = kind(&read),
                millis = took.as_millis(),
                "a read of the store was slow"
            );
        }
        // Who asked may be gone.
        let _ = answer.send(found);
        if let Read::Query(_) = read {
            std::thread::sleep(took.min(LONGEST_REST));
        }
    }
}

fn answer_one(dir: &Path, db: &Connection, names: &mut Names, read: &Read) -> Result<ReadAnswer, StoreError> {
    match read {
        Read::Records(ids) => Lookup::begin(db, names)
            .and_then(|mut lookup| lookup.records(ids))
            .map(ReadAnswer::Records),
        Read::States { ids, result_bytes } => Lookup::begin(db, names)
            .and_then(|mut lookup| lookup.states(ids, *result_bytes))
            .map(ReadAnswer::States),
        Read::Runs(runs) => Lookup::begin(db, names)
            .and_then(|mut lookup| lookup.runs(runs))
            .map(ReadAnswer::Runs),
        Read::Query(query) => query::answer(db, names, query).map(ReadAnswer::Query),
        Read::BackupPart { id, offset, length } => {
            Ok(ReadAnswer::BackupPart(backup::part(dir, *id, *offset, *length)))
        }
    }
    .during("be read")
}

/// Whether the answer may tell of a change that is not on the disk yet. Records never change, and the server asks only for
/// those of which it knows that they are.
fn tells_of_changes(read: &Read) -> bool {
    match read {
        Read::Records(_) | Read::BackupPart { .. } => false,
        Read::States { .. } | Read::Runs(_) | Read::Query(_) => true,
    }
}

fn kind(read: &Read) -> &'static str {
    match read {
        Read::Records(_) => "records",
        Read::States { .. } => "states",
        Read::Runs(_) => "runs",
        Read::Query(_) => "query",
        Read::BackupPart { .. } => "backup_part",
    }
}

#[cfg(test)]
mod tests {
    use jobq_proto::JobId;
    use uuid::Uuid;

    use super::*;
    use crate::access::NamePatterns;
    use crate::store::sqlite::open::{self, Opened};
    use crate::store::sqlite::reserve::Reserve;
    use crate::store::sqlite::sync::testing::end_of;
    use crate::store::sqlite::{SqliteSettings, schema};
    use crate::store::{Birth, Query, Select};
    use crate::time::Wall;

    /// Readers of an empty database, of which more is visible than is durable.
    fn readers(dir: &Path, durability: &Arc<Durability>) -> Readers {
        let birth = Birth {
            identity: Uuid::nil(),
            now: Wall(1_000),
        };
        let Opened { db, .. } =
            open::open(dir, birth, SqliteSettings::BARE, &Reserve::new(dir, 0)).expect("it opens");
        drop(db);
        durability.set_visible(1);
        let connect = || schema::open_reader(dir).expect("it opens");
        Readers::start(dir, connect(), connect(), durability).expect("threads are started")
    }

    /// Asks on a thread of its own.
    fn asked(readers: &Readers, read: Read) -> JoinHandle<Result<ReadAnswer, StoreError>> {
        let reader = readers.handle();
        std::thread::spawn(move || {
            let executor = tokio::runtime::Builder::new_current_thread().build();
            executor.expect("a runtime").block_on(reader.read(read))
        })
    }

    fn answer(asked: JoinHandle<Result<ReadAnswer, StoreError>>) -> Result<ReadAnswer, StoreError> {
        end_of(asked).expect("it does not panic")
    }

    /// What tells of changes, a kind for each thread and one more.
    fn telling() -> [Read; 3] {
        let ids = vec![JobId(1)];
        let query = Query {
            select: Select::Ids(ids.clone()),
            only: NamePatterns::all(),
            params: false,
            result: false,
            runs: false,
            max_bytes: 1_000,
            now: Wall(1_000),
            max_attempts: 20,
            patience: Duration::from_secs(60),
        };
        [
            Read::States { ids, result_bytes: 0 },
            Read::Runs(Vec::new()),
            Read::Query(query),
        ]
    }

    #[test]
    fn what_may_not_be_on_the_disk_yet_is_told_when_it_is() {
        for read in telling() {
            let dir = tempfile::tempdir().expect("a directory");
            let durability = Arc::new(Durability::new(0));
            let readers = readers(dir.path(), &durability);
            let what = kind(&read);
            let question = asked(&readers, read);
            durability.wait_for_waiting();
            assert!(!question.is_finished(), "{what}");
            durability.set_durable(1);
            answer(question).expect("it is told");
            readers.stop();
        }
    }

    #[test]
    fn what_never_gets_to_the_disk_is_not_told_and_keeps_nobody_waiting() {
        for read in telling() {
            let dir = tempfile::tempdir().expect("a directory");
            let durability = Arc::new(Durability::new(0));
            let readers = readers(dir.path(), &durability);
            let what = kind(&read);
            let question = asked(&readers, read);
            durability.wait_for_waiting();
            durability.end();
            let answer = answer(question);
            assert!(matches!(answer, Err(StoreError::Closed)), "{what}: {answer:?}");
            readers.stop();
        }
    }

    #[test]
    fn records_which_never_change_wait_for_no_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let durability = Arc::new(Durability::new(0));
        let readers = readers(dir.path(), &durability);
        let found = answer(asked(&readers, Read::Records(vec![JobId(1)])));
        assert!(
            matches!(&found, Ok(ReadAnswer::Records(records)) if matches!(records[..], [None])),
            "{found:?}"
        );
        readers.stop();
    }
}
