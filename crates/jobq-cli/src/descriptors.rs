//! The limit of open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit if this process needs more open files than it may have. Programs that it starts have the same.
///
/// # Errors
/// The system does not allow as many; the error is how many it does.
pub(crate) fn raise(needed: u64) -> Result<(), u64> {
    let limit = getrlimit(Resource::Nofile);
    let Some(wanted) = raised(limit, needed) else {
        return Ok(());
    };
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if needed > allowed || setrlimit(Resource::Nofile, wanted).is_err() {
        return Err(allowed);
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
