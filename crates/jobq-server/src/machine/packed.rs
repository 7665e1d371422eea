//! Waiting jobs in little memory, in blocks.
//!
//! Neighbours in a line differ little: as a rule the next job has the next id, came in the same moment and has as many
//! bytes. So a block says of each job only how it differs from the one before: a job that does not differ takes a byte.

use jobq_proto::JobId;

use super::line::Waiting;
use super::names::NameKey;
use super::paged_map::Number;
use crate::time::Wall;
use crate::varint::{put_number, take_number, unzigzag, zigzag};

/// Why reading does not fail.
const WHOLE: &str = "what is read was written whole";

/// Set in a job's first byte where it is due later than the one before. How much later follows.
const LATER: u8 = 1;

/// Set where its id is not the next one. How far away it is follows.
const OTHER_ID: u8 = 1 << 1;

/// Set where its params have another length. The length follows.
const OTHER_BYTES: u8 = 1 << 2;

/// Set where it has attempts or charges. Both follow.
const HAS_ENDED_RUNS: u8 = 1 << 3;

/// Set where it is of another name. The name's number follows.
const OTHER_NAME: u8 = 1 << 4;

/// Some jobs in the order of a line, one at least.
#[derive(Debug)]
pub(super) struct Packed {
    first: Waiting,
    last: (Wall, JobId),
    len: usize,
    /// The others.
    rest: Box<[u8]>,
}

impl Packed {
    /// Packs jobs that are in order; none if there are none.
    pub(super) fn pack(mut jobs: impl Iterator<Item = Waiting>) -> Option<Self> {
        let first = jobs.next()?;
        let (mut last, mut len, mut rest) = (first, 1, Vec::new());
        for job in jobs {
            put(&mut rest, &last, &job);
            last = job;
            len += 1;
        }
        Some(Self {
            first,
            last: last.key(),
            len,
            rest: rest.into(),
        })
    }

    /// The jobs, in order.
    pub(super) fn jobs(&self) -> impl Iterator<Item = Waiting> {
        let mut rest = &*self.rest;
        std::iter::successors(Some(self.first), move |last| {
            (!rest.is_empty()).then(|| take(&mut rest, last))
        })
    }

    pub(super) fn first(&self) -> &Waiting {
        &self.first
    }

    /// Where the last job stands.
    pub(super) fn last(&self) -> (Wall, JobId) {
        self.last
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What it takes, in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.rest.len()
    }
}

/// Writes how a job differs from the one before.
fn put(rest: &mut Vec<u8>, last: &Waiting, job: &Waiting) {
    let later = job.due.0.wrapping_sub(last.due.0).cast_unsigned();
    let beyond = job.id.0.wrapping_sub(last.id.0).wrapping_sub(1);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags = flag(later != 0, LATER)
        | flag(beyond != 0, OTHER_ID)
        | flag(job.bytes != last.bytes, OTHER_BYTES)
        | flag(job.name != last.name, OTHER_NAME)
        | flag(job.attempts != 0 || job.charges != 0, HAS_ENDED_RUNS);
    rest.push(flags);
    if flags & LATER != 0 {
        put_number(rest, later);
    }
    if flags & OTHER_ID != 0 {
        put_number(rest, zigzag(beyond));
    }
    if flags & OTHER_BYTES != 0 {
        put_number(rest, job.bytes.into());
    }
    if flags & OTHER_NAME != 0 {
        put_number(rest, job.name.number());
    }
    if flags & HAS_ENDED_RUNS != 0 {
        put_number(rest, job.attempts.into());
        rest.push(job.charges);
    }
}

/// Reads what [`put`] has written.
fn take(rest: &mut &[u8], last: &Waiting) -> Waiting {
    let flags = take_byte(rest);
    let mut number = |flag: u8| {
        let is_set = flags & flag != 0;
        is_set.then(|| take_number(rest).expect(WHOLE))
    };
    let later = number(LATER).unwrap_or(0);
    let beyond = number(OTHER_ID).map_or(0, unzigzag);
    let bytes = number(OTHER_BYTES).map_or(last.bytes, |bytes| bytes as u32);
    let name = number(OTHER_NAME).map_or(last.name, NameKey::from_number);
    let attempts = number(HAS_ENDED_RUNS).map_or(0, |attempts| attempts as u16);
    Waiting {
        due: Wall(last.due.0.wrapping_add_unsigned(later)),
        id: JobId(last.id.0.wrapping_add(beyond).wrapping_add(1)),
        name,
        bytes,
        attempts,
        charges: match flags & HAS_ENDED_RUNS {
            0 => 0,
            _ => take_byte(rest),
        },
    }
}

fn take_byte(rest: &mut &[u8]) -> u8 {
    *rest.split_off_first().expect(WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(due: i64, id: u64, bytes: u64, attempts: u32, charges: u32) -> Waiting {
        job_of(7, due, id, bytes, attempts, charges)
    }

    fn job_of(name: u64, due: i64, id: u64, bytes: u64, attempts: u32, charges: u32) -> Waiting {
        Waiting::new(
            NameKey::from_number(name),
            Wall(due),
            JobId(id),
            bytes,
            attempts,
            charges,
        )
    }

    #[test]
    fn jobs_come_out_as_they_went_in() {
        let most = u64::from(u32::MAX);
        let jobs = [
            job(i64::MIN, 1, 0, 0, 0),
            job(-5, 2, 0, 0, 0),
            job(-5, 3, 100, 0, 0),
            job(-5, 200, 100, u32::from(u16::MAX), 255),
            job(-5, 201, 100, 1, 0),
            job(0, 7, most, 0, 1),
            job(1, 6, 127, 0, 0),
            job(1, u64::MAX, 128, 0, 0),
            job(2, 0, 128, 0, 0),
            job(300, u64::MAX / 2, 16_384, 0, 0),
            job(i64::MAX, u64::MAX / 2 + 2, 16_384, 128, 2),
            job_of(0, i64::MAX, u64::MAX / 2 + 3, 16_384, 128, 2),
            job_of(99_999, i64::MAX, u64::MAX / 2 + 4, 16_384, 0, 0),
        ];
        let packed = Packed::pack(jobs.into_iter()).expect("there are jobs");
        assert!(packed.jobs().eq(jobs));
        assert_eq!(packed.len(), jobs.len());
        assert_eq!(*packed.first(), jobs[0]);
        assert_eq!(packed.last(), jobs[jobs.len() - 1].key());
        assert!(Packed::pack(std::iter::empty()).is_none());
    }

    #[test]
    fn a_job_like_the_one_before_takes_a_byte_and_one_unlike_it_a_few() {
        let alike = (0..100).map(|id| job(10, id, 100, 0, 0));
        let packed = Packed::pack(alike).expect("there are jobs");
        assert_eq!(packed.rest.len(), 99);
        let unlike = (0..100_i64).map(|n| {
            job_of(
                n.cast_unsigned(),
                1_000 * n,
                50 * n.cast_unsigned(),
                100 + n.cast_unsigned(),
                0,
                0,
            )
        });
        let packed = Packed::pack(unlike).expect("there are jobs");
        assert!(packed.rest.len() <= 99 * 8, "{} bytes", packed.rest.len());
    }
}
