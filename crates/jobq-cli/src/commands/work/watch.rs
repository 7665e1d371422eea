//! What a worker says while it works: on the live log, or as events of the program's log.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use jobq_client::SessionError;
use jobq_worker::{Connection, Fence, JobError, Observer, Outcome, Retry, RunInfo};
use tokio::sync::oneshot;

use super::live::{Live, State, Written};
use crate::cli::LogFormat;
use crate::output;
use crate::times;

/// Most columns of a reason in a line of the log; `jobq show` has all of it.
const REASON_WIDTH: usize = 200;

/// Why a run was lost: nobody was here to keep it.
const AWAY: &str = "its lease ran out while this worker was away";

/// Why a run was lost: the server said so.
const TAKEN: &str = "it is no longer this worker's";

/// Why a run was lost whose end was said before.
const TOO_LATE: &str = "this was reported too late, when it was no longer this worker's";

/// How often it is said that there is no server, at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(30);

/// Where a worker says what it does.
#[derive(Debug)]
pub(super) enum Log {
    /// Lines for people.
    Live(Live),
    /// Events with fields.
    Events,
    /// Nowhere.
    Quiet,
}

impl Log {
    /// The log that was asked for, and for lines what waits for the last of them.
    ///
    /// # Errors
    /// The system has no thread for the lines.
    pub(super) fn start(quiet: bool, format: LogFormat) -> anyhow::Result<(Arc<Self>, Option<Written>)> {
        let (log, written) = match format {
            _ if quiet => (Self::Quiet, None),
            LogFormat::Json => (Self::Events, None),
            LogFormat::Text => {
                let (live, written) = Live::start().context("failed to start the live log")?;
                (Self::Live(live), Some(written))
            }
        };
        Ok((Arc::new(log), written))
    }

    /// Says what the worker itself does.
    pub(super) fn say(&self, state: State, text: impl fmt::Display) {
        match self {
            Self::Live(live) => live.say(state, text),
            Self::Events => tracing::info!("{}: {text}", state.word()),
            Self::Quiet => {}
        }
    }
}

/// What was said of the connection.
#[derive(Debug, Default)]
struct ConnectionLog {
    was_connected: bool,
    /// It was said that there is none.
    is_missed: bool,
    /// When that was said last.
    last: Option<Instant>,
}

/// Tells what a worker does.
#[derive(Debug)]
pub(super) struct Watch {
    log: Arc<Log>,
    /// When the runs that are held began.
    began: Mutex<HashMap<Fence, Instant>>,
    connection: Mutex<ConnectionLog>,
    /// Closes when the worker's session has ended, since it drops its observer then.
    _over: oneshot::Sender<()>,
}

impl Watch {
    /// A watch, and what ends with an error when the session has ended for good.
    pub(super) fn new(log: Arc<Log>) -> (Self, oneshot::Receiver<()>) {
        let (over, ended) = oneshot::channel();
        let watch = Self {
            log,
            began: Mutex::default(),
            connection: Mutex::default(),
            _over: over,
        };
        (watch, ended)
    }

    fn connection(&self) -> MutexGuard<'_, ConnectionLog> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn began(&self) -> MutexGuard<'_, HashMap<Fence, Instant>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watch {
    fn connected(&self, connection: &Connection<'_>) {
        let mut said = self.connection();
        let again = if said.was_connected { " again" } else { "" };
        let is_news = !said.was_connected || said.is_missed;
        said.was_connected = true;
        said.is_missed = false;
        drop(said);
        let server = output::escape(connection.server);
        match &*self.log {
            Log::Live(live) if is_news => live.say(State::Connected, format_args!("to {server}{again}")),
            // Later connections are among the session's events.
            Log::Events if again.is_empty() => tracing::info!(%server, "connected"),
            Log::Live(_) | Log::Events | Log::Quiet => {}
        }
    }

    fn disconnected(&self, error: &SessionError) {
        tracing::debug!(%error, "no connection");
        let now = Instant::now();
        let mut said = self.connection();
        if said
            .last
            .is_some_and(|last| now.duration_since(last) < COMPLAINT_INTERVAL)
        {
            return;
        }
        said.last = Some(now);
        said.is_missed = true;
        drop(said);
        // The session has events of its own.
        if let Log::Live(live) = &*self.log {
            live.say(State::Waiting, format_args!("{error}; it keeps trying"));
        }
    }

    fn started(&self, run: &RunInfo<'_>) {
        self.began().insert(run.fence, Instant::now());
        if let Log::Live(live) = &*self.log {
            live.say(State::Started, Shown(run));
        }
    }

    fn ended(&self, run: &RunInfo<'_>, outcome: &Outcome) {
        let began = self.began().remove(&run.fence);
        let took = began.map_or_else(|| "-".to_owned(), |began| times::length(began.elapsed()));
        match &*self.log {
            Log::Live(live) => show(live, run, &took, outcome),
            Log::Events => record(run, &took, outcome),
            Log::Quiet => {}
        }
    }

    fn reported_too_late(&self, run: &RunInfo<'_>) {
        match &*self.log {
            Log::Live(live) => live.say(State::Lost, format_args!("{}: {TOO_LATE}", Shown(run))),
            Log::Events => {
                tracing::warn!(id = %run.id, name = run.name, attempt = run.attempt, "lost: {TOO_LATE}")
            }
            Log::Quiet => {}
        }
    }
}

/// What stands on a line for every run.
struct Shown<'a>(&'a RunInfo<'a>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunInfo {
            id, name, attempt, ..
        } = self.0;
        write!(f, "{id} {name}, attempt {attempt}")
    }
}

fn show(live: &Live, run: &RunInfo<'_>, took: &str, outcome: &Outcome) {
    let run = Shown(run);
    match outcome {
        Outcome::Completed => live.say(State::Completed, format_args!("{run}, {took}")),
        Outcome::Failed(error) => {
            let last = if error.retries() == Retry::Never {
                ", for good"
            } else {
                ""
            };
            live.say(
                State::Failed,
                format_args!("{run}, {took}{last}: {}", reason(error)),
            );
        }
        Outcome::Released => live.say(State::GivenBack, format_args!("{run}, {took}")),
        Outcome::Lost => live.say(State::Lost, format_args!("{run}, {took}: {AWAY}")),
        Outcome::GivenUp => live.say(State::Lost, format_args!("{run}, {took}: {TAKEN}")),
    }
}

fn record(run: &RunInfo<'_>, took: &str, outcome: &Outcome) {
    let RunInfo {
        id, name, attempt, ..
    } = run;
    match outcome {
        Outcome::Completed => tracing::info!(%id, name, attempt, took, "completed"),
        Outcome::Failed(error) => tracing::warn!(%id, name, attempt, took, reason = reason(error), "failed"),
        Outcome::Released => tracing::info!(%id, name, attempt, took, "given back"),
        Outcome::Lost => tracing::warn!(%id, name, attempt, took, "lost: {AWAY}"),
        Outcome::GivenUp => tracing::warn!(%id, name, attempt, took, "lost: {TAKEN}"),
    }
}

fn reason(error: &JobError) -> String {
    output::one_line(error.reason(), REASON_WIDTH)
}
