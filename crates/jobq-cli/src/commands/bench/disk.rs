//! What one fdatasync costs, to compare with.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often, where it is measured by itself.
const ROUNDS: usize = 200;

/// Bytes appended before each: a page, as a database writes at least.
const BYTES: usize = 4 * 1024;

/// A file that is appended to and synced, to see how long that takes.
pub(super) struct Probe {
    file: File,
    times: Vec<Duration>,
}

impl Probe {
    /// Makes a file in `dir`, which is deleted with the directory. Blocks.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join("fdatasync");
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file,
            times: Vec::new(),
        })
    }

    /// Appends 4 KiB, syncs, and takes down how long that took. Blocks.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let start = Instant::now();
        self.file.write_all(&[0x5a; BYTES])?;
        self.file.sync_data()?;
        self.times.push(start.elapsed());
        Ok(())
    }

    /// The median time; none if there was no sync.
    pub(super) fn median(mut self) -> Option<Duration> {
        self.times.sort_unstable();
        self.times.get(self.times.len() / 2).copied()
    }
}

/// The median time of a sync in `dir`. Blocks.
pub(super) fn fdatasync(dir: &Path) -> io::Result<Duration> {
    let mut probe = Probe::new(dir)?;
    for _ in 0..ROUNDS {
        probe.sync()?;
    }
    Ok(probe.median().expect("there was at least one round"))
}
