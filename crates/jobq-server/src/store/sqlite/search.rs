//! Which jobs match a filter, newest first.
//!
//! Ids are looked through in spans, each in a transaction of its own, so that a filter that matches little never keeps
//! the log from being folded. Within a span they come from the tables or indexes with the fewest to pass over, and
//! blocks of ids in which nothing can match are passed over whole, by what `blocks` and `live_ids` say of them.

use std::sync::Arc;

use jobq_proto::Status;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::blocks::{has_name, set_name};
use super::live::{BLOCK, Bits};
use super::names::Names;
use super::values::Unsigned;
use crate::access::NamePatterns;
use crate::store::Filter;
use crate::time::Wall;

/// How many ids one transaction looks through.
const SPAN: i64 = 10_000;

/// [`BLOCK`] as SQLite counts.
const BLOCK_IDS: i64 = BLOCK as i64;

/// What a page looks for.
pub(super) struct Search<'a> {
    sources: Vec<Source>,
    passed_over: PassedOver,
    name: Option<i64>,
    /// The names that jobs may have, if not all; of none but these.
    only: Option<Only>,
    username: Option<&'a str>,
    reason: Option<&'a str>,
    now: i64,
    /// Earlier ids do not match.
    first: i64,
    /// Nor does this one, nor later ones.
    end: i64,
}

/// What one transaction found.
pub(super) struct Span {
    /// The newest first.
    pub(super) found: Vec<i64>,
    /// The ids that have not been looked at are before this one.
    pub(super) before: i64,
}

/// A table or an index that has every job that can match.
enum Source {
    Rows {
        /// Finds the newest id before `:before`.
        newest: String,
        /// Finds those that match.
        find: String,
    },
    /// The live jobs, by their bits.
    Live {
        /// Finds `:id` if it matches.
        find: String,
    },
}

/// Blocks in which nothing can match.
#[derive(Clone, Copy)]
struct PassedOver {
    /// Those that no job of the search's name is in.
    nameless: bool,
    /// Those where no job ended in the status of this column.
    without: Option<&'static str>,
    /// Those without a live job.
    ended: bool,
}

impl<'a> Search<'a> {
    /// Looks for what matches the filter; none where nothing can.
    pub(super) fn new(
        db: &Connection,
        names: &mut Names,
        filter: &'a Filter,
        only: &NamePatterns,
        now: Wall,
    ) -> rusqlite::Result<Option<Self>> {
        let name = match &filter.name {
            None => None,
            Some(name) => match names.id(db, &Arc::new(name.clone()))? {
                None => return Ok(None),
                Some(_) if !only.match_name(name.as_str()) => return Ok(None),
                id => id,
            },
        };
        // A name that is asked for is one of them.
        let only = match only.are_all() || name.is_some() {
            true => None,
            false => Some(Only::new(db, only)?),
        };
        let transaction = db.unchecked_transaction()?;
        let first = filter.since.map(|since| first_arrival(&transaction, since));
        let end = filter.until.map(|until| first_arrival(&transaction, until));
        let before = i64::try_from(filter.before.map_or(u64::MAX, |id| id.0)).unwrap_or(i64::MAX);
        let search = Self {
            sources: sources(filter, only.is_some()),
            passed_over: PassedOver::by(filter, only.is_some()),
            name,
            only,
            username: filter.username.as_ref().map(|username| username.as_str()),
            reason: filter.reason.as_deref(),
            now: now.0,
            first: first.transpose()?.unwrap_or(0),
            end: end.transpose()?.unwrap_or(i64::MAX).min(before),
        };
        Ok((!search.sources.is_empty()).then_some(search))
    }

