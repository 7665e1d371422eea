//! Clients that submit: each hands over batch after batch, without waiting for their receipts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use indicatif::ProgressBar;
use jobq_client::{Client, JobRequest, Receipt, SubmitError, Submitter};
use tokio::task::JoinSet;

use super::timing::{STAMP_BYTES, StampClock, Timing};

/// The name of all jobs.
pub(super) const NAME: &str = "bench";

/// The jobs of one client.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// How many.
    pub(super) jobs: u64,
    /// Bytes of params of each, more than those of a stamp.
    pub(super) payload: usize,
    /// How many are handed over at a time, at least one.
    pub(super) batch: usize,
    /// The clock of the stamps in their params.
    pub(super) clock: StampClock,
}

/// Submits the load of each client, all at once, and waits for all receipts. Records how long each job was under
/// way, and counts `bar` up. Returns how many jobs the server has taken.
///
/// # Errors
/// A job is refused or known already, or the server goes away.
pub(super) async fn submit_all(
    clients: &[Client],
    jobs: u64,
    load: &Load,
    acknowledged: &Arc<Timing>,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let mut tasks = JoinSet::new();
    for (client, jobs) in clients.iter().zip(shares(jobs, clients.len() as u64)) {
        let sender = Sender {
            submitter: client.submitter(),
            handed: VecDeque::new(),
            taken: 0,
            acknowledged: Arc::clone(acknowledged),
            bar: bar.clone(),
        };
        tasks.spawn(sender.run(Load { jobs, ..load.clone() }));
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
    /// Batches whose receipts are not all there: when they were handed over, and how many are missing.
    handed: VecDeque<(Instant, usize)>,
    taken: u64,
    acknowledged: Arc<Timing>,
    bar: ProgressBar,
}

impl Sender {
    async fn run(mut self, load: Load) -> anyhow::Result<u64> {
        let mut maker = Maker::new(&load);
        let mut left = load.jobs;
        while left > 0 {
            let count = usize::try_from(left).map_or(load.batch, |left| left.min(load.batch));
            let batch = maker.batch(count);
            self.handed.push_back((Instant::now(), count));
            self.submitter
                .push_many(batch)
                .await
                .context("failed to submit")?;
            left -= count as u64;
            let receipts = self.submitter.take_receipts();
            self.take(receipts)?;
        }
        while !self.handed.is_empty() {
            let receipts = self.submitter.receipts().await.context("failed to submit")?;
            if receipts.is_empty() {
                bail!("the client says that it is done, and jobs have no receipts");
            }
            self.take(receipts)?;
        }
        Ok(self.taken)
    }

    /// Receipts come in the order of the jobs.
    fn take(&mut self, receipts: Vec<Result<Receipt, SubmitError>>) -> anyhow::Result<()> {
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
            left -= answered;
            if *missing == 0 {
                self.handed.pop_front();
            }
        }
        Ok(())
    }
}

/// Makes jobs, a batch at a time: the params of a batch share one allocation.
pub(super) struct Maker {
    /// The params of a job, with a stamp of zeroes.
    params: Vec<u8>,
    stamp_at: usize,
    clock: StampClock,
}

impl Maker {
    pub(super) fn new(load: &Load) -> Self {
        let (params, stamp_at) = byte_string(load.payload);
        Self {
            params,
            stamp_at,
            clock: load.clock,
        }
    }

    pub(super) fn batch(&mut self, jobs: usize) -> Vec<JobRequest> {
        let stamp = self.clock.now().to_be_bytes();
        self.params[self.stamp_at..self.stamp_at + STAMP_BYTES].copy_from_slice(&stamp);
        let size = self.params.len();
        let mut all = BytesMut::with_capacity(size * jobs);
        for _ in 0..jobs {
            all.extend_from_slice(&self.params);
        }
        let all = all.freeze();
        let job = |at: usize| JobRequest::new(NAME).raw_params(all.slice(at * size..(at + 1) * size));
        (0..jobs).map(job).collect()
    }
}

/// The stamp in a job's params, if they are of this program's making.
pub(super) fn stamp(params: &Bytes) -> Option<u64> {
    let at = head_len(params.len());
    let stamp = params.get(at..at + STAMP_BYTES)?;
    stamp.try_into().ok().map(u64::from_be_bytes)
}

/// A CBOR byte string of `total` bytes, its head included, and where its content begins.
fn byte_string(total: usize) -> (Vec<u8>, usize) {
    const BYTE_STRING: u8 = 2 << 5;
    let head_len = head_len(total);
    let content = total - head_len;
    let mut item = match head_len {
        1 => vec![BYTE_STRING | content as u8],
        2 => vec![BYTE_STRING | 24, content as u8],
        3 => [&[BYTE_STRING | 25], &(content as u16).to_be_bytes()[..]].concat(),
        _ => [&[BYTE_STRING | 26], &(content as u32).to_be_bytes()[..]].concat(),
    };
    item.resize(total, 0x5a);
    item[head_len..head_len + STAMP_BYTES].fill(0);
    (item, head_len)
}

/// How long the head of a byte string is that has `total` bytes with it.
fn head_len(total: usize) -> usize {
    match total {
        0..=24 => 1,
        25..=257 => 2,
        258..=65_538 => 3,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use jobq_client::params;
    use jobq_proto::message::Submission;

    use super::*;

    #[test]
    fn params_are_one_cbor_item_of_the_size_asked_for_and_hold_their_stamp() {
        for payload in [9, 24, 25, 100, 257, 258, 65_538, 65_539, 1024 * 1024] {
            let load = Load {
                jobs: 3,
                payload,
                batch: 3,
                clock: StampClock::new(),
            };
            for job in Maker::new(&load).batch(3) {
                let params = Submission::from(job).params.expect("there are params");
                assert_eq!(params.len(), payload);
                let item: ItemOfBytes = params::decode(&params).expect("they are one byte string");
                assert_eq!(item.0, params.len() - head_len(payload));
                let stamp = stamp(&params).expect("it is there");
                assert!(stamp > 0 && stamp <= load.clock.now());
            }
        }
    }

    #[test]
    fn shares_differ_by_one_at_most_and_add_up() {
        assert_eq!(shares(10, 4).collect::<Vec<_>>(), [3, 3, 2, 2]);
        assert_eq!(shares(1, 3).sum::<u64>(), 1);
    }

    /// The length of a byte string.
    struct ItemOfBytes(usize);

    impl<'de> serde::Deserialize<'de> for ItemOfBytes {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl serde::de::Visitor<'_> for Visitor {
                type Value = ItemOfBytes;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<ItemOfBytes, E> {
                    Ok(ItemOfBytes(bytes.len()))
                }
                fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<ItemOfBytes, E> {
                    Ok(ItemOfBytes(bytes.len()))
                }
            }
            deserializer.deserialize_byte_buf(Visitor)
        }
    }
}
