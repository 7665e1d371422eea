//! Room for the pipes of all commands that run at a time.

use anyhow::anyhow;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
    let limit = getrlimit(Resource::Nofile);
    let Some(wanted) = raised(limit, needed) else {
        return Ok(());
    };
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if needed > allowed || setrlimit(Resource::Nofile, wanted).is_err() {
        return Err(Exit::Usage.because(anyhow!(
            "failed to make room for {commands} commands at a time: they need {needed} open files, and the system \
             allows this worker {allowed}; lower -j, or raise the limit (ulimit -Hn, LimitNOFILE= in systemd)"
        )));
    }
    Ok(())
}

/// The limit that is needed, if it is more than there is.
fn raised(limit: Rlimit, needed: u64) -> Option<Rlimit> {
    let short = limit.current.is_some_and(|current| current < needed);
    short.then_some(Rlimit {
        current: Some(needed),
        ..limit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_where_it_is_too_low_and_left_alone_elsewhere() {
        let limit = |current| Rlimit {
            current,
            maximum: Some(1_000_000),
        };
        assert_eq!(raised(limit(Some(1_024)), 1_025), Some(limit(Some(1_025))));
        assert_eq!(raised(limit(Some(1_024)), 1_024), None);
        assert_eq!(raised(limit(None), 1_000_000), None);
    }
}
