//! How ended jobs and runs become rows.

use std::collections::BTreeMap;

use jobq_proto::{Fence, JobId, Status};
use rusqlite::{Connection, Statement, params};

use super::apply::live;
use super::names::Names;
use super::rows::{Binder, ROWS, RowStatement};
use super::values::{Code, During, Micros, Unsigned};
use crate::store::{Change, Ended, RunEnd, StoreError};
use crate::time::Wall;

/// The statements that end jobs and runs, and what they have not counted yet.
pub(super) struct Endings<'db> {
    done: RowStatement<'db>,
    live: RowStatement<'db>,
    runs: Statement<'db>,
    totals: Statement<'db>,
    /// How many jobs of each name ended since the totals were last written: completed, failed, cancelled.
    ended: BTreeMap<i64, [i64; 3]>,
}

impl<'db> Endings<'db> {
    pub(super) fn new(db: &'db Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            done: RowStatement::new(
                db,
                "WITH e (id, status, ended, started, ran, attempts, charges, epoch, seq, run_end, reason, result) \
                 AS (VALUES",
                12,
                ") INSERT OR FAIL INTO done (id, name_id, due, status, ended, started, ran, attempts, charges, epoch, seq, \
                 run_end, reason, result) SELECT e.id, l.name_id, l.due, e.status, e.ended, e.started, e.ran, \
                 e.attempts, e.charges, e.epoch, e.seq, e.run_end, e.reason, e.result \
                 FROM e CROSS JOIN live l ON l.id = e.id",
            )?,
            live: RowStatement::new(db, "DELETE FROM live WHERE (id) IN (VALUES", 1, ")")?,
            runs: db
                .prepare("INSERT INTO runs (job, epoch, seq, end, at, reason) VALUES (?, ?, ?, ?, ?, ?)")?,
            totals: db.prepare(
                "UPDATE names SET completed = completed + ?2, failed = failed + ?3, \
                 cancelled = cancelled + ?4 WHERE id = ?1",
            )?,
            ended: BTreeMap::new(),
        })
    }

    /// Ends the jobs that these changes end. Other kinds of changes are skipped.
    pub(super) fn end(
        &mut self,
        db: &Connection,
        names: &mut Names,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        let jobs: Vec<&Ended> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Ended(ended) => Some(ended),
                _ => None,
            })
            .collect();
        for ended in &jobs {
            if let Some((fence, end)) = ended.run {
                self.record_run(ended.id, fence, end, ended.at, ended.reason.as_deref())
                    .during("record a run")?;
            }
            let name = names.id_or_new(db, &ended.name).during("find a name")?;
            let [completed, failed, cancelled] = self.ended.entry(name).or_default();
            match ended.status {
                Status::Completed => *completed += 1,
                Status::Failed => *failed += 1,
                _ => *cancelled += 1,
            }
        }
        for jobs in jobs.chunks(ROWS) {
            let inserted = self.done.execute(jobs, bind_done).during("end jobs")?;
            let bind = |ended: &&Ended, row: &mut Binder<'_, '_>| row.put(Unsigned(ended.id.0));
            let deleted = self.live.execute(jobs, bind).during("end jobs")?;
            // All of them were live, or the batch is refused; its first job stands for those that were not.
            live(
                jobs[0].id,
                usize::from(inserted == jobs.len() && deleted == jobs.len()),
            )?;
        }
        Ok(())
    }

    /// Puts a run into its job's history, if it belongs there.
    pub(super) fn record_run(
        &mut self,
        job: JobId,
        fence: Fence,
        end: RunEnd,
        at: Wall,
        reason: Option<&str>,
    ) -> rusqlite::Result<()> {
        if end.is_history() {
            self.runs.execute(params![
                Unsigned(job.0),
                Unsigned(fence.epoch),
                Unsigned(fence.seq),
                Code(end),
                at.0,
                reason,
            ])?;
        }
        Ok(())
    }

    /// Writes the counts, once a transaction.
    pub(super) fn write_totals(&mut self) -> rusqlite::Result<()> {
        for (name, [completed, failed, cancelled]) in std::mem::take(&mut self.ended) {
            self.totals.execute(params![name, completed, failed, cancelled])?;
        }
        Ok(())
    }
}

fn bind_done(ended: &&Ended, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
    row.put(Unsigned(ended.id.0))?;
    row.put(Code(ended.status))?;
    row.put(ended.at.0)?;
    row.put(ended.started.map(|at| at.0))?;
    row.put(ended.ran.map(Micros))?;
    row.put(ended.attempts)?;
    row.put(ended.charges)?;
    row.put(ended.run.map(|(fence, _)| Unsigned(fence.epoch)))?;
    row.put(ended.run.map(|(fence, _)| Unsigned(fence.seq)))?;
    row.put(ended.run.map(|(_, end)| Code(end)))?;
    row.put(ended.reason.as_deref())?;
    row.put(ended.result.as_deref())
}
