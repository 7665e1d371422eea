//! Uuids for jobs: version 7, each greater than the one before it in the same process.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Chance is fetched for this many uuids at a time: a system call for each would cost more than all the rest.
const POOL: usize = 256;

/// Bits of a uuid that are neither time, version nor variant.
const TAIL_BITS: u32 = 74;

static SEQUENCE: Mutex<Sequence> = Mutex::new(Sequence::new());

/// A new uuid, from the wall clock and chance.
pub(crate) fn next() -> Uuid {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    SEQUENCE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .next(millis, fill)
}

fn fill(pool: &mut [u8]) {
    if getrandom::fill(pool).is_err() {
        // std seeds these by other means; they are no secrets, they only have to differ.
        for chunk in pool.chunks_mut(8) {
            let random = RandomState::new().build_hasher().finish().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}

/// RFC 9562, section 6.2, method 2: within a millisecond the tail grows by a random step.
struct Sequence {
    millis: u64,
    tail: u128,
    pool: [u8; 4 * POOL],
    used: usize,
}

impl Sequence {
    const fn new() -> Self {
        Self {
            millis: 0,
            tail: 0,
            pool: [0; 4 * POOL],
            used: 4 * POOL,
        }
    }

    /// A clock that goes back is not followed.
    fn next(&mut self, millis: u64, fill: fn(&mut [u8])) -> Uuid {
        if millis > self.millis {
            self.millis = millis;
            // The highest bit is left for the steps.
            let random = (0..3).fold(0, |tail, _| tail << 32 | u128::from(self.random(fill)));
            self.tail = random & ((1 << (TAIL_BITS - 1)) - 1);
        } else {
            self.tail += u128::from(self.random(fill)) + 1;
            if self.tail >> TAIL_BITS != 0 {
                self.tail = 0;
                self.millis += 1;
            }
        }
        let high = self.tail >> 62;
        let low = self.tail & ((1 << 62) - 1);
        let time = u128::from(self.millis & ((1 << 48) - 1));
        Uuid::from_u128(time << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
    }

    fn random(&mut self, fill: fn(&mut [u8])) -> u32 {
        if self.used == self.pool.len() {
            fill(&mut self.pool);
            self.used = 0;
        }
        let bytes = &self.pool[self.used..self.used + 4];
        self.used += 4;
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_of_version_7_and_rise() {
        let uuids: Vec<Uuid> = (0..10_000).map(|_| next()).collect();
        assert!(uuids.is_sorted_by(|a, b| a < b));
        assert!(uuids.iter().all(|u| u.get_version_num() == 7));
        assert!(uuids.iter().all(|u| u.get_variant() == uuid::Variant::RFC4122));
    }

    #[test]
    fn they_rise_while_the_clock_stands_still_or_goes_back() {
        let mut sequence = Sequence::new();
        let ones = |pool: &mut [u8]| pool.fill(0xff);
        let first = sequence.next(1_700_000_000_000, ones);
        let second = sequence.next(1_700_000_000_000, ones);
        let third = sequence.next(1_600_000_000_000, ones);
        assert!(first < second && second < third);
        let later = sequence.next(1_700_000_000_001, |pool| pool.fill(0));
        assert!(third < later);
        let (seconds, nanos) = later.get_timestamp().expect("it has a time").to_unix();
        assert_eq!((seconds, nanos), (1_700_000_000, 1_000_000));
    }
}
