//! How batches become transactions.

use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Statement, params};

use super::blocks::Blocks;
use super::durability::Durability;
use super::endings::Endings;
use super::inserts::Inserts;
use super::live::LiveIds;
use super::names::Names;
use super::prune::Pruner;
use super::schema::BUSY_TIMEOUT;
use super::totals::Totals;
use super::values::{Code, During, Micros, Unsigned};
use crate::store::{
    Batch, ByEnd, Change, InsertOutcome, Leased, NameTotals, Prune, Pruned, Requeued, SessionRecord,
    StoreError, Stored,
};
use crate::time::Wall;

/// How often a visitor's lock is waited for, each time for as long as a connection waits by itself: five minutes.
const BUSY_TRIES: u32 = 30;

/// The writer's statements, prepared once, and what it remembers between batches.
pub(super) struct Applier<'db> {
    db: &'db Connection,
    names: Names,
    live: LiveIds<'db>,
    blocks: Blocks<'db>,
    totals: Totals<'db>,
    last_batch: u64,
    durability: Arc<Durability>,
    inserts: Inserts<'db>,
    endings: Endings<'db>,
    pruner: Pruner<'db>,
    begin: Statement<'db>,
    commit: Statement<'db>,
    lease: Statement<'db>,
    requeue: Statement<'db>,
    cancel: Statement<'db>,
    open_session: Statement<'db>,
    close_session: Statement<'db>,
    set_meta: Statement<'db>,
}

impl<'db> Applier<'db> {
    /// Prepares the statements. `last_batch` is the number of the last batch that the database has.
    pub(super) fn new(
        db: &'db Connection,
        last_batch: u64,
        durability: Arc<Durability>,
    ) -> rusqlite::Result<Self> {
        // From here on batches are visible up to this one.
        durability.set_visible(last_batch);
        Ok(Self {
            db,
            names: Names::default(),
            live: LiveIds::read(db)?,
            blocks: Blocks::read(db)?,
            totals: Totals::read(db)?,
            last_batch,
            durability,
            inserts: Inserts::new(db)?,
            endings: Endings::new(db)?,
            pruner: Pruner::new(db)?,
            begin: db.prepare("BEGIN IMMEDIATE")?,
            commit: db.prepare("COMMIT")?,
            lease: db.prepare(
                "INSERT INTO live (id, lease_session, lease_epoch, lease_seq, lease_started, lease_at) \
                 VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET lease_session = excluded.lease_session, \
                 lease_epoch = excluded.lease_epoch, lease_seq = excluded.lease_seq, \
                 lease_started = excluded.lease_started, lease_at = excluded.lease_at",
            )?,
            requeue: db.prepare(
                "INSERT INTO live (id, due, attempts, charges, floor_epoch, floor_seq, floor_end) \
                 VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET due = excluded.due, \
                 attempts = excluded.attempts, charges = excluded.charges, floor_epoch = excluded.floor_epoch, \
                 floor_seq = excluded.floor_seq, floor_end = excluded.floor_end, lease_session = NULL, \
                 lease_epoch = NULL, lease_seq = NULL, lease_started = NULL, lease_at = NULL",
            )?,
            cancel: db.prepare(
                "INSERT INTO live (id, cancelling) VALUES (?, 1) ON CONFLICT DO UPDATE SET cancelling = 1",
            )?,
            open_session: db.prepare(
                "INSERT OR REPLACE INTO sessions (id, label, secret_hash, names, ttl) VALUES (?, ?, ?, ?, ?)",
            )?,
            close_session: db.prepare("DELETE FROM sessions WHERE id = ?")?,
            set_meta: db.prepare("UPDATE meta SET last_batch = ?, next_id = ?, clock = ?")?,
        })
    }

    /// The number of the last batch that was applied.
    pub(super) fn last_batch(&self) -> u64 {
        self.last_batch
    }

    /// Applies batches in one transaction, which is in the log then and not synced; without their new jobs where there is
    /// no room for those. After an error the applier must not be used again.
    pub(super) fn apply(&mut self, batches: &[Batch], takes_jobs: bool) -> Result<Vec<Stored>, StoreError> {
        self.begin()?;
        let mut stored = Vec::with_capacity(batches.len());
        for batch in batches {
            if batch.number != self.last_batch + 1 {
                return Err(StoreError::out_of_order(batch.number, self.last_batch));
            }
            self.last_batch = batch.number;
            let mut inserts = Vec::new();
            // Changes of one kind that follow each other go together.
            for run in batch.changes.chunk_by(|a, b| discriminant(a) == discriminant(b)) {
                self.changes(run, takes_jobs, &mut inserts)?;
            }
            stored.push(Stored {
                number: batch.number,
                inserts,
            });
        }
        self.totals.write().during("count ended jobs")?;
        self.live.write().during("write which jobs are live")?;
        self.blocks.write().during("sum up its jobs")?;
        if let Some(last) = batches.last() {
            let meta = params![Unsigned(last.number), Unsigned(last.next_id.0), last.clock.0];
            self.set_meta.execute(meta).during("write its state")?;
        }
        self.durability.set_visible(self.last_batch);
        self.commit.execute([]).during("commit")?;
        Ok(stored)
    }

