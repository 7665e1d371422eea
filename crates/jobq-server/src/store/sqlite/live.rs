//! Which jobs are live, in memory and in the table `live_ids`.
//!
//! A bit for each job instead of a row: a submit and a settlement then write one B-tree less, and the start finds the
//! live jobs among any number of ended ones without looking at those.

use std::collections::{BTreeMap, BTreeSet};

use jobq_proto::JobId;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, Statement, params};

use super::arrivals::{Arrival, Arrivals};
use super::values::Unsigned;
use crate::store::StoreError;

/// How many ids a block has.
pub(super) const BLOCK: u64 = 1024;

/// The bits of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits([u8; BLOCK as usize / 8]);

impl Bits {
    pub(super) const NONE: Self = Self([0; BLOCK as usize / 8]);

    /// The places that are set, the lowest first.
    pub(super) fn places(&self) -> impl DoubleEndedIterator<Item = u64> {
        (0..BLOCK).filter(|place| self.has(*place))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn has(&self, place: u64) -> bool {
        self.0[at(place)] & mask(place) != 0
    }

    /// Whether a place is set in both.
    pub(super) fn has_any(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(own, others)| own & others != 0)
    }

    pub(super) fn set(&mut self, place: u64, to: bool) {
        if to {
            self.0[at(place)] |= mask(place);
        } else {
            self.0[at(place)] &= !mask(place);
        }
    }
}

fn at(place: u64) -> usize {
    (place / 8) as usize
}

fn mask(place: u64) -> u8 {
    1 << (place % 8)
}

impl FromSql for Bits {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| FromSqlError::InvalidBlobSize {
                expected_size: BLOCK as usize / 8,
                blob_size: bytes.len(),
            })
    }
}

/// What the writer knows of a block.
#[derive(Debug, Clone, Copy)]
struct Block {
    live: Bits,
    /// Those of the live ones that have a row in `live`.
    touched: Bits,
}

/// The live jobs of a store: two bits for each id between the oldest of them and the newest.
pub(super) struct LiveIds<'db> {
    blocks: BTreeMap<u64, Block>,
    /// Those that differ from the table.
    changed: BTreeSet<u64>,
    /// What the next start needs to know of them.
    arrivals: Arrivals<'db>,
    write: Statement<'db>,
    clear: Statement<'db>,
}

impl<'db> LiveIds<'db> {
    /// Reads them.
    pub(super) fn read(db: &'db Connection) -> rusqlite::Result<Self> {
        let blocks = db
            .prepare("SELECT block, bits FROM live_ids")?
            .query_map([], |row| {
                let live = row.get(1)?;
                let touched = Bits::NONE;
                Ok((row.get::<_, Unsigned>(0)?.0, Block { live, touched }))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let mut ids = Self {
            blocks,
            changed: BTreeSet::new(),
            arrivals: Arrivals::new(db)?,
            write: db.prepare("INSERT OR REPLACE INTO live_ids (block, bits) VALUES (?, ?)")?,
            clear: db.prepare("DELETE FROM live_ids WHERE block = ?")?,
        };
        let mut touched = db.prepare("SELECT id FROM live")?;
        let mut rows = touched.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get::<_, Unsigned>(0)?.0;
            if let Some(block) = ids.blocks.get_mut(&(id / BLOCK)) {
                block.touched.set(id % BLOCK, true);
            }
        }
        Ok(ids)
    }

    /// A job arrived.
    pub(super) fn insert(&mut self, job: &Arrival) {
        let id = job.id;
        self.arrivals.arrived(job);
        let block = self.blocks.entry(id.0 / BLOCK).or_insert(Block {
            live: Bits::NONE,
            touched: Bits::NONE,
        });
        block.live.set(id.0 % BLOCK, true);
        self.changed.insert(id.0 / BLOCK);
    }

    /// Something happened to a job, and `live` has a row for it from now on.
    ///
    /// # Errors
    /// When the job is not live.
    pub(super) fn touch(&mut self, id: JobId) -> Result<(), StoreError> {
        let block = self.live_block(id)?;
        block.touched.set(id.0 % BLOCK, true);
        Ok(())
    }

    /// A job ended; whether `live` has a row for it.
    ///
    /// # Errors
    /// When the job is not live.
    pub(super) fn remove(&mut self, id: JobId) -> Result<bool, StoreError> {
        let block = self.live_block(id)?;
        let place = id.0 % BLOCK;
        let touched = block.touched.has(place);
        block.live.set(place, false);
        block.touched.set(place, false);
        self.changed.insert(id.0 / BLOCK);
        Ok(touched)
    }

    /// Whether a block has a live job.
    pub(super) fn has_block(&self, number: u64) -> bool {
        self.blocks
            .get(&number)
            .is_some_and(|block| block.live != Bits::NONE)
    }

    /// Writes what has changed into the tables, once a transaction.
    pub(super) fn write(&mut self) -> rusqlite::Result<()> {
        while let Some(number) = self.changed.pop_first() {
            let Some(block) = self.blocks.get(&number) else {
                continue;
            };
            if block.live == Bits::NONE {
                self.blocks.remove(&number);
                self.clear.execute([Unsigned(number)])?;
                self.arrivals.clear(number)?;
            } else {
                self.write
                    .execute(params![Unsigned(number), block.live.as_bytes()])?;
            }
        }
        // What is empty has been removed.
        self.arrivals.write(|number| self.blocks.contains_key(&number))
    }

    fn live_block(&mut self, id: JobId) -> Result<&mut Block, StoreError> {
        self.blocks
            .get_mut(&(id.0 / BLOCK))
            .filter(|block| block.live.has(id.0 % BLOCK))
            .ok_or_else(|| StoreError::not_live(id))
    }
}
