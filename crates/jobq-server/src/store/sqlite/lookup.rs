//! Answers about jobs that are named: records, states and ends of runs.

use std::sync::Arc;

use jobq_proto::{Fence, JobId, JobName, Username};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::checksum;
use super::names::Names;
use super::recover::{FLOOR_AT, LIVE_COLUMNS, LIVE_TABLES, LIVE_WIDTH, POLICY_AT, live_job};
use super::values::{Code, Item, POLICY_COLUMNS, Unsigned, UuidBytes, fence, policy, wrong};
use crate::store::{JobRecord, JobState, Policy, RunEnd, RunStatus};
use crate::time::Wall;

/// One read transaction. Without it each statement would lock and unlock the log.
pub(super) struct Lookup<'a> {
    db: Transaction<'a>,
    names: &'a mut Names,
}

impl<'a> Lookup<'a> {
    pub(super) fn begin(db: &'a Connection, names: &'a mut Names) -> rusqlite::Result<Self> {
        Ok(Self {
            db: db.unchecked_transaction()?,
            names,
        })
    }

    /// The records of these jobs. Those whose ids follow each other are read together, as most are that wait in line.
    pub(super) fn records(&mut self, ids: &[JobId]) -> rusqlite::Result<Vec<Option<Arc<JobRecord>>>> {
        let mut records = vec![None; ids.len()];
        let mut rest = &mut records[..];
        for run in ids.chunk_by(|a, b| a.0.checked_add(1) == Some(b.0)) {
            let (places, others) = rest.split_at_mut(run.len());
            self.read_run(run[0], places)?;
            rest = others;
        }
        Ok(records)
    }

    /// Puts the records of the jobs from `first` on, as many as there are places, each into its place.
    ///
    /// Most jobs are plain, and half of what a row costs is in the columns that are empty there: they are read from the
    /// first job on that is not plain.
    fn read_run(&mut self, first: JobId, places: &mut [Option<Arc<JobRecord>>]) -> rusqlite::Result<()> {
        let last = first.0 + (places.len() as u64 - 1);
        let mut put = |record: JobRecord| {
            let place = record
                .id
                .0
                .checked_sub(first.0)
                .and_then(|place| usize::try_from(place).ok());
            if let Some(place) = place.and_then(|place| places.get_mut(place)) {
                *place = Some(Arc::new(record));
            }
        };
        let mut plain = self.db.prepare_cached(&jobs_between(PLAIN_COLUMNS))?;
        let mut rows = plain.query([Unsigned(first.0), Unsigned(last)])?;
        let from = loop {
            let Some(row) = rows.next()? else {
                return Ok(());
            };
            if !checksum::is_of_plain(row.get(CHECKSUM_AT)?) {
                break row.get(ID_AT)?;
            }
            put(plain_record(row, self.names, &self.db)?);
        };
        drop(rows);
        let mut all = self.db.prepare_cached(&jobs_between(&record_columns()))?;
        let mut rows = all.query([from, Unsigned(last)])?;
        while let Some(row) = rows.next()? {
            put(record(row, self.names, &self.db)?);
        }
        Ok(())
    }

    /// Where these jobs stand, with results as long as they fit into `result_bytes`.
    pub(super) fn states(
        &mut self,
        ids: &[JobId],
        mut result_bytes: u64,
    ) -> rusqlite::Result<Vec<Option<JobState>>> {
        let mut states_of = self.db.prepare_cached(&format!(
            "SELECT {LIVE_COLUMNS}, d.status, d.reason, length(d.result), \
             CASE WHEN length(d.result) <= ?2 THEN d.result END \
             FROM {LIVE_TABLES} LEFT JOIN done d ON d.id = j.id WHERE j.id = ?1",
        ))?;
        let mut states = Vec::with_capacity(ids.len());
        for id in ids {
            let mut rows = states_of.query(params![Unsigned(id.0), Unsigned(result_bytes)])?;
            let state = match rows.next()? {
                None => None,
                Some(row) => {
                    let name = self.names.by_id(&self.db, row.get(1)?)?;
                    Some(match ended(row, &name)? {
                        Some(ended) => ended,
                        None => JobState::Live {
                            job: live_job(row, name)?,
                            policy: policy(row, POLICY_AT)?,
                            floor: fence(row, FLOOR_AT)?,
                        },
                    })
                }
            };
            if let Some(JobState::Ended {
                result: Some(result), ..
            }) = &state
            {
                result_bytes = result_bytes.saturating_sub(result.len() as u64);
            }
            states.push(state);
        }
        Ok(states)
    }

