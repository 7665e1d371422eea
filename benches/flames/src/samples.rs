//! Which samples count, and whose they are.
//!
//! `perf script` prints a block of lines for each sample: a head that names the thread, and then the frames, the
//! innermost first. Blocks are told apart by an empty line.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, bail};

/// Only the server's process has a thread of this name.
const OF_SERVER: &str = "jobq-writer";

/// Only a worker has a thread of this name.
const OF_WORKER: &str = "jobq-session";

/// In a frame of what compares the store with the counts, after the run. It opens the store, whose threads are then the
/// bench's too.
const CHECK: &str = "bench::verify";
const OF_STORE: &[&str] = &[
    OF_SERVER,
    "jobq-sync",
    "jobq-fold",
    "jobq-orders",
    "jobq-queries",
    "jobq-close",
];

/// Functions that every thread begins with or that a runtime calls tasks by. They say nothing, and are left out.
const SCAFFOLD: &[&str] = &[
    "__libc_start",
    "_start (",
    "clone3",
    "core::ops::function",
    "jobq::main",
    "main (",
    "start_thread",
    "std::panic",
    "std::rt::",
    "std::sys::backtrace",
    "std::thread::",
    "<std::sys",
    "tokio::runtime::",
];

/// One sample.
struct Sample<'a> {
    thread: &'a str,
    process: u32,
    main: bool,
    /// Seconds.
    at: f64,
    /// What follows the process in the head.
    rest: &'a str,
    frames: Vec<&'a str>,
}

/// The samples of the run itself, with the thread's name and process as the thread's name. Where there are workers, what
/// came before the first and after the last sample of them fills the queue, or compares counts.
///
/// # Errors
/// There are none, or none that can be read.
pub(crate) fn keep(script: &str) -> anyhow::Result<String> {
    let samples: Vec<Sample<'_>> = script.split("\n\n").filter_map(sample).collect();
    let of_thread = |name: &'static str| samples.iter().filter(move |sample| sample.thread == name);
    let server = of_thread(OF_SERVER)
        .next()
        .context("no sample is of the server")?
        .process;
    let worked = of_thread(OF_WORKER).map(|sample| sample.at);
    let (first, last) = worked.fold((f64::MAX, f64::MIN), |(first, last), at| {
        (first.min(at), last.max(at))
    });
    let has_workers = first <= last;
    let counts = |sample: &&Sample<'_>| {
        (!has_workers || (first..=last).contains(&sample.at))
            && (sample.process == server || !OF_STORE.contains(&sample.thread))
            && !sample.frames.iter().any(|frame| frame.contains(CHECK))
    };
    let mut kept = String::new();
    let mut by_thread = BTreeMap::new();
    for sample in samples.iter().filter(counts) {
        let process = if sample.process == server {
            "server"
        } else {
            "bench"
        };
        let thread = if sample.main { "main" } else { sample.thread };
        *by_thread.entry((process, thread)).or_insert(0_u64) += 1;
        // Writing to a text does not fail.
        let _ = writeln!(kept, "{process}:{thread} {}", sample.rest);
        for frame in sample.frames.iter().filter(|frame| !is_scaffold(frame)) {
            let _ = writeln!(kept, "{frame}");
        }
        kept.push('\n');
    }
    let all: u64 = by_thread.values().sum();
    if all == 0 {
        bail!("no sample is of the run itself");
    }
    for ((process, thread), count) in by_thread {
        println!("  {process}:{thread} {:.1} %", 100.0 * count as f64 / all as f64);
    }
    Ok(kept)
}

/// Whether a frame is of those: an address and then the function.
fn is_scaffold(frame: &str) -> bool {
    let function = frame
        .trim_start()
        .split_once(' ')
        .map_or("", |(_, function)| function);
    SCAFFOLD.iter().any(|scaffold| function.starts_with(scaffold))
}

/// Reads a block; none if it is no sample.
fn sample(block: &str) -> Option<Sample<'_>> {
    let mut lines = block.lines().skip_while(|line| line.is_empty());
    let head = lines.next()?;
    // A thread's name may have spaces: it ends where a number, a slash and a number follow.
    let (place, ids) = head
        .split_whitespace()
        .filter_map(|word| word.split_once('/').map(|ids| (word, ids)))
        .find_map(|(word, (process, thread))| {
            let ids = (process.parse::<u32>().ok()?, thread.parse::<u32>().ok()?);
            Some((word.as_ptr() as usize - head.as_ptr() as usize, ids))
        })?;
    let rest = &head[place..];
    let at = rest
        .split_whitespace()
        .nth(1)?
        .trim_end_matches(':')
        .parse()
        .ok()?;
    Some(Sample {
        thread: head[..place].trim(),
        process: ids.0,
        main: ids.0 == ids.1,
        at,
        rest,
        frames: lines.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILLING: &str = "jobq 10/10 1.000: cpu-clock:\n\t1 fill (/jobq)\n\n";
    const WORKING: &str = "jobq-session 10/12 2.000: cpu-clock:\n\t2 settle (/jobq)\n\n\
        jobq 20/20 2.100: cpu-clock:\n\t3 serve (/jobq)\n\n\
        jobq-writer 20/21 2.200: cpu-clock:\n\t4 commit (/jobq)\n\n\
        jobq-session 10/12 2.300: cpu-clock:\n\t2 settle (/jobq)\n\n";
    const COMPARING: &str =
        "tokio-rt-worker 10/13 2.250: cpu-clock:\n\t5 jobq::bench::verify::count (/jobq)\n\n";

    #[test]
    fn samples_are_told_by_process_and_thread_from_the_first_of_a_worker_to_the_last() {
        let kept = keep(&[FILLING, WORKING, COMPARING].concat()).expect("there are some");
        let heads: Vec<&str> = kept
            .lines()
            .filter(|line| line.contains("cpu-clock"))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let session = "bench:jobq-session";
        assert_eq!(heads, [session, "server:main", "server:jobq-writer", session]);
        assert!(kept.contains("\t4 commit (/jobq)"), "{kept}");
    }

    #[test]
    fn a_profile_without_a_server_is_refused() {
        let error = keep(FILLING).expect_err("there is none").to_string();
        assert!(error.contains("of the server"), "{error}");
    }
}
