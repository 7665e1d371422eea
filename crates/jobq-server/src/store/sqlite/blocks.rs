//! What is known of 1,024 ids at a time, in the table `blocks`: which names their jobs have, and since when records of
//! ended ones are there.
//!
//! A row changes when a name or a status is the first of its kind in its block, so it costs next to nothing to keep,
//! and listings and the removal of old records pass over whatever does not concern them.

use std::collections::{BTreeMap, BTreeSet};

use jobq_proto::{JobId, Status};
use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::live::{BLOCK, Bits};
use super::values::Unsigned;
use crate::store::ByEnd;
use crate::time::Wall;

/// Whether a block may have jobs of the name of this number. Numbers that are 1,024 apart share a bit.
pub(super) fn has_name(names: &Bits, name: i64) -> bool {
    names.has(place_of(name))
}

/// Notes that there may be jobs of the name of this number.
pub(super) fn set_name(names: &mut Bits, name: i64) {
    names.set(place_of(name), true);
}

fn place_of(name: i64) -> u64 {
    name.unsigned_abs() % BLOCK
}

/// When the first of a block's ended jobs ended that have records, by status.
type Ends = ByEnd<Option<Wall>>;

/// A row of `blocks`, or what it should be.
pub(super) struct Summary {
    names: Bits,
    ends: Ends,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            names: Bits::NONE,
            ends: Ends::default(),
        }
    }
}

impl Summary {
    /// All rows.
    pub(super) fn read(db: &Connection) -> rusqlite::Result<BTreeMap<u64, Self>> {
        let mut read = db.prepare("SELECT block, completed, failed, cancelled, names FROM blocks")?;
        let rows = read.query_map([], |row| {
            let summary = Self {
                names: row.get(4)?,
                ends: ends(row)?,
            };
            Ok((row.get::<_, Unsigned>(0)?.0, summary))
        });
        rows?.collect()
    }

    /// It has a job of the name of this number.
    pub(super) fn arrived(&mut self, name: i64) {
        self.names.set(place_of(name), true);
    }

    /// A job of it ended.
    pub(super) fn ended(&mut self, status: Status, at: Wall) {
        let end = self.ends.of_mut(status);
        *end = Some(end.map_or(at, |end| end.min(at)));
    }

    /// Whether it says that jobs have ended.
    pub(super) fn has_ends(&self) -> bool {
        self.ends != Ends::default()
    }

    /// What it does not say, or says wrongly, where this is so. That it has names which it had once is not wrong.
    pub(super) fn wrong_for(&self, so: &Self) -> Vec<&'static str> {
        let mut wrong = Vec::new();
        if so.names.places().any(|place| !self.names.has(place)) {
            wrong.push("which names they have");
        }
        let of = [
            "when the first of them completed",
            "when the first of them failed",
            "when the first of them was cancelled",
        ];
        let differ = self.ends.values().into_iter().zip(so.ends.values());
        wrong.extend(
            differ
                .zip(of)
                .filter(|((kept, so), _)| kept != so)
                .map(|(_, what)| what),
        );
        wrong
    }
}

/// The ends in a row of `blocks`, whose first column is the block.
fn ends(row: &rusqlite::Row<'_>) -> rusqlite::Result<Ends> {
    let end = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(Wall));
    Ok(Ends {
        completed: end(1)?,
        failed: end(2)?,
        cancelled: end(3)?,
    })
}

/// The blocks of a store, as its writer knows them: some 100 bytes for each 1,024 records.
pub(super) struct Blocks<'db> {
    ends: BTreeMap<u64, Ends>,
    /// The same, to find the earliest.
    by_end: ByEnd<BTreeSet<(Wall, u64)>>,
    /// How many records there are.
    totals: ByEnd<u64>,
    /// The block that jobs arrive in, and its names. Ids rise, so there is one at a time.
    arriving: Option<(u64, Bits)>,
    /// The arriving block's names differ from the table.
    renamed: bool,
    /// Blocks whose ends differ from the table.
    changed: BTreeSet<u64>,
    read_names: Statement<'db>,
    write_names: Statement<'db>,
    write_ends: Statement<'db>,
    clear: Statement<'db>,
}

