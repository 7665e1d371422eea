//! What happened in a run, line by line.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};

use super::agenda::{At, SECOND};

/// Most lines that are kept for the report of a failure.
const KEPT: usize = 400;

/// The lines of a run. All of them go into a digest; some, or all, are kept or printed.
#[derive(Debug)]
pub struct Trace {
    digest: Digest,
    lines: u64,
    keep: Keep,
    kept: VecDeque<String>,
}

/// What becomes of the lines beside their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: it is fast.
    Nothing,
    /// The last of them are kept.
    Last,
    /// All of them are kept.
    All,
    /// All of them are printed, and the last are kept.
    Print,
}

impl Trace {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            digest: Digest::default(),
            lines: 0,
            keep,
            kept: VecDeque::new(),
        }
    }

    pub(super) fn line(&mut self, now: At, what: fmt::Arguments<'_>) {
        self.lines += 1;
        let time = Time(now);
        if self.keep == Keep::Nothing {
            // A digest cannot fail to take what it is given.
            let _ = write!(self.digest, "{time} {what}");
            return;
        }
        let line = format!("{time} {what}");
        self.digest.take(line.as_bytes());
        if self.keep == Keep::Print {
            println!("{line}");
        }
        if self.keep != Keep::All && self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
    }

    /// A number that stands for all the lines.
    pub fn digest(&self) -> u128 {
        self.digest.value()
    }

    /// How many lines there were.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Those that were kept.
    pub fn kept(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(String::as_str)
    }
}

struct Time(At);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5}.{:06}", self.0 / SECOND, self.0 % SECOND)
    }
}

/// Two FNV-1a sums of 64 bits, the second over turned bytes. It is for telling two runs apart, not against anybody.
#[derive(Debug)]
struct Digest {
    one: u64,
    two: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            one: 0xcbf2_9ce4_8422_2325,
            two: 0x8422_2325_cbf2_9ce4,
        }
    }
}

impl Digest {
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.one = (self.one ^ u64::from(*byte)).wrapping_mul(Self::PRIME);
            self.two = (self.two ^ u64::from(!*byte)).wrapping_mul(Self::PRIME);
        }
    }

    fn value(&self) -> u128 {
        u128::from(self.one) << 64 | u128::from(self.two)
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.take(text.as_bytes());
        Ok(())
    }
}

/// How often each kind of thing happened, so that one sees what the seeds cover.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(super) fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub(super) fn add(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }

    /// Adds what happened in another run.
    pub fn merge(&mut self, other: &Tally) {
        for (what, times) in &other.counts {
            self.add(what, *times);
        }
    }

    /// What happened, and how often, by name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(what, times)| (*what, *times))
    }

    /// How often something happened.
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }
}
