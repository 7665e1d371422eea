//! What a process has used: CPU time and memory, as Linux tells. Elsewhere nothing is known.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// Resident now, in bytes.
    pub(super) resident: u64,
    /// Of that, what no file stands behind, in bytes.
    pub(super) anonymous: u64,
    /// Resident at most until now, in bytes.
    pub(super) peak: u64,
}

/// CPU time of this process.
pub(super) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// CPU time of another process, in steps of 10 ms as a rule.
pub(super) fn cpu(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = cpu_ticks(&stat)?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Memory of another process.
pub(super) fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Memory {
        resident: kilobytes(&status, "VmRSS:")?,
        anonymous: kilobytes(&status, "RssAnon:")?,
        peak: kilobytes(&status, "VmHWM:")?,
    })
}

/// How often the threads of another process have gone to sleep by themselves. Those that have ended are not counted.
pub(super) fn sleeps(pid: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of_task = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        number(&status, "voluntary_ctxt_switches:")
    };
    Some(tasks.flatten().filter_map(of_task).sum())
}

/// User and system time from a `/proc/PID/stat`. The second field is the program's name in parentheses, which may
/// hold anything; the two are the 14th and 15th.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A line such as `VmRSS:     12345 kB`, in bytes.
fn kilobytes(status: &str, key: &str) -> Option<u64> {
    let line = value(status, key)?;
    let number: u64 = line.strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

/// A line such as `voluntary_ctxt_switches:  12`.
fn number(status: &str, key: &str) -> Option<u64> {
    value(status, key)?.parse().ok()
}

fn value<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 5 0 99";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn memory_is_read_from_its_line() {
        let status = "Name:\tjobq\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(10 * 1024 * 1024));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }

    #[test]
    fn how_often_a_thread_slept_is_not_taken_for_how_often_it_was_interrupted() {
        let status = "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t12\n";
        assert_eq!(number(status, "voluntary_ctxt_switches:"), Some(12));
    }
}
