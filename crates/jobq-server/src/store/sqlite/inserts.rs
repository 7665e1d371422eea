//! How new jobs become rows.

use jobq_proto::JobId;
use rusqlite::{Connection, OptionalExtension, Statement};

use super::arrivals::Arrival;
use super::blocks::Blocks;
use super::checksum::{checksum, is_plain};
use super::live::LiveIds;
use super::names::Names;
use super::rows::{Binder, ROWS, RowStatement};
use super::values::{Code, Micros, Unsigned, UuidBytes};
use crate::store::{Change, InsertOutcome, JobRecord};
use crate::time::Wall;

/// The statements that insert jobs.
///
/// None of them says `ABORT`, which is SQLite's default: undoing a statement of many rows half-way takes a journal of
/// its own for each, in a temporary file. A known uuid is to be ignored; any other conflict fails the whole batch,
/// which is then rolled back as one.
pub(super) struct Inserts<'db> {
    /// For jobs that leave everything to the server, as most do: binding the columns that stay empty would cost as
    /// much as binding the others.
    plain_jobs: RowStatement<'db>,
    jobs: RowStatement<'db>,
    known: Statement<'db>,
}

/// What stands for a name that no job had so far; numbers of names begin with 1.
const NO_NAME: i64 = 0;

/// A job to insert.
struct New<'a> {
    record: &'a JobRecord,
    name: i64,
    due: Wall,
}

impl<'db> Inserts<'db> {
    pub(super) fn new(db: &'db Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            plain_jobs: RowStatement::new(
                db,
                "INSERT OR IGNORE INTO jobs (id, uuid, name_id, priority, created, checksum, params) VALUES",
                7,
                "",
            )?,
            jobs: RowStatement::new(
                db,
                "INSERT OR IGNORE INTO jobs (id, uuid, name_id, priority, created, username, max_attempts, timeout, \
                 backoff_base, backoff_exponent, backoff_max, retry_of, due, checksum, params) VALUES",
                15,
                "",
            )?,
            known: db.prepare("SELECT id, name_id, params FROM jobs WHERE uuid = ?")?,
        })
    }

    /// Inserts what these changes insert, and puts what became of it into `outcomes`, in order. Other kinds of
    /// changes are skipped.
    pub(super) fn insert(
        &mut self,
        db: &Connection,
        names: &mut Names,
        live: &mut LiveIds<'_>,
        blocks: &mut Blocks<'_>,
        changes: &[Change],
        outcomes: &mut Vec<InsertOutcome>,
    ) -> rusqlite::Result<()> {
        let mut jobs = Vec::with_capacity(changes.len());
        for change in changes {
            if let Change::Insert { record, due } = change {
                jobs.push(New {
                    record,
                    name: names.id_or_new(db, &record.name)?,
                    due: *due,
                });
            }
        }
        // In the pieces that are one statement each, so that only those with a known uuid are looked at one by one.
        for jobs in jobs.chunks(ROWS) {
            let inserted = if jobs.iter().all(New::is_plain) {
                self.plain_jobs.execute(jobs, bind_plain_job)?
            } else {
                self.jobs.execute(jobs, bind_job)?
            };
            if inserted == jobs.len() {
                for job in jobs {
                    live.insert(&job.arrival());
                    blocks.arrived(job.record.id, job.name)?;
                }
                outcomes.resize(outcomes.len() + jobs.len(), InsertOutcome::Inserted);
                continue;
            }
            for job in jobs {
                let outcome = self.outcome(job)?;
                if outcome == InsertOutcome::Inserted {
                    live.insert(&job.arrival());
                    blocks.arrived(job.record.id, job.name)?;
                }
                outcomes.push(outcome);
            }
        }
        Ok(())
    }

    /// Inserts nothing, and says which jobs are there already.
    pub(super) fn find(
        &mut self,
        db: &Connection,
        names: &mut Names,
        changes: &[Change],
        outcomes: &mut Vec<InsertOutcome>,
    ) -> rusqlite::Result<()> {
        for change in changes {
            if let Change::Insert { record, .. } | Change::Find { record } = change {
                let job = New {
                    record,
                    name: names.id(db, &record.name)?.unwrap_or(NO_NAME),
                    due: record.created,
                };
                let known = self.outcome(&job).optional()?;
                outcomes.push(known.unwrap_or(InsertOutcome::NoRoom));
            }
        }
        Ok(())
    }

    /// What became of a job, by the job that has its uuid now.
    fn outcome(&mut self, job: &New<'_>) -> rusqlite::Result<InsertOutcome> {
        self.known.query_row([UuidBytes(job.record.uuid)], |row| {
            let id = JobId(row.get::<_, Unsigned>(0)?.0);
            if id == job.record.id {
                return Ok(InsertOutcome::Inserted);
            }
            let same =
                row.get::<_, i64>(1)? == job.name && row.get_ref(2)?.as_blob()? == &job.record.params[..];
            Ok(if same {
                InsertOutcome::Existing(id)
            } else {
                InsertOutcome::Conflict(id)
            })
        })
    }
}

impl New<'_> {
    fn arrival(&self) -> Arrival {
        Arrival {
            id: self.record.id,
            name: self.name,
            priority: self.record.priority,
            created: self.record.created,
            due: self.due,
            params_bytes: self.record.params.len() as u64,
        }
    }

    fn is_plain(&self) -> bool {
        is_plain(self.record, self.due)
    }
}

fn bind_plain_job(job: &New<'_>, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
    let record = job.record;
    row.put(Unsigned(record.id.0))?;
    row.put(UuidBytes(record.uuid))?;
    row.put(job.name)?;
    row.put(Code(record.priority))?;
    row.put(record.created.0)?;
    row.put(checksum(record, job.due))?;
    row.put(&record.params[..])
}

fn bind_job(job: &New<'_>, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
    let record = job.record;
    let policy = &record.policy;
    row.put(Unsigned(record.id.0))?;
    row.put(UuidBytes(record.uuid))?;
    row.put(job.name)?;
    row.put(Code(record.priority))?;
    row.put(record.created.0)?;
    row.put(record.username.as_ref().map(|username| username.as_str()))?;
    row.put(policy.max_attempts)?;
    row.put(policy.timeout.map(Micros))?;
    row.put(policy.backoff.map(|backoff| Unsigned(backoff.base)))?;
    row.put(policy.backoff.map(|backoff| backoff.exponent))?;
    row.put(policy.backoff.map(|backoff| Unsigned(backoff.max)))?;
    row.put(record.retry_of.map(|id| Unsigned(id.0)))?;
    row.put((job.due != record.created).then_some(job.due.0))?;
    row.put(checksum(record, job.due))?;
    row.put(&record.params[..])
}
