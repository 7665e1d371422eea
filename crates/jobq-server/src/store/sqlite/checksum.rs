//! A checksum over each stored job, so that a damaged page is noticed and nothing that nobody asked for is run.

use std::fmt;

use jobq_proto::{Backoff, Priority};

use crate::store::JobRecord;
use crate::time::Wall;

/// The columns of a job's row that do not have a length of their own, as eight bytes each, and its uuid.
const FIXED: usize = 12 * 8 + 16;

/// CRC-32C over all that was asked for: found in the row's column `checksum`, and computed again whenever a job is read
/// to be handed out or submitted again. The name counts by its text, so that the wrong name is noticed too.
pub(super) fn checksum(record: &JobRecord, due: Wall) -> u32 {
    let JobRecord {
        id,
        uuid,
        name,
        username,
        priority,
        params,
        policy,
        created,
        retry_of,
    } = record;
    let username = username.as_ref().map_or("", |username| username.as_str());
    let backoff = policy.backoff.unwrap_or(Backoff {
        base: u64::MAX,
        exponent: 0,
        max: 0,
    });
    let words = [
        id.0,
        created.0.cast_unsigned(),
        due.0.cast_unsigned(),
        match priority {
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low => 2,
        },
        retry_of.map_or(0, |id| id.0),
        policy.max_attempts.map_or(0, |attempts| attempts.get().into()),
        policy.timeout.map_or(u64::MAX, jobq_proto::job::micros),
        backoff.base,
        backoff.exponent.into(),
        backoff.max,
        name.as_str().len() as u64,
        username.len() as u64,
    ];
    let mut fixed = [0; FIXED];
    let (numbers, uuid_bytes) = fixed.split_at_mut(FIXED - 16);
    for (bytes, word) in numbers.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    uuid_bytes.copy_from_slice(uuid.as_bytes());
    [name.as_str().as_bytes(), username.as_bytes(), &params[..]]
        .into_iter()
        .fold(crc32c::crc32c(&fixed), crc32c::crc32c_append)
}

/// A job's row is not what was stored.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) id: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "job {} is not as it was submitted: its checksum does not fit",
            self.id
        )
    }
}

impl std::error::Error for Mismatch {}

/// Compares a record with the checksum that was stored with it.
pub(super) fn verify(record: &JobRecord, due: Wall, stored: i64) -> Result<(), Mismatch> {
    if i64::from(checksum(record, due)) == stored {
        Ok(())
    } else {
        Err(Mismatch { id: record.id.0 })
    }
}
