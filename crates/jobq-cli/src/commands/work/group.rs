//! The process group of a command.

use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

use super::guard::Guard;

/// The process group that a command leads. What is left of it is killed when this is dropped, unless it was left
/// alone: a handler that is dropped takes its command along.
#[derive(Debug)]
pub(super) struct Group {
    leader: Option<Pid>,
    guard: Arc<Guard>,
}

impl Group {
    /// The group of a child that was started as the leader of one. The guard has it from now on.
    pub(super) fn of(child: &Child, guard: Arc<Guard>) -> Self {
        let leader = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(leader) = leader {
            guard.add(leader);
        }
        Self { leader, guard }
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
        if let Some(leader) = self.leader.take() {
            self.guard.remove(leader);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // An error says that there is nobody left in it.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        if let Some(leader) = self.leader {
            self.guard.remove(leader);
        }
    }
}
