//! How ended jobs and runs become rows.

use jobq_proto::{Fence, JobId};
use rusqlite::{Connection, Statement, params};

use super::blocks::Blocks;
use super::live::LiveIds;
use super::names::Names;
use super::rows::{Binder, RowStatement};
use super::totals::Totals;
use super::values::{Code, During, Micros, Unsigned};
use crate::store::{Change, Ended, RunEnd, StoreError};
use crate::time::Wall;

/// The statements that end jobs and runs.
pub(super) struct Endings<'db> {
    done: RowStatement<'db>,
    keep_due: Statement<'db>,
    live: Statement<'db>,
    runs: Statement<'db>,
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
        })
    }

    /// Ends the jobs that these changes end. Other kinds of changes are skipped.
    pub(super) fn end(
        &mut self,
        db: &Connection,
        names: &mut Names,
        live: &mut LiveIds<'_>,
        blocks: &mut Blocks<'_>,
        totals: &mut Totals<'_>,
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
            totals.ended(name, ended.status);
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
