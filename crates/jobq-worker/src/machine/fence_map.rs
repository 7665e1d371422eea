//! Maps by fence, which are looked into several times for each run.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use jobq_proto::Fence;

/// What is kept for each of some runs.
pub(crate) type FenceMap<T> = HashMap<Fence, T, BuildHasherDefault<FenceHasher>>;

/// Spreads numbers that rise one by one. Fences are the server's, so nobody else can choose them to collide, and
/// the default hasher's defence against that would only cost.
#[derive(Debug, Default)]
pub(crate) struct FenceHasher(u64);

impl FenceHasher {
    /// 2⁶⁴ divided by the golden ratio, as in Fibonacci hashing.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
}

impl Hasher for FenceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(Self::FACTOR);
        // The map takes its buckets from the low bits, and the product is best in the high ones.
        self.0 = mixed ^ (mixed >> 32);
    }
}
