//! How many jobs of each name have ended and have records: kept in the table `totals`, not counted.
//!
//! A row holds the counts of many names. With a row for each, a commit of a thousand jobs of a thousand names would
//! change a thousand rows, which takes half as long as to write down how the jobs ended.

use std::collections::BTreeMap;

use jobq_proto::Status;
use rusqlite::{Connection, Statement, params};

use super::values::Unsigned;
use crate::store::ByEnd;

/// How many names have their counts in one row; the view `name_totals` knows it too.
const BLOCK: i64 = 64;

/// The counts, as the writer knows them.
pub(super) struct Totals<'db> {
    blocks: BTreeMap<i64, Block>,
    /// Blocks that differ from the table, each once.
    changed: Vec<i64>,
    write: Statement<'db>,
}

#[derive(Default)]
struct Block {
    /// Of [`BLOCK`] names, or of none.
    counts: Vec<ByEnd<u64>>,
    is_changed: bool,
}

impl<'db> Totals<'db> {
    /// Reads them.
    pub(super) fn read(db: &'db Connection) -> rusqlite::Result<Self> {
        let mut totals = Self {
            blocks: BTreeMap::new(),
            changed: Vec::new(),
            write: db.prepare("INSERT OR REPLACE INTO totals (block, counts) VALUES (?, ?)")?,
        };
        let mut read = db.prepare("SELECT id, completed, failed, cancelled FROM name_totals")?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            *totals.of_mut(row.get(0)?) = ByEnd {
                completed: row.get::<_, Unsigned>(1)?.0,
                failed: row.get::<_, Unsigned>(2)?.0,
                cancelled: row.get::<_, Unsigned>(3)?.0,
            };
        }
        for block in totals.changed.drain(..) {
            totals.blocks.entry(block).or_default().is_changed = false;
        }
        Ok(totals)
    }

    /// A job of the name of this number has ended.
    pub(super) fn ended(&mut self, name: i64, status: Status) {
        *self.of_mut(name).of_mut(status) += 1;
    }

    /// So many records of a name have gone.
    pub(super) fn gone(&mut self, name: i64, gone: &ByEnd<u64>) {
        let counts = self.of_mut(name);
        for status in ByEnd::STATUSES {
            let count = counts.of_mut(status);
            *count = count.saturating_sub(*gone.of(status));
        }
    }

    /// Writes what has changed into the table, once a transaction.
    pub(super) fn write(&mut self) -> rusqlite::Result<()> {
        for number in self.changed.drain(..) {
            let block = self.blocks.entry(number).or_default();
            block.is_changed = false;
            self.write.execute(params![number, json(&block.counts)])?;
        }
        Ok(())
    }

    /// The counts of a name, to be changed.
    fn of_mut(&mut self, name: i64) -> &mut ByEnd<u64> {
        let number = name.div_euclid(BLOCK);
        let block = self.blocks.entry(number).or_default();
        if block.counts.is_empty() {
            block.counts.resize(BLOCK as usize, ByEnd::default());
        }
        if !block.is_changed {
            block.is_changed = true;
            self.changed.push(number);
        }
        &mut block.counts[name.rem_euclid(BLOCK) as usize]
    }
}

/// The counts as people and SQL can read them: an array of arrays.
fn json(counts: &[ByEnd<u64>]) -> String {
    let mut json = String::with_capacity(16 * counts.len());
    for (place, of_name) in counts.iter().enumerate() {
        json.push(if place == 0 { '[' } else { ',' });
        for (place, count) in of_name.values().into_iter().enumerate() {
            json.push(if place == 0 { '[' } else { ',' });
            put_number(&mut json, *count);
        }
        json.push(']');
    }
    json.push(']');
    json
}

/// What `write!` puts as well, at a third of the time for numbers as short as most are.
fn put_number(json: &mut String, number: u64) {
    if number >= 10 {
        put_number(json, number / 10);
    }
    json.push(char::from(b'0' + (number % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_arrays_in_an_array() {
        let of = |completed, failed, cancelled| ByEnd {
            completed,
            failed,
            cancelled,
        };
        let counts = [of(0, 9, 10), of(1_234_567_890, 100, u64::MAX)];
        assert_eq!(json(&counts), format!("[[0,9,10],[1234567890,100,{}]]", u64::MAX));
    }
}
