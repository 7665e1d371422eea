//! `jobq work` as a process that can be killed.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::Signal;

use crate::{Process, Program};

/// A worker that runs a shell script for each job; its log is `work.log` of its directory. Dropped, it is killed.
#[derive(Debug)]
pub struct WorkerProcess {
    process: Process,
}

impl WorkerProcess {
    /// Starts a worker for the jobs of `name` at the server at `address`, so many at a time. Its script finds
    /// `argument` in `$1`.
    pub fn start(
        program: &Program,
        directory: &Path,
        address: &str,
        name: &str,
        concurrency: u32,
        script: &str,
        argument: &Path,
    ) -> Self {
        let mut command = program.command(["work", name, "--server", address, "-j"]);
        command
            .arg(concurrency.to_string())
            .args(["--", "sh", "-c", script, "sh"])
            .arg(argument)
            .stdout(Stdio::null());
        let process = Process::spawn(command, "jobq work", &directory.join("work.log"));
        Self { process }
    }

    /// Kills it by SIGKILL, and waits until it is gone. Its guard kills what its script started, a moment later.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Stops it by SIGTERM, and waits for its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait().await
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until it has said a text.
    pub async fn logged(&self, text: &str) {
        self.process.logged(text).await;
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> ExitStatus {
        self.process.wait().await
    }
}
