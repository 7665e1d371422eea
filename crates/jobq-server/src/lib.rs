//! The server of jobq.
//!
//! [`machine`] is the whole logic, without I/O: time, messages and stored batches go in, messages, batches and
//! reads come out. [`store`] keeps jobs. The driver joins the two to a router of `jobq-transport`, and [`Server`]
//! starts all of it. Start reading at [`machine`].

#![forbid(unsafe_code)]

pub mod access;
pub mod clock;
mod driver;
mod expiry;
mod lock;
pub mod machine;
mod server;
pub mod store;
pub mod time;
mod varint;

pub use driver::{ServeError, Stop};
pub use jobq_transport::{ServerTls, TlsError, TlsFiles};
pub use lock::DataDir;
pub use machine::{Config, Keep, QueueLimits};
pub use server::{ReloadError, RunningServer, Server, StartError, Stopper};

/// The README's example is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
