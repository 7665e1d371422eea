//! Reading the live jobs at a start.
//!
//! That is most of a start with a long queue, and nothing else is to be done meanwhile. As a rule nothing has happened to
//! a job that waits, and what is packed of its block says all of it; else its row is read.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use jobq_proto::{JobId, JobName};
use rusqlite::{Connection, Row, params};

use super::arrivals::{Arrival, Stored};
use super::live::{BLOCK, Bits};
use super::names::Names;
use super::recover::{LIVE_COLUMNS, LIVE_TABLES, live_job};
use super::schema;
use super::values::{Code, During, Unsigned};
use crate::store::{LiveJob, StoreError};
use crate::time::Wall;

/// Where fewer jobs of a block are wanted their rows are read.
const WORTH_UNPACKING: usize = 32;

/// What reads the live jobs until the first commit.
#[derive(Debug)]
pub(super) struct Start {
    db: Connection,
    names: Names,
}

impl Start {
    /// For the database in `dir`, which is open and to which nothing is written yet.
    ///
    /// # Errors
    /// When it cannot be opened for reading.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            db: schema::open_to_scan(dir)?,
            names: Names::default(),
        })
    }

    /// Up to `limit` live jobs after this one, by id.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn live(&mut self, after: JobId, limit: usize) -> Result<Vec<LiveJob>, StoreError> {
        live_ids(&self.db, after.0.saturating_add(1), limit)
            .and_then(|ids| self.jobs(&ids))
            .during("list its live jobs")
    }

    /// The jobs with these ids, which are live and in order.
    fn jobs(&mut self, ids: &[u64]) -> rusqlite::Result<Vec<LiveJob>> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            return Ok(Vec::new());
        };
        let touched = touched_ids(&self.db, *first, *last)?;
        let mut jobs = Vec::with_capacity(ids.len());
        for ids in ids.chunk_by(|a, b| a / BLOCK == b / BLOCK) {
            let arrivals = arrivals(&self.db, ids, &touched)?;
            let is_packed = arrivals.is_some();
            let mut arrivals = arrivals.into_iter().flatten();
            for run in ids.chunk_by(|a, b| touched.contains(a) == touched.contains(b)) {
                if touched.contains(&run[0]) {
                    self.read_rows(&TOUCHED, run, &mut jobs)?;
                } else if is_packed {
                    for arrival in arrivals.by_ref().take(run.len()) {
                        let name = self.names.by_id(&self.db, arrival.name)?;
                        jobs.push(arrived_job(&arrival, name));
                    }
                } else {
                    self.read_rows(&UNTOUCHED, run, &mut jobs)?;
                }
            }
        }
        Ok(jobs)
    }

    /// Reads the rows of these ids, which are in order, in runs of ids that follow each other.
    fn read_rows(&mut self, rows: &Rows, ids: &[u64], jobs: &mut Vec<LiveJob>) -> rusqlite::Result<()> {
        let Self { db, names } = self;
        let Rows { columns, tables, job } = rows;
        let mut read = db.prepare_cached(&format!(
            "SELECT {columns} FROM {tables} WHERE j.id BETWEEN ? AND ? ORDER BY j.id"
        ))?;
        for run in ids.chunk_by(|a, b| a + 1 == *b) {
            let mut rows = read.query(params![Unsigned(run[0]), Unsigned(run[run.len() - 1])])?;
            while let Some(row) = rows.next()? {
                let name = names.by_id(db, row.get(1)?)?;
                jobs.push(job(row, name)?);
            }
        }
        Ok(())
    }
}

/// How jobs are read from rows, whose first column is the id and the second the number of the name.
struct Rows {
    columns: &'static str,
    tables: &'static str,
    job: fn(&Row<'_>, Arc<JobName>) -> rusqlite::Result<LiveJob>,
}

/// Jobs to which something has happened.
const TOUCHED: Rows = Rows {
    columns: LIVE_COLUMNS,
    tables: LIVE_TABLES,
    job: live_job,
};

/// Jobs to which nothing has happened since they arrived: a third of what others take to read.
const UNTOUCHED: Rows = Rows {
    columns: "j.id, j.name_id, j.priority, j.due, length(j.params), j.created",
    tables: "jobs j",
    job: untouched_job,
};

/// Those of these ids of a block to which nothing has happened, from what is packed of the block; none where their rows
/// are to be read.
fn arrivals(db: &Connection, ids: &[u64], touched: &BTreeSet<u64>) -> rusqlite::Result<Option<Vec<Arrival>>> {
    if ids.len() < WORTH_UNPACKING {
        return Ok(None);
    }
    let Some(stored) = Stored::read(db, ids[0] / BLOCK)? else {
        return Ok(None);
    };
    let mut arrived = stored.jobs.unwrap_or_default().into_iter();
    let untouched = ids.iter().filter(|id| !touched.contains(id));
    let found: Option<Vec<_>> = untouched
        .map(|id| arrived.find(|arrival| arrival.id.0 == *id))
        .collect();
    if found.is_none() {
        tracing::warn!(
            from = stored.block * BLOCK,
            jobs = BLOCK,
            "what is packed of these jobs is damaged: their rows are read instead"
        );
    }
    Ok(found)
}

/// The ids of jobs to which something has happened since they arrived: those with a row in `live`.
fn touched_ids(db: &Connection, first: u64, last: u64) -> rusqlite::Result<BTreeSet<u64>> {
    db.prepare_cached("SELECT id FROM live WHERE id BETWEEN ? AND ?")?
        .query_map(params![Unsigned(first), Unsigned(last)], |row| {
            row.get(0).map(|Unsigned(id)| id)
        })?
        .collect()
}

/// Up to `limit` live ids from `from` on.
fn live_ids(db: &Connection, from: u64, limit: usize) -> rusqlite::Result<Vec<u64>> {
    let mut blocks =
        db.prepare_cached("SELECT block, bits FROM live_ids WHERE block >= ? ORDER BY block LIMIT ?")?;
    // Each block has a live id, though the first may have none from here on.
    let mut rows = blocks.query(params![
        Unsigned(from / BLOCK),
        Unsigned((limit as u64).saturating_add(1))
    ])?;
    let mut ids = Vec::new();
    while ids.len() < limit
        && let Some(row) = rows.next()?
    {
        let first = row.get::<_, Unsigned>(0)?.0.saturating_mul(BLOCK);
        let bits: Bits = row.get(1)?;
        ids.extend(
            bits.places()
                .map(|place| first + place)
                .filter(|id| *id >= from)
                .take(limit - ids.len()),
        );
    }
    Ok(ids)
}

/// A live job from the columns of [`UNTOUCHED`].
fn untouched_job(row: &Row<'_>, name: Arc<JobName>) -> rusqlite::Result<LiveJob> {
    let created = row.get(5)?;
    let arrival = Arrival {
        id: JobId(row.get::<_, Unsigned>(0)?.0),
        name: row.get(1)?,
        priority: row.get::<_, Code<_>>(2)?.0,
        created: Wall(created),
        due: Wall(row.get::<_, Option<_>>(3)?.unwrap_or(created)),
        params_bytes: row.get::<_, Unsigned>(4)?.0,
    };
    Ok(arrived_job(&arrival, name))
}

/// A live job to which nothing has happened since it arrived.
fn arrived_job(arrival: &Arrival, name: Arc<JobName>) -> LiveJob {
    LiveJob {
        id: arrival.id,
        name,
        priority: arrival.priority,
        created: arrival.created,
        due: arrival.due,
        params_bytes: arrival.params_bytes,
        attempts: 0,
        charges: 0,
        cancelling: false,
        lease: None,
    }
}