    /// Where to begin: the first span is before this id.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Looks through the next ids before `before`, for at most `limit` jobs; none where there are no such ids.
    pub(super) fn span(&self, db: &Connection, before: i64, limit: usize) -> rusqlite::Result<Option<Span>> {
        if before <= self.first {
            return Ok(None);
        }
        let mut newest = None;
        for source in &self.sources {
            newest = newest.max(self.newest(db, source, before)?);
        }
        let Some(newest) = newest else { return Ok(None) };
        let before = newest.saturating_add(1);
        let mut from = before.saturating_sub(SPAN);
        if self.passed_over.is_any() {
            let own = newest / BLOCK_IDS;
            match self.newest_block(db, own)? {
                None => return Ok(None),
                Some(block) if block < own => {
                    let before = (block + 1).saturating_mul(BLOCK_IDS);
                    let found = Vec::new();
                    return Ok(Some(Span { found, before }));
                }
                Some(block) => from = block.saturating_mul(BLOCK_IDS),
            }
        }
        let from = from.max(self.first);
        let mut found = Vec::new();
        for source in &self.sources {
            found.append(&mut self.matching(db, source, from, before, limit)?);
        }
        if self.sources.len() > 1 {
            found.sort_unstable_by(|a, b| b.cmp(a));
            found.dedup();
            found.truncate(limit);
        }
        Ok(Some(Span { found, before: from }))
    }

    /// The newest id before `before` that a source has.
    fn newest(&self, db: &Connection, source: &Source, before: i64) -> rusqlite::Result<Option<i64>> {
        match source {
            Source::Rows { newest, .. } => {
                let found = self.ids(db, newest, &[(":from", &self.first), (":before", &before)])?;
                Ok(found.first().copied())
            }
            Source::Live { .. } => {
                live_block(db, before.saturating_sub(1) / BLOCK_IDS, self.first / BLOCK_IDS)
                    .map(|block| block.map(|block| newest_of(block, before)))
            }
        }
    }

    /// The ids from `from` to `before` that a source has and that match, the newest first.
    fn matching(
        &self,
        db: &Connection,
        source: &Source,
        from: i64,
        before: i64,
        limit: usize,
    ) -> rusqlite::Result<Vec<i64>> {
        let find = match source {
            Source::Live { find } => return self.matching_live(db, find, from, before, limit),
            Source::Rows { find, .. } => find,
        };
        let limit = Unsigned(limit as u64);
        self.ids(
            db,
            find,
            &[(":from", &from), (":before", &before), (":limit", &limit)],
        )
    }

