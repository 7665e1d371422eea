//! Answers for people: which jobs are there, and how they are.
//!
//! A page is found in two steps: the ids that match, newest first, by whichever table or index has the fewest to
//! pass over, and then each job. Ids are looked through in spans, each in a transaction of its own, so that a
//! filter that matches little never keeps the log from being folded.

use jobq_proto::message::JobView;
use jobq_proto::{Priority, Status, job};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::live::{BLOCK, Bits};
use super::names::Names;
use super::values::{Code, Item, Micros, Unsigned, UuidBytes, fence};
use crate::store::budget::Budget;
use crate::store::{Answer, Filter, Query, Select};

/// How many ids one transaction looks through.
const SPAN: i64 = 10_000;

/// How many blocks of live ids.
const BLOCKS: i64 = SPAN / BLOCK as i64 + 1;

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
    let Some(source) = Source::of(filter) else {
        return Ok(budget.into_answer());
    };
    let search = Search {
        source,
        name,
        username: filter.username.as_ref().map(|username| username.as_str()),
        now: query.now.0,
    };
    let mut before = i64::try_from(filter.before.map_or(u64::MAX, |id| id.0)).unwrap_or(i64::MAX);
    while budget.wanted() > 0 {
        let transaction = db.unchecked_transaction()?;
        let Some(span) = search.span(&transaction, before, budget.wanted())? else {
            break;
        };
        let mut views = Views::new(&transaction, names, query)?;
        for id in span.found {
            if !views.take(id, &mut budget)? {
                break;
            }
        }
        before = span.before;
    }
    Ok(budget.into_answer())
}

/// What a page looks for.
struct Search<'a> {
    source: Source,
    name: Option<i64>,
    username: Option<&'a str>,
    now: i64,
}

/// Where a page looks.
enum Source {
    /// In a table or an index, each of whose rows must match as well.
    Rows { from: &'static str, matches: String },
    /// Among the live jobs that do not run: those whose time has not come, or the others.
    Waiting { scheduled: bool },
}

/// What one transaction found.
struct Span {
    /// The newest first.
    found: Vec<i64>,
    /// The ids that have not been looked at are before this one.
    before: i64,
}

impl Search<'_> {
    /// Looks through the next ids before `before`; none where there are none.
    fn span(&self, db: &Connection, before: i64, limit: usize) -> rusqlite::Result<Option<Span>> {
        match &self.source {
            Source::Rows { from, matches } => self.span_of_rows(db, from, matches, before, limit),
            Source::Waiting { scheduled } => self.span_of_waiting(db, *scheduled, before, limit),
        }
    }

    fn span_of_rows(
        &self,
        db: &Connection,
        from: &str,
        matches: &str,
        before: i64,
        limit: usize,
    ) -> rusqlite::Result<Option<Span>> {
        let ids = |sql: &str, after: i64, limit: usize| {
            let limit = Unsigned(limit as u64);
            let bound = params![after, before, self.name, self.username, self.now, limit];
            db.prepare_cached(sql)?
                .query_map(bound, |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<i64>>>()
        };
        let newest = format!("SELECT t.id FROM {from} AND t.id < ?2 ORDER BY t.id DESC LIMIT ?6");
        let Some(last) = ids(&newest, 0, 1)?.pop() else {
            return Ok(None);
        };
        let after = last.saturating_sub(SPAN);
        let find = format!(
            "SELECT t.id FROM {from} AND t.id > ?1 AND t.id < ?2 AND {matches} \
             AND (?3 IS NULL OR (SELECT name_id FROM jobs WHERE id = t.id) = ?3) AND ?4 IS ?4 AND ?5 IS ?5 \
             ORDER BY t.id DESC LIMIT ?6"
        );
        Ok(Some(Span {
            found: ids(&find, after, limit)?,
            before: after.saturating_add(1),
        }))
    }

    fn span_of_waiting(
        &self,
        db: &Connection,
        scheduled: bool,
        before: i64,
        limit: usize,
    ) -> rusqlite::Result<Option<Span>> {
        let Some(newest) = u64::try_from(before)
            .ok()
            .and_then(|before| before.checked_sub(1))
        else {
            return Ok(None);
        };
        let mut blocks = db.prepare_cached(
            "SELECT block, bits FROM live_ids WHERE block <= ? ORDER BY block DESC LIMIT ?",
        )?;
        let mut matching = db.prepare_cached(
            "SELECT j.id FROM jobs j LEFT JOIN live l ON l.id = j.id WHERE j.id = ?1 \
             AND l.lease_session IS NULL AND (coalesce(l.due, j.due, j.created) > ?2) = ?3 \
             AND (?4 IS NULL OR j.name_id = ?4)",
        )?;
        let mut rows = blocks.query(params![Unsigned(newest / BLOCK), BLOCKS])?;
        let mut found = Vec::new();
        let mut looked_through = None;
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            let first = row.get::<_, Unsigned>(0)?.0.saturating_mul(BLOCK);
            let bits: Bits = row.get(1)?;
            let ids = bits.places().rev().map(|place| first + place);
            for id in ids.filter(|id| *id <= newest) {
                let bound = params![Unsigned(id), self.now, scheduled, self.name];
                found.extend(matching.query_row(bound, |row| row.get::<_, i64>(0)).optional()?);
                if found.len() == limit {
                    break;
                }
            }
            looked_through = Some(first);
        }
        Ok(looked_through.map(|first| Span {
            found,
            before: i64::try_from(first).unwrap_or(i64::MAX),
        }))
    }
}

