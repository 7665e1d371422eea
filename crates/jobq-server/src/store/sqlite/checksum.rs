//! A checksum over each stored job, so that a damaged page is noticed and nothing that nobody asked for is run.

use std::fmt;

use bytes::BufMut;
use jobq_proto::limits::MAX_NAME;
use jobq_proto::{Backoff, Priority};

use crate::store::{JobRecord, Policy};
use crate::time::Wall;

/// The columns of a job's row that do not have a length of their own, as eight bytes each, and its uuid.
const FIXED: usize = 12 * 8 + 16;

/// Added to the checksum of a job that is not plain.
const NOT_PLAIN: i64 = 1 << 32;

/// Whether a job has only what every job has: the columns that may be empty are.
pub(super) fn is_plain(record: &JobRecord, due: Wall) -> bool {
    due == record.created
        && record.username.is_none()
        && record.retry_of.is_none()
        && record.policy == Policy::default()
}

/// Whether a stored checksum is that of a plain job, so that a reader need not look at the columns that may be empty.
pub(super) fn is_of_plain(stored: i64) -> bool {
    stored & NOT_PLAIN == 0
}

/// CRC-32C over all that was asked for, and whether that is more than every job has: found in the row's column
/// `checksum`, and computed again whenever a job is read to be handed out or submitted again. The name counts by its
/// text, so that the wrong name is noticed too.
pub(super) fn checksum(record: &JobRecord, due: Wall) -> i64 {
    let flag = if is_plain(record, due) { 0 } else { NOT_PLAIN };
    i64::from(crc(record, due)) | flag
}

fn crc(record: &JobRecord, due: Wall) -> u32 {
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
    let texts = [
        name.as_str(),
        username.as_ref().map_or("", |username| username.as_str()),
    ];
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
        texts[0].len() as u64,
        texts[1].len() as u64,
    ];
    // In one piece, because each piece costs a call.
    let mut bytes = [0; FIXED + 2 * MAX_NAME];
    let mut rest = &mut bytes[..];
    for word in words {
        rest.put_u64_le(word);
    }
    rest.put_slice(uuid.as_bytes());
    for text in texts {
        rest.put_slice(text.as_bytes());
    }
    let unused = rest.len();
    let used = &bytes[..bytes.len() - unused];
    crc32c::crc32c_append(crc32c::crc32c(used), params)
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
    if checksum(record, due) == stored {
        Ok(())
    } else {
        Err(Mismatch { id: record.id.0 })
    }
}
