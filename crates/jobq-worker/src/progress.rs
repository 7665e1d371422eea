//! How far a run has come, from the handler that says so to the session's thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jobq_proto::Fence;
use jobq_proto::limits::MAX_PROGRESS_TEXT;
use jobq_proto::message::JobProgress;

use crate::mailbox::Mailbox;

/// The latest report of one run. However often a handler reports, the session's thread is woken for the first of the
/// reports that it has not taken, and takes the last.
#[derive(Debug, Default)]
pub(crate) struct LatestProgress {
    state: Mutex<State>,
    /// Who is told that there is something to take; nobody in a run that no server knows.
    taker: Option<(Fence, Arc<Mailbox<Fence>>)>,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<JobProgress>,
    /// The taker has been told of it and has not taken it.
    told: bool,
}

impl LatestProgress {
    pub(crate) fn new(fence: Fence, taker: Arc<Mailbox<Fence>>) -> Self {
        Self {
            state: Mutex::default(),
            taker: Some((fence, taker)),
        }
    }

    pub(crate) fn report(&self, part: Option<f64>, mut text: String) {
        text.truncate(text.floor_char_boundary(MAX_PROGRESS_TEXT));
        let part = part.filter(|part| !part.is_nan()).map(millionths);
        let mut state = self.lock();
        state.latest = Some(JobProgress { part, text });
        let told = std::mem::replace(&mut state.told, true);
        drop(state);
        if !told {
            self.tell();
        }
    }

    /// The latest report, which counts as taken then.
    pub(crate) fn take(&self) -> Option<JobProgress> {
        let mut state = self.lock();
        state.told = false;
        state.latest.clone()
    }

    /// Whoever was told may have forgotten: tells the latest report again, if there is one.
    pub(crate) fn tell_again(&self) {
        let mut state = self.lock();
        let tell = state.latest.is_some() && !state.told;
        state.told |= tell;
        drop(state);
        if tell {
            self.tell();
        }
    }

    pub(crate) fn latest(&self) -> Option<JobProgress> {
        self.lock().latest.clone()
    }

    fn tell(&self) {
        if let Some((fence, taker)) = &self.taker {
            taker.push(*fence);
        }
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
