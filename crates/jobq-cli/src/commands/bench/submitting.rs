//! Clients that submit: each hands over batch after batch without waiting for their receipts, or jobs as they come at
//! a rate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use jobq_client::{Client, Receipt, SubmitError, Submitter};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::jobs::{Load, Maker};
use super::pace::{self, Due};
use super::timing::Timing;

/// Submits the load, shared out to all clients at once, and waits for all receipts. Records how long each job was
/// under way, and counts `bar` up. Returns how many jobs the server has taken.
///
/// # Errors
/// A job is refused or known already, the server goes away, or a client cannot keep up with the rate.
pub(super) async fn submit_all(
    clients: &[Client],
    load: &Load,
    acknowledged: &Arc<Timing>,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let mut paces = match load.rate {
        Some(rate) => pace::start(load.jobs, rate, clients.len())?.into_iter(),
        None => Vec::new().into_iter(),
    };
    let mut tasks = JoinSet::new();
    for (client, jobs) in clients.iter().zip(shares(load.jobs, clients.len() as u64)) {
        let sender = Sender {
            submitter: client.submitter(),
            outstanding: load.outstanding.unwrap_or(usize::MAX),
            handed: VecDeque::new(),
            unanswered: 0,
            taken: 0,
            acknowledged: Arc::clone(acknowledged),
            bar: bar.clone(),
        };
        let load = Load { jobs, ..load.clone() };
        match paces.next() {
            Some(pace) => tasks.spawn(sender.run_paced(load, pace)),
            None => tasks.spawn(sender.run(load)),
        };
    }
    let mut taken = 0;
    while let Some(result) = tasks.join_next().await {
        taken += result.context("a client panicked")??;
    }
    Ok(taken)
}

/// `total` in `parts` parts that differ by one at most.
pub(super) fn shares(total: u64, parts: u64) -> impl Iterator<Item = u64> {
    (0..parts).map(move |part| total / parts + u64::from(part < total % parts))
}

struct Sender {
    submitter: Submitter,
    /// Most jobs without a receipt.
    outstanding: usize,
    /// Batches whose receipts are not all there: when they were handed over, or due, and how many are missing.
    handed: VecDeque<(Instant, usize)>,
    /// Jobs in them that have no receipt.
    unanswered: usize,
    taken: u64,
    acknowledged: Arc<Timing>,
    bar: ProgressBar,
}

impl Sender {
    /// Hands over as fast as the client takes it.
    async fn run(mut self, load: Load) -> anyhow::Result<u64> {
        let mut maker = Maker::new(&load);
        let most = load.batch.min(self.outstanding);
        let mut left = load.jobs;
        while left > 0 {
            let count = at_most(left, most);
            while self.unanswered + count > self.outstanding {
                self.await_receipts().await?;
            }
            self.hand_over(&mut maker, Instant::now(), count).await?;
            left -= count as u64;
            let receipts = self.submitter.take_receipts();
            self.take(receipts)?;
        }
        self.await_rest().await
    }

    /// Hands over what is due, and takes receipts as they come.
    async fn run_paced(mut self, load: Load, mut pace: mpsc::Receiver<Due>) -> anyhow::Result<u64> {
        let mut maker = Maker::new(&load);
        let most = load.batch.min(self.outstanding);
        let mut come = 0;
        loop {
            tokio::select! {
                due = pace.recv() => {
                    let Some(Due { at, jobs }) = due else { break };
                    come += jobs;
                    let mut left = jobs;
                    while left > 0 {
                        let count = at_most(left, most);
                        while self.unanswered + count > self.outstanding {
                            self.await_receipts().await?;
                        }
                        self.hand_over(&mut maker, at, count).await?;
                        left -= count as u64;
                    }
                }
                receipts = self.submitter.receipts(), if self.unanswered > 0 => {
                    self.take(receipts.context("failed to submit")?)?;
                }
            }
        }
        if come < load.jobs {
            bail!("a client has fallen a minute behind the rate; give a lower --rate, or more --clients");
        }
        self.await_rest().await
    }

    async fn hand_over(&mut self, maker: &mut Maker, at: Instant, count: usize) -> anyhow::Result<()> {
        self.handed.push_back((at, count));
        self.unanswered += count;
        let batch = maker.batch_of(at, count);
        self.submitter.push_many(batch).await.context("failed to submit")
    }

    async fn await_rest(mut self) -> anyhow::Result<u64> {
        while self.unanswered > 0 {
            self.await_receipts().await?;
        }
        Ok(self.taken)
    }

    async fn await_receipts(&mut self) -> anyhow::Result<()> {
        let receipts = self.submitter.receipts().await.context("failed to submit")?;
        if receipts.is_empty() {
            bail!("the client says that it is done, and jobs have no receipts");
        }
        self.take(receipts)
    }

    /// Receipts come in the order of the jobs.
    fn take(&mut self, receipts: Vec<Result<Receipt, SubmitError>>) -> anyhow::Result<()> {
        if receipts.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let mut left = receipts.len();
        for receipt in receipts {
            let receipt = receipt.context("failed to submit a job")?;
            if receipt.existing {
                bail!(
                    "job {} is new, and the server says that it was there before",
                    receipt.id
                );
            }
        }
        self.taken += left as u64;
        self.bar.inc(left as u64);
        while left > 0 {
            let Some((handed, missing)) = self.handed.front_mut() else {
                bail!("there are {left} receipts more than jobs");
            };
            let answered = left.min(*missing);
            self.acknowledged.record_many(now - *handed, answered as u64);
            *missing -= answered;
            self.unanswered -= answered;
            left -= answered;
            if *missing == 0 {
                self.handed.pop_front();
            }
        }
        Ok(())
    }
}

/// The smaller of the two.
fn at_most(left: u64, most: usize) -> usize {
    usize::try_from(left).map_or(most, |left| left.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_differ_by_one_at_most_and_add_up() {
        assert_eq!(shares(10, 4).collect::<Vec<_>>(), [3, 3, 2, 2]);
        assert_eq!(shares(1, 3).sum::<u64>(), 1);
    }
}
