//! Do this program, the server and the store agree on what happened?

use anyhow::{Context, bail};
use jobq_client::Stats;
use jobq_proto::JobId;
use jobq_server::DataDir;
use jobq_server::store::{Birth, SqliteStore, Store};
use jobq_server::time::Wall;
use jobq_worker::Summary;

use super::server::Leftover;
use super::working::Ledger;

/// Live jobs that are read from the store at a time.
const PAGE: usize = 10_000;

/// What there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Expected {
    /// Jobs that waited in the store when the server started.
    pub(super) waited: u64,
    /// Jobs that had completed when the server started.
    pub(super) ended: u64,
    /// Jobs that were acknowledged here since.
    pub(super) submitted: u64,
    /// Jobs whose completion was acknowledged here since; the others wait.
    pub(super) completed: u64,
    /// Jobs that workers gave back since without having begun them.
    pub(super) released: u64,
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
    /// With what workers have done, whose handlers took it down in the ledger.
    ///
    /// # Errors
    /// The two disagree, or a job has run twice, failed, or lost its lease.
    pub(super) fn worked(self, summary: &Summary, ledger: &Ledger) -> anyhow::Result<Self> {
        let completed = self.completed + summary.completed;
        let odd = summary.failed + summary.stale + ledger.extra() + ledger.early();
        if odd > 0 || completed != ledger.ran() {
            bail!(
                "the counts disagree: {} jobs have run, {} runs were extra and {} early, {} had completed before, and \
                 the workers report {summary:?}",
                ledger.ran(),
                ledger.extra(),
                ledger.early(),
                self.completed,
            );
        }
        let worked = Self {
            completed,
            released: self.released + summary.released,
            ..self
        };
        if summary.released > 0 && worked.waiting() == 0 {
            bail!(
                "the counts disagree: all jobs have run, and workers gave {} back",
                summary.released
            );
        }
        Ok(worked)
    }

    /// What there is when a server starts on the store that another has left.
    pub(super) fn at_restart(&self) -> Self {
        Self {
            waited: self.waiting(),
            ended: self.all_completed(),
            ..Self::default()
        }
    }

    /// Compares with what the server says.
    ///
    /// # Errors
    /// They disagree, or jobs were run more often than they had to be; the error names all numbers.
    pub(super) fn check_server(&self, stats: &Stats) -> anyhow::Result<()> {
        let total = &stats.total;
        let agree = stats.submitted == self.submitted
            && total.completed == self.all_completed()
            && total.queued == self.waiting()
            && total.scheduled + total.processing + total.failed + total.cancelled == 0;
        if !agree {
            bail!(
                "the counts disagree: {} jobs were acknowledged and {} completed here, {} waited and {} had completed \
                 before; the server took {}, and has {} scheduled, {} queued, {} processing, {} completed, {} failed \
                 and {} cancelled",
                self.submitted,
                self.completed,
                self.waited,
                self.ended,
                stats.submitted,
                total.scheduled,
                total.queued,
                total.processing,
                total.completed,
                total.failed,
                total.cancelled,
            );
        }
        if stats.settled != self.completed + self.released || stats.lost > 0 {
            // Each job is counted once, so what is left over was handed out, and came back without having run.
            bail!(
                "the counts disagree: {} jobs completed and {} were given back in {} runs, and {} leases were lost; \
                 without a fault each job has one run, so workers were sent more than they can hold and gave it back",
                self.completed,
                self.released,
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
            live: self.waiting(),
            completed: self.all_completed(),
            failed: 0,
            cancelled: 0,
        };
        if contents != expected {
            bail!("the counts disagree: expected {expected:?}, and the store has {contents:?}");
        }
        Ok(())
    }

    fn waiting(&self) -> u64 {
        (self.waited + self.submitted).saturating_sub(self.completed)
    }

    fn all_completed(&self) -> u64 {
        self.ended + self.completed
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

    use super::super::timing::StampClock;
    use super::*;

    const EXPECTED: Expected = Expected {
        waited: 0,
        ended: 0,
        submitted: 10,
        completed: 7,
        released: 0,
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
    fn what_was_there_before_the_start_counts_and_so_does_what_was_given_back() {
        let expected = Expected {
            waited: 5,
            ended: 20,
            released: 2,
            ..EXPECTED
        };
        let mut stats = stats();
        expected
            .check_server(&stats)
            .expect_err("the server knows nothing of those");
        stats.total.queued = 8;
        stats.total.completed = 27;
        stats.settled = 9;
        expected.check_server(&stats).expect("they agree");
        let next = expected.at_restart();
        assert_eq!((next.waited, next.ended, next.submitted), (8, 27, 0));
    }

    #[test]
    fn runs_that_no_handler_saw_and_jobs_given_back_without_need_are_errors() {
        let ledger = Ledger::new(10, StampClock::new());
        let given_back = Summary {
            released: 1,
            ..Summary::default()
        };
        let submitted = Expected {
            submitted: 10,
            ..Expected::default()
        };
        let expected = submitted
            .worked(&given_back, &ledger)
            .expect("others wait as well");
        assert_eq!(expected.released, 1);

        let unseen = Summary {
            completed: 1,
            ..Summary::default()
        };
        for (expected, summary) in [(submitted, unseen), (Expected::default(), given_back)] {
            let error = expected.worked(&summary, &ledger);
            let error = error.expect_err("they disagree").to_string();
            assert!(error.contains("the counts disagree"), "{error}");
        }
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
