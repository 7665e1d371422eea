//! How far a run has come, from the handler that says so to the session's thread.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jobq_proto::limits::MAX_PROGRESS_TEXT;
use jobq_proto::message::JobProgress;

/// The latest report of one run. However often a handler reports, the session's thread is woken for the first of the
/// reports that it has not taken, and takes the last.
#[derive(Debug, Default)]
pub(crate) struct LatestProgress {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<JobProgress>,
    /// The taker has been told of it and has not taken it.
    told: bool,
}

impl LatestProgress {
    /// Takes a report down. Whether the taker has to be told that there is one.
    pub(crate) fn report(&self, part: Option<f64>, mut text: String) -> bool {
        text.truncate(text.floor_char_boundary(MAX_PROGRESS_TEXT));
        let part = part.filter(|part| !part.is_nan()).map(millionths);
        let mut state = self.lock();
        state.latest = Some(JobProgress { part, text });
        !std::mem::replace(&mut state.told, true)
    }

    /// The latest report, which counts as taken then.
    pub(crate) fn take(&self) -> Option<JobProgress> {
        let mut state = self.lock();
        state.told = false;
        state.latest.clone()
    }

    /// Whether the taker, who may have forgotten the latest report, has to be told again that there is one.
    pub(crate) fn is_to_tell_again(&self) -> bool {
        let mut state = self.lock();
        let tell = state.latest.is_some() && !state.told;
        state.told |= tell;
        tell
    }

    pub(crate) fn latest(&self) -> Option<JobProgress> {
        self.lock().latest.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millionths(part: f64) -> u32 {
    // A float is cut to the range of the number that it becomes.
    (part.clamp(0.0, 1.0) * f64::from(JobProgress::WHOLE)).round() as u32
}
