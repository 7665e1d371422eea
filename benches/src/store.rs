//! The SQLite store on a disk, with two batches under way, as the driver has them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use jobq_proto::{JobId, JobName, Priority, Status};
use jobq_server::store::{
    Batch, Birth, Change, Ended, InsertOutcome, JobRecord, Leased, Policy, RunEnd, SessionId, SqliteStore,
    Store, StoreEvent,
};
use jobq_server::time::Wall;
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

/// A new store that holds jobs already, and is then given these batches.
fn work(mut batches: VecDeque<Batch>) -> Work {
    let dir = tempfile::tempdir().expect("the directory for temporary files can be written");
    let mut store = open(dir.path());
    let before = (0..BEFORE).map(|n| {
        let first = n * EACH + 1;
        batch(n + 1, (first..first + EACH).map(insert).collect())
    });
    let runtime = Builder::new_current_thread().build().expect("it needs nothing");
    commit(&runtime, &mut store, &mut before.collect());
    Box::new(move || {
        // It goes when the work is dropped.
        let _dir = &dir;
        commit(&runtime, &mut store, &mut batches);
    })
}

fn open(dir: &Path) -> SqliteStore {
    let birth = Birth {
        identity: Uuid::from_u128(7),
        now: AT,
    };
    SqliteStore::open(dir, birth).expect("a new database can be made")
}

/// Hands all batches over and waits until they are durable.
fn commit(runtime: &Runtime, store: &mut SqliteStore, batches: &mut VecDeque<Batch>) {
    let mut out = 0;
    while out > 0 || !batches.is_empty() {
        while out < UNDER_WAY
            && let Some(batch) = batches.pop_front()
        {
            store.commit(batch);
            out += 1;
        }
        match runtime
            .block_on(store.recv())
            .expect("the disk takes what is written")
        {
            StoreEvent::Stored(stored) => {
                let new = |outcome: &InsertOutcome| *outcome == InsertOutcome::Inserted;
                assert!(stored.inserts.iter().all(new), "every uuid is another one");
                out -= 1;
            }
            other => panic!("a batch is to be stored, and the store says {other:?}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_workload_does_what_it_says() {
        for workload in workloads() {
            // A store refuses what does not fit what it holds.
            workload.prepare()();
        }
    }
}
