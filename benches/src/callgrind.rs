//! Callgrind: how many instructions a process spent in [`measured`](crate::measured), on all of its threads.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What work took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Instructions, those of the kernel apart.
    pub instructions: u64,
    /// Calls that allocate memory or move it: `malloc`, `calloc`, `realloc` and their kin.
    pub allocations: u64,
}

/// Why nothing was counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallgrindError {
    /// The program could not be started.
    #[error("failed to start valgrind: {0}; install it, e.g. by `apt-get install valgrind`")]
    NotThere(#[source] std::io::Error),
    /// It ended badly.
    #[error("valgrind ended with {status}:\n{said}")]
    Failed {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote to standard error.
        said: String,
    },
    /// What it wrote down cannot be read.
    #[error("failed to read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What it wrote down lacks what is looked for.
    #[error("{path} does not say what `measured` took; is it a function of its own in this build?")]
    NotMeasured {
        /// The file.
        path: PathBuf,
    },
}

/// The function in which is counted, as callgrind writes its name.
const MEASURED: &str = "*jobq_benches::workload::measured";

/// Functions of the C library that allocate.
const ALLOCATING: &[&str] = &[
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
];

/// Runs a program, which calls [`measured`](crate::measured) once. What was counted in there is left in
/// `DIR/callgrind.out.NAME`, for `callgrind_annotate`.
///
/// # Errors
/// When valgrind is not there, or the program fails, or does not call the function.
pub fn count(program: &mut Command, dir: &Path, name: &str) -> Result<Counts, CallgrindError> {
    let prefix = dir.join(format!("callgrind.out.{name}"));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--zero-before={MEASURED}"))
        .arg(format!("--dump-after={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", prefix.display()))
        // Names stand where they are used, so that they can be found line by line.
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(CallgrindError::NotThere)?;
    if !output.status.success() {
        return Err(CallgrindError::Failed {
            status: output.status,
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    // The first dump is the one after the function; that of the process's end has another name.
    let dump = dir.join(format!("callgrind.out.{name}.1"));
    let result = std::fs::read_to_string(&dump)
        .map_err(|source| unreadable(&dump, source))
        .and_then(|text| counts(&text).ok_or_else(|| CallgrindError::NotMeasured { path: dump.clone() }));
    std::fs::rename(&dump, &prefix).map_err(|source| unreadable(&dump, source))?;
    result
}

fn unreadable(path: &Path, source: std::io::Error) -> CallgrindError {
    CallgrindError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

/// What a dump says that was made after the function.
fn counts(dump: &str) -> Option<Counts> {
    let mut lines = dump.lines();
    if !dump.contains("desc: Trigger: --dump-after=") {
        return None;
    }
    let instructions = dump
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    let mut allocations = 0;
    while let Some(line) = lines.next() {
        let Some(called) = line.strip_prefix("cfn=") else {
            continue;
        };
        // A function that is called within itself has a number: malloc'2.
        let called = called.split('\'').next().unwrap_or(called);
        if ALLOCATING.contains(&called) {
            allocations += calls(lines.next()?)?;
        }
    }
    Some(Counts {
        instructions,
        allocations,
    })
}

/// How often, by a line `calls=COUNT POSITION`.
fn calls(line: &str) -> Option<u64> {
    line.strip_prefix("calls=")?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
desc: Trigger: --dump-after=jobq_benches::workload::measured
events: Ir
fn=jobq_benches::workload::measured
90 4
cfn=malloc
calls=3 0
90 400
cob=/lib/libc.so.6
cfn=realloc'2
calls=2 0
90 100
cfn=malloc_usable_size
calls=7 0
90 100
totals: 604
";

    #[test]
    fn instructions_and_allocations_are_counted() {
        let counted = Counts {
            instructions: 604,
            allocations: 5,
        };
        assert_eq!(counts(DUMP), Some(counted));
    }

    #[test]
    fn a_dump_that_was_made_for_another_reason_counts_nothing() {
        assert_eq!(
            counts(&DUMP.replace("--dump-after=", "Program termination")),
            None
        );
    }
}
