//! The client of the jobq job queue.

#![forbid(unsafe_code)]

pub mod clock;
mod requests;
pub mod session;

pub use clock::BootTime;
pub use session::{NotConnected, Reconnect, Session, SessionConfig, SessionError, SessionEvent};
