//! What a server has left on disk, read as the next server would.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jobq_proto::message::JobView;
use jobq_proto::{Fence, JobId};
use jobq_server::DataDir;
use jobq_server::store::{
    Birth, Filter, Query, Read, ReadAnswer, RunStatus, Select, SqliteStore, Store, StoreReader,
};
use jobq_server::time::Wall;
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use crate::history::Ledger;

/// Jobs read at a time.
const PAGE: usize = 1_000;

/// Bytes of jobs read at a time.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// What a store holds. A plain value, to be checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// All jobs with their params, newest first.
    pub jobs: Vec<JobView>,
    /// Those that a server would take in at its start.
    pub live: BTreeSet<JobId>,
    /// How many jobs have ended, by the sums that the store keeps.
    pub ended: u64,
    /// How many records of ended jobs there are.
    pub ended_rows: u64,
    /// What is known of the runs that were asked about.
    pub runs: BTreeMap<(JobId, Fence), RunStatus>,
    /// What SQLite's own check says: `ok`, or what is damaged.
    pub integrity: String,
}

impl Contents {
    /// Reads the data directory of a server that has ended, and looks up the runs of a ledger.
    ///
    /// # Panics
    /// It cannot be opened: a server holds it, or it lacks what was reported as durable.
    pub async fn read(data: &Path, ledger: &Ledger) -> Self {
        let lock = DataDir::lock(data).unwrap_or_else(|error| panic!("failed to lock the store: {error}"));
        // Only a new store would be born by this.
        let birth = Birth {
            identity: Uuid::nil(),
            now: Wall(0),
        };
        let mut store = SqliteStore::open(data, birth)
            .unwrap_or_else(|error| panic!("failed to open the store: {error}"));
        let names = &store.recovered().names;
        let ended = names
            .iter()
            .map(|name| name.completed + name.failed + name.cancelled)
            .sum();
        let live = live(&mut store);
        let jobs = jobs(&store).await;
        let runs = runs(&store, ledger).await;
        store.close().await.expect("the store can be closed");
        let (ended_rows, integrity) = look_inside(data);
        drop(lock);
        Self {
            jobs,
            live,
            ended,
            ended_rows,
            runs,
            integrity,
        }
    }

    /// One of its jobs.
    ///
    /// # Panics
    /// There is no such job.
    #[track_caller]
    pub fn job(&self, id: JobId) -> &JobView {
        let job = self.jobs.iter().find(|job| job.id == id.0);
        job.unwrap_or_else(|| panic!("the store has no job {id}"))
    }
}

fn live(store: &mut SqliteStore) -> BTreeSet<JobId> {
    let mut live = BTreeSet::new();
    let mut after = JobId(0);
    loop {
        let page = store.live(after, PAGE).expect("the store can be read");
        let Some(last) = page.last() else { return live };
        after = last.id;
        live.extend(page.iter().map(|job| job.id));
    }
}

async fn jobs(store: &SqliteStore) -> Vec<JobView> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is after 1970");
    let now = i64::try_from(now.as_micros()).expect("it is before the year 3000");
    let reader = store.reader();
    let mut jobs: Vec<JobView> = Vec::new();
    let mut before = None;
    loop {
        let filter = Filter {
            before,
            limit: PAGE,
            ..Filter::default()
        };
        let query = Query {
            select: Select::Page(filter),
            only: jobq_server::access::NamePatterns::all(),
            params: true,
            result: false,
            runs: false,
            max_bytes: PAGE_BYTES,
            now: Wall(now),
            max_attempts: 20,
            patience: Duration::MAX,
        };
        let answer = reader.read(Read::Query(query)).await;
        let Ok(ReadAnswer::Query(page)) = answer else {
            panic!("failed to read the store: {answer:?}");
        };
        jobs.extend(page.jobs);
        before = page.next;
        if before.is_none() {
            return jobs;
        }
    }
}

async fn runs(store: &SqliteStore, ledger: &Ledger) -> BTreeMap<(JobId, Fence), RunStatus> {
    let reader = store.reader();
    let mut found = BTreeMap::new();
    let asked: Vec<(JobId, Fence)> = ledger.runs.iter().map(|run| (run.id, run.fence)).collect();
    for asked in asked.chunks(PAGE) {
        let answer = reader.read(Read::Runs(asked.to_vec())).await;
        let Ok(ReadAnswer::Runs(statuses)) = answer else {
            panic!("failed to read the store: {answer:?}");
        };
        found.extend(asked.iter().copied().zip(statuses));
    }
    found
}

/// What no store tells: how many records of ended jobs there are, and whether the file is sound.
fn look_inside(data: &Path) -> (u64, String) {
    let database = Connection::open_with_flags(data.join("jobq.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let database = database.expect("the database can be opened");
    let count = database.query_row("SELECT count(*) FROM done", [], |row| row.get::<_, i64>(0));
    let count = count.expect("ended jobs can be counted");
    let integrity = database.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    (
        u64::try_from(count).expect("a count is not negative"),
        integrity.expect("the database can be checked"),
    )
}

/// Makes the database look as if a version of jobq had written it that has this schema.
pub fn set_schema_version(data: &Path, version: u32) {
    let database = Connection::open_with_flags(data.join("jobq.db"), OpenFlags::SQLITE_OPEN_READ_WRITE);
    let database = database.expect("the database can be opened");
    let set = database.pragma_update(None, "user_version", version);
    set.expect("the version can be set");
}

/// How many rows a query finds in the database of a server that may be running.
///
/// # Panics
/// SQLite does not take it.
pub fn count_rows(data: &Path, query: &str) -> usize {
    let database = Connection::open_with_flags(data.join("jobq.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let database = database.expect("the database can be opened beside its server");
    let count = || -> rusqlite::Result<usize> {
        let mut statement = database.prepare(query)?;
        let mut rows = statement.query([])?;
        let mut count = 0;
        while rows.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    };
    count().unwrap_or_else(|error| panic!("{error} in\n{query}"))
}

/// Changes a job's params behind everybody's back, as a disk does that flips bits.
pub fn damage_params(data: &Path, id: JobId) {
    let database = Connection::open_with_flags(data.join("jobq.db"), OpenFlags::SQLITE_OPEN_READ_WRITE);
    let database = database.expect("the database can be opened");
    let changed = database.execute(
        "UPDATE jobs SET params = CAST(replace(params, '1', '9') AS BLOB) WHERE id = ?",
        [i64::try_from(id.0).expect("a small id")],
    );
    assert_eq!(changed.expect("the job can be changed"), 1);
}
