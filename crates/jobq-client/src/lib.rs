//! The client of the jobq job queue: submit jobs, wait for them, ask about them, change them.
//!
//! [`Client`] is what most programs need. [`params`] and [`json`] say how values become what a job carries.
//! [`Session`] is what the client and the worker stand on: one conversation with a server that outlasts its
//! connections.
//!
//! Whatever the client knows about the protocol lives in state machines without I/O (`session/conversation.rs`,
//! `requests`), which take time and chance as arguments; `session.rs` and `client/driver.rs` are the shell around
//! them. This crate must never know how jobs are stored or run.

#![forbid(unsafe_code)]

mod alarm;
mod client;
mod clock;
mod error;
mod job_request;
pub mod json;
pub mod params;
mod requests;
mod session;
mod uuids;

/// The state machines of this crate, for whoever steps them in simulated time, as the project's own simulator does.
/// None of this is covered by the promises of semantic versioning: it changes whenever it has to.
#[doc(hidden)]
pub mod sans_io {
    pub use crate::requests::asks::{Asks, Unanswered};
    pub use crate::requests::parts::{Mismatch, Part, Parts};
    pub use crate::requests::submits::{Submit, SubmitAnswer, Submits};
    pub use crate::requests::watches::{WatchEvent, Watches};
    pub use crate::requests::{Lane, Terms};
    pub use crate::session::conversation::{Conversation, Due, Heard};
}

pub use client::{
    Backup, BackupProgress, Client, ClientBuilder, IntoEndpoint, JobEvent, JobEvents, JobFilter, Listing,
    Outcome, Outcomes, Page, Receipt, Results, RetryReceipt, Submitter,
};
pub use clock::BootTime;
pub use error::{AskError, BackupError, ConnectError, ResultError, SubmitError, WaitError};
pub use job_request::JobRequest;
pub use json::JsonError;
pub use params::ParamsError;
pub use session::{NotConnected, Reconnect, Session, SessionConfig, SessionError, SessionEvent};

pub use jobq_proto::message::{
    BackupFile, CancelOutcome, CancelResult, EndedRun, Include, JobProgress, JobView, NameStats, Stats,
    Welcome, Work,
};
pub use jobq_proto::{Backoff, ErrorCode, JobId, Limits, Priority, Status, Window, WireError};
pub use jobq_transport::{AddressError, ClientTls, Endpoint, TlsError, TlsFailure};

/// The README's examples are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
