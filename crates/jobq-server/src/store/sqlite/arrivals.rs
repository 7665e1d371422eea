//! What a start needs to know of jobs that wait, as they arrived, packed in the table `arrivals`.
//!
//! Each row of `jobs` says it too, among params that nobody needs then: ten million rows take seconds to read, and these
//! tenths of one. Neighbours differ little, so a job is described by how it differs from the one before: a job like it
//! takes a byte.

use jobq_proto::{JobId, Priority};
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::live::BLOCK;
use super::values::{Coded, Unsigned};
use crate::time::Wall;
use crate::varint::{put_number, take_number, unzigzag, zigzag};

/// A job as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) id: JobId,
    /// The number of its name.
    pub(super) name: i64,
    pub(super) priority: Priority,
    pub(super) created: Wall,
    /// From when on it may run; the same as `created` if it may at once.
    pub(super) due: Wall,
    /// The length of its params.
    pub(super) params_bytes: u64,
}

/// The lowest bits of a job's first byte are its priority.
const PRIORITY: u8 = 0b11;

/// Set in a job's first byte where its id is not the next one. How many are left out follows.
const OTHER_ID: u8 = 1 << 2;

/// Set where it has another name than the one before. The number of the name follows.
const OTHER_NAME: u8 = 1 << 3;

/// Set where it arrived at another time. How much later follows.
const OTHER_TIME: u8 = 1 << 4;

/// Set where its params have another length. The length follows.
const OTHER_BYTES: u8 = 1 << 5;

/// Set where it is due at a time of its own. How much later than its arrival follows.
const HAS_DUE: u8 = 1 << 6;

/// What the first job of a block is compared with.
fn before(block: u64) -> Arrival {
    Arrival {
        id: JobId((block * BLOCK).wrapping_sub(1)),
        name: 0,
        priority: Priority::High,
        created: Wall(0),
        due: Wall(0),
        params_bytes: 0,
    }
}

/// A priority's place among those that are stored; one that is no place where it is none of them.
fn place(priority: Priority) -> u8 {
    let place = Priority::PLACES.iter().position(|stored| *stored == priority);
    place.map_or(PRIORITY, |place| place as u8)
}

/// Writes how a job differs from the one before.
fn put(bytes: &mut Vec<u8>, last: &Arrival, job: &Arrival) {
    let left_out = job.id.0.wrapping_sub(last.id.0).wrapping_sub(1);
    let later = |than: Wall, time: Wall| zigzag(time.0.wrapping_sub(than.0).cast_unsigned());
    let fields = [
        (OTHER_ID, left_out != 0, left_out),
        (OTHER_NAME, job.name != last.name, job.name.cast_unsigned()),
        (
            OTHER_TIME,
            job.created != last.created,
            later(last.created, job.created),
        ),
        (
            OTHER_BYTES,
            job.params_bytes != last.params_bytes,
            job.params_bytes,
        ),
        (HAS_DUE, job.due != job.created, later(job.created, job.due)),
    ];
    let is_set = fields.iter().filter(|(_, differs, _)| *differs);
    bytes.push(is_set.fold(place(job.priority), |flags, (flag, ..)| flags | flag));
    for (_, _, number) in fields.into_iter().filter(|(_, differs, _)| *differs) {
        put_number(bytes, number);
    }
}

/// Takes what [`put`] has written off the front; none where it is something else.
fn take(bytes: &mut &[u8], last: &Arrival) -> Option<Arrival> {
    let flags = *bytes.split_off_first()?;
    let mut number = |flag: u8| match flags & flag {
        0 => Some(None),
        _ => take_number(bytes).map(Some),
    };
    let later = |than: Wall, by: u64| Wall(than.0.wrapping_add(unzigzag(by).cast_signed()));
    let id = last
        .id
        .0
        .wrapping_add(1)
        .wrapping_add(number(OTHER_ID)?.unwrap_or(0));
    let name = number(OTHER_NAME)?.map_or(last.name, u64::cast_signed);
    let created = number(OTHER_TIME)?.map_or(last.created, |by| later(last.created, by));
    Some(Arrival {
        id: JobId(id),
        name,
        priority: *Priority::PLACES.get(usize::from(flags & PRIORITY))?,
        created,
        params_bytes: number(OTHER_BYTES)?.unwrap_or(last.params_bytes),
        due: number(HAS_DUE)?.map_or(created, |by| later(created, by)),
    })
}

/// The jobs of a block, in order; none where these bytes are not what [`Arrivals`] writes.
fn unpack(block: u64, mut bytes: &[u8]) -> Option<Vec<Arrival>> {
    let mut jobs = Vec::with_capacity(bytes.len().min(BLOCK as usize));
    let mut last = before(block);
    while !bytes.is_empty() {
        let job = take(&mut bytes, &last)?;
        if job.id.0 / BLOCK != block || jobs.last().is_some_and(|last: &Arrival| job.id <= last.id) {
            return None;
        }
        jobs.push(job);
        last = job;
    }
    Some(jobs)
}

/// CRC-32C over a block's number and its bytes.
fn checksum(block: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block.to_le_bytes()), bytes)
}

/// A row of `arrivals`.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) block: u64,
    /// The jobs, in order; none where the row is not what was written.
    pub(super) jobs: Option<Vec<Arrival>>,
}