impl Source {
    /// Where to look for what the filter matches; nowhere if nothing can match. In `matches`, `?4` is the username,
    /// and `?5` the time that tells scheduled jobs from queued ones.
    fn of(filter: &Filter) -> Option<Self> {
        let rows = |from, matches: &str| {
            Some(Self::Rows {
                from,
                matches: matches.to_owned(),
            })
        };
        if filter.username.is_some() {
            let matches = match filter.status {
                None => "TRUE".to_owned(),
                Some(Status::Completed) => ended_as(0),
                Some(Status::Failed) => ended_as(1),
                Some(Status::Cancelled) => ended_as(2),
                Some(Status::Processing) => LEASED.to_owned(),
                Some(Status::Scheduled) => format!("{WAITING} AND {DUE} > ?5"),
                Some(Status::Queued) => format!("{WAITING} AND {DUE} <= ?5"),
                Some(_) => return None,
            };
            return rows(BY_USERNAME, &matches);
        }
        // The partial indexes are named, since the planner has no statistics to choose them by.
        match filter.status {
            None => rows("jobs t WHERE TRUE", "TRUE"),
            Some(Status::Completed) => rows("done t WHERE TRUE", "t.status = 0"),
            Some(Status::Failed) => rows(
                "done t INDEXED BY done_badly WHERE t.status <> 0 AND t.status = 1",
                "TRUE",
            ),
            Some(Status::Cancelled) => rows(
                "done t INDEXED BY done_badly WHERE t.status <> 0 AND t.status = 2",
                "TRUE",
            ),
            Some(Status::Processing) => rows(
                "live t INDEXED BY live_leased WHERE t.lease_session IS NOT NULL",
                "TRUE",
            ),
            Some(Status::Scheduled) => Some(Self::Waiting { scheduled: true }),
            Some(Status::Queued) => Some(Self::Waiting { scheduled: false }),
            Some(_) => None,
        }
    }
}

fn ended_as(status: u8) -> String {
    format!("EXISTS (SELECT 1 FROM done d WHERE d.id = t.id AND d.status = {status})")
}

/// A job that runs.
const LEASED: &str = "EXISTS (SELECT 1 FROM live l WHERE l.id = t.id AND l.lease_session IS NOT NULL)";

/// A job that waits.
const WAITING: &str = "NOT EXISTS (SELECT 1 FROM done d WHERE d.id = t.id) \
     AND NOT EXISTS (SELECT 1 FROM live l WHERE l.id = t.id AND l.lease_session IS NOT NULL)";

/// From when on a waiting job may run.
const DUE: &str = "coalesce((SELECT due FROM live l WHERE l.id = t.id), t.due, t.created)";

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
                 coalesce(l.due, d.due, j.due, j.created), \
                 coalesce(d.attempts, l.attempts, 0), coalesce(d.charges, l.charges, 0), \
                 coalesce(l.cancelling, 0), l.lease_at, l.lease_epoch, l.lease_seq, \
                 l.floor_epoch, l.floor_seq, \
                 d.status, d.started, d.ended, d.ran, d.epoch, d.seq, d.reason, \
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
        if let Some(Code(status)) = row.get(19)? {
            view.status = status;
            ended(row, &mut view)?;
        } else {
            live(row, &mut view, self.query)?;
            view.reason = self.last_reason.query_row([id], |row| row.get(0)).optional()?;
        }
        Ok(budget.take(view))
    }
}

/// The job as it was asked for.
fn asked_for(row: &Row<'_>, names: &mut Names, db: &Connection, query: &Query) -> rusqlite::Result<JobView> {
    Ok(JobView {
        id: row.get::<_, Unsigned>(0)?.0,
        uuid: row.get::<_, UuidBytes>(1)?.0,
        name: names.by_id(db, row.get(2)?)?.as_str().to_owned(),
        username: row.get(3)?,
        priority: row.get::<_, Code<Priority>>(4)?.0.as_str().to_owned(),
        status: Status::Queued,
        created: row.get(5)?,
        due: row.get(10)?,
        started: None,
        ended: None,
        ran: None,
        attempts: row.get(11)?,
        max_attempts: row.get::<_, Option<u32>>(6)?.unwrap_or(query.max_attempts),
        charges: row.get(12)?,
        fence: None,
        cancelling: false,
        reason: None,
        retry_of: row.get::<_, Option<Unsigned>>(7)?.map(|id| id.0),
        params_bytes: row.get::<_, Unsigned>(8)?.0,
        params: row.get::<_, Option<Item>>(9)?.map(|item| item.0),
        result: None,
        progress: None,
        runs: Vec::new(),
    })
}

fn live(row: &Row<'_>, view: &mut JobView, query: &Query) -> rusqlite::Result<()> {
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
    view.started = row.get(20)?;
    view.ended = row.get(21)?;
    view.ran = row.get::<_, Option<Micros>>(22)?.map(|ran| job::micros(ran.0));
    view.fence = fence(row, 23)?;
    view.reason = row.get(25)?;
    view.result = row.get::<_, Option<Item>>(26)?.map(|item| item.0);
    Ok(())
}
