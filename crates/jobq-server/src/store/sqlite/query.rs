//! Answers for people: which jobs are there, and how they are.
//!
//! A page is found in two steps: the ids that match, newest first, by `search`, and then each job.

use std::time::Instant;

use jobq_proto::message::{EndedRun, JobView};
use jobq_proto::{Fence, JobId, Priority, Status, job};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::names::Names;
use super::search::Search;
use super::values::{Code, Item, Micros, Unsigned, UuidBytes, fence};
use crate::store::budget::Budget;
use crate::store::{Answer, Filter, Query, RunEnd, Select};

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
            Ok(budget.into_answer(None))
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
            Ok(budget.into_answer(None))
        }
        Select::Page(filter) => page(db, names, query, filter),
    }
}

fn page(db: &Connection, names: &mut Names, query: &Query, filter: &Filter) -> rusqlite::Result<Answer> {
    let begun = Instant::now();
    let mut budget = Budget::new(query.max_bytes, filter.limit);
    let Some(search) = Search::new(db, names, filter, &query.only, query.now)? else {
        return Ok(budget.into_answer(None));
    };
    let mut before = search.end();
    loop {
        let transaction = db.unchecked_transaction()?;
        let was_full = budget.is_full();
        let Some(span) = search.span(&transaction, before, budget.wanted())? else {
            return Ok(budget.into_answer(None));
        };
        if !span.found.is_empty() {
            let mut views = Views::new(&transaction, names, query)?;
            for id in span.found {
                if !views.take(id, &mut budget)? {
                    break;
                }
            }
        }
        before = span.before;
        // A page that is full is worth no more than a glance at whether there is another.
        if budget.wanted() == 0 || was_full || begun.elapsed() >= query.patience {
            let next = u64::try_from(before).ok().map(JobId);
            return Ok(budget.into_answer(next));
        }
    }
}

/// Makes views of jobs.
struct Views<'a> {
    db: &'a Connection,
    names: &'a mut Names,
    query: &'a Query,
    job: CachedStatement<'a>,
    last_reason: CachedStatement<'a>,
    runs: CachedStatement<'a>,
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
            runs: db.prepare_cached(
                "SELECT epoch, seq, end, at, reason FROM runs WHERE job = ? ORDER BY epoch DESC, seq DESC",
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
        let name = self.names.by_id(self.db, row.get(2)?)?;
        if !self.query.only.match_name(name.as_str()) {
            return Ok(true); // It does not exist for whoever asks.
        }
        let mut view = asked_for(row, self.names, self.db, self.query)?;
        if let Some(Code(status)) = row.get(19)? {
            view.status = status;
            ended(row, &mut view)?;
        } else {
            live(row, &mut view, self.query)?;
            view.reason = self.last_reason.query_row([id], |row| row.get(0)).optional()?;
        }
        if self.query.runs {
            let latest_first = self.runs.query_map([id], past_run)?;
            view.runs = Budget::runs_that_fit(self.query.max_bytes, &view, latest_first)?;
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
        None if view.due > query.now.0 && view.due != view.created => Status::Scheduled,
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

fn past_run(row: &Row<'_>) -> rusqlite::Result<EndedRun> {
    let Unsigned(epoch) = row.get(0)?;
    let Unsigned(seq) = row.get(1)?;
    Ok(EndedRun {
        fence: Fence { epoch, seq },
        end: row.get::<_, Code<RunEnd>>(2)?.0.as_str().to_owned(),
        at: row.get(3)?,
        reason: row.get(4)?,
    })
}