    /// How these runs ended.
    pub(super) fn runs(&mut self, runs: &[(JobId, Fence)]) -> rusqlite::Result<Vec<RunStatus>> {
        let mut last = self.db.prepare_cached(
            "SELECT d.epoch, d.seq, d.run_end, l.floor_epoch, l.floor_seq, l.floor_end FROM jobs j \
             LEFT JOIN live l ON l.id = j.id LEFT JOIN done d ON d.id = j.id WHERE j.id = ?",
        )?;
        let mut history = self
            .db
            .prepare_cached("SELECT end FROM runs WHERE job = ? AND epoch = ? AND seq = ?")?;
        let mut statuses = Vec::with_capacity(runs.len());
        for (id, run) in runs {
            let known = last
                .query_row([Unsigned(id.0)], |row| {
                    let ended = run_end(row, 0, *run)?;
                    let floor = run_end(row, 3, *run)?;
                    Ok(ended.or(floor))
                })
                .optional()?;
            statuses.push(match known {
                None => RunStatus::NoJob,
                Some(Some(end)) => RunStatus::Ended(end),
                Some(None) => history
                    .query_row([Unsigned(id.0), Unsigned(run.epoch), Unsigned(run.seq)], |row| {
                        row.get(0)
                    })
                    .optional()?
                    .map_or(RunStatus::Unknown, |Code(end)| RunStatus::Ended(end)),
            });
        }
        Ok(statuses)
    }
}

/// The columns that no job leaves empty, from `jobs j`.
const PLAIN_COLUMNS: &str = "j.id, j.uuid, j.name_id, j.priority, j.created, j.checksum, j.params";

/// The columns of a job, for [`record`], from `jobs j`.
pub(super) fn record_columns() -> String {
    format!("{PLAIN_COLUMNS}, coalesce(j.due, j.created), j.username, j.retry_of, {POLICY_COLUMNS}")
}

const ID_AT: usize = 0;

/// Where [`record_columns`] has the number of the name.
pub(super) const NAME_AT: usize = 2;

const CHECKSUM_AT: usize = 5;

/// Where [`record_columns`] has from when on the job may run.
pub(super) const DUE_AT: usize = 7;

const USERNAME_AT: usize = 8;

/// How many columns [`record_columns`] has.
pub(super) const RECORD_WIDTH: usize = 15;

fn jobs_between(columns: &str) -> String {
    format!("SELECT {columns} FROM jobs j WHERE j.id BETWEEN ? AND ? ORDER BY j.id")
}

/// A job from its row, if that is what was stored.
pub(super) fn record(row: &Row<'_>, names: &mut Names, db: &Connection) -> rusqlite::Result<JobRecord> {
    let username: Option<String> = row.get(USERNAME_AT)?;
    let record = JobRecord {
        username: username.map(Username::try_from).transpose().map_err(|error| {
            let error = Box::new(wrong(error));
            rusqlite::Error::FromSqlConversionFailure(USERNAME_AT, rusqlite::types::Type::Text, error)
        })?,
        retry_of: row
            .get::<_, Option<Unsigned>>(USERNAME_AT + 1)?
            .map(|id| JobId(id.0)),
        policy: policy(row, USERNAME_AT + 2)?,
        ..unverified(row, names, db)?
    };
    verify(record, Wall(row.get(DUE_AT)?), row)
}

/// A job from [`PLAIN_COLUMNS`] of its row, if that is what was stored and all.
fn plain_record(row: &Row<'_>, names: &mut Names, db: &Connection) -> rusqlite::Result<JobRecord> {
    let record = unverified(row, names, db)?;
    let due = record.created;
    verify(record, due, row)
}

/// What [`PLAIN_COLUMNS`] say.
fn unverified(row: &Row<'_>, names: &mut Names, db: &Connection) -> rusqlite::Result<JobRecord> {
    Ok(JobRecord {
        id: JobId(row.get::<_, Unsigned>(ID_AT)?.0),
        uuid: row.get::<_, UuidBytes>(1)?.0,
        name: names.by_id(db, row.get(NAME_AT)?)?,
        username: None,
        priority: row.get::<_, Code<_>>(3)?.0,
        params: row.get::<_, Item>(6)?.0,
        policy: Policy::default(),
        created: Wall(row.get(4)?),
        retry_of: None,
    })
}

fn verify(record: JobRecord, due: Wall, row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    match checksum::verify(&record, due, row.get(CHECKSUM_AT)?) {
        Ok(()) => Ok(record),
        Err(mismatch) => Err(rusqlite::Error::FromSqlConversionFailure(
            CHECKSUM_AT,
            rusqlite::types::Type::Integer,
            Box::new(mismatch),
        )),
    }
}

/// How the job ended, if it did, from the columns after [`LIVE_COLUMNS`].
fn ended(row: &Row<'_>, name: &Arc<JobName>) -> rusqlite::Result<Option<JobState>> {
    let Some(Code(status)) = row.get(LIVE_WIDTH)? else {
        return Ok(None);
    };
    let length: Option<Unsigned> = row.get(LIVE_WIDTH + 2)?;
    let result: Option<Item> = row.get(LIVE_WIDTH + 3)?;
    Ok(Some(JobState::Ended {
        name: Arc::clone(name),
        status,
        reason: row.get(LIVE_WIDTH + 1)?,
        omitted: length.is_some() && result.is_none(),
        result: result.map(|item| item.0),
    }))
}

/// How the run whose fence is in two columns from `at`, and its end after them, ended, if it is this one.
fn run_end(row: &Row<'_>, at: usize, run: Fence) -> rusqlite::Result<Option<RunEnd>> {
    if fence(row, at)? != Some(run) {
        return Ok(None);
    }
    Ok(Some(row.get::<_, Code<RunEnd>>(at + 2)?.0))
}
