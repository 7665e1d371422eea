//! What one fdatasync costs, to compare with.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often.
const ROUNDS: usize = 200;

/// Bytes appended before each: a page, as a database writes at least.
const BYTES: usize = 4 * 1024;

/// The median time of appending 4 KiB to a file in `dir` and syncing it. Blocks.
pub(super) fn fdatasync(dir: &Path) -> io::Result<Duration> {
    let path = dir.join("fdatasync");
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
    let page = [0x5a; BYTES];
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    drop(file);
    std::fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}
