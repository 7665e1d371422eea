//! The exit codes, in one table, and errors that carry one.

use std::fmt;
use std::process::ExitCode;

use crate::errors::describe;

/// How the program ends. The numbers are part of the command line: scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Ok = 0,
    /// It failed, for a reason without a code of its own.
    Failed = 1,
    /// The command line, a variable or what was read as params makes no sense. clap uses this number too.
    Usage = 2,
    /// No server answers there, or it refuses this client for good, or it is full and stayed so for as long as was
    /// waited.
    Unreachable = 3,
    /// Not all of what was asked for was done: lines that are broken, jobs that were refused or do not exist.
    Partial = 4,
    /// The job that was waited for failed.
    JobFailed = 5,
    /// The job that was waited for was cancelled.
    JobCancelled = 6,
    /// The answer did not come: it may have been done or not. Repeating it with the same uuid is safe.
    Unknown = 7,
    /// The time given was over before all jobs that were waited for had ended.
    TimeOver = 8,
    /// The server could not start: a port in use, a data directory that is held by another or cannot be used.
    CannotStart = 10,
    /// The server's store failed: a write or sync did, say. A service manager should not restart it blindly
    /// (`RestartPreventExitStatus=11 12` in systemd): look at the disk first.
    StoreFailed = 11,
    /// The database is damaged: the server found what no jobq has written, or `jobq check` did.
    Damaged = 12,
    /// It was interrupted by a signal.
    Interrupted = 130,
}

impl Exit {
    /// What the help prints below each command.
    pub(crate) const TABLE: &'static str = "\
Exit codes:
    0  done, or as much of it as was read of a listing
    1  failed
    2  the command line or its input makes no sense
    3  no server answers, or it refuses this client, or takes nothing for now
    4  not all of it was done: broken lines, refused jobs, jobs that do not exist
    5  the job that was waited for failed, or one of several did
    6  the job that was waited for was cancelled, or one of several was
    7  no answer came: done or not is unknown
    8  the time given was over before the jobs had ended
   10  the server could not start
   11  the server's store failed; look at the disk before starting it again
   12  the database is damaged; `jobq check` says what is
  130  interrupted";

    /// An error that ends the program with this code.
    pub(crate) fn because(self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        anyhow::Error::new(Coded {
            exit: self,
            error: error.into(),
        })
    }

    /// The code that an error ends the program with.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error
            .downcast_ref::<Coded>()
            .map_or(Self::Failed, |coded| coded.exit)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error and the code that the program is to end with. It is found again below any context.
#[derive(Debug)]
struct Coded {
    exit: Exit,
    error: anyhow::Error,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With all its causes: what is below this error does not show up in the chain again.
        f.write_str(&describe(self.error.as_ref()))
    }
}

impl std::error::Error for Coded {}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_code_is_found_below_its_context() {
        let error = Exit::Unreachable.because(anyhow::anyhow!("nobody answers"));
        let error = Err::<(), _>(error)
            .context("failed to ask")
            .expect_err("it is an error");
        assert_eq!(Exit::of(&error), Exit::Unreachable);
        assert_eq!(format!("{error:#}"), "failed to ask: nobody answers");
        assert_eq!(Exit::of(&anyhow::anyhow!("something")), Exit::Failed);
    }

    #[test]
    fn the_table_of_the_help_has_every_code() {
        use Exit::*;
        for exit in [
            Ok,
            Failed,
            Usage,
            Unreachable,
            Partial,
            JobFailed,
            JobCancelled,
            Unknown,
            TimeOver,
            CannotStart,
            StoreFailed,
            Damaged,
            Interrupted,
        ] {
            let number = format!("{:>5}  ", exit as u8);
            assert!(
                Exit::TABLE.lines().any(|line| line.starts_with(&number)),
                "{exit:?}"
            );
        }
    }
}
