//! How values stand in the database, and the way back.
//!
//! What cannot be read back is an error of the column, which [`During`] turns into [`StoreError::Damaged`].

use std::error::Error;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::{Backoff, Fence, Priority, Status, job};
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use uuid::Uuid;

use super::checksum::Mismatch;
use crate::store::{Policy, RunEnd, StoreError};

/// Says what was being done when SQLite failed.
pub(super) trait During<T> {
    fn during(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, operation: &'static str) -> Result<T, StoreError> {
        use rusqlite::Error as E;
        self.map_err(|source| match source {
            E::FromSqlConversionFailure(_, _, reason) if reason.is::<Mismatch>() => {
                StoreError::Damaged(reason.to_string())
            }
            E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..)
            | E::Utf8Error(..) => StoreError::Damaged(source.to_string()),
            source => StoreError::Database { operation, source },
        })
    }
}

/// A number that is never negative. One that SQLite has no room for stands as the greatest that it has: only a
/// peer can name such an id or fence, and there is none of that number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsigned(pub(super) u64);

impl ToSql for Unsigned {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}

impl FromSql for Unsigned {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        u64::try_from(number)
            .map(Self)
            .map_err(|_| FromSqlError::OutOfRange(number))
    }
}

/// A duration in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Micros(pub(super) Duration);

impl ToSql for Micros {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(i64::try_from(job::micros(self.0)).unwrap_or(i64::MAX).into())
    }
}

impl FromSql for Micros {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Unsigned::column_result(value).map(|micros| Self(Duration::from_micros(micros.0)))
    }
}

/// A uuid as its 16 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct UuidBytes(pub(super) Uuid);

impl ToSql for UuidBytes {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_bytes().as_slice().into())
    }
}

impl FromSql for UuidBytes {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Uuid::from_slice(value.as_blob()?).map(Self).map_err(wrong)
    }
}

/// An encoded CBOR item.
#[derive(Debug, Clone)]
pub(super) struct Item(pub(super) Bytes);

impl FromSql for Item {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(Bytes::copy_from_slice(value.as_blob()?)))
    }
}

/// One of a few values, as its place among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code<T>(pub(super) T);

/// What can stand as a [`Code`]. The places are the database's and never change.
pub(super) trait Coded: Copy + PartialEq + 'static {
    const PLACES: &'static [Self];
}

impl Coded for Priority {
    const PLACES: &'static [Self] = &[Priority::High, Priority::Normal, Priority::Low];
}

impl Coded for Status {
    const PLACES: &'static [Self] = &[Status::Completed, Status::Failed, Status::Cancelled];
}

impl Coded for RunEnd {
    const PLACES: &'static [Self] = &[
        RunEnd::Completed,
        RunEnd::Failed,
        RunEnd::Released,
        RunEnd::Lost,
        RunEnd::TimedOut,
    ];
}

impl<T: Coded> ToSql for Code<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let place = T::PLACES.iter().position(|value| *value == self.0);
        match place.and_then(|place| i64::try_from(place).ok()) {
            Some(place) => Ok(place.into()),
            None => Err(rusqlite::Error::ToSqlConversionFailure(
                "it is not a value that is stored".into(),
            )),
        }
    }
}

impl<T: Coded> FromSql for Code<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let place = value.as_i64()?;
        usize::try_from(place)
            .ok()
            .and_then(|place| T::PLACES.get(place))
            .map(|value| Self(*value))
            .ok_or(FromSqlError::OutOfRange(place))
    }
}

/// A value that fails its own check, as an error of the column.
pub(super) fn wrong(error: impl Error + Send + Sync + 'static) -> FromSqlError {
    FromSqlError::Other(Box::new(error))
}

/// A fence in two columns from `at`; none where the first is null.
pub(super) fn fence(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Fence>> {
    let Some(Unsigned(epoch)) = row.get(at)? else {
        return Ok(None);
    };
    let Unsigned(seq) = row.get(at + 1)?;
    Ok(Some(Fence { epoch, seq }))
}

/// The columns of a [`Policy`], in the order in which [`policy`] reads them.
pub(super) const POLICY_COLUMNS: &str =
    "j.max_attempts, j.timeout, j.backoff_base, j.backoff_exponent, j.backoff_max";

/// A policy in five columns from `at`.
pub(super) fn policy(row: &Row<'_>, at: usize) -> rusqlite::Result<Policy> {
    let timeout: Option<Micros> = row.get(at + 1)?;
    let backoff = match row.get(at + 2)? {
        None => None,
        Some(Unsigned(base)) => Some(Backoff {
            base,
            exponent: row.get(at + 3)?,
            max: row.get::<_, Unsigned>(at + 4)?.0,
        }),
    };
    Ok(Policy {
        max_attempts: row.get::<_, Option<NonZeroU32>>(at)?,
        timeout: timeout.map(|timeout| timeout.0),
        backoff,
    })
}