impl<'db> Blocks<'db> {
    /// Reads them.
    pub(super) fn read(db: &'db Connection) -> rusqlite::Result<Self> {
        let totals = "SELECT coalesce(sum(completed), 0), coalesce(sum(failed), 0), coalesce(sum(cancelled), 0) \
                      FROM name_totals";
        let mut blocks = Self {
            ends: BTreeMap::new(),
            by_end: ByEnd::default(),
            totals: db.query_row(totals, [], |row| {
                Ok(ByEnd {
                    completed: row.get::<_, Unsigned>(0)?.0,
                    failed: row.get::<_, Unsigned>(1)?.0,
                    cancelled: row.get::<_, Unsigned>(2)?.0,
                })
            })?,
            arriving: None,
            renamed: false,
            changed: BTreeSet::new(),
            read_names: db.prepare("SELECT names FROM blocks WHERE block = ?")?,
            write_names: db.prepare(
                "INSERT INTO blocks (block, names) VALUES (?, ?) \
                 ON CONFLICT DO UPDATE SET names = excluded.names",
            )?,
            write_ends: db
                .prepare("UPDATE blocks SET completed = ?2, failed = ?3, cancelled = ?4 WHERE block = ?1")?,
            clear: db.prepare("DELETE FROM blocks WHERE block = ?")?,
        };
        let mut read = db.prepare("SELECT block, completed, failed, cancelled FROM blocks")?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            blocks.set_ends(row.get::<_, Unsigned>(0)?.0, ends(row)?);
        }
        Ok(blocks)
    }

    /// A job of the name of this number arrived.
    pub(super) fn arrived(&mut self, id: JobId, name: i64) -> rusqlite::Result<()> {
        let block = id.0 / BLOCK;
        let names = match &mut self.arriving {
            Some((arriving, names)) if *arriving == block => names,
            _ => {
                self.write_names()?;
                let known = self
                    .read_names
                    .query_row([Unsigned(block)], |row| row.get(0))
                    .optional()?;
                &mut self.arriving.insert((block, known.unwrap_or(Bits::NONE))).1
            }
        };
        if !has_name(names, name) {
            set_name(names, name);
            self.renamed = true;
        }
        Ok(())
    }

    /// A job ended, and there is a record of it from now on.
    pub(super) fn ended(&mut self, id: JobId, status: Status, at: Wall) {
        *self.totals.of_mut(status) += 1;
        let block = id.0 / BLOCK;
        let mut ends = self.ends.get(&block).copied().unwrap_or_default();
        let end = ends.of_mut(status);
        if end.is_none_or(|end| at < end) {
            *end = Some(at);
            self.set_ends(block, ends);
            self.changed.insert(block);
        }
    }

    /// Records of a block are gone, so many by status, and these are the first ends of those that are left.
    pub(super) fn pruned(&mut self, block: u64, gone: ByEnd<u64>, left: Ends) {
        for status in ByEnd::STATUSES {
            let total = self.totals.of_mut(status);
            *total = total.saturating_sub(*gone.of(status));
        }
        self.set_ends(block, left);
        self.changed.insert(block);
    }

    /// Nothing is left of a block: it is forgotten, though jobs may arrive in it again.
    pub(super) fn forget(&mut self, block: u64) -> rusqlite::Result<()> {
        self.set_ends(block, Ends::default());
        self.changed.remove(&block);
        if self.arriving.is_some_and(|(arriving, _)| arriving == block) {
            self.arriving = None;
            self.renamed = false;
        }
        self.clear.execute([Unsigned(block)])?;
        Ok(())
    }

    /// When the first job ended whose record is there.
    pub(super) fn oldest(&self) -> Ends {
        self.by_end.map(|ends| ends.first().map(|(at, _)| *at))
    }

    /// The block with the record that is there longest, and when that job ended.
    pub(super) fn first_to_end(&self, status: Status) -> Option<(Wall, u64)> {
        self.by_end.of(status).first().copied()
    }

    /// The first block by id where a job ended in this status before `before`, and has a record.
    pub(super) fn first_by_id(&self, status: Status, before: Wall) -> Option<u64> {
        let ended = |ends: &Ends| ends.of(status).is_some_and(|at| at < before);
        self.ends
            .iter()
            .find(|(_, ends)| ended(ends))
            .map(|(block, _)| *block)
    }

    /// How many records there are.
    pub(super) fn totals(&self) -> &ByEnd<u64> {
        &self.totals
    }

    /// Writes what has changed into the table, once a transaction.
    pub(super) fn write(&mut self) -> rusqlite::Result<()> {
        self.write_names()?;
        while let Some(block) = self.changed.pop_first() {
            let ends = self.ends.get(&block).copied().unwrap_or_default();
            let [completed, failed, cancelled] = ends.values().map(|end| end.map(|at| at.0));
            self.write_ends
                .execute(params![Unsigned(block), completed, failed, cancelled])?;
        }
        Ok(())
    }

    fn write_names(&mut self) -> rusqlite::Result<()> {
        if let Some((block, names)) = self.arriving.filter(|_| self.renamed) {
            self.write_names
                .execute(params![Unsigned(block), names.as_bytes()])?;
            self.renamed = false;
        }
        Ok(())
    }

    fn set_ends(&mut self, block: u64, ends: Ends) {
        let old = self.ends.insert(block, ends).unwrap_or_default();
        for status in ByEnd::STATUSES {
            let by_end = self.by_end.of_mut(status);
            if old.of(status) != ends.of(status) {
                by_end.extend(ends.of(status).map(|at| (at, block)));
                if let Some(at) = old.of(status) {
                    by_end.remove(&(*at, block));
                }
            }
        }
        if ends == Ends::default() {
            self.ends.remove(&block);
        }
    }
}
