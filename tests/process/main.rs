//! The binary as its users have it: processes that are killed, stopped, started twice and fed nonsense.
//!
//! The harness is the library `jobq-tests`. These tests are a target of `jobq-cli`, so that cargo builds the binary
//! for them.

mod access;
mod backing_up;
mod benching;
mod certifying;
mod checking;
mod commands;
mod configuring;
mod counting;
mod documents;
mod encrypting;
mod exit;
mod extents;
mod failing;
mod faults;
mod fixture;
mod full;
mod hostile;
mod interrupting;
mod listening;
mod listing;
mod losing;
mod nonsense;
mod queueing;
mod quitting;
mod secrecy;
mod showing;
mod starting;
mod stopping;
mod strangers;
mod submitting;
mod terminal;
mod waiting;
mod working;
mod workshop;
