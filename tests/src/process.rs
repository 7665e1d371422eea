//! A process that a test started, and that does not outlive it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::{soon, until};

/// Most bytes of a log that a failed test shows: its end.
const SHOWN: usize = 64 * 1024;

/// A running process. Dropped, it is killed; in a test that fails, its standard error is shown then.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
    log: PathBuf,
}

impl Process {
    /// Starts a process whose standard error goes to the end of the file `log`.
    pub fn spawn(mut command: Command, what: &str, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log);
        let file = file.unwrap_or_else(|error| panic!("failed to open {}: {error}", log.display()));
        let child = command
            .stderr(Stdio::from(file))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start {what}: {error}"));
        Self {
            child,
            what: what.to_owned(),
            log: log.to_owned(),
        }
    }

    /// Its number; none once it has been waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its standard input, once, if that is a pipe.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its standard output, once, if that is a pipe.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Kills it by SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait().await;
    }

    /// Sends a signal to it. The number is its own for as long as it was not waited for.
    pub fn signal(&self, signal: Signal) {
        let pid = self
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let pid = pid.unwrap_or_else(|| panic!("{} has ended already", self.what));
        kill_process(pid, signal).unwrap_or_else(|error| panic!("failed to signal {}: {error}", self.what));
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> ExitStatus {
        let ended = soon(&format!("the end of {}", self.what), self.child.wait()).await;
        ended.unwrap_or_else(|error| panic!("failed to wait for {}: {error}", self.what))
    }

    /// What it, and those that had the same log before, wrote to standard error.
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// Waits until a text is in its log.
    pub async fn logged(&self, text: &str) {
        self.logged_times(text, 1).await;
    }

    /// Waits until a text is in its log so many times.
    pub async fn logged_times(&self, text: &str, times: usize) {
        let what = format!("{text:?} in the log of {}", self.what);
        until(&what, async || self.log().matches(text).count() >= times).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.start_kill();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.ceil_char_boundary(log.len().saturating_sub(SHOWN));
            eprintln!("---- standard error of {}:\n{}----", self.what, &log[start..]);
        }
    }
}

/// A log as text; empty if there is none.
pub fn read_log(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
