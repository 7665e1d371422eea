//! The process group of a command.

use std::io;
use std::sync::Arc;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as ChildSignals, SignalKind, signal};

use super::guard::{Guard, Guarded};

/// The process group that a command leads. What is left of it is killed when this is dropped, unless it was left
/// alone: a handler that is dropped takes its command along.
///
/// The command may be reaped only after this has gone: from then on its number, which is the group's, may be that of
/// somebody else's group.
#[derive(Debug)]
pub(super) struct Group {
    leader: Pid,
    /// Says that some child of this process has changed; from before the command was there, so it misses no exit.
    changes: ChildSignals,
    left: bool,
    /// Dropped once what is left of the group was killed.
    _guarded: Guarded,
}

impl Group {
    /// Starts a command as the leader of a group, which the guard has from before the command runs.
    ///
    /// # Errors
    /// The command could not be started, or no signals of its exit be had.
    pub(super) fn start(command: &mut Command, guard: &Arc<Guard>) -> io::Result<(Child, Self)> {
        let changes = signal(SignalKind::child())?;
        let guarded = guard.guarded(command);
        let child = command.process_group(0).spawn()?;
        let leader = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("the command has no process id"))?;
        let group = Self {
            leader,
            changes,
            left: false,
            _guarded: guarded,
        };
        Ok((child, group))
    }

    /// Waits until its leader has exited, and does not reap it. Cancel-safe.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub(super) async fn leader_exited(&mut self) -> io::Result<()> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(self.leader), options)?.is_none() {
            if self.changes.recv().await.is_none() {
                return Err(io::Error::other("no signals of exits come any more"));
            }
        }
        Ok(())
    }

    /// Asks all of it to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends all of it.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// What is left of it may go on.
    pub(super) fn leave(mut self) {
        self.left = true;
    }

    fn signal(&self, signal: Signal) {
        // An error says that there is nobody left in it.
        let _ = kill_process_group(self.leader, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.left {
            self.kill();
        }
    }
}
