//! Watching a worker at work.

use jobq_client::SessionError;
use jobq_proto::{Fence, JobId};

use crate::machine::Outcome;

/// Is told what a worker does, for logs and counts. Each method does nothing unless it is implemented.
///
/// The calls come from the thread that keeps the worker's session alive, in the order in which things happened; they
/// must return quickly and not panic.
pub trait Observer: Send + Sync + 'static {
    /// The worker has a connection.
    fn connected(&self, _connection: &Connection<'_>) {}

    /// The worker lost its connection, or did not get one. It comes back by itself.
    fn disconnected(&self, _error: &SessionError) {}

    /// A handler is about to be called.
    fn started(&self, _run: &RunInfo<'_>) {}

    /// A run is over for this worker. What the server makes of it is counted in the
    /// [`Summary`](crate::Summary).
    fn ended(&self, _run: &RunInfo<'_>, _outcome: &Outcome) {}

    /// How a run ended was told too late: the server had given it to somebody else, or ended it. Follows
    /// [`Observer::ended`].
    fn reported_too_late(&self, _run: &RunInfo<'_>) {}
}

/// A connection that came about.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Connection<'a> {
    /// The server's name and version, for people.
    pub server: &'a str,
    /// Whether the session before goes on. If not, runs that the worker had were given up.
    pub resumed: bool,
}

/// What a run is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunInfo<'a> {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: &'a str,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// The run.
    pub fence: Fence,
}
