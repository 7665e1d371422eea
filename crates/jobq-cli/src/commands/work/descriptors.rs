//! Room for the pipes of all commands that run at a time.

use anyhow::anyhow;

use crate::descriptors;
use crate::exit::Exit;

/// File descriptors that a command takes while it runs: three pipes, and one to wait for it.
const EACH: u64 = 4;

/// Those of the worker itself, and of the pipes that are made while a command starts.
const OWN: u64 = 64;

/// Raises the limit of open files if this many commands need more, since a command that cannot be started for want of
/// them is a failed attempt.
///
/// # Errors
/// The system does not allow as many.
pub(super) fn reserve(commands: u32) -> anyhow::Result<()> {
    let needed = u64::from(commands) * EACH + OWN;
    descriptors::raise(needed).map_err(|allowed| {
        Exit::Usage.because(anyhow!(
            "failed to make room for {commands} commands at a time: they need {needed} open files, and the system \
             allows this worker {allowed}; lower -j, or raise the limit (ulimit -Hn, LimitNOFILE= in systemd)"
        ))
    })
}