    fn matching_live(
        &self,
        db: &Connection,
        find: &str,
        from: i64,
        before: i64,
        limit: usize,
    ) -> rusqlite::Result<Vec<i64>> {
        let mut blocks = db.prepare_cached(
            "SELECT block, bits FROM live_ids WHERE block BETWEEN ? AND ? ORDER BY block DESC",
        )?;
        let mut rows = blocks.query([from / BLOCK_IDS, before.saturating_sub(1) / BLOCK_IDS])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let block: i64 = row.get(0)?;
            let bits: Bits = row.get(1)?;
            let ids = bits.places().rev().map(|place| block * BLOCK_IDS + place as i64);
            for id in ids.filter(|id| (from..before).contains(id)) {
                found.append(&mut self.ids(db, find, &[(":id", &id)])?);
                if found.len() == limit {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// The ids that a statement gives.
    fn ids(&self, db: &Connection, sql: &str, bounds: &[(&str, &dyn ToSql)]) -> rusqlite::Result<Vec<i64>> {
        let mut statement = db.prepare_cached(sql)?;
        let only = self.only.as_ref().map(|only| only.ids.as_str());
        let own: [(&str, &dyn ToSql); 5] = [
            (":name", &self.name),
            (":only", &only),
            (":username", &self.username),
            (":reason", &self.reason),
            (":now", &self.now),
        ];
        for (name, value) in own.iter().chain(bounds) {
            bind(&mut statement, name, value)?;
        }
        statement.raw_query().mapped(|row: &Row<'_>| row.get(0)).collect()
    }

    /// The newest block, up to the block `last`, that is not to be passed over.
    fn newest_block(&self, db: &Connection, last: i64) -> rusqlite::Result<Option<i64>> {
        let least = self.first / BLOCK_IDS;
        let mut last = last;
        loop {
            let Some(block) = self.summed_up(db, last, least)? else {
                return Ok(None);
            };
            if !self.passed_over.ended {
                return Ok(Some(block));
            }
            match live_block(db, block, least)? {
                Some(live) if live < block => last = live,
                live => return Ok(live),
            }
        }
    }

    /// Whether a block with these names may have a job that is looked for.
    fn may_be_in(&self, names: &Bits) -> bool {
        match (self.name, &self.only) {
            (Some(name), _) => has_name(names, name),
            (None, Some(only)) => names.has_any(&only.bits),
            (None, None) => true,
        }
    }

    /// The newest block from `last` down to `least` whose row in `blocks` says that something may match.
    fn summed_up(&self, db: &Connection, last: i64, least: i64) -> rusqlite::Result<Option<i64>> {
        let PassedOver {
            nameless, without, ..
        } = self.passed_over;
        if !nameless {
            let Some(column) = without else {
                return Ok(Some(last));
            };
            return db
                .prepare_cached(&format!(
                    "SELECT block FROM blocks WHERE block BETWEEN ? AND ? AND {column} IS NOT NULL \
                     ORDER BY block DESC LIMIT 1"
                ))?
                .query_row([least, last], |row| row.get(0))
                .optional();
        }
        let has = without.map_or(String::new(), |column| format!("AND {column} IS NOT NULL"));
        let mut blocks = db.prepare_cached(&format!(
            "SELECT block, names FROM blocks WHERE block BETWEEN ? AND ? {has} ORDER BY block DESC"
        ))?;
        let mut rows = blocks.query([least, last])?;
        while let Some(row) = rows.next()? {
            if self.may_be_in(&row.get(1)?) {
                return row.get(0).map(Some);
            }
        }
        Ok(None)
    }
}

/// The names that jobs may have.
struct Only {
    /// Their numbers, as a list in JSON.
    ids: String,
    /// Their bits in `blocks`.
    bits: Bits,
}

impl Only {
    fn new(db: &Connection, only: &NamePatterns) -> rusqlite::Result<Self> {
        let mut names = db.prepare_cached("SELECT id, name FROM names")?;
        let mut rows = names.query([])?;
        let mut ids = Vec::new();
        let mut bits = Bits::NONE;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            if only.match_name(row.get_ref(1)?.as_str()?) {
                ids.push(id.to_string());
                set_name(&mut bits, id);
            }
        }
        let ids = format!("[{}]", ids.join(","));
        Ok(Self { ids, bits })
    }
}

impl PassedOver {
    fn by(filter: &Filter, only: bool) -> Self {
        let waiting = matches!(filter.status, Some(Status::Queued | Status::Scheduled));
        let ended_as = match filter.status {
            Some(Status::Completed) => Some("completed"),
            Some(Status::Failed) => Some("failed"),
            Some(Status::Cancelled) => Some("cancelled"),
            _ => None,
        };
        Self {
            nameless: filter.name.is_some() || only,
            // Where nothing else is asked for, the source itself has these only.
            without: ended_as.filter(|_| filter.name.is_some() || only || filter.username.is_some()),
            ended: waiting,
        }
    }

    fn is_any(self) -> bool {
        self.nameless || self.ended || self.without.is_some()
    }
}

fn bind(statement: &mut Statement<'_>, name: &str, value: &dyn ToSql) -> rusqlite::Result<()> {
    match statement.parameter_index(name)? {
        Some(index) => statement.raw_bind_parameter(index, value),
        None => Ok(()),
    }
}

/// The newest block from `last` down to `least` that has a live job.
fn live_block(db: &Connection, last: i64, least: i64) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT block FROM live_ids WHERE block BETWEEN ? AND ? ORDER BY block DESC LIMIT 1")?
        .query_row([least, last], |row| row.get(0))
        .optional()
}

/// The newest id of a block that is before `before`, if one is.
fn newest_of(block: i64, before: i64) -> i64 {
    let end = block.saturating_add(1).saturating_mul(BLOCK_IDS);
    end.min(before) - 1
}

/// The first id from which on jobs arrived at this time or later. Since the server's clock of arrivals never goes
/// back, ids are in order of arrival, and halving finds it.
fn first_arrival(db: &Connection, time: Wall) -> rusqlite::Result<i64> {
    let mut next = db.prepare_cached("SELECT id, created FROM jobs WHERE id >= ? ORDER BY id LIMIT 1")?;
    let last: Option<i64> = db.query_row("SELECT max(id) FROM jobs", [], |row| row.get(0))?;
    let (mut low, mut high) = (0, last.map_or(0, |last| last.saturating_add(1)));
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(i64, i64)> = next
            .query_row(params![middle], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            Some((id, created)) if created < time.0 => low = id.saturating_add(1),
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Where to look for what the filter matches; nowhere if nothing can match.
fn sources(filter: &Filter, only: bool) -> Vec<Source> {
    use Status as S;
    let tables = match filter.status {
        Some(S::Processing) => vec![LEASED],
        Some(S::Completed) if filter.reason.is_some() => vec![],
        Some(S::Completed | S::Failed | S::Cancelled | S::Scheduled | S::Queued) | None
            if filter.username.is_some() =>
        {
            vec![BY_USERNAME]
        }
        Some(S::Completed) => vec![DONE],
        Some(S::Failed) => vec![FAILED],
        Some(S::Cancelled) => vec![CANCELLED],
        Some(S::Scheduled | S::Queued) if filter.reason.is_some() => vec![TOUCHED],
        Some(S::Scheduled) => vec![TIMED, TOUCHED],
        Some(S::Queued) => {
            return vec![Source::Live {
                find: format!(
                    "SELECT t.id FROM jobs t WHERE t.id = :id{}",
                    JOBS.conditions(filter, only)
                ),
            }];
        }
        None if filter.reason.is_some() => vec![FAILED, CANCELLED, TOUCHED],
        None => vec![JOBS],
        Some(_) => vec![],
    };
    tables.iter().map(|table| table.source(filter, only)).collect()
}

/// A table, or the part of one that an index has.
struct Table {
    from: &'static str,
    /// The jobs' columns that it has itself.
    columns: &'static [&'static str],
    /// All its jobs are in this status.
    status: Option<Status>,
}

// The partial indexes are named, since the planner has no statistics to choose them by.
const JOBS: Table = Table {
    from: "jobs t WHERE TRUE",
    columns: &["name_id", "username"],
    status: None,
};
const BY_USERNAME: Table = Table {
    from: "jobs t INDEXED BY jobs_by_username WHERE t.username = :username",
    ..JOBS
};
/// Jobs that came with a time to start at.
const TIMED: Table = Table {
    from: "jobs t INDEXED BY jobs_timed WHERE t.due IS NOT NULL",
    ..JOBS
};
/// Live jobs to which something has happened.
const TOUCHED: Table = Table {
    from: "live t WHERE TRUE",
    columns: &[],
    status: None,
};
const LEASED: Table = Table {
    from: "live t INDEXED BY live_leased WHERE t.lease_session IS NOT NULL",
    columns: &[],
    status: Some(Status::Processing),
};
const DONE: Table = Table {
    from: "done t WHERE t.status = 0",
    columns: &["name_id"],
    status: Some(Status::Completed),
};
const FAILED: Table = Table {
    from: "done t INDEXED BY done_badly WHERE t.status <> 0 AND t.status = 1",
    status: Some(Status::Failed),
    ..DONE
};
const CANCELLED: Table = Table {
    from: "done t INDEXED BY done_badly WHERE t.status <> 0 AND t.status = 2",
    status: Some(Status::Cancelled),
    ..DONE
};

impl Table {
    fn source(&self, filter: &Filter, only: bool) -> Source {
        let from = self.from;
        // The table as a whole says where the ids are, lest a status that few have is searched for from end to end.
        let everything = if self.status == Some(Status::Completed) {
            "done t WHERE TRUE"
        } else {
            from
        };
        Source::Rows {
            newest: format!(
                "SELECT t.id FROM {everything} AND t.id >= :from AND t.id < :before ORDER BY t.id DESC LIMIT 1"
            ),
            find: format!(
                "SELECT t.id FROM {from} AND t.id >= :from AND t.id < :before{} ORDER BY t.id DESC LIMIT :limit",
                self.conditions(filter, only)
            ),
        }
    }

    /// What the filter asks of a row beside what all rows have.
    fn conditions(&self, filter: &Filter, only: bool) -> String {
        let mut conditions = String::new();
        let mut and = |condition: &str| {
            conditions.push_str(" AND ");
            conditions.push_str(condition);
        };
        if filter.name.is_some() {
            and(&format!("{} = :name", self.column("name_id")));
        }
        if only {
            and(&format!(
                "{} IN (SELECT value FROM json_each(:only))",
                self.column("name_id")
            ));
        }
        if filter.username.is_some() {
            and(&format!("{} = :username", self.column("username")));
        }
        if let Some(status) = filter.status.filter(|status| self.status != Some(*status)) {
            and(condition(status));
        }
        if filter.reason.is_some() {
            and(&format!("instr({REASON}, :reason) > 0"));
        }
        conditions
    }

    fn column(&self, column: &str) -> String {
        if self.columns.contains(&column) {
            format!("t.{column}")
        } else {
            format!("(SELECT {column} FROM jobs WHERE id = t.id)")
        }
    }
}

/// Whether the job `t.id` is in this status. A job waits if it neither has ended nor runs, and is scheduled as long as
/// its time has not come.
fn condition(status: Status) -> &'static str {
    match status {
        Status::Completed => "EXISTS (SELECT 1 FROM done d WHERE d.id = t.id AND d.status = 0)",
        Status::Failed => "EXISTS (SELECT 1 FROM done d WHERE d.id = t.id AND d.status = 1)",
        Status::Cancelled => "EXISTS (SELECT 1 FROM done d WHERE d.id = t.id AND d.status = 2)",
        Status::Scheduled => {
            "EXISTS (SELECT 1 FROM jobs j LEFT JOIN live l ON l.id = j.id WHERE j.id = t.id \
             AND l.lease_session IS NULL AND nullif(coalesce(l.due, j.due), j.created) > :now) \
             AND NOT EXISTS (SELECT 1 FROM done d WHERE d.id = t.id)"
        }
        Status::Queued => {
            "EXISTS (SELECT 1 FROM jobs j LEFT JOIN live l ON l.id = j.id WHERE j.id = t.id \
             AND l.lease_session IS NULL AND coalesce(nullif(coalesce(l.due, j.due), j.created) <= :now, TRUE)) \
             AND NOT EXISTS (SELECT 1 FROM done d WHERE d.id = t.id)"
        }
        // Its only source has nothing else; and there is no other.
        _ => "TRUE",
    }
}

/// The reason of the job `t.id`: of its end, or, while it is live, of the last of its runs that has one.
const REASON: &str = "iif(EXISTS (SELECT 1 FROM done d WHERE d.id = t.id), \
     (SELECT d.reason FROM done d WHERE d.id = t.id), \
     (SELECT r.reason FROM runs r WHERE r.job = t.id AND r.reason IS NOT NULL \
     ORDER BY r.epoch DESC, r.seq DESC LIMIT 1))";
