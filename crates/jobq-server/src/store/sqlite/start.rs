//! Reading the live jobs at a start.
//!
//! That is most of a start with a long queue, and nothing else is to be done meanwhile. So each half of a page is read on
//! a thread and a connection of its own.

use std::path::Path;

use jobq_proto::JobId;
use rusqlite::Connection;

use super::names::Names;
use super::recover::{live_ids, live_jobs};
use super::schema;
use super::values::During;
use crate::store::{LiveJob, StoreError};

/// Fewer jobs are read on one thread: starting another takes as long.
const WORTH_A_THREAD: usize = 1_000;

/// What reads the live jobs until the first commit.
#[derive(Debug)]
pub(super) struct Start {
    first: Half,
    second: Half,
}

/// What reads one half of a page.
#[derive(Debug)]
struct Half {
    db: Connection,
    names: Names,
}

impl Start {
    /// For the database in `dir`, which is open and to which nothing is written yet.
    ///
    /// # Errors
    /// When it cannot be opened for reading.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            first: Half::open(dir)?,
            second: Half::open(dir)?,
        })
    }

    /// Up to `limit` live jobs after this one, by id.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn live(&mut self, after: JobId, limit: usize) -> Result<Vec<LiveJob>, StoreError> {
        let ids = live_ids(&self.first.db, after.0.saturating_add(1), limit).during("list its live jobs")?;
        if ids.len() < WORTH_A_THREAD {
            return self.first.read(&ids);
        }
        let (of_first, of_second) = ids.split_at(ids.len() / 2);
        std::thread::scope(|scope| {
            let second = &mut self.second;
            let reading = scope.spawn(move || second.read(of_second));
            let mut jobs = self.first.read(of_first)?;
            let rest = reading.join();
            jobs.extend(rest.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            Ok(jobs)
        })
    }
}

impl Half {
    fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            db: schema::open_to_scan(dir)?,
            names: Names::default(),
        })
    }

    fn read(&mut self, ids: &[u64]) -> Result<Vec<LiveJob>, StoreError> {
        live_jobs(&self.db, &mut self.names, ids).during("list its live jobs")
    }
}
