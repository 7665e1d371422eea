//! The jobs that are submitted: their names, and params of a given size with a time stamp in them.

use std::sync::Arc;

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
    /// The clock of the stamps in their params.
    pub(super) clock: StampClock,
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
    /// The params of a job, with a stamp of zeroes.
    params: Vec<u8>,
    stamp_at: usize,
    clock: StampClock,
    names: Arc<[String]>,
    made: usize,
}

impl Maker {
    pub(super) fn new(load: &Load) -> Self {
        let (params, stamp_at) = byte_string(load.payload);
        Self {
            params,
            stamp_at,
            clock: load.clock,
            names: Arc::clone(&load.names),
            made: 0,
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
        let first = self.made;
        self.made += jobs;
        let job = |at: usize| {
            let name = self.names[(first + at) % self.names.len()].as_str();
            JobRequest::new(name).raw_params(all.slice(at * size..(at + 1) * size))
        };
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
                outstanding: None,
                rate: None,
                names: one_name(),
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
            clock: StampClock::new(),
        });
        let names = [maker.batch(2), maker.batch(2)].concat();
        let names: Vec<String> = names.into_iter().map(|job| Submission::from(job).name).collect();
        assert_eq!(names, ["a", "b", "c", "a"]);
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
