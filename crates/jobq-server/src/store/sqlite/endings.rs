//! How ended jobs and runs become rows.

use std::collections::BTreeMap;

use jobq_proto::{Fence, JobId};
use rusqlite::{Connection, Statement, params};

use super::blocks::Blocks;
use super::live::LiveIds;
use super::names::Names;
use super::rows::{Binder, RowStatement};
use super::values::{Code, During, Micros, Unsigned};
use crate::store::{ByEnd, Change, Ended, RunEnd, StoreError};
use crate::time::Wall;

/// The statements that end jobs and runs, and what they have not counted yet.
pub(super) struct Endings<'db> {
    done: RowStatement<'db>,
    keep_due: Statement<'db>,
    live: Statement<'db>,
    runs: Statement<'db>,
    totals: Statement<'db>,
    /// How many more jobs of each name have records since the totals were last written.
    ended: BTreeMap<i64, ByEnd<i64>>,
}

impl<'db> Endings<'db> {
    pub(super) fn new(db: &'db Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            done: RowStatement::new(
                db,
                "INSERT OR FAIL INTO done (id, name_id, status, ended, started, ran, attempts, charges, epoch, seq, \
                 run_end, reason, result) VALUES",
                13,
                "",
            )?,
            keep_due: db
                .prepare("UPDATE done SET due = (SELECT due FROM live WHERE id = ?1) WHERE id = ?1")?,
            live: db.prepare("DELETE FROM live WHERE id = ?")?,
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
        live: &mut LiveIds<'_>,
        blocks: &mut Blocks<'_>,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        let mut jobs = Vec::with_capacity(changes.len());
        let mut touched = Vec::new();
        for change in changes {
            let Change::Ended(ended) = change else { continue };
            if live.remove(ended.id)? {
                touched.push(Unsigned(ended.id.0));
            }
            blocks.ended(ended.id, ended.status, ended.at);
            if let Some((fence, end)) = ended.run {
                self.record_run(ended.id, fence, end, ended.at, ended.reason.as_deref())
                    .during("record a run")?;
            }
            let name = names.id_or_new(db, &ended.name).during("find a name")?;
            *self.ended.entry(name).or_default().of_mut(ended.status) += 1;
            jobs.push((ended, name));
        }
        self.done.execute(&jobs, bind_done).during("end jobs")?;
        for id in touched {
            self.keep_due.execute([id]).during("end jobs")?;
            self.live.execute([id]).during("end jobs")?;
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

    /// So many records of a name have gone.
    pub(super) fn count_gone(&mut self, name: i64, gone: &ByEnd<u64>) {
        let more = self.ended.entry(name).or_default();
        for status in ByEnd::STATUSES {
            *more.of_mut(status) -= i64::try_from(*gone.of(status)).unwrap_or(i64::MAX);
        }
    }

    /// Writes the counts, once a transaction.
    pub(super) fn write_totals(&mut self) -> rusqlite::Result<()> {
        for (name, more) in std::mem::take(&mut self.ended) {
            let more = params![name, more.completed, more.failed, more.cancelled];
            self.totals.execute(more)?;
        }
        Ok(())
    }
}

fn bind_done((ended, name): &(&Ended, i64), row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
    row.put(Unsigned(ended.id.0))?;
    row.put(name)?;
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
