//! What the server needs to know at its start.

use std::sync::Arc;

use jobq_proto::{JobId, JobName};
use rusqlite::{Connection, Row};
use uuid::Uuid;

use super::values::{Code, During, Micros, Unsigned, UuidBytes, fence, policy, wrong};
use crate::store::{Lease, LiveJob, NameTotals, Recovered, SessionId, SessionRecord, StoreError};
use crate::time::Wall;

/// Begins a new life: raises the epoch, durably, to more than it was and to at least `least_epoch`, and reads the
/// rest.
pub(super) fn recover(db: &Connection, least_epoch: u64) -> Result<Recovered, StoreError> {
    db.execute(
        "UPDATE meta SET epoch = max(epoch + 1, ?)",
        [Unsigned(least_epoch)],
    )
    .during("raise its epoch")?;
    read_recovered(db).during("be read")
}

/// Begins a new life as another store: it is new, or was restored from a copy, or is one whose loss was accepted. No
/// session of the old one goes on with it, under fences and ids that both may have given away.
pub(super) fn recover_as(db: &Connection, identity: Uuid, least_epoch: u64) -> Result<Recovered, StoreError> {
    db.execute("UPDATE meta SET identity = ?", [UuidBytes(identity)])
        .during("get its identity")?;
    recover(db, least_epoch)
}

/// Whether no server has ever had this database.
pub(super) fn is_new(db: &Connection) -> Result<bool, StoreError> {
    db.query_row("SELECT epoch = 0 FROM meta", [], |row| row.get(0))
        .during("be read")
}

/// The number of the last batch that was applied.
pub(super) fn last_batch(db: &Connection) -> Result<u64, StoreError> {
    db.query_row("SELECT last_batch FROM meta", [], |row| row.get(0))
        .map(|Unsigned(number)| number)
        .during("be read")
}

fn read_recovered(db: &Connection) -> rusqlite::Result<Recovered> {
    let names = db
        .prepare("SELECT name, completed, failed, cancelled FROM name_totals ORDER BY name")?
        .query_map([], |row| {
            Ok(NameTotals {
                name: job_name(row, 0)?,
                completed: row.get::<_, Unsigned>(1)?.0,
                failed: row.get::<_, Unsigned>(2)?.0,
                cancelled: row.get::<_, Unsigned>(3)?.0,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let sessions = db
        .prepare("SELECT id, label, secret_hash, names, ttl FROM sessions ORDER BY id")?
        .query_map([], session)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    db.query_row(
        "SELECT identity, epoch, last_batch, next_id, clock FROM meta",
        [],
        |row| {
            Ok(Recovered {
                identity: row.get::<_, UuidBytes>(0)?.0,
                epoch: row.get::<_, Unsigned>(1)?.0,
                last_batch: row.get::<_, Unsigned>(2)?.0,
                next_id: JobId(row.get::<_, Unsigned>(3)?.0),
                clock: Wall(row.get(4)?),
                names,
                sessions,
            })
        },
    )
}

fn session(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    let names: String = row.get(3)?;
    Ok(SessionRecord {
        id: SessionId(row.get::<_, Unsigned>(0)?.0),
        label: row.get(1)?,
        secret_hash: row.get(2)?,
        names: names
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| checked_name(name, 3))
            .collect::<rusqlite::Result<_>>()?,
        ttl: row.get::<_, Micros>(4)?.0,
    })
}

/// The name in the column `at`.
pub(super) fn job_name(row: &Row<'_>, at: usize) -> rusqlite::Result<Arc<JobName>> {
    checked_name(row.get_ref(at)?.as_str()?, at)
}

fn checked_name(name: &str, at: usize) -> rusqlite::Result<Arc<JobName>> {
    name.parse().map(Arc::new).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(wrong(error)))
    })
}

/// The columns of a live job, for [`live_job`], from [`LIVE_TABLES`].
pub(super) const LIVE_COLUMNS: &str = "j.id, j.name_id, j.priority, coalesce(l.due, j.due, j.created), \
     length(j.params), coalesce(l.attempts, 0), coalesce(l.charges, 0), coalesce(l.cancelling, 0), \
     l.lease_session, l.lease_epoch, l.lease_seq, l.lease_started, l.lease_at, \
     l.floor_epoch, l.floor_seq, l.floor_end, \
     j.max_attempts, j.timeout, j.backoff_base, j.backoff_exponent, j.backoff_max, j.created";

/// Where [`LIVE_COLUMNS`] come from.
pub(super) const LIVE_TABLES: &str = "jobs j LEFT JOIN live l ON l.id = j.id";

/// Where [`LIVE_COLUMNS`] has the floor.
pub(super) const FLOOR_AT: usize = 13;

/// Where [`LIVE_COLUMNS`] has the policy.
pub(super) const POLICY_AT: usize = 16;

/// Where [`LIVE_COLUMNS`] has the time of arrival.
const CREATED_AT: usize = 21;

/// How many columns [`LIVE_COLUMNS`] has.
pub(super) const LIVE_WIDTH: usize = CREATED_AT + 1;

/// A live job from [`LIVE_COLUMNS`].
pub(super) fn live_job(row: &Row<'_>, name: Arc<JobName>) -> rusqlite::Result<LiveJob> {
    let lease = match (row.get(8)?, fence(row, 9)?) {
        (Some(Unsigned(session)), Some(fence)) => Some(Lease {
            fence,
            session: SessionId(session),
            started: row.get(11)?,
            at: Wall(row.get(12)?),
            policy: policy(row, POLICY_AT)?,
        }),
        _ => None,
    };
    Ok(LiveJob {
        id: JobId(row.get::<_, Unsigned>(0)?.0),
        name,
        priority: row.get::<_, Code<_>>(2)?.0,
        created: Wall(row.get(CREATED_AT)?),
        due: Wall(row.get(3)?),
        params_bytes: row.get::<_, Unsigned>(4)?.0,
        attempts: row.get(5)?,
        charges: row.get(6)?,
        cancelling: row.get(7)?,
        lease,
    })
}
