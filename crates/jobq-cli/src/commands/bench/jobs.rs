//! The jobs that are submitted: their names, and params of a given size with a time stamp in them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use jobq_client::JobRequest;

use super::setting::Setting;
use super::timing::{STAMP_BYTES, StampClock};

/// The name of all jobs, where they have one name.
pub(super) const NAME: &str = "bench";

/// The jobs of one client, or of all.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// How many.
    pub(super) jobs: u64,
    /// Bytes of params of each, more than those of a stamp.
    pub(super) payload: usize,
    /// Most that are handed over at a time, at least one.
    pub(super) batch: usize,
    /// Most that are not acknowledged, of each client.
    pub(super) outstanding: Option<usize>,
    /// How many come a second.
    pub(super) rate: Option<u64>,
    /// Their names, at least one, which they take in turn.
    pub(super) names: Arc<[String]>,
    /// When they are due; at once if there is none.
    pub(super) due: Option<Schedule>,
    /// The clock of the stamps in their params.
    pub(super) clock: StampClock,
}

/// Times of jobs that are due later, evenly spread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// The stamp of the first one's time.
    pub(super) first: u64,
    /// The same by the calendar: microseconds since 1970.
    first_at: i64,
    /// From the first one's time until the end of the last one's share.
    span: Duration,
}

impl Schedule {
    /// From `lead` from now on.
    ///
    /// # Errors
    /// The calendar of this machine is not between 1970 and the year 292,000.
    pub(super) fn starting_in(lead: Duration, span: Duration, clock: StampClock) -> anyhow::Result<Self> {
        let (now, at) = (clock.now(), SystemTime::now() + lead);
        let at = at
            .duration_since(UNIX_EPOCH)
            .context("the system's clock is before 1970")?;
        Ok(Self {
            first: now.saturating_add(u64::try_from(lead.as_nanos()).unwrap_or(u64::MAX)),
            first_at: i64::try_from(at.as_micros()).context("the system's clock is too far ahead")?,
            span,
        })
    }

    /// When job `number` of `jobs` is due, counted from 0: its stamp, and the time by the calendar.
    fn due(&self, number: u64, jobs: u64) -> (u64, i64) {
        let micros = self.span.as_micros() * u128::from(number) / u128::from(jobs.max(1));
        let micros = i64::try_from(micros).unwrap_or(i64::MAX / 1_000);
        let stamp = self.first.saturating_add(micros.unsigned_abs() * 1_000);
        (stamp, self.first_at.saturating_add(micros))
    }
}

impl Load {
    /// The load of a setting, all jobs with one name.
    pub(super) fn new(setting: &Setting, clock: StampClock) -> Self {
        Self {
            jobs: setting.jobs,
            payload: setting.payload,
            batch: setting.batch,
            outstanding: setting.outstanding,
            rate: setting.rate,
            names: one_name(),
            due: None,
            clock,
        }
    }
}

/// The one name of all jobs.
pub(super) fn one_name() -> Arc<[String]> {
    Arc::new([NAME.to_owned()])
}

/// Makes jobs, a batch at a time: the params of a batch share one allocation.
pub(super) struct Maker {
    load: Load,
    /// The params of a job, with a stamp of zeroes.
    params: Vec<u8>,
    stamp_at: usize,
    made: u64,
}

impl Maker {
    pub(super) fn new(load: &Load) -> Self {
        let (params, stamp_at) = byte_string(load.payload);
        Self {
            load: load.clone(),
            params,
            stamp_at,
            made: 0,
        }
    }

    /// The next jobs of the load. Their stamps are the time now, or that at which they are due.
    pub(super) fn batch(&mut self, jobs: usize) -> Vec<JobRequest> {
        self.batch_of(Instant::now(), jobs)
    }

    /// The next jobs of the load, as if made then.
    pub(super) fn batch_of(&mut self, then: Instant, jobs: usize) -> Vec<JobRequest> {
        let first = self.made;
        self.made += jobs as u64;
        let made = self.load.clock.stamp(then);
        let due = |number| self.load.due.map(|schedule| schedule.due(number, self.load.jobs));
        let size = self.params.len();
        let mut all = BytesMut::with_capacity(size * jobs);
        for number in first..self.made {
            let stamp = due(number).map_or(made, |(stamp, _)| stamp);
            self.params[self.stamp_at..self.stamp_at + STAMP_BYTES].copy_from_slice(&stamp.to_be_bytes());
            all.extend_from_slice(&self.params);
        }
        let mut all = all.freeze();
        let names = &self.load.names;
        let job = |number: u64| {
            let name = names[(number % names.len() as u64) as usize].as_str();
            let job = JobRequest::new(name).raw_params(all.split_to(size));
            match due(number) {
                Some((_, at)) => job.run_at(at),
                None => job,
            }
        };
        (first..self.made).map(job).collect()
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
                outstanding: None,
                rate: None,
                names: one_name(),
                due: None,
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
    fn jobs_have_the_names_in_turn_from_batch_to_batch() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let mut maker = Maker::new(&Load {
            jobs: 4,
            payload: 9,
            batch: 2,
            outstanding: None,
            rate: None,
            names: Arc::new(names),
            due: None,
            clock: StampClock::new(),
        });
        let names = [maker.batch(2), maker.batch(2)].concat();
        let names: Vec<String> = names.into_iter().map(|job| Submission::from(job).name).collect();
        assert_eq!(names, ["a", "b", "c", "a"]);
    }

    #[test]
    fn due_times_are_spread_over_the_span_by_both_clocks() {
        let clock = StampClock::new();
        let lead = Duration::from_secs(1_000);
        let schedule =
            Schedule::starting_in(lead, Duration::from_secs(10), clock).expect("the clock is right");
        let (first, first_at) = schedule.due(0, 4);
        assert!(clock.until(first) <= lead && clock.until(first) > lead / 2);
        let (last, last_at) = schedule.due(3, 4);
        assert_eq!((last - first, last_at - first_at), (7_500_000_000, 7_500_000));
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
