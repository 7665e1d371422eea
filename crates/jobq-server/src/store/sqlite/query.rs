//! Answers for people: which jobs are there, and how they are.
//!
//! A page is found in two steps: the ids that match, newest first, by whichever table or index has the fewest to
//! pass over, and then each job. Ids are looked through in spans, each in a transaction of its own, so that a
//! filter that matches little never keeps the log from being folded.

use jobq_proto::message::JobView;
use jobq_proto::{Priority, Status, job};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::names::Names;
use super::values::{Code, Item, Micros, Unsigned, UuidBytes, fence};
use crate::store::budget::Budget;
use crate::store::{Answer, Filter, Query, Select};

/// How many ids one transaction looks through.
const SPAN: i64 = 10_000;

pub(super) fn answer(db: &Connection, names: &mut Names, query: &Query) -> rusqlite::Result<Answer> {
    match &query.select {
        Select::Ids(ids) => {
            let transaction = db.unchecked_transaction()?;
            let mut views = Views::new(&transaction, names, query)?;
            let mut budget = Budget::new(query.max_bytes, usize::MAX);
            for id in ids {
                // One that SQLite has no room for names no job.
                let id = i64::try_from(id.0).unwrap_or(i64::MAX);
                if !views.take(id, &mut budget)? {
                    break;
                }
            }
            Ok(budget.into_answer())
        }
        Select::Uuids(uuids) => {
            let transaction = db.unchecked_transaction()?;
            let mut find = transaction.prepare_cached("SELECT id FROM jobs WHERE uuid = ?")?;
            let mut views = Views::new(&transaction, names, query)?;
            let mut budget = Budget::new(query.max_bytes, usize::MAX);
            for uuid in uuids {
                let id = find.query_row([UuidBytes(*uuid)], |row| row.get(0)).optional()?;
                if let Some(id) = id
                    && !views.take(id, &mut budget)?
                {
                    break;
                }
            }
            Ok(budget.into_answer())
        }
        Select::Page(filter) => page(db, names, query, filter),
    }
}

fn page(db: &Connection, names: &mut Names, query: &Query, filter: &Filter) -> rusqlite::Result<Answer> {
    let mut budget = Budget::new(query.max_bytes, filter.limit);
    let name = match &filter.name {
        None => None,
        Some(name) => match names.id(db, name)? {
            None => return Ok(budget.into_answer()),
            id => id,
        },
    };
    let Some((source, matches)) = source(filter) else {
        return Ok(budget.into_answer());
    };
    let find = format!(
        "SELECT t.id FROM {source} AND t.id > ?1 AND t.id < ?2 AND {matches} \
         AND (?3 IS NULL OR t.name_id = ?3) AND ?4 IS ?4 AND ?5 IS ?5 ORDER BY t.id DESC LIMIT ?6"
    );
    let newest = format!("SELECT t.id FROM {source} AND t.id < ?2 ORDER BY t.id DESC LIMIT ?6");
    let username = filter.username.as_ref().map(|username| username.as_str());
    let ids = |db: &Connection, sql: &str, after: i64, before: i64, limit: usize| {
        let bound = params![after, before, name, username, query.now.0, Unsigned(limit as u64)];
        db.prepare_cached(sql)?
            .query_map(bound, |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()
    };
    let mut before = i64::try_from(filter.before.map_or(u64::MAX, |id| id.0)).unwrap_or(i64::MAX);
    while budget.wanted() > 0 {
        let transaction = db.unchecked_transaction()?;
        let Some(last) = ids(&transaction, &newest, 0, before, 1)?.pop() else {
            break;
        };
        let after = last.saturating_sub(SPAN);
        let found = ids(&transaction, &find, after, before, budget.wanted())?;
        let mut views = Views::new(&transaction, names, query)?;
        for id in found {
            if !views.take(id, &mut budget)? {
                break;
            }
        }
        before = after.saturating_add(1);
    }
    Ok(budget.into_answer())
}

/// The table or index to look through, and what is left to check of each row; nothing if nothing can match. `?4` is
/// the username, and `?5` the time that tells scheduled jobs from queued ones.
fn source(filter: &Filter) -> Option<(&'static str, String)> {
    let status = match filter.status {
        None => None,
        Some(Status::Completed) => Some(("done", "status = 0")),
        Some(Status::Failed) => Some(("done", "status = 1")),
        Some(Status::Cancelled) => Some(("done", "status = 2")),
        Some(Status::Processing) => Some(("live", "lease_session IS NOT NULL")),
        Some(Status::Scheduled) => Some(("live", "lease_session IS NULL AND due > ?5")),
        Some(Status::Queued) => Some(("live", "lease_session IS NULL AND due <= ?5")),
        Some(_) => return None,
    };
    Some(match (status, filter.status) {
        (Some((table, check)), _) if filter.username.is_some() => (
            BY_USERNAME,
            format!("EXISTS (SELECT 1 FROM {table} s WHERE s.id = t.id AND s.{check})"),
        ),
        (None, _) if filter.username.is_some() => (BY_USERNAME, "TRUE".to_owned()),
        (None, _) => ("jobs t WHERE TRUE", "TRUE".to_owned()),
        // The partial indexes are named, since the planner has no statistics to choose them by.
        (_, Some(Status::Failed)) => (
            "done t INDEXED BY done_badly WHERE t.status <> 0 AND t.status = 1",
            "TRUE".to_owned(),
        ),
        (_, Some(Status::Cancelled)) => (
            "done t INDEXED BY done_badly WHERE t.status <> 0 AND t.status = 2",
            "TRUE".to_owned(),
        ),
        (_, Some(Status::Processing)) => (
            "live t INDEXED BY live_leased WHERE t.lease_session IS NOT NULL",
            "TRUE".to_owned(),
        ),
        (Some(("done", check)), _) => ("done t WHERE TRUE", format!("t.{check}")),
        (Some((_, check)), _) => ("live t WHERE TRUE", format!("t.{check}")),
    })
}

/// Jobs of one username.
const BY_USERNAME: &str = "jobs t INDEXED BY jobs_by_username WHERE t.username = ?4";

/// Makes views of jobs.
struct Views<'a> {
    db: &'a Connection,
    names: &'a mut Names,
    query: &'a Query,
    job: CachedStatement<'a>,
    last_reason: CachedStatement<'a>,
}

