//! The worker's log: a line for each run that ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jobq_client::SessionError;
use jobq_worker::{Connection, Fence, Observer, Outcome, RunInfo};
use tokio::sync::oneshot;

use crate::output;
use crate::times;

/// Most characters of a reason in a line of the log; `jobq show` has all of it.
const REASON_WIDTH: usize = 200;

/// Logs what a worker does.
#[derive(Debug)]
pub(super) struct Watch {
    /// When the runs that are held began.
    began: Mutex<HashMap<Fence, Instant>>,
    connected: AtomicBool,
    /// Closes when the worker's session has ended, since it drops its observer then.
    _over: oneshot::Sender<()>,
}

impl Watch {
    /// A watch, and what ends with an error when the session has ended for good.
    pub(super) fn new() -> (Self, oneshot::Receiver<()>) {
        let (over, ended) = oneshot::channel();
        let watch = Self {
            began: Mutex::default(),
            connected: AtomicBool::new(false),
            _over: over,
        };
        (watch, ended)
    }

    fn began(&self) -> MutexGuard<'_, HashMap<Fence, Instant>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watch {
    fn connected(&self, connection: &Connection<'_>) {
        // Later ones are in the session's own log.
        if !self.connected.swap(true, Ordering::Relaxed) {
            tracing::info!(server = %output::escape(connection.server), "connected");
        }
    }

    fn disconnected(&self, error: &SessionError) {
        // The session says so too, at most every half minute while the server stays away.
        tracing::debug!(%error, "no connection");
    }

    fn started(&self, run: &RunInfo<'_>) {
        self.began().insert(run.fence, Instant::now());
        tracing::debug!(id = %run.id, name = run.name, attempt = run.attempt, "started");
    }

    fn ended(&self, run: &RunInfo<'_>, outcome: &Outcome) {
        let began = self.began().remove(&run.fence);
        let took = began.map_or_else(|| "-".to_owned(), |began| times::length(began.elapsed()));
        let RunInfo {
            id, name, attempt, ..
        } = run;
        match outcome {
            Outcome::Completed => tracing::info!(%id, name, attempt, %took, "completed"),
            Outcome::Failed(error) => {
                let reason = output::cut(error.reason(), REASON_WIDTH);
                tracing::warn!(%id, name, attempt, %took, "failed: {reason}");
            }
            Outcome::Released => tracing::info!(%id, name, attempt, %took, "given back"),
            Outcome::GivenUp => {
                tracing::warn!(%id, name, attempt, %took, "given up: it is no longer this worker's")
            }
        }
    }
}
