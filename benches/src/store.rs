//! The SQLite store on a disk, with two batches under way, as the driver has them.

use std::collections::VecDeque;
use std::sync::Arc;

use jobq_proto::{JobId, JobName, Priority, Status};
use jobq_server::store::{
    Batch, Birth, Change, Ended, InsertOutcome, JobRecord, Leased, Policy, Read, ReadAnswer, RunEnd,
    SessionId, SqliteStore, Store, StoreEvent, StoreReader,
};
use jobq_server::time::Wall;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use crate::jobs::{self, NAME};
use crate::workload::{Work, Workload};

/// Jobs of a batch.
const EACH: u64 = 1_000;

/// Batches of one run.
const BATCHES: u64 = 10;

/// Batches of jobs that were inserted before.
const BEFORE: u64 = 20;

/// Most batches handed over and not yet durable, as the driver has it.
const UNDER_WAY: usize = 2;

/// When all of it happens.
const AT: Wall = Wall(1_800_000_000_000_000);

/// What a store does for a job, each time with its share of a commit. The database is made in the directory for
/// temporary files (`TMPDIR`).
pub fn workloads() -> Vec<Workload> {
    let workload = |name, first, change| {
        Workload::new(name, BATCHES * EACH, move || {
            let batches = batches(first, change);
            work(batches)
        })
    };
    vec![
        workload("store/insert", BEFORE * EACH + 1, insert),
        workload("store/lease", 1, lease),
        workload("store/end", 1, end),
        Workload::new("store/read", BATCHES * EACH, read),
    ]
}

/// The changes of a run: one for each job from the `first` on, in batches that follow those of [`BEFORE`].
fn batches(first: u64, change: fn(u64) -> Change) -> VecDeque<Batch> {
    (0..BATCHES)
        .map(|n| {
            let first = first + n * EACH;
            batch(BEFORE + n + 1, (first..first + EACH).map(change).collect())
        })
        .collect()
}

/// Gives these batches to a store that holds jobs.
fn work(mut batches: VecDeque<Batch>) -> Work {
    let mut filled = Filled::new();
    Box::new(move || filled.commit(&mut batches))
}

/// Asks a store for the records of jobs, as the machine does before it hands them out.
fn read() -> Work {
    let filled = Filled::new();
    Box::new(move || {
        for n in 0..BATCHES {
            let first = n * EACH + 1;
            filled.read((first..first + EACH).map(JobId).collect());
        }
    })
}

/// A new store that holds the jobs of [`BEFORE`].
struct Filled {
    runtime: Runtime,
    store: SqliteStore,
    /// Last, so that the store is closed before its files go.
    _dir: TempDir,
}

impl Filled {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("the directory for temporary files can be written");
        let birth = Birth {
            identity: Uuid::from_u128(7),
            now: AT,
        };
        let mut filled = Self {
            runtime: Builder::new_current_thread().build().expect("it needs nothing"),
            store: SqliteStore::open(dir.path(), birth).expect("a new database can be made"),
            _dir: dir,
        };
        let batches = (0..BEFORE).map(|n| {
            let first = n * EACH + 1;
            batch(n + 1, (first..first + EACH).map(insert).collect())
        });
        filled.commit(&mut batches.collect());
        filled
    }

    /// Hands all batches over and waits until they are durable.
    fn commit(&mut self, batches: &mut VecDeque<Batch>) {
        let mut out = 0;
        while out > 0 || !batches.is_empty() {
            while out < UNDER_WAY
                && let Some(batch) = batches.pop_front()
            {
                self.store.commit(batch);
                out += 1;
            }
            let event = self.runtime.block_on(self.store.recv());
            match event.expect("the disk takes what is written") {
                StoreEvent::Stored(stored) => {
                    let new = |outcome: &InsertOutcome| *outcome == InsertOutcome::Inserted;
                    assert!(stored.inserts.iter().all(new), "every uuid is another one");
                    out -= 1;
                }
                other => panic!("a batch is to be stored, and the store says {other:?}"),
            }
        }
    }

    fn read(&self, ids: Vec<JobId>) {
        let answer = self
            .runtime
            .block_on(self.store.reader().read(Read::Records(ids)));
        match answer.expect("the database can be read") {
            ReadAnswer::Records(records) => assert!(records.iter().all(Option::is_some)),
            other => panic!("records were asked for, and not {other:?}"),
        }
    }
}

fn batch(number: u64, changes: Vec<Change>) -> Batch {
    Batch {
        number,
        next_id: JobId(number * EACH + 1),
        clock: AT,
        changes,
    }
}

fn name() -> Arc<JobName> {
    Arc::new(NAME.parse().expect("it is a good name"))
}

fn insert(id: u64) -> Change {
    let record = JobRecord {
        id: JobId(id),
        uuid: jobs::uuid(id),
        name: name(),
        username: None,
        priority: Priority::Normal,
        params: jobs::params(id),
        policy: Policy::default(),
        created: AT,
        retry_of: None,
    };
    Change::Insert {
        record: Arc::new(record),
        due: AT,
    }
}

fn lease(id: u64) -> Change {
    Change::Leased(Leased {
        id: JobId(id),
        fence: jobs::fence(id),
        session: SessionId(1),
        started: true,
        at: AT,
    })
}

fn end(id: u64) -> Change {
    Change::Ended(Ended {
        id: JobId(id),
        name: name(),
        status: Status::Completed,
        run: Some((jobs::fence(id), RunEnd::Completed)),
        started: Some(AT),
        ran: None,
        attempts: 1,
        charges: 0,
        reason: None,
        result: None,
        at: AT,
    })
}