impl Stored {
    /// What there is of a block, if there is a row for it.
    pub(super) fn read(db: &Connection, block: u64) -> rusqlite::Result<Option<Self>> {
        db.prepare_cached("SELECT block, checksum, jobs FROM arrivals WHERE block = ?")?
            .query_row([Unsigned(block)], Self::from_row)
            .optional()
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let block = row.get::<_, Unsigned>(0)?.0;
        let bytes = row.get_ref(2)?.as_blob()?;
        let is_whole = row.get::<_, i64>(1)? == i64::from(checksum(block, bytes));
        Ok(Self {
            block,
            jobs: is_whole.then(|| unpack(block, bytes)).flatten(),
        })
    }
}

/// Writes the table `arrivals`.
pub(super) struct Arrivals<'db> {
    /// Jobs below may have arrived before, unseen.
    first_seen: u64,
    filling: Filling,
    /// Blocks in which no more jobs arrive, which have no row yet.
    full: Vec<Filling>,
    write: Statement<'db>,
    clear: Statement<'db>,
}

/// A block in which jobs arrive.
struct Filling {
    block: u64,
    last: Arrival,
    bytes: Vec<u8>,
}

impl Filling {
    fn new(block: u64) -> Self {
        Self {
            block,
            last: before(block),
            bytes: Vec::new(),
        }
    }
}

impl<'db> Arrivals<'db> {
    pub(super) fn new(db: &'db Connection) -> rusqlite::Result<Self> {
        let first_seen: Unsigned = db.query_row("SELECT next_id FROM meta", [], |row| row.get(0))?;
        Ok(Self {
            first_seen: first_seen.0,
            filling: Filling::new(first_seen.0 / BLOCK),
            full: Vec::new(),
            write: db.prepare("INSERT OR REPLACE INTO arrivals (block, checksum, jobs) VALUES (?, ?, ?)")?,
            clear: db.prepare("DELETE FROM arrivals WHERE block = ?")?,
        })
    }

    /// A job arrived, with a higher id than all before.
    pub(super) fn arrived(&mut self, job: &Arrival) {
        let block = job.id.0 / BLOCK;
        if block != self.filling.block {
            let full = std::mem::replace(&mut self.filling, Filling::new(block));
            // Ids begin with 1.
            if self.first_seen <= (full.block * BLOCK).max(1) {
                self.full.push(full);
            }
        }
        put(&mut self.filling.bytes, &self.filling.last, job);
        self.filling.last = *job;
    }

    /// None of a block's jobs is live any more.
    pub(super) fn clear(&mut self, block: u64) -> rusqlite::Result<()> {
        self.clear.execute([Unsigned(block)])?;
        Ok(())
    }

    /// Writes what has become full into the table, once a transaction, if `is_live` says that the block has live jobs.
    pub(super) fn write(&mut self, is_live: impl Fn(u64) -> bool) -> rusqlite::Result<()> {
        for full in self.full.drain(..).filter(|full| is_live(full.block)) {
            let checksum = checksum(full.block, &full.bytes);
            self.write
                .execute(params![Unsigned(full.block), checksum, full.bytes])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(id: u64) -> Arrival {
        Arrival {
            id: JobId(id),
            name: 1,
            priority: Priority::Normal,
            created: Wall(1_000_000),
            due: Wall(1_000_000),
            params_bytes: 100,
        }
    }

    fn pack(block: u64, jobs: &[Arrival]) -> Vec<u8> {
        let (mut bytes, mut last) = (Vec::new(), before(block));
        for job in jobs {
            put(&mut bytes, &last, job);
            last = *job;
        }
        bytes
    }

    #[test]
    fn jobs_come_out_as_they_went_in() {
        let block = 3;
        let first = block * BLOCK;
        let jobs = [
            arrival(first),
            arrival(first + 1),
            Arrival {
                priority: Priority::High,
                name: i64::MAX,
                ..arrival(first + 7)
            },
            Arrival {
                priority: Priority::Low,
                created: Wall(i64::MIN),
                due: Wall(i64::MAX),
                params_bytes: 0,
                ..arrival(first + 8)
            },
            Arrival {
                created: Wall(999_999),
                due: Wall(5),
                params_bytes: u64::MAX,
                ..arrival(first + BLOCK - 1)
            },
        ];
        assert_eq!(unpack(block, &pack(block, &jobs)).as_deref(), Some(&jobs[..]));
        // The first block begins with the job 1.
        let jobs = [arrival(1), arrival(2)];
        assert_eq!(unpack(0, &pack(0, &jobs)).as_deref(), Some(&jobs[..]));
    }

    #[test]
    fn a_job_like_the_one_before_takes_a_byte() {
        let jobs: Vec<_> = (BLOCK..2 * BLOCK).map(arrival).collect();
        let first = pack(1, &jobs[..1]).len();
        assert_eq!(pack(1, &jobs).len(), first + jobs.len() - 1);
    }

    #[test]
    fn what_is_no_block_is_none() {
        let whole = pack(2, &[arrival(2 * BLOCK + 1), arrival(2 * BLOCK + 300)]);
        assert!(unpack(2, &whole).is_some());
        assert!(unpack(2, &whole[..whole.len() - 1]).is_none(), "it is cut off");
        assert!(unpack(2, &[PRIORITY]).is_none(), "there is no such priority");
        let beyond = pack(2, &[arrival(3 * BLOCK)]);
        assert!(unpack(2, &beyond).is_none(), "it is in the next block");
        let twice = pack(2, &[arrival(2 * BLOCK + 1), arrival(2 * BLOCK + 1)]);
        assert!(unpack(2, &twice).is_none(), "it is there twice");
    }
}
