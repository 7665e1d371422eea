//! The worker of the jobq job queue: handlers for jobs, and the runtime that gets jobs to them.
//!
//! [`Runtime`] is where to start: it takes [`Worker`]s and closures, connects to a server, runs what it is sent and
//! reports how that ended, until it is told to stop. What a handler gets is a [`Job`] and a [`Run`]; what it
//! returns is a result or a [`JobError`].
//!
//! Inside, `machine` is the whole logic, without I/O: which runs are held, which start, what the server has to be
//! told. `engine` joins it to handlers, `shell` the two to the session, on a thread of its own; `handler` turns orders
//! into calls. [`testing`] is an engine without a session. This crate must never know
//! how messages travel, or what a job is about.

#![forbid(unsafe_code)]

mod engine;
mod error;
mod handler;
mod job;
mod machine;
mod mailbox;
mod observer;
mod progress;
mod reports;
mod runtime;
mod shell;
pub mod testing;
mod worker;

/// The worker's state machine, for whoever steps it in simulated time, as the project's own simulator does. None of
/// this is covered by the promises of semantic versioning: it changes whenever it has to.
#[doc(hidden)]
pub mod sans_io {
    pub use crate::machine::{Command, Config, End, Event, Machine, NameLimit, RunId, Start};
}

pub use error::{Cause, JobError, Retry};
pub use job::{Job, Run};
pub use machine::{MAX_HELD, Outcome, Summary};
pub use observer::{Connection, Observer, RunInfo};
pub use runtime::{Runtime, RuntimeError};
pub use worker::Worker;

/// The types that appear in this crate's interface and come from others.
pub use jobq_client::{IntoEndpoint, SessionError};
pub use jobq_proto::message::JobProgress;
pub use jobq_proto::{Fence, JobId, Limits};
pub use jobq_transport::{AddressError, ClientTls, Endpoint, TlsError, TlsFailure};
pub use tokio_util::sync::CancellationToken;

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
