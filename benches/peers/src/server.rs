//! A peer's server: a process of its own on loopback, on a fresh directory.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::pipe::Pipe;

/// How long a server may take until it listens.
const START_WITHIN: Duration = Duration::from_secs(20);

/// How often it is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// A running server. It is killed, and its files are deleted, when this is dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    /// Last, so that the process has ended before its files go.
    dir: TempDir,
}

impl Server {
    /// Starts `program` with what `arguments` makes of a port and a directory, and waits until it listens.
    pub(crate) fn start(
        program: &Path,
        parent: &Path,
        arguments: impl FnOnce(u16, &Path, &mut Command) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(parent)
            .with_context(|| format!("failed to make a directory in {}", parent.display()))?;
        let port = free_port().context("failed to find a free port on 127.0.0.1")?;
        let log = File::create(dir.path().join("log")).context("failed to make a log file")?;
        let mut command = Command::new(program);
        arguments(port, dir.path(), &mut command)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to share the log file")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let mut server = Self { child, port, dir };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    pub(crate) fn connect(&self) -> anyhow::Result<Pipe> {
        Pipe::connect(self.port).with_context(|| format!("failed to connect to 127.0.0.1:{}", self.port))
    }

    /// CPU time of all its threads so far; none where the system does not tell.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // The second field, the program's name, may hold anything but ends with the last parenthesis; proc(5) counts
        // utime and stime as fields 14 and 15.
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut fields = after_name.split_whitespace().skip(14 - 3);
        let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        let micros = ticks * 1_000_000 / rustix::param::clock_ticks_per_second();
        Some(Duration::from_micros(micros))
    }

    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while Pipe::connect(self.port).is_err() {
            if let Some(status) = self.child.try_wait().context("failed to look after the server")? {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                bail!("the server ended with {status}:\n{log}");
            }
            if begun.elapsed() > START_WITHIN {
                bail!("the server does not listen after {} s", START_WITHIN.as_secs());
            }
            std::thread::sleep(TRY_EVERY);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it has ended already there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// The program of this name on PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// What a program says when it is asked for its version.
pub(crate) fn version(program: &Path, flag: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg(flag)
        .output()
        .with_context(|| format!("failed to start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    // The first word that is a number with points, whatever stands around it.
    let number = said
        .split(|c: char| c.is_whitespace() || c == '=')
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    Ok(number.unwrap_or("of an unknown version").to_owned())
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