impl<'a> Views<'a> {
    fn new(db: &'a Connection, names: &'a mut Names, query: &'a Query) -> rusqlite::Result<Self> {
        Ok(Self {
            db,
            names,
            query,
            job: db.prepare_cached(
                "SELECT j.id, j.uuid, j.name_id, j.username, j.priority, j.created, j.max_attempts, \
                 j.retry_of, length(j.params), CASE WHEN ?2 THEN j.params END, \
                 l.due, l.attempts, l.charges, l.cancelling, l.lease_at, l.lease_epoch, l.lease_seq, \
                 l.floor_epoch, l.floor_seq, \
                 d.due, d.attempts, d.charges, d.status, d.started, d.ended, d.ran, d.epoch, d.seq, d.reason, \
                 CASE WHEN ?3 THEN d.result END \
                 FROM jobs j LEFT JOIN live l ON l.id = j.id LEFT JOIN done d ON d.id = j.id WHERE j.id = ?1",
            )?,
            last_reason: db.prepare_cached(
                "SELECT reason FROM runs WHERE job = ? AND reason IS NOT NULL \
                 ORDER BY epoch DESC, seq DESC LIMIT 1",
            )?,
        })
    }

    /// Puts the job into the budget, if it exists; false if the budget has no room for it.
    fn take(&mut self, id: i64, budget: &mut Budget) -> rusqlite::Result<bool> {
        let mut rows = self
            .job
            .query(params![id, self.query.params, self.query.result])?;
        let Some(row) = rows.next()? else {
            return Ok(true);
        };
        let mut view = asked_for(row, self.names, self.db, self.query)?;
        if row.get::<_, Option<i64>>(10)?.is_some() {
            live(row, &mut view, self.query)?;
            view.reason = self.last_reason.query_row([id], |row| row.get(0)).optional()?;
        } else {
            ended(row, &mut view)?;
        }
        Ok(budget.take(view))
    }
}

/// The job as it was asked for.
fn asked_for(row: &Row<'_>, names: &mut Names, db: &Connection, query: &Query) -> rusqlite::Result<JobView> {
    let created = row.get(5)?;
    Ok(JobView {
        id: row.get::<_, Unsigned>(0)?.0,
        uuid: row.get::<_, UuidBytes>(1)?.0,
        name: names.by_id(db, row.get(2)?)?.as_str().to_owned(),
        username: row.get(3)?,
        priority: row.get::<_, Code<Priority>>(4)?.0.as_str().to_owned(),
        status: Status::Queued,
        created,
        due: created,
        started: None,
        ended: None,
        ran: None,
        attempts: 0,
        max_attempts: row.get::<_, Option<u32>>(6)?.unwrap_or(query.max_attempts),
        charges: 0,
        fence: None,
        cancelling: false,
        reason: None,
        retry_of: row.get::<_, Option<Unsigned>>(7)?.map(|id| id.0),
        params_bytes: row.get::<_, Unsigned>(8)?.0,
        params: row.get::<_, Option<Item>>(9)?.map(|item| item.0),
        result: None,
    })
}

fn live(row: &Row<'_>, view: &mut JobView, query: &Query) -> rusqlite::Result<()> {
    view.due = row.get(10)?;
    view.attempts = row.get(11)?;
    view.charges = row.get(12)?;
    view.cancelling = row.get(13)?;
    view.started = row.get(14)?;
    let lease = fence(row, 15)?;
    view.status = match lease {
        Some(_) => Status::Processing,
        None if view.due > query.now.0 => Status::Scheduled,
        None => Status::Queued,
    };
    view.fence = lease.or(fence(row, 17)?);
    Ok(())
}

fn ended(row: &Row<'_>, view: &mut JobView) -> rusqlite::Result<()> {
    view.due = row.get(19)?;
    view.attempts = row.get(20)?;
    view.charges = row.get(21)?;
    view.status = row.get::<_, Code<Status>>(22)?.0;
    view.started = row.get(23)?;
    view.ended = row.get(24)?;
    view.ran = row.get::<_, Option<Micros>>(25)?.map(|ran| job::micros(ran.0));
    view.fence = fence(row, 26)?;
    view.reason = row.get(28)?;
    view.result = row.get::<_, Option<Item>>(29)?.map(|item| item.0);
    Ok(())
}
