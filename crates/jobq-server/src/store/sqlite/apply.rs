//! How changes become rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use jobq_proto::{Fence, JobId, JobName, Status};
use rusqlite::{Connection, Statement, params};

use super::names::Names;
use super::values::{Code, During, Micros, Unsigned, UuidBytes};
use crate::store::{
    Batch, Change, Ended, InsertOutcome, JobRecord, Leased, Requeued, RunEnd, SessionRecord, StoreError,
    Stored,
};
use crate::time::Wall;

/// The writer's statements, prepared once, and what it remembers between batches.
pub(super) struct Applier<'db> {
    db: &'db Connection,
    names: Names,
    last_batch: u64,
    /// How many jobs of each name ended since the totals were last written: completed, failed, cancelled.
    ended: BTreeMap<i64, [i64; 3]>,
    begin: Statement<'db>,
    commit: Statement<'db>,
    insert_job: Statement<'db>,
    insert_live: Statement<'db>,
    known: Statement<'db>,
    lease: Statement<'db>,
    requeue: Statement<'db>,
    cancel: Statement<'db>,
    insert_done: Statement<'db>,
    delete_live: Statement<'db>,
    insert_run: Statement<'db>,
    open_session: Statement<'db>,
    close_session: Statement<'db>,
    add_totals: Statement<'db>,
    set_meta: Statement<'db>,
}

impl<'db> Applier<'db> {
    /// Prepares the statements. `last_batch` is the number of the last batch that the database has.
    pub(super) fn new(db: &'db Connection, last_batch: u64) -> rusqlite::Result<Self> {
        Ok(Self {
            db,
            names: Names::default(),
            last_batch,
            ended: BTreeMap::new(),
            begin: db.prepare("BEGIN IMMEDIATE")?,
            commit: db.prepare("COMMIT")?,
            insert_job: db.prepare(
                "INSERT INTO jobs (id, uuid, name_id, priority, created, username, max_attempts, timeout, \
                 backoff_base, backoff_exponent, backoff_max, retry_of, params) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uuid) DO NOTHING",
            )?,
            insert_live: db.prepare(
                "INSERT INTO live (id, name_id, priority, due, params_bytes) VALUES (?, ?, ?, ?, ?)",
            )?,
            known: db.prepare("SELECT id, name_id, params FROM jobs WHERE uuid = ?")?,
            lease: db.prepare(
                "UPDATE live SET lease_session = ?2, lease_epoch = ?3, lease_seq = ?4, lease_started = ?5, \
                 lease_at = ?6 WHERE id = ?1",
            )?,
            requeue: db.prepare(
                "UPDATE live SET due = ?2, attempts = ?3, charges = ?4, floor_epoch = ?5, floor_seq = ?6, \
                 floor_end = ?7, lease_session = NULL, lease_epoch = NULL, lease_seq = NULL, \
                 lease_started = NULL, lease_at = NULL WHERE id = ?1",
            )?,
            cancel: db.prepare("UPDATE live SET cancelling = 1 WHERE id = ?")?,
            insert_done: db.prepare(
                "INSERT INTO done (id, name_id, due, status, ended, started, ran, attempts, charges, epoch, \
                 seq, run_end, reason, result) SELECT id, name_id, due, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
                 ?11, ?12 FROM live WHERE id = ?1",
            )?,
            delete_live: db.prepare("DELETE FROM live WHERE id = ?")?,
            insert_run: db
                .prepare("INSERT INTO runs (job, epoch, seq, end, at, reason) VALUES (?, ?, ?, ?, ?, ?)")?,
            open_session: db.prepare(
                "INSERT OR REPLACE INTO sessions (id, label, secret_hash, names, ttl) VALUES (?, ?, ?, ?, ?)",
            )?,
            close_session: db.prepare("DELETE FROM sessions WHERE id = ?")?,
            add_totals: db.prepare(
                "UPDATE names SET completed = completed + ?2, failed = failed + ?3, \
                 cancelled = cancelled + ?4 WHERE id = ?1",
            )?,
            set_meta: db.prepare("UPDATE meta SET last_batch = ?, next_id = ?, clock = ?")?,
        })
    }

    /// Applies batches in one transaction and returns when they are durable. After an error the applier must not be
    /// used again.
    pub(super) fn apply(&mut self, batches: &[Batch]) -> Result<Vec<Stored>, StoreError> {
        self.begin.execute([]).during("begin a transaction")?;
        let mut stored = Vec::with_capacity(batches.len());
        for batch in batches {
            if batch.number != self.last_batch + 1 {
                return Err(StoreError::out_of_order(batch.number, self.last_batch));
            }
            self.last_batch = batch.number;
            stored.push(Stored {
                number: batch.number,
                inserts: self.changes(&batch.changes)?,
            });
        }
        self.write_totals().during("count ended jobs")?;
        if let Some(last) = batches.last() {
            self.set_meta
                .execute(params![
                    Unsigned(last.number),
                    Unsigned(last.next_id.0),
                    last.clock.0
                ])
                .during("write its state")?;
        }
        self.commit.execute([]).during("commit")?;
        Ok(stored)
    }

