//! Do this program, the server and the store agree on what happened?

use anyhow::{Context, bail};
use jobq_client::Stats;
use jobq_proto::JobId;
use jobq_server::DataDir;
use jobq_server::store::{Birth, SqliteStore, Store};
use jobq_server::time::Wall;

use super::server::Leftover;

/// Live jobs that are read from the store at a time.
const PAGE: usize = 10_000;

/// What there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// Jobs that were acknowledged here.
    pub(super) submitted: u64,
    /// Jobs whose completion was acknowledged here; the others wait.
    pub(super) completed: u64,
}

/// Jobs in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Contents {
    live: u64,
    completed: u64,
    failed: u64,
    cancelled: u64,
}

impl Expected {
    /// Compares with what the server says.
    ///
    /// # Errors
    /// They disagree, or jobs were run more often than they had to be; the error names all numbers.
    pub(super) fn check_server(&self, stats: &Stats) -> anyhow::Result<()> {
        let total = &stats.total;
        let agree = stats.submitted == self.submitted
            && total.completed == self.completed
            && total.queued == self.submitted - self.completed
            && total.scheduled + total.processing + total.failed + total.cancelled == 0;
        if !agree {
            bail!(
                "the counts disagree: {} jobs were acknowledged and {} completed here; the server took {}, and has \
                 {} scheduled, {} queued, {} processing, {} completed, {} failed and {} cancelled",
                self.submitted,
                self.completed,
                stats.submitted,
                total.scheduled,
                total.queued,
                total.processing,
                total.completed,
                total.failed,
                total.cancelled,
            );
        }
        if stats.settled != self.completed || stats.lost > 0 {
            // Each job is counted once, so what is left over was handed out, and came back without having run.
            bail!(
                "the counts disagree: {} jobs completed in {} runs, and {} leases were lost; without a fault each \
                 job has one run, so workers were sent more than they can hold and gave it back",
                self.completed,
                stats.settled,
                stats.lost,
            );
        }
        Ok(())
    }

    /// Compares with what the server has left in its store.
    ///
    /// # Errors
    /// The store cannot be read, or they disagree.
    pub(super) async fn check_store(&self, leftover: &Leftover) -> anyhow::Result<()> {
        let contents = Contents::read(leftover)
            .await
            .context("failed to read the store")?;
        let expected = Contents {
            live: self.submitted - self.completed,
            completed: self.completed,
            failed: 0,
            cancelled: 0,
        };
        if contents != expected {
            bail!("the counts disagree: expected {expected:?}, and the store has {contents:?}");
        }
        Ok(())
    }
}

impl Contents {
    /// Opens the store as a server would, and counts.
    async fn read(leftover: &Leftover) -> anyhow::Result<Self> {
        let path = leftover.data();
        let read = move || {
            let _lock = DataDir::lock(&path)?;
            // For a new store, which this is not.
            let birth = Birth {
                identity: uuid::Uuid::nil(),
                now: Wall(0),
            };
            let mut store = SqliteStore::open(&path, birth)?;
            Self::count(&mut store)
        };
        Ok(tokio::task::spawn_blocking(read)
            .await
            .context("the reader panicked")??)
    }

    fn count(store: &mut SqliteStore) -> Result<Self, jobq_server::store::StoreError> {
        let mut contents = Self {
            live: 0,
            completed: 0,
            failed: 0,
            cancelled: 0,
        };
        for name in &store.recovered().names {
            contents.completed += name.completed;
            contents.failed += name.failed;
            contents.cancelled += name.cancelled;
        }
        let mut after = JobId(0);
        loop {
            let page = store.live(after, PAGE)?;
            let Some(last) = page.last() else {
                return Ok(contents);
            };
            after = last.id;
            contents.live += page.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use jobq_client::NameStats;

    use super::*;

    const EXPECTED: Expected = Expected {
        submitted: 10,
        completed: 7,
    };

    fn stats() -> Stats {
        Stats {
            submitted: 10,
            settled: 7,
            total: NameStats {
                queued: 3,
                completed: 7,
                ..NameStats::default()
            },
            ..Stats::default()
        }
    }

    #[test]
    fn equal_counts_agree() {
        EXPECTED.check_server(&stats()).expect("they agree");
    }

    #[test]
    fn a_job_too_few_or_a_run_too_many_is_an_error() {
        let mut lost_job = stats();
        lost_job.total.queued = 2;
        let mut lost_lease = stats();
        lost_lease.lost = 1;
        let mut extra_run = stats();
        extra_run.settled = 8;
        for stats in [lost_job, lost_lease, extra_run] {
            let error = EXPECTED
                .check_server(&stats)
                .expect_err("they disagree")
                .to_string();
            assert!(error.contains("the counts disagree"), "{error}");
        }
    }
}
