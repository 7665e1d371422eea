//! The server that is measured: `jobq serve`, as a process of its own.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::setting::Setting;
use super::usage::{self, Memory};

/// Most connections that a server has by default.
const CONNECTIONS: u64 = 10_000;

/// Connections that come and go beside those of the setting.
const SPARE_CONNECTIONS: u64 = 64;

/// How the line begins on which a server says where it listens.
const LISTENING: &str = "listening on ";

/// The database's file and its log's, in the data directory.
const DATABASE: [&str; 2] = ["jobq.db", "jobq.db-wal"];

/// Longest wait for that line: a server that was killed with a long queue may have much to read.
const START_WITHIN: Duration = Duration::from_secs(120);

/// Longest wait for the end of a server that was told to stop: it folds its log into the database.
const STOP_WITHIN: Duration = Duration::from_secs(120);

/// How often an ending server is looked at.
const STOP_STEP: Duration = Duration::from_millis(5);

/// A running server on a fresh store. Dropped, it is killed, and its store deleted.
pub(super) struct Server {
    process: Process,
    /// After the process, so that it is deleted when nobody writes to it any more.
    directory: TempDir,
    address: String,
    begun: Instant,
    start: Duration,
}

/// The store of a server that has stopped. Deleted when this is dropped.
pub(super) struct Leftover {
    directory: TempDir,
}

impl Server {
    /// Starts a server on a free port and waits until it listens. Its store is a new directory within that of the
    /// setting.
    ///
    /// # Errors
    /// The directory cannot be made, or the server does not start; what it says about that goes to standard error.
    pub(super) async fn start(setting: &Setting) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("jobq-bench-")
            .tempdir_in(&setting.dir)
            .with_context(|| format!("failed to make a directory in {}", setting.dir.display()))?;
        Self::start_in(directory, setting).await
    }

    async fn start_in(directory: TempDir, setting: &Setting) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let (process, stdout) = Process::spawn(&data(&directory), setting)?;
        let address = tokio::time::timeout(START_WITHIN, address(stdout)?)
            .await
            .map_err(|_| anyhow!("the server did not listen within {} s", START_WITHIN.as_secs()))?
            .map_err(|_| anyhow!("the server ended before it listened"))?;
        Ok(Self {
            process,
            directory,
            address,
            begun,
            start: begun.elapsed(),
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// How long it took from the start of the process until it listened.
    pub(super) fn start_time(&self) -> Duration {
        self.start
    }

    /// When its process was started.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// The directory that its store is in.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// How long its database is with its log, in bytes.
    ///
    /// # Errors
    /// The files cannot be looked at.
    pub(super) fn database_bytes(&self) -> anyhow::Result<u64> {
        database_bytes(&data(&self.directory))
    }

    /// The CPU time of its process, where that is known.
    pub(super) fn cpu(&self) -> Option<Duration> {
        usage::cpu(self.process.child.id())
    }

    /// The memory of its process, where that is known.
    pub(super) fn memory(&self) -> Option<Memory> {
        usage::memory(self.process.child.id())
    }

    /// How often its threads have gone to sleep by themselves, and so been woken, where that is known.
    pub(super) fn sleeps(&self) -> Option<u64> {
        usage::sleeps(self.process.child.id())
    }

    /// Ends it without a word, as a power cut would.
    pub(super) fn kill(self) -> Leftover {
        let Self {
            process, directory, ..
        } = self;
        drop(process);
        Leftover { directory }
    }

    /// Stops it as a service manager would, and waits for its end.
    ///
    /// # Errors
    /// It cannot be told, does not end in time, or ends with an error.
    pub(super) async fn stop(self) -> anyhow::Result<Leftover> {
        let Self {
            mut process,
            directory,
            ..
        } = self;
        let status = process.terminate().await?;
        if !status.success() {
            bail!("the server ended with an error: {status}");
        }
        Ok(Leftover { directory })
    }
}

impl Leftover {
    /// Starts a server on it, and waits until that listens.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub(super) async fn start(self, setting: &Setting) -> anyhow::Result<Server> {
        Server::start_in(self.directory, setting).await
    }

    /// As [`Server::database_bytes`].
    ///
    /// # Errors
    /// The files cannot be looked at.
    pub(super) fn database_bytes(&self) -> anyhow::Result<u64> {
        database_bytes(&self.data())
    }

    /// The server's data directory.
    pub(super) fn data(&self) -> PathBuf {
        data(&self.directory)
    }
}

fn data(directory: &TempDir) -> PathBuf {
    directory.path().join("data")
}

/// How long the database of this data directory is with its log, in bytes.
fn database_bytes(data: &Path) -> anyhow::Result<u64> {
    let length = |file: &str| match std::fs::metadata(data.join(file)) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("failed to look at {file}")),
    };
    DATABASE.into_iter().map(length).sum()
}

/// The process. Dropped, it is killed.
struct Process {
    child: Child,
}

impl Process {
    fn spawn(data: &Path, setting: &Setting) -> anyhow::Result<(Self, ChildStdout)> {
        let program = std::env::current_exe().context("failed to find this program's file")?;
        let mut command = Command::new(&program);
        // Variables that are meant for other servers would change what is measured.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("JOBQ_") {
                command.env_remove(name);
            }
        }
        // Nor is a configuration file read.
        command.env("JOBQ_CONFIG", "");
        #[cfg(target_os = "linux")]
        let linux = ["--with-parent"];
        #[cfg(not(target_os = "linux"))]
        let linux: [&str; 0] = [];
        let log = setting.log.as_deref().unwrap_or("warn");
        let connections = (setting.connections + setting.clients + setting.workers + SPARE_CONNECTIONS)
            .max(CONNECTIONS)
            .to_string();
        command
            .args(["serve", "--listen", "tcp://127.0.0.1:0", "--log", log])
            .args(["--max-connections", &connections, "--data"])
            .arg(data)
            .args(linux);
        if let Some(keep) = setting.keep_completed {
            command.args(["--keep-completed", &format!("{}s", keep.as_secs())]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let stdout = child.stdout.take().context("the server has no standard output")?;
        Ok((Self { child }, stdout))
    }

    async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("the server has no process number")?;
        kill_process(pid, Signal::TERM).context("failed to stop the server")?;
        let deadline = Instant::now() + STOP_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().context("failed to wait for the server")? {
                return Ok(status);
            }
            tokio::time::sleep(STOP_STEP).await;
        }
        bail!("the server did not stop within {} s", STOP_WITHIN.as_secs())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what the server prints, to its end, so that it never waits for a reader.
fn address(stdout: ChildStdout) -> anyhow::Result<oneshot::Receiver<String>> {
    let (found, address) = oneshot::channel();
    let read = move || {
        let mut found = Some(found);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix(LISTENING)
                && let Some(found) = found.take()
            {
                // Nobody waits any more if it took too long.
                let _ = found.send(address.trim().to_owned());
            }
        }
    };
    std::thread::Builder::new()
        .name("jobq-bench-server".to_owned())
        .spawn(read)
        .context("failed to start a thread")?;
    Ok(address)
}
