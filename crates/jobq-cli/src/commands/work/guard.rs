//! What kills the commands of a worker that was killed itself.
//!
//! A process that gets SIGKILL cannot take its children along. So a worker has a second process beside it, the guard:
//! `jobq work-guard`, which is told of each process group by a pipe. When the pipe closes, however the worker ended,
//! the guard kills the groups that are left, and ends. It needs nothing that only Linux has, and reaches whole groups.

use std::collections::BTreeMap;
use std::io::{self, BufRead, PipeReader, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, getpid, kill_process_group};

use crate::exit::Exit;
use crate::signals::Signals;

/// The argument that a guard is started by. It is no command of the command line, so nobody is told of it.
pub(crate) const COMMAND: &str = "work-guard";

/// Most bytes of a line to the guard: a sign, two numbers of 20 digits at most, a space and the line's end.
const LINE: usize = 64;

/// The worker's side of its guard. Dropped, it lets the guard end.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// None where there is no guard.
    link: Option<Link>,
    /// The next group's number at the guard.
    next: AtomicU64,
}

#[derive(Debug)]
struct Link {
    /// What is written to it never waits: a guard that stands still is no guard.
    pipe: PipeWriter,
    /// Kept open, so that nobody who writes when the guard has gone gets SIGPIPE: a command that starts would die of it.
    _read_end: PipeReader,
    guard: Mutex<Child>,
    broken: AtomicBool,
}

impl Guard {
    /// Starts a guard. Without one, commands outlive a worker that is killed, and nothing else is worse; so the log
    /// says if there is none.
    pub(super) fn start() -> Self {
        let link = Link::open()
            .inspect_err(|error| {
                tracing::warn!(%error, "failed to start the guard: commands go on if this process is killed by SIGKILL");
            })
            .ok();
        Self {
            link,
            next: AtomicU64::default(),
        }
    }

    /// Has `command` tell the guard of the group that it will lead, before it runs. The guard has that group until what
    /// this returns is dropped.
    #[expect(
        unsafe_code,
        reason = "only what runs between fork and exec knows the group and leaves no moment in which nobody does"
    )]
    pub(super) fn guarded(self: &Arc<Self>, command: &mut tokio::process::Command) -> Guarded {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.link.as_ref().is_some_and(Link::guard_runs) {
            let guard = Arc::clone(self);
            let tell = move || {
                if let Some(link) = &guard.link {
                    // It fails where the guard stands still and the pipe is full, as it mostly is still when the group is let
                    // go: then the log says so. The command cannot, and need not end of it.
                    let _ = link.write(format_args!("+{number} {}", getpid().as_raw_pid()));
                }
                Ok(())
            };
            // SAFETY: it asks for a process id and writes to an open pipe, which signal handlers may do too; it takes no
            // lock and no memory, and what it reads nobody changes.
            unsafe { command.pre_exec(tell) };
        }
        Guarded {
            guard: Arc::clone(self),
            number,
        }
    }
}

impl Link {
    fn open() -> io::Result<Self> {
        let (read_end, pipe) = io::pipe()?;
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        let guard = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            // Flags that variables set are the worker's.
            .env_clear()
            .stdin(read_end.try_clone()?)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal from the terminal is for the worker.
            .process_group(0)
            .spawn()?;
        Ok(Self {
            pipe,
            _read_end: read_end,
            // It is not waited for: it ends when the pipe closes, which may be after this process has ended.
            guard: Mutex::new(guard),
            broken: AtomicBool::new(false),
        })
    }

    /// Whether the guard still runs. If not, the log says so, once.
    fn guard_runs(&self) -> bool {
        if self.broken.load(Ordering::Relaxed) {
            return false;
        }
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match guard.try_wait() {
            Ok(None) => return true,
            Ok(Some(status)) => io::Error::other(status.to_string()),
            Err(error) => error,
        };
        self.broke(&error);
        false
    }

    fn broke(&self, error: &io::Error) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the guard is gone: commands go on if this process is killed by SIGKILL");
        }
    }

    /// Writes a line, which is short enough to be written whole or not at all (`PIPE_BUF`).
    fn write(&self, words: std::fmt::Arguments<'_>) -> io::Result<()> {
        let mut line = [0; LINE];
        let mut rest = &mut line[..];
        writeln!(rest, "{words}")?;
        let length = LINE - rest.len();
        rustix::io::write(&self.pipe, &line[..length])?;
        Ok(())
    }
}

/// A group that the guard has, or will have once its command starts.
#[derive(Debug)]
pub(super) struct Guarded {
    guard: Arc<Guard>,
    number: u64,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let Some(link) = &self.guard.link else {
            return;
        };
        // A guard that has ended is noticed when the next command starts.
        if let Err(error) = link.write(format_args!("-{}", self.number)) {
            link.broke(&error);
        }
    }
}

/// Is the guard: reads its standard input, and kills what is left when that closes.
pub(crate) fn run() -> anyhow::Result<Exit> {
    // Taken and not looked at: a service manager that stops all processes of a unit at once means the worker.
    let _signals = Signals::new()?;
    let mut groups = BTreeMap::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_at_checked(1) {
            Some(("+", rest)) => groups.extend(numbered(rest)),
            Some(("-", rest)) => drop(rest.parse().map(|number: u64| groups.remove(&number))),
            _ => {}
        }
    }
    for group in groups.into_values() {
        // An error says that there is nobody left in it.
        let _ = kill_process_group(group, Signal::KILL);
    }
    Ok(Exit::Ok)
}

/// A group and its number, as a worker's command tells of it.
fn numbered(line: &str) -> Option<(u64, Pid)> {
    let (number, group) = line.split_once(' ')?;
    // A group 1 would be all processes.
    let group = group.parse().ok().filter(|&group| group > 1)?;
    Some((number.parse().ok()?, Pid::from_raw(group)?))
}
