//! How records go, some at a time, and how the file gets smaller.
//!
//! A step is a transaction of a few milliseconds between two of the writer's. It is not synced by itself: if it is
//! lost it is done again, and whatever is synced later has it synced before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jobq_proto::Status;
use rusqlite::{Connection, Statement, params};

use super::blocks::Blocks;
use super::live::{BLOCK, LiveIds};
use super::values::{Code, Unsigned};
use crate::store::{ByEnd, Count, Prune};
use crate::time::Wall;

/// How long a step goes on, give or take one job or a few pages: a commit that comes meanwhile waits for it.
const STEP: Duration = Duration::from_millis(2);

/// How many pages are given back before the time is looked at.
const PAGES: u32 = 8;

/// Pages that stay free for what comes next, as a part of all pages: giving them back and asking for them again would
/// write them twice.
const FREE_PART: u64 = 8;

/// … and at least so many, however small the file.
const FREE_LEAST: u64 = 64;

/// The statements that remove records.
pub(super) struct Pruner<'db> {
    records: Statement<'db>,
    done: Statement<'db>,
    jobs: Statement<'db>,
    runs: Statement<'db>,
    free_pages: Statement<'db>,
    pages: Statement<'db>,
    give_back: Statement<'db>,
}

/// A step under way.
struct Stepping<'a, 'db> {
    blocks: &'a mut Blocks<'db>,
    live: &'a LiveIds<'db>,
    prune: &'a Prune,
    begun: Instant,
    /// How many records went, by the number of their name.
    gone: BTreeMap<i64, ByEnd<u64>>,
}

impl Stepping<'_, '_> {
    fn is_over(&self) -> bool {
        self.begun.elapsed() >= STEP
    }
}

/// What a step did.
pub(super) struct Step {
    /// How many records went, by the number of their name.
    pub(super) gone: BTreeMap<i64, ByEnd<u64>>,
    /// There is more to do.
    pub(super) more: bool,
}

/// Why a block's records go.
#[derive(Clone, Copy)]
enum Why {
    /// They are too old.
    Age,
    /// There are too many of the status.
    Number(Status, Count),
}

/// A row of `done`.
struct Record {
    id: u64,
    name: i64,
    status: Status,
    ended: Wall,
}

impl<'db> Pruner<'db> {
    pub(super) fn new(db: &'db Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            records: db.prepare(
                "SELECT id, name_id, status, ended FROM done WHERE id BETWEEN ? AND ? ORDER BY id",
            )?,
            done: db.prepare("DELETE FROM done WHERE id = ?")?,
            jobs: db.prepare("DELETE FROM jobs WHERE id = ?")?,
            runs: db.prepare("DELETE FROM runs WHERE job = ?")?,
            free_pages: db.prepare("PRAGMA freelist_count")?,
            pages: db.prepare("PRAGMA page_count")?,
            give_back: db.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?,
        })
    }

    /// Removes records for as long as a step goes on, and gives free pages back if none is left to go.
    pub(super) fn step<'a>(
        &mut self,
        blocks: &'a mut Blocks<'db>,
        live: &'a LiveIds<'db>,
        prune: &'a Prune,
    ) -> rusqlite::Result<Step> {
        let mut step = Stepping {
            blocks,
            live,
            prune,
            begun: Instant::now(),
            gone: BTreeMap::new(),
        };
        let mut is_first = true;
        while let Some((block, why)) = next(step.blocks, prune) {
            if !is_first && step.is_over() {
                let gone = step.gone;
                return Ok(Step { gone, more: true });
            }
            is_first = false;
            self.prune_block(&mut step, block, why)?;
        }
        let more = self.give_pages_back(step.begun)?;
        let gone = step.gone;
        Ok(Step { gone, more })
    }

    /// Removes what is to go of a block, as far as the step allows. The next step reads what is left of the block from
    /// its start and not from where this one ended: jobs may have ended in it meanwhile, and the first ends of those
    /// that stay are to be known however many steps it takes.
    fn prune_block(&mut self, step: &mut Stepping<'_, '_>, block: u64, why: Why) -> rusqlite::Result<()> {
        let first = block.saturating_mul(BLOCK);
        let records: Vec<Record> = self
            .records
            .query_map([Unsigned(first), Unsigned(first + BLOCK - 1)], record)?
            .collect::<rusqlite::Result<_>>()?;
        let mut excess = match why {
            Why::Age => 0,
            Why::Number(status, count) => step.blocks.totals().of(status).saturating_sub(count.most),
        };
        let mut gone_here = ByEnd::<u64>::default();
        let mut left = ByEnd::<Option<Wall>>::default();
        let mut is_over = false;
        for record in records {
            let goes = match why {
                Why::Age => record.ended < *step.prune.before.of(record.status),
                Why::Number(status, count) => {
                    record.status == status && excess > 0 && record.ended < count.before
                }
            };
            if goes && !is_over {
                let id = Unsigned(record.id);
                self.runs.execute([id])?;
                self.done.execute([id])?;
                self.jobs.execute([id])?;
                excess = excess.saturating_sub(1);
                *gone_here.of_mut(record.status) += 1;
                *step.gone.entry(record.name).or_default().of_mut(record.status) += 1;
                is_over = step.is_over();
            } else {
                let left = left.of_mut(record.status);
                *left = Some(left.map_or(record.ended, |at| at.min(record.ended)));
            }
        }
        step.blocks.pruned(block, gone_here, left);
        if left == ByEnd::default() && !step.live.has_block(block) {
            step.blocks.forget(block)?;
        }
        Ok(())
    }

    /// Gives free pages back until the time is over, or few enough are free; whether there are more to give back. None
    /// are in a database that an operator has made anew without `auto_vacuum`.
    fn give_pages_back(&mut self, begun: Instant) -> rusqlite::Result<bool> {
        let mut before = u64::MAX;
        loop {
            let free = number(&mut self.free_pages)?;
            if free <= FREE_LEAST.max(number(&mut self.pages)? / FREE_PART) || free >= before {
                return Ok(false);
            }
            before = free;
            if begun.elapsed() >= STEP {
                return Ok(true);
            }
            let mut rows = self.give_back.query(params![])?;
            while rows.next()?.is_some() {}
        }
    }
}

/// The next block with records that are to go, and why: those that are too old come first.
fn next(blocks: &Blocks<'_>, prune: &Prune) -> Option<(u64, Why)> {
    for status in ByEnd::STATUSES {
        if let Some((at, block)) = blocks.first_to_end(status)
            && at < *prune.before.of(status)
        {
            return Some((block, Why::Age));
        }
    }
    let count = prune.count?;
    for status in ByEnd::STATUSES {
        if *blocks.totals().of(status) > count.most
            && let Some(block) = blocks.first_by_id(status, count.before)
        {
            return Some((block, Why::Number(status, count)));
        }
    }
    None
}

fn record(row: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        id: row.get::<_, Unsigned>(0)?.0,
        name: row.get(1)?,
        status: row.get::<_, Code<Status>>(2)?.0,
        ended: Wall(row.get(3)?),
    })
}

fn number(pragma: &mut Statement<'_>) -> rusqlite::Result<u64> {
    pragma
        .query_row([], |row| row.get(0))
        .map(|Unsigned(number)| number)
}
