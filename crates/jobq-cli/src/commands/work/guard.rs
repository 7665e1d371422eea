//! What kills the commands of a worker that was killed itself.
//!
//! A process that gets SIGKILL cannot take its children along. So a worker has a second process beside it, the guard:
//! `jobq work-guard`, which is told of each process group by a pipe. When the pipe closes, however the worker ended,
//! the guard kills the groups that are left, and ends. It needs nothing that only Linux has, and reaches whole groups.

use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::exit::Exit;
use crate::signals::Signals;

/// The argument that a guard is started by. It is no command of the command line, so nobody is told of it.
pub(crate) const COMMAND: &str = "work-guard";

/// The worker's side of its guard. Dropped, it lets the guard end.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// None where there is no guard. What is written to it never waits: a guard that stands still is no guard.
    pipe: Option<ChildStdin>,
    broken: AtomicBool,
}

impl Guard {
    /// Starts a guard. Without one, commands outlive a worker that is killed, and nothing else is worse; so the log
    /// says if there is none.
    pub(super) fn start() -> Self {
        Self::try_start().unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to start the guard: commands go on if this process is killed by SIGKILL");
            Self::default()
        })
    }

    fn try_start() -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            // Flags that variables set are the worker's.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal from the terminal is for the worker.
            .process_group(0)
            .spawn()?;
        let pipe = process.stdin.take();
        if let Some(pipe) = &pipe {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        // It is not waited for: it ends when the pipe closes, which may be after this process has ended.
        Ok(Self {
            pipe,
            broken: AtomicBool::new(false),
        })
    }

    /// Takes a group on.
    pub(super) fn add(&self, group: Pid) {
        self.tell('+', group);
    }

    /// Lets a group go.
    pub(super) fn remove(&self, group: Pid) {
        self.tell('-', group);
    }

    fn tell(&self, sign: char, group: Pid) {
        let Some(pipe) = self
            .pipe
            .as_ref()
            .filter(|_| !self.broken.load(Ordering::Relaxed))
        else {
            return;
        };
        // Short enough to be written whole or not at all (PIPE_BUF).
        let line = format!("{sign}{}\n", group.as_raw_pid());
        if let Err(error) = rustix::io::write(pipe, line.as_bytes()) {
            self.broken.store(true, Ordering::Relaxed);
            tracing::warn!(%error, "the guard is gone: commands go on if this process is killed by SIGKILL");
        }
    }
}

/// Is the guard: reads its standard input, and kills what is left when that closes.
pub(crate) fn run() -> anyhow::Result<Exit> {
    // Taken and not looked at: a service manager that stops all processes of a unit at once means the worker.
    let _signals = Signals::new()?;
    let mut groups = BTreeSet::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let Some((sign, number)) = line.split_at_checked(1) else {
            continue;
        };
        // A group 1 would be all processes.
        let group = number
            .parse()
            .ok()
            .filter(|&number| number > 1)
            .and_then(Pid::from_raw);
        match (sign, group) {
            ("+", Some(group)) => drop(groups.insert(group.as_raw_pid())),
            ("-", Some(group)) => drop(groups.remove(&group.as_raw_pid())),
            _ => {}
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        // An error says that there is nobody left in it.
        let _ = kill_process_group(group, Signal::KILL);
    }
    Ok(Exit::Ok)
}