    fn changes(&mut self, changes: &[Change]) -> Result<Vec<InsertOutcome>, StoreError> {
        let mut inserts = Vec::new();
        for change in changes {
            match change {
                Change::Insert { record, due } => {
                    inserts.push(self.insert(record, *due).during("insert a job")?);
                }
                Change::Leased(leased) => {
                    live(leased.id, self.lease(leased).during("record a lease")?)?;
                }
                Change::Requeued(requeued) => {
                    live(requeued.id, self.requeue(requeued).during("requeue a job")?)?;
                }
                Change::Ended(ended) => live(ended.id, self.end(ended).during("end a job")?)?,
                Change::CancelMarked { id } => {
                    let changed = self.cancel.execute([Unsigned(id.0)]);
                    live(*id, changed.during("mark a cancellation")?)?;
                }
                Change::SessionOpened(session) => self.open_session(session).during("record a session")?,
                Change::SessionClosed { id } => {
                    self.close_session
                        .execute([Unsigned(id.0)])
                        .during("end a session")?;
                }
            }
        }
        Ok(inserts)
    }

    fn insert(&mut self, record: &JobRecord, due: Wall) -> rusqlite::Result<InsertOutcome> {
        let name = self.names.id_or_new(self.db, &record.name)?;
        let policy = &record.policy;
        let inserted = self.insert_job.execute(params![
            Unsigned(record.id.0),
            UuidBytes(record.uuid),
            name,
            Code(record.priority),
            record.created.0,
            record.username.as_ref().map(|username| username.as_str()),
            policy.max_attempts,
            policy.timeout.map(Micros),
            policy.backoff.map(|backoff| Unsigned(backoff.base)),
            policy.backoff.map(|backoff| backoff.exponent),
            policy.backoff.map(|backoff| Unsigned(backoff.max)),
            record.retry_of.map(|id| Unsigned(id.0)),
            &record.params[..],
        ])?;
        if inserted == 0 {
            return self.known(record, name);
        }
        self.insert_live.execute(params![
            Unsigned(record.id.0),
            name,
            Code(record.priority),
            due.0,
            Unsigned(record.params.len() as u64),
        ])?;
        Ok(InsertOutcome::Inserted)
    }

    /// The job that has the record's uuid.
    fn known(&mut self, record: &JobRecord, name: i64) -> rusqlite::Result<InsertOutcome> {
        self.known.query_row([UuidBytes(record.uuid)], |row| {
            let id = JobId(row.get::<_, Unsigned>(0)?.0);
            let same = row.get::<_, i64>(1)? == name && row.get_ref(2)?.as_blob()? == &record.params[..];
            Ok(if same {
                InsertOutcome::Existing(id)
            } else {
                InsertOutcome::Conflict(id)
            })
        })
    }

    fn lease(&mut self, leased: &Leased) -> rusqlite::Result<usize> {
        self.lease.execute(params![
            Unsigned(leased.id.0),
            Unsigned(leased.session.0),
            Unsigned(leased.fence.epoch),
            Unsigned(leased.fence.seq),
            leased.started,
            leased.at.0,
        ])
    }

    fn requeue(&mut self, requeued: &Requeued) -> rusqlite::Result<usize> {
        self.record_run(
            requeued.id,
            requeued.fence,
            requeued.end,
            requeued.at,
            requeued.reason.as_deref(),
        )?;
        self.requeue.execute(params![
            Unsigned(requeued.id.0),
            requeued.due.0,
            requeued.attempts,
            requeued.charges,
            Unsigned(requeued.fence.epoch),
            Unsigned(requeued.fence.seq),
            Code(requeued.end),
        ])
    }

    fn end(&mut self, ended: &Ended) -> rusqlite::Result<usize> {
        let reason = ended.reason.as_deref();
        if let Some((fence, end)) = ended.run {
            self.record_run(ended.id, fence, end, ended.at, reason)?;
        }
        self.insert_done.execute(params![
            Unsigned(ended.id.0),
            Code(ended.status),
            ended.at.0,
            ended.started.map(|at| at.0),
            ended.ran.map(Micros),
            ended.attempts,
            ended.charges,
            ended.run.map(|(fence, _)| Unsigned(fence.epoch)),
            ended.run.map(|(fence, _)| Unsigned(fence.seq)),
            ended.run.map(|(_, end)| Code(end)),
            reason,
            ended.result.as_deref(),
        ])?;
        self.count(&ended.name, ended.status)?;
        self.delete_live.execute([Unsigned(ended.id.0)])
    }

    fn record_run(
        &mut self,
        job: JobId,
        fence: Fence,
        end: RunEnd,
        at: Wall,
        reason: Option<&str>,
    ) -> rusqlite::Result<()> {
        if end.is_history() {
            self.insert_run.execute(params![
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

    fn count(&mut self, name: &Arc<JobName>, status: Status) -> rusqlite::Result<()> {
        let name = self.names.id_or_new(self.db, name)?;
        let [completed, failed, cancelled] = self.ended.entry(name).or_default();
        match status {
            Status::Completed => *completed += 1,
            Status::Failed => *failed += 1,
            _ => *cancelled += 1,
        }
        Ok(())
    }

    fn write_totals(&mut self) -> rusqlite::Result<()> {
        for (name, [completed, failed, cancelled]) in std::mem::take(&mut self.ended) {
            self.add_totals
                .execute(params![name, completed, failed, cancelled])?;
        }
        Ok(())
    }

    fn open_session(&mut self, session: &SessionRecord) -> rusqlite::Result<()> {
        let names: Vec<&str> = session.names.iter().map(|name| name.as_str()).collect();
        self.open_session.execute(params![
            Unsigned(session.id.0),
            session.label,
            &session.secret_hash[..],
            names.join(","),
            Micros(session.ttl),
        ])?;
        Ok(())
    }
}

/// Whether a change found its job live.
fn live(id: JobId, changed: usize) -> Result<(), StoreError> {
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::not_live(id))
    }
}
