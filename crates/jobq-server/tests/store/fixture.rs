//! What the store's tests are made of.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::message::JobView;
use jobq_proto::{Fence, JobId, Priority, Status};
use jobq_server::access::NamePatterns;
use jobq_server::store::{
    Answer, Batch, Birth, Change, Ended, Filter, InsertOutcome, JobRecord, JobState, Leased, LiveJob,
    MemoryDisk, MemoryStore, Policy, Query, Read, ReadAnswer, Requeued, RunEnd, RunStatus, Select, SessionId,
    SqliteStore, Store, StoreError, StoreEvent, StoreReader, Stored,
};
use jobq_server::time::Wall;
use tempfile::TempDir;
use uuid::Uuid;

/// Something that a kind of store keeps its jobs on.
pub(super) trait Disk {
    type Store: Store;

    fn new() -> Self;

    /// Opens what is on it. What was opened before has been dropped.
    fn open(&self) -> Self::Store;
}

impl Disk for MemoryDisk {
    type Store = MemoryStore;

    fn new() -> Self {
        MemoryDisk::new(birth())
    }

    fn open(&self) -> MemoryStore {
        MemoryStore::open(self)
    }
}

impl Disk for TempDir {
    type Store = SqliteStore;

    fn new() -> Self {
        tempfile::tempdir().expect("a directory for a test")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.path(), birth()).expect("the database of a test opens")
    }
}

/// Another one each time: a store must keep its first.
pub(super) fn birth() -> Birth {
    Birth {
        identity: Uuid::new_v4(),
        now: Wall(1_000),
    }
}

/// A store with a caller that keeps the rules.
pub(super) struct Client<S: Store> {
    pub(super) store: S,
    number: u64,
    pub(super) clock: i64,
}

impl<S: Store> Client<S> {
    pub(super) fn new(store: S) -> Self {
        Self {
            number: store.recovered().last_batch,
            clock: store.recovered().clock.0,
            store,
        }
    }

    pub(super) fn batch(&mut self, changes: Vec<Change>) -> Batch {
        self.number += 1;
        self.clock += 1;
        Batch {
            number: self.number,
            next_id: JobId(self.number * 1_000),
            clock: Wall(self.clock),
            changes,
        }
    }

    pub(super) async fn try_commit(
        &mut self,
        changes: Vec<Change>,
    ) -> Result<Vec<InsertOutcome>, StoreError> {
        let batch = self.batch(changes);
        let number = batch.number;
        self.store.commit(batch);
        let stored = stored(&mut self.store).await?;
        assert_eq!(stored.number, number);
        Ok(stored.inserts)
    }

    pub(super) async fn commit(&mut self, changes: Vec<Change>) -> Vec<InsertOutcome> {
        self.try_commit(changes).await.expect("the batch is stored")
    }

    pub(super) async fn read(&self, read: Read) -> ReadAnswer {
        self.store.reader().read(read).await.expect("the store answers")
    }

    pub(super) async fn records(&self, ids: &[u64]) -> Vec<Option<Arc<JobRecord>>> {
        match self.read(Read::Records(job_ids(ids))).await {
            ReadAnswer::Records(records) => records,
            other => panic!("records were asked for, not {other:?}"),
        }
    }

    pub(super) async fn states(&self, ids: &[u64], result_bytes: u64) -> Vec<Option<JobState>> {
        let ids = job_ids(ids);
        match self.read(Read::States { ids, result_bytes }).await {
            ReadAnswer::States(states) => states,
            other => panic!("states were asked for, not {other:?}"),
        }
    }

    pub(super) async fn run(&self, id: u64, seq: u64) -> RunStatus {
        match self.read(Read::Runs(vec![(JobId(id), fence(seq))])).await {
            ReadAnswer::Runs(runs) => runs[0],
            other => panic!("runs were asked for, not {other:?}"),
        }
    }

    pub(super) async fn query(&self, query: Query) -> Answer {
        match self.read(Read::Query(query)).await {
            ReadAnswer::Query(answer) => answer,
            other => panic!("jobs were asked for, not {other:?}"),
        }
    }

    /// The one job of this id, as people see it.
    pub(super) async fn view(&self, id: u64) -> JobView {
        let answer = self.query(query(Select::Ids(job_ids(&[id])))).await;
        answer.jobs.into_iter().next().expect("the job exists")
    }
}

/// The next batch that a store reports as durable.
pub(super) async fn stored<S: Store>(store: &mut S) -> Result<Stored, StoreError> {
    loop {
        if let StoreEvent::Stored(stored) = store.recv().await? {
            return Ok(stored);
        }
    }
}

pub(super) fn live<S: Store>(store: &mut S) -> Vec<LiveJob> {
    store.live(JobId(0), usize::MAX).expect("live jobs can be listed")
}

pub(super) fn job_ids(ids: &[u64]) -> Vec<JobId> {
    ids.iter().copied().map(JobId).collect()
}

pub(super) fn fence(seq: u64) -> Fence {
    Fence { epoch: 1, seq }
}

/// The job of this id: its uuid, params and time of arrival follow from the id.
pub(super) fn job(id: u64) -> JobRecord {
    JobRecord {
        id: JobId(id),
        uuid: Uuid::from_u128(u128::from(id)),
        name: Arc::new("thumbnail".parse().expect("a name")),
        username: None,
        priority: Priority::Normal,
        params: Bytes::from(format!("params of {id}")),
        policy: Policy::default(),
        created: Wall(i64::try_from(id).expect("a small id")),
        retry_of: None,
    }
}

pub(super) fn insert(record: JobRecord) -> Change {
    Change::Insert {
        due: record.created,
        record: Arc::new(record),
    }
}

pub(super) fn leased(id: u64, seq: u64) -> Change {
    Change::Leased(Leased {
        id: JobId(id),
        fence: fence(seq),
        session: SessionId(9),
        started: true,
        at: Wall(50),
    })
}

pub(super) fn requeued(id: u64, seq: u64, end: RunEnd, reason: Option<&str>) -> Change {
    Change::Requeued(Requeued {
        id: JobId(id),
        fence: fence(seq),
        end,
        due: Wall(2_000),
        attempts: 1,
        charges: 1,
        reason: reason.map(str::to_owned),
        at: Wall(60),
    })
}

pub(super) fn ended(id: u64, seq: u64, status: Status) -> Change {
    let end = match status {
        Status::Completed => RunEnd::Completed,
        _ => RunEnd::Failed,
    };
    Change::Ended(Ended {
        id: JobId(id),
        name: job(id).name,
        status,
        run: Some((fence(seq), end)),
        started: Some(Wall(50)),
        ran: Some(Duration::from_micros(7)),
        attempts: 2,
        charges: 0,
        reason: (status != Status::Completed).then(|| "it broke".to_owned()),
        result: (status == Status::Completed).then(|| Bytes::from_static(b"result")),
        at: Wall(70),
    })
}

pub(super) fn query(select: Select) -> Query {
    Query {
        select,
        only: NamePatterns::all(),
        params: false,
        result: false,
        runs: false,
        max_bytes: usize::MAX,
        now: Wall(1_000),
        max_attempts: 20,
        patience: Duration::MAX,
    }
}

pub(super) fn page(filter: Filter) -> Query {
    query(Select::Page(filter))
}

pub(super) fn ids(answer: &Answer) -> Vec<u64> {
    answer.jobs.iter().map(|job| job.id).collect()
}

/// Makes a test of each function for each store.
macro_rules! for_each_store {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name::<jobq_server::store::MemoryDisk>().await;
            })+
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name::<tempfile::TempDir>().await;
            })+
        }
    };
}
pub(super) use for_each_store;