    /// Removes some of the records that are to go; none while a visitor has the lock, since that can wait and commits
    /// cannot. It is durable with whatever is applied next. After an error the applier must not be used again.
    pub(super) fn prune(&mut self, prune: &Prune) -> Result<Pruned, StoreError> {
        if !self.begin_at_once()? {
            return Ok(Pruned {
                gone: Vec::new(),
                oldest: self.blocks.oldest(),
                more: false,
            });
        }
        let step = self.pruner.step(&mut self.blocks, &self.live, prune);
        let step = step.during("remove records")?;
        let mut gone = Vec::with_capacity(step.gone.len());
        for (name, by_end) in step.gone {
            self.totals.gone(name, &by_end);
            gone.push(NameTotals {
                name: self.names.by_id(self.db, name).during("find a name")?,
                completed: by_end.completed,
                failed: by_end.failed,
                cancelled: by_end.cancelled,
            });
        }
        self.totals.write().during("count ended jobs")?;
        self.blocks.write().during("sum up its jobs")?;
        self.commit.execute([]).during("commit")?;
        Ok(Pruned {
            gone,
            oldest: self.blocks.oldest(),
            more: step.more,
        })
    }

    /// When the first jobs ended whose records are there.
    pub(super) fn oldest(&self) -> ByEnd<Option<Wall>> {
        self.blocks.oldest()
    }

    /// Begins the transaction. A visitor's lock, such as that of a shell that writes, is waited out: nothing has
    /// been changed, and nothing is lost but time.
    fn begin(&mut self) -> Result<(), StoreError> {
        for _ in 1..BUSY_TRIES {
            match self.begin.execute([]) {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    tracing::warn!(
                        "another program keeps the database locked; nothing is acknowledged until it ends"
                    );
                }
                begun => return begun.map(drop).during("begin a transaction"),
            }
        }
        self.begin.execute([]).map(drop).during("begin a transaction")
    }

    /// Begins the transaction, unless a visitor has the lock.
    fn begin_at_once(&mut self) -> Result<bool, StoreError> {
        self.db
            .busy_timeout(Duration::ZERO)
            .during("be set up to remove records")?;
        let begun = self.begin.execute([]);
        self.db
            .busy_timeout(BUSY_TIMEOUT)
            .during("be set up to keep jobs")?;
        match begun {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
            begun => begun.map(|_| true).during("begin a transaction"),
        }
    }

    /// Applies changes of one kind.
    fn changes(
        &mut self,
        changes: &[Change],
        takes_jobs: bool,
        inserts: &mut Vec<InsertOutcome>,
    ) -> Result<(), StoreError> {
        match changes {
            [] => return Ok(()),
            [Change::Insert { .. }, ..] if takes_jobs => {
                let Self {
                    inserts: statements,
                    names,
                    live,
                    blocks,
                    ..
                } = self;
                return statements
                    .insert(self.db, names, live, blocks, changes, inserts)
                    .during("insert jobs");
            }
            [Change::Insert { .. } | Change::Find { .. }, ..] => {
                return self
                    .inserts
                    .find(self.db, &mut self.names, changes, inserts)
                    .during("look for jobs");
            }
            [Change::Ended(_), ..] => {
                let Self {
                    endings,
                    names,
                    live,
                    blocks,
                    totals,
                    ..
                } = self;
                return endings.end(self.db, names, live, blocks, totals, changes);
            }
            _ => {}
        }
        for change in changes {
            match change {
                Change::Leased(leased) => {
                    self.live.touch(leased.id)?;
                    self.lease(leased).during("record a lease")?;
                }
                Change::Requeued(requeued) => {
                    self.live.touch(requeued.id)?;
                    self.requeue(requeued).during("requeue a job")?;
                }
                Change::CancelMarked { id } => {
                    self.live.touch(*id)?;
                    let marked = self.cancel.execute([Unsigned(id.0)]);
                    marked.during("mark a cancellation")?;
                }
                Change::SessionOpened(session) => {
                    self.open_session(session).during("record a session")?;
                }
                Change::SessionClosed { id } => {
                    let closed = self.close_session.execute([Unsigned(id.0)]);
                    closed.during("end a session")?;
                }
                // Handled together above.
                Change::Insert { .. } | Change::Find { .. } | Change::Ended(_) => {}
            }
        }
        Ok(())
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
        self.endings.record_run(
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
